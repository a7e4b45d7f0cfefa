// SPDX-License-Identifier: GPL-2.0-or-later
/* The stage: small writes are answered before the device has them, and nothing is lost by it
 * (thin/stage.h).  What crashes do to it is tests/crash's. */
#include "tests/thin/life.h"

#include "thin/format.h"
#include "thin/pool.h"

#define SLOTS	    80u
#define BESIDE	    32u /* blocks that go beside another write (thin/stage.c) */
#define STAGE_BYTES ((1u + SLOTS) * BLK)

static struct rig r;
static struct thin_vol *vol;

static int setup(void **state)
{
	(void)state;
	memset(&r, 0, sizeof(r));
	r.open.commit_ms = 100000;
	r.open.stage = rig_buf(STAGE_BYTES, 1);
	r.open.stage_bytes = STAGE_BYTES;
	r.open.shadow = rig_buf(THIN_SHADOW_BYTES, 1);
	rig_new(&r, 4096, 512, true);
	dev_sim_set_delay(r.sim, 40);
	vol = rig_vol(&r, "v", 8 * MIB);
	assert_int_equal(rig_control(&r, THIN_CHECKPOINT, NULL, 0), 0);
	return 0;
}

static int teardown(void **state)
{
	void *stage = r.open.stage, *shadow = r.open.shadow;

	(void)state;
	thin_vol_close(vol);
	rig_end(&r);
	free(stage);
	free(shadow);
	return 0;
}

static unsigned taken(void)
{
	const struct fmt_stage *a = r.open.stage;
	unsigned count = 0;

	for (uint32_t i = 0; i < a->slots; i++)
		count += (a->slot[i].where & FMT_STAGE_TAKEN) != 0;
	return count;
}

static void test_answers_first(void **state)
{
	(void)state;
	assert_int_equal(rig_write(&r, vol, 3, 4, 9), 0);
	assert_true(dev_sim_in_flight(r.sim) > 0);
	assert_int_equal(taken(), 4);
	/* a read waits for what is on its way */
	assert_true(rig_reads(&r, vol, 3, 4, 9));
	assert_int_equal(taken(), 0);
}

static void test_flush_waits(void **state)
{
	(void)state;
	assert_int_equal(rig_write(&r, vol, 3, 4, 9), 0);
	assert_true(taken() > 0);
	assert_int_equal(rig_flush(&r), 0);
	assert_int_equal(taken(), 0);
}

static void test_gathers(void **state)
{
	uint64_t before = rig_stat(&r).data_written_bytes;

	(void)state;
	dev_sim_set_delay(r.sim, 4000);
	for (unsigned i = 0; i < SLOTS; i++) {
		assert_int_equal(rig_write(&r, vol, i, 1, 9), 0);
		/* one with the device, enough of the others beside it, the third has the rest */
		assert_int_equal(r.pool->stage.writing, i < BESIDE ? 1 : 2);
		assert_true(dev_sim_in_flight(r.sim) >= r.pool->stage.writing);
	}
	assert_int_equal(rig_stat(&r).data_written_bytes - before, SLOTS * BLK);
	assert_int_equal(taken(), SLOTS);
	assert_int_equal(rig_flush(&r), 0);
	for (unsigned i = 0; i < SLOTS; i++)
		assert_true(rig_reads(&r, vol, i, 1, 9));
}

static void test_full_stage(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 5 * SLOTS; i++)
		assert_int_equal(rig_write(&r, vol, i, 3, i + 1), 0);
	for (unsigned i = 0; i < 5 * SLOTS; i++)
		assert_true(rig_reads(&r, vol, i, 1, i + 1));
	assert_int_equal(rig_flush(&r), 0);
	assert_int_equal(taken(), 0);
}

static void test_large_pass_by(void **state)
{
	(void)state;
	assert_int_equal(rig_write(&r, vol, 0, 17, 9), 0);
	assert_int_equal(dev_sim_in_flight(r.sim), 0);
	assert_true(rig_reads(&r, vol, 0, 17, 9));
}

