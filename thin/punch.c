/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Hole punching: see punch.h. */
#include "thin/punch.h"

#include <errno.h>

#include "thin/pool.h"

static void punch_done(struct dev_io *io)
{
	struct thin_pool *pool = io->user;
	struct punch *p = &pool->punch;

	p->busy = false;
	if (io->res)
		pool->dev->can_punch = false; /* the host cannot: no reason to ask again */
	else
		pool->stat.punched_bytes += p->count * FMT_BLOCK;
	space_set_written(&pool->space, p->first, p->count, false);
	pool->ahead.enough = false;
	space_release_run(&pool->space, p->first, p->count);
	pool_wake_stalled(pool);
}

static uint64_t run_min(const struct thin_pool *pool)
{
	return pool->tiny ? 8 : PUNCH_MIN_BLOCKS;
}

bool punch_wanted(const struct thin_pool *pool)
{
	return pool->dev->can_punch && !pool->punch.busy && !pool->read_only &&
	       space_punch_pending(&pool->space) && pool_spare_blocks(pool) >= 2 * run_min(pool);
}

void punch_run(struct thin_pool *pool, bool idle)
{
	struct punch *p = &pool->punch;
	uint64_t max;

	if (!idle || pool->ck.active || pool->ahead.busy || !punch_wanted(pool))
		return;
	ahead_look(pool);
	/* a cut that comes meanwhile finds the blocks that its nodes were promised */
	max = pool_spare_blocks(pool) / 2;
	p->count =
		space_withhold_free_run(&pool->space, run_min(pool),
					max < PUNCH_MAX_BLOCKS ? max : PUNCH_MAX_BLOCKS, &p->first);
	if (!p->count)
		return;
	p->busy = true;
	p->io = (struct dev_io){ .op = DEV_PUNCH,
				 .offset = p->first.n * FMT_BLOCK,
				 .len = p->count * FMT_BLOCK,
				 .done = punch_done,
				 .user = pool };
	pool_submit_io(pool, &p->io);
}
