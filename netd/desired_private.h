/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What desired.c and desired_tunnels.c share. */
#ifndef NETD_DESIRED_PRIVATE_H
#define NETD_DESIRED_PRIVATE_H

#include "netd/desired.h"

/* A zeroed array that lives as long as the build; count 0 is fine.  NULL: no memory. */
void *desired_take(struct netd_desired *d, size_t count, size_t size);
size_t desired_count(struct conf *c, const char *kind);

/*
 * Tunnels and their peers; for nat/ each is a network beside the VLANs, written to `nat`, which has
 * room for them.
 */
int desired_build_tunnels(struct conf *c, struct netd_desired *d, struct nat_vlan *nat)
	__attribute__((nonnull, warn_unused_result));
/* Pairs of a tunnel and a VLAN that reach each other: how many at most, and those. */
size_t desired_tunnel_pairs_max(struct conf *c) __attribute__((nonnull));
size_t desired_tunnel_pairs(struct conf *c, struct nat_policy *v) __attribute__((nonnull));

#endif
