/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What users of snapshots meet: names, who may be deleted, content, clones, rollback, figures. */
#include <errno.h>
#include <string.h>

#include "tests/thin/pool_rig.h"

enum { POOL_BLOCKS = 2048, LOG_PAGES = 64, VOL_BLOCKS = 600 };

static struct pool_rig r;
static struct thin_vol *vol;
static uint8_t buf[64 * BLK] __attribute__((aligned(BLK)));

static int setup(void **state)
{
	(void)state;
	pool_rig_create(&r, POOL_BLOCKS, LOG_PAGES);
	vol = pool_rig_volume(&r, "v", VOL_BLOCKS);
	return 0;
}

static void close_vol(void)
{
	thin_vol_close(vol);
	vol = NULL;
}

static int teardown(void **state)
{
	(void)state;
	close_vol();
	pool_rig_free(&r);
	return 0;
}

static int snapshots(const char *const *names, uint32_t count)
{
	struct thin_req req = {
		.op = THIN_SNAPSHOT, .names = names, .name_count = count, .time_s = 5
	};

	return pool_rig_run(&r, &req);
}

static int snapshot(const char *name)
{
	return snapshots(&name, 1);
}

static int clone_of(const char *name, const char *new_name)
{
	struct thin_req req = { .op = THIN_CLONE, .name = name, .new_name = new_name, .time_s = 6 };

	return pool_rig_run(&r, &req);
}

static int delete (const char *name, bool with_snapshots)
{
	struct thin_req req = { .op = THIN_VOL_DELETE, .name = name, .snapshots = with_snapshots };

	return pool_rig_run(&r, &req);
}

static void put(struct thin_vol *to, uint64_t block, uint64_t count, uint8_t value)
{
	assert_true(count <= sizeof(buf) / BLK);
	memset(buf, value, count * BLK);
	assert_int_equal(pool_rig_io(&r, THIN_WRITE, to, block, count, buf), 0);
}

static uint8_t get(struct thin_vol *from, uint64_t block)
{
	assert_int_equal(pool_rig_io(&r, THIN_READ, from, block, 1, buf), 0);
	assert_true(memcmp(buf, buf + 1, BLK - 1) == 0);
	return buf[0];
}

static uint8_t get_named(const char *name, uint64_t block)
{
	struct thin_vol *v;
	uint8_t value;

	assert_int_equal(thin_vol_open(r.pool, name, &v), 0);
	value = get(v, block);
	thin_vol_close(v);
	return value;
}

static struct thin_vol_stat stat_of(const char *name)
{
	struct thin_vol_stat st;

	assert_int_equal(thin_vol_find(r.pool, name, &st), 0);
	return st;
}

static uint64_t data_blocks(void)
{
	struct thin_pool_stat st;

	thin_pool_stat(r.pool, &st);
	assert_int_equal(st.reclaim_blocks, 0);
	return st.data_blocks;
}

static void test_content(void **state)
{
	(void)state;
	put(vol, 0, 8, 1);
	assert_int_equal(snapshot("v@a"), 0);
	put(vol, 4, 8, 2);
	assert_int_equal(snapshot("v@b"), 0);
	assert_int_equal(pool_rig_io(&r, THIN_TRIM, vol, 0, VOL_BLOCKS, NULL), 0);
	for (unsigned i = 0; i < 12; i++) {
		assert_int_equal(get_named("v@a", i), i < 8 ? 1 : 0);
		assert_int_equal(get_named("v@b", i), i < 4 ? 1 : 2);
		assert_int_equal(get(vol, i), 0);
	}
	pool_rig_settle(&r);
	assert_int_equal(stat_of("v").mapped_blocks, 0);
	assert_int_equal(stat_of("v@a").mapped_blocks, 8);
	assert_int_equal(stat_of("v@b").mapped_blocks, 12);
	assert_int_equal(data_blocks(), 16);
}

static void test_names(void **state)
{
	static const char *const pair[] = { "v@x", "w@x" }, *const twice[] = { "v@p", "v@q" };
	struct thin_vol_stat st;

	(void)state;
	assert_int_equal(snapshot("v"), -EINVAL);
	assert_int_equal(snapshot("v@"), -EINVAL);
	assert_int_equal(snapshot("v@a/b"), -EINVAL);
	assert_int_equal(snapshot("nobody@a"), -ENOENT);
	assert_int_equal(snapshot("v@a"), 0);
	assert_int_equal(snapshot("v@a"), -EEXIST);
	assert_int_equal(snapshot("v@a@b"), -EINVAL);
	assert_int_equal(snapshots(pair, 2), -ENOENT); /* all or none */
	assert_int_equal(thin_vol_find(r.pool, "v@x", &st), -ENOENT);
	assert_int_equal(snapshots(twice, 2), -EINVAL);
	assert_int_equal(snapshots(pair, 0), -EINVAL);
	assert_int_equal(pool_rig_control(&r, THIN_VOL_CREATE, "w", 10), 0);
	assert_int_equal(snapshots(pair, 2), 0);
	assert_int_equal(stat_of("v@x").generation, stat_of("w@x").generation);
	assert_int_equal(thin_snapshot_next(r.pool, stat_of("v").id, "", &st), 0);
	assert_string_equal(st.name, "a");
	assert_int_equal(thin_snapshot_next(r.pool, stat_of("v").id, "a", &st), 0);
	assert_string_equal(st.name, "x");
	assert_int_equal(thin_snapshot_next(r.pool, stat_of("v").id, "x", &st), -ENOENT);
	assert_int_equal(st.created_s, 5);
}

