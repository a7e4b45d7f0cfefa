// SPDX-License-Identifier: GPL-2.0-or-later
/* After any work the counters, the block status and the disk agree to the block. */
#include "tests/lib/rng.h"
#include "tests/thin/life.h"

enum { BLOCKS = 1024, HOLE = 0, ZERO = 1 }; /* of the model: else the pattern of data */

static struct rig r;
static struct thin_vol *vol;
static unsigned model[BLOCKS];

static unsigned flags_of(unsigned m)
{
	return m == HOLE ? THIN_EXTENT_HOLE | THIN_EXTENT_ZERO : m == ZERO ? THIN_EXTENT_ZERO : 0;
}

static void check_status(unsigned first, unsigned count, unsigned extent_max)
{
	struct thin_extent extents[BLOCKS];
	struct rig_req q = { .req = { .op = THIN_STATUS,
				      .vol = vol,
				      .offset = first * BLK,
				      .len = count * BLK,
				      .extents = extents,
				      .extent_max = extent_max } };
	unsigned at = first;

	rig_submit(&r, &q);
	assert_int_equal(rig_wait(&r, &q), 0);
	assert_true(q.req.extent_count >= 1 && q.req.extent_count <= extent_max);
	for (unsigned i = 0; i < q.req.extent_count; i++) {
		assert_true(extents[i].len_bytes > 0 && extents[i].len_bytes % BLK == 0);
		assert_true(!i || extents[i].flags != extents[i - 1].flags);
		for (uint64_t n = extents[i].len_bytes / BLK; n > 0; n--, at++)
			assert_int_equal(flags_of(model[at]), extents[i].flags);
		assert_int_equal(extents[i].depth, !(extents[i].flags & THIN_EXTENT_HOLE));
	}
	assert_true(at <= first + count);
	assert_true(at == first + count || q.req.extent_count == extent_max);
}

/* A read says which blocks have no data and leaves them alone. */
static void check_holes(unsigned first, unsigned count)
{
	static uint8_t buf[BLOCKS * BLK] __attribute__((aligned(BLK))), untouched[BLK];
	uint64_t holes[BLOCKS / 64] = { 0 };
	struct rig_req q = { .req = { .op = THIN_READ,
				      .vol = vol,
				      .offset = first * BLK,
				      .len = count * BLK,
				      .buf = buf,
				      .holes = holes } };

	memset(untouched, 0xee, BLK);
	memset(buf, 0xee, count * BLK);
	rig_submit(&r, &q);
	assert_int_equal(rig_wait(&r, &q), 0);
	for (unsigned i = 0; i < count; i++) {
		assert_int_equal(holes[i / 64] >> i % 64 & 1, model[first + i] <= ZERO);
		assert_int_equal(!memcmp(buf + i * BLK, untouched, BLK), model[first + i] <= ZERO);
	}
	for (unsigned i = count; i < BLOCKS; i++)
		assert_false(holes[i / 64] >> i % 64 & 1);
}

static void check_counts(void)
{
	uint64_t mapped = 0, reserved = 0;
	struct thin_vol_stat vs;
	struct thin_pool_stat ps;

	for (unsigned b = 0; b < BLOCKS; b++) {
		mapped += model[b] > ZERO;
		reserved += model[b] == ZERO;
	}
	rig_settle(&r);
	thin_vol_stat(vol, &vs);
	assert_int_equal(vs.mapped_blocks, mapped);
	assert_int_equal(vs.reserved_blocks, reserved);
	ps = rig_stat(&r);
	assert_int_equal(ps.data_blocks, mapped);
	assert_int_equal(ps.reserved_blocks, reserved);
	assert_int_equal(ps.reclaim_blocks, 0);
	assert_int_equal(ps.free_blocks, ps.block_count - ps.data_blocks - ps.metadata_blocks);
}

static void check_content(void)
{
	for (unsigned b = 0; b < BLOCKS; b++)
		assert_true(rig_reads(&r, vol, b, 1, model[b] > ZERO ? model[b] : 0));
}

