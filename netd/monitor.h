/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hearing of changes that somebody made: links, addresses, nftables.
 *
 * A monitor only says that something of ours may have changed; what, the next observation says.
 * Subscribe first, observe then: an event between the two costs one needless look.  Changes made
 * through the given netlink port are not reported where the kernel tells who made them.
 *
 * Non-blocking, one thread.
 */
#ifndef NETD_MONITOR_H
#define NETD_MONITOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "netd/nl.h"

enum monitor_event {
	MONITOR_LINK = 1, /* a link of ours or with a name we want came, went or changed */
	MONITOR_ADDR = 2, /* an address on such a link; on any link where names are unknown; a
			     route of ours has gone */
	MONITOR_NAT = 4,  /* somebody wrote to a table of our name, or deleted it */
	MONITOR_LOST = 8, /* messages were lost: anything may have changed */
};

struct monitor;

/* Sockets in the calling thread's namespace.  `nl` is borrowed until monitor_close(). */
int monitor_open(struct nl *nl, struct monitor **ret, struct err *err)
	__attribute__((nonnull(1, 2), warn_unused_result));
void monitor_close(struct monitor *m);

/*
 * A link of this name concerns us as well, with its addresses; NULL: forget all such names.
 * -ENOMEM.
 */
int monitor_also(struct monitor *m, const char *name)
	__attribute__((nonnull(1), warn_unused_result));

/* The two descriptors to poll for reading. */
void monitor_fds(const struct monitor *m, int ret_fds[2]) __attribute__((nonnull));

/*
 * Around a large write of our own: the kernel makes a notification for each element while somebody
 * listens, a third of the write's time.  Between the two nothing is heard of tables;
 * monitor_unhush() returns MONITOR_NAT when the kernel's generation shows that there was another
 * commit than the `commit_count` of ours, or where it cannot tell.
 */
void monitor_hush(struct monitor *m) __attribute__((nonnull));
unsigned monitor_unhush(struct monitor *m, uint64_t commit_count)
	__attribute__((nonnull, warn_unused_result));

/*
 * Read all that is waiting and return the events (bits), 0 when nothing concerns us.  `desired`
 * may be NULL: then every link concerns us.
 */
unsigned monitor_read(struct monitor *m, const struct vlan_state *desired)
	__attribute__((nonnull(1)));

#endif
