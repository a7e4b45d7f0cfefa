/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The difference between two states of the ruleset, as operations.
 *
 * Both sides are sorted, so a set is compared in one pass.  What an element allows or forbids
 * decides nothing about its order: all that comes or changes is in force before links appear, all
 * that goes stays until links are gone.  A link that is on its way in or out therefore always
 * finds its restrictions in place.
 *
 *	BEFORE  + guards of moving ports, + new elements, ~ changed elements
 *	(links change)
 *	AFTER   - elements, - guards
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nat/sets.h"

const struct plan_owner nat_op_owner = { "nat" };

#define LINE_MAX_BYTES 320

struct op_box {
	struct nat_op op;
	struct nat_elem guard; /* an element that only lives in the plan */
	char text[LINE_MAX_BYTES];
};

static void release(struct plan_op *op)
{
	free(op);
}

static struct op_box *box_new(enum nat_stage stage, enum nat_op_kind kind, enum nat_set_id set)
{
	struct op_box *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->op.op.owner = &nat_op_owner;
	b->op.op.stage = stage;
	b->op.op.release = release;
	b->op.op.text = b->text;
	b->op.kind = kind;
	b->op.set = set;
	return b;
}

static int box_add(struct plan *plan, struct op_box *b)
{
	int r = plan_add(plan, &b->op.op);

	if (r)
		free(b);
	return r;
}

static int add_elem_op(struct plan *plan, enum nat_stage stage, enum nat_op_kind kind,
		       enum nat_set_id set, const struct nat_elem *before,
		       const struct nat_elem *after)
{
	struct op_box *b = box_new(stage, kind, set);
	char old[LINE_MAX_BYTES / 2 - 20], new[LINE_MAX_BYTES / 2 - 20];

	if (!b)
		return -ENOMEM;
	b->op.before = before;
	b->op.after = after;
	if (before)
		nat_elem_format(set, before, old, sizeof(old));
	if (after)
		nat_elem_format(set, after, new, sizeof(new));
	if (kind == NAT_OP_ELEM_ADD)
		snprintf(b->text, sizeof(b->text), "+ nat %s %s", nat_set_name(set), new);
	else if (kind == NAT_OP_ELEM_DEL)
		snprintf(b->text, sizeof(b->text), "- nat %s %s", nat_set_name(set), old);
	else
		snprintf(b->text, sizeof(b->text), "~ nat %s %s -> %s", nat_set_name(set), old,
			 new);
	return box_add(plan, b);
}

static bool has_key(const struct nat_elems *l, const struct nat_elem *e)
{
	for (size_t i = 0; i < l->count; i++)
		if (!nat_elem_compare_key(&l->e[i], e))
			return true;
	return false;
}

/* A guard that a crash left behind is in `observed`: it serves, and goes with the other elements.
 */
static int add_guard_ops(struct plan *plan, enum nat_stage stage, const struct nat_state *observed,
			 const char *const *moving, size_t count)
{
	bool add = stage == NAT_STAGE_BEFORE;

	for (size_t i = 0; i < count; i++) {
		struct op_box *b =
			box_new(stage, add ? NAT_OP_ELEM_ADD : NAT_OP_ELEM_DEL, NAT_SET_MOVING);
		struct nat_bytes key;

		if (!b)
			return -ENOMEM;
		key = (struct nat_bytes){ b->guard.key, 0, sizeof(b->guard.key) };
		nat_put_ifname(&key, moving[i]);
		if (observed->skeleton && has_key(&observed->sets[NAT_SET_MOVING], &b->guard)) {
			free(b);
			continue;
		}
		if (add)
			b->op.after = &b->guard;
		else
			b->op.before = &b->guard;
		snprintf(b->text, sizeof(b->text), "%c nat guard of moving port %s",
			 add ? '+' : '-', moving[i]);
		if (box_add(plan, b))
			return -ENOMEM;
	}
	return 0;
}

