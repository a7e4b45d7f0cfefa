// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A full host file system under a checkpoint is not the end of the pool: new data is refused with
 * ENOSPC, what is there stays readable, and when there is room again everything goes on.
 */
#include "tests/thin/pool_rig.h"

static struct pool_rig_answer checkpoint_answer;

static void start_checkpoint(struct pool_rig *r, struct thin_req *req)
{
	*req = (struct thin_req){ .op = THIN_CHECKPOINT,
				  .done = pool_rig_done,
				  .user = &checkpoint_answer };
	checkpoint_answer = (struct pool_rig_answer){ 0 };
	/* the log is written already: the next write is the checkpoint's */
	dev_sim_fail(r->sim, DEV_WRITE, 0, -ENOSPC);
	thin_submit(r->pool, req);
	for (unsigned i = 0; r->events[THIN_EVENT_FULL] == 0; i++) {
		assert_true(i < 1000);
		thin_pool_run(r->pool, r->now_ms);
		if (dev_sim_in_flight(r->sim))
			dev_sim_port(r->sim)->ops->wait(dev_sim_port(r->sim));
	}
}

static void test_goes_on(void **state)
{
	struct pool_rig r;
	struct thin_pool_stat st;
	struct thin_req checkpoint;
	char *buf = rig_buf(BLK, 1), *back = rig_buf(BLK, 2);
	struct thin_vol *vol;

	pool_rig_create(&r, 1024, 32);
	vol = pool_rig_volume(&r, "v", 64);
	assert_int_equal(pool_rig_io(&r, THIN_WRITE, vol, 3, 1, buf), 0);
	assert_int_equal(pool_rig_io(&r, THIN_FLUSH, vol, 0, 0, NULL), 0);
	start_checkpoint(&r, &checkpoint);

	assert_false(checkpoint_answer.answered);
	assert_int_equal(pool_rig_io(&r, THIN_WRITE, vol, 4, 1, buf), -ENOSPC);
	assert_int_equal(pool_rig_io(&r, THIN_READ, vol, 3, 1, back), 0);
	assert_memory_equal(buf, back, BLK);
	thin_pool_stat(r.pool, &st);
	assert_false(st.read_only);

	pool_rig_settle(&r); /* time passes, and there is room */
	assert_true(checkpoint_answer.answered);
	assert_int_equal(checkpoint_answer.res, 0);
	assert_int_equal(pool_rig_io(&r, THIN_WRITE, vol, 4, 1, buf), 0);
	assert_int_equal(pool_rig_io(&r, THIN_FLUSH, vol, 0, 0, NULL), 0);
	thin_vol_close(vol);
	pool_rig_power_cut(&r);
	pool_rig_open(&r);
	assert_int_equal(thin_vol_open(r.pool, "v", &vol), 0);
	assert_int_equal(pool_rig_io(&r, THIN_READ, vol, 4, 1, back), 0);
	assert_memory_equal(buf, back, BLK);
	thin_vol_close(vol);
	pool_rig_free(&r);
	free(buf);
	free(back);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_goes_on) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
