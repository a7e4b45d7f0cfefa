/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rtnetlink messages: what netd/nl sends and reads for vlan/.
 */
#ifndef VLAN_WIRE_H
#define VLAN_WIRE_H

#include "common/base/nlbuf.h"
#include "vlan/vlan.h"

/* The index a name has at this moment, or -errno. */
struct vlan_resolver {
	int (*index)(void *ctx, const char *name);
	void *ctx;
};

/* The dumps of an observation in order, `index` from 0; -ERANGE behind the last. */
int vlan_wire_dump(struct nlbuf *b, size_t index) __attribute__((nonnull, warn_unused_result));

/*
 * TAPs are made and given an owner by /dev/net/tun: the link to make (or to own) first, NULL when
 * `op` (with `undo` its inverse) needs nothing of the kind.
 */
const struct vlan_link *vlan_wire_tap_add(const struct vlan_op *op, bool undo)
	__attribute__((nonnull));
const struct vlan_link *vlan_wire_tap_own(const struct vlan_op *op, bool undo)
	__attribute__((nonnull));

/*
 * Append the messages of `op`, or with `undo` of its inverse; there may be none.  -ENODEV when a
 * name has no index, -ENOMEM.
 */
int vlan_wire_op(struct nlbuf *b, const struct vlan_op *op, bool undo,
		 const struct vlan_resolver *res) __attribute__((nonnull, warn_unused_result));

/*
 * A deleted link comes back in two steps, because its index is new: vlan_wire_op() makes it, this
 * gives it back master, flags, VIDs, addresses and state.  Nothing for other operations.
 */
int vlan_wire_restore(struct nlbuf *b, const struct vlan_op *op, const struct vlan_resolver *res)
	__attribute__((nonnull, warn_unused_result));

/* One message that sets the alias of a link, by name. */
int vlan_wire_alias(struct nlbuf *b, const char *name, const char *alias)
	__attribute__((nonnull, warn_unused_result));

/* Probes: create a link of this sort under a name nobody uses, and delete it. */
enum vlan_probe {
	VLAN_PROBE_FILTERING,
	VLAN_PROBE_DOT1Q,
	VLAN_PROBE_VNIFILTER,
	VLAN_PROBE_BRIDGE, /* to probe port flags on */
};
int vlan_wire_probe(struct nlbuf *b, enum vlan_probe p, const char *name, int parent_index)
	__attribute__((nonnull, warn_unused_result));
int vlan_wire_mark(struct nlbuf *b, const char *name, const char *alias)
	__attribute__((nonnull, warn_unused_result));
int vlan_wire_delete(struct nlbuf *b, const char *name)
	__attribute__((nonnull, warn_unused_result));

#endif
