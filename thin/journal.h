/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The intent log of a pool and its group commit.
 *
 * A ring of pages; page `seq` lies at ring position seq % pages.  Records are appended to the open
 * page in memory; a full page is sealed (chained to its predecessor by crc) and written; a commit
 * seals the open page early.
 *
 *	start ............ compl ....... seq-1 | seq
 *	  |  written, all    | being written   | open
 *	  flushed: durable up to here (between start and compl)
 *
 * Commit: seal; wait until every page up to the target is written; one device flush; then every
 * waiter whose page is not behind the target is answered.  One commit at a time, the next one
 * gathers waiters meanwhile.
 *
 * A client that writes, waits for its answers and then flushes, again and again, waits for the log
 * page and the device flush while nothing else happens.  So once JOURNAL_HABIT FLUSHes in a row
 * came when every write was answered, each behind as many records as the one before, the commit
 * begins when the last of so many is published, beside the answer's way to the client and the
 * FLUSH's way back.  A write that comes instead of the FLUSH ends the habit: one commit in vain.
 *
 * The page buffers lie in the shadow area when there is one (thin.h), so that a process that dies
 * leaves the pages it had not written, and the open one, to its successor.
 *
 * Room: whoever appends has been admitted with room for its records; see journal_room_records().
 */
#ifndef THIN_JOURNAL_H
#define THIN_JOURNAL_H

#include "thin/dev.h"
#include "thin/format.h"
#include "thin/space.h"
#include "thin/task.h"
#include "thin/map.h"

#define JOURNAL_SLOTS	      254u /* pages in memory: open or being written */
#define JOURNAL_HABIT	      4u
#define JOURNAL_HABIT_SLOTS   256u /* behind more data the round trip hardly counts */
#define JOURNAL_RESERVE_PAGES 4u /* one operation (2), a commit's and a checkpoint's seal */

struct journal_page {
	struct thin_pool *pool;
	struct dev_io io;
	struct iovec iov;
	bool busy; /* sealed and not yet written */
	uint64_t seq;
};

/* Answered when everything up to page `seq` is durable (0) or never will be (-errno). */
struct journal_waiter {
	STAILQ_ENTRY(journal_waiter) link;
	uint64_t seq;
	void (*done)(struct thin_pool *pool, struct journal_waiter *waiter, int res);
};
STAILQ_HEAD(journal_waiters, journal_waiter);

struct journal {
	uint64_t pages; /* of the ring */
	uint64_t nonce;
	uint64_t start;		   /* first page that recovery needs */
	uint64_t seq;		   /* the open page */
	uint64_t compl ;	   /* all pages up to this one have been written */
	uint64_t flushed;	   /* ... and are durable */
	uint32_t pred;		   /* crc of page seq - 1 */
	struct fmt_shadow *shadow; /* page 0 of the buffer area; NULL without one */
	uint8_t *buffers;
	void *own_buffers; /* when there is no shadow */
	struct journal_page page[JOURNAL_SLOTS];
	uint64_t op_id;
	uint64_t admitted_records; /* room promised to writes that have no record yet */
	uint64_t bytes_unflushed;  /* of data, since the last commit began */
	uint64_t first_record_ms;  /* when the oldest uncommitted record was appended */
	bool records_unflushed;
	/* commit */
	bool committing, flushing;
	uint64_t target;
	uint64_t target_staged; /* the last staged batch that it covers */
	struct dev_io flush_io;
	struct journal_waiters waiters;
	unsigned flush_habit; /* FLUSHes in a row that came when all writes were answered, ... */
	uint64_t habit_slots; /* ... behind so many slots of records, as the one before */
	uint64_t slots_since; /* the last FLUSH */
	bool eager;	      /* a commit was begun for the next such one, which has not come */
};

int journal_init(struct thin_pool *pool, uint64_t pages, void *shadow);
void journal_fini(struct thin_pool *pool);
/* Begin an empty log behind page seq - 1 with a new nonce (creation, end of recovery). */
void journal_restart(struct thin_pool *pool, uint64_t nonce, uint64_t seq, uint32_t pred);

/* Records that may still be admitted, in pages kept free of the reserve. */
uint64_t journal_room_records(const struct thin_pool *pool);
/* Whether an operation may be appended now. */
bool journal_room_op(const struct thin_pool *pool);
/* Whether a block record can be appended now (else: a page has to be written first). */
bool journal_can_append(const struct thin_pool *pool);

/* Append; return the page that the record (the operation's last fragment) is on. */
uint64_t journal_block(struct thin_pool *pool, unsigned type, uint64_t volume, struct vblk v,
		       struct ent e);
uint64_t journal_op(struct thin_pool *pool, const void *payload, uint32_t len);

/* Seal the open page if it holds anything; returns the last sealed page. */
uint64_t journal_seal(struct thin_pool *pool);

/* Answer `waiter` when all that is appended by now is durable. */
void journal_wait(struct thin_pool *pool, struct journal_waiter *waiter);
/* A client has asked for a flush: keeps its habits. */
void journal_flush_asked(struct thin_pool *pool);
/* True when nothing that was appended still has to be made durable. */
bool journal_is_durable(const struct thin_pool *pool);

/* Begin, continue, finish commits.  From thin_pool_run(). */
void journal_run(struct thin_pool *pool);
/* Ask for a commit though nobody waits. */
void journal_kick(struct thin_pool *pool);
/* A checkpoint is durable: recovery begins at page `start` now, whose predecessor's crc is `pred`.
 */
void journal_trim(struct thin_pool *pool, uint64_t start);
/* The pool failed: everybody gets `res`. */
void journal_fail(struct thin_pool *pool, int res);

/* Reading back (recovery, verify): header checks of a page; 0 or -EUCLEAN. */
int journal_page_check(const void *page, const uint8_t pool_id[16], uint64_t nonce);
static inline struct pblk journal_page_pblk(uint64_t pages, uint64_t seq)
{
	return (struct pblk){ FMT_LOG_FIRST + seq % pages };
}

#endif
