/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nftables messages.  Tables, sets and elements are a handful of attributes, written directly;
 * rules go through libnftnl, which knows the expressions' encodings.
 *
 * An element list is one nested attribute and so at most 64 KiB: elements are packed into messages
 * of ELEMS_PER_MESSAGE.  A message in a transaction that is not asked to acknowledge costs nothing
 * on the way back.
 */
#include "nat/wire.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <libnftnl/rule.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdlib.h>
#include <string.h>

#include "nat/rules.h"
#include "nat/sets.h"

#define ELEM_BYTES_MAX	  192 /* two keys, data and the headers around them */
#define ELEMS_PER_MESSAGE 256
static_assert(ELEM_BYTES_MAX * ELEMS_PER_MESSAGE < 65000, "an attribute's length has 16 bits");

#define SET_USERDATA_INTERVAL 6 /* nft's NFTNL_UDATA_SET_DATA_INTERVAL */

static uint8_t nfproto(enum nat_family f)
{
	return f == NAT_FAMILY_INET ? NFPROTO_INET : NFPROTO_BRIDGE;
}

static struct nlmsghdr *start(struct nlbuf *b, uint16_t type, uint16_t flags, uint8_t family,
			      size_t room)
{
	struct nlmsghdr *nlh = nlbuf_start(b, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type),
					   NLM_F_REQUEST | flags, sizeof(struct nfgenmsg), room);

	if (nlh)
		((struct nfgenmsg *)mnl_nlmsg_get_payload(nlh))->nfgen_family = family;
	return nlh;
}

static int put_marker(struct nlbuf *b, uint16_t type)
{
	struct nlmsghdr *nlh = nlbuf_start(b, type, NLM_F_REQUEST, sizeof(struct nfgenmsg), 0);

	if (!nlh)
		return -ENOMEM;
	((struct nfgenmsg *)mnl_nlmsg_get_payload(nlh))->res_id = htons(NFNL_SUBSYS_NFTABLES);
	nlbuf_end(b, nlh);
	return 0;
}

int nat_wire_begin(struct nlbuf *b)
{
	return put_marker(b, NFNL_MSG_BATCH_BEGIN);
}

/* The last message before the end is the one that answers. */
static void ask_for_ack(struct nlbuf *b)
{
	struct nlmsghdr *last = NULL;

	for (size_t at = 0; at < b->len_bytes;) {
		struct nlmsghdr *nlh = (struct nlmsghdr *)(void *)(b->data + at);

		if (nlh->nlmsg_type != NFNL_MSG_BATCH_BEGIN)
			last = nlh;
		at += NLMSG_ALIGN(nlh->nlmsg_len);
	}
	if (last)
		last->nlmsg_flags |= NLM_F_ACK;
}

int nat_wire_end(struct nlbuf *b)
{
	ask_for_ack(b);
	return put_marker(b, NFNL_MSG_BATCH_END);
}

static int put_table(struct nlbuf *b, enum nat_family f, const char *name, uint32_t flags)
{
	struct nlmsghdr *nlh = start(b, NFT_MSG_NEWTABLE, NLM_F_CREATE, nfproto(f), 64);

	if (!nlh)
		return -ENOMEM;
	mnl_attr_put_strz(nlh, NFTA_TABLE_NAME, name);
	mnl_attr_put_u32(nlh, NFTA_TABLE_FLAGS, htonl(flags));
	nlbuf_end(b, nlh);
	return 0;
}

static int delete_table(struct nlbuf *b, enum nat_family f, const char *name)
{
	struct nlmsghdr *nlh = start(b, NFT_MSG_DELTABLE, 0, nfproto(f), 64);

	if (!nlh)
		return -ENOMEM;
	mnl_attr_put_strz(nlh, NFTA_TABLE_NAME, name);
	nlbuf_end(b, nlh);
	return 0;
}

static uint32_t set_flags(enum nat_set_id id)
{
	uint32_t flags = 0;

	if (nat_set_info[id].interval) /* a hash takes any key; only ranges need the fields */
		flags |= NFT_SET_INTERVAL | NFT_SET_CONCAT;
	if (nat_set_is_map(id))
		flags |= NFT_SET_MAP;
	return flags;
}

/* A range map sorts field by field: the kernel wants to know how long each is. */
static void put_set_fields(struct nlmsghdr *nlh, enum nat_set_id id)
{
	struct nlattr *desc = mnl_attr_nest_start(nlh, NFTA_SET_DESC);
	struct nlattr *concat = mnl_attr_nest_start(nlh, NFTA_SET_DESC_CONCAT);

	for (size_t i = 0; nat_set_info[id].key[i] != NAT_FIELD_END; i++) {
		struct nlattr *field = mnl_attr_nest_start(nlh, NFTA_LIST_ELEM);
		uint32_t len = nat_field_info[nat_set_info[id].key[i]].len_bytes;

		mnl_attr_put_u32(nlh, NFTA_SET_FIELD_LEN, htonl(len));
		mnl_attr_nest_end(nlh, field);
	}
	mnl_attr_nest_end(nlh, concat);
	mnl_attr_nest_end(nlh, desc);
}

