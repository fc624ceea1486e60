#define _GNU_SOURCE
#include "boot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "modules.h"
#include "power.h"

#define NEW_ROOT "/newroot"
#define DEVICE_WAIT_MS 10000

struct settings {
  char root[128];
  char type[32];
  char flags[256];
};

static bool cgroups;
static struct settings settings;

static _Noreturn void give_up(const char *what) {
  log_line("cannot boot: %s: %s", what, strerror(errno));
  power_now(false);
}

/* A file system that does not mount is reported, not fatal: a small kernel may lack it. */
static bool mount_at(const char *type, const char *path, unsigned long flags, const char *options) {
  mkdir(path, 0755);
  if (mount(type, path, type, flags, options) == 0 || errno == EBUSY) return true;
  log_line("cannot mount %s on %s: %s", type, path, strerror(errno));
  return false;
}

static void mount_kernel_file_systems(void) {
  mount_at("devtmpfs", "/dev", MS_NOSUID, "mode=0755");
  mount_at("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
  mount_at("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
}

static void mount_run_time_file_systems(void) {
  mount_at("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=0620,ptmxmode=0666");
  mount_at("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777");
  mount_at("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755");
  cgroups = mount_at("cgroup2", "/sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
  static const char *const links[][2] = {
      {"/proc/self/fd", "/dev/fd"}, {"fd/0", "/dev/stdin"}, {"fd/1", "/dev/stdout"}, {"fd/2", "/dev/stderr"}};
  for (size_t i = 0; i < sizeof links / sizeof *links; i++)
    if (symlink(links[i][0], links[i][1]) < 0 && errno != EEXIST) log_line("cannot make %s: %s", links[i][1], strerror(errno));
}

static void copy_value(char *target, size_t size, const char *word, const char *key) {
  size_t length = strlen(key);
  if (strncmp(word, key, length) == 0) snprintf(target, size, "%s", word + length);
}

static void read_settings(void) {
  settings = (struct settings){.root = "/dev/vda", .type = "ext4", .flags = ""};
  char line[4096];
  int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
  ssize_t length = fd < 0 ? -1 : read(fd, line, sizeof line - 1);
  if (fd >= 0) close(fd);
  if (length <= 0) return;
  line[length] = '\0';
  char *rest = line;
  for (char *word; (word = strsep(&rest, " \n"));) {
    copy_value(settings.root, sizeof settings.root, word, "berth.root=");
    copy_value(settings.type, sizeof settings.type, word, "berth.rootfstype=");
    copy_value(settings.flags, sizeof settings.flags, word, "berth.rootflags=");
  }
}

static bool wait_for(const char *path) {
  const struct timespec pause = {.tv_nsec = 1000000};
  for (int waited = 0; access(path, F_OK) < 0; waited++) {
    if (waited == DEVICE_WAIT_MS) return false;
    nanosleep(&pause, NULL);
  }
  return true;
}

static void mount_root(void) {
  if (!wait_for(settings.root)) give_up(settings.root);
  mkdir(NEW_ROOT, 0755);
  if (mount(settings.root, NEW_ROOT, settings.type, MS_NOATIME, settings.flags) < 0) give_up("root file system");
}

/* The initramfs is memory: what will not be read again is removed. */
static void leave_initramfs(void) {
  static const char *const moved[] = {"/dev", "/proc", "/sys"};
  unlink("/init");
  for (size_t i = 0; i < sizeof moved / sizeof *moved; i++) {
    char target[64];
    snprintf(target, sizeof target, NEW_ROOT "%s", moved[i]);
    mkdir(target, 0755);
    if (mount(moved[i], target, NULL, MS_MOVE, NULL) < 0) give_up(target);
  }
  if (chdir(NEW_ROOT) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
    give_up("switching root");
}

/* Init's own streams: the kernel gave it the console, which no child may inherit. */
static void detach_console(void) {
  int null = open("/dev/null", O_RDWR);
  if (null < 0) return;
  for (int fd = 0; fd < 3; fd++) dup2(null, fd);
  if (null > 2) close(null);
}

static void write_file(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, text, strlen(text)) < 0) log_line("cannot write %s: %s", path, strerror(errno));
  if (fd >= 0) close(fd);
}

void boot(void) {
  umask(022);
  mount_kernel_file_systems();
  detach_console();
  modules_load_early();
  read_settings();
  mount_root();
  leave_initramfs();
  mount_run_time_file_systems();
  write_file("/proc/self/oom_score_adj", "-1000");
}

const char *boot_cgroup(void) { return cgroups ? "/sys/fs/cgroup/berth" : NULL; }

const char *boot_root_device(void) { return settings.root; }
