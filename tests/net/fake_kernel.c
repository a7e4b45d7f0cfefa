/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fake kernel; see fake_kernel.h.
 *
 * Links are kept as struct vlan_link, because that is all that is looked at; nftables objects are
 * kept as the messages that made them and come back from a dump as they were.  A transaction works
 * on a copy.
 */
#include "tests/net/fake_kernel.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define LINKS_MAX   512
#define ADDRS_MAX   8
#define OBJECTS_MAX 8192
#define ATTRS_MAX   80

struct fake_link {
	struct vlan_link l;
	struct vlan_membership members;
	struct {
		struct prefix prefix;
		uint8_t proto;
	} addrs[ADDRS_MAX];
	size_t addr_count;
};

/* A table, set, chain, rule or element: the message or attribute that made it. */
struct object {
	uint16_t type; /* NFT_MSG_NEW*; NEWSETELEM for an element */
	uint8_t family;
	char table[32], name[32]; /* of the set, for an element */
	size_t len;
	uint8_t *bytes; /* payload behind nfgenmsg; an element's nested attribute; of a blob */
};

/* Bytes that live as long as the kernel, because copies of the tables share them. */
struct blob {
	struct blob *next;
	uint8_t bytes[];
};

struct tables {
	struct object *o;
	size_t count;
	struct blob **blobs;
};

struct fake_kernel {
	struct nl nl;
	struct fake_link links[LINKS_MAX];
	size_t link_count;
	int next_index;
	struct tables tables;
	struct blob *blobs;
	bool filtering;
	struct fake_faults faults;
	uint32_t seed;
	uint64_t messages;
};

static struct fake_kernel *fake_of(struct nl *nl)
{
	return (struct fake_kernel *)nl;
}

static uint32_t next(struct fake_kernel *k)
{
	k->seed = k->seed * 1664525 + 1013904223;
	return k->seed >> 8;
}

static bool happens(struct fake_kernel *k, unsigned one_in)
{
	return one_in && next(k) % one_in == 0;
}

static int collect(const struct nlattr *attr, void *data)
{
	const struct nlattr **tb = data;

	if (mnl_attr_get_type(attr) < ATTRS_MAX)
		tb[mnl_attr_get_type(attr)] = attr;
	return MNL_CB_OK;
}

/* ---- links ---- */

static struct fake_link *by_name(struct fake_kernel *k, const char *name)
{
	for (size_t i = 0; i < k->link_count; i++)
		if (!strcmp(k->links[i].l.name, name))
			return &k->links[i];
	return NULL;
}

static struct fake_link *by_index(struct fake_kernel *k, int index)
{
	for (size_t i = 0; i < k->link_count; i++)
		if (index && k->links[i].l.ifindex == index)
			return &k->links[i];
	return NULL;
}

static struct fake_link *new_link(struct fake_kernel *k, const char *name, enum vlan_kind kind)
{
	struct fake_link *f;

	assert(k->link_count < LINKS_MAX);
	f = &k->links[k->link_count++];
	memset(f, 0, sizeof(*f));
	f->l.ifindex = k->next_index++;
	f->l.kind = kind;
	f->l.mtu = 1500;
	f->l.owner = (uid_t)-1;
	f->l.group = (gid_t)-1;
	snprintf(f->l.name, sizeof(f->l.name), "%.15s", name);
	return f;
}

static void leave(struct fake_link *f)
{
	f->l.master_ifindex = 0;
	f->l.isolated = f->l.hairpin = false;
	f->members = (struct vlan_membership){ 0 };
}

static void delete_link(struct fake_kernel *k, int index)
{
	struct fake_link *f = by_index(k, index);

	if (!f)
		return;
	for (size_t i = 0; i < k->link_count; i++)
		if (k->links[i].l.master_ifindex == index)
			leave(&k->links[i]);
	*f = k->links[--k->link_count];
	for (size_t i = 0; i < k->link_count; i++) {
		if (k->links[i].l.parent_ifindex == index) {
			delete_link(k, k->links[i].l.ifindex);
			i = (size_t)-1; /* the array moved */
		}
	}
}

