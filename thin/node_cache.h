/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The cache of map nodes: a fixed number of slots of one page each.
 *
 *	UNUSED -> LOADING -> CLEAN            read from disk and checked
 *	               \---> BAD              could not be read or does not match its checksum
 *	UNUSED -> DIRTY -> WRITING -> CLEAN   new or copied; placed on disk by a checkpoint
 *
 * A DIRTY node has no block; its one parent entry names its slot (FMT_ENT_MEM).  All others are
 * found by their block.  CLEAN and BAD nodes are evicted by second chance; DIRTY and WRITING ones
 * stay, so whoever dirties nodes must have been admitted (pool.h, budget).  A node whose block is
 * freed leaves the cache at once, or when its I/O ends (dead).
 */
#ifndef THIN_NODE_CACHE_H
#define THIN_NODE_CACHE_H

#include "thin/dev.h"
#include "thin/format.h"
#include "thin/prefault.h"
#include "thin/space.h"
#include "thin/task.h"

/* A third of the slots may be DIRTY, and one large trim dirties MAP_UNMAP_NODES. */
#define NODE_CACHE_SLOTS_MIN 128u

enum node_state {
	NODE_UNUSED,
	NODE_LOADING,
	NODE_CLEAN,
	NODE_BAD,
	NODE_DIRTY,
	NODE_WRITING,
};

/* An entry, decoded. */
struct ent {
	uint64_t where;
	uint32_t birth;
	uint32_t crc;
};

struct node {
	struct thin_pool *pool;
	struct fmt_node *page;
	struct pblk at; /* unless DIRTY */
	uint32_t birth, crc;
	uint32_t index;	    /* of this slot */
	uint32_t hash_next; /* slot + 1; 0: end (also links the unused ones) */
	enum node_state state;
	uint8_t level; /* 0: leaf */
	uint8_t pins;
	bool used;   /* since the clock's hand passed */
	bool sticky; /* never evicted while CLEAN (catalog) */
	bool dead;   /* its block was freed; goes when its I/O ends */
	int bad_res;
	uint64_t bad_until_ms;
	struct task_list waiters;
	struct space_read read;
	struct dev_io io;
	struct iovec iov;
};

struct node_cache {
	struct node *node;
	struct fmt_node *pages;
	uint32_t count;
	uint32_t *bucket; /* slot + 1 */
	uint32_t bucket_mask;
	uint32_t unused; /* slot + 1 */
	uint32_t fresh;	 /* slots from here on were never used, and their memory not touched */
	uint32_t hand;
	uint32_t
		made_count; /* DIRTY since the last cut, dropped ones included: a replay has them */
	uint32_t unused_count, dirty_count, writing_count, loading_count;
	uint64_t pages_bytes, node_bytes;
	struct prefault prefault;
};

struct thin_pool;

static inline struct ent ent_get(const struct fmt_entry *e)
{
	return (struct ent){ le64_get(e->where), le32_get(e->birth), le32_get(e->crc) };
}

static inline struct fmt_entry ent_put(struct ent e)
{
	return (struct fmt_entry){ le64_put(e.where), le32_put(e.birth), le32_put(e.crc) };
}

static inline struct pblk ent_pblk(struct ent e)
{
	assert(!(e.where & FMT_ENT_MEM));
	return (struct pblk){ e.where & FMT_PBLK_MASK };
}

/* Both name the same block: then all below is the same too. */
static inline bool ent_same(struct ent a, struct ent b)
{
	return a.where == b.where && a.where & FMT_ENT_MAPPED;
}

/*
 * Whether an entry read from disk is one that this code writes: a hole, a block of the pool, or,
 * at level 0, a provisioned zero.  Everything read is checked by it once, so that the rest may
 * rely on it; a checksum only says that it was written, not by whom.
 */
bool ent_from_disk_valid(const struct thin_pool *pool, struct ent e, unsigned level);

/* ... and a whole node. */
bool node_page_valid(const struct thin_pool *pool, const struct fmt_node *page, unsigned level);

int node_cache_init(struct thin_pool *pool, uint64_t bytes);
void node_cache_fini(struct node_cache *nc);

/*
 * The node that entry `e` names.  0: it is in memory (valid until the next allocation of a slot
 * unless pinned, DIRTY or WRITING).  -EAGAIN: `task` waits for it.  -EUCLEAN, -EIO: damage.
 * With `task` NULL: blocking, never -EAGAIN, but -ENOBUFS when every slot is taken.
 */
int node_get(struct thin_pool *pool, struct ent e, unsigned level, struct task *task,
	     struct node **ret_node) __attribute__((warn_unused_result));
/* Birth of what `e` names: of a DIRTY node only the node itself knows it. */
uint32_t node_birth(const struct thin_pool *pool, struct ent e);
/* The same as node_get(), only if it is in memory; else NULL. */
struct node *node_peek(struct thin_pool *pool, struct ent e);
/* Begin to load it, if it is not there and a slot is to be had; nobody waits. */
void node_prefetch(struct thin_pool *pool, struct ent e, unsigned level);

/*
 * For those who read several nodes at once.  Begin: a LOADING node whose page is to be read into;
 * node_can_load() was true, NULL: no slot.  Then either of the others, before anybody else is told
 * of it: the page was read, or nothing was and the node is forgotten.
 */
bool node_can_load(struct thin_pool *pool, struct ent e);
struct node *node_load_begin(struct thin_pool *pool, struct ent e, unsigned level);
void node_load_end(struct thin_pool *pool, struct node *n, int res);
void node_load_abandon(struct thin_pool *pool, struct node *n);

/* A DIRTY node with an empty page; NULL: no slot (retry when something was freed). */
struct node *node_new(struct thin_pool *pool, unsigned level);
/* The block of `n` was freed, or a DIRTY one is not wanted any more. */
void node_drop(struct thin_pool *pool, struct node *n);
/* DIRTY -> WRITING at block `at`; the page does not change any more. */
void node_place(struct thin_pool *pool, struct node *n, struct pblk at);
/* WRITING -> CLEAN. */
void node_written(struct thin_pool *pool, struct node *n);

#endif
