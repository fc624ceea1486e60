/*
 * Work done by a forked child of init, so that init itself never waits for a file system, a socket or a lock.
 * The child reads the request's input from descriptor 0, writes the response body to descriptor 1 and ends with a verdict.
 */
#ifndef BERTH_TASK_H
#define BERTH_TASK_H

#include "h2.h"

/* A task's whole life. Returns by task_succeed or task_fail only. */
typedef void task_body(struct params params);

enum task_flags {
  TASK_INPUT = 1,  /* the body reads input */
  TASK_OUTPUT = 2, /* the body writes output */
  TASK_SOCKET = 4, /* the body ends by passing a connected socket, which then is both input and output */
  TASK_FINISHES = 8, /* the body is not killed when nobody waits for it any more */
};

/* For `operation->start` and so on. */
void task_start(struct stream *stream, struct params params, task_body *body, int flags);
void task_input(struct stream *stream, const uint8_t *bytes, size_t length);
void task_input_end(struct stream *stream);
ssize_t task_output(struct stream *stream, uint8_t *bytes, size_t length, bool *end);
void task_close(struct stream *stream);

/* Runs a task that nobody waits for. */
void task_detached(task_body *body);

/* --- in the child --- */

_Noreturn void task_succeed(void);
/* Whether somebody still waits for the verdict. */
bool task_is_wanted(void);
/* Hands a descriptor to init. */
_Noreturn void task_succeed_with(int fd);
/* 4xx: the caller's fault; 5xx: ours. The text reaches the caller. */
_Noreturn void task_fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* task_fail with strerror(errno); the status follows from errno. */
_Noreturn void task_fail_errno(const char *what);

#endif
