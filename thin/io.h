/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests: from thin_submit() to their answer.
 *
 * Reads are split into parts of one leaf each (at most 256 blocks).  Writes are gathered, over all
 * requests of a turn, into batches (batch.h); when the blocks of a batch have been recorded in the
 * log and published in the map, those requests whose last block that was are answered.
 */
#ifndef THIN_IO_H
#define THIN_IO_H

#include "thin/batch.h"
#include "thin/catalog.h"
#include "thin/data_cache.h"
#include "thin/dev.h"
#include "thin/journal.h"

#define IO_PART_BLOCKS 256u  /* a read part: one leaf */
#define IO_DEV_IOS     1024u /* device reads in flight */
#define IO_FILL_BLOCKS 64u   /* of one device read into the cache */
#define IO_WAITS       4096u /* parts waiting for such reads */
#define IO_MERGES      64u   /* partial blocks being merged */

/* What of a thin_req the engine keeps in thin_req.priv. */
struct req_state {
	struct task task;
	struct thin_req *req;
	struct thin_pool *pool;
	TAILQ_ENTRY(req_state) range_link;
	STAILQ_ENTRY(req_state) done_link;
	struct journal_waiter waiter;
	struct vblk first, last; /* range of blocks, last is behind the end */
	uint64_t pos;		 /* next byte to be taken care of */
	uint32_t pending;	 /* parts, batch entries still under way */
	int res;
	bool range_held, range_blocked;
	bool issued;  /* pos has reached the end */
	bool counted; /* in volume->busy_count */
	bool space_waits;
	bool lends;			  /* a read that may hand out slots of the cache */
	uint64_t space_mark, space_limit; /* counts of checkpoints at which space is given up */
	unsigned stage;			  /* of control requests */
	struct io_merge *merge;
};
STAILQ_HEAD(req_list, req_state);

/* Blocks of one leaf that are being read for one request. */
struct io_part {
	struct req_state *rs;
	struct io_part *next_free;
	uint64_t vblk;
	uint8_t *buf; /* of its first block, in the caller's memory */
	uint32_t count, pending;
	int res;
	bool failed;		       /* a device read failed: nothing more to look for */
	bool direct;		       /* no slots are left: into the caller's memory */
	uint32_t slot[IO_PART_BLOCKS]; /* pinned slot of the cache; 0: see `buf` */
	uint32_t crc[IO_PART_BLOCKS];  /* of what goes there directly */
};

struct io_wait {
	struct io_part *part;
	struct io_wait *next;
};

struct io_dev_read {
	struct dev_io io;
	struct thin_pool *pool;
	struct space_read read;
	struct io_dev_read *next_free;
	uint32_t first, count;
	struct io_part *part;	 /* its blocks from `first` on; NULL: into the cache */
	struct io_wait *waiters; /* ... for these */
	uint32_t slot[IO_FILL_BLOCKS];
	struct iovec iov[IO_FILL_BLOCKS];
};

/* Reading the old content of a block that is written in part. */
struct io_merge {
	struct dev_io io;
	struct iovec iov;
	struct req_state *rs;
	struct io_merge *next_free;
	struct space_read read;
	uint8_t *buf;
	uint64_t vblk;
	uint32_t crc;
	int res;
	bool ready;
};

struct io {
	struct batch *batch;
	uint32_t batch_count;
	uint8_t *batch_buf;
	struct batch_list batch_free;
	struct batch *open; /* being filled in this turn */
	/* of each: those behind `fresh` were never used, and their memory not touched */
	struct io_part *part, *part_free;
	struct io_dev_read *dev_read, *dev_read_free;
	struct io_wait *wait, *wait_free;
	uint32_t part_fresh, dev_read_fresh, wait_fresh;
	uint32_t dev_read_count, wait_count; /* in use */
	struct io_merge *merge, *merge_free;
	uint8_t *merge_buf;
	struct req_list done; /* answered at the end of the turn */
	uint64_t requests;    /* submitted and not answered */
};

static inline struct data_key ent_key(struct ent e)
{
	return (struct data_key){ ent_pblk(e).n, e.birth, e.crc };
}

int io_init(struct thin_pool *pool, uint64_t buffer_bytes);
void io_fini(struct thin_pool *pool);
/* Call the `done` of what is answered. */
void io_answer(struct thin_pool *pool);

/* Describe `len` more bytes (status, diff), joined to the last extent if that is alike; false: no
 * room for another. */
bool io_add_extent(struct thin_req *req, uint64_t len, uint32_t flags, uint32_t depth);

/* A request is over: answered at the end of the turn, behind a commit for FUA and control. */
void io_finish(struct req_state *rs, int res);
void io_finish_durable(struct req_state *rs, int res);

/* write.c, read.c, status.c, unmap.c, control.c: the steps of the kinds of requests */
/* First step of a data request: 0, -EAGAIN (waits for a resize), or its result. */
int io_begin(struct req_state *rs);
/* Everything of the request has been issued; answer it when nothing is pending. */
void io_issued(struct req_state *rs);
/* One pending part of it is over. */
void io_part_over(struct req_state *rs, int res);

/* write.c: write the partial block at rs->pos, or as many whole blocks as this turn takes, and
 * advance rs->pos.  `data` NULL: zeroes.  0, -EAGAIN (the task waits), or an error. */
int write_some(struct req_state *rs, const uint8_t *data);
/* ... and publish the blocks of a batch that have places. */
void publish_step(struct thin_pool *pool, struct task *task);
/* Room for `records` log records, `nodes` DIRTY nodes, `blocks` of space, of which `fresh` are not
 * overwritten or provisioned ones: 0, -EAGAIN (stalled), -ENOSPC. */
int io_admit(struct req_state *rs, uint64_t records, uint64_t nodes, uint64_t blocks, bool fresh);

/* A part for which so many device reads and waits can be had; NULL: not now. */
struct io_part *io_part_take(struct thin_pool *pool, uint32_t reads, uint32_t waits);
void io_part_free(struct thin_pool *pool, struct io_part *part);
struct io_dev_read *io_dev_read_take(struct thin_pool *pool);
void io_dev_read_free(struct thin_pool *pool, struct io_dev_read *dr);
struct io_wait *io_wait_take(struct thin_pool *pool);
void io_wait_free(struct thin_pool *pool, struct io_wait *w);

/* read.c: read up to `count` blocks, which are adjacent, into the cache by one device read; there
 * is one to be had.  Returns how many; 0: no slots. */
uint32_t read_fill(struct thin_pool *pool, const struct fmt_entry *e, uint32_t count,
		   struct io_dev_read **ret_dr);

void read_step(struct thin_pool *pool, struct task *task);
void cache_step(struct thin_pool *pool, struct task *task);
void status_step(struct thin_pool *pool, struct task *task);
void diff_step(struct thin_pool *pool, struct task *task);
void write_step(struct thin_pool *pool, struct task *task);
void unmap_step(struct thin_pool *pool, struct task *task); /* trim, zero */
void flush_step(struct thin_pool *pool, struct task *task);
void control_step(struct thin_pool *pool, struct task *task);

/* range.c: overlapping changes of one volume take turns. */
bool range_take(struct req_state *rs); /* false: queued, will be stepped again */
void range_release(struct req_state *rs);

/* Wait for space by the rule of thin.h: returns 0 when it is worth trying again later (the task is
 * stalled), -ENOSPC when an own commit and checkpoint brought nothing back.  Not `fresh`: nobody
 * else is admitted meanwhile. */
/* It has what it waited for. */
void io_not_urgent(struct req_state *rs);
int io_wait_space(struct thin_pool *pool, struct req_state *rs, bool fresh);

#endif