static const char *text(const struct nlattr *a)
{
	static char buf[4][300];
	static unsigned at;
	char *b = buf[at++ % 4];

	snprintf(b, sizeof(buf[0]), "%.*s", a ? (int)mnl_attr_get_payload_len(a) : 0,
		 a ? (const char *)mnl_attr_get_payload(a) : "");
	return b;
}

static int create(struct fake_kernel *k, const struct nlattr **tb)
{
	const struct nlattr *info[ATTRS_MAX] = { 0 }, *data[ATTRS_MAX] = { 0 };
	const char *kind;
	struct fake_link *f;

	mnl_attr_parse_nested(tb[IFLA_LINKINFO], collect, info);
	kind = text(info[IFLA_INFO_KIND]);
	if (info[IFLA_INFO_DATA])
		mnl_attr_parse_nested(info[IFLA_INFO_DATA], collect, data);
	if (!strcmp(kind, "bridge")) {
		if (data[IFLA_BR_VLAN_FILTERING] && !k->filtering)
			return -EOPNOTSUPP;
		f = new_link(k, text(tb[IFLA_IFNAME]), VLAN_KIND_BRIDGE);
		f->l.vlan_filtering = data[IFLA_BR_VLAN_FILTERING] != NULL;
	} else if (!strcmp(kind, "vlan")) {
		if (!k->filtering)
			return -EOPNOTSUPP;
		if (!tb[IFLA_LINK] || !by_index(k, (int)mnl_attr_get_u32(tb[IFLA_LINK])))
			return -ENODEV;
		f = new_link(k, text(tb[IFLA_IFNAME]), VLAN_KIND_DOT1Q);
		f->l.parent_ifindex = (int)mnl_attr_get_u32(tb[IFLA_LINK]);
		f->l.vid = mnl_attr_get_u16(data[IFLA_VLAN_ID]);
	} else {
		return -EOPNOTSUPP;
	}
	if (tb[IFLA_MTU])
		f->l.mtu = mnl_attr_get_u32(tb[IFLA_MTU]);
	if (tb[IFLA_ADDRESS])
		memcpy(f->l.mac.b, mnl_attr_get_payload(tb[IFLA_ADDRESS]), 6);
	return 0;
}

static int set_link(struct fake_kernel *k, struct fake_link *f, const struct ifinfomsg *ifi,
		    const struct nlattr **tb)
{
	if (tb[IFLA_IFALIAS])
		snprintf(f->l.alias, sizeof(f->l.alias), "%s", text(tb[IFLA_IFALIAS]));
	if (tb[IFLA_ADDRESS])
		memcpy(f->l.mac.b, mnl_attr_get_payload(tb[IFLA_ADDRESS]), 6);
	if (tb[IFLA_MTU])
		f->l.mtu = mnl_attr_get_u32(tb[IFLA_MTU]);
	if (ifi->ifi_change & IFF_UP)
		f->l.up = ifi->ifi_flags & IFF_UP;
	if (tb[IFLA_MASTER]) {
		int master = (int)mnl_attr_get_u32(tb[IFLA_MASTER]);

		if (master && !by_index(k, master))
			return -EINVAL;
		if (master != f->l.master_ifindex)
			leave(f);
		f->l.master_ifindex = master;
	}
	return 0;
}

static int set_port(struct fake_link *f, const struct nlattr *protinfo)
{
	const struct nlattr *tb[ATTRS_MAX] = { 0 };

	if (!f->l.master_ifindex)
		return -EINVAL;
	mnl_attr_parse_nested(protinfo, collect, tb);
	f->l.isolated = mnl_attr_get_u8(tb[IFLA_BRPORT_ISOLATED]);
	f->l.hairpin = mnl_attr_get_u8(tb[IFLA_BRPORT_MODE]);
	return 0;
}

