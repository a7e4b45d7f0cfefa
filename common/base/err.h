/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An error with its context: a sentence for a person and an errno for the code.
 *
 * A function that can fail for a reason worth a sentence takes a `struct err *` as its last
 * argument, may be given NULL, returns a negative errno and leaves the text in the struct.  The
 * innermost function sets it; each caller may put what it was doing in front, so that the whole
 * reads as a chain: "pool main: superblock: crc differs".
 */
#ifndef COMMON_BASE_ERR_H
#define COMMON_BASE_ERR_H

#include <stdarg.h>

#define ERR_TEXT_MAX 512

struct err {
	int code; /* a negative errno, 0 while nothing is set */
	char text[ERR_TEXT_MAX];
};

/* Set the text and return `code`, which is a negative errno.  `e` may be NULL. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* As err_set(), with ": <strerror>" behind the text. */
int err_sys(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Put "<text>: " in front of what is there; returns the code that is there. `e` may be NULL. */
int err_context(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
