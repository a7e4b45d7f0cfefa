// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Errors of the device: a failed flush is final, a damaged block costs only itself, a host that is
 * full is not a dead pool.
 */
#include "tests/thin/pool_rig.h"

static struct pool_rig rig;
static struct thin_vol *vol;
static char *buf;

static int setup(void **state)
{
	pool_rig_create(&rig, 512, 32);
	vol = pool_rig_volume(&rig, "v", 1024);
	buf = rig_buf(4 * BLK, 1);
	return 0;
}

static int teardown(void **state)
{
	thin_vol_close(vol);
	vol = NULL;
	pool_rig_free(&rig);
	free(buf);
	return 0;
}

static void reopen(void)
{
	thin_vol_close(vol);
	vol = NULL;
	pool_rig_power_cut(&rig);
	pool_rig_open(&rig);
	assert_int_equal(thin_vol_open(rig.pool, "v", &vol), 0);
}

static void write_byte(uint64_t block, int byte, int want)
{
	memset(buf, byte, BLK);
	assert_int_equal(pool_rig_io(&rig, THIN_WRITE, vol, block, 1, buf), want);
}

static void read_byte(uint64_t block, int byte)
{
	assert_int_equal(pool_rig_io(&rig, THIN_READ, vol, block, 1, buf), 0);
	for (unsigned i = 0; i < BLK; i++)
		assert_int_equal((uint8_t)buf[i], byte);
}

static void test_failed_flush_is_final(void **state)
{
	struct thin_pool_stat st;

	write_byte(1, 11, 0);
	assert_int_equal(pool_rig_io(&rig, THIN_FLUSH, vol, 0, 0, NULL), 0);
	write_byte(2, 22, 0);
	dev_sim_fail(rig.sim, DEV_FLUSH, 0, -EIO);
	assert_int_equal(pool_rig_io(&rig, THIN_FLUSH, vol, 0, 0, NULL), -EIO);
	thin_pool_stat(rig.pool, &st);
	assert_true(st.read_only);
	assert_int_equal(rig.events[THIN_EVENT_READ_ONLY], 1);
	/* a flush that "succeeds" now would lie */
	assert_true(pool_rig_io(&rig, THIN_FLUSH, vol, 0, 0, NULL) < 0);
	assert_true(pool_rig_io(&rig, THIN_WRITE, vol, 3, 1, buf) < 0);
	assert_true(pool_rig_control(&rig, THIN_VOL_CREATE, "w", 10) < 0);
	assert_true(pool_rig_control(&rig, THIN_CHECKPOINT, NULL, 0) < 0);
	read_byte(1, 11);
	read_byte(2, 22);
	thin_vol_close(vol);
	vol = NULL;
	assert_true(thin_pool_close(rig.pool) <= 0);
	rig.pool = NULL;
	pool_rig_open(&rig);
	assert_int_equal(thin_vol_open(rig.pool, "v", &vol), 0);
	read_byte(1, 11);
	write_byte(2, 23, 0);
	assert_int_equal(pool_rig_io(&rig, THIN_FLUSH, vol, 0, 0, NULL), 0);
	reopen();
	read_byte(2, 23);
}

static void test_failed_log_page(void **state)
{
	struct thin_pool_stat st;

	write_byte(1, 11, 0);
	assert_int_equal(pool_rig_io(&rig, THIN_FLUSH, vol, 0, 0, NULL), 0);
	write_byte(1, 12, 0);
	dev_sim_fail(rig.sim, DEV_WRITE, 0, -EIO); /* the next one is the log page */
	assert_true(pool_rig_io(&rig, THIN_FLUSH, vol, 0, 0, NULL) < 0);
	thin_pool_stat(rig.pool, &st);
	assert_true(st.read_only);
	read_byte(1, 12);
	thin_vol_close(vol);
	vol = NULL;
	reopen();
	assert_int_equal(pool_rig_io(&rig, THIN_READ, vol, 1, 1, buf), 0);
	assert_true(buf[0] == 11 || buf[0] == 12);
}

/* A data write that fails is that request's error; the old content stays, the pool goes on. */
static void test_failed_data_write(void **state)
{
	static const int errors[] = { -EIO, -ENOSPC };
	struct thin_pool_stat st;

	for (int i = 0; i < 2; i++) {
		write_byte(1, 11 + i, 0);
		dev_sim_fail(rig.sim, DEV_WRITE, 0, errors[i]);
		write_byte(1, 99, errors[i]);
		read_byte(1, 11 + i);
		thin_pool_stat(rig.pool, &st);
		assert_false(st.read_only);
		write_byte(1, 33 + i, 0);
		assert_int_equal(pool_rig_io(&rig, THIN_FLUSH, vol, 0, 0, NULL), 0);
		reopen();
		read_byte(1, 33 + i);
	}
}

