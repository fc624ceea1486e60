/* Event loop: edge-triggered file descriptors, one-shot timers, child processes. Single-threaded. */
#ifndef BERTH_LOOP_H
#define BERTH_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct source {
  int fd; /* -1 while not watched */
  void (*ready)(struct source *source, uint32_t events);
};

struct timer {
  struct timer *next;
  uint64_t due_ns; /* 0 while not armed */
  void (*expired)(struct timer *timer);
};

struct child {
  struct child *next;
  pid_t pid; /* 0 while not watched */
  void (*exited)(struct child *child, int wait_status);
};

#define container_of(pointer, type, member) ((type *)((char *)(pointer) - offsetof(type, member)))

/* 0, or -1 with errno. */
int loop_init(void);

/* Runs `after_batch` after every batch of events, until it returns false. */
void loop_run(bool (*after_batch)(void));

/* Watches `fd`, edge-triggered. The descriptor is closed by loop_close. -1 with errno leaves it unwatched and open. */
int loop_watch(struct source *source, int fd, uint32_t events, void (*ready)(struct source *, uint32_t));
/* Stops watching and closes; no event of it is delivered afterwards. Safe on a source that is not watched. */
void loop_close(struct source *source);

/* (Re)arms a timer `delay_ms` from now. */
void timer_start(struct timer *timer, uint64_t delay_ms, void (*expired)(struct timer *));
void timer_stop(struct timer *timer);

/* Reports the end of `pid` once. */
void child_watch(struct child *child, pid_t pid, void (*exited)(struct child *, int));
/* Forgets the process; it is still reaped when it ends. */
void child_forget(struct child *child);

/* Called for every reaped process that nobody watches. */
void loop_on_orphan(void (*reaped)(void));

uint64_t monotonic_ns(void);

#endif
