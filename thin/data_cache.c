/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The cache of data blocks; states and rules in data_cache.h.
 *
 * The table is open-addressed with linear probing and backward shift, half full at most; an entry
 * carries 32 bits of the hash, which say where it belongs and nearly always whether it is the one,
 * so that a look-up touches one line of the table and one slot.  The hash keeps eight neighbouring
 * blocks in one line: what is written together lies together.  All of it asks for huge pages; else
 * every look-up would miss the TLB too.
 *
 * A ghost is a fingerprint and the time of its eviction, counted in evictions, in a table of
 * buckets of four whose oldest gives way; one that is older than the main queue is long is none.
 */
#include "thin/data_cache.h"

#include <errno.h>
#include <string.h>

#include "thin/memory.h"

#define SLOTS_MIN   16u
#define SLOTS_MAX   (1u << 28)
#define LINE	    8u	/* places of the table in a line of the processor's cache */
#define SMALL_SHARE 10u /* the small queue's share of the slots */
#define GHOST_WAYS  4u
#define EVICT_STEPS 64u /* looked at for one slot, in each of two ways */
/* What one slot costs at most: page, slot, table (four places), ghosts. */
#define SLOT_COST                                                                                  \
	(FMT_BLOCK + sizeof(struct data_slot) + 4 * sizeof(uint64_t) +                             \
	 2 * sizeof(struct data_ghost))

static unsigned bits_for(uint64_t count)
{
	unsigned bits = 4;

	while (1ull << bits < count)
		bits++;
	return bits;
}

int data_cache_init(struct data_cache *dc, uint64_t bytes, const atomic_uint_fast64_t *asked)
{
	uint64_t count = bytes / SLOT_COST;

	memset(dc, 0, sizeof(*dc));
	if (!bytes)
		return 0;
	if (count < SLOTS_MIN)
		count = SLOTS_MIN;
	if (count > SLOTS_MAX)
		count = SLOTS_MAX;
	dc->table_bits = bits_for(2 * count);
	dc->ghost_bits = bits_for(count);
	dc->pages = memory_map(count * FMT_BLOCK);
	dc->slot = memory_map((count + 1) * sizeof(*dc->slot));
	dc->table = memory_map(sizeof(*dc->table) << dc->table_bits);
	dc->ghost = memory_map(sizeof(*dc->ghost) << dc->ghost_bits);
	dc->count = (uint32_t)count;
	memory_huge(dc->pages, count * FMT_BLOCK);
	memory_huge(dc->slot, (count + 1) * sizeof(*dc->slot));
	memory_huge(dc->table, sizeof(*dc->table) << dc->table_bits);
	memory_huge(dc->ghost, sizeof(*dc->ghost) << dc->ghost_bits);
	if (!dc->pages || !dc->slot || !dc->table || !dc->ghost) {
		data_cache_fini(dc);
		return -ENOMEM;
	}
	dc->small_target = dc->count / SMALL_SHARE ? dc->count / SMALL_SHARE : 1;
	dc->ghost_span = dc->count - dc->small_target;
	dc->bytes = count * FMT_BLOCK + (count + 1) * sizeof(*dc->slot) +
		    (sizeof(*dc->table) << dc->table_bits) + (sizeof(*dc->ghost) << dc->ghost_bits);
	prefault_start(&dc->prefault, dc->pages, count * FMT_BLOCK, asked);
	return 0;
}

void data_cache_fini(struct data_cache *dc)
{
	prefault_stop(&dc->prefault);
	memory_unmap(dc->pages, (uint64_t)dc->count * FMT_BLOCK);
	memory_unmap(dc->slot, ((uint64_t)dc->count + 1) * sizeof(*dc->slot));
	memory_unmap(dc->table, sizeof(*dc->table) << dc->table_bits);
	memory_unmap(dc->ghost, sizeof(*dc->ghost) << dc->ghost_bits);
	memset(dc, 0, sizeof(*dc));
}

/* ---- the table ---- */

/* Of the line's number, with the place in the line: neighbours share a line of the table. */
static uint32_t hash_of(uint64_t pblk)
{
	uint32_t line = (uint32_t)(pblk / LINE * 0x9e3779b97f4a7c15ull >> 32);

	return line / LINE * LINE + (uint32_t)(pblk % LINE);
}

static uint32_t home_of(const struct data_cache *dc, uint32_t hash)
{
	return (hash >> (32 - dc->table_bits)) / LINE * LINE + hash % LINE;
}

static uint32_t next_place(const struct data_cache *dc, uint32_t i)
{
	return (i + 1) & ((1u << dc->table_bits) - 1);
}

/* Where the block is, or the free place where it would be. */
static uint32_t place_of(const struct data_cache *dc, uint64_t pblk)
{
	uint32_t hash = hash_of(pblk), i = home_of(dc, hash);

	while (dc->table[i]) {
		if (dc->table[i] >> 32 == hash && dc->slot[(uint32_t)dc->table[i]].key.pblk == pblk)
			break;
		i = next_place(dc, i);
	}
	return i;
}

static uint32_t table_find(const struct data_cache *dc, uint64_t pblk)
{
	return (uint32_t)dc->table[place_of(dc, pblk)];
}

