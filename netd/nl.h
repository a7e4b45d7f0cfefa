/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The netlink port: everything netd asks of the kernel's network configuration.
 *
 * Behind struct nl is either the kernel of the network namespace in which nl_open() was called, or
 * a fake one (tests/netd/fake_kernel.h) that speaks the same messages and can be told to fail.
 * What is above sees no sockets.
 *
 * Blocking, one thread.  Each call sends one run of messages and reads until everything is
 * answered; nothing is left in the sockets between calls.  An answer that does not come within
 * NL_TIMEOUT_MS is -ETIMEDOUT.
 */
#ifndef NETD_NL_H
#define NETD_NL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/nlbuf.h"
#include "nat/nat.h"
#include "vlan/vlan.h"

#define NL_TIMEOUT_MS 30000 /* a kernel that deletes 12k links holds the lock for seconds */

enum nl_bus {
	NL_ROUTE,     /* links, addresses, routes */
	NL_NETFILTER, /* nftables, conntrack */
};

struct nl;

typedef int (*nl_message_fn)(void *arg, const struct nlmsghdr *nlh);

struct nl_ops {
	int (*dump)(struct nl *nl, enum nl_bus bus, const struct nlbuf *request, nl_message_fn fn,
		    void *arg, struct err *err);
	int (*batch)(struct nl *nl, struct nlbuf *messages, int *ret_results, struct err *err);
	int (*transact)(struct nl *nl, struct nlbuf *messages, struct err *err);
	int (*ifindex)(struct nl *nl, const char *name);
	int (*tap_add)(struct nl *nl, const struct vlan_link *tap, struct err *err);
	int (*tap_own)(struct nl *nl, const struct vlan_link *tap, struct err *err);
	uint32_t (*port_id)(struct nl *nl);
	void (*close)(struct nl *nl);
};

struct nl {
	const struct nl_ops *ops;
};

/*
 * Sockets in the calling thread's network namespace.  The netfilter socket stays open: it is what
 * owns the tables.  The caller frees with nl_close().  -EPERM without CAP_NET_ADMIN.
 */
int nl_open(struct nl **ret, struct err *err) __attribute__((nonnull(1), warn_unused_result));
void nl_close(struct nl *nl);

/*
 * Send a dump request and hand each message of the answer to `fn` (a non-zero return ends the
 * dump with that value).  -EINTR when the kernel says that the dump was interrupted by a change,
 * -ENOBUFS when messages were lost: what `fn` saw is worthless then, start over with a clean slate.
 */
int nl_dump(struct nl *nl, enum nl_bus bus, const struct nlbuf *request, nl_message_fn fn,
	    void *arg, struct err *err) __attribute__((nonnull(1, 3, 4), warn_unused_result));

/*
 * Send route messages and count their acknowledgements; ret_results[i] is the i-th message's 0 or
 * -errno.  All are tried, also behind a failed one.  0 when every message was answered; `err`
 * gets the kernel's own words (extended ack) of the first failure.
 */
int nl_batch(struct nl *nl, struct nlbuf *messages, int *ret_results, struct err *err)
	__attribute__((nonnull(1, 2, 3), warn_unused_result));

/* Send one nftables transaction (nat_wire_begin() .. nat_wire_end()).  All of it, or -errno. */
int nl_transact(struct nl *nl, struct nlbuf *messages, struct err *err)
	__attribute__((nonnull(1, 2), warn_unused_result));

/* The index a name has now, -ENODEV without such a link. */
int nl_ifindex(struct nl *nl, const char *name) __attribute__((nonnull, warn_unused_result));

/*
 * Make a persistent TAP with owner, group and flags, marked with its alias before it becomes
 * persistent: a crash in between leaves nothing.  -EEXIST when the name is taken.
 */
int nl_tap_add(struct nl *nl, const struct vlan_link *tap, struct err *err)
	__attribute__((nonnull(1, 2), warn_unused_result));
/* Give an existing TAP another owner.  -EBUSY while a guest has it open. */
int nl_tap_own(struct nl *nl, const struct vlan_link *tap, struct err *err)
	__attribute__((nonnull(1, 2), warn_unused_result));

/* The netfilter socket's port id, as the kernel names a table's owner. */
uint32_t nl_port_id(struct nl *nl) __attribute__((nonnull));

#endif
