// SPDX-License-Identifier: GPL-2.0-or-later
/* The log: a gap in front of what had been made durable is refused until the administrator accepts
 * the loss, forged records are errors, the ring's wrap revives nothing. */
#include "tests/thin/ondisk.h"

static struct rig r;
static struct thin_vol *vol;

#define PAGES 64u

/* Some commits, a page each, and then the power goes. */
static void make(unsigned commits)
{
	struct thin_open open = r.open;

	memset(&r, 0, sizeof(r));
	r.open = open;
	rig_new(&r, 2048, PAGES, true);
	vol = rig_vol(&r, "v", 4 * MIB);
	assert_int_equal(rig_control(&r, THIN_CHECKPOINT, NULL, 0), 0);
	for (unsigned i = 0; i < commits; i++) {
		assert_int_equal(rig_write(&r, vol, i, 1, i + 1), 0);
		assert_int_equal(rig_flush(&r), 0);
	}
	thin_vol_close(vol);
	rig_cut(&r, false);
}

/* The block of the `nth` page that recovery will read. */
static uint64_t page_at(unsigned nth)
{
	struct fmt_super sb;

	ondisk_super(&r, &sb);
	return FMT_LOG_FIRST + (le64_get(sb.log_seq) + nth) % PAGES;
}

static void test_gap(void **state)
{
	struct err err = { 0 };

	(void)state;
	memset(&r, 0, sizeof(r));
	make(8);
	dev_sim_corrupt(r.sim, page_at(4), 99);
	assert_int_equal(rig_try_open(&r, &err), -EUCLEAN);
	assert_non_null(strstr(err.text, "log page"));
	assert_int_equal(rig_try_open(&r, &err), -EUCLEAN); /* nothing was changed */

	r.open.accept_damage = true;
	rig_open_pool(&r);
	assert_true(r.events[THIN_EVENT_DAMAGE] > 0);
	vol = rig_vol(&r, "v", 0);
	for (unsigned i = 0; i < 4; i++)
		assert_true(rig_reads(&r, vol, i, 1, i + 1));
	assert_true(rig_reads(&r, vol, 4, 4, 0));
	assert_int_equal(rig_write(&r, vol, 4, 1, 55), 0);
	thin_vol_close(vol);
	r.open.accept_damage = false;
	rig_reopen(&r);
	rig_end(&r);
}

/* The last page has no durable mark behind it: it may be a torn one. */
static void test_torn_end(void **state)
{
	(void)state;
	memset(&r, 0, sizeof(r));
	make(8);
	dev_sim_corrupt(r.sim, page_at(7), 99);
	rig_open_pool(&r);
	vol = rig_vol(&r, "v", 0);
	for (unsigned i = 0; i < 7; i++)
		assert_true(rig_reads(&r, vol, i, 1, i + 1));
	assert_true(rig_reads(&r, vol, 7, 1, 0));
	thin_vol_close(vol);
	rig_end(&r);
}

/* Data behind the last durable mark that did not arrive: that record only. */
static void test_data_missing(void **state)
{
	struct fmt_log_head page[BLK / sizeof(struct fmt_log_head)];
	struct fmt_log_block *rec = (struct fmt_log_block *)(page + 1);

	(void)state;
	memset(&r, 0, sizeof(r));
	make(3);
	ondisk_get(&r, page_at(2), page);
	dev_sim_corrupt(r.sim, le64_get(rec->where) & FMT_PBLK_MASK, 4711);
	rig_open_pool(&r);
	assert_int_equal(rig_stat(&r).skipped_records, 1);
	vol = rig_vol(&r, "v", 0);
	assert_true(rig_reads(&r, vol, 0, 1, 1));
	assert_true(rig_reads(&r, vol, 1, 1, 2));
	assert_true(rig_reads(&r, vol, 2, 1, 0));
	thin_vol_close(vol);
	rig_end(&r);
}

/* Each read of the opening fails once: refused with a reason, or opened without loss of what had a
 * durable mark.  Data that cannot be read is data that did not arrive. */
static void test_unreadable(void **state)
{
	unsigned skipped = 0, refused = 0;

	(void)state;
	for (unsigned n = 0; n < 60; n++) {
		struct err err = { 0 };

		memset(&r, 0, sizeof(r));
		make(3);
		dev_sim_fail(r.sim, DEV_READ, n, -EIO);
		if (rig_try_open(&r, &err)) {
			assert_true(err.text[0]);
			refused++;
			dev_sim_fail(r.sim, DEV_READ, 1u << 30, -EIO);
			rig_open_pool(&r); /* nothing was changed */
		}
		dev_sim_fail(r.sim, DEV_READ, 1u << 30, -EIO);
		skipped += rig_stat(&r).skipped_records;
		vol = rig_vol(&r, "v", 0);
		assert_true(rig_reads(&r, vol, 0, 1, 1));
		assert_true(rig_reads(&r, vol, 1, 1, 2));
		assert_true(rig_stat(&r).skipped_records || rig_reads(&r, vol, 2, 1, 3));
		thin_vol_close(vol);
		rig_end(&r);
	}
	assert_int_equal(skipped, 1);
	assert_true(refused > 0);
}

