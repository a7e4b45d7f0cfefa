/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lineage: volumes, snapshots and clones as one forest.
 *
 *	A snapshot of volume V takes V's place in the forest, its tree and its parent; V goes on as
 *	its child with the same tree.  A clone is a further child of a snapshot.  A rollback makes V
 *	a new child of the snapshot; what V was stays behind as a hidden node.  Volumes are leaves.
 *
 * Who has a block?  Every block and map node carries its birth, the generation in which it was
 * published or last changed; a snapshot carries the generation in which it was taken.  A node X of
 * the forest with parent P refers to a block
 *
 *	born after P was taken		X's own: nobody else but X's children can have it
 *	born before			P has it too
 *
 * because trees only change in leaves of the forest, and what they replace is not theirs to free
 * when it is older than P.  `lineage_bound()` is P's generation.  This is all that is needed:
 * no counts of references, no lists of dead blocks.
 *
 * Deleting only hides a node (one log record).  The rest happens in the background, one node at a
 * time, and is never logged; a checkpoint stores how far it came:
 *
 *	no children	the tree becomes a work item of reclaim with the bound as it is then
 *	one child	a splice: walk the node's tree in step with the child's.  Where both name
 *			the same block the child keeps it, with all below; what is older than the
 *			bound the parent keeps; the rest is freed.  So the walk costs what it frees.
 *			Then the child becomes a child of P.
 *	several		nothing until one is left
 *
 * A splice waits while trees that were cut off from the child are being given back: they still go
 * through nodes that they share with S, to count what they held.
 *
 * While S is being spliced, its child C may be written.  Left of the cursor S is already gone:
 * there C's bound is P's generation, right of it S's.  A map node that the cursor stands within
 * cannot be shared by both, so its birth decides alike on both sides.  A range that C unmaps is
 * parted at the cursor.
 *
 * A crash takes the cursor back to the last checkpoint, and the log is replayed against that: what
 * C freed only because the cursor had passed is freed again by the walk.  So nobody may have been
 * given such a block meanwhile: whatever is older than the youngest parent that the volume has had
 * since the pool was opened (`log_bound`) is freed at the checkpoint, which has the cursor, and not
 * by the log record.
 *
 * `exclusive_blocks` of a snapshot, what deleting it would free, is kept up as its child drops
 * blocks, and counted anew, by the same walk without freeing, when the forest changes around it.
 *
 * tests/model/ has the same rules as a model, and tries all interleavings of a few operations on it.
 *
 * Thread: the pool's.
 */
#ifndef THIN_LINEAGE_H
#define THIN_LINEAGE_H

#include "thin/catalog.h"

struct err;

struct lineage {
	TAILQ_HEAD(, volume) hidden;	/* deleted, still there, and at most one is built on it */
	TAILQ_HEAD(, volume) uncounted; /* snapshots with one child and exclusive_known false */
	struct volume *splice;		/* the one whose walk is under way */
	struct volume *count;		/* the snapshot being counted */
	uint64_t count_cursor, counted;
	uint64_t count_steps;
	uint64_t count_from_ms;		  /* no count begins earlier */
	uint64_t held_count, held_blocks; /* hidden with several children, and what is their own */
	unsigned turns;
	uint64_t version; /* of the forest: rises when it changes */
	bool changed; /* worth looking for something to do */
	bool waiting; /* the task is on a node's list of waiters or stalled */
	struct task task;
};

void lineage_init(struct thin_pool *pool);
/* All records are read: resolve the parents, continue a splice.  -EUCLEAN. */
int lineage_load(struct thin_pool *pool, struct err *err);

/* What is born later at `v` is the node's own. */
uint32_t lineage_bound(const struct volume *vol, struct vblk v);
/* A range of `vol` that is treated as one must not lie on both sides of this; 0: nothing. */
uint64_t lineage_cursor(const struct volume *vol);

/* The volume's leaf has no use for the block at `v` any more, by the record on page `log_seq`. */
void lineage_drop_block(struct thin_pool *pool, struct volume *vol, struct vblk v, struct ent e,
			uint64_t log_seq);
/* Of such a subtree, a block that only `vol` had has been freed. */
void lineage_count_freed(struct thin_pool *pool, struct volume *vol, struct ent e);
/* A whole subtree was cut off. */
void lineage_cut(struct thin_pool *pool, struct volume *vol);

/* What operations do; memory and records have been seen to. */
/* `snap`, just added, takes the place of `vol`. */
void lineage_snapshot(struct thin_pool *pool, struct volume *vol, struct volume *snap);
/* `vol`, just added or without a parent, becomes a child of `snap` with its content. */
void lineage_branch(struct thin_pool *pool, struct volume *vol, struct volume *snap);
/* `old`, just added and hidden, takes the place and the content of `vol`. */
void lineage_leave_behind(struct thin_pool *pool, struct volume *vol, struct volume *old);
void lineage_hide(struct thin_pool *pool, struct volume *vol);

/* What is built on `top`, one after the other, each before what is built on it: the one behind
 * `vol`, which is `top` at first.  NULL: that was all. */
struct volume *lineage_below(const struct volume *top, struct volume *vol);
/* The same, passing over what is built on `vol`. */
struct volume *lineage_behind(const struct volume *top, struct volume *vol);

/* Blocks that deleting it would free; false: being counted, this is what was known last. */
bool lineage_exclusive(const struct volume *vol, uint64_t *ret_blocks);

bool lineage_pending(const struct thin_pool *pool); /* something deleted can be given back */
bool lineage_runs(const struct thin_pool *pool);    /* ... or counted, and it waits for nothing */
uint64_t lineage_deadline_ms(const struct thin_pool *pool); /* when it wants to run */
/* A slice of the background work; from thin_pool_run(). */
void lineage_run(struct thin_pool *pool);

#endif
