#include <string.h>

#include "tar_format.h"

/* Longest set of pax records taken. */
#define PAX_MAX (64 * 1024)

struct field {
  size_t at;
  size_t length;
};
static const struct field F_NAME = {0, 100}, F_MODE = {100, 8}, F_SIZE = {124, 12}, F_MTIME = {136, 12}, F_SUM = {148, 8},
                          F_MAGIC = {257, 6}, F_PREFIX = {345, 155};
#define AT_TYPE 156

/* What extension headers said about the entry that follows. */
struct overrides {
  bool has_path;
  bool has_size;
  bool has_mtime;
  char path[TAR_PATH_MAX];
  uint64_t size;
  int64_t mtime;
};

size_t tar_padding(uint64_t size) { return (size_t)((TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK); }

/* Octal digits between spaces and NULs, or GNU's base 256 with the top bit set. */
static bool parse_number(const uint8_t *block, struct field field, uint64_t *number) {
  const uint8_t *b = block + field.at;
  uint64_t value = 0;
  if (b[0] & 0x80) {
    if (b[0] != 0x80) return false; /* negative, or more than 64 bits with a first byte in use */
    for (size_t i = 1; i < field.length; i++) {
      if (value >> 56) return false;
      value = value << 8 | b[i];
    }
    *number = value;
    return true;
  }
  size_t i = 0;
  while (i < field.length && b[i] == ' ') i++;
  for (; i < field.length && b[i] >= '0' && b[i] <= '7'; i++) value = value << 3 | (uint64_t)(b[i] - '0');
  if (i < field.length && b[i] != ' ' && b[i] != '\0') return false;
  *number = value;
  return true;
}

static bool checksum_fits(const uint8_t *block) {
  uint64_t claimed, sum = 0;
  if (!parse_number(block, F_SUM, &claimed)) return false;
  for (size_t i = 0; i < TAR_BLOCK; i++) sum += i >= F_SUM.at && i < F_SUM.at + F_SUM.length ? ' ' : block[i];
  return sum == claimed;
}

static bool is_zero(const uint8_t *block) {
  for (size_t i = 0; i < TAR_BLOCK; i++)
    if (block[i]) return false;
  return true;
}

static void header_path(const uint8_t *block, char *path) {
  size_t name = strnlen((const char *)block + F_NAME.at, F_NAME.length);
  size_t prefix = 0;
  if (memcmp(block + F_MAGIC.at, "ustar\0", F_MAGIC.length) == 0)
    prefix = strnlen((const char *)block + F_PREFIX.at, F_PREFIX.length);
  memcpy(path, block + F_PREFIX.at, prefix);
  if (prefix > 0) path[prefix++] = '/';
  memcpy(path + prefix, block + F_NAME.at, name);
  path[prefix + name] = '\0';
}

/* --- pax --- */

static bool is_key(const char *key, size_t length, const char *name) {
  return strlen(name) == length && memcmp(key, name, length) == 0;
}

static bool decimal(const char *text, size_t length, uint64_t *number) {
  uint64_t value = 0;
  if (length == 0 || length > 18) return false;
  for (size_t i = 0; i < length; i++) {
    if (text[i] < '0' || text[i] > '9') return false;
    value = value * 10 + (uint64_t)(text[i] - '0');
  }
  *number = value;
  return true;
}

static const char *take_record(struct overrides *overrides, const char *key, size_t key_length, const char *value,
                               size_t value_length) {
  if (is_key(key, key_length, "path")) {
    if (value_length == 0 || value_length >= TAR_PATH_MAX || memchr(value, 0, value_length)) return "invalid path";
    memcpy(overrides->path, value, value_length);
    overrides->path[value_length] = '\0';
    overrides->has_path = true;
  } else if (is_key(key, key_length, "size")) {
    if (!decimal(value, value_length, &overrides->size)) return "invalid size";
    overrides->has_size = true;
  } else if (is_key(key, key_length, "mtime")) {
    const char *dot = memchr(value, '.', value_length);
    uint64_t seconds;
    if (decimal(value, dot ? (size_t)(dot - value) : value_length, &seconds)) {
      overrides->mtime = (int64_t)seconds;
      overrides->has_mtime = true;
    }
  } else if (key_length >= 11 && memcmp(key, "GNU.sparse.", 11) == 0) {
    return "sparse files are not supported";
  }
  return NULL;
}

/* Records are "<length> <key>=<value>\n", the length counting all of it. */
static const char *parse_pax(struct overrides *overrides, const char *text, size_t length) {
  while (length > 0) {
    const char *space = memchr(text, ' ', length < 20 ? length : 20);
    uint64_t record;
    if (!space || !decimal(text, (size_t)(space - text), &record)) return "invalid extended header";
    size_t head = (size_t)(space - text) + 1;
    if (record > length || record < head + 2 || text[record - 1] != '\n') return "invalid extended header";
    const char *equals = memchr(text + head, '=', record - head - 1);
    if (!equals) return "invalid extended header";
    size_t key_length = (size_t)(equals - text) - head;
    const char *problem = take_record(overrides, text + head, key_length, equals + 1, record - head - key_length - 2);
    if (problem) return problem;
    text += record;
    length -= record;
  }
  return NULL;
}

/* --- entries --- */

static const char *read_extension(struct tar_reader *reader, uint8_t type, uint64_t size, struct overrides *overrides) {
  static uint8_t content[PAX_MAX + TAR_BLOCK];
  if (size > PAX_MAX) return "extended header is too long";
  if (!reader->read(reader->context, content, (size_t)size + tar_padding(size))) return "archive is cut off";
  if (type == 'x') return parse_pax(overrides, (const char *)content, (size_t)size);
  if (type != 'L') return NULL; /* global records and long link targets say nothing about files and directories */
  size_t length = strnlen((const char *)content, (size_t)size);
  if (length == 0 || length >= TAR_PATH_MAX) return "invalid path";
  memcpy(overrides->path, content, length);
  overrides->path[length] = '\0';
  overrides->has_path = true;
  return NULL;
}

static bool is_extension(uint8_t type) { return type == 'x' || type == 'g' || type == 'L' || type == 'K'; }

static const char *fill_entry(const uint8_t *block, uint64_t size, const struct overrides *overrides, struct tar_entry *entry) {
  uint64_t mode, mtime;
  uint8_t type = block[AT_TYPE];
  if (!parse_number(block, F_MODE, &mode)) return "invalid mode";
  if (!parse_number(block, F_MTIME, &mtime) || mtime > INT64_MAX) mtime = 0;
  memset(entry, 0, offsetof(struct tar_entry, path));
  entry->target[0] = '\0';
  entry->uid = entry->gid = 0;
  entry->mode = (unsigned)(mode & 07777);
  entry->mtime = overrides->has_mtime ? overrides->mtime : (int64_t)mtime;
  entry->size = overrides->has_size ? overrides->size : size;
  if (overrides->has_path)
    strcpy(entry->path, overrides->path);
  else
    header_path(block, entry->path);
  size_t length = strlen(entry->path);
  bool trailing_slash = length > 0 && entry->path[length - 1] == '/';
  /* Before ustar a directory was a file whose name ends in a slash. */
  if (type == '5' || ((type == '\0' || type == '0') && trailing_slash))
    entry->type = TAR_DIRECTORY;
  else if (type == '0' || type == '\0' || type == '7')
    entry->type = TAR_FILE;
  else
    return "an entry is neither a file nor a directory";
  if (entry->type == TAR_DIRECTORY && entry->size != 0) return "a directory has content";
  if (entry->path[0] == '\0') return "an entry has no name";
  return NULL;
}

enum tar_result tar_next(struct tar_reader *reader, struct tar_entry *entry, const char **problem) {
  static struct overrides overrides;
  uint8_t block[TAR_BLOCK];
  overrides.has_path = overrides.has_size = overrides.has_mtime = false;
  *problem = NULL;
  for (;;) {
    if (!reader->read(reader->context, block, TAR_BLOCK)) {
      *problem = "archive is cut off";
      return TAR_BAD;
    }
    if (is_zero(block)) return TAR_END;
    uint64_t size;
    if (!checksum_fits(block) || !parse_number(block, F_SIZE, &size) || size > INT64_MAX) {
      *problem = "not a tar archive";
      return TAR_BAD;
    }
    if (is_extension(block[AT_TYPE]))
      *problem = read_extension(reader, block[AT_TYPE], size, &overrides);
    else
      *problem = fill_entry(block, size, &overrides, entry);
    if (*problem) return TAR_BAD;
    if (!is_extension(block[AT_TYPE])) return TAR_ENTRY;
  }
}
