/* Setting up the guest's network interface by rtnetlink. */
#ifndef BERTH_NET_CONFIG_H
#define BERTH_NET_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "net_address.h"

struct net_config {
  uint8_t mac[6];
  struct net_address addresses[2]; /* IPv4, IPv6 */
  struct net_address gateways[2];
};

/*
 * Finds the interface by its MAC (or takes the only one there is and gives it that MAC), replaces its addresses and default
 * routes, brings it up and announces it. Connections of the old addresses die. `pristine`: no program can have changed
 * anything, so the old addresses are those that were set here. NULL, or what failed, with errno.
 */
const char *net_apply(const struct net_config *config, bool pristine);

/*
 * Likewise for an interface beside that of net_apply: it is found by its MAC, each time anew. NULL, or what failed, with
 * errno.
 */
const char *net_apply_further(const struct net_config *config);

/* Takes the interface that net_apply has set up out of use: no address, down. NULL, or what failed, with errno. */
const char *net_remove(bool pristine);

/* Whether net_apply has set an interface up. */
bool net_is_set_up(void);

/* Brings the loopback interface up, once. NULL, or what failed, with errno. */
const char *net_loopback(void);

#endif