static void change_vid(struct fake_link *f, unsigned vid, uint16_t flags, bool add)
{
	uint64_t bit = UINT64_C(1) << (vid % 64);

	f->members.tagged.bits[vid / 64] &= ~bit;
	if (f->members.pvid == vid)
		f->members.pvid = 0;
	if (add && flags & BRIDGE_VLAN_INFO_PVID)
		f->members.pvid = (uint16_t)vid;
	else if (add)
		f->members.tagged.bits[vid / 64] |= bit;
}

static int set_vids(struct fake_link *f, const struct nlattr *spec, bool add)
{
	const struct nlattr *attr;
	unsigned begin = 0;

	mnl_attr_for_each_nested(attr, spec)
	{
		const struct bridge_vlan_info *v = mnl_attr_get_payload(attr);

		if (mnl_attr_get_type(attr) != IFLA_BRIDGE_VLAN_INFO)
			continue;
		if (v->flags & BRIDGE_VLAN_INFO_RANGE_BEGIN) {
			begin = v->vid;
			continue;
		}
		for (unsigned vid = begin ? begin : v->vid; vid <= v->vid; vid++)
			change_vid(f, vid, v->flags, add);
		begin = 0;
	}
	return 0;
}

static int address(struct fake_kernel *k, const struct nlmsghdr *nlh)
{
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *tb[ATTRS_MAX] = { 0 };
	struct fake_link *f = by_index(k, (int)ifa->ifa_index);
	struct prefix p;
	size_t i;

	mnl_attr_parse(nlh, sizeof(*ifa), collect, tb);
	if (!f)
		return -ENODEV;
	p.addr = addr_from_bytes(ifa->ifa_family == AF_INET ? 4 : 6,
				 mnl_attr_get_payload(tb[IFA_LOCAL]));
	p.len = ifa->ifa_prefixlen;
	for (i = 0; i < f->addr_count; i++)
		if (addr_equal(&f->addrs[i].prefix.addr, &p.addr) &&
		    f->addrs[i].prefix.len == p.len)
			break;
	if (nlh->nlmsg_type == RTM_DELADDR) {
		if (i == f->addr_count)
			return -EADDRNOTAVAIL;
		f->addrs[i] = f->addrs[--f->addr_count];
		return 0;
	}
	if (i < f->addr_count)
		return -EEXIST;
	assert(f->addr_count < ADDRS_MAX);
	f->addrs[i].prefix = p;
	f->addrs[i].proto = tb[IFA_PROTO] ? mnl_attr_get_u8(tb[IFA_PROTO]) : 0;
	f->addr_count++;
	return 0;
}

static int carry_out(struct fake_kernel *k, const struct nlmsghdr *nlh)
{
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *tb[ATTRS_MAX] = { 0 };
	struct fake_link *f;

	k->messages++;
	if (nlh->nlmsg_type == RTM_NEWADDR || nlh->nlmsg_type == RTM_DELADDR)
		return address(k, nlh);
	mnl_attr_parse(nlh, sizeof(*ifi), collect, tb);
	f = ifi->ifi_index ? by_index(k, ifi->ifi_index) : by_name(k, text(tb[IFLA_IFNAME]));
	if (nlh->nlmsg_type == RTM_NEWLINK)
		return f ? -EEXIST : create(k, tb);
	if (!f)
		return -ENODEV;
	if (ifi->ifi_family == AF_BRIDGE && tb[IFLA_PROTINFO])
		return set_port(f, tb[IFLA_PROTINFO]);
	if (ifi->ifi_family == AF_BRIDGE)
		return set_vids(f, tb[IFLA_AF_SPEC], nlh->nlmsg_type == RTM_SETLINK);
	if (nlh->nlmsg_type == RTM_DELLINK) {
		delete_link(k, f->l.ifindex);
		return 0;
	}
	return set_link(k, f, ifi, tb);
}

