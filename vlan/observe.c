/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The observed state, from RTM_NEWLINK (two families) and RTM_NEWADDR messages.
 *
 * Indexes are only used to put one dump together: masters, parents, VIDs and addresses refer to
 * links by index, and finish() turns them into names.  New kernels dump links in the order of their
 * indexes, older ones by hash bucket: the first lookup sorts.
 */
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "vlan/state.h"

#define ATTRS_MAX 80

static int collect(const struct nlattr *attr, void *data)
{
	const struct nlattr **tb = data;

	if (mnl_attr_get_type(attr) < ATTRS_MAX)
		tb[mnl_attr_get_type(attr)] = attr;
	return MNL_CB_OK;
}

static bool get_u32(const struct nlattr *a, uint32_t *ret)
{
	if (!a || mnl_attr_validate(a, MNL_TYPE_U32) < 0)
		return false;
	*ret = mnl_attr_get_u32(a);
	return true;
}

static bool get_u8(const struct nlattr *a)
{
	return a && mnl_attr_validate(a, MNL_TYPE_U8) >= 0 && mnl_attr_get_u8(a);
}

static bool get_text(const struct nlattr *a, char *buf, size_t size)
{
	if (!a || mnl_attr_get_payload_len(a) > size ||
	    mnl_attr_validate(a, MNL_TYPE_NUL_STRING) < 0)
		return false;
	memset(buf, 0, size);
	memcpy(buf, mnl_attr_get_payload(a), strlen(mnl_attr_get_payload(a)));
	return true;
}

static int compare_index(const void *a, const void *b)
{
	int ia = ((const struct vlan_link *)a)->ifindex,
	    ib = ((const struct vlan_link *)b)->ifindex;

	return (ia > ib) - (ia < ib);
}

static struct vlan_link *by_index(struct vlan_state *s, int index)
{
	size_t low = 0, high = s->link_count;

