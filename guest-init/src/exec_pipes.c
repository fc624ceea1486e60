#define _GNU_SOURCE
#include "exec_pipes.h"

#include <fcntl.h>
#include <pty.h>
#include <unistd.h>

void close_fd(int fd) {
  if (fd >= 0) close(fd);
}

void set_nonblocking(int fd) {
  if (fd >= 0) fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

int open_pipe(int *read_end, int *write_end) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) return -1;
  *read_end = ends[0];
  *write_end = ends[1];
  return 0;
}

static int open_terminal(struct exec_pipes *pipes, const struct winsize *size) {
  if (openpty(&pipes->parent_out, &pipes->child.terminal, NULL, NULL, size) < 0) return -1;
  fcntl(pipes->parent_out, F_SETFD, FD_CLOEXEC);
  fcntl(pipes->child.terminal, F_SETFD, FD_CLOEXEC);
  pipes->parent_in = fcntl(pipes->parent_out, F_DUPFD_CLOEXEC, 3);
  return pipes->parent_in < 0 ? -1 : 0;
}

static int open_streams(struct exec_pipes *pipes, const struct exec_spec *spec) {
  if (open_pipe(&pipes->parent_out, &pipes->child.out) < 0 || open_pipe(&pipes->parent_err, &pipes->child.err) < 0) return -1;
  return spec->wants_stdin ? open_pipe(&pipes->child.in, &pipes->parent_in) : 0;
}

int exec_pipes_open(struct exec_pipes *pipes, const struct exec_spec *spec) {
  *pipes = (struct exec_pipes){{-1, -1, -1, -1, -1}, -1, -1, -1};
  return spec->wants_pty ? open_terminal(pipes, &spec->size) : open_streams(pipes, spec);
}

void exec_pipes_close_child(struct exec_pipes *pipes) {
  close_fd(pipes->child.in);
  close_fd(pipes->child.out);
  close_fd(pipes->child.err);
  close_fd(pipes->child.terminal);
  close_fd(pipes->child.failure);
}
