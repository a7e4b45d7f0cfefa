// SPDX-License-Identifier: GPL-2.0-or-later
/* A shrink waits for the requests under way and holds new ones back; whatever else is asked of the
 * volume meanwhile, they go on in the end. */
#include "tests/thin/life.h"

static struct rig r;
static struct thin_vol *vol;
static void *buf;

static int setup(void **state)
{
	(void)state;
	memset(&r, 0, sizeof(r));
	rig_new(&r, 2048, 64, true);
	dev_sim_set_delay(r.sim, 40);
	vol = rig_vol(&r, "v", 8 * MIB);
	buf = rig_buf(64 * BLK, 5);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	thin_vol_close(vol);
	rig_end(&r);
	free(buf);
	return 0;
}

static struct rig_req request(enum thin_op op, uint64_t block)
{
	return (struct rig_req){
		.req = { .op = op, .vol = vol, .offset = block * BLK, .len = 64 * BLK, .buf = buf }
	};
}

static void test_holds_back(void **state)
{
	struct rig_req before = request(THIN_WRITE, 100), after = request(THIN_WRITE, 200);
	struct rig_req beyond = request(THIN_WRITE, 1000);
	struct rig_req shrink = {
		.req = { .op = THIN_VOL_RESIZE, .name = "v", .size_bytes = 2 * MIB, .shrink = true }
	};

	(void)state;
	rig_submit(&r, &before);
	rig_turns(&r, 2);
	rig_submit(&r, &shrink);
	rig_turns(&r, 2);
	rig_submit(&r, &after);
	rig_submit(&r, &beyond);
	assert_int_equal(rig_wait(&r, &after), 0);
	assert_true(before.answered && before.res == 0);
	assert_int_equal(rig_wait(&r, &beyond), -EINVAL);
	assert_int_equal(rig_wait(&r, &shrink), 0);
	assert_int_equal(thin_vol_size_bytes(vol), 2 * MIB);
	assert_true(rig_reads(&r, vol, 100, 64, 5));
	/* growing again shows holes */
	assert_int_equal(rig_control(&r, THIN_VOL_RESIZE, "v", 8 * MIB), 0);
	assert_true(rig_reads(&r, vol, 512, 1024, 0));
}

/* The name is gone when the shrink's turn comes. */
static void test_renamed_meanwhile(void **state)
{
	struct rig_req write = request(THIN_WRITE, 100), after = request(THIN_READ, 100);
	struct rig_req shrink = {
		.req = { .op = THIN_VOL_RESIZE, .name = "v", .size_bytes = 2 * MIB, .shrink = true }
	};
	struct rig_req rename = { .req = { .op = THIN_VOL_RENAME, .name = "v", .new_name = "w" } };

	(void)state;
	rig_submit(&r, &write);
	rig_turns(&r, 2);
	rig_submit(&r, &shrink);
	rig_turns(&r, 1);
	assert_false(write.answered);
	rig_submit(&r, &rename);
	rig_submit(&r, &after);
	assert_int_equal(rig_wait(&r, &after), 0);
	assert_int_equal(rig_wait(&r, &rename), 0);
	rig_wait(&r, &shrink);
	assert_int_equal(rig_range(&r, vol, THIN_TRIM, 0, 200, 0), 0);
}

static void test_several_resizes(void **state)
{
	static const uint64_t sizes[] = { 4, 6, 2, 8, 3 };
	struct rig_req write = request(THIN_WRITE, 100), q[5];

	(void)state;
	rig_submit(&r, &write);
	rig_turns(&r, 2);
	for (unsigned i = 0; i < 5; i++) {
		q[i] = (struct rig_req){ .req = { .op = THIN_VOL_RESIZE,
						  .name = "v",
						  .size_bytes = sizes[i] * MIB,
						  .shrink = true } };
		rig_submit(&r, &q[i]);
	}
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(rig_wait(&r, &q[i]), 0);
	assert_int_equal(thin_vol_size_bytes(vol), 3 * MIB);
	assert_int_equal(rig_write(&r, vol, 0, 16, 9), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_holds_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_renamed_meanwhile, setup, teardown),
		cmocka_unit_test_setup_teardown(test_several_resizes, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
