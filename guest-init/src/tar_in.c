#define _GNU_SOURCE
#include "tar_in.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "place_params.h"
#include "tar_format.h"
#include "task.h"

#define COPY_SIZE (128 * 1024)

struct unpack {
  int dest;
  struct limits limits;
  /* The directory of the entry before, which most entries share. */
  char parent[TAR_PATH_MAX];
  int parent_fd;
};

static uint8_t copy[COPY_SIZE];

static bool read_input(void *context, uint8_t *bytes, size_t length) {
  (void)context;
  while (length > 0) {
    ssize_t count = read(0, bytes, length);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    bytes += count;
    length -= (size_t)count;
  }
  return true;
}

static void write_all(int fd, const uint8_t *bytes, size_t length) {
  while (length > 0) {
    ssize_t count = write(fd, bytes, length);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) task_fail_errno("cannot write a file");
    bytes += count;
    length -= (size_t)count;
  }
}

static int enter_parent(struct unpack *unpack, const char *path, const char **name) {
  const char *slash = strrchr(path, '/');
  *name = slash ? slash + 1 : path;
  if (!slash) return unpack->dest;
  size_t length = (size_t)(slash - path);
  if (unpack->parent_fd >= 0 && strlen(unpack->parent) == length && memcmp(unpack->parent, path, length) == 0)
    return unpack->parent_fd;
  if (unpack->parent_fd >= 0) close(unpack->parent_fd);
  memcpy(unpack->parent, path, length);
  unpack->parent[length] = '\0';
  unpack->parent_fd = make_beneath(unpack->dest, unpack->parent);
  if (unpack->parent_fd < 0) task_fail_errno("cannot make a directory");
  return unpack->parent_fd;
}

static void set_mtime(int fd, int64_t mtime) {
  const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = mtime}};
  /* A time the file system cannot hold is no reason to refuse the content. */
  if (futimens(fd, times) < 0) return;
}

static void unpack_directory(struct unpack *unpack, const struct tar_entry *entry, const char *path) {
  if (path[0] == '\0') return; /* the destination itself, which exists */
  const char *name;
  int parent = enter_parent(unpack, path, &name);
  /* Kept writable for its owner: its content may follow. Set-id bits are never taken from an archive. */
  mode_t mode = (entry->mode & 0777) | 0700;
  if (mkdirat(parent, name, mode) < 0) {
    if (errno != EEXIST) task_fail_errno("cannot make a directory");
    int existing = open_beneath(unpack->dest, path, O_RDONLY | O_DIRECTORY, 0);
    if (existing < 0) task_fail_errno("cannot make a directory");
    close(existing);
  }
}

static int create_file(int parent, const char *name, mode_t mode) {
  int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
  int fd = openat(parent, name, flags, mode);
  if (fd >= 0 || errno != EEXIST) return fd;
  /* Replaced, not overwritten: a symlink goes, and a running program keeps the file it has. */
  if (unlinkat(parent, name, 0) < 0) return -1;
  return openat(parent, name, flags, mode);
}

static void unpack_file(struct unpack *unpack, const struct tar_entry *entry, const char *path) {
  if (path[0] == '\0') task_fail(400, "an entry has no name");
  const char *name;
  int parent = enter_parent(unpack, path, &name);
  int fd = create_file(parent, name, entry->mode & 0777);
  if (fd < 0) task_fail_errno("cannot make a file");
  uint64_t left = entry->size;
  while (left > 0) {
    size_t part = left < COPY_SIZE ? (size_t)left : COPY_SIZE;
    if (!read_input(NULL, copy, part)) task_fail(400, "archive is cut off");
    write_all(fd, copy, part);
    left -= part;
  }
  set_mtime(fd, entry->mtime);
  if (close(fd) < 0) task_fail_errno("cannot write a file");
  if (!read_input(NULL, copy, tar_padding(entry->size))) task_fail(400, "archive is cut off");
}

static void unpack_entry(struct unpack *unpack, const struct tar_entry *entry) {
  char path[TAR_PATH_MAX];
  if (unpack->limits.entries == 0) task_fail(413, "archive has too many entries");
  unpack->limits.entries--;
  if (entry->size > unpack->limits.bytes) task_fail(413, "archive is too large");
  unpack->limits.bytes -= entry->size;
  if (!safe_relative(entry->path, path, sizeof path)) task_fail(400, "an entry's name leaves the destination");
  if (entry->type == TAR_DIRECTORY)
    unpack_directory(unpack, entry, path);
  else
    unpack_file(unpack, entry, path);
}

/* Takes what follows the archive, so that whoever sends it comes to an end. */
static void drain(void) {
  while (read(0, copy, sizeof copy) > 0) {
  }
}

static void run(struct params params) {
  static struct place place;
  static struct unpack unpack = {.parent_fd = -1, .limits = {UINT64_MAX, UINT64_MAX}};
  static struct tar_entry entry;
  place_from(params, &place, &unpack.limits);
  umask(022);
  int root = place_enter(&place);
  unpack.dest = make_beneath(root, place.relative);
  if (unpack.dest < 0) task_fail_errno("cannot open the destination");
  struct tar_reader reader = {.read = read_input};
  const char *problem;
  enum tar_result result;
  while ((result = tar_next(&reader, &entry, &problem)) == TAR_ENTRY) unpack_entry(&unpack, &entry);
  if (result == TAR_BAD) task_fail(400, "%s", problem);
  drain();
  task_succeed();
}

static void start(struct stream *stream, struct params params) { task_start(stream, params, run, TASK_INPUT); }

const struct operation tar_in_operation = {.path = "/tar-in",
                                           .max_params = 16384,
                                           .start = start,
                                           .input = task_input,
                                           .input_end = task_input_end,
                                           .close = task_close};
