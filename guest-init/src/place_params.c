#include "place_params.h"

#include <fcntl.h>

#include "exec_child.h"
#include "task.h"

#define MAX_ID 0xfffffffeu

void place_from(struct params params, struct place *place, struct limits *limits) {
  struct param param;
  bool malformed = false, ok = true;
  uint64_t uid = UINT64_MAX, gid = UINT64_MAX;
  place->root[0] = place->path[0] = '\0';
  while (ok && params_next(&params, &param, &malformed)) {
    switch (param.tag) {
      case PARAM_ROOT: ok = param_text(&param, place->root, sizeof place->root); break;
      case PARAM_PATH: ok = param_text(&param, place->path, sizeof place->path); break;
      case PARAM_UID: ok = param_number(&param, MAX_ID, &uid); break;
      case PARAM_GID: ok = param_number(&param, MAX_ID, &gid); break;
      case PARAM_MAX_ENTRIES: ok = limits && param_number(&param, UINT64_MAX, &limits->entries); break;
      case PARAM_MAX_BYTES: ok = limits && param_number(&param, UINT64_MAX, &limits->bytes); break;
      default: ok = false;
    }
  }
  if (!ok || malformed || uid > MAX_ID || gid > MAX_ID) task_fail(400, "parameters are malformed");
  place->uid = (uid_t)uid;
  place->gid = (gid_t)gid;
  if (!place_resolve(place)) task_fail(400, "path is outside the root");
}

int place_enter(const struct place *place) {
  if (drop_to(place->uid, place->gid) < 0) task_fail_errno("cannot become the user");
  int root = open(place->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) task_fail_errno("cannot open the root");
  return root;
}
