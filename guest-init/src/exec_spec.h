/* What an exec request asks for, decoded and checked. */
#ifndef BERTH_EXEC_SPEC_H
#define BERTH_EXEC_SPEC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/types.h>

#include "params.h"

#define MAX_ARGS 1024
#define MAX_ENV 4096
#define MAX_EXEC_PARAMS (2 * 1024 * 1024 + 65536)

struct exec_spec {
  char **argv;
  char **env;
  const char *cwd;
  uid_t uid;
  gid_t gid;
  uint64_t timeout_ms; /* 0: none */
  bool wants_stdin;
  bool wants_pty;
  struct winsize size;
  char *storage;
};

/* NULL, or why the request is refused. A decoded spec is to be freed. */
const char *exec_spec_decode(struct exec_spec *spec, struct params params);
void exec_spec_free(struct exec_spec *spec);

#endif
