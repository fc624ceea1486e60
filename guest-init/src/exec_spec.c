#include "exec_spec.h"

#include <stdlib.h>
#include <string.h>

#define MAX_ID 0xfffffffeu /* (uid_t)-1 means "leave as it is" */

struct decoder {
  struct exec_spec *spec;
  char *next; /* free part of the storage */
  size_t args;
  size_t envs;
  bool uid_given;
  bool gid_given;
};

/* Copies a value as a C string into the storage, which is large enough for all values. */
static char *keep(struct decoder *decoder, const struct param *param) {
  if (memchr(param->value, 0, param->length)) return NULL;
  char *text = decoder->next;
  memcpy(text, param->value, param->length);
  text[param->length] = '\0';
  decoder->next += param->length + 1;
  return text;
}

static const char *add_arg(struct decoder *decoder, const struct param *param) {
  if (decoder->args == MAX_ARGS) return "too many arguments";
  char *text = keep(decoder, param);
  if (!text) return "an argument holds a NUL";
  decoder->spec->argv[decoder->args++] = text;
  return NULL;
}

static const char *add_env(struct decoder *decoder, const struct param *param) {
  if (decoder->envs == MAX_ENV) return "too many environment variables";
  char *text = keep(decoder, param);
  if (!text || text[0] == '=' || !strchr(text, '=')) return "an environment variable is malformed";
  decoder->spec->env[decoder->envs++] = text;
  return NULL;
}

static const char *set_pty(struct exec_spec *spec, const struct param *param) {
  if (param->length != 4) return "terminal size is malformed";
  spec->wants_pty = true;
  spec->size.ws_col = (unsigned short)(param->value[0] << 8 | param->value[1]);
  spec->size.ws_row = (unsigned short)(param->value[2] << 8 | param->value[3]);
  return NULL;
}

static const char *take(struct decoder *decoder, const struct param *param) {
  struct exec_spec *spec = decoder->spec;
  uint64_t number;
  switch (param->tag) {
    case PARAM_ARG: return add_arg(decoder, param);
    case PARAM_ENV: return add_env(decoder, param);
    case PARAM_CWD:
      spec->cwd = keep(decoder, param);
      return spec->cwd && spec->cwd[0] == '/' ? NULL : "working directory must be absolute";
    case PARAM_UID:
      if (!param_number(param, MAX_ID, &number)) return "uid is malformed";
      spec->uid = (uid_t)number;
      decoder->uid_given = true;
      return NULL;
    case PARAM_GID:
      if (!param_number(param, MAX_ID, &number)) return "gid is malformed";
      spec->gid = (gid_t)number;
      decoder->gid_given = true;
      return NULL;
    case PARAM_TIMEOUT_MS: return param_number(param, UINT64_MAX, &spec->timeout_ms) ? NULL : "timeout is malformed";
    case PARAM_PTY: return set_pty(spec, param);
    case PARAM_STDIN: spec->wants_stdin = true; return NULL;
    default: return "unknown parameter";
  }
}

void exec_spec_free(struct exec_spec *spec) {
  free(spec->argv);
  free(spec->env);
  free(spec->storage);
  *spec = (struct exec_spec){0};
}

const char *exec_spec_decode(struct exec_spec *spec, struct params params) {
  *spec = (struct exec_spec){0};
  spec->argv = calloc(MAX_ARGS + 1, sizeof *spec->argv);
  spec->env = calloc(MAX_ENV + 1, sizeof *spec->env);
  spec->storage = malloc(params.length + 1); /* each value loses a 5-byte head and gains a NUL */
  struct decoder decoder = {.spec = spec, .next = spec->storage};
  const char *problem = spec->argv && spec->env && spec->storage ? NULL : "out of memory";
  struct param param;
  bool malformed = false;
  while (!problem && params_next(&params, &param, &malformed)) problem = take(&decoder, &param);
  if (!problem && malformed) problem = "parameters are malformed";
  if (!problem && (decoder.args == 0 || spec->argv[0][0] == '\0')) problem = "no program is named";
  if (!problem && (!spec->cwd || !decoder.uid_given || !decoder.gid_given)) problem = "cwd, uid and gid are needed";
  if (problem) exec_spec_free(spec);
  return problem;
}