static int fake_batch(struct nl *nl, struct nlbuf *b, int *results, struct err *err)
{
	struct fake_kernel *k = fake_of(nl);
	size_t i = 0;

	for (size_t at = 0; at < b->len_bytes; i++) {
		const struct nlmsghdr *h = (const void *)(b->data + at);

		if (happens(k, k->faults.refused))
			results[i] = -EBUSY;
		else
			results[i] = carry_out(k, h);
		if (!results[i] && happens(k, k->faults.ack_lost))
			results[i] = -ENOBUFS;
		if (results[i])
			err_sys(err, results[i], "fake kernel");
		at += NLMSG_ALIGN(h->nlmsg_len);
	}
	if (k->link_count && happens(k, k->faults.forgets)) {
		struct fake_link *f = &k->links[next(k) % k->link_count];

		if (!strncmp(f->l.alias, VLAN_MARK, strlen(VLAN_MARK)) && f->l.kind)
			delete_link(k, f->l.ifindex);
	}
	return 0;
}

/* ---- link dumps ---- */

static void put_link(struct nlbuf *b, const struct fake_link *f)
{
	struct nlmsghdr *h = nlbuf_start(b, RTM_NEWLINK, 0, sizeof(struct ifinfomsg), 2048);
	struct ifinfomsg *ifi = mnl_nlmsg_get_payload(h);
	struct nlattr *info, *data;
	static const char *const kinds[] = { "dummy", "bridge", "vlan", "tun" };

	ifi->ifi_index = f->l.ifindex;
	ifi->ifi_flags = f->l.up ? IFF_UP : 0;
	mnl_attr_put_strz(h, IFLA_IFNAME, f->l.name);
	if (f->l.alias[0])
		mnl_attr_put_strz(h, IFLA_IFALIAS, f->l.alias);
	mnl_attr_put(h, IFLA_ADDRESS, 6, f->l.mac.b);
	mnl_attr_put_u32(h, IFLA_MTU, f->l.mtu);
	if (f->l.master_ifindex)
		mnl_attr_put_u32(h, IFLA_MASTER, (uint32_t)f->l.master_ifindex);
	if (f->l.parent_ifindex)
		mnl_attr_put_u32(h, IFLA_LINK, (uint32_t)f->l.parent_ifindex);
	info = mnl_attr_nest_start(h, IFLA_LINKINFO);
	mnl_attr_put_strz(h, IFLA_INFO_KIND, kinds[f->l.kind]);
	data = mnl_attr_nest_start(h, IFLA_INFO_DATA);
	if (f->l.kind == VLAN_KIND_BRIDGE)
		mnl_attr_put_u8(h, IFLA_BR_VLAN_FILTERING, f->l.vlan_filtering);
	if (f->l.kind == VLAN_KIND_DOT1Q)
		mnl_attr_put_u16(h, IFLA_VLAN_ID, f->l.vid);
	if (f->l.kind == VLAN_KIND_TAP) {
		mnl_attr_put_u8(h, IFLA_TUN_TYPE, IFF_TAP);
		mnl_attr_put_u8(h, IFLA_TUN_PERSIST, 1);
		mnl_attr_put_u8(h, IFLA_TUN_VNET_HDR, f->l.vnet_hdr);
		mnl_attr_put_u8(h, IFLA_TUN_MULTI_QUEUE, f->l.multi_queue);
		if (f->l.owner != (uid_t)-1)
			mnl_attr_put_u32(h, IFLA_TUN_OWNER, f->l.owner);
		if (f->l.group != (gid_t)-1)
			mnl_attr_put_u32(h, IFLA_TUN_GROUP, f->l.group);
	}
	mnl_attr_nest_end(h, data);
	if (f->l.master_ifindex) {
		mnl_attr_put_strz(h, IFLA_INFO_SLAVE_KIND, "bridge");
		data = mnl_attr_nest_start(h, IFLA_INFO_SLAVE_DATA);
		mnl_attr_put_u8(h, IFLA_BRPORT_ISOLATED, f->l.isolated);
		mnl_attr_put_u8(h, IFLA_BRPORT_MODE, f->l.hairpin);
		mnl_attr_nest_end(h, data);
	}
	mnl_attr_nest_end(h, info);
	nlbuf_end(b, h);
}

