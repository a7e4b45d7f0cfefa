// SPDX-License-Identifier: GPL-2.0-or-later
/* What was deleted is given back at a walk while clients are served, at once when nobody is there,
 * and at once when somebody waits for the space. */
#include "tests/thin/life.h"

#define BLOCKS	     30000u /* of the volume that is deleted */
#define MS_MIN	     100u   /* 128 blocks a millisecond would be 234 */
#define MS_MAX	     500u
#define PIECE_BLOCKS 2000u

static void fill(struct rig *r, const char *name, uint64_t blocks)
{
	struct thin_vol *vol = rig_vol(r, name, blocks * BLK);

	for (uint64_t at = 0; at < blocks; at += PIECE_BLOCKS)
		assert_int_equal(rig_write(r, vol, at, PIECE_BLOCKS, 1), 0);
	thin_vol_close(vol);
}

static void begin(struct rig *r, uint64_t blocks)
{
	*r = (struct rig){ .open.node_cache_bytes = 16 * MIB };
	rig_new(r, blocks, 2048, false);
	fill(r, "gone", BLOCKS);
	fill(r, "kept", PIECE_BLOCKS);
	rig_settle(r);
	assert_int_equal(rig_control(r, THIN_VOL_DELETE, "gone", 0), 0);
}

/* A read each millisecond. */
static void test_beside_clients(void **state)
{
	uint64_t start, left, most = 0, turns_of_none = 0;
	struct thin_vol *vol;
	struct rig r;
	char *buf;

	(void)state;
	begin(&r, 65536);
	vol = rig_vol(&r, "kept", 0);
	buf = rig_buf(BLK, 0);
	start = r.now_ms;
	left = rig_stat(&r).reclaim_blocks;
	assert_true(left > BLOCKS / 2);
	while (rig_stat(&r).reclaim_blocks) {
		uint64_t before = rig_stat(&r).reclaim_blocks;

		assert_int_equal(rig_read(&r, vol, r.now_ms % PIECE_BLOCKS, 1, buf), 0);
		left = rig_stat(&r).reclaim_blocks;
		most = before - left > most ? before - left : most;
		turns_of_none += before == left;
		r.now_ms++;
		assert_true(r.now_ms < start + MS_MAX);
	}
	assert_true(r.now_ms > start + MS_MIN);
	assert_true(most <= 2 * 256); /* leaves in one go */
	assert_true(turns_of_none > 0);
	free(buf);
	thin_vol_close(vol);
	rig_end(&r);
}

static void test_alone(void **state)
{
	struct rig r;
	uint64_t start;

	(void)state;
	begin(&r, 65536);
	r.now_ms += 20;
	start = r.now_ms;
	for (unsigned i = 0; rig_stat(&r).reclaim_blocks; i++) {
		assert_true(i < 10000);
		rig_turn(&r);
	}
	assert_int_equal(r.now_ms, start); /* which stood still */
	rig_end(&r);
}

/* What is wanted is there only when nearly all of the deleted is given back; time stands still. */
static void test_somebody_waits(void **state)
{
	struct thin_vol *vol;
	struct rig r;

	(void)state;
	begin(&r, 40960);
	assert_int_equal(rig_control(&r, THIN_VOL_CREATE, "new", BLOCKS * BLK), 0);
	vol = rig_vol(&r, "new", 0);
	for (uint64_t at = 0; at < BLOCKS; at += PIECE_BLOCKS)
		assert_int_equal(rig_write(&r, vol, at, PIECE_BLOCKS, 2), 0);
	thin_vol_close(vol);
	rig_end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_beside_clients),
		cmocka_unit_test(test_alone),
		cmocka_unit_test(test_somebody_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