static int put_set(struct nlbuf *b, enum nat_set_id id)
{
	static const uint8_t interval_data[] = { SET_USERDATA_INTERVAL, 4, 1, 0, 0, 0 };
	const struct nat_set_info *set = &nat_set_info[id];
	struct nlmsghdr *nlh = start(b, NFT_MSG_NEWSET, NLM_F_CREATE, nfproto(set->family), 256);

	if (!nlh)
		return -ENOMEM;
	mnl_attr_put_strz(nlh, NFTA_SET_TABLE, NAT_TABLE);
	mnl_attr_put_strz(nlh, NFTA_SET_NAME, set->name);
	mnl_attr_put_u32(nlh, NFTA_SET_ID, htonl((uint32_t)id + 1));
	mnl_attr_put_u32(nlh, NFTA_SET_FLAGS, htonl(set_flags(id)));
	mnl_attr_put_u32(nlh, NFTA_SET_KEY_TYPE, htonl(nat_fields_type(set->key)));
	mnl_attr_put_u32(nlh, NFTA_SET_KEY_LEN, htonl((uint32_t)nat_key_len(id)));
	if (nat_set_is_map(id)) {
		mnl_attr_put_u32(nlh, NFTA_SET_DATA_TYPE, htonl(nat_fields_type(set->data)));
		mnl_attr_put_u32(nlh, NFTA_SET_DATA_LEN, htonl((uint32_t)nat_data_len(id)));
	}
	if (set->interval)
		put_set_fields(nlh, id);
	if (set->data_interval)
		mnl_attr_put(nlh, NFTA_SET_USERDATA, sizeof(interval_data), interval_data);
	nlbuf_end(b, nlh);
	return 0;
}

static int put_chain(struct nlbuf *b, enum nat_chain_id id)
{
	const struct nat_chain_info *chain = &nat_chain_info[id];
	struct nlmsghdr *nlh =
		start(b, NFT_MSG_NEWCHAIN, NLM_F_CREATE, nfproto(chain->family), 256);
	struct nlattr *hook;

	if (!nlh)
		return -ENOMEM;
	mnl_attr_put_strz(nlh, NFTA_CHAIN_TABLE, NAT_TABLE);
	mnl_attr_put_strz(nlh, NFTA_CHAIN_NAME, chain->name);
	if (chain->type) {
		hook = mnl_attr_nest_start(nlh, NFTA_CHAIN_HOOK);
		mnl_attr_put_u32(nlh, NFTA_HOOK_HOOKNUM, htonl(chain->hook));
		mnl_attr_put_u32(nlh, NFTA_HOOK_PRIORITY, htonl((uint32_t)chain->priority));
		mnl_attr_nest_end(nlh, hook);
		mnl_attr_put_u32(nlh, NFTA_CHAIN_POLICY, htonl(NF_ACCEPT));
		mnl_attr_put_strz(nlh, NFTA_CHAIN_TYPE, chain->type);
	}
	nlbuf_end(b, nlh);
	return 0;
}

int nat_wire_rule(struct nlbuf *b, const struct nat_rule *r)
{
	struct nlmsghdr *nlh;
	struct nftnl_rule *rule = nat_rule_build(r);

	if (!rule)
		return -ENOMEM;
	nlh = start(b, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND,
		    nfproto(nat_chain_info[r->chain].family), 2048);
	if (nlh) {
		nftnl_rule_nlmsg_build_payload(nlh, rule);
		nlbuf_end(b, nlh);
	}
	nftnl_rule_free(rule);
	return nlh ? 0 : -ENOMEM;
}

static void put_verdict(struct nlmsghdr *nlh, enum nat_verdict v)
{
	struct nlattr *nest = mnl_attr_nest_start(nlh, NFTA_DATA_VERDICT);
	int code = v == NAT_VERDICT_ACCEPT ? NF_ACCEPT : v == NAT_VERDICT_DROP ? NF_DROP : NFT_JUMP;
	enum nat_chain_id chain =
		v == NAT_VERDICT_SERVICES ? NAT_CHAIN_SERVICES : NAT_CHAIN_OUTSIDE;

	mnl_attr_put_u32(nlh, NFTA_VERDICT_CODE, htonl((uint32_t)code));
	if (code == NFT_JUMP)
		mnl_attr_put_strz(nlh, NFTA_VERDICT_CHAIN, nat_chain_info[chain].name);
	mnl_attr_nest_end(nlh, nest);
}

