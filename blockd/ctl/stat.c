// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vdiskctl stat: how much each volume does, and how long its clients wait.
 *
 * blockd counts since it began: requests, bytes, and the times of requests in fine buckets. Without
 * --interval that is what is shown; with it, the difference of one answer and the next, as iostat
 * does, with the percentiles of just that time.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "blockd/ctl/vdiskctl.h"
#include "common/base/histogram.h"
#include "common/base/units.h"

#define INTERVAL_MS_MIN 100
#define INTERVAL_MS_MAX (24 * 3600 * 1000)

static const char *const kinds[] = { "read", "write", "flush", "other", NULL };
static const char *const totals[] = { "reads",	    "writes",	     "flushes", "others",
				      "read_bytes", "written_bytes", "errors",	NULL };

/* ---- one row ---- */

static json_int_t number(json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

/* Add blockd's buckets, [[END_NS, COUNT], ...], to a histogram, or take them off. */
static void histogram_take(struct histogram *h, json_t *buckets, bool subtract)
{
	json_t *pair;
	size_t i;

	json_array_foreach(buckets, i, pair)
	{
		json_t *end = json_array_get(pair, 0);
		uint64_t count = (uint64_t)json_integer_value(json_array_get(pair, 1));
		unsigned bucket = json_is_integer(end)
					  ? histogram_bucket((uint64_t)json_integer_value(end))
					  : HISTOGRAM_BUCKET_COUNT - 1;

		h->counts[bucket] += subtract ? -count : count;
	}
}

static void put_percentiles(json_t *row, const char *kind, json_t *now, json_t *before)
{
	static const struct {
		const char *name;
		double share;
	} all[] = { { "p50", 0.5 }, { "p99", 0.99 }, { "p999", 0.999 } };
	struct histogram h = { 0 };
	char key[32];

	histogram_take(&h, json_object_get(json_object_get(now, "latency"), kind), false);
	histogram_take(&h, json_object_get(json_object_get(before, "latency"), kind), true);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		uint64_t ns = histogram_quantile_ns(&h, all[i].share);

		snprintf(key, sizeof(key), "%s_%s_ns", kind, all[i].name);
		(void)json_object_set_new(row, key,
					  ns ? json_integer((json_int_t)ns) : json_null());
	}
}

/* `before`: NULL for all since blockd began. */
static json_t *make_row(json_t *now, json_t *before, double seconds)
{
	json_t *row = json_pack("{s:O, s:O, s:f}", "pool", json_object_get(now, "pool"), "name",
				json_object_get(now, "name"), "seconds", seconds);

	for (size_t i = 0; row && totals[i]; i++) {
		json_int_t done = number(now, totals[i]) - number(before, totals[i]);
		char rate[32];

		(void)json_object_set_new(row, totals[i], json_integer(done));
		snprintf(rate, sizeof(rate), "%s_per_s", totals[i]);
		(void)json_object_set_new(
			row, rate,
			json_integer(seconds > 0 ? (json_int_t)((double)done / seconds + 0.5) : 0));
	}
	for (size_t i = 0; row && kinds[i]; i++)
		put_percentiles(row, kinds[i], now, before);
	return row;
}

/* ---- a table of them ---- */

static json_t *find_volume(json_t *answer, json_t *like)
{
	json_t *volume;
	size_t i;

	json_array_foreach(json_object_get(answer, "volumes"), i, volume)
	{
		if (json_equal(json_object_get(volume, "pool"), json_object_get(like, "pool")) &&
		    json_equal(json_object_get(volume, "id"), json_object_get(like, "id")))
			return volume;
	}
	return NULL;
}

static json_t *make_rows(json_t *now, json_t *before)
{
	json_int_t ms = number(now, "uptime_ms") - number(before, "uptime_ms");
	json_t *rows = json_array(), *volume;
	size_t i;

	json_array_foreach(json_object_get(now, "volumes"), i, volume)(void) json_array_append_new(
		rows, make_row(volume, find_volume(before, volume), (double)ms / 1000));
	return rows;
}

