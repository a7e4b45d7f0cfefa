/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From bridges, VLANs, ports and uplinks to links.
 *
 *	aware                                  per-vlan
 *	  guests (bridge, filtering)             guests.10 (bridge, addresses)
 *	   |- guests.10 (802.1Q, addresses)       |- vm1 (TAP, access 10)
 *	   |- vm1 (TAP, pvid 10)                  |- fw1.10 (802.1Q on fw1: trunk)
 *	   |- fw1 (TAP, 10,20 tagged)             `- eth1.10 (802.1Q on eth1: uplink)
 *	   `- eth1 (used, all VIDs tagged)       guests.20 ...
 *
 * Every bridge and gateway of one bridge has the same generated MAC, so that a change of backend
 * (a new kernel) does not change the address that guests have in their ARP caches.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vlan/state.h"

#define MTU_DEFAULT 1500

struct lowering {
	const struct vlan_net *net;
	const struct vlan_caps *caps;
	enum vlan_backend backend;
	struct vlan_state s;
	struct err *err;
};

/* FNV-1a: spreads names over MACs, protects nothing. */
static struct mac make_mac(uint64_t salt, const char *text, uint8_t first)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325) ^ salt;
	struct mac m = { { first } };

	for (; *text; text++)
		h = (h ^ (uint8_t)*text) * UINT64_C(0x100000001b3);
	h ^= h >> 29;
	for (int i = 1; i < 6; i++)
		m.b[i] = (uint8_t)(h >> (8 * i));
	return m;
}

static const struct vlan_bridge *find_bridge(const struct vlan_net *net, const char *name)
{
	for (size_t i = 0; i < net->bridge_count; i++)
		if (!strcmp(net->bridges[i].name, name))
			return &net->bridges[i];
	return NULL;
}

static const struct vlan_segment *find_segment(const struct vlan_net *net, const char *bridge,
					       unsigned vid)
{
	for (size_t i = 0; i < net->segment_count; i++)
		if (net->segments[i].vid == vid && !strcmp(net->segments[i].bridge, bridge))
			return &net->segments[i];
	return NULL;
}

static uint32_t bridge_mtu(const struct vlan_bridge *b)
{
	return b->mtu ? b->mtu : MTU_DEFAULT;
}

static uint32_t segment_mtu(const struct vlan_net *net, const struct vlan_segment *seg)
{
	return seg->mtu ? seg->mtu : bridge_mtu(find_bridge(net, seg->bridge));
}

static struct vlan_link *add_link(struct lowering *w, enum vlan_kind kind, const char *name)
{
	struct vlan_link *l = vlan_state_add(&w->s);

	if (!l)
		return NULL;
	vlan_name_copy(l->name, name);
	l->kind = kind;
	l->up = true;
	l->owner = (uid_t)-1;
	l->group = (gid_t)-1;
	return l;
}

/* "NAME.VID", -EINVAL when it is longer than a name may be. */
static int sub_name(struct lowering *w, const char *name, unsigned vid, char *buf)
{
	if (strlen(name) > VLAN_BRIDGE_NAME_LEN_MAX)
		return err_set(w->err, -EINVAL,
			       "interface %s: the name has more than %d bytes, %s.%u would not fit",
			       name, VLAN_BRIDGE_NAME_LEN_MAX, name, vid);
	snprintf(buf, VLAN_NAME_MAX, "%.*s.%u", VLAN_BRIDGE_NAME_LEN_MAX, name, vid % 4096);
	return 0;
}

/* What the kernel would make of the MAC (RFC 4291, appendix A). */
static struct prefix link_local(const struct mac *m)
{
	uint8_t b[16] = { 0xfe, 0x80, [11] = 0xff, [12] = 0xfe };

	memcpy(b + 8, m->b, 3);
	memcpy(b + 13, m->b + 3, 3);
	b[8] ^= 0x02;
	return (struct prefix){ addr_from_bytes(6, b), 64 };
}

/*
 * A router needs a link-local address: neighbours are asked from it, and guests believe no router
 * advertisement from another.  By us, because the kernel makes one only when a link comes up, and
 * keeps it back for seconds to see whether it is unique.
 */
