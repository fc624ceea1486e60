/* Reading an archive keeps its bounds; an entry that was read is written and read again as the same entry. */
#include "tar_format.h"

#include <stdlib.h>
#include <string.h>

#include "beneath.h"

struct input {
  const uint8_t *bytes;
  size_t left;
};

static bool read_input(void *context, uint8_t *bytes, size_t length) {
  struct input *input = context;
  if (length > input->left) return false;
  memcpy(bytes, input->bytes, length);
  input->bytes += length;
  input->left -= length;
  return true;
}

static void check_name(const char *name) {
  char clean[TAR_PATH_MAX];
  if (!safe_relative(name, clean, sizeof clean)) return;
  if (clean[0] == '/' || strcmp(clean, "..") == 0 || strncmp(clean, "../", 3) == 0 || strstr(clean, "/../")) abort();
  size_t length = strlen(clean);
  if (length >= 3 && strcmp(clean + length - 3, "/..") == 0) abort();
}

static void check_round_trip(const struct tar_entry *entry) {
  static uint8_t header[TAR_HEADER_MAX];
  static struct tar_entry again;
  struct input input = {header, tar_header(header, entry)};
  struct tar_reader reader = {.read = read_input, .context = &input};
  const char *problem;
  if (input.left > sizeof header) abort();
  enum tar_result result = tar_next(&reader, &again, &problem);
  size_t length = strlen(entry->path);
  if (entry->type == TAR_FILE && entry->path[length - 1] == '/') return; /* reads as a directory, as it must */
  if (result != TAR_ENTRY || strcmp(entry->path, again.path) != 0 || entry->size != again.size || entry->type != again.type) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
  static struct tar_entry entry;
  struct input input = {bytes, length};
  struct tar_reader reader = {.read = read_input, .context = &input};
  const char *problem;
  while (tar_next(&reader, &entry, &problem) == TAR_ENTRY) {
    if (memchr(entry.path, 0, sizeof entry.path) == NULL || entry.path[0] == '\0') abort();
    check_name(entry.path);
    check_round_trip(&entry);
    uint64_t content = entry.size + tar_padding(entry.size);
    if (content > input.left) break;
    input.bytes += content;
    input.left -= (size_t)content;
  }
  return 0;
}
