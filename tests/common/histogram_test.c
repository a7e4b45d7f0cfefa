// SPDX-License-Identifier: GPL-2.0-or-later
/* Histograms of times: buckets, their ends, quantiles. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/histogram.h"

static void test_ends(void **state)
{
	for (unsigned i = 0; i + 1 < HISTOGRAM_BUCKET_COUNT; i++) {
		uint64_t end = histogram_end_ns(i);

		assert_int_equal(histogram_bucket(end), i);
		assert_int_equal(histogram_bucket(end + 1), i + 1);
	}
	assert_int_equal(histogram_bucket(0), 0);
	assert_int_equal(histogram_bucket(128), 0);
	assert_int_equal(histogram_end_ns(HISTOGRAM_BUCKET_COUNT - 2), UINT64_C(1) << 36);
	assert_int_equal(histogram_bucket(UINT64_MAX), HISTOGRAM_BUCKET_COUNT - 1);
	assert_true(histogram_end_ns(HISTOGRAM_BUCKET_COUNT - 1) == UINT64_MAX);
}

/* No bucket but the first is wider than an eighth of where it begins. */
static void test_widths(void **state)
{
	for (unsigned i = 1; i + 1 < HISTOGRAM_BUCKET_COUNT; i++) {
		uint64_t begin = histogram_end_ns(i - 1), end = histogram_end_ns(i);

		assert_true(end > begin && (end - begin) * 8 <= begin);
	}
}

static void test_counts(void **state)
{
	static struct histogram h;

	memset(&h, 0, sizeof(h));
	assert_int_equal(histogram_quantile_ns(&h, 0.5), 0);
	for (unsigned bits = HISTOGRAM_LOW_BITS; bits <= 36; bits++) {
		histogram_add(&h, UINT64_C(1) << bits);
		histogram_add(&h, (UINT64_C(1) << bits) + 1);
	}
	assert_int_equal(histogram_count(&h), 60);
	for (unsigned bits = HISTOGRAM_LOW_BITS; bits <= 36; bits++)
		assert_int_equal(histogram_count_to(&h, bits), 2 * (bits - HISTOGRAM_LOW_BITS) + 1);
}

/* 1 us, 2 us ... 10 ms: what each quantile says is within an eighth of the truth. */
static void test_quantiles(void **state)
{
	static struct histogram h;
	static const double shares[] = { 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 1 };

	memset(&h, 0, sizeof(h));
	for (uint64_t us = 1; us <= 10000; us++)
		histogram_add(&h, us * 1000);
	for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
		double want = shares[i] * 10e6;
		double got = (double)histogram_quantile_ns(&h, shares[i]);

		assert_true(got > want * 0.875 && got < want * 1.125);
	}
	assert_int_equal(h.sum_ns, UINT64_C(10000) * 10001 / 2 * 1000);
	memset(&h, 0, sizeof(h));
	histogram_add(&h, UINT64_MAX / 2);
	assert_int_equal(histogram_quantile_ns(&h, 0.99), UINT64_C(1) << 36);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_widths),
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_quantiles),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
