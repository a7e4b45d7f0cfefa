/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Allowed-IPs: which owner has the longest prefix of an address (allowed.c).  A prefix has one
 * owner.  Changes and look-ups are kept apart by the caller's lock.  Looking up costs one step for
 * each bit at which prefixes on the way branch, at most 32 or 128, and takes no memory.
 */
#ifndef VPN_ALLOWED_H
#define VPN_ALLOWED_H

#include <bsd/sys/queue.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/addr.h"

#define ALLOWED_CHECKED __attribute__((warn_unused_result, nonnull))

struct allowed_node;

/* Embedded in a peer.  Zero is ready to use. */
struct allowed_owner {
	LIST_HEAD(, allowed_node) nodes;
	uint64_t count;
};

/* Zero is empty. */
struct allowed {
	struct allowed_node *root4, *root6;
};

/* Give the prefix (host bits are cleared) to `owner`, taking it from another.  0 or -ENOMEM. */
ALLOWED_CHECKED int allowed_insert(struct allowed *a, const struct prefix *p,
				   struct allowed_owner *owner);
/* -ENOENT: it is not this owner's. */
ALLOWED_CHECKED int allowed_remove(struct allowed *a, const struct prefix *p,
				   struct allowed_owner *owner);
void allowed_remove_all(struct allowed *a, struct allowed_owner *owner) __attribute__((nonnull));
/* All that is `from`'s becomes `to`'s. */
void allowed_move_all(struct allowed_owner *from, struct allowed_owner *to)
	__attribute__((nonnull));

/* Whose is the address?  `bytes` are 4 or 16 in network order; NULL: nobody's. */
ALLOWED_CHECKED struct allowed_owner *allowed_find(const struct allowed *a, uint8_t family,
						   const uint8_t *bytes);
void allowed_each(const struct allowed_owner *owner,
		  void (*each)(void *ctx, const struct prefix *p), void *ctx)
	__attribute__((nonnull(1, 2)));

#endif
