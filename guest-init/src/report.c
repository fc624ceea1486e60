#include "report.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "loop.h"
#include "params.h"

#define DETAIL_MAX 160
#define NAME_MAX_LENGTH 32
/* u8 outcome, u32 microseconds, u8 length of the name */
#define STEP_HEADER 6

void report_start(struct report *report) {
  report->length = 0;
  report->failure[0] = '\0';
  report->step_began_ns = monotonic_ns();
}

void report_add(struct report *report, uint8_t tag, const void *value, size_t length) {
  if (length > sizeof report->bytes - report->length || sizeof report->bytes - report->length - length < 5) return;
  uint8_t *bytes = report->bytes + report->length;
  bytes[0] = tag;
  for (int i = 0; i < 4; i++) bytes[1 + i] = (uint8_t)(length >> (24 - 8 * i));
  memcpy(bytes + 5, value, length);
  report->length += 5 + length;
}

void report_add_number(struct report *report, uint8_t tag, uint64_t value) {
  uint8_t bytes[8];
  for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(value >> (56 - 8 * i));
  report_add(report, tag, bytes, sizeof bytes);
}

void report_step(struct report *report, const char *name, enum step_outcome outcome, const char *format, ...) {
  uint8_t value[STEP_HEADER + NAME_MAX_LENGTH + DETAIL_MAX];
  uint64_t now = monotonic_ns();
  uint64_t micros = (now - report->step_began_ns) / 1000;
  report->step_began_ns = now;
  size_t name_length = strnlen(name, NAME_MAX_LENGTH);
  value[0] = (uint8_t)outcome;
  for (int i = 0; i < 4; i++) value[1 + i] = (uint8_t)(micros >> (24 - 8 * i));
  value[5] = (uint8_t)name_length;
  memcpy(value + STEP_HEADER, name, name_length);
  char *detail = (char *)value + STEP_HEADER + name_length;
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(detail, DETAIL_MAX, format, arguments);
  va_end(arguments);
  if (length < 0) length = 0;
  if (length >= DETAIL_MAX) length = DETAIL_MAX - 1;
  report_add(report, PARAM_STEP, value, STEP_HEADER + name_length + (size_t)length);
}

void report_failure(struct report *report, const char *name, const char *detail) {
  report_step(report, name, STEP_FAILED, "%s", detail);
  if (!report->failure[0]) snprintf(report->failure, sizeof report->failure, "%s: %s", name, detail);
}
