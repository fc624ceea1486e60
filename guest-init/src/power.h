/* The end of the machine. */
#ifndef BERTH_POWER_H
#define BERTH_POWER_H

#include <stdbool.h>

#include "h2.h"

extern const struct operation power_off_operation;
extern const struct operation reboot_operation;

/* Watches for the power button. */
void power_watch_button(void);

/* True once the machine is to end and the host has been told. */
bool power_requested(void);

/* Ends all processes, flushes and unmounts, and powers off or reboots as asked. */
_Noreturn void power_down(void);

/* Powers off or reboots without ceremony. */
_Noreturn void power_now(bool restart);

#endif
