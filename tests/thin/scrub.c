// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The scrub: reads every block that has a checksum, names what is damaged, and stays right while
 * the forest of snapshots changes under it.
 */
#include <errno.h>

#include "tests/lib/rng.h"
#include "tests/thin/life.h"
#include "thin/pool.h"

enum { POOL_BLOCKS = 4096, LOG_PAGES = 64, VOL_BLOCKS = 700, SEEDS = 100 };

static struct rig r;

static int snapshot(const char *path)
{
	return rig_do(&r,
		      (struct thin_req){
			      .op = THIN_SNAPSHOT, .names = &path, .name_count = 1, .time_s = 1 });
}

static int clone_of(const char *path, const char *name)
{
	return rig_do(&r, (struct thin_req){
				  .op = THIN_CLONE, .name = path, .new_name = name, .time_s = 1 });
}

static int rollback(const char *path)
{
	return rig_do(&r, (struct thin_req){ .op = THIN_ROLLBACK, .name = path });
}

static struct thin_scrub_stat stat_now(void)
{
	struct thin_scrub_stat st;

	thin_scrub_stat(r.pool, &st);
	return st;
}

static void turn(void)
{
	rig_turn(&r);
	r.now_ms++;
}

static struct thin_scrub_stat run(void)
{
	for (unsigned i = 0; stat_now().state == THIN_SCRUB_RUNNING; i++) {
		assert_true(i < RIG_TURNS);
		turn();
	}
	return stat_now();
}

static struct thin_scrub_stat scrub(void)
{
	assert_int_equal(thin_scrub_start(r.pool), 0);
	return run();
}

static struct thin_scrub_find find(uint32_t index)
{
	struct thin_scrub_find f;

	assert_int_equal(thin_scrub_find(r.pool, index, &f), 0);
	return f;
}

/* The block behind one of a volume or snapshot. */
static uint64_t block_of(const char *path, uint64_t vblk)
{
	struct volume *vol = volume_by_path(&r.pool->catalog, path);
	struct vblk next;
	struct node *leaf;

	assert_non_null(vol);
	assert_int_equal(map_leaf(r.pool, &vol->tree, (struct vblk){ vblk }, NULL, &leaf, &next),
			 0);
	return ent_pblk(ent_get(&leaf->page->entry[vblk % FMT_NODE_ENTRIES])).n;
}

/* v: 0-599, then @a, 100-119 anew; a clone of @a with 110-114 anew. */
static void make(void)
{
	struct thin_vol *vol, *copy;

	memset(&r, 0, sizeof(r));
	rig_new(&r, POOL_BLOCKS, LOG_PAGES, true);
	vol = rig_vol(&r, "v", VOL_BLOCKS * BLK);
	assert_int_equal(rig_write(&r, vol, 0, 600, 1), 0);
	assert_int_equal(snapshot("v@a"), 0);
	assert_int_equal(rig_write(&r, vol, 100, 20, 2), 0);
	assert_int_equal(clone_of("v@a", "c"), 0);
	copy = rig_vol(&r, "c", 0);
	assert_int_equal(rig_write(&r, copy, 110, 5, 3), 0);
	thin_vol_close(copy);
	thin_vol_close(vol);
	rig_settle(&r);
}

static void test_clean(void **state)
{
	struct thin_scrub_stat st;

	(void)state;
	make();
	assert_int_equal(stat_now().state, THIN_SCRUB_NEVER);
	st = scrub();
	assert_int_equal(st.state, THIN_SCRUB_DONE);
	assert_int_equal(st.finds, 0);
	assert_int_equal(st.read_again, 0);
	/* every block in use, both copies of both superblocks, the bitmap pages */
	assert_true(st.checked_bytes / BLK > r.pool->space.alloc_count + 4);
	assert_int_equal(thin_scrub_find(r.pool, 0, &(struct thin_scrub_find){ 0 }), -ENOENT);
	rig_end(&r);
}

static void expect(const char *path, const char *also, uint64_t vblk)
{
	struct thin_scrub_find f;
	uint64_t at = block_of(path, vblk);

	dev_sim_corrupt(r.sim, at, 77);
	assert_int_equal(scrub().finds, 1);
	turn();
	f = find(0);
	assert_int_equal(f.kind, THIN_SCRUB_DATA);
	assert_int_equal(f.res, -EUCLEAN);
	assert_int_equal(f.offset, vblk * BLK);
	assert_int_equal(f.len_bytes, BLK);
	assert_int_equal(f.pool_offset, at * BLK);
	assert_string_equal(f.path, path);
	assert_string_equal(f.also, also);
	dev_sim_corrupt(r.sim, at, 77);
}

