// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A full pool: ENOSPC comes when it is really full, what was written stays readable, overwriting
 * goes on, deleting always works, and nothing is lost over many rounds.
 */
#include "tests/thin/pool_rig.h"

#define POOL_BLOCKS 1024u
#define VOL_BLOCKS  4096u

static uint64_t fill(struct pool_rig *r, struct thin_vol *vol, char *buf)
{
	uint64_t n = 0;
	int res = 0;

	for (; n < VOL_BLOCKS && res == 0; n++) {
		memset(buf, (int)(1 + n % 200), BLK);
		res = pool_rig_io(r, THIN_WRITE, vol, n, 1, buf);
	}
	assert_int_equal(res, -ENOSPC);
	return n - 1;
}

static void check(struct pool_rig *r, struct thin_vol *vol, uint64_t n, char *buf)
{
	for (uint64_t i = 0; i < n; i++) {
		assert_int_equal(pool_rig_io(r, THIN_READ, vol, i, 1, buf), 0);
		for (unsigned k = 0; k < BLK; k++)
			assert_int_equal((uint8_t)buf[k], 1 + i % 200);
	}
}

static void test_rounds(void **state)
{
	struct pool_rig r;
	struct thin_pool_stat st, empty;
	char *buf = rig_buf(BLK, 1);
	uint64_t first = 0;

	pool_rig_create(&r, POOL_BLOCKS, 32);
	pool_rig_settle(&r);
	thin_pool_stat(r.pool, &empty);
	for (int round = 0; round < 6; round++) {
		struct thin_vol *vol = pool_rig_volume(&r, "v", VOL_BLOCKS);
		uint64_t n = fill(&r, vol, buf);

		if (round == 0)
			first = n;
		print_message("round %d: %llu of %llu blocks\n", round, (unsigned long long)n,
			      (unsigned long long)empty.block_count);
		/* nearly all of it, and as much each time */
		assert_true(n >= empty.block_count * 85 / 100);
		assert_true(n + 8 >= first && n <= first + 8);
		assert_true(r.events[THIN_EVENT_FULL] > 0);
		thin_pool_stat(r.pool, &st);
		assert_int_equal(st.enospc_errors, round % 2 ? 2 : 1);
		check(&r, vol, n, buf);
		/* overwrites go on, and so do zeroes, trims and flushes */
		for (uint64_t i = 0; i < 300; i++) {
			uint64_t block = i * 7 % n;

			memset(buf, (int)(1 + block % 200), BLK);
			assert_int_equal(pool_rig_io(&r, THIN_WRITE, vol, block, 1, buf), 0);
		}
		assert_int_equal(pool_rig_io(&r, THIN_FLUSH, vol, 0, 0, NULL), 0);
		check(&r, vol, n, buf);
		thin_vol_close(vol);
		if (round % 2) { /* over a power cut as well */
			pool_rig_power_cut(&r);
			pool_rig_open(&r);
		}
		assert_int_equal(pool_rig_control(&r, THIN_VOL_DELETE, "v", 0), 0);
		pool_rig_settle(&r);
		thin_pool_stat(r.pool, &st);
		assert_int_equal(st.data_blocks, 0);
		assert_int_equal(st.reclaim_blocks, 0);
		assert_true(st.metadata_blocks <= empty.metadata_blocks + 1);
	}
	pool_rig_free(&r);
	free(buf);
}

/* One large overwrite needs as much space as it frees, and must find it step by step. */
static void test_large_overwrite(void **state)
{
	struct pool_rig r;
	char *buf = rig_buf(BLK, 1), *large = rig_buf(200 * BLK, 1);
	struct thin_vol *vol;
	uint64_t n;

	pool_rig_create(&r, POOL_BLOCKS, 32);
	vol = pool_rig_volume(&r, "v", VOL_BLOCKS);
	n = fill(&r, vol, buf);
	for (uint64_t i = 0; i < 200; i++)
		memset(large + i * BLK, (int)(1 + (i + 20) % 200), BLK);
	assert_int_equal(pool_rig_io(&r, THIN_WRITE, vol, 20, 200, large), 0);
	check(&r, vol, n, buf);
	thin_vol_close(vol);
	pool_rig_free(&r);
	free(buf);
	free(large);
}

/* What a trim gives back can be written again, at once. */
static void test_trim_gives_back(void **state)
{
	struct pool_rig r;
	char *buf = rig_buf(BLK, 1);
	struct thin_vol *vol;
	uint64_t n;

	pool_rig_create(&r, POOL_BLOCKS, 32);
	vol = pool_rig_volume(&r, "v", VOL_BLOCKS);
	n = fill(&r, vol, buf);
	for (int round = 0; round < 10; round++) {
		uint64_t at = (uint64_t)round * 37 % (n - 64);

		assert_int_equal(pool_rig_io(&r, THIN_TRIM, vol, at, 64, NULL), 0);
		for (uint64_t i = at; i < at + 64; i++) {
			memset(buf, (int)(1 + i % 200), BLK);
			assert_int_equal(pool_rig_io(&r, THIN_WRITE, vol, i, 1, buf), 0);
		}
	}
	check(&r, vol, n, buf);
	thin_vol_close(vol);
	pool_rig_free(&r);
	free(buf);
}

