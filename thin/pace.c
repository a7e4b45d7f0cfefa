/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How fast deleted things are given back: see pace.h.  Thread: the pool's. */
#include "thin/pace.h"

#include "thin/pool.h"

#define BLOCKS_PER_MS 128
#define LEFT_MAX      (2 * BLOCKS_PER_MS) /* what may be done at once after a while without */
#define CLIENTS_MS    10u		  /* they are there so long after the last answer */
#define SHORT_MS      1000u		  /* who waits for space asks again sooner than this */

static bool clients_there(const struct thin_pool *pool)
{
	return pool->io.requests || pool->now_ms < pool->last_active_ms + CLIENTS_MS;
}

static bool is_short(const struct thin_pool *pool)
{
	return pool->urgent || reclaim_room(pool) < RECLAIM_ITEMS_MAX / 2 ||
	       (pool->pace.short_ms && pool->now_ms < pool->pace.short_ms + SHORT_MS);
}

void pace_turn(struct thin_pool *pool)
{
	struct pace *p = &pool->pace;

	p->free = pool->tiny || pool->closing || !clients_there(pool) || is_short(pool);
	if (!p->free && pool->now_ms > p->filled_ms) {
		uint64_t ms = pool->now_ms - p->filled_ms;

		p->left += ms < LEFT_MAX ? (int64_t)ms * BLOCKS_PER_MS : LEFT_MAX * BLOCKS_PER_MS;
		p->left = p->left < LEFT_MAX ? p->left : LEFT_MAX;
	}
	p->filled_ms = pool->now_ms;
}

bool pace_allows(const struct thin_pool *pool)
{
	return pool->pace.free || pool->pace.left > 0;
}

void pace_spend(struct thin_pool *pool, int64_t blocks)
{
	if (!pool->pace.free)
		pool->pace.left -= blocks;
}

void pace_short(struct thin_pool *pool)
{
	pool->pace.short_ms = pool->now_ms;
	pool->pace.free = true;
}

uint64_t pace_deadline_ms(const struct thin_pool *pool)
{
	const struct pace *p = &pool->pace;

	return pace_allows(pool) ? UINT64_MAX
				 : p->filled_ms + 1 + (uint64_t)-p->left / BLOCKS_PER_MS;
}
