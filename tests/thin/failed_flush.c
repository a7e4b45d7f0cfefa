// SPDX-License-Identifier: GPL-2.0-or-later
/* A failed flush is final, in whatever state it comes: nobody hears of success afterwards, closing
 * ends, and the pool opens again with all that had been flushed before. */
#include "tests/thin/life.h"

/* Let the `nth` request of a kind fail under a load that commits and checkpoints at once. */
static void fail_one(enum dev_op op, unsigned nth)
{
	struct rig r = { .open.node_cache_bytes = 1 * MIB, .open.commit_bytes = 64 * BLK };
	struct rig_req write[16], flush[4], check = { .req = { .op = THIN_CHECKPOINT } };
	struct thin_vol *vol;
	void *buf = rig_buf(16 * BLK, 3);
	bool failed = false, readonly;

	rig_new(&r, 2048, 32, true);
	vol = rig_vol(&r, "v", 8 * MIB);
	assert_int_equal(rig_write(&r, vol, 0, 256, 1), 0);
	assert_int_equal(rig_flush(&r), 0);
	dev_sim_fail(r.sim, op, nth, -EIO);
	for (unsigned i = 0; i < 16; i++) {
		write[i] = (struct rig_req){ .req = { .op = THIN_WRITE,
						      .vol = vol,
						      .offset = (256 + 16 * i) * BLK,
						      .len = 16 * BLK,
						      .flags = i % 2 ? THIN_FUA : 0,
						      .buf = buf } };
		rig_submit(&r, &write[i]);
		if (i % 4 == 1) {
			flush[i / 4] = (struct rig_req){ .req = { .op = THIN_FLUSH } };
			rig_submit(&r, &flush[i / 4]);
		}
		if (i == 7)
			rig_submit(&r, &check);
		rig_turns(&r, 3);
	}
	for (unsigned i = 0; i < 16; i++)
		failed |= rig_wait(&r, &write[i]) != 0;
	for (unsigned i = 0; i < 4; i++)
		failed |= rig_wait(&r, &flush[i]) != 0;
	failed |= rig_wait(&r, &check) != 0;
	rig_turns(&r, 200);
	if (rig_stat(&r).read_only) {
		assert_int_equal(r.events[THIN_EVENT_READ_ONLY], 1);
		assert_int_not_equal(rig_flush(&r), 0);
		assert_int_not_equal(rig_write(&r, vol, 0, 1, 2), 0);
		assert_int_not_equal(rig_control(&r, THIN_VOL_CREATE, "w", MIB), 0);
		assert_int_not_equal(rig_control(&r, THIN_CHECKPOINT, NULL, 0), 0);
	}
	assert_true(rig_reads(&r, vol, 0, 256, 1));
	if (op == DEV_FLUSH && failed)
		assert_true(rig_stat(&r).read_only);
	thin_vol_close(vol);
	dev_sim_fail(r.sim, op, 1u << 30, -EIO); /* never, if it has not come */
	readonly = rig_stat(&r).read_only;
	assert_true(thin_pool_close(r.pool) == 0 || readonly);
	assert_int_equal(dev_sim_in_flight(r.sim), 0);
	rig_open_pool(&r);
	vol = rig_vol(&r, "v", 0);
	assert_true(rig_reads(&r, vol, 0, 256, 1));
	for (unsigned i = 0; i < 16; i++)
		if (write[i].req.flags & THIN_FUA && write[i].res == 0)
			assert_true(rig_reads(&r, vol, 256 + 16 * i, 16, 3));
	thin_vol_close(vol);
	rig_end(&r);
	free(buf);
}

static void test_flush(void **state)
{
	(void)state;
	for (unsigned nth = 0; nth < 12; nth++)
		fail_one(DEV_FLUSH, nth);
}

static void test_write(void **state)
{
	(void)state;
	for (unsigned nth = 0; nth < 60; nth++)
		fail_one(DEV_WRITE, nth);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flush),
		cmocka_unit_test(test_write),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
