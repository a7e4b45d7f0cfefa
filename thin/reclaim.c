/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reclaim; the model is in reclaim.h.
 *
 * One step descends from the root along the cursor.  At each level it skips to the first entry at
 * or behind the cursor that is not empty.  It ends in one of three ways: at a leaf, which is given
 * back; at a node with nothing left, which is given back; or waiting for a node to load.  The
 * cursor then stands behind what was given back.  A node is given back once because the cursor
 * never returns to its span.
 */
#include "thin/reclaim.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "thin/catalog.h"
#include "thin/pool.h"

#define STEPS_PER_RUN 16u /* nodes given back in one turn of the loop */
#define RUNS_TINY     3u  /* in a pool for tests one, and only in one of so many runs */

static void reclaim_step(struct thin_pool *pool, struct task *task);

void reclaim_init(struct thin_pool *pool)
{
	struct reclaim *rc = &pool->reclaim;

	STAILQ_INIT(&rc->work);
	STAILQ_INIT(&rc->unused);
	for (unsigned i = 0; i < RECLAIM_ITEMS_MAX; i++)
		STAILQ_INSERT_TAIL(&rc->unused, &rc->item[i], link);
	rc->task.step = reclaim_step;
}

uint32_t reclaim_room(const struct thin_pool *pool)
{
	return RECLAIM_ITEMS_MAX - pool->reclaim.replay_count;
}

bool reclaim_pending(const struct thin_pool *pool)
{
	return !STAILQ_EMPTY(&pool->reclaim.work);
}

static struct reclaim_item *item_add(struct reclaim *rc)
{
	struct reclaim_item *it = STAILQ_FIRST(&rc->unused);

	assert(it);
	STAILQ_REMOVE_HEAD(&rc->unused, link);
	memset(it, 0, sizeof(*it));
	STAILQ_INSERT_TAIL(&rc->work, it, link);
	rc->count++;
	rc->replay_count++;
	rc->cut_count++;
	rc->changed = true;
	return it;
}

static struct volume *owner_of(struct thin_pool *pool, const struct reclaim_item *it)
{
	return it->owner_id ? volume_by_id(&pool->catalog, it->owner_id) : NULL;
}

/* Count what was passed off the references of `owner` and all that is built on it. */
static void count_off(struct thin_pool *pool, struct volume *owner, const struct reclaim_item *it)
{
	for (struct volume *vol = owner; vol; vol = lineage_below(owner, vol)) {
		volume_count(pool, vol, -(int64_t)it->mapped, 0, -(int64_t)it->reserved);
		volume_touch(pool, vol);
	}
}

static void settle(struct thin_pool *pool, struct reclaim_item *it)
{
	struct volume *owner = owner_of(pool, it);

	if (owner && (it->mapped || it->reserved))
		count_off(pool, owner, it);
	it->mapped = it->reserved = 0;
}

static void item_done(struct thin_pool *pool)
{
	struct reclaim *rc = &pool->reclaim;
	struct reclaim_item *it = STAILQ_FIRST(&rc->work);
	struct volume *owner = owner_of(pool, it);

	settle(pool, it);
	if (owner) {
		owner->cut_count--;
		pool->lineage.changed = true; /* its parent may be waiting to go */
	}
	pool->reclaim_blocks -= it->left;
	STAILQ_REMOVE_HEAD(&rc->work, link);
	STAILQ_INSERT_TAIL(&rc->unused, it, link);
	rc->count--;
	rc->changed = true;
	pool_wake_stalled(pool);
}

void reclaim_add(struct thin_pool *pool, const struct reclaim_tree *tree)
{
	struct reclaim_item *it;

	if (le64_get(tree->root.where) == 0) {
		pool->reclaim_blocks -= tree->left;
		return;
	}
	it = item_add(&pool->reclaim);
	it->tree.root = tree->root;
	it->tree.height = tree->height;
	it->bound = tree->bound;
	if (tree->owner) {
		it->owner_id = tree->owner->id;
		tree->owner->cut_count++;
	}
	it->left = tree->left;
}

