#define _GNU_SOURCE
#include "configure.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "channel.h"
#include "drivers.h"
#include "exec.h"
#include "fs_ops.h"
#include "hello.h"
#include "identity.h"
#include "loop.h"
#include "machine_files.h"
#include "report.h"
#include "ssh_keys.h"

#define NS_PER_S 1000000000

/* A request that may have to wait for the network's driver. */
struct configuration {
  struct driver_wait wait;
  struct stream *stream;
  struct identity identity;
};

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

static void set_clock(const struct identity *identity, struct report *report) {
  int64_t wanted = (int64_t)identity->unix_time_ns, skew = now_ns() - wanted;
  const struct timespec now = {.tv_sec = wanted / NS_PER_S, .tv_nsec = wanted % NS_PER_S};
  if (clock_settime(CLOCK_REALTIME, &now) < 0) {
    report_failure(report, "clock", strerror(errno));
    return;
  }
  report_step(report, "clock", STEP_DONE, "%s", "");
  report_add_number(report, PARAM_CLOCK_SKEW_NS, (uint64_t)skew);
}

static int credit_entropy(const struct identity *identity) {
  static int fd = -1; /* copies of the machine have it open */
  struct {
    struct rand_pool_info info;
    uint8_t bytes[IDENTITY_ENTROPY_MAX];
  } pool = {.info = {.entropy_count = (int)identity->entropy_length * 8, .buf_size = (int)identity->entropy_length}};
  memcpy(pool.info.buf, identity->entropy, identity->entropy_length);
  if (fd < 0) fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);
  if (fd < 0 || ioctl(fd, RNDADDENTROPY, &pool) < 0) return -1;
  /*
   * Numbers handed out from now on depend on what was added, those that the kernel keeps ready for each processor too. A
   * generator that is not seeded yet has handed out none and says ENODATA.
   */
  return ioctl(fd, RNDRESEEDCRNG) < 0 && errno != ENODATA ? -1 : 0;
}

static void add_entropy(const struct identity *identity, struct report *report) {
  if (credit_entropy(identity) < 0)
    report_failure(report, "entropy", strerror(errno));
  else
    report_step(report, "entropy", STEP_DONE, "%u bytes", identity->entropy_length);
}

static void set_network(const struct identity *identity, struct report *report) {
  if (identity->keep_network) {
    report_step(report, "network", STEP_SKIPPED, "%s", "set before");
    return;
  }
  const char *problem = net_loopback();
  bool wanted = identity->has_network, unwanted = identity->renew && !wanted && net_is_set_up();
  if (!problem && wanted) problem = net_apply(&identity->network, !exec_happened());
  for (int i = 0; !problem && i < identity->further_count; i++) problem = net_apply_further(&identity->further[i]);
  if (!problem && unwanted) problem = net_remove(!exec_happened());
  if (problem) {
    char detail[160];
    snprintf(detail, sizeof detail, "%s: %s", problem, strerror(errno));
    report_failure(report, "network", detail);
  } else {
    report_step(report, "network", wanted || unwanted ? STEP_DONE : STEP_SKIPPED, "%s", unwanted ? "taken down" : "");
  }
}

/* The streams of the machine this one is a copy of, or of a host that went away. */
static void report_sessions(struct report *report) {
  unsigned cut = channel_cut_streams();
  report_step(report, "sessions", cut > 0 ? STEP_DONE : STEP_SKIPPED, "%u requests ended", cut);
}

static void become(const struct identity *identity, struct report *report) {
  report_start(report);
  /* The clock first: its value ages. Before random numbers are drawn for anything, their generator is no copy any more. */
  if (identity->unix_time_ns > 0) set_clock(identity, report);
  if (identity->entropy_length > 0) add_entropy(identity, report);
  report_sessions(report);
  /* Else the files below would wait for ever. */
  if (fs_thaw_now()) report_step(report, "thaw", STEP_DONE, "%s", "");
  if (identity->has_network || identity->renew) set_network(identity, report);
  if (identity->hostname[0]) files_hostname(identity, report);
  if (identity->has_network) files_nameservers(identity, report);
  if (identity->hostname[0]) files_machine_id(identity, report);
  if (identity->renew) {
    ssh_keys_renew(identity, report);
    files_random_seeds(report);
  }
}

static void answer(struct stream *stream, const struct identity *identity) {
  static struct report report;
  become(identity, &report);
  if (report.failure[0]) {
    h2_answer(stream, 500, report.failure, strlen(report.failure));
    return;
  }
  hello_add(&report);
  report_add_number(&report, PARAM_UNIX_TIME_NS, (uint64_t)now_ns());
  h2_answer(stream, 200, (const char *)report.bytes, report.length);
}

static void forget(struct stream *stream) {
  struct configuration *configuration = stream->state;
  if (!configuration) return;
  drivers_forget(&configuration->wait);
  explicit_bzero(configuration, sizeof *configuration);
  free(configuration);
  stream->state = NULL;
}

static void on_drivers(struct driver_wait *wait) {
  struct configuration *configuration = container_of(wait, struct configuration, wait);
  answer(configuration->stream, &configuration->identity);
}

static void start(struct stream *stream, struct params params) {
  char problem[64];
  struct configuration *configuration = calloc(1, sizeof *configuration);
  if (!configuration) {
    h2_answer(stream, 503, "out of memory", 13);
    return;
  }
  stream->state = configuration;
  configuration->stream = stream;
  int malformed = identity_decode(&configuration->identity, params);
  if (malformed == 0 && configuration->identity.has_network) {
    drivers_await(&configuration->wait, DRIVERS_NETWORK, on_drivers);
  } else if (malformed == 0) {
    answer(stream, &configuration->identity);
  } else {
    int length = malformed < 0 ? snprintf(problem, sizeof problem, "parameters are malformed")
                               : snprintf(problem, sizeof problem, "parameter %d is malformed", malformed);
    h2_answer(stream, 400, problem, (size_t)length);
  }
}

const struct operation configure_operation = {.path = "/configure", .max_params = 8192, .start = start, .close = forget};
