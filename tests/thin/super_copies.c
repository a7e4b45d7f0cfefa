// SPDX-License-Identifier: GPL-2.0-or-later
/* Superblocks: one damaged copy costs nothing and is repaired, a lost slot is refused, and so is
 * what a newer program wrote or nobody could have. */
#include "tests/thin/ondisk.h"

static struct rig r;

static void make(void)
{
	struct thin_vol *vol;

	memset(&r, 0, sizeof(r));
	rig_new(&r, 512, 32, true);
	vol = rig_vol(&r, "v", MIB);
	assert_int_equal(rig_write(&r, vol, 3, 5, RIG_PATTERN), 0);
	thin_vol_close(vol);
	assert_int_equal(thin_pool_close(r.pool), 0);
}

static void check_content(void)
{
	struct thin_vol *vol = rig_vol(&r, "v", 0);

	assert_true(rig_reads(&r, vol, 3, 5, RIG_PATTERN));
	thin_vol_close(vol);
}

static void refused(int want, const char *word)
{
	struct err err = { 0 };

	assert_int_equal(rig_try_open(&r, &err), want);
	if (!strstr(err.text, word))
		fail_msg("\"%s\" does not say \"%s\"", err.text, word);
}

static void test_one_copy(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		make();
		dev_sim_corrupt(r.sim, ondisk_super_at(&r, i / 2, i % 2), 777 * i);
		rig_open_pool(&r);
		assert_int_equal(r.events[THIN_EVENT_DAMAGE], 1);
		check_content();
		rig_reopen(&r);
		assert_int_equal(r.events[THIN_EVENT_DAMAGE], 1); /* repaired */
		check_content();
		rig_end(&r);
	}
}

static void test_unreadable_copy(void **state)
{
	(void)state;
	make();
	dev_sim_fail(r.sim, DEV_READ, 1, -EIO);
	rig_open_pool(&r);
	assert_int_equal(r.events[THIN_EVENT_DAMAGE], 1);
	check_content();
	rig_end(&r);
}

static void test_two_copies(void **state)
{
	(void)state;
	for (unsigned slot = 0; slot < 2; slot++) {
		make();
		dev_sim_corrupt(r.sim, ondisk_super_at(&r, slot, 0), 100);
		dev_sim_corrupt(r.sim, ondisk_super_at(&r, slot, 1), 100);
		refused(-EUCLEAN, slot ? "superblock B" : "superblock A");
		rig_free(&r);
	}
	/* one copy of each slot is left */
	for (unsigned i = 0; i < 4; i++) {
		make();
		dev_sim_corrupt(r.sim, ondisk_super_at(&r, 0, i & 1), 100);
		dev_sim_corrupt(r.sim, ondisk_super_at(&r, 1, i >> 1), 100);
		rig_open_pool(&r);
		check_content();
		rig_end(&r);
	}
}

static void test_no_pool(void **state)
{
	(void)state;
	make();
	for (unsigned i = 0; i < 4; i++)
		dev_sim_corrupt(r.sim, ondisk_super_at(&r, i / 2, i % 2), 9);
	refused(-EUCLEAN, "not a pool");
	rig_free(&r);
	r.sim = dev_sim_new(512 * BLK, 1);
	r.dev = dev_sim_port(r.sim);
	refused(-EUCLEAN, "not a pool");
	dev_sim_free(r.sim);
	r.sim = dev_sim_new(BLK, 1);
	r.dev = dev_sim_port(r.sim);
	refused(-EUCLEAN, "not a pool");
	rig_free(&r);
}

static void test_truncated(void **state)
{
	struct dev_sim *shorter;

	(void)state;
	make();
	shorter = dev_sim_new_image(dev_sim_view(r.sim), 500 * BLK, 1);
	dev_sim_free(r.sim);
	r.sim = shorter;
	r.dev = dev_sim_port(shorter);
	refused(-EUCLEAN, "truncated");
	rig_free(&r);
}

static void newer_version(struct fmt_super *sb)
{
	sb->version = le32_put(FMT_VERSION + 1);
}

static void incompat(struct fmt_super *sb)
{
	sb->feature_incompat = le64_put(1ull << 63);
}

static void ro(struct fmt_super *sb)
{
	sb->feature_ro = le64_put(1ull << 62);
}

static void compat(struct fmt_super *sb)
{
	sb->feature_compat = le64_put(1ull << 61);
}

