/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the objects of netd.conf demand of each other.  Every check adds its errors to the conf and
 * goes on, so one run shows them all; a check that depends on something already reported keeps
 * quiet.  Overlaps are found by sorting: O(n log n) for 50,000 lines.
 *
 * Pure: nothing is asked of the host (conf_host.c does that).  Forwards, NAT and policies are in
 * conf_check_nat.c.
 */
#include "netd/conf.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/cleanup.h"
#include "common/base/nearest.h"

/* Adds an error at a key with the place of the other object, "(FILE:LINE)", at the end. */
#define OTHER_FMT  "%s:%u"
#define OTHER(pos) (pos)->file, (pos)->line

static size_t count_sections(struct conf *c, const char *kind)
{
	size_t n = 0;

	for (struct conf_section *s = conf_section_first(conf_root(c), kind); s;
	     s = conf_section_next(s, kind))
		n++;
	return n;
}

#define FOR_EACH(s, c, kind)                                                                       \
	for (struct conf_section *s = conf_section_first(conf_root(c), kind); s;                   \
	     s = conf_section_next(s, kind))

/* --- references ----------------------------------------------------------------------------- */

/* The bridge a section names; an unknown one is an error with the nearest known. */
static struct conf_section *demand_bridge(struct conf *c, struct conf_section *s)
{
	const char *name = conf_text(s, "bridge");
	struct conf_section *b;
	struct nearest near;

	if (!name)
		return NULL;
	b = conf_section_find(c, conf_root(c), "bridge", name);
	if (b)
		return b;
	nearest_start(&near, name);
	FOR_EACH(known, c, "bridge")
	nearest_feed(&near, known->title);
	if (near.best)
		conf_error_at(
			c, s, "bridge",
			"found \"%s\", expected a bridge of this config; did you mean \"%s\"?",
			name, near.best);
	else
		conf_error_at(c, s, "bridge", "found \"%s\", expected a bridge of this config",
			      name);
	return NULL;
}

/* --- interface names ------------------------------------------------------------------------ */

struct named {
	char name[IFNAMSIZ];
	struct conf_section *s;
	const char *key; /* the key that says it, NULL: the title */
};

static int named_compare(const void *a, const void *b)
{
	const struct named *x = a, *y = b;
	int r = strcmp(x->name, y->name);

	if (r)
		return r;
	return x->s->pos.line < y->s->pos.line ? -1 : x->s->pos.line > y->s->pos.line;
}

static void name_add(struct named *v, size_t *n, const char *name, struct conf_section *s,
		     const char *key)
{
	if (!name || strlen(name) >= IFNAMSIZ)
		return; /* was refused as a value */
	strcpy(v[*n].name, name);
	v[*n].s = s;
	v[*n].key = key;
	(*n)++;
}

/* Bridges, gateways, ports and uplinks are interfaces of one host: no name twice. */
static void check_interface_names(struct conf *c)
{
	size_t max = 2 * count_sections(c, "bridge") + count_sections(c, "vlan") +
		     count_sections(c, "port") + count_sections(c, "tunnel"),
	       n = 0;
	CLEANUP_FREE struct named *v = calloc(max + 1, sizeof(*v));
	char gateway[IFNAMSIZ], label[64];

	if (!v)
		return;
	FOR_EACH(b, c, "bridge")
	{
		name_add(v, &n, b->title, b, NULL);
		name_add(v, &n, conf_text(b, "uplink"), b, "uplink");
	}
	FOR_EACH(vlan, c, "vlan")
	if (netd_conf_gateway_name(vlan, gateway))
		name_add(v, &n, gateway, vlan, NULL);
	FOR_EACH(p, c, "port")
	name_add(v, &n, p->title, p, NULL);
	FOR_EACH(t, c, "tunnel")
	name_add(v, &n, t->title, t, NULL);
	qsort(v, n, sizeof(*v), named_compare);
	for (size_t i = 1; i < n; i++)
		if (strcmp(v[i - 1].name, v[i].name) == 0)
			conf_error_at(
				c, v[i].s, v[i].key,
				"found the interface name \"%s\", which %s has too (" OTHER_FMT ")",
				v[i].name, conf_section_label(v[i - 1].s, label, sizeof(label)),
				OTHER(&v[i - 1].s->pos));
}

/* --- VLANs ---------------------------------------------------------------------------------- */

