// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Free space of a pool file is written before it is needed: so much and no more, what is allocated
 * next comes from it, a punch leaves it, a full host ends it, and none of it is an error.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/thin/life.h"
#include "thin/dev_file.h"

#define POOL_BYTES  (256 * MIB)
#define AHEAD_BYTES (16 * MIB)

static char path[] = "writes_ahead.pool";

/* ---- on a file ---- */

static void file_pool(struct rig *r)
{
	struct dev_file_open how = { .create = true, .size_bytes = POOL_BYTES };
	struct thin_create create = { .seed = 7, .time_s = 1 };
	struct err err = { 0 };

	memset(r, 0, sizeof(*r));
	r->open.ahead_bytes = AHEAD_BYTES;
	r->now_ms = 1000;
	unlink(path);
	assert_int_equal(dev_file_open(path, &how, &r->dev, &err), 0);
	assert_int_equal(thin_pool_create(r->dev, &create, &err), 0);
	rig_open_pool(r);
}

static void file_end(struct rig *r)
{
	assert_int_equal(thin_pool_close(r->pool), 0);
	r->dev->ops->close(r->dev);
	unlink(path);
}

static uint64_t taken_up(void)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* Nothing asked for so long. */
static void rest(struct rig *r, uint64_t ms)
{
	for (uint64_t end = r->now_ms + ms; r->now_ms < end; r->now_ms++) {
		thin_pool_run(r->pool, r->now_ms);
		while (!thin_pool_idle(r->pool)) {
			uint64_t due = thin_pool_deadline_ms(r->pool);

			if (due > r->now_ms && due <= r->now_ms + 5)
				r->now_ms = due; /* it gives back slowly */
			else
				r->dev->ops->wait(r->dev);
			thin_pool_run(r->pool, r->now_ms);
		}
	}
}

static int ask(struct rig *r, struct thin_req req)
{
	struct rig_req q = { .req = req };

	rig_submit(r, &q);
	for (thin_pool_run(r->pool, r->now_ms); !q.answered; thin_pool_run(r->pool, r->now_ms))
		r->dev->ops->wait(r->dev);
	return q.res;
}

static void test_file(void **state)
{
	struct rig r;
	struct thin_vol *vol;
	uint64_t empty, full, more, len = 8 * MIB;
	char *out = rig_buf(len, 5), *in = rig_buf(len, 0);

	(void)state;
	file_pool(&r);
	empty = taken_up();
	rest(&r, 400);
	full = taken_up();
	assert_int_equal(rig_stat(&r).ahead_bytes, AHEAD_BYTES);
	assert_in_range(full, empty + AHEAD_BYTES, empty + AHEAD_BYTES + MIB);

	/* new data goes there: the file does not grow, but for some metadata */
	assert_int_equal(ask(&r, (struct thin_req){ .op = THIN_VOL_CREATE,
						    .name = "v",
						    .size_bytes = 64 * MIB }),
			 0);
	assert_int_equal(thin_vol_open(r.pool, "v", &vol), 0);
	assert_int_equal(
		ask(&r, (struct thin_req){ THIN_WRITE, .vol = vol, .len = len, .buf = out }), 0);
	assert_int_equal(ask(&r, (struct thin_req){ THIN_FLUSH, .vol = vol }), 0);
	more = rig_stat(&r).ahead_bytes - AHEAD_BYTES;		  /* under load already */
	assert_in_range(taken_up(), full, full + more + 2 * MIB); /* one on its way */
	assert_true(more < len);
	assert_int_equal(ask(&r, (struct thin_req){ THIN_READ, .vol = vol, .len = len, .buf = in }),
			 0);
	assert_memory_equal(in, out, len);

	/* and is made good for */
	rest(&r, 400);
	assert_in_range(taken_up(), full + 7 * MIB, full + 10 * MIB);

	/* what is freed is given back, but for what will be wanted */
	assert_int_equal(ask(&r, (struct thin_req){ THIN_TRIM, .vol = vol, .len = 64 * MIB }), 0);
	assert_int_equal(ask(&r, (struct thin_req){ THIN_CHECKPOINT }), 0);
	rest(&r, 8000);
	assert_true(taken_up() >= empty + AHEAD_BYTES);
	thin_vol_close(vol);
	file_end(&r);
	free(in);
	free(out);
}

/* A pool that is opened knows what has been written, by asking the file. */
static void test_opened_again(void **state)
{
	struct rig r;
	uint64_t ahead;

	(void)state;
	file_pool(&r);
	rest(&r, 400);
	ahead = rig_stat(&r).ahead_bytes;
	assert_int_equal(ahead, AHEAD_BYTES);
	assert_int_equal(thin_pool_close(r.pool), 0);
	rig_open_pool(&r);
	rest(&r, 400);
	assert_true(rig_stat(&r).ahead_bytes <= MIB);
	file_end(&r);
}

/* ---- on a simulated disk ---- */

