/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stage: small writes are answered before the device has them.
 *
 * Beside the shadow area (thin.h) an owner may give memory of the same kind for data: it survives
 * the process, not the power.  A block of a small write is copied there, which a checksum would
 * have read anyway; then its place on the device is chosen, its record appended, the map changed
 * and the client answered, while the device write has only begun.
 *
 *	copied, `where` and crc set | write submitted, record appended, client answered
 *	                            | write done: `where` cleared | slot free again
 *
 * What is promised stays what it was:
 *   - A process that dies leaves to its successor, beside the records, every block whose write had
 *     not ended.  The successor writes those before it looks at the log.  Their places cannot
 *     belong to anybody else: a block is given away only behind a flush of what freed it, or when
 *     no record names it, and both wait for the write of it.
 *   - The power fails: recovery checks the data of each record that no flush covers (FORMAT.md) and
 *     skips those whose block did not arrive.  Devices have always been free to keep a log page and
 *     lose the data that was written before it, so nothing changes there.
 *   - A flush covers what was answered before it: commits and checkpoints wait for the writes of
 *     all blocks that were staged by then, beside their log pages, and flush behind both.  So the
 *     log page and the data are on their way at the same time.
 *   - A read of the device that touches a block on its way there waits for it (pool_submit_io()).
 *
 * Errors come after the answer.  Where the host has little room left nothing is staged, and ENOSPC
 * is the request's as ever.  If somebody else takes that room at once, the write is repeated until
 * there is some, new data is refused, and flushes wait.  Any other error makes the pool read-only
 * (fail-stop), so that no flush succeeds over it; the block stays in the stage for the successor.
 *
 * One batch is with the device while the next one gathers, and goes beside it when it has become
 * long enough: every write costs a turn and the kernel some microseconds (against always two, on
 * disk: random 4 KiB at queue depth 8 1.2 times, 32 1.05, large ones the same).
 *
 * Slots are a ring in order of their batches; when none is free a write takes the old way: first
 * the device, then the record, then the answer.  So do large ones, which are streams and not worth
 * the copy, and all on a device that carries requests out within submit().
 *
 * Thread: the pool's.
 */
#ifndef THIN_STAGE_H
#define THIN_STAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "thin/dev.h"
#include "thin/format.h"

struct batch;
struct thin_pool;
STAILQ_HEAD(stage_list, batch);

struct stage {
	struct fmt_stage *area; /* NULL: none */
	uint8_t *data;
	uint32_t slots, next, used;
	bool room; /* the host has some, as far as we know */
	uint64_t room_known_ms;
	struct stage_list batches; /* written or not, in order; the first one is not over */
	uint64_t numbered;	   /* the last number given to a batch with staged blocks */
	uint64_t written;	   /* all up to this one have been written */
	uint32_t writing;	   /* batches with the device */
	uint32_t again_count;	   /* device writes that found no room */
	bool repeated;
	uint64_t again_ms;
};

/* `area` NULL or too small: no stage. */
void stage_init(struct thin_pool *pool, void *area, uint64_t bytes);
/* Empty it and make it this pool's, under a new nonce of the log. */
void stage_restart(struct thin_pool *pool, uint64_t nonce);
/* Write what a dead process had staged under the log's `nonce`.  Blocking.  Returns how many blocks
 * there were; what cannot be written is told as damage. */
uint64_t stage_restore(struct thin_pool *pool, const void *area, uint64_t bytes, uint64_t nonce);

/* Whether blocks of a request of `len` bytes are to be staged; how many can be, now. */
bool stage_takes(struct thin_pool *pool, uint64_t len);
uint32_t stage_room(const struct stage *st);
/* One slot: its number, its memory. */
uint32_t stage_take(struct stage *st, uint8_t **ret_data);
/* What lies in the slot is about to be written to `at`. */
void stage_mark(struct stage *st, uint32_t slot, uint64_t at, uint32_t crc);

/* A batch has its first staged blocks, which are going to be published: gives it its number. */
void stage_number(struct thin_pool *pool, struct batch *b);
/* Whether it should be written now, and not gather more. */
bool stage_may_write(const struct thin_pool *pool, const struct batch *b);
/* One of its device writes ended with an error: true when it will be repeated. */
bool stage_failed(struct thin_pool *pool, struct dev_io *io);
/* All of its device writes have ended. */
void stage_written(struct thin_pool *pool, struct batch *b);
/* It is written and published: its slots are free. */
void stage_over(struct thin_pool *pool, struct batch *b);

/* If `io`, a read, touches a block that is being written: keep it until that is done. */
bool stage_delays(struct thin_pool *pool, struct dev_io *io);

/* Repeat what found no room, when it is time to. */
void stage_run(struct thin_pool *pool);
uint64_t stage_deadline_ms(const struct thin_pool *pool);

#endif
