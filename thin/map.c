/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The map: see map.h.  Thread: the pool's. */
#include "thin/map.h"

#include <errno.h>
#include <string.h>

#include "thin/catalog.h"
#include "thin/lineage.h"
#include "thin/pool.h"
#include "thin/reclaim.h"

static struct fmt_entry mem_entry(const struct node *n)
{
	return ent_put((struct ent){ FMT_ENT_MEM | FMT_ENT_MAPPED | n->index, n->birth, 0 });
}

static bool entry_empty(const struct fmt_entry *e)
{
	return le64_get(e->where) == 0;
}

static bool node_empty(const struct node *n)
{
	for (unsigned i = 0; i < FMT_NODE_ENTRIES; i++)
		if (!entry_empty(&n->page->entry[i]))
			return false;
	return true;
}

/* ---- looking ---- */

int map_leaf(struct thin_pool *pool, struct tree *tree, struct vblk v, struct task *task,
	     struct node **ret_leaf, struct vblk *ret_next)
{
	const struct fmt_entry *slot = &tree->root;

	if (v.n >= map_capacity(tree->height)) {
		ret_next->n = UINT64_MAX;
		return -ENOENT;
	}
	for (unsigned level = tree->height; level-- > 0;) {
		struct node *n;
		int r;

		if (entry_empty(slot)) {
			ret_next->n = (v.n | (map_span(level) - 1)) + 1;
			return -ENOENT;
		}
		r = node_get(pool, ent_get(slot), level, task, &n);
		if (r)
			return r;
		n->sticky = tree->sticky;
		if (level == 0) {
			*ret_leaf = n;
			return 0;
		}
		slot = &n->page->entry[map_index(v, level)];
	}
	ret_next->n = UINT64_MAX; /* height 0 */
	return -ENOENT;
}

int map_entry(struct thin_pool *pool, struct tree *tree, struct vblk v, unsigned level,
	      struct task *task, struct ent *ret_e)
{
	*ret_e = (struct ent){ 0 };
	if (level >= tree->height || v.n >= map_capacity(tree->height))
		return 0;
	*ret_e = ent_get(&tree->root);
	for (unsigned l = tree->height - 1; l > level && ret_e->where; l--) {
		struct node *n;
		int r = node_get(pool, *ret_e, l, task, &n);

		if (r)
			return r;
		*ret_e = ent_get(&n->page->entry[map_index(v, l)]);
	}
	return 0;
}

int map_peek_entry(struct thin_pool *pool, struct tree *tree, struct vblk v, struct ent *ret_e)
{
	*ret_e = (struct ent){ 0 };
	if (v.n >= map_capacity(tree->height))
		return 0;
	*ret_e = ent_get(&tree->root);
	for (unsigned l = tree->height - 1; l > 0 && ret_e->where; l--) {
		struct node *n = node_peek(pool, *ret_e);

		if (!n)
			return -EAGAIN;
		*ret_e = ent_get(&n->page->entry[map_index(v, l)]);
	}
	return 0;
}

void map_prefetch(struct thin_pool *pool, struct tree *tree, struct vblk v)
{
	const struct fmt_entry *slot = &tree->root;

	if (v.n >= map_capacity(tree->height))
		return;
	for (unsigned level = tree->height; level-- > 0;) {
		struct node *n;

		if (entry_empty(slot))
			return;
		n = node_peek(pool, ent_get(slot));
		if (!n) {
			node_prefetch(pool, ent_get(slot), level);
			return;
		}
		slot = &n->page->entry[map_index(v, level)];
	}
	__builtin_prefetch(slot, 1);
}

int map_peek(struct thin_pool *pool, struct tree *tree, struct vblk v, struct node **ret_leaf,
	     struct vblk *ret_next)
{
	const struct fmt_entry *slot = &tree->root;
	struct node *n = NULL;

	ret_next->n = UINT64_MAX;
	if (v.n >= map_capacity(tree->height))
		return -ENOENT;
	for (unsigned level = tree->height; level-- > 0;) {
		struct ent e = ent_get(slot);

		if (entry_empty(slot)) {
			ret_next->n = (v.n | (map_span(level) - 1)) + 1;
			return -ENOENT;
		}
		n = node_peek(pool, e);
		if (!n) {
			node_prefetch(pool, e, level);
			return -EAGAIN;
		}
		/* one block named by two entries that disagree: for those who read to find */
		if (!(e.where & FMT_ENT_MEM) &&
		    (n->birth != e.birth || n->crc != e.crc || n->level != level))
			return -EAGAIN;
		n->used = true;
		slot = &n->page->entry[map_index(v, level)];
	}
	*ret_leaf = n;
	return n ? 0 : -ENOENT;
}

