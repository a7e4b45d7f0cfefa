/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A pool in memory: what the modules of thin/ share.  Not for users of the library (thin.h).
 *
 * One turn of thin_pool_run(): wake what waited, admit requests and build batches, publish what
 * was written, commit, checkpoint, reclaim, punch, answer.  Device completions only mark and queue;
 * nothing of a request runs from within the device's poll() except marking.
 *
 * Budgets.  A write that has been admitted can be published whatever comes: its blocks are taken,
 * its log records have room (journal.admitted_records), and its DIRTY nodes have slots and blocks
 * (admitted_nodes).  The invariant kept by admission:
 *
 *	free blocks  >=  admitted blocks + dirty nodes + admitted nodes + catalog_cut_blocks()
 *	nodes made since the cut + admitted nodes  <=  dirty_limit (a third of the cache)
 *
 * The second one counts nodes that were made and dropped again, because a replay has them all: at
 * most two cuts' worth, so that a recovery fits into the same cache.  Loading a node leaves room
 * for those that were admitted and for the catalog at a cut (pool_nodes_available()).
 */
#ifndef THIN_POOL_H
#define THIN_POOL_H

#include <isa-l/crc.h>

#include "thin/ahead.h"
#include "thin/catalog.h"
#include "thin/checkpoint.h"
#include "thin/data_cache.h"
#include "thin/grow.h"
#include "thin/io.h"
#include "thin/journal.h"
#include "thin/lineage.h"
#include "thin/node_cache.h"
#include "thin/pace.h"
#include "thin/readahead.h"
#include "thin/reclaim.h"
#include "thin/salvage.h"
#include "thin/scrub.h"
#include "thin/stage.h"
#include "thin/thin.h"

struct punch {
	struct dev_io io;
	struct pblk first;
	uint64_t count;
	bool busy;
};

struct thin_pool {
	struct thin_dev *dev;
	uint64_t now_ms;
	uint64_t random; /* state of the generator of nonces */

	/* the superblock's content */
	uint8_t id[16];
	uint64_t size_blocks, zone_end, log_pages, created_s;
	uint64_t feature_incompat, feature_ro, feature_compat;
	uint64_t checkpoint; /* number of the last cut */
	unsigned slot;	     /* superblock slot of the last checkpoint: 0 (A) or 1 (B) */
	uint32_t generation; /* births are stamped with it */

	struct space space;
	struct node_cache nodes;
	struct data_cache data;
	struct journal journal;
	struct stage stage;
	struct catalog catalog;
	struct reclaim reclaim;
	struct lineage lineage;
	struct pace pace;
	struct checkpoint ck;
	struct io io;
	struct punch punch;
	struct ahead ahead;
	struct grow grow;
	struct scrub *scrub; /* NULL: there was none yet */

	uint64_t admitted_nodes, admitted_blocks;
	/* a deletion, an overwrite or the like waits for space: nobody else is admitted */
	const struct req_state *urgent;
	uint64_t dirty_limit;
	uint64_t block_margin; /* new data leaves this much to overwrites */
	uint64_t commit_bytes, commit_ms, checkpoint_pages;
	uint64_t reserved_blocks, reclaim_blocks, metadata_blocks;
	uint64_t promised_blocks; /* of volumes with reserve_full */

	struct task_list runnable, stalled;
	struct task_list walkers; /* go on in the next turn */
	uint32_t walk_left;	  /* see pool_may_walk() */
	uint64_t busy_io;	  /* device requests in flight */
	uint64_t last_active_ms;  /* a request was submitted or answered */
	/* requests ever; other threads read it (thin/prefault.h) */
	atomic_uint_fast64_t asked;
	bool wake;		  /* the stalled may try again */
	bool opened;		  /* recovery is over */
	bool closing;
	bool host_full; /* a write waits for room on the host's file system */
	bool read_only; /* no change is accepted */
	bool failed;	/* ... because a flush or metadata write failed */
	bool tiny;
	bool low_space;
	bool accept_damage;
	bool salvage; /* see salvage.h */
	struct salvaged salvaged;
	struct thin_pool_stat stat; /* its counters */
	void (*event)(void *user, enum thin_event_kind kind, const char *text);
	void *event_user;
};

struct thin_vol {
	struct thin_pool *pool;
	struct volume *volume;
	struct readahead readahead;
};

