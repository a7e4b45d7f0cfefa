/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sizes, durations, numbers, checked arithmetic, nearest words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "common/base/arith.h"
#include "common/base/nearest.h"
#include "common/base/units.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void test_sizes(void **state)
{
	static const struct {
		const char *text;
		int result;
		uint64_t bytes;
	} cases[] = {
		{ "0", 0, 0 },
		{ "1", 0, 1 },
		{ "512", 0, 512 },
		{ "4K", 0, 4096 },
		{ "4k", 0, 4096 },
		{ "4KiB", 0, 4096 },
		{ "4kib", 0, 4096 },
		{ "10G", 0, 10ULL << 30 },
		{ "64M", 0, 64ULL << 20 },
		{ "1T", 0, 1ULL << 40 },
		{ "1P", 0, 1ULL << 50 },
		{ "15E", 0, 15ULL << 60 },
		{ "7B", 0, 7 },
		{ "18446744073709551615", 0, UINT64_MAX },
		{ "18446744073709551616", -ERANGE, 0 },
		{ "16E", -ERANGE, 0 },
		{ "99999999999999999999999999G", -ERANGE, 0 },
		{ "", -EINVAL, 0 },
		{ "G", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },
		{ "+1", -EINVAL, 0 },
		{ " 1", -EINVAL, 0 },
		{ "1 G", -EINVAL, 0 },
		{ "1.5G", -EINVAL, 0 },
		{ "1KB", -EINVAL, 0 },
		{ "1GG", -EINVAL, 0 },
		{ "1X", -EINVAL, 0 },
		{ "0x10", -EINVAL, 0 },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		uint64_t bytes = 42;
		struct err err = { 0 };

		assert_int_equal(size_parse(cases[i].text, &bytes, &err), cases[i].result);
		assert_int_equal(bytes, cases[i].result ? 42 : cases[i].bytes);
		assert_int_equal(err.code, cases[i].result);
	}
}

static void test_durations(void **state)
{
	static const struct {
		const char *text;
		int result;
		uint64_t ms;
	} cases[] = {
		{ "0", 0, 0 },
		{ "5s", 0, 5000 },
		{ "120ms", 0, 120 },
		{ "2m", 0, 120000 },
		{ "1h30m", 0, 5400000 },
		{ "1d", 0, 86400000 },
		{ "1s500ms", 0, 1500 },
		{ "5", -EINVAL, 0 },
		{ "5 s", -EINVAL, 0 },
		{ "s", -EINVAL, 0 },
		{ "", -EINVAL, 0 },
		{ "5min", -EINVAL, 0 },
		{ "1h30", -EINVAL, 0 },
		{ "-5s", -EINVAL, 0 },
		{ "18446744073709551615ms", 0, UINT64_MAX },
		{ "18446744073709551615s", -ERANGE, 0 },
		{ "18446744073709551615ms1ms", -ERANGE, 0 },
		{ "99999999999999999999999ms", -ERANGE, 0 },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		uint64_t ms = 42;
		struct err err = { 0 };

		assert_int_equal(duration_parse(cases[i].text, &ms, &err), cases[i].result);
		assert_int_equal(ms, cases[i].result ? 42 : cases[i].ms);
	}
}

static void test_sentences(void **state)
{
	struct err err;
	uint64_t v;

	assert_int_equal(size_parse("10Q", &v, &err), -EINVAL);
	assert_string_equal(err.text, "found \"10Q\", expected a size such as 10G, 512M or 65536");
	assert_int_equal(duration_parse("5", &v, &err), -EINVAL);
	assert_string_equal(err.text,
			    "found \"5\", expected a duration such as 5s, 120ms or 1h30m");
	assert_int_equal(number_parse("4095", 1, 4094, "a VLAN id", &v, &err), -ERANGE);
	assert_string_equal(err.text, "found \"4095\", expected a VLAN id from 1 to 4094");
	assert_int_equal(number_parse("1x", 1, 4094, NULL, &v, &err), -EINVAL);
	assert_int_equal(number_parse("18446744073709551616", 0, UINT64_MAX, NULL, &v, &err),
			 -ERANGE);
	assert_int_equal(number_parse("18446744073709551615", 0, UINT64_MAX, NULL, &v, NULL), 0);
	assert_int_equal(v, UINT64_MAX);
}

