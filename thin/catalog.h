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

struct volume {
	RB_ENTRY(volume) by_name;
	RB_ENTRY(volume) by_id;
	uint64_t id, slot;
	char name[THIN_NAME_MAX + 1];
	uint64_t size_bytes, created_s;
	uint64_t mapped_blocks, reserved_blocks;
	bool reserve_full; /* every block of it is promised: see volume_promise() */
	struct tree tree;
	uint32_t open_count;
	uint32_t busy_count; /* data requests under way */
	/* a shrink that waits for busy_count to become 0; all others wait for it */
	const struct req_state *barrier;
	/* Requests that change blocks: those under way, then those that wait for them, in order. */
	struct range_list ranges, range_waiting;
	struct task_list barrier_waiting;
};
RB_HEAD(volume_names, volume);
RB_HEAD(volume_ids, volume);

struct cat_slot {
	enum fmt_rec_kind kind;
	bool dirty;	/* in pool->catalog.dirty[] */
	bool placed;	/* this cut has given it a block */
	uint64_t index; /* ZONES: first zone / FMT_ZONES_PER_REC; WORK: its number */
	struct volume *volume;
};

struct catalog {
	struct tree tree;
	struct cat_slot *slot;
	uint64_t slot_count, slot_capacity;
	uint64_t free_hint; /* no free slot below */
	uint64_t *dirty;    /* slots, dirty_count of slot_capacity */
	uint64_t dirty_count;
	uint64_t *zone_slot; /* slot of the record of zones i * FMT_ZONES_PER_REC ... */
	uint64_t zone_slot_count;
	struct volume_names names;
	struct volume_ids ids;
	uint64_t volume_count;
	uint64_t next_id;
};

void catalog_init(struct catalog *c);
void catalog_fini(struct catalog *c);

/* A free slot of this kind, dirty.  -ENOMEM. */
int catalog_take_slot(struct catalog *c, enum fmt_rec_kind kind, uint64_t *ret_slot);
/* Room for one more slot and those of reclaim, so that taking them cannot fail.  -ENOMEM. */
int catalog_reserve_slot(struct catalog *c);
void catalog_free_slot(struct catalog *c, uint64_t slot);
void catalog_touch(struct catalog *c, uint64_t slot);
/* Records for all zones there are; -ENOMEM. */
int catalog_cover_zones(struct catalog *c, uint64_t zone_count);

/* Nodes and blocks that the next cut takes for the catalog at most. */
uint64_t catalog_cut_blocks(const struct thin_pool *pool);

struct volume *volume_by_name(struct catalog *c, const char *name);
struct volume *volume_by_id(struct catalog *c, uint64_t id);
struct volume *volume_after(const struct catalog *c, const char *name);
/* Make (id, name, size) and put it in; -ENOMEM.  The name is free. */
int volume_add(struct catalog *c, uint64_t id, const char *name, uint64_t size_bytes,
	       uint64_t created_s, struct volume **ret_vol);
/* Forget it; its tree has been handed over. */
void volume_remove(struct catalog *c, struct volume *vol);
void volume_rename(struct catalog *c, struct volume *vol, const char *name);
/* Count blocks that became (or are no longer) mapped or provisioned; keeps the pool's sums. */
void volume_count(struct thin_pool *pool, struct volume *vol, int mapped, int reserved);
/* Blocks that a volume with reserve_full may still ask for and must get. */
uint64_t volume_promise(const struct volume *vol);
/* Change what is promised: size and the flag. */
void volume_set_size(struct thin_pool *pool, struct volume *vol, uint64_t size_bytes,
		     bool reserve_full);
/* Its record has to be written by the next checkpoint. */
void volume_touch(struct thin_pool *pool, struct volume *vol);

/* Read every record (blocking; opening).  -EUCLEAN, -ENOMEM, -EIO. */
int catalog_load(struct thin_pool *pool, struct err *err);
/* Fill a record's block from memory (cutting). */
void catalog_encode(struct thin_pool *pool, uint64_t slot, void *block);

#endif
