#define _GNU_SOURCE
#include "ssh_keys.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "put_file.h"

#define KEY_PREFIX "/etc/ssh/ssh_host_"
#define NEW_KEY KEY_PREFIX "ed25519_key"
#define SERVER "/usr/sbin/sshd"
#define PID_FILE "/run/sshd.pid"

static bool exists(const char *path) { return faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0; }

/* Removes a key of another type with its public half; true when there was one, and -1 in *failed when it stays. */
static bool remove_key(const char *type, bool *failed) {
  char path[64];
  snprintf(path, sizeof path, KEY_PREFIX "%s_key", type);
  if (!exists(path)) return false;
  if (unlink(path) < 0) *failed = true;
  snprintf(path, sizeof path, KEY_PREFIX "%s_key.pub", type);
  unlink(path); /* public: it does no harm where it cannot be removed */
  return true;
}

static ssize_t read_text(const char *path, char *text, size_t size) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return -1;
  ssize_t length = read(fd, text, size - 1);
  close(fd);
  text[length > 0 ? length : 0] = '\0';
  return length;
}

/* A server reads its keys again when it is hung up. Its file may be stale: only a process of that name is told. */
static bool tell_server(void) {
  char text[32], path[64];
  if (read_text(PID_FILE, text, sizeof text) <= 0) return false;
  long pid = strtol(text, NULL, 10);
  if (pid <= 1) return false;
  snprintf(path, sizeof path, "/proc/%ld/comm", pid);
  if (read_text(path, text, sizeof text) <= 0 || strcmp(text, "sshd\n") != 0) return false;
  return kill((pid_t)pid, SIGHUP) == 0;
}

void ssh_keys_renew(const struct identity *identity, struct report *report) {
  static const char *const others[] = {"rsa", "ecdsa", "dsa"};
  bool found = exists(NEW_KEY), failed = false;
  for (size_t i = 0; i < sizeof others / sizeof *others; i++)
    if (remove_key(others[i], &failed)) found = true;
  if (!found && !exists(SERVER)) {
    report_step(report, "ssh-host-keys", STEP_SKIPPED, "no SSH server");
    return;
  }
  if (!identity->ssh_key[0]) errno = ENOKEY;
  if (failed || !identity->ssh_key[0] || put_file(NEW_KEY, identity->ssh_key, 0600) < 0 ||
      put_file(NEW_KEY ".pub", identity->ssh_public_key, 0644) < 0)
    report_failure(report, "ssh-host-keys", strerror(errno));
  else
    report_step(report, "ssh-host-keys", STEP_DONE, tell_server() ? "server told" : "%s", "");
}