static void test_names(void **state)
{
	(void)state;
	make();
	expect("v@a", "v, c", 0);
	expect("v@a", "c", 100);
	expect("v@a", "", 112);
	expect("v", "", 112);
	expect("c", "", 114);
	assert_int_equal(scrub().finds, 0);
	assert_int_equal(r.events[THIN_EVENT_DAMAGE], 5);
	/* neighbours are one find */
	for (uint64_t v = 300; v < 310; v++)
		dev_sim_corrupt(r.sim, block_of("v@a", v), 5);
	assert_int_equal(scrub().finds, 1);
	assert_int_equal(find(0).len_bytes, 10 * BLK);
	for (uint64_t v = 300; v < 310; v++)
		dev_sim_corrupt(r.sim, block_of("v@a", v), 5);
	rig_end(&r);
}

/* Whatever block of the pool is damaged is found, and nothing else. */
static void test_every_block(void **state)
{
	unsigned kinds[3] = { 0 }, blocks = 0, rewritten = 0;

	(void)state;
	make();
	for (uint64_t at = 0; at < POOL_BLOCKS; at++) {
		struct pblk p = { at };
		bool used =
			at < 2 || at >= POOL_BLOCKS - 2 ||
			(space_valid(&r.pool->space, p) && space_is_allocated(&r.pool->space, p));

		if (!used)
			continue;
		dev_sim_corrupt(r.sim, at, at % 32768);
		assert_int_equal(scrub().finds, 1);
		if (find(0).pool_offset != at * BLK)
			fail_msg("block %u: found %u", (unsigned)at,
				 (unsigned)(find(0).pool_offset / BLK));
		kinds[find(0).kind]++;
		rewritten += find(0).rewritten;
		blocks++;
		if (!find(0).rewritten)
			dev_sim_corrupt(r.sim, at, at % 32768);
		rig_settle(&r);
	}
	assert_int_equal(kinds[THIN_SCRUB_DATA], 625);
	assert_true(kinds[THIN_SCRUB_MAP] >= 3 + 2);
	assert_int_equal(kinds[THIN_SCRUB_POOL], rewritten);
	assert_true(rewritten >= 4 + 5);
	assert_int_equal(scrub().finds, 0);
	rig_end(&r);
}

static void test_bitmaps_and_log(void **state)
{
	struct thin_vol *vol;
	uint64_t zones = 0;

	(void)state;
	make();
	for (uint64_t z = 0; z < r.pool->space.zone_count; z++) {
		struct space_zone *zone = &r.pool->space.zone[z];

		if (!zone->generation)
			continue;
		zones++;
		dev_sim_corrupt(r.sim, space_bitmap_pblk(&r.pool->space, z, zone->copy).n, 9);
		assert_int_equal(scrub().finds, 1);
		assert_true(find(0).rewritten);
		rig_settle(&r);
		assert_int_equal(scrub().finds, 0);
	}
	assert_true(zones > 5);
	vol = rig_vol(&r, "v", 0);
	assert_int_equal(rig_write(&r, vol, 0, 4, 9), 0);
	assert_int_equal(rig_flush(&r), 0);
	dev_sim_corrupt(r.sim, journal_page_pblk(LOG_PAGES, r.pool->journal.compl ).n, 99);
	assert_int_equal(scrub().finds, 1);
	assert_true(strncmp(find(0).path, "log page", 8) == 0);
	turn();
	rig_settle(&r); /* a checkpoint: nobody needs that page any more */
	thin_vol_close(vol);
	rig_cut(&r, false);
	rig_open_pool(&r);
	vol = rig_vol(&r, "v", 0);
	assert_true(rig_reads(&r, vol, 0, 4, 9));
	thin_vol_close(vol);
	rig_end(&r);
}

static void test_stop(void **state)
{
	(void)state;
	make();
	assert_int_equal(thin_scrub_start(r.pool), 0);
	assert_int_equal(thin_scrub_start(r.pool), -EALREADY);
	rig_turns(&r, 12);
	thin_scrub_stop(r.pool);
	assert_int_equal(stat_now().state, THIN_SCRUB_STOPPED);
	assert_true(stat_now().checked_bytes < stat_now().total_bytes);
	rig_turns(&r, 200);
	assert_int_equal(scrub().state, THIN_SCRUB_DONE);
	assert_int_equal(thin_scrub_start(r.pool), 0);
	rig_turns(&r, 6);
	rig_end(&r); /* the pool closes in the middle of it */
}

static void test_read_errors(void **state)
{
	(void)state;
	make();
	assert_int_equal(thin_scrub_start(r.pool), 0);
	dev_sim_fail(r.sim, DEV_READ, 3, -EIO);
	assert_int_equal(run().finds, 0); /* it can be read the second time */
	assert_true(stat_now().read_again > 0);
	assert_int_equal(stat_now().read_errors, 0);
	dev_sim_fail_percent(r.sim, DEV_READ, 100, -EIO);
	assert_int_equal(thin_scrub_start(r.pool), 0);
	run();
	assert_true(stat_now().read_errors > 0);
	assert_int_equal(find(0).res, -EIO);
	dev_sim_fail_percent(r.sim, DEV_READ, 0, 0);
	rig_settle(&r);
	assert_int_equal(scrub().finds, 0);
	rig_end(&r);
}

/* ---- while everything changes ---- */

