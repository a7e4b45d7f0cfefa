// SPDX-License-Identifier: GPL-2.0-or-later
/* The engine's part of the write lock: kept whole, durable when answered, never a smaller epoch. */
#include "tests/thin/life.h"
#include "thin/format.h"
#include "thin/pool.h"

static struct rig r;

static struct thin_lock make(uint64_t epoch, const char *owner)
{
	struct thin_lock lock = { .epoch = epoch,
				  .state = 1,
				  .policy = 0x1234,
				  .wait_ms = 5,
				  .grace_ms = 30000,
				  .since_s = 77,
				  .until_s = 99 };

	snprintf(lock.owner, sizeof(lock.owner), "%s", owner);
	snprintf(lock.heir, sizeof(lock.heir), "holder=%s", owner);
	return lock;
}

static int set_lock(uint64_t id, const struct thin_lock *lock)
{
	return rig_do(&r, (struct thin_req){ .op = THIN_LOCK, .id = id, .lock = lock });
}

static uint64_t id_of(const char *name)
{
	struct thin_vol_stat stat;

	assert_int_equal(thin_vol_find(r.pool, name, &stat), 0);
	return stat.id;
}

static void is_kept(uint64_t id, const struct thin_lock *want)
{
	struct thin_lock have;

	assert_int_equal(thin_lock_get(r.pool, id, &have), 0);
	assert_memory_equal(&have, want, sizeof(have));
}

static void test_kept(void **state)
{
	struct thin_lock none = { 0 }, lock;
	uint64_t id;

	(void)state;
	rig_new(&r, 4096, 0, true);
	assert_int_equal(rig_control(&r, THIN_VOL_CREATE, "a", MIB), 0);
	id = id_of("a");
	is_kept(id, &none);
	lock = make(5, "x");
	memset(lock.owner, 'o', THIN_LOCK_TEXT_MAX); /* the longest */
	assert_int_equal(set_lock(id, &lock), 0);
	is_kept(id, &lock);
	rig_cut(&r, false); /* power: from the log */
	rig_open_pool(&r);
	is_kept(id, &lock);
	rig_reopen(&r); /* from the catalog */
	is_kept(id, &lock);
	assert_true(r.pool->feature_ro & FMT_FEATURE_LOCK);
	rig_end(&r);
}

static void test_epoch_grows(void **state)
{
	struct thin_lock five, four, same;
	uint64_t id;

	(void)state;
	rig_new(&r, 4096, 0, true);
	assert_int_equal(rig_control(&r, THIN_VOL_CREATE, "a", MIB), 0);
	id = id_of("a");
	five = make(5, "five");
	four = make(4, "four");
	same = make(5, "same");
	assert_int_equal(set_lock(id, &five), 0);
	assert_int_equal(set_lock(id, &four), -ESTALE);
	is_kept(id, &five);
	assert_int_equal(set_lock(id, &same), 0);
	is_kept(id, &same);
	assert_int_equal(set_lock(id + 100, &five), -ENOENT);
	rig_end(&r);
}

/* A rollback keeps the volume's, a snapshot and a clone begin without. */
static void test_lineage(void **state)
{
	const char *path = "a@s";
	struct thin_lock lock = make(9, "x"), none = { 0 };
	uint64_t id;

	(void)state;
	rig_new(&r, 4096, 0, true);
	assert_int_equal(rig_control(&r, THIN_VOL_CREATE, "a", MIB), 0);
	id = id_of("a");
	assert_int_equal(set_lock(id, &lock), 0);
	assert_int_equal(
		rig_do(&r,
		       (struct thin_req){ .op = THIN_SNAPSHOT, .names = &path, .name_count = 1 }),
		0);
	lock.epoch++;
	assert_int_equal(set_lock(id, &lock), 0);
	assert_int_equal(set_lock(id_of("a@s"), &lock), -ENOENT); /* never written */
	assert_int_equal(rig_do(&r, (struct thin_req){ .op = THIN_ROLLBACK, .name = "a@s" }), 0);
	is_kept(id_of("a"), &lock);
	assert_int_equal(
		rig_do(&r, (struct thin_req){ .op = THIN_CLONE, .name = "a@s", .new_name = "b" }),
		0);
	is_kept(id_of("b"), &none);
	rig_reopen(&r);
	is_kept(id_of("a"), &lock);
	is_kept(id_of("b"), &none);
	rig_end(&r);
}

/* Whoever wants to trim on a full pool has to lock first. */
static void test_full_pool(void **state)
{
	struct thin_lock lock = make(1, "x");
	struct thin_vol *vol;
	uint64_t block = 0;

	(void)state;
	rig_new(&r, 900, 64, true);
	vol = rig_vol(&r, "a", 4 * MIB);
	while (rig_write(&r, vol, block, 1, (unsigned)block + 1) == 0)
		block++;
	assert_true(block > 100);
	for (; lock.epoch < 200; lock.epoch++)
		assert_int_equal(set_lock(id_of("a"), &lock), 0);
	thin_vol_close(vol);
	rig_end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kept),
		cmocka_unit_test(test_epoch_grows),
		cmocka_unit_test(test_lineage),
		cmocka_unit_test(test_full_pool),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
