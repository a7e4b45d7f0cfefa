// SPDX-License-Identifier: GPL-2.0-or-later
/* A pool opened read-only: the log is replayed in memory, everything reads as it was left, every
 * change is refused, and not one byte of the device changes. */
#include "tests/thin/life.h"

static void test_after_a_crash(void **state)
{
	struct rig r = { .open.node_cache_bytes = 1 };
	struct thin_extent e[8];
	struct rig_req q = { 0 };
	struct thin_vol *vol;
	uint64_t hash;

	(void)state;
	rig_new(&r, 4096, 256, true);
	vol = rig_vol(&r, "v", 64ull << 30);
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(rig_write(&r, vol, i * 256u, 3, i + 1), 0);
	assert_int_equal(rig_range(&r, vol, THIN_TRIM, 0, 256 * 20, 0), 0);
	assert_int_equal(rig_control(&r, THIN_VOL_CREATE, "w", MIB), 0);
	assert_int_equal(rig_flush(&r), 0);
	thin_vol_close(vol);
	rig_cut(&r, false);
	hash = dev_sim_view(r.sim)->hash;

	r.open.read_only = true;
	rig_open_pool(&r);
	assert_true(rig_stat(&r).read_only);
	vol = rig_vol(&r, "v", 0);
	assert_true(rig_reads(&r, vol, 0, 256, 0));
	for (unsigned i = 20; i < 200; i++)
		assert_true(rig_reads(&r, vol, i * 256u, 3, i + 1));
	q.req = (struct thin_req){
		.op = THIN_STATUS, .vol = vol, .len = 64ull << 30, .extents = e, .extent_max = 8
	};
	rig_submit(&r, &q);
	assert_int_equal(rig_wait(&r, &q), 0);
	assert_int_equal(rig_range(&r, vol, THIN_CACHE, 0, 1000, 0), 0);
	assert_int_equal(rig_write(&r, vol, 0, 1, 1), -EROFS);
	assert_int_equal(rig_range(&r, vol, THIN_TRIM, 0, 1, 0), -EROFS);
	assert_int_equal(rig_range(&r, vol, THIN_ZERO, 0, 1, 0), -EROFS);
	assert_int_equal(rig_flush(&r), 0);
	assert_int_equal(rig_control(&r, THIN_VOL_CREATE, "x", MIB), -EROFS);
	assert_int_equal(rig_control(&r, THIN_VOL_DELETE, "w", 0), -EROFS);
	assert_int_equal(rig_control(&r, THIN_VOL_RESIZE, "v", MIB), -EROFS);
	assert_int_equal(rig_control(&r, THIN_POOL_GROW, NULL, 5000 * BLK), -EROFS);
	assert_int_equal(rig_control(&r, THIN_CHECKPOINT, NULL, 0), -EROFS);
	rig_turns(&r, 300); /* leaves that were loaded ahead */
	assert_true(thin_pool_idle(r.pool));
	r.now_ms += 100000;
	rig_turns(&r, 100);
	assert_true(thin_pool_deadline_ms(r.pool) == UINT64_MAX);
	thin_vol_close(vol);
	assert_int_equal(thin_pool_close(r.pool), 0);
	assert_true(dev_sim_view(r.sim)->hash == hash);
	rig_verify_closed(&r);
	assert_true(dev_sim_view(r.sim)->hash == hash);

	r.open.read_only = false;
	rig_open_pool(&r);
	vol = rig_vol(&r, "v", 0);
	assert_true(rig_reads(&r, vol, 20 * 256, 3, 21));
	assert_int_equal(rig_write(&r, vol, 0, 1, 1), 0);
	thin_vol_close(vol);
	rig_end(&r);
}

/* The device itself is read-only. */
static void test_device(void **state)
{
	struct rig r = { 0 };
	struct thin_vol *vol;

	(void)state;
	rig_new(&r, 512, 32, true);
	vol = rig_vol(&r, "v", MIB);
	assert_int_equal(rig_write(&r, vol, 0, 9, 4), 0);
	thin_vol_close(vol);
	assert_int_equal(thin_pool_close(r.pool), 0);
	r.dev->read_only = true;
	rig_open_pool(&r);
	vol = rig_vol(&r, "v", 0);
	assert_true(rig_reads(&r, vol, 0, 9, 4));
	assert_int_equal(rig_write(&r, vol, 0, 1, 1), -EROFS);
	thin_vol_close(vol);
	rig_end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_after_a_crash),
		cmocka_unit_test(test_device),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
