#define _GNU_SOURCE
#include "netlink.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static uint32_t sequence;

int netlink_open(void) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  const struct timeval limit = {.tv_sec = 5};
  if (fd >= 0) setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  return fd;
}

void netlink_start(struct netlink_batch *batch) {
  batch->length = 0;
  batch->last = 0;
  batch->count = 0;
}

/* Room for `length` bytes at the end, or NULL, after which the batch cannot be sent. */
static uint8_t *reserve(struct netlink_batch *batch, size_t length) {
  size_t aligned = NLMSG_ALIGN(length);
  if (batch->count < 0 || aligned > sizeof batch->bytes - batch->length) {
    batch->count = -1;
    return NULL;
  }
  uint8_t *room = batch->bytes + batch->length;
  memset(room, 0, aligned);
  batch->length += aligned;
  return room;
}

void netlink_add(struct netlink_batch *batch, const char *purpose, uint16_t type, uint16_t flags, const void *fixed, size_t length) {
  size_t at = batch->length;
  if (batch->count == NETLINK_BATCH_MESSAGES) batch->count = -1;
  struct nlmsghdr *header = (struct nlmsghdr *)reserve(batch, NLMSG_LENGTH(length));
  if (!header) return;
  header->nlmsg_type = type;
  header->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
  header->nlmsg_len = (uint32_t)NLMSG_LENGTH(length);
  memcpy(NLMSG_DATA(header), fixed, length);
  batch->purposes[batch->count++] = purpose;
  batch->last = at;
}

void netlink_attribute(struct netlink_batch *batch, uint16_t type, const void *value, size_t length) {
  struct rtattr *attribute = (struct rtattr *)reserve(batch, RTA_LENGTH(length));
  if (!attribute) return;
  attribute->rta_type = type;
  attribute->rta_len = (unsigned short)RTA_LENGTH(length);
  memcpy(RTA_DATA(attribute), value, length);
  struct nlmsghdr *header = (struct nlmsghdr *)(batch->bytes + batch->last);
  header->nlmsg_len = (uint32_t)(batch->length - batch->last);
}

/* Numbers the messages; only the last is acknowledged when it succeeds, failures are told in any case. */
static void number(struct netlink_batch *batch) {
  unsigned left = (unsigned)batch->length;
  for (struct nlmsghdr *message = &batch->align; NLMSG_OK(message, left); message = NLMSG_NEXT(message, left))
    message->nlmsg_seq = ++sequence;
  ((struct nlmsghdr *)(batch->bytes + batch->last))->nlmsg_flags |= NLM_F_ACK;
}

/* Hands each message of the answer to `take` until that returns false. -1 with errno when they end before. */
static int receive(int fd, bool (*take)(void *context, const struct nlmsghdr *message), void *context) {
  union {
    char bytes[32768];
    struct nlmsghdr align;
  } buffer;
  for (;;) {
    ssize_t count = recv(fd, buffer.bytes, sizeof buffer.bytes, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return -1;
    unsigned left = (unsigned)count;
    for (struct nlmsghdr *message = &buffer.align; NLMSG_OK(message, left); message = NLMSG_NEXT(message, left))
      if (!take(context, message)) return 0;
  }
}

struct verdicts {
  const struct netlink_batch *batch;
  const char *failed;
  int reason;
};

static bool take_verdict(void *context, const struct nlmsghdr *message) {
  struct verdicts *verdicts = context;
  uint32_t index = message->nlmsg_seq - (sequence - (uint32_t)verdicts->batch->count + 1);
  if (message->nlmsg_type != NLMSG_ERROR || index >= (uint32_t)verdicts->batch->count) return true;
  const struct nlmsgerr *error = NLMSG_DATA(message);
  const char *purpose = verdicts->batch->purposes[index];
  if (error->error != 0 && purpose && !verdicts->failed) {
    verdicts->failed = purpose;
    verdicts->reason = -error->error;
  }
  return message->nlmsg_seq != sequence;
}

const char *netlink_send(int fd, struct netlink_batch *batch) {
  if (batch->count == 0) return NULL;
  if (batch->count < 0) {
    errno = ENOBUFS;
    return "asking for too much at once";
  }
  struct verdicts verdicts = {.batch = batch};
  number(batch);
  if (send(fd, batch->bytes, batch->length, 0) < 0 || receive(fd, take_verdict, &verdicts) < 0) return "netlink";
  errno = verdicts.reason;
  return verdicts.failed;
}

struct dump {
  void (*each)(void *context, const struct nlmsghdr *message);
  void *context;
  int error;
};

static bool take_dumped(void *context, const struct nlmsghdr *message) {
  struct dump *dump = context;
  if (message->nlmsg_seq != sequence) return true;
  if (message->nlmsg_type == NLMSG_DONE) return false;
  if (message->nlmsg_type == NLMSG_ERROR) {
    dump->error = -((const struct nlmsgerr *)NLMSG_DATA(message))->error;
    return false;
  }
  dump->each(dump->context, message);
  return true;
}

int netlink_dump(int fd, uint16_t type, const void *fixed, size_t length,
                 void (*each)(void *context, const struct nlmsghdr *message), void *context) {
  struct netlink_batch request;
  struct dump dump = {.each = each, .context = context};
  netlink_start(&request);
  netlink_add(&request, "dump", type, NLM_F_DUMP, fixed, length);
  number(&request);
  if (send(fd, request.bytes, request.length, 0) < 0 || receive(fd, take_dumped, &dump) < 0) return -1;
  errno = dump.error;
  return dump.error == 0 ? 0 : -1;
}
