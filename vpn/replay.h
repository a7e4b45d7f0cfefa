/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The window of counters that were seen, as a ring of words (RFC 6479): a counter may come once,
 * in any order, as long as it is at most REPLAY_WINDOW behind the newest.  Only authenticated
 * counters are shown to it.
 *
 * One more word than the window needs: moving on clears whole words and shifts nothing.
 */
#ifndef VPN_REPLAY_H
#define VPN_REPLAY_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "vpn/message.h"

#define REPLAY_WORDS  128 /* a power of two */
#define REPLAY_WINDOW ((REPLAY_WORDS - 1) * 64)

static_assert(REPLAY_WINDOW >= 8128, "as the kernel's");

struct replay {
	uint64_t next;	   /* the newest counter and one; 0: none yet */
	uint64_t accepted; /* how many were new */
	uint64_t words[REPLAY_WORDS];
};

/* Is it new?  Then it is taken. */
static inline bool replay_accept(struct replay *r, uint64_t counter)
{
	uint64_t word = counter / 64, bit = UINT64_C(1) << counter % 64, *at;

	if (counter >= REJECT_AFTER_COUNT)
		return false;
	if (counter + 1 + REPLAY_WINDOW < r->next) /* no overflow: the limit above */
		return false;
	if (counter >= r->next) {
		uint64_t last = r->next ? (r->next - 1) / 64 : 0, gap = word - last;

		for (uint64_t i = 1; i <= gap && i <= REPLAY_WORDS; i++)
			r->words[(last + i) % REPLAY_WORDS] = 0;
		r->next = counter + 1;
	}
	at = &r->words[word % REPLAY_WORDS];
	if (*at & bit)
		return false;
	*at |= bit;
	r->accepted++;
	return true;
}

#endif
