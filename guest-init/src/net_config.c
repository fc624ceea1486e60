#define _GNU_SOURCE
#include "net_config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if_arp.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "netlink.h"

/* The network driver may still be loading. */
#define INTERFACE_WAIT_MS 5000

struct interface {
  int index;
  bool renamed; /* found by being the only one: it still has another MAC */
};

struct search {
  const uint8_t *mac;
  int match;
  int only;
  int count;
};

struct flush {
  int fd;
  int index;
};

static int address_length(int family) { return family == AF_INET ? 4 : 16; }

bool net_parse(const char *text, int family, bool with_prefix, struct net_address *address) {
  char host[64];
  const char *slash = strchr(text, '/');
  size_t length = slash ? (size_t)(slash - text) : strlen(text);
  if ((slash != NULL) != with_prefix || length >= sizeof host) return false;
  memcpy(host, text, length);
  host[length] = '\0';
  if (inet_pton(family, host, address->bytes) != 1) return false;
  unsigned long prefix = (unsigned long)address_length(family) * 8;
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

/* --- finding the interface --- */

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
  if (memcmp(mac, search->mac, 6) == 0) search->match = link->ifi_index;
}

static bool find_once(int fd, const uint8_t *mac, struct interface *found) {
  struct netlink_request request;
  const struct ifinfomsg any = {.ifi_family = AF_UNSPEC};
  struct search search = {.mac = mac};
  netlink_begin(&request, RTM_GETLINK, 0, &any, sizeof any);
  if (netlink_dump(fd, &request, look, &search) < 0) return false;
  errno = ENODEV;
  if (search.match > 0) *found = (struct interface){search.match, false};
  else if (search.count == 1) *found = (struct interface){search.only, true};
  else return false;
  return true;
}

static bool find_interface(int fd, const uint8_t *mac, struct interface *found) {
  const struct timespec pause = {.tv_nsec = 1000000};
  for (int waited = 0; waited < INTERFACE_WAIT_MS; waited++) {
    if (find_once(fd, mac, found)) return true;
    if (errno != ENODEV) return false;
    nanosleep(&pause, NULL);
  }
  return false;
}

/* --- changes --- */

static int set_link(int fd, int index, bool up, const uint8_t *mac) {
  struct netlink_request request;
  const struct ifinfomsg link = {.ifi_index = index, .ifi_flags = up ? IFF_UP : 0, .ifi_change = IFF_UP};
  netlink_begin(&request, RTM_NEWLINK, 0, &link, sizeof link);
  if (mac) netlink_attribute(&request, IFLA_ADDRESS, mac, 6);
  return netlink_send(fd, &request);
}

static void remove_address(void *context, const struct nlmsghdr *message) {
  const struct flush *flush = context;
  if (message->nlmsg_type != RTM_NEWADDR) return;
  struct ifaddrmsg *address = NLMSG_DATA(message);
  if ((int)address->ifa_index != flush->index) return;
  struct netlink_request request;
  netlink_begin(&request, RTM_DELADDR, 0, address, sizeof *address);
  int left = (int)IFA_PAYLOAD(message);
  for (struct rtattr *a = IFA_RTA(address); RTA_OK(a, left); a = RTA_NEXT(a, left))
    if ((a->rta_type == IFA_LOCAL || a->rta_type == IFA_ADDRESS) && RTA_PAYLOAD(a) <= 16)
      netlink_attribute(&request, a->rta_type, RTA_DATA(a), RTA_PAYLOAD(a));
  /* An address that is gone by itself is as good as removed. */
  if (netlink_send(flush->fd, &request) < 0) return;
}

static int flush_addresses(int index) {
  struct netlink_request request;
  const struct ifaddrmsg any = {.ifa_family = AF_UNSPEC};
  int dump = netlink_open();
  struct flush flush = {.fd = netlink_open(), .index = index};
  netlink_begin(&request, RTM_GETADDR, 0, &any, sizeof any);
  int result = dump < 0 || flush.fd < 0 ? -1 : netlink_dump(dump, &request, remove_address, &flush);
  if (dump >= 0) close(dump);
  if (flush.fd >= 0) close(flush.fd);
  return result;
}

