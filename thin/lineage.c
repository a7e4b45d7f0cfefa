/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The lineage: see lineage.h.  The walks are splice.c. */
#include "thin/lineage.h"

#include <errno.h>
#include <inttypes.h>

#include "thin/pool.h"
#include "thin/reclaim.h"
#include "thin/splice.h"

#define STEPS_PER_RUN  16u   /* of background work in one turn of the loop */
#define STEPS_TINY     1u    /* ... in a pool for tests, and only in one of TURNS_TINY turns, so */
#define TURNS_TINY     6u    /* that much happens in between */
#define COUNT_PAUSE_MS 2000u /* after a count in vain: trims may make them stale over and over */
#define COUNT_STEPS_MS 4u    /* ... and a millisecond for so many steps of one that was not */

static void lineage_step(struct thin_pool *pool, struct task *task);

void lineage_init(struct thin_pool *pool)
{
	struct lineage *l = &pool->lineage;

	TAILQ_INIT(&l->hidden);
	TAILQ_INIT(&l->uncounted);
	l->task.step = lineage_step;
}

/* ---- who has what ---- */

static uint32_t generation_of(const struct volume *vol)
{
	return vol ? vol->generation : 0;
}

uint32_t lineage_bound(const struct volume *vol, struct vblk v)
{
	const struct volume *p = vol->parent;

	if (p && p->splicing && v.n < p->cursor)
		p = p->parent;
	return generation_of(p);
}

uint64_t lineage_cursor(const struct volume *vol)
{
	return vol->parent && vol->parent->splicing ? vol->parent->cursor : 0;
}

/* Its parent, and nobody else's, has the block now: does that have it alone? */
static void left_to_parent(struct thin_pool *pool, struct volume *p, struct vblk v, struct ent e)
{
	struct lineage *l = &pool->lineage;

	if (p->child_count != 1 || e.birth <= generation_of(p->parent))
		return;
	if (p->exclusive_known) {
		p->exclusive_blocks++;
		volume_touch(pool, p);
	} else if (l->count == p && v.n < l->count_cursor) {
		l->counted++;
	}
}

/* It is not the volume's own by its birth, only because of the cursor: see lineage_spliced(). */
static void freed_for_parent(struct thin_pool *pool, struct volume *vol)
{
	vol->parent->freed_blocks++;
	volume_touch(pool, vol->parent);
}

void lineage_count_freed(struct thin_pool *pool, struct volume *vol, struct ent e)
{
	if (e.birth > generation_of(vol->parent))
		volume_count(pool, vol, 0, -1, 0);
	else
		freed_for_parent(pool, vol);
}

void lineage_drop_block(struct thin_pool *pool, struct volume *vol, struct vblk v, struct ent e,
			uint64_t log_seq)
{
	bool own = e.birth > generation_of(vol->parent);

	volume_count(pool, vol, -1, own ? -1 : 0, 0);
	if (e.birth <= lineage_bound(vol, v)) {
		left_to_parent(pool, vol->parent, v, e);
		return;
	}
	data_cache_drop(&pool->data, ent_pblk(e).n);
	if (!own)
		freed_for_parent(pool, vol);
	if (e.birth > vol->log_bound)
		space_free_logged(&pool->space, ent_pblk(e), log_seq);
	else
		space_free_at_checkpoint(&pool->space, ent_pblk(e), pool->checkpoint + 1);
}

/* ---- what is exclusive ---- */

/* Something is to be done about it: a hidden one is given back when at most one is built on it. */
static void list(struct lineage *l, struct volume *vol)
{
	if (vol->listed || vol->state == VOLUME_LIVE)
		return;
	if (vol->state == VOLUME_HIDDEN && vol->child_count <= 1)
		TAILQ_INSERT_TAIL(&l->hidden, vol, todo);
	else if (vol->state == VOLUME_SNAPSHOT && vol->child_count == 1 && !vol->exclusive_known)
		TAILQ_INSERT_TAIL(&l->uncounted, vol, todo);
	else
		return;
	vol->listed = true;
}

static void unlist(struct thin_pool *pool, struct volume *vol)
{
	struct lineage *l = &pool->lineage;

	if (!vol->listed)
		return;
	if (vol->state == VOLUME_HIDDEN)
		TAILQ_REMOVE(&l->hidden, vol, todo);
	else
		TAILQ_REMOVE(&l->uncounted, vol, todo);
	vol->listed = false;
	if (l->count == vol)
		l->count = NULL;
}