void reclaim_new_owner(struct thin_pool *pool, uint64_t from, uint64_t to)
{
	struct volume *had = volume_by_id(&pool->catalog, from);
	struct volume *has = to ? volume_by_id(&pool->catalog, to) : NULL;
	struct reclaim_item *it;

	if (!had->cut_count)
		return;
	if (has)
		has->cut_count += had->cut_count;
	had->cut_count = 0;
	pool->reclaim.changed = true;
	STAILQ_FOREACH (it, &pool->reclaim.work, link)
		if (it->owner_id == from)
			it->owner_id = to;
}

void reclaim_loaded(struct thin_pool *pool)
{
	struct reclaim_item *it;

	STAILQ_FOREACH (it, &pool->reclaim.work, link) {
		struct volume *owner = owner_of(pool, it);

		if (owner)
			owner->cut_count++;
	}
}

/* ---- one step ---- */

struct path {
	struct fmt_entry *slot[FMT_HEIGHT_MAX]; /* the entry that names the node of this level */
	struct node *node[FMT_HEIGHT_MAX];
};

static void give_back_block(struct thin_pool *pool, struct reclaim_item *it, struct volume *owner,
			    struct ent e)
{
	it->reserved += !!(e.where & FMT_ENT_RESERVED);
	if (!(e.where & FMT_ENT_MAPPED))
		return;
	it->mapped++;
	if (e.birth <= it->bound)
		return;
	pace_spend(pool, 1);
	data_cache_drop(&pool->data, ent_pblk(e).n);
	space_free_at_checkpoint(&pool->space, ent_pblk(e), pool->checkpoint + 1);
	pool->stat.reclaimed_blocks++;
	if (owner) {
		lineage_count_freed(pool, owner, e);
	} else if (it->left) {
		it->left--;
		pool->reclaim_blocks--;
	}
}

/* A DIRTY node is only in memory, and its parent's entry must not name it any more. */
static void give_back_node(struct thin_pool *pool, struct fmt_entry *slot, struct node *n)
{
	if (n->state == NODE_DIRTY)
		*slot = (struct fmt_entry){ 0 };
	else
		pool_free_metadata(pool, n->at);
	node_drop(pool, n);
}

static void give_back_leaf(struct thin_pool *pool, struct reclaim_item *it, struct fmt_entry *slot,
			   struct node *leaf)
{
	struct volume *owner = owner_of(pool, it);

	for (unsigned i = 0; i < FMT_NODE_ENTRIES; i++)
		give_back_block(pool, it, owner, ent_get(&leaf->page->entry[i]));
	if (owner)
		volume_touch(pool, owner);
	if (!owner || !owner->child_count)
		settle(pool, it);
	if (leaf->birth > it->bound)
		give_back_node(pool, slot, leaf);
}

/* First index at or behind `i` worth going down: what is shared only while somebody counts it. */
static unsigned next_entry(struct thin_pool *pool, const struct reclaim_item *it,
			   const struct node *n, unsigned i)
{
	for (; i < FMT_NODE_ENTRIES; i++) {
		struct ent e = ent_get(&n->page->entry[i]);

		if (e.where && (it->owner_id || node_birth(pool, e) > it->bound))
			break;
	}
	return i;
}

/* The cursor has moved to `end`, behind the node of `level`: give back those above that end there.
 */
static void passed(struct thin_pool *pool, struct reclaim_item *it, const struct path *path,
		   unsigned level, uint64_t end)
{
	it->cursor = end;
	for (level++; level < it->tree.height && end % map_span(level) == 0; level++)
		if (path->node[level]->birth > it->bound)
			give_back_node(pool, path->slot[level], path->node[level]);
}

