/* Parameters of a request: a list of (tag u8, length u32 big-endian, value). */
#ifndef BERTH_PARAMS_H
#define BERTH_PARAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* These numbers are part of the protocol: never reuse one. */
enum param_tag {
  PARAM_ARG = 1,
  PARAM_ENV = 2,
  PARAM_CWD = 3,
  PARAM_UID = 4,
  PARAM_GID = 5,
  PARAM_TIMEOUT_MS = 6,
  PARAM_PTY = 7, /* u16 columns, u16 rows */
  PARAM_STDIN = 8,
  PARAM_ROOT = 9,
  PARAM_PATH = 10,
  PARAM_MAX_ENTRIES = 11,
  PARAM_MAX_BYTES = 12,
  PARAM_PORT = 13,
  PARAM_HOSTNAME = 14,
  PARAM_UNIX_TIME_NS = 15,
  PARAM_ENTROPY = 16,
  PARAM_MAC = 17, /* six bytes */
  PARAM_IPV4 = 18,
  PARAM_GATEWAY4 = 19,
  PARAM_IPV6 = 20,
  PARAM_GATEWAY6 = 21,
  PARAM_NAMESERVER = 22,
  PARAM_PROTOCOL = 23,
  PARAM_BOOT_ID = 24,
  PARAM_KERNEL = 25,
  PARAM_RENEW = 26,
  PARAM_SSH_KEY = 27,
  PARAM_SSH_PUBLIC_KEY = 28,
  PARAM_DISK_BYTES = 29,
  PARAM_STEP = 30,          /* u8 outcome, u32 microseconds, u8 length of the name, name, detail */
  PARAM_CLOCK_SKEW_NS = 31, /* how far the guest's clock was ahead, two's complement */
  PARAM_KEEP_NETWORK = 32,
};

struct params {
  const uint8_t *bytes;
  size_t length;
};

struct param {
  uint8_t tag;
  uint32_t length;
  const uint8_t *value;
};

/* Takes the next parameter off the list. False at the end, and with `*malformed` set when the list is damaged. */
bool params_next(struct params *rest, struct param *param, bool *malformed);

/* Big-endian unsigned number of 1 to 8 bytes. */
bool param_number(const struct param *param, uint64_t max, uint64_t *number);

/* Copies text without NUL bytes, 1 to `size - 1` long, to a C string. */
bool param_text(const struct param *param, char *text, size_t size);

#endif
