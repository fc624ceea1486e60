#define _GNU_SOURCE
#include "modules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "log.h"

#define GROUP_MAX 32

/* Modules that are loaded by a child process, opened while the initramfs is there. */
struct group {
  const char *word; /* what /modules/order calls it */
  int fds[GROUP_MAX];
  int count;
};

static struct group network = {.word = "network"};
static struct group late = {.word = "late"};

static void load(int fd, const char *name) {
  if (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST) log_line("cannot load module %s: %s", name, strerror(errno));
}

static bool keep(struct group *group, const char *word, int fd) {
  if (strcmp(word, group->word) != 0 || group->count == GROUP_MAX) return false;
  group->fds[group->count++] = fd;
  return true;
}

/* A line is `<early|network|late> <file name>`. */
static void take_line(char *line) {
  char *name = strchr(line, ' ');
  if (!name) return;
  *name++ = '\0';
  char path[256];
  if (snprintf(path, sizeof path, "/modules/%s", name) >= (int)sizeof path) return;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    log_line("cannot open module %s: %s", name, strerror(errno));
    return;
  }
  /* An open file outlives its name, so the memory goes when the module is loaded. */
  unlink(path);
  if (keep(&network, line, fd) || keep(&late, line, fd)) return;
  load(fd, name);
  close(fd);
}

void modules_load_early(void) {
  char list[8192];
  int fd = open("/modules/order", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return; /* the kernel has everything built in */
  ssize_t length = read(fd, list, sizeof list - 1);
  close(fd);
  if (length <= 0) return;
  list[length] = '\0';
  char *rest = list;
  for (char *line; (line = strsep(&rest, "\n"));)
    if (*line) take_line(line);
}

static pid_t load_group(struct group *group, int niceness) {
  if (group->count == 0) return 0;
  pid_t pid = fork();
  if (pid == 0) {
    setpriority(PRIO_PROCESS, 0, niceness);
    for (int i = 0; i < group->count; i++) load(group->fds[i], "to be loaded by a child");
    _exit(0);
  }
  for (int i = 0; i < group->count; i++) close(group->fds[i]);
  group->count = 0;
  return pid < 0 ? 0 : pid;
}

pid_t modules_load_network(void) { return load_group(&network, 0); }

/* The host's first requests come meanwhile, and do not wait for these. */
pid_t modules_load_late(void) { return load_group(&late, 19); }
