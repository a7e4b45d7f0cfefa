/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VLANs on a Linux host: bridges, VLANs, guest ports and uplinks, in three steps.
 *
 *	struct vlan_net      --vlan_lower()-->  struct vlan_state  --.
 *	(what a person says;                    (links as the        |--vlan_plan()--> struct plan
 *	 backend-free)                           kernel knows them)  |
 *	netlink dumps --vlan_observe_*()----->  struct vlan_state  --'
 *
 * Two backends serve the same vlan_net.  `aware`: one bridge with VLAN filtering, ports with VID
 * lists, gateways as 802.1Q devices BRIDGE.VID on it.  `per-vlan`: one plain bridge per VLAN which
 * is itself called BRIDGE.VID.  Only vlan_lower() knows the difference; everything behind it
 * compares links.  So the gateway interface of a VLAN has one name whatever the kernel can do.
 *
 * Ours is what carries our mark: a link whose ifalias begins with "ashlar:", an address or route
 * with protocol number VLAN_PROTO.  A link that was there before us (an uplink, an existing
 * interface as a port) gets the mark "ashlar:use:MTU:UP:OLD ALIAS" while we use it, and goes back
 * to that MTU, state and alias when we let go.  Nothing without a mark is ever changed or deleted;
 *a foreign link that has a name we need is an error (-EEXIST), not a victim.
 *
 * Pure: no sockets, no clock, no logging, no globals.  Any thread, one at a time per object.
 */
#ifndef VLAN_VLAN_H
#define VLAN_VLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/base/addr.h"
#include "common/base/err.h"
#include "common/base/plan.h"

struct nlmsghdr;

#define VLAN_NAME_MAX  16  /* an interface name with its NUL (IFNAMSIZ) */
#define VLAN_ALIAS_MAX 256 /* IFALIASZ */
#define VLAN_VID_MAX   4094
#define VLAN_PROTO     0x6e /* rtm_protocol and IFA_PROTO of what we add */
#define VLAN_MARK      "ashlar:"

/* ---- sets of VIDs ------------------------------------------------------------------------- */

struct vlan_vids {
	uint64_t bits[64]; /* VID v is bit v % 64 of word v / 64 */
};

bool vlan_vids_has(const struct vlan_vids *s, unsigned vid) __attribute__((nonnull));
void vlan_vids_add(struct vlan_vids *s, unsigned first, unsigned last) __attribute__((nonnull));
bool vlan_vids_empty(const struct vlan_vids *s) __attribute__((nonnull));
unsigned vlan_vids_count(const struct vlan_vids *s) __attribute__((nonnull));
/* The next run of VIDs at or behind `from`; false when there is none. */
bool vlan_vids_next(const struct vlan_vids *s, unsigned from, unsigned *ret_first,
		    unsigned *ret_last) __attribute__((nonnull));
/* "10,20,100-200" of VIDs 1-4094, ascending or not; -EINVAL with found/expected. */
int vlan_vids_parse(const char *text, struct vlan_vids *ret, struct err *err)
	__attribute__((nonnull(1, 2), warn_unused_result));
/* Writes at most `size` bytes with NUL, "..." at the end when cut; returns buf. */
char *vlan_vids_format(const struct vlan_vids *s, char *buf, size_t size) __attribute__((nonnull));

/* ---- what the kernel can do ---------------------------------------------------------------- */

enum vlan_backend {
	VLAN_BACKEND_AWARE,
	VLAN_BACKEND_PER_VLAN,
};

/* Filled by netd/nl's probe (which tries, in a namespace's own name space, and undoes). */
struct vlan_caps {
	bool vlan_filtering; /* a bridge may be created with vlan_filtering=1 */
	bool dot1q;	     /* links of kind "vlan" (8021q) */
	bool isolated;	     /* IFLA_BRPORT_ISOLATED */
	bool neigh_suppress;
	bool addr_proto; /* IFA_PROTO comes back in dumps (5.18) */
	bool tun;	 /* /dev/net/tun opens */
	bool vxlan_vnifilter;
};