static void put_vids(struct nlbuf *b, const struct fake_link *f)
{
	struct nlmsghdr *h = nlbuf_start(b, RTM_NEWLINK, 0, sizeof(struct ifinfomsg), 40000);
	struct ifinfomsg *ifi = mnl_nlmsg_get_payload(h);
	struct nlattr *spec;

	ifi->ifi_family = AF_BRIDGE;
	ifi->ifi_index = f->l.ifindex;
	spec = mnl_attr_nest_start(h, IFLA_AF_SPEC);
	for (unsigned vid = 1; vid <= VLAN_VID_MAX; vid++) {
		struct bridge_vlan_info v = { .vid = (uint16_t)vid };

		if (vid == f->members.pvid)
			v.flags = BRIDGE_VLAN_INFO_PVID | BRIDGE_VLAN_INFO_UNTAGGED;
		else if (!vlan_vids_has(&f->members.tagged, vid))
			continue;
		mnl_attr_put(h, IFLA_BRIDGE_VLAN_INFO, sizeof(v), &v);
	}
	mnl_attr_nest_end(h, spec);
	nlbuf_end(b, h);
}

static void put_addrs(struct nlbuf *b, const struct fake_link *f)
{
	for (size_t i = 0; i < f->addr_count; i++) {
		struct nlmsghdr *h = nlbuf_start(b, RTM_NEWADDR, 0, sizeof(struct ifaddrmsg), 256);
		struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(h);
		const struct prefix *p = &f->addrs[i].prefix;

		ifa->ifa_family = p->addr.family == 4 ? AF_INET : AF_INET6;
		ifa->ifa_prefixlen = p->len;
		ifa->ifa_index = (uint32_t)f->l.ifindex;
		mnl_attr_put(h, IFA_LOCAL, p->addr.family == 4 ? 4 : 16, p->addr.b);
		if (f->addrs[i].proto)
			mnl_attr_put_u8(h, IFA_PROTO, f->addrs[i].proto);
		nlbuf_end(b, h);
	}
}

static void dump_links(struct fake_kernel *k, const struct nlmsghdr *req, struct nlbuf *out)
{
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(req);
	size_t first =
		k->link_count && happens(k, k->faults.dump_reordered) ? next(k) % k->link_count : 0;

	for (size_t i = 0; i < k->link_count; i++) {
		const struct fake_link *f = &k->links[(first + i) % k->link_count];

		if (req->nlmsg_type == RTM_GETADDR)
			put_addrs(out, f);
		else if (ifi->ifi_family == AF_BRIDGE)
			put_vids(out, f);
		else
			put_link(out, f);
	}
}

/* ---- nftables ---- */

static void key_of_message(const struct nlmsghdr *h, const struct nlattr **tb, struct object *o)
{
	const struct nfgenmsg *nfg = mnl_nlmsg_get_payload(h);

	*o = (struct object){ .type = h->nlmsg_type & 0xff, .family = nfg->nfgen_family };
	mnl_attr_parse(h, sizeof(*nfg), collect, tb);
	snprintf(o->table, sizeof(o->table), "%.31s", text(tb[1])); /* NFTA_*_TABLE */
	snprintf(o->name, sizeof(o->name), "%.31s",
		 text(tb[o->type == NFT_MSG_NEWCHAIN ? NFTA_CHAIN_NAME : 2]));
	if (o->type == NFT_MSG_NEWTABLE || o->type == NFT_MSG_DELTABLE)
		o->name[0] = '\0';
}

static bool same_place(const struct object *a, const struct object *b)
{
	return a->family == b->family && !strcmp(a->table, b->table) && !strcmp(a->name, b->name);
}

