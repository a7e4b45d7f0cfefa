/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Looking at the kernel: what is there, what it can do, and which flows must be forgotten.
 *
 * Blocking, one thread, all through the netlink port.
 */
#ifndef NETD_OBSERVE_H
#define NETD_OBSERVE_H

#include "netd/nl.h"

#define OBSERVE_TRIES 12 /* dumps that the kernel called interrupted, or that lost messages */

/*
 * The links and addresses of this moment.  An interrupted dump starts over with a clean slate, at
 * most OBSERVE_TRIES times, then -EAGAIN.  `caps` may be NULL (before the probe).  The caller
 * clears *ret.
 */
int observe_vlan(struct nl *nl, const struct vlan_caps *caps, struct vlan_state *ret,
		 struct err *err) __attribute__((nonnull(1, 3), warn_unused_result));

/* The tables of this moment; the same.  Knows whether their owner is this process. */
int observe_nat(struct nl *nl, struct nat_state *ret, struct err *err)
	__attribute__((nonnull(1, 2), warn_unused_result));

/* How often a dump had to start over, since the process began (a metric). */
uint64_t observe_restarts(void);

/*
 * Try what the kernel can do, with links and tables that are gone again before this returns.
 * Leaves links alone that exist.  0 also when it can do little; -EPERM without CAP_NET_ADMIN.
 */
int observe_caps(struct nl *nl, struct vlan_caps *ret_vlan, struct nat_caps *ret_nat,
		 struct err *err) __attribute__((nonnull(1, 2, 3), warn_unused_result));

/* Forget the flows that match; their number in *ret_count.  Nothing stale: no message is sent. */
int observe_forget_flows(struct nl *nl, const struct nat_stales *stales, size_t *ret_count,
			 struct err *err) __attribute__((nonnull(1, 2, 3), warn_unused_result));

#endif
