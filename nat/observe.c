/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The observed state, from dumps.
 *
 * The skeleton (sets, chains, rules) is as it should be when everything of ours was seen and
 * nothing else was seen in our tables: a set of another type, a chain with another hook, a rule
 * too many or in another place all make it differ, and then the plan makes the tables anew.  Rules
 * are compared expression by expression, the n-th one of a chain with the n-th one of the table,
 * because the kernel lists them in order; attribute by attribute with the message that we would
 * send, because libnftnl's parser ends the process at an attribute that it finds too short.
 *
 * Everything here comes from the kernel, and still is checked like foreign bytes: lengths by
 * libmnl's validation, sizes before each copy.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdlib.h>
#include <string.h>

#include "nat/rules.h"
#include "nat/sets.h"
#include "nat/wire.h"

#define ATTRS_MAX 32

struct scratch {
	bool table[NAT_FAMILY_COUNT];
	bool set[NAT_SET_COUNT];
	bool chain[NAT_CHAIN_COUNT];
	size_t rules[NAT_CHAIN_COUNT]; /* seen so far */
	bool differs;
};

static struct scratch *scratch_of(struct nat_state *s)
{
	if (!s->scratch)
		s->scratch = calloc(1, sizeof(struct scratch));
	return s->scratch;
}

/* Top-level or nested attributes into tb[]; unknown ones are passed over. */
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
	*ret = ntohl(mnl_attr_get_u32(a));
	return true;
}

/* A string attribute, NULL when missing or not terminated. */
static const char *get_str(const struct nlattr *a)
{
	if (!a || mnl_attr_validate(a, MNL_TYPE_NUL_STRING) < 0)
		return NULL;
	return mnl_attr_get_str(a);
}

static bool is_ours(const struct nlattr *a)
{
	const char *table = get_str(a);

	return table && !strcmp(table, NAT_TABLE);
}

static int see_table(struct nat_state *s, struct scratch *x, enum nat_family f,
		     const struct nlattr **tb)
{
	uint32_t flags = 0, owner = 0;

	if (!is_ours(tb[NFTA_TABLE_NAME]))
		return 0;
	if (!get_u32(tb[NFTA_TABLE_FLAGS], &flags))
		return -EPROTO;
	x->table[f] = true;
	if (f == NAT_FAMILY_INET)
		s->table_flags = flags;
	else if (flags != s->table_flags)
		x->differs = true;
	if (flags & NFT_TABLE_F_DORMANT)
		x->differs = true;
	if (get_u32(tb[NFTA_TABLE_OWNER], &owner))
		s->owner = owner;
	return 0;
}

static int find_set(enum nat_family f, const char *name)
{
	for (int i = 0; name && i < NAT_SET_COUNT; i++)
		if (nat_set_info[i].family == f && !strcmp(nat_set_info[i].name, name))
			return i;
	return -1;
}

static void see_set(struct scratch *x, enum nat_family f, const struct nlattr **tb)
{
	uint32_t flags = 0, key_len = 0, data_len = 0, data_type = 0;
	int id = find_set(f, get_str(tb[NFTA_SET_NAME]));
	bool same;

	if (!is_ours(tb[NFTA_SET_TABLE]))
		return;
	if (id < 0) {
		x->differs = true;
		return;
	}
	get_u32(tb[NFTA_SET_FLAGS], &flags);
	get_u32(tb[NFTA_SET_KEY_LEN], &key_len);
	get_u32(tb[NFTA_SET_DATA_LEN], &data_len);
	get_u32(tb[NFTA_SET_DATA_TYPE], &data_type);
	same = !(flags & (NFT_SET_CONSTANT | NFT_SET_TIMEOUT | NFT_SET_EVAL)) &&
	       !(flags & NFT_SET_INTERVAL) == !nat_set_info[id].interval &&
	       !(flags & NFT_SET_MAP) == !nat_set_is_map((enum nat_set_id)id) &&
	       key_len == nat_key_len((enum nat_set_id)id) &&
	       (data_type == NFT_DATA_VERDICT) == nat_set_is_vmap((enum nat_set_id)id) &&
	       (nat_set_is_vmap((enum nat_set_id)id) ||
		data_len == nat_data_len((enum nat_set_id)id));
	if (same)
		x->set[id] = true;
	else
		x->differs = true;
}

