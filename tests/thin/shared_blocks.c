// SPDX-License-Identifier: GPL-2.0-or-later
/* Block status tells from how deep a block comes, and so which are shared (thin_extent.depth). */
#include <string.h>

#include "tests/thin/pool_rig.h"

enum { POOL_BLOCKS = 2048, LOG_PAGES = 64, VOL_BLOCKS = 600, ROWS = 32 };

static struct pool_rig r;
static uint8_t buf[ROWS * BLK] __attribute__((aligned(BLK)));

static void change(struct thin_vol *vol, uint64_t block, uint64_t count, uint8_t value)
{
	memset(buf, value, count * BLK);
	assert_int_equal(pool_rig_io(&r, THIN_WRITE, vol, block, count, buf), 0);
}

static void run(struct thin_req req)
{
	assert_int_equal(pool_rig_run(&r, &req), 0);
}

static void snapshot(const char *name)
{
	run((struct thin_req){ .op = THIN_SNAPSHOT, .names = &name, .name_count = 1 });
}

/* The depths of the first blocks, a digit each. */
static void expect(struct thin_vol *vol, const char *depths)
{
	struct thin_extent extents[ROWS];
	char got[ROWS + 1] = "";
	struct thin_req req = { .op = THIN_STATUS,
				.vol = vol,
				.len = strlen(depths) * BLK,
				.extents = extents,
				.extent_max = ROWS };
	size_t at = 0;

	assert_int_equal(pool_rig_run(&r, &req), 0);
	for (uint32_t i = 0; i < req.extent_count; i++) {
		for (uint64_t n = extents[i].len_bytes / BLK; n > 0 && at < ROWS; n--)
			got[at++] = (char)('0' + extents[i].depth);
		assert_int_equal(extents[i].depth == 0, !!(extents[i].flags & THIN_EXTENT_HOLE));
	}
	assert_string_equal(got, depths);
}

static void test_depths(void **state)
{
	struct thin_vol *vol, *clone;

	(void)state;
	pool_rig_create(&r, POOL_BLOCKS, LOG_PAGES);
	vol = pool_rig_volume(&r, "v", VOL_BLOCKS);
	change(vol, 0, 8, 1);
	expect(vol, "1111111100");
	snapshot("v@a");
	expect(vol, "2222222200");
	change(vol, 2, 2, 2); /* what it has taken anew is its own */
	change(vol, 9, 1, 2);
	expect(vol, "2211222201");
	snapshot("v@b");
	expect(vol, "3322333302");
	run((struct thin_req){ .op = THIN_ZERO,
			       .flags = THIN_NO_HOLE,
			       .vol = vol,
			       .offset = 7 * BLK,
			       .len = 2 * BLK });
	run((struct thin_req){ .op = THIN_TRIM, .vol = vol, .len = BLK });
	expect(vol, "0322333112");
	run((struct thin_req){ .op = THIN_CLONE, .name = "v@b", .new_name = "c" });
	assert_int_equal(thin_vol_open(r.pool, "c", &clone), 0);
	expect(clone, "3322333302");
	change(clone, 5, 2, 3);
	expect(clone, "3322311302");
	expect(vol, "0322333112");
	/* The oldest goes: what only it was held by is one layer less deep. */
	run((struct thin_req){ .op = THIN_VOL_DELETE, .name = "v@a" });
	pool_rig_settle(&r);
	expect(vol, "0222222112");
	thin_vol_close(clone);
	thin_vol_close(vol);
	pool_rig_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_depths) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