/* A subnet that overlaps another one overlaps the widest one before it. */
static void check_subnets(struct conf *c, const struct netd_subnets *all)
{
	char text[PREFIX_TEXT_MAX], label[64];
	size_t widest = 0;

	for (size_t i = 1; i < all->count; i++) {
		const struct netd_subnet *w = &all->v[widest], *n = &all->v[i];

		if (prefix_overlaps(&w->net, &n->net))
			conf_error_at(c, n->vlan, "address",
				      "found subnet %s, which overlaps that of %s (" OTHER_FMT ")",
				      prefix_format(&n->net, text),
				      conf_section_label(w->vlan, label, sizeof(label)),
				      OTHER(w->pos));
		else
			widest = i;
	}
}

/* The VLAN's address whose subnet holds `a`, or NULL. */
static const struct prefix *subnet_of(const struct conf_section *vlan, const struct addr *a)
{
	const struct conf_entry *e = conf_entry(vlan, "address");

	for (size_t i = 0; e && i < e->count; i++)
		if (prefix_contains(&e->values[i].prefix, a))
			return &e->values[i].prefix;
	return NULL;
}

static bool has_addresses(const struct conf_section *vlan)
{
	const struct conf_entry *e = conf_entry(vlan, "address");

	return e && e->count;
}

static void check_dhcp(struct conf *c, struct conf_section *s)
{
	const struct conf_value *v = conf_value(s, "dhcp");
	char text[ADDR_RANGE_TEXT_MAX], net_text[PREFIX_TEXT_MAX];
	const struct prefix *p;
	struct prefix net;
	struct addr last;

	if (!v || v->addr_range.first.family != 4)
		return;
	if (conf_number(s, "host") == NETD_HOST_NONE)
		conf_error_at(c, s, "dhcp",
			      "found host = none, expected services or all where "
			      "guests ask this host for addresses");
	p = subnet_of(s, &v->addr_range.first);
	if (!p || !prefix_contains(p, &v->addr_range.last)) {
		conf_error_at(c, s, "dhcp",
			      "found %s, expected a range inside the subnet of an "
			      "address of the VLAN",
			      addr_range_format(&v->addr_range, text));
		return;
	}
	net = prefix_network(p);
	last = prefix_last(p);
	if (addr_range_contains(&v->addr_range, &p->addr))
		conf_error_at(c, s, "dhcp", "found %s, which contains the gateway's own address",
			      addr_range_format(&v->addr_range, text));
	if (p->len < 31 &&
	    (addr_equal(&v->addr_range.first, &net.addr) || addr_equal(&v->addr_range.last, &last)))
		conf_error_at(c, s, "dhcp",
			      "found %s, expected a range without the first and last address of %s",
			      addr_range_format(&v->addr_range, text),
			      prefix_format(&net, net_text));
}

static void check_ra(struct conf *c, struct conf_section *s)
{
	const struct conf_entry *e = conf_entry(s, "address");
	bool wide = false;

	if (!conf_is_set(s, "ra") || !conf_flag(s, "ra"))
		return;
	for (size_t i = 0; e && i < e->count; i++)
		wide = wide ||
		       (e->values[i].prefix.addr.family == 6 && e->values[i].prefix.len == 64);
	if (!wide)
		conf_error_at(c, s, "ra", "found true, expected an IPv6 address with /64 for it");
	if (conf_number(s, "host") == NETD_HOST_NONE)
		conf_error_at(c, s, "ra",
			      "found host = none, expected services or all where "
			      "guests hear this host as their router");
}

static bool has_v6(const struct conf_section *vlan)
{
	const struct conf_entry *e = conf_entry(vlan, "address");

	for (size_t i = 0; e && i < e->count; i++)
		if (e->values[i].prefix.addr.family == 6)
			return true;
	return false;
}

static void check_vlan(struct conf *c, struct conf_section *s)
{
	struct conf_section *bridge = demand_bridge(c, s);
	const struct conf_entry *e = conf_entry(s, "address");

	if (e && e->count > NETD_CONF_ADDRS_MAX)
		conf_error_at(c, s, "address", "found %zu addresses, expected at most %d", e->count,
			      NETD_CONF_ADDRS_MAX);
	if (!has_addresses(s)) {
		static const char *const need[] = { "nat", "routed", NULL };

		for (const char *const *k = need; *k; k++)
			if (conf_flag(s, *k))
				conf_error_at(c, s, *k,
					      "found true, expected an address of the "
					      "VLAN for it");
	}
	if (conf_flag(s, "nat") && conf_flag(s, "routed"))
		conf_error_at(c, s, "routed", "found true, expected either nat or routed");
	if (netd_conf_differs(s, "lease") && !conf_is_set(s, "dhcp"))
		conf_error_at(c, s, "lease", "found it without dhcp");
	if (conf_is_set(s, "dns") && !netd_conf_vlan_served(s))
		conf_error_at(c, s, "dns", "found it without dhcp or ra, which would announce it");
	if (bridge && has_v6(s) && conf_number(bridge, "mtu") < 1280)
		conf_error_at(c, bridge, "mtu",
			      "found %u, expected at least 1280 for the IPv6 "
			      "address of vlan %s",
			      (unsigned int)conf_number(bridge, "mtu"), s->title);
	check_dhcp(c, s);
	check_ra(c, s);
}

