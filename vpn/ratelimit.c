/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Token buckets in a table of fixed size, four to a set.
 *
 * A bucket is one time: when it will be full again.  Each handshake moves that time on by 50 ms;
 * if it would lie more than five handshakes ahead, the handshake is refused.  A bucket that is full
 * tells nothing and may be taken by another source.  When all four of a set are in use a further
 * source is refused: its address was proven by a cookie, so whoever fills the table owns that many
 * addresses, and loses no more than the strangers who share a set with them (the hash has a secret
 * seed, so nobody can choose whose that is).
 */
#include "vpn/ratelimit.h"

#include <errno.h>
#include <stdlib.h>

#include "vpn/message.h"

#define SETS	2048 /* a power of two */
#define WAYS	4
#define COST_NS (SECOND_NS / RATELIMIT_PER_SECOND)

struct bucket {
	uint64_t source, family; /* address, or half of it */
	uint64_t full_ns;
};

struct ratelimit {
	uint64_t seed;
	struct bucket buckets[SETS][WAYS];
};

int ratelimit_new(uint64_t seed, struct ratelimit **ret)
{
	struct ratelimit *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->seed = seed;
	*ret = r;
	return 0;
}

void ratelimit_free(struct ratelimit *r)
{
	free(r);
}

/* The finalizer of MurmurHash3, keyed. */
static uint64_t mix(uint64_t h)
{
	h = (h ^ h >> 33) * UINT64_C(0xff51afd7ed558ccd);
	h = (h ^ h >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
	return h ^ h >> 33;
}

static void source_of(const struct vpn_endpoint *from, uint64_t *hi, uint64_t *family)
{
	*hi = 0;
	*family = from->sa.sa_family;
	if (from->sa.sa_family == AF_INET6)
		memcpy(hi, &from->v6.sin6_addr, 8);
	else
		memcpy(hi, &from->v4.sin_addr, 4);
}

uint64_t ratelimit_hash(const struct vpn_endpoint *from, uint64_t seed)
{
	uint64_t hi, family;

	source_of(from, &hi, &family);
	return mix(mix(hi ^ seed) + family);
}

bool ratelimit_allow(struct ratelimit *r, const struct vpn_endpoint *from, uint64_t now_ns)
{
	uint64_t hi, family;
	struct bucket *set, *b = NULL;

	source_of(from, &hi, &family);
	set = r->buckets[ratelimit_hash(from, r->seed) % SETS];
	for (struct bucket *i = set; i < set + WAYS; i++)
		if (i->source == hi && i->family == family)
			b = i;
	for (struct bucket *i = set; !b && i < set + WAYS; i++)
		if (i->full_ns <= now_ns)
			b = i;
	if (!b)
		return false;
	if (b->source != hi || b->family != family)
		*b = (struct bucket){ .source = hi, .family = family };
	if (b->full_ns < now_ns)
		b->full_ns = now_ns;
	if (b->full_ns + COST_NS > now_ns + RATELIMIT_BURST * COST_NS)
		return false;
	b->full_ns += COST_NS;
	return true;
}
