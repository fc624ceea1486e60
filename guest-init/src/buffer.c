#include "buffer.h"

#include <stdlib.h>
#include <string.h>

bool buffer_append(struct buffer *buffer, const void *bytes, size_t length) {
  if (length == 0) return true;
  size_t used = buffer_length(buffer);
  if (buffer->start > 0 && buffer->end + length > buffer->capacity) {
    memmove(buffer->bytes, buffer->bytes + buffer->start, used);
    buffer->start = 0;
    buffer->end = used;
  }
  if (used + length > buffer->capacity) {
    size_t capacity = buffer->capacity ? buffer->capacity * 2 : 4096;
    if (capacity < used + length) capacity = used + length;
    uint8_t *grown = realloc(buffer->bytes, capacity);
    if (!grown) return false;
    buffer->bytes = grown;
    buffer->capacity = capacity;
  }
  memcpy(buffer->bytes + buffer->end, bytes, length);
  buffer->end += length;
  return true;
}

void buffer_consume(struct buffer *buffer, size_t length) {
  buffer->start += length;
  if (buffer->start == buffer->end) buffer->start = buffer->end = 0;
}

void buffer_free(struct buffer *buffer) {
  free(buffer->bytes);
  *buffer = (struct buffer){0};
}
