/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Conf sections become the arrays that vlan_lower() and nat_lower() take.  All memory of a build
 * hangs in one list of blocks and goes with it.
 */
#include "netd/desired_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FOR_EACH(s, c, kind)                                                                       \
	for (struct conf_section *s = conf_section_first(conf_root(c), kind); s;                   \
	     s = conf_section_next(s, kind))

struct netd_desired_block {
	struct netd_desired_block *next;
	max_align_t data[];
};

void *desired_take(struct netd_desired *d, size_t count, size_t size)
{
	struct netd_desired_block *b;

	if (size && count > (SIZE_MAX - sizeof(*b)) / size)
		return NULL;
	b = calloc(1, sizeof(*b) + count * size);
	if (!b)
		return NULL;
	b->next = d->blocks;
	d->blocks = b;
	return b->data;
}

size_t desired_count(struct conf *c, const char *kind)
{
	size_t n = 0;

	FOR_EACH(s, c, kind)
	n++;
	return n;
}

static void copy_name(char to[VLAN_NAME_MAX], const char *from)
{
	size_t len = from ? strnlen(from, VLAN_NAME_MAX - 1) : 0;

	memcpy(to, from ? from : "", len);
	to[len] = '\0';
}

/* --- links ---------------------------------------------------------------------------------- */

/* An interface of somebody else that is waited for. */
static bool is_missing(struct netd_desired *d, const struct netd_conf_host *host, const char *name)
{
	if (!host->missing_ok || netd_conf_find_link(host, name))
		return false;
	d->missing_count++;
	return true;
}

static int build_bridges(struct conf *c, const struct netd_conf_host *host, struct netd_desired *d)
{
	struct vlan_bridge *v = desired_take(d, desired_count(c, "bridge"), sizeof(*v));
	size_t n = 0;

	if (!v)
		return -ENOMEM;
	FOR_EACH(s, c, "bridge")
	{
		copy_name(v[n].name, s->title);
		if (conf_text(s, "uplink") && !is_missing(d, host, conf_text(s, "uplink")))
			copy_name(v[n].uplink, conf_text(s, "uplink"));
		v[n++].mtu = (uint32_t)conf_number(s, "mtu");
	}
	d->vlan_net.bridges = v;
	d->vlan_net.bridge_count = n;
	return 0;
}

/* The gateway addresses of a VLAN as an array of its own. */
static int take_addresses(struct netd_desired *d, const struct conf_section *s,
			  const struct prefix **ret, size_t *ret_count)
{
	const struct conf_entry *e = conf_entry(s, "address");
	struct prefix *v = desired_take(d, e ? e->count : 0, sizeof(*v));

	if (!v)
		return -ENOMEM;
	for (size_t i = 0; e && i < e->count; i++) {
		v[i] = e->values[i].prefix;
		d->forward4 = d->forward4 || v[i].addr.family == 4;
		d->forward6 = d->forward6 || v[i].addr.family == 6;
	}
	*ret = v;
	*ret_count = e ? e->count : 0;
	return 0;
}

static enum nat_host host_of(const struct conf_section *s)
{
	switch ((enum netd_host)conf_number(s, "host")) {
	case NETD_HOST_ALL:
		return NAT_HOST_ALL;
	case NETD_HOST_NONE:
		return NAT_HOST_NONE;
	case NETD_HOST_SERVICES:
		break;
	}
	return NAT_HOST_SERVICES;
}

static int build_vlans(struct conf *c, struct netd_desired *d)
{
	size_t count = desired_count(c, "vlan"), tunnels = desired_count(c, "tunnel"), n = 0;
	struct vlan_segment *seg = desired_take(d, count, sizeof(*seg));
	struct nat_vlan *nat = desired_take(d, count + tunnels, sizeof(*nat));
	int r;

	if (!seg || !nat)
		return -ENOMEM;
	FOR_EACH(s, c, "vlan")
	{
		bool masquerade = conf_flag(s, "nat"), routed = conf_flag(s, "routed");

		copy_name(seg[n].bridge, conf_text(s, "bridge"));
		seg[n].vid = (uint16_t)s->number;
		r = take_addresses(d, s, &seg[n].addresses, &seg[n].address_count);
		if (r < 0)
			return r;
		vlan_gateway_name(seg[n].bridge, seg[n].vid, nat[n].ifname);
		nat[n].host = host_of(s);
		nat[n].outside = masquerade || routed;
		nat[n].reachable = routed;
		nat[n].masquerade4 = nat[n].masquerade6 = masquerade;
		nat[n].addresses = seg[n].addresses;
		nat[n].address_count = seg[n].address_count;
		s->user = &nat[n];
		n++;
	}
	d->vlan_net.segments = seg;
	d->vlan_net.segment_count = n;
	d->nat_net.vlans = nat;
	d->nat_net.vlan_count = n + tunnels;
	return desired_build_tunnels(c, d, nat + n);
}

