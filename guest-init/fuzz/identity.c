/* A decoded identity can be written into files and handed to the kernel as it is. */
#include "identity.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

static void check_text(const char *text, size_t size) {
  if (!memchr(text, 0, size)) abort();
}

static void check_address(const struct net_address *address, int family) {
  if (!address->set) return;
  if (address->family != family || address->prefix > 8 * net_address_length(family)) abort();
}

static void check_network(const struct net_config *network) {
  check_address(&network->addresses[0], AF_INET);
  check_address(&network->addresses[1], AF_INET6);
  check_address(&network->gateways[0], AF_INET);
  check_address(&network->gateways[1], AF_INET6);
}

static void check_nameserver(const char *text) {
  uint8_t bytes[16];
  if (inet_pton(AF_INET, text, bytes) != 1 && inet_pton(AF_INET6, text, bytes) != 1) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
  static struct identity identity;
  if (identity_decode(&identity, (struct params){bytes, length}) != 0) return 0;
  check_text(identity.hostname, sizeof identity.hostname);
  if (strpbrk(identity.hostname, " /\n")) abort();
  check_text(identity.ssh_key, sizeof identity.ssh_key);
  check_text(identity.ssh_public_key, sizeof identity.ssh_public_key);
  if (identity.entropy_length > sizeof identity.entropy || identity.unix_time_ns > INT64_MAX) abort();
  check_network(&identity.network);
  if (identity.further_count > IDENTITY_FURTHER_MAX || (identity.further_count > 0 && !identity.has_network)) abort();
  for (int i = 0; i < identity.further_count; i++) check_network(&identity.further[i]);
  if (identity.nameserver_count > IDENTITY_NAMESERVERS_MAX) abort();
  for (int i = 0; i < identity.nameserver_count; i++) check_nameserver(identity.nameservers[i]);
  return 0;
}
