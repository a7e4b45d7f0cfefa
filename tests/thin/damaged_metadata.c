// SPDX-License-Identifier: GPL-2.0-or-later
/* Damage below the superblock: a bitmap is rebuilt from the trees, a map node costs its range and
 * nothing else, a forged entry is damage and not a crash. */
#include "tests/thin/ondisk.h"

static struct rig r;
static struct thin_vol *vol;

/* "v" has four leaves; "one" a single one, half of it filled. */
static void make(void)
{
	memset(&r, 0, sizeof(r));
	rig_new(&r, 4096, 32, true);
	vol = rig_vol(&r, "v", 4 * MIB);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(rig_write(&r, vol, 256 * i + 7, 30, i + 1), 0);
	thin_vol_close(vol);
	vol = rig_vol(&r, "one", MIB);
	assert_int_equal(rig_write(&r, vol, 0, 128, RIG_PATTERN), 0);
	thin_vol_close(vol);
	assert_int_equal(thin_pool_close(r.pool), 0);
}

static void check_content(void)
{
	vol = rig_vol(&r, "v", 0);
	for (unsigned i = 0; i < 4; i++)
		assert_true(rig_reads(&r, vol, 256 * i + 7, 30, i + 1));
	thin_vol_close(vol);
	vol = rig_vol(&r, "one", 0);
	assert_true(rig_reads(&r, vol, 0, 128, RIG_PATTERN));
	thin_vol_close(vol);
}

static void test_bitmap(void **state)
{
	struct ondisk_record rec;
	struct fmt_super sb;

	(void)state;
	make();
	ondisk_find(&r, FMT_REC_ZONES, NULL, &rec);
	ondisk_super(&r, &sb);
	assert_true(le32_get(rec.u.zones.count) > 3);
	for (unsigned z = 0; z < 3; z++) { /* both copies: the older one is never taken */
		uint64_t at = 2 + le64_get(sb.log_pages) + z * (le32_get(sb.zone_blocks) + 2);

		dev_sim_corrupt(r.sim, at, 64 * 8 + 3);
		dev_sim_corrupt(r.sim, at + 1, 64 * 8 + 3);
	}
	rig_open_pool(&r);
	assert_true(r.events[THIN_EVENT_DAMAGE] > 0);
	check_content();
	vol = rig_vol(&r, "new", 2 * MIB);
	assert_int_equal(rig_write(&r, vol, 0, 400, 77), 0);
	assert_true(rig_reads(&r, vol, 0, 400, 77));
	thin_vol_close(vol);
	check_content();
	rig_end(&r); /* nothing leaked, nothing doubled */
}

static void test_node(void **state)
{
	struct rig_req q = { 0 };
	struct ondisk_record rec;
	struct fmt_node root;
	void *buf = rig_buf(64 * BLK, 0);

	(void)state;
	make();
	ondisk_find(&r, FMT_REC_VOLUME, "v", &rec);
	assert_int_equal(le32_get(rec.u.volume.height), 2);
	ondisk_get(&r, ondisk_pblk(rec.u.volume.root), &root);
	dev_sim_corrupt(r.sim, ondisk_pblk(root.entry[1]), 5);
	rig_open_pool(&r);
	vol = rig_vol(&r, "v", 0);
	assert_true(rig_reads(&r, vol, 7, 30, 1));
	assert_true(rig_reads(&r, vol, 2 * 256 + 7, 30, 3));
	q.req = (struct thin_req){
		.op = THIN_READ, .vol = vol, .offset = 250 * BLK, .len = 64 * BLK, .buf = buf
	};
	rig_submit(&r, &q);
	assert_int_equal(rig_wait(&r, &q), -EIO);
	assert_int_equal(q.req.bad_offset, 256 * BLK);
	assert_int_equal(rig_write(&r, vol, 300, 1, 9), -EIO);
	assert_int_equal(rig_range(&r, vol, THIN_TRIM, 300, 1, 0), -EIO);
	assert_int_equal(rig_write(&r, vol, 100, 1, 9), 0);
	assert_true(rig_reads(&r, vol, 100, 1, 9));
	assert_false(rig_stat(&r).read_only);
	/* cutting it off whole is a way out */
	assert_int_equal(rig_range(&r, vol, THIN_TRIM, 256, 256, 0), 0);
	assert_true(rig_reads(&r, vol, 256, 256, 0));
	assert_int_equal(rig_write(&r, vol, 300, 1, 9), 0);
	rig_settle(&r);
	thin_vol_close(vol);
	assert_int_equal(thin_pool_close(r.pool), 0);
	rig_open_pool(&r);
	vol = rig_vol(&r, "v", 0);
	assert_true(rig_reads(&r, vol, 300, 1, 9));
	thin_vol_close(vol);
	assert_int_equal(thin_pool_close(r.pool), 0);
	rig_free(&r);
	free(buf);
}

