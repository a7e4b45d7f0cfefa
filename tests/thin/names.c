// SPDX-License-Identifier: GPL-2.0-or-later
/* Names of volumes: what thin.h promises, and nothing that would surprise a reader of a list. */
#include "tests/thin/life.h"

static void good(const char *name)
{
	struct err err = { 0 };

	if (thin_name_check(name, &err))
		fail_msg("\"%s\": %s", name, err.text);
}

static void bad(const char *name)
{
	struct err err = { 0 };

	if (thin_name_check(name, &err) != -EINVAL)
		fail_msg("\"%s\" is accepted", name);
	assert_true(err.text[0]);
}

static void test_grammar(void **state)
{
	char longest[THIN_NAME_MAX + 2];

	(void)state;
	memset(longest, 'x', sizeof(longest));
	longest[THIN_NAME_MAX + 1] = 0;
	bad(longest);
	longest[THIN_NAME_MAX] = 0;
	good(longest);
	good("a");
	good("0");
	good("_");
	good("db-1.old_2");
	good("Müller");
	good("データ");
	good("\xf0\x9f\x90\xa7"); /* beyond the basic plane */
	bad("");
	bad(".");
	bad(".hidden");
	bad("-option");
	bad("a b");
	bad("a/b");
	bad("a@snap");
	bad("a;b");
	bad("a\nb");
	bad("a\tb");
	bad("a\x7f");
	bad("a\"b");
	bad("a%b");
}

static void test_utf8(void **state)
{
	(void)state;
	bad("\x80");
	bad("\xc0\xaf"); /* overlong '/' */
	bad("\xe0\x80\xaf");
	bad("\xf0\x80\x80\xaf");
	bad("\xc3"); /* cut off */
	bad("a\xe3\x83");
	bad("\xed\xa0\x80");	 /* surrogate */
	bad("\xf4\x90\x80\x80"); /* beyond U+10FFFF */
	bad("\xff");
	bad("\xc2\x85"); /* a control character */
}

/* Blanks and what turns or hides text are no letters. */
static void test_invisible(void **state)
{
	(void)state;
	bad("a\xc2\xa0"
	    "b");	      /* U+00A0 no-break space */
	bad("a\xe2\x80\x8b"); /* U+200B zero width space */
	bad("\xe2\x80\xae"
	    "gpj");	      /* U+202E right-to-left override */
	bad("a\xe2\x80\xa8"); /* U+2028 line separator */
	bad("a\xe2\x81\xa6"); /* U+2066 isolate */
	bad("a\xe3\x80\x80"); /* U+3000 ideographic space */
	bad("\xef\xbb\xbf"
	    "a");	      /* U+FEFF */
	bad("a\xef\xbf\xbf"); /* U+FFFF */
}

static void test_volumes(void **state)
{
	struct rig r = { 0 };
	struct thin_vol_stat st;
	static const char *const sorted[] = { "A", "a", "a.b", "b", "ä" };

	(void)state;
	rig_new(&r, 512, 32, true);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(rig_control(&r, THIN_VOL_CREATE, sorted[(i * 3 + 1) % 5], MIB), 0);
	assert_int_equal(rig_control(&r, THIN_VOL_CREATE, "a", MIB), -EEXIST);
	assert_int_equal(rig_control(&r, THIN_VOL_CREATE, "a/b", MIB), -EINVAL);
	assert_int_equal(rig_control(&r, THIN_VOL_CREATE, NULL, MIB), -EINVAL);
	assert_int_equal(rig_control(&r, THIN_VOL_CREATE, "z", 0), -EINVAL);
	assert_int_equal(rig_control(&r, THIN_VOL_CREATE, "z", BLK + 1), -EINVAL);
	assert_int_equal(rig_control(&r, THIN_VOL_CREATE, "z", THIN_VOLUME_MAX + BLK), -EINVAL);
	assert_int_equal(rig_control(&r, THIN_VOL_CREATE, "z", THIN_VOLUME_MAX), 0);
	assert_int_equal(rig_control(&r, THIN_VOL_DELETE, "z", 0), 0);
	assert_int_equal(rig_control(&r, THIN_VOL_DELETE, "z", 0), -ENOENT);
	assert_int_equal(
		rig_do(&r,
		       (struct thin_req){ .op = THIN_VOL_RENAME, .name = "a", .new_name = "b" }),
		-EEXIST);
	assert_int_equal(
		rig_do(&r,
		       (struct thin_req){ .op = THIN_VOL_RENAME, .name = "a", .new_name = "-b" }),
		-EINVAL);
	rig_reopen(&r);
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(thin_vol_next(r.pool, i ? sorted[i - 1] : NULL, &st), 0);
		assert_string_equal(st.name, sorted[i]);
	}
	assert_int_equal(thin_vol_next(r.pool, sorted[4], &st), -ENOENT);
	assert_int_equal(thin_vol_next(r.pool, "aa", &st), 0); /* one that is not there */
	assert_string_equal(st.name, "b");
	rig_end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grammar),
		cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_invisible),
		cmocka_unit_test(test_volumes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
