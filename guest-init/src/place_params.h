/* The parameters that file operations share. */
#ifndef BERTH_PLACE_PARAMS_H
#define BERTH_PLACE_PARAMS_H

#include "beneath.h"
#include "params.h"

struct limits {
  uint64_t entries;
  uint64_t bytes;
};

/* For a task: takes ROOT, PATH, UID, GID and, when `limits` is given, MAX_ENTRIES and MAX_BYTES; fails the task on others. */
void place_from(struct params params, struct place *place, struct limits *limits);

/* Becomes the acting user and opens the root; fails the task if that is impossible. */
int place_enter(const struct place *place);

#endif
