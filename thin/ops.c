/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Operations: see ops.h. */
#include "thin/ops.h"

#include <errno.h>
#include <string.h>

#include "thin/pool.h"

bool ops_room(const struct thin_pool *pool)
{
	return journal_room_op(pool) && reclaim_room(pool) > RECLAIM_KEEP + MAP_UNMAP_NODES;
}

int ops_do(struct thin_pool *pool, const struct fmt_op *op, uint32_t len)
{
	uint64_t seq = journal_op(pool, op, len);
	int r = ops_apply(pool, op, len, seq);

	/* the record is there and its effect is not: nothing may be built on that */
	if (r)
		pool_fail(pool, r, "operation");
	return r ? -EIO : 0;
}

static int op_name(const struct fmt_op *op, char name[THIN_NAME_MAX + 1])
{
	memcpy(name, op->name, THIN_NAME_MAX + 1);
	name[THIN_NAME_MAX] = 0;
	return thin_name_check(name, NULL) ? -EUCLEAN : 0;
}

static int apply_create(struct thin_pool *pool, const struct fmt_op *op)
{
	struct catalog *c = &pool->catalog;
	uint64_t id = le64_get(op->volume), size = le64_get(op->a);
	char name[THIN_NAME_MAX + 1];
	struct volume *vol;
	int r;

	if (op_name(op, name) || !id || volume_by_id(c, id) || volume_by_name(c, 0, name) ||
	    size > THIN_VOLUME_MAX || size % FMT_BLOCK)
		return -EUCLEAN;
	r = volume_add(c, VOLUME_LIVE, id, 0, name, &vol);
	if (r)
		return r;
	vol->created_s = le64_get(op->b);
	volume_set_size(pool, vol, size, le32_get(op->flags) & FMT_VOLUME_RESERVE_FULL);
	return 0;
}

static int apply_resize(struct thin_pool *pool, struct volume *vol, const struct fmt_op *op,
			uint64_t seq)
{
	uint64_t size = le64_get(op->a);
	int r = 0;

	if (size > THIN_VOLUME_MAX || size % FMT_BLOCK)
		return -EUCLEAN;
	if (size < vol->size_bytes)
		r = map_unmap(pool, &vol->tree, (struct vblk){ size / FMT_BLOCK },
			      (struct vblk){ map_capacity(FMT_HEIGHT_MAX) }, seq);
	if (r)
		return r;
	volume_set_size(pool, vol, size, vol->reserve_full);
	return 0;
}

static int apply_rename(struct thin_pool *pool, struct volume *vol, const struct fmt_op *op)
{
	char name[THIN_NAME_MAX + 1];

	if (op_name(op, name) || volume_by_name(&pool->catalog, vol->of, name))
		return -EUCLEAN;
	volume_rename(&pool->catalog, vol, name);
	return 0;
}

/* Older programs would write the record anew without it. */
static void uses_lock(struct thin_pool *pool)
{
	pool->feature_ro |= FMT_FEATURE_LOCK;
}

static int apply_lock(struct thin_pool *pool, struct volume *vol, const struct fmt_op *op,
		      uint32_t len)
{
	const struct fmt_op_lock *l = (const struct fmt_op_lock *)(op + 1);
	struct thin_lock lock = { .epoch = le64_get(op->a) };

	if (len < sizeof(*op) + sizeof(*l) || (vol->lock && lock.epoch < vol->lock->epoch))
		return -EUCLEAN;
	lock.state = le32_get(l->state);
	lock.policy = le32_get(l->policy);
	lock.wait_ms = le32_get(l->wait_ms);
	lock.grace_ms = le32_get(l->grace_ms);
	lock.since_s = le64_get(l->since_s);
	lock.until_s = le64_get(l->until_s);
	memcpy(lock.owner, l->owner, THIN_LOCK_TEXT_MAX);
	memcpy(lock.heir, l->heir, THIN_LOCK_TEXT_MAX);
	uses_lock(pool);
	return volume_set_lock(pool, vol, &lock);
}

static int apply_delete(struct thin_pool *pool, struct volume *vol)
{
	if (volume_after(&pool->catalog, vol->id, NULL))
		return -EUCLEAN;
	lineage_hide(pool, vol);
	return 0;
}

/* Snapshots need a program that knows their rules. */
static void uses_lineage(struct thin_pool *pool)
{
	pool->feature_incompat |= FMT_FEATURE_LINEAGE;
}

/* One member of a group; returns the bytes it takes, or what failed. */
static int snapshot_member(struct thin_pool *pool, const uint8_t *p, uint64_t left, uint64_t id,
			   uint64_t time_s)
{
	const struct fmt_op_member *m = (const struct fmt_op_member *)p;
	struct catalog *c = &pool->catalog;
	char name[THIN_NAME_MAX + 1];
	struct volume *vol, *snap;
	int r;

	if (left < sizeof(*m) || m->len > THIN_NAME_MAX || left < sizeof(*m) + m->len)
		return -EUCLEAN;
	memcpy(name, m + 1, m->len);
	name[m->len] = 0;
	vol = volume_by_id(c, le64_get(m->volume));
	if (pool->salvage && (!vol || vol->left_out)) /* the others' are as good as ever */
		return (int)(sizeof(*m) + m->len);
	if (!vol || vol->state != VOLUME_LIVE || !id || volume_by_id(c, id) ||
	    thin_name_check(name, NULL) || volume_by_name(c, vol->id, name))
		return -EUCLEAN;
	r = volume_add(c, VOLUME_SNAPSHOT, id, vol->id, name, &snap);
	if (r)
		return r;
	snap->created_s = time_s;
	lineage_snapshot(pool, vol, snap);
	return (int)(sizeof(*m) + m->len);
}