static int add_link_local(struct vlan_link *l, const struct vlan_segment *seg)
{
	const struct prefix p = link_local(&l->mac);

	for (size_t i = 0; i < seg->address_count; i++)
		if (seg->addresses[i].addr.family == 6)
			return vlan_link_add_addr(l, &p, true);
	return 0;
}

static int add_addresses(struct vlan_link *l, const struct vlan_segment *seg)
{
	if (add_link_local(l, seg))
		return -ENOMEM;
	for (size_t i = 0; i < seg->address_count; i++)
		if (vlan_link_add_addr(l, &seg->addresses[i], true))
			return -ENOMEM;
	return 0;
}

/* ---- refusals ---- */

static const char *const no_dot1q =
	"this kernel has neither bridge VLAN filtering nor 802.1Q devices (8021q): "
	"it cannot carry tagged frames";

const char *vlan_port_refusal(const struct vlan_port *port, enum vlan_backend b,
			      const struct vlan_caps *caps)
{
	if (port->kind == VLAN_PORT_TAP && !caps->tun)
		return "this kernel has no /dev/net/tun: it cannot make TAP ports";
	if (port->isolated && !caps->isolated)
		return "this kernel cannot isolate bridge ports";
	if (!port->access && !vlan_vids_empty(&port->tagged) && b == VLAN_BACKEND_PER_VLAN &&
	    !caps->dot1q)
		return no_dot1q;
	return NULL;
}

const char *vlan_uplink_refusal(enum vlan_backend b, const struct vlan_caps *caps)
{
	return b == VLAN_BACKEND_PER_VLAN && !caps->dot1q ? no_dot1q : NULL;
}

/* ---- bridges and VLANs ---- */

static int lower_bridge_aware(struct lowering *w, const struct vlan_bridge *b)
{
	struct vlan_link *l = add_link(w, VLAN_KIND_BRIDGE, b->name);

	if (!l)
		return -ENOMEM;
	l->vlan_filtering = true;
	l->mac = make_mac(w->net->mac_salt, b->name, 0x02);
	l->mtu = bridge_mtu(b);
	snprintf(l->alias, sizeof(l->alias), VLAN_MARK "bridge %s", b->name);
	for (size_t i = 0; i < w->net->segment_count; i++) {
		const struct vlan_segment *seg = &w->net->segments[i];

		if (strcmp(seg->bridge, b->name))
			continue;
		if (seg->address_count) {
			struct vlan_membership *m = vlan_link_members(l);

			if (!m)
				return -ENOMEM;
			vlan_vids_add(&m->tagged, seg->vid, seg->vid);
		}
		if (segment_mtu(w->net, seg) > l->mtu)
			l->mtu = segment_mtu(w->net, seg); /* a device on it cannot have more */
	}
	return 0;
}

static int lower_segment(struct lowering *w, const struct vlan_segment *seg)
{
	bool aware = w->backend == VLAN_BACKEND_AWARE;
	char name[VLAN_NAME_MAX];
	struct vlan_link *l;

	if (aware && !seg->address_count)
		return 0; /* only a VID on ports */
	vlan_gateway_name(seg->bridge, seg->vid, name);
	l = add_link(w, aware ? VLAN_KIND_DOT1Q : VLAN_KIND_BRIDGE, name);
	if (!l)
		return -ENOMEM;
	if (aware) {
		vlan_name_copy(l->parent, seg->bridge);
		l->vid = seg->vid;
	}
	l->mac = make_mac(w->net->mac_salt, seg->bridge, 0x02);
	l->mtu = segment_mtu(w->net, seg);
	snprintf(l->alias, sizeof(l->alias), VLAN_MARK "vlan %s %u", seg->bridge, seg->vid);
	return add_addresses(l, seg);
}

/* An 802.1Q device on a port or uplink, enslaved to the VLAN's bridge (per-vlan). */
static int add_trunk_leg(struct lowering *w, const char *parent, const struct vlan_segment *seg)
{
	char name[VLAN_NAME_MAX];
	struct vlan_link *l;
	int r = sub_name(w, parent, seg->vid, name);

	if (r)
		return r;
	l = add_link(w, VLAN_KIND_DOT1Q, name);
	if (!l)
		return -ENOMEM;
	vlan_name_copy(l->parent, parent);
	l->vid = seg->vid;
	l->mac_any = true;
	vlan_gateway_name(seg->bridge, seg->vid, l->master);
	snprintf(l->alias, sizeof(l->alias), VLAN_MARK "trunk %s %u", parent, seg->vid);
	return 0;
}

