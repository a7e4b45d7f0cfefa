/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sizes and durations as people write them: "10G", "64M", "5s", "120ms", "1h30m".
 *
 * Size: digits and at most one unit of K M G T P E (powers of 1024; "KiB", "MiB" ... and small
 * letters mean the same; "B" or nothing means bytes).  "KB" is refused, since half the world means
 * 1000 by it.  Duration: digits and a unit of ms s m h d, several in a row add up; a plain number
 * is refused unless it is 0, because nobody remembers the unit.  No sign, no space, no fraction.
 *
 * The parsers return 0, -EINVAL (not of that form) or -ERANGE (does not fit), with a sentence
 * "found ..., expected ..." in `err`, and leave *ret alone on failure.  Any thread.
 */
#ifndef COMMON_BASE_UNITS_H
#define COMMON_BASE_UNITS_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

#define UNITS_TEXT_MAX 32 /* enough for every text below, with its NUL */

#define UNITS_CHECKED __attribute__((warn_unused_result, nonnull(1, 2)))

int size_parse(const char *text, uint64_t *ret_bytes, struct err *err) UNITS_CHECKED;
int duration_parse(const char *text, uint64_t *ret_ms, struct err *err) UNITS_CHECKED;

/* A plain decimal number within [min, max]; `what` names it in the error ("a VLAN id"). */
int number_parse(const char *text, uint64_t min, uint64_t max, const char *what,
		 uint64_t *ret_number, struct err *err)
	__attribute__((warn_unused_result, nonnull(1, 5)));

/*
 * Exact text that the parser above reads back as the same value: the largest unit that divides
 * it ("64G", "1536M", "1000").  Writes into `buf` (UNITS_TEXT_MAX bytes) and returns it.
 */
char *size_format(uint64_t bytes, char *buf) __attribute__((nonnull));
char *duration_format(uint64_t ms, char *buf) __attribute__((nonnull));

/* Rounded text for people: "1.5 GiB", "512 B"; "2h 5m", "3.2 s", "120 ms". */
char *size_format_human(uint64_t bytes, char *buf) __attribute__((nonnull));
char *duration_format_human(uint64_t ms, char *buf) __attribute__((nonnull));

#undef UNITS_CHECKED
#endif
