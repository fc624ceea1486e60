/* Kernel modules in the initramfs: files under /modules, loaded in the order that /modules/order gives. */
#ifndef BERTH_MODULES_H
#define BERTH_MODULES_H

#include <sys/types.h>

/* Loads what is needed to reach the root file system and the host, and opens the rest for later. */
void modules_load_early(void);
/* Loads the network drivers in a child process and returns its pid, 0 when there is nothing to load. */
pid_t modules_load_network(void);
/* The same with the rest, at the lowest priority. */
pid_t modules_load_late(void);

#endif
