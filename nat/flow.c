/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Flows that a changed forward leaves stale, and conntrack's messages.
 *
 * NAT is decided on a flow's first packet.  A UDP flow that began before its forward existed keeps
 * going to the host, one of a removed forward keeps going to the guest, for as long as packets
 * come.  So after a plan, flows whose original destination is that of a changed forward are
 * forgotten; the next packet decides anew.  It is the original destination port that counts, not
 * the guest's, and other flows to the same port (a guest's own queries through NAT) stay.
 *
 * A TCP connection to the host itself outlives a forward that comes to its port: forgotten, it
 * would be picked up in mid-stream and sent to a guest who knows nothing of it.  New connections
 * decide anew by themselves.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <netinet/in.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <stdlib.h>
#include <string.h>

#include "nat/sets.h"
#include "nat/wire.h"

#define ATTRS_MAX 32

/* ---- which ---- */

static bool is_forward_set(enum nat_set_id set)
{
	return set >= NAT_SET_FWD4 && set <= NAT_SET_FWD6_ANY_RANGE;
}

/* An element of a forward map, read back. */
static struct nat_stale decode(enum nat_set_id set, const struct nat_elem *e, bool removed)
{
	bool v6 = set >= NAT_SET_FWD6;
	bool any = set == NAT_SET_FWD4_ANY || set == NAT_SET_FWD4_ANY_RANGE ||
		   set == NAT_SET_FWD6_ANY || set == NAT_SET_FWD6_ANY_RANGE;
	size_t port_at = 4 + (any ? 0 : v6 ? 16 : 4);
	struct nat_stale s = { .family = v6 ? 6 : 4, .proto = e->key[0] };

	s.first = s.last = (uint16_t)(e->key[port_at] << 8 | e->key[port_at + 1]);
	if (nat_set_info[set].interval)
		s.last = (uint16_t)(e->key_end[port_at] << 8 | e->key_end[port_at + 1]);
	if (!any)
		s.on = addr_from_bytes(s.family, e->key + 4);
	if (removed)
		s.to = addr_from_bytes(s.family, e->data);
	return s;
}

static int collect_elem(struct nat_stales *l, enum nat_set_id set, const struct nat_elem *e,
			bool removed)
{
	if (!e || !is_forward_set(set) || (!removed && e->key[0] == IPPROTO_TCP))
		return 0;
	if (l->count == l->capacity) {
		size_t capacity = l->capacity ? l->capacity * 2 : 16;
		struct nat_stale *v = reallocarray(l->v, capacity, sizeof(*v));

		if (!v)
			return -ENOMEM;
		l->v = v;
		l->capacity = capacity;
	}
	l->v[l->count++] = decode(set, e, removed);
	return 0;
}

static int collect_state(struct nat_stales *l, const struct nat_state *s, bool removed)
{
	int r = 0;

	for (int i = 0; s && i < NAT_SET_COUNT; i++)
		for (size_t k = 0; k < s->sets[i].count && !r; k++)
			r = collect_elem(l, (enum nat_set_id)i, &s->sets[i].e[k], removed);
	return r;
}

int nat_stale_collect(const struct plan *plan, struct nat_stales *ret)
{
	int r = 0;

	for (size_t i = 0; i < plan->count && !r; i++) {
		const struct nat_op *op = (const struct nat_op *)plan->ops[i];

		if (plan->ops[i]->owner != &nat_op_owner)
			continue;
		switch (op->kind) {
		case NAT_OP_CREATE:
		case NAT_OP_DESTROY:
			r = collect_state(ret, op->old, true);
			if (!r)
				r = collect_state(ret, op->new, false);
			break;
		case NAT_OP_ELEM_ADD:
		case NAT_OP_ELEM_DEL:
		case NAT_OP_ELEM_SET:
			r = collect_elem(ret, op->set, op->before, true);
			if (!r)
				r = collect_elem(ret, op->set, op->after, false);
			break;
		}
	}
	return r;
}

/*
 * A flow that is translated already and goes where the forward now says is fine; that a removed
 * forward was its reason shows in who answers.
 */
