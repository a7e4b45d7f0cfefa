// SPDX-License-Identifier: GPL-2.0-or-later
/* A volume with thousands of snapshots: removing them all, telling how deep a block lies and for
 * whom a deleted one is still there take a bounded piece of each turn. */
#include <errno.h>
#include <string.h>

#include "tests/thin/pool_rig.h"

enum {
	POOL_BLOCKS = 16384,
	LOG_PAGES = 256,
	CHAIN = THIN_DEPTH_MAX + 200,
	TURN_MAX = 32, /* snapshots removed in one turn */
	LATE = 6,
};

static struct pool_rig r;
static struct thin_vol *vol, *other;
static uint8_t buf[BLK] __attribute__((aligned(BLK)));

static uint64_t snapshot_count(void)
{
	struct thin_pool_stat st;

	thin_pool_stat(r.pool, &st);
	return st.snapshot_count;
}

static void snapshot(unsigned number)
{
	char path[32];
	const char *name = path;
	struct thin_req req = { .op = THIN_SNAPSHOT, .names = &name, .name_count = 1 };

	snprintf(path, sizeof(path), "v@%05u", number);
	assert_int_equal(pool_rig_run(&r, &req), 0);
}

/* Block `i` of the first four is written before snapshot number i, LATE before the tenth last. */
static int setup(void **state)
{
	(void)state;
	memset(buf, 1, sizeof(buf)); /* zeroes would be a hole */
	pool_rig_create(&r, POOL_BLOCKS, LOG_PAGES);
	vol = pool_rig_volume(&r, "v", 64);
	other = pool_rig_volume(&r, "other", 64);
	for (unsigned i = 0; i < CHAIN; i++) {
		if (i < 4 || i == CHAIN - 10)
			assert_int_equal(pool_rig_io(&r, THIN_WRITE, vol, i < 4 ? i : LATE, 1, buf),
					 0);
		snapshot(i);
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	thin_vol_close(vol);
	thin_vol_close(other);
	vol = other = NULL;
	pool_rig_free(&r);
	return 0;
}

static struct thin_req removal(struct pool_rig_answer *answer)
{
	return (struct thin_req){ .op = THIN_VOL_DELETE,
				  .name = "v",
				  .snapshots = true,
				  .done = pool_rig_done,
				  .user = answer };
}

static void close_volume(void)
{
	thin_vol_close(vol);
	vol = NULL;
}

/* Exact as far as it is told, and one that stands for more behind that. */
static void test_depth_ends(void **state)
{
	struct thin_extent extents[16];
	struct thin_req req = {
		.op = THIN_STATUS, .vol = vol, .len = 8 * BLK, .extents = extents, .extent_max = 16
	};
	uint64_t at = 0;

	(void)state;
	assert_int_equal(pool_rig_run(&r, &req), 0);
	for (uint32_t i = 0; i < req.extent_count; at += extents[i++].len_bytes / BLK) {
		if (at < 4)
			assert_int_equal(extents[i].depth, THIN_DEPTH_MAX);
		else
			assert_int_equal(extents[i].depth, at == LATE ? 11 : 0);
	}
}

/* In slices; others are served between them, and whoever wants the volume finds it gone. */
static void test_removal_in_slices(void **state)
{
	struct pool_rig_answer removed = { 0 }, again = { 0 }, taken = { 0 };
	struct thin_req first = removal(&removed), second = removal(&again);
	const char *name = "v@late";
	struct thin_req late = { .op = THIN_SNAPSHOT,
				 .names = &name,
				 .name_count = 1,
				 .done = pool_rig_done,
				 .user = &taken };
	unsigned reads = 0;
	struct thin_vol *handle;

	(void)state;
	close_volume();
	thin_submit(r.pool, &first);
	for (unsigned turn = 0; !removed.answered; turn++) {
		struct pool_rig_answer answer = { 0 };
		struct thin_req read = { .op = THIN_READ,
					 .vol = other,
					 .len = BLK,
					 .buf = buf,
					 .done = pool_rig_done,
					 .user = &answer };
		uint64_t before = snapshot_count();

		thin_submit(r.pool, &read);
		pool_rig_turn(&r);
		assert_true(before - snapshot_count() <= TURN_MAX);
		reads += before != snapshot_count();
		assert_true(answer.answered); /* nothing on the disk: in the same turn */
		if (turn == 3) {
			assert_true(snapshot_count() > 0);
			thin_submit(r.pool, &second);
			thin_submit(r.pool, &late);
		}
		if (turn >= 3) {
			assert_int_equal(thin_vol_open(r.pool, "v", &handle), -ENOENT);
			assert_int_equal(thin_vol_open(r.pool, "v@01000", &handle), -ENOENT);
		}
		assert_true(turn < 100000);
	}
	assert_int_equal(removed.res, 0);
	assert_int_equal(snapshot_count(), 0);
	assert_true(reads >= CHAIN / TURN_MAX);
	for (unsigned i = 0; !again.answered || !taken.answered; i++) {
		assert_true(i < 1000);
		pool_rig_turn(&r);
	}
	assert_int_equal(again.res, -ENOENT);
	assert_int_equal(taken.res, -ENOENT);
}

/* Refused before anything is done, and it can be opened as before. */
static void test_open_one_refuses(void **state)
{
	struct pool_rig_answer removed = { 0 };
	struct thin_req req = removal(&removed);
	struct thin_vol *snap;

	(void)state;
	close_volume();
	assert_int_equal(thin_vol_open(r.pool, "v@01000", &snap), 0);
	assert_int_equal(pool_rig_run(&r, &req), -EBUSY);
	assert_int_equal(snapshot_count(), CHAIN);
	thin_vol_close(snap);
	assert_int_equal(thin_vol_open(r.pool, "v", &vol), 0);
}

/* A crash between two slices leaves the volume with the snapshots behind. */
static void test_crash_between_slices(void **state)
{
	struct pool_rig_answer removed = { 0 };
	struct thin_req first = removal(&removed);

	(void)state;
	close_volume();
	thin_vol_close(other);
	thin_submit(r.pool, &first);
	while (snapshot_count() > CHAIN / 2)
		pool_rig_turn(&r);
	assert_false(removed.answered);
	pool_rig_power_cut(&r);
	pool_rig_open(&r);
	assert_true(snapshot_count() >= CHAIN / 2 - TURN_MAX);
	assert_int_equal(thin_vol_open(r.pool, "other", &other), 0);
	assert_int_equal(thin_vol_open(r.pool, "v", &vol), 0);
	assert_int_equal(pool_rig_io(&r, THIN_READ, vol, 0, 1, buf), 0);
	close_volume();
	first = removal(NULL);
	assert_int_equal(pool_rig_run(&r, &first), 0);
	pool_rig_settle(&r);
	assert_int_equal(thin_vol_open(r.pool, "v", &vol), -ENOENT);
	vol = NULL;
}

/* Deleted ones lie behind each other: who is built on them is looked for so far and no further. */
static void test_heirs_end(void **state)
{
	struct pool_rig_answer removed = { 0 };
	struct thin_req req = removal(&removed);
	struct thin_vol_stat stat = { 0 };
	uint64_t ids[3];
	uint32_t looks = 7;

	(void)state;
	close_volume();
	assert_int_equal(pool_rig_run(&r, &req), 0);
	while (stat.state != THIN_VOL_HIDDEN || !stat.child_count)
		assert_int_equal(thin_lineage_next(r.pool, stat.id, &stat), 0);
	assert_int_equal(thin_heirs(r.pool, stat.id, ids, 3, &looks), 0);
	assert_true(looks > 7 && looks <= 7 + THIN_HEIRS_LOOKS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_depth_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(test_removal_in_slices, setup, teardown),
		cmocka_unit_test_setup_teardown(test_open_one_refuses, setup, teardown),
		cmocka_unit_test_setup_teardown(test_crash_between_slices, setup, teardown),
		cmocka_unit_test_setup_teardown(test_heirs_end, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
