/* A small rtnetlink client: one request, one acknowledgement. */
#ifndef BERTH_NETLINK_H
#define BERTH_NETLINK_H

#include <linux/rtnetlink.h>
#include <stddef.h>
#include <stdint.h>

struct netlink_request {
  struct nlmsghdr header;
  uint8_t body[512];
};

/* -1 with errno. */
int netlink_open(void);

/* Starts a request whose fixed part is `length` bytes. */
void netlink_begin(struct netlink_request *request, uint16_t type, uint16_t flags, const void *fixed, size_t length);
void netlink_attribute(struct netlink_request *request, uint16_t type, const void *value, size_t length);

/* Sends and awaits the verdict. -1 with errno. */
int netlink_send(int fd, struct netlink_request *request);

/* Sends a dump request and hands every message to `each`. -1 with errno. */
int netlink_dump(int fd, struct netlink_request *request, void (*each)(void *context, const struct nlmsghdr *message), void *context);

#endif
