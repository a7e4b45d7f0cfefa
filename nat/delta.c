/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One forward of a desired state comes, changes or goes, at a cost that hardly knows the others.
 *
 *	old forward --lower--> before (its elements) --.
 *	                                               |--nat_plan()--> one small transaction
 *	new forward --lower--> after -----------------'
 *
 * The elements of a state are those of its forwards side by side, because no two forwards listen
 * on the same thing.  So the difference of one forward is the difference of the whole, and the
 * state is kept by taking `before` out and putting `after` in.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nat/sets.h"

#define FORWARD_FIRST NAT_SET_FWD4
#define FORWARD_LAST  NAT_SET_FWD6_ANY_RANGE

static int lower_one(const struct nat_forward *f, struct nat_state *ret, struct err *err)
{
	const struct nat_net net = { .forwards = f, .forward_count = f ? 1 : 0 };

	return nat_lower(&net, ret, err);
}

int nat_delta_forward(const struct nat_forward *old, const struct nat_forward *new,
		      struct nat_delta *ret, struct err *err)
{
	struct nat_delta d = { 0 };
	int r = lower_one(old, &d.before, err);

	if (!r)
		r = lower_one(new, &d.after, err);
	if (r)
		nat_delta_clear(&d);
	else
		*ret = d;
	return r;
}

void nat_delta_clear(struct nat_delta *d)
{
	nat_state_clear(&d->before);
	nat_state_clear(&d->after);
}

/* --- does it fit ----------------------------------------------------------------------------- */

/* Where the fields of a forward set's key are. */
struct layout {
	size_t addr_len, port_at; /* 0: listens on any address */
	bool range;
};

static struct layout layout_of(enum nat_set_id set)
{
	bool any = nat_set_info[set].key[1] == NAT_FIELD_PORT;
	size_t addr = any ? 0 : set < NAT_SET_FWD6 ? 4 : 16;

	return (struct layout){ addr, 4 + addr, nat_set_info[set].interval };
}

static unsigned port_of(const uint8_t *key, const struct layout *l)
{
	return (unsigned)key[l->port_at] << 8 | key[l->port_at + 1];
}

static unsigned last_port_of(const struct nat_elem *e, const struct layout *l)
{
	return port_of(l->range ? e->key_end : e->key, l);
}

/* Both would take a connection to some address and port. */
static bool clash(const struct nat_elem *a, const struct layout *la, const struct nat_elem *b,
		  const struct layout *lb)
{
	if (a->key[0] != b->key[0] || port_of(a->key, la) > last_port_of(b, lb) ||
	    port_of(b->key, lb) > last_port_of(a, la))
		return false;
	return !la->addr_len || !lb->addr_len || !memcmp(a->key + 4, b->key + 4, la->addr_len);
}

static size_t find(const struct nat_elems *l, const struct nat_elem *e, bool *ret_found)
{
	size_t low = 0, high = l->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (nat_elem_compare_key(&l->e[mid], e) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	*ret_found = low < l->count && !nat_elem_compare_key(&l->e[low], e);
	return low;
}

static bool is_in(const struct nat_elems *l, const struct nat_elem *e)
{
	bool found;

	find(l, e, &found);
	return found;
}

/* An element of `l`, other than those that go, that would take what `e` takes. */
static bool has_clash(const struct nat_elems *l, const struct nat_elems *going,
		      const struct layout *ll, const struct nat_elem *e, const struct layout *le)
{
	for (size_t i = 0; i < l->count; i++)
		if (clash(&l->e[i], ll, e, le) && !is_in(going, &l->e[i]))
			return true;
	return false;
}

static bool elem_fits(const struct nat_state *s, const struct nat_delta *d, enum nat_set_id set,
		      const struct nat_elem *e)
{
	enum nat_set_id first = set < NAT_SET_FWD6 ? NAT_SET_FWD4 : NAT_SET_FWD6;
	struct layout le = layout_of(set);

	for (int i = 0; i < 4; i++) {
		enum nat_set_id other = (enum nat_set_id)((int)first + i);
		struct layout ll = layout_of(other);

		if (has_clash(&s->sets[other], &d->before.sets[other], &ll, e, &le))
			return false;
	}
	return true;
}

bool nat_delta_fits(const struct nat_state *s, const struct nat_delta *d)
{
	for (int i = FORWARD_FIRST; i <= FORWARD_LAST; i++) {
		const struct nat_elems *going = &d->before.sets[i], *coming = &d->after.sets[i];

		for (size_t k = 0; k < going->count; k++)
			if (!is_in(&s->sets[i], &going->e[k]))
				return false;
		for (size_t k = 0; k < coming->count; k++)
			if (!elem_fits(s, d, (enum nat_set_id)i, &coming->e[k]))
				return false;
	}
	return true;
}

/* --- planning and keeping -------------------------------------------------------------------- */

int nat_delta_plan(const struct nat_delta *d, struct plan *plan, struct err *err)
{
	return nat_plan(&d->after, &d->before, NAT_STAGE_BEFORE, true, NULL, 0, plan, err);
}

int nat_delta_reserve(struct nat_state *s, const struct nat_delta *d)
{
	for (int i = FORWARD_FIRST; i <= FORWARD_LAST; i++) {
		struct nat_elems *l = &s->sets[i];
		size_t need = l->count + d->after.sets[i].count;
		struct nat_elem *e;

		if (need <= l->capacity)
			continue;
		need += need / 2;
		e = reallocarray(l->e, need, sizeof(*e));
		if (!e)
			return -ENOMEM;
		l->e = e;
		l->capacity = need;
	}
	return 0;
}

static void take_out(struct nat_elems *l, const struct nat_elem *e)
{
	bool found;
	size_t at = find(l, e, &found);

	if (!found)
		return;
	l->count--;
	memmove(&l->e[at], &l->e[at + 1], (l->count - at) * sizeof(*e));
}

static void put_in(struct nat_elems *l, const struct nat_elem *e)
{
	bool found;
	size_t at = find(l, e, &found);

	if (!found) {
		memmove(&l->e[at + 1], &l->e[at], (l->count - at) * sizeof(*e));
		l->count++;
	}
	l->e[at] = *e;
}

void nat_delta_keep(struct nat_state *s, const struct nat_delta *d)
{
	for (int i = FORWARD_FIRST; i <= FORWARD_LAST; i++) {
		for (size_t k = 0; k < d->before.sets[i].count; k++)
			take_out(&s->sets[i], &d->before.sets[i].e[k]);
		for (size_t k = 0; k < d->after.sets[i].count; k++)
			put_in(&s->sets[i], &d->after.sets[i].e[k]);
	}
}