/* What is printed exactly reads back as the same value. */
static void test_exact_texts_read_back(void **state)
{
	static const uint64_t values[] = {
		0,    1,	  1023,	      1024,	   1025,
		4096, 1000,	  1536 << 10, 10ULL << 30, (1ULL << 60) + 1,
		59,   60000,	  90000,      86400000,	   3600001,
		5000, 1ULL << 63, UINT64_MAX
	};
	char buf[UNITS_TEXT_MAX];
	uint64_t back;

	for (size_t i = 0; i < COUNT(values); i++) {
		assert_int_equal(size_parse(size_format(values[i], buf), &back, NULL), 0);
		assert_int_equal(back, values[i]);
		assert_int_equal(duration_parse(duration_format(values[i], buf), &back, NULL), 0);
		assert_int_equal(back, values[i]);
	}
	assert_string_equal(size_format(64ULL << 30, buf), "64G");
	assert_string_equal(size_format(1536 << 20, buf), "1536M");
	assert_string_equal(size_format(1000, buf), "1000");
	assert_string_equal(duration_format(90000, buf), "90s");
	assert_string_equal(duration_format(120000, buf), "2m");
}

static void test_texts_for_people(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} sizes[] = {
		{ 0, "0 B" },
		{ 1023, "1023 B" },
		{ 1024, "1 KiB" },
		{ 1536, "1.5 KiB" },
		{ 10ULL << 30, "10 GiB" },
		{ 1048575, "1 MiB" },
		{ 1047527, "1023 KiB" },
		{ (1ULL << 30) + (1ULL << 29), "1.5 GiB" },
		{ 123456789, "118 MiB" },
		{ UINT64_MAX, "16 EiB" },
	};
	static const struct {
		uint64_t ms;
		const char *text;
	} durations[] = {
		{ 0, "0 ms" },	    { 999, "999 ms" },	  { 3250, "3.2 s" },	 { 59999, "59 s" },
		{ 60000, "1m 0s" }, { 7500000, "2h 5m" }, { 90000000, "1d 1h" },
	};
	char buf[UNITS_TEXT_MAX];

	for (size_t i = 0; i < COUNT(sizes); i++)
		assert_string_equal(size_format_human(sizes[i].bytes, buf), sizes[i].text);
	for (size_t i = 0; i < COUNT(durations); i++)
		assert_string_equal(duration_format_human(durations[i].ms, buf), durations[i].text);
}

static void test_checked_arithmetic(void **state)
{
	uint64_t v = 42;

	assert_false(arith_add_u64(UINT64_MAX, 1, &v));
	assert_false(arith_mul_u64(1ULL << 32, 1ULL << 32, &v));
	assert_false(arith_round_up_u64(UINT64_MAX, 4096, &v));
	assert_int_equal(v, 42);
	assert_true(arith_round_up_u64(4097, 4096, &v) && v == 8192);
	assert_true(arith_round_up_u64(0, 4096, &v) && v == 0);
	assert_true(arith_range_fits(10, 0, 10));
	assert_true(arith_range_fits(5, 5, 10));
	assert_false(arith_range_fits(5, 6, 10));
	assert_false(arith_range_fits(11, 0, 10));
	assert_false(arith_range_fits(UINT64_MAX, 2, 10));
	assert_false(arith_range_fits(2, UINT64_MAX, 10));
}

static void test_nearest_word(void **state)
{
	static const char *const words[] = { "address", "bridge", "dhcp",	 "name",
					     "nat",	"owner",  "pool create", NULL };
	static const struct {
		const char *typed, *near;
	} cases[] = {
		{ "adress", "address" },
		{ "addresss", "address" },
		{ "ADDRESS", "address" },
		{ "brigde", "bridge" },
		{ "nmae", "name" },
		{ "nta", "nat" },
		{ "own", "owner" },
		{ "pool_create", "pool create" },
		{ "zebra", NULL },
		{ "x", NULL },
		{ "", NULL },
		{ "completely-different-and-long-word-over-the-limit-of-sixty-four-bytes", NULL },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		const char *near = nearest_word(cases[i].typed, words);

		assert_string_equal(near ? near : "-", cases[i].near ? cases[i].near : "-");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_durations),
		cmocka_unit_test(test_sentences),
		cmocka_unit_test(test_exact_texts_read_back),
		cmocka_unit_test(test_texts_for_people),
		cmocka_unit_test(test_checked_arithmetic),
		cmocka_unit_test(test_nearest_word),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
