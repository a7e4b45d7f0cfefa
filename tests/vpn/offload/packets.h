/* SPDX-License-Identifier: GPL-2.0-or-later */
/* TCP and UDP packets made field by field, with the checksum as RFC 1071 writes it: the slow oracle
 * of vpn/offload. */
#ifndef TESTS_VPN_PACKETS_H
#define TESTS_VPN_PACKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct packet_spec {
	bool v6, udp;
	size_t l2_len, options_len; /* options of TCP, a multiple of 4 */
	uint8_t source, host;	    /* last bytes of the addresses */
	uint16_t sport, dport, id;
	uint16_t ip_flags; /* DF and fragment */
	uint8_t tos, ttl, flags;
	uint32_t seq, ack;
	uint16_t window, urgent;
	uint8_t option_byte;
	const uint8_t *payload;
	size_t payload_len;
};

/* One's complement sum of 16-bit words, one at a time, high byte first. */
static inline uint32_t slow_sum(const uint8_t *p, size_t len, uint32_t sum)
{
	for (size_t i = 0; i < len; i++) {
		sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return sum;
}

static inline void put16(uint8_t *p, size_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static inline void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v & 0xffff);
}

static inline size_t slow_l3_len(const struct packet_spec *s)
{
	return s->v6 ? 40 : 20;
}

static inline size_t slow_header_len(const struct packet_spec *s)
{
	return s->l2_len + slow_l3_len(s) + (s->udp ? 8 : 20 + s->options_len);
}

static inline void slow_network(const struct packet_spec *s, uint8_t *ip, size_t l4_len)
{
	if (s->v6) {
		ip[0] = (uint8_t)(0x60 | s->tos >> 4);
		ip[1] = (uint8_t)(s->tos << 4);
		put16(ip + 4, l4_len);
		ip[6] = s->udp ? 17 : 6;
		ip[7] = s->ttl;
		ip[8] = ip[24] = 0xfd;
		ip[23] = s->source;
		ip[39] = s->host;
		return;
	}
	ip[0] = 0x45;
	ip[1] = s->tos;
	put16(ip + 2, 20 + l4_len);
	put16(ip + 4, s->id);
	put16(ip + 6, s->ip_flags);
	ip[8] = s->ttl;
	ip[9] = s->udp ? 17 : 6;
	ip[12] = ip[16] = 10;
	ip[15] = s->source;
	ip[19] = s->host;
	put16(ip + 10, 0xffff ^ slow_sum(ip, 20, 0));
}

/* Sum of the pseudo header. */
static inline uint32_t slow_pseudo(const struct packet_spec *s, const uint8_t *ip, size_t l4_len)
{
	uint8_t tail[4] = { 0, s->udp ? 17 : 6, (uint8_t)(l4_len >> 8), (uint8_t)l4_len };

	return slow_sum(tail, 4, slow_sum(ip + (s->v6 ? 8 : 12), s->v6 ? 32 : 8, 0));
}

/* Into `out` (65553 bytes); `partial` leaves the checksum as a sum of the pseudo header. */
static inline size_t slow_build(const struct packet_spec *s, uint8_t *out, bool partial)
{
	size_t header = slow_header_len(s), len = header + s->payload_len;
	uint8_t *ip = out + s->l2_len, *l4 = ip + slow_l3_len(s);
	size_t l4_len = len - s->l2_len - slow_l3_len(s);
	uint32_t sum;

	memset(out, 0, header);
	if (s->l2_len)
		put16(out + 12, s->v6 ? 0x86dd : 0x0800);
	slow_network(s, ip, l4_len);
	put16(l4, s->sport);
	put16(l4 + 2, s->dport);
	if (s->udp) {
		put16(l4 + 4, l4_len);
	} else {
		put32(l4 + 4, s->seq);
		put32(l4 + 8, s->ack);
		l4[12] = (uint8_t)((20 + s->options_len) / 4 << 4);
		l4[13] = s->flags;
		put16(l4 + 14, s->window);
		put16(l4 + 18, s->urgent);
		memset(l4 + 20, s->option_byte, s->options_len);
	}
	memcpy(out + header, s->payload, s->payload_len);
	sum = slow_pseudo(s, ip, l4_len);
	if (!partial) {
		sum = 0xffff ^ slow_sum(l4, l4_len, sum);
		if (s->udp && !sum)
			sum = 0xffff;
	}
	put16(l4 + (s->udp ? 6 : 16), sum);
	return len;
}

#endif
