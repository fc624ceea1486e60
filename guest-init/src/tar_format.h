/* The tar format: ustar with pax and GNU extensions. No file system here. */
#ifndef BERTH_TAR_FORMAT_H
#define BERTH_TAR_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define TAR_BLOCK 512
#define TAR_PATH_MAX 4096

enum tar_type { TAR_FILE, TAR_DIRECTORY, TAR_SYMLINK };

struct tar_entry {
  enum tar_type type;
  char path[TAR_PATH_MAX];
  char target[TAR_PATH_MAX]; /* of a symlink */
  uint64_t size;
  unsigned mode;
  uint32_t uid;
  uint32_t gid;
  int64_t mtime;
};

/* Fills `bytes`; false at the end of the stream, also in the middle. */
typedef bool tar_read(void *context, uint8_t *bytes, size_t length);

struct tar_reader {
  tar_read *read;
  void *context;
};

enum tar_result { TAR_ENTRY, TAR_END, TAR_BAD };

/*
 * Reads up to the content of the next entry. `*problem` says what is wrong with TAR_BAD: damage, or an entry that is
 * neither file nor directory. The caller reads `size` bytes of content and the padding to a whole block.
 */
enum tar_result tar_next(struct tar_reader *reader, struct tar_entry *entry, const char **problem);

/* Bytes between the end of the content and the next block. */
size_t tar_padding(uint64_t size);

/* Longest header: a pax header with its records, then the entry's own. */
#define TAR_HEADER_MAX (TAR_BLOCK * 2 + 4 * TAR_PATH_MAX)

/* Writes an entry's header blocks; returns their length. */
size_t tar_header(uint8_t *bytes, const struct tar_entry *entry);

#endif
