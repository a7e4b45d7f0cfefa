/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Trim and zero.
 *
 * The whole blocks inside the range become holes by one log record, however long the range is: the
 * edges are changed in the map at once, whole subtrees go to reclaim (map_unmap()).  A zero request
 * also writes zeroes into the partial blocks at its ends; with THIN_NO_HOLE its whole blocks become
 * provisioned zeroes instead, leaf by leaf, each leaf one record.
 */
#include <errno.h>
#include <string.h>

#include "thin/io.h"
#include "thin/ops.h"
#include "thin/pool.h"

static int stall(struct req_state *rs)
{
	pool_need_checkpoint(rs->pool);
	pool_stall(rs->pool, &rs->task);
	return -EAGAIN;
}

/* `frees`: blocks that the record may free by itself. */
static int admit_op(struct req_state *rs, uint64_t nodes, uint64_t blocks, uint64_t frees,
		    bool fresh)
{
	struct thin_pool *pool = rs->pool;

	if (!pool->failed && !ops_room(pool))
		return stall(rs);
	if (!pool->failed &&
	    space_room_logged(&pool->space) < frees + pool->journal.admitted_records) {
		journal_kick(pool);
		pool_stall(pool, &rs->task);
		return -EAGAIN;
	}
	return io_admit(rs, 0, nodes, blocks, fresh);
}

static struct fmt_op range_op(const struct req_state *rs, enum fmt_op_kind kind, struct vblk from,
			      struct vblk to)
{
	return (struct fmt_op){ .kind = le32_put(kind),
				.volume = le64_put(rs->req->vol->volume->id),
				.a = le64_put(from.n),
				.b = le64_put(to.n) };
}

static int unmap_range(struct req_state *rs, struct vblk from, struct vblk to)
{
	struct thin_pool *pool = rs->pool;
	const struct volume *vol = rs->req->vol->volume;
	struct fmt_op op = range_op(rs, FMT_OP_UNMAP, from, to);
	/* the probe first: it may wait, and what it found must still be there when we act */
	int found = map_unmap_probe(pool, &rs->req->vol->volume->tree, from, to, &rs->task);
	int r;

	if (found <= 0)
		return found;
	/* nodes that a snapshot has too are copied and not given back */
	r = admit_op(rs, MAP_UNMAP_NODES, 0, 2 * FMT_NODE_ENTRIES,
		     vol->parent && !vol->reserve_full);
	return r ? r : ops_do(pool, &op, sizeof(op));
}

static int provision_leaf(struct req_state *rs, struct vblk from, struct vblk to)
{
	struct thin_pool *pool = rs->pool;
	struct tree *tree = &rs->req->vol->volume->tree;
	struct fmt_op op = range_op(rs, FMT_OP_PROVISION, from, to);
	uint64_t fresh = 0;
	struct vblk next;
	struct node *leaf;
	int r = map_leaf(pool, tree, from, &rs->task, &leaf, &next);

	if (r && r != -ENOENT)
		return r;
	for (uint64_t v = from.n; v < to.n; v++)
		fresh += r == -ENOENT ||
			 le64_get(leaf->page->entry[v % FMT_NODE_ENTRIES].where) == 0;
	r = admit_op(rs, 2 * FMT_HEIGHT_MAX, fresh, FMT_NODE_ENTRIES,
		     fresh > 0 && !rs->req->vol->volume->reserve_full);
	return r ? r : ops_do(pool, &op, sizeof(op));
}

/* The whole blocks from rs->pos on; advances rs->pos. */
static int change_whole(struct req_state *rs, struct vblk to)
{
	struct vblk from = { rs->pos / FMT_BLOCK };
	bool provision = rs->req->op == THIN_ZERO && rs->req->flags & THIN_NO_HOLE;
	uint64_t leaf_end = (from.n | (FMT_NODE_ENTRIES - 1)) + 1;
	int r;

	if (provision && to.n > leaf_end)
		to.n = leaf_end;
	r = provision ? provision_leaf(rs, from, to) : unmap_range(rs, from, to);
	if (r == 0)
		rs->pos = to.n * FMT_BLOCK;
	return r;
}

static int trim(struct req_state *rs)
{
	const struct thin_req *req = rs->req;
	struct vblk to = { (req->offset + req->len) / FMT_BLOCK };
	int r;

	rs->pos = (req->offset + FMT_BLOCK - 1) / FMT_BLOCK * FMT_BLOCK;
	if (rs->pos >= to.n * FMT_BLOCK)
		return 0;
	r = change_whole(rs, to);
	return r == -ENOSPC ? 0 : r; /* advice; on a full pool it may not be taken */
}

/*
 * More is to be provisioned than there can be.  Not begun then: the part that could be had would
 * be kept from everybody else, for nothing.
 */
static bool is_hopeless(const struct req_state *rs)
{
	struct thin_pool *pool = rs->pool;
	const struct volume *vol = rs->req->vol->volume;
	uint64_t blocks = rs->req->len / FMT_BLOCK;
	uint64_t there = vol->mapped_blocks + vol->reserved_blocks; /* may be in the range */
	uint64_t used = pool->space.alloc_count - pool->reclaim_blocks + pool_promised(pool);

	if (vol->reserve_full || reclaim_pending(pool))
		return false;
	return blocks > there && used + (blocks - there) > pool->space.block_count;
}

static int zero(struct req_state *rs)
{
	const struct thin_req *req = rs->req;
	uint64_t end = req->offset + req->len;
	int r = 0;

	if (req->flags & THIN_FAST && (req->offset % FMT_BLOCK || end % FMT_BLOCK))
		return -ENOTSUP;
	if (req->flags & THIN_NO_HOLE && rs->pos == req->offset && is_hopeless(rs))
		return -ENOSPC;
	while (!r && rs->pos < end) {
		if (rs->pos % FMT_BLOCK || end - rs->pos < FMT_BLOCK)
			r = write_some(rs, NULL);
		else
			r = change_whole(rs, (struct vblk){ end / FMT_BLOCK });
	}
	return r;
}

void unmap_step(struct thin_pool *pool, struct task *task)
{
	struct req_state *rs = TASK_OF(task, struct req_state, task);
	int r = io_begin(rs);

	(void)pool;
	if (r == -EAGAIN || (!r && !range_take(rs)))
		return;
	if (!r)
		r = rs->req->op == THIN_TRIM ? trim(rs) : zero(rs);
	if (r == -EAGAIN)
		return;
	if (r && !rs->res)
		rs->res = r == -EUCLEAN ? -EIO : r;
	io_issued(rs);
}