/* What is known of `vol` does not hold any more. */
static void recount(struct thin_pool *pool, struct volume *vol)
{
	struct lineage *l = &pool->lineage;

	if (!vol || vol->state != VOLUME_SNAPSHOT)
		return;
	if (l->count == vol) {
		l->count = NULL;
		l->count_from_ms = pool->now_ms + COUNT_PAUSE_MS;
	}
	if (vol->exclusive_known) {
		vol->exclusive_known = false;
		volume_touch(pool, vol);
	}
	if (vol->child_count == 1)
		list(l, vol);
	else
		unlist(pool, vol);
	l->changed = true;
}

bool lineage_exclusive(const struct volume *vol, uint64_t *ret_blocks)
{
	*ret_blocks = vol->child_count == 0   ? vol->own_blocks
		      : vol->child_count == 1 ? vol->exclusive_blocks
					      : 0;
	return vol->child_count != 1 || vol->exclusive_known;
}

void lineage_cut(struct thin_pool *pool, struct volume *vol)
{
	recount(pool, vol->parent);
}

/* ---- changing the forest ---- */

static void expect_reclaim(struct thin_pool *pool, struct volume *vol)
{
	uint64_t blocks = 0;

	if (vol->state != VOLUME_HIDDEN)
		return;
	lineage_exclusive(vol, &blocks);
	pool->reclaim_blocks += blocks - vol->reclaiming_blocks;
	vol->reclaiming_blocks = blocks;
	volume_touch(pool, vol);
}

/* Keep count of those that wait for all children but one to go. */
static void note_held(struct lineage *l, struct volume *vol)
{
	bool held = vol->state == VOLUME_HIDDEN && vol->child_count > 1;

	if (held == vol->held)
		return;
	vol->held = held;
	l->held_count += held ? 1 : (uint64_t)-1;
	l->held_blocks += held ? vol->own_blocks : -vol->own_blocks;
}

static void children_changed(struct thin_pool *pool, struct volume *parent)
{
	pool->lineage.changed = true;
	note_held(&pool->lineage, parent);
	if (parent->state == VOLUME_HIDDEN)
		list(&pool->lineage, parent);
	recount(pool, parent);
	expect_reclaim(pool, parent);
}

static void attach(struct thin_pool *pool, struct volume *vol, struct volume *parent)
{
	pool->lineage.version++;
	vol->parent = parent;
	volume_touch(pool, vol);
	if (!parent)
		return;
	TAILQ_INSERT_TAIL(&parent->children, vol, sibling);
	parent->child_count++;
	if (parent->generation > vol->log_bound)
		vol->log_bound = parent->generation;
}

static void detach(struct thin_pool *pool, struct volume *vol)
{
	struct volume *parent = vol->parent;

	pool->lineage.version++;
	vol->parent = NULL;
	if (!parent)
		return;
	TAILQ_REMOVE(&parent->children, vol, sibling);
	parent->child_count--;
}

/* `fresh` is where `vol` was, with the same content and counts. */
static void take_place(struct thin_pool *pool, struct volume *fresh, struct volume *vol)
{
	struct volume *parent = vol->parent;

	detach(pool, vol);
	attach(pool, fresh, parent);
	fresh->tree.root = vol->tree.root;
	fresh->tree.height = vol->tree.height;
	fresh->size_bytes = vol->size_bytes;
	fresh->mapped_blocks = vol->mapped_blocks;
	fresh->own_blocks = vol->own_blocks;
	fresh->reserved_blocks = vol->reserved_blocks;
	fresh->generation = pool->generation;
	reclaim_new_owner(pool, vol->id, fresh->id);
	scrub_moved(pool, vol, fresh);
}

void lineage_snapshot(struct thin_pool *pool, struct volume *vol, struct volume *snap)
{
	take_place(pool, snap, vol);
	attach(pool, vol, snap);
	volume_count(pool, vol, 0, -(int64_t)vol->own_blocks, 0);
	snap->exclusive_known = true;
}

void lineage_branch(struct thin_pool *pool, struct volume *vol, struct volume *snap)
{
	vol->tree.root = snap->tree.root;
	vol->tree.height = snap->tree.height;
	volume_set_size(pool, vol, snap->size_bytes, vol->reserve_full);
	volume_count(pool, vol, (int64_t)snap->mapped_blocks, 0, (int64_t)snap->reserved_blocks);
	attach(pool, vol, snap);
	children_changed(pool, snap);
}

void lineage_leave_behind(struct thin_pool *pool, struct volume *vol, struct volume *old)
{
	take_place(pool, old, vol);
	volume_count(pool, vol, -(int64_t)vol->mapped_blocks, -(int64_t)vol->own_blocks,
		     -(int64_t)vol->reserved_blocks);
	list(&pool->lineage, old);
	children_changed(pool, old);
}

