#define _GNU_SOURCE
#include "fs_ops.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <stdio.h>
#include <unistd.h>

#include "boot.h"
#include "loop.h"
#include "task.h"

#define EXT4_MAGIC 0xef53
#define EXT4_SUPERBLOCK_OFFSET 1024
#define EXT4_SUPERBLOCK_SIZE 1024
#define EXT4_INCOMPAT_64BIT 0x80u
#define EXT4_IOC_RESIZE_FS _IOW('f', 16, uint64_t)
#define MAX_FREEZE_MS (10 * 60 * 1000)

/* True from the moment a freeze begins: a thaw too many is harmless, one too few is not. */
static bool frozen;
static struct timer thaw_timer;

static int open_root(void) { return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC); }

static int thaw(void) {
  int fd = open_root();
  int result = fd < 0 ? -1 : ioctl(fd, FITHAW, 0);
  return result < 0 && errno == EINVAL ? 0 : result; /* EINVAL: it was not frozen */
}

static void run_sync(struct params params) {
  (void)params;
  sync();
  task_succeed();
}

static void run_freeze(struct params params) {
  (void)params;
  int fd = open_root();
  if (fd < 0) task_fail_errno("cannot open the root file system");
  if (syncfs(fd) < 0) task_fail_errno("cannot flush the root file system");
  if (ioctl(fd, FIFREEZE, 0) < 0) task_fail_errno("cannot freeze the root file system");
  task_succeed();
}

static void run_thaw(struct params params) {
  (void)params;
  if (thaw() < 0) task_fail_errno("cannot thaw the root file system");
  task_succeed();
}

void fs_thaw_later(void) {
  if (!frozen) return;
  frozen = false;
  timer_stop(&thaw_timer);
  task_detached(run_thaw);
}

void fs_thaw_now(void) {
  if (frozen) thaw();
}

static void on_freeze_over(struct timer *timer) {
  (void)timer;
  fs_thaw_later();
}

static void start_sync(struct stream *stream, struct params params) { task_start(stream, params, run_sync, 0); }

static void start_freeze(struct stream *stream, struct params params) {
  static const char problem[] = "the longest freeze must be given, up to ten minutes";
  struct param param;
  uint64_t limit_ms = 0;
  bool malformed = false;
  if (!params_next(&params, &param, &malformed) || param.tag != PARAM_TIMEOUT_MS ||
      !param_number(&param, MAX_FREEZE_MS, &limit_ms)) {
    h2_answer(stream, 400, problem, sizeof problem - 1);
    return;
  }
  frozen = true;
  timer_start(&thaw_timer, limit_ms, on_freeze_over);
  task_start(stream, params, run_freeze, 0);
}

static void start_thaw(struct stream *stream, struct params params) {
  frozen = false;
  timer_stop(&thaw_timer);
  task_start(stream, params, run_thaw, 0);
}

const struct operation sync_operation = {.path = "/sync", .start = start_sync, .close = task_close};
const struct operation freeze_operation = {.path = "/freeze", .max_params = 64, .start = start_freeze, .close = task_close};
const struct operation thaw_operation = {.path = "/thaw", .start = start_thaw, .close = task_close};

/* Size in bytes of the block device that holds `/`; 0 when that is no block device. */
static uint64_t root_device_size(void) {
  struct stat info;
  char path[64], text[32];
  if (stat("/", &info) < 0) return 0;
  snprintf(path, sizeof path, "/sys/dev/block/%u:%u/size", major(info.st_dev), minor(info.st_dev));
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  ssize_t length = read(fd, text, sizeof text - 1);
  close(fd);
  uint64_t sectors = 0;
  for (ssize_t i = 0; i < length && text[i] >= '0' && text[i] <= '9'; i++) sectors = sectors * 10 + (uint64_t)(text[i] - '0');
  return sectors * 512;
}

static uint32_t little_endian(const uint8_t *bytes) {
  return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

/* Blocks of the ext4 on a device, as its superblock says (Documentation/filesystems/ext4/super.rst); 0 when unknown. */
static uint64_t ext4_blocks(const char *device) {
  uint8_t superblock[EXT4_SUPERBLOCK_SIZE];
  int fd = open(device, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  ssize_t length = pread(fd, superblock, sizeof superblock, EXT4_SUPERBLOCK_OFFSET);
  close(fd);
  if (length != sizeof superblock || (superblock[0x38] | superblock[0x39] << 8) != EXT4_MAGIC) return 0;
  bool wide = little_endian(superblock + 0x60) & EXT4_INCOMPAT_64BIT;
  return little_endian(superblock + 0x4) | (wide ? (uint64_t)little_endian(superblock + 0x150) << 32 : 0);
}

int fs_grow_root(void) {
  struct statfs info;
  if (statfs("/", &info) < 0) return -1;
  if (info.f_type != EXT4_MAGIC) return 0; /* other file systems keep the size they have */
  uint64_t wanted = root_device_size() / (uint64_t)info.f_bsize;
  /* Asked first, because the kernel flushes the journal even where there is nothing to grow. */
  if (wanted <= ext4_blocks(boot_root_device())) return 0;
  int fd = open_root();
  if (fd < 0) return -1;
  int result = ioctl(fd, EXT4_IOC_RESIZE_FS, &wanted);
  int reason = errno;
  close(fd);
  errno = reason;
  return result;
}
