/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a configuration wants, in the terms of the libraries: links and addresses (vlan/), set
 * elements (nat/), servers of DHCP and DNS (dnsmasq), tunnels (tunnels).  Pure, apart from looking up users.
 *
 * A desired owns everything in it and borrows nothing from the conf but during the build.
 */
#ifndef NETD_DESIRED_H
#define NETD_DESIRED_H

#include "common/base/err.h"
#include "nat/nat.h"
#include "netd/conf.h"
#include "netd/dnsmasq.h"
#include "netd/tunnel_view.h"
#include "vlan/vlan.h"

struct netd_desired {
	struct vlan_state links;
	struct nat_state nat;
	struct dnsmasq_net *servers; /* by VID */
	size_t server_count;
	struct tunnel_want *tunnels;
	size_t tunnel_count;
	size_t missing_count;	 /* interfaces left out because they are not there (missing_ok) */
	bool forward4, forward6; /* some VLAN is a gateway of that family */
	/* behind links and nat: */
	struct vlan_net vlan_net;
	struct nat_net nat_net;
	struct netd_desired_block *blocks;
};

/*
 * Build from a conf without errors.  `host` tells which pool addresses lie in a subnet of their
 * interface and have to be answered for.  -EOPNOTSUPP, -EINVAL with a sentence as vlan_lower() and
 * nat_lower() say it, -ENOMEM.  The caller clears *ret, also after an error.
 */
int netd_desired_build(struct conf *c, const struct netd_conf_host *host, struct netd_desired *ret,
		       struct err *err) __attribute__((nonnull(1, 2, 3), warn_unused_result));
/*
 * The same without forwards, which keep their elements from `kept`: those of the sets of forwards
 * are then in both, for netd_desired_part().
 */
int netd_desired_build_rest(struct conf *c, const struct netd_conf_host *host,
			    const struct netd_desired *kept, struct netd_desired *ret,
			    struct err *err)
	__attribute__((nonnull(1, 2, 3, 4), warn_unused_result));
/* The elements of forwards are no longer in `d`. */
void netd_desired_part(struct netd_desired *d) __attribute__((nonnull));
void netd_desired_clear(struct netd_desired *d) __attribute__((nonnull));

/* One forward section: what a single change needs. */
int netd_desired_forward(const struct conf_section *s, struct nat_forward *ret)
	__attribute__((nonnull));

#endif
