#define _GNU_SOURCE
#include "tar_out.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "place_params.h"
#include "tar_format.h"
#include "task.h"

/* Each level holds a directory open. */
#define MAX_DEPTH 512
#define COPY_SIZE (128 * 1024)

/* A tree is walked twice: first without sending anything, so that what fails the whole is told before the first byte. */
static bool rehearsing;
static uint8_t copy[COPY_SIZE];
static struct tar_entry entry; /* one at a time; too large for the stack of a deep tree */

static void send(const void *bytes, size_t length) {
  const uint8_t *at = bytes;
  if (rehearsing) return;
  while (length > 0) {
    ssize_t count = write(1, at, length);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) _exit(1); /* the host stopped reading */
    at += count;
    length -= (size_t)count;
  }
}

static void send_header(enum tar_type type, const char *path, const struct stat *info, uint64_t size) {
  static uint8_t header[TAR_HEADER_MAX];
  entry.type = type;
  snprintf(entry.path, sizeof entry.path, "%s", path);
  entry.size = size;
  entry.mode = info->st_mode & 07777;
  entry.uid = info->st_uid;
  entry.gid = info->st_gid;
  entry.mtime = info->st_mtim.tv_sec;
  send(header, tar_header(header, &entry));
  entry.target[0] = '\0';
}

/* Sends as many bytes as the header said: a file that shrinks meanwhile is filled up with zeros, as tar does. */
static void send_content(int fd, uint64_t size) {
  uint64_t left = size;
  while (left > 0) {
    size_t part = left < COPY_SIZE ? (size_t)left : COPY_SIZE;
    ssize_t count = read(fd, copy, part);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) task_fail_errno("cannot read a file");
    if (count == 0) {
      memset(copy, 0, part);
      count = (ssize_t)part;
    }
    send(copy, (size_t)count);
    left -= (uint64_t)count;
  }
  memset(copy, 0, TAR_BLOCK);
  send(copy, tar_padding(size));
}

static void pack_file(int fd, const char *path, const struct stat *info) {
  if (rehearsing) return;
  send_header(TAR_FILE, path, info, (uint64_t)info->st_size);
  send_content(fd, (uint64_t)info->st_size);
}

static void pack_symlink(int parent, const char *name, const char *path, const struct stat *info) {
  ssize_t length = readlinkat(parent, name, entry.target, sizeof entry.target - 1);
  if (length < 0 && errno == ENOENT) return;
  if (length < 0) task_fail_errno("cannot read a link");
  entry.target[length] = '\0';
  send_header(TAR_SYMLINK, path, info, 0);
}

static void pack_directory(int fd, const char *path, const struct stat *info, int depth);

/* What vanishes while the tree is read was as good as never there; what may not be read fails the whole. */
static void pack_named(int parent, const char *name, const char *path, int depth) {
  struct stat info;
  if (fstatat(parent, name, &info, AT_SYMLINK_NOFOLLOW) < 0) {
    if (errno == ENOENT) return;
    task_fail_errno("cannot look at a file");
  }
  if (S_ISLNK(info.st_mode)) {
    pack_symlink(parent, name, path, &info);
    return;
  }
  if (!S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode)) return; /* sockets, pipes and devices have no content */
  int fd = openat(parent, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0 && (errno == ENOENT || errno == ELOOP)) return;
  if (fd < 0 || fstat(fd, &info) < 0) task_fail_errno("cannot open a file");
  if (S_ISDIR(info.st_mode)) {
    pack_directory(fd, path, &info, depth + 1);
  } else {
    if (S_ISREG(info.st_mode)) pack_file(fd, path, &info);
    close(fd);
  }
}

static void pack_directory(int fd, const char *path, const struct stat *info, int depth) {
  if (depth > MAX_DEPTH) task_fail(400, "the tree is too deep");
  DIR *directory = fdopendir(fd);
  char *child = malloc(TAR_PATH_MAX); /* not on the stack, of which a deep tree would need megabytes */
  if (!directory || !child) task_fail_errno("cannot read a directory");
  if (snprintf(child, TAR_PATH_MAX, "%s/", path) >= TAR_PATH_MAX) task_fail(400, "a path is too long");
  send_header(TAR_DIRECTORY, child, info, 0);
  struct dirent *item;
  while ((errno = 0, item = readdir(directory))) {
    if (strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0) continue;
    if (snprintf(child, TAR_PATH_MAX, "%s/%s", path, item->d_name) >= TAR_PATH_MAX) task_fail(400, "a path is too long");
    pack_named(dirfd(directory), item->d_name, child, depth);
  }
  if (errno != 0) task_fail_errno("cannot read a directory");
  free(child);
  closedir(directory);
}

static int open_place(int root, const struct place *place, struct stat *info) {
  int fd = open_beneath(root, place->relative, O_RDONLY | O_NONBLOCK, 0);
  if (fd < 0 || fstat(fd, info) < 0) task_fail_errno("cannot open the path");
  return fd;
}

static void run(struct params params) {
  static struct place place;
  place_from(params, &place, NULL);
  int root = place_enter(&place);
  struct stat info;
  int fd = open_place(root, &place, &info);
  if (S_ISDIR(info.st_mode)) {
    rehearsing = true;
    pack_directory(fd, ".", &info, 0);
    rehearsing = false;
    fd = open_place(root, &place, &info);
  }
  if (S_ISDIR(info.st_mode)) {
    pack_directory(fd, ".", &info, 0);
  } else if (S_ISREG(info.st_mode)) {
    const char *slash = strrchr(place.relative, '/');
    pack_file(fd, slash ? slash + 1 : place.relative, &info);
  } else {
    task_fail(400, "the path is neither a file nor a directory");
  }
  memset(copy, 0, 2 * TAR_BLOCK);
  send(copy, 2 * TAR_BLOCK);
  task_succeed();
}

static void start(struct stream *stream, struct params params) { task_start(stream, params, run, TASK_OUTPUT); }

const struct operation tar_out_operation = {
    .path = "/tar-out", .max_params = 16384, .start = start, .output = task_output, .close = task_close};
