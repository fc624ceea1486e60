/* A small rtnetlink client. */
#ifndef BERTH_NETLINK_H
#define BERTH_NETLINK_H

#include <linux/rtnetlink.h>
#include <stddef.h>
#include <stdint.h>

#define NETLINK_BATCH_MESSAGES 32

/* Requests that are sent at once and carried out in order, whether those before succeed or not. */
struct netlink_batch {
  size_t length;
  size_t last; /* where the message that attributes go to begins */
  int count;
  /* What each message is for; NULL when it does not matter whether it succeeds. */
  const char *purposes[NETLINK_BATCH_MESSAGES];
  union {
    uint8_t bytes[8192];
    struct nlmsghdr align;
  };
};

/* -1 with errno. */
int netlink_open(void);

void netlink_start(struct netlink_batch *batch);
/* Starts a request whose fixed part is `length` bytes. What has no room left fails when the batch is sent. */
void netlink_add(struct netlink_batch *batch, const char *purpose, uint16_t type, uint16_t flags, const void *fixed, size_t length);
void netlink_attribute(struct netlink_batch *batch, uint16_t type, const void *value, size_t length);

/* Sends and awaits the verdicts. NULL, or the purpose of the first message that failed, with errno. */
const char *netlink_send(int fd, struct netlink_batch *batch);

/* Asks for a dump of what `fixed` describes and hands every message to `each`. -1 with errno. */
int netlink_dump(int fd, uint16_t type, const void *fixed, size_t length,
                 void (*each)(void *context, const struct nlmsghdr *message), void *context);

#endif
