/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel settings that gateways need: forwarding of packets, and router advertisements still
 * heard on uplinks where they were heard before.
 *
 *	net/ipv4/ip_forward			1 while some VLAN has an IPv4 address
 *	net/ipv6/conf/all/forwarding		1 while some VLAN has an IPv6 address
 *	net/ipv6/conf/IF/accept_ra		1 becomes 2 on interfaces of the host itself, else
 *						forwarding=1 would end autoconfiguration
 *
 * Never on ours, on ports of bridges, nor as the default of interfaces to come: there it would let
 * guests, and our own dnsmasq, configure the host.
 *
 * What was there before is remembered in the state first, and put back when nothing needs it any
 * more.  Blocking, cheap; compare then set, so nothing is written while all is as it should be.
 */
#ifndef NETD_SETTINGS_H
#define NETD_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/err.h"
#include "netd/state.h"
#include "vlan/vlan.h"

/*
 * Make them so.  `seen` are the links that are there, `want` ours as they are wanted.  0 or the
 * first failure.
 */
int settings_apply(struct state *st, bool forward4, bool forward6, const struct vlan_state *seen,
		   const struct vlan_state *want, struct err *err)
	__attribute__((nonnull(1, 4, 5), warn_unused_result));

/* What settings_apply() would write, one line each; returns how many. */
size_t settings_diff(bool forward4, bool forward6, void (*line)(void *ctx, const char *text),
		     void *ctx);

/*
 * A descriptor that becomes readable when somebody changes forwarding, -1 where the kernel does not
 * tell; the caller closes it.  settings_watch_read() empties it; true when there was something.
 */
int settings_watch_open(void);
bool settings_watch_read(int fd);

#endif
