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

int ops_do(struct thin_pool *pool, const struct fmt_op *op)
{
	uint64_t seq = journal_op(pool, op, sizeof(*op));
	int r = ops_apply(pool, op, seq);

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

	if (op_name(op, name) || volume_by_id(c, id) || volume_by_name(c, name) ||
	    size > THIN_VOLUME_MAX || size % FMT_BLOCK)
		return -EUCLEAN;
	if (id >= c->next_id)
		c->next_id = id + 1;
	r = volume_add(c, id, name, size, le64_get(op->b), &vol);
	if (!r)
		volume_set_size(pool, vol, size, le32_get(op->flags) & FMT_VOLUME_RESERVE_FULL);
	return r;
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

	if (op_name(op, name) || volume_by_name(&pool->catalog, name))
		return -EUCLEAN;
	volume_rename(&pool->catalog, vol, name);
	return 0;
}

static int apply_delete(struct thin_pool *pool, struct volume *vol)
{
	pool->data_blocks -= vol->mapped_blocks;
	pool->reclaim_blocks += vol->mapped_blocks;
	pool->reserved_blocks -= vol->reserved_blocks;
	pool->promised_blocks -= volume_promise(vol);
	reclaim_add(pool, vol->tree.root, vol->tree.height, NULL);
	volume_remove(&pool->catalog, vol);
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

			map_clear_entry(pool, vol, e, seq);
			*e = ent_put((struct ent){ FMT_ENT_RESERVED, pool->generation, 0 });
			volume_count(pool, vol, 0, 1);
		}
	}
	return 0;
}

int ops_apply(struct thin_pool *pool, const struct fmt_op *op, uint64_t seq)
{
	struct volume *vol = volume_by_id(&pool->catalog, le64_get(op->volume));
	uint32_t kind = le32_get(op->kind);
	uint64_t a = le64_get(op->a), b = le64_get(op->b);

	if (kind == FMT_OP_CREATE)
		return apply_create(pool, op);
	/* admitted when it was logged; the log of another pool, or a forged one, has no such limit
	 */
	if (!vol || reclaim_room(pool) < (kind == FMT_OP_DELETE ? 1 : MAP_UNMAP_NODES))
		return -EUCLEAN;
	switch (kind) {
	case FMT_OP_RESIZE:
		return apply_resize(pool, vol, op, seq);
	case FMT_OP_RENAME:
		return apply_rename(pool, vol, op);
	case FMT_OP_DELETE:
		return apply_delete(pool, vol);
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