/* AWARE needs vlan_filtering and dot1q. */
enum vlan_backend vlan_backend_choose(const struct vlan_caps *caps) __attribute__((nonnull));
const char *vlan_backend_name(enum vlan_backend b);

/* ---- what a person says -------------------------------------------------------------------- */

/*
 * Arrays are the caller's, and so are all pointers in them.  Names refer to names in the same
 * vlan_net.  What vlan_lower() rejects is listed there; the config layer should have found it
 * with a file:line before.
 */
struct vlan_bridge {
	char name[VLAN_NAME_MAX];   /* at most 10 bytes, so that BRIDGE.4094 fits */
	char uplink[VLAN_NAME_MAX]; /* "" or an interface that becomes a trunk of all its VLANs */
	uint32_t mtu;		    /* 0: 1500 */
};

struct vlan_segment {
	char bridge[VLAN_NAME_MAX];
	uint16_t vid;
	const struct prefix *addresses; /* of the gateway interface, host bits set; may be NULL */
	size_t address_count;
	uint32_t mtu; /* 0: the bridge's */
};

enum vlan_port_kind {
	VLAN_PORT_TAP,	    /* ours: created, persistent, deleted */
	VLAN_PORT_EXISTING, /* somebody else's: used, released */
};

struct vlan_port {
	char name[VLAN_NAME_MAX]; /* interface name */
	char bridge[VLAN_NAME_MAX];
	enum vlan_port_kind kind;
	uint16_t access;	 /* VID of untagged frames and nothing else; 0: a trunk */
	uint16_t native;	 /* trunk: VID of untagged frames, 0: untagged frames are dropped */
	struct vlan_vids tagged; /* trunk: VIDs that travel tagged */
	bool isolated; /* may talk to the gateway and uplink, not to other isolated ports */
	bool hairpin;
	uint32_t mtu; /* 0: the VLAN's (access) or the bridge's */
	/* TAP only */
	uid_t owner;	 /* (uid_t)-1: root only */
	gid_t group;	 /* (gid_t)-1: none */
	unsigned queues; /* 1, or more for IFF_MULTI_QUEUE (the number is qemu's business) */
	bool vnet_hdr;
};

/* An address on an interface that is not ours: a SNAT pool's /32 or /128 on the uplink. */
struct vlan_extra_addr {
	char ifname[VLAN_NAME_MAX];
	struct prefix prefix;
};

struct vlan_net {
	const struct vlan_bridge *bridges;
	size_t bridge_count;
	const struct vlan_segment *segments;
	size_t segment_count;
	const struct vlan_port *ports;
	size_t port_count;
	const struct vlan_extra_addr *extra;
	size_t extra_count;
	uint64_t mac_salt; /* of this host (hash of its machine-id): generated MACs differ between
			      hosts */
};

/* "BRIDGE.VID" into buf[VLAN_NAME_MAX]; returns buf. */
char *vlan_gateway_name(const char *bridge, unsigned vid, char *buf) __attribute__((nonnull));
#define VLAN_BRIDGE_NAME_LEN_MAX 10

/*
 * Why this kernel cannot carry `port` (or an uplink: vlan_uplink_refusal), as a sentence; NULL
 * when it can.  For `check`, which wants file:line in front.
 */
const char *vlan_port_refusal(const struct vlan_port *port, enum vlan_backend b,
			      const struct vlan_caps *caps) __attribute__((nonnull));
const char *vlan_uplink_refusal(enum vlan_backend b, const struct vlan_caps *caps)
	__attribute__((nonnull));

/* ---- links as the kernel knows them -------------------------------------------------------- */

