// SPDX-License-Identifier: GPL-2.0-or-later
/* Ranges far larger than any buffer: trims and zeroes of terabytes while others write, provisioned
 * zeroes over thousands of leaves, and a turn of the loop stays short. */
#include <time.h>

#include "tests/thin/life.h"

#define TIB (1ull << 40)

static struct rig r;
static struct thin_vol *vol;

static double cpu_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Wait and return the longest turn, in milliseconds of this process's time. */
static double longest_turn(struct rig_req *q, int want)
{
	double longest = 0;

	rig_submit(&r, q);
	for (unsigned i = 0; !q->answered; i++) {
		double begun = cpu_ms(), took;

		assert_true(i < RIG_TURNS);
		thin_pool_run(r.pool, r.now_ms);
		took = cpu_ms() - begun;
		longest = took > longest ? took : longest;
		r.dev->ops->poll(r.dev);
	}
	assert_int_equal(q->res, want);
	return longest;
}

static void test_provision(void **state)
{
	struct rig_req q = { .req = { .op = THIN_ZERO, .flags = THIN_NO_HOLE, .len = 4096 * MIB } };
	struct thin_vol_stat st;
	double ms;

	(void)state;
	memset(&r, 0, sizeof(r));
	rig_new(&r, (6ull << 30) / BLK, 16384, false);
	vol = q.req.vol = rig_vol(&r, "v", TIB);
	ms = longest_turn(&q, 0);
	thin_vol_stat(vol, &st);
	assert_int_equal(st.reserved_blocks, 4096 * MIB / BLK);
	if (ms > 500)
		fail_msg("a turn took %.0f ms", ms);
	/* beyond what there is: refused, and nobody has to be told what was taken so far */
	q.req.offset = 4096 * MIB;
	longest_turn(&q, -ENOSPC);
	assert_int_equal(rig_write(&r, vol, 1000000, 100, 5), 0);
	assert_true(rig_reads(&r, vol, 1000000, 100, 5));
	assert_int_equal(rig_flush(&r), 0);
	thin_vol_close(vol);
	rig_cut(&r, false);
	rig_open_pool(&r);
	vol = rig_vol(&r, "v", 0);
	thin_vol_stat(vol, &st);
	assert_true(st.reserved_blocks >= 4096 * MIB / BLK - 100);
	assert_true(rig_reads(&r, vol, 1000000, 100, 5));
	assert_int_equal(rig_range(&r, vol, THIN_TRIM, 0, TIB / BLK, 0), 0);
	rig_settle(&r);
	assert_int_equal(rig_stat(&r).reserved_blocks, 0);
	thin_vol_close(vol);
	rig_end(&r);
}

/* Trims and zeroes of everything, again and again, between and over writes. */
static void test_trim_while_writing(void **state)
{
	enum { WRITERS = 16 };
	struct rig_req w[WRITERS] = { 0 };
	struct rig_req t = { 0 };
	void *buf = rig_buf(64 * BLK, 3);

	(void)state;
	memset(&r, 0, sizeof(r));
	r.open.node_cache_bytes = 1;
	rig_new(&r, 65536, 2048, false);
	vol = rig_vol(&r, "v", 16 * TIB);
	for (unsigned i = 0; i < WRITERS; i++)
		w[i].answered = true;
	t.answered = true;
	for (unsigned round = 0, trims = 0; trims < 40; round++) {
		assert_true(round < RIG_TURNS);
		for (unsigned i = 0; i < WRITERS; i++) {
			if (!w[i].answered)
				continue;
			assert_int_equal(w[i].res, 0);
			w[i].req = (struct thin_req){ .op = THIN_WRITE,
						      .vol = vol,
						      .offset = (round * 977u + i * 131071u) %
								100000000u * BLK,
						      .len = 64 * BLK,
						      .buf = buf };
			rig_submit(&r, &w[i]);
		}
		if (t.answered) {
			assert_int_equal(t.res, 0);
			trims++;
			t.req = (struct thin_req){ .op = trims % 2 ? THIN_TRIM : THIN_ZERO,
						   .vol = vol,
						   .offset = trims % 7 * 123 * BLK,
						   .len = 16 * TIB - trims % 5 * 4567 * BLK -
							  1000 * BLK };
			rig_submit(&r, &t);
		}
		rig_turn(&r);
	}
	for (unsigned i = 0; i < WRITERS; i++)
		assert_int_equal(rig_wait(&r, &w[i]), 0);
	assert_int_equal(rig_wait(&r, &t), 0);
	assert_int_equal(rig_range(&r, vol, THIN_TRIM, 0, 16 * TIB / BLK, 0), 0);
	rig_settle(&r);
	assert_int_equal(rig_stat(&r).data_blocks, 0);
	thin_vol_close(vol);
	rig_end(&r);
	free(buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_provision),
		cmocka_unit_test(test_trim_while_writing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
