/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * OpenMetrics text; see metrics.h.  Source: the OpenMetrics 1.0 specification (families in one
 * piece, "_total" for counters, "_bucket", "_sum" and "_count" for histograms with cumulative
 * buckets, UNIT lines that the name ends in, "# EOF" last).
 */
#include "common/daemon/metrics.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define COLLECTOR_MAX 64
#define FAMILY_MAX    512
#define NAME_MAX_LEN  96

struct metrics {
	struct {
		void (*collect)(struct metrics_writer *w, void *ctx);
		void *ctx;
	} collectors[COLLECTOR_MAX];
	size_t count;
};

struct metrics_writer {
	FILE *f;
	char family[NAME_MAX_LEN];
	enum metrics_type type;
	char seen[FAMILY_MAX][NAME_MAX_LEN];
	size_t seen_count;
};

struct metrics *metrics_new(void)
{
	return calloc(1, sizeof(struct metrics));
}

void metrics_free(struct metrics *m)
{
	free(m);
}

int metrics_add(struct metrics *m, void (*collect)(struct metrics_writer *w, void *ctx), void *ctx)
{
	if (m->count == COLLECTOR_MAX)
		return -ENOSPC;
	m->collectors[m->count].collect = collect;
	m->collectors[m->count++].ctx = ctx;
	return 0;
}

char *metrics_scrape(struct metrics *m)
{
	struct metrics_writer *w = calloc(1, sizeof(*w));
	char *text = NULL;
	size_t len;

	if (!w)
		return NULL;
	w->f = open_memstream(&text, &len);
	if (!w->f) {
		free(w);
		return NULL;
	}
	for (size_t i = 0; i < m->count; i++)
		m->collectors[i].collect(w, m->collectors[i].ctx);
	fputs("# EOF\n", w->f);
	if (fclose(w->f)) {
		free(text);
		text = NULL;
	}
	free(w);
	return text;
}

/* ---- families ---- */

static bool ends_with(const char *text, const char *end)
{
	size_t len = strlen(text), end_len = strlen(end);

	return len > end_len && !strcmp(text + len - end_len, end);
}

/* In HELP and label values: \ and newline, and " in values. */
static void put_escaped(FILE *f, const char *text, bool quote)
{
	for (; *text; text++) {
		if (*text == '\n')
			fputs("\\n", f);
		else if (*text == '\\' || (*text == '"' && quote))
			fprintf(f, "\\%c", *text);
		else
			putc(*text, f);
	}
}

void metrics_family(struct metrics_writer *w, const char *name, enum metrics_type type,
		    const char *help)
{
	static const char *const type_names[] = { "counter", "gauge", "histogram" };
	static const char *const units[] = { "bytes", "seconds", "ratio" };

	assert(strlen(name) < NAME_MAX_LEN && !ends_with(name, "_total"));
	assert(name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_")] == '\0');
	assert(type != METRICS_HISTOGRAM || ends_with(name, "_seconds"));
	assert(w->seen_count < FAMILY_MAX);
	for (size_t i = 0; i < w->seen_count; i++)
		assert(strcmp(w->seen[i], name) != 0);
	strcpy(w->seen[w->seen_count++], name);
	strcpy(w->family, name);
	w->type = type;
	fprintf(w->f, "# TYPE %s %s\n", name, type_names[type]);
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		char end[16];

		snprintf(end, sizeof(end), "_%s", units[i]);
		if (ends_with(name, end))
			fprintf(w->f, "# UNIT %s %s\n", name, units[i]);
	}
	fprintf(w->f, "# HELP %s ", name);
	put_escaped(w->f, help, true);
	putc('\n', w->f);
}

/* Labels in turn, then `extra` ("le=\"...\"") if it is not NULL. */
static void put_labels(FILE *f, va_list ap, const char *extra)
{
	const char *name;
	bool any = false;

	while ((name = va_arg(ap, const char *))) {
		fprintf(f, "%s%s=\"", any ? "," : "{", name);
		put_escaped(f, va_arg(ap, const char *), true);
		putc('"', f);
		any = true;
	}
	if (extra) {
		fprintf(f, "%s%s", any ? "," : "{", extra);
		any = true;
	}
	if (any)
		putc('}', f);
}

static void put_sample_head(struct metrics_writer *w, va_list ap)
{
	assert(w->family[0] && w->type != METRICS_HISTOGRAM);
	fprintf(w->f, "%s%s", w->family, w->type == METRICS_COUNTER ? "_total" : "");
	put_labels(w->f, ap, NULL);
}

void metrics_u64(struct metrics_writer *w, uint64_t value, ...)
{
	va_list ap;

	va_start(ap, value);
	put_sample_head(w, ap);
	va_end(ap);
	fprintf(w->f, " %" PRIu64 "\n", value);
}

void metrics_double(struct metrics_writer *w, double value, ...)
{
	va_list ap;

	va_start(ap, value);
	put_sample_head(w, ap);
	va_end(ap);
	fprintf(w->f, " %.9g\n", value);
}

void metrics_histogram(struct metrics_writer *w, const struct histogram *h, ...)
{
	uint64_t count = histogram_count(h);
	va_list ap, again;

	assert(w->type == METRICS_HISTOGRAM);
	va_start(ap, h);
	for (unsigned bits = METRICS_BUCKET_FIRST; bits <= METRICS_BUCKET_LAST + 1; bits++) {
		bool last = bits > METRICS_BUCKET_LAST;
		char le[40] = "le=\"+Inf\"";

		if (!last)
			snprintf(le, sizeof(le), "le=\"%.9g\"",
				 (double)(UINT64_C(1) << bits) / 1e9);
		fprintf(w->f, "%s_bucket", w->family);
		va_copy(again, ap);
		put_labels(w->f, again, le);
		va_end(again);
		fprintf(w->f, " %" PRIu64 "\n", last ? count : histogram_count_to(h, bits));
	}
	fprintf(w->f, "%s_count", w->family);
	va_copy(again, ap);
	put_labels(w->f, again, NULL);
	va_end(again);
	fprintf(w->f, " %" PRIu64 "\n%s_sum", count, w->family);
	put_labels(w->f, ap, NULL);
	va_end(ap);
	fprintf(w->f, " %.9g\n", (double)h->sum_ns / 1e9);
}

/* ---- this process ---- */

static unsigned count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	if (!dir)
		return 0;
	while (readdir(dir))
		n++;
	closedir(dir);
	return n > 3 ? n - 3 : 0; /* without ".", ".." and the folder's own */
}

void metrics_collect_process(struct metrics_writer *w, void *ctx)
{
	unsigned long long pages = 0, resident = 0;
	struct rusage usage;
	FILE *f = fopen("/proc/self/statm", "r");

	if (f) {
		if (fscanf(f, "%llu %llu", &pages, &resident) != 2)
			resident = 0;
		fclose(f);
	}
	getrusage(RUSAGE_SELF, &usage);
	metrics_family(w, "process_resident_memory_bytes", METRICS_GAUGE, "Memory in use.");
	metrics_u64(w, resident * (uint64_t)sysconf(_SC_PAGESIZE), NULL);
	metrics_family(w, "process_cpu_seconds", METRICS_COUNTER, "Processor time spent.");
	metrics_double(w,
		       (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
			       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6,
		       NULL);
	metrics_family(w, "process_open_fds", METRICS_GAUGE, "Open descriptors.");
	metrics_u64(w, count_fds(), NULL);
}
