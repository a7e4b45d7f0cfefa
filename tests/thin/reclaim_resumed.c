// SPDX-License-Identifier: GPL-2.0-or-later
/* Giving back a volume larger than the cache: it goes on behind a power cut and a close, closing
 * does not wait for it, and in the end every block is free. */
#include "tests/thin/life.h"

enum { LEAVES = 1500 };

static void make(struct rig *r)
{
	struct thin_vol *vol;

	memset(r, 0, sizeof(*r));
	r->open.node_cache_bytes = 1;
	rig_new(r, 16384, 256, true);
	vol = rig_vol(r, "big", 1ull << 40);
	for (unsigned i = 0; i < LEAVES; i++)
		assert_int_equal(rig_write(r, vol, i * 256u + i % 256, 2, i + 1), 0);
	thin_vol_close(vol);
	assert_int_equal(rig_flush(r), 0);
}

static void all_free(struct rig *r)
{
	rig_settle(r);
	assert_int_equal(rig_stat(r).data_blocks, 0);
	assert_int_equal(rig_stat(r).reclaim_blocks, 0);
	rig_end(r);
}

static void test_power_cuts(void **state)
{
	struct rig r;
	uint64_t left = UINT64_MAX;
	unsigned lives = 0;

	(void)state;
	make(&r);
	assert_int_equal(rig_control(&r, THIN_VOL_DELETE, "big", 0), 0);
	while (rig_stat(&r).reclaim_blocks) {
		assert_true(rig_stat(&r).reclaim_blocks <= left);
		left = rig_stat(&r).reclaim_blocks;
		rig_turns(&r, 40 + 20 * (lives % 20)); /* the disk is slow in the same places */
		rig_control(&r, THIN_CHECKPOINT, NULL, 0);
		rig_cut(&r, lives++ % 2);
		rig_open_pool(&r);
		assert_true(lives < 1000);
	}
	assert_true(lives > 2);
	all_free(&r);
}

static void test_close(void **state)
{
	struct rig r;

	(void)state;
	make(&r);
	assert_int_equal(rig_control(&r, THIN_VOL_DELETE, "big", 0), 0);
	assert_int_equal(thin_pool_close(r.pool), 0);
	rig_verify_closed(&r);
	rig_open_pool(&r);
	assert_true(rig_stat(&r).reclaim_blocks > LEAVES);
	all_free(&r);
}

/* What is trimmed belongs to the volume until it is given back, also when that is deleted. */
static void test_trimmed_then_deleted(void **state)
{
	struct rig r;
	struct thin_vol *vol;
	struct thin_vol_stat st;

	(void)state;
	make(&r);
	vol = rig_vol(&r, "big", 0);
	assert_int_equal(rig_range(&r, vol, THIN_TRIM, 0, 1u << 28, 0), 0);
	rig_turns(&r, 20);
	thin_vol_stat(vol, &st);
	assert_true(st.mapped_blocks > 0 && st.mapped_blocks < 2 * LEAVES);
	assert_true(rig_reads(&r, vol, 0, 256, 0));
	thin_vol_close(vol);
	assert_int_equal(rig_control(&r, THIN_VOL_DELETE, "big", 0), 0);
	rig_turns(&r, 20);
	rig_cut(&r, false);
	rig_open_pool(&r);
	all_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_power_cuts),
		cmocka_unit_test(test_close),
		cmocka_unit_test(test_trimmed_then_deleted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