enum vlan_kind {
	VLAN_KIND_OTHER, /* somebody else's device of whatever kind */
	VLAN_KIND_BRIDGE,
	VLAN_KIND_DOT1Q,
	VLAN_KIND_TAP,
};

struct vlan_addr {
	struct prefix prefix;
	bool ours; /* observed: carries VLAN_PROTO; without addr_proto: it sits on a link of ours */
};

/* VID membership of a bridge port, or of the bridge itself (aware backend). */
struct vlan_membership {
	struct vlan_vids tagged;
	uint16_t pvid; /* untagged in and out; 0: none */
};

struct vlan_link {
	char name[VLAN_NAME_MAX];
	enum vlan_kind kind;
	char alias[VLAN_ALIAS_MAX];
	struct mac mac;
	bool mac_any;	/* desired: leave the MAC alone (used, not owned) */
	bool addr_only; /* desired: only addresses with our mark are ours here */
	uint32_t mtu;	/* desired 0: leave it alone */
	bool up;
	char master[VLAN_NAME_MAX];
	/* BRIDGE */
	bool vlan_filtering;
	/* DOT1Q */
	char parent[VLAN_NAME_MAX];
	uint16_t vid;
	/* TAP */
	uid_t owner;
	gid_t group;
	bool multi_queue, vnet_hdr, persist;
	/* as a bridge port */
	bool isolated, hairpin;
	/* NULL: none.  Only with vlan_filtering. */
	struct vlan_membership *members;
	struct vlan_addr *addrs;
	size_t addr_count, addr_capacity;
	/* observed only */
	int ifindex, master_ifindex, parent_ifindex;
	bool running;
};

/* Sorted by name once built.  Owns its links. */
struct vlan_state {
	enum vlan_backend backend; /* desired only */
	struct vlan_link *links;
	size_t link_count, link_capacity;
	bool addr_proto; /* observed: IFA_PROTO tells whose an address is; set it from vlan_caps */
	bool by_index;	 /* while a dump is being put together */
};

void vlan_state_clear(struct vlan_state *s) __attribute__((nonnull));
/* NULL when there is none.  O(log n).  Only after vlan_lower() or vlan_observe_finish(). */
const struct vlan_link *vlan_state_find(const struct vlan_state *s, const char *name)
	__attribute__((nonnull));
bool vlan_link_is_ours(const struct vlan_link *l) __attribute__((nonnull)); /* created by us */
bool vlan_link_is_used(const struct vlan_link *l) __attribute__((nonnull)); /* "ashlar:use:" */

/*
 * The desired state.  -EOPNOTSUPP with a sentence for what the kernel cannot do, -EINVAL for a
 * contradiction (a VID twice, an unknown bridge, a name too long, an interface used twice),
 * -ENOMEM. The caller clears *ret.
 */
int vlan_lower(const struct vlan_net *net, enum vlan_backend backend, const struct vlan_caps *caps,
	       struct vlan_state *ret, struct err *err)
	__attribute__((nonnull(1, 3, 4), warn_unused_result));

/*
 * The observed state, from the messages of three dumps in this order: RTM_GETLINK (with
 * RTEXT_FILTER_BRVLAN_COMPRESSED through AF_BRIDGE as a second link dump where VLAN filtering is
 * there), RTM_GETADDR.  Messages that do not concern links or addresses are passed over; a
 * malformed one is -EPROTO.  finish() sorts and resolves masters and parents.
 * netd/observe.h does all of it against a socket.
 */
int vlan_observe_message(struct vlan_state *s, const struct nlmsghdr *nlh)
	__attribute__((nonnull, warn_unused_result));
int vlan_observe_finish(struct vlan_state *s) __attribute__((nonnull, warn_unused_result));

/* ---- plan ---------------------------------------------------------------------------------- */

/*
 * Stages of the operations, in the order in which a host must change: free names and addresses,
 * build bottom-up, then take away top-down.  A batch waits for the one before it, so that an
 * interface exists before its index is needed.  nat/ plans its "before" batch in front of these
 * and its "after" batch behind: VLAN_STAGE_FIRST and VLAN_STAGE_END leave room.
 */
