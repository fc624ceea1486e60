/* Flushing, freezing and growing file systems. */
#ifndef BERTH_FS_OPS_H
#define BERTH_FS_OPS_H

#include "h2.h"

extern const struct operation sync_operation;
extern const struct operation freeze_operation;
extern const struct operation thaw_operation;

/* Thaws the root file system if it is frozen, in a child process: for a session's end. */
void fs_thaw_later(void);
/* The same here and now: for the machine's end. */
void fs_thaw_now(void);

/* Grows the root file system to the size of its device. 0, or -1 with errno. */
int fs_grow_root(void);

#endif
