/* From the initramfs to the root file system. */
#ifndef BERTH_BOOT_H
#define BERTH_BOOT_H

/* Mounts the kernel's file systems, loads modules, mounts the root and makes it `/`. Powers off if that is impossible. */
void boot(void);

/* Where the control groups of execs go; NULL without cgroup v2. */
const char *boot_cgroup(void);

/* Path of the block device that `/` was mounted from; empty when this process did not mount it. */
const char *boot_root_device(void);

#endif
