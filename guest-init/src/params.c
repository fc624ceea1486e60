#include "params.h"

#include <string.h>

bool params_next(struct params *rest, struct param *param, bool *malformed) {
  if (rest->length == 0) return false;
  if (rest->length < 5) {
    *malformed = true;
    return false;
  }
  const uint8_t *b = rest->bytes;
  uint32_t length = (uint32_t)b[1] << 24 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 8 | b[4];
  if (length > rest->length - 5) {
    *malformed = true;
    return false;
  }
  *param = (struct param){.tag = b[0], .length = length, .value = b + 5};
  rest->bytes += 5 + (size_t)length;
  rest->length -= 5 + (size_t)length;
  return true;
}

bool param_number(const struct param *param, uint64_t max, uint64_t *number) {
  if (param->length < 1 || param->length > 8) return false;
  uint64_t value = 0;
  for (uint32_t i = 0; i < param->length; i++) value = value << 8 | param->value[i];
  if (value > max) return false;
  *number = value;
  return true;
}

bool param_text(const struct param *param, char *text, size_t size) {
  if (param->length == 0 || param->length >= size || memchr(param->value, 0, param->length)) return false;
  memcpy(text, param->value, param->length);
  text[param->length] = '\0';
  return true;
}
