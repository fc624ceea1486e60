#define _GNU_SOURCE
#include "power.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fs_ops.h"
#include "log.h"
#include "loop.h"

/* How long processes have between SIGTERM and SIGKILL, and dead ones to be reaped. */
#define TERM_GRACE_MS 3000
#define KILL_GRACE_MS 1000
#define MAX_BUTTONS 8

static struct source buttons[MAX_BUTTONS];
static bool requested;
static bool restart;

bool power_requested(void) { return requested; }

static void request(struct stream *stream, bool wants_restart) {
  requested = true;
  restart = wants_restart;
  h2_answer(stream, 200, NULL, 0);
}

static void start_power_off(struct stream *stream, struct params params) {
  (void)params;
  request(stream, false);
}

static void start_reboot(struct stream *stream, struct params params) {
  (void)params;
  request(stream, true);
}

const struct operation power_off_operation = {.path = "/power-off", .start = start_power_off};
const struct operation reboot_operation = {.path = "/reboot", .start = start_reboot};

/* --- power button --- */

static void on_button(struct source *source, uint32_t events) {
  (void)events;
  struct input_event event;
  ssize_t count;
  while ((count = read(source->fd, &event, sizeof event)) == (ssize_t)sizeof event)
    if (event.type == EV_KEY && event.code == KEY_POWER && event.value == 1) requested = true;
  if (count < 0 && errno == ENODEV) loop_close(source);
}

static bool has_power_key(int fd) {
  unsigned char keys[KEY_MAX / 8 + 1] = {0};
  return ioctl(fd, EVIOCGBIT(EV_KEY, sizeof keys), keys) >= 0 && keys[KEY_POWER / 8] & 1 << KEY_POWER % 8;
}

void power_watch_button(void) {
  DIR *directory = opendir("/dev/input");
  if (!directory) return;
  struct dirent *entry;
  int count = 0;
  while (count < MAX_BUTTONS && (entry = readdir(directory))) {
    if (strncmp(entry->d_name, "event", 5) != 0) continue;
    int fd = openat(dirfd(directory), entry->d_name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) continue;
    if (has_power_key(fd) && loop_watch(&buttons[count], fd, EPOLLIN, on_button) == 0)
      count++;
    else
      close(fd);
  }
  closedir(directory);
}

/* --- the end --- */

/* Reaps until no process is left or the time is up. */
static void await_all(unsigned limit_ms) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  uint64_t deadline = monotonic_ns() + limit_ms * 1000000ull;
  for (;;) {
    pid_t pid = waitpid(-1, NULL, WNOHANG);
    if (pid < 0) return; /* ECHILD: every process is a descendant of init */
    if (pid > 0) continue;
    uint64_t now = monotonic_ns();
    if (now >= deadline) return;
    struct timespec rest = {.tv_sec = (time_t)((deadline - now) / 1000000000u), .tv_nsec = (long)((deadline - now) % 1000000000u)};
    sigtimedwait(&set, NULL, &rest);
  }
}

/* Unmounts everything above the root file system, the last mounted first. What stays busy is made safe by sync. */
static void unmount_all(void) {
  enum { MAX_MOUNTS = 512 };
  static char text[128 * 1024];
  char *targets[MAX_MOUNTS];
  int count = 0;
  int fd = open("/proc/mounts", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  size_t length = 0;
  ssize_t got;
  while (length < sizeof text - 1 && (got = read(fd, text + length, sizeof text - 1 - length)) > 0) length += (size_t)got;
  close(fd);
  text[length] = '\0';
  char *rest = text;
  for (char *line; count < MAX_MOUNTS && (line = strsep(&rest, "\n"));) {
    strsep(&line, " ");
    char *target = line ? strsep(&line, " ") : NULL;
    if (target && strcmp(target, "/") != 0) targets[count++] = target;
  }
  while (count-- > 0) umount2(targets[count], 0);
}

_Noreturn void power_now(bool wants_restart) {
  reboot(wants_restart ? RB_AUTOBOOT : RB_POWER_OFF);
  /* Without a way to power off, halting leaves the end to the host. */
  for (;;) pause();
}

_Noreturn void power_down(void) {
  if (getpid() != 1) exit(0);
  fs_thaw_now();
  kill(-1, SIGTERM);
  await_all(TERM_GRACE_MS);
  kill(-1, SIGKILL);
  await_all(KILL_GRACE_MS);
  sync();
  unmount_all();
  if (mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL) < 0) log_line("root file system stays writable: %s", strerror(errno));
  sync();
  power_now(restart);
}
