#define _GNU_SOURCE
#include "net_config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "netlink.h"

#define LOOPBACK_INDEX 1
/* Addresses removed at once; the rest waits for the next round. */
#define FLUSH_BATCH 16

/* What is known of the machine; a copy of the machine knows it too, and does with fewer questions to the kernel. */
static int netlink_fd = -1;
static bool loopback_is_up;
static struct known_interface {
  int index; /* 0: not found yet */
  uint8_t mac[6];
  bool prepared;
  bool is_up;
  bool is_known; /* its addresses are those of `applied` */
  struct net_config applied;
} interface;

static struct netlink_batch batch;

static bool open_netlink(void) {
  if (netlink_fd < 0) netlink_fd = netlink_open();
  return netlink_fd >= 0;
}

/* --- finding the interface --- */

struct search {
  const uint8_t *mac;
  int match;
  int only;
  int count;
  uint8_t only_mac[6];
};

static void look(void *context, const struct nlmsghdr *message) {
  struct search *search = context;
  if (message->nlmsg_type != RTM_NEWLINK) return;
  struct ifinfomsg *link = NLMSG_DATA(message);
  if (link->ifi_type != ARPHRD_ETHER || link->ifi_flags & IFF_LOOPBACK) return;
  int left = (int)IFLA_PAYLOAD(message);
  bool virtual = false;
  const uint8_t *mac = NULL;
  for (struct rtattr *a = IFLA_RTA(link); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
    if (a->rta_type == IFLA_ADDRESS && RTA_PAYLOAD(a) == 6) mac = RTA_DATA(a);
    if (a->rta_type == IFLA_LINKINFO) virtual = true; /* bridges, veth and the like: not hardware */
  }
  if (!mac || virtual) return;
  search->count++;
  search->only = link->ifi_index;
  memcpy(search->only_mac, mac, 6);
  if (memcmp(mac, search->mac, 6) == 0) search->match = link->ifi_index;
}

static bool find_interface(const uint8_t *mac) {
  const struct ifinfomsg any = {.ifi_family = AF_UNSPEC};
  struct search search = {.mac = mac};
  interface.prepared = interface.is_up = interface.is_known = false;
  if (netlink_dump(netlink_fd, RTM_GETLINK, &any, sizeof any, look, &search) < 0) return false;
  if (search.match > 0) {
    interface.index = search.match;
    memcpy(interface.mac, mac, 6);
  } else if (search.count == 1) {
    interface.index = search.only;
    memcpy(interface.mac, search.only_mac, 6);
  } else {
    interface.index = 0;
    errno = ENODEV;
  }
  return interface.index > 0;
}

static void set_interface_option(const char *family, const char *name, const char *option, const char *value) {
  char path[128];
  snprintf(path, sizeof path, "/proc/sys/net/%s/conf/%s/%s", family, name, option);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return; /* a kernel without IPv6 or sysctl */
  if (write(fd, value, strlen(value)) < 0) {
    /* The option is an improvement, not a need. */
  }
  close(fd);
}

/* What the interface keeps for ever, and in all copies of the machine. */
static void prepare_interface(void) {
  char name[IF_NAMESIZE];
  if (interface.prepared || !if_indextoname((unsigned)interface.index, name)) return;
  /* The addresses are announced when the interface comes up or changes its MAC. */
  set_interface_option("ipv4", name, "arp_notify", "1");
  set_interface_option("ipv6", name, "ndisc_notify", "1");
  set_interface_option("ipv6", name, "accept_ra", "0");
  /* The link-local address is given like the others: the kernel's own would wait a second for duplicates. */
  set_interface_option("ipv6", name, "addr_gen_mode", "1");
  interface.prepared = true;
}

/* --- changes --- */

static void add_link(const char *purpose, int index, bool up, const uint8_t *mac) {
  const struct ifinfomsg link = {.ifi_index = index, .ifi_flags = up ? IFF_UP : 0, .ifi_change = IFF_UP};
  netlink_add(&batch, purpose, RTM_NEWLINK, 0, &link, sizeof link);
  if (mac) netlink_attribute(&batch, IFLA_ADDRESS, mac, 6);
}

