/* The child's side of an exec, between fork and execve. */
#ifndef BERTH_EXEC_CHILD_H
#define BERTH_EXEC_CHILD_H

#include "exec_spec.h"

struct exec_fds {
  int in;      /* -1: /dev/null */
  int out;
  int err;
  int terminal; /* pty slave, -1: none; then in, out and err are not used */
  int failure; /* close-on-exec: the reason goes here when the program cannot be started */
};

_Noreturn void exec_child(const struct exec_spec *spec, const struct exec_fds *fds);

/* Gives up root for good: groups, gid, uid. -1 with errno. */
int drop_to(uid_t uid, gid_t gid);

#endif