void data_cache_expect(const struct data_cache *dc, const uint64_t *pblk, uint32_t count)
{
	if (!dc->count)
		return;
	for (uint32_t i = 0; i < count; i++)
		if (pblk[i])
			__builtin_prefetch(&dc->table[home_of(dc, hash_of(pblk[i]))], 1);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t hash = hash_of(pblk[i]);
		uint64_t found = dc->table[home_of(dc, hash)];

		if (pblk[i] && found >> 32 == hash)
			__builtin_prefetch(&dc->slot[(uint32_t)found], 1);
	}
}

static void table_insert(struct data_cache *dc, uint32_t slot)
{
	uint64_t pblk = dc->slot[slot].key.pblk;
	uint32_t i = place_of(dc, pblk);

	assert(!dc->table[i]);
	dc->table[i] = (uint64_t)hash_of(pblk) << 32 | slot;
}

static void table_remove(struct data_cache *dc, uint32_t slot)
{
	uint32_t mask = (1u << dc->table_bits) - 1;
	uint32_t hole = place_of(dc, dc->slot[slot].key.pblk), i = hole;

	assert((uint32_t)dc->table[hole] == slot);
	for (;;) {
		uint32_t home;

		i = next_place(dc, i);
		if (!dc->table[i])
			break;
		home = home_of(dc, (uint32_t)(dc->table[i] >> 32));
		if (((i - home) & mask) < ((i - hole) & mask))
			continue; /* it would come to stand in front of its home */
		dc->table[hole] = dc->table[i];
		hole = i;
	}
	dc->table[hole] = 0;
}

/* ---- queues ---- */

static struct data_queue *queue_of(struct data_cache *dc, uint8_t state)
{
	return state == DATA_MAIN ? &dc->main : &dc->small;
}

static void queue_push(struct data_cache *dc, uint32_t slot, enum data_state state)
{
	struct data_queue *q = queue_of(dc, state);
	struct data_slot *s = &dc->slot[slot];

	s->state = state;
	s->prev = 0;
	s->next = q->head;
	if (q->head)
		dc->slot[q->head].prev = slot;
	else
		q->tail = slot;
	q->head = slot;
	q->count++;
}

static void queue_remove(struct data_cache *dc, uint32_t slot)
{
	struct data_slot *s = &dc->slot[slot];
	struct data_queue *q = queue_of(dc, s->state);

	if (s->prev)
		dc->slot[s->prev].next = s->next;
	else
		q->head = s->next;
	if (s->next)
		dc->slot[s->next].prev = s->prev;
	else
		q->tail = s->prev;
	q->count--;
}

/* ---- ghosts ---- */

static struct data_ghost *ghost_bucket(struct data_cache *dc, struct data_key key,
				       uint32_t *ret_print)
{
	uint64_t h = (key.pblk ^ (uint64_t)key.crc << 32 ^ (uint64_t)key.birth << 13) *
		     0xbf58476d1ce4e5b9ull;

	h ^= h >> 29;
	*ret_print = (uint32_t)h | 1;
	return &dc->ghost[(h >> 32 & ((1ull << dc->ghost_bits) - 1)) / GHOST_WAYS * GHOST_WAYS];
}

static void ghost_add(struct data_cache *dc, struct data_key key)
{
	uint32_t print, oldest = 0;
	struct data_ghost *g = ghost_bucket(dc, key, &print);

	dc->ghost_time++;
	for (uint32_t i = 0; i < GHOST_WAYS; i++) {
		if (!g[i].print) {
			oldest = i;
			break;
		}
		if (dc->ghost_time - g[i].time > dc->ghost_time - g[oldest].time)
			oldest = i;
	}
	g[oldest] = (struct data_ghost){ print, dc->ghost_time };
}

static bool ghost_take(struct data_cache *dc, struct data_key key)
{
	uint32_t print;
	struct data_ghost *g = ghost_bucket(dc, key, &print);

	for (uint32_t i = 0; i < GHOST_WAYS; i++)
		if (g[i].print == print) {
			g[i].print = 0;
			return dc->ghost_time - g[i].time < dc->ghost_span;
		}
	return false;
}

/* ---- slots ---- */

static void slot_free(struct data_cache *dc, uint32_t slot)
{
	struct data_slot *s = &dc->slot[slot];

	s->state = DATA_UNUSED;
	s->next = dc->unused;
	dc->unused = slot;
}

/* Look at the end of a queue; true: a slot has become free. */
static bool evict_step(struct data_cache *dc, bool small)
{
	struct data_queue *q = small ? &dc->small : &dc->main;
	uint32_t slot = q->tail;
	struct data_slot *s = &dc->slot[slot];
	uint8_t keep = small ? 2 : 1; /* asked for so often: it stays */

	if (!slot)
		return false;
	queue_remove(dc, slot);
	if (s->pins) {
		queue_push(dc, slot, s->state);
		return false;
	}
	if (s->freq >= keep) {
		s->freq = small ? 0 : s->freq - 1;
		queue_push(dc, slot, DATA_MAIN);
		return false;
	}
	if (small)
		ghost_add(dc, s->key);
	table_remove(dc, slot);
	slot_free(dc, slot);
	return true;
}

