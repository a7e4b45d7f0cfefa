/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packets that wait for a session of their peer: at most STAGE_PEER_MAX each, the oldest makes room
 * (as stock WireGuard does), and STAGE_MAX altogether, beyond which new ones are dropped.  Memory
 * is taken at start and touched when used.  One thread.
 */
#ifndef NETD_WG_STAGE_H
#define NETD_WG_STAGE_H

#include <stddef.h>
#include <stdint.h>

#define STAGE_PEER_MAX 128
#define STAGE_MAX      2048

struct stage;

/* For packets of up to `packet_max` bytes. */
int stage_new(size_t packet_max, struct stage **ret) __attribute__((warn_unused_result, nonnull));
void stage_free(struct stage *s);
/* Copies the packet.  Returns how many packets were dropped: this one or an older one, or 0. */
unsigned stage_put(struct stage *s, uint64_t peer, const uint8_t *packet, size_t len)
	__attribute__((nonnull));
size_t stage_count(const struct stage *s, uint64_t peer) __attribute__((nonnull));
/* The oldest of the peer, good until the next stage_put(); NULL: none. */
uint8_t *stage_take(struct stage *s, uint64_t peer, size_t *ret_len) __attribute__((nonnull));
/* Drop all of the peer: how many. */
size_t stage_drop(struct stage *s, uint64_t peer) __attribute__((nonnull));

#endif
