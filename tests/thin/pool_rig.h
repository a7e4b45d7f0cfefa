/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A pool on a simulated disk for tests of one behaviour: requests that are waited for. */
#ifndef TESTS_THIN_POOL_RIG_H
#define TESTS_THIN_POOL_RIG_H

#include "tests/lib/dev_sim.h"
#include "tests/thin/dev_rig.h"
#include "thin/thin.h"

struct pool_rig {
	struct dev_sim *sim;
	struct thin_pool *pool;
	uint64_t now_ms, seed;
	unsigned events[8]; /* by kind */
	char last_event[256];
};

static inline void pool_rig_event(void *user, enum thin_event_kind kind, const char *text)
{
	struct pool_rig *r = user;

	r->events[kind]++;
	snprintf(r->last_event, sizeof(r->last_event), "%s", text);
}

static inline int pool_rig_try_open(struct pool_rig *r, struct err *err)
{
	struct thin_open open = { .node_cache_bytes = 1u << 20,
				  .buffer_bytes = 1u << 20,
				  .seed = ++r->seed,
				  .event = pool_rig_event,
				  .event_user = r,
				  .now_ms = r->now_ms };

	memset(r->events, 0, sizeof(r->events));
	return thin_pool_open(dev_sim_port(r->sim), &open, &r->pool, err);
}

static inline void pool_rig_open(struct pool_rig *r)
{
	struct err err = { 0 };

	if (pool_rig_try_open(r, &err))
		fail_msg("open: %s", err.text);
}

static inline void pool_rig_create(struct pool_rig *r, uint64_t blocks, uint64_t log_pages)
{
	struct thin_create create = {
		.journal_bytes = log_pages * BLK, .seed = 1, .time_s = 1, .tiny = true
	};
	struct err err = { 0 };

	memset(r, 0, sizeof(*r));
	r->now_ms = 1000;
	r->sim = dev_sim_new(blocks * BLK, 1);
	if (thin_pool_create(dev_sim_port(r->sim), &create, &err))
		fail_msg("create: %s", err.text);
	pool_rig_open(r);
}

static inline void pool_rig_turn(struct pool_rig *r)
{
	struct thin_dev *dev = dev_sim_port(r->sim);
	uint64_t due;

	thin_pool_run(r->pool, r->now_ms);
	if (dev_sim_in_flight(r->sim)) {
		dev->ops->wait(dev);
		return;
	}
	due = thin_pool_deadline_ms(r->pool);
	r->now_ms = due != UINT64_MAX && due > r->now_ms ? due : r->now_ms + 1;
}

struct pool_rig_answer {
	bool answered;
	int res;
};

static inline void pool_rig_done(struct thin_req *req, int res)
{
	struct pool_rig_answer *a = req->user;

	assert_false(a->answered);
	*a = (struct pool_rig_answer){ true, res };
}

static inline int pool_rig_run(struct pool_rig *r, struct thin_req *req)
{
	struct pool_rig_answer a = { 0 };

	req->done = pool_rig_done;
	req->user = &a;
	thin_submit(r->pool, req);
	assert_false(a.answered);
	for (unsigned i = 0; !a.answered; i++) {
		assert_true(i < 100000);
		pool_rig_turn(r);
	}
	return a.res;
}

static inline void pool_rig_settle(struct pool_rig *r)
{
	for (unsigned i = 0; !thin_pool_idle(r->pool) || dev_sim_in_flight(r->sim); i++) {
		assert_true(i < 100000);
		pool_rig_turn(r);
	}
}

static inline int pool_rig_io(struct pool_rig *r, enum thin_op op, struct thin_vol *vol,
			      uint64_t block, uint64_t count, void *buf)
{
	struct thin_req req = {
		.op = op, .vol = vol, .offset = block * BLK, .len = count * BLK, .buf = buf
	};

	return pool_rig_run(r, &req);
}

static inline int pool_rig_control(struct pool_rig *r, enum thin_op op, const char *name,
				   uint64_t blocks)
{
	struct thin_req req = { .op = op, .name = name, .size_bytes = blocks * BLK, .time_s = 1 };

	return pool_rig_run(r, &req);
}

static inline struct thin_vol *pool_rig_volume(struct pool_rig *r, const char *name,
					       uint64_t blocks)
{
	struct thin_vol *vol = NULL;

	assert_int_equal(pool_rig_control(r, THIN_VOL_CREATE, name, blocks), 0);
	assert_int_equal(thin_vol_open(r->pool, name, &vol), 0);
	return vol;
}

static inline void pool_rig_power_cut(struct pool_rig *r)
{
	struct dev_sim *after =
		dev_sim_new_image(dev_sim_durable(r->sim), dev_sim_port(r->sim)->size_bytes, 7);

	thin_pool_abandon(r->pool);
	dev_sim_free(r->sim);
	r->sim = after;
	r->pool = NULL;
}

static inline void pool_rig_free(struct pool_rig *r)
{
	if (r->pool)
		thin_pool_abandon(r->pool);
	dev_sim_free(r->sim);
	memset(r, 0, sizeof(*r));
}

#endif
