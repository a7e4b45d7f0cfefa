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
	CONTEXT_COUNT,
};

/* Sets are bit masks, 1u << enum context. */
#define CONTEXTS_ALL ((1u << CONTEXT_COUNT) - 1)

#define CONTEXT_STATE_SHARED (1u << 0) /* x-ashlar:shared */

const char *context_name(enum context context);
/* Its id on the wire: never 0, which LIST_META_CONTEXT uses for "none". */
uint32_t context_id(enum context context);

/*
 * The set that one query names: with `list` a bare namespace ("base:") is a wildcard, without it
 * selects nothing.  Unknown namespaces and names are no errors and select nothing.
 */
unsigned contexts_match(const char *query, size_t len, bool list);

/*
 * A context's descriptors for [offset, offset + len) from extents that begin at the block holding
 * `offset`.  Neighbours that look the same are joined, the ends cut to the range; with `one` only
 * the first is given.  `to` has room for `extent_count`.  Returns the number of descriptors, 0 if
 * the extents describe nothing of the range.
 */
size_t contexts_describe(enum context context, const struct thin_extent *extents,
			 size_t extent_count, uint64_t offset, uint32_t len, bool one,
			 struct nbd_status_desc *to);

#endif
