/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One object changes, without a look at what cannot have changed.  Of a forward: without a look at
 * the kernel, and without building the rest anew.  Of anything else: links are looked at, forwards
 * stay as they are.
 *
 * What the tables hold is known: the last plan went through, and the monitor tells when anybody
 * else writes to them.  So the difference of the one object is the plan.  Should the kernel hold
 * something else all the same, it refuses the transaction (an element to be added is there, one to
 * be deleted is not) and nothing has changed.
 *
 * To find the flows of a changed forward, the kernel goes through its whole table (262,144 buckets
 * on a host of today, 5-10 ms, however few flows there are).  That comes FORGET_MS later, once for
 * all changes of that time, and at the latest before the next plan or the end of netd.
 */
#include <errno.h>
#include <stdlib.h>

#include "common/base/plan.h"
#include "common/daemon/log.h"
#include "netd/reconcile_private.h"

#define FORGET_MS 5

static int run(struct reconcile *r, const struct nat_delta *d)
{
	struct plan_port port = queue_port(&r->queue);
	struct plan plan = { 0 };
	int rc = nat_delta_plan(d, &plan, NULL);

	if (rc == 0 && !plan.count)
		rc = -EAGAIN; /* another text for the same thing */
	if (rc == 0) {
		rc = plan_run(&plan, &port, NULL);
		r->nat_known = rc == 0;
	}
	if (rc == 0 && nat_stale_collect(&plan, &r->stales) < 0)
		log_warning("nat", "old connections of changed forwards live on: out of memory");
	plan_clear(&plan);
	return rc;
}

static int change(struct reconcile *r, const struct nat_delta *d)
{
	struct nat_state *nat = &r->want.nat;
	int rc = nat_delta_fits(nat, d) ? nat_delta_reserve(nat, d) : -EEXIST;

	rc = rc < 0 ? rc : run(r, d);
	if (rc < 0)
		return rc;
	nat_delta_keep(nat, d);
	if (r->stales.count)
		loop_timer_set(r->forget, FORGET_MS);
	r->stats.apply_count++;
	r->stats.quick_count++;
	return 0;
}

int reconcile_change_forward(struct reconcile *r, const struct nat_forward *old,
			     const struct nat_forward *new)
{
	struct nat_delta d = { 0 };
	int rc;

	reconcile_hear(r);
	if (!r->conf || !r->nat_known)
		return -EAGAIN;
	rc = nat_delta_forward(old, new, &d, NULL);
	rc = rc < 0 ? rc : change(r, &d);
	nat_delta_clear(&d);
	return rc < 0 ? -EAGAIN : 0;
}

/* --- anything but forwards ---------------------------------------------------------------------
 */

static int run_rest(struct reconcile *r, struct sight *s, struct netd_desired *want)
{
	struct plan plan = { 0 };
	int rc = sight_plan(s, want, &plan, NULL);

	rc = rc < 0 ? rc : tunnels_prepare(r->tunnels, want->tunnels, want->tunnel_count, NULL);
	if (rc == 0) {
		rc = reconcile_execute(r, &plan, NULL);
		if (rc < 0)
			tunnels_abort(r->tunnels);
	}
	plan_clear(&plan);
	if (rc == 0)
		reconcile_around(r, r->conf, want, s);
	return rc;
}

int reconcile_change_rest(struct reconcile *r)
{
	struct netd_desired want = { 0 };
	struct sight s = { 0 };
	int rc = -EAGAIN;

	reconcile_hear(r);
	if (r->conf && r->nat_known)
		rc = sight_take_links(r->nl, &r->vlan_caps, r->mac_salt, &r->want.nat, &s, NULL);
	if (rc == 0)
		netd_conf_check_host(r->conf, &s.host);
	if (rc == 0 && conf_error_count(r->conf))
		rc = -EINVAL;
	rc = rc < 0 ? rc : netd_desired_build_rest(r->conf, &s.host, &r->want, &want, NULL);
	rc = rc < 0 ? rc : run_rest(r, &s, &want);
	sight_clear(&s);
	if (rc < 0) {
		netd_desired_part(&want);
		netd_desired_clear(&want);
		return -EAGAIN;
	}
	netd_desired_part(&r->want);
	reconcile_put_in_force(r, r->conf, &want);
	r->stats.apply_count++;
	r->stats.quick_count++;
	return 0;
}