static int port_ips(struct netd_desired *d, const struct conf_section *s, struct nat_port *ret)
{
	const struct conf_entry *e = conf_entry(s, "ip");
	struct addr *ips = desired_take(d, e ? e->count : 0, sizeof(*ips));

	if (!ips)
		return -ENOMEM;
	for (size_t i = 0; e && i < e->count; i++)
		ips[i] = e->values[i].addr;
	ret->ips = ips;
	ret->ip_count = e ? e->count : 0;
	return 0;
}

static int build_port(struct conf *c, const struct netd_conf_host *host, struct netd_desired *d,
		      const struct conf_section *s, struct vlan_port *port, struct nat_port *nat)
{
	const struct conf_section *bridge = netd_conf_port_bridge(c, s);
	const struct conf_value *mac = conf_value(s, "mac");
	uint32_t id;

	copy_name(port->name, s->title);
	copy_name(port->bridge, bridge ? bridge->title : NULL);
	port->kind = conf_flag(s, "existing") ? VLAN_PORT_EXISTING : VLAN_PORT_TAP;
	netd_conf_port_vids(s, port);
	port->isolated = conf_flag(s, "isolated");
	port->queues = (unsigned int)conf_number(s, "queues");
	port->vnet_hdr = conf_flag(s, "vnet_hdr");
	/* a TAP with neither is anybody's who can open /dev/net/tun: root's then */
	port->owner = conf_text(s, "group") ? (uid_t)-1 : 0;
	port->group = (gid_t)-1;
	if (conf_text(s, "owner") &&
	    netd_conf_id(conf_text(s, "owner"), host->find_user, false, &id) == 0)
		port->owner = id;
	if (conf_text(s, "group") &&
	    netd_conf_id(conf_text(s, "group"), host->find_group, true, &id) == 0)
		port->group = id;
	copy_name(nat->ifname, s->title);
	nat->guard = true;
	nat->trunk = port->access == 0;
	if (!conf_flag(s, "guard"))
		return 0;
	nat->mac_given = mac != NULL;
	if (mac)
		nat->mac = mac->mac;
	return port_ips(d, s, nat);
}

static int build_ports(struct conf *c, const struct netd_conf_host *host, struct netd_desired *d)
{
	size_t count = desired_count(c, "port"), n = 0;
	struct vlan_port *ports = desired_take(d, count, sizeof(*ports));
	struct nat_port *nat = desired_take(d, count, sizeof(*nat));
	int r;

	if (!ports || !nat)
		return -ENOMEM;
	FOR_EACH(s, c, "port")
	{
		if (conf_flag(s, "existing") && is_missing(d, host, s->title))
			continue;
		r = build_port(c, host, d, s, &ports[n], &nat[n]);
		if (r < 0)
			return r;
		n++;
	}
	d->vlan_net.ports = ports;
	d->vlan_net.port_count = n;
	d->nat_net.ports = nat;
	d->nat_net.port_count = n;
	return 0;
}

/* --- NAT ------------------------------------------------------------------------------------ */

int netd_desired_forward(const struct conf_section *s, struct nat_forward *ret)
{
	const struct conf_value *to = conf_value(s, "to"), *listen = conf_value(s, "listen");
	const struct conf_value *on = conf_value(s, "on");

	*ret = (struct nat_forward){
		.proto = conf_number(s, "proto") == NETD_PROTO_UDP ? NAT_UDP : NAT_TCP,
		.first = (uint16_t)listen->range.first,
		.last = (uint16_t)listen->range.last,
		.to = to->endpoint.addr,
		.to_first = (uint16_t)to->endpoint.ports.first,
	};
	if (on)
		ret->on = on->addr;
	return 0;
}

