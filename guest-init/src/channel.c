#define _GNU_SOURCE
#include "channel.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "buffer.h"
#include "h2.h"
#include "log.h"
#include "loop.h"
#include "resync.h"

#define CLASS_DIR "/sys/class/virtio-ports"
#define READ_SIZE 65536
/* Enough for the driver's largest single transfer. */
#define SEND_SIZE 32768
/*
 * A host that leaves is noticed by hang-up, but the hang-up of the last connection may be seen after the next one's first
 * bytes have arrived. Only a port that stays hung up has nobody.
 */
#define HANGUP_GRACE_MS 100

static struct source channel = {.fd = -1};
static struct timer hangup_timer;
static struct buffer unsent;
static struct resync resync;
static char session_nonce[RESYNC_NONCE];
static bool in_session;
static unsigned cut_streams;
static bool is_socket;
static bool closed;
static void (*on_session_end)(void);

/* --- finding the port --- */

static bool port_is_ours(const char *port) {
  char path[512], name[64];
  snprintf(path, sizeof path, CLASS_DIR "/%s/name", port);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  ssize_t length = read(fd, name, sizeof name - 1);
  close(fd);
  if (length <= 0) return false;
  name[length] = '\0';
  name[strcspn(name, "\n")] = '\0';
  return strcmp(name, CHANNEL_NAME) == 0;
}

static int find_once(void) {
  DIR *directory = opendir(CLASS_DIR);
  if (!directory) return -1;
  int found = -1;
  struct dirent *entry;
  while (found < 0 && (entry = readdir(directory))) {
    if (entry->d_name[0] == '.' || !port_is_ours(entry->d_name)) continue;
    char path[512];
    snprintf(path, sizeof path, "/dev/%s", entry->d_name);
    found = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
  }
  closedir(directory);
  return found;
}

int channel_find(unsigned wait_ms) {
  const struct timespec pause = {.tv_nsec = 1000000};
  for (unsigned waited = 0;; waited++) {
    int fd = find_once();
    if (fd >= 0 || waited >= wait_ms) return fd;
    nanosleep(&pause, NULL);
  }
}

/* --- sessions --- */

static void end_session(void) {
  if (!in_session) return;
  in_session = false;
  memset(session_nonce, 0, sizeof session_nonce);
  buffer_free(&unsent);
  cut_streams = h2_session_end();
  on_session_end();
}

static void on_data(void *context, const uint8_t *bytes, size_t length) {
  (void)context;
  if (in_session) h2_receive(bytes, length);
}

static void on_marker(void *context, const uint8_t *nonce) {
  (void)context;
  /* The host repeats its marker until it is answered; a repetition is not a new session. */
  if (in_session && memcmp(nonce, session_nonce, sizeof session_nonce) == 0) return;
  end_session();
  uint8_t echo[RESYNC_MAGIC_LENGTH + 1 + RESYNC_NONCE];
  memcpy(echo, RESYNC_MAGIC, RESYNC_MAGIC_LENGTH);
  echo[RESYNC_MAGIC_LENGTH] = RESYNC_ECHO;
  memcpy(echo + RESYNC_MAGIC_LENGTH + 1, nonce, RESYNC_NONCE);
  if (!buffer_append(&unsent, echo, sizeof echo)) return; /* unanswered: the host will ask again */
  memcpy(session_nonce, nonce, sizeof session_nonce);
  in_session = true;
  h2_session_start();
}

static bool hung_up(void) {
  struct pollfd state = {.fd = channel.fd};
  return poll(&state, 1, 0) == 1 && state.revents & (POLLHUP | POLLERR);
}

static void on_hangup_over(struct timer *timer) {
  (void)timer;
  if (channel.fd >= 0 && hung_up()) end_session();
}

static void on_ready(struct source *source, uint32_t events) {
  static uint8_t bytes[READ_SIZE];
  ssize_t count;
  while ((count = read(source->fd, bytes, sizeof bytes)) > 0) resync_feed(&resync, bytes, (size_t)count);
  resync_idle(&resync);
  bool over = count == 0 || (errno != EAGAIN && errno != EINTR);
  if (over && is_socket) {
    end_session();
    closed = true; /* unlike a port, a socket is never connected again */
  } else if (events & (EPOLLHUP | EPOLLERR)) {
    timer_start(&hangup_timer, HANGUP_GRACE_MS, on_hangup_over);
  }
}

int channel_serve(int fd, void (*session_ended)(void)) {
  resync = (struct resync){.data = on_data, .marker = on_marker};
  on_session_end = session_ended;
  struct stat info;
  is_socket = fstat(fd, &info) == 0 && S_ISSOCK(info.st_mode);
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  return loop_watch(&channel, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP, on_ready);
}

unsigned channel_cut_streams(void) { return cut_streams; }

/* --- sending --- */

static void gather(void) {
  const uint8_t *bytes;
  size_t length;
  while (buffer_length(&unsent) < SEND_SIZE && (length = h2_next_output(&bytes)) > 0)
    if (!buffer_append(&unsent, bytes, length)) {
      log_line("out of memory: session dropped");
      end_session();
      return;
    }
}

bool channel_flush(void) {
  if (closed) return false;
  for (;;) {
    gather();
    size_t length = buffer_length(&unsent);
    if (length == 0) return true;
    ssize_t count = write(channel.fd, buffer_data(&unsent), length < SEND_SIZE ? length : SEND_SIZE);
    if (count > 0)
      buffer_consume(&unsent, (size_t)count);
    else if (count == 0 || errno != EINTR)
      return true; /* full, or nobody is connected: an event tells when that changes */
  }
}

bool channel_idle(void) { return buffer_length(&unsent) == 0; }
