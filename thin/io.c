/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests: their beginning, their end, and waiting for space; see io.h. */
#include "thin/io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "thin/memory.h"
#include "thin/pool.h"

static_assert(sizeof(struct req_state) <= sizeof(((struct thin_req *)0)->priv), "thin_req.priv");

#define PARTS 256u /* reads of one leaf in flight */

/* ENOSPC after so many checkpoints even if something still moves (other writers' overwrites). */
#define SPACE_CHECKPOINTS_MAX 32u

/* ---- memory ---- */

static void merges_init(struct io *io)
{
	for (uint32_t i = 0; i < IO_MERGES; i++) {
		io->merge[i].buf = io->merge_buf + (uint64_t)i * FMT_BLOCK;
		io->merge[i].next_free = io->merge_free;
		io->merge_free = &io->merge[i];
	}
}

int io_init(struct thin_pool *pool, uint64_t buffer_bytes)
{
	struct io *io = &pool->io;

	STAILQ_INIT(&io->done);
	io->part = memory_map(PARTS * sizeof(*io->part));
	io->dev_read = memory_map(IO_DEV_IOS * sizeof(*io->dev_read));
	io->wait = memory_map(IO_WAITS * sizeof(*io->wait));
	io->merge = calloc(IO_MERGES, sizeof(*io->merge));
	io->merge_buf = memory_map(IO_MERGES * FMT_BLOCK);
	if (!io->part || !io->dev_read || !io->wait || !io->merge || !io->merge_buf)
		return -ENOMEM;
	merges_init(io);
	return batches_init(pool, buffer_bytes);
}

void io_fini(struct thin_pool *pool)
{
	struct io *io = &pool->io;

	batches_fini(io);
	memory_unmap(io->part, PARTS * sizeof(*io->part));
	memory_unmap(io->dev_read, IO_DEV_IOS * sizeof(*io->dev_read));
	memory_unmap(io->wait, IO_WAITS * sizeof(*io->wait));
	free(io->merge);
	memory_unmap(io->merge_buf, IO_MERGES * FMT_BLOCK);
	memset(io, 0, sizeof(*io));
}

/* ---- parts of reads ---- */

struct io_part *io_part_take(struct thin_pool *pool, uint32_t reads, uint32_t waits)
{
	struct io *io = &pool->io;
	struct io_part *part = io->part_free;

	if (io->dev_read_count + reads > IO_DEV_IOS || io->wait_count + waits > IO_WAITS)
		return NULL;
	if (part)
		io->part_free = part->next_free;
	else if (io->part_fresh < PARTS)
		part = &io->part[io->part_fresh++];
	else
		return NULL;
	part->res = 0;
	part->failed = part->direct = false;
	return part;
}

void io_part_free(struct thin_pool *pool, struct io_part *part)
{
	part->next_free = pool->io.part_free;
	pool->io.part_free = part;
}

struct io_dev_read *io_dev_read_take(struct thin_pool *pool)
{
	struct io *io = &pool->io;
	struct io_dev_read *dr = io->dev_read_free;

	assert(io->dev_read_count < IO_DEV_IOS);
	io->dev_read_count++;
	if (dr)
		io->dev_read_free = dr->next_free;
	else
		dr = &io->dev_read[io->dev_read_fresh++];
	dr->pool = pool;
	return dr;
}

void io_dev_read_free(struct thin_pool *pool, struct io_dev_read *dr)
{
	dr->next_free = pool->io.dev_read_free;
	pool->io.dev_read_free = dr;
	pool->io.dev_read_count--;
}

struct io_wait *io_wait_take(struct thin_pool *pool)
{
	struct io *io = &pool->io;
	struct io_wait *w = io->wait_free;

	assert(io->wait_count < IO_WAITS);
	io->wait_count++;
	if (w)
		io->wait_free = w->next;
	else
		w = &io->wait[io->wait_fresh++];
	return w;
}

void io_wait_free(struct thin_pool *pool, struct io_wait *w)
{
	w->next = pool->io.wait_free;
	pool->io.wait_free = w;
	pool->io.wait_count--;
}

/* ---- beginning ---- */

