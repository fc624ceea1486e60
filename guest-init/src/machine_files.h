/* The files that tell one machine from another. */
#ifndef BERTH_MACHINE_FILES_H
#define BERTH_MACHINE_FILES_H

#include <stdbool.h>

#include "identity.h"
#include "report.h"

/* Each of these appends its step to the report. */
void files_hostname(const struct identity *identity, struct report *report);
void files_nameservers(const struct identity *identity, struct report *report);
/* Makes a new machine id, or one where there is none when `renew` is not set. */
void files_machine_id(const struct identity *identity, struct report *report);
/* Removes the seeds kept for the random number generator: every copy would start from them at its next boot. */
void files_random_seeds(struct report *report);

#endif
