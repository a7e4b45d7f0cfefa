/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Meta contexts ("Metadata querying" in proto.md).
 *
 *	base:allocation		HOLE: a write may fail for space; ZERO: reads as zeroes.  The
 *				engine's flags, which mean the same.
 *	qemu:allocation-depth	the layer that holds the data, as qemu defines it: 0 none, 1 the
 *				volume's own, 2 and more an ancestor's
 *	x-ashlar:shared		bit 0: an ancestor holds the blocks too, so that overwriting them
 *				allocates and may fail for space.  This is the "other context" that
 *				proto.md wants where base:allocation shows no HOLE and a write can
 *				meet ENOSPC all the same.  blockd(8) documents it.
 *	qemu:dirty-bitmap:SNAP	bit 0: differs from snapshot SNAP (docs/interop/nbd.rst of qemu).
 *SNAP is a snapshot of the export's volume, or VOL@SNAP of another in the same lineage.  A wildcard
 *when SNAP is left out, in LIST only.
 *
 * The first three are views of the same extents, so a reply with several costs one walk of the map;
 * each bitmap costs one of its own.
 * Pure functions, any thread.
 */
#include "blockd/nbd/contexts.h"

#include <string.h>

static const char *const names[CONTEXT_COUNT] = {
	[CONTEXT_ALLOCATION] = "base:allocation",
	[CONTEXT_DEPTH] = "qemu:allocation-depth",
	[CONTEXT_SHARED] = "x-ashlar:shared",
};

const char *context_name(enum context context)
{
	return names[context];
}

uint32_t context_id(unsigned context)
{
	return context + 1;
}

/* "base:" is a prefix of "base:allocation" that ends with the first colon. */
static bool is_namespace_of(const char *query, size_t len, const char *name)
{
	size_t namespace_len = (size_t)(strchr(name, ':') - name) + 1;

	return len == namespace_len && !memcmp(query, name, len);
}

static void add_base(struct contexts_query *to, const char *name, size_t len)
{
	for (size_t i = 0; i < to->base_count; i++)
		if (to->base[i].len == len && !memcmp(to->base[i].name, name, len))
			return;
	if (to->base_count == CONTEXTS_BITMAP_MAX) {
		to->too_many = true;
		return;
	}
	to->base[to->base_count].name = name;
	to->base[to->base_count++].len = len;
}

static void match_bitmap(const char *query, size_t len, bool list, struct contexts_query *to)
{
	size_t prefix_len = strlen(CONTEXTS_BITMAP_PREFIX);

	if (list && is_namespace_of(query, len, CONTEXTS_BITMAP_PREFIX))
		to->some = true;
	if (len < prefix_len || memcmp(query, CONTEXTS_BITMAP_PREFIX, prefix_len))
		return;
	if (len > prefix_len)
		add_base(to, query + prefix_len, len - prefix_len);
	else if (list)
		to->bitmaps = true;
}

void contexts_match(const char *query, size_t len, bool list, struct contexts_query *to)
{
	for (int i = 0; i < CONTEXT_COUNT; i++)
		if ((len == strlen(names[i]) && !memcmp(query, names[i], len)) ||
		    (list && is_namespace_of(query, len, names[i])))
			to->set |= 1u << i;
	match_bitmap(query, len, list, to);
}

static uint32_t flags_of(unsigned context, const struct thin_extent *extent)
{
	switch ((enum context)context) {
	case CONTEXT_ALLOCATION:
		return (extent->flags & THIN_EXTENT_HOLE ? NBD_STATE_HOLE : 0) |
		       (extent->flags & THIN_EXTENT_ZERO ? NBD_STATE_ZERO : 0);
	case CONTEXT_DEPTH:
		return extent->depth;
	case CONTEXT_SHARED:
		return extent->depth > 1 ? CONTEXT_STATE_SHARED : 0;
	case CONTEXT_COUNT: /* and all behind */
		break;
	}
	return extent->flags & THIN_EXTENT_CHANGED ? CONTEXT_STATE_DIRTY : 0;
}

size_t contexts_describe(unsigned context, const struct thin_extent *extents, size_t extent_count,
			 uint64_t offset, uint32_t len, bool one, struct nbd_status_desc *to)
{
	uint64_t skip = offset % THIN_BLOCK_SIZE, left = len;
	uint32_t run_flags = 0;
	uint64_t run_len = 0;
	size_t count = 0, i;

	for (i = 0; i < extent_count && left; i++) {
		uint32_t flags = flags_of(context, &extents[i]);
		uint64_t part = extents[i].len_bytes;
		uint64_t cut = part < skip ? part : skip;

		skip -= cut;
		part -= cut;
		if (part > left)
			part = left;
		if (!part)
			continue;
		left -= part;
		if (run_len && flags == run_flags) {
			run_len += part;
			continue;
		}
		if (run_len) {
			if (one)
				break;
			to[count++] = (struct nbd_status_desc){ be32_put((uint32_t)run_len),
								be32_put(run_flags) };
		}
		run_len = part;
		run_flags = flags;
	}
	if (run_len)
		to[count++] = (struct nbd_status_desc){ be32_put((uint32_t)run_len),
							be32_put(run_flags) };
	return count;
}
