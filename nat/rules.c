/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The constant ruleset.
 *
 *	to the host      input ---- vlan_host map ---> accept | services | drop
 *	to an address    prerouting, output ---> forwards: fwd* maps (dnat)
 *	through          mss (clamp), forward: policy pairs, vlan_out ---> outside, vlan_in
 *	out              postrouting: hairpin, snat* maps, masquerade
 *	at a guest port  bridge ports_in, ports_out: move guard, BPDU/RA/DHCP guard, anti-spoofing
 *
 * Each rule is given twice, as the text a person reads and as the expressions the kernel runs; the
 * test loads the text with nft and finds the same rules.  Nothing here depends on the config.
 *
 * A nat lookup that finds nothing ends its rule, so the rules of `forwards` fall through from
 * exact addresses to "any address of the host".  Forwards of an address come before the test for
 * local addresses, because a pool address need not be one.
 *
 * What a packet costs is how many sets it is looked up in: so a rule first asks what kind of packet
 * it is (a comparison in a register), then where it comes from.  A packet of an established flow is
 * looked up in no set of the table inet and in four of the table bridge (moving in and out, who is
 * guarded by MAC and by address), and in one more for each of these guards that its port has.
 *
 * Bridged frames pass the inet chains as well where br_netfilter is on: in and out interface are
 * then both the bridge, which is a pair in `same_vlan`.
 */
#include "nat/rules.h"

#include <assert.h>
#include <netinet/in.h>
#include <linux/if_packet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter_bridge.h>
#include <linux/netfilter_ipv4.h>
#include <linux/rtnetlink.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <stddef.h>

const struct nat_chain_info nat_chain_info[NAT_CHAIN_COUNT] = {
	[NAT_CHAIN_SERVICES] = { .name = "services" },
	[NAT_CHAIN_INPUT] = { "input", NAT_FAMILY_INET, "filter", "input", NF_INET_LOCAL_IN, 0,
			      "filter" },
	[NAT_CHAIN_FORWARDS] = { .name = "forwards" },
	[NAT_CHAIN_PREROUTING] = { "prerouting", NAT_FAMILY_INET, "nat", "prerouting",
				   NF_INET_PRE_ROUTING, -100, "dstnat" },
	[NAT_CHAIN_OUTPUT] = { "output", NAT_FAMILY_INET, "nat", "output", NF_INET_LOCAL_OUT, -100,
			       "-100" },
	[NAT_CHAIN_OUTSIDE] = { .name = "outside" },
	[NAT_CHAIN_MSS] = { "mss", NAT_FAMILY_INET, "filter", "forward", NF_INET_FORWARD, -150,
			    "mangle" },
	[NAT_CHAIN_FORWARD] = { "forward", NAT_FAMILY_INET, "filter", "forward", NF_INET_FORWARD, 0,
				"filter" },
	[NAT_CHAIN_POSTROUTING] = { "postrouting", NAT_FAMILY_INET, "nat", "postrouting",
				    NF_INET_POST_ROUTING, 100, "srcnat" },
	[NAT_CHAIN_PORTS_IN] = { "ports_in", NAT_FAMILY_BRIDGE, "filter", "prerouting",
				 NF_BR_PRE_ROUTING, -200, "filter" },
	[NAT_CHAIN_PORTS_OUT] = { "ports_out", NAT_FAMILY_BRIDGE, "filter", "postrouting",
				  NF_BR_POST_ROUTING, -200, "filter" },
};