/* All of a group are taken between the same two records: one cut through all of them. */
static int apply_snapshot(struct thin_pool *pool, const struct fmt_op *op, uint32_t len)
{
	uint64_t count = le64_get(op->volume), at = sizeof(*op);
	int r = 0;

	uses_lineage(pool);
	for (uint64_t i = 0; i < count && r >= 0; i++) {
		r = snapshot_member(pool, (const uint8_t *)op + at, len - at, le64_get(op->a) + i,
				    le64_get(op->b));
		at += r > 0 ? (uint64_t)r : 0;
	}
	pool->generation++;
	return r < 0 ? r : 0;
}

static struct volume *op_snapshot(struct thin_pool *pool, const struct fmt_op *op)
{
	struct volume *snap = volume_by_id(&pool->catalog, le64_get(op->a));

	return snap && snap->state == VOLUME_SNAPSHOT ? snap : NULL;
}

static int apply_clone(struct thin_pool *pool, const struct fmt_op *op)
{
	struct volume *snap = op_snapshot(pool, op), *vol;
	struct catalog *c = &pool->catalog;
	uint64_t id = le64_get(op->volume);
	char name[THIN_NAME_MAX + 1];
	int r;

	if (!snap || !id || op_name(op, name) || volume_by_id(c, id) || volume_by_name(c, 0, name))
		return -EUCLEAN;
	r = volume_add(c, VOLUME_LIVE, id, 0, name, &vol);
	if (r)
		return r;
	vol->created_s = le64_get(op->b);
	vol->reserve_full = le32_get(op->flags) & FMT_VOLUME_RESERVE_FULL;
	lineage_branch(pool, vol, snap);
	return 0;
}

static int apply_rollback(struct thin_pool *pool, struct volume *vol, const struct fmt_op *op)
{
	struct volume *snap = op_snapshot(pool, op), *old;
	uint64_t id = le64_get(op->b);
	int r;

	if (vol->state != VOLUME_LIVE || !snap || snap->of != vol->id || !id ||
	    volume_by_id(&pool->catalog, id))
		return -EUCLEAN;
	r = volume_add(&pool->catalog, VOLUME_HIDDEN, id, 0, vol->name, &old);
	if (r)
		return r;
	lineage_leave_behind(pool, vol, old);
	lineage_branch(pool, vol, snap);
	return 0;
}

static int apply_provision(struct thin_pool *pool, struct volume *vol, const struct fmt_op *op,
			   uint64_t seq)
{
	uint64_t from = le64_get(op->a), to = le64_get(op->b);

	while (from < to) {
		uint64_t end = (from | (FMT_NODE_ENTRIES - 1)) + 1;
		struct node *leaf;
		int r = map_dirty_leaf(pool, &vol->tree, (struct vblk){ from }, NULL, &leaf);

		if (r)
			return r;
		for (; from < end && from < to; from++) {
			struct fmt_entry *e = &leaf->page->entry[from % FMT_NODE_ENTRIES];

			map_clear_entry(pool, vol, (struct vblk){ from }, e, seq);
			*e = ent_put((struct ent){ FMT_ENT_RESERVED, pool->generation, 0 });
			volume_count(pool, vol, 0, 0, 1);
		}
	}
	return 0;
}

int ops_apply(struct thin_pool *pool, const struct fmt_op *op, uint32_t len, uint64_t seq)
{
	struct volume *vol = volume_by_id(&pool->catalog, le64_get(op->volume));
	uint32_t kind = le32_get(op->kind);
	uint64_t a = le64_get(op->a), b = le64_get(op->b);

	if (kind == FMT_OP_CREATE)
		return apply_create(pool, op);
	if (kind == FMT_OP_SNAPSHOT)
		return apply_snapshot(pool, op, len);
	if (kind == FMT_OP_CLONE)
		return apply_clone(pool, op);
	/* admitted when it was logged; the log of another pool, or a forged one, has no such limit
	 */
	if (!vol || vol->state == VOLUME_HIDDEN ||
	    ((kind == FMT_OP_RESIZE || kind == FMT_OP_UNMAP) &&
	     reclaim_room(pool) < MAP_UNMAP_NODES))
		return -EUCLEAN;
	if (kind == FMT_OP_RENAME)
		return apply_rename(pool, vol, op);
	if (kind == FMT_OP_DELETE)
		return apply_delete(pool, vol);
	if (vol->state != VOLUME_LIVE)
		return -EUCLEAN;
	switch (kind) {
	case FMT_OP_RESIZE:
		return apply_resize(pool, vol, op, seq);
	case FMT_OP_LOCK:
		return apply_lock(pool, vol, op, len);
	case FMT_OP_ROLLBACK:
		return apply_rollback(pool, vol, op);
	case FMT_OP_UNMAP:
		return map_unmap(pool, &vol->tree, (struct vblk){ a }, (struct vblk){ b }, seq);
	case FMT_OP_PROVISION:
		if (a > b || b > vol->size_bytes / FMT_BLOCK)
			return -EUCLEAN;
		return apply_provision(pool, vol, op, seq);
	default:
		return -EUCLEAN;
	}
}
