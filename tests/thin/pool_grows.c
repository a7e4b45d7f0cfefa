// SPDX-License-Identifier: GPL-2.0-or-later
/* A pool grows under load, twice at once, and never into what is not there. */
#include "tests/thin/life.h"

static struct rig r;
static struct thin_vol *vol;

static int grow(uint64_t blocks)
{
	return rig_control(&r, THIN_POOL_GROW, NULL, blocks * BLK);
}

static void check(void)
{
	for (unsigned i = 0; i < 4; i++)
		assert_true(rig_reads(&r, vol, i * 40, 40, i + 1));
}

static void test_grow(void **state)
{
	struct rig_req q[2] = { 0 };
	struct err err = { 0 };
	uint64_t before;

	(void)state;
	memset(&r, 0, sizeof(r));
	rig_new(&r, 300, 16, true);
	vol = rig_vol(&r, "v", 16 * MIB);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(rig_write(&r, vol, i * 40, 40, i + 1), 0);
	before = rig_stat(&r).block_count;
	assert_int_equal(grow(400), -EINVAL); /* the device has not grown */
	assert_int_equal(grow(300), -EINVAL);
	assert_int_equal(grow(10), -EINVAL);
	assert_int_equal(r.dev->ops->resize(r.dev, 2000 * BLK, &err), 0);
	assert_int_equal(grow(1ull << 40), -EINVAL);
	for (unsigned i = 0; i < 2; i++) {
		q[i].req = (struct thin_req){ .op = THIN_POOL_GROW,
					      .size_bytes = (700 + 500 * i) * BLK };
		rig_submit(&r, &q[i]);
	}
	assert_int_equal(rig_write(&r, vol, 200, 8, 9), 0);
	assert_int_equal(rig_wait(&r, &q[0]), 0);
	assert_int_equal(rig_wait(&r, &q[1]), 0);
	assert_int_equal(rig_stat(&r).size_bytes, 1200 * BLK);
	assert_true(rig_stat(&r).block_count > before + 800);
	assert_int_equal(rig_write(&r, vol, 300, 700, 10), 0);
	assert_int_equal(rig_flush(&r), 0);
	check();
	thin_vol_close(vol);
	rig_cut(&r, false);
	rig_open_pool(&r);
	assert_int_equal(rig_stat(&r).size_bytes, 1200 * BLK);
	vol = rig_vol(&r, "v", 0);
	check();
	assert_true(rig_reads(&r, vol, 300, 700, 10));
	thin_vol_close(vol);
	rig_end(&r);
}

/* The power goes at any moment of a growth. */
static void test_cut(void **state)
{
	(void)state;
	for (unsigned turns = 0; turns < 120; turns++) {
		struct rig_req q = { .req = { .op = THIN_POOL_GROW, .size_bytes = 700 * BLK } };
		struct err err = { 0 };
		bool answered;

		memset(&r, 0, sizeof(r));
		rig_new(&r, 300, 16, true);
		vol = rig_vol(&r, "v", 16 * MIB);
		for (unsigned i = 0; i < 4; i++)
			assert_int_equal(rig_write(&r, vol, i * 40, 40, i + 1), 0);
		assert_int_equal(rig_flush(&r), 0);
		assert_int_equal(r.dev->ops->resize(r.dev, 700 * BLK, &err), 0);
		rig_submit(&r, &q);
		rig_turns(&r, turns);
		answered = q.answered;
		thin_vol_close(vol);
		rig_cut(&r, turns % 2);
		rig_open_pool(&r);
		assert_true(!answered || rig_stat(&r).size_bytes == 700 * BLK);
		vol = rig_vol(&r, "v", 0);
		check();
		if (rig_stat(&r).size_bytes < 700 * BLK)
			assert_int_equal(grow(700), 0);
		assert_int_equal(rig_write(&r, vol, 300, 300, 10), 0);
		check();
		thin_vol_close(vol);
		rig_end(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grow),
		cmocka_unit_test(test_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
