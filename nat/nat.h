/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NAT, forwards, policy between VLANs, access to the host and anti-spoofing, as one constant
 * ruleset and its sets.
 *
 *	struct nat_net    --nat_lower()-->  struct nat_state  --.
 *	(what a person says)                (set elements)      |--nat_plan()--> struct plan
 *	nftables dumps --nat_observe_*()->  struct nat_state  --'
 *
 * The tables `inet ashlar` and `bridge ashlar` hold fewer than 50 rules (inet: fewer than 40),
 * whatever the size of the config (rules.c); everything that varies is an element of a set or map
 * (nat_set_info).  So one change is one small batch, which the kernel applies whole or not at all.
 *
 * Pure: no sockets, no clock, no logging, no globals.  Any thread, one at a time per object.
 */
#ifndef NAT_NAT_H
#define NAT_NAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/addr.h"
#include "common/base/err.h"
#include "common/base/plan.h"

struct nlmsghdr;

#define NAT_NAME_MAX 16 /* an interface name with its NUL */
#define NAT_TABLE    "ashlar"

/* ---- what the kernel can do ---------------------------------------------------------------- */

struct nat_caps {
	bool nftables;
	bool bridge_family;
	bool owner;   /* NFT_TABLE_F_OWNER (5.12) */
	bool persist; /* NFT_TABLE_F_PERSIST (6.9); used only together with owner */
	bool conntrack;
};

/* ---- what a person says -------------------------------------------------------------------- */

enum nat_host {
	NAT_HOST_SERVICES, /* DHCP, DNS, ICMP and ND on the VLAN's own addresses */
	NAT_HOST_ALL,
	NAT_HOST_NONE, /* only answers to what the host itself asks */
};

/* A VLAN as seen by layer 3: its gateway interface.  Declare every VLAN, also without addresses. */
struct nat_vlan {
	char ifname[NAT_NAME_MAX]; /* BRIDGE.VID */
	enum nat_host host;
	bool outside;	/* may open connections out of interfaces that are not VLANs */
	bool reachable; /* outside may open connections to it (routed addresses) */
	bool masquerade4,
		masquerade6; /* `nat = true`: behind the address of any outside interface */
	const struct prefix
		*addresses; /* of the gateway: forwards without `on` do not listen there */
	size_t address_count;
};

/* A `nat` block, one entry per VLAN and family it names. */
struct nat_source {
	char from[NAT_NAME_MAX]; /* gateway interface of the VLAN */
	char out[NAT_NAME_MAX];	 /* the outside interface, required */
	uint8_t family;		 /* 4, 6 */
	bool pool_given;	 /* false: masquerade */
	struct addr_range pool;	 /* of that family; a client keeps its address (persistent) */
};

enum nat_proto {
	NAT_TCP = 6,
	NAT_UDP = 17,
};

/*
 * A forward.  The family is that of `to`.  Of a range the ports stay as they are unless to_first
 * differs from first: then it is expanded into single ports, at most NAT_SHIFT_MAX of them.
 */
#define NAT_SHIFT_MAX 4096
struct nat_forward {
	enum nat_proto proto;
	struct addr on; /* none: every address of the host that is not a VLAN's */
	uint16_t first, last;
	struct addr to;
	uint16_t to_first;
};

/* `from` may open connections to `to`, both gateway interfaces. */
struct nat_policy {
	char from[NAT_NAME_MAX], to[NAT_NAME_MAX];
};

/* What a bridge port may send. */
struct nat_port {
	char ifname[NAT_NAME_MAX];
	bool guard;	/* no BPDUs, router advertisements or DHCP answers from it */
	bool trunk;	/* guard without the last two: behind it is a router */
	bool mac_given; /* only this source MAC, in Ethernet and ARP */
	struct mac mac;
	const struct addr *ips; /* only these source addresses, ARP and ND included; per family */
	size_t ip_count;
};

struct nat_net {
	const struct nat_vlan *vlans;
	size_t vlan_count;
	const struct nat_source *sources;
	size_t source_count;
	const struct nat_forward *forwards;
	size_t forward_count;
	const struct nat_policy *policies;
	size_t policy_count;
	const struct nat_port *ports;
	size_t port_count;
};

/* ---- elements ------------------------------------------------------------------------------ */

