/* The keys by which an SSH server in the guest is known. */
#ifndef BERTH_SSH_KEYS_H
#define BERTH_SSH_KEYS_H

#include "identity.h"
#include "report.h"

/*
 * Where the image has host keys, or a server that needs them, puts the given Ed25519 key in their place and tells a running
 * server. Keys of other types are removed: their makers take seconds, and the copies of one machine must not share them.
 */
void ssh_keys_renew(const struct identity *identity, struct report *report);

#endif
