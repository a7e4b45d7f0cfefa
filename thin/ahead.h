/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing ahead: free space that the allocator is going to hand out next is written with zeroes
 * before it is needed.
 *
 * The file under a pool is sparse, and a write into a hole (or into space that was merely set
 * aside by fallocate) makes the host's file system change its metadata: the write takes longer,
 * and a flush behind it commits the host's journal, three times the cost of one that does not.
 * So up to `blocks` free blocks in front of the allocator are kept truly written.
 *
 * It stays out of the way: one write at a time, as fast as the device goes only while no request
 * has been about for AHEAD_IDLE_MS, else in bursts with pauses, so that few of the clients' flushes
 * meet one; on a device whose calls block never under load.  It stops before the host's file
 * system is full: what is left there belongs to real data.  A failure of it is no failure of the
 * pool.
 *
 * The blocks are withheld from the allocator while they are written, like those of a punch; to the
 * rest of the engine they are free, and what they hold means nothing.
 */
#ifndef THIN_AHEAD_H
#define THIN_AHEAD_H

#include "thin/dev.h"
#include "thin/space.h"

struct thin_pool;

#define AHEAD_IDLE_MS	   20u
#define AHEAD_PIECES	   16u /* of zeroes in one write */
#define AHEAD_PIECE_BLOCKS 16u
#define AHEAD_BURST_BLOCKS 4096u	/* 16 MiB under load, ... */
#define AHEAD_PAUSE_MS	   100u		/* ... then a pause */
#define AHEAD_RETRY_MS	   10000u	/* after the host has run short of space */
#define AHEAD_BLOCKS_MAX   (1ull << 20) /* 4 GiB, which SPACE_PATH_MAX half-free zones hold */

struct ahead {
	uint64_t blocks; /* to keep written; 0: off */
	struct dev_io io;
	struct iovec iov[AHEAD_PIECES];
	void *zeroes;
	struct pblk first;
	uint64_t count;
	bool busy;
	bool enough;	     /* there were `blocks` when last looked, ... */
	uint64_t taken_mark; /* ... at this count of blocks handed out */
	uint64_t burst_left, wait_until_ms;
	bool host_short;
};

/* -ENOMEM.  `bytes` 0: off.  Call when the device is known. */
int ahead_init(struct thin_pool *pool, uint64_t bytes);
void ahead_fini(struct thin_pool *pool);
void ahead_run(struct thin_pool *pool);
/* When it wants to be run again; UINT64_MAX: when blocks have been handed out. */
uint64_t ahead_deadline_ms(const struct thin_pool *pool);
/* What the allocator will want soon is settled anew, before something is punched. */
void ahead_look(struct thin_pool *pool);

#endif