void lineage_hide(struct thin_pool *pool, struct volume *vol)
{
	unlist(pool, vol);
	volume_hide(pool, vol);
	list(&pool->lineage, vol);
	children_changed(pool, vol);
}

struct volume *lineage_below(const struct volume *top, struct volume *vol)
{
	if (!TAILQ_EMPTY(&vol->children))
		return TAILQ_FIRST(&vol->children);
	return lineage_behind(top, vol);
}

struct volume *lineage_behind(const struct volume *top, struct volume *vol)
{
	for (; vol != top; vol = vol->parent)
		if (TAILQ_NEXT(vol, sibling))
			return TAILQ_NEXT(vol, sibling);
	return NULL;
}

/* ---- opening ---- */

static int load_one(struct thin_pool *pool, struct volume *vol, struct err *err)
{
	struct volume *parent = volume_by_id(&pool->catalog, vol->parent_id);

	if (parent && (parent->state == VOLUME_LIVE ||
		       (vol->generation && parent->generation >= vol->generation)))
		parent = NULL;
	if (vol->parent_id && !parent && !pool->salvage)
		return err_set(err, -EUCLEAN, "catalog: the parent of \"%s\" makes no sense",
			       vol->name);
	vol->parent = parent;
	if (!parent)
		return 0;
	TAILQ_INSERT_TAIL(&parent->children, vol, sibling);
	parent->child_count++;
	vol->log_bound = parent->generation;
	return 0;
}

int lineage_load(struct thin_pool *pool, struct err *err)
{
	struct lineage *l = &pool->lineage;
	struct volume *vol;
	int r = 0;

	for (vol = volume_after_id(&pool->catalog, 0); vol && !r;
	     vol = volume_after_id(&pool->catalog, vol->id))
		r = load_one(pool, vol, err);
	for (vol = volume_after_id(&pool->catalog, 0); vol && !r;
	     vol = volume_after_id(&pool->catalog, vol->id)) {
		list(l, vol);
		note_held(l, vol);
		if (!vol->splicing)
			continue;
		if (pool->salvage) /* nobody goes on with it, and the child may be lost */
			vol->splicing = false;
		else if (l->splice || vol->child_count != 1 || vol->state != VOLUME_HIDDEN ||
			 vol->cursor > map_capacity(vol->tree.height))
			r = err_set(err, -EUCLEAN, "catalog: the splice of \"%s\" makes no sense",
				    vol->name);
		l->splice = vol->splicing ? vol : NULL;
	}
	reclaim_loaded(pool);
	l->changed = true;
	return r;
}

/* ---- background work ---- */

/* The next cut writes records that nobody admitted; the reserve has them where nothing else is
 * dirty.  `vol` may be NULL. */
static bool room_for_records(const struct thin_pool *pool, const struct volume *vol)
{
	const struct catalog *c = &pool->catalog;

	return c->dirty_count == 0 || (vol && c->slot[vol->slot].dirty) ||
	       pool_spare_blocks(pool) >= 8;
}

static bool room(struct thin_pool *pool, const struct volume *vol)
{
	if (pool_background_room(pool) && room_for_records(pool, vol) && reclaim_room(pool) > 0)
		return true;
	pool_need_checkpoint(pool);
	pool_stall(pool, &pool->lineage.task);
	return false;
}

/* Nobody is built on it: reclaim has the rest. */
static void convert_leaf(struct thin_pool *pool, struct volume *vol)
{
	struct volume *parent = vol->parent;

	reclaim_new_owner(pool, vol->id, 0);
	reclaim_add(pool, &(struct reclaim_tree){ .root = vol->tree.root,
						  .height = vol->tree.height,
						  .bound = generation_of(parent),
						  .left = vol->reclaiming_blocks });
	unlist(pool, vol);
	detach(pool, vol);
	volume_remove(&pool->catalog, vol);
	if (parent)
		children_changed(pool, parent);
}

void lineage_spliced(struct thin_pool *pool, struct volume *vol)
{
	struct volume *child = TAILQ_FIRST(&vol->children), *parent = vol->parent;

	pool->lineage.splice = NULL;
	pool->reclaim_blocks -= vol->reclaiming_blocks;
	/* of what was its own, the child has what the walk has not freed */
	volume_count(pool, child, 0, (int64_t)(vol->own_blocks - vol->freed_blocks), 0);
	reclaim_new_owner(pool, vol->id, child->id);
	scrub_spliced(pool, vol, child);
	unlist(pool, vol);
	detach(pool, child);
	detach(pool, vol);
	attach(pool, child, parent);
	volume_remove(&pool->catalog, vol);
	recount(pool, child);
	if (parent)
		children_changed(pool, parent);
}

