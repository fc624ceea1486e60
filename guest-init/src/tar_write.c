#include <stdio.h>
#include <string.h>

#include "tar_format.h"

#define MAX_OCTAL_SIZE 077777777777ull
#define MAX_OCTAL_ID 07777777u

static void octal(uint8_t *field, size_t length, uint64_t value) {
  for (size_t i = length - 1; i-- > 0; value >>= 3) field[i] = (uint8_t)('0' + (value & 7));
  field[length - 1] = '\0';
}

static void ustar(uint8_t *block, char type, const char *path, const char *target, const struct tar_entry *entry, uint64_t size) {
  memset(block, 0, TAR_BLOCK);
  memcpy(block, path, strnlen(path, 100));
  octal(block + 100, 8, entry->mode & 07777);
  octal(block + 108, 8, entry->uid > MAX_OCTAL_ID ? 0 : entry->uid);
  octal(block + 116, 8, entry->gid > MAX_OCTAL_ID ? 0 : entry->gid);
  octal(block + 124, 12, size > MAX_OCTAL_SIZE ? 0 : size);
  octal(block + 136, 12, entry->mtime < 0 || (uint64_t)entry->mtime > MAX_OCTAL_SIZE ? 0 : (uint64_t)entry->mtime);
  block[156] = (uint8_t)type;
  memcpy(block + 157, target, strnlen(target, 100));
  memcpy(block + 257, "ustar\00000", 8);
  memset(block + 148, ' ', 8);
  unsigned sum = 0;
  for (size_t i = 0; i < TAR_BLOCK; i++) sum += block[i];
  octal(block + 148, 7, sum);
}

/* Appends "<length> <key>=<value>\n", whose length counts its own digits. */
static size_t pax_record(char *text, const char *key, const char *value) {
  size_t rest = strlen(key) + strlen(value) + 3;
  size_t length = rest;
  /* Adding the digits may add a digit: the second round is final. */
  for (int round = 0; round < 2; round++) length = rest + (size_t)snprintf(NULL, 0, "%zu", length);
  return (size_t)sprintf(text, "%zu %s=%s\n", length, key, value);
}

size_t tar_header(uint8_t *bytes, const struct tar_entry *entry) {
  char *records = (char *)bytes + TAR_BLOCK;
  size_t length = 0;
  char number[24];
  if (strlen(entry->path) > 100) length += pax_record(records + length, "path", entry->path);
  if (strlen(entry->target) > 100) length += pax_record(records + length, "linkpath", entry->target);
  if (entry->size > MAX_OCTAL_SIZE) {
    snprintf(number, sizeof number, "%llu", (unsigned long long)entry->size);
    length += pax_record(records + length, "size", number);
  }
  size_t at = 0;
  if (length > 0) {
    const struct tar_entry extension = {.mode = 0644};
    ustar(bytes, 'x', "././@PaxHeader", "", &extension, length);
    memset(records + length, 0, tar_padding(length));
    at = TAR_BLOCK + length + tar_padding(length);
  }
  static const char types[] = {[TAR_FILE] = '0', [TAR_DIRECTORY] = '5', [TAR_SYMLINK] = '2'};
  ustar(bytes + at, types[entry->type], entry->path, entry->target, entry, entry->size);
  return at + TAR_BLOCK;
}
