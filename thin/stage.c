/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The stage; rules and reasons in stage.h. */
#include "thin/stage.h"

#include <errno.h>
#include <string.h>

#include "thin/pool.h"

#define STAGE_LEN_MAX	  (64u << 10) /* a request of more bytes is a stream */
#define STAGE_HOST_ROOM	  (64ull << 20)
#define STAGE_ROOM_ASK_MS 250u
#define STAGE_RETRY_MS	  1000u
#define STAGE_WRITES	  2u  /* batches with the device; what comes meanwhile is gathered */
#define STAGE_BESIDE	  32u /* blocks that are worth a write beside another one */

static bool fits_pool(const struct fmt_stage *a, const struct thin_pool *pool)
{
	return !memcmp(a->magic, FMT_STAGE_MAGIC, sizeof(a->magic)) &&
	       !memcmp(a->pool_id, pool->id, sizeof(a->pool_id));
}

/* The table takes the first pages, the blocks the others. */
static uint32_t slots_of(uint64_t bytes)
{
	uint64_t slots = bytes / (FMT_BLOCK + sizeof(struct fmt_stage_slot));

	while (slots && fmt_stage_table(slots) + slots * FMT_BLOCK > bytes)
		slots--;
	return (uint32_t)slots;
}

void stage_init(struct thin_pool *pool, void *area, uint64_t bytes)
{
	struct stage *st = &pool->stage;

	STAILQ_INIT(&st->batches);
	if (!area || pool->dev->blocking || !slots_of(bytes))
		return;
	st->area = area;
	st->slots = slots_of(bytes);
	st->data = (uint8_t *)area + fmt_stage_table(st->slots);
}

void stage_restart(struct thin_pool *pool, uint64_t nonce)
{
	struct stage *st = &pool->stage;
	struct fmt_stage *a = st->area;

	if (!a)
		return;
	memset(a->magic, 0, sizeof(a->magic));
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	memcpy(a->pool_id, pool->id, sizeof(a->pool_id));
	a->nonce = nonce;
	a->slots = st->slots;
	memset(a->slot, 0, st->slots * sizeof(a->slot[0]));
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	memcpy(a->magic, FMT_STAGE_MAGIC, sizeof(a->magic));
}

/* ---- a dead process's ---- */

static int restore_block(struct thin_pool *pool, const struct fmt_stage_slot *s, uint8_t *block)
{
	struct iovec iov = { block, FMT_BLOCK };
	struct dev_io io = { .op = DEV_WRITE,
			     .offset = (s->where & FMT_PBLK_MASK) * FMT_BLOCK,
			     .len = FMT_BLOCK,
			     .iov = &iov,
			     .iov_count = 1 };

	if (!space_valid(&pool->space, (struct pblk){ s->where & FMT_PBLK_MASK }) ||
	    pool_crc(block, FMT_BLOCK) != s->crc)
		return -EUCLEAN;
	return pool_do_io(pool, &io);
}

uint64_t stage_restore(struct thin_pool *pool, const void *area, uint64_t bytes, uint64_t nonce)
{
	const struct fmt_stage *a = area;
	uint64_t count = 0, lost = 0;
	uint8_t *data;
	int res = 0;

	if (!a || bytes < FMT_BLOCK || pool->read_only || !fits_pool(a, pool) ||
	    a->nonce != nonce || a->slots > slots_of(bytes))
		return 0;
	data = (uint8_t *)(uintptr_t)area + fmt_stage_table(a->slots);
	for (uint32_t i = 0; i < a->slots; i++) {
		int r;

		if (!(a->slot[i].where & FMT_STAGE_TAKEN))
			continue;
		count++;
		r = restore_block(pool, &a->slot[i], data + (uint64_t)i * FMT_BLOCK);
		lost += r != 0;
		res = r ? r : res;
	}
	if (lost)
		pool_damage(pool,
			    "%llu blocks that the dead process had not written cannot be written "
			    "now: %s",
			    (unsigned long long)lost, strerror(-res));
	return count;
}

/* ---- slots ---- */

static bool host_has_room(struct thin_pool *pool)
{
	struct stage *st = &pool->stage;

	if (!pool->dev->sparse || !pool->dev->ops->host_room)
		return true;
	if (!st->room_known_ms || pool->now_ms >= st->room_known_ms + STAGE_ROOM_ASK_MS) {
		st->room = pool->dev->ops->host_room(pool->dev) >= STAGE_HOST_ROOM;
		st->room_known_ms = pool->now_ms;
	}
	return st->room;
}

bool stage_takes(struct thin_pool *pool, uint64_t len)
{
	return pool->stage.area && len <= STAGE_LEN_MAX && !pool->failed &&
	       !pool->stage.again_count && host_has_room(pool);
}

uint32_t stage_room(const struct stage *st)
{
	return st->slots - st->used;
}

