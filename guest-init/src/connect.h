#ifndef BERTH_CONNECT_H
#define BERTH_CONNECT_H

#include "h2.h"

/* Joins the stream to a unix socket (PARAM_PATH) or a loopback TCP port (PARAM_PORT) of the guest. */
extern const struct operation connect_operation;

#endif