static int find_chain(enum nat_family f, const char *name)
{
	for (int i = 0; name && i < NAT_CHAIN_COUNT; i++)
		if (nat_chain_info[i].family == f && !strcmp(nat_chain_info[i].name, name))
			return i;
	return -1;
}

static bool hook_matches(const struct nat_chain_info *c, const struct nlattr **tb)
{
	const struct nlattr *hook[ATTRS_MAX] = { 0 };
	uint32_t num = 0, priority = 0, policy = 0;
	const char *type = get_str(tb[NFTA_CHAIN_TYPE]);

	if (!c->type || !tb[NFTA_CHAIN_HOOK])
		return !c->type && !tb[NFTA_CHAIN_HOOK];
	mnl_attr_parse_nested(tb[NFTA_CHAIN_HOOK], collect, hook);
	return get_u32(hook[NFTA_HOOK_HOOKNUM], &num) && num == c->hook &&
	       get_u32(hook[NFTA_HOOK_PRIORITY], &priority) && (int32_t)priority == c->priority &&
	       get_u32(tb[NFTA_CHAIN_POLICY], &policy) && policy == NF_ACCEPT && type &&
	       !strcmp(type, c->type);
}

static void see_chain(struct scratch *x, enum nat_family f, const struct nlattr **tb)
{
	int id = find_chain(f, get_str(tb[NFTA_CHAIN_NAME]));

	if (!is_ours(tb[NFTA_CHAIN_TABLE]))
		return;
	if (id >= 0 && hook_matches(&nat_chain_info[id], tb))
		x->chain[id] = true;
	else
		x->differs = true;
}

/* The n-th rule that the chain should have; NULL behind the last. */
static const struct nat_rule *nth_rule(enum nat_chain_id chain, size_t n)
{
	for (size_t i = 0; i < nat_rule_count; i++)
		if (nat_rules[i].chain == chain && !n--)
			return &nat_rules[i];
	return NULL;
}

/* Flags that are zero are reported also where they must not be given. */
static bool is_zero_flags(const struct nlattr *a)
{
	uint32_t value;

	return get_u32(a, &value) && !value;
}

/*
 * Attributes of `ours` and `seen` in any order: the same types, each once, with the same content.
 * What is nested shows in ours (libnftnl sets the flag, nf_tables does not).
 */
static bool same_attrs(const struct nlattr *ours, const struct nlattr *seen, unsigned depth)
{
	const struct nlattr *a[ATTRS_MAX] = { 0 }, *b[ATTRS_MAX] = { 0 };

	if ((ours && mnl_attr_parse_nested(ours, collect, a) < 0) ||
	    (seen && mnl_attr_parse_nested(seen, collect, b) < 0))
		return false;
	for (size_t i = 0; i < ATTRS_MAX; i++) {
		if (!a[i] && (!b[i] || is_zero_flags(b[i])))
			continue;
		if (!a[i] || !b[i])
			return false;
		if (a[i]->nla_type & NLA_F_NESTED) {
			if (!depth || !same_attrs(a[i], b[i], depth - 1))
				return false;
		} else if (mnl_attr_get_payload_len(a[i]) != mnl_attr_get_payload_len(b[i]) ||
			   memcmp(mnl_attr_get_payload(a[i]), mnl_attr_get_payload(b[i]),
				  mnl_attr_get_payload_len(a[i]))) {
			return false;
		}
	}
	return true;
}

#define EXPR_DEPTH 4 /* expression, its data, a value or verdict in it */

