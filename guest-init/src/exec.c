#define _GNU_SOURCE
#include "exec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cgroup.h"
#include "exec_child.h"
#include "exec_pipes.h"
#include "exec_spec.h"
#include "frames.h"
#include "loop.h"
#include "sink.h"

/* How long output already written to a terminal may take to appear after the program's end. */
#define TERMINAL_LINGER_MS 200
/* Longest last frame; a frame is made in `stage` when the flow-control window has less room than this. */
#define STAGE_SIZE (FRAME_HEADER + 256)

struct output {
  struct source source;
  struct exec *exec;
  bool open;
  /* Bytes that were there when the program ended; what its survivors write afterwards is not waited for. */
  size_t left;
};

struct exec {
  struct stream *stream;
  struct child child;
  struct timer timeout;
  struct timer linger;
  struct sink sink;
  struct frame_reader frames;
  struct output outputs[2];
  unsigned turn;
  uint8_t stage[STAGE_SIZE];
  size_t stage_at;
  size_t staged;
  bool last_staged;
  int failure_fd;
  int group;
  uint64_t number;
  pid_t pid;
  uint64_t started_ns;
  size_t to_sink; /* bytes of the current chunk that the sink accounts for */
  bool has_terminal;
  bool exited;
  bool lingering;
  bool timed_out;
  int wait_status;
  uint64_t duration_us;
};

static uint64_t exec_count;

bool exec_happened(void) { return exec_count > 0; }

static void kill_all(struct exec *exec) {
  /* Once the leader is reaped its number may belong to another process group. */
  cgroup_kill(exec->group, exec->exited ? 0 : exec->pid);
}

/* --- output --- */

static size_t exit_frame(struct exec *exec, uint8_t *bytes) {
  bool signalled = WIFSIGNALED(exec->wait_status);
  frame_header(bytes, FRAME_EXIT, 11);
  uint8_t *payload = bytes + FRAME_HEADER;
  payload[0] = signalled;
  payload[1] = (uint8_t)(signalled ? WTERMSIG(exec->wait_status) : WEXITSTATUS(exec->wait_status));
  payload[2] = exec->timed_out;
  for (int i = 0; i < 8; i++) payload[3 + i] = (uint8_t)(exec->duration_us >> (56 - 8 * i));
  return FRAME_HEADER + 11;
}

/* The last frame: how the program ended, or why it never began. */
static size_t last_frame(struct exec *exec, uint8_t *bytes) {
  ssize_t length = read(exec->failure_fd, bytes + FRAME_HEADER, 256);
  if (length <= 0) return exit_frame(exec, bytes);
  frame_header(bytes, FRAME_EXEC_FAILED, (uint32_t)length);
  return FRAME_HEADER + (size_t)length;
}

/* One frame of a stream into `bytes`; 0 when nothing is there now. */
static size_t read_output(struct exec *exec, struct output *output, uint8_t *bytes, size_t length) {
  if (!output->open) return 0;
  size_t room = length - FRAME_HEADER;
  if (exec->exited && !exec->has_terminal && room > output->left) room = output->left;
  ssize_t count = room > 0 ? read(output->source.fd, bytes + FRAME_HEADER, room) : 0;
  if (count < 0 && errno == EAGAIN) return 0;
  if (count <= 0) {
    output->open = false; /* a terminal whose program has gone reports EIO */
    return 0;
  }
  if (exec->exited && !exec->has_terminal) output->left -= (size_t)count;
  frame_header(bytes, output == &exec->outputs[0] ? FRAME_STDOUT : FRAME_STDERR, (uint32_t)count);
  return FRAME_HEADER + (size_t)count;
}

static bool drained(const struct exec *exec) {
  if (!exec->exited) return false;
  if (!exec->outputs[0].open && !exec->outputs[1].open) return true;
  if (exec->has_terminal) return !exec->lingering;
  return exec->outputs[0].left == 0 && exec->outputs[1].left == 0;
}

