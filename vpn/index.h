/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which handshake or session does a receiver index belong to?  (index.c)
 *
 * Indices are random and ours to choose, so the table has no collisions: an index is only taken
 * if the slot of its lowest bits is free.  At most half of the slots are in use, so two tries do on
 * the average; a bigger table keeps them apart as well.  Look-up is one comparison.
 */
#ifndef VPN_INDEX_H
#define VPN_INDEX_H

#include <stdint.h>

struct peer;
struct vpn_keypair;

/* Either a session, or the handshake of a peer that has begun. */
struct index_entry {
	uint32_t index;
	struct peer *peer; /* NULL: the slot is free */
	struct vpn_keypair *keypair;
};

/* Zero is empty. */
struct index_table {
	struct index_entry *slots;
	uint32_t size; /* a power of two, or 0 */
	uint32_t used;
};

/* Make room for `count` entries altogether.  0 or -ENOMEM. */
int index_reserve(struct index_table *t, uint32_t count)
	__attribute__((warn_unused_result, nonnull));
/* Take `candidate`, a random number; NULL: its slot is in use, try another. */
struct index_entry *index_take(struct index_table *t, uint32_t candidate, struct peer *peer)
	__attribute__((warn_unused_result, nonnull));
/* NULL: unknown. */
struct index_entry *index_find(const struct index_table *t, uint32_t index)
	__attribute__((warn_unused_result, nonnull));
void index_drop(struct index_table *t, uint32_t index)
	__attribute__((nonnull)); /* if it is there */
void index_clear(struct index_table *t) __attribute__((nonnull));

#endif
