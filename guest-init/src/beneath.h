/* Opening paths that may not leave a directory, whatever symlinks lie on the way. */
#ifndef BERTH_BENEATH_H
#define BERTH_BENEATH_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/*
 * What a request says about files: a directory, a path in it and who acts. `path` is absolute and lies lexically under
 * `root`; `relative` is the part below it, "." for the root itself.
 */
struct place {
  char root[4096];
  char path[4096];
  const char *relative;
  uid_t uid;
  gid_t gid;
};

/*
 * A name as archives and requests use it is safe when it is relative and no part of it is "..". Writes it without
 * empty and "." parts; an empty result is the directory itself.
 */
bool safe_relative(const char *name, char *clean, size_t size);

/* Splits `path` under `root`; false when it is not under it. */
bool place_resolve(struct place *place);

/* openat2 with RESOLVE_BENEATH and no magic links. -1 with errno. */
int open_beneath(int directory, const char *path, int flags, mode_t mode);

/* Opens the directory, making what is missing of it. -1 with errno. */
int make_beneath(int directory, const char *path);

#endif
