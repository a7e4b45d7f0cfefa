// SPDX-License-Identifier: GPL-2.0-or-later
/* Reading ahead: for streams only, in time, bounded, and without a trace of what went wrong. */
#include "tests/lib/rng.h"
#include "tests/thin/life.h"
#include "thin/pool.h"

#define BLOCKS 4096u /* of the volume */

static struct thin_vol *new_rig(struct rig *r, uint64_t cache_bytes)
{
	struct thin_vol *vol;

	memset(r, 0, sizeof(*r));
	r->open.data_cache_bytes = cache_bytes;
	rig_new(r, 16384, 256, true);
	vol = rig_vol(r, "v", BLOCKS * BLK);
	for (unsigned i = 0; i < BLOCKS; i += 256)
		assert_int_equal(rig_write(r, vol, i, 256, i + 1), 0);
	thin_vol_close(vol);
	rig_reopen(r);
	return rig_vol(r, "v", 0);
}

/* rig_write() of 256 blocks counts its words from its own beginning. */
static unsigned pattern_at(uint64_t block)
{
	return (unsigned)(block / 256 * 256) + 1 +
	       (unsigned)(block % 256 * (BLK / 4)) * 2654435761u;
}

static void settle_reads(struct rig *r)
{
	for (unsigned i = 0; r->pool->busy_io && i < 1000; i++)
		rig_turn(r);
}

/* One stream from end to end: right, nothing read twice, and most of it there before it is asked
 * for. */
static void test_stream(void **state)
{
	(void)state;
	for (unsigned size = 1; size <= 256; size *= 16) {
		struct rig r;
		struct thin_vol *vol = new_rig(&r, 64 * MIB);
		struct thin_pool_stat st;

		for (uint64_t at = 0; at < BLOCKS; at += size) {
			assert_true(rig_reads(&r, vol, at, size, pattern_at(at)));
			settle_reads(&r);
			/* never further ahead than it may be */
			assert_true(r.pool->stat.readahead_bytes / BLK <=
				    at + size + READAHEAD_MAX);
		}
		st = rig_stat(&r);
		assert_int_equal(st.data_read_bytes, BLOCKS * BLK);
		assert_true(st.readahead_bytes >= (BLOCKS - 4 * size) * BLK);
		assert_true(st.cache_hits >= BLOCKS - 4 * size);
		thin_vol_close(vol);
		rig_end(&r);
	}
}

static void test_not_a_stream(void **state)
{
	struct rng rng = { 4 };
	struct rig r;
	struct thin_vol *vol = new_rig(&r, 8 * MIB);

	(void)state;
	for (unsigned i = 0; i < 400; i++) {
		uint64_t at = rng_below(&rng, BLOCKS);

		/* now and then two in a row */
		assert_true(rig_reads(&r, vol, at, 1, pattern_at(at)));
		if (i % 5 == 0 && at + 1 < BLOCKS)
			assert_true(rig_reads(&r, vol, at + 1, 1, pattern_at(at + 1)));
	}
	assert_true(rig_stat(&r).readahead_bytes < 64 * BLK); /* by chance */
	thin_vol_close(vol);
	rig_end(&r);
	/* none without a cache, nor with one too small for it */
	for (unsigned i = 0; i < 2; i++) {
		vol = new_rig(&r, i);
		for (uint64_t at = 0; at < 512; at++)
			assert_true(rig_reads(&r, vol, at, 1, pattern_at(at)));
		assert_int_equal(rig_stat(&r).readahead_bytes, 0);
		thin_vol_close(vol);
		rig_end(&r);
	}
}

/* Two handles are two streams; requests in flight that overtake each other are still one. */
static void test_streams_side_by_side(void **state)
{
	struct rig r;
	struct thin_vol *vol = new_rig(&r, 8 * MIB), *other = NULL;

	(void)state;
	assert_int_equal(thin_vol_open(r.pool, "v", &other), 0);
	for (uint64_t i = 0; i < 1024; i += 2) {
		assert_true(rig_reads(&r, vol, i + 1, 1, pattern_at(i + 1)));
		assert_true(rig_reads(&r, other, 2048 + i, 2, pattern_at(2048 + i)));
		assert_true(rig_reads(&r, vol, i, 1, pattern_at(i)));
	}
	assert_true(rig_stat(&r).readahead_bytes > 1900 * BLK);
	assert_true(rig_stat(&r).data_read_bytes <= (2048 + 2 * READAHEAD_MAX) * BLK);
	thin_vol_close(other);
	thin_vol_close(vol);
	rig_end(&r);
}

/* Three blocks have been read, and what was begun behind them is still on its way: how long the
 * disk takes is by lot. */
static struct thin_vol *overtake(struct rig *r)
{
	for (unsigned lot = 0; lot < 50; lot++) {
		struct thin_vol *vol = new_rig(r, 8 * MIB);

		dev_sim_set_delay(r->sim, 40);
		for (uint64_t i = 0; i < lot; i++)
			assert_true(rig_reads(r, vol, 1500 - 20 * i, 1, pattern_at(1500 - 20 * i)));
		for (uint64_t at = 0; at < 3; at++)
			assert_true(rig_reads(r, vol, at, 1, pattern_at(at)));
		if (r->pool->busy_io == 1)
			return vol;
		thin_vol_close(vol);
		rig_end(r);
	}
	fail_msg("nothing was read ahead");
	return NULL;
}

/* What is overwritten or trimmed while it is on its way ahead, closed handles, and a bad block. */
static void test_overtaken(void **state)
{
	char *buf = rig_buf(BLK, 0);
	struct rig r;
	struct thin_vol *vol = overtake(&r);
	uint64_t bad;

	(void)state;
	assert_int_equal(rig_range(&r, vol, THIN_TRIM, 11, 1, 0), 0);
	assert_int_equal(r.pool->busy_io, 1);
	assert_true(rig_reads(&r, vol, 3, 7, pattern_at(3)));
	assert_int_equal(rig_write(&r, vol, 10, 1, 77), 0);
	assert_true(rig_reads(&r, vol, 10, 1, 77));
	assert_true(rig_reads(&r, vol, 11, 1, 0));
	thin_vol_close(vol); /* with reads ahead in flight */
	rig_reopen(&r);
	vol = rig_vol(&r, "v", 0);
	assert_true(rig_reads(&r, vol, 20, 1, pattern_at(20)));
	bad = r.pool->data.slot[1].key.pblk;
	thin_vol_close(vol);
	rig_reopen(&r);
	dev_sim_corrupt(r.sim, bad, 3);
	vol = rig_vol(&r, "v", 0);
	for (uint64_t at = 12; at < 20; at++)
		assert_true(rig_reads(&r, vol, at, 1, pattern_at(at)));
	settle_reads(&r);
	assert_int_equal(rig_stat(&r).checksum_errors, 0); /* nobody has asked for it */
	assert_int_equal(rig_read(&r, vol, 20, 1, buf), -EIO);
	assert_int_equal(rig_stat(&r).checksum_errors, 1);
	assert_true(rig_reads(&r, vol, 21, 1, pattern_at(21)));
	free(buf);
	thin_vol_close(vol);
	assert_int_equal(thin_pool_close(r.pool), 0);
	rig_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stream),
		cmocka_unit_test(test_not_a_stream),
		cmocka_unit_test(test_streams_side_by_side),
		cmocka_unit_test(test_overtaken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