static bool matches(const struct nat_stale *s, const struct nat_flow *f)
{
	if (s->family != f->family || s->proto != f->proto || f->dport < s->first ||
	    f->dport > s->last)
		return false;
	if (s->on.family && !addr_equal(&s->on, &f->dst))
		return false;
	if (s->to.family)
		return f->dnat && addr_equal(&s->to, &f->reply_src);
	return !f->dnat;
}

bool nat_stale_matches(const struct nat_stales *s, const struct nat_flow *f)
{
	for (size_t i = 0; i < s->count; i++)
		if (matches(&s->v[i], f))
			return true;
	return false;
}

/* ---- messages ---- */

static struct nlmsghdr *start(struct nlbuf *b, uint16_t type, uint16_t flags, uint8_t family,
			      size_t room)
{
	struct nlmsghdr *nlh = nlbuf_start(b, (uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | type),
					   NLM_F_REQUEST | flags, sizeof(struct nfgenmsg), room);

	if (nlh)
		((struct nfgenmsg *)mnl_nlmsg_get_payload(nlh))->nfgen_family = family;
	return nlh;
}

int nat_wire_flow_dump(struct nlbuf *b, uint8_t family)
{
	struct nlmsghdr *nlh = start(b, IPCTNL_MSG_CT_GET, NLM_F_DUMP,
				     family == 4 ? NFPROTO_IPV4 : NFPROTO_IPV6, 0);

	if (!nlh)
		return -ENOMEM;
	nlbuf_end(b, nlh);
	return 0;
}

int nat_wire_flow_stats(struct nlbuf *b)
{
	struct nlmsghdr *nlh = start(b, IPCTNL_MSG_CT_GET_STATS, NLM_F_ACK, AF_UNSPEC, 0);

	if (!nlh)
		return -ENOMEM;
	nlbuf_end(b, nlh);
	return 0;
}

static int collect(const struct nlattr *attr, void *data)
{
	const struct nlattr **tb = data;

	if (mnl_attr_get_type(attr) < ATTRS_MAX)
		tb[mnl_attr_get_type(attr)] = attr;
	return MNL_CB_OK;
}

int nat_wire_flow_count(const struct nlmsghdr *nlh, uint32_t *ret)
{
	const struct nlattr *tb[ATTRS_MAX] = { 0 };

	if (nlh->nlmsg_type != (NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET_STATS))
		return -ENOMSG;
	if (mnl_nlmsg_get_payload_len(nlh) < sizeof(struct nfgenmsg) ||
	    mnl_attr_parse(nlh, sizeof(struct nfgenmsg), collect, tb) < 0 ||
	    !tb[CTA_STATS_GLOBAL_ENTRIES] ||
	    mnl_attr_validate(tb[CTA_STATS_GLOBAL_ENTRIES], MNL_TYPE_U32) < 0)
		return -EPROTO;
	*ret = ntohl(mnl_attr_get_u32(tb[CTA_STATS_GLOBAL_ENTRIES]));
	return 0;
}

struct tuple {
	struct addr src, dst;
	uint16_t sport, dport;
	uint8_t proto;
};

static bool get_addr(const struct nlattr *a, uint8_t family, struct addr *ret)
{
	if (!a || mnl_attr_get_payload_len(a) != (family == 4 ? 4 : 16))
		return false;
	*ret = addr_from_bytes(family, mnl_attr_get_payload(a));
	return true;
}