/* The room that there was is gone: repeated until there is some, new data is refused meanwhile. */
static void test_host_full(void **state)
{
	struct rig_req flush = { .req = { .op = THIN_FLUSH } };

	(void)state;
	dev_sim_fail(r.sim, DEV_WRITE, 0, -ENOSPC);
	assert_int_equal(rig_write(&r, vol, 3, 4, 9), 0);
	rig_submit(&r, &flush);
	rig_turns(&r, 2000);
	assert_int_equal(r.events[THIN_EVENT_FULL], 1);
	assert_false(flush.answered);
	assert_int_equal(rig_write(&r, vol, 30, 1, 9), -ENOSPC);
	r.now_ms += 1000;
	assert_int_equal(rig_wait(&r, &flush), 0);
	assert_int_equal(taken(), 0);
	assert_int_equal(rig_write(&r, vol, 30, 1, 9), 0);
	assert_true(rig_reads(&r, vol, 3, 4, 9));
}

/* No flush succeeds over data that is lost, and the next process has it. */
static void test_fails_and_stops(void **state)
{
	struct err err = { 0 };

	(void)state;
	dev_sim_fail(r.sim, DEV_WRITE, 0, -EIO);
	assert_int_equal(rig_write(&r, vol, 3, 4, 9), 0);
	assert_int_equal(rig_flush(&r), -EIO);
	assert_int_equal(r.events[THIN_EVENT_READ_ONLY], 1);
	assert_int_equal(rig_write(&r, vol, 3, 1, 9), -EIO);
	assert_int_equal(taken(), 4);
	thin_vol_close(vol);
	while (dev_sim_in_flight(r.sim))
		r.dev->ops->wait(r.dev);
	thin_pool_abandon(r.pool);
	assert_int_equal(rig_try_open(&r, &err), 0);
	vol = rig_vol(&r, "v", 0);
	assert_true(rig_reads(&r, vol, 3, 4, 9));
	assert_int_equal(taken(), 0);
}

static struct fmt_stage_slot *first_taken(struct fmt_stage *a)
{
	uint32_t i = 0;

	while (!(a->slot[i].where & FMT_STAGE_TAKEN))
		i++;
	return &a->slot[i];
}

static void another_pool(struct fmt_stage *a)
{
	a->pool_id[3] ^= 1;
}

static void another_time(struct fmt_stage *a)
{
	a->nonce ^= 1;
}

static void too_many(struct fmt_stage *a)
{
	a->slots = 1u << 30;
}

static void bad_place(struct fmt_stage *a)
{
	first_taken(a)->where = FMT_STAGE_TAKEN | 1u;
}

static void bad_content(struct fmt_stage *a)
{
	first_taken(a)->crc ^= 1;
}

static void die(void)
{
	uint8_t none[16] = { 0 };
	struct dev_sim *after;

	assert_true(dev_sim_pending(r.sim) <= sizeof(none));
	after = dev_sim_kill(r.sim, none, 7);
	thin_vol_close(vol);
	thin_pool_abandon(r.pool);
	dev_sim_free(r.sim);
	r.sim = after;
	r.dev = dev_sim_port(after);
}

/* What does not fit is not written; what it stands for keeps its older content. */
static void test_foreign_stage(void **state)
{
	static const struct {
		void (*spoil)(struct fmt_stage *);
		bool all;
	} t[] = { { another_pool, true },
		  { another_time, true },
		  { too_many, true },
		  { bad_place, false },
		  { bad_content, false } };

	(void)state;
	for (unsigned i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		assert_int_equal(rig_write(&r, vol, 3, 2, 20 + i), 0);
		assert_int_equal(rig_flush(&r), 0);
		assert_int_equal(rig_write(&r, vol, 3, 2, 90 + i), 0);
		assert_int_equal(taken(), 2);
		die();
		t[i].spoil(r.open.stage);
		rig_open_pool(&r);
		assert_int_equal(r.events[THIN_EVENT_DAMAGE], !t[i].all ? i - 2 : 0);
		dev_sim_set_delay(r.sim, 40);
		vol = rig_vol(&r, "v", 0);
		assert_true(rig_reads(&r, vol, 3, 1, 20 + i));
		assert_true(rig_reads(&r, vol, 3, 2, 20 + i) == t[i].all); /* 4 is the new one */
		assert_int_equal(taken(), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_answers_first, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flush_waits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gathers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_stage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_large_pass_by, setup, teardown),
		cmocka_unit_test_setup_teardown(test_host_full, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fails_and_stops, setup, teardown),
		cmocka_unit_test_setup_teardown(test_foreign_stage, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
