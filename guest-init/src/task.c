#define _GNU_SOURCE
#include "task.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "exec_pipes.h"
#include "loop.h"
#include "sink.h"

#define VERDICT_FD 3
#define TEXT_MAX 256
#define PIPE_SIZE (256 * 1024)

/* What the child says last, in one message. */
struct verdict {
  uint16_t status;
  char text[TEXT_MAX];
};

struct task {
  struct stream *stream;
  struct child child;
  struct sink sink;
  struct source output;
  int verdict_fd;
  bool exited;
  bool failed;
  bool output_open;
  int flags;
};

/* --- in the child --- */

static _Noreturn void conclude(const struct verdict *verdict, size_t length, int fd) {
  struct iovec part = {(void *)verdict, length};
  union {
    char bytes[CMSG_SPACE(sizeof fd)];
    struct cmsghdr align;
  } control = {0};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (fd >= 0) {
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  _exit(sendmsg(VERDICT_FD, &message, 0) < 0 ? 1 : 0);
}

_Noreturn void task_succeed_with(int fd) {
  struct verdict verdict = {.status = 200};
  conclude(&verdict, offsetof(struct verdict, text), fd);
}

bool task_is_wanted(void) {
  struct pollfd verdict = {.fd = VERDICT_FD};
  return poll(&verdict, 1, 0) == 0;
}

_Noreturn void task_succeed(void) { task_succeed_with(-1); }

_Noreturn void task_fail(int status, const char *format, ...) {
  struct verdict verdict = {.status = (uint16_t)status};
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(verdict.text, sizeof verdict.text, format, arguments);
  va_end(arguments);
  if (length < 0) length = 0;
  if (length >= TEXT_MAX) length = TEXT_MAX - 1;
  conclude(&verdict, offsetof(struct verdict, text) + (size_t)length, -1);
}

static int status_of(int error) {
  switch (error) {
    case EIO:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case EINTR: return 500;
    case ENOSPC:
    case EDQUOT: return 507;
    case ENOSYS:
    case EOPNOTSUPP: return 501;
    default: return 400;
  }
}

_Noreturn void task_fail_errno(const char *what) { task_fail(status_of(errno), "%s: %s", what, strerror(errno)); }

static _Noreturn void run_child(int in, int out, int verdict_fd, task_body *body, struct params params) {
  /* Above the targets first, so that no dup2 overwrites a descriptor still needed. */
  in = fcntl(in, F_DUPFD, 10);
  out = fcntl(out, F_DUPFD, 10);
  verdict_fd = fcntl(verdict_fd, F_DUPFD, 10);
  if (dup2(verdict_fd, VERDICT_FD) < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0) _exit(1);
  close_range(VERDICT_FD + 1, ~0u, 0);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  setsid();
  body(params);
  task_fail(500, "the task came to no verdict");
}

/* --- in init --- */

/* Reads the verdict of a task that has ended; status 500 when there is none. */
static size_t read_verdict(struct task *task, struct verdict *verdict, int *passed_fd) {
  struct iovec part = {verdict, sizeof *verdict};
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control;
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
  *passed_fd = -1;
  ssize_t count = recvmsg(task->verdict_fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (count < (ssize_t)offsetof(struct verdict, text)) {
    static const char text[] = "the task was ended";
    verdict->status = 500;
    memcpy(verdict->text, text, sizeof text - 1);
    return sizeof text - 1;
  }
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  if (header && header->cmsg_type == SCM_RIGHTS) memcpy(passed_fd, CMSG_DATA(header), sizeof *passed_fd);
  return (size_t)count - offsetof(struct verdict, text);
}

static void on_output(struct source *source, uint32_t events);

/* Joins the stream to the socket that the task has connected. */
static bool join_socket(struct task *task, int fd) {
  fcntl(fd, F_SETFL, O_NONBLOCK);
  int second = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (second < 0 || loop_watch(&task->output, second, EPOLLIN, on_output) < 0) {
    if (second >= 0) close(second);
    close(fd);
    return false;
  }
  task->output_open = true;
  task->sink.half_close = true;
  return sink_open(&task->sink, fd);
}

static void succeed(struct task *task, int passed_fd) {
  struct stream *stream = task->stream;
  if (task->flags & TASK_SOCKET && (passed_fd < 0 || !join_socket(task, passed_fd)))
    h2_answer(stream, 500, NULL, 0);
  else if (stream->answered)
    h2_output_ready(stream);
  else if (task->output_open)
    h2_answer_body(stream);
  else
    h2_answer(stream, 200, NULL, 0);
}

static void on_exit_of(struct child *child, int wait_status) {
  (void)wait_status;
  struct task *task = container_of(child, struct task, child);
  struct verdict verdict;
  int passed_fd;
  task->exited = true;
  size_t length = read_verdict(task, &verdict, &passed_fd);
  if (verdict.status == 200) {
    succeed(task, passed_fd);
    return;
  }
  task->failed = true;
  sink_close(&task->sink);
  if (task->stream->answered)
    h2_abort(task->stream);
  else
    h2_answer(task->stream, verdict.status, verdict.text, length);
}

static void on_output(struct source *source, uint32_t events) {
  struct task *task = container_of(source, struct task, output);
  if (task->stream->answered)
    h2_output_ready(task->stream);
  else if (events & EPOLLIN)
    h2_answer_body(task->stream);
}

ssize_t task_output(struct stream *stream, uint8_t *bytes, size_t length, bool *end) {
  struct task *task = stream->state;
  if (task->failed) return OUTPUT_FAILED;
  ssize_t count = task->output_open ? read(task->output.fd, bytes, length) : 0;
  if (count > 0) return count;
  if (count < 0) return errno == EAGAIN ? OUTPUT_LATER : OUTPUT_FAILED;
  task->output_open = false;
  if (!task->exited) return OUTPUT_LATER; /* only the verdict tells a whole body from a broken one */
  *end = true;
  return 0;
}

void task_input(struct stream *stream, const uint8_t *bytes, size_t length) {
  struct task *task = stream->state;
  if (task)
    sink_write(&task->sink, bytes, length);
  else
    h2_consumed(stream, length);
}

void task_input_end(struct stream *stream) {
  struct task *task = stream->state;
  if (task) sink_end(&task->sink);
}

void task_close(struct stream *stream) {
  struct task *task = stream->state;
  if (!task) return;
  stream->state = NULL;
  if (!task->exited && task->child.pid > 0 && !(task->flags & TASK_FINISHES)) kill(task->child.pid, SIGKILL);
  child_forget(&task->child);
  sink_close(&task->sink);
  loop_close(&task->output);
  if (task->verdict_fd >= 0) close(task->verdict_fd);
  free(task);
}

static int pipe_or_null(bool wanted, bool to_child, int *parent_end) {
  *parent_end = -1;
  if (!wanted) return open("/dev/null", O_RDWR | O_CLOEXEC);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) return -1;
  *parent_end = ends[to_child ? 1 : 0];
  fcntl(*parent_end, F_SETFL, O_NONBLOCK);
  fcntl(*parent_end, F_SETPIPE_SZ, PIPE_SIZE); /* a smaller pipe is only slower */
  return ends[to_child ? 0 : 1];
}

static bool launch(struct task *task, struct params params, task_body *body, int flags) {
  int parent_in, parent_out, verdicts[2] = {-1, -1};
  int in = pipe_or_null(flags & TASK_INPUT, true, &parent_in);
  int out = pipe_or_null(flags & TASK_OUTPUT, false, &parent_out);
  pid_t pid = -1;
  if (in >= 0 && out >= 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, verdicts) == 0) pid = fork();
  if (pid == 0) run_child(in, out, verdicts[1], body, params);
  close_fd(in);
  close_fd(out);
  close_fd(verdicts[1]);
  task->verdict_fd = verdicts[0];
  if (parent_in >= 0) sink_open(&task->sink, parent_in);
  if (parent_out >= 0) {
    task->output_open = loop_watch(&task->output, parent_out, EPOLLIN, on_output) == 0;
    if (!task->output_open) close(parent_out);
  }
  if (pid < 0) return false;
  child_watch(&task->child, pid, on_exit_of);
  return true;
}

void task_start(struct stream *stream, struct params params, task_body *body, int flags) {
  static const char problem[] = "the guest cannot make a process";
  struct task *task = calloc(1, sizeof *task);
  if (task) {
    task->stream = stream;
    task->output.fd = -1;
    task->flags = flags;
    sink_init(&task->sink, stream);
    task->sink.held = flags & TASK_SOCKET;
    stream->state = task;
    if (launch(task, params, body, flags)) return;
  }
  h2_answer(stream, 503, problem, sizeof problem - 1);
}

void task_detached(task_body *body) {
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return;
  if (fork() == 0) run_child(null, null, null, body, (struct params){0});
  close(null);
}