static int section_by_name(const void *a, const void *b)
{
	const struct conf_section *x = *(struct conf_section *const *)a;
	const struct conf_section *y = *(struct conf_section *const *)b;
	int r = strcmp(conf_text(x, "name"), conf_text(y, "name"));

	return r ? r : (int)x->number - (int)y->number;
}

static void check_vlan_names(struct conf *c)
{
	CLEANUP_FREE struct conf_section **v = calloc(count_sections(c, "vlan") + 1, sizeof(*v));
	size_t n = 0;

	if (!v)
		return;
	FOR_EACH(s, c, "vlan")
	if (conf_text(s, "name"))
		v[n++] = s;
	qsort(v, n, sizeof(struct conf_section *), section_by_name);
	for (size_t i = 1; i < n; i++)
		if (strcmp(conf_text(v[i - 1], "name"), conf_text(v[i], "name")) == 0)
			conf_error_at(c, v[i], "name",
				      "found \"%s\", which vlan %s is called too (" OTHER_FMT ")",
				      conf_text(v[i], "name"), v[i - 1]->title,
				      OTHER(conf_pos_of(v[i - 1], "name")));
}

/* --- ports ---------------------------------------------------------------------------------- */

static void check_trunk(struct conf *c, struct conf_section *s)
{
	const struct conf_value *v = conf_value(s, "trunk");
	struct conf_section *bridge = netd_conf_port_bridge(c, s), *vlan;

	if (conf_is_set(s, "bridge") && !demand_bridge(c, s))
		return;
	if (!bridge) {
		if (!conf_is_set(s, "bridge"))
			conf_error_at(c, s, "trunk",
				      "found no declared VLAN in \"%s\", expected "
				      "one, or bridge = NAME",
				      v->text);
		return;
	}
	FOR_EACH(other, c, "vlan")
	{
		const char *on = conf_text(other, "bridge");
		bool member = other->number == conf_number(s, "native");

		for (size_t i = 0; i < v->ranges.count; i++)
			member = member || (other->number >= v->ranges.items[i].first &&
					    other->number <= v->ranges.items[i].last);
		vlan = other;
		if (member && on && strcmp(on, bridge->title) != 0)
			conf_error_at(c, s, "trunk",
				      "found vlan %s of bridge \"%s\" among those of "
				      "bridge \"%s\"",
				      vlan->title, on, bridge->title);
	}
}

static void check_membership(struct conf *c, struct conf_section *s)
{
	bool access = conf_is_set(s, "vlan"), trunk = conf_is_set(s, "trunk");
	unsigned int vid = (unsigned int)conf_number(s, "vlan");

	if (access == trunk)
		conf_error_at(c, s, access ? "trunk" : NULL, "%s, expected either vlan or trunk",
			      access ? "found it beside vlan" : "found neither vlan nor trunk");
	if (!trunk && conf_is_set(s, "native"))
		conf_error_at(c, s, "native", "found it without trunk");
	if (!trunk && conf_is_set(s, "bridge"))
		conf_error_at(c, s, "bridge",
			      "found it without trunk; a port is on the bridge of "
			      "its vlan");
	if (access && vid && !netd_conf_vlan(c, vid))
		conf_error_at(c, s, "vlan", "found %u, expected a VLAN of this config", vid);
	if (trunk && conf_value(s, "trunk"))
		check_trunk(c, s);
}

/* Whether `a` fits the VLANs of a port: a subnet of one of them, or none of them has subnets. */
static void check_port_ip(struct conf *c, const struct netd_subnets *subnets,
			  struct conf_section *s, const struct addr *a)
{
	const struct netd_subnet *in = netd_subnets_find(subnets, a);
	struct conf_section *own;
	char text[ADDR_TEXT_MAX];