/* One set: what comes and changes, or what goes. */
static int plan_set(enum nat_set_id set, const struct nat_elems *want, const struct nat_elems *have,
		    enum nat_stage stage, bool coming, bool going, struct plan *plan)
{
	size_t i = 0, k = 0;
	int r = 0;

	while (!r && (i < want->count || k < have->count)) {
		const struct nat_elem *w = i < want->count ? &want->e[i] : NULL;
		const struct nat_elem *h = k < have->count ? &have->e[k] : NULL;
		int c = !w ? 1 : !h ? -1 : nat_elem_compare_key(w, h);

		if (c < 0 && coming)
			r = add_elem_op(plan, stage, NAT_OP_ELEM_ADD, set, NULL, w);
		else if (c > 0 && going)
			r = add_elem_op(plan, stage, NAT_OP_ELEM_DEL, set, h, NULL);
		else if (!c && coming && !nat_elem_equal(w, h))
			r = add_elem_op(plan, stage, NAT_OP_ELEM_SET, set, h, w);
		i += c <= 0;
		k += c >= 0;
	}
	return r;
}

/* The whole table at once; text names what a reader wants to know. */
static int plan_whole(const struct nat_state *desired, const struct nat_state *observed,
		      enum nat_stage stage, struct plan *plan)
{
	struct op_box *b = box_new(stage, desired ? NAT_OP_CREATE : NAT_OP_DESTROY, NAT_SET_COUNT);
	size_t elems = 0;

	if (!b)
		return -ENOMEM;
	b->op.new = desired;
	b->op.old = observed->tables ? observed : NULL;
	for (int i = 0; desired && i < NAT_SET_COUNT; i++)
		elems += desired->sets[i].count;
	if (desired)
		snprintf(b->text, sizeof(b->text), "%c nat tables inet %s, bridge %s, %zu elements",
			 observed->tables ? '~' : '+', NAT_TABLE, NAT_TABLE, elems);
	else
		snprintf(b->text, sizeof(b->text), "- nat tables inet %s, bridge %s", NAT_TABLE,
			 NAT_TABLE);
	return box_add(plan, b);
}

/*
 * Overlapping ranges in one transaction: the kernel takes deletions into account, but only those
 * that came before.  So a set of ranges sends what goes first, whatever the stage.
 */
static int plan_sets(const struct nat_state *desired, const struct nat_state *observed,
		     enum nat_stage stage, bool one_batch, struct plan *plan)
{
	bool before = stage == NAT_STAGE_BEFORE;
	int r = 0;

	for (int i = 0; i < NAT_SET_COUNT && !r; i++) {
		enum nat_set_id set = (enum nat_set_id)i;
		const struct nat_elems *want = &desired->sets[i], *have = &observed->sets[i];
		bool ranges = nat_set_info[i].interval;

		if (before && ranges) {
			r = plan_set(set, want, have, stage, false, true, plan);
			if (!r)
				r = plan_set(set, want, have, stage, true, false, plan);
		} else if (before) {
			r = plan_set(set, want, have, stage, true, one_batch, plan);
		} else if (!ranges) {
			r = plan_set(set, want, have, stage, false, true, plan);
		}
	}
	return r;
}

int nat_plan(const struct nat_state *desired, const struct nat_state *observed,
	     enum nat_stage stage, bool one_batch, const char *const *moving, size_t moving_count,
	     struct plan *plan, struct err *err)
{
	bool before = stage == NAT_STAGE_BEFORE;
	int r;

	if (observed->foreign_owner)
		return err_set(
			err, -EPERM,
			"the nftables table \"" NAT_TABLE
			"\" is owned by another process (port id %u): is another netd running?",
			observed->owner);
	if (!desired) /* links go first, then what restricted them */
		return before || !observed->tables ? 0 : plan_whole(NULL, observed, stage, plan);
	if (!observed->skeleton) {
		r = before ? plan_whole(desired, observed, stage, plan) : 0;
	} else {
		r = plan_sets(desired, observed, stage, one_batch, plan);
	}
	if (!r && moving_count && !one_batch)
		r = add_guard_ops(plan, stage, observed, moving, moving_count);
	return r;
}