/* ---- dirtying ---- */

static uint32_t bound_of(const struct tree *tree, struct vblk v)
{
	return tree->volume ? lineage_bound(tree->volume, v) : 0;
}

/* Make the node behind `slot` over `v` DIRTY: new, as it is, or a copy whose original dies, unless
 * it is a snapshot's. */
static int dirty_slot(struct thin_pool *pool, struct tree *tree, struct fmt_entry *slot,
		      struct vblk v, unsigned level, struct task *task, struct node **ret_node)
{
	struct ent e = ent_get(slot);
	struct node *old = NULL, *n;
	bool own = true;
	int r;

	if (!entry_empty(slot)) {
		r = node_get(pool, e, level, task, &old);
		if (r)
			return r;
		own = old->birth > bound_of(tree, v);
		if (own && old->state == NODE_DIRTY) {
			old->birth = pool->generation;
			*ret_node = old;
			return 0;
		}
		old->pins++;
	}
	n = node_new(pool, level);
	if (old)
		old->pins--;
	if (!n)
		return pool_stall_or_fail(pool, task);
	n->sticky = tree->sticky;
	if (old) {
		memcpy(n->page, old->page, sizeof(*n->page));
	}
	if (old && own) {
		pool_free_metadata(pool, old->at);
		node_drop(pool, old);
	}
	*slot = mem_entry(n);
	*ret_node = n;
	return 0;
}

/* Put new roots on top until the tree can hold `v`. */
static int grow(struct thin_pool *pool, struct tree *tree, struct vblk v, struct task *task)
{
	while (v.n >= map_capacity(tree->height)) {
		struct node *n;

		assert(tree->height < FMT_HEIGHT_MAX);
		if (entry_empty(&tree->root)) {
			tree->height++;
			continue;
		}
		n = node_new(pool, tree->height);
		if (!n)
			return pool_stall_or_fail(pool, task);
		n->sticky = tree->sticky;
		n->page->entry[0] = tree->root;
		tree->root = mem_entry(n);
		tree->height++;
	}
	return 0;
}

int map_dirty_leaf(struct thin_pool *pool, struct tree *tree, struct vblk v, struct task *task,
		   struct node **ret_leaf)
{
	struct fmt_entry *slot = &tree->root;
	struct node *n = NULL;
	int r = grow(pool, tree, v, task);

	if (r)
		return r;
	if (tree->volume)
		volume_touch(pool, tree->volume);
	for (unsigned level = tree->height; level-- > 0;) {
		r = dirty_slot(pool, tree, slot, v, level, task, &n);
		if (r)
			return r;
		if (level)
			slot = &n->page->entry[map_index(v, level)];
	}
	*ret_leaf = n;
	return 0;
}

/* ---- unmapping ---- */

void map_clear_entry(struct thin_pool *pool, struct volume *vol, struct vblk v, struct fmt_entry *e,
		     uint64_t log_seq)
{
	struct ent ent = ent_get(e);

	if (ent.where & FMT_ENT_MAPPED)
		lineage_drop_block(pool, vol, v, ent, log_seq);
	if (ent.where & FMT_ENT_RESERVED)
		volume_count(pool, vol, 0, 0, -1);
	*e = (struct fmt_entry){ 0 };
}

/* The part of [from, to) that lies under child `i` of a node whose first block is `base`. */
struct cover {
	uint64_t base; /* first block under the child */
	bool any, whole;
};

static struct cover cover_of(uint64_t base, unsigned level, unsigned i, struct vblk from,
			     struct vblk to)
{
	uint64_t span = level ? map_span(level - 1) : 1;
	uint64_t first = base + i * span;

	return (struct cover){ first, from.n < first + span && first < to.n,
			       from.n <= first && first + span <= to.n };
}

static int probe_slot(struct thin_pool *pool, const struct fmt_entry *slot, unsigned level,
		      uint64_t base, struct vblk from, struct vblk to, struct task *task)
{
	struct node *n;
	int found = 0, r;

	r = node_get(pool, ent_get(slot), level, task, &n);
	if (r)
		return r;
	n->pins++;
	for (unsigned i = 0; i < FMT_NODE_ENTRIES; i++) {
		struct cover c = cover_of(base, level, i, from, to);

		if (!c.any || entry_empty(&n->page->entry[i]))
			continue;
		r = 1;
		if (!c.whole)
			r = probe_slot(pool, &n->page->entry[i], level - 1, c.base, from, to, task);
		if (r < 0) {
			n->pins--;
			return r;
		}
		found |= r;
	}
	n->pins--;
	return found;
}

