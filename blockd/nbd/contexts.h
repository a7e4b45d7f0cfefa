/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Meta contexts: what queries select and what BLOCK_STATUS answers. */
#ifndef BLOCKD_NBD_CONTEXTS_H
#define BLOCKD_NBD_CONTEXTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "blockd/nbd/wire.h"
#include "thin/thin.h"

enum context {
	CONTEXT_ALLOCATION, /* base:allocation */
	CONTEXT_DEPTH,	    /* qemu:allocation-depth */
	CONTEXT_SHARED,	    /* x-ashlar:shared */
	/* Those that every export has.  From here on: qemu:dirty-bitmap:SNAP, one for each snapshot
	 * that the connection compares with. */
	CONTEXT_COUNT,
};

#define CONTEXTS_BITMAP_MAX    8u /* of one connection: each costs a walk for each BLOCK_STATUS */
#define CONTEXTS_BITMAP_PREFIX "qemu:dirty-bitmap:"

/* Sets are bit masks, 1u << enum context and what follows it. */
#define CONTEXTS_ALL	    ((1u << CONTEXT_COUNT) - 1)
#define CONTEXTS_BITMAPS(n) (((1u << (n)) - 1) << CONTEXT_COUNT)

#define CONTEXT_STATE_SHARED (1u << 0) /* x-ashlar:shared */
#define CONTEXT_STATE_DIRTY  (1u << 0) /* qemu:dirty-bitmap: */

/* Of those that every export has. */
const char *context_name(enum context context);
/* Its id on the wire: never 0, which LIST_META_CONTEXT uses for "none". */
uint32_t context_id(unsigned context);

/* What queries ask for. */
struct contexts_query {
	unsigned set; /* of those that every export has */
	/* the snapshots of bitmaps, each once: pieces of the queries */
	struct {
		const char *name;
		size_t len;
	} base[CONTEXTS_BITMAP_MAX];
	size_t base_count;
	bool too_many; /* more than that */
	bool bitmaps;  /* LIST: all bitmaps; ... */
	bool some;     /* ... as many as are no nuisance to who has not asked for them */
};

/*
 * Add what one query names: with `list` a bare namespace ("base:") or "qemu:dirty-bitmap:" is a
 * wildcard, without it selects nothing.  Unknown namespaces and names are no errors and select
 * nothing.
 */
void contexts_match(const char *query, size_t len, bool list, struct contexts_query *to);

/*
 * A context's descriptors for [offset, offset + len) from extents that begin at the block holding
 * `offset`.  Neighbours that look the same are joined, the ends cut to the range; with `one` only
 * the first is given.  `to` has room for `extent_count`.  Returns the number of descriptors, 0 if
 * the extents describe nothing of the range.
 */
size_t contexts_describe(unsigned context, const struct thin_extent *extents, size_t extent_count,
			 uint64_t offset, uint32_t len, bool one, struct nbd_status_desc *to);

#endif
