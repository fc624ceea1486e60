/* A decoded spec keeps its promises to the code that runs it. */
#include "exec_spec.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
  struct exec_spec spec;
  if (exec_spec_decode(&spec, (struct params){bytes, length}) != NULL) return 0;
  size_t total = 0;
  for (char **arg = spec.argv; *arg; arg++) total += strlen(*arg) + 1;
  for (char **env = spec.env; *env; env++) {
    if (!strchr(*env, '=')) abort();
    total += strlen(*env) + 1;
  }
  if (total > length || !spec.argv[0] || spec.argv[0][0] == '\0' || spec.cwd[0] != '/') abort();
  if (spec.uid == (uid_t)-1 || spec.gid == (gid_t)-1) abort();
  exec_spec_free(&spec);
  return 0;
}
