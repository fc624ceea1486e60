#define _GNU_SOURCE
#include "cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "loop.h"

static int parent_fd = -1;
static unsigned lingering; /* groups that still held processes when they were released */

static void group_name(char *name, size_t size, uint64_t number) {
  snprintf(name, size, "exec-%llu", (unsigned long long)number);
}

/* An orphan was reaped: perhaps the last process of a lingering group. */
static void sweep(void) {
  if (lingering == 0) return;
  int fd = openat(parent_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  DIR *directory = fdopendir(fd);
  if (!directory) {
    close(fd);
    return;
  }
  struct dirent *entry;
  while (lingering > 0 && (entry = readdir(directory)))
    if (strncmp(entry->d_name, "exec-", 5) == 0 && unlinkat(parent_fd, entry->d_name, AT_REMOVEDIR) == 0) lingering--;
  closedir(directory);
}

void cgroup_init(const char *parent) {
  if (!parent || (mkdir(parent, 0755) < 0 && errno != EEXIST)) return;
  parent_fd = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
  loop_on_orphan(sweep);
}

int cgroup_make(uint64_t number) {
  if (parent_fd < 0) return -1;
  char name[32];
  group_name(name, sizeof name, number);
  if (mkdirat(parent_fd, name, 0755) < 0) return -1;
  int group = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (group < 0) unlinkat(parent_fd, name, AT_REMOVEDIR);
  return group;
}

pid_t cgroup_fork(int group) {
  if (group < 0) return fork();
  struct clone_args arguments = {
      .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (uint64_t)group};
  return (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
}

void cgroup_kill(int group, pid_t leader) {
  if (group >= 0) {
    int fd = openat(group, "cgroup.kill", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
      bool killed = write(fd, "1", 1) == 1;
      close(fd);
      if (killed) return;
    }
  }
  if (leader > 0) kill(-leader, SIGKILL);
}

void cgroup_release(int group, uint64_t number) {
  if (group < 0) return;
  close(group);
  char name[32];
  group_name(name, sizeof name, number);
  if (unlinkat(parent_fd, name, AT_REMOVEDIR) < 0) lingering++;
}
