/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A tunnel's device as the rest of the host sees it: up, with its addresses, with routes to the
 * networks behind its peers.  The device is ours alone, so what else is on it goes.
 *
 * Networks of the device's own subnets need no route; "everything" (a length of 0) gets none: that
 * the encrypted packets themselves must not take it is for the administrator's routing rules.
 */
#ifndef NETD_TUNNEL_LINK_H
#define NETD_TUNNEL_LINK_H

#include "netd/nl.h"
#include "netd/tunnel_view.h"

/*
 * Make it so (`run`), or only say what would be done.  Each change through `line` (may be NULL);
 * their number in *ret_count.  Goes on after a failure and returns the first.
 */
int tunnel_link_sync(struct nl *nl, const struct tunnel_want *w, bool run,
		     void (*line)(void *ctx, const char *text), void *ctx, size_t *ret_count,
		     struct err *err) __attribute__((nonnull(1, 2, 6), warn_unused_result));

/*
 * The largest inner packet on the way to these endpoints: what the kernel thinks fits on each way
 * (its learned path MTU included) less 60 bytes for an IPv4 peer, 80 for an IPv6 one; without any,
 * of the default ways.  At least 1280, at most 65535 - 80.
 */
uint16_t tunnel_link_mtu(const union endpoint_addr *endpoints, size_t count, uint32_t mark);

#endif
