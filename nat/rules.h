/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The constant ruleset, as a table: chains, rules as nft text and as expressions.  Internal. */
#ifndef NAT_RULES_H
#define NAT_RULES_H

#include "nat/sets.h"

enum nat_chain_id {
	NAT_CHAIN_SERVICES,
	NAT_CHAIN_INPUT,
	NAT_CHAIN_FORWARDS,
	NAT_CHAIN_PREROUTING,
	NAT_CHAIN_OUTPUT,
	NAT_CHAIN_OUTSIDE,
	NAT_CHAIN_MSS,
	NAT_CHAIN_FORWARD,
	NAT_CHAIN_POSTROUTING,
	NAT_CHAIN_PORTS_IN, /* bridge family */
	NAT_CHAIN_PORTS_OUT,
	NAT_CHAIN_COUNT,
};

struct nat_chain_info {
	const char *name;
	enum nat_family family;
	const char *type; /* NULL: no hook, jumped to */
	const char *hook_text;
	uint32_t hook;
	int32_t priority;
	const char *priority_text;
};

extern const struct nat_chain_info nat_chain_info[NAT_CHAIN_COUNT];

enum nat_expr_kind {
	NAT_EXPR_END,
	NAT_EXPR_META,	  /* a: key, b: dreg */
	NAT_EXPR_PAYLOAD, /* a: base, b: dreg, c: offset, d: len */
	NAT_EXPR_CMP,	  /* a: op, b: sreg, d: len, bytes */
	NAT_EXPR_BITWISE, /* b: reg, d: len, bytes: mask */
	NAT_EXPR_LOOKUP,  /* a: set, b: sreg, c: dreg, NAT_NO_REG: none, d: inverted */
	NAT_EXPR_VERDICT, /* a: code, c: chain for a jump */
	NAT_EXPR_NAT,	  /* a: type, b: address reg, c: port or last-address reg, d: family */
	NAT_EXPR_MASQ,
	NAT_EXPR_FIB,	    /* a: result, b: dreg, c: flags */
	NAT_EXPR_CT,	    /* a: key, b: dreg */
	NAT_EXPR_RT,	    /* a: key, b: dreg */
	NAT_EXPR_BYTEORDER, /* a: op, b: reg, c: size, d: len */
	NAT_EXPR_TCPOPT,    /* write: b: sreg, a: option, c: offset, d: len */
};

#define NAT_NO_REG    0xff
#define NAT_EXPRS_MAX 12

struct nat_expr {
	enum nat_expr_kind kind;
	uint32_t a, b, c, d;
	uint8_t bytes[8];
};

struct nat_rule {
	enum nat_chain_id chain;
	const char *text;
	struct nat_expr exprs[NAT_EXPRS_MAX];
	bool text_new; /* nft 1.0.6 cannot parse the text: printed as a comment */
};

extern const struct nat_rule nat_rules[];
extern const size_t nat_rule_count;

struct nftnl_rule;
/* As libnftnl's object; the caller frees.  NULL without memory. */
struct nftnl_rule *nat_rule_build(const struct nat_rule *r);

struct nlbuf;
/* Append the message that makes the rule; 0 or -ENOMEM (wire.c). */
int nat_wire_rule(struct nlbuf *b, const struct nat_rule *r);

#endif
