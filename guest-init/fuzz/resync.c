/*
 * The scanner must hand on the same data and find the same markers however its input is cut, and must find a marker that
 * follows anything at all.
 */
#include "resync.h"

#include <stdlib.h>
#include <string.h>

struct seen {
  uint8_t *bytes;
  size_t length;
  size_t markers;
  uint8_t last[RESYNC_NONCE];
};

static void on_data(void *context, const uint8_t *bytes, size_t length) {
  struct seen *seen = context;
  memcpy(seen->bytes + seen->length, bytes, length);
  seen->length += length;
}

static void on_marker(void *context, const uint8_t *nonce) {
  struct seen *seen = context;
  seen->markers++;
  memcpy(seen->last, nonce, RESYNC_NONCE);
}

static void scan(struct seen *seen, const uint8_t *bytes, size_t length, size_t step, int idle) {
  uint8_t marker[RESYNC_MAGIC_LENGTH + 1 + RESYNC_NONCE];
  struct resync resync = {.data = on_data, .marker = on_marker, .context = seen};
  for (size_t at = 0; at < length; at += step) {
    resync_feed(&resync, bytes + at, length - at < step ? length - at : step);
    if (idle) resync_idle(&resync);
  }
  memcpy(marker, RESYNC_MAGIC, RESYNC_MAGIC_LENGTH);
  marker[RESYNC_MAGIC_LENGTH] = RESYNC_MARK;
  memset(marker + RESYNC_MAGIC_LENGTH + 1, 'n', RESYNC_NONCE);
  size_t before = seen->markers;
  resync_feed(&resync, marker, sizeof marker);
  if (seen->markers != before + 1 || seen->last[0] != 'n') abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
  struct seen whole = {.bytes = malloc(length + 64)}, cut = {.bytes = malloc(length + 64)};
  size_t step = length > 0 ? 1 + bytes[0] % 40 : 1;
  scan(&whole, bytes, length, length + 1, 0);
  scan(&cut, bytes, length, step, length > 1 && bytes[1] & 1);
  /* Bytes handed on early because nothing followed them may differ only if they turned out to be part of a marker. */
  if (!(length > 1 && bytes[1] & 1) && (whole.length != cut.length || memcmp(whole.bytes, cut.bytes, whole.length) != 0)) abort();
  if (whole.markers != cut.markers) abort();
  free(whole.bytes);
  free(cut.bytes);
  return 0;
}