static void test_record(void **state)
{
	struct ondisk_record rec;
	struct err err = { 0 };

	(void)state;
	make();
	ondisk_find(&r, FMT_REC_VOLUME, "v", &rec);
	dev_sim_corrupt(r.sim, rec.at, 5);
	assert_int_equal(rig_try_open(&r, &err), -EUCLEAN);
	assert_non_null(strstr(err.text, "catalog"));
	rig_free(&r);
}

/* ---- right checksums over wrong content ---- */

enum { ENTRY_FORGERIES = 6 };

static struct fmt_entry forged_entry(unsigned i, struct fmt_entry e)
{
	static const uint64_t where[ENTRY_FORGERIES] = {
		FMT_ENT_MEM | FMT_ENT_MAPPED | 0xfffffff0u, /* a node in memory */
		FMT_ENT_MAPPED | 1,			    /* a superblock */
		FMT_ENT_MAPPED | FMT_PBLK_MASK,		    /* far behind the end */
		FMT_ENT_MAPPED | FMT_ENT_COMPRESSED | 100,
		FMT_ENT_MAPPED | FMT_ENT_RESERVED | 100,
		1, /* no flag at all */
	};

	e.where = le64_put(where[i]);
	return e;
}

static void test_forged_leaf(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ENTRY_FORGERIES; i++) {
		struct thin_verify_report report;
		struct ondisk_record rec;
		struct fmt_node leaf;
		struct err err = { 0 };
		char buf[BLK] __attribute__((aligned(4096)));

		make();
		ondisk_find(&r, FMT_REC_VOLUME, "one", &rec);
		assert_int_equal(le32_get(rec.u.volume.height), 1);
		ondisk_get(&r, ondisk_pblk(rec.u.volume.root), &leaf);
		leaf.entry[5] = forged_entry(i, leaf.entry[5]);
		ondisk_put(&r, ondisk_pblk(rec.u.volume.root), &leaf);
		rec.u.volume.root.crc = le32_put(ondisk_crc(&leaf));
		ondisk_reseal(&r, &rec);
		assert_int_equal(thin_verify(r.dev, true, NULL, NULL, &report, &err), -EUCLEAN);
		rig_open_pool(&r);
		vol = rig_vol(&r, "one", 0);
		assert_int_equal(rig_read(&r, vol, 5, 1, buf), -EIO);
		assert_int_equal(rig_write(&r, vol, 5, 1, 1), -EIO);
		assert_int_equal(rig_range(&r, vol, THIN_TRIM, 5, 1, 0), -EIO);
		thin_vol_close(vol);
		assert_int_equal(rig_control(&r, THIN_VOL_DELETE, "one", 0), 0);
		rig_settle(&r);
		assert_int_equal(thin_pool_close(r.pool), 0);
		rig_free(&r);
	}
}

enum { RECORD_FORGERIES = 9 };

static void forge_record(unsigned i, struct fmt_rec_volume *v)
{
	switch (i) {
	case 0:
		v->size_bytes = le64_put(UINT64_MAX);
		break;
	case 1:
		v->size_bytes = le64_put(4097);
		break;
	case 2:
		v->root.where = le64_put(FMT_ENT_MEM | FMT_ENT_MAPPED | 999999);
		break;
	case 3:
		v->height = le32_put(0);
		break;
	case 4:
		v->height = le32_put(9);
		break;
	case 5:
		v->id = le64_put(1ull << 60);
		break;
	case 6:
		memset(v->name, '/', sizeof(v->name));
		break;
	case 7:
		v->mapped_blocks = le64_put(UINT64_MAX);
		break;
	case 8:
		v->head.kind = le32_put(77);
		break;
	}
}

static void test_forged_record(void **state)
{
	(void)state;
	for (unsigned i = 0; i < RECORD_FORGERIES; i++) {
		struct ondisk_record rec;
		struct err err = { 0 };

		make();
		ondisk_find(&r, FMT_REC_VOLUME, "one", &rec);
		forge_record(i, &rec.u.volume);
		ondisk_reseal(&r, &rec);
		if (rig_try_open(&r, &err) != -EUCLEAN)
			fail_msg("forgery %u: %s", i, err.text);
		rig_free(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bitmap),	      cmocka_unit_test(test_node),
		cmocka_unit_test(test_record),	      cmocka_unit_test(test_forged_leaf),
		cmocka_unit_test(test_forged_record),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
