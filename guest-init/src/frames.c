#include "frames.h"

#include <string.h>

void frame_header(uint8_t *header, uint8_t type, uint32_t length) {
  header[0] = type;
  header[1] = (uint8_t)(length >> 24);
  header[2] = (uint8_t)(length >> 16);
  header[3] = (uint8_t)(length >> 8);
  header[4] = (uint8_t)length;
}

static bool take_header(struct frame_reader *reader) {
  const uint8_t *h = reader->header;
  reader->left = (uint32_t)h[1] << 24 | (uint32_t)h[2] << 16 | (uint32_t)h[3] << 8 | h[4];
  reader->payload_length = 0;
  return h[0] == FRAME_STDIN || reader->left <= FRAME_CONTROL_MAX;
}

static void end_frame(struct frame_reader *reader) {
  reader->header_length = 0;
  if (reader->header[0] != FRAME_STDIN)
    reader->control(reader->context, reader->header[0], reader->payload, reader->payload_length);
}

bool frames_feed(struct frame_reader *reader, const uint8_t *bytes, size_t length) {
  while (length > 0) {
    if (reader->header_length < FRAME_HEADER) {
      reader->header[reader->header_length++] = *bytes++;
      length--;
      if (reader->header_length < FRAME_HEADER) continue;
      if (!take_header(reader)) return false;
      if (reader->left == 0) end_frame(reader);
      continue;
    }
    size_t count = length < reader->left ? length : reader->left;
    if (reader->header[0] == FRAME_STDIN) {
      reader->data(reader->context, bytes, count);
    } else {
      memcpy(reader->payload + reader->payload_length, bytes, count);
      reader->payload_length += count;
    }
    bytes += count;
    length -= count;
    reader->left -= (uint32_t)count;
    if (reader->left == 0) end_frame(reader);
  }
  return true;
}
