/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading ahead: see readahead.h. */
#include "thin/readahead.h"

#include <errno.h>

#include "thin/io.h"
#include "thin/pool.h"

#define CACHE_SHARE 16u		     /* of the cache for one window */
#define READS_MAX   (IO_DEV_IOS / 4) /* device reads in flight; the rest is for those who wait */

static bool missing(struct thin_pool *pool, const struct fmt_entry *e)
{
	struct ent ent = ent_get(e);

	return ent.where & FMT_ENT_MAPPED && !data_cache_find(&pool->data, ent_key(ent));
}

/* How many of `max` blocks from `e` on are missing and lie behind one another. */
static uint32_t run_of(struct thin_pool *pool, const struct fmt_entry *e, uint32_t max)
{
	uint32_t n = 1;

	while (n < max && missing(pool, &e[n]) &&
	       ent_pblk(ent_get(&e[n])).n == ent_pblk(ent_get(e)).n + n)
		n++;
	return n;
}

/* Bring what is missing of `count` blocks from ra->ahead on; false: no more now. */
static bool fill_leaf(struct thin_pool *pool, struct readahead *ra, const struct node *leaf,
		      uint32_t count)
{
	const struct fmt_entry *e = &leaf->page->entry[ra->ahead % FMT_NODE_ENTRIES];
	struct io_dev_read *dr;

	for (uint32_t i = 0; i < count;) {
		uint32_t n = 1;

		if (missing(pool, &e[i])) {
			if (pool->io.dev_read_count >= READS_MAX)
				return false;
			n = read_fill(pool, &e[i], run_of(pool, &e[i], count - i), &dr);
			if (!n)
				return false;
			pool->stat.readahead_bytes += (uint64_t)n * FMT_BLOCK;
		}
		i += n;
		ra->ahead += n;
	}
	return true;
}

static void fill_until(struct thin_pool *pool, struct readahead *ra, struct tree *tree,
		       uint64_t end)
{
	while (ra->ahead < end) {
		uint64_t leaf_end = (ra->ahead | (FMT_NODE_ENTRIES - 1)) + 1;
		uint64_t stop = leaf_end < end ? leaf_end : end;
		struct node *leaf;
		struct vblk next;
		int r = map_peek(pool, tree, (struct vblk){ ra->ahead }, &leaf, &next);

		if (r == -ENOENT)
			ra->ahead = next.n < end ? next.n : end;
		else if (r || !fill_leaf(pool, ra, leaf, (uint32_t)(stop - ra->ahead)))
			return;
	}
}

static void fill(struct thin_pool *pool, struct readahead *ra, struct tree *tree, uint64_t end)
{
	fill_until(pool, ra, tree, end);
	/* and the map a leaf further */
	for (uint64_t v = ra->ahead; v < end + FMT_NODE_ENTRIES; v += FMT_NODE_ENTRIES)
		map_prefetch(pool, tree, (struct vblk){ v });
}

static bool goes_on(const struct readahead *ra, struct vblk first)
{
	return first.n <= ra->next + READAHEAD_SLACK && ra->next <= first.n + READAHEAD_SLACK;
}

static uint64_t window_max(const struct thin_pool *pool)
{
	uint64_t share = pool->data.count / CACHE_SHARE;

	return share < READAHEAD_MAX ? share : READAHEAD_MAX;
}

void readahead_note(struct thin_pool *pool, struct readahead *ra, struct tree *tree,
		    struct vblk first, struct vblk last)
{
	uint64_t max = window_max(pool), want;

	if (!goes_on(ra, first)) {
		*ra = (struct readahead){ .next = last.n, .ahead = last.n, .streak = 1 };
		return;
	}
	ra->streak += ra->streak < READAHEAD_PROOF;
	if (last.n > ra->next)
		ra->next = last.n;
	if (ra->ahead < ra->next)
		ra->ahead = ra->next;
	if (ra->streak < READAHEAD_PROOF || max < READAHEAD_MIN ||
	    ra->ahead - ra->next > ra->window / 2)
		return;
	want = 2 * (last.n - first.n);
	want = want < READAHEAD_MIN ? READAHEAD_MIN : want;
	want = want < 2ull * ra->window ? 2ull * ra->window : want;
	ra->window = (uint32_t)(want < max ? want : max);
	fill(pool, ra, tree, ra->next + ra->window);
}
