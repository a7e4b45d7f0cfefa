/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reclaim: giving back, in the background, what deletions and large trims cut off.  Of a tree with
 * a bound only what is younger is given back; the rest is a snapshot's (lineage.h).
 *
 * A work item is a tree and a cursor; everything in front of the cursor has been given back.  It
 * goes leaf by leaf: the blocks of the leaf, the leaf, and each inner node when its last child has
 * been passed.  All of it is freed "at the next checkpoint" (space.h), and the same checkpoint
 * stores the cursor, so that a crash neither loses nor doubles a block.  DIRTY nodes of the tree
 * are written by a checkpoint like those of a volume, unless reclaim was faster.
 */
#ifndef THIN_RECLAIM_H
#define THIN_RECLAIM_H

#include "thin/map.h"

#define RECLAIM_ITEMS_MAX   4096u
#define RECLAIM_RECORDS_MAX ((RECLAIM_ITEMS_MAX + FMT_WORK_PER_REC - 1) / FMT_WORK_PER_REC)
#define RECLAIM_KEEP	    64u /* items kept for deletions; trims wait */

struct reclaim_item {
	STAILQ_ENTRY(reclaim_item) link;
	struct tree tree;
	uint64_t cursor; /* vblk within the tree, a multiple of 256 */
	uint32_t bound;	 /* fixed when it was cut off */
	/*
	 * The node of the lineage it was cut off from, or what has taken its place since: its own
	 * blocks count there, and in the references of everything that is built on it.  0: in the
	 * pool's reclaim_blocks, of which it holds `left`.
	 */
	uint64_t owner_id;
	uint64_t left;
	uint64_t mapped, reserved; /* passed, but not yet counted off where there are children */
};
STAILQ_HEAD(reclaim_items, reclaim_item);

struct reclaim {
	struct reclaim_item item[RECLAIM_ITEMS_MAX];
	struct reclaim_items work, unused;
	uint32_t count;
	/*
	 * A recovery has all items of the last durable cut and all that were added since at once,
	 * whatever has been given back meanwhile: these are what is bounded.
	 */
	uint32_t replay_count;		    /* ... from the last durable cut on */
	uint32_t cut_count;		    /* ... from the last cut on */
	uint64_t slot[RECLAIM_RECORDS_MAX]; /* of the catalog: the WORK records */
	uint64_t slot_count;
	struct task task;
	bool waiting; /* the task is on a node's list of waiters or stalled */
	bool changed; /* since the last cut */
	unsigned runs;
};

struct err;

void reclaim_init(struct thin_pool *pool);
struct reclaim_tree {
	struct fmt_entry root;
	uint32_t height, bound;
	struct volume *owner;
	uint64_t left; /* without an owner: data blocks at most */
};

/* Hand over a tree.  There is room: see reclaim_room(). */
void reclaim_add(struct thin_pool *pool, const struct reclaim_tree *tree);
/* What counts for `from` counts for `to` from now on. */
void reclaim_new_owner(struct thin_pool *pool, uint64_t from, uint64_t to);
/* The catalog has been read. */
void reclaim_loaded(struct thin_pool *pool);
uint32_t reclaim_room(const struct thin_pool *pool);
/* The last cut is durable. */
void reclaim_checkpointed(struct thin_pool *pool);
bool reclaim_pending(const struct thin_pool *pool);
/* Whether it has something to do and waits for nothing; not while the pool is being closed. */
bool reclaim_runs(const struct thin_pool *pool);
/* A slice of work; from thin_pool_run(). */
void reclaim_run(struct thin_pool *pool);

/* WORK records of the catalog. */
uint64_t reclaim_records(const struct thin_pool *pool);
/* Make the number of WORK slots fit and mark them dirty (cutting). */
void reclaim_cut(struct thin_pool *pool);
void reclaim_encode(struct thin_pool *pool, uint64_t index, struct fmt_rec_work *rec);
int reclaim_decode(struct thin_pool *pool, uint64_t slot, const struct fmt_rec_work *rec,
		   struct err *err);

#endif
