#include "resync.h"

#include <string.h>

/* Read as an HTTP/2 frame header the magic is an oversized frame: a session that is fed part of it ends. */
const uint8_t RESYNC_MAGIC[RESYNC_MAGIC_LENGTH] = {0xbe, 0x52, 0x54, 0x48, 0x7e, 0x53, 0x59, 0x4e,
                                                   0x43, 0x7e, 0x8d, 0x1f, 0xc4, 0xa6, 0x73, 0x0a};

/* Hands on what has matched so far and was not handed on yet. */
static void release(struct resync *resync) {
  if (resync->delivered < resync->matched)
    resync->data(resync->context, RESYNC_MAGIC + resync->delivered, resync->matched - resync->delivered);
  resync->delivered = resync->matched;
}

static void restart(struct resync *resync) {
  resync->matched = 0;
  resync->delivered = 0;
  resync->state = RESYNC_SCAN;
}

/* Scans from `at`; returns how far it got. */
static size_t scan(struct resync *resync, const uint8_t *bytes, size_t length) {
  if (resync->matched == 0) {
    const uint8_t *first = memchr(bytes, RESYNC_MAGIC[0], length);
    size_t plain = first ? (size_t)(first - bytes) : length;
    if (plain > 0) resync->data(resync->context, bytes, plain);
    if (!first) return length;
    resync->matched = 1;
    return plain + 1;
  }
  if (bytes[0] != RESYNC_MAGIC[resync->matched]) {
    release(resync);
    restart(resync);
    return 0; /* the byte is looked at again: it may begin a magic */
  }
  if (++resync->matched == RESYNC_MAGIC_LENGTH) resync->state = RESYNC_CODE;
  return 1;
}

static size_t code(struct resync *resync, uint8_t byte) {
  if (byte == RESYNC_MARK) {
    resync->nonce_length = 0;
    resync->state = RESYNC_IN_NONCE;
    return 1;
  }
  /* Stuffed magic, or a host that died between the magic and its stuffing: then this byte begins its successor's marker. */
  release(resync);
  restart(resync);
  return byte == RESYNC_STUFF ? 1 : 0;
}

static size_t in_nonce(struct resync *resync, uint8_t byte) {
  /* Not a nonce character: the host died inside its marker and this is the beginning of its successor's. */
  if (byte == RESYNC_MAGIC[0]) {
    restart(resync);
    return 0;
  }
  resync->nonce[resync->nonce_length++] = byte;
  if (resync->nonce_length == RESYNC_NONCE) {
    uint8_t nonce[RESYNC_NONCE];
    memcpy(nonce, resync->nonce, sizeof nonce);
    restart(resync);
    resync->marker(resync->context, nonce);
  }
  return 1;
}

void resync_feed(struct resync *resync, const uint8_t *bytes, size_t length) {
  size_t at = 0;
  while (at < length) {
    switch (resync->state) {
      case RESYNC_SCAN: at += scan(resync, bytes + at, length - at); break;
      case RESYNC_CODE: at += code(resync, bytes[at]); break;
      case RESYNC_IN_NONCE: at += in_nonce(resync, bytes[at]); break;
    }
  }
}

void resync_idle(struct resync *resync) {
  if (resync->state == RESYNC_SCAN || resync->state == RESYNC_CODE) release(resync);
}
