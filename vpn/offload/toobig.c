/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ICMP "too big"; see toobig.h.
 *
 *	[ MACs turned round, tags, type | IP, addresses turned round | ICMP | the packet's begin ]
 */
#include "vpn/offload/toobig.h"

#include <string.h>

#include "vpn/offload/checksum.h"
#include "vpn/offload/wire.h"

#define MAC_LEN		6
#define L2_MAX		18 /* with a tag */
#define ICMP_LEN	8
#define ICMP_CHECK	2
#define ICMP_MTU4	6
#define ICMP_MTU6	4
#define QUOTE4_MAX	(576 - WIRE_IPV4_LEN - ICMP_LEN) /* RFC 1812, 4.3.2.3 */
#define QUOTE6_MAX	(1280 - WIRE_IPV6_LEN - ICMP_LEN)
#define MTU6_MIN	1280
#define TTL		64
#define PROTOCOL_ICMP	1
#define PROTOCOL_ICMP6	58
#define UNREACHABLE	3 /* IPv4: type, code */
#define FRAGMENT_NEEDED 4
#define TOO_BIG		2 /* IPv6: type */
#define EXTENSIONS_MAX	8
#define FRAGMENT	44 /* of IPv6: next header */
#define FRAGMENT_OFFSET 0x1fff

static bool is_zero(const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (p[i])
			return false;
	return true;
}

/* Errors beget no errors; of IPv4 what asks or answers is not one. */
static bool is_error4(uint8_t type)
{
	switch (type) {
	case 0: /* echo reply */
	case 8: /* echo */
	case 9: /* router advertisement, solicitation */
	case 10:
	case 13: /* timestamp, its reply */
	case 14:
		return false;
	default:
		return true;
	}
}

static bool may_answer4(const uint8_t *ip, size_t len)
{
	size_t header = (ip[0] & 15u) * 4;
	uint16_t fragment = wire_be16(ip + WIRE_IPV4_FRAGMENT);
	const uint8_t *src = ip + WIRE_IPV4_SRC, *dst = ip + WIRE_IPV4_DST;

	if (header < WIRE_IPV4_LEN || header > len || !(fragment & WIRE_IPV4_DF) ||
	    fragment & FRAGMENT_OFFSET)
		return false;
	/* this host, loopback, groups, broadcast: not somebody to talk to */
	if (!src[0] || src[0] == 127 || src[0] >= 224 || !dst[0] || dst[0] >= 224)
		return false;
	return ip[WIRE_IPV4_PROTOCOL] != PROTOCOL_ICMP || (len > header && !is_error4(ip[header]));
}

/* What is behind the extension headers; false: a later fragment, or one cannot know. */
static bool find_upper(const uint8_t *ip, size_t len, uint8_t *ret_next, size_t *ret_at)
{
	uint8_t next = ip[WIRE_IPV6_NEXT];
	size_t at = WIRE_IPV6_LEN;

	for (unsigned i = 0; i <= EXTENSIONS_MAX; i++) {
		size_t own;

		if (next != 0 && next != 43 && next != FRAGMENT && next != 60) {
			*ret_next = next;
			*ret_at = at;
			return true;
		}
		if (at + 8 > len)
			return false;
		if (next == FRAGMENT && wire_be16(ip + at + 2) & 0xfff8)
			return false;
		own = next == FRAGMENT ? 8 : 8 + ip[at + 1] * 8u;
		next = ip[at];
		at += own;
	}
	return false;
}

static bool may_answer6(const uint8_t *ip, size_t len)
{
	const uint8_t *src = ip + WIRE_IPV6_SRC, *dst = ip + WIRE_IPV6_DST;
	uint8_t next;
	size_t at;

	if (src[0] == 0xff || is_zero(src, 16) || dst[0] == 0xff ||
	    !find_upper(ip, len, &next, &at))
		return false;
	/* errors have the high bit clear; 137 is a redirect */
	return next != PROTOCOL_ICMP6 || (at < len && ip[at] >= 128 && ip[at] != 137);
}

static void turn_link(const uint8_t *frame, size_t l2_len, uint8_t *ret)
{
	memcpy(ret, frame, l2_len);
	if (l2_len < 2 * MAC_LEN)
		return;
	memcpy(ret, frame + MAC_LEN, MAC_LEN);
	memcpy(ret + MAC_LEN, frame, MAC_LEN);
}

static size_t answer4(const uint8_t *ip, size_t len, uint16_t mtu, uint8_t *ret)
{
	size_t quoted = len < QUOTE4_MAX ? len : QUOTE4_MAX;
	size_t total = WIRE_IPV4_LEN + ICMP_LEN + quoted;
	uint8_t *icmp = ret + WIRE_IPV4_LEN;

	memset(ret, 0, WIRE_IPV4_LEN + ICMP_LEN);
	ret[0] = 0x45;
	ret[WIRE_IPV4_TOS] = 0xc0; /* internetwork control, RFC 1812 4.3.2.5 */
	wire_put_be16(ret + WIRE_IPV4_TOTAL_LEN, (uint16_t)total);
	ret[WIRE_IPV4_TTL] = TTL;
	ret[WIRE_IPV4_PROTOCOL] = PROTOCOL_ICMP;
	memcpy(ret + WIRE_IPV4_SRC, ip + WIRE_IPV4_DST, 4);
	memcpy(ret + WIRE_IPV4_DST, ip + WIRE_IPV4_SRC, 4);
	wire_put_native16(ret + WIRE_IPV4_CHECK,
			  (uint16_t)~checksum_fold(checksum_sum(ret, WIRE_IPV4_LEN)));
	icmp[0] = UNREACHABLE;
	icmp[1] = FRAGMENT_NEEDED;
	wire_put_be16(icmp + ICMP_MTU4, mtu);
	memcpy(icmp + ICMP_LEN, ip, quoted);
	wire_put_native16(icmp + ICMP_CHECK,
			  (uint16_t)~checksum_fold(checksum_sum(icmp, ICMP_LEN + quoted)));
	return total;
}

static size_t answer6(const uint8_t *ip, size_t len, uint16_t mtu, uint8_t *ret)
{
	size_t quoted = len < QUOTE6_MAX ? len : QUOTE6_MAX;
	uint8_t *icmp = ret + WIRE_IPV6_LEN;
	uint64_t sum;

	memset(ret, 0, WIRE_IPV6_LEN + ICMP_LEN);
	ret[0] = 0x60;
	wire_put_be16(ret + WIRE_IPV6_PAYLOAD_LEN, (uint16_t)(ICMP_LEN + quoted));
	ret[WIRE_IPV6_NEXT] = PROTOCOL_ICMP6;
	ret[WIRE_IPV6_HOPS] = TTL;
	memcpy(ret + WIRE_IPV6_SRC, ip + WIRE_IPV6_DST, 16);
	memcpy(ret + WIRE_IPV6_DST, ip + WIRE_IPV6_SRC, 16);
	icmp[0] = TOO_BIG;
	wire_put_be32(icmp + ICMP_MTU6, mtu);
	memcpy(icmp + ICMP_LEN, ip, quoted);
	sum = checksum_sum_pseudo(6, ret + WIRE_IPV6_SRC, PROTOCOL_ICMP6) +
	      checksum_of_number((uint32_t)(ICMP_LEN + quoted)) +
	      checksum_sum(icmp, ICMP_LEN + quoted);
	wire_put_native16(icmp + ICMP_CHECK, (uint16_t)~checksum_fold(sum));
	return WIRE_IPV6_LEN + ICMP_LEN + quoted;
}

size_t toobig_answer(const uint8_t *frame, size_t len, size_t l2_len, size_t ip_len, uint16_t mtu,
		     uint8_t ret[TOOBIG_FRAME_MAX])
{
	const uint8_t *ip = frame + l2_len;
	size_t there = len > l2_len ? len - l2_len : 0, made = 0;
	/* a group, also Ethernet's broadcast: whoever hears it is not the one it is about */
	bool to_group = l2_len >= MAC_LEN && len && frame[0] & 1;

	if (ip_len <= mtu || l2_len > L2_MAX || to_group)
		return 0;
	if (there >= WIRE_IPV4_LEN && ip[0] >> 4 == 4 && may_answer4(ip, there))
		made = answer4(ip, there, mtu, ret + l2_len);
	else if (there >= WIRE_IPV6_LEN && ip[0] >> 4 == 6 && may_answer6(ip, there))
		made = answer6(ip, there, mtu < MTU6_MIN ? MTU6_MIN : mtu, ret + l2_len);
	if (!made)
		return 0;
	turn_link(frame, l2_len, ret);
	return l2_len + made;
}