static int parse_tuple(const struct nlattr *attr, uint8_t family, struct tuple *ret)
{
	const struct nlattr *tb[ATTRS_MAX] = { 0 }, *ip[ATTRS_MAX] = { 0 },
			    *proto[ATTRS_MAX] = { 0 };
	bool v4 = family == 4;

	if (!attr || mnl_attr_parse_nested(attr, collect, tb) < 0 || !tb[CTA_TUPLE_IP] ||
	    !tb[CTA_TUPLE_PROTO])
		return -EPROTO;
	mnl_attr_parse_nested(tb[CTA_TUPLE_IP], collect, ip);
	mnl_attr_parse_nested(tb[CTA_TUPLE_PROTO], collect, proto);
	if (!get_addr(ip[v4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC], family, &ret->src) ||
	    !get_addr(ip[v4 ? CTA_IP_V4_DST : CTA_IP_V6_DST], family, &ret->dst) ||
	    !proto[CTA_PROTO_NUM] || mnl_attr_validate(proto[CTA_PROTO_NUM], MNL_TYPE_U8) < 0)
		return -EPROTO;
	ret->proto = mnl_attr_get_u8(proto[CTA_PROTO_NUM]);
	if (ret->proto != IPPROTO_TCP && ret->proto != IPPROTO_UDP)
		return -ENOMSG;
	if (!proto[CTA_PROTO_SRC_PORT] || !proto[CTA_PROTO_DST_PORT] ||
	    mnl_attr_validate(proto[CTA_PROTO_SRC_PORT], MNL_TYPE_U16) < 0 ||
	    mnl_attr_validate(proto[CTA_PROTO_DST_PORT], MNL_TYPE_U16) < 0)
		return -EPROTO;
	ret->sport = ntohs(mnl_attr_get_u16(proto[CTA_PROTO_SRC_PORT]));
	ret->dport = ntohs(mnl_attr_get_u16(proto[CTA_PROTO_DST_PORT]));
	return 0;
}

static int parse_flow_attrs(const struct nlmsghdr *nlh, const struct nlattr **tb,
			    uint8_t *ret_family)
{
	const struct nfgenmsg *nfg = mnl_nlmsg_get_payload(nlh);

	if (nlh->nlmsg_type != (NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW))
		return -ENOMSG;
	if (mnl_nlmsg_get_payload_len(nlh) < sizeof(*nfg) ||
	    mnl_attr_parse(nlh, sizeof(*nfg), collect, tb) < 0)
		return -EPROTO;
	if (nfg->nfgen_family != NFPROTO_IPV4 && nfg->nfgen_family != NFPROTO_IPV6)
		return -ENOMSG;
	*ret_family = nfg->nfgen_family == NFPROTO_IPV4 ? 4 : 6;
	return 0;
}

int nat_wire_flow_parse(const struct nlmsghdr *nlh, struct nat_flow *ret)
{
	const struct nlattr *tb[ATTRS_MAX] = { 0 };
	struct tuple orig, reply;
	uint8_t family;
	int r = parse_flow_attrs(nlh, tb, &family);

	if (!r)
		r = parse_tuple(tb[CTA_TUPLE_ORIG], family, &orig);
	if (!r)
		r = parse_tuple(tb[CTA_TUPLE_REPLY], family, &reply);
	if (r)
		return r;
	if (!tb[CTA_STATUS] || mnl_attr_validate(tb[CTA_STATUS], MNL_TYPE_U32) < 0)
		return -EPROTO;
	*ret = (struct nat_flow){ .family = family,
				  .proto = orig.proto,
				  .src = orig.src,
				  .dst = orig.dst,
				  .sport = orig.sport,
				  .dport = orig.dport,
				  .reply_src = reply.src,
				  .dnat = ntohl(mnl_attr_get_u32(tb[CTA_STATUS])) & IPS_DST_NAT };
	return 0;
}

int nat_wire_flow_delete(struct nlbuf *b, const struct nlmsghdr *flow)
{
	static const uint16_t keep[] = { CTA_TUPLE_ORIG, CTA_ZONE, CTA_ID };
	const struct nlattr *tb[ATTRS_MAX] = { 0 };
	struct nlmsghdr *nlh;
	uint8_t family;
	int r = parse_flow_attrs(flow, tb, &family);

	if (r)
		return r;
	nlh = start(b, IPCTNL_MSG_CT_DELETE, 0, family == 4 ? NFPROTO_IPV4 : NFPROTO_IPV6, 512);
	if (!nlh)
		return -ENOMEM;
	for (size_t i = 0; i < sizeof(keep) / sizeof(keep[0]); i++) {
		const struct nlattr *a = tb[keep[i]];

		if (a && mnl_attr_get_payload_len(a) <= 256)
			mnl_attr_put(nlh, a->nla_type, mnl_attr_get_payload_len(a),
				     mnl_attr_get_payload(a));
	}
	nlbuf_end(b, nlh);
	return 0;
}
