/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inner packets: their length, addresses and ECN bits (inner.c).  Any thread. */
#ifndef VPN_INNER_H
#define VPN_INNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INNER_V4_LEN 20
#define INNER_V6_LEN 40

/* An inner packet as far as its IP header tells. */
struct inner {
	uint8_t family; /* 4, 6 */
	uint32_t len;	/* of header and payload, <= the bytes that are there */
	const uint8_t *source, *destination;
};

/* false: not IPv4 or IPv6, or it claims more bytes than there are, or fewer than its header. */
bool inner_parse(const uint8_t *packet, size_t len, struct inner *ret)
	__attribute__((warn_unused_result, nonnull));

/*
 * RFC 6040 on arrival: combine the outer ECN bits into the packet, which inner_parse() accepted;
 * the IPv4 checksum follows.  false: drop it.
 */
bool inner_ecn_decapsulate(uint8_t *packet, uint8_t outer_tos)
	__attribute__((warn_unused_result, nonnull));

#endif
