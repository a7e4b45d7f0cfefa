// SPDX-License-Identifier: GPL-2.0-or-later
/* When the device is flushed: once for many waiters, not at all when there is nothing to flush, by
 * time and amount without a client's asking; and when checkpoints come. */
#include "tests/thin/life.h"

static struct rig r;
static struct thin_vol *vol;

static int setup(void **state)
{
	(void)state;
	memset(&r, 0, sizeof(r));
	r.open.commit_ms = 700;
	r.open.commit_bytes = 100 * BLK;
	rig_new(&r, 4096, 512, true);
	r.dev->can_punch = false; /* it has a time of its own */
	vol = rig_vol(&r, "v", 8 * MIB);
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

static void test_many_waiters(void **state)
{
	enum { N = 64 };
	struct rig_req *q = calloc(N, sizeof(*q));
	uint64_t before = rig_stat(&r).flushes;
	void *buf = rig_buf(BLK, 3);

	(void)state;
	for (unsigned i = 0; i < N; i++) {
		q[i].req = (struct thin_req){ .op = THIN_WRITE,
					      .vol = vol,
					      .offset = i * BLK,
					      .len = BLK,
					      .buf = buf,
					      .flags = THIN_FUA };
		rig_submit(&r, &q[i]);
	}
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(rig_wait(&r, &q[i]), 0);
	assert_true(rig_stat(&r).flushes - before <= 4);
	before = rig_stat(&r).flushes;
	assert_int_equal(rig_write(&r, vol, 0, 1, 9), 0);
	for (unsigned i = 0; i < N; i++) {
		q[i].req = (struct thin_req){ .op = THIN_FLUSH };
		rig_submit(&r, &q[i]);
	}
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(rig_wait(&r, &q[i]), 0);
	assert_int_equal(rig_stat(&r).flushes - before, 1);
	free(q);
	free(buf);
}

/* Who flushes whenever all his writes are answered finds the work begun; one write more instead of
 * the flush ends that. */
static void test_habit(void **state)
{
	uint64_t before;

	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(rig_write(&r, vol, i, 1, i + 1), 0);
		assert_int_equal(rig_flush(&r), 0);
	}
	rig_turns(&r, 100);
	before = rig_stat(&r).flushes;
	assert_int_equal(rig_write(&r, vol, 0, 1, 20), 0);
	rig_turns(&r, 100);
	assert_int_equal(rig_stat(&r).flushes, before + 1);
	assert_int_equal(rig_flush(&r), 0);
	assert_int_equal(rig_stat(&r).flushes, before + 1);
	/* in vain, once */
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(rig_write(&r, vol, i, 1, i + 30), 0);
		rig_turns(&r, 100);
	}
	assert_int_equal(rig_stat(&r).flushes, before + 2);
	/* the flush covers what came behind the work begun */
	assert_int_equal(rig_flush(&r), 0);
	assert_int_equal(rig_stat(&r).flushes, before + 3);
	thin_vol_close(vol);
	rig_cut(&r, false);
	rig_open_pool(&r);
	vol = rig_vol(&r, "v", 0);
	for (unsigned i = 0; i < 10; i++)
		assert_true(rig_reads(&r, vol, i, 1, i + 30));
}

/* So does who flushes behind batches of the same size; others than these are not counted on. */
static void test_habit_of_batches(void **state)
{
	uint64_t before;

	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(rig_write(&r, vol, 32 * i, 32, i + 1), 0);
		assert_int_equal(rig_flush(&r), 0);
	}
	rig_turns(&r, 100);
	before = rig_stat(&r).flushes;
	assert_int_equal(rig_write(&r, vol, 0, 9, 20), 0);
	rig_turns(&r, 100);
	assert_int_equal(rig_stat(&r).flushes, before);
	assert_int_equal(rig_write(&r, vol, 9, 23, 20), 0);
	rig_turns(&r, 100);
	assert_int_equal(rig_stat(&r).flushes, before + 1);
	assert_int_equal(rig_flush(&r), 0);
	assert_int_equal(rig_stat(&r).flushes, before + 1);
}

/* Many writers at once have no such habit. */
static void test_no_habit_under_load(void **state)
{
	struct rig_req q[8];
	void *buf = rig_buf(BLK, 3);
	uint64_t before;

	(void)state;
	before = rig_stat(&r).flushes;
	for (unsigned round = 0; round < 40; round++) {
		for (unsigned i = 0; i < 8; i++) {
			q[i].req = (struct thin_req){ .op = i == 4 ? THIN_FLUSH : THIN_WRITE,
						      .vol = vol,
						      .offset = i * BLK,
						      .len = i == 4 ? 0 : BLK,
						      .buf = buf };
			rig_submit(&r, &q[i]);
		}
		for (unsigned i = 0; i < 8; i++)
			assert_int_equal(rig_wait(&r, &q[i]), 0);
	}
	assert_true(rig_stat(&r).flushes - before <= 41);
	free(buf);
}