static int lower_uplink(struct lowering *w, const struct vlan_bridge *b)
{
	const char *refusal = vlan_uplink_refusal(w->backend, w->caps);
	bool aware = w->backend == VLAN_BACKEND_AWARE;
	struct vlan_membership *m = NULL;
	struct vlan_link *l;
	int r = 0;

	if (!b->uplink[0])
		return 0;
	if (refusal)
		return err_set(w->err, -EOPNOTSUPP, "bridge %s: uplink %s: %s", b->name, b->uplink,
			       refusal);
	l = add_link(w, VLAN_KIND_OTHER, b->uplink);
	if (!l)
		return -ENOMEM;
	l->mac_any = true;
	if (aware) {
		vlan_name_copy(l->master, b->name);
		m = vlan_link_members(l);
		if (!m)
			return -ENOMEM;
	}
	for (size_t i = 0; i < w->net->segment_count && !r; i++) {
		const struct vlan_segment *seg = &w->net->segments[i];

		if (strcmp(seg->bridge, b->name))
			continue;
		if (m)
			vlan_vids_add(&m->tagged, seg->vid, seg->vid);
		else
			r = add_trunk_leg(w, b->uplink, seg);
	}
	return r;
}

/* ---- ports ---- */

static int port_members(struct lowering *w, const struct vlan_port *p, struct vlan_link *l)
{
	struct vlan_membership *m = vlan_link_members(l);

	if (!m)
		return -ENOMEM;
	vlan_name_copy(l->master, p->bridge);
	if (p->access) {
		m->pvid = p->access;
		return 0;
	}
	m->tagged = p->tagged;
	m->pvid = p->native;
	if (p->native && vlan_vids_has(&p->tagged, p->native))
		return err_set(w->err, -EINVAL, "port %s: VLAN %u is both tagged and native",
			       p->name, p->native);
	return 0;
}

/* VIDs that are not declared have no bridge to be in: they are dropped, as aware does by itself. */
static int port_legs(struct lowering *w, const struct vlan_port *p)
{
	int r = 0;

	for (size_t i = 0; i < w->net->segment_count && !r; i++) {
		const struct vlan_segment *seg = &w->net->segments[i];

		if (!strcmp(seg->bridge, p->bridge) && vlan_vids_has(&p->tagged, seg->vid))
			r = add_trunk_leg(w, p->name, seg);
	}
	return r;
}

static uint32_t port_mtu(const struct lowering *w, const struct vlan_port *p)
{
	const struct vlan_segment *seg = find_segment(w->net, p->bridge, p->access);

	if (p->mtu)
		return p->mtu;
	return seg ? segment_mtu(w->net, seg) : bridge_mtu(find_bridge(w->net, p->bridge));
}

static int lower_port(struct lowering *w, const struct vlan_port *p)
{
	const char *refusal = vlan_port_refusal(p, w->backend, w->caps);
	bool tap = p->kind == VLAN_PORT_TAP;
	unsigned untagged = p->access ? p->access : p->native;
	struct vlan_link *l;

	if (!find_bridge(w->net, p->bridge))
		return err_set(w->err, -EINVAL, "port %s: no bridge %s", p->name, p->bridge);
	if (p->access && !find_segment(w->net, p->bridge, p->access))
		return err_set(w->err, -EINVAL, "port %s: no VLAN %u on bridge %s", p->name,
			       p->access, p->bridge);
	if (refusal)
		return err_set(w->err, -EOPNOTSUPP, "port %s: %s", p->name, refusal);
	l = add_link(w, tap ? VLAN_KIND_TAP : VLAN_KIND_OTHER, p->name);
	if (!l)
		return -ENOMEM;
	l->isolated = p->isolated;
	l->hairpin = p->hairpin;
	l->mac_any = !tap;
	l->mtu = tap ? port_mtu(w, p) : p->mtu;
	if (tap) {
		l->mac = make_mac(w->net->mac_salt, p->name, 0xfe);
		l->owner = p->owner;
		l->group = p->group;
		l->multi_queue = p->queues > 1;
		l->vnet_hdr = p->vnet_hdr;
		l->persist = true;
		snprintf(l->alias, sizeof(l->alias), VLAN_MARK "port %s", p->name);
	}
	if (w->backend == VLAN_BACKEND_AWARE)
		return port_members(w, p, l);
	if (untagged && find_segment(w->net, p->bridge, untagged))
		vlan_gateway_name(p->bridge, untagged, l->master);
	return p->access ? 0 : port_legs(w, p);
}

