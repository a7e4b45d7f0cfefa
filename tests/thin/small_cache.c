// SPDX-License-Identifier: GPL-2.0-or-later
/* Map nodes far beyond the cache: a huge sparse volume through the smallest cache, checkpoints in
 * the middle of reads that want every slot, and a log that is opened again with a smaller cache. */
#include "tests/lib/rng.h"
#include "tests/thin/life.h"

#define TIB (1ull << 40)

/* Height 4: 16 TiB; each write far from the others. */
static uint64_t place(unsigned i)
{
	return (uint64_t)i * 2654435761u % (16 * TIB / BLK);
}

static void test_sparse(void **state)
{
	struct rig r = { .open.node_cache_bytes = 1, .open.buffer_bytes = 1 };
	struct thin_vol *vol;
	unsigned n = 600;

	(void)state;
	rig_new(&r, 16384, 256, true);
	vol = rig_vol(&r, "v", 16 * TIB);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(rig_write(&r, vol, place(i), 1, i + 1), 0);
	for (unsigned i = 0; i < n; i++)
		assert_true(rig_reads(&r, vol, place(i), 1, i + 1));
	assert_int_equal(rig_flush(&r), 0);
	thin_vol_close(vol);
	rig_cut(&r, false);
	rig_open_pool(&r);
	vol = rig_vol(&r, "v", 0);
	for (unsigned i = 0; i < n; i++)
		assert_true(rig_reads(&r, vol, place(i), 1, i + 1));
	assert_int_equal(rig_range(&r, vol, THIN_TRIM, 0, 16 * TIB / BLK, 0), 0);
	rig_settle(&r);
	assert_int_equal(rig_stat(&r).data_blocks, 0);
	thin_vol_close(vol);
	rig_end(&r);
}

/* More reads under way than slots, each for another leaf, while cuts need slots for the catalog. */
static void test_reads_and_cuts(void **state)
{
	enum { READS = 600 };
	struct rig r = { .open.node_cache_bytes = 1 };
	struct rig_req *q, ck = { .req = { .op = THIN_CHECKPOINT } };
	struct thin_vol *vol;
	char *bufs;

	(void)state;
	rig_new(&r, 16384, 256, true);
	vol = rig_vol(&r, "v", 16 * TIB);
	for (unsigned i = 0; i < READS; i++)
		assert_int_equal(rig_write(&r, vol, place(i), 1, i + 1), 0);
	thin_vol_close(vol);
	rig_reopen(&r);
	vol = rig_vol(&r, "v", 0);
	dev_sim_set_delay(r.sim, 30);
	q = calloc(READS, sizeof(*q));
	bufs = aligned_alloc(BLK, READS * BLK);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < READS; i++) {
			q[i].req = (struct thin_req){ .op = i % 5 ? THIN_READ : THIN_WRITE,
						      .vol = vol,
						      .offset = place(i) * BLK,
						      .len = BLK,
						      .buf = bufs + i * BLK };
			if (i % 5 == 0)
				memset(bufs + i * BLK, (int)(round + i % 100 + 1), BLK);
			rig_submit(&r, &q[i]);
		}
		for (unsigned i = 0; i < 10; i++) {
			ck.answered = false;
			rig_submit(&r, &ck);
			assert_int_equal(rig_wait(&r, &ck), 0);
		}
		for (unsigned i = 0; i < READS; i++)
			assert_int_equal(rig_wait(&r, &q[i]), 0);
	}
	for (unsigned i = 0; i < READS; i++)
		if (i % 5)
			assert_true(rig_reads(&r, vol, place(i), 1, i + 1));
	free(q);
	free(bufs);
	thin_vol_close(vol);
	rig_end(&r);
}

static uint64_t dirty_log(struct rig *r, uint64_t cache)
{
	struct thin_vol *vol;
	uint64_t dirty;

	memset(r, 0, sizeof(*r));
	r->open.node_cache_bytes = cache;
	rig_new(r, 16384, 1024, true);
	vol = rig_vol(r, "v", TIB);
	for (unsigned i = 0; i < 400; i++)
		assert_int_equal(rig_write(r, vol, i * 256u, 1, i + 1), 0);
	assert_int_equal(rig_flush(r), 0);
	dirty = rig_stat(r).node_dirty_count;
	thin_vol_close(vol);
	rig_cut(r, false);
	return dirty;
}

/* All sizes around the one that the log's nodes just fit into. */
static void test_smaller_at_reopen(void **state)
{
	struct rig r;
	uint64_t dirty = dirty_log(&r, 16 * MIB);

	(void)state;
	assert_true(dirty > 350);
	rig_free(&r);
	for (uint64_t nodes = dirty - 6; nodes < dirty + 40; nodes++) {
		struct thin_vol *vol;

		dirty_log(&r, 16 * MIB);
		r.open.node_cache_bytes = nodes * 4620; /* a slot and what belongs to it */
		r.open.read_only = nodes % 3 == 0;
		rig_open_pool(&r);
		vol = rig_vol(&r, "v", 0);
		for (unsigned i = 0; i < 400; i += 7)
			assert_true(rig_reads(&r, vol, i * 256u, 1, i + 1));
		thin_vol_close(vol);
		rig_end(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sparse),
		cmocka_unit_test(test_reads_and_cuts),
		cmocka_unit_test(test_smaller_at_reopen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