	if (!s->by_index && high)
		qsort(s->links, high, sizeof(s->links[0]), compare_index);
	s->by_index = true;
	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (s->links[mid].ifindex == index)
			return &s->links[mid];
		if (s->links[mid].ifindex < index)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

static void see_tun(struct vlan_link *l, const struct nlattr **data)
{
	uint32_t id;

	if (!data[IFLA_TUN_TYPE] || mnl_attr_validate(data[IFLA_TUN_TYPE], MNL_TYPE_U8) < 0 ||
	    mnl_attr_get_u8(data[IFLA_TUN_TYPE]) != IFF_TAP)
		return;
	l->kind = VLAN_KIND_TAP;
	l->owner = get_u32(data[IFLA_TUN_OWNER], &id) ? id : (uid_t)-1;
	l->group = get_u32(data[IFLA_TUN_GROUP], &id) ? id : (gid_t)-1;
	l->vnet_hdr = get_u8(data[IFLA_TUN_VNET_HDR]);
	l->multi_queue = get_u8(data[IFLA_TUN_MULTI_QUEUE]);
	l->persist = get_u8(data[IFLA_TUN_PERSIST]);
}

static void see_kind(struct vlan_link *l, const struct nlattr *linkinfo)
{
	const struct nlattr *info[ATTRS_MAX] = { 0 }, *data[ATTRS_MAX] = { 0 };
	const struct nlattr *slave[ATTRS_MAX] = { 0 };
	char kind[32] = "", slave_kind[32] = "";

	mnl_attr_parse_nested(linkinfo, collect, info);
	get_text(info[IFLA_INFO_KIND], kind, sizeof(kind));
	if (info[IFLA_INFO_DATA])
		mnl_attr_parse_nested(info[IFLA_INFO_DATA], collect, data);
	if (!strcmp(kind, "bridge")) {
		l->kind = VLAN_KIND_BRIDGE;
		l->vlan_filtering = get_u8(data[IFLA_BR_VLAN_FILTERING]);
	} else if (!strcmp(kind, "vlan")) {
		l->kind = VLAN_KIND_DOT1Q;
		if (data[IFLA_VLAN_ID] && mnl_attr_validate(data[IFLA_VLAN_ID], MNL_TYPE_U16) >= 0)
			l->vid = mnl_attr_get_u16(data[IFLA_VLAN_ID]);
	} else if (!strcmp(kind, "tun")) {
		see_tun(l, data);
	}
	get_text(info[IFLA_INFO_SLAVE_KIND], slave_kind, sizeof(slave_kind));
	if (strcmp(slave_kind, "bridge") || !info[IFLA_INFO_SLAVE_DATA])
		return;
	mnl_attr_parse_nested(info[IFLA_INFO_SLAVE_DATA], collect, slave);
	l->isolated = get_u8(slave[IFLA_BRPORT_ISOLATED]);
	l->hairpin = get_u8(slave[IFLA_BRPORT_MODE]);
}

static int see_link(struct vlan_state *s, const struct ifinfomsg *ifi, const struct nlattr **tb)
{
	struct vlan_link *l;
	uint32_t value;

	s->by_index = false;
	l = vlan_state_add(s);
	if (!l)
		return -ENOMEM;
	l->ifindex = ifi->ifi_index;
	l->up = ifi->ifi_flags & IFF_UP;
	l->running = ifi->ifi_flags & IFF_RUNNING;
	l->owner = (uid_t)-1;
	l->group = (gid_t)-1;
	if (!get_text(tb[IFLA_IFNAME], l->name, sizeof(l->name)))
		return -EPROTO;
	get_text(tb[IFLA_IFALIAS], l->alias, sizeof(l->alias));
	if (tb[IFLA_ADDRESS] && mnl_attr_get_payload_len(tb[IFLA_ADDRESS]) == sizeof(l->mac.b))
		memcpy(l->mac.b, mnl_attr_get_payload(tb[IFLA_ADDRESS]), sizeof(l->mac.b));
	get_u32(tb[IFLA_MTU], &l->mtu);
	if (get_u32(tb[IFLA_MASTER], &value))
		l->master_ifindex = (int)value;
	if (get_u32(tb[IFLA_LINK], &value))
		l->parent_ifindex = (int)value;
	if (tb[IFLA_LINKINFO])
		see_kind(l, tb[IFLA_LINKINFO]);
	return 0;
}

/* VIDs come as singles or as begin and end of a range, two attributes in a row. */
static int see_vids(struct vlan_link *l, const struct nlattr *spec)
{
	const struct nlattr *attr;
	unsigned begin = 0;

	mnl_attr_for_each_nested(attr, spec)
	{
		const struct bridge_vlan_info *v = mnl_attr_get_payload(attr);
		struct vlan_membership *m;

		if (mnl_attr_get_type(attr) != IFLA_BRIDGE_VLAN_INFO)
			continue;
		if (mnl_attr_get_payload_len(attr) < sizeof(*v) || !v->vid || v->vid > VLAN_VID_MAX)
			return -EPROTO;
		m = vlan_link_members(l);
		if (!m)
			return -ENOMEM;
		if (v->flags & BRIDGE_VLAN_INFO_RANGE_BEGIN) {
			begin = v->vid;
			continue;
		}
		if (!(v->flags & BRIDGE_VLAN_INFO_RANGE_END))
			begin = v->vid;
		if (!begin || begin > v->vid)
			return -EPROTO;
		if (v->flags & BRIDGE_VLAN_INFO_PVID)
			m->pvid = v->vid;
		else /* untagged but not pvid is nothing we ever set: it will differ as tagged */
			vlan_vids_add(&m->tagged, begin, v->vid);
		begin = 0;
	}
	return 0;
}

static int see_bridge_vlans(struct vlan_state *s, const struct ifinfomsg *ifi,
			    const struct nlattr **tb)
{
	struct vlan_link *l = by_index(s, ifi->ifi_index);

	if (!l || !tb[IFLA_AF_SPEC]) /* a link that came during the dump: its event will follow */
		return 0;
	return see_vids(l, tb[IFLA_AF_SPEC]);
}

static int see_addr(struct vlan_state *s, const struct ifaddrmsg *ifa, const struct nlattr **tb)
{
	const struct nlattr *a = tb[IFA_LOCAL] ? tb[IFA_LOCAL] : tb[IFA_ADDRESS];
	struct vlan_link *l = by_index(s, (int)ifa->ifa_index);
	bool v4 = ifa->ifa_family == AF_INET;
	bool ours = false;
	struct prefix p;

	if ((!v4 && ifa->ifa_family != AF_INET6) || !l)
		return 0;
	if (!a || mnl_attr_get_payload_len(a) != (v4 ? 4 : 16) ||
	    ifa->ifa_prefixlen > (v4 ? 32 : 128))
		return -EPROTO;
	p.addr = addr_from_bytes(v4 ? 4 : 6, mnl_attr_get_payload(a));
	p.len = ifa->ifa_prefixlen;
	if (tb[IFA_PROTO]) {
		s->addr_proto = true;
		ours = mnl_attr_validate(tb[IFA_PROTO], MNL_TYPE_U8) >= 0 &&
		       mnl_attr_get_u8(tb[IFA_PROTO]) == VLAN_PROTO;
	}
	return vlan_link_add_addr(l, &p, ours);
}

int vlan_observe_message(struct vlan_state *s, const struct nlmsghdr *nlh)
{
	const struct nlattr *tb[ATTRS_MAX] = { 0 };
	size_t header = nlh->nlmsg_type == RTM_NEWADDR ? sizeof(struct ifaddrmsg)
						       : sizeof(struct ifinfomsg);
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(nlh);

	if (nlh->nlmsg_type != RTM_NEWLINK && nlh->nlmsg_type != RTM_NEWADDR)
		return 0;
	if (mnl_nlmsg_get_payload_len(nlh) < header ||
	    mnl_attr_parse(nlh, (unsigned)header, collect, tb) < 0)
		return -EPROTO;
	if (nlh->nlmsg_type == RTM_NEWADDR)
		return see_addr(s, (const void *)ifi, tb);
	if (ifi->ifi_family == AF_BRIDGE)
		return see_bridge_vlans(s, ifi, tb);
	return see_link(s, ifi, tb);
}

/* Without IFA_PROTO every address on a link that we made is taken for ours. */
static void claim_addrs(struct vlan_state *s)
{
	for (size_t i = 0; i < s->link_count; i++)
		for (size_t k = 0; k < s->links[i].addr_count; k++)
			s->links[i].addrs[k].ours = vlan_link_is_ours(&s->links[i]);
}

/* A bridge that does not filter keeps lists all the same (VLAN 1 on each port): they say nothing.
 */
static void drop_idle_members(struct vlan_state *s, struct vlan_link *l)
{
	const struct vlan_link *bridge = l->master_ifindex ? by_index(s, l->master_ifindex) : l;

	if (!l->members || (bridge && bridge->vlan_filtering))
		return;
	free(l->members);
	l->members = NULL;
}

int vlan_observe_finish(struct vlan_state *s)
{
	size_t dup;

	for (size_t i = 0; i < s->link_count; i++)
		drop_idle_members(s, by_index(s, s->links[i].ifindex));

	for (size_t i = 0; i < s->link_count; i++) {
		struct vlan_link *l = &s->links[i];
		const struct vlan_link *other =
			l->master_ifindex ? by_index(s, l->master_ifindex) : NULL;

		if (other)
			vlan_name_copy(l->master, other->name);
		other = l->parent_ifindex && l->kind == VLAN_KIND_DOT1Q
				? by_index(s, l->parent_ifindex)
				: NULL;
		if (other)
			vlan_name_copy(l->parent, other->name);
	}
	if (!s->addr_proto)
		claim_addrs(s);
	s->by_index = false;
	return vlan_state_sort(s, &dup) ? -EINTR : 0; /* renamed under the dump: look again */
}
