/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the fields of IPv4, IPv6, TCP and UDP lie, and how to get at them: packets have no
 * alignment here, so no structs are laid over them.  RFC 791, 8200, 9293, 768.
 */
#ifndef VPN_OFFLOAD_WIRE_H
#define VPN_OFFLOAD_WIRE_H

#include <stdint.h>
#include <string.h>

#include "common/base/bytes.h"

enum {
	WIRE_IPV4_LEN = 20, /* without options */
	WIRE_IPV4_TOS = 1,
	WIRE_IPV4_TOTAL_LEN = 2,
	WIRE_IPV4_ID = 4,
	WIRE_IPV4_FRAGMENT = 6, /* flags and offset */
	WIRE_IPV4_TTL = 8,
	WIRE_IPV4_PROTOCOL = 9,
	WIRE_IPV4_CHECK = 10,
	WIRE_IPV4_SRC = 12,
	WIRE_IPV4_DST = 16,

	WIRE_IPV6_LEN = 40,
	WIRE_IPV6_PAYLOAD_LEN = 4,
	WIRE_IPV6_NEXT = 6,
	WIRE_IPV6_HOPS = 7,
	WIRE_IPV6_SRC = 8,
	WIRE_IPV6_DST = 24,

	WIRE_TCP_LEN = 20, /* without options */
	WIRE_TCP_SEQ = 4,
	WIRE_TCP_ACK = 8,
	WIRE_TCP_OFFSET = 12,
	WIRE_TCP_FLAGS = 13,
	WIRE_TCP_CHECK = 16,

	WIRE_UDP_LEN = 8,
	WIRE_UDP_LENGTH = 4,
	WIRE_UDP_CHECK = 6,

	WIRE_TCP_FIN = 0x01,
	WIRE_TCP_SYN = 0x02,
	WIRE_TCP_RST = 0x04,
	WIRE_TCP_PSH = 0x08,
	WIRE_TCP_ACKED = 0x10,
	WIRE_TCP_URG = 0x20,
	WIRE_TCP_ECE = 0x40,
	WIRE_TCP_CWR = 0x80,

	WIRE_IPV4_DF = 0x4000,
	WIRE_PROTOCOL_TCP = 6,
	WIRE_PROTOCOL_UDP = 17,
};

static inline uint16_t wire_be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t wire_be32(const uint8_t *p)
{
	return (uint32_t)wire_be16(p) << 16 | wire_be16(p + 2);
}

static inline void wire_put_be16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static inline void wire_put_be32(uint8_t *p, uint32_t v)
{
	wire_put_be16(p, (uint16_t)(v >> 16));
	wire_put_be16(p + 2, (uint16_t)v);
}

/* Checksums: in the byte order of memory. */
static inline uint16_t wire_native16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline void wire_put_native16(uint8_t *p, uint16_t v)
{
	memcpy(p, &v, sizeof(v));
}

#endif