/* One change of anything but block `kept`. */
static void change(struct rng *rng, uint64_t kept)
{
	const char *volume = rng_percent(rng, 60) ? "v" : "w";
	uint64_t first = rng_below(rng, VOL_BLOCKS - 40), count = 1 + rng_below(rng, 40);
	struct thin_vol_stat st;
	struct thin_vol *vol;
	char name[32];

	snprintf(name, sizeof(name), "%s@%c", volume, 'a' + (char)rng_below(rng, 6));
	switch (rng_below(rng, 8)) {
	case 0:
	case 1:
		snapshot(name);
		break;
	case 2:
	case 3:
	case 4:
		rig_control(&r, THIN_VOL_DELETE, name, 0);
		break;
	case 5:
		rollback(name);
		break;
	case 6: /* "w" may be any clone; what it came from may go */
		if (thin_vol_find(r.pool, "w", &st) ||
		    rig_do(&r, (struct thin_req){ .op = THIN_VOL_DELETE,
						  .name = "w",
						  .snapshots = true }) == 0)
			clone_of(name[0] == 'w' ? "v@a" : name, "w");
		break;
	default:
		if (first <= kept && kept < first + count)
			first = kept + 1;
		if (first + count > VOL_BLOCKS || thin_vol_open(r.pool, volume, &vol))
			break;
		if (rng_percent(rng, 80))
			rig_write(&r, vol, first, count, (unsigned)rng_below(rng, 1000));
		else
			rig_range(&r, vol, THIN_TRIM, first, count, 0);
		thin_vol_close(vol);
	}
	for (uint64_t i = rng_below(rng, 8); i > 0; i--)
		turn();
}

/* A block that nobody overwrites is damaged: it is found once, whoever has it by then. */
static void test_found_once(void **state)
{
	unsigned during = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct rng rng = { rng_mix(seed) };
		uint64_t kept = rng_below(&rng, 600), at;

		make();
		r.now_ms += 1000;
		for (uint64_t i = rng_below(&rng, 12); i > 0; i--)
			change(&rng, kept);
		at = block_of("v", kept);
		dev_sim_corrupt(r.sim, at, 1);
		assert_int_equal(thin_scrub_start(r.pool), 0);
		for (unsigned i = 0; i < 60 && stat_now().state == THIN_SCRUB_RUNNING; i++) {
			change(&rng, kept);
			during++;
		}
		run();
		if (stat_now().finds != 1 || find(0).pool_offset != at * BLK ||
		    find(0).offset != kept * BLK)
			fail_msg("seed %u: %u finds, %s", (unsigned)seed,
				 (unsigned)stat_now().finds,
				 stat_now().finds ? find(0).path : "nothing");
		dev_sim_corrupt(r.sim, at, 1);
		rig_settle(&r);
		rig_end(&r);
	}
	assert_true(during > 10 * SEEDS);
}

/* A scrub that begins and ends while a snapshot is being given back: what the snapshot had, and the
 * volume built on it still has, is the volume's own from then on. */
static void test_during_splice(void **state)
{
	enum { LEAVES = 40, SHARED = LEAVES * 256 };
	const struct volume *hidden;
	struct thin_vol *vol;
	uint64_t at;

	(void)state;
	memset(&r, 0, sizeof(r));
	rig_new(&r, POOL_BLOCKS, LOG_PAGES, true);
	vol = rig_vol(&r, "v", (SHARED + 256) * BLK);
	for (unsigned i = 0; i <= LEAVES; i++)
		assert_int_equal(rig_write(&r, vol, i * 256, 1, 1), 0);
	assert_int_equal(snapshot("v@a"), 0);
	for (unsigned i = 0; i < LEAVES; i++) /* the walk has as many leaves to give back */
		assert_int_equal(rig_write(&r, vol, i * 256, 1, 2), 0);
	thin_vol_close(vol);
	at = block_of("v", SHARED);
	rig_settle(&r);
	dev_sim_corrupt(r.sim, at, 1);
	assert_int_equal(rig_control(&r, THIN_VOL_DELETE, "v@a", 0), 0);
	while (!r.pool->lineage.splice)
		turn();
	hidden = r.pool->lineage.splice;
	r.pool->lineage.waiting = true; /* and rests, as if there were no room */
	assert_int_equal(scrub().finds, 1);
	assert_ptr_equal(r.pool->lineage.splice, hidden);
	assert_true(hidden->cursor < SHARED);
	assert_int_equal(find(0).pool_offset, at * BLK);
	assert_int_equal(find(0).offset, (uint64_t)SHARED * BLK);
	assert_string_equal(find(0).path, "v");
	r.pool->lineage.waiting = false;
	dev_sim_corrupt(r.sim, at, 1);
	rig_settle(&r);
	rig_end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clean),	    cmocka_unit_test(test_names),
		cmocka_unit_test(test_every_block), cmocka_unit_test(test_bitmaps_and_log),
		cmocka_unit_test(test_stop),	    cmocka_unit_test(test_read_errors),
		cmocka_unit_test(test_found_once),  cmocka_unit_test(test_during_splice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