static uint64_t find_block(int byte)
{
	char want[BLK];

	memset(want, byte, BLK);
	for (uint64_t b = 0; b < dev_sim_port(rig.sim)->size_bytes / BLK; b++)
		if (!memcmp(sim_page_data(sim_image_get(dev_sim_view(rig.sim), b)), want, BLK))
			return b;
	fail_msg("block with %d not found", byte);
	return 0;
}

static void test_damaged_block_costs_only_itself(void **state)
{
	struct thin_req req = { .op = THIN_READ, .offset = BLK, .len = 4 * BLK };
	struct thin_pool_stat st;

	for (int i = 1; i <= 4; i++)
		write_byte((uint64_t)i, 10 * i, 0);
	assert_int_equal(pool_rig_control(&rig, THIN_CHECKPOINT, NULL, 0), 0);
	reopen(); /* nothing cached */
	dev_sim_corrupt(rig.sim, find_block(30), 12345);
	req.vol = vol;
	req.buf = buf;
	assert_int_equal(pool_rig_run(&rig, &req), -EIO);
	assert_int_equal(req.bad_offset, 3 * BLK);
	assert_int_equal(rig.events[THIN_EVENT_DAMAGE], 1);
	thin_pool_stat(rig.pool, &st);
	assert_int_equal(st.checksum_errors, 1);
	assert_false(st.read_only);
	read_byte(1, 10);
	read_byte(2, 20);
	read_byte(4, 40);
	/* a partial write must not seal damaged content in; a whole one heals */
	req = (struct thin_req){
		.op = THIN_WRITE, .vol = vol, .offset = 3 * BLK + 8, .len = 8, .buf = buf
	};
	assert_int_equal(pool_rig_run(&rig, &req), -EIO);
	write_byte(3, 31, 0);
	read_byte(3, 31);
}

static void test_read_error_is_passed_on(void **state)
{
	write_byte(1, 11, 0);
	reopen();
	assert_int_equal(pool_rig_io(&rig, THIN_FLUSH, vol, 0, 0, NULL), 0);
	write_byte(2, 12, 0);
	assert_int_equal(pool_rig_control(&rig, THIN_CHECKPOINT, NULL, 0), 0);
	reopen();
	read_byte(5, 0); /* the map is loaded */
	dev_sim_fail(rig.sim, DEV_READ, 0, -EIO);
	assert_int_equal(pool_rig_io(&rig, THIN_READ, vol, 2, 1, buf), -EIO);
	read_byte(2, 12);
}

/* Of each superblock slot one copy may be bad; both is damage and refused. */
static void test_superblock_copies(void **state)
{
	uint64_t last = 511, blocks[4] = { 0, 1, last - 1, last };
	struct err err;

	write_byte(1, 11, 0);
	assert_int_equal(pool_rig_control(&rig, THIN_CHECKPOINT, NULL, 0), 0);
	thin_vol_close(vol);
	vol = NULL;
	for (int i = 0; i < 4; i++) {
		pool_rig_power_cut(&rig);
		dev_sim_corrupt(rig.sim, blocks[i], 1000);
		pool_rig_open(&rig);
		assert_true(rig.events[THIN_EVENT_NOTE] + rig.events[THIN_EVENT_DAMAGE] > 0);
		assert_int_equal(thin_vol_open(rig.pool, "v", &vol), 0);
		read_byte(1, 11);
		thin_vol_close(vol);
		vol = NULL;
		/* and it is repaired by the time the other copy may go */
	}
	pool_rig_power_cut(&rig);
	for (int i = 0; i < 4; i++)
		dev_sim_corrupt(rig.sim, blocks[i], 1000);
	err = (struct err){ 0 };
	assert_int_equal(pool_rig_try_open(&rig, &err), -EUCLEAN);
	assert_true(strlen(err.text) > 10);
	rig.pool = NULL;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_failed_flush_is_final, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failed_log_page, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failed_data_write, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged_block_costs_only_itself, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_read_error_is_passed_on, setup, teardown),
		cmocka_unit_test_setup_teardown(test_superblock_copies, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
