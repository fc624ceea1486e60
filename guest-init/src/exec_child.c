#define _GNU_SOURCE
#include "exec_child.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where a program named without a slash is looked for, whatever PATH the caller gives the process. */
static const char *const search_path[] = {"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"};

static _Noreturn void fail(int failure, const char *what) {
  char text[256];
  int length = snprintf(text, sizeof text, "%s: %s", what, strerror(errno));
  if (length > 0 && write(failure, text, (size_t)length < sizeof text ? (size_t)length : sizeof text - 1) < 0) _exit(126);
  _exit(127);
}

int drop_to(uid_t uid, gid_t gid) {
  if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0) return -1;
  return setresuid(uid, uid, uid);
}

static void reset_signals(void) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  signal(SIGPIPE, SIG_DFL);
}

/* Init is exempt from the out-of-memory killer; what it starts must not be. */
static void reset_oom_score(void) {
  int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  /* Without it the process merely keeps init's exemption. */
  if (write(fd, "0", 1) < 0) {
  }
  close(fd);
}

static int set_up_streams(const struct exec_spec *spec, const struct exec_fds *fds) {
  if (fds->terminal >= 0) {
    /* Programs open their terminal again by name. */
    if (fchown(fds->terminal, spec->uid, (gid_t)-1) < 0) return -1;
    if (ioctl(fds->terminal, TIOCSCTTY, 0) < 0) return -1;
    return dup2(fds->terminal, 0) < 0 || dup2(fds->terminal, 1) < 0 || dup2(fds->terminal, 2) < 0 ? -1 : 0;
  }
  int in = fds->in >= 0 ? fds->in : open("/dev/null", O_RDONLY | O_CLOEXEC);
  return in < 0 || dup2(in, 0) < 0 || dup2(fds->out, 1) < 0 || dup2(fds->err, 2) < 0 ? -1 : 0;
}

static void run(const struct exec_spec *spec) {
  const char *name = spec->argv[0];
  if (strchr(name, '/')) {
    execve(name, spec->argv, spec->env);
    return;
  }
  int reason = ENOENT;
  for (size_t i = 0; i < sizeof search_path / sizeof *search_path; i++) {
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", search_path[i], name) >= (int)sizeof path) continue;
    execve(path, spec->argv, spec->env);
    /* A file that may not be run says more than one that is absent. */
    if (errno != ENOENT && errno != ENOTDIR) reason = errno;
  }
  errno = reason;
}

_Noreturn void exec_child(const struct exec_spec *spec, const struct exec_fds *fds) {
  setsid();
  reset_signals();
  reset_oom_score();
  umask(022);
  if (set_up_streams(spec, fds) < 0) fail(fds->failure, "cannot set up the streams");
  if (drop_to(spec->uid, spec->gid) < 0) fail(fds->failure, "cannot become the user");
  if (chdir(spec->cwd) < 0) fail(fds->failure, "cannot enter the working directory");
  run(spec);
  fail(fds->failure, "cannot run the program");
}
