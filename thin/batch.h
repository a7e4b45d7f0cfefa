/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Batches: blocks of many writes on their common way to the device.
 *
 * One batch is open at a time.  It gathers the blocks of all requests of a turn, which have been
 * admitted; then they get their places, as few runs as there is room for, one device write each.
 * A block's bytes are copied and checksummed 4 KiB at a time, while they are in the L1 cache; a
 * whole block that lies aligned in the caller's buffer is not copied at all.  All-zero blocks
 * become holes, which are published and not written.
 *
 *	            append      turn over: places          device          task
 *	free -> open ------> open -----------------> writing -----> written -----> published -> free
 *	                      |   turn over: places,                    ^
 *	             (staged) |   publish what has one                  | published meanwhile
 *	                      +---------> open ---------> writing ------+
 *	                                   ^   |  room for one more write, or somebody waits
 *	                                   +---+  append
 *
 * The upper way is that of large requests, and of all where there is no stage: nothing of a batch
 * is recorded before all of its writes have ended.  On the lower one a batch of small requests lies
 * in the stage (thin/stage.h), which survives the process: at each turn's end its new blocks get
 * their places and are published and answered.  While the device is busy with others it stays open
 * for more, so that its writes become longer.  It is free when it is both written and published.
 *
 * Budgets go with the blocks: what was admitted stays counted in the pool until the block has its
 * place (blocks) or is published (nodes, records).  A batch that gathers while it is published
 * knows by `placed` and `released` how far that is.
 *
 * A device write that fails is the error of every request with a block in the batch; if they have
 * been answered, the pool's (stage_failed()).  A block that is not published gives its place back;
 * a staged one only behind its write, for until then the device may still put the bytes there.
 *
 * Thread: the pool's.
 */
#ifndef THIN_BATCH_H
#define THIN_BATCH_H

#include "thin/dev.h"
#include "thin/space.h"
#include "thin/task.h"

#define BATCH_BLOCKS 256u

struct io;
struct req_state;
struct thin_pool;

struct batch_block {
	struct req_state *rs;
	uint64_t vblk;
	struct pblk at;
	uint32_t crc;
	uint32_t slot; /* of the stage */
	const uint8_t *data;
	bool hole, dropped; /* dropped: never published, but written */
};

struct batch {
	struct task task; /* publishing */
	struct thin_pool *pool;
	STAILQ_ENTRY(batch) link;
	uint8_t *buf;
	struct batch_block block[BATCH_BLOCKS];
	struct iovec iov[BATCH_BLOCKS]; /* of the blocks with data, in order */
	struct dev_io io[BATCH_BLOCKS]; /* one a run */
	uint32_t count, data_count, buf_used;
	uint32_t room; /* blocks it may have */
	uint32_t runs, io_pending, published;
	/* blocks that have their places, data blocks among them, those published and counted off */
	uint32_t placed, data_placed, released;
	uint64_t admitted_nodes, placed_nodes; /* of blocks without a place, and with one */
	int res;
	/* published while it is being written (thin/stage.h) */
	STAILQ_ENTRY(batch) stage_link;
	uint64_t number;
	struct dev_io *readers; /* wait for its blocks */
	bool publishing;	/* the task is queued, or stalled */
	bool small, staged, written, over;
};
STAILQ_HEAD(batch_list, batch);

int batches_init(struct thin_pool *pool, uint64_t buffer_bytes);
void batches_fini(struct io *io);

/* One for blocks of a request of `len` bytes, with room for one at least; NULL: all are busy. */
struct batch *batch_open(struct thin_pool *pool, uint64_t len);
/* A block that was admitted; `src` NULL: zeroes.  `keep`: the bytes stay as they are until the
 * request is answered. */
void batch_append(struct batch *b, struct req_state *rs, uint64_t v, const uint8_t *src, bool keep);
/* End of a turn: publish and write the batch that is being filled, or let it wait for more. */
void batch_turn_over(struct thin_pool *pool);
/* All blocks that have places are published. */
void batch_published(struct thin_pool *pool, struct batch *b);
/* Repeat the `run`th device write. */
void batch_write_again(struct thin_pool *pool, struct batch *b, uint32_t run);

#endif
