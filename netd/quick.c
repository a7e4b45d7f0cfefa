/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One forward, without a look at the kernel and without building the rest anew.
 *
 * What is there is known: the last plan went through, the monitor has told of nothing since, and
 * everything of ours that changes without us is told by the monitor.  So the difference of the one
 * object is the plan.  Should the kernel hold something else all the same, it refuses the
 * transaction (an element to be added is there, one to be deleted is not) and nothing has changed.
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
		r->in_sync = rc == 0;
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
	if (!r->conf || !r->in_sync)
		return -EAGAIN;
	rc = nat_delta_forward(old, new, &d, NULL);
	rc = rc < 0 ? rc : change(r, &d);
	nat_delta_clear(&d);
	return rc < 0 ? -EAGAIN : 0;
}
