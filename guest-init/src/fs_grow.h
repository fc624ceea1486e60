/* Growing the root file system to its disk. */
#ifndef BERTH_FS_GROW_H
#define BERTH_FS_GROW_H

#include "h2.h"

/* Waits until the disk has the size that is given, if one is, and answers with a step. */
extern const struct operation grow_operation;

#endif
