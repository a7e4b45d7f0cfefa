/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Space; the rules are in space.h.
 *
 * Index: blocks are numbered without the bitmap pages between them, zone after zone; every zone
 * has the same number of words, so that index -> (zone, bit) is a division by zone_blocks.
 *
 *   index = zone * zone_blocks + bit          pblk = zone_first + zone * (zone_blocks + 2) + 2 +
 * bit
 *
 * Looking for free blocks is space_search.c.
 */
#include "thin/space_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "thin/memory.h"

uint64_t space_zone_count(uint64_t zone_end, uint64_t log_pages, uint32_t zone_blocks)
{
	uint64_t used = FMT_LOG_FIRST + log_pages;
	uint64_t stride = zone_blocks + FMT_ZONE_BITMAPS;
	uint64_t room, zones;

	if (zone_end <= used + FMT_ZONE_BITMAPS)
		return 0;
	room = zone_end - used;
	zones = room / stride;
	/* a last, shorter zone must hold at least one block */
	return zones + (room % stride > FMT_ZONE_BITMAPS ? 1 : 0);
}

static void zone_layout(struct space *sp, uint64_t zone_end)
{
	uint64_t room = zone_end - sp->zone_first;
	uint64_t stride = sp->zone_blocks + FMT_ZONE_BITMAPS;

	sp->block_count = 0;
	for (uint64_t z = 0; z < sp->zone_count; z++) {
		uint64_t left = room - z * stride - FMT_ZONE_BITMAPS;

		sp->zone[z].blocks = (uint32_t)(left < sp->zone_blocks ? left : sp->zone_blocks);
		sp->block_count += sp->zone[z].blocks;
	}
}

static int fifo_init(struct space_fifo *f, uint64_t capacity)
{
	f->slot = memory_map(capacity * sizeof(*f->slot));
	f->capacity = capacity;
	f->head = f->tail = 0;
	return f->slot ? 0 : -ENOMEM;
}

static void fifo_fini(struct space_fifo *f)
{
	memory_unmap(f->slot, f->capacity * sizeof(*f->slot));
	f->slot = NULL;
}

static void fifo_push(struct space_fifo *f, uint64_t block, uint64_t until)
{
	assert(f->head - f->tail < f->capacity);
	f->slot[f->head++ % f->capacity] = (struct space_held){ block, until };
}

int space_init(struct space *sp, uint64_t zone_end, uint64_t log_pages, uint32_t zone_blocks,
	       const struct space_held_room *held)
{
	memset(sp, 0, sizeof(*sp));
	TAILQ_INIT(&sp->reads);
	sp->zone_first = FMT_LOG_FIRST + log_pages;
	sp->zone_blocks = zone_blocks;
	sp->zone_words = (zone_blocks + WORD_BITS - 1) / WORD_BITS;
	sp->zone_count = space_zone_count(zone_end, log_pages, zone_blocks);
	sp->zone = calloc(sp->zone_count, sizeof(*sp->zone));
	sp->map_bytes = sp->zone_count * sp->zone_words * sizeof(uint64_t);
	sp->alloc = memory_map(sp->map_bytes);
	sp->busy = memory_map(sp->map_bytes);
	sp->written = memory_map(space_written_bytes(sp->map_bytes));
	if (!sp->zone || !sp->alloc || !sp->busy || !sp->written ||
	    fifo_init(&sp->logged, held->logged) ||
	    fifo_init(&sp->checkpointed, held->checkpointed) ||
	    fifo_init(&sp->reading, held->logged + held->checkpointed)) {
		space_fini(sp);
		return -ENOMEM;
	}
	zone_layout(sp, zone_end);
	return 0;
}

void space_fini(struct space *sp)
{
	free(sp->zone);
	memory_unmap(sp->alloc, sp->map_bytes);
	memory_unmap(sp->busy, sp->map_bytes);
	memory_unmap(sp->written, space_written_bytes(sp->map_bytes));
	fifo_fini(&sp->logged);
	fifo_fini(&sp->checkpointed);
	fifo_fini(&sp->reading);
	sp->zone = NULL;
	sp->alloc = sp->busy = sp->written = NULL;
}

