#ifndef BERTH_HELLO_H
#define BERTH_HELLO_H

#include "h2.h"
#include "report.h"

#define PROTOCOL_VERSION 1

/* Answers with PARAM_PROTOCOL, PARAM_BOOT_ID and PARAM_KERNEL. */
extern const struct operation hello_operation;

/* Appends the same to a report. */
void hello_add(struct report *report);

#endif
