/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A pool on a simulated disk for one behaviour at a time: create, open, ask, look, damage, cut.
 * Time stands still unless a test moves it.
 */
#ifndef TESTS_THIN_LIFE_H
#define TESTS_THIN_LIFE_H

#include "tests/thin/dev_rig.h"

#include "tests/lib/dev_sim.h"
#include "thin/thin.h"

#define MIB	    (1ull << 20)
#define RIG_TURNS   200000u /* without an answer: the engine hangs */
#define RIG_PATTERN 0x5eedu

struct rig {
	struct dev_sim *sim;
	struct thin_dev *dev;
	struct thin_pool *pool;
	struct thin_open open;
	uint64_t now_ms;
	unsigned events[THIN_EVENT_READ_ONLY + 1];
	char event_text[ERR_TEXT_MAX];
};

struct rig_req {
	struct thin_req req; /* first */
	bool answered;
	int res;
};

static inline void rig_event(void *user, enum thin_event_kind kind, const char *text)
{
	struct rig *r = user;

	r->events[kind]++;
	snprintf(r->event_text, sizeof(r->event_text), "%s", text);
}

static inline int rig_try_open(struct rig *r, struct err *err)
{
	r->open.event = rig_event;
	r->open.event_user = r;
	r->open.now_ms = r->now_ms;
	r->open.seed++;
	r->pool = NULL;
	return thin_pool_open(r->dev, &r->open, &r->pool, err);
}

static inline void rig_open_pool(struct rig *r)
{
	struct err err = { 0 };

	if (rig_try_open(r, &err))
		fail_msg("open: %s", err.text);
}

/* An open pool of `blocks` blocks; a tiny one has zones of 64 blocks. */
static inline void rig_new(struct rig *r, uint64_t blocks, uint64_t journal_pages, bool tiny)
{
	struct thin_create create = {
		.journal_bytes = journal_pages * BLK, .seed = 7, .time_s = 1, .tiny = tiny
	};
	struct thin_open open = r->open;
	struct err err = { 0 };

	memset(r, 0, sizeof(*r));
	r->open = open;
	r->now_ms = 1000;
	r->sim = dev_sim_new(blocks * BLK, 1);
	r->dev = dev_sim_port(r->sim);
	dev_sim_set_delay(r->sim, 2);
	if (thin_pool_create(r->dev, &create, &err))
		fail_msg("create: %s", err.text);
	rig_open_pool(r);
}

static inline void rig_turn(struct rig *r)
{
	r->dev->ops->poll(r->dev);
	thin_pool_run(r->pool, r->now_ms);
}

static inline void rig_turns(struct rig *r, unsigned count)
{
	while (count-- > 0)
		rig_turn(r);
}

static inline void rig_answer(struct thin_req *req, int res)
{
	struct rig_req *q = (struct rig_req *)req;

	if (q->answered)
		fail_msg("answered twice");
	q->answered = true;
	q->res = res;
}

static inline void rig_submit(struct rig *r, struct rig_req *q)
{
	q->answered = false;
	q->req.done = rig_answer;
	thin_submit(r->pool, &q->req);
}

static inline int rig_wait(struct rig *r, struct rig_req *q)
{
	for (unsigned i = 0; !q->answered; i++) {
		if (i == RIG_TURNS)
			fail_msg("no answer to operation %d after %u turns", q->req.op, i);
		rig_turn(r);
	}
	return q->res;
}

static inline int rig_do(struct rig *r, struct thin_req req)
{
	struct rig_req q = { .req = req };

	rig_submit(r, &q);
	return rig_wait(r, &q);
}

/* ---- asking ---- */

static inline int rig_range(struct rig *r, struct thin_vol *vol, enum thin_op op, uint64_t block,
			    uint64_t count, unsigned flags)
{
	return rig_do(r, (struct thin_req){ .op = op,
					    .vol = vol,
					    .offset = block * BLK,
					    .len = count * BLK,
					    .flags = flags });
}

static inline int rig_write(struct rig *r, struct thin_vol *vol, uint64_t block, uint64_t count,
			    unsigned pattern)
{
	void *buf = rig_buf(count * BLK, pattern);
	int res = rig_do(r, (struct thin_req){ .op = THIN_WRITE,
					       .vol = vol,
					       .offset = block * BLK,
					       .len = count * BLK,
					       .buf = buf });

	free(buf);
	return res;
}

