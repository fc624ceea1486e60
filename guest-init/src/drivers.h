/* Which devices the machine has by now: what needs one waits until its module is loaded. */
#ifndef BERTH_DRIVERS_H
#define BERTH_DRIVERS_H

#include <stdbool.h>

/* What is loaded after the channel is served, in this order. */
enum drivers { DRIVERS_NETWORK, DRIVERS_ALL };

struct driver_wait {
  struct driver_wait *next;
  enum drivers what;
  void (*run)(struct driver_wait *wait);
};

/* Modules are being loaded until drivers_loaded(DRIVERS_ALL). */
void drivers_loading(void);
void drivers_loaded(enum drivers what);

/* Calls `run` once the modules are loaded; at once when they are. */
void drivers_await(struct driver_wait *wait, enum drivers what, void (*run)(struct driver_wait *wait));
/* Safe on one that does not wait. */
void drivers_forget(struct driver_wait *wait);

#endif
