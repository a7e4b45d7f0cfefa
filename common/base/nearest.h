/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The known word nearest to what a person typed, for "did you mean". */
#ifndef COMMON_BASE_NEAREST_H
#define COMMON_BASE_NEAREST_H

#include <stddef.h>

/*
 * One search: feed every known word, then ask.  A word counts as near when its edit distance
 * (insert, delete, replace, swap of neighbours; case ignored) is at most a third of the longer
 * length, rounded up, or when one is a prefix of at least 3 letters of the other.  Keeps
 * pointers to the words fed.  O(len^2) for each word, no allocation; words over 64 bytes are far
 * from everything.
 */
struct nearest {
	const char *typed;
	const char *best; /* NULL: nothing is near */
	size_t best_distance;
};

void nearest_start(struct nearest *n, const char *typed) __attribute__((nonnull));
void nearest_feed(struct nearest *n, const char *word) __attribute__((nonnull));

/* The same over a NULL-terminated array; NULL when nothing is near. */
const char *nearest_word(const char *typed, const char *const *words) __attribute__((nonnull));

#endif
