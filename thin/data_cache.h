/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The cache of data blocks: a fixed number of slots of one block each, in one piece of memory.
 *
 *	           take()                announce()
 *	UNUSED ------------> HELD --------------------> FILLING --filled()--> SMALL / MAIN
 *	   ^ `----------------+---------- add() -----------------------------------^  |
 *	   `--- last unpin ---+<------------- drop(), spoilt() ----------------------+
 *	   `------------------------------- evicted ----------------------------------+
 *
 * Key: a block is found by its place in the pool, and only if birth and crc are those of the entry
 * that names it.  That alone is not enough: a block may be freed and written again within one
 * generation, with other bytes of the same crc.  So it is dropped when it is freed (map.c,
 * reclaim.c); what is visible is at every moment a subset of the allocated blocks.
 *
 * Visible are only bytes that were checked against the crc or that were just written, and of those
 * only what is published in a map.  A slot with pins keeps its bytes and its place in memory,
 * whatever becomes of its block: a pin is held for a device's transfer and for an answer that has
 * not left yet.  Dropped while pinned it becomes HELD: nobody finds it any more.
 *
 * Eviction is S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are all you need for cache
 * eviction", SOSP 2023): new blocks enter a small queue of a tenth of the slots and go on to the
 * main queue if they were asked for twice while they were there; what leaves the small queue
 * without is remembered, as a fingerprint, for as long as the main queue is long, and enters the
 * main queue when it comes back.  So a scan runs through a tenth of the cache.  A hit only counts
 * in the slot; nothing is moved.  A block that is overwritten hands its slot on.
 *
 * Size 0: off; every call is then cheap and finds nothing.  Thread: the pool's.  No allocation
 * behind data_cache_init().
 */
#ifndef THIN_DATA_CACHE_H
#define THIN_DATA_CACHE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "thin/format.h"
#include "thin/prefault.h"

enum data_state {
	DATA_UNUSED,
	DATA_HELD,    /* somebody's who has pinned it; not to be found */
	DATA_BAD,     /* the same, and its bytes are not what they should be */
	DATA_FILLING, /* to be found; a device read is on its way */
	DATA_SMALL,
	DATA_MAIN,
};

struct data_key {
	uint64_t pblk;
	uint32_t birth, crc;
};

struct data_slot {
	struct data_key key;
	uint32_t next, prev; /* in its queue; `next` also links the unused ones */
	uint32_t fill;	     /* FILLING: whatever data_cache_announce() was given */
	uint16_t pins;
	uint8_t state, freq;
};

struct data_queue {
	uint32_t head, tail, count; /* new ones at the head */
};

struct data_ghost {
	uint32_t print, time;
};

struct data_cache {
	uint8_t *pages;
	struct data_slot *slot; /* slots count from 1 */
	uint64_t *table;	/* hash << 32 | slot, linear probing; at most half full */
	struct data_ghost *ghost;
	uint32_t count, unused, fresh; /* slots behind `fresh` were never used */
	uint32_t held;		       /* not in the table */
	uint32_t pinned;	       /* slots with pins */
	uint32_t small_target, ghost_span, ghost_time;
	unsigned table_bits, ghost_bits;
	struct data_queue small, main;
	uint64_t bytes; /* all of it */
	struct prefault prefault;
};

/* `bytes` is all that it may take, its tables included; `asked`: see prefault_start().  -ENOMEM. */
int data_cache_init(struct data_cache *dc, uint64_t bytes, const atomic_uint_fast64_t *asked);
void data_cache_fini(struct data_cache *dc);

static inline bool data_cache_on(const struct data_cache *dc)
{
	return dc->count;
}

static inline uint8_t *data_cache_page(const struct data_cache *dc, uint32_t slot)
{
	return dc->pages + (uint64_t)(slot - 1) * FMT_BLOCK;
}

/* The slot of an address within a page; 0: none of the cache's. */
static inline uint32_t data_cache_slot_at(const struct data_cache *dc, const void *at)
{
	uint64_t offset = (uint64_t)((const uint8_t *)at - dc->pages);

	return offset < (uint64_t)dc->count * FMT_BLOCK ? (uint32_t)(offset / FMT_BLOCK) + 1 : 0;
}

static inline enum data_state data_cache_state(const struct data_cache *dc, uint32_t slot)
{
	return (enum data_state)dc->slot[slot].state;
}

/* The slot that has the block, perhaps still FILLING; 0: none. */
uint32_t data_cache_find(struct data_cache *dc, struct data_key key);
/* It was asked for. */
static inline void data_cache_hit(struct data_cache *dc, uint32_t slot)
{
	if (dc->slot[slot].freq < 3)
		dc->slot[slot].freq++;
}

/* A slot for a block to come: HELD, pinned once; 0: none to be had. */
uint32_t data_cache_take(struct data_cache *dc);
/* HELD -> FILLING; `fill` is the caller's. */
void data_cache_announce(struct data_cache *dc, uint32_t slot, struct data_key key, uint32_t fill);
/* FILLING -> found by everybody, if it was not dropped meanwhile; takes the filler's pin. */
void data_cache_filled(struct data_cache *dc, uint32_t slot);
/* ... or could not be read, or does not match: only those who wait see it. */
void data_cache_spoilt(struct data_cache *dc, uint32_t slot);
/* Have the processor fetch what looking for these blocks will read, all of them at a time: each of
 * the two places that a look-up reads is a miss otherwise.  0: no block.  Changes nothing. */
void data_cache_expect(const struct data_cache *dc, const uint64_t *pblk, uint32_t count);
/* The block was freed. */
void data_cache_drop(struct data_cache *dc, uint64_t pblk);
/*
 * Block `pblk` is replaced by `key`: its slot, whose bytes the caller puts there before he does
 * anything else; 0: it has none, or one that must stay as it is.
 */
uint32_t data_cache_rename(struct data_cache *dc, uint64_t pblk, struct data_key key);
/* The same with a slot that was unused. */
uint32_t data_cache_add(struct data_cache *dc, struct data_key key);

void data_cache_pin(struct data_cache *dc, uint32_t slot);
/* With the last pin a HELD or BAD slot is given back. */
void data_cache_unpin(struct data_cache *dc, uint32_t slot);
/* Whether `count` more slots may be pinned for as long as a client likes. */
bool data_cache_may_pin(const struct data_cache *dc, uint32_t count);

/* Slots that hold a block. */
static inline uint64_t data_cache_used(const struct data_cache *dc)
{
	return (uint64_t)dc->small.count + dc->main.count;
}

#endif