static struct object *find(struct tables *t, uint16_t type, const struct object *o)
{
	for (size_t i = 0; i < t->count; i++)
		if (t->o[i].type == type && same_place(&t->o[i], o))
			return &t->o[i];
	return NULL;
}

static void store(struct tables *t, struct object *o, const void *bytes, size_t len)
{
	struct blob *blob = malloc(sizeof(*blob) + len);

	assert(blob && t->count < OBJECTS_MAX);
	blob->next = *t->blobs;
	*t->blobs = blob;
	o->bytes = blob->bytes;
	memcpy(o->bytes, bytes, len);
	o->len = len;
	t->o[t->count++] = *o;
}

static bool same_key(const struct object *o, const struct nlattr *elem)
{
	const struct nlattr *a[ATTRS_MAX] = { 0 }, *b[ATTRS_MAX] = { 0 };
	static const uint16_t keys[] = { NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_KEY_END };

	mnl_attr_parse_nested((const struct nlattr *)(const void *)o->bytes, collect, a);
	mnl_attr_parse_nested(elem, collect, b);
	for (size_t i = 0; i < 2; i++) {
		const struct nlattr *x = a[keys[i]], *y = b[keys[i]];

		if (!x != !y || (x && (x->nla_len != y->nla_len || memcmp(x, y, x->nla_len))))
			return false;
	}
	return true;
}

static int change_elems(struct tables *t, struct object *o, const struct nlattr *list, bool add)
{
	const struct nlattr *elem;

	mnl_attr_for_each_nested(elem, list)
	{
		size_t i;

		for (i = 0; i < t->count; i++)
			if (t->o[i].type == NFT_MSG_NEWSETELEM && same_place(&t->o[i], o) &&
			    same_key(&t->o[i], elem))
				break;
		if (add && i < t->count)
			return -EEXIST;
		if (!add && i == t->count)
			return -ENOENT;
		if (add) {
			o->type = NFT_MSG_NEWSETELEM;
			store(t, o, elem, elem->nla_len);
		} else {
			t->o[i] = t->o[--t->count];
		}
	}
	return 0;
}

static void delete_table(struct tables *t, const struct object *o)
{
	size_t kept = 0;

	for (size_t i = 0; i < t->count; i++)
		if (t->o[i].family != o->family || strcmp(t->o[i].table, o->table) != 0)
			t->o[kept++] = t->o[i];
	t->count = kept;
}

static int nft_message(struct tables *t, const struct nlmsghdr *h)
{
	const struct nlattr *tb[ATTRS_MAX] = { 0 };
	const uint8_t *payload =
		(const uint8_t *)mnl_nlmsg_get_payload(h) + sizeof(struct nfgenmsg);
	size_t len = mnl_nlmsg_get_payload_len(h) - sizeof(struct nfgenmsg);
	struct object o, table;

	key_of_message(h, tb, &o);
	table = o;
	table.name[0] = '\0';
	if (o.type != NFT_MSG_NEWTABLE && !find(t, NFT_MSG_NEWTABLE, &table))
		return -ENOENT;
	switch (o.type) {
	case NFT_MSG_NEWTABLE:
		if (!find(t, NFT_MSG_NEWTABLE, &o))
			store(t, &o, payload, len);
		return 0;
	case NFT_MSG_DELTABLE:
		delete_table(t, &o);
		return 0;
	case NFT_MSG_NEWSET:
	case NFT_MSG_NEWCHAIN:
	case NFT_MSG_NEWRULE:
		if (o.type != NFT_MSG_NEWRULE && find(t, o.type, &o))
			return 0;
		store(t, &o, payload, len);
		return 0;
	case NFT_MSG_NEWSETELEM:
	case NFT_MSG_DELSETELEM:
		if (!find(t, NFT_MSG_NEWSET, &o))
			return -ENOENT;
		return change_elems(t, &o, tb[NFTA_SET_ELEM_LIST_ELEMENTS],
				    h->nlmsg_type ==
					    (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWSETELEM));
	}
	return -EOPNOTSUPP;
}