static void (*const STEP[])(struct thin_pool *, struct task *) = {
	[THIN_READ] = read_step,	  [THIN_WRITE] = write_step,
	[THIN_ZERO] = unmap_step,	  [THIN_TRIM] = unmap_step,
	[THIN_FLUSH] = flush_step,	  [THIN_STATUS] = status_step,
	[THIN_DIFF] = diff_step,	  [THIN_CACHE] = cache_step,
	[THIN_VOL_CREATE] = control_step, [THIN_VOL_RESIZE] = control_step,
	[THIN_VOL_RENAME] = control_step, [THIN_VOL_DELETE] = control_step,
	[THIN_POOL_GROW] = control_step,  [THIN_CHECKPOINT] = control_step,
	[THIN_SNAPSHOT] = control_step,	  [THIN_CLONE] = control_step,
	[THIN_ROLLBACK] = control_step,	  [THIN_LOCK] = control_step,
};

void thin_submit(struct thin_pool *pool, struct thin_req *req)
{
	struct req_state *rs = (struct req_state *)req->priv;

	memset(rs, 0, sizeof(*rs));
	rs->req = req;
	rs->pool = pool;
	rs->pos = req->offset;
	rs->task.step = STEP[req->op];
	if (req->op <= THIN_CACHE && req->op != THIN_FLUSH) {
		rs->first.n = req->offset / FMT_BLOCK;
		rs->last.n = (req->offset + req->len + FMT_BLOCK - 1) / FMT_BLOCK;
	}
	pool->io.requests++;
	atomic_store_explicit(&pool->asked,
			      atomic_load_explicit(&pool->asked, memory_order_relaxed) + 1,
			      memory_order_relaxed);
	pool->last_active_ms = pool->now_ms;
	pool_wake_task(pool, &rs->task);
}

static bool changes(enum thin_op op)
{
	return op == THIN_WRITE || op == THIN_ZERO || op == THIN_TRIM;
}

int io_begin(struct req_state *rs)
{
	const struct thin_req *req = rs->req;
	struct volume *vol = req->vol->volume;
	bool whole = req->op == THIN_READ;

	if (rs->counted)
		return 0;
	if (vol->barrier) {
		STAILQ_INSERT_TAIL(&vol->barrier_waiting, &rs->task, link);
		return -EAGAIN;
	}
	if (req->offset > vol->size_bytes || req->len > vol->size_bytes - req->offset)
		return -EINVAL;
	if (whole && (req->offset % FMT_BLOCK || req->len % FMT_BLOCK))
		return -EINVAL;
	if (changes(req->op) && vol->state != VOLUME_LIVE)
		return -EROFS;
	if (changes(req->op) && rs->pool->read_only)
		return rs->pool->failed ? -EIO : -EROFS;
	rs->counted = true;
	vol->busy_count++;
	return 0;
}

bool io_add_extent(struct thin_req *req, uint64_t len, uint32_t flags, uint32_t depth)
{
	struct thin_extent *last = req->extents + req->extent_count - 1;

	if (req->extent_count && last->flags == flags && last->depth == depth) {
		last->len_bytes += len;
		return true;
	}
	if (req->extent_count == req->extent_max)
		return false;
	req->extents[req->extent_count++] = (struct thin_extent){ len, flags, depth };
	return true;
}

/* ---- end ---- */

void io_not_urgent(struct req_state *rs)
{
	if (rs->pool->urgent != rs)
		return;
	rs->pool->urgent = NULL;
	pool_wake_stalled(rs->pool);
}

void io_finish(struct req_state *rs, int res)
{
	rs->res = res;
	range_release(rs);
	io_not_urgent(rs);
	if (rs->counted) {
		struct volume *vol = rs->req->vol->volume;

		rs->counted = false;
		if (--vol->busy_count == 0 && vol->barrier)
			pool_wake_stalled(rs->pool);
	}
	STAILQ_INSERT_TAIL(&rs->pool->io.done, rs, done_link);
}

static void durable(struct thin_pool *pool, struct journal_waiter *waiter, int res)
{
	struct req_state *rs =
		(struct req_state *)((char *)waiter - offsetof(struct req_state, waiter));

	io_finish(rs, res ? res : rs->res);
}

