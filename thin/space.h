/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Space: which blocks are allocated, which may be handed out, and since when.
 *
 * Two bits a block in memory.  ALLOC: referenced by what is published (a checkpoint writes these
 * bits).  BUSY: must not be handed out: allocated, or on its way to be, or freed but not yet
 * reusable.  ALLOC implies BUSY.  A freed block loses ALLOC at once and BUSY by the reuse table:
 *
 *   freed by                                   loses BUSY when
 *   a logged overwrite or unmapping            the flush that covers the record has completed,
 *   (space_free_logged)                        or a checkpoint whose cut is behind it is durable
 *   replacing a node, reclaim                  the next checkpoint's superblock is durable
 *   (space_free_at_checkpoint)
 *   a write that was never published           at once
 *   (space_free_unpublished)
 *
 * and in the first two rows not before every read that was in flight then has ended
 * (space_read_begin, space_read_end).
 *
 * Thread: the pool's.  No call blocks; no allocation of memory behind space_init().
 */
#ifndef THIN_SPACE_H
#define THIN_SPACE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "thin/format.h"

struct pblk {
	uint64_t n;
};

/* A read that keeps freed blocks from being reused.  Belongs to the reader. */
struct space_read {
	TAILQ_ENTRY(space_read) link;
	uint64_t stamp;
};
TAILQ_HEAD(space_reads, space_read);

struct space_held {
	uint64_t block; /* index into the bitmaps */
	uint64_t until; /* log page, checkpoint number or read stamp */
};

/* A ring of held blocks in order of `until`. */
struct space_fifo {
	struct space_held *slot;
	uint64_t capacity, head, tail; /* head - tail entries; indices modulo capacity */
};

struct space_zone {
	uint32_t blocks;     /* data blocks in it */
	uint32_t busy_count; /* of BUSY bits */
	uint32_t alloc_count;
	uint32_t crc, generation; /* of the valid copy; generation 0: never written, all free */
	uint8_t copy;		  /* the valid copy of its page */
	bool dirty;		  /* ALLOC differs from the valid copy */
	bool damaged;		  /* its page could not be read: rebuilt from the trees */
	bool candidate;		  /* something was freed since it was last punched */
	bool known;		  /* `written` has been told what the device says of it */
	uint32_t written_words;	  /* of its words in `written` */
};

#define SPACE_PATH_MAX 64u /* zones that the allocator is expected to go through next */

struct space {
	uint64_t zone_first; /* pblk of zone 0's first bitmap page */
	uint32_t zone_blocks;
	uint64_t zone_count;
	struct space_zone *zone;
	uint64_t *alloc, *busy; /* zone_words words a zone */
	uint32_t zone_words;
	uint64_t block_count, alloc_count, busy_count;
	uint64_t cursor_data, cursor_meta; /* index where the search goes on */
	struct space_fifo logged, checkpointed, reading;
	struct space_reads reads;
	uint64_t read_stamp;
	uint64_t inconsistencies; /* blocks freed that were not allocated: damage */
	bool replaying;		  /* frees only clear ALLOC; space_replayed() settles BUSY */
	uint64_t map_bytes;
	uint64_t punch_zone; /* where space_withhold_free_run() goes on */
	uint32_t punch_bit;
	uint64_t candidates; /* zones with that flag */
	/* what the device has been written, so that writing there again costs it no space: a bit
	 * for 64 blocks, which is a word of `busy`; a hint */
	uint64_t *written;
	uint64_t written_end;	       /* no zone from here on has any */
	uint64_t taken;		       /* blocks handed out since open */
	uint64_t path[SPACE_PATH_MAX]; /* see space_find_gap() */
	uint32_t path_count;
};

/* How many zones lie between the log ring and block `zone_end`. */
uint64_t space_zone_count(uint64_t zone_end, uint64_t log_pages, uint32_t zone_blocks);

/* How many blocks may be held at once. */
struct space_held_room {
	uint64_t logged, checkpointed;
};