static void sim_pool(struct rig *r, uint64_t ahead_bytes)
{
	memset(r, 0, sizeof(*r));
	rig_new(r, POOL_BYTES / BLK, 1024, false);
	assert_int_equal(thin_pool_close(r->pool), 0);
	r->dev->sparse = true;
	r->open.ahead_bytes = ahead_bytes;
	rig_open_pool(r);
}

static void sim_rest(struct rig *r, unsigned turns)
{
	while (turns-- > 0) {
		r->now_ms++;
		rig_turn(r);
	}
}

/* A host without room: no error, one event, no further try for a while; data goes on. */
static void test_host_full(void **state)
{
	struct rig r;
	struct thin_vol *vol;
	struct thin_pool_stat st;
	uint64_t before;

	(void)state;
	sim_pool(&r, AHEAD_BYTES);
	vol = rig_vol(&r, "v", 16 * MIB);
	before = rig_stat(&r).ahead_bytes;
	assert_true(before < AHEAD_BYTES / 2);
	dev_sim_fail_percent(r.sim, DEV_WRITE, 100, -ENOSPC);
	sim_rest(&r, 1000);
	dev_sim_fail_percent(r.sim, DEV_WRITE, 0, 0);
	st = rig_stat(&r);
	assert_true(st.ahead_bytes <= before + MIB);
	assert_false(st.read_only);
	assert_int_equal(r.events[THIN_EVENT_LOW_SPACE], 1);
	sim_rest(&r, 1000);
	assert_int_equal(rig_stat(&r).ahead_bytes, st.ahead_bytes);
	assert_int_equal(rig_write(&r, vol, 0, 64, 1), 0);
	sim_rest(&r, 12000);
	assert_int_equal(rig_stat(&r).ahead_bytes / MIB, AHEAD_BYTES / MIB);
	assert_true(rig_reads(&r, vol, 0, 64, 1));
	thin_vol_close(vol);
	rig_end(&r);
}

/* Any other failure ends it for good and is nothing else's failure. */
static void test_failing(void **state)
{
	struct rig r;
	struct thin_vol *vol;

	(void)state;
	sim_pool(&r, AHEAD_BYTES);
	dev_sim_fail(r.sim, DEV_WRITE, 0, -EIO);
	sim_rest(&r, 1000);
	assert_int_equal(r.events[THIN_EVENT_NOTE], 1);
	assert_false(rig_stat(&r).read_only);
	assert_int_equal(rig_stat(&r).ahead_bytes, 0);
	vol = rig_vol(&r, "v", 16 * MIB);
	assert_int_equal(rig_write(&r, vol, 0, 64, 1), 0);
	assert_true(rig_reads(&r, vol, 0, 64, 1));
	thin_vol_close(vol);
	rig_end(&r);
}

/* Off, or a device that has all its space: nothing is written. */
static void test_off(void **state)
{
	struct rig r;

	(void)state;
	sim_pool(&r, 0);
	sim_rest(&r, 1000);
	assert_int_equal(rig_stat(&r).ahead_bytes, 0);
	rig_end(&r);
	sim_pool(&r, AHEAD_BYTES);
	assert_int_equal(thin_pool_close(r.pool), 0);
	r.dev->sparse = false;
	rig_open_pool(&r);
	sim_rest(&r, 1000);
	assert_int_equal(rig_stat(&r).ahead_bytes, 0);
	rig_end(&r);
}

/* Under load in doses: at most a burst in each pause. */
static void test_under_load(void **state)
{
	struct rig r;
	struct thin_vol *vol;
	uint64_t ahead;

	(void)state;
	sim_pool(&r, 32 * MIB);
	vol = rig_vol(&r, "v", 16 * MIB);
	for (unsigned ms = 0; ms < 90; ms++) {
		r.now_ms++;
		assert_int_equal(rig_write(&r, vol, ms % 16, 1, ms + 1), 0);
		rig_turns(&r, 50);
	}
	ahead = rig_stat(&r).ahead_bytes;
	assert_in_range(ahead, 1, 16 * MIB);
	for (unsigned ms = 0; ms < 60; ms++) {
		r.now_ms++;
		assert_int_equal(rig_write(&r, vol, ms % 16, 1, ms + 1), 0);
		rig_turns(&r, 50);
	}
	assert_true(rig_stat(&r).ahead_bytes > ahead);
	/* a device that blocks is left in peace */
	r.dev->blocking = true;
	ahead = rig_stat(&r).ahead_bytes;
	for (unsigned ms = 0; ms < 300; ms++) {
		r.now_ms++;
		assert_int_equal(rig_write(&r, vol, ms % 16, 1, ms + 1), 0);
	}
	assert_true(rig_stat(&r).ahead_bytes <= ahead + MIB);
	thin_vol_close(vol);
	rig_end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_file),	  cmocka_unit_test(test_opened_again),
		cmocka_unit_test(test_host_full), cmocka_unit_test(test_failing),
		cmocka_unit_test(test_off),	  cmocka_unit_test(test_under_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
