/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Metrics in OpenMetrics text.
 *
 * Two halves.  Values live where they are counted: struct metric_counter and so on are plain
 * memory of their owner, any thread adds (relaxed atomics, no locks, no allocation).  At a scrape
 * the registry calls its collectors, each of which writes families of samples:
 *
 *	static void collect(struct metrics_writer *w, void *ctx)
 *	{
 *		metrics_family(w, "blockd_volume_read_bytes", METRICS_COUNTER, "Bytes read.");
 *		for each volume v
 *			metrics_u64(w, counter_get(&v->read_bytes), "volume", v->name, NULL);
 *	}
 *
 * Names end in their unit (bytes, seconds, ratio) or count things (plural) and hold [a-z0-9_];
 * "_total" of counters is added here.  Each family must be written once and in one piece
 * (asserted), which OpenMetrics demands.  Label values are escaped.
 */
#ifndef COMMON_DAEMON_METRICS_H
#define COMMON_DAEMON_METRICS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/histogram.h"

struct metric_counter {
	_Atomic uint64_t value;
};

static inline void metric_add(struct metric_counter *c, uint64_t n)
{
	atomic_fetch_add_explicit(&c->value, n, memory_order_relaxed);
}

static inline uint64_t metric_get(const struct metric_counter *c)
{
	return atomic_load_explicit(&c->value, memory_order_relaxed);
}

enum metrics_type {
	METRICS_COUNTER,
	METRICS_GAUGE,
	METRICS_HISTOGRAM, /* of seconds: the name must end in _seconds */
};

struct metrics;
struct metrics_writer;

struct metrics *metrics_new(void); /* NULL: no memory */
void metrics_free(struct metrics *m);
/* Up to 64; called in this order.  0 or -ENOSPC. */
int metrics_add(struct metrics *m, void (*collect)(struct metrics_writer *w, void *ctx), void *ctx)
	__attribute__((warn_unused_result));
/* Run all collectors.  The text is the caller's to free(); NULL: no memory. */
char *metrics_scrape(struct metrics *m);

/* ---- for collectors ---- */

void metrics_family(struct metrics_writer *w, const char *name, enum metrics_type type,
		    const char *help);
/* One sample of the current family; label names and values in turn, then NULL. */
void metrics_u64(struct metrics_writer *w, uint64_t value, ...) __attribute__((sentinel));
void metrics_double(struct metrics_writer *w, double value, ...) __attribute__((sentinel));
/* Times as seconds, with a bucket for every power of two from METRICS_BUCKET_FIRST (1 us) to
 * METRICS_BUCKET_LAST (17 s). */
#define METRICS_BUCKET_FIRST 10
#define METRICS_BUCKET_LAST  34
void metrics_histogram(struct metrics_writer *w, const struct histogram *h, ...)
	__attribute__((sentinel));
/* process_* of this process: memory, processor time, descriptors; pass it to metrics_add(). */
void metrics_collect_process(struct metrics_writer *w, void *ctx);

#endif
