#define _GNU_SOURCE
#include "machine_files.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "put_file.h"

#define MACHINE_ID_LENGTH 32

void files_hostname(const struct identity *identity, struct report *report) {
  char line[sizeof identity->hostname + 1];
  if (sethostname(identity->hostname, strlen(identity->hostname)) < 0) {
    report_failure(report, "hostname", strerror(errno));
    return;
  }
  snprintf(line, sizeof line, "%s\n", identity->hostname);
  if (put_file("/etc/hostname", line, 0644) < 0)
    report_step(report, "hostname", STEP_FAILED, "/etc/hostname: %s", strerror(errno));
  else
    report_step(report, "hostname", STEP_DONE, "%s", identity->hostname);
}

void files_nameservers(const struct identity *identity, struct report *report) {
  /* What was written last: for most copies it is the same, and a file that is right is left alone. */
  static char written[IDENTITY_NAMESERVERS_MAX * 80];
  char text[sizeof written] = "";
  size_t length = 0;
  for (int i = 0; i < identity->nameserver_count; i++)
    length += (size_t)snprintf(text + length, sizeof text - length, "nameserver %s\n", identity->nameservers[i]);
  if (length == 0 || strcmp(text, written) == 0) {
    report_step(report, "nameservers", STEP_SKIPPED, length == 0 ? "none given" : "unchanged");
  } else if (put_file("/etc/resolv.conf", text, 0644) < 0) {
    report_step(report, "nameservers", STEP_FAILED, "/etc/resolv.conf: %s", strerror(errno));
  } else {
    strcpy(written, text);
    report_step(report, "nameservers", STEP_DONE, "%d", identity->nameserver_count);
  }
}

static bool is_file(const char *path, off_t at_least) {
  struct stat info;
  return lstat(path, &info) == 0 && S_ISREG(info.st_mode) && info.st_size >= at_least;
}

/* D-Bus has a copy of its own where it is no link to the machine id. */
static int write_machine_id(const char *text) {
  if (put_file("/etc/machine-id", text, 0444) < 0) return -1;
  return is_file("/var/lib/dbus/machine-id", 0) ? put_file("/var/lib/dbus/machine-id", text, 0444) : 0;
}

void files_machine_id(const struct identity *identity, struct report *report) {
  uint8_t id[MACHINE_ID_LENGTH / 2];
  char text[MACHINE_ID_LENGTH + 2];
  struct stat info;
  if (!identity->renew && stat("/etc/machine-id", &info) == 0 && info.st_size >= MACHINE_ID_LENGTH) {
    report_step(report, "machine-id", STEP_SKIPPED, "kept");
    return;
  }
  bool made = getrandom(id, sizeof id, 0) == sizeof id;
  if (made) {
    /* A random UUID, as the field's other makers of machine ids have it. */
    id[6] = (uint8_t)((id[6] & 0x0f) | 0x40);
    id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
    for (size_t i = 0; i < sizeof id; i++) snprintf(text + 2 * i, 3, "%02x", id[i]);
    strcpy(text + MACHINE_ID_LENGTH, "\n");
  }
  if (made && write_machine_id(text) == 0)
    report_step(report, "machine-id", STEP_DONE, "%.*s", MACHINE_ID_LENGTH, text);
  else if (identity->renew)
    report_failure(report, "machine-id", strerror(errno));
  else
    report_step(report, "machine-id", STEP_FAILED, "%s", strerror(errno));
}

void files_random_seeds(struct report *report) {
  static const char *const seeds[] = {"/var/lib/systemd/random-seed", "/var/lib/urandom/random-seed"};
  int removed = 0;
  const char *problem = NULL;
  for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++) {
    if (unlink(seeds[i]) == 0)
      removed++;
    else if (errno != ENOENT && errno != ENOTDIR)
      problem = strerror(errno);
  }
  if (problem)
    report_step(report, "random-seeds", STEP_FAILED, "%s", problem);
  else
    report_step(report, "random-seeds", removed > 0 ? STEP_DONE : STEP_SKIPPED, "%s", "");
}
