#ifndef BERTH_TAR_IN_H
#define BERTH_TAR_IN_H

#include "h2.h"

/* Unpacks the tar stream that is the input. Parameters: see place_params.h. */
extern const struct operation tar_in_operation;

#endif