static int probe_part(struct thin_pool *pool, struct tree *tree, struct vblk from, struct vblk to,
		      struct task *task)
{
	if (from.n >= to.n || from.n >= map_capacity(tree->height) || entry_empty(&tree->root))
		return 0;
	if (from.n == 0 && to.n >= map_capacity(tree->height))
		return 1;
	return probe_slot(pool, &tree->root, tree->height - 1, 0, from, to, task);
}

/* Where a range of the volume has to be parted; `from`: nowhere. */
static struct vblk part_at(const struct tree *tree, struct vblk from, struct vblk to)
{
	struct vblk cursor = { lineage_cursor(tree->volume) };

	return from.n < cursor.n && cursor.n < to.n ? cursor : from;
}

int map_unmap_probe(struct thin_pool *pool, struct tree *tree, struct vblk from, struct vblk to,
		    struct task *task)
{
	struct vblk at = part_at(tree, from, to);
	int r = at.n > from.n ? probe_part(pool, tree, from, at, task) : 0, r2;

	if (r < 0)
		return r;
	r2 = probe_part(pool, tree, at, to, task);
	return r2 < 0 ? r2 : r | r2;
}

static void cut_off(struct thin_pool *pool, struct tree *tree, struct fmt_entry root,
		    uint32_t height, struct vblk v)
{
	lineage_cut(pool, tree->volume);
	reclaim_add(pool, &(struct reclaim_tree){ .root = root,
						  .height = height,
						  .bound = bound_of(tree, v),
						  .owner = tree->volume });
}

/* Move the children of `n` that are covered whole under a new node and hand that to reclaim. */
static int cut_whole(struct thin_pool *pool, struct tree *tree, struct node *n, uint64_t base,
		     struct vblk from, struct vblk to)
{
	struct node *cut = NULL;

	for (unsigned i = 0; i < FMT_NODE_ENTRIES; i++) {
		struct fmt_entry *e = &n->page->entry[i];

		if (entry_empty(e) || !cover_of(base, n->level, i, from, to).whole)
			continue;
		if (!cut) {
			cut = node_new(pool, n->level);
			if (!cut)
				return -ENOBUFS;
		}
		cut->page->entry[i] = *e;
		*e = (struct fmt_entry){ 0 };
	}
	if (cut)
		cut_off(pool, tree, mem_entry(cut), n->level + 1u, from);
	return 0;
}

/* `slot` is covered in part and not empty. */
static int unmap_slot(struct thin_pool *pool, struct tree *tree, struct fmt_entry *slot,
		      unsigned level, uint64_t base, struct vblk from, struct vblk to,
		      uint64_t log_seq)
{
	struct node *n;
	struct vblk v = { base > from.n ? base : from.n };
	int r = dirty_slot(pool, tree, slot, v, level, NULL, &n);

	if (r)
		return r;
	if (level) {
		r = cut_whole(pool, tree, n, base, from, to);
		if (r)
			return r;
	}
	for (unsigned i = 0; i < FMT_NODE_ENTRIES; i++) {
		struct cover c = cover_of(base, level, i, from, to);
		struct fmt_entry *e = &n->page->entry[i];

		if (!c.any || entry_empty(e))
			continue;
		if (level == 0)
			map_clear_entry(pool, tree->volume, (struct vblk){ base + i }, e, log_seq);
		else
			r = unmap_slot(pool, tree, e, level - 1, c.base, from, to, log_seq);
		if (r)
			return r;
	}
	if (node_empty(n)) {
		node_drop(pool, n);
		*slot = (struct fmt_entry){ 0 };
	}
	return 0;
}

static int unmap_part(struct thin_pool *pool, struct tree *tree, struct vblk from, struct vblk to,
		      uint64_t log_seq)
{
	if (from.n >= to.n || from.n >= map_capacity(tree->height) || entry_empty(&tree->root))
		return 0;
	volume_touch(pool, tree->volume);
	if (from.n == 0 && to.n >= map_capacity(tree->height)) {
		cut_off(pool, tree, tree->root, tree->height, from);
		tree->root = (struct fmt_entry){ 0 };
		tree->height = 0;
		return 0;
	}
	return unmap_slot(pool, tree, &tree->root, tree->height - 1, 0, from, to, log_seq);
}

int map_unmap(struct thin_pool *pool, struct tree *tree, struct vblk from, struct vblk to,
	      uint64_t log_seq)
{
	struct vblk at = part_at(tree, from, to);
	int r = at.n > from.n ? unmap_part(pool, tree, from, at, log_seq) : 0;

	return r ? r : unmap_part(pool, tree, at, to, log_seq);
}
