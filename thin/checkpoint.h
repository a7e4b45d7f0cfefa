/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The checkpoint: an exact cut of the pool's state, written redirect-on-write, then made the truth
 * by one superblock.
 *
 *	IDLE -> WRITING -> FLUSHING -> SUPER_1 -> SUPER_2 -> IDLE
 *
 * From FLUSHING on no commit flushes the device, and FLUSHING waits for one that does: the kernel
 * tells of a lost write once, to one of those who ask, and the other would believe that all is
 * well.
 *
 * The cut is one synchronous step: seal the log, give every DIRTY node a block and its final crc,
 * give every changed catalog record and node a block, fix the bitmaps.  What happens afterwards
 * changes copies, belongs to the next generation and to log pages behind the cut.
 *
 * A full host file system does not end a pool: what could not be written is tried again every
 * second, and meanwhile new data is refused with ENOSPC (pool->host_full).
 */
#ifndef THIN_CHECKPOINT_H
#define THIN_CHECKPOINT_H

#include "thin/dev.h"
#include "thin/journal.h"

enum checkpoint_state {
	CHECKPOINT_IDLE,
	CHECKPOINT_WRITING,
	CHECKPOINT_FLUSHING,
	CHECKPOINT_SUPER_1,
	CHECKPOINT_SUPER_2,
};

#define CHECKPOINT_IOS	     8u
#define CHECKPOINT_IO_BLOCKS 64u

struct checkpoint_write {
	struct pblk at;
	void *data;
	struct node *node; /* or NULL */
};

struct checkpoint_io {
	struct thin_pool *pool;
	struct dev_io io;
	struct iovec iov[CHECKPOINT_IO_BLOCKS];
	uint64_t first, count; /* of ck->write */
	bool busy;
	bool again; /* the host's file system was full: to be written again */
	bool retried;
};

struct checkpoint {
	enum checkpoint_state state;
	bool wanted;	   /* take one as soon as possible */
	bool active;	   /* state != IDLE */
	uint64_t cut_seq;  /* last log page in front of the cut */
	uint32_t cut_pred;
	uint64_t cut_staged; /* the last staged batch in front of the cut */ /* its crc */
	uint64_t begun;	   /* number of cuts begun, for those who wait for a whole one */
	uint64_t completed;
	/* blocks to write: grown by mmap at the cut, given back after */
	struct checkpoint_write *write;
	uint64_t write_count, write_next, write_done, write_capacity;
	uint8_t *arena;
	uint64_t arena_used, arena_blocks;
	struct checkpoint_io io[CHECKPOINT_IOS];
	struct dev_io flush_io, super_io;
	bool flush_busy;
	struct iovec super_iov;
	struct fmt_super *super;
	/* the run that nodes are placed in */
	struct pblk run_next;
	uint64_t run_left;
	uint32_t again_count; /* of io[] */
	uint64_t again_ms;    /* when to try again what found the host full */
};

int checkpoint_init(struct thin_pool *pool);
void checkpoint_fini(struct thin_pool *pool);
/* Take the cut and start writing; the state is IDLE. */
void checkpoint_start(struct thin_pool *pool);
void checkpoint_run(struct thin_pool *pool);
/* Its flush or a superblock is under way, or will be next. */
bool checkpoint_flushing(const struct thin_pool *pool);
/* When it wants to be run again; UINT64_MAX: when its I/O completes. */
uint64_t checkpoint_deadline_ms(const struct thin_pool *pool);

#endif
