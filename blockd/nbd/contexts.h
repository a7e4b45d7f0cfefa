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
	CONTEXT_COUNT,
};

/* Sets are bit masks, 1u << enum context. */
#define CONTEXTS_ALL ((1u << CONTEXT_COUNT) - 1)

const char *context_name(enum context context);
/* Its id on the wire: never 0, which LIST_META_CONTEXT uses for "none". */
uint32_t context_id(enum context context);

/*
 * The set that one query names: with `list` a bare namespace ("base:") is a wildcard, without it
 * selects nothing.  Unknown namespaces and names are no errors and select nothing.
 */
unsigned contexts_match(const char *query, size_t len, bool list);

/*
 * base:allocation's descriptors for [offset, offset + len) from extents that begin at the block
 * holding `offset`.  Neighbours that look the same are joined, the ends cut to the range; with
 * `one` only the first is given.  `to` may be the memory of `extents` itself (a descriptor is
 * the smaller, and written behind what has been read).  Returns the number of descriptors, 0 if
 * the extents describe nothing of the range.
 */
size_t contexts_allocation(const struct thin_extent *extents, size_t extent_count, uint64_t offset,
			   uint32_t len, bool one, struct nbd_status_desc *to);

#endif
