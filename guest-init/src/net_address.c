#include "net_address.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

size_t net_address_length(int family) { return family == AF_INET ? 4 : 16; }

bool net_parse(const char *text, int family, bool with_prefix, struct net_address *address) {
  char host[64];
  const char *slash = strchr(text, '/');
  size_t length = slash ? (size_t)(slash - text) : strlen(text);
  if ((slash != NULL) != with_prefix || length >= sizeof host) return false;
  memcpy(host, text, length);
  host[length] = '\0';
  if (inet_pton(family, host, address->bytes) != 1) return false;
  unsigned long prefix = (unsigned long)net_address_length(family) * 8;
  if (slash) {
    char *end;
    if (slash[1] < '0' || slash[1] > '9') return false;
    unsigned long given = strtoul(slash + 1, &end, 10);
    if (*end || given > prefix) return false;
    prefix = given;
  }
  address->prefix = (uint8_t)prefix;
  address->family = family;
  address->set = true;
  return true;
}

struct net_address net_link_local(const uint8_t mac[6]) {
  return (struct net_address){.set = true,
                              .family = AF_INET6,
                              .prefix = 64,
                              .bytes = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]}};
}
