/* The byte stream to the host: a virtio-serial port, or any connected descriptor when testing. */
#ifndef BERTH_CHANNEL_H
#define BERTH_CHANNEL_H

#include <stdbool.h>

#define CHANNEL_NAME "org.berth.guest.0"

/* Opens the port of that name, waiting up to `wait_ms` for it to appear. -1: there is none. */
int channel_find(unsigned wait_ms);

/* Serves sessions on the descriptor. `session_ended` runs whenever one is over. -1 with errno. */
int channel_serve(int fd, void (*session_ended)(void));

/* How many requests were under way when the session before this one ended. */
unsigned channel_cut_streams(void);

/* Sends what is ready. False once nobody can connect any more (the descriptor is not a port and was closed). */
bool channel_flush(void);
/* True when nothing is left to send. */
bool channel_idle(void);

#endif
