/* Whether the machine has all its devices yet: what needs them waits until the last module is loaded. */
#ifndef BERTH_DRIVERS_H
#define BERTH_DRIVERS_H

#include <stdbool.h>

struct driver_wait {
  struct driver_wait *next;
  void (*run)(struct driver_wait *wait);
};

/* Modules are being loaded until drivers_loaded. */
void drivers_loading(void);
void drivers_loaded(void);

/* Calls `run` once the modules are loaded; at once when they are. */
void drivers_await(struct driver_wait *wait, void (*run)(struct driver_wait *wait));
/* Safe on one that does not wait. */
void drivers_forget(struct driver_wait *wait);

#endif
