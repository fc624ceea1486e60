/* The streams between init and a program: pipes, or a terminal. */
#ifndef BERTH_EXEC_PIPES_H
#define BERTH_EXEC_PIPES_H

#include "exec_child.h"

/* Descriptors that are not used are -1. */
struct exec_pipes {
  struct exec_fds child;
  int parent_in;
  int parent_out;
  int parent_err;
};

/* Opens what the program needs. -1 with errno; what was opened by then is in `pipes` all the same. */
int exec_pipes_open(struct exec_pipes *pipes, const struct exec_spec *spec);
/* Closes the program's ends in init. */
void exec_pipes_close_child(struct exec_pipes *pipes);

/* A close-on-exec pipe. -1 with errno. */
int open_pipe(int *read_end, int *write_end);
void set_nonblocking(int fd);
/* Nothing for -1. */
void close_fd(int fd);

#endif