/* clang-format off */
#define META(key, reg)		 { NAT_EXPR_META, .a = NFT_META_##key, .b = (reg) }
#define LOAD(base, reg, off, len) \
	{ NAT_EXPR_PAYLOAD, .a = NFT_PAYLOAD_##base##_HEADER, .b = (reg), .c = (off), .d = (len) }
#define CMP(op, reg, len, ...) \
	{ NAT_EXPR_CMP, .a = NFT_CMP_##op, .b = (reg), .d = (len), .bytes = { __VA_ARGS__ } }
#define MASK(reg, len, ...)	 { NAT_EXPR_BITWISE, .b = (reg), .d = (len), .bytes = { __VA_ARGS__ } }
#define IN(set, reg)		 { NAT_EXPR_LOOKUP, .a = NAT_SET_##set, .b = (reg), .c = NAT_NO_REG }
#define NOT_IN(set, reg) \
	{ NAT_EXPR_LOOKUP, .a = NAT_SET_##set, .b = (reg), .c = NAT_NO_REG, .d = 1 }
#define MAP(set, reg, dreg)	 { NAT_EXPR_LOOKUP, .a = NAT_SET_##set, .b = (reg), .c = (dreg) }
#define VMAP(set, reg)		 MAP(set, reg, NFT_REG_VERDICT)
#define ACCEPT			 { NAT_EXPR_VERDICT, .a = NF_ACCEPT }
#define DROP			 { NAT_EXPR_VERDICT, .a = NF_DROP }
#define RETURN			 { NAT_EXPR_VERDICT, .a = (uint32_t)NFT_RETURN }
#define JUMP(chain)		 { NAT_EXPR_VERDICT, .a = (uint32_t)NFT_JUMP, .c = NAT_CHAIN_##chain }
#define DNAT(family, addr, port) { NAT_EXPR_NAT, .a = NFT_NAT_DNAT, .b = (addr), .c = (port), .d = (family) }
#define SNAT(family, first, last) { NAT_EXPR_NAT, .a = NFT_NAT_SNAT, .b = (first), .c = (last), .d = (family) }
#define MASQUERADE		 { NAT_EXPR_MASQ }
#define CT(key, reg)		 { NAT_EXPR_CT, .a = NFT_CT_##key, .b = (reg) }

/* Values as they stand in a register: host-order numbers byte by byte, little endian only here
 * because the table is constant; big-endian hosts are refused at build time. */
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "constants below are little endian");
#define U32(v) (v) & 0xff, (v) >> 8 & 0xff, (v) >> 16 & 0xff, (v) >> 24 & 0xff
#define V4     META(NFPROTO, 1), CMP(EQ, 1, 1, NFPROTO_IPV4)
#define V6     META(NFPROTO, 1), CMP(EQ, 1, 1, NFPROTO_IPV6)
/* nft swaps the fields of a range key into network order, also this one of a single byte. */
#define PROTO_RANGE META(L4PROTO, 1), { NAT_EXPR_BYTEORDER, NFT_BYTEORDER_HTON, 1, 2, 1 }
#define IS_ESTABLISHED                                                                             \
	CT(STATE, 1), MASK(1, 4, U32(NF_CT_STATE_BIT(IP_CT_ESTABLISHED) | NF_CT_STATE_BIT(IP_CT_RELATED))), \
		CMP(NEQ, 1, 4, 0)
#define IS_DNAT CT(STATUS, 1), MASK(1, 4, U32(IPS_DST_NAT)), CMP(NEQ, 1, 4, 0)
#define IS_PROTO(p) META(L4PROTO, 1), CMP(EQ, 1, 1, p)
#define IS_ETHER(hi, lo) META(PROTOCOL, 1), CMP(EQ, 1, 2, hi, lo)
#define IS_SYN                                                                                     \
	IS_PROTO(IPPROTO_TCP), LOAD(TRANSPORT, 1, 13, 1), MASK(1, 1, 0x06), CMP(EQ, 1, 1, 0x02)
#define CLAMP                                                                                      \
	{ NAT_EXPR_RT, .a = NFT_RT_TCPMSS, .b = 1 },                                               \
		{ NAT_EXPR_BYTEORDER, NFT_BYTEORDER_HTON, 1, 2, 2 },                               \
	{                                                                                          \
		NAT_EXPR_TCPOPT, .a = 2, .b = 1, .c = 2, .d = 2                                    \
	}

/* Register numbers: 1-4 are of 16 bytes, 8 + n are words; 1 is words 8-11, 2 words 12-15. */
const struct nat_rule nat_rules[] = {
	/* Only the VLAN's own addresses: a guest must not reach another address of the host. */
	{ NAT_CHAIN_SERVICES, "fib daddr . iif type unicast drop",
	  { { NAT_EXPR_FIB, .a = NFT_FIB_RESULT_ADDRTYPE, .b = 1, .c = NFTA_FIB_F_DADDR | NFTA_FIB_F_IIF },
	    CMP(EQ, 1, 4, U32(RTN_UNICAST)), DROP } },
	{ NAT_CHAIN_SERVICES, "meta l4proto . th dport @services accept",
	  { META(L4PROTO, 1), LOAD(TRANSPORT, 9, 2, 2), IN(SERVICES, 1), ACCEPT } },
	{ NAT_CHAIN_SERVICES, "meta l4proto icmp accept", { IS_PROTO(IPPROTO_ICMP), ACCEPT } },
	/* ipv6-icmp: nft knows its name only from /etc/protocols, which a small host has not. */
	{ NAT_CHAIN_SERVICES, "meta l4proto 58 accept", { IS_PROTO(IPPROTO_ICMPV6), ACCEPT } },
	{ NAT_CHAIN_SERVICES, "drop", { DROP } },

	{ NAT_CHAIN_INPUT, "ct state established,related accept", { IS_ESTABLISHED, ACCEPT } },
	/* Also from a trunk, whose guests may route for each other, and our own dnsmasq's, which the
	 * kernel hands back: the host is configured by its uplinks only. */
	{ NAT_CHAIN_INPUT, "icmpv6 type nd-router-advert iifname @vlans drop",
	  { V6, IS_PROTO(IPPROTO_ICMPV6), LOAD(TRANSPORT, 1, 0, 1), CMP(EQ, 1, 1, 134),
	    META(IIFNAME, 1), IN(VLANS, 1), DROP } },
	{ NAT_CHAIN_INPUT, "iifname vmap @vlan_host", { META(IIFNAME, 1), VMAP(HOST, 1) } },

	{ NAT_CHAIN_FORWARDS, "dnat ip to meta l4proto . ip daddr . th dport map @fwd4",
	  { V4, META(L4PROTO, 1), LOAD(NETWORK, 9, 16, 4), LOAD(TRANSPORT, 10, 2, 2),
	    MAP(FWD4, 1, 1), DNAT(NFPROTO_IPV4, 1, 9) } },
	{ NAT_CHAIN_FORWARDS, "dnat ip to meta l4proto . ip daddr . th dport map @fwd4_range",
	  { V4, PROTO_RANGE, LOAD(NETWORK, 9, 16, 4), LOAD(TRANSPORT, 10, 2, 2),
	    MAP(FWD4_RANGE, 1, 1), DNAT(NFPROTO_IPV4, 1, NAT_NO_REG) } },
	{ NAT_CHAIN_FORWARDS, "dnat ip6 to meta l4proto . ip6 daddr . th dport map @fwd6",
	  { V6, META(L4PROTO, 1), LOAD(NETWORK, 9, 24, 16), LOAD(TRANSPORT, 13, 2, 2),
	    MAP(FWD6, 1, 1), DNAT(NFPROTO_IPV6, 1, 2) } },
	{ NAT_CHAIN_FORWARDS, "dnat ip6 to meta l4proto . ip6 daddr . th dport map @fwd6_range",
	  { V6, PROTO_RANGE, LOAD(NETWORK, 9, 24, 16), LOAD(TRANSPORT, 13, 2, 2),
	    MAP(FWD6_RANGE, 1, 1), DNAT(NFPROTO_IPV6, 1, NAT_NO_REG) } },
	{ NAT_CHAIN_FORWARDS, "fib daddr type != local return",
	  { { NAT_EXPR_FIB, .a = NFT_FIB_RESULT_ADDRTYPE, .b = 1, .c = NFTA_FIB_F_DADDR },
	    CMP(NEQ, 1, 4, U32(RTN_LOCAL)), RETURN } },
	{ NAT_CHAIN_FORWARDS, "ip daddr 127.0.0.0/8 return",
	  { V4, LOAD(NETWORK, 1, 16, 1), CMP(EQ, 1, 1, 127), RETURN } },
	{ NAT_CHAIN_FORWARDS, "ip daddr @gateway4 return",
	  { V4, LOAD(NETWORK, 1, 16, 4), IN(GATEWAY4, 1), RETURN } },
	{ NAT_CHAIN_FORWARDS, "ip6 daddr @gateway6 return",
	  { V6, LOAD(NETWORK, 1, 24, 16), IN(GATEWAY6, 1), RETURN } },
	{ NAT_CHAIN_FORWARDS, "meta nfproto ipv4 dnat ip to meta l4proto . th dport map @fwd4_any",
	  { V4, META(L4PROTO, 1), LOAD(TRANSPORT, 9, 2, 2),
	    MAP(FWD4_ANY, 1, 1), DNAT(NFPROTO_IPV4, 1, 9) } },
	{ NAT_CHAIN_FORWARDS, "meta nfproto ipv4 dnat ip to meta l4proto . th dport map @fwd4_any_range",
	  { V4, PROTO_RANGE, LOAD(TRANSPORT, 9, 2, 2),
	    MAP(FWD4_ANY_RANGE, 1, 1), DNAT(NFPROTO_IPV4, 1, NAT_NO_REG) } },
	{ NAT_CHAIN_FORWARDS, "meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @fwd6_any",
	  { V6, META(L4PROTO, 1), LOAD(TRANSPORT, 9, 2, 2),
	    MAP(FWD6_ANY, 1, 1), DNAT(NFPROTO_IPV6, 1, 2) } },
	{ NAT_CHAIN_FORWARDS, "meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @fwd6_any_range",
	  { V6, PROTO_RANGE, LOAD(TRANSPORT, 9, 2, 2),
	    MAP(FWD6_ANY_RANGE, 1, 1), DNAT(NFPROTO_IPV6, 1, NAT_NO_REG) } },

	{ NAT_CHAIN_PREROUTING, "jump forwards", { JUMP(FORWARDS) } },
	{ NAT_CHAIN_OUTPUT, "jump forwards", { JUMP(FORWARDS) } },

	{ NAT_CHAIN_OUTSIDE, "oifname @vlans drop", { META(OIFNAME, 1), IN(VLANS, 1), DROP } },
	{ NAT_CHAIN_OUTSIDE, "accept", { ACCEPT } },

	/* Both directions: the answer's SYN carries the other side's MSS. */
	{ NAT_CHAIN_MSS, "tcp flags & (syn | rst) == syn iifname @vlans tcp option maxseg size set rt mtu",
	  { IS_SYN, META(IIFNAME, 1), IN(VLANS, 1), CLAMP } },
	{ NAT_CHAIN_MSS, "tcp flags & (syn | rst) == syn oifname @vlans tcp option maxseg size set rt mtu",
	  { IS_SYN, META(OIFNAME, 1), IN(VLANS, 1), CLAMP } },

	{ NAT_CHAIN_FORWARD, "ct state established,related accept", { IS_ESTABLISHED, ACCEPT } },
	{ NAT_CHAIN_FORWARD, "ct status dnat accept", { IS_DNAT, ACCEPT } },
	{ NAT_CHAIN_FORWARD, "iifname . oifname @policy_pairs accept",
	  { META(IIFNAME, 1), META(OIFNAME, 2), IN(POLICY, 1), ACCEPT } },
	{ NAT_CHAIN_FORWARD, "iifname vmap @vlan_out", { META(IIFNAME, 1), VMAP(FROM, 1) } },
	{ NAT_CHAIN_FORWARD, "oifname vmap @vlan_in", { META(OIFNAME, 1), VMAP(TO, 1) } },

	/* Hairpin: a guest that meets its neighbour through a forward gets its answer this way. */
	{ NAT_CHAIN_POSTROUTING, "ct status dnat iifname . oifname @same_vlan masquerade",
	  { IS_DNAT, META(IIFNAME, 1), META(OIFNAME, 2), IN(SAME, 1), MASQUERADE } },
	{ NAT_CHAIN_POSTROUTING, "meta nfproto ipv4 snat ip to iifname . oifname map @snat4 persistent",
	  { V4, META(IIFNAME, 1), META(OIFNAME, 2), MAP(SNAT4, 1, 1), SNAT(NFPROTO_IPV4, 1, 9) } },
	{ NAT_CHAIN_POSTROUTING, "meta nfproto ipv6 snat ip6 to iifname . oifname map @snat6 persistent",
	  { V6, META(IIFNAME, 1), META(OIFNAME, 2), MAP(SNAT6, 1, 1), SNAT(NFPROTO_IPV6, 1, 2) } },
	{ NAT_CHAIN_POSTROUTING, "meta nfproto . iifname . oifname @masq_out masquerade",
	  { META(NFPROTO, 1), META(IIFNAME, 9), META(OIFNAME, 13), IN(MASQ_OUT, 1), MASQUERADE } },
	{ NAT_CHAIN_POSTROUTING, "oifname @vlans return", { META(OIFNAME, 1), IN(VLANS, 1), RETURN } },
	{ NAT_CHAIN_POSTROUTING, "meta nfproto . iifname @masq masquerade",
	  { META(NFPROTO, 1), META(IIFNAME, 9), IN(MASQ, 1), MASQUERADE } },

	{ NAT_CHAIN_PORTS_IN, "iifname @moving_ports drop",
	  { META(IIFNAME, 1), IN(MOVING, 1), DROP } },
	/* 01:80:c2:00:00:00 to 0f: BPDUs, pause, LACP, LLDP: with STP off a bridge forwards BPDUs. */
	{ NAT_CHAIN_PORTS_IN,
	  "meta pkttype multicast ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00 iifname @guest_ports drop",
	  { META(PKTTYPE, 1), CMP(EQ, 1, 1, PACKET_MULTICAST), LOAD(LL, 1, 0, 6), MASK(1, 6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xf0),
	    CMP(EQ, 1, 6, 0x01, 0x80, 0xc2, 0, 0, 0), META(IIFNAME, 1), IN(GUESTS, 1), DROP } },
	{ NAT_CHAIN_PORTS_IN, "meta protocol ip6 icmpv6 type nd-router-advert iifname @access_ports drop",
	  { IS_ETHER(0x86, 0xdd), IS_PROTO(IPPROTO_ICMPV6), LOAD(TRANSPORT, 1, 0, 1),
	    CMP(EQ, 1, 1, 134), META(IIFNAME, 1), IN(ACCESS, 1), DROP } },
	{ NAT_CHAIN_PORTS_IN, "meta protocol ip udp sport 67 iifname @access_ports drop",
	  { IS_ETHER(0x08, 0x00), IS_PROTO(IPPROTO_UDP), LOAD(TRANSPORT, 1, 0, 2),
	    CMP(EQ, 1, 2, 0, 67), META(IIFNAME, 1), IN(ACCESS, 1), DROP } },
	{ NAT_CHAIN_PORTS_IN, "meta protocol ip6 udp sport 547 iifname @access_ports drop",
	  { IS_ETHER(0x86, 0xdd), IS_PROTO(IPPROTO_UDP), LOAD(TRANSPORT, 1, 0, 2),
	    CMP(EQ, 1, 2, 547 >> 8, 547 & 0xff), META(IIFNAME, 1), IN(ACCESS, 1), DROP } },
	{ NAT_CHAIN_PORTS_IN, "iifname @mac_ports iifname . ether saddr != @macs drop",
	  { META(IIFNAME, 1), IN(MAC_PORTS, 1), META(IIFNAME, 1), LOAD(LL, 2, 6, 6),
	    NOT_IN(MACS, 1), DROP } },
	{ NAT_CHAIN_PORTS_IN, "meta protocol arp iifname @mac_ports iifname . arp saddr ether != @macs drop",
	  { IS_ETHER(0x08, 0x06), META(IIFNAME, 1), IN(MAC_PORTS, 1), META(IIFNAME, 1),
	    LOAD(NETWORK, 2, 8, 6), NOT_IN(MACS, 1), DROP } },
	{ NAT_CHAIN_PORTS_IN, "meta protocol arp iifname @ip4_ports iifname . arp saddr ip != @ip4s drop",
	  { IS_ETHER(0x08, 0x06), META(IIFNAME, 1), IN(IP4_PORTS, 1), META(IIFNAME, 1),
	    LOAD(NETWORK, 2, 14, 4), NOT_IN(IP4S, 1), DROP } },
	{ NAT_CHAIN_PORTS_IN, "meta protocol ip iifname @ip4_ports iifname . ip saddr != @ip4s drop",
	  { IS_ETHER(0x08, 0x00), META(IIFNAME, 1), IN(IP4_PORTS, 1), META(IIFNAME, 1),
	    LOAD(NETWORK, 2, 12, 4), NOT_IN(IP4S, 1), DROP } },
	{ NAT_CHAIN_PORTS_IN, "meta protocol ip6 iifname @ip6_ports iifname . ip6 saddr != @ip6s drop",
	  { IS_ETHER(0x86, 0xdd), META(IIFNAME, 1), IN(IP6_PORTS, 1), META(IIFNAME, 1),
	    LOAD(NETWORK, 2, 8, 16), NOT_IN(IP6S, 1), DROP } },
	{ NAT_CHAIN_PORTS_IN,
	  "icmpv6 type nd-neighbor-advert iifname @ip6_ports iifname . icmpv6 taddr != @ip6s drop",
	  { IS_PROTO(IPPROTO_ICMPV6), LOAD(TRANSPORT, 1, 0, 1), CMP(EQ, 1, 1, 136),
	    META(IIFNAME, 1), IN(IP6_PORTS, 1), META(IIFNAME, 1), LOAD(TRANSPORT, 2, 8, 16), NOT_IN(IP6S, 1), DROP },
	  .text_new = true },

	{ NAT_CHAIN_PORTS_OUT, "oifname @moving_ports drop",
	  { META(OIFNAME, 1), IN(MOVING, 1), DROP } },
};
/* clang-format on */

const size_t nat_rule_count = sizeof(nat_rules) / sizeof(nat_rules[0]);

static const char *const expr_names[] = {
	[NAT_EXPR_META] = "meta",     [NAT_EXPR_PAYLOAD] = "payload",
	[NAT_EXPR_CMP] = "cmp",	      [NAT_EXPR_BITWISE] = "bitwise",
	[NAT_EXPR_LOOKUP] = "lookup", [NAT_EXPR_VERDICT] = "immediate",
	[NAT_EXPR_NAT] = "nat",	      [NAT_EXPR_MASQ] = "masq",
	[NAT_EXPR_FIB] = "fib",	      [NAT_EXPR_CT] = "ct",
	[NAT_EXPR_RT] = "rt",	      [NAT_EXPR_BYTEORDER] = "byteorder",
	[NAT_EXPR_TCPOPT] = "exthdr",
};

static void fill_lookup(struct nftnl_expr *e, const struct nat_expr *x)
{
	nftnl_expr_set_str(e, NFTNL_EXPR_LOOKUP_SET, nat_set_info[x->a].name);
	nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_SREG, x->b);
	if (x->c != NAT_NO_REG)
		nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_DREG, x->c);
	nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_FLAGS, x->d ? NFT_LOOKUP_F_INV : 0);
}