/* Next frame, `*last` when it is the final one; 0 when there is none now. `bytes` has room for STAGE_SIZE at least. */
static size_t next_frame(struct exec *exec, uint8_t *bytes, size_t length, bool *last) {
  for (int i = 0; i < 2; i++) {
    size_t count = read_output(exec, &exec->outputs[exec->turn++ % 2], bytes, length);
    if (count > 0) return count;
  }
  if (!drained(exec)) return 0;
  *last = true;
  return last_frame(exec, bytes);
}

static ssize_t exec_output(struct stream *stream, uint8_t *bytes, size_t length, bool *end) {
  struct exec *exec = stream->state;
  if (exec->staged == 0) {
    bool staging = length < STAGE_SIZE;
    uint8_t *target = staging ? exec->stage : bytes;
    size_t count = next_frame(exec, target, staging ? STAGE_SIZE : length, &exec->last_staged);
    if (count == 0) return OUTPUT_LATER;
    if (!staging) {
      *end = exec->last_staged;
      return (ssize_t)count;
    }
    exec->stage_at = 0;
    exec->staged = count;
  }
  size_t count = exec->staged < length ? exec->staged : length;
  memcpy(bytes, exec->stage + exec->stage_at, count);
  exec->stage_at += count;
  exec->staged -= count;
  *end = exec->last_staged && exec->staged == 0;
  return (ssize_t)count;
}

static void on_output(struct source *source, uint32_t events) {
  (void)events;
  h2_output_ready(container_of(source, struct output, source)->exec->stream);
}

static void on_linger_over(struct timer *timer) {
  struct exec *exec = container_of(timer, struct exec, linger);
  exec->lingering = false;
  h2_output_ready(exec->stream);
}

static void on_exit_of(struct child *child, int wait_status) {
  struct exec *exec = container_of(child, struct exec, child);
  exec->exited = true;
  exec->wait_status = wait_status;
  exec->duration_us = (monotonic_ns() - exec->started_ns) / 1000;
  timer_stop(&exec->timeout);
  if (exec->has_terminal) {
    exec->lingering = true;
    timer_start(&exec->linger, TERMINAL_LINGER_MS, on_linger_over);
  } else {
    for (int i = 0; i < 2; i++) {
      int left = 0;
      if (exec->outputs[i].open && ioctl(exec->outputs[i].source.fd, FIONREAD, &left) == 0) exec->outputs[i].left = (size_t)left;
    }
  }
  h2_output_ready(exec->stream);
}

static void on_timeout(struct timer *timer) {
  struct exec *exec = container_of(timer, struct exec, timeout);
  exec->timed_out = true;
  kill_all(exec);
}

/* --- input --- */

static void on_stdin(void *context, const uint8_t *bytes, size_t length) {
  struct exec *exec = context;
  exec->to_sink += length;
  sink_write(&exec->sink, bytes, length);
}

static void on_control(void *context, uint8_t type, const uint8_t *payload, size_t length) {
  struct exec *exec = context;
  if (type == FRAME_STDIN_END) {
    if (!exec->has_terminal) sink_end(&exec->sink);
  } else if (type == FRAME_RESIZE && length == 4 && exec->has_terminal && exec->outputs[0].open) {
    struct winsize size = {.ws_col = (unsigned short)(payload[0] << 8 | payload[1]),
                           .ws_row = (unsigned short)(payload[2] << 8 | payload[3])};
    ioctl(exec->outputs[0].source.fd, TIOCSWINSZ, &size);
  } else if (type == FRAME_KILL) {
    kill_all(exec);
  }
  /* Other types are for later hosts; they carry nothing that this guest must know. */
}

static void exec_input(struct stream *stream, const uint8_t *bytes, size_t length) {
  struct exec *exec = stream->state;
  if (!exec) {
    h2_consumed(stream, length);
    return;
  }
  exec->to_sink = 0;
  if (!frames_feed(&exec->frames, bytes, length)) h2_abort(stream);
  h2_consumed(stream, length - exec->to_sink);
}