static void test_features(void **state)
{
	struct fmt_super sb;
	struct thin_vol *vol;

	(void)state;
	make();
	ondisk_forge_super(&r, newer_version);
	refused(-ENOTSUP, "version");
	rig_free(&r);

	make();
	ondisk_forge_super(&r, incompat);
	refused(-ENOTSUP, "features");
	rig_free(&r);

	make();
	ondisk_forge_super(&r, ro);
	rig_open_pool(&r);
	assert_true(rig_stat(&r).read_only);
	assert_true(r.events[THIN_EVENT_NOTE] > 0);
	check_content();
	vol = rig_vol(&r, "v", 0);
	assert_int_equal(rig_write(&r, vol, 0, 1, 1), -EROFS);
	assert_int_equal(rig_flush(&r), 0);
	thin_vol_close(vol);
	assert_int_equal(rig_control(&r, THIN_VOL_CREATE, "w", MIB), -EROFS);
	rig_end(&r);

	make();
	ondisk_forge_super(&r, compat);
	rig_open_pool(&r);
	check_content();
	assert_int_equal(rig_control(&r, THIN_CHECKPOINT, NULL, 0), 0);
	assert_int_equal(thin_pool_close(r.pool), 0);
	ondisk_super(&r, &sb); /* not lost on the way */
	assert_true(le64_get(sb.feature_compat) == 1ull << 61);
	rig_verify_closed(&r);
	rig_free(&r);
}

/* ---- numbers that a right checksum does not make true ---- */

#define FORGE(name, change)                                                                        \
	static void name(struct fmt_super *sb)                                                     \
	{                                                                                          \
		change;                                                                            \
	}

FORGE(huge_zone_end, sb->zone_end = le64_put(UINT64_MAX))
FORGE(no_zone_end, sb->zone_end = le64_put(0))
FORGE(zone_end_beyond, sb->zone_end = le64_put(le64_get(sb->size_blocks)))
FORGE(no_log, sb->log_pages = le64_put(0))
FORGE(huge_log, sb->log_pages = le64_put(UINT64_MAX - 1))
FORGE(no_zone, sb->zone_blocks = le32_put(0))
FORGE(huge_zone, sb->zone_blocks = le32_put(UINT32_MAX))
FORGE(odd_zone, sb->zone_blocks = le32_put(65))
FORGE(tall_catalog, sb->catalog_height = le32_put(6))
FORGE(huge_catalog, sb->catalog_slots = le64_put(1ull << 40))
FORGE(foreign_root, sb->catalog_root.where = le64_put(FMT_ENT_MAPPED | 1))
FORGE(memory_root, sb->catalog_root.where = le64_put(FMT_ENT_MEM | FMT_ENT_MAPPED | 12345))
FORGE(flat_catalog, sb->catalog_height = le32_put(0))
FORGE(empty_catalog, sb->catalog_root.where = le64_put(0))
FORGE(no_log_seq, sb->log_seq = le64_put(0))
FORGE(last_generation, sb->generation = le64_put(UINT32_MAX))
FORGE(no_size, sb->size_blocks = le64_put(3))
FORGE(two_metadata_copies, sb->metadata_copies = le32_put(2))
FORGE(no_ids, sb->next_id = le64_put(0))

static void test_numbers(void **state)
{
	static void (*const forge[])(struct fmt_super *) = {
		huge_zone_end,	 no_zone_end,	zone_end_beyond,
		no_log,		 huge_log,	no_zone,
		huge_zone,	 odd_zone,	tall_catalog,
		huge_catalog,	 foreign_root,	memory_root,
		flat_catalog,	 empty_catalog, no_log_seq,
		last_generation, no_size,	two_metadata_copies,
		no_ids,
	};

	(void)state;
	for (size_t i = 0; i < sizeof(forge) / sizeof(forge[0]); i++) {
		struct err err = { 0 };

		make();
		ondisk_forge_super(&r, forge[i]);
		if (rig_try_open(&r, &err) != -EUCLEAN)
			fail_msg("forgery %zu: %s", i, err.text);
		assert_true(err.text[0]);
		rig_free(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_copy),   cmocka_unit_test(test_unreadable_copy),
		cmocka_unit_test(test_two_copies), cmocka_unit_test(test_no_pool),
		cmocka_unit_test(test_truncated),  cmocka_unit_test(test_features),
		cmocka_unit_test(test_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