void io_finish_durable(struct req_state *rs, int res)
{
	range_release(rs);
	if (rs->pool->failed) {
		io_finish(rs, -EIO);
		return;
	}
	rs->res = res;
	rs->waiter.done = durable;
	journal_wait(rs->pool, &rs->waiter);
}

static void maybe_over(struct req_state *rs)
{
	if (!rs->issued || rs->pending)
		return;
	if (rs->req->flags & THIN_FUA && rs->res == 0)
		io_finish_durable(rs, 0);
	else
		io_finish(rs, rs->res);
}

void io_issued(struct req_state *rs)
{
	rs->issued = true;
	maybe_over(rs);
}

void io_part_over(struct req_state *rs, int res)
{
	if (res && !rs->res)
		rs->res = res;
	assert(rs->pending > 0);
	rs->pending--;
	maybe_over(rs);
}

void io_answer(struct thin_pool *pool)
{
	struct req_state *rs;

	while ((rs = STAILQ_FIRST(&pool->io.done))) {
		struct thin_req *req = rs->req;
		int res = rs->res;

		STAILQ_REMOVE_HEAD(&pool->io.done, done_link);
		pool->io.requests--;
		pool->last_active_ms = pool->now_ms;
		req->done(req, res);
	}
}

void flush_step(struct thin_pool *pool, struct task *task)
{
	struct req_state *rs = TASK_OF(task, struct req_state, task);

	journal_flush_asked(pool);
	if (pool->read_only && !pool->failed)
		io_finish(rs, 0);
	else
		io_finish_durable(rs, 0);
}

/* ---- admission ---- */

int io_wait_space(struct thin_pool *pool, struct req_state *rs, bool fresh)
{
	struct checkpoint *ck = &pool->ck;
	/* writes on their way, its own among them, will free what they overwrite */
	bool moving = pool_gives_back(pool) || pool->punch.busy || pool->ahead.busy ||
		      pool->journal.admitted_records ||
		      pool->space.reading.head != pool->space.reading.tail;

	pace_short(pool);
	/* what gives back as much as it takes needs nothing but its turn */
	if (!fresh && !pool->urgent)
		pool->urgent = rs;
	if (!rs->space_waits)
		rs->space_limit = fresh ? ck->begun + SPACE_CHECKPOINTS_MAX : UINT64_MAX;
	if (!rs->space_waits || moving)
		rs->space_mark = ck->begun + 2;
	rs->space_waits = true;
	/* two whole checkpoints: what the first one frees, the second one's cut can count on */
	if ((ck->completed >= rs->space_mark && !moving) || ck->completed >= rs->space_limit) {
		pool->stat.enospc_errors++;
		pool_event(pool, THIN_EVENT_FULL,
			   "full: a request was answered with \"no space left\"");
		return -ENOSPC;
	}
	journal_kick(pool);
	if (!pool_gives_back(pool) && ck->begun < rs->space_mark)
		pool_want_checkpoint(pool);
	pool_stall(pool, &rs->task);
	return 0;
}

static int stall_for_checkpoint(struct req_state *rs)
{
	pool_need_checkpoint(rs->pool);
	pool_stall(rs->pool, &rs->task);
	return -EAGAIN;
}

int io_admit(struct req_state *rs, uint64_t records, uint64_t nodes, uint64_t blocks, bool fresh)
{
	struct thin_pool *pool = rs->pool;
	uint64_t promised = fresh ? pool_promised(pool) + pool->block_margin : 0;

	if (pool->failed)
		return -EIO;
	if (pool->host_full && blocks)
		return -ENOSPC;
	if (pool->urgent && pool->urgent != rs)
		return stall_for_checkpoint(rs);
	if (records > journal_room_records(pool) || !pool_nodes_for(pool, nodes))
		return stall_for_checkpoint(rs);
	if (space_room_logged(&pool->space) < pool->journal.admitted_records + records) {
		journal_kick(pool);
		pool_stall(pool, &rs->task);
		return -EAGAIN;
	}
	if (!pool_checkpoint_room(pool, records))
		return stall_for_checkpoint(rs);
	if (!pool_space_for(pool, blocks + promised, nodes)) {
		int r = io_wait_space(pool, rs, fresh);

		return r ? r : -EAGAIN;
	}
	rs->space_waits = false;
	io_not_urgent(rs);
	return 0;
}
