// SPDX-License-Identifier: GPL-2.0-or-later
/* The log page written beside its data: when it is, what a failed write leaves, who has to wait. */
#include "tests/thin/life.h"

static struct rig r;
static struct thin_vol *vol;

static int setup(void **state)
{
	(void)state;
	memset(&r, 0, sizeof(r));
	r.open.commit_ms = 1000000;
	rig_new(&r, 4096, 512, true);
	r.dev->can_punch = false;
	vol = rig_vol(&r, "v", 8 * MIB);
	assert_int_equal(rig_write(&r, vol, 0, 64, 1), 0);
	assert_int_equal(rig_control(&r, THIN_CHECKPOINT, NULL, 0), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	thin_vol_close(vol);
	rig_end(&r);
	return 0;
}

static struct rig_req fua_write(uint64_t block, void *buf)
{
	return (struct rig_req){ .req = { .op = THIN_WRITE,
					  .vol = vol,
					  .offset = block * BLK,
					  .len = BLK,
					  .buf = buf,
					  .flags = THIN_FUA } };
}

static int write_fua(uint64_t block, unsigned pattern)
{
	void *buf = rig_buf(BLK, pattern);
	struct rig_req q = fua_write(block, buf);
	int res;

	rig_submit(&r, &q);
	res = rig_wait(&r, &q);
	free(buf);
	return res;
}

/* Who waits for durability has it with one device flush, the page beside the data; not before the
 * part of the map that changes is in memory and changed, and not for those who do not wait. */
static void test_when(void **state)
{
	struct thin_pool_stat before;

	(void)state;
	assert_int_equal(write_fua(0, 10), 0);
	assert_int_equal(rig_stat(&r).early_pages, 0);
	before = rig_stat(&r);
	assert_int_equal(write_fua(1, 11), 0);
	assert_int_equal(rig_stat(&r).early_pages, 1);
	assert_int_equal(rig_stat(&r).flushes, before.flushes + 1);
	assert_int_equal(rig_stat(&r).log_bytes, before.log_bytes + BLK);
	assert_int_equal(rig_write(&r, vol, 2, 1, 12), 0);
	assert_int_equal(rig_stat(&r).early_pages, 1);
	/* what a checkpoint has written is copied first */
	assert_int_equal(rig_control(&r, THIN_CHECKPOINT, NULL, 0), 0);
	assert_int_equal(write_fua(3, 13), 0);
	assert_int_equal(rig_stat(&r).early_pages, 1);
	/* a habit is as good as a FUA */
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(rig_write(&r, vol, 8 + i, 1, 20 + i), 0);
		assert_int_equal(rig_flush(&r), 0);
	}
	assert_true(rig_stat(&r).early_pages > 1);
	thin_vol_close(vol);
	rig_cut(&r, false);
	rig_open_pool(&r);
	vol = rig_vol(&r, "v", 0);
	for (unsigned i = 0; i < 8; i++)
		assert_true(rig_reads(&r, vol, 8 + i, 1, 20 + i));
	assert_true(rig_reads(&r, vol, 1, 1, 11));
}

/* A write that fails is that write's matter: nothing else of its page is lost, and nothing refers
 * to the place that somebody else has now. */
static void test_data_fails(void **state)
{
	(void)state;
	assert_int_equal(rig_write(&r, vol, 0, 1, 10), 0);
	for (unsigned i = 0; i < 3; i++) {
		uint64_t early = rig_stat(&r).early_pages;

		assert_int_equal(rig_write(&r, vol, 5, 1, 30 + i), 0);
		dev_sim_fail(r.sim, DEV_WRITE, 0, -EIO);
		assert_int_equal(write_fua(1, 11), -EIO);
		assert_int_equal(rig_stat(&r).early_pages, early + 1);
		assert_false(rig_stat(&r).read_only);
		assert_int_equal(rig_write(&r, vol, 6, 1, 40 + i), 0);
	}
	assert_int_equal(rig_flush(&r), 0);
	thin_vol_close(vol);
	rig_cut(&r, true);
	rig_open_pool(&r);
	assert_int_equal(rig_stat(&r).skipped_records, 0);
	vol = rig_vol(&r, "v", 0);
	assert_true(rig_reads(&r, vol, 0, 1, 10));
	assert_true(rig_reads(&r, vol, 5, 1, 32));
	assert_true(rig_reads(&r, vol, 6, 1, 42));
}

/* What comes while the data is on its way waits: in the log it would come behind. */
static void test_others_wait(void **state)
{
	void *a = rig_buf(BLK, 50), *b = rig_buf(BLK, 60);
	struct rig_req first, second, snap;

	(void)state;
	assert_int_equal(rig_write(&r, vol, 0, 1, 10), 0);
	dev_sim_set_delay(r.sim, 40);
	for (unsigned i = 0; i < 20; i++) {
		uint64_t early = rig_stat(&r).early_pages;

		snap = (struct rig_req){ .req = { .op = THIN_CHECKPOINT } };
		first = fua_write(7, a);
		second = fua_write(9, b);
		rig_submit(&r, &first);
		rig_turn(&r);
		assert_int_equal(rig_stat(&r).early_pages, early + 1);
		rig_submit(&r, &second);
		rig_submit(&r, &snap);
		assert_int_equal(rig_wait(&r, &snap), 0);
		assert_int_equal(rig_wait(&r, &second), 0);
		assert_int_equal(rig_wait(&r, &first), 0);
		assert_true(rig_reads(&r, vol, 7, 1, 50));
		assert_true(rig_reads(&r, vol, 9, 1, 60));
		assert_int_equal(rig_write(&r, vol, 0, 1, 10), 0);
	}
	free(a);
	free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_when, setup, teardown),
		cmocka_unit_test_setup_teardown(test_data_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(test_others_wait, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