static inline uint32_t pool_crc(const void *data, uint64_t len)
{
	return ~crc32_iscsi((unsigned char *)data, (int)len, 0xffffffffu);
}

void pool_submit_io(struct thin_pool *pool, struct dev_io *io);
/* Blocking read of one block; 0 or -EIO. */
int pool_read_block(struct thin_pool *pool, struct pblk at, void *block);
/* Blocking: submit and wait. */
int pool_do_io(struct thin_pool *pool, struct dev_io *io);

/* Free the block of a map node or catalog record at the next checkpoint. */
void pool_free_metadata(struct thin_pool *pool, struct pblk at);

void pool_wake_list(struct thin_pool *pool, struct task_list *list);
void pool_wake_task(struct thin_pool *pool, struct task *task);
void pool_stall(struct thin_pool *pool, struct task *task);
/* No slot: -EAGAIN with the task stalled, -ENOBUFS for a blocking caller (task NULL). */
int pool_stall_or_fail(struct thin_pool *pool, struct task *task);
void pool_wake_stalled(struct thin_pool *pool);
/* One more leaf looked at by a request that describes a range, one more snapshot deleted with its
 * volume: so that many of them do not make one long turn, all together have so many a turn.  False:
 * the task goes on in the next one. */
bool pool_may_walk(struct thin_pool *pool, struct task *task);

/* Take a checkpoint: one more, even if one is under way; or one, which may be that. */
void pool_want_checkpoint(struct thin_pool *pool);
void pool_need_checkpoint(struct thin_pool *pool);
/* A flush or a metadata write failed: read-only from now on, everybody who waits gets `res`. */
void pool_fail(struct thin_pool *pool, int res, const char *what);
/* A write found no room on the file system under the pool: new data is refused until there is some;
 * who wrote repeats it. */
void pool_host_full(struct thin_pool *pool);
void pool_damage(struct thin_pool *pool, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void pool_event(struct thin_pool *pool, enum thin_event_kind kind, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
uint64_t pool_random(struct thin_pool *pool);
/* Something that was deleted or cut off is still to be given back, and can be. */
static inline bool pool_gives_back(const struct thin_pool *pool)
{
	return reclaim_pending(pool) || lineage_pending(pool);
}

/* Node slots that could be had now or after clean ones are evicted. */
bool pool_nodes_available(const struct thin_pool *pool, uint64_t count);
/* Free blocks that are not promised to what has been admitted and to the next cut. */
uint64_t pool_spare_blocks(const struct thin_pool *pool);
/* Whether `blocks` of data and `nodes` DIRTY nodes can be admitted without touching the reserve. */
bool pool_space_for(const struct thin_pool *pool, uint64_t blocks, uint64_t nodes);
/* Blocks that are promised: provisioned zeroes, what volumes with reserve_full still may ask for,
 * and the map nodes over those. */
static inline uint64_t pool_promised(const struct thin_pool *pool)
{
	return pool->reserved_blocks + pool->promised_blocks +
	       (pool->promised_blocks ? pool->promised_blocks / (FMT_NODE_ENTRIES / 2) + 16 : 0);
}
bool pool_nodes_for(const struct thin_pool *pool, uint64_t nodes);
/* Whether `blocks` more may be freed at the next checkpoint, beside all nodes, one block for each
 * record that was admitted, and the edges of an unmapping. */
static inline bool pool_checkpoint_room(const struct thin_pool *pool, uint64_t blocks)
{
	return space_room_checkpoint(&pool->space) >=
	       pool->nodes.count + pool->journal.admitted_records + 4 * FMT_NODE_ENTRIES + blocks;
}

/* ... by a step of background work, which leaves some to what clients free until then. */
#define POOL_CLIENTS_ROOM (16u << 10)
static inline bool pool_background_room(const struct thin_pool *pool)
{
	return pool_checkpoint_room(pool, FMT_NODE_ENTRIES + FMT_HEIGHT_MAX + POOL_CLIENTS_ROOM);
}

/* Build a pool in memory from a superblock's numbers (create, open); -ENOMEM. */
int pool_alloc(struct thin_dev *dev, uint64_t zone_end, uint64_t log_pages, uint32_t zone_blocks,
	       const struct thin_open *params, struct thin_pool **ret_pool);
void pool_free(struct thin_pool *pool);
/* Run until `*flag` is false or the pool failed (blocking). */
int pool_run_until(struct thin_pool *pool, const bool *flag);

#endif