/* What was cut off from the child still goes through nodes that `vol` has as well, to count. */
static bool child_counts(const struct volume *vol)
{
	return TAILQ_FIRST(&vol->children)->cut_count > 0;
}

/* Something to do: 1; nothing: 0; -EAGAIN: there is no room. */
static int choose(struct thin_pool *pool)
{
	struct lineage *l = &pool->lineage;
	struct volume *vol;

	TAILQ_FOREACH (vol, &l->hidden, todo) {
		if (vol->child_count == 1 && child_counts(vol))
			continue;
		if (!room(pool, NULL))
			return -EAGAIN;
		if (vol->child_count == 0) {
			convert_leaf(pool, vol);
			return 1;
		}
		l->splice = vol;
		scrub_splicing(pool, vol, TAILQ_FIRST(&vol->children));
		vol->splicing = true;
		vol->cursor = vol->freed_blocks = 0;
		l->count = NULL;
		volume_touch(pool, vol);
		return 1;
	}
	vol = TAILQ_FIRST(&l->uncounted);
	if (vol && pool->now_ms >= l->count_from_ms) {
		l->count = vol;
		l->count_cursor = l->counted = l->count_steps = 0;
		return 1;
	}
	l->changed = false;
	pool_wake_stalled(pool); /* who waits for space knows now what there is */
	return 0;
}

static void counted(struct thin_pool *pool)
{
	struct lineage *l = &pool->lineage;
	struct volume *vol = l->count;
	uint64_t pause = l->count_steps / COUNT_STEPS_MS;

	l->count_from_ms = pool->now_ms + (pause < COUNT_PAUSE_MS ? pause : COUNT_PAUSE_MS);
	unlist(pool, vol);
	vol->exclusive_blocks = l->counted;
	vol->exclusive_known = true;
	volume_touch(pool, vol);
	l->changed = true;
}

static int step(struct thin_pool *pool)
{
	struct lineage *l = &pool->lineage;
	int r;

	if (!room(pool, l->splice ? l->splice : l->count))
		return -EAGAIN;
	pace_spend(pool, PACE_STEP_COST);
	if (l->splice && child_counts(l->splice)) {
		pool_stall(pool, &l->task);
		return -EAGAIN;
	}
	if (l->splice) {
		r = splice_step(pool);
		if (r == 1)
			lineage_spliced(pool, l->splice);
		return r < 0 ? r : 1;
	}
	l->count_steps++;
	r = splice_count_step(pool);
	if (r == 1)
		counted(pool);
	return r < 0 ? r : 1;
}

/* The pool is being closed, and nobody waits for space any more. */
static bool may_leave_it(const struct thin_pool *pool)
{
	return pool->read_only || (pool->closing && pool->io.requests == 0);
}

static void lineage_step(struct thin_pool *pool, struct task *task)
{
	struct lineage *l = &pool->lineage;
	unsigned steps = pool->tiny ? STEPS_TINY : STEPS_PER_RUN;

	l->waiting = false;
	for (unsigned i = 0; i < steps && !may_leave_it(pool) && pace_allows(pool); i++) {
		int r = l->splice || l->count ? step(pool) : choose(pool);

		if (r == 0)
			return;
		if (r == -EAGAIN) {
			l->waiting = true;
			return;
		}
	}
	(void)task;
}

bool lineage_pending(const struct thin_pool *pool)
{
	const struct lineage *l = &pool->lineage;

	return l->splice || (l->changed && !TAILQ_EMPTY(&l->hidden));
}

bool lineage_runs(const struct thin_pool *pool)
{
	const struct lineage *l = &pool->lineage;

	return !l->waiting && !may_leave_it(pool) &&
	       (l->splice || l->count || l->changed ||
		(!TAILQ_EMPTY(&l->uncounted) && pool->now_ms >= l->count_from_ms));
}

uint64_t lineage_deadline_ms(const struct thin_pool *pool)
{
	const struct lineage *l = &pool->lineage;

	return may_leave_it(pool) || TAILQ_EMPTY(&l->uncounted) ? UINT64_MAX : l->count_from_ms;
}

void lineage_run(struct thin_pool *pool)
{
	if (pool->tiny && pool->lineage.turns++ % TURNS_TINY)
		return;
	if (lineage_runs(pool) && pace_allows(pool))
		lineage_step(pool, &pool->lineage.task);
}
