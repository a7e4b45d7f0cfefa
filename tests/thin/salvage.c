// SPDX-License-Identifier: GPL-2.0-or-later
/* Each record of the catalog damaged in turn: the pool is refused in words that help, and a salvage
 * serves exactly what does not need the record, as it was left, and changes not one byte.  The log
 * behind the last checkpoint has a rollback, a group snapshot and a clone, so that what it says of
 * a lost one matters to others. */
#include <string.h>

#include "tests/thin/ondisk.h"

static struct rig r;
static struct sim_image good;
static uint64_t size_bytes;

/* What each has at these blocks in the end. */
static const uint64_t spots[] = { 0, 1, 5, 10, 300 };
static const struct {
	const char *path;
	unsigned pattern[5];
	const char *needs; /* records: without one of them it is lost */
} paths[] = {
	{ "a", { 4, 0, 0, 7, 5 }, "a" },       { "a@s1", { 1, 0, 0, 0, 2 }, "a@s1" },
	{ "a@l1", { 4, 0, 0, 7, 5 }, "a" },    { "b", { 3, 9, 0, 0, 0 }, "b b@s1" },
	{ "b@s1", { 3, 0, 0, 0, 0 }, "b@s1" }, { "b@l1", { 3, 0, 0, 0, 0 }, "b b@s1" },
	{ "c", { 1, 0, 6, 0, 2 }, "c" },       { "d", { 4, 0, 0, 0, 2 }, "d" },
	{ "e", { 4, 0, 0, 0, 2 }, "e" },       { "f", { 4, 0, 0, 7, 5 }, "a" },
};
enum { PATHS = sizeof(paths) / sizeof(paths[0]), SPOTS = 5 };

static void put(const char *name, uint64_t block, unsigned pattern)
{
	struct thin_vol *vol = rig_vol(&r, name, 0);

	assert_int_equal(rig_write(&r, vol, block, 1, pattern), 0);
	thin_vol_close(vol);
}

static void take(const char *first, const char *second)
{
	const char *names[] = { first, second };

	assert_int_equal(rig_do(&r, (struct thin_req){ .op = THIN_SNAPSHOT,
						       .names = names,
						       .name_count = second ? 2 : 1 }),
			 0);
}

static void clone_of(const char *of, const char *name)
{
	assert_int_equal(
		rig_do(&r, (struct thin_req){ .op = THIN_CLONE, .name = of, .new_name = name }), 0);
}

/* Many leaves, so that its tree is still being given back at the checkpoint. */
static void make_wide(void)
{
	struct thin_vol *vol = rig_vol(&r, "w", 64 * MIB);

	for (unsigned i = 0; i < 60; i++)
		assert_int_equal(rig_write(&r, vol, i * 256, 1, 50), 0);
	thin_vol_close(vol);
}

static void make_stored(void)
{
	thin_vol_close(rig_vol(&r, "a", 8 * MIB));
	thin_vol_close(rig_vol(&r, "b", 8 * MIB));
	put("a", 0, 1);
	put("a", 300, 2);
	put("b", 0, 3);
	take("a@s1", "b@s1");
	put("a", 0, 4);
	take("a@s2", NULL);
	put("a", 300, 5);
	put("b", 0, 8);
	clone_of("a@s1", "c");
	put("c", 5, 6);
	clone_of("a@s2", "d");
	clone_of("a@s2", "e");
	assert_int_equal(rig_control(&r, THIN_VOL_DELETE, "a@s2", 0), 0);
	make_wide();
	assert_int_equal(rig_control(&r, THIN_VOL_DELETE, "w", 0), 0);
	for (unsigned i = 0; !rig_stat(&r).reclaim_trees && i < RIG_TURNS; i++)
		rig_turn(&r);
	assert_int_equal(rig_control(&r, THIN_CHECKPOINT, NULL, 0), 0);
}

static int make(void **state)
{
	(void)state;
	memset(&r, 0, sizeof(r));
	rig_new(&r, 4096, 256, true);
	make_stored();
	put("a", 10, 7);
	assert_int_equal(rig_control(&r, THIN_ROLLBACK, "b@s1", 0), 0);
	take("a@l1", "b@l1");
	put("b", 1, 9);
	clone_of("a@l1", "f");
	assert_int_equal(rig_flush(&r), 0);
	size_bytes = r.dev->size_bytes;
	rig_cut(&r, false);
	sim_image_copy(&good, dev_sim_view(r.sim));
	return 0;
}

static int drop(void **state)
{
	(void)state;
	sim_image_free(&good);
	rig_free(&r);
	return 0;
}

static void use(const struct sim_image *image)
{
	dev_sim_free(r.sim);
	r.sim = dev_sim_new_image(image, size_bytes, 3);
	r.dev = dev_sim_port(r.sim);
}

/* ---- what is served ---- */

static bool has_word(const char *words, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = words; len && (at = strstr(at, word)); at++)
		if ((at == words || at[-1] == ' ') && (!at[len] || at[len] == ' '))
			return true;
	return false;
}

/* As it was left, or not at all. */
static void check_path(unsigned i, const char *lost, const char *path)
{
	struct thin_vol *vol = NULL;
	int res = thin_vol_open(r.pool, path, &vol);

	if ((res != 0) != has_word(paths[i].needs, lost))
		fail_msg("without the record of \"%s\": opening \"%s\" says %d", lost, path, res);
	for (unsigned k = 0; !res && k < SPOTS; k++)
		if (!rig_reads(&r, vol, spots[k], 1, paths[i].pattern[k]))
			fail_msg("without the record of \"%s\": \"%s\" has other content", lost,
				 path);
	thin_vol_close(vol);
}

