/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Block status, and loading the map ahead: what needs the map of a range and no data. */
#include <errno.h>

#include "thin/io.h"
#include "thin/pool.h"

#define STATUS_LEAVES_MAX 4097u /* leaves described by one status request: 4 GiB */
#define STATUS_AHEAD	  8u	/* leaves loaded ahead */
#define CACHE_LEAVES_MAX  64u

void cache_step(struct thin_pool *pool, struct task *task)
{
	struct req_state *rs = TASK_OF(task, struct req_state, task);
	int r = io_begin(rs);

	for (unsigned i = 0; !r && i < CACHE_LEAVES_MAX && rs->pos / FMT_BLOCK < rs->last.n; i++) {
		struct vblk v = { rs->pos / FMT_BLOCK }, next;
		struct node *leaf;

		next.n = (v.n | (FMT_NODE_ENTRIES - 1)) + 1;
		r = map_leaf(pool, &rs->req->vol->volume->tree, v, task, &leaf, &next);
		if (r == -EAGAIN)
			return;
		r = 0; /* advice: damage is found by those who read */
		rs->pos = next.n < rs->last.n ? next.n * FMT_BLOCK : rs->last.n * FMT_BLOCK;
	}
	if (r == -EAGAIN)
		return;
	io_finish(rs, r);
}

/* ---- status ---- */

static uint32_t entry_flags(struct ent e)
{
	if (e.where & FMT_ENT_MAPPED)
		return 0;
	if (e.where & FMT_ENT_RESERVED)
		return THIN_EXTENT_ZERO;
	return THIN_EXTENT_HOLE | THIN_EXTENT_ZERO;
}

/*
 * A block is the volume's own when its birth is behind the generation of the volume's parent; each
 * ancestor that is not older than the block is one layer more.  Provisioned zeroes belong to the
 * volume: nothing is shared that has no block.
 *
 * Generations fall from parent to parent.  So those of the ancestors are gathered as far as a birth
 * asks for, once in a turn, and looked up there: a step costs THIN_DEPTH_MAX ancestors at most,
 * however many blocks it describes and however long the chain is.
 */
struct ancestors {
	const struct volume *next; /* not gathered yet */
	uint32_t count;
	uint32_t generation[THIN_DEPTH_MAX - 1]; /* the parent's first */
};

static uint32_t depth_of(struct ancestors *a, struct ent e)
{
	uint32_t low = 0, high;

	if (!(e.where & FMT_ENT_MAPPED))
		return e.where & FMT_ENT_RESERVED ? 1 : 0;
	for (; a->next && a->count < THIN_DEPTH_MAX - 1 && a->next->generation >= e.birth;
	     a->next = a->next->parent)
		a->generation[a->count++] = a->next->generation;
	for (high = a->count; low < high;) { /* the first that is older than the block */
		uint32_t middle = low + (high - low) / 2;

		if (a->generation[middle] >= e.birth)
			low = middle + 1;
		else
			high = middle;
	}
	return 1 + low;
}

/* Describe up to the end of the leaf; false: the extents are full. */
static bool describe_leaf(struct req_state *rs, const struct node *leaf, struct ancestors *above)
{
	uint64_t end = (rs->pos / FMT_BLOCK | (FMT_NODE_ENTRIES - 1)) + 1;

	for (; rs->pos / FMT_BLOCK < end && rs->pos / FMT_BLOCK < rs->last.n;
	     rs->pos += FMT_BLOCK) {
		unsigned i = (unsigned)(rs->pos / FMT_BLOCK % FMT_NODE_ENTRIES);
		struct ent e = ent_get(&leaf->page->entry[i]);

		if (!io_add_extent(rs->req, FMT_BLOCK, entry_flags(e), depth_of(above, e)))
			return false;
	}
	return true;
}

/* It waits for a leaf: load those behind it too. */
static void status_prefetch(struct req_state *rs)
{
	struct vblk v = { rs->pos / FMT_BLOCK };

	for (unsigned i = 0; i < STATUS_AHEAD; i++) {
		v.n = (v.n | (FMT_NODE_ENTRIES - 1)) + 1;
		if (v.n >= rs->last.n)
			break;
		map_prefetch(rs->pool, &rs->req->vol->volume->tree, v);
	}
}

void status_step(struct thin_pool *pool, struct task *task)
{
	struct req_state *rs = TASK_OF(task, struct req_state, task);
	struct thin_req *req = rs->req;
	int r = io_begin(rs);
	struct ancestors above;

	if (!r && !rs->stage) {
		rs->pos = rs->first.n * FMT_BLOCK;
		req->extent_count = 0;
	}
	above.next = r ? NULL : req->vol->volume->parent;
	above.count = 0;
	while (!r && rs->pos / FMT_BLOCK < rs->last.n && rs->stage < STATUS_LEAVES_MAX) {
		struct vblk v = { rs->pos / FMT_BLOCK }, next;
		struct node *leaf;

		if (!pool_may_walk(pool, task))
			return;
		r = map_leaf(pool, &req->vol->volume->tree, v, task, &leaf, &next);
		if (r == -EAGAIN) {
			status_prefetch(rs);
			return;
		}
		rs->stage++;
		if (r == 0 && !describe_leaf(rs, leaf, &above))
			break;
		if (r == -ENOENT) {
			uint64_t end = next.n < rs->last.n ? next.n : rs->last.n;
			uint64_t len = end * FMT_BLOCK - rs->pos;

			r = 0;
			if (!io_add_extent(req, len, THIN_EXTENT_HOLE | THIN_EXTENT_ZERO, 0))
				break;
			rs->pos += len;
		}
	}
	if (r == -EAGAIN)
		return;
	io_finish(rs, r == -EUCLEAN ? -EIO : r);
}
