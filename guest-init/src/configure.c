#define _GNU_SOURCE
#include "configure.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fs_ops.h"
#include "log.h"
#include "net_config.h"
#include "task.h"

#define MAX_ENTROPY 512
#define MAX_NAMESERVERS 8

struct configuration {
  char hostname[65];
  uint64_t unix_time_ns;
  uint8_t entropy[MAX_ENTROPY];
  uint32_t entropy_length;
  bool has_network;
  struct net_config network;
  char nameservers[MAX_NAMESERVERS][64];
  int nameserver_count;
};

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
static bool take_nameserver(const struct param *param, struct configuration *configuration) {
  struct net_address address;
  if (configuration->nameserver_count == MAX_NAMESERVERS) return false;
  char *text = configuration->nameservers[configuration->nameserver_count++];
  return param_text(param, text, 64) && (net_parse(text, AF_INET, false, &address) || net_parse(text, AF_INET6, false, &address));
}

static bool take(const struct param *param, struct configuration *configuration) {
  struct net_config *network = &configuration->network;
  switch (param->tag) {
    case PARAM_HOSTNAME: return take_hostname(param, configuration->hostname, sizeof configuration->hostname);
    case PARAM_UNIX_TIME_NS: return param_number(param, INT64_MAX, &configuration->unix_time_ns);
    case PARAM_ENTROPY:
      if (param->length == 0 || param->length > MAX_ENTROPY) return false;
      memcpy(configuration->entropy, param->value, param->length);
      configuration->entropy_length = param->length;
      return true;
    case PARAM_MAC:
      if (param->length != 6) return false;
      memcpy(network->mac, param->value, 6);
      configuration->has_network = true;
      return true;
    case PARAM_IPV4: return take_address(param, AF_INET, true, &network->addresses[0]);
    case PARAM_GATEWAY4: return take_address(param, AF_INET, false, &network->gateways[0]);
    case PARAM_IPV6: return take_address(param, AF_INET6, true, &network->addresses[1]);
    case PARAM_GATEWAY6: return take_address(param, AF_INET6, false, &network->gateways[1]);
    case PARAM_NAMESERVER: return take_nameserver(param, configuration);
    default: return false;
  }
}

static void set_clock(uint64_t unix_time_ns) {
  const struct timespec now = {.tv_sec = (time_t)(unix_time_ns / 1000000000u), .tv_nsec = (long)(unix_time_ns % 1000000000u)};
  if (clock_settime(CLOCK_REALTIME, &now) < 0) task_fail_errno("cannot set the clock");
}

static void add_entropy(const struct configuration *configuration) {
  struct {
    struct rand_pool_info info;
    uint8_t bytes[MAX_ENTROPY];
  } pool = {.info = {.entropy_count = (int)configuration->entropy_length * 8, .buf_size = (int)configuration->entropy_length}};
  memcpy(pool.info.buf, configuration->entropy, configuration->entropy_length);
  int fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);
  if (fd < 0 || ioctl(fd, RNDADDENTROPY, &pool) < 0) task_fail_errno("cannot add entropy");
  /* Numbers handed out from now on depend on what was added; a kernel whose generator is not ready yet says EBUSY or the like. */
  if (ioctl(fd, RNDRESEEDCRNG) < 0 && errno != ENODATA) task_fail_errno("cannot reseed");
  close(fd);
}

/* Replaces a file, or a symlink to one, with new content. */
static void replace_file(const char *path, const char *text, mode_t mode) {
  char temporary[256];
  snprintf(temporary, sizeof temporary, "%s.berth", path);
  unlink(temporary);
  int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  size_t length = strlen(text);
  bool written = fd >= 0 && write(fd, text, length) == (ssize_t)length;
  if (fd >= 0) close(fd);
  if (!written || rename(temporary, path) < 0) log_line("cannot write %s: %s", path, strerror(errno));
}

static void set_hostname(const char *hostname) {
  char line[80];
  if (sethostname(hostname, strlen(hostname)) < 0) task_fail_errno("cannot set the host name");
  snprintf(line, sizeof line, "%s\n", hostname);
  replace_file("/etc/hostname", line, 0644);
}

static void write_nameservers(const struct configuration *configuration) {
  char text[MAX_NAMESERVERS * 80] = "";
  size_t length = 0;
  for (int i = 0; i < configuration->nameserver_count; i++)
    length += (size_t)snprintf(text + length, sizeof text - length, "nameserver %s\n", configuration->nameservers[i]);
  if (length > 0) replace_file("/etc/resolv.conf", text, 0644);
}

static void ensure_machine_id(void) {
  char text[34];
  struct stat info;
  if (stat("/etc/machine-id", &info) == 0 && info.st_size >= 32) return;
  uint8_t id[16];
  if (getrandom(id, sizeof id, 0) != sizeof id) task_fail_errno("cannot make a machine id");
  for (int i = 0; i < 16; i++) snprintf(text + 2 * i, 3, "%02x", id[i]);
  strcpy(text + 32, "\n");
  replace_file("/etc/machine-id", text, 0444);
}

static void run(struct params params) {
  static struct configuration configuration;
  struct param param;
  bool malformed = false;
  while (params_next(&params, &param, &malformed))
    if (!take(&param, &configuration)) task_fail(400, "parameter %d is malformed", param.tag);
  if (malformed) task_fail(400, "parameters are malformed");
  umask(022);
  if (configuration.unix_time_ns > 0) set_clock(configuration.unix_time_ns);
  if (configuration.entropy_length > 0) add_entropy(&configuration);
  if (configuration.hostname[0]) set_hostname(configuration.hostname);
  const char *problem = net_loopback();
  if (!problem && configuration.has_network) problem = net_apply(&configuration.network);
  if (problem) task_fail(500, "network: %s: %s", problem, strerror(errno));
  write_nameservers(&configuration);
  ensure_machine_id();
  /* A file system that cannot grow still serves at the size it has. */
  if (fs_grow_root() < 0) log_line("cannot grow the root file system: %s", strerror(errno));
  task_succeed();
}

static void start(struct stream *stream, struct params params) { task_start(stream, params, run, 0); }

const struct operation configure_operation = {.path = "/configure", .max_params = 8192, .start = start, .close = task_close};
