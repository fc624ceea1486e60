/* Growable byte queue. Allocation failure is reported, never fatal. */
#ifndef BERTH_BUFFER_H
#define BERTH_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer {
  uint8_t *bytes;
  size_t start; /* bytes before this one are used up */
  size_t end;
  size_t capacity;
};

static inline size_t buffer_length(const struct buffer *buffer) { return buffer->end - buffer->start; }
static inline const uint8_t *buffer_data(const struct buffer *buffer) { return buffer->bytes + buffer->start; }

bool buffer_append(struct buffer *buffer, const void *bytes, size_t length);
void buffer_consume(struct buffer *buffer, size_t length);
void buffer_free(struct buffer *buffer);

#endif
