/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The walk in step: see lineage.h for what it is for.
 *
 * One step descends from the root of the snapshot along the cursor.  At each node it looks at the
 * entry of the child's tree for the same place.  It ends at a node that is shared with the child
 * or is the parent's: passed over, with all below; at a leaf that the snapshot has alone: its
 * blocks are compared one by one; at a node with nothing left.  The cursor then stands behind what
 * was passed.  Every node that is loaded is one that the snapshot has alone, or the child's node in
 * the same place, so the cost follows what is freed.
 */
#include "thin/splice.h"

#include <errno.h>

#include "thin/pool.h"

struct walk {
	struct thin_pool *pool;
	struct volume *snap;
	struct tree *child;
	uint32_t bound; /* what is not younger belongs to the parent */
	uint64_t *cursor;
	bool free; /* else only count */
	struct fmt_entry *slot[FMT_HEIGHT_MAX];
	struct node *node[FMT_HEIGHT_MAX];
};

static void give_back_node(struct walk *w, unsigned level)
{
	struct node *n = w->node[level];

	if (!w->free)
		return;
	if (n->state == NODE_DIRTY)
		*w->slot[level] = (struct fmt_entry){ 0 };
	else
		pool_free_metadata(w->pool, n->at);
	node_drop(w->pool, n);
}

/* The cursor moves behind the span of `level` that it stands in; nodes above that end there go. */
static void passed(struct walk *w, unsigned level)
{
	uint64_t end = (*w->cursor | (map_span(level) - 1)) + 1;

	*w->cursor = end;
	for (level++; level < w->snap->tree.height && end % map_span(level) == 0; level++)
		give_back_node(w, level);
}

static void exclusive_block(struct walk *w, struct ent e)
{
	struct thin_pool *pool = w->pool;
	struct volume *snap = w->snap;

	if (!w->free) {
		pool->lineage.counted++;
		return;
	}
	pace_spend(pool, 1);
	data_cache_drop(&pool->data, ent_pblk(e).n);
	space_free_at_checkpoint(&pool->space, ent_pblk(e), pool->checkpoint + 1);
	snap->freed_blocks++;
	pool->stat.reclaimed_blocks++;
	if (snap->reclaiming_blocks) {
		snap->reclaiming_blocks--;
		pool->reclaim_blocks--;
	}
}

/* `peer`: the child's leaf in the same place, or NULL. */
static void leaf(struct walk *w, const struct node *n, const struct node *peer)
{
	for (unsigned i = 0; i < FMT_NODE_ENTRIES; i++) {
		struct ent e = ent_get(&n->page->entry[i]);

		if (e.where & FMT_ENT_MAPPED && e.birth > w->bound &&
		    !(peer && ent_same(e, ent_get(&peer->page->entry[i]))))
			exclusive_block(w, e);
	}
}

/* The first entry at or behind `i` worth going down. */
static unsigned next_entry(struct walk *w, const struct node *n, const struct node *peer,
			   unsigned i)
{
	for (; i < FMT_NODE_ENTRIES; i++) {
		struct ent e = ent_get(&n->page->entry[i]);

		if (e.where && node_birth(w->pool, e) > w->bound &&
		    !(peer && ent_same(e, ent_get(&peer->page->entry[i]))))
			break;
	}
	return i;
}

/* The node at `level` that `slot` names.  1: go on below; 0: the step is over; else waits. */
static int enter(struct walk *w, struct fmt_entry *slot, unsigned level)
{
	struct thin_pool *pool = w->pool;
	struct ent e = ent_get(slot), pe;
	struct node *n, *peer = NULL;
	uint64_t v = *w->cursor, end = (v | (map_span(level) - 1)) + 1;
	unsigned i;
	int r = map_entry(pool, w->child, (struct vblk){ v }, level, &pool->lineage.task, &pe);

	if (r == 0 && (!e.where || node_birth(pool, e) <= w->bound || ent_same(e, pe))) {
		passed(w, level);
		return 0;
	}
	if (r == 0)
		r = node_get(pool, e, level, &pool->lineage.task, &n);
	if (r == 0 && pe.where) {
		n->pins++;
		r = node_get(pool, pe, level, &pool->lineage.task, &peer);
		n->pins--;
	}
	if (r == -EAGAIN)
		return r;
	if (r) { /* what is shared cannot be told: it stays allocated, which verify reports */
		pool_damage(pool, "snapshot \"%s\": blocks under a damaged map node are lost",
			    w->snap->name);
		passed(w, level);
		return 0;
	}
	w->slot[level] = slot;
	w->node[level] = n;
	if (level == 0) {
		leaf(w, n, peer);
		give_back_node(w, 0);
		passed(w, 0);
		return 0;
	}
	i = next_entry(w, n, peer, map_index((struct vblk){ v }, level));
	if (i == FMT_NODE_ENTRIES) {
		give_back_node(w, level);
		passed(w, level);
		return 0;
	}
	if (i != map_index((struct vblk){ v }, level))
		*w->cursor = end - map_span(level) + i * map_span(level - 1);
	return 1;
}

static int walk_step(struct walk *w)
{
	struct tree *tree = &w->snap->tree;
	struct fmt_entry *slot = &tree->root;

	if (le64_get(tree->root.where) == 0 || *w->cursor >= map_capacity(tree->height))
		return 1;
	for (unsigned level = tree->height; level-- > 0;) {
		int r = enter(w, slot, level);

		if (r < 0)
			return r;
		if (r == 0)
			break;
		slot = &w->node[level]->page->entry[map_index((struct vblk){ *w->cursor }, level)];
	}
	return *w->cursor >= map_capacity(tree->height);
}

static struct walk walk_of(struct thin_pool *pool, struct volume *snap)
{
	return (struct walk){ .pool = pool,
			      .snap = snap,
			      .child = &TAILQ_FIRST(&snap->children)->tree,
			      .bound = snap->parent ? snap->parent->generation : 0 };
}

int splice_step(struct thin_pool *pool)
{
	struct volume *snap = pool->lineage.splice;
	struct walk w = walk_of(pool, snap);

	w.cursor = &snap->cursor;
	w.free = true;
	volume_touch(pool, snap);
	return walk_step(&w);
}

int splice_count_step(struct thin_pool *pool)
{
	struct walk w = walk_of(pool, pool->lineage.count);

	w.cursor = &pool->lineage.count_cursor;
	return walk_step(&w);
}