/* Returns false when it has to wait. */
static bool advance(struct thin_pool *pool, struct reclaim_item *it)
{
	struct fmt_entry *slot = &it->tree.root;
	struct path path;

	for (unsigned level = it->tree.height; level-- > 0;) {
		uint64_t end = (it->cursor | (map_span(level) - 1)) + 1;
		struct node *n;
		unsigned i;
		int r;

		if (!it->owner_id && node_birth(pool, ent_get(slot)) <= it->bound) {
			passed(pool, it, &path, level, end);
			return true;
		}
		r = node_get(pool, ent_get(slot), level, &pool->reclaim.task, &n);
		if (r == -EAGAIN)
			return false;
		if (r) { /* stays allocated, which verify reports */
			pool_damage(pool, "reclaim: blocks under a damaged map node are lost");
			passed(pool, it, &path, level, end);
			return true;
		}
		path.slot[level] = slot;
		path.node[level] = n;
		i = next_entry(pool, it, n, map_index((struct vblk){ it->cursor }, level));
		if (level == 0 || i == FMT_NODE_ENTRIES) {
			if (level == 0)
				give_back_leaf(pool, it, slot, n);
			else if (n->birth > it->bound)
				give_back_node(pool, slot, n);
			passed(pool, it, &path, level, end);
			return true;
		}
		if (i != map_index((struct vblk){ it->cursor }, level))
			it->cursor = end - map_span(level) + i * map_span(level - 1);
		slot = &n->page->entry[i];
	}
	assert(!"a tree of height 0 is never handed over");
	return false;
}

/* The next cut writes the owner's record, and that of a parent that is being spliced: a block each
 * and the one above it.  Nobody admitted them, but where nothing else is dirty the reserve for the
 * catalog has them. */
static bool room_for_owner(struct thin_pool *pool, const struct reclaim_item *it)
{
	struct catalog *c = &pool->catalog;
	const struct volume *owner = it->owner_id ? volume_by_id(c, it->owner_id) : NULL;

	const struct volume *parent =
		owner && owner->parent && owner->parent->splicing ? owner->parent : NULL;

	return !owner || c->dirty_count == 0 || pool_spare_blocks(pool) >= 4 ||
	       (c->slot[owner->slot].dirty && (!parent || c->slot[parent->slot].dirty));
}

static bool room(struct thin_pool *pool, const struct reclaim_item *it)
{
	if (pool_background_room(pool) && room_for_owner(pool, it))
		return true;
	pool_need_checkpoint(pool);
	pool_stall(pool, &pool->reclaim.task);
	return false;
}

/* The pool is being closed, and nobody waits for space any more. */
static bool may_leave_it(const struct thin_pool *pool)
{
	return pool->closing && pool->io.requests == 0;
}

static void reclaim_step(struct thin_pool *pool, struct task *task)
{
	struct reclaim *rc = &pool->reclaim;

	rc->waiting = false;
	for (unsigned i = 0; i < (pool->tiny ? 1 : STEPS_PER_RUN) && reclaim_pending(pool) &&
			     !may_leave_it(pool) && pace_allows(pool);
	     i++) {
		struct reclaim_item *it = STAILQ_FIRST(&rc->work);

		if (!room(pool, it)) {
			rc->waiting = true;
			return;
		}
		rc->changed = true;
		pace_spend(pool, PACE_STEP_COST);
		if (!advance(pool, it)) {
			rc->waiting = true;
			return;
		}
		if (it->cursor >= map_capacity(it->tree.height))
			item_done(pool);
	}
}

bool reclaim_runs(const struct thin_pool *pool)
{
	return !pool->reclaim.waiting && reclaim_pending(pool) && !pool->read_only &&
	       !may_leave_it(pool);
}

void reclaim_run(struct thin_pool *pool)
{
	if (pool->tiny && pool->reclaim.runs++ % RUNS_TINY)
		return;
	if (reclaim_runs(pool) && pace_allows(pool))
		reclaim_step(pool, &pool->reclaim.task);
}

