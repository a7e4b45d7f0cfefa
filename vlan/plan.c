/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The difference between two states of links, as operations in stages (see enum vlan_stage).
 *
 * Both states are sorted by name and walked side by side.  Per link:
 *
 *	desired only       create (or -ENODEV for one that should have been there)
 *	observed only      delete if ours, give back if used, else leave alone
 *	both, other make   delete and create: kind, TAP flags, 802.1Q parent cannot be changed
 *	both               one operation per attribute that differs
 *
 * Operations are collected unsorted and sorted by stage at the end; within a stage they keep the
 * order of their creation, which is that of names, so a bridge ("guests") comes before what is on
 * it ("guests.10").  Deletions are collected in reverse.
 *
 * A link that loses its master because that is deleted would come back without it when the plan
 * is undone; therefore it leaves its master by an operation of its own first.  From then on the
 * plan compares with a copy that says so.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vlan/state.h"

const struct plan_owner vlan_op_owner = { "vlan" };

#define LINE_BYTES 160

struct box {
	struct vlan_op op;
	size_t order;		/* of creation, within a stage */
	struct vlan_link *copy; /* a state in between that belongs to this operation; no arrays */
	char text[LINE_BYTES];
};

struct planning {
	const struct vlan_state *desired, *observed;
	struct box **boxes;
	size_t count, capacity;
	struct vlan_names *moving;
	struct err *err;
};

static void release(struct plan_op *op)
{
	struct box *b = (struct box *)op;

	free(b->copy);
	free(b);
}

static struct box *add(struct planning *p, enum vlan_stage stage, enum vlan_op_kind kind,
		       const struct vlan_link *before, const struct vlan_link *after)
{
	struct box *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	if (p->count == p->capacity) {
		size_t capacity = p->capacity ? p->capacity * 2 : 64;
		struct box **boxes = reallocarray(p->boxes, capacity, sizeof(*boxes));

		if (!boxes) {
			free(b);
			return NULL;
		}
		p->boxes = boxes;
		p->capacity = capacity;
	}
	b->op.op.owner = &vlan_op_owner;
	b->op.op.stage = stage;
	b->op.op.text = b->text;
	b->op.op.release = release;
	b->op.kind = kind;
	b->op.before = before;
	b->op.after = after;
	b->order = p->count;
	p->boxes[p->count++] = b;
	return b;
}

#define SAY(box, ...) snprintf((box)->text, sizeof((box)->text), __VA_ARGS__)

static const char *kind_name(const struct vlan_link *l)
{
	switch (l->kind) {
	case VLAN_KIND_BRIDGE:
		return "bridge";
	case VLAN_KIND_DOT1Q:
		return "802.1q device";
	case VLAN_KIND_TAP:
		return "tap";
	case VLAN_KIND_OTHER:
		break;
	}
	return "interface";
}

static const char *or_none(const char *name)
{
	return name[0] ? name : "none";
}

/* ---- single attributes ---- */

static int plan_alias(struct planning *p, const struct vlan_link *e, const struct vlan_link *d)
{
	struct box *b;

	if (!strcmp(e->alias, d->alias))
		return 0;
	b = add(p, VLAN_STAGE_ALIAS, VLAN_OP_ALIAS, e, d);
	if (!b)
		return -ENOMEM;
	SAY(b, "~ %s alias \"%.50s\" -> \"%.50s\"", d->name, e->alias, d->alias);
	return 0;
}

/* The mark of a used link says what it was; a copy of the desired link carries it. */
static int plan_use(struct planning *p, const struct vlan_link *e, const struct vlan_link *d)
{
	struct vlan_link *copy;
	struct box *b;

	if (vlan_link_is_used(e))
		return 0;
	b = add(p, VLAN_STAGE_ALIAS, VLAN_OP_ALIAS, e, NULL);
	copy = b ? malloc(sizeof(*copy)) : NULL;
	if (!copy)
		return -ENOMEM;
	*copy = *d;
	vlan_use_mark(e, copy->alias);
	b->copy = copy;
	b->op.after = copy;
	SAY(b, "+ use of %s", d->name);
	return 0;
}