static int add_address(int fd, int index, const struct net_address *address) {
  struct netlink_request request;
  /* The host hands out each address once: duplicate detection would only make the address unusable for a second. */
  const struct ifaddrmsg message = {.ifa_family = (uint8_t)address->family,
                                    .ifa_prefixlen = address->prefix,
                                    .ifa_flags = address->family == AF_INET6 ? IFA_F_NODAD : 0,
                                    .ifa_index = (uint32_t)index};
  size_t length = (size_t)address_length(address->family);
  netlink_begin(&request, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &message, sizeof message);
  netlink_attribute(&request, IFA_LOCAL, address->bytes, length);
  netlink_attribute(&request, IFA_ADDRESS, address->bytes, length);
  if (address->family == AF_INET && address->prefix < 31) {
    uint32_t broadcast;
    memcpy(&broadcast, address->bytes, 4);
    broadcast |= htonl(0xffffffffu >> address->prefix);
    netlink_attribute(&request, IFA_BROADCAST, &broadcast, 4);
  }
  return netlink_send(fd, &request);
}

static int add_default_route(int fd, int index, const struct net_address *gateway) {
  struct netlink_request request;
  const struct rtmsg route = {.rtm_family = (uint8_t)gateway->family,
                              .rtm_table = RT_TABLE_MAIN,
                              .rtm_protocol = RTPROT_STATIC,
                              .rtm_scope = RT_SCOPE_UNIVERSE,
                              .rtm_type = RTN_UNICAST,
                              /* The gateway need not be in the address's own prefix. */
                              .rtm_flags = RTNH_F_ONLINK};
  netlink_begin(&request, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &route, sizeof route);
  netlink_attribute(&request, RTA_GATEWAY, gateway->bytes, (size_t)address_length(gateway->family));
  netlink_attribute(&request, RTA_OIF, &index, sizeof index);
  return netlink_send(fd, &request);
}

static void set_interface_option(const char *family, int index, const char *option, const char *value) {
  char path[128], name[IF_NAMESIZE];
  if (!if_indextoname((unsigned)index, name)) return;
  snprintf(path, sizeof path, "/proc/sys/net/%s/conf/%s/%s", family, name, option);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return; /* a kernel without IPv6 or sysctl */
  if (write(fd, value, strlen(value)) < 0) {
    /* The option is an improvement, not a need. */
  }
  close(fd);
}

const char *net_apply(const struct net_config *config) {
  struct interface interface;
  int fd = netlink_open();
  if (fd < 0) return "netlink";
  if (!find_interface(fd, config->mac, &interface)) return "finding the interface";
  int index = interface.index;
  if (set_link(fd, index, false, interface.renamed ? config->mac : NULL) < 0) return "setting the MAC address";
  if (flush_addresses(index) < 0) return "removing old addresses";
  set_interface_option("ipv4", index, "arp_notify", "1"); /* announces the address when the interface comes up */
  set_interface_option("ipv6", index, "accept_ra", "0");
  const struct net_address *v4 = &config->addresses[0], *v6 = &config->addresses[1];
  if (v4->set && add_address(fd, index, v4) < 0) return "adding the IPv4 address";
  if (set_link(fd, index, true, NULL) < 0) return "bringing the interface up";
  if (v6->set && add_address(fd, index, v6) < 0) return "adding the IPv6 address";
  for (int i = 0; i < 2; i++)
    if (config->gateways[i].set && add_default_route(fd, index, &config->gateways[i]) < 0) return "adding the default route";
  close(fd);
  return NULL;
}

const char *net_loopback(void) {
  int fd = netlink_open();
  if (fd < 0) return "netlink";
  const char *problem = set_link(fd, 1, true, NULL) < 0 ? "bringing loopback up" : NULL;
  close(fd);
  return problem;
}