/* -ENOMEM. */
int space_init(struct space *sp, uint64_t zone_end, uint64_t log_pages, uint32_t zone_blocks,
	       const struct space_held_room *held);
void space_fini(struct space *sp);
/* The zones now end at block `zone_end`, which is not smaller than before; new blocks are free.
 * -ENOMEM, nothing changed. */
int space_grow(struct space *sp, uint64_t zone_end);

bool space_valid(const struct space *sp, struct pblk p);
bool space_is_allocated(const struct space *sp, struct pblk p);
uint64_t space_index(const struct space *sp, struct pblk p);
struct pblk space_pblk(const struct space *sp, uint64_t index);
/* The first block of a zone behind its bitmap pages; the others follow it. */
struct pblk space_zone_pblk(const struct space *sp, uint64_t zone);
/* pblk of a zone's bitmap copy. */
struct pblk space_bitmap_pblk(const struct space *sp, uint64_t zone, unsigned copy);

/* Blocks that could be handed out now. */
static inline uint64_t space_free_count(const struct space *sp)
{
	return sp->block_count - sp->busy_count;
}

/* Take up to `want` adjacent blocks (BUSY, not ALLOC); returns how many, 0: none are free. */
uint64_t space_take_run(struct space *sp, uint64_t want, bool metadata, struct pblk *ret_first);
void space_publish(struct space *sp, struct pblk p);
void space_free_unpublished(struct space *sp, struct pblk p);
void space_free_logged(struct space *sp, struct pblk p, uint64_t log_seq);
void space_free_at_checkpoint(struct space *sp, struct pblk p, uint64_t checkpoint);
/* Room in the rings of held blocks. */
uint64_t space_room_logged(const struct space *sp);
uint64_t space_room_checkpoint(const struct space *sp);

void space_flushed(struct space *sp, uint64_t log_seq);
void space_checkpointed(struct space *sp, uint64_t checkpoint, uint64_t cut_seq);
void space_replayed(struct space *sp);

void space_read_begin(struct space *sp, struct space_read *r);
void space_read_end(struct space *sp, struct space_read *r);

/* Bitmap page of a zone in its disk form; a bitmap's bits into memory. */
void space_encode_bitmap(const struct space *sp, uint64_t zone, const uint8_t pool_id[16],
			 uint64_t generation, struct fmt_bitmap *page);
void space_decode_bitmap(struct space *sp, uint64_t zone, const struct fmt_bitmap *page);
/* Set ALLOC and BUSY of one block (rebuilding from the trees).  False: it was set. */
bool space_mark(struct space *sp, struct pblk p);

/* ---- space_search.c ---- */

/*
 * The first run of free, not yet written blocks on the way that the allocator is going to take,
 * when fewer than `ahead` written ones lie in front of it.  That way (sp->path): the rest of the
 * zone it is in, then zones that are at least half free, those with written blocks first.
 */
enum space_gap_kind {
	SPACE_GAP_NONE,	   /* `ahead` free blocks are written, or there are no more */
	SPACE_GAP_RUN,	   /* `count` blocks from `first` */
	SPACE_GAP_UNKNOWN, /* `zone` is on the way: tell what is written in it first */
};
struct space_gap {
	enum space_gap_kind kind;
	uint64_t zone;
	struct pblk first;
	uint64_t count;
};
/* `skip` free blocks in front are left alone, a run has at most `max`. */
void space_find_gap(struct space *sp, uint64_t ahead, uint64_t skip, uint64_t max,
		    struct space_gap *ret_gap);
void space_withhold_run(struct space *sp, struct pblk first, uint64_t count);
/* Blocks of one zone: the 64-block words that they touch. */
void space_set_written(struct space *sp, struct pblk first, uint64_t count, bool written);

/* Find a run of at least `min` free blocks in candidate zones off the path, mark it BUSY; 0: none.
 */
uint64_t space_withhold_free_run(struct space *sp, uint64_t min, uint64_t max,
				 struct pblk *ret_first);
bool space_punch_pending(const struct space *sp);
void space_release_run(struct space *sp, struct pblk first, uint64_t count);

#endif
