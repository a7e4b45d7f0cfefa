/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A seeded generator (splitmix64) and the 64-bit mixing the tests hash with. */
#ifndef TESTS_LIB_RNG_H
#define TESTS_LIB_RNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct rng {
	uint64_t state;
};

static inline uint64_t rng_mix(uint64_t z)
{
	z += 0x9e3779b97f4a7c15u;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static inline uint64_t rng_next(struct rng *r)
{
	r->state += 0x9e3779b97f4a7c15u;
	return rng_mix(r->state);
}

/* 0 .. n-1 */
static inline uint64_t rng_below(struct rng *r, uint64_t n)
{
	return n ? rng_next(r) % n : 0;
}

static inline bool rng_percent(struct rng *r, unsigned percent)
{
	return rng_below(r, 100) < percent;
}

/* A hash of `len` bytes, a multiple of 32. */
static inline uint64_t rng_hash(const void *data, size_t len)
{
	const uint64_t *p = data;
	uint64_t a = 1, b = 2, c = 3, d = 4;

	for (size_t i = 0; i < len / 32; i++, p += 4) {
		a = (a ^ p[0]) * 0x9fb21c651e98df25u;
		b = (b ^ p[1]) * 0x9fb21c651e98df25u;
		c = (c ^ p[2]) * 0x9fb21c651e98df25u;
		d = (d ^ p[3]) * 0x9fb21c651e98df25u;
		a ^= a >> 29;
		b ^= b >> 29;
		c ^= c >> 29;
		d ^= d >> 29;
	}
	return rng_mix(rng_mix(rng_mix(rng_mix(a) ^ b) ^ c) ^ d);
}

#endif
