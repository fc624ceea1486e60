#include "hello.h"

#include <fcntl.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

static size_t put(char *bytes, uint8_t tag, const void *value, size_t length) {
  bytes[0] = (char)tag;
  bytes[1] = bytes[2] = bytes[3] = 0;
  bytes[4] = (char)length; /* all values here are shorter than 128 bytes */
  memcpy(bytes + 5, value, length);
  return 5 + length;
}

static void start(struct stream *stream, struct params params) {
  (void)params;
  char body[256], boot_id[37] = "";
  const uint8_t version = PROTOCOL_VERSION;
  struct utsname kernel;
  uname(&kernel);
  int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
  ssize_t id_length = fd < 0 ? 0 : read(fd, boot_id, 36);
  if (fd >= 0) close(fd);
  size_t length = put(body, PARAM_PROTOCOL, &version, 1);
  length += put(body + length, PARAM_BOOT_ID, boot_id, id_length > 0 ? (size_t)id_length : 0);
  length += put(body + length, PARAM_KERNEL, kernel.release, strlen(kernel.release));
  h2_answer(stream, 200, body, length);
}

const struct operation hello_operation = {.path = "/hello", .start = start};