/* ---- records ---- */

uint64_t reclaim_records(const struct thin_pool *pool)
{
	return (pool->reclaim.count + FMT_WORK_PER_REC - 1) / FMT_WORK_PER_REC;
}

void reclaim_cut(struct thin_pool *pool)
{
	struct catalog *c = &pool->catalog;
	uint64_t need = reclaim_records(pool);

	pool->reclaim.cut_count = pool->reclaim.count;
	if (!pool->reclaim.changed)
		return;
	while (pool->reclaim.slot_count > need)
		catalog_free_slot(c, pool->reclaim.slot[--pool->reclaim.slot_count]);
	while (pool->reclaim.slot_count < need) {
		uint64_t slot;
		int r = catalog_take_slot(c, FMT_REC_WORK, &slot);

		assert(r == 0); /* catalog_reserve_slots() */
		c->slot[slot].index = pool->reclaim.slot_count;
		pool->reclaim.slot[pool->reclaim.slot_count++] = slot;
	}
	for (uint64_t i = 0; i < need; i++)
		catalog_touch(c, pool->reclaim.slot[i]);
	pool->reclaim.changed = false;
}

void reclaim_checkpointed(struct thin_pool *pool)
{
	pool->reclaim.replay_count = pool->reclaim.cut_count;
}

void reclaim_encode(struct thin_pool *pool, uint64_t index, struct fmt_rec_work *rec)
{
	struct reclaim_item *it;
	uint64_t at = 0, first = index * FMT_WORK_PER_REC;
	uint32_t count = 0;

	STAILQ_FOREACH (it, &pool->reclaim.work, link) {
		if (at++ < first)
			continue;
		if (count == FMT_WORK_PER_REC)
			break;
		rec->item[count++] = (struct fmt_work){ .root = it->tree.root,
							.height = le32_put(it->tree.height),
							.bound = le32_put(it->bound),
							.cursor = le64_put(it->cursor),
							.owner = le64_put(it->owner_id),
							.left = le64_put(it->left),
							.mapped = le64_put(it->mapped),
							.reserved_zeroes = le64_put(it->reserved) };
	}
	rec->count = le32_put(count);
}

int reclaim_decode(struct thin_pool *pool, uint64_t slot, const struct fmt_rec_work *rec,
		   struct err *err)
{
	struct catalog *c = &pool->catalog;
	uint32_t count = le32_get(rec->count);

	if (count > FMT_WORK_PER_REC || count > reclaim_room(pool) ||
	    pool->reclaim.slot_count >= RECLAIM_RECORDS_MAX)
		return err_set(err, -EUCLEAN, "catalog: work record %" PRIu64 " makes no sense",
			       slot);
	c->slot[slot].index = pool->reclaim.slot_count;
	pool->reclaim.slot[pool->reclaim.slot_count++] = slot;
	for (uint32_t i = 0; i < count; i++) {
		const struct fmt_work *w = &rec->item[i];
		uint32_t height = le32_get(w->height);
		struct reclaim_item *it;

		if (height == 0 || height > FMT_HEIGHT_MAX ||
		    le64_get(w->cursor) % FMT_NODE_ENTRIES ||
		    le64_get(w->cursor) >= map_capacity(height) || !le64_get(w->root.where) ||
		    !ent_from_disk_valid(pool, ent_get(&w->root), 1))
			return err_set(err, -EUCLEAN, "catalog: work item makes no sense");
		it = item_add(&pool->reclaim);
		it->tree.root = w->root;
		it->tree.height = height;
		it->cursor = le64_get(w->cursor);
		it->bound = le32_get(w->bound);
		it->owner_id = le64_get(w->owner);
		it->left = le64_get(w->left);
		it->mapped = le64_get(w->mapped);
		it->reserved = le64_get(w->reserved_zeroes);
		pool->reclaim_blocks += it->left;
	}
	return 0;
}
