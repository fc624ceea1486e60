#define _GNU_SOURCE
#include "put_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* -1 with errno as it was before. */
static int close_failed(int fd) {
  int reason = errno;
  close(fd);
  errno = reason;
  return -1;
}

static int write_all(int fd, const char *text, size_t length) {
  ssize_t count = pwrite(fd, text, length, 0);
  if (count == (ssize_t)length) return 0;
  if (count >= 0) errno = ENOSPC;
  return -1;
}

static int replace(const char *path, const char *text, mode_t mode) {
  char temporary[256];
  snprintf(temporary, sizeof temporary, "%s.berth", path);
  unlink(temporary);
  int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  if (fd < 0) return -1;
  if (write_all(fd, text, strlen(text)) < 0) return close_failed(fd);
  close(fd);
  return rename(temporary, path);
}

int put_file(const char *path, const char *text, mode_t mode) {
  /* Not blocking: what is no ordinary file may have nobody at its other end. */
  int fd = open(path, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  struct stat info;
  if (fd < 0) return replace(path, text, mode);
  if (fstat(fd, &info) < 0) return close_failed(fd);
  if (!S_ISREG(info.st_mode) || info.st_nlink != 1) {
    close(fd);
    return replace(path, text, mode);
  }
  size_t length = strlen(text);
  if (write_all(fd, text, length) < 0) return close_failed(fd);
  if (info.st_size > (off_t)length && ftruncate(fd, (off_t)length) < 0) return close_failed(fd);
  if ((info.st_mode & 07777 & ~mode) != 0 && fchmod(fd, mode) < 0) return close_failed(fd);
  close(fd);
  return 0;
}
