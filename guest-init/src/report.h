/* What an operation did, step by step, for its answer. */
#ifndef BERTH_REPORT_H
#define BERTH_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* These numbers are part of the protocol: never reuse one. */
enum step_outcome { STEP_DONE = 1, STEP_SKIPPED = 2, STEP_FAILED = 3 };

#define REPORT_MAX 3072

struct report {
  uint8_t bytes[REPORT_MAX]; /* a list of parameters */
  size_t length;
  uint64_t step_began_ns;
  /* The first required step that failed, or empty. */
  char failure[160];
};

void report_start(struct report *report);

/* Appends a parameter. What has no room left is left out. */
void report_add(struct report *report, uint8_t tag, const void *value, size_t length);
void report_add_number(struct report *report, uint8_t tag, uint64_t value);

/* Appends how a step ended, and the time since the one before. The detail may be empty. */
void report_step(struct report *report, const char *name, enum step_outcome outcome, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Appends that a step failed without which the whole is worth nothing. */
void report_failure(struct report *report, const char *name, const char *detail);

#endif
