/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What forwards, NAT blocks and policies of netd.conf demand of each other and of the VLANs: the
 * second half of conf_check.c, by the same rules.  Pure.
 */
#include "netd/conf.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/cleanup.h"
#include "nat/nat.h"

#define OTHER_FMT  "%s:%u"
#define OTHER(pos) (pos)->file, (pos)->line

#define FOR_EACH(s, c, kind)                                                                       \
	for (struct conf_section *s = conf_section_first(conf_root(c), kind); s;                   \
	     s = conf_section_next(s, kind))

/* Every VID of a list key is a declared VLAN, and stands there once. */
static void demand_vlans(struct conf *c, struct conf_section *s, const char *key)
{
	const struct conf_entry *e = conf_entry(s, key);
	struct vlan_vids seen = { 0 };

	for (size_t i = 0; e && i < e->count; i++) {
		unsigned int vid = (unsigned int)e->values[i].number;

		if (!vid)
			continue; /* was refused as a value */
		if (!netd_conf_vlan(c, vid))
			conf_error_at(c, s, key, "found %u, expected a VLAN of this config", vid);
		if (vlan_vids_has(&seen, vid))
			conf_error_at(c, s, key, "found %u twice", vid);
		vlan_vids_add(&seen, vid, vid);
	}
}

/* --- forwards ------------------------------------------------------------------------------- */

void netd_conf_check_forward(struct conf *c, const struct netd_subnets *subnets,
			     struct conf_section *s)
{
	const struct conf_value *to = conf_value(s, "to"), *listen = conf_value(s, "listen");
	const struct conf_value *on = conf_value(s, "on");
	char text[ADDR_TEXT_MAX];
	const struct netd_subnet *in;
	uint64_t want, have;

	if (!to || !to->endpoint.addr.family || !listen || !listen->range.first)
		return;
	want = listen->range.last - listen->range.first + 1;
	have = to->endpoint.ports.last - to->endpoint.ports.first + 1;
	if (want != have)
		conf_error_at(c, s, "to", "found %llu ports, expected as many as in listen (%llu)",
			      (unsigned long long)have, (unsigned long long)want);
	else if (want > NAT_SHIFT_MAX && to->endpoint.ports.first != listen->range.first)
		conf_error_at(c, s, "to",
			      "found a range of %llu ports that moves, expected at most %d, or the "
			      "same numbers as in listen",
			      (unsigned long long)want, NAT_SHIFT_MAX);
	in = netd_subnets_find(subnets, &to->endpoint.addr);
	if (!in)
		conf_error_at(c, s, "to", "found %s, expected an address in a subnet of a VLAN",
			      addr_format(&to->endpoint.addr, text));
	else if (addr_equal(&in->gateway, &to->endpoint.addr))
		conf_error_at(c, s, "to",
			      "found the gateway's own address of vlan %s, expected a "
			      "guest's",
			      in->vlan->title);
	if (on && on->addr.family && on->addr.family != to->endpoint.addr.family)
		conf_error_at(c, s, "on", "found an IPv%u address, expected one of IPv%u as in to",
			      on->addr.family, to->endpoint.addr.family);
}

struct listener {
	uint64_t proto;
	uint8_t family;
	struct addr on; /* none: all of the family */
	struct conf_range ports;
	struct conf_section *s;
	bool reported; /* one error for each is enough */
};

static int listener_compare(const void *a, const void *b)
{
	const struct listener *x = a, *y = b;

	if (x->proto != y->proto)
		return x->proto < y->proto ? -1 : 1;
	if (x->family != y->family)
		return x->family < y->family ? -1 : 1;
	if (x->ports.first != y->ports.first)
		return x->ports.first < y->ports.first ? -1 : 1;
	return x->s->pos.line < y->s->pos.line ? -1 : x->s->pos.line > y->s->pos.line;
}

/* One socket for both: same protocol and family, a port in common, and an address in common. */
static bool listeners_clash(const struct listener *x, const struct listener *y)
{
	return x->proto == y->proto && x->family == y->family && y->ports.first <= x->ports.last &&
	       (!x->on.family || !y->on.family || addr_equal(&x->on, &y->on));
}

static bool stands_later(const struct conf_section *x, const struct conf_section *y)
{
	return x->pos.file == y->pos.file && x->pos.line > y->pos.line;
}

/* The later one in the file is the one at fault. */
static void report_clash(struct conf *c, struct listener *x, struct listener *y)
{
	struct listener *late = stands_later(x->s, y->s) ? x : y, *early = late == x ? y : x;
	char label[64];

	if (!late->reported)
		conf_error_at(c, late->s, "listen",
			      "found %s, on which %s listens too (" OTHER_FMT ")",
			      conf_text(late->s, "listen"),
			      conf_section_label(early->s, label, sizeof(label)),
			      OTHER(conf_pos_of(early->s, "listen")));
	late->reported = true;
}

/*
 * Sorted by first port, a clash is with one of those before that still reach this port.  The inner
 * loop looks back only over those: usually at none, since few listeners share a port.
 */