/*
 * Explicit where a default would do, because the kernel reports the outcome: a last address and
 * port, the same as the first where there is none, and flags that say what is given.
 */
static void fill_nat(struct nftnl_expr *e, const struct nat_expr *x)
{
	bool source = x->a == NFT_NAT_SNAT;
	uint32_t flags = NF_NAT_RANGE_MAP_IPS;

	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_TYPE, x->a);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_FAMILY, x->d);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_REG_ADDR_MIN, x->b);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_REG_ADDR_MAX, source ? x->c : x->b);
	if (!source && x->c != NAT_NO_REG) {
		nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_REG_PROTO_MIN, x->c);
		nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_REG_PROTO_MAX, x->c);
		flags |= NF_NAT_RANGE_PROTO_SPECIFIED;
	}
	if (source)
		flags |= NF_NAT_RANGE_PERSISTENT;
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_FLAGS, flags);
}

static void fill_bitwise(struct nftnl_expr *e, const struct nat_expr *x)
{
	static const uint8_t zero[8];

	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_SREG, x->b);
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_DREG, x->b);
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_OP, NFT_BITWISE_BOOL);
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_LEN, x->d);
	nftnl_expr_set_data(e, NFTNL_EXPR_BITWISE_MASK, x->bytes, x->d);
	nftnl_expr_set_data(e, NFTNL_EXPR_BITWISE_XOR, zero, x->d);
}

