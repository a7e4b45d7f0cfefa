// SPDX-License-Identifier: GPL-2.0-or-later
/* As many volumes as the node cache can serve, and then a plain refusal: no request hangs. */
#include "tests/thin/life.h"

enum { AT_ONCE = 256 };

static struct rig r;

/* Create volumes from `first` on, many at once; the number of those that were made. */
static unsigned create(unsigned first, unsigned count)
{
	static struct rig_req q[AT_ONCE];
	static char names[AT_ONCE][16];
	unsigned made = 0;

	for (unsigned i = 0; i < count; i++) {
		snprintf(names[i], sizeof(names[i]), "v%u", first + i);
		q[i].req = (struct thin_req){ .op = THIN_VOL_CREATE,
					      .name = names[i],
					      .size_bytes = MIB };
		rig_submit(&r, &q[i]);
	}
	for (unsigned i = 0; i < count; i++) {
		int res = rig_wait(&r, &q[i]);

		assert_true(res == 0 || res == -ENOSPC);
		made += res == 0;
	}
	return made;
}

static void test_many(void **state)
{
	unsigned made = 0, now;
	struct thin_vol *vol;

	(void)state;
	memset(&r, 0, sizeof(r));
	r.open.node_cache_bytes = 1; /* 128 nodes */
	rig_new(&r, 65536, 2048, false);
	do {
		now = create(made, AT_ONCE);
		made += now;
		assert_true(made < 50000);
	} while (now);
	assert_true(made > 10000);
	vol = rig_vol(&r, "v9999", 0);
	assert_int_equal(rig_write(&r, vol, 0, 100, 5), 0);
	assert_true(rig_reads(&r, vol, 0, 100, 5));
	thin_vol_close(vol);
	rig_reopen(&r);
	assert_int_equal(rig_stat(&r).volume_count, made);
	vol = rig_vol(&r, "v9999", 0);
	assert_true(rig_reads(&r, vol, 0, 100, 5));
	thin_vol_close(vol);
	for (unsigned i = 0; i < 300; i++) {
		char name[16];

		snprintf(name, sizeof(name), "v%u", i * 30);
		assert_int_equal(rig_control(&r, THIN_VOL_DELETE, name, 0), 0);
	}
	rig_settle(&r);
	rig_end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
