/* SPDX-License-Identifier: GPL-2.0-or-later */
/* OpenMetrics text: types, units, escaping, histograms, one EOF. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/daemon/metrics.h"

static struct metric_counter reads;
static struct histogram latency;

static void collect(struct metrics_writer *w, void *ctx)
{
	metrics_family(w, "demo_read_bytes", METRICS_COUNTER, "Bytes \"read\"\nand back\\slash.");
	metrics_u64(w, metric_get(&reads), "volume", "db\"1\\\n", "pool", "main", NULL);
	metrics_u64(w, UINT64_MAX, NULL);
	metrics_family(w, "demo_fill_ratio", METRICS_GAUGE, "How full.");
	metrics_double(w, 0.25, NULL);
	metrics_family(w, "demo_wait_seconds", METRICS_HISTOGRAM, "Waiting.");
	metrics_histogram(w, &latency, "volume", "v", NULL);
}

static void test_text(void **state)
{
	struct metrics *m = metrics_new();
	char *text, *at;

	metric_add(&reads, 5);
	histogram_add(&latency, 0);
	histogram_add(&latency, 1024);
	histogram_add(&latency, 1025);
	histogram_add(&latency, 5000000000);
	histogram_add(&latency, 100000000000);
	assert_int_equal(metrics_add(m, collect, NULL), 0);
	text = metrics_scrape(m);
	at = strstr(text, "# TYPE demo_wait_seconds");
	assert_non_null(at);
	assert_memory_equal(text,
			    "# TYPE demo_read_bytes counter\n"
			    "# UNIT demo_read_bytes bytes\n"
			    "# HELP demo_read_bytes Bytes \\\"read\\\"\\nand back\\\\slash.\n"
			    "demo_read_bytes_total{volume=\"db\\\"1\\\\\\n\",pool=\"main\"} 5\n"
			    "demo_read_bytes_total 18446744073709551615\n"
			    "# TYPE demo_fill_ratio gauge\n"
			    "# UNIT demo_fill_ratio ratio\n"
			    "# HELP demo_fill_ratio How full.\n"
			    "demo_fill_ratio 0.25\n",
			    (size_t)(at - text));
	assert_non_null(
		strstr(at, "\ndemo_wait_seconds_bucket{volume=\"v\",le=\"4.096e-06\"} 3\n"));
	assert_non_null(strstr(at, "_bucket{volume=\"v\",le=\"17.1798692\"} 4\n"));
	assert_non_null(strstr(at, "_bucket{volume=\"v\",le=\"+Inf\"} 5\n"));
	assert_non_null(strstr(at, "\ndemo_wait_seconds_count{volume=\"v\"} 5\n"));
	assert_non_null(strstr(at, "\ndemo_wait_seconds_sum{volume=\"v\"} 105.000002\n"));
	assert_string_equal(text + strlen(text) - 6, "# EOF\n");
	assert_ptr_equal(strstr(text, "# EOF"), text + strlen(text) - 6);
	free(text);
	metrics_free(m);
}

static void test_process(void **state)
{
	struct metrics *m = metrics_new();
	char *text, *at;

	assert_int_equal(metrics_add(m, metrics_collect_process, NULL), 0);
	text = metrics_scrape(m);
	at = strstr(text, "\nprocess_resident_memory_bytes ");
	assert_non_null(at);
	assert_true(atoll(at + strlen("\nprocess_resident_memory_bytes ")) > 100000);
	assert_non_null(strstr(text, "\nprocess_cpu_seconds_total "));
	at = strstr(text, "\nprocess_open_fds ");
	assert_true(atoi(at + strlen("\nprocess_open_fds ")) >= 3);
	free(text);
	for (int i = 1; i < 64; i++)
		assert_int_equal(metrics_add(m, collect, NULL), 0);
	assert_int_equal(metrics_add(m, collect, NULL), -ENOSPC);
	metrics_free(m);
}

static void *count_up(void *arg)
{
	for (int i = 0; i < 100000; i++)
		metric_add(arg, 1);
	return NULL;
}

static void test_threads(void **state)
{
	struct metric_counter c = { 0 };
	pthread_t t[4];

	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, count_up, &c), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(metric_get(&c), 400000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_process),
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