static void put_bytes(struct nlmsghdr *nlh, uint16_t type, const uint8_t *bytes, size_t len)
{
	struct nlattr *nest = mnl_attr_nest_start(nlh, type);

	mnl_attr_put(nlh, NFTA_DATA_VALUE, len, bytes);
	mnl_attr_nest_end(nlh, nest);
}

static void put_elem(struct nlmsghdr *nlh, enum nat_set_id id, const struct nat_elem *e, bool data)
{
	struct nlattr *elem = mnl_attr_nest_start(nlh, NFTA_LIST_ELEM);
	struct nlattr *nest;

	put_bytes(nlh, NFTA_SET_ELEM_KEY, e->key, nat_key_len(id));
	if (nat_set_info[id].interval)
		put_bytes(nlh, NFTA_SET_ELEM_KEY_END, e->key_end, nat_key_len(id));
	if (data && nat_set_is_vmap(id)) {
		nest = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_DATA);
		put_verdict(nlh, e->verdict);
		mnl_attr_nest_end(nlh, nest);
	} else if (data && nat_set_is_map(id)) {
		put_bytes(nlh, NFTA_SET_ELEM_DATA, e->data, nat_data_len(id));
	}
	mnl_attr_nest_end(nlh, elem);
}

/* A message of elements that is being filled; another set or kind, or a full one, ends it. */
struct packer {
	struct nlbuf *b;
	struct nlmsghdr *nlh;
	struct nlattr *list;
	enum nat_set_id set;
	bool add;
	size_t count;
};

static void pack_flush(struct packer *p)
{
	if (!p->nlh)
		return;
	mnl_attr_nest_end(p->nlh, p->list);
	nlbuf_end(p->b, p->nlh);
	p->nlh = NULL;
}

static int pack(struct packer *p, enum nat_set_id set, const struct nat_elem *e, bool add)
{
	if (p->nlh && (p->set != set || p->add != add || p->count == ELEMS_PER_MESSAGE))
		pack_flush(p);
	if (!p->nlh) {
		p->nlh = start(p->b, add ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM,
			       add ? NLM_F_CREATE | NLM_F_EXCL : 0,
			       nfproto(nat_set_info[set].family),
			       ELEM_BYTES_MAX * ELEMS_PER_MESSAGE + 256);
		if (!p->nlh)
			return -ENOMEM;
		mnl_attr_put_strz(p->nlh, NFTA_SET_ELEM_LIST_TABLE, NAT_TABLE);
		mnl_attr_put_strz(p->nlh, NFTA_SET_ELEM_LIST_SET, nat_set_info[set].name);
		p->list = mnl_attr_nest_start(p->nlh, NFTA_SET_ELEM_LIST_ELEMENTS);
		p->set = set;
		p->add = add;
		p->count = 0;
	}
	put_elem(p->nlh, set, e, add);
	p->count++;
	return 0;
}

/* Add before delete would collide on the key of a deleted and re-added element: delete first. */
static int put_state(struct nlbuf *b, const struct nat_state *s, uint32_t table_flags)
{
	struct packer p = { .b = b };
	int r = 0;

	for (int f = 0; f < NAT_FAMILY_COUNT && !r; f++)
		r = put_table(b, (enum nat_family)f, NAT_TABLE, table_flags);
	for (int i = 0; i < NAT_SET_COUNT && !r; i++)
		r = put_set(b, (enum nat_set_id)i);
	for (int i = 0; i < NAT_CHAIN_COUNT && !r; i++)
		r = put_chain(b, (enum nat_chain_id)i);
	for (size_t i = 0; i < nat_rule_count && !r; i++)
		r = nat_wire_rule(b, &nat_rules[i]);
	for (int i = 0; i < NAT_SET_COUNT && !r; i++)
		for (size_t k = 0; k < s->sets[i].count && !r; k++)
			r = pack(&p, (enum nat_set_id)i, &s->sets[i].e[k], true);
	pack_flush(&p);
	return r;
}

/*
 * Replace whatever is there: add makes a missing table, so that delete cannot fail.  An add with
 * other flags than those of an existing table would be a change of flags, which is refused.
 */
static int put_whole(struct nlbuf *b, uint32_t existing_flags, const struct nat_state *s,
		     uint32_t table_flags)
{
	int r = 0;

	for (int f = 0; f < NAT_FAMILY_COUNT && !r; f++) {
		r = put_table(b, (enum nat_family)f, NAT_TABLE, existing_flags);
		if (!r)
			r = delete_table(b, (enum nat_family)f, NAT_TABLE);
	}
	if (!r && s)
		r = put_state(b, s, table_flags);
	return r;
}

