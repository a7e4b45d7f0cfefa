/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What netd.conf demands of this host: interfaces that are there and may be used, pools that the
 * outside interface can answer for, users that exist, VLANs that the kernel can carry.
 *
 * Pure over the facts given in struct netd_conf_host.
 */
#include "netd/conf.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/nearest.h"
#include "common/base/units.h"

#define FOR_EACH(s, c, kind)                                                                       \
	for (struct conf_section *s = conf_section_first(conf_root(c), kind); s;                   \
	     s = conf_section_next(s, kind))

static int link_compare(const void *name, const void *link)
{
	return strcmp(name, ((const struct netd_conf_link *)link)->name);
}

const struct netd_conf_link *netd_conf_find_link(const struct netd_conf_host *host,
						 const char *name)
{
	return bsearch(name, host->links, host->link_count, sizeof(*host->links), link_compare);
}

/* An interface that must be there already; NULL after an error that names the nearest one. */
static const struct netd_conf_link *demand_link(struct conf *c, const struct netd_conf_host *host,
						struct conf_section *s, const char *key,
						const char *name)
{
	const struct netd_conf_link *l = netd_conf_find_link(host, name);
	struct nearest near;

	if (l || host->missing_ok)
		return l;
	nearest_start(&near, name);
	for (size_t i = 0; i < host->link_count; i++)
		if (!host->links[i].ours && !host->links[i].loopback)
			nearest_feed(&near, host->links[i].name);
	if (near.best)
		conf_error_at(c, s, key,
			      "found \"%s\", expected an interface of this host; did you mean "
			      "\"%s\"?",
			      name, near.best);
	else
		conf_error_at(c, s, key, "found \"%s\", expected an interface of this host", name);
	return NULL;
}

/* To put an interface into a bridge takes its addresses out of use. */
static void demand_no_addresses(struct conf *c, struct conf_section *s, const char *key,
				const struct netd_conf_link *l)
{
	char text[PREFIX_TEXT_MAX];

	if (l->loopback) {
		conf_error_at(c, s, key,
			      "found \"%s\", expected an interface other than the "
			      "host's loopback",
			      l->name);
		return;
	}
	for (size_t i = 0; i < l->addr_count; i++) {
		if (addr_is_link_local(&l->addrs[i].addr))
			continue;
		conf_error_at(c, s, key,
			      "found \"%s\", which carries the host's own address %s: as a port of "
			      "a bridge it would cut the host off",
			      l->name, prefix_format(&l->addrs[i], text));
		return;
	}
}

static void check_backend(struct conf *c, const struct vlan_caps *caps)
{
	if (conf_number(conf_root(c), "backend") == NETD_BACKEND_AWARE &&
	    vlan_backend_choose(caps) != VLAN_BACKEND_AWARE)
		conf_error_at(c, conf_root(c), "backend",
			      "found aware, but this kernel has no %s; expected auto or per-vlan",
			      caps->vlan_filtering ? "8021q" : "VLAN filtering of bridges");
}

static void check_bridge(struct conf *c, const struct netd_conf_host *host, struct conf_section *s)
{
	const char *uplink = conf_text(s, "uplink"), *why = NULL;
	const struct netd_conf_link *l;

	if (!uplink)
		return;
	l = demand_link(c, host, s, "uplink", uplink);
	if (l)
		demand_no_addresses(c, s, "uplink", l);
	if (host->caps)
		why = vlan_uplink_refusal(netd_conf_backend(c, host->caps), host->caps);
	if (why)
		conf_error_at(c, s, "uplink", "found \"%s\", but %s", uplink, why);
}

static int find_user_nss(const char *name, uint32_t *ret_id)
{
	const struct passwd *pw = getpwnam(name);

	if (!pw)
		return -ENOENT;
	*ret_id = pw->pw_uid;
	return 0;
}

static int find_group_nss(const char *name, uint32_t *ret_id)
{
	const struct group *gr = getgrnam(name);

	if (!gr)
		return -ENOENT;
	*ret_id = gr->gr_gid;
	return 0;
}

int netd_conf_id(const char *name, int (*find)(const char *, uint32_t *), bool group,
		 uint32_t *ret_id)
{
	uint64_t number;

	if (number_parse(name, 0, UINT32_MAX - 1, "an id", &number, NULL) == 0) {
		*ret_id = (uint32_t)number;
		return 0;
	}
	if (!find)
		find = group ? find_group_nss : find_user_nss;
	return find(name, ret_id);
}

static void check_owner(struct conf *c, const struct netd_conf_host *host, struct conf_section *s)
{
	const char *owner = conf_text(s, "owner"), *group = conf_text(s, "group");
	uint32_t id;

	if (owner && netd_conf_id(owner, host->find_user, false, &id) < 0)
		conf_error_at(c, s, "owner", "found \"%s\", expected a user of this host", owner);
	if (group && netd_conf_id(group, host->find_group, true, &id) < 0)
		conf_error_at(c, s, "group", "found \"%s\", expected a group of this host", group);
}

