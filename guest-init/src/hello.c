#include "hello.h"

#include <fcntl.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/* Read once: it stays the same until the kernel ends. */
static const char *boot_id(void) {
  static char id[37];
  if (id[0]) return id;
  int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
  if (fd < 0 || read(fd, id, sizeof id - 1) < 0) id[0] = '\0';
  if (fd >= 0) close(fd);
  return id;
}

void hello_add(struct report *report) {
  const uint8_t version = PROTOCOL_VERSION;
  struct utsname kernel;
  uname(&kernel);
  report_add(report, PARAM_PROTOCOL, &version, 1);
  report_add(report, PARAM_BOOT_ID, boot_id(), strlen(boot_id()));
  report_add(report, PARAM_KERNEL, kernel.release, strlen(kernel.release));
}

static void start(struct stream *stream, struct params params) {
  (void)params;
  struct report report;
  report_start(&report);
  hello_add(&report);
  h2_answer(stream, 200, (const char *)report.bytes, report.length);
}

const struct operation hello_operation = {.path = "/hello", .start = start};
