/* Frames inside the bodies of an exec: type u8, length u32 big-endian, payload. */
#ifndef BERTH_FRAMES_H
#define BERTH_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_HEADER 5
/* Longest payload of a control frame. */
#define FRAME_CONTROL_MAX 16

/* These numbers are part of the protocol: never reuse one. */
enum frame_type {
  FRAME_STDIN = 0,
  FRAME_STDIN_END = 1,
  FRAME_RESIZE = 2, /* u16 columns, u16 rows */
  FRAME_KILL = 3,
  FRAME_STDOUT = 16,
  FRAME_STDERR = 17,
  FRAME_EXIT = 18,        /* u8 0 exited, 1 by signal; u8 status or signal; u8 timed out; u64 microseconds */
  FRAME_EXEC_FAILED = 19, /* text: why the program could not be started */
};

struct frame_reader {
  /* Part of a FRAME_STDIN payload; called as it arrives. */
  void (*data)(void *context, const uint8_t *bytes, size_t length);
  /* A whole frame of any other type. */
  void (*control)(void *context, uint8_t type, const uint8_t *payload, size_t length);
  void *context;
  /* Private. */
  uint8_t header[FRAME_HEADER];
  size_t header_length;
  uint8_t payload[FRAME_CONTROL_MAX];
  size_t payload_length;
  uint32_t left;
};

/* False when the input is not a sequence of frames. */
bool frames_feed(struct frame_reader *reader, const uint8_t *bytes, size_t length);

void frame_header(uint8_t *header, uint8_t type, uint32_t length);

#endif