/* Expressions pair by pair, in order. */
static bool same_exprs(const struct nlattr *ours, const struct nlattr *seen)
{
	const struct nlattr *a = mnl_attr_get_payload(ours), *b = mnl_attr_get_payload(seen);
	const char *end_a = (const char *)a + mnl_attr_get_payload_len(ours);
	const char *end_b = (const char *)b + mnl_attr_get_payload_len(seen);

	while (mnl_attr_ok(a, (int)(end_a - (const char *)a))) {
		if (!mnl_attr_ok(b, (int)(end_b - (const char *)b)) ||
		    mnl_attr_get_type(b) != NFTA_LIST_ELEM || !same_attrs(a, b, EXPR_DEPTH))
			return false;
		a = mnl_attr_next(a);
		b = mnl_attr_next(b);
	}
	return !mnl_attr_ok(b, (int)(end_b - (const char *)b));
}

/* The expressions attribute of a message that we would send. */
static const struct nlattr *exprs_of(const struct nlmsghdr *nlh)
{
	const struct nlattr *tb[ATTRS_MAX] = { 0 };

	if (mnl_attr_parse(nlh, sizeof(struct nfgenmsg), collect, tb) < 0)
		return NULL;
	return tb[NFTA_RULE_EXPRESSIONS];
}

static int see_rule(struct scratch *x, enum nat_family f, const struct nlattr **tb)
{
	int chain = find_chain(f, get_str(tb[NFTA_RULE_CHAIN]));
	const struct nat_rule *expected;
	const struct nlattr *ours;
	struct nlbuf b = { 0 };
	int r;

	if (!is_ours(tb[NFTA_RULE_TABLE]))
		return 0;
	expected = chain < 0 ? NULL : nth_rule((enum nat_chain_id)chain, x->rules[chain]++);
	if (!expected || !tb[NFTA_RULE_EXPRESSIONS]) {
		x->differs = true;
		return 0;
	}
	r = nat_wire_rule(&b, expected);
	ours = r ? NULL : exprs_of((const struct nlmsghdr *)(const void *)b.data);
	if (!r && (!ours || !same_exprs(ours, tb[NFTA_RULE_EXPRESSIONS])))
		x->differs = true;
	nlbuf_clear(&b);
	return r;
}

/* The bytes of a key or data attribute; false when they are not `len` long. */
static bool get_bytes(const struct nlattr *a, size_t len, uint8_t *ret)
{
	const struct nlattr *tb[ATTRS_MAX] = { 0 };

	if (!a || mnl_attr_parse_nested(a, collect, tb) < 0 || !tb[NFTA_DATA_VALUE] ||
	    mnl_attr_get_payload_len(tb[NFTA_DATA_VALUE]) != len)
		return false;
	memcpy(ret, mnl_attr_get_payload(tb[NFTA_DATA_VALUE]), len);
	return true;
}

static enum nat_verdict get_verdict(const struct nlattr *a)
{
	const struct nlattr *data[ATTRS_MAX] = { 0 }, *tb[ATTRS_MAX] = { 0 };
	const char *chain;
	uint32_t code;

	if (!a || mnl_attr_parse_nested(a, collect, data) < 0 || !data[NFTA_DATA_VERDICT] ||
	    mnl_attr_parse_nested(data[NFTA_DATA_VERDICT], collect, tb) < 0 ||
	    !get_u32(tb[NFTA_VERDICT_CODE], &code))
		return NAT_VERDICT_OTHER;
	chain = get_str(tb[NFTA_VERDICT_CHAIN]);
	if (code == NF_ACCEPT)
		return NAT_VERDICT_ACCEPT;
	if (code == NF_DROP)
		return NAT_VERDICT_DROP;
	if (code != (uint32_t)NFT_JUMP || !chain)
		return NAT_VERDICT_OTHER;
	if (!strcmp(chain, nat_chain_info[NAT_CHAIN_SERVICES].name))
		return NAT_VERDICT_SERVICES;
	if (!strcmp(chain, nat_chain_info[NAT_CHAIN_OUTSIDE].name))
		return NAT_VERDICT_OUTSIDE;
	return NAT_VERDICT_OTHER;
}

