/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Control requests: volumes are made, resized, renamed, deleted; the pool grows.  Each but growing
 * is one operation of the log, answered when it is durable.  Snapshots are snapshot.c.
 *
 * Growing: stage 0 writes the superblock to the new end; two checkpoints (1, 2) then carry the new
 * size into both slots; only then do the zones extend over the old end, which a last checkpoint (3)
 * makes durable.  A crash in between leaves a larger size with the old zones, which recovery
 * completes.
 */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "thin/control.h"
#include "thin/grow.h"
#include "thin/io.h"
#include "thin/ops.h"
#include "thin/pool.h"

int control_name(const char *name, char out[THIN_NAME_MAX + 1])
{
	if (!name || thin_name_check(name, NULL))
		return -EINVAL;
	strcpy(out, name);
	return 0;
}

static int valid_size(uint64_t size_bytes)
{
	return size_bytes && size_bytes % FMT_BLOCK == 0 && size_bytes <= THIN_VOLUME_MAX ? 0
											  : -EINVAL;
}

int control_stall(struct req_state *rs)
{
	pool_need_checkpoint(rs->pool);
	pool_stall(rs->pool, &rs->task);
	return -EAGAIN;
}

/* An operation that needs a record of the catalog, at most `nodes` DIRTY nodes, and makes a promise
 * of `blocks`. */
int control_op(struct req_state *rs, const struct fmt_op *op, uint32_t len, uint64_t nodes,
	       uint64_t blocks)
{
	int r;

	if (!rs->pool->failed && !ops_room(rs->pool))
		return control_stall(rs);
	blocks += blocks / (FMT_NODE_ENTRIES / 2);
	r = io_admit(rs, 0, nodes, 4 + blocks, nodes == 0); /* shrinking gives back */
	return r ? r : ops_do(rs->pool, op, len);
}

int control_records(struct req_state *rs, uint64_t count)
{
	struct catalog *c = &rs->pool->catalog;

	/* the catalog's nodes stay in the cache, and others need room beside them */
	if ((c->slot_count + count) / FMT_NODE_ENTRIES >= rs->pool->nodes.count / 2)
		return -ENOSPC;
	return catalog_reserve_slots(c, count);
}

static int create(struct req_state *rs)
{
	const struct thin_req *req = rs->req;
	struct catalog *c = &rs->pool->catalog;
	struct fmt_op op = { .kind = le32_put(FMT_OP_CREATE),
			     .volume = le64_put(c->next_id),
			     .a = le64_put(req->size_bytes),
			     .b = le64_put(req->time_s) };
	char name[THIN_NAME_MAX + 1];
	int r;

	if (control_name(req->name, name) || valid_size(req->size_bytes))
		return -EINVAL;
	if (volume_by_name(c, 0, name))
		return -EEXIST;
	r = control_records(rs, 1);
	if (r)
		return r;
	strcpy((char *)op.name, name);
	if (req->reserve_full)
		op.flags = le32_put(FMT_VOLUME_RESERVE_FULL);
	return control_op(rs, &op, sizeof(op), 0,
			  req->reserve_full ? req->size_bytes / FMT_BLOCK : 0);
}

/* Shrinking waits until no data request is under way, and holds new ones back. */
static int shrink(struct req_state *rs, struct volume *vol, const struct fmt_op *op)
{
	struct vblk from = { rs->req->size_bytes / FMT_BLOCK };
	struct vblk to = { map_capacity(FMT_HEIGHT_MAX) };
	int r;

	vol->barrier = rs;
	if (vol->busy_count) {
		pool_stall(rs->pool, &rs->task);
		return -EAGAIN;
	}
	r = map_unmap_probe(rs->pool, &vol->tree, from, to, &rs->task);
	if (r >= 0)
		r = control_op(rs, op, sizeof(*op), MAP_UNMAP_NODES, 0);
	if (r == -EAGAIN)
		return r;
	vol->barrier = NULL;
	pool_wake_list(rs->pool, &vol->barrier_waiting);
	return r == -EUCLEAN ? -EIO : r;
}