static int build_forwards(struct conf *c, struct netd_desired *d)
{
	struct nat_forward *v = desired_take(d, desired_count(c, "forward"), sizeof(*v));
	size_t n = 0;

	if (!v)
		return -ENOMEM;
	FOR_EACH(s, c, "forward")
	netd_desired_forward(s, &v[n++]);
	d->nat_net.forwards = v;
	d->nat_net.forward_count = n;
	return 0;
}

static bool vlan_has_family(const struct nat_vlan *v, uint8_t family)
{
	for (size_t i = 0; i < v->address_count; i++)
		if (v->addresses[i].addr.family == family)
			return true;
	return false;
}

/* The entries of one nat block: a VLAN and family each. */
static size_t nat_block(struct conf *c, const struct conf_section *s, struct nat_source *v)
{
	const struct conf_entry *from = conf_entry(s, "from");
	const struct conf_value *pool = conf_value(s, "snat");
	size_t n = 0;

	for (size_t i = 0; from && i < from->count; i++) {
		struct conf_section *vs = netd_conf_vlan(c, (unsigned int)from->values[i].number);
		struct nat_vlan *vlan = vs ? vs->user : NULL;

		for (uint8_t family = 4; vlan && family <= 6; family += 2) {
			if (!vlan_has_family(vlan, family) ||
			    (pool && pool->addr_range.first.family != family))
				continue;
			vlan->outside = true;
			copy_name(v[n].from, vlan->ifname);
			copy_name(v[n].out, conf_text(s, "to"));
			v[n].family = family;
			v[n].pool_given = pool != NULL;
			if (pool)
				v[n].pool = pool->addr_range;
			n++;
		}
	}
	return n;
}

static int build_sources(struct conf *c, struct netd_desired *d)
{
	struct nat_source *v;
	size_t max = 0, n = 0;

	FOR_EACH(s, c, "nat")
	{
		const struct conf_entry *from = conf_entry(s, "from");

		max += 2 * (from ? from->count : 0);
	}
	v = desired_take(d, max, sizeof(*v));
	if (!v)
		return -ENOMEM;
	FOR_EACH(s, c, "nat")
	n += nat_block(c, s, v + n);
	d->nat_net.sources = v;
	d->nat_net.source_count = n;
	return 0;
}

static int policy_compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct nat_policy));
}

static int build_policies(struct conf *c, struct netd_desired *d)
{
	struct nat_policy *v;
	size_t max = desired_tunnel_pairs_max(c), n = 0, kept = 0;

	FOR_EACH(s, c, "policy")
	max += conf_entry(s, "from")->count * conf_entry(s, "to")->count;
	v = desired_take(d, max, sizeof(*v));
	if (!v)
		return -ENOMEM;
	FOR_EACH(s, c, "policy")
	{
		const struct conf_entry *from = conf_entry(s, "from"), *to = conf_entry(s, "to");

		for (size_t i = 0; i < from->count; i++)
			for (size_t j = 0; j < to->count; j++, n++) {
				const struct nat_vlan *f =
					netd_conf_vlan(c, (unsigned int)from->values[i].number)
						->user;
				const struct nat_vlan *t =
					netd_conf_vlan(c, (unsigned int)to->values[j].number)->user;

				copy_name(v[n].from, f->ifname);
				copy_name(v[n].to, t->ifname);
			}
	}
	n += desired_tunnel_pairs(c, v + n);
	qsort(v, n, sizeof(*v), policy_compare);
	for (size_t i = 0; i < n; i++)
		if (!kept || policy_compare(&v[kept - 1], &v[i]) != 0)
			v[kept++] = v[i];
	d->nat_net.policies = v;
	d->nat_net.policy_count = kept;
	return 0;
}

/* --- pool addresses the uplink answers for ---------------------------------------------------- */

static bool in_subnet(const struct netd_conf_link *l, const struct addr *a)
{
	for (size_t i = 0; l && i < l->addr_count; i++)
		if (prefix_contains(&l->addrs[i], a))
			return true;
	return false;
}

static bool has_address(const struct netd_conf_link *l, const struct addr *a)
{
	for (size_t i = 0; l && i < l->addr_count; i++)
		if (addr_equal(&l->addrs[i].addr, a))
			return true;
	return false;
}

