/* Giving a small file new content. */
#ifndef BERTH_PUT_FILE_H
#define BERTH_PUT_FILE_H

#include <sys/types.h>

/*
 * A file that is no symlink and has no second name is overwritten in place: replacing it would have the file system write
 * to the disk before the call returns. Anything else is replaced. A new file gets `mode`. 0, or -1 with errno.
 */
int put_file(const char *path, const char *text, mode_t mode);

#endif