static int resize(struct req_state *rs, struct volume *vol)
{
	const struct thin_req *req = rs->req;
	struct fmt_op op = { .kind = le32_put(FMT_OP_RESIZE),
			     .volume = le64_put(vol->id),
			     .a = le64_put(req->size_bytes) };

	if (valid_size(req->size_bytes))
		return -EINVAL;
	if (req->size_bytes == vol->size_bytes)
		return 0;
	if (req->size_bytes > vol->size_bytes)
		return control_op(
			rs, &op, sizeof(op), 0,
			vol->reserve_full ? (req->size_bytes - vol->size_bytes) / FMT_BLOCK : 0);
	if (!req->shrink)
		return -EBUSY;
	return shrink(rs, vol, &op);
}

static int rename_volume(struct req_state *rs, struct volume *vol)
{
	struct fmt_op op = { .kind = le32_put(FMT_OP_RENAME), .volume = le64_put(vol->id) };
	char name[THIN_NAME_MAX + 1];

	if (control_name(rs->req->new_name, name))
		return -EINVAL;
	if (volume_by_name(&rs->pool->catalog, vol->of, name))
		return -EEXIST;
	strcpy((char *)op.name, name);
	return control_op(rs, &op, sizeof(op), 0, 0);
}

/* An operation that always works: it asks for no space beyond what the reserve holds for the
 * catalog.  While it waits for a checkpoint to bring that back, nobody else is given any. */
static int reserve_op(struct req_state *rs, const struct fmt_op *op, uint32_t len)
{
	struct thin_pool *pool = rs->pool;
	bool nothing_to_gain =
		!pool->ck.active && !pool->nodes.dirty_count && !pool->catalog.dirty_count;

	if (pool->failed)
		return -EIO;
	if (!pool_space_for(pool, 4, 0) && !nothing_to_gain) {
		pool->urgent = pool->urgent ? pool->urgent : rs;
		return control_stall(rs);
	}
	if (!journal_room_op(pool))
		return control_stall(rs);
	io_not_urgent(rs);
	return ops_do(pool, op, len);
}

static int delete_one(struct req_state *rs, struct volume *vol)
{
	struct fmt_op op = { .kind = le32_put(FMT_OP_DELETE), .volume = le64_put(vol->id) };

	return reserve_op(rs, &op, sizeof(op));
}

/* Also on a full pool: whoever wants to trim there has to lock first. */
static int set_lock(struct req_state *rs)
{
	const struct thin_lock *lock = rs->req->lock;
	struct volume *vol = volume_by_id(&rs->pool->catalog, rs->req->id);
	struct {
		struct fmt_op op;
		struct fmt_op_lock lock;
	} all = { .op = { .kind = le32_put(FMT_OP_LOCK),
			  .volume = le64_put(rs->req->id),
			  .a = le64_put(lock->epoch) },
		  .lock = { .state = le32_put(lock->state),
			    .policy = le32_put(lock->policy),
			    .wait_ms = le32_put(lock->wait_ms),
			    .grace_ms = le32_put(lock->grace_ms),
			    .since_s = le64_put(lock->since_s),
			    .until_s = le64_put(lock->until_s) } };

	if (!vol || vol->state != VOLUME_LIVE)
		return -ENOENT;
	if (vol->lock && lock->epoch < vol->lock->epoch)
		return -ESTALE;
	if (!vol->lock && volume_set_lock(rs->pool, vol, &(struct thin_lock){ 0 }))
		return -ENOMEM; /* behind this point applying it cannot fail */
	memcpy(all.lock.owner, lock->owner, THIN_LOCK_TEXT_MAX);
	memcpy(all.lock.heir, lock->heir, THIN_LOCK_TEXT_MAX);
	return reserve_op(rs, &all.op, sizeof(all));
}

/* Its removal is over, or has failed: whoever waits looks again. */
static void end_removal(struct thin_pool *pool, struct volume *vol)
{
	vol->removing = false;
	vol->barrier = NULL;
	pool_wake_list(pool, &vol->barrier_waiting);
}

/*
 * One record each, the snapshots first: a full pool has no room to hide many at once.  So many a
 * turn as pool_may_walk() lets: a volume may have a hundred thousand.  Meanwhile none of them can
 * be opened, and other requests about the volume wait.
 */
