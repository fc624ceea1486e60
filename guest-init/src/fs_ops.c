#define _GNU_SOURCE
#include "fs_ops.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "drivers.h"
#include "log.h"
#include "loop.h"
#include "task.h"

#define MAX_FREEZE_MS (10 * 60 * 1000)

/* True from the moment a freeze begins: a thaw too many is harmless, one too few is not. */
static bool frozen;
static bool thaw_due;
static struct timer thaw_timer;

/* The freeze that waits for the drivers: modules must not be loaded again by every copy of the machine. */
static struct stream *waiting;
static struct driver_wait driver_wait;

static int open_root(void) { return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC); }

static int thaw(void) {
  int fd = open_root();
  int result = fd < 0 ? -1 : ioctl(fd, FITHAW, 0);
  return result < 0 && errno == EINVAL ? 0 : result; /* EINVAL: it was not frozen */
}

static void run_sync(struct params params) {
  (void)params;
  sync();
  task_succeed();
}

static void run_freeze(struct params params) {
  (void)params;
  int fd = open_root();
  if (fd < 0) task_fail_errno("cannot open the root file system");
  if (syncfs(fd) < 0) task_fail_errno("cannot flush the root file system");
  if (ioctl(fd, FIFREEZE, 0) < 0) task_fail_errno("cannot freeze the root file system");
  /* A thaw before the freeze was complete has had no effect. */
  if (!task_is_wanted()) thaw();
  task_succeed();
}

static void run_thaw(struct params params) {
  (void)params;
  if (thaw() < 0) task_fail_errno("cannot thaw the root file system");
  task_succeed();
}

void fs_thaw_soon(void) { thaw_due = thaw_due || frozen; }

void fs_thaw_if_due(void) {
  if (!thaw_due) return;
  thaw_due = frozen = false;
  timer_stop(&thaw_timer);
  task_detached(run_thaw);
}

bool fs_thaw_now(void) {
  if (!frozen) return false;
  thaw_due = frozen = false;
  timer_stop(&thaw_timer);
  if (thaw() < 0) log_line("cannot thaw the root file system: %s", strerror(errno));
  return true;
}

static void on_freeze_over(struct timer *timer) {
  (void)timer;
  fs_thaw_soon();
}

static void start_sync(struct stream *stream, struct params params) { task_start(stream, params, run_sync, 0); }

static void on_drivers(struct driver_wait *wait) {
  (void)wait;
  struct stream *stream = waiting;
  waiting = NULL;
  task_start(stream, (struct params){0}, run_freeze, TASK_FINISHES);
}

static void start_freeze(struct stream *stream, struct params params) {
  static const char problem[] = "the longest freeze must be given, up to ten minutes";
  static const char busy[] = "a freeze is under way";
  struct param param;
  uint64_t limit_ms = 0;
  bool malformed = false;
  if (!params_next(&params, &param, &malformed) || param.tag != PARAM_TIMEOUT_MS ||
      !param_number(&param, MAX_FREEZE_MS, &limit_ms)) {
    h2_answer(stream, 400, problem, sizeof problem - 1);
    return;
  }
  if (waiting) {
    h2_answer(stream, 503, busy, sizeof busy - 1);
    return;
  }
  frozen = true;
  timer_start(&thaw_timer, limit_ms, on_freeze_over);
  waiting = stream;
  drivers_await(&driver_wait, DRIVERS_ALL, on_drivers);
}

static void close_freeze(struct stream *stream) {
  if (stream == waiting) {
    waiting = NULL;
    drivers_forget(&driver_wait);
  }
  task_close(stream);
}

static void start_thaw(struct stream *stream, struct params params) {
  thaw_due = frozen = false;
  timer_stop(&thaw_timer);
  task_start(stream, params, run_thaw, 0);
}

const struct operation sync_operation = {.path = "/sync", .start = start_sync, .close = task_close};
const struct operation freeze_operation = {.path = "/freeze", .max_params = 64, .start = start_freeze, .close = close_freeze};
const struct operation thaw_operation = {.path = "/thaw", .start = start_thaw, .close = task_close};
