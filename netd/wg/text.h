/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A growing text that may hold keys: what it grows out of is zeroed, and so is its end. */
#ifndef NETD_WG_TEXT_H
#define NETD_WG_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All zero is an empty one. */
struct wg_text {
	char *data; /* ends with a NUL once there is something in it */
	size_t len, size;
	bool failed; /* out of memory: nothing is appended any more */
};

void wg_text_add(struct wg_text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void wg_text_add_bytes(struct wg_text *t, const void *data, size_t len) __attribute__((nonnull));
void wg_text_add_hex(struct wg_text *t, const char *key, const uint8_t *bytes, size_t len)
	__attribute__((nonnull)); /* "KEY=HEX\n" */
/* Drop the first `len` bytes. */
void wg_text_drop(struct wg_text *t, size_t len) __attribute__((nonnull));
void wg_text_clear(struct wg_text *t) __attribute__((nonnull));

/* Exactly `len` bytes from 2 * len hex digits. */
bool wg_hex_parse(const char *hex, uint8_t *ret, size_t len) __attribute__((nonnull));

#endif
