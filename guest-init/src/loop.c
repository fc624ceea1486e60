#include "loop.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BATCH 64

static int epoll_fd = -1;
static struct source signals = {.fd = -1};
static struct timer *timers;
static struct child *children;
static void (*orphan_reaped)(void);

/* The batch being delivered: loop_close takes a closed source out of it, so that freed memory is never called. */
static struct epoll_event batch[BATCH];
static int batch_length;

uint64_t monotonic_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void reap(void) {
  int status;
  pid_t pid;
  while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
    struct child **link = &children;
    while (*link && (*link)->pid != pid) link = &(*link)->next;
    struct child *child = *link;
    if (!child) {
      if (orphan_reaped) orphan_reaped();
      continue;
    }
    *link = child->next;
    child->pid = 0;
    child->exited(child, status);
  }
}

static void on_signal(struct source *source, uint32_t events) {
  (void)events;
  struct signalfd_siginfo info;
  /* Signals coalesce: what matters is that one came, not how many. */
  while (read(source->fd, &info, sizeof info) == (ssize_t)sizeof info) {
  }
  reap();
}

int loop_init(void) {
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_fd < 0) return -1;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  if (sigprocmask(SIG_BLOCK, &set, NULL) < 0) return -1;
  int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  if (fd < 0) return -1;
  return loop_watch(&signals, fd, EPOLLIN, on_signal);
}

int loop_watch(struct source *source, int fd, uint32_t events, void (*ready)(struct source *, uint32_t)) {
  struct epoll_event event = {.events = events | EPOLLET, .data.ptr = source};
  source->fd = -1;
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) return -1;
  source->fd = fd;
  source->ready = ready;
  return 0;
}

void loop_close(struct source *source) {
  if (source->fd < 0) return;
  epoll_ctl(epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
  close(source->fd);
  source->fd = -1;
  for (int i = 0; i < batch_length; i++)
    if (batch[i].data.ptr == source) batch[i].data.ptr = NULL;
}

void timer_stop(struct timer *timer) {
  if (timer->due_ns == 0) return;
  struct timer **link = &timers;
  while (*link != timer) link = &(*link)->next;
  *link = timer->next;
  timer->due_ns = 0;
}

void timer_start(struct timer *timer, uint64_t delay_ms, void (*expired)(struct timer *)) {
  timer_stop(timer);
  /* A year is as good as for ever and cannot overflow. */
  const uint64_t year_ms = 365ull * 24 * 3600 * 1000;
  if (delay_ms > year_ms) delay_ms = year_ms;
  timer->due_ns = monotonic_ns() + delay_ms * 1000000u;
  timer->expired = expired;
  struct timer **link = &timers;
  while (*link && (*link)->due_ns <= timer->due_ns) link = &(*link)->next;
  timer->next = *link;
  *link = timer;
}

static int next_timeout_ms(void) {
  if (!timers) return -1;
  uint64_t now = monotonic_ns();
  if (timers->due_ns <= now) return 0;
  uint64_t wait_ms = (timers->due_ns - now + 999999u) / 1000000u;
  return wait_ms > 3600000 ? 3600000 : (int)wait_ms;
}

static void run_timers(void) {
  uint64_t now = monotonic_ns();
  while (timers && timers->due_ns <= now) {
    struct timer *timer = timers;
    timers = timer->next;
    timer->due_ns = 0;
    timer->expired(timer);
  }
}

void child_watch(struct child *child, pid_t pid, void (*exited)(struct child *, int)) {
  child->pid = pid;
  child->exited = exited;
  child->next = children;
  children = child;
}

void child_forget(struct child *child) {
  if (child->pid == 0) return;
  struct child **link = &children;
  while (*link != child) link = &(*link)->next;
  *link = child->next;
  child->pid = 0;
}

void loop_on_orphan(void (*reaped)(void)) { orphan_reaped = reaped; }

void loop_run(bool (*after_batch)(void)) {
  while (after_batch()) {
    int count = epoll_wait(epoll_fd, batch, BATCH, next_timeout_ms());
    if (count < 0) count = 0; /* only EINTR is possible here */
    batch_length = count;
    for (int i = 0; i < count; i++) {
      struct source *source = batch[i].data.ptr;
      if (source) source->ready(source, batch[i].events);
    }
    batch_length = 0;
    run_timers();
  }
}
