#include "h2.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

static const struct operation *const *operations;
static size_t operation_count;
static nghttp2_session *session;
static struct stream *streams;

void h2_serve(const struct operation *const *table, size_t count) {
  operations = table;
  operation_count = count;
}

static const struct operation *find_operation(const uint8_t *path, size_t length) {
  for (size_t i = 0; i < operation_count; i++)
    if (strlen(operations[i]->path) == length && memcmp(operations[i]->path, path, length) == 0) return operations[i];
  return NULL;
}

void h2_consumed(struct stream *stream, size_t length) {
  /* Fails only for a stream or session that is going away, where windows no longer matter. */
  nghttp2_session_consume(session, stream->id, length);
}

/* A response body held in memory. */
struct text_body {
  size_t offset;
  size_t length;
  uint8_t bytes[];
};

static ssize_t read_text(nghttp2_session *s, int32_t id, uint8_t *out, size_t length, uint32_t *flags,
                         nghttp2_data_source *source, void *context) {
  (void)s, (void)id, (void)context;
  struct text_body *body = source->ptr;
  size_t count = body->length - body->offset;
  if (count > length) count = length;
  memcpy(out, body->bytes + body->offset, count);
  body->offset += count;
  if (body->offset == body->length) *flags |= NGHTTP2_DATA_FLAG_EOF;
  return (ssize_t)count;
}

static void submit(struct stream *stream, int status, nghttp2_data_provider *provider) {
  char text[4];
  snprintf(text, sizeof text, "%03d", status);
  nghttp2_nv header = {(uint8_t *)":status", (uint8_t *)text, 7, 3, NGHTTP2_NV_FLAG_NO_COPY_NAME};
  stream->answered = true;
  if (nghttp2_submit_response(session, stream->id, &header, 1, provider) != 0) h2_abort(stream);
}

void h2_answer(struct stream *stream, int status, const char *text, size_t length) {
  if (stream->answered) return;
  /* An operation that failed takes no more input; what still comes is dropped. */
  if (length == 0) {
    submit(stream, status, NULL);
    return;
  }
  struct text_body *body = malloc(sizeof *body + length);
  if (!body) {
    submit(stream, 503, NULL);
    return;
  }
  *body = (struct text_body){.offset = 0, .length = length};
  memcpy(body->bytes, text, length);
  stream->text = body;
  nghttp2_data_provider provider = {.source.ptr = body, .read_callback = read_text};
  submit(stream, status, &provider);
}

static ssize_t read_output(nghttp2_session *s, int32_t id, uint8_t *out, size_t length, uint32_t *flags,
                           nghttp2_data_source *source, void *context) {
  (void)s, (void)id, (void)context;
  struct stream *stream = source->ptr;
  bool end = false;
  ssize_t count = stream->operation->output(stream, out, length, &end);
  if (count == OUTPUT_LATER) return NGHTTP2_ERR_DEFERRED;
  if (count == OUTPUT_FAILED) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  if (end) *flags |= NGHTTP2_DATA_FLAG_EOF;
  return count;
}

void h2_answer_body(struct stream *stream) {
  nghttp2_data_provider provider = {.source.ptr = stream, .read_callback = read_output};
  submit(stream, 200, &provider);
}

void h2_output_ready(struct stream *stream) {
  /* An error means that the output is not deferred, so it will be read anyway. */
  nghttp2_session_resume_data(session, stream->id);
}

void h2_abort(struct stream *stream) {
  nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream->id, NGHTTP2_INTERNAL_ERROR);
}

/* --- requests --- */

static int on_begin_headers(nghttp2_session *s, const nghttp2_frame *frame, void *context) {
  (void)context;
  if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
  struct stream *stream = calloc(1, sizeof *stream);
  if (!stream) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  stream->id = frame->hd.stream_id;
  stream->next = streams;
  streams = stream;
  nghttp2_session_set_stream_user_data(s, stream->id, stream);
  return 0;
}

