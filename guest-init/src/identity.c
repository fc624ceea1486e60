#include "identity.h"

#include <string.h>
#include <sys/socket.h>

static bool take_address(const struct param *param, int family, bool with_prefix, struct net_address *address) {
  char text[64];
  return param_text(param, text, sizeof text) && net_parse(text, family, with_prefix, address);
}

static bool take_hostname(const struct param *param, char *hostname, size_t size) {
  if (!param_text(param, hostname, size)) return false;
  for (const char *c = hostname; *c; c++)
    if (*c <= ' ' || *c == '/' || *c > '~') return false;
  return true;
}

/* Only an address may get into resolv.conf, never a line break. */
static bool take_nameserver(const struct param *param, struct identity *identity) {
  struct net_address address;
  if (identity->nameserver_count == IDENTITY_NAMESERVERS_MAX) return false;
  char *text = identity->nameservers[identity->nameserver_count++];
  return param_text(param, text, sizeof identity->nameservers[0]) &&
         (net_parse(text, AF_INET, false, &address) || net_parse(text, AF_INET6, false, &address));
}

static bool take_entropy(const struct param *param, struct identity *identity) {
  if (param->length == 0 || param->length > IDENTITY_ENTROPY_MAX) return false;
  memcpy(identity->entropy, param->value, param->length);
  identity->entropy_length = param->length;
  return true;
}

/* The interface that the parameters until the next MAC are about. */
static struct net_config *current_network(struct identity *identity) {
  return identity->further_count > 0 ? &identity->further[identity->further_count - 1] : &identity->network;
}

static bool take_mac(const struct param *param, struct identity *identity) {
  if (param->length != 6) return false;
  if (identity->has_network && identity->further_count++ == IDENTITY_FURTHER_MAX) return false;
  identity->has_network = true;
  memcpy(current_network(identity)->mac, param->value, 6);
  return true;
}

static bool take_flag(const struct param *param, bool *flag) {
  uint64_t value;
  if (!param_number(param, 1, &value)) return false;
  *flag = value == 1;
  return true;
}

static bool take(const struct param *param, struct identity *identity) {
  struct net_config *network = current_network(identity);
  switch (param->tag) {
    case PARAM_HOSTNAME: return take_hostname(param, identity->hostname, sizeof identity->hostname);
    case PARAM_UNIX_TIME_NS: return param_number(param, INT64_MAX, &identity->unix_time_ns);
    case PARAM_ENTROPY: return take_entropy(param, identity);
    case PARAM_MAC: return take_mac(param, identity);
    case PARAM_IPV4: return take_address(param, AF_INET, true, &network->addresses[0]);
    case PARAM_GATEWAY4: return take_address(param, AF_INET, false, &network->gateways[0]);
    case PARAM_IPV6: return take_address(param, AF_INET6, true, &network->addresses[1]);
    case PARAM_GATEWAY6: return take_address(param, AF_INET6, false, &network->gateways[1]);
    case PARAM_NAMESERVER: return take_nameserver(param, identity);
    case PARAM_RENEW: return take_flag(param, &identity->renew);
    case PARAM_KEEP_NETWORK: return take_flag(param, &identity->keep_network);
    case PARAM_SSH_KEY: return param_text(param, identity->ssh_key, sizeof identity->ssh_key);
    case PARAM_SSH_PUBLIC_KEY: return param_text(param, identity->ssh_public_key, sizeof identity->ssh_public_key);
    default: return false;
  }
}

int identity_decode(struct identity *identity, struct params params) {
  struct param param;
  bool malformed = false;
  memset(identity, 0, sizeof *identity);
  while (params_next(&params, &param, &malformed))
    if (!take(&param, identity)) return param.tag;
  return malformed ? -1 : 0;
}
