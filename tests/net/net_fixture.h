/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A whole apply as netd does it, for tests: lower, observe, plan in the three parts, run.  Works on
 * any netlink port, the kernel's or the fake one.
 */
#ifndef TESTS_NET_FIXTURE_H
#define TESTS_NET_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "netd/observe.h"
#include "netd/queue.h"

struct net_fixture {
	struct nl *nl;
	struct vlan_caps vcaps;
	struct nat_caps ncaps;
	struct queue q;
};

/* Everything a plan refers to, kept until the plan is gone. */
struct net_apply {
	struct vlan_state vwant, vseen;
	struct nat_state nwant, nseen;
	struct vlan_names moving;
	struct plan plan;
};

static inline void net_apply_clear(struct net_apply *a)
{
	plan_clear(&a->plan);
	vlan_names_clear(&a->moving);
	vlan_state_clear(&a->vwant);
	vlan_state_clear(&a->vseen);
	nat_state_clear(&a->nwant);
	nat_state_clear(&a->nseen);
}

/* `nat` NULL: no tables wanted. */
static inline int net_plan(struct net_fixture *f, const struct vlan_net *vlan,
			   const struct nat_net *nat, enum vlan_backend backend,
			   struct net_apply *a, struct err *err)
{
	struct plan links = { 0 };
	bool quiet;
	int r = vlan_lower(vlan, backend, &f->vcaps, &a->vwant, err);

	if (!r && nat)
		r = nat_lower(nat, &a->nwant, err);
	if (!r)
		r = observe_vlan(f->nl, &f->vcaps, &a->vseen, err);
	if (!r)
		r = observe_nat(f->nl, &a->nseen, err);
	if (!r)
		r = vlan_plan(&a->vwant, &a->vseen, &links, &a->moving, err);
	quiet = !links.count;
	if (!r)
		r = nat_plan(nat ? &a->nwant : NULL, &a->nseen, NAT_STAGE_BEFORE, quiet,
			     a->moving.names, a->moving.count, &a->plan, err);
	for (size_t i = 0; i < links.count && !r; i++)
		r = plan_add(&a->plan, links.ops[i]);
	free(links.ops); /* the operations moved */
	if (!r && (!quiet || !nat))
		r = nat_plan(nat ? &a->nwant : NULL, &a->nseen, NAT_STAGE_AFTER, false,
			     a->moving.names, a->moving.count, &a->plan, err);
	return r;
}

/* Plan and run; the number of operations, or -errno. */
static inline long net_run(struct net_fixture *f, const struct vlan_net *vlan,
			   const struct nat_net *nat, enum vlan_backend backend, struct err *err)
{
	struct plan_port port = queue_port(&f->q);
	struct net_apply a = { 0 };
	int r = net_plan(f, vlan, nat, backend, &a, err);
	long count = (long)a.plan.count;

	for (size_t i = 0; i < a.plan.count && getenv("SHOW_PLANS"); i++)
		fprintf(stderr, "%3u %s\n", a.plan.ops[i]->stage, a.plan.ops[i]->text);
	if (!r)
		r = plan_run(&a.plan, &port, err);
	net_apply_clear(&a);
	return r ? r : count;
}

#endif
