/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Load.  Each message with a right MAC1 takes from a bucket, also those that get a cookie; when it
 * is empty, or too many wait, we are under load, and for a second after that.  Who makes us
 * calculate in vain (a forged, replayed or unknown key) empties it four times as fast, so that a
 * flood of rubbish costs a quarter of what a thousand peers do that come back at once.
 *
 * Under load a message without MAC2 is answered by a cookie.  That costs ten times as much as
 * finding out that it has none, so answers are counted, too:
 *
 *	new	2000 a second to addresses that got fewer than four in this second
 *	any	1000 a second to the others, and when the first are used up
 *
 * each up to a second's at once: peers that come back together ask together.
 *
 * A peer asks once in five seconds, so it is new, and is answered whatever number of real hosts
 * flood us.  Addresses that are made up share the first with it: at 10,000 a second it gets its
 * cookie at the third try or so.  The second is for a peer in whose name somebody floods us.
 * Counts are kept by a hash of the address: two that share one share four answers a second.
 */
#include "vpn/load.h"

#include <string.h>

#include "vpn/ratelimit.h"

void load_init(struct load *l, unsigned burst, unsigned rate, uint64_t seed)
{
	*l = (struct load){ .burst = burst, .rate = rate, .seed = seed };
}

/* A bucket is one time: when it is full again.  False: it has not got this much. */
static bool take(uint64_t *full_ns, unsigned rate, unsigned burst, uint64_t now_ns)
{
	uint64_t cost = SECOND_NS / rate;

	if (*full_ns < now_ns)
		*full_ns = now_ns;
	if (*full_ns + cost > now_ns + burst * cost)
		return false;
	*full_ns += cost;
	return true;
}

static bool is_held(const struct load *l, uint64_t now_ns)
{
	return l->last_ns && (now_ns < l->last_ns || now_ns - l->last_ns < LOAD_HOLD_NS);
}

bool load_take(struct load *l, size_t backlog, uint64_t now_ns, bool *ret_begins)
{
	bool held = is_held(l, now_ns);

	*ret_begins = false;
	if (backlog < LOAD_BACKLOG && take(&l->full_ns, l->rate, l->burst, now_ns))
		return held;
	*ret_begins = !held;
	l->last_ns = now_ns;
	return true;
}

void load_vain(struct load *l)
{
	l->full_ns += (LOAD_VAIN_COST - 1) * (SECOND_NS / l->rate);
}

/* Count an answer to this address.  False: it had enough in this second. */
static bool is_new(struct load *l, const struct vpn_endpoint *to, uint64_t now_ns)
{
	uint8_t *had = &l->replies[ratelimit_hash(to, l->seed) % LOAD_SOURCES];

	if (now_ns - l->since_ns >= SECOND_NS) {
		memset(l->replies, 0, sizeof(l->replies));
		l->since_ns = now_ns;
	}
	if (*had >= LOAD_NEW_MAX)
		return false;
	++*had;
	return true;
}

bool load_may_reply(struct load *l, const struct vpn_endpoint *to, uint64_t now_ns)
{
	if (is_new(l, to, now_ns) && take(&l->new_full_ns, LOAD_NEW_RATE, LOAD_NEW_RATE, now_ns))
		return true;
	return take(&l->any_full_ns, LOAD_ANY_RATE, LOAD_ANY_RATE, now_ns);
}
