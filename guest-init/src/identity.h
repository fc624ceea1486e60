/* What makes a guest a particular machine: the parameters of `configure`, decoded and checked. */
#ifndef BERTH_IDENTITY_H
#define BERTH_IDENTITY_H

#include "net_config.h"
#include "params.h"

#define IDENTITY_ENTROPY_MAX 512
#define IDENTITY_NAMESERVERS_MAX 8
#define IDENTITY_FURTHER_MAX 7

struct identity {
  char hostname[65];     /* empty: stays as it is */
  uint64_t unix_time_ns; /* 0: stays as it is */
  uint8_t entropy[IDENTITY_ENTROPY_MAX];
  uint32_t entropy_length;
  bool has_network;
  struct net_config network;
  /* Interfaces beside the first: each begins with its MAC. */
  struct net_config further[IDENTITY_FURTHER_MAX];
  int further_count;
  char nameservers[IDENTITY_NAMESERVERS_MAX][64];
  int nameserver_count;
  /* The machine is a copy of another one, or the first from its image: what must be unique to a machine is made anew. */
  bool renew;
  /* The network is this machine's already. */
  bool keep_network;
  /* An OpenSSH private key file and its public line; empty: none. */
  char ssh_key[1024];
  char ssh_public_key[256];
};

/* 0, the tag of the parameter that is malformed, or -1 when the list itself is. */
int identity_decode(struct identity *identity, struct params params);

#endif
