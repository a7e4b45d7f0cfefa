/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A bounds-checked reader over bytes from disk, wire or kernel.
 *
 * The error is sticky: a read past the end returns 0 (or NULL), moves to the end and makes every
 * later read fail as well, so a decoder reads all its fields and asks cursor_ok() once.  Nothing
 * is copied: pointers returned point into the caller's buffer.  One thread, no allocation.
 */
#ifndef COMMON_BASE_CURSOR_H
#define COMMON_BASE_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/base/bytes.h"

struct cursor {
	const uint8_t *at;
	const uint8_t *end;
	bool failed;
};

static inline struct cursor cursor_over(const void *data, size_t len)
{
	const uint8_t *p = (const uint8_t *)data;

	return (struct cursor){ .at = p, .end = p ? p + len : p };
}

static inline bool cursor_ok(const struct cursor *c)
{
	return !c->failed;
}

static inline size_t cursor_left(const struct cursor *c)
{
	return (size_t)(c->end - c->at);
}

/* True when everything was read and nothing failed: for messages of an exact length. */
static inline bool cursor_done(const struct cursor *c)
{
	return !c->failed && c->at == c->end;
}

/* The next `len` bytes, NULL when there are fewer. */
static inline const void *cursor_bytes(struct cursor *c, size_t len)
{
	const uint8_t *p = c->at;

	if (c->failed || len > cursor_left(c)) {
		c->failed = true;
		c->at = c->end;
		return NULL;
	}
	c->at += len;
	return p;
}

static inline bool cursor_skip(struct cursor *c, size_t len)
{
	cursor_bytes(c, len);
	return !c->failed;
}

/* Copy the next `len` bytes; on failure `to` is zeroed. */
static inline bool cursor_copy(struct cursor *c, void *to, size_t len)
{
	const void *p = cursor_bytes(c, len);

	if (p && len)
		memcpy(to, p, len);
	else if (len)
		memset(to, 0, len);
	return !c->failed;
}

/* A cursor of its own over the next `len` bytes; on failure it is empty and failed too. */
static inline struct cursor cursor_sub(struct cursor *c, size_t len)
{
	const void *p = cursor_bytes(c, len);
	struct cursor sub = cursor_over(p, p ? len : 0);

	sub.failed = c->failed;
	return sub;
}

/* Skip to a multiple of `align` (a power of two) counted from `start`; a short end is the end. */
static inline void cursor_align(struct cursor *c, const void *start, size_t align)
{
	size_t used = (size_t)(c->at - (const uint8_t *)start);
	size_t pad = (align - used % align) % align;

	c->at += pad < cursor_left(c) ? pad : cursor_left(c);
}

static inline uint8_t cursor_u8(struct cursor *c)
{
	const uint8_t *p = (const uint8_t *)cursor_bytes(c, 1);

	return p ? *p : 0;
}

#define CURSOR_READ(order, bits)                                                                   \
	static inline uint##bits##_t cursor_##order##bits(struct cursor *c)                        \
	{                                                                                          \
		order##bits##_t v;                                                                 \
		cursor_copy(c, v.b, sizeof(v.b));                                                  \
		return order##bits##_get(v);                                                       \
	}

CURSOR_READ(le, 16)
CURSOR_READ(le, 32)
CURSOR_READ(le, 64)
CURSOR_READ(be, 16)
CURSOR_READ(be, 32)
CURSOR_READ(be, 64)
#undef CURSOR_READ

/*
 * A string of exactly `len` bytes into `buf` with a NUL behind it.  Fails (and leaves "") when
 * bytes are missing, it does not fit into `size`, or it holds a NUL.
 */
static inline bool cursor_string(struct cursor *c, size_t len, char *buf, size_t size)
{
	const char *p = (const char *)cursor_bytes(c, len);

	buf[0] = '\0';
	if (!p)
		return false;
	if (len >= size || memchr(p, 0, len)) {
		c->failed = true;
		c->at = c->end;
		return false;
	}
	memcpy(buf, p, len);
	buf[len] = '\0';
	return true;
}

#endif