static int plan_mac_mtu(struct planning *p, const struct vlan_link *e, const struct vlan_link *d)
{
	char old[MAC_TEXT_MAX], new[MAC_TEXT_MAX];
	struct box *b;

	if (!d->mac_any && mac_compare(&e->mac, &d->mac)) {
		b = add(p, VLAN_STAGE_GROW, VLAN_OP_MAC, e, d);
		if (!b)
			return -ENOMEM;
		SAY(b, "~ %s mac %s -> %s", d->name, mac_format(&e->mac, old),
		    mac_format(&d->mac, new));
	}
	if (d->mtu && d->mtu != e->mtu) {
		b = add(p, d->mtu > e->mtu ? VLAN_STAGE_GROW : VLAN_STAGE_SHRINK, VLAN_OP_MTU, e,
			d);
		if (!b)
			return -ENOMEM;
		SAY(b, "~ %s mtu %u -> %u", d->name, e->mtu, d->mtu);
	}
	return 0;
}

static int note_moving(struct planning *p, const char *name)
{
	struct vlan_names *n = p->moving;

	if (!n)
		return 0;
	if (n->count == n->capacity) {
		size_t capacity = n->capacity ? n->capacity * 2 : 8;
		const char **names = reallocarray(n->names, capacity, sizeof(*names));

		if (!names)
			return -ENOMEM;
		n->names = names;
		n->capacity = capacity;
	}
	n->names[n->count++] = name;
	return 0;
}

static int plan_master(struct planning *p, const struct vlan_link *e, const struct vlan_link *d)
{
	struct box *b;

	if (!strcmp(e->master, d->master))
		return 0;
	b = add(p, VLAN_STAGE_MASTER, VLAN_OP_MASTER, e, d);
	if (!b)
		return -ENOMEM;
	SAY(b, "~ %s bridge %s -> %s", d->name, or_none(e->master), or_none(d->master));
	/* also one that joins, where it already has a carrier and must not hear others */
	return d->master[0] && (e->master[0] || (e->up && d->isolated)) ? note_moving(p, d->name) : 0;
}

static int plan_port_flags(struct planning *p, const struct vlan_link *e, const struct vlan_link *d)
{
	bool fresh = strcmp(e->master, d->master) != 0;
	bool isolated = !fresh && e->isolated, hairpin = !fresh && e->hairpin;
	struct box *b;

	if (!d->master[0] || (isolated == d->isolated && hairpin == d->hairpin))
		return 0;
	b = add(p, VLAN_STAGE_PORT, VLAN_OP_PORT_FLAGS, e, d);
	if (!b)
		return -ENOMEM;
	SAY(b, "~ %s port%s%s", d->name, d->isolated ? " isolated" : " not isolated",
	    d->hairpin ? " hairpin" : "");
	return 0;
}

static const struct vlan_membership no_members;

static bool has_more(const struct vlan_membership *a, const struct vlan_membership *b)
{
	if (a->pvid && a->pvid != b->pvid)
		return true;
	for (size_t i = 0; i < 64; i++)
		if (a->tagged.bits[i] & ~b->tagged.bits[i])
			return true;
	return false;
}

/* What `m` has and `other` does not. */
static void say_members(struct box *b, char sign, const char *name, const struct vlan_membership *m,
			const struct vlan_membership *other)
{
	char vids[80], native[24] = "";
	struct vlan_vids more;
	bool tagged;

	for (size_t i = 0; i < 64; i++)
		more.bits[i] = m->tagged.bits[i] & ~other->tagged.bits[i];
	if (m->pvid && m->pvid != other->pvid)
		snprintf(native, sizeof(native), " native %u", m->pvid);
	tagged = !vlan_vids_empty(&more);
	SAY(b, "%c %s vlans%s%s%s", sign, name, tagged ? " tagged " : "",
	    tagged ? vlan_vids_format(&more, vids, sizeof(vids)) : "", native);
}

static int plan_members(struct planning *p, const struct vlan_link *e, const struct vlan_link *d)
{
	const struct vlan_membership *new = d->members ? d->members : &no_members;
	const struct vlan_membership *old = e->members ? e->members : &no_members;
	struct box *b;

	if (strcmp(e->master, d->master))
		old = &no_members; /* VIDs went with the bridge */
	if (has_more(old, new)) {
		b = add(p, VLAN_STAGE_UNVID, VLAN_OP_VIDS_DEL, e, d);
		if (!b)
			return -ENOMEM;
		say_members(b, '-', d->name, old, new);
	}
	if (has_more(new, old)) {
		b = add(p, VLAN_STAGE_PORT, VLAN_OP_VIDS_ADD, e, d);
		if (!b)
			return -ENOMEM;
		say_members(b, '+', d->name, new, old);
	}
	return 0;
}

