#define _GNU_SOURCE
#include "netlink.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

int netlink_open(void) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  const struct timeval limit = {.tv_sec = 5};
  if (fd >= 0) setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  return fd;
}

void netlink_begin(struct netlink_request *request, uint16_t type, uint16_t flags, const void *fixed, size_t length) {
  memset(request, 0, sizeof *request);
  request->header.nlmsg_type = type;
  request->header.nlmsg_flags = NLM_F_REQUEST | flags;
  request->header.nlmsg_len = (uint32_t)NLMSG_LENGTH(length);
  memcpy(request->body, fixed, length);
}

void netlink_attribute(struct netlink_request *request, uint16_t type, const void *value, size_t length) {
  size_t at = NLMSG_ALIGN(request->header.nlmsg_len);
  struct rtattr *attribute = (struct rtattr *)((uint8_t *)request + at);
  attribute->rta_type = type;
  attribute->rta_len = (unsigned short)RTA_LENGTH(length);
  memcpy(RTA_DATA(attribute), value, length);
  request->header.nlmsg_len = (uint32_t)(at + RTA_ALIGN(attribute->rta_len));
}

static int transmit(int fd, struct netlink_request *request) {
  static uint32_t sequence;
  request->header.nlmsg_seq = ++sequence;
  return send(fd, request, request->header.nlmsg_len, 0) < 0 ? -1 : 0;
}

/* 1: go on, 0: done, -1: failed. */
static int take(const struct nlmsghdr *message, uint32_t sequence, void (*each)(void *, const struct nlmsghdr *), void *context) {
  if (message->nlmsg_seq != sequence) return 1;
  if (message->nlmsg_type == NLMSG_DONE) return 0;
  if (message->nlmsg_type == NLMSG_ERROR) {
    const struct nlmsgerr *error = NLMSG_DATA(message);
    errno = -error->error;
    return error->error == 0 ? 0 : -1;
  }
  if (each) each(context, message);
  return 1;
}

static int receive(int fd, uint32_t sequence, void (*each)(void *, const struct nlmsghdr *), void *context) {
  union {
    char bytes[32768];
    struct nlmsghdr align;
  } buffer;
  for (;;) {
    ssize_t count = recv(fd, buffer.bytes, sizeof buffer.bytes, 0);
    if (count < 0) return -1;
    unsigned left = (unsigned)count;
    for (struct nlmsghdr *message = &buffer.align; NLMSG_OK(message, left); message = NLMSG_NEXT(message, left)) {
      int verdict = take(message, sequence, each, context);
      if (verdict <= 0) return verdict;
    }
  }
}

int netlink_send(int fd, struct netlink_request *request) {
  request->header.nlmsg_flags |= NLM_F_ACK;
  if (transmit(fd, request) < 0) return -1;
  return receive(fd, request->header.nlmsg_seq, NULL, NULL);
}

int netlink_dump(int fd, struct netlink_request *request, void (*each)(void *, const struct nlmsghdr *), void *context) {
  request->header.nlmsg_flags |= NLM_F_DUMP;
  if (transmit(fd, request) < 0) return -1;
  return receive(fd, request->header.nlmsg_seq, each, context);
}