enum nat_set_id {
	NAT_SET_FWD4,	    /* proto . address . port : address . port */
	NAT_SET_FWD4_RANGE, /* proto . address . ports : address */
	NAT_SET_FWD4_ANY,   /* proto . port : address . port */
	NAT_SET_FWD4_ANY_RANGE,
	NAT_SET_FWD6,
	NAT_SET_FWD6_RANGE,
	NAT_SET_FWD6_ANY,
	NAT_SET_FWD6_ANY_RANGE,
	NAT_SET_GATEWAY4, /* addresses on which a forward without `on` does not listen */
	NAT_SET_GATEWAY6,
	NAT_SET_SNAT4, /* in . out : addresses */
	NAT_SET_SNAT6,
	NAT_SET_MASQ_OUT, /* family . in . out */
	NAT_SET_MASQ,	  /* family . in */
	NAT_SET_VLANS,	  /* all VLAN interfaces */
	NAT_SET_HOST,	  /* in : verdict */
	NAT_SET_FROM,	  /* in : verdict for connections that leave the VLANs */
	NAT_SET_TO,	  /* out : verdict for connections from outside */
	NAT_SET_SAME,	  /* in . out, equal */
	NAT_SET_POLICY,	  /* in . out */
	NAT_SET_SERVICES, /* proto . port: constant */
	NAT_SET_MOVING,	  /* bridge family from here on: ports whose frames are dropped */
	NAT_SET_GUESTS,
	NAT_SET_ACCESS, /* guests that may not advertise routes or answer DHCP */
	NAT_SET_MAC_PORTS,
	NAT_SET_MACS,
	NAT_SET_IP4_PORTS,
	NAT_SET_IP4S,
	NAT_SET_IP6_PORTS,
	NAT_SET_IP6S,
	NAT_SET_COUNT,
};

#define NAT_KEY_MAX  36 /* bytes: family . in . out */
#define NAT_DATA_MAX 32

enum nat_verdict {
	NAT_VERDICT_NONE, /* the map's data is bytes */
	NAT_VERDICT_ACCEPT,
	NAT_VERDICT_DROP,
	NAT_VERDICT_SERVICES, /* jump to chain `services` */
	NAT_VERDICT_OUTSIDE,  /* jump to chain `outside` */
	NAT_VERDICT_OTHER,    /* observed only: not ours, so it differs from everything desired */
};

/* As on the wire: each field of a concatenation padded to four bytes, unused bytes zero. */
struct nat_elem {
	uint8_t key[NAT_KEY_MAX];
	uint8_t key_end[NAT_KEY_MAX]; /* sets of ranges: the last key, inclusive */
	uint8_t data[NAT_DATA_MAX];
	enum nat_verdict verdict;
};

struct nat_elems {
	struct nat_elem *e; /* sorted by key, no key twice, once built */
	size_t count, capacity;
};

/*
 * Elements of every set.  Of a desired state only those matter; an observed one also says whether
 * the constant part is there and as it should be.
 */
struct nat_state {
	struct nat_elems sets[NAT_SET_COUNT];
	bool tables;	      /* at least one of our two tables is there */
	bool skeleton;	      /* sets, chains and rules are what we would make */
	bool foreign_owner;   /* set by whoever knows our port id: `owner` is somebody else */
	uint32_t owner;	      /* port id of the owning socket, 0: none */
	uint32_t table_flags; /* of both tables */
	void *scratch;	      /* of nat_observe_*() */
};

void nat_state_clear(struct nat_state *s) __attribute__((nonnull));

/*
 * The desired elements.  -EINVAL with a sentence for what cannot be (two forwards that listen on
 * the same thing, overlapping ranges, a shifted range beyond NAT_SHIFT_MAX, a policy for an
 * unknown VLAN), -ENOMEM.  The caller clears *ret.
 */
int nat_lower(const struct nat_net *net, struct nat_state *ret, struct err *err)
	__attribute__((nonnull(1, 2), warn_unused_result));

/*
 * The observed state from dumps of tables, sets, chains, rules and elements of both families, in
 * that order; messages of other tables are passed over, malformed ones are -EPROTO.  The end finds a
 * dump that the kernel tore by resizing a set in the middle of it: -EAGAIN, begin anew.
 * netd/observe.h does it against a socket.
 */
int nat_observe_message(struct nat_state *s, const struct nlmsghdr *nlh)
	__attribute__((nonnull, warn_unused_result));
int nat_observe_finish(struct nat_state *s) __attribute__((nonnull, warn_unused_result));

/* The same state as nft text (`nft -f` takes it).  0 or -EIO. */
int nat_print(const struct nat_state *s, FILE *f) __attribute__((nonnull));
/* One element, "tcp . 10.0.0.1 . 22 : 10.1.0.2 . 22"; returns buf. */
char *nat_elem_format(enum nat_set_id set, const struct nat_elem *e, char *buf, size_t size)
	__attribute__((nonnull));
const char *nat_set_name(enum nat_set_id set);

/* ---- plan ---------------------------------------------------------------------------------- */

