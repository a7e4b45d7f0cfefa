/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A kernel behind the netlink port that lives in memory: links, bridge VLANs, addresses, TAPs,
 * nftables transactions.  It takes the same messages, answers with the same dumps, and can be told
 * to misbehave as real ones do.  tests/net/agree.c holds it against the real one.
 */
#ifndef TESTS_NET_FAKE_KERNEL_H
#define TESTS_NET_FAKE_KERNEL_H

#include "netd/nl.h"

/* One in so many (0: never), decided by a seeded generator. */
struct fake_faults {
	unsigned dump_interrupted; /* -EINTR in mid-dump */
	unsigned dump_lost;	   /* -ENOBUFS in mid-dump */
	unsigned dump_reordered;   /* links not by index */
	unsigned ack_lost;	   /* a message is carried out, its answer is -ENOBUFS */
	unsigned refused;	   /* a message is not carried out: -EBUSY */
	unsigned transaction_busy; /* a transaction is not carried out: -EBUSY */
	unsigned forgets;	   /* a link is gone a moment later */
};

struct fake_kernel;

/* `filtering`: what the aware backend needs is there.  The caller frees with nl_close(). */
struct nl *fake_kernel_new(bool filtering);
void fake_kernel_faults(struct nl *nl, const struct fake_faults *faults, uint32_t seed);
/* A link of somebody else. */
void fake_kernel_add_foreign(struct nl *nl, const char *name, const char *alias);
/* How many messages were carried out. */
uint64_t fake_kernel_messages(struct nl *nl);

#endif