static void random_op(struct rng *rng)
{
	unsigned first = (unsigned)rng_below(rng, BLOCKS);
	unsigned count = 1 + (unsigned)rng_below(rng, rng_percent(rng, 30) ? BLOCKS : 40);
	unsigned what = (unsigned)rng_below(rng, 10), value = HOLE;

	if (count > BLOCKS - first)
		count = BLOCKS - first;
	if (what < 5) {
		for (unsigned b = first; b < first + count; b++) {
			value = 2 + (unsigned)rng_below(rng, 1000000);
			assert_int_equal(rig_write(&r, vol, b, 1, value), 0);
			model[b] = value;
		}
		return;
	}
	if (what < 7)
		assert_int_equal(rig_range(&r, vol, THIN_TRIM, first, count, 0), 0);
	else if (what < 8)
		assert_int_equal(rig_range(&r, vol, THIN_ZERO, first, count, 0), 0);
	else
		assert_int_equal(rig_range(&r, vol, THIN_ZERO, first, count, THIN_NO_HOLE), 0);
	for (unsigned b = first; b < first + count; b++)
		model[b] = what < 8 ? HOLE : ZERO;
}

static void test_random(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= 3; seed++) {
		struct rng rng = { rng_mix(seed) };

		memset(&r, 0, sizeof(r));
		memset(model, 0, sizeof(model));
		r.open.node_cache_bytes = 1;
		rig_new(&r, 4096, 64, true);
		vol = rig_vol(&r, "v", BLOCKS * BLK);
		for (unsigned i = 0; i < 120; i++) {
			unsigned first = (unsigned)rng_below(&rng, BLOCKS);

			random_op(&rng);
			check_holes(first, 1 + (unsigned)rng_below(&rng, BLOCKS - first));
			check_status(first, 1 + (unsigned)rng_below(&rng, BLOCKS - first),
				     1 + (unsigned)rng_below(&rng, 20));
			if (i % 40 == 39) {
				check_counts();
				check_content();
				thin_vol_close(vol);
				if (i % 80 == 39) {
					rig_reopen(&r);
				} else {
					assert_int_equal(rig_flush(&r), 0);
					rig_cut(&r, false);
					rig_open_pool(&r);
				}
				vol = rig_vol(&r, "v", 0);
				check_counts();
				check_content();
			}
		}
		check_status(0, BLOCKS, BLOCKS);
		thin_vol_close(vol);
		assert_int_equal(thin_pool_close(r.pool), 0);
		rig_verify_closed(&r);
		rig_open_pool(&r);
		assert_int_equal(rig_control(&r, THIN_VOL_DELETE, "v", 0), 0);
		rig_settle(&r);
		assert_int_equal(rig_stat(&r).data_blocks + rig_stat(&r).reserved_blocks, 0);
		rig_end(&r);
	}
}

static void test_status_edges(void **state)
{
	struct thin_extent e[4];
	struct rig_req q = {
		.req = { .op = THIN_STATUS, .len = 64ull << 30, .extents = e, .extent_max = 4 }
	};

	(void)state;
	memset(&r, 0, sizeof(r));
	rig_new(&r, 1024, 64, true);
	vol = q.req.vol = rig_vol(&r, "v", 64ull << 30);
	rig_submit(&r, &q); /* nothing at all: one extent */
	assert_int_equal(rig_wait(&r, &q), 0);
	assert_int_equal(q.req.extent_count, 1);
	assert_true(e[0].len_bytes == 64ull << 30);
	assert_int_equal(e[0].flags, THIN_EXTENT_HOLE | THIN_EXTENT_ZERO);
	assert_int_equal(rig_write(&r, vol, (64ull << 30) / BLK - 1, 1, 5), 0);
	rig_submit(&r, &q);
	assert_int_equal(rig_wait(&r, &q), 0);
	assert_int_equal(q.req.extent_count, 2);
	assert_true(e[0].len_bytes == (64ull << 30) - BLK);
	assert_int_equal(e[1].len_bytes, BLK);
	assert_int_equal(e[1].flags, 0);
	q.req.extent_max = 1;
	q.req.offset = (64ull << 30) - 100; /* whole blocks that cover the range */
	q.req.len = 50;
	rig_submit(&r, &q);
	assert_int_equal(rig_wait(&r, &q), 0);
	assert_int_equal(e[0].len_bytes, BLK);
	assert_int_equal(e[0].flags, 0);
	q.req.len = 101;
	rig_submit(&r, &q);
	assert_int_equal(rig_wait(&r, &q), -EINVAL);
	q.req.offset = UINT64_MAX - 10;
	rig_submit(&r, &q);
	assert_int_equal(rig_wait(&r, &q), -EINVAL);
	thin_vol_close(vol);
	rig_end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_status_edges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