static void evict(struct data_cache *dc)
{
	for (unsigned i = 0; i < EVICT_STEPS; i++)
		if (evict_step(dc, dc->small.count > dc->small_target || !dc->main.count))
			return;
	/* everything in the main queue is in use: it goes on ageing with the next calls */
	for (unsigned i = 0; i < EVICT_STEPS; i++)
		if (evict_step(dc, dc->small.count))
			return;
}

static uint32_t slot_unused(struct data_cache *dc)
{
	uint32_t slot = dc->unused;

	if (slot)
		dc->unused = dc->slot[slot].next;
	else if (dc->fresh < dc->count)
		slot = ++dc->fresh;
	return slot;
}

uint32_t data_cache_take(struct data_cache *dc)
{
	struct data_slot *s;
	uint32_t slot;

	/* a quarter is never pinned, so that there is something to evict */
	if (dc->pinned >= dc->count - dc->count / 4)
		return 0;
	if (!dc->unused && dc->fresh == dc->count)
		evict(dc);
	slot = slot_unused(dc);
	if (!slot)
		return 0;
	s = &dc->slot[slot];
	s->state = DATA_HELD;
	s->freq = 0;
	s->pins = 1;
	dc->pinned++;
	return slot;
}

void data_cache_pin(struct data_cache *dc, uint32_t slot)
{
	struct data_slot *s = &dc->slot[slot];

	assert(s->state != DATA_UNUSED && s->pins < UINT16_MAX);
	if (!s->pins++)
		dc->pinned++;
}

void data_cache_unpin(struct data_cache *dc, uint32_t slot)
{
	struct data_slot *s = &dc->slot[slot];

	assert(s->pins);
	if (--s->pins)
		return;
	dc->pinned--;
	if (s->state == DATA_HELD || s->state == DATA_BAD)
		slot_free(dc, slot);
}

bool data_cache_may_pin(const struct data_cache *dc, uint32_t count)
{
	return dc->pinned + count <= dc->count / 2;
}

/* ---- blocks ---- */

/* Make it invisible; those who have pinned it keep it. */
static void hide(struct data_cache *dc, uint32_t slot, enum data_state state)
{
	struct data_slot *s = &dc->slot[slot];

	table_remove(dc, slot);
	if (s->state != DATA_FILLING)
		queue_remove(dc, slot);
	s->state = state;
	if (!s->pins)
		slot_free(dc, slot);
}

uint32_t data_cache_find(struct data_cache *dc, struct data_key key)
{
	uint32_t slot = dc->count ? table_find(dc, key.pblk) : 0;
	const struct data_slot *s = &dc->slot[slot];

	if (!slot || (s->key.birth == key.birth && s->key.crc == key.crc && s->pins < UINT16_MAX))
		return slot;
	return 0;
}

static void enter(struct data_cache *dc, uint32_t slot, struct data_key key)
{
	/* only a damaged map names a block twice, by entries that disagree */
	data_cache_drop(dc, key.pblk);
	dc->slot[slot].key = key;
	table_insert(dc, slot);
}

void data_cache_announce(struct data_cache *dc, uint32_t slot, struct data_key key, uint32_t fill)
{
	assert(dc->slot[slot].state == DATA_HELD);
	enter(dc, slot, key);
	dc->slot[slot].state = DATA_FILLING;
	dc->slot[slot].fill = fill;
}

static void queue_new(struct data_cache *dc, uint32_t slot)
{
	bool known = ghost_take(dc, dc->slot[slot].key);

	queue_push(dc, slot, known ? DATA_MAIN : DATA_SMALL);
}

void data_cache_filled(struct data_cache *dc, uint32_t slot)
{
	if (dc->slot[slot].state == DATA_FILLING)
		queue_new(dc, slot);
	data_cache_unpin(dc, slot);
}

void data_cache_spoilt(struct data_cache *dc, uint32_t slot)
{
	struct data_slot *s = &dc->slot[slot];

	if (s->state == DATA_FILLING)
		hide(dc, slot, DATA_BAD);
	else
		s->state = DATA_BAD;
	data_cache_unpin(dc, slot);
}

void data_cache_drop(struct data_cache *dc, uint64_t pblk)
{
	uint32_t slot = dc->count ? table_find(dc, pblk) : 0;

	if (slot)
		hide(dc, slot, DATA_HELD);
}

uint32_t data_cache_rename(struct data_cache *dc, uint64_t pblk, struct data_key key)
{
	uint32_t slot = table_find(dc, pblk);
	struct data_slot *s = &dc->slot[slot];

	if (!slot || s->pins || s->state == DATA_FILLING)
		return 0;
	table_remove(dc, slot);
	enter(dc, slot, key);
	data_cache_hit(dc, slot);
	return slot;
}

uint32_t data_cache_add(struct data_cache *dc, struct data_key key)
{
	uint32_t slot = slot_unused(dc);

	if (!slot)
		return 0;
	enter(dc, slot, key);
	dc->slot[slot].freq = 0;
	queue_new(dc, slot);
	return slot;
}
