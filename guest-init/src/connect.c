#define _GNU_SOURCE
#include "connect.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "task.h"

/* A listener that accepts nobody is given up on. */
#define CONNECT_SECONDS 10

static int try_address(const struct sockaddr *address, socklen_t length) {
  int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  const struct timeval limit = {.tv_sec = CONNECT_SECONDS};
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit); /* bounds connect too */
  if (connect(fd, address, length) == 0) return fd;
  int reason = errno;
  close(fd);
  errno = reason;
  return -1;
}

static int connect_port(uint16_t port) {
  const struct sockaddr_in v4 = {
      .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int fd = try_address((const struct sockaddr *)&v4, sizeof v4);
  if (fd >= 0 || errno != ECONNREFUSED) return fd;
  const struct sockaddr_in6 v6 = {
      .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
  return try_address((const struct sockaddr *)&v6, sizeof v6);
}

static void run(struct params params) {
  struct param param, more;
  bool malformed = false;
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  uint64_t port;
  int fd = -1;
  if (!params_next(&params, &param, &malformed) || params_next(&params, &more, &malformed) || malformed)
    task_fail(400, "one target must be named");
  if (param.tag == PARAM_PATH && param_text(&param, address.sun_path, sizeof address.sun_path) && address.sun_path[0] == '/')
    fd = try_address((const struct sockaddr *)&address, sizeof address);
  else if (param.tag == PARAM_PORT && param_number(&param, 65535, &port) && port > 0)
    fd = connect_port((uint16_t)port);
  else
    task_fail(400, "the target is malformed");
  if (fd < 0) task_fail_errno("cannot connect");
  task_succeed_with(fd);
}

static void start(struct stream *stream, struct params params) { task_start(stream, params, run, TASK_SOCKET); }

const struct operation connect_operation = {.path = "/connect",
                                            .max_params = 256,
                                            .start = start,
                                            .input = task_input,
                                            .input_end = task_input_end,
                                            .output = task_output,
                                            .close = task_close};