static void test_a_snapshot_cannot_be_written(void **state)
{
	struct thin_vol *snap;

	(void)state;
	assert_int_equal(snapshot("v@a"), 0);
	assert_int_equal(thin_vol_open(r.pool, "v@a", &snap), 0);
	memset(buf, 1, BLK);
	assert_int_equal(pool_rig_io(&r, THIN_WRITE, snap, 0, 1, buf), -EROFS);
	assert_int_equal(pool_rig_io(&r, THIN_TRIM, snap, 0, 1, NULL), -EROFS);
	assert_int_equal(pool_rig_io(&r, THIN_ZERO, snap, 0, 1, NULL), -EROFS);
	assert_int_equal(pool_rig_control(&r, THIN_VOL_RESIZE, "v@a", 700), -EINVAL);
	thin_vol_close(snap);
}

static void test_deleting(void **state)
{
	struct thin_vol *snap;

	(void)state;
	put(vol, 0, 10, 1);
	assert_int_equal(snapshot("v@a"), 0);
	put(vol, 0, 5, 2);
	assert_int_equal(snapshot("v@b"), 0);
	put(vol, 0, 5, 3);
	assert_int_equal(stat_of("v@a").exclusive_blocks, 5);
	assert_int_equal(stat_of("v@b").exclusive_blocks, 5);
	assert_int_equal(thin_vol_open(r.pool, "v@b", &snap), 0);
	assert_int_equal(delete ("v@b", false), -EBUSY);
	thin_vol_close(snap);
	assert_int_equal(delete ("v@b", false), 0);
	assert_int_equal(snapshot("v@b"), 0); /* the name is free at once */
	pool_rig_settle(&r);
	assert_int_equal(data_blocks(), 15);
	assert_true(stat_of("v@a").exclusive_exact);
	assert_int_equal(stat_of("v@a").exclusive_blocks, 5);
	close_vol();
	assert_int_equal(delete ("v", false), -ENOTEMPTY);
	assert_int_equal(delete ("v", true), 0);
	pool_rig_settle(&r);
	assert_int_equal(data_blocks(), 0);
}

static void test_clones_outlive_their_origin(void **state)
{
	struct thin_vol *copy;
	struct thin_pool_stat ps;

	(void)state;
	put(vol, 0, 10, 1);
	assert_int_equal(snapshot("v@a"), 0);
	assert_int_equal(clone_of("v@b", "c"), -ENOENT);
	assert_int_equal(clone_of("v", "c"), -ENOENT);
	assert_int_equal(clone_of("v@a", "v"), -EEXIST);
	assert_int_equal(clone_of("v@a", "c"), 0);
	assert_int_equal(clone_of("v@a", "d"), 0);
	put(vol, 0, 1, 9);
	assert_int_equal(thin_vol_open(r.pool, "c", &copy), 0);
	put(copy, 1, 1, 2);
	assert_int_equal(get(copy, 0), 1);
	assert_int_equal(get_named("d", 1), 1);
	close_vol();
	assert_int_equal(delete ("v", true), 0);
	pool_rig_settle(&r);
	assert_int_equal(data_blocks(), 11);
	thin_pool_stat(r.pool, &ps);
	assert_int_equal(ps.volume_count, 2);
	assert_int_equal(ps.snapshot_count, 0);
	assert_int_equal(get(copy, 0), 1);
	thin_vol_close(copy);
	assert_int_equal(delete ("d", false), 0);
	pool_rig_settle(&r);
	assert_int_equal(data_blocks(), 10);
	assert_int_equal(stat_of("c").own_blocks, 10);
	assert_int_equal(stat_of("c").parent, 0);
}

static void test_rollback(void **state)
{
	struct thin_req req = { .op = THIN_ROLLBACK, .name = "v@a" };

	(void)state;
	put(vol, 0, 10, 1);
	assert_int_equal(snapshot("v@a"), 0);
	put(vol, 0, 4, 2);
	assert_int_equal(snapshot("v@b"), 0);
	put(vol, 2, 4, 3);
	assert_int_equal(pool_rig_run(&r, &req), -EBUSY);
	close_vol();
	assert_int_equal(pool_rig_run(&r, &req), 0);
	pool_rig_settle(&r);
	assert_int_equal(data_blocks(), 14);
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(get_named("v", i), 1);
		assert_int_equal(get_named("v@b", i), i < 4 ? 2 : 1); /* a side branch now */
	}
	assert_int_equal(stat_of("v").parent, stat_of("v@a").id);
	assert_int_equal(stat_of("v@b").parent, stat_of("v@a").id);
	req.name = "v@b"; /* and forth again */
	assert_int_equal(pool_rig_run(&r, &req), 0);
	assert_int_equal(get_named("v", 0), 2);
	pool_rig_power_cut(&r);
	pool_rig_open(&r);
	assert_int_equal(get_named("v", 0), 2);
	assert_int_equal(get_named("v@a", 0), 1);
}

