/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One look at the kernel: links, tables, and the host as the checks of a configuration see it; and
 * the plan that leads from there to what a configuration wants.
 */
#ifndef NETD_SIGHT_H
#define NETD_SIGHT_H

#include "common/base/plan.h"
#include "netd/conf.h"
#include "netd/desired.h"
#include "netd/nl.h"

struct sight {
	struct vlan_state links;
	struct nat_state nat;
	struct netd_conf_host host;
	struct netd_conf_link *host_links;
	struct prefix *host_addrs;
	bool nat_lent;
};

/* Look.  `caps` is borrowed by the sight.  The caller clears *s, also after an error. */
int sight_take(struct nl *nl, const struct vlan_caps *caps, uint64_t mac_salt, struct sight *s,
	       struct err *err) __attribute__((nonnull(1, 2, 4), warn_unused_result));
/* Look at links alone; the tables are as `nat` says, which is lent to the sight. */
int sight_take_links(struct nl *nl, const struct vlan_caps *caps, uint64_t mac_salt,
		     const struct nat_state *nat, struct sight *s, struct err *err)
	__attribute__((nonnull(1, 2, 4, 5), warn_unused_result));
void sight_clear(struct sight *s) __attribute__((nonnull));

/*
 * Append to `plan` everything that leads from the sight to `want`: guards and grants first, then
 * links, then what may only go when links are gone.  Both must outlive the plan.  Errors as
 * vlan_plan() and nat_plan().
 */
int sight_plan(const struct sight *s, const struct netd_desired *want, struct plan *plan,
	       struct err *err) __attribute__((nonnull(1, 2, 3), warn_unused_result));

#endif
