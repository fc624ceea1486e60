#include "drivers.h"

#include <stddef.h>

/* How much is there: nothing, or everything up to one of enum drivers. */
static int loaded = DRIVERS_ALL;
static struct driver_wait *waits;

void drivers_loading(void) { loaded = -1; }

void drivers_loaded(enum drivers what) {
  loaded = (int)what;
  struct driver_wait **link = &waits;
  while (*link) {
    struct driver_wait *wait = *link;
    if ((int)wait->what > loaded) {
      link = &wait->next;
      continue;
    }
    *link = wait->next;
    wait->run(wait);
    /* What ran may have changed the list. */
    link = &waits;
  }
}

void drivers_await(struct driver_wait *wait, enum drivers what, void (*run)(struct driver_wait *wait)) {
  wait->what = what;
  wait->run = run;
  if ((int)what <= loaded) {
    run(wait);
    return;
  }
  wait->next = waits;
  waits = wait;
}

void drivers_forget(struct driver_wait *wait) {
  struct driver_wait **link = &waits;
  while (*link && *link != wait) link = &(*link)->next;
  if (*link) *link = wait->next;
}
