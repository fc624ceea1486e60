/* Frames must come out the same however the input is cut. */
#include "frames.h"

#include <stdlib.h>

struct sum {
  uint64_t value;
  size_t data;
};

static void add(struct sum *sum, uint8_t byte) { sum->value = sum->value * 1099511628211u + byte + 1; }

static void on_data(void *context, const uint8_t *bytes, size_t length) {
  struct sum *sum = context;
  for (size_t i = 0; i < length; i++) add(sum, bytes[i]);
  sum->data += length;
}

static void on_control(void *context, uint8_t type, const uint8_t *payload, size_t length) {
  struct sum *sum = context;
  if (length > FRAME_CONTROL_MAX) abort();
  add(sum, type);
  for (size_t i = 0; i < length; i++) add(sum, payload[i]);
}

static bool feed(struct sum *sum, const uint8_t *bytes, size_t length, size_t step) {
  struct frame_reader reader = {.data = on_data, .control = on_control, .context = sum};
  for (size_t at = 0; at < length; at += step)
    if (!frames_feed(&reader, bytes + at, length - at < step ? length - at : step)) return false;
  return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
  struct sum whole = {0}, cut = {0};
  bool whole_ok = feed(&whole, bytes, length, length + 1);
  bool cut_ok = feed(&cut, bytes, length, length > 0 ? 1 + bytes[length - 1] % 9 : 1);
  if (whole_ok != cut_ok || (whole_ok && (whole.value != cut.value || whole.data != cut.data))) abort();
  return 0;
}