static void remove_address(void *context, const struct nlmsghdr *message) {
  bool *more = context;
  struct ifaddrmsg *address = NLMSG_DATA(message);
  if (message->nlmsg_type != RTM_NEWADDR || (int)address->ifa_index != interface.index) return;
  if (batch.count >= FLUSH_BATCH) {
    *more = true;
    return;
  }
  /* An address that is gone by itself is as good as removed. */
  netlink_add(&batch, NULL, RTM_DELADDR, 0, address, sizeof *address);
  int left = (int)IFA_PAYLOAD(message);
  for (struct rtattr *a = IFA_RTA(address); RTA_OK(a, left); a = RTA_NEXT(a, left))
    if ((a->rta_type == IFA_LOCAL || a->rta_type == IFA_ADDRESS) && RTA_PAYLOAD(a) <= 16)
      netlink_attribute(&batch, a->rta_type, RTA_DATA(a), RTA_PAYLOAD(a));
}

static void remove_known(const struct net_address *address) {
  if (!address->set) return;
  const struct ifaddrmsg message = {.ifa_family = (uint8_t)address->family,
                                    .ifa_prefixlen = address->prefix,
                                    .ifa_index = (uint32_t)interface.index};
  netlink_add(&batch, NULL, RTM_DELADDR, 0, &message, sizeof message);
  netlink_attribute(&batch, IFA_LOCAL, address->bytes, net_address_length(address->family));
}

/* Starts the batch with the removal of the old addresses. -1 with errno. */
static int begin_with_flush(bool pristine) {
  const struct ifaddrmsg any = {.ifa_family = AF_UNSPEC};
  if (pristine && interface.is_known) {
    const struct net_address link_local = net_link_local(interface.applied.mac);
    netlink_start(&batch);
    remove_known(&interface.applied.addresses[0]);
    remove_known(&interface.applied.addresses[1]);
    if (interface.applied.addresses[1].set) remove_known(&link_local);
    return 0;
  }
  for (;;) {
    bool more = false;
    netlink_start(&batch);
    if (netlink_dump(netlink_fd, RTM_GETADDR, &any, sizeof any, remove_address, &more) < 0) return -1;
    if (!more) return 0;
    if (netlink_send(netlink_fd, &batch)) return -1;
  }
}

static void add_address(const char *purpose, const struct net_address *address) {
  /* The host hands out each address once: duplicate detection would only make the address unusable for a second. */
  const struct ifaddrmsg message = {.ifa_family = (uint8_t)address->family,
                                    .ifa_prefixlen = address->prefix,
                                    .ifa_flags = address->family == AF_INET6 ? IFA_F_NODAD : 0,
                                    .ifa_index = (uint32_t)interface.index};
  size_t length = net_address_length(address->family);
  netlink_add(&batch, purpose, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &message, sizeof message);
  netlink_attribute(&batch, IFA_LOCAL, address->bytes, length);
  netlink_attribute(&batch, IFA_ADDRESS, address->bytes, length);
  if (address->family == AF_INET && address->prefix < 31) {
    uint32_t broadcast;
    memcpy(&broadcast, address->bytes, 4);
    broadcast |= htonl(0xffffffffu >> address->prefix);
    netlink_attribute(&batch, IFA_BROADCAST, &broadcast, 4);
  }
}

