/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Times in nanoseconds, counted in buckets that are an eighth of a power of two wide, from 128 ns
 * to 69 s: what a quantile says is at most an eighth off, and every power of two is a bucket's
 * end, so that coarser histograms come out exact.  Adding is a few instructions.  Not atomic: one
 * thread adds, and others get copies.
 *
 *	bucket 0		up to 128 ns
 *	bucket 1 + 8 e + s	up to 128 * 2^e * (1 + (s + 1) / 8) ns, s = 0 ... 7
 *	the last		more
 */
#ifndef COMMON_BASE_HISTOGRAM_H
#define COMMON_BASE_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_LOW_BITS  7  /* 128 ns */
#define HISTOGRAM_HIGH_BITS 36 /* 69 s */
#define HISTOGRAM_SUB_BITS  3
#define HISTOGRAM_BUCKET_COUNT                                                                     \
	(2u + ((unsigned)(HISTOGRAM_HIGH_BITS - HISTOGRAM_LOW_BITS) << HISTOGRAM_SUB_BITS))

struct histogram {
	uint64_t counts[HISTOGRAM_BUCKET_COUNT];
	uint64_t sum_ns;
};

/* The bucket that counts `ns`. */
static inline unsigned histogram_bucket(uint64_t ns)
{
	uint64_t n = ns ? ns - 1 : 0; /* ends belong to their bucket */
	unsigned bits;

	if (n >> HISTOGRAM_LOW_BITS == 0)
		return 0;
	bits = 63u - (unsigned)__builtin_clzll(n);
	if (bits >= HISTOGRAM_HIGH_BITS)
		return HISTOGRAM_BUCKET_COUNT - 1;
	return 1 + ((bits - HISTOGRAM_LOW_BITS) << HISTOGRAM_SUB_BITS) +
	       (unsigned)(n >> (bits - HISTOGRAM_SUB_BITS) & ((1u << HISTOGRAM_SUB_BITS) - 1));
}

static inline void histogram_add(struct histogram *h, uint64_t ns)
{
	h->counts[histogram_bucket(ns)]++;
	h->sum_ns += ns;
}

/* The longest time that a bucket counts; UINT64_MAX for the last. */
uint64_t histogram_end_ns(unsigned bucket);
uint64_t histogram_count(const struct histogram *h);
/* How many took no longer than 2^bits ns; exact for HISTOGRAM_LOW_BITS to HISTOGRAM_HIGH_BITS. */
uint64_t histogram_count_to(const struct histogram *h, unsigned bits);
/* The time within which the share `q` (0 to 1) of them were done, 0 when there are none. */
uint64_t histogram_quantile_ns(const struct histogram *h, double q);

#endif