static int plan_owner_of_tap(struct planning *p, const struct vlan_link *e,
			     const struct vlan_link *d)
{
	struct box *b;

	if (d->kind != VLAN_KIND_TAP || (e->owner == d->owner && e->group == d->group))
		return 0;
	b = add(p, VLAN_STAGE_PORT, VLAN_OP_TAP_OWNER, e, d);
	if (!b)
		return -ENOMEM;
	SAY(b, "~ tap %s owner %d:%d -> %d:%d", d->name, (int)e->owner, (int)e->group,
	    (int)d->owner, (int)d->group);
	return 0;
}

static int plan_up(struct planning *p, const struct vlan_link *e, const struct vlan_link *d)
{
	struct box *b;

	if (!d->up || e->up)
		return 0;
	b = add(p, VLAN_STAGE_UP, VLAN_OP_UP, e, d);
	if (!b)
		return -ENOMEM;
	SAY(b, "~ %s up", d->name);
	return 0;
}

/* ---- addresses ---- */

static bool has_addr(const struct vlan_link *l, const struct prefix *a)
{
	for (size_t i = 0; i < l->addr_count; i++)
		if (l->addrs[i].prefix.len == a->len &&
		    addr_equal(&l->addrs[i].prefix.addr, &a->addr))
			return true;
	return false;
}

static int add_addr_op(struct planning *p, enum vlan_op_kind kind, const struct vlan_link *e,
		       const struct vlan_link *d, const struct vlan_addr *a)
{
	bool adds = kind == VLAN_OP_ADDR_ADD;
	struct box *b = add(p, adds ? VLAN_STAGE_ADDRESS : VLAN_STAGE_UNADDRESS, kind, e, d);
	char text[PREFIX_TEXT_MAX];

	if (!b)
		return -ENOMEM;
	b->op.addr = a;
	SAY(b, "%c address %s on %s", adds ? '+' : '-', prefix_format(&a->prefix, text),
	    (d ? d : e)->name);
	return 0;
}

static int plan_addrs(struct planning *p, const struct vlan_link *e, const struct vlan_link *d)
{
	int r = 0;

	for (size_t i = 0; i < e->addr_count && !r; i++)
		if (e->addrs[i].ours && !has_addr(d, &e->addrs[i].prefix))
			r = add_addr_op(p, VLAN_OP_ADDR_DEL, e, d, &e->addrs[i]);
	for (size_t i = 0; i < d->addr_count && !r; i++)
		if (!has_addr(e, &d->addrs[i].prefix))
			r = add_addr_op(p, VLAN_OP_ADDR_ADD, e, d, &d->addrs[i]);
	return r;
}

/* ---- whole links ---- */

static int plan_attributes(struct planning *p, const struct vlan_link *e, const struct vlan_link *d)
{
	int r = 0;

	if (d->addr_only)
		return plan_addrs(p, e, d);
	r = d->kind == VLAN_KIND_OTHER ? plan_use(p, e, d) : plan_alias(p, e, d);
	if (!r)
		r = plan_mac_mtu(p, e, d);
	if (!r)
		r = plan_master(p, e, d);
	if (!r)
		r = plan_port_flags(p, e, d);
	if (!r)
		r = plan_members(p, e, d);
	if (!r)
		r = plan_owner_of_tap(p, e, d);
	if (!r)
		r = plan_up(p, e, d);
	return r ? r : plan_addrs(p, e, d);
}

/* A link as it is right after its birth: what plan_attributes() goes on from. */
static int plan_create(struct planning *p, const struct vlan_link *d)
{
	bool stacked = d->kind == VLAN_KIND_DOT1Q;
	struct box *b =
		add(p, stacked ? VLAN_STAGE_STACK : VLAN_STAGE_CREATE, VLAN_OP_LINK_ADD, NULL, d);
	struct vlan_link *born = b ? malloc(sizeof(*born)) : NULL;

	if (!born)
		return -ENOMEM;
	b->copy = born;
	*born = *d;
	born->master[0] = '\0';
	born->up = false;
	born->isolated = born->hairpin = false;
	born->members = NULL;
	born->addrs = NULL;
	born->addr_count = born->addr_capacity = 0;
	SAY(b, "+ %s %s", kind_name(d), d->name);
	return plan_attributes(p, born, d);
}

static int plan_delete(struct planning *p, const struct vlan_link *e, bool replace)
{
	enum vlan_stage stage = replace			      ? VLAN_STAGE_REPLACE
				: e->kind == VLAN_KIND_BRIDGE ? VLAN_STAGE_DELETE
							      : VLAN_STAGE_DELETE_TOP;
	struct box *b = add(p, stage, VLAN_OP_LINK_DEL, e, NULL);

	if (!b)
		return -ENOMEM;
	SAY(b, "- %s %s%s", kind_name(e), e->name, replace ? " (to be made anew)" : "");
	return 0;
}

