/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What handshakes may cost us (load.c): when senders must show where they are, and how many are
 * told how.  The owner's thread only; no memory is taken.
 */
#ifndef VPN_LOAD_H
#define VPN_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vpn/message.h"

#define LOAD_BACKLOG   1024
#define LOAD_BURST     1024
#define LOAD_RATE      500
#define LOAD_HOLD_NS   SECOND_NS
#define LOAD_VAIN_COST 4 /* what a calculation in vain costs, in handshakes */
#define LOAD_SOURCES   4096
#define LOAD_NEW_RATE  2000 /* cookie replies a second to addresses that had few lately */
#define LOAD_ANY_RATE  1000 /* and to others */
#define LOAD_NEW_MAX   4    /* "few": so many in a second */

struct load {
	unsigned burst, rate;
	uint64_t full_ns;		   /* the bucket of handshakes: when it is full again */
	uint64_t last_ns;		   /* the last time that it was too much; 0: never */
	uint64_t new_full_ns, any_full_ns; /* buckets of cookie replies */
	uint64_t seed, since_ns;	   /* of `replies` */
	uint8_t replies[LOAD_SOURCES];	   /* by hash of the address, in this second */
};

void load_init(struct load *l, unsigned burst, unsigned rate, uint64_t seed)
	__attribute__((nonnull));
/* A message with a right MAC1 came, `backlog` more wait: under load?  *ret_begins: only now. */
bool load_take(struct load *l, size_t backlog, uint64_t now_ns, bool *ret_begins)
	__attribute__((nonnull));
/* It was let in, and was not worth it. */
void load_vain(struct load *l) __attribute__((nonnull));
/* May this sender be sent a cookie? */
bool load_may_reply(struct load *l, const struct vpn_endpoint *to, uint64_t now_ns)
	__attribute__((warn_unused_result, nonnull));

#endif
