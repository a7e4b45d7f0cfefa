/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Growing a pool: see grow.h and control.c. */
#include "thin/grow.h"

#include <errno.h>

#include "thin/pool.h"
#include "thin/super.h"

static void end_written(struct dev_io *io)
{
	struct thin_pool *pool = io->user;

	pool->grow.written = true;
	pool_wake_stalled(pool);
}

/* The newest superblock in the place of both slots: valid, and older than what comes next. */
static void write_end(struct thin_pool *pool, uint64_t size_blocks)
{
	struct grow *g = &pool->grow;

	g->active = true;
	g->written = false;
	g->iov[0] = g->iov[1] = (struct iovec){ pool->ck.super, FMT_BLOCK };
	g->io = (struct dev_io){ .op = DEV_WRITE,
				 .fua = true,
				 .offset = super_pblk(0, 1, size_blocks).n * FMT_BLOCK,
				 .len = 2 * FMT_BLOCK,
				 .iov = g->iov,
				 .iov_count = 2,
				 .done = end_written,
				 .user = pool };
	pool_submit_io(pool, &g->io);
}

int grow_end(struct thin_pool *pool, uint64_t size_blocks, struct task *task)
{
	struct grow *g = &pool->grow;

	if (g->active && g->owner == task && g->written) {
		g->active = false;
		pool_wake_stalled(pool);
		if (g->io.res)
			return g->io.res;
		pool->size_blocks = size_blocks;
		return 0;
	}
	if (!g->active) {
		if (size_blocks <= pool->size_blocks || size_blocks > THIN_POOL_MAX / FMT_BLOCK ||
		    size_blocks > pool->dev->size_bytes / FMT_BLOCK)
			return -EINVAL;
		if (!pool->ck.active) {
			g->owner = task;
			write_end(pool, size_blocks);
		}
	}
	pool_stall(pool, task);
	return -EAGAIN;
}

int grow_zones(struct thin_pool *pool)
{
	int r;

	if (pool->zone_end + 2 == pool->size_blocks)
		return 0;
	r = space_grow(&pool->space, pool->size_blocks - 2);
	if (r)
		return r;
	pool->zone_end = pool->size_blocks - 2;
	r = catalog_cover_zones(&pool->catalog, pool->space.zone_count);
	for (uint64_t i = 0; i < pool->catalog.zone_slot_count; i++)
		catalog_touch(&pool->catalog, pool->catalog.zone_slot[i]);
	return r;
}