/* Replaces the default route of a family, or removes it when there is no gateway. */
static void set_default_route(int family, const struct net_address *gateway) {
  const struct rtmsg route = {.rtm_family = (uint8_t)family,
                              .rtm_table = RT_TABLE_MAIN,
                              .rtm_protocol = gateway->set ? RTPROT_STATIC : RTPROT_UNSPEC,
                              .rtm_scope = gateway->set ? RT_SCOPE_UNIVERSE : RT_SCOPE_NOWHERE,
                              .rtm_type = gateway->set ? RTN_UNICAST : RTN_UNSPEC,
                              /* The gateway need not be in the address's own prefix. */
                              .rtm_flags = gateway->set ? RTNH_F_ONLINK : 0};
  if (gateway->set) {
    netlink_add(&batch, "adding the default route", RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &route, sizeof route);
    netlink_attribute(&batch, RTA_GATEWAY, gateway->bytes, net_address_length(family));
  } else {
    netlink_add(&batch, NULL, RTM_DELROUTE, 0, &route, sizeof route);
  }
  netlink_attribute(&batch, RTA_OIF, &interface.index, sizeof interface.index);
}

static void add_addresses6(const struct net_config *config) {
  if (!config->addresses[1].set) return;
  const struct net_address link_local = net_link_local(config->mac);
  add_address("adding the IPv6 address", &config->addresses[1]);
  add_address("adding the link-local address", &link_local);
}

static const char *change(const struct net_config *config, bool pristine) {
  if (begin_with_flush(pristine) < 0) return "removing old addresses";
  bool new_mac = memcmp(interface.mac, config->mac, 6) != 0;
  /* The addresses that are there when the interface comes up or changes its MAC are announced; IPv6 has none while it is down. */
  if (config->addresses[0].set) add_address("adding the IPv4 address", &config->addresses[0]);
  if (interface.is_up) add_addresses6(config);
  /* A copy may be given the very MAC of what it was copied from: set again, it announces the address all the same. */
  add_link("setting the MAC address", interface.index, true, new_mac || interface.is_up ? config->mac : NULL);
  if (!interface.is_up) add_addresses6(config);
  set_default_route(AF_INET, &config->gateways[0]);
  set_default_route(AF_INET6, &config->gateways[1]);
  const char *problem = netlink_send(netlink_fd, &batch);
  interface.is_known = !problem;
  if (problem) return problem;
  interface.is_up = true;
  interface.applied = *config;
  memcpy(interface.mac, config->mac, 6);
  return NULL;
}

static const char *take_down(void) {
  netlink_start(&batch);
  add_link("taking the interface down", interface.index, false, NULL);
  interface.is_up = false;
  return netlink_send(netlink_fd, &batch);
}

const char *net_apply(const struct net_config *config, bool pristine) {
  if (!open_netlink()) return "netlink";
  bool known = interface.index > 0;
  if (!known && !find_interface(config->mac)) return "finding the interface";
  prepare_interface();
  const char *problem = change(config, pristine);
  if (problem && errno == EBUSY && interface.is_up) {
    /* A driver that changes its MAC only while it is down. */
    problem = take_down();
    if (!problem) problem = change(config, pristine);
  } else if (problem && errno == ENODEV && known) {
    /* It was taken away since: perhaps there is another one now. */
    if (!find_interface(config->mac)) return "finding the interface";
    prepare_interface();
    problem = change(config, pristine);
  }
  return problem;
}

const char *net_apply_further(const struct net_config *config) {
  if (!open_netlink()) return "netlink";
  const struct known_interface first = interface;
  const char *problem = "finding a further interface";
  /* The only one there is would be the first. */
  if (find_interface(config->mac) && memcmp(interface.mac, config->mac, 6) == 0) {
    prepare_interface();
    problem = change(config, false);
  } else {
    errno = ENODEV;
  }
  interface = first;
  return problem;
}

const char *net_remove(bool pristine) {
  if (!open_netlink() || begin_with_flush(pristine) < 0) return "removing old addresses";
  interface.is_known = false;
  const char *problem = netlink_send(netlink_fd, &batch);
  return problem ? problem : take_down();
}

bool net_is_set_up(void) { return interface.index > 0; }

const char *net_loopback(void) {
  if (loopback_is_up) return NULL;
  if (!open_netlink()) return "netlink";
  netlink_start(&batch);
  add_link("bringing loopback up", LOOPBACK_INDEX, true, NULL);
  const char *problem = netlink_send(netlink_fd, &batch);
  loopback_is_up = !problem;
  return problem;
}
