/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writing ahead: see ahead.h.  Thread: the pool's. */
#include "thin/ahead.h"

#include <errno.h>
#include <string.h>

#include "thin/memory.h"
#include "thin/pool.h"

#define PIECE_BYTES	 (AHEAD_PIECE_BLOCKS * FMT_BLOCK)
#define SHARE		 8u    /* never more than this share of the pool's blocks */
#define LOOK_SHARE	 8u    /* look again when this share of what is ahead has been used */
#define LOADED_SKIP	 1024u /* free blocks left to the writers that are about to take them */
#define LOADED_SKIP_TINY 2u
#define QUESTIONS_MAX	 512u /* about one zone */
#define HOST_MARGIN	 (64ull << 20)

int ahead_init(struct thin_pool *pool, uint64_t bytes)
{
	struct ahead *a = &pool->ahead;

	a->burst_left = AHEAD_BURST_BLOCKS;
	if (!bytes || !pool->dev->sparse || pool->dev->read_only)
		return 0;
	a->blocks = bytes / FMT_BLOCK;
	if (a->blocks > AHEAD_BLOCKS_MAX)
		a->blocks = AHEAD_BLOCKS_MAX;
	if (a->blocks > pool->space.block_count / SHARE)
		a->blocks = pool->space.block_count / SHARE;
	a->zeroes = memory_map(PIECE_BYTES);
	return a->zeroes ? 0 : -ENOMEM;
}

void ahead_fini(struct thin_pool *pool)
{
	memory_unmap(pool->ahead.zeroes, PIECE_BYTES);
}

/* ---- what the device knows ---- */

/* The words of zone `z` that lie in blocks [from, to) of the device. */
static void mark_range(struct thin_pool *pool, uint64_t z, uint64_t from, uint64_t to)
{
	struct space *sp = &pool->space;
	uint64_t base = space_zone_pblk(sp, z).n, end = base + sp->zone[z].blocks;

	from = from <= base ? 0 : (from - base + 63) / 64 * 64;
	to = to >= end ? end - base : (to - base) / 64 * 64;
	if (from < to)
		space_set_written(sp, (struct pblk){ base + from }, to - from, true);
}

/* A hint: what is not told counts as not written. */
static void ask_about_zone(struct thin_pool *pool, uint64_t z)
{
	struct thin_dev *dev = pool->dev;
	uint64_t at = space_zone_pblk(&pool->space, z).n * FMT_BLOCK;
	uint64_t end = at + (uint64_t)pool->space.zone[z].blocks * FMT_BLOCK;

	pool->space.zone[z].known = true;
	for (unsigned i = 0; dev->ops->next_written && at < end && i < QUESTIONS_MAX; i++) {
		uint64_t from, to;

		if (dev->ops->next_written(dev, at, &from, &to) || from >= end || to <= at)
			return;
		mark_range(pool, z, (from + FMT_BLOCK - 1) / FMT_BLOCK, to / FMT_BLOCK);
		at = to;
	}
}

static void look(struct thin_pool *pool, uint64_t skip, uint64_t max, struct space_gap *ret_gap)
{
	struct space *sp = &pool->space;

	space_find_gap(sp, pool->ahead.blocks, skip, max, ret_gap);
	if (ret_gap->kind == SPACE_GAP_UNKNOWN) {
		ask_about_zone(pool, ret_gap->zone);
		space_find_gap(sp, pool->ahead.blocks, skip, max, ret_gap);
	}
}

void ahead_look(struct thin_pool *pool)
{
	struct space_gap gap;

	if (pool->ahead.blocks)
		look(pool, 0, 1, &gap);
}

/* ---- writing ---- */

static void host_is_short(struct thin_pool *pool)
{
	struct ahead *a = &pool->ahead;

	a->wait_until_ms = pool->now_ms + AHEAD_RETRY_MS;
	if (!a->host_short)
		pool_event(pool, THIN_EVENT_LOW_SPACE,
			   "the file system under the pool is nearly full: no space is written "
			   "ahead");
	a->host_short = true;
}

/* Leaves the host as much again, for data. */
static bool host_has_room(struct thin_pool *pool)
{
	struct ahead *a = &pool->ahead;
	uint64_t need = a->blocks * FMT_BLOCK + HOST_MARGIN;

	if (pool->dev->ops->host_room && pool->dev->ops->host_room(pool->dev) < need) {
		host_is_short(pool);
		return false;
	}
	a->host_short = false;
	return true;
}

