#define _GNU_SOURCE
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

/* Length of the longest beginning of a magic that the bytes end with. */
static size_t partial_magic(const uint8_t *bytes, size_t length) {
  size_t tail = length < RESYNC_MAGIC_LENGTH - 1 ? length : RESYNC_MAGIC_LENGTH - 1;
  const uint8_t *start = memrchr(bytes + length - tail, RESYNC_MAGIC[0], tail);
  if (!start) return 0;
  size_t candidate = (size_t)(bytes + length - start);
  return memcmp(start, RESYNC_MAGIC, candidate) == 0 ? candidate : 0;
}

/* Hands on data up to the next magic in as few pieces as possible; returns how many bytes it has dealt with. */
static size_t scan(struct resync *resync, const uint8_t *bytes, size_t length) {
  const uint8_t *magic = memmem(bytes, length, RESYNC_MAGIC, RESYNC_MAGIC_LENGTH);
  size_t matched = magic ? RESYNC_MAGIC_LENGTH : partial_magic(bytes, length);
  size_t plain = magic ? (size_t)(magic - bytes) : length - matched;
  if (plain > 0) resync->data(resync->context, bytes, plain);
  resync->matched = matched;
  if (magic) resync->state = RESYNC_CODE;
  return plain + matched;
}

/* Continues a magic that began in earlier bytes. */
static size_t match_on(struct resync *resync, uint8_t byte) {
  if (byte != RESYNC_MAGIC[resync->matched]) {
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
      case RESYNC_SCAN:
        at += resync->matched > 0 ? match_on(resync, bytes[at]) : scan(resync, bytes + at, length - at);
        break;
      case RESYNC_CODE: at += code(resync, bytes[at]); break;
      case RESYNC_IN_NONCE: at += in_nonce(resync, bytes[at]); break;
    }
  }
}

void resync_idle(struct resync *resync) {
  if (resync->state == RESYNC_SCAN || resync->state == RESYNC_CODE) release(resync);
}