	if (conf_is_set(s, "vlan")) {
		own = netd_conf_vlan(c, (unsigned int)conf_number(s, "vlan"));
		if (own && has_addresses(own) && !subnet_of(own, a) && !addr_is_link_local(a))
			conf_error_at(c, s, "ip",
				      "found %s, expected an address in a subnet of "
				      "vlan %s",
				      addr_format(a, text), own->title);
	}
	if (in && addr_equal(&in->gateway, a))
		conf_error_at(c, s, "ip", "found %s, the gateway's own address of vlan %s",
			      addr_format(a, text), in->vlan->title);
}

static void check_port(struct conf *c, const struct netd_subnets *subnets, struct conf_section *s)
{
	static const char *const tap_keys[] = { "owner", "group", "queues", "vnet_hdr", NULL };
	const struct conf_entry *ips = conf_entry(s, "ip");

	check_membership(c, s);
	if (conf_flag(s, "existing"))
		for (const char *const *k = tap_keys; *k; k++)
			if (netd_conf_differs(s, *k))
				conf_error_at(c, s, *k,
					      "found it with existing = true, expected it "
					      "for a TAP of ours only");
	if (ips && ips->count > NETD_CONF_IPS_MAX)
		conf_error_at(c, s, "ip", "found %zu addresses, expected at most %d", ips->count,
			      NETD_CONF_IPS_MAX);
	for (size_t i = 0; ips && i < ips->count; i++)
		if (ips->values[i].addr.family)
			check_port_ip(c, subnets, s, &ips->values[i].addr);
}

/* --- what two ports may not share ------------------------------------------------------------ */

struct identity {
	struct addr ip; /* family 0: a MAC */
	struct mac mac;
	struct conf_section *s;
};

static int identity_compare(const void *a, const void *b)
{
	const struct identity *x = a, *y = b;
	int r = addr_compare(&x->ip, &y->ip);

	r = r ? r : mac_compare(&x->mac, &y->mac);
	return r ? r : strcmp(x->s->title, y->s->title);
}

static bool identity_equal(const struct identity *x, const struct identity *y)
{
	return addr_equal(&x->ip, &y->ip) && mac_compare(&x->mac, &y->mac) == 0;
}

static void report_twice(struct conf *c, const struct identity *first,
			 const struct identity *second)
{
	char text[ADDR_TEXT_MAX];
	bool ip = second->ip.family != 0;

	conf_error_at(c, second->s, ip ? "ip" : "mac",
		      "found %s, which port \"%s\" has too (" OTHER_FMT ")",
		      ip ? addr_format(&second->ip, text) : mac_format(&second->mac, text),
		      first->s->title, OTHER(conf_pos_of(first->s, ip ? "ip" : "mac")));
}

static void check_identities(struct conf *c)
{
	size_t max = 0, n = 0;
	CLEANUP_FREE struct identity *v = NULL;

	FOR_EACH(s, c, "port")
	{
		const struct conf_entry *e = conf_entry(s, "ip");

		max += 1 + (e ? e->count : 0);
	}
	v = calloc(max + 1, sizeof(*v));
	if (!v)
		return;
	FOR_EACH(s, c, "port")
	{
		const struct conf_entry *e = conf_entry(s, "ip");
		const struct conf_value *mac = conf_value(s, "mac");

		if (mac)
			v[n++] = (struct identity){ .mac = mac->mac, .s = s };
		for (size_t i = 0; e && i < e->count; i++)
			if (e->values[i].addr.family)
				v[n++] = (struct identity){ .ip = e->values[i].addr, .s = s };
	}
	qsort(v, n, sizeof(*v), identity_compare);
	for (size_t i = 1; i < n; i++)
		if (identity_equal(&v[i - 1], &v[i]))
			report_twice(c, &v[i - 1], &v[i]);
}

static void check(struct conf *c, bool forwards)
{
	struct netd_subnets subnets = { 0 };

	if (netd_subnets_build(c, &subnets) < 0) {
		conf_error(c, conf_pos_of(conf_root(c), "state"), "out of memory");
		return;
	}
	check_interface_names(c);
	check_subnets(c, &subnets);
	check_vlan_names(c);
	FOR_EACH(vlan, c, "vlan")
	check_vlan(c, vlan);
	FOR_EACH(port, c, "port")
	check_port(c, &subnets, port);
	check_identities(c);
	if (forwards)
		netd_conf_check_forwards(c, &subnets);
	netd_conf_check_nat(c);
	netd_conf_check_tunnels(c, &subnets);
	netd_subnets_clear(&subnets);
}

void netd_conf_check(struct conf *c)
{
	check(c, true);
}

void netd_conf_check_rest(struct conf *c)
{
	check(c, false);
}
