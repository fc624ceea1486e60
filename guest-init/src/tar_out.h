#ifndef BERTH_TAR_OUT_H
#define BERTH_TAR_OUT_H

#include "h2.h"

/* Answers with a tar stream of a directory or a file. Parameters: see place_params.h. */
extern const struct operation tar_out_operation;

#endif
