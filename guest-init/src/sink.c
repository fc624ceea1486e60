#include "sink.h"

#include <errno.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

void sink_init(struct sink *sink, struct stream *stream) {
  *sink = (struct sink){.source = {.fd = -1}, .stream = stream};
}

static void drop(struct sink *sink) {
  size_t length = buffer_length(&sink->waiting);
  if (length > 0) h2_consumed(sink->stream, length);
  buffer_free(&sink->waiting);
}

static void finish(struct sink *sink) {
  drop(sink);
  if (sink->half_close)
    shutdown(sink->source.fd, SHUT_WR);
  else
    loop_close(&sink->source);
}

static void push(struct sink *sink) {
  while (buffer_length(&sink->waiting) > 0) {
    ssize_t count = write(sink->source.fd, buffer_data(&sink->waiting), buffer_length(&sink->waiting));
    if (count < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return;
      finish(sink); /* nobody reads it any more */
      return;
    }
    buffer_consume(&sink->waiting, (size_t)count);
    h2_consumed(sink->stream, (size_t)count);
  }
  if (sink->ending) finish(sink);
}

static void on_writable(struct source *source, uint32_t events) {
  (void)events;
  push(container_of(source, struct sink, source));
}

bool sink_open(struct sink *sink, int fd) {
  sink->held = false;
  if (loop_watch(&sink->source, fd, EPOLLOUT, on_writable) == 0) {
    push(sink);
    return true;
  }
  close(fd);
  return false;
}

void sink_write(struct sink *sink, const uint8_t *bytes, size_t length) {
  bool open = sink->held || sink->source.fd >= 0;
  if (!open || sink->ending || !buffer_append(&sink->waiting, bytes, length))
    h2_consumed(sink->stream, length);
  else if (!sink->held)
    push(sink);
}

void sink_end(struct sink *sink) {
  if (sink->ending) return;
  sink->ending = true;
  if (sink->source.fd >= 0) push(sink);
}

void sink_close(struct sink *sink) {
  sink->held = false;
  drop(sink);
  loop_close(&sink->source);
}