uint32_t stage_take(struct stage *st, uint8_t **ret_data)
{
	uint32_t slot = st->next;

	assert(st->used < st->slots);
	st->used++;
	st->next = (slot + 1) % st->slots;
	*ret_data = st->data + (uint64_t)slot * FMT_BLOCK;
	return slot;
}

void stage_mark(struct stage *st, uint32_t slot, uint64_t at, uint32_t crc)
{
	struct fmt_stage_slot *s = &st->area->slot[slot];

	s->crc = crc;
	__atomic_store_n(&s->where, at | FMT_STAGE_TAKEN, __ATOMIC_RELEASE);
}

/* ---- batches ---- */

void stage_number(struct thin_pool *pool, struct batch *b)
{
	struct stage *st = &pool->stage;

	b->number = ++st->numbered;
	b->readers = NULL;
	STAILQ_INSERT_TAIL(&st->batches, b, stage_link);
}

bool stage_may_write(const struct thin_pool *pool, const struct batch *b)
{
	const struct journal *j = &pool->journal;

	return pool->stage.writing < (b->data_count < STAGE_BESIDE ? 1 : STAGE_WRITES) ||
	       b->readers || j->committing || !STAILQ_EMPTY(&j->waiters) || pool->ck.active ||
	       pool->closing || pool->failed;
}

bool stage_failed(struct thin_pool *pool, struct dev_io *io)
{
	struct stage *st = &pool->stage;

	if (io->res != -ENOSPC || pool->closing || pool->failed) {
		pool_fail(pool, io->res, "writing data that was answered");
		return false;
	}
	st->again_count++;
	st->again_ms = pool->now_ms + STAGE_RETRY_MS;
	pool_host_full(pool);
	return true;
}

static void read_now(struct thin_pool *pool, struct dev_io *io)
{
	if (!stage_delays(pool, io))
		pool->dev->ops->submit(pool->dev, io);
}

void stage_written(struct thin_pool *pool, struct batch *b)
{
	struct stage *st = &pool->stage;
	struct dev_io *io = b->readers, *next;
	struct batch *first;

	b->written = true;
	st->writing--;
	if (st->repeated && !st->again_count) /* others may have fitted all the time */
		st->repeated = pool->host_full = false;
	for (uint32_t i = 0; !b->res && i < b->count; i++)
		if (!b->block[i].hole)
			__atomic_store_n(&st->area->slot[b->block[i].slot].where, 0,
					 __ATOMIC_RELEASE);
	STAILQ_FOREACH (first, &st->batches, stage_link) {
		if (!first->written)
			break;
		st->written = first->number;
	}
	for (b->readers = NULL; io; io = next) {
		next = io->next;
		read_now(pool, io);
	}
	pool_wake_stalled(pool); /* commits and checkpoints go on */
}

void stage_over(struct thin_pool *pool, struct batch *b)
{
	struct stage *st = &pool->stage;
	struct batch *first;

	b->over = true;
	while ((first = STAILQ_FIRST(&st->batches)) && first->over) {
		STAILQ_REMOVE_HEAD(&st->batches, stage_link);
		st->used -= first->data_count;
		STAILQ_INSERT_HEAD(&pool->io.batch_free, first, link);
	}
	pool_wake_stalled(pool);
}

/* ---- reads ---- */

static bool overlaps(const struct batch *b, const struct dev_io *io)
{
	uint64_t end = io->offset + io->len;

	for (uint32_t i = 0; i < b->runs; i++)
		if (b->io[i].offset < end && io->offset < b->io[i].offset + b->io[i].len)
			return true;
	return false;
}

bool stage_delays(struct thin_pool *pool, struct dev_io *io)
{
	struct batch *b;

	STAILQ_FOREACH (b, &pool->stage.batches, stage_link) {
		if (b->written || !overlaps(b, io))
			continue;
		io->next = b->readers;
		b->readers = io;
		return true;
	}
	return false;
}

/* ---- again ---- */

static void submit_again(struct thin_pool *pool, struct batch *b)
{
	for (uint32_t i = 0; i < b->runs; i++) {
		struct dev_io *io = &b->io[i];

		if (io->res != -ENOSPC)
			continue;
		pool->stage.again_count--;
		batch_write_again(pool, b, i);
	}
}

void stage_run(struct thin_pool *pool)
{
	struct stage *st = &pool->stage;
	struct batch *b;

	if (!st->again_count || (pool->now_ms < st->again_ms && !pool->closing))
		return;
	st->repeated = true;
	STAILQ_FOREACH (b, &st->batches, stage_link)
		if (!b->written)
			submit_again(pool, b);
}

uint64_t stage_deadline_ms(const struct thin_pool *pool)
{
	return pool->stage.again_count ? pool->stage.again_ms : UINT64_MAX;
}
