/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rtnetlink messages, by raw attributes: libnl 3.7 has no setters for bridge VLANs and bridge
 * options, and no batches.
 *
 * A link is addressed by name where the kernel takes one (RTM_NEWLINK, SETLINK, DELLINK), so that
 * a link can be made and marked in one run of messages; where only an index is taken it is resolved
 * when the message is built and not kept.
 *
 * A link is made by one message and marked by the next one: IFLA_IFALIAS is not taken at birth.
 * Both travel in one sendmsg(), which the kernel works through whatever happens to the sender.
 */
#include "vlan/wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_bridge.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#define ROOM	   1024
#define ROOM_VIDS  (VLAN_VID_MAX * 8 + ROOM) /* every other VID: one attribute each */
#define SKIP_STATS (1 << 3)		     /* RTEXT_FILTER_SKIP_STATS */

static struct nlmsghdr *start_link(struct nlbuf *b, uint16_t type, uint16_t flags, uint8_t family,
				   int index, size_t room)
{
	struct nlmsghdr *nlh =
		nlbuf_start(b, type, NLM_F_REQUEST | flags, sizeof(struct ifinfomsg), room);
	struct ifinfomsg *ifi;

	if (!nlh)
		return NULL;
	ifi = mnl_nlmsg_get_payload(nlh);
	ifi->ifi_family = family;
	ifi->ifi_index = index;
	return nlh;
}

static struct nlmsghdr *start_set(struct nlbuf *b, const char *name)
{
	struct nlmsghdr *nlh = start_link(b, RTM_SETLINK, 0, AF_UNSPEC, 0, ROOM);

	if (nlh)
		mnl_attr_put_strz(nlh, IFLA_IFNAME, name);
	return nlh;
}

int vlan_wire_dump(struct nlbuf *b, size_t index)
{
	static const struct {
		uint16_t type;
		uint8_t family;
		uint32_t mask;
	} dumps[] = {
		{ RTM_GETLINK, AF_UNSPEC, SKIP_STATS },
		{ RTM_GETLINK, AF_BRIDGE, RTEXT_FILTER_BRVLAN_COMPRESSED | SKIP_STATS },
		{ RTM_GETADDR, AF_UNSPEC, 0 },
	};
	struct nlmsghdr *nlh;

	if (index >= sizeof(dumps) / sizeof(dumps[0]))
		return -ERANGE;
	if (dumps[index].type == RTM_GETADDR)
		nlh = nlbuf_start(b, RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP,
				  sizeof(struct ifaddrmsg), 0);
	else
		nlh = start_link(b, RTM_GETLINK, NLM_F_DUMP, dumps[index].family, 0, ROOM);
	if (!nlh)
		return -ENOMEM;
	if (dumps[index].mask)
		mnl_attr_put_u32(nlh, IFLA_EXT_MASK, dumps[index].mask);
	nlbuf_end(b, nlh);
	return 0;
}

int vlan_wire_alias(struct nlbuf *b, const char *name, const char *alias)
{
	struct nlmsghdr *nlh = start_set(b, name);

	if (!nlh)
		return -ENOMEM;
	mnl_attr_put(nlh, IFLA_IFALIAS, strlen(alias), alias);
	nlbuf_end(b, nlh);
	return 0;
}

/* ---- links ---- */

static void put_bridge(struct nlmsghdr *nlh, const struct vlan_link *l)
{
	struct nlattr *data = mnl_attr_nest_start(nlh, IFLA_INFO_DATA);

	mnl_attr_put_u32(nlh, IFLA_BR_STP_STATE, 0);
	mnl_attr_put_u32(nlh, IFLA_BR_FORWARD_DELAY, 0);
	if (l->vlan_filtering) {
		mnl_attr_put_u8(nlh, IFLA_BR_VLAN_FILTERING, 1);
		mnl_attr_put_u16(nlh, IFLA_BR_VLAN_DEFAULT_PVID,
				 0); /* else frames leak on VLAN 1 */
	}
	mnl_attr_nest_end(nlh, data);
}