/* ---- addresses elsewhere ---- */

static int lower_extra(struct lowering *w, const struct vlan_extra_addr *x)
{
	struct vlan_link *l = NULL;

	for (size_t i = 0; i < w->s.link_count && !l; i++)
		if (!strcmp(w->s.links[i].name, x->ifname))
			l = &w->s.links[i];
	if (!l) {
		l = add_link(w, VLAN_KIND_OTHER, x->ifname);
		if (!l)
			return -ENOMEM;
		l->addr_only = l->mac_any = true;
		l->up = false; /* whatever it is */
	}
	return vlan_link_add_addr(l, &x->prefix, true);
}

/* ---- the whole ---- */

static int check_names(struct lowering *w)
{
	const struct vlan_net *n = w->net;

	for (size_t i = 0; i < n->bridge_count; i++) {
		const struct vlan_bridge *b = &n->bridges[i];

		if (!vlan_name_valid(b->name) || strlen(b->name) > VLAN_BRIDGE_NAME_LEN_MAX)
			return err_set(
				w->err, -EINVAL,
				"bridge \"%.15s\": a name has 1 to %d bytes, no space or slash",
				b->name, VLAN_BRIDGE_NAME_LEN_MAX);
		if (b->uplink[0] && !vlan_name_valid(b->uplink))
			return err_set(w->err, -EINVAL, "bridge %s: uplink: not an interface name",
				       b->name);
	}
	for (size_t i = 0; i < n->segment_count; i++) {
		if (n->segments[i].vid < 1 || n->segments[i].vid > VLAN_VID_MAX)
			return err_set(w->err, -EINVAL, "VLAN %u: expected 1 to 4094",
				       n->segments[i].vid);
		if (!find_bridge(n, n->segments[i].bridge))
			return err_set(w->err, -EINVAL, "VLAN %u: no bridge %s", n->segments[i].vid,
				       n->segments[i].bridge);
	}
	for (size_t i = 0; i < n->port_count; i++)
		if (!vlan_name_valid(n->ports[i].name) || n->ports[i].access > VLAN_VID_MAX ||
		    n->ports[i].native > VLAN_VID_MAX)
			return err_set(w->err, -EINVAL,
				       "port \"%.15s\": not an interface name and VID",
				       n->ports[i].name);
	for (size_t i = 0; i < n->extra_count; i++)
		if (!vlan_name_valid(n->extra[i].ifname))
			return err_set(w->err, -EINVAL, "not an interface name");
	return 0;
}

static int lower_all(struct lowering *w)
{
	const struct vlan_net *n = w->net;
	int r = check_names(w);
	size_t dup = 0;

	for (size_t i = 0; i < n->bridge_count && !r; i++)
		if (w->backend == VLAN_BACKEND_AWARE)
			r = lower_bridge_aware(w, &n->bridges[i]);
	for (size_t i = 0; i < n->segment_count && !r; i++)
		r = lower_segment(w, &n->segments[i]);
	for (size_t i = 0; i < n->bridge_count && !r; i++)
		r = lower_uplink(w, &n->bridges[i]);
	for (size_t i = 0; i < n->port_count && !r; i++)
		r = lower_port(w, &n->ports[i]);
	for (size_t i = 0; i < n->extra_count && !r; i++)
		r = lower_extra(w, &n->extra[i]);
	if (!r && vlan_state_sort(&w->s, &dup))
		r = err_set(w->err, -EINVAL, "interface %s is used twice", w->s.links[dup].name);
	return r;
}

int vlan_lower(const struct vlan_net *net, enum vlan_backend backend, const struct vlan_caps *caps,
	       struct vlan_state *ret, struct err *err)
{
	struct lowering w = { net, caps, backend, { .backend = backend }, err };
	int r = lower_all(&w);

	if (r) {
		vlan_state_clear(&w.s);
		return r == -ENOMEM ? err_set(err, r, "out of memory") : r;
	}
	*ret = w.s;
	return 0;
}