/*
 * BEFORE holds what must be in force before a link appears (and the guards of moving ports), AFTER
 * what may only go when a link is gone (and lifts the guards).  With nothing planned for links in
 * between, both fit one transaction: netd/queue merges neighbouring nat operations of one stage
 * into one nftables transaction, and nat_plan() uses only BEFORE when told `one_batch`.
 */
enum nat_stage {
	NAT_STAGE_BEFORE = 50,
	NAT_STAGE_AFTER = 250,
};

enum nat_op_kind {
	NAT_OP_CREATE,	 /* both tables with sets, chains, rules; replaces what is there */
	NAT_OP_DESTROY,	 /* both tables */
	NAT_OP_ELEM_ADD, /* `after` */
	NAT_OP_ELEM_DEL, /* `before` */
	NAT_OP_ELEM_SET, /* `before` becomes `after`: same key, other data or range end */
};

/* Tells a nat_op among a plan's operations: op->owner == &nat_op_owner. */
extern const struct plan_owner nat_op_owner;

struct nat_op {
	struct plan_op op; /* first */
	enum nat_op_kind kind;
	enum nat_set_id set;
	const struct nat_elem *before, *after; /* of observed and desired */
	const struct nat_state *old, *new;     /* CREATE, DESTROY: whole states; NULL: no tables */
};

/*
 * Append to `plan` what leads from observed to desired.  Both must outlive the plan.  `desired`
 * NULL: take everything away.  `moving` names ports to be guarded while the link operations run.
 * stage is NAT_STAGE_BEFORE or NAT_STAGE_AFTER: call once for each, around vlan_plan(); with
 * `one_batch` (no link operations) call it for BEFORE only.  -EPERM when the table is owned by
 * another process.
 */
int nat_plan(const struct nat_state *desired, const struct nat_state *observed,
	     enum nat_stage stage, bool one_batch, const char *const *moving, size_t moving_count,
	     struct plan *plan, struct err *err) __attribute__((nonnull(2, 7), warn_unused_result));

/* ---- one forward ----------------------------------------------------------------------------- */

/* What one forward's coming, change or going does to a desired state (delta.c). */
struct nat_delta {
	struct nat_state before, after; /* the forward's elements alone */
};

/* `old` NULL: it comes, `new` NULL: it goes.  Errors as nat_lower(); the caller clears *ret. */
int nat_delta_forward(const struct nat_forward *old, const struct nat_forward *new,
		      struct nat_delta *ret, struct err *err)
	__attribute__((nonnull(3), warn_unused_result));
void nat_delta_clear(struct nat_delta *d) __attribute__((nonnull));
/*
 * Is the old forward in the desired state `s`, and does nothing else in it listen on what the new
 * one listens on?  Some nanoseconds for each forward in `s`.
 */
bool nat_delta_fits(const struct nat_state *s, const struct nat_delta *d) __attribute__((nonnull));
/* Append the operations.  `d` must outlive the plan. */
int nat_delta_plan(const struct nat_delta *d, struct plan *plan, struct err *err)
	__attribute__((nonnull(1, 2), warn_unused_result));
/* Make it so in `s`: reserve (0 or -ENOMEM) before the plan runs, keep when it has. */
int nat_delta_reserve(struct nat_state *s, const struct nat_delta *d)
	__attribute__((nonnull, warn_unused_result));
void nat_delta_keep(struct nat_state *s, const struct nat_delta *d) __attribute__((nonnull));

/* ---- conntrack ----------------------------------------------------------------------------- */

/*
 * The forwards that a plan adds, changes or removes, by what a client would have sent.  Flows that
 * match must be forgotten after the plan ran (a UDP flow would keep its old fate until it times
 * out).  nat_stale_matches() decides by the original direction, and by whether the flow was
 * translated: an added forward concerns flows of UDP that were not, a removed one those that were.
 */
struct nat_flow {
	uint8_t family, proto; /* 4 or 6; IPPROTO_* */
	struct addr src, dst;  /* original direction */
	uint16_t sport, dport;
	struct addr reply_src; /* who answers */
	bool dnat;	       /* IPS_DST_NAT */
};

struct nat_stale {
	uint8_t family, proto;
	struct addr on; /* none: any address of the host */
	uint16_t first, last;
	struct addr to; /* none for an added one */
};

struct nat_stales {
	struct nat_stale *v;
	size_t count, capacity;
};

/* From the plan's nat operations, appended to *ret; the caller frees ret->v. */
int nat_stale_collect(const struct plan *plan, struct nat_stales *ret)
	__attribute__((nonnull, warn_unused_result));
bool nat_stale_matches(const struct nat_stales *s, const struct nat_flow *f)
	__attribute__((nonnull));

#endif
