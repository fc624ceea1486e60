#ifndef BERTH_EXEC_H
#define BERTH_EXEC_H

#include "h2.h"

/* Runs a program; the input and output bodies are frames (frames.h). */
extern const struct operation exec_operation;

#endif