static int see_elem(struct nat_state *s, enum nat_set_id id, const struct nlattr *attr)
{
	const struct nlattr *tb[ATTRS_MAX] = { 0 };
	struct nat_elem *e;

	if (mnl_attr_parse_nested(attr, collect, tb) < 0)
		return -EPROTO;
	e = nat_elems_add(&s->sets[id]);
	if (!e)
		return -ENOMEM;
	if (!get_bytes(tb[NFTA_SET_ELEM_KEY], nat_key_len(id), e->key))
		return -EPROTO;
	if (nat_set_info[id].interval &&
	    !get_bytes(tb[NFTA_SET_ELEM_KEY_END], nat_key_len(id), e->key_end))
		return -EPROTO;
	if (nat_set_is_vmap(id))
		e->verdict = get_verdict(tb[NFTA_SET_ELEM_DATA]);
	else if (nat_set_is_map(id) &&
		 !get_bytes(tb[NFTA_SET_ELEM_DATA], nat_data_len(id), e->data))
		return -EPROTO;
	return 0;
}

static int see_elems(struct nat_state *s, struct scratch *x, enum nat_family f,
		     const struct nlattr **tb)
{
	int id = find_set(f, get_str(tb[NFTA_SET_ELEM_LIST_SET]));
	const struct nlattr *attr;

	/* of a set of our name and another type the elements mean nothing */
	if (!is_ours(tb[NFTA_SET_ELEM_LIST_TABLE]) || id < 0 || !x->set[id] ||
	    !tb[NFTA_SET_ELEM_LIST_ELEMENTS])
		return 0;
	mnl_attr_for_each_nested(attr, tb[NFTA_SET_ELEM_LIST_ELEMENTS])
	{
		int r = see_elem(s, (enum nat_set_id)id, attr);

		if (r)
			return r;
	}
	return 0;
}

int nat_observe_message(struct nat_state *s, const struct nlmsghdr *nlh)
{
	const struct nlattr *tb[ATTRS_MAX] = { 0 };
	const struct nfgenmsg *nfg;
	struct scratch *x = scratch_of(s);
	enum nat_family f;

	if (!x)
		return -ENOMEM;
	if (nlh->nlmsg_type >> 8 != NFNL_SUBSYS_NFTABLES)
		return 0;
	if (mnl_nlmsg_get_payload_len(nlh) < sizeof(*nfg) ||
	    mnl_attr_parse(nlh, sizeof(*nfg), collect, tb) < 0)
		return -EPROTO;
	nfg = mnl_nlmsg_get_payload(nlh);
	if (nfg->nfgen_family != NFPROTO_INET && nfg->nfgen_family != NFPROTO_BRIDGE)
		return 0;
	f = nfg->nfgen_family == NFPROTO_INET ? NAT_FAMILY_INET : NAT_FAMILY_BRIDGE;
	switch (nlh->nlmsg_type & 0xff) {
	case NFT_MSG_NEWTABLE:
		return see_table(s, x, f, tb);
	case NFT_MSG_NEWSET:
		see_set(x, f, tb);
		return 0;
	case NFT_MSG_NEWCHAIN:
		see_chain(x, f, tb);
		return 0;
	case NFT_MSG_NEWRULE:
		return see_rule(x, f, tb);
	case NFT_MSG_NEWSETELEM:
		return see_elems(s, x, f, tb);
	}
	return 0;
}

static bool complete(const struct scratch *x)
{
	for (int i = 0; i < NAT_SET_COUNT; i++)
		if (!x->set[i])
			return false;
	for (int i = 0; i < NAT_CHAIN_COUNT; i++)
		if (!x->chain[i] || nth_rule((enum nat_chain_id)i, x->rules[i]))
			return false;
	return !x->differs;
}

int nat_observe_finish(struct nat_state *s)
{
	struct scratch *x = scratch_of(s);
	size_t dup;

	if (!x)
		return -ENOMEM;
	s->tables = x->table[NAT_FAMILY_INET] || x->table[NAT_FAMILY_BRIDGE];
	s->skeleton = x->table[NAT_FAMILY_INET] && x->table[NAT_FAMILY_BRIDGE] && complete(x);
	for (int i = 0; i < NAT_SET_COUNT; i++)
		if (nat_elems_sort(&s->sets[i], &dup) && !nat_set_info[i].interval)
			return -EAGAIN; /* no hash has a key twice: it was resized meanwhile */
	free(s->scratch);
	s->scratch = NULL;
	return 0;
}