/* What was ours on a link that is not: out of our bridge, and as it was before. */
static int plan_release(struct planning *p, const struct vlan_link *e)
{
	const struct vlan_link *master =
		e->master[0] ? vlan_state_find(p->observed, e->master) : NULL;
	struct vlan_link *was;
	const char *old_alias;
	uint32_t mtu;
	struct box *b;
	bool up;

	if (!vlan_use_parse(e->alias, &mtu, &up, &old_alias))
		return 0;
	b = add(p, VLAN_STAGE_UNMARK, VLAN_OP_ALIAS, e, NULL);
	was = b ? malloc(sizeof(*was)) : NULL;
	if (!was)
		return -ENOMEM;
	b->copy = was;
	*was = *e;
	was->mtu = mtu;
	was->up = up;
	snprintf(was->alias, sizeof(was->alias), "%s", old_alias);
	if (master && vlan_link_is_ours(master))
		was->master[0] = '\0';
	b->op.after = was;
	SAY(b, "- use of %s", e->name);
	if (strcmp(was->master, e->master)) {
		b = add(p, VLAN_STAGE_MASTER, VLAN_OP_MASTER, e, was);
		if (!b)
			return -ENOMEM;
		SAY(b, "~ %s bridge %s -> none", e->name, e->master);
	}
	if (was->mtu && was->mtu != e->mtu) {
		b = add(p, VLAN_STAGE_RELEASE, VLAN_OP_MTU, e, was);
		if (!b)
			return -ENOMEM;
		SAY(b, "~ %s mtu %u -> %u", e->name, e->mtu, was->mtu);
	}
	if (was->up == e->up)
		return 0;
	b = add(p, VLAN_STAGE_RELEASE, VLAN_OP_UP, e, was);
	if (!b)
		return -ENOMEM;
	SAY(b, "~ %s %s", e->name, was->up ? "up" : "down");
	return 0;
}

/* Leaves: everything of ours on a link that nobody wants any more. */
static int plan_unwanted(struct planning *p, const struct vlan_link *e)
{
	int r = 0;

	if (vlan_link_is_ours(e))
		return plan_delete(p, e, false);
	for (size_t i = 0; i < e->addr_count && !r; i++)
		if (e->addrs[i].ours)
			r = add_addr_op(p, VLAN_OP_ADDR_DEL, e, NULL, &e->addrs[i]);
	return r ? r : plan_release(p, e);
}

static bool same_make(const struct vlan_link *e, const struct vlan_link *d)
{
	if (e->kind != d->kind)
		return false;
	switch (d->kind) {
	case VLAN_KIND_BRIDGE:
		return e->vlan_filtering == d->vlan_filtering;
	case VLAN_KIND_DOT1Q:
		return e->vid == d->vid && !strcmp(e->parent, d->parent);
	case VLAN_KIND_TAP:
		return e->multi_queue == d->multi_queue && e->vnet_hdr == d->vnet_hdr &&
		       e->persist && (d->owner != (uid_t)-1 || e->owner == (uid_t)-1) &&
		       (d->group != (gid_t)-1 || e->group == (gid_t)-1);
	case VLAN_KIND_OTHER:
		break;
	}
	return true;
}

/* Deleted and made anew, itself or because what it is stacked on is. */
static bool is_replaced(const struct planning *p, const struct vlan_link *e)
{
	const struct vlan_link *d = vlan_state_find(p->desired, e->name);

	if (!d || d->kind == VLAN_KIND_OTHER || !vlan_link_is_ours(e))
		return false;
	if (!same_make(e, d))
		return true;
	if (e->kind == VLAN_KIND_DOT1Q) {
		const struct vlan_link *parent = vlan_state_find(p->observed, e->parent);

		return parent && is_replaced(p, parent);
	}
	return false;
}

/* What the plan goes on from when the master of `e` is about to be replaced: a copy without it. */
static int leave_master(struct planning *p, const struct vlan_link **e)
{
	const struct vlan_link *master =
		(*e)->master[0] ? vlan_state_find(p->observed, (*e)->master) : NULL;
	struct vlan_link *copy;
	struct box *b;

	if (!master || !is_replaced(p, master))
		return 0;
	b = add(p, VLAN_STAGE_REPLACE, VLAN_OP_MASTER, *e, NULL);
	copy = b ? malloc(sizeof(*copy)) : NULL;
	if (!copy)
		return -ENOMEM;
	*copy = **e;
	copy->master[0] = '\0';
	copy->members = NULL;
	copy->isolated = copy->hairpin = false;
	b->copy = copy;
	b->op.after = copy;
	SAY(b, "~ %s bridge %s -> none", copy->name, (*e)->master);
	*e = copy;
	return 0;
}

