/* The server with operations that take all input and answer in every way there is, fed arbitrary bytes of a host. */
#include "h2.h"

#include <stdlib.h>
#include <string.h>

/* The fuzzer keeps out of the kernel log. */
void log_line(const char *format, ...) { (void)format; }

static void start(struct stream *stream, struct params params) {
  struct param param;
  bool malformed = false;
  while (params_next(&params, &param, &malformed)) {
  }
  stream->state = malloc(1);
  if (malformed)
    h2_answer(stream, 400, "malformed", 9);
  else
    h2_answer_body(stream);
}

static void input(struct stream *stream, const uint8_t *bytes, size_t length) {
  if (length > 0 && bytes[0] == 'a') h2_abort(stream);
  h2_output_ready(stream);
  h2_consumed(stream, length);
}

static void input_end(struct stream *stream) { h2_output_ready(stream); }

static ssize_t output(struct stream *stream, uint8_t *bytes, size_t length, bool *end) {
  if (!stream->input_ended) return OUTPUT_LATER;
  memset(bytes, 'x', length);
  *end = true;
  return (ssize_t)length;
}

static void close_stream(struct stream *stream) { free(stream->state); }

static const struct operation echo = {.path = "/echo",
                                      .max_params = 1024,
                                      .start = start,
                                      .input = input,
                                      .input_end = input_end,
                                      .output = output,
                                      .close = close_stream};
static const struct operation *const operations[] = {&echo};

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
  const uint8_t *out;
  h2_serve(operations, 1);
  h2_session_start();
  size_t step = length > 0 ? 1 + bytes[length - 1] : 1;
  for (size_t at = 0; at < length; at += step) {
    h2_receive(bytes + at, length - at < step ? length - at : step);
    while (h2_next_output(&out) > 0) {
    }
  }
  h2_session_end();
  return 0;
}
