#ifndef BERTH_CONFIGURE_H
#define BERTH_CONFIGURE_H

#include "h2.h"

/* Makes the guest a particular machine: name, clock, entropy, network, size of its disk. */
extern const struct operation configure_operation;

#endif