/* The same columns for sums and for rates, with headers and members of their own. */
#define COLUMNS(name, suffix, header)                                                              \
	static const struct output_column name[] = {                                               \
		{ "pool", "POOL", OUTPUT_TEXT },                                                   \
		{ "name", "NAME", OUTPUT_TEXT },                                                   \
		{ "reads" suffix, "READS" header, OUTPUT_NUMBER },                                 \
		{ "read_bytes" suffix, "READ" header, OUTPUT_SIZE },                               \
		{ "read_p50_ns", "P50", OUTPUT_NANOSECONDS },                                      \
		{ "read_p99_ns", "P99", OUTPUT_NANOSECONDS },                                      \
		{ "writes" suffix, "WRITES" header, OUTPUT_NUMBER },                               \
		{ "written_bytes" suffix, "WRITTEN" header, OUTPUT_SIZE },                         \
		{ "write_p50_ns", "P50", OUTPUT_NANOSECONDS },                                     \
		{ "write_p99_ns", "P99", OUTPUT_NANOSECONDS },                                     \
		{ "flushes" suffix, "FLUSHES" header, OUTPUT_NUMBER },                             \
		{ "flush_p50_ns", "P50", OUTPUT_NANOSECONDS },                                     \
		{ "flush_p99_ns", "P99", OUTPUT_NANOSECONDS },                                     \
		{ "errors", "ERRORS", OUTPUT_NUMBER },                                             \
		{ 0 },                                                                             \
	}
COLUMNS(sum_columns, "", "");
COLUMNS(rate_columns, "_per_s", "/s");

static void show(struct cli *cli, json_t *now, json_t *before)
{
	json_t *rows = make_rows(now, before);

	if (output_is_json(cli->out)) {
		json_t *document = json_pack("{s:O}", "volumes", rows);

		output_json(cli->out, document);
		json_decref(document);
	} else {
		output_table(cli->out, rows, before ? rate_columns : sum_columns,
			     "no volume has been opened yet");
	}
	json_decref(rows);
}

/* ---- the verb ---- */

static int ask(struct cli *cli, json_t **ret)
{
	json_t *args = json_object();

	if (cli->argc > 0)
		(void)json_object_set_new(args, "volume", json_string(cli->argv[0]));
	return vdiskctl_ask(cli, "stat", args, ret);
}

static void pause_ms(uint64_t ms)
{
	struct timespec left = { .tv_sec = (time_t)(ms / 1000),
				 .tv_nsec = (long)(ms % 1000) * 1000000 };

	while (nanosleep(&left, &left) && errno == EINTR)
		;
}

/* `count` tables, one each `interval_ms`; 0: until the tool is stopped. */
static int watch(struct cli *cli, uint64_t interval_ms, uint64_t count)
{
	json_t *before, *now;
	int rc = ask(cli, &before);

	if (rc)
		return rc;
	for (uint64_t i = 0; i < count || count == 0; i++) {
		pause_ms(interval_ms);
		rc = ask(cli, &now);
		if (rc)
			break;
		if (i > 0)
			output_note(cli->out, "%s", "");
		show(cli, now, before);
		json_decref(before);
		before = now;
		if (output_finish(cli->out) < 0)
			break; /* said at the end */
	}
	json_decref(before);
	return rc;
}

int vdiskctl_stat(struct cli *cli)
{
	const char *interval = cli_option(cli, "interval"), *times = cli_option(cli, "count");
	uint64_t interval_ms = 1000, count = 0;
	struct err err = { 0 };
	json_t *answer;
	int rc = interval ? cli_parse_duration(cli, "--interval", interval, &interval_ms) : 0;

	if (rc)
		return rc;
	if (interval_ms < INTERVAL_MS_MIN || interval_ms > INTERVAL_MS_MAX)
		return cli_usage_error(cli, "--interval takes 100ms to 1d");
	if (times && number_parse(times, 1, UINT32_MAX, "a number of tables", &count, &err) < 0)
		return cli_usage_error(cli, "--count: %s", err.text);
	if (interval || times)
		return watch(cli, interval_ms, count);
	rc = ask(cli, &answer);
	if (rc)
		return rc;
	show(cli, answer, NULL);
	json_decref(answer);
	return CLI_OK;
}