/* `lost`: the record that is damaged, by path; "": one that nobody needs; `is_named`: whether it
 * still says what it is called. */
static void check_served(const char *lost, bool is_named)
{
	uint64_t hash = dev_sim_view(r.sim)->hash;
	char path[200];

	r.open.salvage = true;
	rig_open_pool(&r);
	r.open.salvage = false;
	assert_true(rig_stat(&r).read_only);
	for (unsigned i = 0; i < PATHS; i++) {
		const char *at = strchr(paths[i].path, '@');

		if (at && !is_named && lost[0] == paths[i].path[0] && !lost[1])
			snprintf(path, sizeof(path), "damaged-%d%s", lost[0] == 'a' ? 1 : 2, at);
		else
			snprintf(path, sizeof(path), "%s", paths[i].path);
		check_path(i, lost, path);
	}
	assert_int_equal(rig_control(&r, THIN_VOL_DELETE, "c", 0), -EROFS);
	rig_turns(&r, 50);
	assert_int_equal(thin_pool_close(r.pool), 0);
	assert_true(dev_sim_view(r.sim)->hash == hash);
}

/* ---- every record ---- */

static const char *record_path(const struct fmt_rec_volume *rec, char path[200])
{
	const char *name = (const char *)rec->name;

	if (le32_get(rec->head.kind) != FMT_REC_VOLUME || le32_get(rec->state) == 3)
		return "";
	snprintf(path, 200, "%s%s", le64_get(rec->of) ? le64_get(rec->of) == 1 ? "a@" : "b@" : "",
		 name);
	return path;
}

static void check_refused(uint64_t block, const char *name)
{
	uint64_t hash = dev_sim_view(r.sim)->hash;
	struct err err = { 0 };
	char offset[64];

	snprintf(offset, sizeof(offset), "offset %llu of the pool",
		 (unsigned long long)block * BLK);
	assert_int_equal(rig_try_open(&r, &err), -EUCLEAN);
	if (!strstr(err.text, offset) || !strstr(err.text, "salvage") ||
	    (name && !strstr(err.text, name)))
		fail_msg("refused in these words: %s", err.text);
	assert_true(dev_sim_view(r.sim)->hash == hash);
}

static void damage_record(uint64_t block)
{
	/* magic, kind, id, generation, size, root, state, flags, of, beyond everything */
	static const unsigned bytes[] = { 0, 4, 32, 48, 56, 88, 108, 112, 520, 4000 };
	struct fmt_rec_volume rec;
	struct sim_image image;
	char path[200], quoted[200];
	const char *lost;

	memcpy(&rec, sim_page_data(sim_image_get(&good, block)), BLK);
	lost = record_path(&rec, path);
	snprintf(quoted, sizeof(quoted), "\"%s\"", (const char *)rec.name);
	for (unsigned i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++) {
		bool readable = bytes[i] > 4 && bytes[i] != 108 && *lost;

		sim_image_copy(&image, &good);
		sim_image_corrupt(&image, block, bytes[i] * 8 + i % 8);
		use(&image);
		sim_image_free(&image);
		check_refused(block, readable ? quoted : NULL);
		check_served(lost, readable && bytes[i] != 32);
	}
}

static void test_each_record(void **state)
{
	struct fmt_super sb;
	struct fmt_node leaf;
	unsigned records = 0, kinds[4] = { 0 };

	(void)state;
	use(&good);
	ondisk_super(&r, &sb);
	assert_int_equal(le32_get(sb.catalog_height), 1);
	ondisk_get(&r, ondisk_pblk(sb.catalog_root), &leaf);
	for (unsigned i = 0; i < FMT_NODE_ENTRIES; i++) {
		uint64_t at = ondisk_pblk(leaf.entry[i]);

		if (!le64_get(leaf.entry[i].where))
			continue;
		kinds[le32_get(
			      ((const struct fmt_rec_head *)sim_page_data(sim_image_get(&good, at)))
				      ->kind) %
		      4]++;
		damage_record(at);
		records++;
	}
	assert_int_equal(kinds[FMT_REC_VOLUME], 8);
	assert_true(kinds[FMT_REC_ZONES] && kinds[FMT_REC_WORK]);
	assert_true(records > 9);
}

static void test_nothing_damaged(void **state)
{
	struct err err = { 0 };

	(void)state;
	use(&good);
	check_served("", true);
	assert_int_equal(rig_try_open(&r, &err), 0);
	rig_settle(&r);
	assert_int_equal(thin_pool_close(r.pool), 0);
	rig_verify_closed(&r);
}

/* The node over all records: nothing is left, and that is said. */
static void test_catalog_node(void **state)
{
	struct sim_image image;
	struct err err = { 0 };
	struct thin_vol_stat st;
	struct fmt_super sb;

	(void)state;
	use(&good);
	ondisk_super(&r, &sb);
	sim_image_copy(&image, &good);
	sim_image_corrupt(&image, ondisk_pblk(sb.catalog_root), 77);
	use(&image);
	sim_image_free(&image);
	assert_int_equal(rig_try_open(&r, &err), -EUCLEAN);
	assert_non_null(strstr(err.text, "salvage"));
	r.open.salvage = true;
	memset(r.events, 0, sizeof(r.events));
	rig_open_pool(&r);
	r.open.salvage = false;
	assert_true(r.events[THIN_EVENT_DAMAGE] >= 1);
	assert_int_equal(thin_vol_next(r.pool, NULL, &st), -ENOENT);
	assert_int_equal(thin_pool_close(r.pool), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_each_record, make, drop),
		cmocka_unit_test_setup_teardown(test_nothing_damaged, make, drop),
		cmocka_unit_test_setup_teardown(test_catalog_node, make, drop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