int space_grow(struct space *sp, uint64_t zone_end)
{
	uint64_t zones =
		space_zone_count(zone_end, sp->zone_first - FMT_LOG_FIRST, sp->zone_blocks);
	uint64_t bytes = zones * sp->zone_words * sizeof(uint64_t);
	struct space_zone *zone;
	uint64_t *alloc, *busy, *written;

	zone = calloc(zones, sizeof(*zone));
	alloc = memory_map(bytes);
	busy = memory_map(bytes);
	written = memory_map(space_written_bytes(bytes));
	if (!zone || !alloc || !busy || !written) {
		free(zone);
		memory_unmap(alloc, bytes);
		memory_unmap(busy, bytes);
		memory_unmap(written, space_written_bytes(bytes));
		return -ENOMEM;
	}
	memcpy(zone, sp->zone, sp->zone_count * sizeof(*zone));
	memcpy(alloc, sp->alloc, sp->map_bytes);
	memcpy(busy, sp->busy, sp->map_bytes);
	memcpy(written, sp->written, space_written_bytes(sp->map_bytes));
	free(sp->zone);
	memory_unmap(sp->alloc, sp->map_bytes);
	memory_unmap(sp->busy, sp->map_bytes);
	memory_unmap(sp->written, space_written_bytes(sp->map_bytes));
	sp->zone = zone;
	sp->alloc = alloc;
	sp->busy = busy;
	sp->written = written;
	sp->map_bytes = bytes;
	sp->zone_count = zones;
	zone_layout(sp, zone_end);
	return 0;
}

/* ---- addressing ---- */

struct where {
	uint64_t zone;
	uint64_t word;
	uint64_t mask;
};

static struct where where_is(const struct space *sp, uint64_t index)
{
	uint64_t zone = index / sp->zone_blocks, bit = index % sp->zone_blocks;

	return (struct where){ zone, zone * sp->zone_words + bit / WORD_BITS,
			       1ull << bit % WORD_BITS };
}

bool space_valid(const struct space *sp, struct pblk p)
{
	uint64_t stride = sp->zone_blocks + FMT_ZONE_BITMAPS, zone, bit;

	if (p.n < sp->zone_first)
		return false;
	zone = (p.n - sp->zone_first) / stride;
	bit = (p.n - sp->zone_first) % stride;
	return zone < sp->zone_count && bit >= FMT_ZONE_BITMAPS &&
	       bit - FMT_ZONE_BITMAPS < sp->zone[zone].blocks;
}

uint64_t space_index(const struct space *sp, struct pblk p)
{
	uint64_t stride = sp->zone_blocks + FMT_ZONE_BITMAPS;
	uint64_t rel = p.n - sp->zone_first;

	assert(space_valid(sp, p));
	return rel / stride * sp->zone_blocks + rel % stride - FMT_ZONE_BITMAPS;
}

struct pblk space_pblk(const struct space *sp, uint64_t index)
{
	uint64_t stride = sp->zone_blocks + FMT_ZONE_BITMAPS;

	return (struct pblk){ sp->zone_first + index / sp->zone_blocks * stride + FMT_ZONE_BITMAPS +
			      index % sp->zone_blocks };
}

struct pblk space_zone_pblk(const struct space *sp, uint64_t zone)
{
	return space_pblk(sp, zone * sp->zone_blocks);
}

struct pblk space_bitmap_pblk(const struct space *sp, uint64_t zone, unsigned copy)
{
	return (struct pblk){ sp->zone_first + zone * (sp->zone_blocks + FMT_ZONE_BITMAPS) + copy };
}

bool space_is_allocated(const struct space *sp, struct pblk p)
{
	struct where w = where_is(sp, space_index(sp, p));

	return sp->alloc[w.word] & w.mask;
}