static int on_header(nghttp2_session *s, const nghttp2_frame *frame, const uint8_t *name, size_t name_length,
                     const uint8_t *value, size_t value_length, uint8_t flags, void *context) {
  (void)flags, (void)context;
  struct stream *stream = nghttp2_session_get_stream_user_data(s, frame->hd.stream_id);
  if (!stream || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
  if (name_length == 5 && memcmp(name, ":path", 5) == 0) stream->operation = find_operation(value, value_length);
  return 0;
}

static uint32_t params_length(const struct stream *stream) {
  const uint8_t *b = buffer_data(&stream->params);
  return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static void refuse(struct stream *stream, int status, const char *text) {
  stream->operation = NULL;
  h2_answer(stream, status, text, strlen(text));
}

/* Takes bytes of the parameters; returns how many, or -1 after having refused the request. */
static ssize_t take_params(struct stream *stream, const uint8_t *bytes, size_t length) {
  size_t have = buffer_length(&stream->params);
  size_t want = have < 4 ? 4 : 4 + (size_t)params_length(stream);
  if (want > 4 + stream->operation->max_params) {
    refuse(stream, 413, "parameters are too long");
    return -1;
  }
  size_t count = want - have < length ? want - have : length;
  if (!buffer_append(&stream->params, bytes, count)) {
    refuse(stream, 503, "out of memory");
    return -1;
  }
  return (ssize_t)count;
}

static bool params_complete(const struct stream *stream) {
  return buffer_length(&stream->params) >= 4 && buffer_length(&stream->params) == 4 + (size_t)params_length(stream);
}

static void start(struct stream *stream) {
  stream->started = true;
  stream->operation->start(
      stream, (struct params){buffer_data(&stream->params) + 4, buffer_length(&stream->params) - 4});
  buffer_free(&stream->params);
}

static int on_data(nghttp2_session *s, uint8_t flags, int32_t id, const uint8_t *bytes, size_t length, void *context) {
  (void)flags, (void)context;
  struct stream *stream = nghttp2_session_get_stream_user_data(s, id);
  while (stream && length > 0 && stream->operation && !stream->started) {
    ssize_t count = take_params(stream, bytes, length);
    if (count < 0) break;
    h2_consumed(stream, (size_t)count);
    bytes += count;
    length -= (size_t)count;
    if (params_complete(stream)) start(stream);
  }
  if (length == 0) return 0;
  if (stream && stream->operation && stream->operation->input)
    stream->operation->input(stream, bytes, length);
  else
    nghttp2_session_consume(s, id, length);
  return 0;
}

static int on_frame(nghttp2_session *s, const nghttp2_frame *frame, void *context) {
  (void)context;
  if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) return 0;
  struct stream *stream = nghttp2_session_get_stream_user_data(s, frame->hd.stream_id);
  if (!stream) return 0;
  if (frame->hd.type == NGHTTP2_HEADERS && !stream->operation && !stream->answered) refuse(stream, 404, "no such operation");
  if (!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM) || stream->input_ended) return 0;
  stream->input_ended = true;
  if (!stream->operation) return 0;
  if (!stream->started)
    refuse(stream, 400, "parameters are incomplete");
  else if (stream->operation->input_end)
    stream->operation->input_end(stream);
  return 0;
}

static void end_stream(struct stream *stream) {
  struct stream **link = &streams;
  while (*link != stream) link = &(*link)->next;
  *link = stream->next;
  if (stream->started && stream->operation && stream->operation->close) stream->operation->close(stream);
  buffer_free(&stream->params);
  free(stream->text);
  free(stream);
}

static int on_stream_close(nghttp2_session *s, int32_t id, uint32_t error_code, void *context) {
  (void)error_code, (void)context;
  struct stream *stream = nghttp2_session_get_stream_user_data(s, id);
  if (!stream) return 0;
  nghttp2_session_set_stream_user_data(s, id, NULL);
  end_stream(stream);
  return 0;
}

/* --- session --- */

unsigned h2_session_end(void) {
  unsigned count = 0;
  if (!session) return 0;
  /* Deleting a session reports no stream as closed. */
  for (; streams; count++) end_stream(streams);
  nghttp2_session_del(session);
  session = NULL;
  return count;
}

static int new_session(void) {
  nghttp2_session_callbacks *callbacks;
  if (nghttp2_session_callbacks_new(&callbacks) != 0) return -1;
  nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
  nghttp2_option *option;
  if (nghttp2_option_new(&option) != 0) {
    nghttp2_session_callbacks_del(callbacks);
    return -1;
  }
  nghttp2_option_set_no_auto_window_update(option, 1);
  int result = nghttp2_session_server_new2(&session, callbacks, NULL, option);
  nghttp2_option_del(option);
  nghttp2_session_callbacks_del(callbacks);
  if (result != 0) session = NULL;
  return result;
}

void h2_session_start(void) {
  h2_session_end();
  if (new_session() != 0) {
    log_line("cannot start a session: out of memory");
    return;
  }
  const nghttp2_settings_entry settings[] = {
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, MAX_STREAMS},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, 8192},
  };
  /* One slow stream must not starve the others: the connection's window is the sum of the streams'. */
  if (nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings, 3) != 0 ||
      nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, MAX_STREAMS * STREAM_WINDOW) != 0)
    h2_session_end();
}

void h2_receive(const uint8_t *bytes, size_t length) {
  if (!session) return; /* left over from a session that ended */
  ssize_t used = nghttp2_session_mem_recv(session, bytes, length);
  if (used < 0) {
    log_line("session ended: %s", nghttp2_strerror((int)used));
    h2_session_end();
  }
}

size_t h2_next_output(const uint8_t **bytes) {
  if (!session) return 0;
  ssize_t length = nghttp2_session_mem_send(session, bytes);
  if (length > 0) return (size_t)length;
  if (length < 0 || (!nghttp2_session_want_read(session) && !nghttp2_session_want_write(session))) h2_session_end();
  return 0;
}
