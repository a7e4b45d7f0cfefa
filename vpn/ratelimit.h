/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Handshakes of one source while under load: 20 a second, 5 at once (ratelimit.c).  A source is an
 * IPv4 address or an IPv6 /64.  The owner's thread only; no memory is taken after the first use.
 */
#ifndef VPN_RATELIMIT_H
#define VPN_RATELIMIT_H

#include "vpn/vpn.h"

#define RATELIMIT_PER_SECOND 20
#define RATELIMIT_BURST	     5

struct ratelimit;

int ratelimit_new(uint64_t seed, struct ratelimit **ret) __attribute__((warn_unused_result));
void ratelimit_free(struct ratelimit *r);
bool ratelimit_allow(struct ratelimit *r, const struct vpn_endpoint *from, uint64_t now_ns)
	__attribute__((warn_unused_result, nonnull));

/* Of the source; who does not know `seed` cannot foresee it. */
uint64_t ratelimit_hash(const struct vpn_endpoint *from, uint64_t seed) __attribute__((nonnull));

#endif
