/* The HTTP/2 server: one session at a time over the channel, one operation per stream. */
#ifndef BERTH_H2_H
#define BERTH_H2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "buffer.h"
#include "params.h"

#define MAX_STREAMS 128
/* Bytes of a request body the host may send ahead of what the guest has used up. */
#define STREAM_WINDOW (256 * 1024)

struct stream;

/* Outcome of `output` when it yields no bytes. */
#define OUTPUT_LATER (-1) /* call h2_output_ready when there is more */
#define OUTPUT_FAILED (-2)

/* What a path does. Every request is a POST whose body is: u32 length of the parameters, the parameters, the input. */
struct operation {
  const char *path;
  size_t max_params;
  /* Parameters are complete. Answers now or later; `stream->state` is the operation's own. */
  void (*start)(struct stream *stream, struct params params);
  /* Input arrived. The operation calls h2_consumed when it has used it up. NULL: there is none, it is dropped. */
  void (*input)(struct stream *stream, const uint8_t *bytes, size_t length);
  void (*input_end)(struct stream *stream);
  /* Fills up to `length` bytes of the response body; `*end` with the last ones. */
  ssize_t (*output)(struct stream *stream, uint8_t *bytes, size_t length, bool *end);
  /* The stream is over, whoever ended it. Releases `state`. NULL: nothing to release. */
  void (*close)(struct stream *stream);
};

struct stream {
  int32_t id;
  const struct operation *operation; /* NULL: refused already, input is dropped */
  struct buffer params;
  bool started;
  bool input_ended;
  bool answered;
  void *state;
  /* Private to h2.c. */
  struct stream *next;
  struct text_body *text;
};

/* Where the operations are found; set once. */
void h2_serve(const struct operation *const *operations, size_t count);

/* Starts a new session, dropping the old. */
void h2_session_start(void);
/* Ends the session; returns how many requests were under way. */
unsigned h2_session_end(void);

void h2_receive(const uint8_t *bytes, size_t length);
/* Next bytes to send, 0 when there are none. Valid until the next call. */
size_t h2_next_output(const uint8_t **bytes);

/* Status with a text body: an error, or 200 with or without a text. */
void h2_answer(struct stream *stream, int status, const char *text, size_t length);
/* Status 200 with a body that `operation->output` makes. */
void h2_answer_body(struct stream *stream);
void h2_output_ready(struct stream *stream);
/* Input of this length is used up: lets the host send as much more. */
void h2_consumed(struct stream *stream, size_t length);
/* Breaks the response off, so that the host cannot take it for whole. */
void h2_abort(struct stream *stream);

#endif