enum vlan_stage {
	VLAN_STAGE_FIRST = 100,
	VLAN_STAGE_REPLACE = 100, /* delete what must be made anew */
	VLAN_STAGE_UNADDRESS,	  /* addresses that go (some come back elsewhere) */
	VLAN_STAGE_CREATE,	  /* bridges, TAPs */
	VLAN_STAGE_STACK,	  /* 802.1Q devices on them */
	VLAN_STAGE_ALIAS,	  /* mark first: what we touch can be found again */
	VLAN_STAGE_GROW,	  /* MTU up, MAC, bridge options */
	VLAN_STAGE_UNVID,	  /* VIDs that go */
	VLAN_STAGE_MASTER,	  /* ports into their bridge, or out of it */
	VLAN_STAGE_PORT,	  /* port flags and VIDs that come */
	VLAN_STAGE_SHRINK,	  /* MTU down */
	VLAN_STAGE_UP,
	VLAN_STAGE_ADDRESS,
	VLAN_STAGE_RELEASE,    /* used links that go back to their owner */
	VLAN_STAGE_UNMARK,     /* and lose our mark, last */
	VLAN_STAGE_DELETE_TOP, /* TAPs, 802.1Q devices */
	VLAN_STAGE_DELETE,     /* bridges */
	VLAN_STAGE_END = 199,
};

enum vlan_op_kind {
	VLAN_OP_LINK_ADD, /* create `after` with kind, MAC, alias, MTU, kind's options */
	VLAN_OP_LINK_DEL, /* delete `before`; undone by creating it with everything it had */
	VLAN_OP_ALIAS,	  /* the following change one thing of a link from before's to after's */
	VLAN_OP_MAC,
	VLAN_OP_MTU,
	VLAN_OP_UP,
	VLAN_OP_MASTER,
	VLAN_OP_TAP_OWNER,
	VLAN_OP_PORT_FLAGS,
	VLAN_OP_VIDS_DEL, /* members of before that are not in after */
	VLAN_OP_VIDS_ADD, /* members of after that are not in before */
	VLAN_OP_ADDR_ADD,
	VLAN_OP_ADDR_DEL,
};

/* Tells a vlan_op among a plan's operations: op->owner == &vlan_op_owner. */
extern const struct plan_owner vlan_op_owner;

struct vlan_op {
	struct plan_op op; /* first; text is "+ bridge guests.10" and the like */
	enum vlan_op_kind kind;
	const struct vlan_link *before, *after; /* of observed and desired; NULL: not there */
	const struct vlan_addr *addr;		/* ADDR_* */
};

struct vlan_names {
	const char **names;
	size_t count, capacity;
};
void vlan_names_clear(struct vlan_names *n) __attribute__((nonnull));

/*
 * Append to `plan` what leads from observed to desired; nothing when they agree.  Both states must
 * outlive the plan.  `moving` (may be NULL) collects the names of ports that change bridge or VLAN,
 * whose frames must be dropped meanwhile (nat_plan() takes the list); borrowed from `desired`.
 * -EEXIST with a sentence when a foreign link has a name we need, -ENODEV when an interface to be
 * used is missing, -EBUSY when it already has a master that is not ours.  O(n log n).
 */
int vlan_plan(const struct vlan_state *desired, const struct vlan_state *observed,
	      struct plan *plan, struct vlan_names *moving, struct err *err)
	__attribute__((nonnull(1, 2, 3), warn_unused_result));

/*
 * Whether an uplink carries an address of the host (then enslaving it cuts the host off): the
 * first such address, NULL when none.  netd refuses the config with it.
 */
const struct vlan_addr *vlan_uplink_address(const struct vlan_state *observed, const char *uplink)
	__attribute__((nonnull));

#endif