static int plan_used(struct planning *p, const struct vlan_link *e, const struct vlan_link *d)
{
	const struct vlan_link *master;
	int r;

	if (!e)
		return err_set(p->err, -ENODEV, "interface %s is not there", d->name);
	master = e->master[0] ? vlan_state_find(p->observed, e->master) : NULL;
	if (!d->addr_only && e->master[0] && strcmp(e->master, d->master) &&
	    !(master && vlan_link_is_ours(master)))
		return err_set(p->err, -EBUSY, "interface %s belongs to %s, which is not ours",
			       d->name, e->master);
	if (!d->addr_only && vlan_link_is_ours(e))
		return err_set(p->err, -EBUSY, "interface %s is ours already, as \"%.60s\"",
			       d->name, e->alias);
	r = leave_master(p, &e);
	return r ? r : plan_attributes(p, e, d);
}

static int plan_link(struct planning *p, const struct vlan_link *e, const struct vlan_link *d)
{
	int r;

	if (!d) {
		r = vlan_link_is_ours(e) || vlan_link_is_used(e) ? leave_master(p, &e) : 0;
		return r ? r : plan_unwanted(p, e);
	}
	if (d->kind == VLAN_KIND_OTHER)
		return plan_used(p, e, d);
	if (!e)
		return plan_create(p, d);
	if (!vlan_link_is_ours(e))
		return err_set(p->err, -EEXIST,
			       "interface %s exists and is not ours (no \"" VLAN_MARK "\" alias)",
			       d->name);
	if (is_replaced(p, e)) {
		r = plan_delete(p, e, true);
		return r ? r : plan_create(p, d);
	}
	r = leave_master(p, &e);
	return r ? r : plan_attributes(p, e, d);
}

/* ---- the whole ---- */

/* Masters are left before they are deleted; what is stacked goes before what it is stacked on. */
static int replace_rank(const struct vlan_op *op)
{
	if (op->kind != VLAN_OP_LINK_DEL)
		return 0;
	return op->before->kind == VLAN_KIND_DOT1Q ? 1 : 2;
}

static int compare_boxes(const void *a, const void *b)
{
	const struct box *x = *(const struct box *const *)a, *y = *(const struct box *const *)b;

	if (x->op.op.stage != y->op.op.stage)
		return x->op.op.stage < y->op.op.stage ? -1 : 1;
	if (x->op.op.stage == VLAN_STAGE_REPLACE && replace_rank(&x->op) != replace_rank(&y->op))
		return replace_rank(&x->op) - replace_rank(&y->op);
	if (x->op.op.stage == VLAN_STAGE_DELETE_TOP && x->op.before->kind != y->op.before->kind)
		return x->op.before->kind == VLAN_KIND_DOT1Q ? -1 : 1; /* before the TAP below it */
	return x->order < y->order ? -1 : 1;
}

static int hand_over(struct planning *p, struct plan *plan)
{
	int r = 0;

	if (p->count)
		qsort(p->boxes, p->count, sizeof(p->boxes[0]), compare_boxes);
	for (size_t i = 0; i < p->count; i++) {
		if (!r)
			r = plan_add(plan, &p->boxes[i]->op.op);
		if (r)
			release(&p->boxes[i]->op.op);
	}
	p->count = 0;
	return r;
}

int vlan_plan(const struct vlan_state *desired, const struct vlan_state *observed,
	      struct plan *plan, struct vlan_names *moving, struct err *err)
{
	struct planning p = { desired, observed, .moving = moving, .err = err };
	size_t i = 0, k = 0;
	int r = 0;

	while (!r && (i < desired->link_count || k < observed->link_count)) {
		const struct vlan_link *d = i < desired->link_count ? &desired->links[i] : NULL;
		const struct vlan_link *e = k < observed->link_count ? &observed->links[k] : NULL;
		int c = !d ? 1 : !e ? -1 : strcmp(d->name, e->name);

		r = plan_link(&p, c < 0 ? NULL : e, c > 0 ? NULL : d);
		i += c <= 0;
		k += c >= 0;
	}
	if (!r)
		r = hand_over(&p, plan);
	for (size_t n = 0; n < p.count; n++)
		release(&p.boxes[n]->op.op);
	free(p.boxes);
	return r;
}
