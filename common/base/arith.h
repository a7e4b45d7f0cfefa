/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Overflow-checked arithmetic for sizes that come from outside.  Each function returns true when
 * the result fits and then stores it; on overflow it returns false and leaves *ret alone.
 */
#ifndef COMMON_BASE_ARITH_H
#define COMMON_BASE_ARITH_H

#include <stdbool.h>
#include <stdint.h>

#define ARITH_CHECKED __attribute__((warn_unused_result, nonnull))

ARITH_CHECKED static inline bool arith_add_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
	uint64_t r;

	if (__builtin_add_overflow(a, b, &r))
		return false;
	*ret = r;
	return true;
}

ARITH_CHECKED static inline bool arith_mul_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
	uint64_t r;

	if (__builtin_mul_overflow(a, b, &r))
		return false;
	*ret = r;
	return true;
}

/* Round up to a multiple of `unit`, which is not 0. */
ARITH_CHECKED static inline bool arith_round_up_u64(uint64_t v, uint64_t unit, uint64_t *ret)
{
	uint64_t rest = v % unit;

	if (!rest) {
		*ret = v;
		return true;
	}
	return arith_add_u64(v, unit - rest, ret);
}

/* Does [offset, offset + len) lie within [0, limit)?  An empty range at `limit` does. */
static inline bool arith_range_fits(uint64_t offset, uint64_t len, uint64_t limit)
{
	return offset <= limit && len <= limit - offset;
}

#undef ARITH_CHECKED
#endif