static void fill_verdict(struct nftnl_expr *e, const struct nat_expr *x)
{
	nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
	nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_VERDICT, x->a);
	if (x->a == (uint32_t)NFT_JUMP)
		nftnl_expr_set_str(e, NFTNL_EXPR_IMM_CHAIN, nat_chain_info[x->c].name);
}

static void fill_payload(struct nftnl_expr *e, const struct nat_expr *x)
{
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_BASE, x->a);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_DREG, x->b);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_OFFSET, x->c);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_LEN, x->d);
}

static void fill_byteorder(struct nftnl_expr *e, const struct nat_expr *x)
{
	nftnl_expr_set_u32(e, NFTNL_EXPR_BYTEORDER_SREG, x->b);
	nftnl_expr_set_u32(e, NFTNL_EXPR_BYTEORDER_DREG, x->b);
	nftnl_expr_set_u32(e, NFTNL_EXPR_BYTEORDER_OP, x->a);
	nftnl_expr_set_u32(e, NFTNL_EXPR_BYTEORDER_SIZE, x->c);
	nftnl_expr_set_u32(e, NFTNL_EXPR_BYTEORDER_LEN, x->d);
}

static void fill_tcpopt(struct nftnl_expr *e, const struct nat_expr *x)
{
	nftnl_expr_set_u32(e, NFTNL_EXPR_EXTHDR_SREG, x->b);
	nftnl_expr_set_u8(e, NFTNL_EXPR_EXTHDR_TYPE, (uint8_t)x->a);
	nftnl_expr_set_u32(e, NFTNL_EXPR_EXTHDR_OFFSET, x->c);
	nftnl_expr_set_u32(e, NFTNL_EXPR_EXTHDR_LEN, x->d);
	nftnl_expr_set_u32(e, NFTNL_EXPR_EXTHDR_OP, NFT_EXTHDR_OP_TCPOPT);
}

