/* IP addresses as the host writes them. */
#ifndef BERTH_NET_ADDRESS_H
#define BERTH_NET_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct net_address {
  bool set;
  int family;
  uint8_t bytes[16];
  uint8_t prefix;
};

/* Bytes of an address of this family. */
size_t net_address_length(int family);

/* "172.16.0.2/24" or, without a prefix, "172.16.0.1". */
bool net_parse(const char *text, int family, bool with_prefix, struct net_address *address);

/* The link-local address that belongs to a MAC (RFC 4291, appendix A). */
struct net_address net_link_local(const uint8_t mac[6]);

#endif
