// SPDX-License-Identifier: GPL-2.0-or-later
/* Space goes back to the host only when the pool is idle, only what is free, and what is written
 * afterwards is there.  (The simulated disk fills what is punched with rubbish.) */
#include "tests/thin/life.h"

static struct rig r;
static struct thin_vol *vol;

static void make(uint64_t blocks)
{
	memset(&r, 0, sizeof(r));
	rig_new(&r, blocks, 64, true);
	vol = rig_vol(&r, "v", 16 * MIB);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(rig_write(&r, vol, i * 64, 64, i + 1), 0);
	assert_int_equal(rig_flush(&r), 0);
}

static void check(unsigned from)
{
	for (unsigned i = from; i < 8; i++)
		assert_true(rig_reads(&r, vol, i * 64, 64, i + 1));
}

static void test_only_idle(void **state)
{
	(void)state;
	make(2048);
	assert_int_equal(rig_range(&r, vol, THIN_TRIM, 0, 256, 0), 0);
	for (unsigned i = 0; i < 20; i++) { /* a client now and then: not idle */
		r.now_ms += 499;
		assert_int_equal(rig_control(&r, THIN_CHECKPOINT, NULL, 0), 0);
		rig_turns(&r, 20);
		assert_int_equal(rig_stat(&r).punched_bytes, 0);
	}
	r.now_ms += 500;
	rig_turns(&r, 400);
	assert_true(rig_stat(&r).punched_bytes >= 192 * BLK);
	check(4);
	assert_true(rig_reads(&r, vol, 0, 256, 0));
	/* each run once */
	rig_settle(&r);
	r.now_ms += 10000;
	rig_turns(&r, 400);
	{
		uint64_t punched = rig_stat(&r).punched_bytes;

		r.now_ms += 10000;
		rig_turns(&r, 400);
		assert_int_equal(rig_stat(&r).punched_bytes, punched);
	}
	assert_int_equal(rig_write(&r, vol, 0, 256, 1), 0);
	assert_true(rig_reads(&r, vol, 0, 256, 1));
	check(4);
	thin_vol_close(vol);
	rig_end(&r);
}

/* Trims, writes and pauses on a pool that is nearly full: whatever is punched, data stays. */
static void test_under_data(void **state)
{
	(void)state;
	make(760);
	for (unsigned round = 0; round < 60; round++) {
		unsigned i = round % 8;

		assert_int_equal(rig_range(&r, vol, THIN_TRIM, i * 64, 64, 0), 0);
		rig_turns(&r, 10);
		if (round % 3)
			r.now_ms += 600;
		rig_turns(&r, round % 5 * 3); /* a punch may be under way */
		assert_int_equal(rig_write(&r, vol, i * 64, 64, i + 1), 0);
		if (round % 4 == 0)
			assert_int_equal(rig_control(&r, THIN_CHECKPOINT, NULL, 0), 0);
		check(0);
		if (round % 10 == 9) {
			assert_int_equal(rig_flush(&r), 0);
			thin_vol_close(vol);
			rig_cut(&r, round % 20 == 9);
			rig_open_pool(&r);
			vol = rig_vol(&r, "v", 0);
			check(0);
		}
	}
	thin_vol_close(vol);
	rig_end(&r);
}

/* A host that cannot is not asked again. */
static void test_refused(void **state)
{
	(void)state;
	make(2048);
	dev_sim_fail_percent(r.sim, DEV_PUNCH, 100, -EOPNOTSUPP);
	assert_int_equal(rig_range(&r, vol, THIN_TRIM, 0, 256, 0), 0);
	assert_int_equal(rig_control(&r, THIN_CHECKPOINT, NULL, 0), 0);
	rig_settle(&r);
	r.now_ms += 10000;
	rig_turns(&r, 400);
	assert_int_equal(rig_stat(&r).punched_bytes, 0);
	assert_false(r.dev->can_punch);
	assert_false(rig_stat(&r).read_only);
	assert_int_equal(rig_write(&r, vol, 0, 256, 1), 0);
	check(4);
	thin_vol_close(vol);
	rig_end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_only_idle),
		cmocka_unit_test(test_under_data),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
