#include "log.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

void log_line(const char *format, ...) {
  char text[512];
  int prefix = snprintf(text, sizeof text, "<4>guest-init: ");
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(text + prefix, sizeof text - (size_t)prefix - 1, format, arguments);
  va_end(arguments);
  if (length < 0) return;
  size_t end = (size_t)prefix + (size_t)length;
  if (end > sizeof text - 2) end = sizeof text - 2;
  text[end++] = '\n';
  int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return;
  /* The log is all there is to complain to. */
  if (write(fd, text, end) < 0) {
  }
  close(fd);
}
