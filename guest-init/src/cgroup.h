/* One control group (v2) per exec, so that everything it started can be ended at once, whatever it calls itself. */
#ifndef BERTH_CGROUP_H
#define BERTH_CGROUP_H

#include <stdint.h>
#include <sys/types.h>

/* Directory that holds the groups; NULL: this kernel has none, process groups are used instead. */
void cgroup_init(const char *parent);

/* Makes a group; returns a directory descriptor, or -1 where there are no groups. */
int cgroup_make(uint64_t number);

/* Like fork, with the child born inside the group. */
pid_t cgroup_fork(int group);

/* Ends everything in the group; `leader` is the process group used where there are no groups. */
void cgroup_kill(int group, pid_t leader);

/* Lets go of the group. It is removed as soon as its last process ends. */
void cgroup_release(int group, uint64_t number);

#endif
