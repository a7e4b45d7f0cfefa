/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Latencies: 64 steps in each power of two of nanoseconds, so within 1.6 %.
 */
#ifndef TESTS_BENCH_HISTOGRAM_H
#define TESTS_BENCH_HISTOGRAM_H

#include <stdint.h>

#define STEP_BITS 6u
#define STEPS	  (1u << STEP_BITS)

struct histogram {
	uint64_t count, max;
	uint64_t bucket[(64 - STEP_BITS) * STEPS];
};

static inline void histogram_add(struct histogram *h, uint64_t ns)
{
	unsigned shift = 0;

	while (ns >> shift >= 2 * STEPS)
		shift++;
	h->bucket[shift * STEPS + (ns >> shift)]++;
	h->count++;
	if (ns > h->max)
		h->max = ns;
}

/* What `share` of them took at most. */
static inline double histogram_us(const struct histogram *h, double share)
{
	uint64_t wanted = (uint64_t)((double)h->count * share), seen = 0, step;
	unsigned i;

	for (i = 0; i < sizeof(h->bucket) / sizeof(h->bucket[0]); i++) {
		seen += h->bucket[i];
		if (seen <= wanted)
			continue;
		if (i < 2 * STEPS)
			return i / 1e3;
		step = i / STEPS - 1;
		return (double)((uint64_t)(i - step * STEPS) << step) / 1e3;
	}
	return (double)h->max / 1e3;
}

#endif