void netd_conf_port_vids(const struct conf_section *s, struct vlan_port *ret_port)
{
	const struct conf_value *v = conf_value(s, "trunk");

	ret_port->access = (uint16_t)conf_number(s, "vlan");
	ret_port->native = (uint16_t)conf_number(s, "native");
	for (size_t i = 0; v && i < v->ranges.count; i++)
		vlan_vids_add(&ret_port->tagged, (unsigned int)v->ranges.items[i].first,
			      (unsigned int)v->ranges.items[i].last);
}

static void check_port(struct conf *c, const struct netd_conf_host *host, struct conf_section *s)
{
	struct vlan_port port = { .kind = conf_flag(s, "existing") ? VLAN_PORT_EXISTING
								   : VLAN_PORT_TAP };
	const struct netd_conf_link *l;
	const char *why;

	check_owner(c, host, s);
	if (port.kind == VLAN_PORT_EXISTING) {
		l = demand_link(c, host, s, NULL, s->title);
		if (l)
			demand_no_addresses(c, s, NULL, l);
	}
	if (!host->caps || strlen(s->title) >= sizeof(port.name))
		return;
	strcpy(port.name, s->title);
	netd_conf_port_vids(s, &port);
	why = vlan_port_refusal(&port, netd_conf_backend(c, host->caps), host->caps);
	if (why)
		conf_error_at(c, s, port.access ? "vlan" : "trunk", "%s", why);
}

/* Answers to a pool's addresses reach this host only if they are in a subnet of the interface. */
static void check_pool(struct conf *c, struct conf_section *s, const struct netd_conf_link *l)
{
	const struct conf_value *v = conf_value(s, "snat");
	char text[ADDR_RANGE_TEXT_MAX];

	if (!v || !v->addr_range.first.family)
		return;
	for (size_t i = 0; i < l->addr_count; i++)
		if (prefix_contains(&l->addrs[i], &v->addr_range.first) &&
		    prefix_contains(&l->addrs[i], &v->addr_range.last)) {
			if (addr_range_count(&v->addr_range) > NETD_CONF_POOL_MAX)
				conf_error_at(c, s, "snat",
					      "found more than %d addresses, expected fewer",
					      NETD_CONF_POOL_MAX);
			return;
		}
	conf_error_at(c, s, "snat",
		      "found %s, expected addresses in a subnet of interface \"%s\", else no reply "
		      "comes back",
		      addr_range_format(&v->addr_range, text), l->name);
}

static void check_nat(struct conf *c, const struct netd_conf_host *host, struct conf_section *s)
{
	const char *to = conf_text(s, "to");
	const struct netd_conf_link *l;

	if (!to)
		return;
	l = demand_link(c, host, s, "to", to);
	if (!l)
		return;
	if (l->ours)
		conf_error_at(c, s, "to",
			      "found \"%s\", an interface of netd, expected one that "
			      "leads outside",
			      to);
	else
		check_pool(c, s, l);
}

/* A subnet that the host already has elsewhere would take the host's own traffic. */
static void check_subnets(struct conf *c, const struct netd_conf_host *host, struct conf_section *s,
			  const char *own)
{
	const struct conf_entry *e = conf_entry(s, "address");
	char text[PREFIX_TEXT_MAX];

	for (size_t i = 0; e && i < e->count; i++)
		for (size_t l = 0; l < host->link_count; l++)
			for (size_t a = 0; a < host->links[l].addr_count; a++) {
				const struct prefix *p = &host->links[l].addrs[a];

				if (host->links[l].ours ||
				    (own && strcmp(host->links[l].name, own) == 0) ||
				    !prefix_overlaps(&e->values[i].prefix, p))
					continue;
				conf_error_at(c, s, "address",
					      "found %s, which overlaps %s of the host's "
					      "interface \"%s\"",
					      e->values[i].text, prefix_format(p, text),
					      host->links[l].name);
			}
}

static void check_vlan(struct conf *c, const struct netd_conf_host *host, struct conf_section *s)
{
	check_subnets(c, host, s, NULL);
}

static void check_tunnel(struct conf *c, const struct netd_conf_host *host, struct conf_section *s)
{
	check_subnets(c, host, s, s->title);
}

void netd_conf_check_host(struct conf *c, const struct netd_conf_host *host)
{
	if (host->caps)
		check_backend(c, host->caps);
	FOR_EACH(bridge, c, "bridge")
	check_bridge(c, host, bridge);
	FOR_EACH(vlan, c, "vlan")
	check_vlan(c, host, vlan);
	FOR_EACH(port, c, "port")
	check_port(c, host, port);
	FOR_EACH(nat, c, "nat")
	check_nat(c, host, nat);
	FOR_EACH(tunnel, c, "tunnel")
	check_tunnel(c, host, tunnel);
	if (!host->skip_keys)
		netd_conf_check_keys(c);
}
