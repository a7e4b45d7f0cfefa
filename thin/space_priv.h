/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by space.c (who holds a block) and space_search.c (which one is next).  Not for others. */
#ifndef THIN_SPACE_PRIV_H
#define THIN_SPACE_PRIV_H

#include <assert.h>

#include "thin/space.h"

#define WORD_BITS 64u

/* Bytes of `written` for so many bytes of `busy`. */
static inline uint64_t space_written_bytes(uint64_t map_bytes)
{
	return (map_bytes / sizeof(uint64_t) + WORD_BITS - 1) / WORD_BITS * sizeof(uint64_t);
}

void space_clear_busy(struct space *sp, uint64_t index);
void space_set_candidate(struct space *sp, struct space_zone *zone, bool candidate);

#endif
