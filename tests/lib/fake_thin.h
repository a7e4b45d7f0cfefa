/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A stand-in for the engine behind thin/thin.h, in memory: for tests of what sits on top of it.
 *
 * As asynchronous as the real one, and less predictable: thin_pool_run() takes effect in the order
 * of submission and answers in an order shuffled by the seed, some of the requests only in a later
 * run.  It asserts what the contract asks of callers (ranges, alignment, no handle closed with
 * requests in flight).  One thread.
 */
#ifndef TESTS_LIB_FAKE_THIN_H
#define TESTS_LIB_FAKE_THIN_H

#include "thin/thin.h"

struct fake_seen {
	uint64_t submitted, answered, fua, flushes;
	struct thin_req last; /* submitted */
};

struct thin_pool *fake_thin_new(uint64_t seed);
void fake_thin_free(struct thin_pool *pool);
/* A device whose poll has nothing to do. */
struct thin_dev *fake_thin_dev(void);

void fake_thin_add(struct thin_pool *pool, const char *name, uint64_t size_bytes);
/* The bytes of a volume, to look at and to change. */
uint8_t *fake_thin_bytes(struct thin_pool *pool, const char *name);
/* From now on the range holds data, whatever it was; `shared`: an ancestor's, as after a snapshot.
 */
void fake_thin_mark(struct thin_pool *pool, const char *name, uint64_t offset, uint64_t len,
		    bool shared);
/* A copy of the volume as it is, which can be compared with it: "NAME@SNAP". */
void fake_thin_snapshot(struct thin_pool *pool, const char *name, const char *snap);
const struct fake_seen *fake_thin_seen(const struct thin_pool *pool);

/* The next `count` requests of this kind are answered with `res` and have no effect. */
void fake_thin_fail(struct thin_pool *pool, enum thin_op op, int res, unsigned count);
/* Answer nothing until called with false. */
void fake_thin_hold(struct thin_pool *pool, bool hold);
/* Requests take effect late and in any order (those of a caller that never lets two overlap). */
void fake_thin_slow(struct thin_pool *pool, bool slow);
/* Called as each request takes effect. */
void fake_thin_watch(struct thin_pool *pool, void (*watch)(void *user, const struct thin_req *req),
		     void *user);
/* The process dies: what has not taken effect never will.  All are answered, for their memory. */
void fake_thin_forget(struct thin_pool *pool);
/* Run until all is answered. */
void fake_thin_settle(struct thin_pool *pool);

#endif