static void test_nothing_to_flush(void **state)
{
	uint64_t before = rig_stat(&r).flushes;

	(void)state;
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(rig_flush(&r), 0);
	assert_int_equal(rig_stat(&r).flushes, before);
	/* a hole that stays a hole is no change */
	assert_int_equal(rig_range(&r, vol, THIN_TRIM, 0, 100, 0), 0);
	assert_int_equal(rig_range(&r, vol, THIN_ZERO, 0, 100, 0), 0);
	assert_int_equal(rig_flush(&r), 0);
	assert_int_equal(rig_stat(&r).flushes, before);
	assert_int_equal(rig_write(&r, vol, 0, 1, 1), 0);
	assert_int_equal(rig_flush(&r), 0);
	assert_int_equal(rig_stat(&r).flushes, before + 1);
	assert_int_equal(rig_flush(&r), 0);
	assert_int_equal(rig_stat(&r).flushes, before + 1);
	/* what a checkpoint has made durable needs no flush of its own */
	assert_int_equal(rig_write(&r, vol, 0, 1, 2), 0);
	assert_int_equal(rig_control(&r, THIN_CHECKPOINT, NULL, 0), 0);
	before = rig_stat(&r).flushes;
	assert_int_equal(rig_flush(&r), 0);
	assert_int_equal(rig_stat(&r).flushes, before);
}

static void test_by_time(void **state)
{
	uint64_t commits = rig_stat(&r).commits;

	(void)state;
	assert_int_equal(rig_write(&r, vol, 0, 1, 1), 0);
	assert_int_equal(thin_pool_deadline_ms(r.pool), r.now_ms + 700);
	r.now_ms += 699;
	rig_turns(&r, 50);
	assert_int_equal(rig_stat(&r).commits, commits);
	r.now_ms++;
	rig_turns(&r, 50);
	assert_int_equal(rig_stat(&r).commits, commits + 1);
	thin_vol_close(vol);
	rig_cut(&r, false);
	rig_open_pool(&r);
	vol = rig_vol(&r, "v", 0);
	assert_true(rig_reads(&r, vol, 0, 1, 1));
}

static void test_by_amount(void **state)
{
	uint64_t commits = rig_stat(&r).commits;

	(void)state;
	assert_int_equal(rig_write(&r, vol, 0, 99, 1), 0);
	rig_turns(&r, 50);
	assert_int_equal(rig_stat(&r).commits, commits);
	assert_int_equal(rig_write(&r, vol, 99, 1, 1), 0);
	rig_turns(&r, 50);
	assert_int_equal(rig_stat(&r).commits, commits + 1);
}

static void test_checkpoint_when_idle(void **state)
{
	uint64_t before = rig_stat(&r).checkpoints;

	(void)state;
	assert_int_equal(rig_write(&r, vol, 0, 10, 1), 0);
	for (unsigned i = 0; i < 30; i++) { /* busy: none */
		r.now_ms += 500;
		assert_int_equal(rig_write(&r, vol, 0, 1, i), 0);
		rig_turns(&r, 20);
	}
	assert_int_equal(rig_stat(&r).checkpoints, before);
	assert_true(rig_stat(&r).log_used_bytes > 0);
	r.now_ms += 1999;
	rig_turns(&r, 50);
	assert_int_equal(rig_stat(&r).checkpoints, before);
	r.now_ms++;
	rig_turns(&r, 200);
	assert_int_equal(rig_stat(&r).checkpoints, before + 1);
	assert_int_equal(rig_stat(&r).log_used_bytes, 0);
	assert_int_equal(rig_stat(&r).node_dirty_count, 0);
	/* and then it is quiet */
	assert_true(thin_pool_idle(r.pool));
	r.now_ms += 100000;
	rig_turns(&r, 200);
	assert_int_equal(rig_stat(&r).checkpoints, before + 1);
	assert_true(thin_pool_deadline_ms(r.pool) == UINT64_MAX);
}

static void test_checkpoint_by_log(void **state)
{
	struct rig_req q = { .req = { .op = THIN_FLUSH } };
	uint64_t before = rig_stat(&r).checkpoints;
	unsigned i;

	(void)state;
	for (i = 0; rig_stat(&r).checkpoints == before; i++) {
		assert_true(i < 300);
		assert_int_equal(rig_write(&r, vol, i % 100, 1, i), 0);
		rig_submit(&r, &q);
		assert_int_equal(rig_wait(&r, &q), 0);
		assert_true(rig_stat(&r).log_used_bytes <= 300 * BLK);
	}
	assert_true(i > 200); /* at half the ring of 512 pages */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_many_waiters, setup, teardown),
		cmocka_unit_test_setup_teardown(test_habit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_habit_of_batches, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_habit_under_load, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nothing_to_flush, setup, teardown),
		cmocka_unit_test_setup_teardown(test_by_time, setup, teardown),
		cmocka_unit_test_setup_teardown(test_by_amount, setup, teardown),
		cmocka_unit_test_setup_teardown(test_checkpoint_when_idle, setup, teardown),
		cmocka_unit_test_setup_teardown(test_checkpoint_by_log, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
