/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The catalog: volumes, which copy of each bitmap is valid, what is being reclaimed.
 *
 * On disk a map of 4 KiB records by slot, written only by checkpoints; in memory one object a
 * slot.  Its nodes are sticky, so that a cut never waits for them.
 *
 * Thread: the pool's.  Memory is allocated by control operations only.
 */
#ifndef THIN_CATALOG_H
#define THIN_CATALOG_H

#include <bsd/sys/tree.h>

#include "thin/map.h"
#include "thin/thin.h"

struct req_state;
TAILQ_HEAD(range_list, req_state);

enum volume_state {
	VOLUME_LIVE = 1,     /* can be written */
	VOLUME_SNAPSHOT = 2, /* never changes */
	VOLUME_HIDDEN = 3,   /* deleted; others are built on it, or reclaim has yet to come */
};

/* A node of the lineage (lineage.h): a volume, a snapshot, or what is left of a deleted one. */
struct volume {
	RB_ENTRY(volume) by_name; /* not the hidden ones */
	RB_ENTRY(volume) by_id;
	uint64_t id, slot;
	uint64_t of; /* a snapshot's volume, which it is named after; else 0 */
	char name[THIN_NAME_MAX + 1];
	uint64_t size_bytes, created_s;
	uint64_t mapped_blocks, reserved_blocks;
	uint64_t own_blocks; /* of the mapped: younger than its parent */
	bool reserve_full;   /* every block of it is promised: see volume_promise() */
	struct tree tree;

	enum volume_state state;
	uint32_t generation; /* of a snapshot: it holds what was published up to then */
	uint32_t log_bound;  /* the youngest parent since the pool was opened, see lineage.h */
	struct volume *parent;
	uint64_t parent_id; /* while the catalog is being read */
	TAILQ_HEAD(, volume) children;
	TAILQ_ENTRY(volume) sibling;
	uint32_t child_count;
	TAILQ_ENTRY(volume) todo; /* lineage: the hidden ones, or those to be counted */
	bool listed;
	bool held;		   /* hidden, with several built on it: see lineage.h */
	bool splicing;		   /* its walk is under way: what lies before the cursor is done */
	uint64_t cursor;	   /* vblk */
	uint64_t freed_blocks;	   /* by the splice so far */
	uint64_t exclusive_blocks; /* of a snapshot: nobody else has them */
	bool exclusive_known;
	uint64_t reclaiming_blocks; /* of a hidden one: part of the pool's reclaim_blocks */
	uint32_t scrub_low;	    /* the scrub has read what is younger ... */
	uint64_t scrub_run;	    /* ... if this is it */
	uint32_t cut_count;	    /* trees under reclaim that it owns */
	struct thin_lock *lock;	    /* NULL: never locked, no settings */

	uint32_t open_count;
	uint32_t snapshots_open; /* handles of its snapshots */
	bool left_out;		 /* by a salvage: cannot be opened */
	bool removing;		 /* with its snapshots: none of them can be opened any more */
	uint32_t busy_count;	 /* data requests under way */
	/* a shrink that waits for busy_count to become 0, or a removal; all others wait for it */
	const struct req_state *barrier;
	/* Requests that change blocks: those under way, then those that wait for them, in order. */
	struct range_list ranges, range_waiting;
	struct task_list barrier_waiting;
};
RB_HEAD(volume_names, volume);
RB_HEAD(volume_ids, volume);

struct cat_slot {
	enum fmt_rec_kind kind;
	bool dirty;  /* in pool->catalog.dirty[] */
	bool placed; /* this cut has given it a block */
	/* ZONES: first zone / FMT_ZONES_PER_REC; WORK: its number; FREE: the next free slot + 1 */
	uint64_t index;
	struct volume *volume;
};

struct catalog {
	struct tree tree;
	struct cat_slot *slot;
	uint64_t slot_count, slot_capacity;
	uint64_t free_slot; /* slot + 1 of the first that is free; 0: none */
	uint64_t *dirty;    /* slots, dirty_count of slot_capacity */
	uint64_t dirty_count;
	uint64_t *zone_slot; /* slot of the record of zones i * FMT_ZONES_PER_REC ... */
	uint64_t zone_slot_count;
	struct volume_names names;
	struct volume_ids ids;
	uint64_t volume_count, snapshot_count, hidden_count;
	uint64_t next_id;
};

void catalog_init(struct catalog *c);
void catalog_fini(struct catalog *c);

/* A free slot of this kind, dirty.  -ENOMEM. */
int catalog_take_slot(struct catalog *c, enum fmt_rec_kind kind, uint64_t *ret_slot);
/* Room for `count` more slots and those of reclaim, so that taking them cannot fail.  -ENOMEM. */
int catalog_reserve_slots(struct catalog *c, uint64_t count);
void catalog_free_slot(struct catalog *c, uint64_t slot);
void catalog_touch(struct catalog *c, uint64_t slot);
/* Records for all zones there are; -ENOMEM. */
int catalog_cover_zones(struct catalog *c, uint64_t zone_count);

/* Nodes and blocks that the next cut takes for the catalog at most. */
uint64_t catalog_cut_blocks(const struct thin_pool *pool);

/* A volume (`of` 0), or a snapshot of the volume with id `of`. */
struct volume *volume_by_name(struct catalog *c, uint64_t of, const char *name);
/* "VOLUME" or "VOLUME@SNAPSHOT". */
struct volume *volume_by_path(struct catalog *c, const char *path);
struct volume *volume_by_id(struct catalog *c, uint64_t id);
/* The next in order of names; "" or NULL: the first. */
struct volume *volume_after(const struct catalog *c, uint64_t of, const char *name);
/* The next in order of ids, hidden ones included. */
struct volume *volume_after_id(const struct catalog *c, uint64_t id);
/* Make one and put it in; -ENOMEM.  The name is free. */
int volume_add(struct catalog *c, enum volume_state state, uint64_t id, uint64_t of,
	       const char *name, struct volume **ret_vol);
/* Forget it; its tree has been handed over, it has no children and no parent. */
void volume_remove(struct catalog *c, struct volume *vol);
void volume_rename(struct catalog *c, struct volume *vol, const char *name);
/* Its name is free again. */
void volume_hide(struct thin_pool *pool, struct volume *vol);
/* Count blocks that became (or are no longer) mapped, own, or provisioned; keeps the pool's sums.
 */
void volume_count(struct thin_pool *pool, struct volume *vol, int64_t mapped, int64_t own,
		  int64_t reserved);
/* Blocks that a volume with reserve_full may still ask for and must get. */
uint64_t volume_promise(const struct volume *vol);
/* Change what is promised: size and the flag. */
void volume_set_size(struct thin_pool *pool, struct volume *vol, uint64_t size_bytes,
		     bool reserve_full);
/* Keep a lock's state; -ENOMEM. */
int volume_set_lock(struct thin_pool *pool, struct volume *vol, const struct thin_lock *lock);
/* Its record has to be written by the next checkpoint. */
void volume_touch(struct thin_pool *pool, struct volume *vol);

/* For catalog_load.c: an empty one; put it in (slot, id, name and state are set); put a slot on the
 * list of those that are free. */
struct volume *volume_alloc(void);
void volume_insert(struct catalog *c, struct volume *vol);
void catalog_list_free(struct catalog *c, uint64_t slot);
/* Read every record (blocking; opening).  -EUCLEAN, -ENOMEM, -EIO. */
int catalog_load(struct thin_pool *pool, struct err *err);
/* Fill a record's block from memory (cutting). */
void catalog_encode(struct thin_pool *pool, uint64_t slot, void *block);

#endif
