#define _GNU_SOURCE
#include "fs_grow.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "boot.h"
#include "report.h"
#include "task.h"

#define EXT4_MAGIC 0xef53
#define EXT4_SUPERBLOCK_OFFSET 1024
#define EXT4_SUPERBLOCK_SIZE 1024
#define EXT4_INCOMPAT_64BIT 0x80u
#define EXT4_IOC_RESIZE_FS _IOW('f', 16, uint64_t)
/* A disk that was made larger tells so by an interrupt, which may come after the request. */
#define DISK_WAIT_MS 5000

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

static uint64_t await_device_size(uint64_t wanted) {
  const struct timespec pause = {.tv_nsec = 1000000};
  uint64_t size = root_device_size();
  for (int waited = 0; size < wanted && waited < DISK_WAIT_MS; waited++) {
    nanosleep(&pause, NULL);
    size = root_device_size();
  }
  return size;
}

static int resize(uint64_t blocks) {
  int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return -1;
  int result = ioctl(fd, EXT4_IOC_RESIZE_FS, &blocks);
  int reason = errno;
  close(fd);
  errno = reason;
  return result;
}

static void grow(uint64_t disk_bytes, struct report *report) {
  struct statfs before, after;
  uint64_t size = await_device_size(disk_bytes);
  if (size < disk_bytes) {
    report_step(report, "disk", STEP_FAILED, "the disk has %llu bytes", (unsigned long long)size);
  } else if (statfs("/", &before) < 0) {
    report_step(report, "disk", STEP_FAILED, "%s", strerror(errno));
  } else if (before.f_type != EXT4_MAGIC) {
    report_step(report, "disk", STEP_SKIPPED, "not ext4");
  } else if (size / (uint64_t)before.f_bsize <= ext4_blocks(boot_root_device())) {
    /* Asked first, because the kernel flushes the journal even where there is nothing to grow. */
    report_step(report, "disk", STEP_SKIPPED, "%llu bytes", (unsigned long long)size);
  } else if (resize(size / (uint64_t)before.f_bsize) < 0 || statfs("/", &after) < 0) {
    report_step(report, "disk", STEP_FAILED, "%s", strerror(errno));
  } else {
    report_step(report, "disk", after.f_blocks > before.f_blocks ? STEP_DONE : STEP_SKIPPED, "%llu bytes", (unsigned long long)size);
  }
}

static void run(struct params params) {
  static struct report report;
  struct param param;
  bool malformed = false;
  uint64_t disk_bytes = 0;
  while (params_next(&params, &param, &malformed))
    if (param.tag != PARAM_DISK_BYTES || !param_number(&param, INT64_MAX, &disk_bytes)) malformed = true;
  if (malformed) task_fail(400, "the size of the disk is malformed");
  report_start(&report);
  grow(disk_bytes, &report);
  if (write(STDOUT_FILENO, report.bytes, report.length) != (ssize_t)report.length) task_fail_errno("cannot answer");
  task_succeed();
}

static void start(struct stream *stream, struct params params) { task_start(stream, params, run, TASK_OUTPUT); }

const struct operation grow_operation = {
    .path = "/grow", .max_params = 64, .start = start, .output = task_output, .close = task_close};