static void fill(struct nftnl_expr *e, const struct nat_expr *x)
{
	switch (x->kind) {
	case NAT_EXPR_META:
		nftnl_expr_set_u32(e, NFTNL_EXPR_META_KEY, x->a);
		nftnl_expr_set_u32(e, NFTNL_EXPR_META_DREG, x->b);
		break;
	case NAT_EXPR_PAYLOAD:
		fill_payload(e, x);
		break;
	case NAT_EXPR_CMP:
		nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_OP, x->a);
		nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_SREG, x->b);
		nftnl_expr_set_data(e, NFTNL_EXPR_CMP_DATA, x->bytes, x->d);
		break;
	case NAT_EXPR_BITWISE:
		fill_bitwise(e, x);
		break;
	case NAT_EXPR_LOOKUP:
		fill_lookup(e, x);
		break;
	case NAT_EXPR_VERDICT:
		fill_verdict(e, x);
		break;
	case NAT_EXPR_NAT:
		fill_nat(e, x);
		break;
	case NAT_EXPR_MASQ:
		break;
	case NAT_EXPR_FIB:
		nftnl_expr_set_u32(e, NFTNL_EXPR_FIB_RESULT, x->a);
		nftnl_expr_set_u32(e, NFTNL_EXPR_FIB_DREG, x->b);
		nftnl_expr_set_u32(e, NFTNL_EXPR_FIB_FLAGS, x->c);
		break;
	case NAT_EXPR_CT:
		nftnl_expr_set_u32(e, NFTNL_EXPR_CT_KEY, x->a);
		nftnl_expr_set_u32(e, NFTNL_EXPR_CT_DREG, x->b);
		break;
	case NAT_EXPR_RT:
		nftnl_expr_set_u32(e, NFTNL_EXPR_RT_KEY, x->a);
		nftnl_expr_set_u32(e, NFTNL_EXPR_RT_DREG, x->b);
		break;
	case NAT_EXPR_BYTEORDER:
		fill_byteorder(e, x);
		break;
	case NAT_EXPR_TCPOPT:
		fill_tcpopt(e, x);
		break;
	case NAT_EXPR_END:
		break;
	}
}

struct nftnl_rule *nat_rule_build(const struct nat_rule *r)
{
	struct nftnl_rule *rule = nftnl_rule_alloc();
	const struct nat_chain_info *chain = &nat_chain_info[r->chain];

	if (!rule)
		return NULL;
	nftnl_rule_set_str(rule, NFTNL_RULE_TABLE, NAT_TABLE);
	nftnl_rule_set_str(rule, NFTNL_RULE_CHAIN, chain->name);
	nftnl_rule_set_u32(rule, NFTNL_RULE_FAMILY,
			   chain->family == NAT_FAMILY_INET ? NFPROTO_INET : NFPROTO_BRIDGE);
	for (size_t i = 0; i < NAT_EXPRS_MAX && r->exprs[i].kind != NAT_EXPR_END; i++) {
		struct nftnl_expr *e = nftnl_expr_alloc(expr_names[r->exprs[i].kind]);

		if (!e) {
			nftnl_rule_free(rule);
			return NULL;
		}
		fill(e, &r->exprs[i]);
		nftnl_rule_add_expr(rule, e);
	}
	return rule;
}
