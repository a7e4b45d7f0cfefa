/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Running a plan's operations against the kernel: the plan_port of common/base/plan.h.
 *
 *	struct queue q;
 *	queue_init(&q, nl, &nat_caps, own_tables);
 *	struct plan_port port = queue_port(&q);
 *	plan_run(&plan, &port, &err);
 *
 * A batch of link operations is one run of netlink messages whose acknowledgements are counted; a
 * batch of nat operations is one nftables transaction.  What is already as an operation wants it
 * (a deleted link is gone, an address is there) counts as done.  An operation that consists of
 * several messages and fails behind the first is taken back before it is reported, so that a
 * failed operation has changed nothing.
 *
 * Blocking, one thread.
 */
#ifndef NETD_QUEUE_H
#define NETD_QUEUE_H

#include "common/base/plan.h"
#include "netd/nl.h"

#define QUEUE_STUCK_MAX 64

struct queue {
	struct nl *nl;
	uint32_t table_flags; /* for tables made: 0, or owner and persist */
	/* counters */
	uint64_t messages, batches, transactions, retries, failures;
	uint64_t commits; /* transactions that went through */
	/* links of which something could not be undone in this plan; full: any link */
	char stuck[QUEUE_STUCK_MAX][VLAN_NAME_MAX];
	size_t stuck_count;
	bool (*stop)(
		void *arg); /* asked before each batch, for tests: true breaks off (-ECANCELED) */
	void *stop_arg;
};

/* `own_tables` false: never use owner and persist flags, whatever the kernel has. */
void queue_init(struct queue *q, struct nl *nl, const struct nat_caps *caps, bool own_tables)
	__attribute__((nonnull));

struct plan_port queue_port(struct queue *q) __attribute__((nonnull));

/*
 * Take over tables that an earlier netd left behind: they persist without an owner, and anybody
 * may write to them until this.  0 also when there is nothing to take over or no such flags.
 */
int queue_adopt_tables(struct queue *q, const struct nat_state *observed, struct err *err)
	__attribute__((nonnull(1, 2), warn_unused_result));

#endif