static bool extra_known(const struct vlan_extra_addr *v, size_t n, const char *ifname,
			const struct addr *a)
{
	while (n-- > 0)
		if (strcmp(v[n].ifname, ifname) == 0 && addr_equal(&v[n].prefix.addr, a))
			return true;
	return false;
}

/* Each pool address as /32 or /128 on its interface, unless the host has it there already. */
static int build_extra(struct conf *c, const struct netd_conf_host *host, struct netd_desired *d)
{
	struct vlan_extra_addr *v;
	size_t max = 0, n = 0;

	FOR_EACH(s, c, "nat")
	{
		const struct conf_value *pool = conf_value(s, "snat");

		if (pool && addr_range_count(&pool->addr_range) <= NETD_CONF_POOL_MAX)
			max += addr_range_count(&pool->addr_range);
	}
	v = desired_take(d, max, sizeof(*v));
	if (!v)
		return -ENOMEM;
	FOR_EACH(s, c, "nat")
	{
		const struct conf_value *pool = conf_value(s, "snat");
		const char *to = conf_text(s, "to");
		const struct netd_conf_link *l = netd_conf_find_link(host, to);
		struct addr a;
		bool more;

		if (!pool || addr_range_count(&pool->addr_range) > NETD_CONF_POOL_MAX)
			continue;
		for (a = pool->addr_range.first, more = true;
		     more && addr_range_contains(&pool->addr_range, &a); more = addr_next(&a, &a)) {
			if (!in_subnet(l, &a) || has_address(l, &a) || extra_known(v, n, to, &a))
				continue;
			copy_name(v[n].ifname, to);
			v[n].prefix = (struct prefix){ a, (uint8_t)addr_bits(&a) };
			n++;
		}
	}
	d->vlan_net.extra = v;
	d->vlan_net.extra_count = n;
	return 0;
}

/* --- servers --------------------------------------------------------------------------------- */

/* The port's static lease: its MAC and first IPv4 address, if it has both. */
static bool port_lease(const struct conf_section *p, struct dnsmasq_lease *ret)
{
	const struct conf_entry *ips = conf_entry(p, "ip");
	const struct conf_value *mac = conf_value(p, "mac");

	for (size_t i = 0; mac && ips && i < ips->count; i++) {
		if (ips->values[i].addr.family != 4)
			continue;
		copy_name(ret->name, p->title);
		ret->mac = mac->mac;
		ret->ip = ips->values[i].addr;
		return true;
	}
	return false;
}

/* All leases in one array, those of a VLAN side by side: where each VLAN's begin. */
struct lease_index {
	struct dnsmasq_lease *v;
	size_t first[VLAN_VID_MAX + 2]; /* of VID i: first[i] up to first[i + 1] */
};

static int build_leases(struct conf *c, struct netd_desired *d, struct lease_index *ret)
{
	size_t count = desired_count(c, "port"),
	       *at = desired_take(d, VLAN_VID_MAX + 2, sizeof(*at));
	struct dnsmasq_lease lease;

	ret->v = desired_take(d, count, sizeof(*ret->v));
	if (!ret->v || !at)
		return -ENOMEM;
	FOR_EACH(p, c, "port")
	if (port_lease(p, &lease))
		ret->first[conf_number(p, "vlan") + 1]++;
	for (size_t vid = 1; vid <= VLAN_VID_MAX + 1; vid++)
		ret->first[vid] += ret->first[vid - 1];
	memcpy(at, ret->first, sizeof(ret->first));
	FOR_EACH(p, c, "port")
	if (port_lease(p, &lease))
		ret->v[at[conf_number(p, "vlan")]++] = lease;
	return 0;
}

