// SPDX-License-Identifier: GPL-2.0-or-later
/* However many trims and deletions one log holds, it can be replayed. */
#include "tests/thin/life.h"

/* As fstrim does: many ranges that cover whole leaves, each handed over to reclaim. */
static void test_thousands_of_trims(void **state)
{
	struct rig r = { .open.node_cache_bytes = 8 * MIB };
	struct thin_vol *vol;

	rig_new(&r, 65536, 16384, false);
	vol = rig_vol(&r, "v", 64ull << 30);
	for (unsigned i = 0; i < 6000; i++) {
		assert_int_equal(rig_write(&r, vol, 256 * (i % 32), 1, i + 1), 0);
		assert_int_equal(rig_range(&r, vol, THIN_TRIM, 256 * (i % 32), 256, 0), 0);
	}
	assert_int_equal(rig_write(&r, vol, 7, 1, RIG_PATTERN), 0);
	assert_int_equal(rig_flush(&r), 0);
	thin_vol_close(vol);
	rig_cut(&r, false);
	rig_open_pool(&r);
	vol = rig_vol(&r, "v", 0);
	assert_true(rig_reads(&r, vol, 7, 1, RIG_PATTERN));
	assert_true(rig_reads(&r, vol, 256, 256, 0));
	thin_vol_close(vol);
	rig_end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_thousands_of_trims),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