static void put_kind(struct nlmsghdr *nlh, const struct vlan_link *l)
{
	struct nlattr *info = mnl_attr_nest_start(nlh, IFLA_LINKINFO);
	struct nlattr *data;

	if (l->kind == VLAN_KIND_BRIDGE) {
		mnl_attr_put_strz(nlh, IFLA_INFO_KIND, "bridge");
		put_bridge(nlh, l);
	} else {
		mnl_attr_put_strz(nlh, IFLA_INFO_KIND, "vlan");
		data = mnl_attr_nest_start(nlh, IFLA_INFO_DATA);
		mnl_attr_put_u16(nlh, IFLA_VLAN_ID, l->vid);
		mnl_attr_nest_end(nlh, data);
	}
	mnl_attr_nest_end(nlh, info);
}

/*
 * No link-local address by itself: none on a link that carries other people's frames, and gateways
 * get theirs as an address among the others, at once and also when IPv6 comes later.
 */
static void put_addrgen_none(struct nlmsghdr *nlh)
{
	struct nlattr *spec = mnl_attr_nest_start(nlh, IFLA_AF_SPEC);
	struct nlattr *inet6 = mnl_attr_nest_start(nlh, AF_INET6);

	mnl_attr_put_u8(nlh, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
	mnl_attr_nest_end(nlh, inet6);
	mnl_attr_nest_end(nlh, spec);
}

/* Mark and everything else that is not taken at birth. */
static int put_mark(struct nlbuf *b, const struct vlan_link *l)
{
	struct nlmsghdr *nlh = start_set(b, l->name);

	if (!nlh)
		return -ENOMEM;
	mnl_attr_put(nlh, IFLA_IFALIAS, strlen(l->alias), l->alias);
	if (l->kind == VLAN_KIND_TAP && !l->mac_any)
		mnl_attr_put(nlh, IFLA_ADDRESS, sizeof(l->mac.b), l->mac.b);
	if (l->kind != VLAN_KIND_DOT1Q && l->mtu)
		mnl_attr_put_u32(nlh, IFLA_MTU, l->mtu);
	put_addrgen_none(nlh);
	nlbuf_end(b, nlh);
	return 0;
}

static int put_link_add(struct nlbuf *b, const struct vlan_link *l, const struct vlan_resolver *res)
{
	struct nlmsghdr *nlh;
	int parent = 0;

	if (l->kind == VLAN_KIND_TAP)
		return put_mark(b, l);
	if (l->kind == VLAN_KIND_DOT1Q) {
		parent = res->index(res->ctx, l->parent);
		if (parent < 0)
			return parent;
	}
	nlh = start_link(b, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, AF_UNSPEC, 0, ROOM);
	if (!nlh)
		return -ENOMEM;
	mnl_attr_put_strz(nlh, IFLA_IFNAME, l->name);
	if (!l->mac_any)
		mnl_attr_put(nlh, IFLA_ADDRESS, sizeof(l->mac.b), l->mac.b);
	/*
	 * A bridge takes the smallest MTU of its ports until its own was changed once, and setting
	 * what it has is no change: so it is born with another one.
	 */
	if (l->mtu)
		mnl_attr_put_u32(nlh, IFLA_MTU, l->mtu - (l->kind == VLAN_KIND_BRIDGE ? 1 : 0));
	if (parent)
		mnl_attr_put_u32(nlh, IFLA_LINK, (uint32_t)parent);
	put_kind(nlh, l);
	nlbuf_end(b, nlh);
	return put_mark(b, l);
}

int vlan_wire_delete(struct nlbuf *b, const char *name)
{
	struct nlmsghdr *nlh = start_link(b, RTM_DELLINK, 0, AF_UNSPEC, 0, ROOM);

	if (!nlh)
		return -ENOMEM;
	mnl_attr_put_strz(nlh, IFLA_IFNAME, name);
	nlbuf_end(b, nlh);
	return 0;
}

int vlan_wire_mark(struct nlbuf *b, const char *name, const char *alias)
{
	struct nlmsghdr *nlh = start_set(b, name);

	if (!nlh)
		return -ENOMEM;
	mnl_attr_put(nlh, IFLA_IFALIAS, strlen(alias), alias);
	nlbuf_end(b, nlh);
	return 0;
}

static int put_up(struct nlbuf *b, const struct vlan_link *l)
{
	struct nlmsghdr *nlh = start_set(b, l->name);
	struct ifinfomsg *ifi;

	if (!nlh)
		return -ENOMEM;
	ifi = mnl_nlmsg_get_payload(nlh);
	ifi->ifi_change = IFF_UP;
	ifi->ifi_flags = l->up ? IFF_UP : 0;
	nlbuf_end(b, nlh);
	return 0;
}

static int put_mac(struct nlbuf *b, const struct vlan_link *l)
{
	struct nlmsghdr *nlh = start_set(b, l->name);

	if (!nlh)
		return -ENOMEM;
	mnl_attr_put(nlh, IFLA_ADDRESS, sizeof(l->mac.b), l->mac.b);
	nlbuf_end(b, nlh);
	return 0;
}

static int put_mtu(struct nlbuf *b, const struct vlan_link *l)
{
	struct nlmsghdr *nlh = start_set(b, l->name);

	if (!nlh)
		return -ENOMEM;
	mnl_attr_put_u32(nlh, IFLA_MTU, l->mtu);
	nlbuf_end(b, nlh);
	return 0;
}

static int put_master(struct nlbuf *b, const struct vlan_link *l, const struct vlan_resolver *res)
{
	int master = l->master[0] ? res->index(res->ctx, l->master) : 0;
	struct nlmsghdr *nlh;

	if (master < 0)
		return master;
	nlh = start_set(b, l->name);
	if (!nlh)
		return -ENOMEM;
	mnl_attr_put_u32(nlh, IFLA_MASTER, (uint32_t)master);
	nlbuf_end(b, nlh);
	return 0;
}

/* ---- bridge ports ---- */

static int put_port_flags(struct nlbuf *b, const struct vlan_link *l,
			  const struct vlan_resolver *res)
{
	int index = res->index(res->ctx, l->name);
	struct nlmsghdr *nlh;
	struct nlattr *info;

	if (index < 0)
		return index;
	if (!l->master[0])
		return 0; /* flags went with the bridge */
	nlh = start_link(b, RTM_SETLINK, 0, AF_BRIDGE, index, ROOM);
	if (!nlh)
		return -ENOMEM;
	info = mnl_attr_nest_start(nlh, IFLA_PROTINFO);
	mnl_attr_put_u8(nlh, IFLA_BRPORT_ISOLATED, l->isolated);
	mnl_attr_put_u8(nlh, IFLA_BRPORT_MODE, l->hairpin);
	mnl_attr_nest_end(nlh, info);
	nlbuf_end(b, nlh);
	return 0;
}

static void put_vid_range(struct nlmsghdr *nlh, unsigned first, unsigned last, uint16_t flags)
{
	struct bridge_vlan_info info = { .flags = flags, .vid = (uint16_t)first };

	if (first != last)
		info.flags |= BRIDGE_VLAN_INFO_RANGE_BEGIN;
	mnl_attr_put(nlh, IFLA_BRIDGE_VLAN_INFO, sizeof(info), &info);
	if (first == last)
		return;
	info.flags = flags | BRIDGE_VLAN_INFO_RANGE_END;
	info.vid = (uint16_t)last;
	mnl_attr_put(nlh, IFLA_BRIDGE_VLAN_INFO, sizeof(info), &info);
}

static const struct vlan_membership no_members;

/* Tagged VIDs and pvid of `have` that `other` does not have in the same role. */
static void members_minus(const struct vlan_membership *have, const struct vlan_membership *other,
			  struct vlan_membership *ret)
{
	*ret = (struct vlan_membership){ 0 };
	for (size_t i = 0; i < 64; i++)
		ret->tagged.bits[i] = have->tagged.bits[i] & ~other->tagged.bits[i];
	if (have->pvid != other->pvid)
		ret->pvid = have->pvid;
}

static int put_members(struct nlbuf *b, uint16_t type, const struct vlan_link *l,
		       const struct vlan_membership *m, const struct vlan_resolver *res)
{
	int index = res->index(res->ctx, l->name);
	unsigned first, last, from = 1;
	struct nlmsghdr *nlh;
	struct nlattr *spec;

	if (index < 0)
		return index;
	if (vlan_vids_empty(&m->tagged) && !m->pvid)
		return 0;
	nlh = start_link(b, type, 0, AF_BRIDGE, index, ROOM_VIDS);
	if (!nlh)
		return -ENOMEM;
	spec = mnl_attr_nest_start(nlh, IFLA_AF_SPEC);
	if (l->kind == VLAN_KIND_BRIDGE) /* the bridge's own membership, for its gateway devices */
		mnl_attr_put_u16(nlh, IFLA_BRIDGE_FLAGS, BRIDGE_FLAGS_SELF);
	while (vlan_vids_next(&m->tagged, from, &first, &last)) {
		put_vid_range(nlh, first, last, 0);
		from = last + 1;
	}
	if (m->pvid)
		put_vid_range(nlh, m->pvid, m->pvid,
			      BRIDGE_VLAN_INFO_PVID | BRIDGE_VLAN_INFO_UNTAGGED);
	mnl_attr_nest_end(nlh, spec);
	nlbuf_end(b, nlh);
	return 0;
}

/* A link that lost its master lost its VIDs as well. */
static int put_vids_change(struct nlbuf *b, bool add, const struct vlan_link *from,
			   const struct vlan_link *to, const struct vlan_resolver *res)
{
	const struct vlan_membership *old = from->members ? from->members : &no_members;
	const struct vlan_membership *new = to->members ? to->members : &no_members;
	struct vlan_membership delta;

	if (strcmp(from->master, to->master) && add)
		old = &no_members;
	if (add)
		members_minus(new, old, &delta);
	else
		members_minus(old, new, &delta);
	/* a VID that changes between tagged and native is set anew, not removed behind */
	if (!add)
		for (size_t i = 0; i < 64; i++)
			delta.tagged.bits[i] &=
				~(new->pvid / 64 == i ? UINT64_C(1) << (new->pvid % 64) : 0);
	if (!add && delta.pvid && vlan_vids_has(&new->tagged, delta.pvid))
		delta.pvid = 0;
	return put_members(b, add ? RTM_SETLINK : RTM_DELLINK, to, &delta, res);
}

/* ---- addresses ---- */

static int put_addr(struct nlbuf *b, bool add, const char *ifname, const struct vlan_addr *a,
		    const struct vlan_resolver *res)
{
	bool v4 = a->prefix.addr.family == 4;
	int index = res->index(res->ctx, ifname);
	struct nlmsghdr *nlh;
	struct ifaddrmsg *ifa;

	if (index < 0)
		return index;
	nlh = nlbuf_start(b, add ? RTM_NEWADDR : RTM_DELADDR,
			  NLM_F_REQUEST | (add ? NLM_F_CREATE | NLM_F_EXCL : 0), sizeof(*ifa),
			  ROOM);
	if (!nlh)
		return -ENOMEM;
	ifa = mnl_nlmsg_get_payload(nlh);
	ifa->ifa_family = v4 ? AF_INET : AF_INET6;
	ifa->ifa_prefixlen = a->prefix.len;
	ifa->ifa_index = (uint32_t)index;
	mnl_attr_put(nlh, IFA_LOCAL, v4 ? 4 : 16, a->prefix.addr.b);
	if (v4 || add)
		mnl_attr_put(nlh, IFA_ADDRESS, v4 ? 4 : 16, a->prefix.addr.b);
	if (add && v4 && a->prefix.len < 31) {
		struct addr last = prefix_last(&a->prefix);

		mnl_attr_put(nlh, IFA_BROADCAST, 4, last.b);
	}
	if (add && !v4) /* no waiting for a duplicate: the config says whose address it is */
		mnl_attr_put_u32(nlh, IFA_FLAGS, IFA_F_NODAD);
	if (add && !v4 && a->prefix.len == 128) {
		/* a pool's: answered for, but never the source that the host or masquerade picks */
		const struct ifa_cacheinfo life = { .ifa_prefered = 0, .ifa_valid = UINT32_MAX };

		mnl_attr_put(nlh, IFA_CACHEINFO, sizeof(life), &life);
	}
	if (add)
		mnl_attr_put_u8(nlh, IFA_PROTO, VLAN_PROTO);
	nlbuf_end(b, nlh);
	return 0;
}

/* ---- operations ---- */

/*
 * A port that left its bridge lost its flags and VIDs with it, by no operation of their own (to
 * take an isolated port's flag away first would open it for a moment).  Going back brings them.
 */
static int put_master_back(struct nlbuf *b, const struct vlan_link *l,
			   const struct vlan_resolver *res)
{
	int r = put_master(b, l, res);

	if (!r && l->master[0] && (l->isolated || l->hairpin))
		r = put_port_flags(b, l, res);
	if (!r && l->master[0] && l->members)
		r = put_members(b, RTM_SETLINK, l, l->members, res);
	return r;
}

static bool creates(const struct vlan_op *op, bool undo)
{
	return op->kind == (undo ? VLAN_OP_LINK_DEL : VLAN_OP_LINK_ADD);
}

const struct vlan_link *vlan_wire_tap_add(const struct vlan_op *op, bool undo)
{
	const struct vlan_link *l = undo ? op->before : op->after;

	return creates(op, undo) && l->kind == VLAN_KIND_TAP ? l : NULL;
}

const struct vlan_link *vlan_wire_tap_own(const struct vlan_op *op, bool undo)
{
	return op->kind != VLAN_OP_TAP_OWNER ? NULL : undo ? op->before : op->after;
}

int vlan_wire_op(struct nlbuf *b, const struct vlan_op *op, bool undo,
		 const struct vlan_resolver *res)
{
	const struct vlan_link *from = undo ? op->after : op->before;
	const struct vlan_link *to = undo ? op->before : op->after;

	switch (op->kind) {
	case VLAN_OP_LINK_ADD:
	case VLAN_OP_LINK_DEL:
		return to ? put_link_add(b, to, res) : vlan_wire_delete(b, from->name);
	case VLAN_OP_ALIAS:
		return vlan_wire_alias(b, to->name, to->alias);
	case VLAN_OP_MAC:
		return put_mac(b, to);
	case VLAN_OP_MTU:
		return put_mtu(b, to);
	case VLAN_OP_UP:
		return put_up(b, to);
	case VLAN_OP_MASTER:
		return undo ? put_master_back(b, to, res) : put_master(b, to, res);
	case VLAN_OP_TAP_OWNER:
		return 0;
	case VLAN_OP_PORT_FLAGS:
		return put_port_flags(b, to, res);
	case VLAN_OP_VIDS_DEL: /* undone by adding again */
		return put_vids_change(b, undo, from, to, res);
	case VLAN_OP_VIDS_ADD:
		return put_vids_change(b, !undo, from, to, res);
	case VLAN_OP_ADDR_ADD:
	case VLAN_OP_ADDR_DEL:
		return put_addr(b, (op->kind == VLAN_OP_ADDR_ADD) != undo, (to ? to : from)->name,
				op->addr, res);
	}
	return -EINVAL;
}

int vlan_wire_restore(struct nlbuf *b, const struct vlan_op *op, const struct vlan_resolver *res)
{
	const struct vlan_link *l = op->before;
	int r = 0;

	if (op->kind != VLAN_OP_LINK_DEL)
		return 0;
	if (l->master[0])
		r = put_master_back(b, l, res);
	if (!r && l->members && l->kind == VLAN_KIND_BRIDGE)
		r = put_members(b, RTM_SETLINK, l, l->members, res);
	if (!r && l->up)
		r = put_up(b, l);
	for (size_t i = 0; i < l->addr_count && !r; i++)
		r = put_addr(b, true, l->name, &l->addrs[i], res);
	return r;
}

int vlan_wire_probe(struct nlbuf *b, enum vlan_probe p, const char *name, int parent_index)
{
	struct nlmsghdr *nlh =
		start_link(b, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, AF_UNSPEC, 0, ROOM);
	struct vlan_link l = { .kind = VLAN_KIND_BRIDGE, .vid = 1 };
	struct nlattr *info, *data;

	if (!nlh)
		return -ENOMEM;
	mnl_attr_put_strz(nlh, IFLA_IFNAME, name);
	if (parent_index)
		mnl_attr_put_u32(nlh, IFLA_LINK, (uint32_t)parent_index);
	switch (p) {
	case VLAN_PROBE_FILTERING:
		l.vlan_filtering = true;
		put_kind(nlh, &l);
		break;
	case VLAN_PROBE_BRIDGE:
		put_kind(nlh, &l);
		break;
	case VLAN_PROBE_DOT1Q:
		l.kind = VLAN_KIND_DOT1Q;
		put_kind(nlh, &l);
		break;
	case VLAN_PROBE_VNIFILTER:
		info = mnl_attr_nest_start(nlh, IFLA_LINKINFO);
		mnl_attr_put_strz(nlh, IFLA_INFO_KIND, "vxlan");
		data = mnl_attr_nest_start(nlh, IFLA_INFO_DATA);
		mnl_attr_put_u8(nlh, IFLA_VXLAN_COLLECT_METADATA, 1);
		mnl_attr_put_u8(nlh, IFLA_VXLAN_VNIFILTER, 1);
		mnl_attr_nest_end(nlh, data);
		mnl_attr_nest_end(nlh, info);
		break;
	}
	nlbuf_end(b, nlh);
	return 0;
}
