/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What differs between two nodes of the lineage: both trees are walked in step, and where they name
 * the same block nothing below can differ.  So the cost follows the difference, whatever lies
 * between the two: snapshots of one volume, siblings, clones, what was before a rollback.
 *
 * A block differs when the two name different ones or only one has any, even if the bytes should be
 * the same.  Provisioned zeroes and holes read alike and do not differ.
 */
#include <errno.h>

#include "thin/io.h"
#include "thin/pool.h"

#define DIFF_AHEAD 8u /* leaves loaded ahead */

struct side {
	struct tree *tree;
	struct node *leaf; /* NULL: nothing there */
};

static struct ent leaf_entry(const struct side *s, struct vblk v)
{
	return s->leaf ? ent_get(&s->leaf->page->entry[v.n % FMT_NODE_ENTRIES]) : (struct ent){ 0 };
}

static bool differs(struct ent a, struct ent b)
{
	return (a.where & FMT_ENT_MAPPED || b.where & FMT_ENT_MAPPED) && !ent_same(a, b);
}

/* From rs->pos to the end of the leaf; false: the extents are full. */
static bool compare_leaves(struct req_state *rs, const struct side *a, const struct side *b)
{
	struct vblk v = { rs->pos / FMT_BLOCK };
	uint64_t end = (v.n | (FMT_NODE_ENTRIES - 1)) + 1;

	for (; v.n < end && v.n < rs->last.n; v.n++) {
		bool changed = differs(leaf_entry(a, v), leaf_entry(b, v));

		if (!io_add_extent(rs->req, FMT_BLOCK, changed ? THIN_EXTENT_CHANGED : 0, 0))
			return false;
		rs->pos += FMT_BLOCK;
	}
	return true;
}

/*
 * Descend to the leaves over rs->pos.  1: they are there, and differ; 0: what is shared or empty in
 * both has been passed over; -ENOBUFS: the extents are full; -EAGAIN, damage.
 */
static int descend(struct req_state *rs, struct side *a, struct side *b)
{
	struct thin_pool *pool = rs->pool;
	struct vblk v = { rs->pos / FMT_BLOCK };
	unsigned top = a->tree->height > b->tree->height ? a->tree->height : b->tree->height;
	struct ent ea = { 0 }, eb = { 0 };
	int r;

	for (unsigned level = top; level-- > 0;) {
		uint64_t end = (v.n | (map_span(level) - 1)) + 1;
		bool below;

		r = map_entry(pool, a->tree, v, level, &rs->task, &ea);
		if (!r)
			r = map_entry(pool, b->tree, v, level, &rs->task, &eb);
		if (r)
			return r;
		/* a lower tree has its root further down, in front of everything */
		below = (level >= a->tree->height && v.n < map_capacity(a->tree->height)) ||
			(level >= b->tree->height && v.n < map_capacity(b->tree->height));
		if (below || (!ent_same(ea, eb) && (ea.where || eb.where)))
			continue;
		if (end > rs->last.n)
			end = rs->last.n;
		if (!io_add_extent(rs->req, (end - v.n) * FMT_BLOCK, 0, 0))
			return -ENOBUFS;
		rs->pos = end * FMT_BLOCK;
		return 0;
	}
	a->leaf = b->leaf = NULL;
	r = ea.where ? node_get(pool, ea, 0, &rs->task, &a->leaf) : 0;
	if (!r && eb.where) {
		if (a->leaf)
			a->leaf->pins++;
		r = node_get(pool, eb, 0, &rs->task, &b->leaf);
		if (a->leaf)
			a->leaf->pins--;
	}
	return r ? r : 1;
}

/* It waits for a leaf: load those behind it too, where the two differ. */
static void prefetch(struct req_state *rs, struct side *a, struct side *b)
{
	struct vblk v = { rs->pos / FMT_BLOCK };
	struct ent ea, eb;

	for (unsigned i = 0; i < DIFF_AHEAD; i++) {
		v.n = (v.n | (FMT_NODE_ENTRIES - 1)) + 1;
		if (v.n >= rs->last.n || map_peek_entry(rs->pool, a->tree, v, &ea) ||
		    map_peek_entry(rs->pool, b->tree, v, &eb))
			break;
		if (ent_same(ea, eb))
			continue;
		map_prefetch(rs->pool, a->tree, v);
		map_prefetch(rs->pool, b->tree, v);
	}
}

/* Neither has a tree. */
static int nothing(struct req_state *rs)
{
	io_add_extent(rs->req, rs->last.n * FMT_BLOCK - rs->pos, 0, 0);
	rs->pos = rs->last.n * FMT_BLOCK;
	return 0;
}

void diff_step(struct thin_pool *pool, struct task *task)
{
	struct req_state *rs = TASK_OF(task, struct req_state, task);
	struct side a = { .tree = &rs->req->vol->volume->tree };
	struct side b = { .tree = &rs->req->base->volume->tree };
	int r = io_begin(rs);

	if (!r && !rs->stage) {
		rs->pos = rs->first.n * FMT_BLOCK;
		rs->req->extent_count = 0;
		rs->stage = 1;
	}
	while (!r && rs->pos / FMT_BLOCK < rs->last.n) {
		if (!pool_may_walk(pool, task))
			return;
		r = a.tree->height || b.tree->height ? descend(rs, &a, &b) : nothing(rs);
		if (r == 1)
			r = compare_leaves(rs, &a, &b) ? 0 : -ENOBUFS;
	}
	if (r == -EAGAIN) {
		if (rs->stage)
			prefetch(rs, &a, &b);
		return;
	}
	if (r == -ENOBUFS && rs->req->extent_count)
		r = 0; /* that much */
	io_finish(rs, r == -EUCLEAN ? -EIO : r);
}
