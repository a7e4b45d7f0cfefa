/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Walking a pool: see walk.h. */
#include "thin/walk.h"

#include <errno.h>

#include "thin/catalog.h"
#include "thin/pool.h"

struct walk {
	struct thin_pool *pool;
	const struct walk_ops *ops;
	struct volume *volume;
	enum walk_what leaf_what; /* what a leaf's entries name */
	uint64_t from, to;	  /* nothing else is told */
	uint32_t bound;		  /* nor what is not younger */
};

static int visit(const struct walk *w, enum walk_what what, uint64_t base, struct ent e,
		 uint32_t born_by)
{
	struct walk_item item = { what, w->volume, { base }, e, born_by };

	if (!(e.where & FMT_ENT_MAPPED))
		item.what = WALK_RESERVED;
	else if (!space_valid(&w->pool->space, ent_pblk(e)))
		return w->ops->damaged(w->ops->user, &item, -EUCLEAN);
	return w->ops->visit(w->ops->user, &item);
}

/* What is not younger than `bound` is a parent's; of what lies in front of `from` or behind `to`
 * nothing is told. */
static bool passes(const struct walk *w, struct ent e, uint64_t first, uint64_t span)
{
	if (e.where == 0 || first + span <= w->from || first >= w->to)
		return true;
	return e.where & (FMT_ENT_MAPPED | FMT_ENT_MEM) && node_birth(w->pool, e) <= w->bound;
}

static int walk_slot(const struct walk *w, const struct fmt_entry *slot, unsigned level,
		     uint64_t base, uint32_t born_by)
{
	uint64_t span = level ? map_span(level - 1) : 1;
	struct walk_item item = { WALK_NODE, w->volume, { base }, ent_get(slot), born_by };
	struct node *n;
	int r = node_get(w->pool, item.e, level, NULL, &n);

	if (r)
		return w->ops->damaged(w->ops->user, &item, r);
	n->pins++;
	/* a node that is walked in two parts is told in the part that has its end */
	if (!(item.e.where & FMT_ENT_MEM) && base + map_span(level) > w->from &&
	    (base + map_span(level) <= w->to || w->to == UINT64_MAX))
		r = visit(w, WALK_NODE, base, item.e, born_by);
	for (unsigned i = 0; !r && i < FMT_NODE_ENTRIES; i++) {
		const struct fmt_entry *e = &n->page->entry[i];
		uint64_t first = base + i * span;

		if (passes(w, ent_get(e), first, span))
			continue;
		if (level)
			r = walk_slot(w, e, level - 1, first, n->birth);
		else
			r = visit(w, w->leaf_what, first, ent_get(e), n->birth);
	}
	n->pins--;
	return r;
}

static int walk_tree(const struct walk *w, const struct tree *tree)
{
	if (tree->height == 0 || passes(w, ent_get(&tree->root), 0, map_capacity(tree->height)))
		return 0;
	return walk_slot(w, &tree->root, tree->height - 1, 0, w->pool->generation);
}

/* What is the volume's own: under a splice, with two bounds. */
static int walk_volume(struct walk *w)
{
	uint64_t cursor = lineage_cursor(w->volume);
	int r = 0;

	w->from = w->volume->splicing ? w->volume->cursor : 0;
	if (cursor) {
		w->bound = lineage_bound(w->volume, (struct vblk){ 0 });
		w->to = cursor;
		r = walk_tree(w, &w->volume->tree);
		w->from = cursor;
	}
	w->bound = lineage_bound(w->volume, (struct vblk){ cursor });
	w->to = UINT64_MAX;
	return r ? r : walk_tree(w, &w->volume->tree);
}

int walk_all(struct thin_pool *pool, const struct walk_ops *ops)
{
	struct walk w = { .pool = pool, .ops = ops, .leaf_what = WALK_RECORD, .to = UINT64_MAX };
	const struct reclaim_item *it;
	int r = walk_tree(&w, &pool->catalog.tree);

	w.leaf_what = WALK_DATA;
	for (w.volume = volume_after_id(&pool->catalog, 0); !r && w.volume;
	     w.volume = volume_after_id(&pool->catalog, w.volume->id))
		r = walk_volume(&w);
	w.volume = NULL;
	w.to = UINT64_MAX;
	STAILQ_FOREACH (it, &pool->reclaim.work, link) {
		if (r)
			break;
		w.from = it->cursor;
		w.bound = it->bound;
		r = walk_tree(&w, &it->tree);
	}
	return r;
}
