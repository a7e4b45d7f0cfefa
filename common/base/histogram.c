// SPDX-License-Identifier: GPL-2.0-or-later
/* Histograms of times; see histogram.h. */
#include "common/base/histogram.h"

#define SUB_COUNT (1u << HISTOGRAM_SUB_BITS)

uint64_t histogram_end_ns(unsigned bucket)
{
	unsigned bits, sub;

	if (bucket == 0)
		return UINT64_C(1) << HISTOGRAM_LOW_BITS;
	if (bucket >= HISTOGRAM_BUCKET_COUNT - 1)
		return UINT64_MAX;
	bits = HISTOGRAM_LOW_BITS + (bucket - 1) / SUB_COUNT;
	sub = (bucket - 1) % SUB_COUNT;
	return (UINT64_C(1) << bits) + ((uint64_t)(sub + 1) << (bits - HISTOGRAM_SUB_BITS));
}

uint64_t histogram_count(const struct histogram *h)
{
	uint64_t count = 0;

	for (unsigned i = 0; i < HISTOGRAM_BUCKET_COUNT; i++)
		count += h->counts[i];
	return count;
}

uint64_t histogram_count_to(const struct histogram *h, unsigned bits)
{
	unsigned end = histogram_bucket(UINT64_C(1) << bits);
	uint64_t count = 0;

	for (unsigned i = 0; i <= end; i++)
		count += h->counts[i];
	return count;
}

/* Within a bucket times are taken to be spread evenly; the last has no end to spread to. */
uint64_t histogram_quantile_ns(const struct histogram *h, double q)
{
	double rank = q * (double)histogram_count(h), before = 0;
	uint64_t begin = 0, end = 0;

	for (unsigned i = 0; i < HISTOGRAM_BUCKET_COUNT; i++) {
		double here = (double)h->counts[i];

		begin = end;
		end = histogram_end_ns(i);
		if (here == 0 || before + here < rank) {
			before += here;
			continue;
		}
		if (end == UINT64_MAX)
			return begin;
		return begin + (uint64_t)((double)(end - begin) * (rank - before) / here);
	}
	return 0;
}
