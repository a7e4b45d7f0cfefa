/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nftables and conntrack messages: what netd/nl sends and reads for nat/.
 *
 * A transaction is one run of messages from nat_wire_begin() to nat_wire_end(), sent in one
 * sendmsg(); the kernel carries out all of it or nothing.  Only its last message (before the end
 * marker) asks for an acknowledgement; whatever fails is reported with its own sequence number.
 */
#ifndef NAT_WIRE_H
#define NAT_WIRE_H

#include "common/base/nlbuf.h"
#include "nat/nat.h"

/* What the kernel calls a table that survives its owner's exit (6.9; not in Debian 12's headers).
 */
#define NAT_TABLE_F_OWNER   0x2u
#define NAT_TABLE_F_PERSIST 0x4u

/* All of these: 0 or -ENOMEM. */
int nat_wire_begin(struct nlbuf *b) __attribute__((nonnull, warn_unused_result));
int nat_wire_end(struct nlbuf *b) __attribute__((nonnull, warn_unused_result));

/*
 * Append what `op` does, or with `undo` its inverse.  Runs of ELEM_* on one set should follow each
 * other: nat_wire_ops() packs them into few messages.  `table_flags` for tables made now: 0 or
 * OWNER | PERSIST.
 */
int nat_wire_ops(struct nlbuf *b, const struct nat_op *const *ops, size_t count, bool undo,
		 uint32_t table_flags) __attribute__((nonnull, warn_unused_result));

/* Take over both tables, left behind by an owner that is gone (OWNER | PERSIST only). */
int nat_wire_adopt(struct nlbuf *b, uint32_t table_flags)
	__attribute__((nonnull, warn_unused_result));

/* Make and delete a table with these flags in one transaction: nothing stays, support shows. */
int nat_wire_probe(struct nlbuf *b, uint32_t table_flags, bool bridge_family)
	__attribute__((nonnull, warn_unused_result));

/*
 * The dump requests that nat_observe_message() needs, in order; the elements of one set a request.
 * `index` from 0; -ERANGE behind the last one.  Requests whose set does not exist are answered
 * with -ENOENT: not an error of the observation.
 */
int nat_wire_dump(struct nlbuf *b, size_t index) __attribute__((nonnull, warn_unused_result));

/*
 * Ask for the generation, which counts the commits in this namespace; its answer: 0, -ENOMSG:
 * another message, -EPROTO.
 */
int nat_wire_ask_generation(struct nlbuf *b) __attribute__((nonnull, warn_unused_result));
int nat_wire_generation(const struct nlmsghdr *nlh, uint32_t *ret)
	__attribute__((nonnull, warn_unused_result));

/* ---- conntrack ---- */

/* Ask how many flows this namespace has; its answer: 0, -ENOMSG: another message, -EPROTO. */
int nat_wire_flow_stats(struct nlbuf *b) __attribute__((nonnull, warn_unused_result));
int nat_wire_flow_count(const struct nlmsghdr *nlh, uint32_t *ret)
	__attribute__((nonnull, warn_unused_result));
/* Dump all flows of a family (4, 6): the kernel goes through its whole table, which takes some
 * milliseconds however few there are. */
int nat_wire_flow_dump(struct nlbuf *b, uint8_t family)
	__attribute__((nonnull, warn_unused_result));
/* One answer of it; -ENOMSG when it is no flow of TCP or UDP, -EPROTO when malformed. */
int nat_wire_flow_parse(const struct nlmsghdr *nlh, struct nat_flow *ret)
	__attribute__((nonnull, warn_unused_result));
/* Delete exactly the flow that `nlh` (an answer of the dump) is about. */
int nat_wire_flow_delete(struct nlbuf *b, const struct nlmsghdr *nlh)
	__attribute__((nonnull, warn_unused_result));

#endif