static void check_listeners(struct conf *c)
{
	size_t max = 0, n = 0, oldest = 0;
	CLEANUP_FREE struct listener *v = NULL;

	FOR_EACH(s, c, "forward")
	max++;
	v = calloc(max + 1, sizeof(*v));
	if (!v)
		return;
	FOR_EACH(s, c, "forward")
	{
		const struct conf_value *to = conf_value(s, "to"), *l = conf_value(s, "listen");
		const struct conf_value *on = conf_value(s, "on");

		if (to && to->endpoint.addr.family && l && l->range.first)
			v[n++] = (struct listener){ conf_number(s, "proto"),
						    to->endpoint.addr.family,
						    on ? on->addr : (struct addr){ 0 },
						    l->range,
						    s,
						    false };
	}
	qsort(v, n, sizeof(*v), listener_compare);
	for (size_t i = 1; i < n; i++) {
		while (oldest < i &&
		       (v[oldest].proto != v[i].proto || v[oldest].family != v[i].family ||
			v[oldest].ports.last < v[i].ports.first))
			oldest++;
		for (size_t j = oldest; j < i; j++)
			if (listeners_clash(&v[j], &v[i]))
				report_clash(c, &v[j], &v[i]);
	}
}

/* --- NAT and policies ------------------------------------------------------------------------ */

/* A VLAN's traffic through one interface gets one treatment per family. */
static void check_nat_twice(struct conf *c, struct conf_section *s)
{
	const struct conf_entry *mine = conf_entry(s, "from");
	const struct conf_value *pool = conf_value(s, "snat"), *other_pool;
	struct conf_section *o = conf_section_first(conf_root(c), "nat");
	struct vlan_vids vids = { 0 };

	for (size_t i = 0; mine && i < mine->count; i++)
		vlan_vids_add(&vids, (unsigned int)mine->values[i].number,
			      (unsigned int)mine->values[i].number);
	for (; o && o != s; o = conf_section_next(o, "nat")) {
		const struct conf_entry *theirs = conf_entry(o, "from");

		other_pool = conf_value(o, "snat");
		if (!conf_text(o, "to") || strcmp(conf_text(o, "to"), conf_text(s, "to")) != 0)
			continue;
		if (pool && other_pool &&
		    pool->addr_range.first.family != other_pool->addr_range.first.family)
			continue;
		for (size_t i = 0; theirs && i < theirs->count; i++)
			if (vlan_vids_has(&vids, (unsigned int)theirs->values[i].number))
				conf_error_at(c, s, "from",
					      "found %llu, whose traffic to %s nat \"%s\" has "
					      "already (" OTHER_FMT ")",
					      (unsigned long long)theirs->values[i].number,
					      conf_text(s, "to"), o->title, OTHER(&o->pos));
	}
}

static bool has_addresses(const struct conf_section *vlan)
{
	const struct conf_entry *e = conf_entry(vlan, "address");

	return e && e->count;
}

static bool has_family(const struct conf_section *vlan, uint8_t family)
{
	const struct conf_entry *e = conf_entry(vlan, "address");

	for (size_t i = 0; e && i < e->count; i++)
		if (e->values[i].prefix.addr.family == family)
			return true;
	return false;
}

static void check_nat(struct conf *c, struct conf_section *s)
{
	const struct conf_entry *from = conf_entry(s, "from");
	const struct conf_value *pool = conf_value(s, "snat");

	demand_vlans(c, s, "from");
	for (size_t i = 0; from && i < from->count; i++) {
		struct conf_section *v = netd_conf_vlan(c, (unsigned int)from->values[i].number);
		uint8_t family = pool ? pool->addr_range.first.family : 0;

		if (v && !has_addresses(v))
			conf_error_at(c, s, "from", "found vlan %s, which has no address",
				      v->title);
		else if (v && family && !has_family(v, family))
			conf_error_at(c, s, "snat",
				      "found an IPv%u pool, but vlan %s has no such "
				      "address",
				      family, v->title);
	}
	if (conf_text(s, "to"))
		check_nat_twice(c, s);
}

static void check_policies(struct conf *c)
{
	uint64_t pairs = 0;

	FOR_EACH(s, c, "policy")
	{
		const struct conf_entry *from = conf_entry(s, "from"), *to = conf_entry(s, "to");

		demand_vlans(c, s, "from");
		demand_vlans(c, s, "to");
		if (!from || !to)
			continue;
		pairs += (uint64_t)from->count * to->count;
		if (pairs > NETD_CONF_PAIR_MAX) {
			conf_error_at(c, s, NULL,
				      "found more than %d pairs of VLANs in all "
				      "policies, expected fewer",
				      NETD_CONF_PAIR_MAX);
			return;
		}
	}
}

void netd_conf_check_forwards(struct conf *c, const struct netd_subnets *subnets)
{
	FOR_EACH(forward, c, "forward")
	netd_conf_check_forward(c, subnets, forward);
	check_listeners(c);
}

void netd_conf_check_nat(struct conf *c)
{
	FOR_EACH(nat, c, "nat")
	check_nat(c, nat);
	check_policies(c);
}
