/* Flushing, freezing and thawing file systems. */
#ifndef BERTH_FS_OPS_H
#define BERTH_FS_OPS_H

#include "h2.h"

extern const struct operation sync_operation;
extern const struct operation freeze_operation;
extern const struct operation thaw_operation;

/* A session is over: the root file system is thawed, if it is frozen, at fs_thaw_now or fs_thaw_if_due. */
void fs_thaw_soon(void);
/* In a child process. */
void fs_thaw_if_due(void);
/* Here and now. Returns whether it was frozen. */
bool fs_thaw_now(void);

#endif