static int delete_volume(struct req_state *rs, struct volume *vol)
{
	struct catalog *c = &rs->pool->catalog;
	struct volume *snap;
	int r = 0;

	if (vol->open_count || vol->snapshots_open)
		return -EBUSY;
	if (!rs->req->snapshots && volume_after(c, vol->id, NULL))
		return -ENOTEMPTY;
	vol->barrier = rs;
	vol->removing = true;
	while (!r && (snap = volume_after(c, vol->id, NULL)))
		r = pool_may_walk(rs->pool, &rs->task) ? delete_one(rs, snap) : -EAGAIN;
	r = r ? r : delete_one(rs, vol);
	if (r != -EAGAIN)
		end_removal(rs->pool, vol);
	return r;
}

bool control_held_back(struct req_state *rs, struct volume *vol)
{
	if (!vol->barrier || vol->barrier == rs) /* it must find its volume as it was */
		return false;
	STAILQ_INSERT_TAIL(&vol->barrier_waiting, &rs->task, link);
	return true;
}

static int on_volume(struct req_state *rs)
{
	struct volume *vol =
		rs->req->name ? volume_by_path(&rs->pool->catalog, rs->req->name) : NULL;

	if (!vol)
		return -ENOENT;
	if (control_held_back(rs, vol))
		return -EAGAIN;
	if (rs->req->op == THIN_VOL_RESIZE)
		return vol->state == VOLUME_LIVE ? resize(rs, vol) : -EINVAL;
	if (rs->req->op == THIN_VOL_RENAME)
		return rename_volume(rs, vol);
	return delete_volume(rs, vol);
}

/* One whole checkpoint, begun after the call: 0 when it is complete. */
static int whole_checkpoint(struct req_state *rs)
{
	struct checkpoint *ck = &rs->pool->ck;

	if (rs->pool->failed)
		return -EIO;
	if (!rs->space_waits) {
		rs->space_waits = true;
		rs->space_mark = ck->begun + 1;
	}
	if (ck->completed < rs->space_mark) {
		if (ck->begun < rs->space_mark)
			pool_want_checkpoint(rs->pool);
		pool_stall(rs->pool, &rs->task);
		return -EAGAIN;
	}
	rs->space_waits = false;
	return 0;
}

static int grow(struct req_state *rs)
{
	struct thin_pool *pool = rs->pool;
	int r = 0;

	if (rs->stage == 0) {
		r = grow_end(pool, rs->req->size_bytes / FMT_BLOCK, &rs->task);
		rs->stage += !r;
	}
	for (; !r && rs->stage < 4; rs->stage += !r) {
		if (rs->stage == 3 && !rs->space_waits)
			r = grow_zones(pool);
		if (!r)
			r = whole_checkpoint(rs);
	}
	return r;
}

/* The pool is read-only, perhaps since a shrink began to wait: let those it holds back go on. */
static int refuse(struct req_state *rs)
{
	struct thin_pool *pool = rs->pool;
	struct volume *vol = rs->req->name ? volume_by_path(&pool->catalog, rs->req->name) : NULL;

	if (vol && vol->barrier)
		end_removal(pool, vol);
	return pool->failed ? -EIO : -EROFS;
}

void control_step(struct thin_pool *pool, struct task *task)
{
	struct req_state *rs = TASK_OF(task, struct req_state, task);
	enum thin_op op = rs->req->op;
	int r;

	if (pool->read_only)
		r = refuse(rs);
	else if (op == THIN_VOL_CREATE)
		r = create(rs);
	else if (op == THIN_LOCK)
		r = set_lock(rs);
	else if (op == THIN_POOL_GROW)
		r = grow(rs);
	else if (op == THIN_CHECKPOINT)
		r = whole_checkpoint(rs);
	else if (op == THIN_SNAPSHOT)
		r = control_snapshot(rs);
	else if (op == THIN_CLONE)
		r = control_clone(rs);
	else if (op == THIN_ROLLBACK)
		r = control_rollback(rs);
	else
		r = on_volume(rs);
	if (r == -EAGAIN)
		return;
	if (r)
		io_finish(rs, r);
	else
		io_finish_durable(rs, 0);
}
