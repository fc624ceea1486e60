#define _GNU_SOURCE
#include "beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

bool safe_relative(const char *name, char *clean, size_t size) {
  size_t length = 0;
  if (name[0] == '/') return false;
  while (*name) {
    size_t part = strcspn(name, "/");
    bool skipped = part == 0 || (part == 1 && name[0] == '.');
    if (part == 2 && name[0] == '.' && name[1] == '.') return false;
    if (part > 255) return false;
    if (!skipped) {
      if (length + part + 2 > size) return false;
      if (length > 0) clean[length++] = '/';
      memcpy(clean + length, name, part);
      length += part;
    }
    name += part;
    while (*name == '/') name++;
  }
  clean[length] = '\0';
  return true;
}

/* "/a//b/./c/" to "a/b/c"; false for what is not absolute or holds "..". */
static bool normalise(char *path, size_t size) {
  char clean[4096];
  if (path[0] != '/') return false;
  const char *relative = path;
  while (*relative == '/') relative++;
  if (!safe_relative(relative, clean, sizeof clean) || strlen(clean) >= size) return false;
  strcpy(path, clean);
  return true;
}

bool place_resolve(struct place *place) {
  if (!normalise(place->root, sizeof place->root - 1) || !normalise(place->path, sizeof place->path)) return false;
  size_t length = strlen(place->root);
  if (strncmp(place->path, place->root, length) != 0) return false;
  const char *rest = place->path + length;
  if (length > 0 && *rest != '\0' && *rest != '/') return false;
  while (*rest == '/') rest++;
  place->relative = *rest ? rest : ".";
  memmove(place->root + 1, place->root, length + 1);
  place->root[0] = '/';
  return true;
}

int open_beneath(int directory, const char *path, int flags, mode_t mode) {
  struct open_how how = {
      .flags = (uint64_t)(unsigned)flags | O_CLOEXEC, .mode = mode, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
  int fd;
  /* The kernel asks for another try when something was renamed meanwhile and it cannot tell whether the path escaped. */
  for (int tries = 0; tries < 32; tries++) {
    fd = (int)syscall(SYS_openat2, directory, path, &how, sizeof how);
    if (fd >= 0 || errno != EAGAIN) break;
  }
  return fd;
}

int make_beneath(int directory, const char *path) {
  int flags = O_RDONLY | O_DIRECTORY;
  int whole = open_beneath(directory, path, flags, 0);
  if (whole >= 0 || errno != ENOENT) return whole;
  char prefix[4096];
  int current = open_beneath(directory, ".", flags, 0);
  for (size_t end = 0; current >= 0 && path[end] != '\0';) {
    size_t start = end;
    while (path[end] != '\0' && path[end] != '/') end++;
    if (end >= sizeof prefix) {
      close(current);
      errno = ENAMETOOLONG;
      return -1;
    }
    char part[256];
    if (end - start >= sizeof part) {
      close(current);
      errno = ENAMETOOLONG;
      return -1;
    }
    memcpy(part, path + start, end - start);
    part[end - start] = '\0';
    memcpy(prefix, path, end);
    prefix[end] = '\0';
    while (path[end] == '/') end++;
    int made = mkdirat(current, part, 0777) == 0 || errno == EEXIST ? 0 : -1;
    int reason = errno;
    close(current);
    if (made < 0) {
      errno = reason;
      return -1;
    }
    /* From the top again: a part may be a symlink to elsewhere beneath the directory. */
    current = open_beneath(directory, prefix, flags, 0);
  }
  return current;
}