static void write_done(struct dev_io *io)
{
	struct thin_pool *pool = io->user;
	struct ahead *a = &pool->ahead;

	a->busy = false;
	space_set_written(&pool->space, a->first, a->count, io->res == 0);
	space_release_run(&pool->space, a->first, a->count);
	if (io->res == 0) {
		pool->stat.ahead_bytes += a->count * FMT_BLOCK;
	} else if (io->res == -ENOSPC) {
		host_is_short(pool);
	} else {
		a->blocks = 0;
		pool_event(pool, THIN_EVENT_NOTE, "writing ahead: %s; not tried again",
			   strerror(-io->res));
	}
	pool_wake_stalled(pool);
}

static void write_zeroes(struct thin_pool *pool, const struct space_gap *gap)
{
	struct ahead *a = &pool->ahead;
	uint64_t left = gap->count;
	int n = 0;

	for (; left; n++) {
		uint64_t here = left < AHEAD_PIECE_BLOCKS ? left : AHEAD_PIECE_BLOCKS;

		a->iov[n] = (struct iovec){ a->zeroes, here * FMT_BLOCK };
		left -= here;
	}
	a->first = gap->first;
	a->count = gap->count;
	a->busy = true;
	a->burst_left -= a->burst_left < a->count ? a->burst_left : a->count;
	space_withhold_run(&pool->space, a->first, a->count);
	a->io = (struct dev_io){ .op = DEV_WRITE,
				 .offset = a->first.n * FMT_BLOCK,
				 .len = a->count * FMT_BLOCK,
				 .iov = a->iov,
				 .iov_count = n,
				 .done = write_done,
				 .user = pool };
	pool_submit_io(pool, &a->io);
}

static bool loaded(const struct thin_pool *pool)
{
	return pool->io.requests || pool->now_ms < pool->last_active_ms + AHEAD_IDLE_MS;
}

static bool wanted(const struct thin_pool *pool)
{
	const struct ahead *a = &pool->ahead;

	if (!a->blocks || a->busy || !pool->opened || pool->read_only || pool->closing ||
	    pool->host_full)
		return false;
	return !a->enough || pool->space.taken - a->taken_mark >= a->blocks / LOOK_SHARE;
}

/* How many blocks may be written now; 0: none, perhaps later. */
static uint64_t allowance(struct thin_pool *pool, bool under_load)
{
	struct ahead *a = &pool->ahead;
	uint64_t max = AHEAD_PIECES * AHEAD_PIECE_BLOCKS, spare = pool_spare_blocks(pool) / 2;

	if (pool->now_ms < a->wait_until_ms || pool->ck.active || pool->punch.busy)
		return 0;
	if (pool->dev->blocking)
		max = under_load ? 0 : AHEAD_PIECE_BLOCKS;
	if (!under_load || !a->burst_left) {
		if (under_load)
			a->wait_until_ms = pool->now_ms + AHEAD_PAUSE_MS;
		a->burst_left = AHEAD_BURST_BLOCKS;
		max = under_load ? 0 : max;
	}
	/* a cut that comes meanwhile finds the blocks that its nodes were promised */
	return max < spare ? max : spare;
}

void ahead_run(struct thin_pool *pool)
{
	struct ahead *a = &pool->ahead;
	struct space_gap gap;
	bool under_load;
	uint64_t max, skip = 0;

	if (!wanted(pool))
		return;
	under_load = loaded(pool);
	max = allowance(pool, under_load);
	if (!max)
		return;
	if (under_load)
		skip = pool->tiny ? LOADED_SKIP_TINY : LOADED_SKIP;
	look(pool, skip, max, &gap);
	a->enough = gap.kind == SPACE_GAP_NONE;
	a->taken_mark = pool->space.taken;
	if (gap.kind == SPACE_GAP_RUN && host_has_room(pool))
		write_zeroes(pool, &gap);
}

uint64_t ahead_deadline_ms(const struct thin_pool *pool)
{
	const struct ahead *a = &pool->ahead;
	uint64_t idle = pool->last_active_ms + AHEAD_IDLE_MS;

	if (!wanted(pool) || pool->ck.active || pool->punch.busy || pool_spare_blocks(pool) < 2)
		return UINT64_MAX;
	if (pool->dev->blocking && pool->io.requests) /* not before they are answered */
		return UINT64_MAX;
	return idle > a->wait_until_ms ? idle : a->wait_until_ms;
}