static int put_op(struct packer *p, const struct nat_op *op, bool undo, uint32_t table_flags)
{
	const struct nat_elem *del = undo ? op->after : op->before;
	const struct nat_elem *add = undo ? op->before : op->after;
	int r;

	switch (op->kind) {
	case NAT_OP_CREATE:
	case NAT_OP_DESTROY:
		pack_flush(p);
		return put_whole(p->b, !undo && op->old ? op->old->table_flags : table_flags,
				 undo ? op->old : op->new, table_flags);
	case NAT_OP_ELEM_ADD:
	case NAT_OP_ELEM_DEL:
	case NAT_OP_ELEM_SET:
		r = del ? pack(p, op->set, del, false) : 0;
		if (!r && add)
			r = pack(p, op->set, add, true);
		return r;
	}
	return -EINVAL;
}

int nat_wire_ops(struct nlbuf *b, const struct nat_op *const *ops, size_t count, bool undo,
		 uint32_t table_flags)
{
	struct packer p = { .b = b };
	int r = 0;

	for (size_t i = 0; i < count && !r; i++)
		r = put_op(&p, ops[i], undo, table_flags);
	pack_flush(&p);
	return r;
}

int nat_wire_adopt(struct nlbuf *b, uint32_t table_flags)
{
	int r = put_table(b, NAT_FAMILY_INET, NAT_TABLE, table_flags);

	return r ? r : put_table(b, NAT_FAMILY_BRIDGE, NAT_TABLE, table_flags);
}

int nat_wire_probe(struct nlbuf *b, uint32_t table_flags, bool bridge_family)
{
	static const char name[] = "ashlar-probe";
	enum nat_family f = bridge_family ? NAT_FAMILY_BRIDGE : NAT_FAMILY_INET;
	int r = put_table(b, f, name, table_flags);

	return r ? r : delete_table(b, f, name);
}

/* tables, sets, chains, rules of all families, then the elements set by set */
static const uint16_t object_dumps[] = { NFT_MSG_GETTABLE, NFT_MSG_GETSET, NFT_MSG_GETCHAIN,
					 NFT_MSG_GETRULE };
#define FAMILY_DUMPS (sizeof(object_dumps) / sizeof(object_dumps[0]))

int nat_wire_dump(struct nlbuf *b, size_t index)
{
	size_t objects = FAMILY_DUMPS * NAT_FAMILY_COUNT;
	struct nlmsghdr *nlh;

	if (index >= objects + NAT_SET_COUNT)
		return -ERANGE;
	if (index < objects) {
		enum nat_family f = (enum nat_family)(index / FAMILY_DUMPS);
		uint16_t type = object_dumps[index % FAMILY_DUMPS];

		nlh = start(b, type, NLM_F_DUMP, nfproto(f), 64);
		if (!nlh)
			return -ENOMEM;
		if (type == NFT_MSG_GETRULE)
			mnl_attr_put_strz(nlh, NFTA_RULE_TABLE, NAT_TABLE);
		if (type == NFT_MSG_GETSET)
			mnl_attr_put_strz(nlh, NFTA_SET_TABLE, NAT_TABLE);
	} else {
		const struct nat_set_info *set = &nat_set_info[index - objects];

		nlh = start(b, NFT_MSG_GETSETELEM, NLM_F_DUMP, nfproto(set->family), 128);
		if (!nlh)
			return -ENOMEM;
		mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_TABLE, NAT_TABLE);
		mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_SET, set->name);
	}
	nlbuf_end(b, nlh);
	return 0;
}

int nat_wire_ask_generation(struct nlbuf *b)
{
	struct nlmsghdr *nlh = start(b, NFT_MSG_GETGEN, NLM_F_ACK, AF_UNSPEC, 32);

	if (!nlh)
		return -ENOMEM;
	nlbuf_end(b, nlh);
	return 0;
}

int nat_wire_generation(const struct nlmsghdr *nlh, uint32_t *ret)
{
	const struct nlattr *attr;

	if (nlh->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN))
		return -ENOMSG;
	if (mnl_nlmsg_get_payload_len(nlh) < sizeof(struct nfgenmsg))
		return -EPROTO;
	mnl_attr_for_each(attr, nlh, sizeof(struct nfgenmsg))
	{
		if (mnl_attr_get_type(attr) != NFTA_GEN_ID)
			continue;
		if (mnl_attr_validate(attr, MNL_TYPE_U32) < 0)
			return -EPROTO;
		*ret = ntohl(mnl_attr_get_u32(attr));
		return 0;
	}
	return -EPROTO;
}
