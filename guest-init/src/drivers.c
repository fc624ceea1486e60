#include "drivers.h"

#include <stddef.h>

static bool loading;
static struct driver_wait *waits;

void drivers_loading(void) { loading = true; }

void drivers_loaded(void) {
  loading = false;
  while (waits) {
    struct driver_wait *wait = waits;
    waits = wait->next;
    wait->run(wait);
  }
}

void drivers_await(struct driver_wait *wait, void (*run)(struct driver_wait *wait)) {
  wait->run = run;
  if (!loading) {
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
