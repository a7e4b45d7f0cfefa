/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Batches: filled, placed, written; the stations are in batch.h. */
#include "thin/batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "thin/memory.h"
#include "thin/pool.h"

#define BATCH_BYTES (BATCH_BLOCKS * FMT_BLOCK)

/* ---- memory ---- */

int batches_init(struct thin_pool *pool, uint64_t buffer_bytes)
{
	struct io *io = &pool->io;

	io->batch_count = (uint32_t)(buffer_bytes / BATCH_BYTES);
	if (io->batch_count < 2)
		io->batch_count = 2;
	io->batch = calloc(io->batch_count, sizeof(*io->batch));
	io->batch_buf = memory_map((uint64_t)io->batch_count * BATCH_BYTES);
	if (!io->batch || !io->batch_buf)
		return -ENOMEM;
	STAILQ_INIT(&io->batch_free);
	for (uint32_t i = 0; i < io->batch_count; i++) {
		io->batch[i].task.step = publish_step;
		io->batch[i].pool = pool;
		io->batch[i].buf = io->batch_buf + (uint64_t)i * BATCH_BYTES;
		STAILQ_INSERT_TAIL(&io->batch_free, &io->batch[i], link);
	}
	return 0;
}

void batches_fini(struct io *io)
{
	free(io->batch);
	memory_unmap(io->batch_buf, (uint64_t)io->batch_count * BATCH_BYTES);
}

/* ---- the end of one ---- */

static void publish_soon(struct thin_pool *pool, struct batch *b)
{
	if (!b->publishing)
		pool_wake_task(pool, &b->task);
	b->publishing = true;
}

static void batch_over(struct batch *b)
{
	if (b->staged) {
		stage_over(b->pool, b);
		return;
	}
	STAILQ_INSERT_HEAD(&b->pool->io.batch_free, b, link);
	pool_wake_stalled(b->pool);
}

void batch_published(struct thin_pool *pool, struct batch *b)
{
	b->publishing = false;
	pool->admitted_nodes -= b->placed_nodes;
	b->placed_nodes = 0;
	pool->journal.admitted_records -= b->published - b->released;
	b->released = b->published;
	if (!b->staged || b->written)
		batch_over(b);
}

/* ---- the device's half ---- */

static void write_done(struct dev_io *dio)
{
	struct batch *b = dio->user;

	if (dio->res && b->staged && stage_failed(b->pool, dio))
		return; /* comes again */
	if (dio->res)
		b->res = dio->res;
	if (--b->io_pending)
		return;
	if (!b->staged) {
		publish_soon(b->pool, b);
		return;
	}
	stage_written(b->pool, b);
	for (uint32_t i = 0; i < b->count; i++)
		if (b->block[i].dropped)
			space_free_unpublished(&b->pool->space, b->block[i].at);
	if (!b->publishing)
		batch_over(b);
}

/* Join pieces that lie behind one another in memory; returns how many are left. */
static int join_iov(struct iovec *iov, uint32_t count)
{
	int last = 0;

	for (uint32_t i = 1; i < count; i++) {
		if ((uint8_t *)iov[last].iov_base + iov[last].iov_len == iov[i].iov_base)
			iov[last].iov_len += iov[i].iov_len;
		else
			iov[++last] = iov[i];
	}
	return last + 1;
}

static void submit_run(struct thin_pool *pool, struct batch *b, uint32_t run, uint32_t first)
{
	struct dev_io *io = &b->io[run];
	uint32_t n = (uint32_t)(io->len / FMT_BLOCK);

	*io = (struct dev_io){ .op = DEV_WRITE,
			       .offset = io->offset,
			       .len = io->len,
			       .iov = &b->iov[first],
			       .iov_count = join_iov(&b->iov[first], n),
			       .done = write_done,
			       .user = b };
	pool_submit_io(pool, io);
}

static void submit_batch(struct thin_pool *pool, struct batch *b)
{
	uint32_t runs = b->runs, first = 0;

	pool->io.open = NULL;
	b->io_pending = runs;
	if (b->staged)
		pool->stage.writing++;
	for (uint32_t i = 0; i < runs; i++) {
		uint32_t n = (uint32_t)(b->io[i].len / FMT_BLOCK);

		submit_run(pool, b, i, first);
		first += n;
	}
}

static uint32_t first_of_run(const struct batch *b, uint32_t run)
{
	uint32_t first = 0;

	for (uint32_t i = 0; i < run; i++)
		first += (uint32_t)(b->io[i].len / FMT_BLOCK);
	return first;
}

void batch_write_again(struct thin_pool *pool, struct batch *b, uint32_t run)
{
	uint32_t first = first_of_run(b, run), n = 0;
	uint64_t end = first + b->io[run].len / FMT_BLOCK;

	for (uint32_t i = 0; i < b->count; i++) {
		void *data = (void *)(uintptr_t)b->block[i].data;

		if (b->block[i].hole)
			continue;
		if (n >= first && n < end)
			b->iov[n] = (struct iovec){ data, FMT_BLOCK };
		n++;
	}
	submit_run(pool, b, run, first);
}

