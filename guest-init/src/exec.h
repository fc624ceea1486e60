#ifndef BERTH_EXEC_H
#define BERTH_EXEC_H

#include "h2.h"

/* Runs a program; the input and output bodies are frames (frames.h). */
extern const struct operation exec_operation;

/* Whether any program was run since the machine was booted. */
bool exec_happened(void);

#endif
