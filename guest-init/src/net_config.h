/* Setting up the guest's network interface by rtnetlink. */
#ifndef BERTH_NET_CONFIG_H
#define BERTH_NET_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

struct net_address {
  bool set;
  int family;
  uint8_t bytes[16];
  uint8_t prefix;
};

struct net_config {
  uint8_t mac[6];
  struct net_address addresses[2]; /* IPv4, IPv6 */
  struct net_address gateways[2];
};

/* "172.16.0.2/24" or, without a prefix, "172.16.0.1". */
bool net_parse(const char *text, int family, bool with_prefix, struct net_address *address);

/*
 * Finds the interface by its MAC (or takes the only one there is and gives it that MAC), replaces its addresses and
 * routes, and brings it up. NULL, or what failed, with errno.
 */
const char *net_apply(const struct net_config *config);

/* Brings the loopback interface up. NULL, or what failed, with errno. */
const char *net_loopback(void);

#endif
