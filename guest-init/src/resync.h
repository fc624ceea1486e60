/*
 * Finds the resync marker in the bytes that come from the host, and undoes the host's stuffing.
 *
 * The marker is RESYNC_MAGIC, the byte RESYNC_MARK, and a nonce of RESYNC_NONCE ASCII characters. Wherever the magic occurs in
 * ordinary data the host puts a RESYNC_STUFF byte behind it, so no data a client sends can pass for a marker.
 * The first byte of the magic occurs in it only once, which makes matching a matter of counting.
 */
#ifndef BERTH_RESYNC_H
#define BERTH_RESYNC_H

#include <stddef.h>
#include <stdint.h>

#define RESYNC_MAGIC_LENGTH 16
#define RESYNC_NONCE 32
#define RESYNC_STUFF 0x00
#define RESYNC_MARK 0x01
#define RESYNC_ECHO 0x02

extern const uint8_t RESYNC_MAGIC[RESYNC_MAGIC_LENGTH];

struct resync {
  void (*data)(void *context, const uint8_t *bytes, size_t length);
  void (*marker)(void *context, const uint8_t nonce[RESYNC_NONCE]);
  void *context;
  /* Private. */
  size_t matched;   /* bytes of the magic seen last */
  size_t delivered; /* how many of those were already handed on */
  size_t nonce_length;
  enum { RESYNC_SCAN, RESYNC_CODE, RESYNC_IN_NONCE } state;
  uint8_t nonce[RESYNC_NONCE];
};

void resync_feed(struct resync *resync, const uint8_t *bytes, size_t length);

/*
 * To be called when no more bytes are at hand: bytes that look like the start of a marker are handed on, because the
 * request they end may be complete. Should a marker follow after all, it is still recognised.
 */
void resync_idle(struct resync *resync);

#endif
