#define _GNU_SOURCE
#include "modules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "log.h"

#define MAX_LATE 64

static int late[MAX_LATE];
static int late_count;

static void load(int fd, const char *name) {
  if (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST) log_line("cannot load module %s: %s", name, strerror(errno));
}

/* A line is `<early|late> <file name>`. */
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
  if (strcmp(line, "late") == 0 && late_count < MAX_LATE) {
    late[late_count++] = fd;
    return;
  }
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

pid_t modules_load_late(void) {
  if (late_count == 0) return 0;
  pid_t pid = fork();
  if (pid == 0) {
    for (int i = 0; i < late_count; i++) load(late[i], "to be loaded late");
    _exit(0);
  }
  for (int i = 0; i < late_count; i++) close(late[i]);
  late_count = 0;
  return pid < 0 ? 0 : pid;
}
