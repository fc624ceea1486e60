/* Passes a request's input on to a file descriptor at the pace of whoever reads it. */
#ifndef BERTH_SINK_H
#define BERTH_SINK_H

#include "buffer.h"
#include "h2.h"
#include "loop.h"

struct sink {
  struct source source;
  struct stream *stream;
  struct buffer waiting;
  bool held; /* not open yet: what comes waits for sink_open */
  bool ending; /* close the descriptor once `waiting` is written */
  bool half_close; /* the descriptor is a socket that stays open for reading: shut down, don't close */
};

void sink_init(struct sink *sink, struct stream *stream);
/* Takes over a non-blocking descriptor. False: it could not be watched and was closed. */
bool sink_open(struct sink *sink, int fd);
/* Bytes for a sink that is closed, or whose reader has gone, are dropped. */
void sink_write(struct sink *sink, const uint8_t *bytes, size_t length);
void sink_end(struct sink *sink);
/* Closes at once and drops what waits. */
void sink_close(struct sink *sink);

#endif
