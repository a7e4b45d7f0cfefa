/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inner packets: what a tunnel must know of them, which is little: where they go and come from,
 * how long they are without the padding, and congestion marks.
 *
 * ECN is RFC 6040, normal mode.  Going in, the outer header copies the inner ECN bits.  Coming
 * out (section 4.2):
 *
 *	inner \ outer	Not-ECT  ECT(0)   ECT(1)   CE
 *	Not-ECT		Not-ECT  Not-ECT  Not-ECT  drop
 *	ECT(0)		ECT(0)   ECT(0)   ECT(1)   CE
 *	ECT(1)		ECT(1)   ECT(1)   ECT(1)   CE
 *	CE		CE       CE       CE       CE
 */
#include "vpn/inner.h"

#include <string.h>

#include "common/base/bytes.h"
#include "vpn/vpn.h"

enum ecn {
	ECN_NOT_ECT,
	ECN_ECT1,
	ECN_ECT0,
	ECN_CE,
};

static uint32_t be16_at(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}

bool inner_parse(const uint8_t *packet, size_t len, struct inner *ret)
{
	uint32_t own;

	if (len >= INNER_V4_LEN && packet[0] >> 4 == 4) {
		uint32_t header = (packet[0] & 15u) * 4;

		own = be16_at(packet + 2);
		if (header < INNER_V4_LEN || own < header || own > len)
			return false;
		*ret = (struct inner){ 4, own, packet + 12, packet + 16 };
		return true;
	}
	if (len >= INNER_V6_LEN && packet[0] >> 4 == 6) {
		own = INNER_V6_LEN + be16_at(packet + 4);
		if (own > len)
			return false;
		*ret = (struct inner){ 6, own, packet + 8, packet + 24 };
		return true;
	}
	return false;
}

/* The TOS byte of IPv4, the traffic class of IPv6. */
static uint8_t tos_get(const uint8_t *packet)
{
	if (packet[0] >> 4 == 4)
		return packet[1];
	return (uint8_t)(packet[0] << 4 | packet[1] >> 4);
}

uint8_t vpn_ecn_outer(const uint8_t *packet, size_t len)
{
	uint8_t version = len >= INNER_V4_LEN ? packet[0] >> 4 : 0;

	return version == 4 || version == 6 ? tos_get(packet) & 3 : 0;
}

/* Incremental update of the header checksum for a changed second byte (RFC 1624, eqn. 3). */
static void v4_ecn_set(uint8_t *packet, enum ecn ecn)
{
	uint32_t old_word = be16_at(packet), new_word = (old_word & ~3u) | ecn;
	uint32_t sum = (~be16_at(packet + 10) & 0xffff) + (~old_word & 0xffff) + new_word;

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = ~sum & 0xffff;
	packet[1] = (uint8_t)new_word;
	packet[10] = (uint8_t)(sum >> 8);
	packet[11] = (uint8_t)sum;
}

bool inner_ecn_decapsulate(uint8_t *packet, uint8_t outer_tos)
{
	enum ecn outer = outer_tos & 3, inner = tos_get(packet) & 3;

	if (outer == ECN_NOT_ECT || outer == ECN_ECT0 || inner == outer || inner == ECN_CE)
		return true;
	if (inner == ECN_NOT_ECT)
		return outer != ECN_CE;
	/* What is left: the outer mark is stronger, ECT(1) over ECT(0) or CE over both. */
	if (packet[0] >> 4 == 4)
		v4_ecn_set(packet, outer);
	else
		packet[1] = (uint8_t)((packet[1] & ~0x30) | outer << 4);
	return true;
}