/* ---- bits ---- */

static bool is_busy(const struct space *sp, uint64_t index)
{
	struct where w = where_is(sp, index);

	return sp->busy[w.word] & w.mask;
}

static void set_busy(struct space *sp, uint64_t index)
{
	struct where w = where_is(sp, index);

	assert(!(sp->busy[w.word] & w.mask));
	sp->busy[w.word] |= w.mask;
	sp->zone[w.zone].busy_count++;
	sp->busy_count++;
}

void space_set_candidate(struct space *sp, struct space_zone *zone, bool candidate)
{
	sp->candidates += (uint64_t)candidate - zone->candidate;
	zone->candidate = candidate;
}

void space_clear_busy(struct space *sp, uint64_t index)
{
	struct where w = where_is(sp, index);

	assert(sp->busy[w.word] & w.mask);
	assert(!(sp->alloc[w.word] & w.mask));
	sp->busy[w.word] &= ~w.mask;
	sp->zone[w.zone].busy_count--;
	space_set_candidate(sp, &sp->zone[w.zone], true);
	sp->busy_count--;
}

static void set_alloc(struct space *sp, uint64_t index)
{
	struct where w = where_is(sp, index);

	assert(!(sp->alloc[w.word] & w.mask));
	sp->alloc[w.word] |= w.mask;
	sp->zone[w.zone].alloc_count++;
	sp->zone[w.zone].dirty = true;
	sp->alloc_count++;
}

/* False: it was not allocated, which only a damaged pool can say. */
static bool clear_alloc(struct space *sp, uint64_t index)
{
	struct where w = where_is(sp, index);

	if (!(sp->alloc[w.word] & w.mask)) {
		sp->inconsistencies++;
		return false;
	}
	sp->alloc[w.word] &= ~w.mask;
	sp->zone[w.zone].alloc_count--;
	sp->zone[w.zone].dirty = true;
	sp->alloc_count--;
	return true;
}

void space_publish(struct space *sp, struct pblk p)
{
	uint64_t index = space_index(sp, p);
	struct where w = where_is(sp, index);

	if (sp->replaying && !(sp->busy[w.word] & w.mask))
		set_busy(sp, index);
	assert(sp->busy[w.word] & w.mask);
	set_alloc(sp, index);
}

void space_free_unpublished(struct space *sp, struct pblk p)
{
	space_clear_busy(sp, space_index(sp, p));
}

void space_free_logged(struct space *sp, struct pblk p, uint64_t log_seq)
{
	uint64_t index = space_index(sp, p);

	if (clear_alloc(sp, index) && !sp->replaying)
		fifo_push(&sp->logged, index, log_seq);
}

void space_free_at_checkpoint(struct space *sp, struct pblk p, uint64_t checkpoint)
{
	uint64_t index = space_index(sp, p);

	if (clear_alloc(sp, index))
		fifo_push(&sp->checkpointed, index, checkpoint);
}

bool space_mark(struct space *sp, struct pblk p)
{
	uint64_t index = space_index(sp, p);
	struct where w = where_is(sp, index);

	if (sp->alloc[w.word] & w.mask)
		return false;
	if (!(sp->busy[w.word] & w.mask))
		set_busy(sp, index);
	set_alloc(sp, index);
	return true;
}

static uint64_t fifo_used(const struct space_fifo *f)
{
	return f->head - f->tail;
}

/* What leaves the two rings may have to wait for reads, so that ring needs room as well. */
static uint64_t fifo_room(const struct space *sp, const struct space_fifo *f)
{
	uint64_t own = f->capacity - fifo_used(f);
	uint64_t used =
		fifo_used(&sp->logged) + fifo_used(&sp->checkpointed) + fifo_used(&sp->reading);
	uint64_t behind = used < sp->reading.capacity ? sp->reading.capacity - used : 0;

	return own < behind ? own : behind;
}