static int fake_transact(struct nl *nl, struct nlbuf *b, struct err *err)
{
	struct fake_kernel *k = fake_of(nl);
	struct tables copy = { malloc(OBJECTS_MAX * sizeof(struct object)), k->tables.count,
			       &k->blobs };
	int r = happens(k, k->faults.transaction_busy) ? -EBUSY : 0;

	assert(copy.o);
	memcpy(copy.o, k->tables.o, copy.count * sizeof(copy.o[0]));
	for (size_t at = 0; at < b->len_bytes && !r;) {
		const struct nlmsghdr *h = (const void *)(b->data + at);

		if (h->nlmsg_type >> 8 == NFNL_SUBSYS_NFTABLES)
			r = nft_message(&copy, h);
		k->messages++;
		at += NLMSG_ALIGN(h->nlmsg_len);
	}
	if (r) {
		free(copy.o);
		return err_sys(err, r, "fake kernel: nftables");
	}
	free(k->tables.o);
	k->tables = copy;
	return 0;
}

/* Elements one message each; everything else as it was sent. */
static int dump_nft(struct fake_kernel *k, const struct nlmsghdr *req, struct nlbuf *out)
{
	static const uint16_t answers[][2] = { { NFT_MSG_GETTABLE, NFT_MSG_NEWTABLE },
					       { NFT_MSG_GETSET, NFT_MSG_NEWSET },
					       { NFT_MSG_GETCHAIN, NFT_MSG_NEWCHAIN },
					       { NFT_MSG_GETRULE, NFT_MSG_NEWRULE },
					       { NFT_MSG_GETSETELEM, NFT_MSG_NEWSETELEM } };
	const struct nlattr *tb[ATTRS_MAX] = { 0 };
	uint16_t type = 0;
	struct object want;

	key_of_message(req, tb, &want);
	for (size_t i = 0; i < 5; i++)
		if (answers[i][0] == (req->nlmsg_type & 0xff))
			type = answers[i][1];
	if (type == NFT_MSG_NEWSETELEM && !find(&k->tables, NFT_MSG_NEWSET, &want))
		return -ENOENT;
	for (size_t i = 0; i < k->tables.count; i++) {
		const struct object *o = &k->tables.o[i];
		struct nlmsghdr *h;
		struct nlattr *list;

		if (o->type != type || o->family != want.family ||
		    (type == NFT_MSG_NEWSETELEM && !same_place(o, &want)))
			continue;
		h = nlbuf_start(out, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), 0,
				sizeof(struct nfgenmsg), o->len + 256);
		((struct nfgenmsg *)mnl_nlmsg_get_payload(h))->nfgen_family = o->family;
		if (type == NFT_MSG_NEWSETELEM) {
			mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_TABLE, o->table);
			mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_SET, o->name);
			list = mnl_attr_nest_start(h, NFTA_SET_ELEM_LIST_ELEMENTS);
			memcpy(mnl_nlmsg_get_payload_tail(h), o->bytes, o->len);
			h->nlmsg_len += (uint32_t)NLMSG_ALIGN(o->len);
			mnl_attr_nest_end(h, list);
		} else {
			memcpy(mnl_nlmsg_get_payload_tail(h), o->bytes, o->len);
			h->nlmsg_len += (uint32_t)NLMSG_ALIGN(o->len);
		}
		nlbuf_end(out, h);
	}
	return 0;
}

/* ---- the port ---- */