/* What was provisioned with NO_HOLE can be written when the pool is full. */
static void test_no_hole_is_a_promise(void **state)
{
	struct pool_rig r;
	char *buf = rig_buf(BLK, 1);
	struct thin_req zero = { .op = THIN_ZERO, .flags = THIN_NO_HOLE, .len = 100 * BLK };
	struct thin_vol *vol, *other;
	struct thin_pool_stat st;

	pool_rig_create(&r, POOL_BLOCKS, 32);
	vol = pool_rig_volume(&r, "promised", 256);
	zero.vol = vol;
	assert_int_equal(pool_rig_run(&r, &zero), 0);
	thin_pool_stat(r.pool, &st);
	assert_int_equal(st.reserved_blocks, 100);
	other = pool_rig_volume(&r, "other", VOL_BLOCKS);
	fill(&r, other, buf);
	for (uint64_t i = 0; i < 100; i++) {
		memset(buf, (int)(1 + i % 200), BLK);
		assert_int_equal(pool_rig_io(&r, THIN_WRITE, vol, i, 1, buf), 0);
	}
	check(&r, vol, 100, buf);
	thin_vol_close(vol);
	thin_vol_close(other);
	pool_rig_free(&r);
	free(buf);
}

/* More than the pool has is refused at once: nothing of it is kept, nothing has changed. */
static void test_no_hole_beyond_the_pool(void **state)
{
	struct pool_rig r;
	char *buf = rig_buf(BLK, 1);
	struct thin_req zero = { .op = THIN_ZERO,
				 .flags = THIN_NO_HOLE,
				 .len = (POOL_BLOCKS + 1) * BLK };
	struct thin_vol *vol;
	struct thin_pool_stat st;

	pool_rig_create(&r, POOL_BLOCKS, 32);
	vol = pool_rig_volume(&r, "large", 2 * POOL_BLOCKS);
	memset(buf, 1, BLK);
	assert_int_equal(pool_rig_io(&r, THIN_WRITE, vol, 0, 1, buf), 0);
	zero.vol = vol;
	assert_int_equal(pool_rig_run(&r, &zero), -ENOSPC);
	thin_pool_stat(r.pool, &st);
	assert_int_equal(st.reserved_blocks, 0);
	check(&r, vol, 1, buf);
	zero.len = 100 * BLK;
	assert_int_equal(pool_rig_run(&r, &zero), 0);
	thin_vol_close(vol);
	pool_rig_free(&r);
	free(buf);
}

static int create_reserved(struct pool_rig *r, const char *name, uint64_t blocks)
{
	struct thin_req req = { .op = THIN_VOL_CREATE,
				.name = name,
				.size_bytes = blocks * BLK,
				.reserve_full = true };

	return pool_rig_run(r, &req);
}

/* A volume with reserve_full never meets ENOSPC, also over a power cut, and not by overwriting. */
static void test_reserved_volume(void **state)
{
	struct pool_rig r;
	char *buf = rig_buf(BLK, 1);
	struct thin_vol *vol, *other;

	pool_rig_create(&r, POOL_BLOCKS, 32);
	assert_int_equal(create_reserved(&r, "big", POOL_BLOCKS), -ENOSPC);
	assert_int_equal(create_reserved(&r, "r", 300), 0);
	other = pool_rig_volume(&r, "other", VOL_BLOCKS);
	assert_true(fill(&r, other, buf) < POOL_BLOCKS - 300);
	thin_vol_close(other);
	pool_rig_power_cut(&r);
	pool_rig_open(&r);
	assert_int_equal(thin_vol_open(r.pool, "r", &vol), 0);
	assert_int_equal(thin_vol_open(r.pool, "other", &other), 0);
	for (int round = 0; round < 2; round++)
		for (uint64_t i = 0; i < 300; i++) {
			memset(buf, (int)(1 + i % 200), BLK);
			assert_int_equal(pool_rig_io(&r, THIN_WRITE, vol, i, 1, buf), 0);
			if (i % 50 == 0) /* the other one takes what it can get */
				pool_rig_io(&r, THIN_WRITE, other, VOL_BLOCKS - 1 - i, 1, buf);
		}
	check(&r, vol, 300, buf);
	thin_vol_close(vol);
	thin_vol_close(other);
	pool_rig_free(&r);
	free(buf);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rounds),
		cmocka_unit_test(test_large_overwrite),
		cmocka_unit_test(test_trim_gives_back),
		cmocka_unit_test(test_no_hole_is_a_promise),
		cmocka_unit_test(test_no_hole_beyond_the_pool),
		cmocka_unit_test(test_reserved_volume),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