/* ---- places ---- */

/* Give the next `count` data blocks their places, which are adjacent from `at`. */
static void set_places(struct thin_pool *pool, struct batch *b, struct pblk at, uint64_t count)
{
	struct dev_io *last = b->runs ? &b->io[b->runs - 1] : NULL;

	if (last && last->offset + last->len == at.n * FMT_BLOCK)
		last->len += count * FMT_BLOCK;
	else
		b->io[b->runs++] =
			(struct dev_io){ .offset = at.n * FMT_BLOCK, .len = count * FMT_BLOCK };
	for (uint64_t n = 0; n < count; b->placed++) {
		struct batch_block *bb = &b->block[b->placed];

		if (bb->hole)
			continue;
		bb->at.n = at.n + n++;
		if (b->staged)
			stage_mark(&pool->stage, bb->slot, bb->at.n, bb->crc);
	}
}

/* Places for all blocks that have none; they can be published as far as the batch is concerned. */
static void place(struct thin_pool *pool, struct batch *b)
{
	uint32_t left = b->data_count - b->data_placed;

	pool->admitted_blocks -= left;
	pool->stat.data_written_bytes += (uint64_t)left * FMT_BLOCK;
	b->data_placed = b->data_count;
	while (left) {
		struct pblk at = { 0 };
		uint64_t n = space_take_run(&pool->space, left, false, &at);

		assert(n > 0); /* admitted */
		set_places(pool, b, at, n);
		left -= (uint32_t)n;
	}
	b->placed = b->count; /* holes at the end */
	b->placed_nodes += b->admitted_nodes;
	b->admitted_nodes = 0;
}

/* ---- the end of a turn ---- */

/* The turn's end of a staged batch: it stays open for more while the device is busy with others. */
static void end_staged(struct thin_pool *pool, struct batch *b, bool now)
{
	if (b->placed < b->count) {
		place(pool, b);
		if (b->data_count && !b->number)
			stage_number(pool, b);
		publish_soon(pool, b);
	}
	if (!b->data_count) { /* all holes */
		b->staged = false;
		pool->io.open = NULL;
	} else if (now || stage_may_write(pool, b)) {
		submit_batch(pool, b);
	}
}

static void close_batch(struct thin_pool *pool, bool now)
{
	struct batch *b = pool->io.open;

	if (!b || !b->count)
		return;
	if (b->staged) {
		end_staged(pool, b, now);
		return;
	}
	place(pool, b);
	if (b->data_count)
		submit_batch(pool, b);
	else
		publish_soon(pool, b);
	pool->io.open = NULL;
}

void batch_turn_over(struct thin_pool *pool)
{
	close_batch(pool, false);
}

/* ---- filling ---- */

struct batch *batch_open(struct thin_pool *pool, uint64_t len)
{
	struct io *io = &pool->io;
	struct batch *b = io->open;
	bool small = stage_takes(pool, len);

	if (b && b->count && b->count < b->room && b->small == small)
		return b;
	close_batch(pool, true);
	b = io->open; /* one that got nothing */
	if (!b) {
		b = STAILQ_FIRST(&io->batch_free);
		if (!b)
			return NULL;
		STAILQ_REMOVE_HEAD(&io->batch_free, link);
	}
	b->count = b->data_count = b->buf_used = b->io_pending = b->published = b->runs = 0;
	b->placed = b->data_placed = b->released = 0;
	b->placed_nodes = b->number = 0;
	b->publishing = b->written = b->over = false;
	b->small = small;
	b->room = small ? stage_room(&pool->stage) : 0;
	b->staged = b->room != 0;
	if (!b->staged || b->room > BATCH_BLOCKS)
		b->room = BATCH_BLOCKS;
	b->admitted_nodes = 0;
	b->res = 0;
	io->open = b;
	return b;
}

static bool all_zero(const uint8_t *p)
{
	uint64_t head;

	memcpy(&head, p, sizeof(head));
	return head == 0 && memcmp(p, p + 8, FMT_BLOCK - 8) == 0;
}

void batch_append(struct batch *b, struct req_state *rs, uint64_t v, const uint8_t *src, bool keep)
{
	struct batch_block *bb = &b->block[b->count++];

	*bb = (struct batch_block){ .rs = rs, .vblk = v, .hole = !src || all_zero(src) };
	rs->pending++;
	if (bb->hole)
		return;
	if (b->staged) {
		uint8_t *copy;

		bb->slot = stage_take(&rs->pool->stage, &copy);
		memcpy(copy, src, FMT_BLOCK);
		src = copy;
	} else if (!keep || (uintptr_t)src % FMT_BLOCK) {
		uint8_t *copy = b->buf + (uint64_t)b->buf_used++ * FMT_BLOCK;

		memcpy(copy, src, FMT_BLOCK);
		src = copy;
	}
	bb->data = src;
	bb->crc = pool_crc(src, FMT_BLOCK);
	b->iov[b->data_count++] = (struct iovec){ (void *)(uintptr_t)src, FMT_BLOCK };
	rs->pool->admitted_blocks++;
}
