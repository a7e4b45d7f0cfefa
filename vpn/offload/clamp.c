/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Clamping MSS; see clamp.h.  The checksum is changed by RFC 1624: only what differs is summed. */
#include "vpn/offload/clamp.h"

#include "vpn/offload/checksum.h"
#include "vpn/offload/wire.h"

#define OPTION_END 0
#define OPTION_NOP 1
#define OPTION_MSS 2
#define MSS_LEN	   4
#define MSS_MIN	   64 /* what a tiny MTU would make of it is of no use to anybody */

/* The TCP header of a SYN, NULL: it is none. */
static uint8_t *find_syn(uint8_t *packet, size_t len, size_t *ret_ip_len, size_t *ret_room)
{
	unsigned version = len ? packet[0] >> 4 : 0;
	size_t ip_len;
	uint8_t *tcp;

	if (version == 4 && len >= WIRE_IPV4_LEN) {
		ip_len = (packet[0] & 15u) * 4;
		if (packet[WIRE_IPV4_PROTOCOL] != WIRE_PROTOCOL_TCP || ip_len < WIRE_IPV4_LEN ||
		    wire_be16(packet + WIRE_IPV4_FRAGMENT) & ~WIRE_IPV4_DF)
			return NULL;
	} else if (version == 6 && len >= WIRE_IPV6_LEN) {
		ip_len = WIRE_IPV6_LEN;
		if (packet[WIRE_IPV6_NEXT] != WIRE_PROTOCOL_TCP)
			return NULL;
	} else {
		return NULL;
	}
	if (len < ip_len + WIRE_TCP_LEN)
		return NULL;
	tcp = packet + ip_len;
	*ret_ip_len = version == 4 ? WIRE_IPV4_LEN : WIRE_IPV6_LEN;
	*ret_room = len - ip_len;
	return tcp[WIRE_TCP_FLAGS] & WIRE_TCP_SYN ? tcp : NULL;
}

/* Where its value stands, 0: there is none. */
static size_t find_mss(const uint8_t *tcp, size_t room)
{
	size_t end = (tcp[WIRE_TCP_OFFSET] >> 4) * 4u, at = WIRE_TCP_LEN;

	if (end > room)
		return 0;
	while (at < end && tcp[at] != OPTION_END) {
		if (tcp[at] == OPTION_NOP) {
			at++;
			continue;
		}
		if (at + 2 > end || tcp[at + 1] < 2 || at + tcp[at + 1] > end)
			return 0;
		if (tcp[at] == OPTION_MSS)
			return tcp[at + 1] == MSS_LEN ? at + 2 : 0;
		at += tcp[at + 1];
	}
	return 0;
}

bool clamp_mss(uint8_t *packet, size_t len, size_t mtu, bool partial_checksum)
{
	size_t ip_len, room, at;
	uint8_t *tcp = find_syn(packet, len, &ip_len, &room);
	uint16_t old, mss, check;
	bool odd;

	at = tcp ? find_mss(tcp, room) : 0;
	if (!at || mtu < ip_len + WIRE_TCP_LEN + MSS_MIN)
		return false;
	mss = (uint16_t)(mtu - ip_len - WIRE_TCP_LEN);
	old = wire_be16(tcp + at);
	if (old <= mss)
		return false;
	wire_put_be16(tcp + at, mss);
	if (partial_checksum)
		return true; /* it is summed later */
	/* In the byte order of the words that are summed: behind a NOP it lies askew. */
	odd = at % 2;
	old = odd ? __builtin_bswap16(old) : old;
	mss = odd ? __builtin_bswap16(mss) : mss;
	check = (uint16_t)~wire_be16(tcp + WIRE_TCP_CHECK);
	check = (uint16_t)~checksum_fold((uint64_t)check + (uint16_t)~old + mss);
	wire_put_be16(tcp + WIRE_TCP_CHECK, check);
	return true;
}