/* --- start and end --- */

static void exec_close(struct stream *stream) {
  struct exec *exec = stream->state;
  if (!exec) return;
  /* Nobody is left to read the program's output; a program that ended by itself leaves its background processes alone. */
  if (!exec->exited && exec->pid > 0) kill_all(exec);
  child_forget(&exec->child);
  timer_stop(&exec->timeout);
  timer_stop(&exec->linger);
  sink_close(&exec->sink);
  loop_close(&exec->outputs[0].source);
  loop_close(&exec->outputs[1].source);
  close_fd(exec->failure_fd);
  cgroup_release(exec->group, exec->number);
  free(exec);
  stream->state = NULL;
}

/* Watches the parent's ends; what cannot be watched is closed, and the program sees a closed stream. */
static void attach(struct exec *exec, struct exec_pipes *pipes) {
  int fds[2] = {pipes->parent_out, pipes->parent_err};
  for (int i = 0; i < 2; i++) {
    set_nonblocking(fds[i]);
    exec->outputs[i].exec = exec;
    exec->outputs[i].open = fds[i] >= 0 && loop_watch(&exec->outputs[i].source, fds[i], EPOLLIN, on_output) == 0;
    if (!exec->outputs[i].open) close_fd(fds[i]);
  }
  set_nonblocking(pipes->parent_in);
  if (pipes->parent_in >= 0) sink_open(&exec->sink, pipes->parent_in);
}

static struct exec *make_exec(struct stream *stream) {
  struct exec *exec = calloc(1, sizeof *exec);
  if (!exec) return NULL;
  exec->stream = stream;
  exec->number = ++exec_count;
  exec->failure_fd = -1;
  exec->outputs[0].source.fd = exec->outputs[1].source.fd = -1;
  exec->frames = (struct frame_reader){.data = on_stdin, .control = on_control, .context = exec};
  sink_init(&exec->sink, stream);
  exec->group = cgroup_make(exec->number);
  return exec;
}

static const char *launch(struct exec *exec, struct exec_spec *spec) {
  struct exec_pipes pipes;
  const char *problem = NULL;
  if (exec_pipes_open(&pipes, spec) < 0 || open_pipe(&exec->failure_fd, &pipes.child.failure) < 0)
    problem = "the guest is out of file descriptors";
  if (!problem) {
    set_nonblocking(exec->failure_fd);
    exec->has_terminal = spec->wants_pty;
    exec->started_ns = monotonic_ns();
    exec->pid = cgroup_fork(exec->group);
    if (exec->pid == 0) exec_child(spec, &pipes.child);
    if (exec->pid < 0) problem = "the guest cannot make a process";
  }
  exec_pipes_close_child(&pipes);
  attach(exec, &pipes);
  return problem;
}

static void exec_start(struct stream *stream, struct params params) {
  struct exec_spec spec;
  const char *problem = exec_spec_decode(&spec, params);
  if (problem) {
    h2_answer(stream, 400, problem, strlen(problem));
    return;
  }
  struct exec *exec = make_exec(stream);
  stream->state = exec;
  problem = exec ? launch(exec, &spec) : "out of memory";
  if (problem) {
    h2_answer(stream, 503, problem, strlen(problem));
  } else {
    child_watch(&exec->child, exec->pid, on_exit_of);
    if (spec.timeout_ms > 0) timer_start(&exec->timeout, spec.timeout_ms, on_timeout);
    h2_answer_body(stream);
  }
  exec_spec_free(&spec);
}

const struct operation exec_operation = {
    .path = "/exec",
    .max_params = MAX_EXEC_PARAMS,
    .start = exec_start,
    .input = exec_input,
    .output = exec_output,
    .close = exec_close,
};