static int fake_dump(struct nl *nl, enum nl_bus bus, const struct nlbuf *request, nl_message_fn fn,
		     void *arg, struct err *err)
{
	struct fake_kernel *k = fake_of(nl);
	const struct nlmsghdr *req = (const void *)request->data;
	struct nlbuf out = { 0 };
	size_t stop_at = SIZE_MAX, n = 0;
	int fault = happens(k, k->faults.dump_interrupted) ? -EINTR
		    : happens(k, k->faults.dump_lost)	   ? -ENOBUFS
							   : 0;
	int r = 0;

	if (bus == NL_ROUTE)
		dump_links(k, req, &out);
	else if (req->nlmsg_type >> 8 == NFNL_SUBSYS_NFTABLES)
		r = dump_nft(k, req, &out);
	if (fault)
		stop_at = out.message_count ? next(k) % out.message_count : 0;
	for (size_t at = 0; at < out.len_bytes && !r && n < stop_at; n++) {
		const struct nlmsghdr *h = (const void *)(out.data + at);

		r = fn(arg, h);
		at += NLMSG_ALIGN(h->nlmsg_len);
	}
	nlbuf_clear(&out);
	(void)err;
	return r ? r : fault;
}

static int fake_ifindex(struct nl *nl, const char *name)
{
	const struct fake_link *f = by_name(fake_of(nl), name);

	return f ? f->l.ifindex : -ENODEV;
}

static int fake_tap_add(struct nl *nl, const struct vlan_link *tap, struct err *err)
{
	struct fake_kernel *k = fake_of(nl);
	struct fake_link *f;

	if (by_name(k, tap->name))
		return err_sys(err, -EEXIST, "fake tap");
	if (happens(k, k->faults.refused))
		return err_sys(err, -EBUSY, "fake tap");
	f = new_link(k, tap->name, VLAN_KIND_TAP);
	f->l.owner = tap->owner;
	f->l.group = tap->group;
	f->l.multi_queue = tap->multi_queue;
	f->l.vnet_hdr = tap->vnet_hdr;
	memcpy(f->l.alias, tap->alias, sizeof(f->l.alias));
	return 0;
}

static int fake_tap_own(struct nl *nl, const struct vlan_link *tap, struct err *err)
{
	struct fake_link *f = by_name(fake_of(nl), tap->name);

	if (!f)
		return err_sys(err, -ENODEV, "fake tap");
	f->l.owner = tap->owner;
	f->l.group = tap->group;
	return 0;
}

static uint32_t fake_port_id(struct nl *nl)
{
	(void)nl;
	return 4711;
}

static void fake_close(struct nl *nl)
{
	struct fake_kernel *k = fake_of(nl);

	for (struct blob *b = k->blobs, *following; b; b = following) {
		following = b->next;
		free(b);
	}
	free(k->tables.o);
	free(k);
}

static const struct nl_ops fake_ops = {
	.dump = fake_dump,
	.batch = fake_batch,
	.transact = fake_transact,
	.ifindex = fake_ifindex,
	.tap_add = fake_tap_add,
	.tap_own = fake_tap_own,
	.port_id = fake_port_id,
	.close = fake_close,
};

struct nl *fake_kernel_new(bool filtering)
{
	struct fake_kernel *k = calloc(1, sizeof(*k));

	assert(k);
	k->nl.ops = &fake_ops;
	k->filtering = filtering;
	k->next_index = 2;
	k->tables.o = malloc(OBJECTS_MAX * sizeof(struct object));
	assert(k->tables.o);
	k->tables.blobs = &k->blobs;
	return &k->nl;
}

void fake_kernel_faults(struct nl *nl, const struct fake_faults *faults, uint32_t seed)
{
	fake_of(nl)->faults = *faults;
	fake_of(nl)->seed = seed;
}

void fake_kernel_add_foreign(struct nl *nl, const char *name, const char *alias)
{
	struct fake_link *f = new_link(fake_of(nl), name, VLAN_KIND_OTHER);

	snprintf(f->l.alias, sizeof(f->l.alias), "%s", alias);
	f->l.mac.b[5] = (uint8_t)f->l.ifindex;
}

uint64_t fake_kernel_messages(struct nl *nl)
{
	return fake_of(nl)->messages;
}
