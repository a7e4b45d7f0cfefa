/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sets of VLAN ids: what is taken, what is refused, how they read. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "vlan/vlan.h"

static void parses_and_formats(void **state)
{
	static const char *const cases[][2] = {
		{ "1", "1" },
		{ "4094", "4094" },
		{ "10,20,100-200", "10,20,100-200" },
		{ " 30 , 10 - 12 ,11", "10-12,30" },
		{ "1-4094", "1-4094" },
		{ "5,4,3,2", "2-5" },
		{ "63-65", "63-65" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vlan_vids s;
		char buf[64];

		assert_int_equal(vlan_vids_parse(cases[i][0], &s, NULL), 0);
		assert_string_equal(vlan_vids_format(&s, buf, sizeof(buf)), cases[i][1]);
	}
}

static void refuses(void **state)
{
	static const char *const bad[] = { "",	       "0",	   "4095",	  "10,",    ",10",
					   "10-",      "-10",	   "20-10",	  "a",	    "10;20",
					   "1 2",      "10-20-30", "99999999999", "10,,20", "0x10",
					   "4094-4095" };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct vlan_vids s = { { 7 } };
		struct err err = { 0 };

		if (vlan_vids_parse(bad[i], &s, &err) != -EINVAL)
			fail_msg("\"%s\" was taken", bad[i]);
		assert_int_equal(s.bits[0], 7); /* untouched */
		assert_non_null(strstr(err.text, "expected"));
	}
}

static void long_text_is_cut(void **state)
{
	struct vlan_vids s = { 0 };
	char buf[24];

	(void)state;
	for (unsigned v = 2; v < 4000; v += 2)
		vlan_vids_add(&s, v, v);
	vlan_vids_format(&s, buf, sizeof(buf));
	assert_true(strlen(buf) < sizeof(buf));
	assert_string_equal(buf + strlen(buf) - 3, "...");
	for (size_t size = 4; size < sizeof(buf); size++) {
		memset(buf, 'x', sizeof(buf));
		vlan_vids_format(&s, buf, size);
		assert_true(strnlen(buf, size) < size);
	}
}

static void runs_and_counts(void **state)
{
	struct vlan_vids s = { 0 };
	unsigned first, last;

	(void)state;
	assert_true(vlan_vids_empty(&s));
	assert_false(vlan_vids_next(&s, 1, &first, &last));
	vlan_vids_add(&s, 60, 70);
	vlan_vids_add(&s, 4094, 4094);
	assert_int_equal(vlan_vids_count(&s), 12);
	assert_true(vlan_vids_next(&s, 1, &first, &last));
	assert_int_equal(first, 60);
	assert_int_equal(last, 70);
	assert_true(vlan_vids_next(&s, 71, &first, &last));
	assert_int_equal(first, 4094);
	assert_int_equal(last, 4094);
	assert_false(vlan_vids_has(&s, 4095));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses_and_formats),
		cmocka_unit_test(refuses),
		cmocka_unit_test(long_text_is_cut),
		cmocka_unit_test(runs_and_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
