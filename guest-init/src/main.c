/*
 * guest-init: the first process of a Berth guest. It brings the machine up, stays, reaps, and does what the host asks for
 * over HTTP/2 on a virtio-serial port.
 *
 * `guest-init --serve-fd N` serves on an open socket in an ordinary process, without touching the machine: for tests.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <unistd.h>

#include "boot.h"
#include "cgroup.h"
#include "channel.h"
#include "configure.h"
#include "connect.h"
#include "drivers.h"
#include "exec.h"
#include "fs_grow.h"
#include "fs_ops.h"
#include "h2.h"
#include "hello.h"
#include "log.h"
#include "loop.h"
#include "modules.h"
#include "power.h"
#include "tar_in.h"
#include "tar_out.h"

#define PORT_WAIT_MS 10000
/* How long the answer to a power request may take to leave. */
#define FAREWELL_MS 1000

static const struct operation *const operations[] = {
    &hello_operation,  &configure_operation, &exec_operation,   &tar_in_operation,    &tar_out_operation, &connect_operation,
    &sync_operation,   &freeze_operation,    &thaw_operation,   &grow_operation,      &power_off_operation, &reboot_operation,
};

static struct timer farewell;
static bool farewell_over;

static void on_farewell_over(struct timer *timer) {
  (void)timer;
  farewell_over = true;
}

static bool after_batch(void) {
  fs_thaw_if_due();
  if (!channel_flush()) return false;
  if (!power_requested()) return true;
  if (channel_idle() || farewell_over) power_down();
  if (farewell.due_ns == 0) timer_start(&farewell, FAREWELL_MS, on_farewell_over);
  return true;
}

static void raise_file_limit(void) {
  /* Each exec holds several descriptors; children get the soft limit that programs expect. */
  const struct rlimit limit = {.rlim_cur = 4096, .rlim_max = 1 << 20};
  setrlimit(RLIMIT_NOFILE, &limit);
}

static void serve(int fd) {
  h2_serve(operations, sizeof operations / sizeof *operations);
  if (channel_serve(fd, fs_thaw_soon) < 0) {
    log_line("cannot watch the channel");
    return;
  }
  loop_run(after_batch);
}

/* Calls back when the loader has ended, at once when there was nothing to load. */
static void after_loading(pid_t loader, void (*next)(struct child *, int)) {
  static struct child child;
  if (loader > 0)
    child_watch(&child, loader, next);
  else
    next(&child, 0);
}

static void on_late_loaded(struct child *child, int wait_status) {
  (void)child, (void)wait_status;
  drivers_loaded(DRIVERS_ALL);
  power_watch_button();
}

static void on_network_loaded(struct child *child, int wait_status) {
  (void)child, (void)wait_status;
  drivers_loaded(DRIVERS_NETWORK);
  after_loading(modules_load_late(), on_late_loaded);
}

static _Noreturn void run_as_init(void) {
  boot();
  reboot(RB_DISABLE_CAD);
  raise_file_limit();
  int fd = loop_init() < 0 ? -1 : channel_find(PORT_WAIT_MS);
  if (fd < 0) {
    log_line("no port named " CHANNEL_NAME ": nobody to serve");
    power_now(false);
  }
  cgroup_init(boot_cgroup());
  drivers_loading();
  after_loading(modules_load_network(), on_network_loaded);
  serve(fd);
  power_now(false);
}

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN);
  if (getpid() == 1) run_as_init();
  if (argc != 3 || strcmp(argv[1], "--serve-fd") != 0) {
    fprintf(stderr, "guest-init is the first process of a guest; elsewhere: guest-init --serve-fd N\n");
    return 2;
  }
  if (loop_init() < 0) return 1;
  int fd = atoi(argv[2]);
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  serve(fd);
  return 0;
}
