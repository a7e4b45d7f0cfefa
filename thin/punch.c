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
	space_release_run(&pool->space, p->first, p->count);
	pool_wake_stalled(pool);
}

bool punch_wanted(const struct thin_pool *pool)
{
	return pool->dev->can_punch && !pool->punch.busy && !pool->read_only &&
	       space_punch_pending(&pool->space);
}

void punch_run(struct thin_pool *pool, bool idle)
{
	struct punch *p = &pool->punch;
	uint64_t min = pool->tiny ? 8 : PUNCH_MIN_BLOCKS;

	if (!idle || pool->ck.active || !punch_wanted(pool))
		return;
	p->count = space_withhold_free_run(&pool->space, min, PUNCH_MAX_BLOCKS, &p->first);
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