static inline int rig_read(struct rig *r, struct thin_vol *vol, uint64_t block, uint64_t count,
			   void *buf)
{
	return rig_do(r, (struct thin_req){ .op = THIN_READ,
					    .vol = vol,
					    .offset = block * BLK,
					    .len = count * BLK,
					    .buf = buf });
}

/* Whether the range reads as rig_write() wrote it; pattern 0: zeroes. */
static inline bool rig_reads(struct rig *r, struct thin_vol *vol, uint64_t block, uint64_t count,
			     unsigned pattern)
{
	char *in = rig_buf(count * BLK, ~pattern), *want = rig_buf(count * BLK, pattern);
	bool same;

	if (!pattern)
		memset(want, 0, count * BLK);
	same = rig_read(r, vol, block, count, in) == 0 && memcmp(in, want, count * BLK) == 0;
	free(in);
	free(want);
	return same;
}

static inline int rig_flush(struct rig *r)
{
	return rig_do(r, (struct thin_req){ .op = THIN_FLUSH });
}

static inline int rig_control(struct rig *r, enum thin_op op, const char *name, uint64_t bytes)
{
	return rig_do(r, (struct thin_req){
				 .op = op, .name = name, .size_bytes = bytes, .shrink = true });
}

static inline struct thin_vol *rig_vol(struct rig *r, const char *name, uint64_t bytes)
{
	struct thin_vol *vol = NULL;

	if (bytes)
		assert_int_equal(rig_control(r, THIN_VOL_CREATE, name, bytes), 0);
	assert_int_equal(thin_vol_open(r->pool, name, &vol), 0);
	return vol;
}

static inline struct thin_pool_stat rig_stat(const struct rig *r)
{
	struct thin_pool_stat st;

	thin_pool_stat(r->pool, &st);
	return st;
}

/* Let the pool come to rest; time goes on. */
static inline void rig_settle(struct rig *r)
{
	unsigned i = 0;

	while (!thin_pool_idle(r->pool) || rig_stat(r).log_used_bytes) {
		if (i++ == RIG_TURNS)
			fail_msg("never idle");
		rig_turn(r);
		r->now_ms += 10;
	}
}

/* ---- lives ---- */

/* The power goes: all that is not durable is lost, or none of it.  The pool is not opened. */
static inline void rig_cut(struct rig *r, bool keep)
{
	size_t n = dev_sim_pending(r->sim);
	uint64_t bytes = r->dev->size_bytes;
	uint8_t *parts = malloc(n + 1);
	struct sim_image image;

	memset(parts, keep ? SIM_ALL : SIM_NONE, n + 1);
	dev_sim_cut(r->sim, parts, 1, &image);
	free(parts);
	thin_pool_abandon(r->pool);
	r->pool = NULL;
	dev_sim_free(r->sim);
	r->sim = dev_sim_new_image(&image, bytes, 2);
	sim_image_free(&image);
	r->dev = dev_sim_port(r->sim);
}

static inline void rig_problem(void *user, const char *text)
{
	(void)user;
	fprintf(stderr, "verify: %s\n", text);
}

static inline void rig_verify_closed(struct rig *r)
{
	struct thin_verify_report report;
	struct err err = { 0 };
	int res = thin_verify(r->dev, true, rig_problem, NULL, &report, &err);

	if (res || report.errors || report.leaked_blocks)
		fail_msg("verify: %d, %llu errors, %llu leaked, %s", res,
			 (unsigned long long)report.errors,
			 (unsigned long long)report.leaked_blocks, err.text);
}

static inline void rig_reopen(struct rig *r)
{
	assert_int_equal(thin_pool_close(r->pool), 0);
	rig_open_pool(r);
}

static inline void rig_free(struct rig *r)
{
	dev_sim_free(r->sim);
	memset(r, 0, sizeof(*r));
}

/* Close, verify, free. */
static inline void rig_end(struct rig *r)
{
	assert_int_equal(thin_pool_close(r->pool), 0);
	rig_verify_closed(r);
	rig_free(r);
}

#endif