/* ---- forged records ---- */

enum { FORGERIES = 11 };

static le64_t first_where; /* of the record before */

static void forge(unsigned i, struct fmt_log_head *h)
{
	struct fmt_log_block *b = (struct fmt_log_block *)(h + 1);
	struct fmt_log_op *op = (struct fmt_log_op *)b;

	switch (i) {
	case 0:
		b->where = le64_put(FMT_ENT_MEM | FMT_ENT_MAPPED | 5);
		break;
	case 1:
		b->where = le64_put(FMT_ENT_MAPPED | 1);
		break;
	case 2:
		b->where = le64_put(FMT_ENT_MAPPED | FMT_PBLK_MASK);
		break;
	case 3:
		b->volume = le64_put(4711);
		break;
	case 4:
		b->key = le64_put(200ull << 56);
		break;
	case 5: /* names a block that is in use */
		b->where = first_where;
		break;
	case 6:
		b->birth = le32_put(UINT32_MAX);
		break;
	case 7: /* longer than its page */
		op->key = le64_put((uint64_t)FMT_SLOT_OP << 56);
		op->here = le16_put(4000);
		break;
	case 8: /* a fragment without its head */
		op->key = le64_put((uint64_t)FMT_SLOT_OP << 56);
		op->fragment = le16_put(3);
		op->here = le16_put(0);
		break;
	case 9:
		op->key = le64_put((uint64_t)FMT_SLOT_OP << 56);
		op->fragment = le16_put(0);
		op->fragments = le16_put(1);
		op->here = le16_put(0);
		op->total = le16_put(2000);
		break;
	case 10:
		h->slots = le32_put(127);
		break;
	}
}

static void test_forged(void **state)
{
	(void)state;
	for (unsigned i = 0; i < FORGERIES; i++) {
		struct fmt_log_head page[BLK / sizeof(struct fmt_log_head)];
		struct err err = { 0 };
		int res;

		memset(&r, 0, sizeof(r));
		make(4);
		ondisk_get(&r, page_at(0), page);
		first_where = ((struct fmt_log_block *)(page + 1))->where;
		/* a page in front of the last mark: its data is not looked at */
		ondisk_get(&r, page_at(1), page);
		forge(i, page);
		page->crc = le32_put(0);
		page->crc = le32_put(ondisk_crc(page));
		ondisk_put(&r, page_at(1), page);
		{ /* its successor chains behind it */
			uint32_t crc = le32_get(page->crc);

			for (unsigned n = 2; n < 4; n++) {
				ondisk_get(&r, page_at(n), page);
				page->pred = le32_put(crc);
				page->crc = le32_put(0);
				crc = ondisk_crc(page);
				page->crc = le32_put(crc);
				ondisk_put(&r, page_at(n), page);
			}
		}
		res = rig_try_open(&r, &err);
		if (res != -EUCLEAN)
			fail_msg("forgery %u: %d %s", i, res, err.text);
		r.open.accept_damage = true;
		if (i < 4 || i == 5) {
			rig_open_pool(&r);
			vol = rig_vol(&r, "v", 0);
			assert_true(rig_reads(&r, vol, 0, 1, 1));
			thin_vol_close(vol);
			assert_int_equal(thin_pool_close(r.pool), 0);
		} else if (rig_try_open(&r, &err) == 0) {
			assert_int_equal(thin_pool_close(r.pool), 0);
		}
		r.open.accept_damage = false;
		rig_free(&r);
	}
}

/* Many rounds of the ring, a crash in each. */
static void test_wrap(void **state)
{
	unsigned value[16] = { 0 };

	(void)state;
	memset(&r, 0, sizeof(r));
	rig_new(&r, 1024, 8, true);
	vol = rig_vol(&r, "v", MIB);
	for (unsigned life = 0; life < 30; life++) {
		for (unsigned i = 0; i < 5 + life % 7; i++) {
			unsigned b = (life * 5 + i) % 16;

			value[b] = life * 100 + i + 1;
			assert_int_equal(rig_write(&r, vol, b, 1, value[b]), 0);
			assert_int_equal(rig_flush(&r), 0);
		}
		thin_vol_close(vol);
		rig_cut(&r, life % 2);
		rig_open_pool(&r);
		vol = rig_vol(&r, "v", 0);
		for (unsigned b = 0; b < 16; b++)
			assert_true(rig_reads(&r, vol, b, 1, value[b]));
	}
	thin_vol_close(vol);
	rig_end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gap),	     cmocka_unit_test(test_torn_end),
		cmocka_unit_test(test_data_missing), cmocka_unit_test(test_unreadable),
		cmocka_unit_test(test_forged),	     cmocka_unit_test(test_wrap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