static void build_server(struct conf *c, const struct lease_index *leases,
			 const struct conf_section *s, struct dnsmasq_net *n)
{
	const struct conf_entry *addrs = conf_entry(s, "address"), *dns = conf_entry(s, "dns");
	const struct conf_value *dhcp = conf_value(s, "dhcp");
	const struct conf_section *bridge =
		conf_section_find(c, conf_root(c), "bridge", conf_text(s, "bridge"));

	n->vid = (uint16_t)s->number;
	netd_conf_gateway_name(s, n->ifname);
	if (conf_text(s, "name"))
		copy_name(n->domain, conf_text(s, "name"));
	n->mtu = (uint32_t)conf_number(bridge, "mtu");
	n->ra = netd_conf_vlan_ra(s);
	n->lease_s = conf_number(s, "lease") / 1000;
	for (size_t i = 0; addrs && i < addrs->count && i < DNSMASQ_ADDRS_MAX; i++)
		n->addrs[n->addr_count++] = addrs->values[i].prefix;
	for (size_t i = 0; dns && i < dns->count && i < DNSMASQ_ADDRS_MAX; i++)
		n->dns[n->dns_count++] = dns->values[i].addr;
	if (!dhcp)
		return;
	n->dhcp = true;
	n->range = dhcp->addr_range;
	for (size_t i = 0; i < n->addr_count; i++)
		if (prefix_contains(&n->addrs[i], &n->range.first))
			n->gateway = n->addrs[i];
	n->leases = leases->v + leases->first[n->vid];
	n->lease_count = leases->first[n->vid + 1] - leases->first[n->vid];
}

static int server_compare(const void *a, const void *b)
{
	const struct dnsmasq_net *x = a, *y = b;

	return (int)x->vid - (int)y->vid;
}

static int build_servers(struct conf *c, struct netd_desired *d)
{
	struct lease_index *leases = desired_take(d, 1, sizeof(*leases));
	size_t count = 0;
	int r;

	FOR_EACH(s, c, "vlan")
	count += netd_conf_vlan_served(s);
	d->servers = desired_take(d, count, sizeof(*d->servers));
	if (!d->servers || !leases)
		return -ENOMEM;
	r = build_leases(c, d, leases);
	if (r < 0)
		return r;
	FOR_EACH(s, c, "vlan")
	{
		if (!netd_conf_vlan_served(s))
			continue;
		build_server(c, leases, s, &d->servers[d->server_count++]);
	}
	qsort(d->servers, d->server_count, sizeof(*d->servers), server_compare);
	return 0;
}

/* --- all of it ------------------------------------------------------------------------------ */

static int build(struct conf *c, const struct netd_conf_host *host, bool forwards,
		 struct netd_desired *ret, struct err *err)
{
	int r = build_bridges(c, host, ret);

	r = r < 0 ? r : build_vlans(c, ret);
	r = r < 0 ? r : build_ports(c, host, ret);
	if (forwards)
		r = r < 0 ? r : build_forwards(c, ret);
	r = r < 0 ? r : build_sources(c, ret);
	r = r < 0 ? r : build_policies(c, ret);
	r = r < 0 ? r : build_extra(c, host, ret);
	r = r < 0 ? r : build_servers(c, ret);
	if (r < 0)
		return err_sys(err, r, "configuration");
	ret->vlan_net.mac_salt = host->mac_salt;
	r = vlan_lower(&ret->vlan_net, netd_conf_backend(c, host->caps), host->caps, &ret->links,
		       err);
	return r < 0 ? r : nat_lower(&ret->nat_net, &ret->nat, err);
}

int netd_desired_build(struct conf *c, const struct netd_conf_host *host, struct netd_desired *ret,
		       struct err *err)
{
	return build(c, host, true, ret, err);
}

int netd_desired_build_rest(struct conf *c, const struct netd_conf_host *host,
			    const struct netd_desired *kept, struct netd_desired *ret,
			    struct err *err)
{
	int r = build(c, host, false, ret, err);

	for (int i = NAT_SET_FWD4; r == 0 && i <= NAT_SET_FWD6_ANY_RANGE; i++)
		ret->nat.sets[i] = kept->nat.sets[i];
	return r;
}

void netd_desired_part(struct netd_desired *d)
{
	for (int i = NAT_SET_FWD4; i <= NAT_SET_FWD6_ANY_RANGE; i++)
		d->nat.sets[i] = (struct nat_elems){ 0 };
}

void netd_desired_clear(struct netd_desired *d)
{
	vlan_state_clear(&d->links);
	nat_state_clear(&d->nat);
	while (d->blocks) {
		struct netd_desired_block *b = d->blocks;

		d->blocks = b->next;
		free(b);
	}
	*d = (struct netd_desired){ 0 };
}