uint64_t space_room_logged(const struct space *sp)
{
	return fifo_room(sp, &sp->logged);
}

uint64_t space_room_checkpoint(const struct space *sp)
{
	return fifo_room(sp, &sp->checkpointed);
}

/* ---- release ---- */

/* The oldest read still in flight began at this stamp; blocks freed before it began are safe. */
static uint64_t oldest_read(const struct space *sp)
{
	const struct space_read *r = TAILQ_FIRST(&sp->reads);

	return r ? r->stamp : UINT64_MAX;
}

static void release_read(struct space *sp)
{
	struct space_fifo *f = &sp->reading;
	uint64_t oldest = oldest_read(sp);

	while (f->tail != f->head && f->slot[f->tail % f->capacity].until < oldest)
		space_clear_busy(sp, f->slot[f->tail++ % f->capacity].block);
}

static void release_fifo(struct space *sp, struct space_fifo *f, uint64_t until)
{
	while (f->tail != f->head && f->slot[f->tail % f->capacity].until <= until) {
		uint64_t block = f->slot[f->tail++ % f->capacity].block;

		if (TAILQ_EMPTY(&sp->reads))
			space_clear_busy(sp, block);
		else
			fifo_push(&sp->reading, block, sp->read_stamp);
	}
}

void space_flushed(struct space *sp, uint64_t log_seq)
{
	release_fifo(sp, &sp->logged, log_seq);
}

void space_checkpointed(struct space *sp, uint64_t checkpoint, uint64_t cut_seq)
{
	release_fifo(sp, &sp->logged, cut_seq);
	release_fifo(sp, &sp->checkpointed, checkpoint);
}

/* After replay only what is allocated or waits for the closing checkpoint is busy. */
void space_replayed(struct space *sp)
{
	struct space_fifo *f = &sp->checkpointed;

	sp->busy_count = 0;
	for (uint64_t z = 0; z < sp->zone_count; z++) {
		memcpy(&sp->busy[z * sp->zone_words], &sp->alloc[z * sp->zone_words],
		       sp->zone_words * sizeof(uint64_t));
		sp->zone[z].busy_count = sp->zone[z].alloc_count;
		sp->busy_count += sp->zone[z].alloc_count;
	}
	for (uint64_t i = f->tail; i != f->head; i++)
		if (!is_busy(sp, f->slot[i % f->capacity].block))
			set_busy(sp, f->slot[i % f->capacity].block);
	sp->replaying = false;
}

void space_read_begin(struct space *sp, struct space_read *r)
{
	r->stamp = ++sp->read_stamp;
	TAILQ_INSERT_TAIL(&sp->reads, r, link);
}

void space_read_end(struct space *sp, struct space_read *r)
{
	TAILQ_REMOVE(&sp->reads, r, link);
	release_read(sp);
}

/* ---- bitmap pages ---- */

void space_encode_bitmap(const struct space *sp, uint64_t zone, const uint8_t pool_id[16],
			 uint64_t generation, struct fmt_bitmap *page)
{
	memset(page, 0, sizeof(*page));
	page->magic = le32_put(FMT_BM_MAGIC);
	page->zone = le64_put(zone);
	page->generation = le64_put(generation);
	memcpy(page->pool_id, pool_id, sizeof(page->pool_id));
	for (uint32_t w = 0; w < sp->zone_words; w++)
		page->bits[w] = le64_put(sp->alloc[zone * sp->zone_words + w]);
}

void space_decode_bitmap(struct space *sp, uint64_t zone, const struct fmt_bitmap *page)
{
	for (uint32_t bit = 0; bit < sp->zone[zone].blocks; bit++)
		if (le64_get(page->bits[bit / WORD_BITS]) >> bit % WORD_BITS & 1)
			space_mark(sp, space_pblk(sp, zone * sp->zone_blocks + bit));
	sp->zone[zone].dirty = false;
}
