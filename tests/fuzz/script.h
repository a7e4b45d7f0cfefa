/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A fuzzer's input as a script: small numbers, one after the other, with which a target decides
 * what the peer does next.  Behind its end all numbers are 0.
 */
#ifndef TESTS_FUZZ_SCRIPT_H
#define TESTS_FUZZ_SCRIPT_H

#include <stddef.h>
#include <stdint.h>

struct script {
	const uint8_t *at;
	size_t left;
};

static inline unsigned script_byte(struct script *s)
{
	if (!s->left)
		return 0;
	s->left--;
	return *s->at++;
}

static inline unsigned script_below(struct script *s, unsigned n)
{
	return script_byte(s) % n;
}

static inline uint32_t script_u16(struct script *s)
{
	uint32_t high = script_byte(s);

	return high << 8 | script_byte(s);
}

/* Up to `len` bytes as they are; how many in `ret_len`. */
static inline const uint8_t *script_bytes(struct script *s, size_t len, size_t *ret_len)
{
	const uint8_t *at = s->at;

	*ret_len = len < s->left ? len : s->left;
	s->at += *ret_len;
	s->left -= *ret_len;
	return at;
}

#endif