/* Two snapshots hide between one that has several children: held for whom. */
static void test_hidden_while_two_are_built_on_it(void **state)
{
	struct thin_vol_stat st;

	(void)state;
	put(vol, 0, 10, 1);
	assert_int_equal(snapshot("v@a"), 0);
	assert_int_equal(clone_of("v@a", "c"), 0);
	put(vol, 0, 10, 2);
	assert_int_equal(delete ("v@a", false), 0);
	pool_rig_settle(&r);
	assert_int_equal(data_blocks(), 20);
	assert_int_equal(thin_lineage_next(r.pool, stat_of("v").id, &st), 0);
	assert_int_equal(st.state, THIN_VOL_HIDDEN);
	assert_int_equal(st.child_count, 2);
	assert_int_equal(delete ("c", false), 0);
	pool_rig_settle(&r);
	assert_int_equal(data_blocks(), 10);
	assert_int_equal(stat_of("v").parent, 0);
}

static void test_full_reservation(void **state)
{
	struct thin_req create = { .op = THIN_VOL_CREATE,
				   .name = "full",
				   .size_bytes = 1000 * BLK,
				   .reserve_full = true };
	struct thin_vol *full;

	(void)state;
	assert_int_equal(pool_rig_run(&r, &create), 0);
	assert_int_equal(thin_vol_open(r.pool, "full", &full), 0);
	for (unsigned i = 0; i < 1000; i += 50)
		put(full, i, 50, 1);
	/* all of it would have to be promised once more */
	assert_int_equal(snapshot("full@a"), -ENOSPC);
	assert_int_equal(pool_rig_io(&r, THIN_TRIM, full, 0, 1000, NULL), 0);
	put(full, 0, 50, 1);
	pool_rig_settle(&r);
	assert_int_equal(snapshot("full@a"), 0);
	for (unsigned i = 0; i < 1000; i += 50)
		put(full, i, 50, 2);
	assert_int_equal(get_named("full@a", 0), 1);
	thin_vol_close(full);
}

static uint64_t id_of(const char *path)
{
	struct thin_vol_stat st;

	assert_int_equal(thin_vol_find(r.pool, path, &st), 0);
	return st.id;
}

static void test_ancestors_and_relatives(void **state)
{
	struct thin_vol_stat st;

	(void)state;
	close_vol();
	assert_int_equal(pool_rig_control(&r, THIN_VOL_CREATE, "lonely", VOL_BLOCKS), 0);
	assert_int_equal(snapshot("v@a"), 0);
	assert_int_equal(clone_of("v@a", "w"), 0);
	assert_int_equal(snapshot("v@b"), 0);
	assert_int_equal(snapshot("w@c"), 0);
	assert_int_equal(clone_of("w@c", "x"), 0);
	assert_int_equal(snapshot("x@d"), 0);
	/* of x: w@c, then v@a; its own are passed over */
	assert_int_equal(thin_ancestor_next(r.pool, id_of("x"), id_of("x"), &st), 0);
	assert_string_equal(st.path, "w@c");
	assert_int_equal(thin_ancestor_next(r.pool, st.id, id_of("x"), &st), 0);
	assert_string_equal(st.path, "v@a");
	assert_int_equal(thin_ancestor_next(r.pool, st.id, id_of("x"), &st), -ENOENT);
	assert_int_equal(thin_ancestor_next(r.pool, id_of("v"), id_of("v"), &st), -ENOENT);
	assert_int_equal(thin_ancestor_next(r.pool, 12345, id_of("v"), &st), -ENOENT);
	assert_true(thin_lineage_related(r.pool, id_of("x@d"), id_of("v@b")));
	assert_true(thin_lineage_related(r.pool, id_of("v"), id_of("v")));
	assert_false(thin_lineage_related(r.pool, id_of("x"), id_of("lonely")));
	assert_false(thin_lineage_related(r.pool, 12345, 12346));
	/* what is deleted and still there is nobody's ancestor, but what ties them together */
	assert_int_equal(delete ("v@a", false), 0);
	assert_int_equal(thin_ancestor_next(r.pool, id_of("w"), id_of("w"), &st), -ENOENT);
	assert_true(thin_lineage_related(r.pool, id_of("x"), id_of("v@b")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(test_content),
		T(test_names),
		T(test_a_snapshot_cannot_be_written),
		T(test_deleting),
		T(test_clones_outlive_their_origin),
		T(test_rollback),
		T(test_hidden_while_two_are_built_on_it),
		T(test_full_reservation),
		T(test_ancestors_and_relatives),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
