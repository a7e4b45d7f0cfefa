/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Nearest word by optimal-string-alignment distance; see nearest.h.  Any thread. */
#include "common/base/nearest.h"

#include <ctype.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#define WORD_MAX 64

static uint8_t fold(char c)
{
	return c == '_' ? '-' : (uint8_t)tolower((unsigned char)c);
}

static size_t min3(size_t a, size_t b, size_t c)
{
	size_t m = a < b ? a : b;

	return m < c ? m : c;
}

/* Three rows of the classic table suffice: the one in work and two above (for swaps). */
static size_t distance(const char *a, size_t alen, const char *b, size_t blen)
{
	uint8_t rows[3][WORD_MAX + 1];
	uint8_t *above2 = rows[0], *above = rows[1], *row = rows[2];

	for (size_t j = 0; j <= blen; j++)
		above[j] = (uint8_t)j;
	for (size_t i = 1; i <= alen; i++) {
		uint8_t *tmp;

		row[0] = (uint8_t)i;
		for (size_t j = 1; j <= blen; j++) {
			size_t differs = fold(a[i - 1]) != fold(b[j - 1]);
			size_t d = min3(above[j] + 1u, row[j - 1] + 1u, above[j - 1] + differs);

			if (i > 1 && j > 1 && fold(a[i - 1]) == fold(b[j - 2]) &&
			    fold(a[i - 2]) == fold(b[j - 1]) && above2[j - 2] + 1u < d)
				d = above2[j - 2] + 1u;
			row[j] = (uint8_t)d;
		}
		tmp = above2;
		above2 = above;
		above = row;
		row = tmp;
	}
	return above[blen];
}

void nearest_start(struct nearest *n, const char *typed)
{
	n->typed = typed;
	n->best = NULL;
	n->best_distance = SIZE_MAX;
}

void nearest_feed(struct nearest *n, const char *word)
{
	size_t tlen = strlen(n->typed), wlen = strlen(word);
	size_t longer = tlen > wlen ? tlen : wlen, shorter = tlen > wlen ? wlen : tlen;
	size_t d;

	if (!tlen || longer > WORD_MAX)
		return;
	d = distance(n->typed, tlen, word, wlen);
	if (d > (longer + 2) / 3 && !(shorter >= 3 && !strncasecmp(n->typed, word, shorter)))
		return;
	if (d == longer) /* nothing in common */
		return;
	if (d < n->best_distance) {
		n->best = word;
		n->best_distance = d;
	}
}

const char *nearest_word(const char *typed, const char *const *words)
{
	struct nearest n;

	nearest_start(&n, typed);
	for (; *words; words++)
		nearest_feed(&n, *words);
	return n.best;
}
