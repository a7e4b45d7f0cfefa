/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Joining packets; see coalesce.h.
 *
 *	frames	 [0] TCP flow A, open	[1] ICMP	[2] TCP flow B, open	[3] TCP flow A,
 *closed packets	 0 -> 3 -> 4		1		2 -> 6			5
 *
 * A frame is open while more may be appended to it.  A table finds the open frame of a flow; a
 * frame that leaves the table (its place is wanted by another flow, or the flow goes on with a
 * packet that does not fit) is closed.  As frames are written in the order in which they began, a
 * flow's packets stay in order.
 *
 * A packet may be appended when segmenting the result restores it exactly:
 *   - the same flow: addresses, ports, version; Ethernet header the same
 *   - nothing else in the headers differs: TTL, TOS (and so ECN), DF, for TCP acknowledgment,
 *     window, flags but PSH and FIN (which only the last may have), urgent pointer, options
 *   - the IPv4 identification counts up by one
 *   - for TCP: the sequence number is the next one
 *   - all have the size of the first but the last, which may be smaller
 *   - both checksums are right (looked at only here: a packet that stays alone is not read)
 *   - with it the frame stays within 65535 bytes and COALESCE_PACKETS_MAX packets
 * After a smaller packet, one with PSH, or one with FIN the frame is closed.  SYN, RST, URG, CWR,
 * pure acknowledgments, IPv4 options, IPv6 extension headers and fragments are never joined.
 * The IPv4 header's checksum is checked when the packet is parsed.  Packets with IPv4 options, IPv6
 * extension headers, or fragments are not counted to a flow: they alone may change places with it.
 */
#include "vpn/offload/coalesce.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vpn/offload/checksum.h"
#include "vpn/offload/wire.h"

#define TABLE_SIZE 256 /* open frames; a power of two */
#define NONE	   UINT32_MAX
#define IP_LEN_MAX 65535
#define L2_LEN_MAX 14

static_assert((TABLE_SIZE & (TABLE_SIZE - 1)) == 0, "masked");

/* What the headers of a packet that could be joined say. */
struct parsed {
	uint8_t *packet;
	size_t len, header_len;
	uint16_t l3, l4, payload;
	bool is_v6, is_udp;
};

struct packet {
	uint8_t *data;
	uint32_t len, next; /* next of the frame, or NONE */
};

struct frame {
	struct virtio_net_hdr vnet;
	uint32_t first, last, count;
	uint32_t hash;
	size_t bytes; /* headers once, all payload */
	struct parsed head;
	bool is_open, is_verified; /* the first packet's checksum */
};

struct coalesce {
	size_t packets_max, packet_count, frame_count, l2_len;
	bool tcp, udp;
	uint32_t table[TABLE_SIZE]; /* index of an open frame, NONE */
	struct packet *packets;
	struct frame *frames;
};

int coalesce_new(size_t packets_max, size_t l2_len, bool tcp, bool udp, struct coalesce **ret)
{
	struct coalesce *c = calloc(1, sizeof(*c));

	assert(packets_max && l2_len <= L2_LEN_MAX);
	if (!c)
		return -ENOMEM;
	c->packets = calloc(packets_max, sizeof(*c->packets));
	c->frames = calloc(packets_max, sizeof(*c->frames));
	if (!c->packets || !c->frames) {
		coalesce_free(c);
		return -ENOMEM;
	}
	c->packets_max = packets_max;
	c->l2_len = l2_len;
	coalesce_set(c, tcp, udp);
	memset(c->table, 0xff, sizeof(c->table));
	*ret = c;
	return 0;
}

void coalesce_free(struct coalesce *c)
{
	if (!c)
		return;
	free(c->packets);
	free(c->frames);
	free(c);
}

void coalesce_set(struct coalesce *c, bool tcp, bool udp)
{
	c->tcp = tcp;
	c->udp = udp;
}

void coalesce_reset(struct coalesce *c)
{
	for (size_t i = 0; i < c->frame_count; i++)
		c->table[c->frames[i].hash & (TABLE_SIZE - 1)] = NONE;
	c->packet_count = c->frame_count = 0;
}

/* --- one packet ---------------------------------------------------------------------------- */

static bool parse_ipv4(struct parsed *p, uint8_t *ret_protocol)
{
	const uint8_t *ip = p->packet + p->l3;

	if (p->len < (size_t)p->l3 + WIRE_IPV4_LEN || ip[0] != 0x45 ||
	    wire_be16(ip + WIRE_IPV4_TOTAL_LEN) != p->len - p->l3)
		return false;
	if (wire_be16(ip + WIRE_IPV4_FRAGMENT) & ~WIRE_IPV4_DF)
		return false;
	if (checksum_fold(checksum_sum(ip, WIRE_IPV4_LEN)) != 0xffff ||
	    wire_native16(ip + WIRE_IPV4_CHECK) == 0xffff)
		return false;
	p->l4 = (uint16_t)(p->l3 + WIRE_IPV4_LEN);
	*ret_protocol = ip[WIRE_IPV4_PROTOCOL];
	return true;
}

static bool parse_ipv6(struct parsed *p, uint8_t *ret_protocol)
{
	const uint8_t *ip = p->packet + p->l3;

	if (p->len < (size_t)p->l3 + WIRE_IPV6_LEN ||
	    wire_be16(ip + WIRE_IPV6_PAYLOAD_LEN) != p->len - p->l3 - WIRE_IPV6_LEN)
		return false;
	p->is_v6 = true;
	p->l4 = (uint16_t)(p->l3 + WIRE_IPV6_LEN);
	*ret_protocol = ip[WIRE_IPV6_NEXT];
	return true;
}

static bool parse_tcp(struct parsed *p)
{
	const uint8_t *tcp = p->packet + p->l4;
	const uint8_t never = WIRE_TCP_SYN | WIRE_TCP_RST | WIRE_TCP_URG | WIRE_TCP_CWR;
	size_t header_len;

	if (p->len < (size_t)p->l4 + WIRE_TCP_LEN)
		return false;
	header_len = (tcp[WIRE_TCP_OFFSET] >> 4) * 4u;
	p->header_len = p->l4 + header_len;
	return header_len >= WIRE_TCP_LEN && p->header_len < p->len &&
	       !(tcp[WIRE_TCP_FLAGS] & never) && (tcp[WIRE_TCP_FLAGS] & WIRE_TCP_ACKED);
}

static bool parse_udp(struct parsed *p)
{
	const uint8_t *udp = p->packet + p->l4;

	p->is_udp = true;
	p->header_len = (size_t)p->l4 + WIRE_UDP_LEN;
	return p->header_len < p->len && wire_be16(udp + WIRE_UDP_LENGTH) == p->len - p->l4 &&
	       wire_native16(udp + WIRE_UDP_CHECK);
}

enum kind {
	KIND_OTHER,  /* of no flow that could be open */
	KIND_ALONE,  /* of a flow, but never joined */
	KIND_JOINED, /* of a flow, may be joined */
};

static bool has_ports(const struct parsed *p)
{
	return p->len >= p->l4 + 4u;
}

/* Fills in `p`: for KIND_ALONE as far as the ports. */
static enum kind parse(const struct coalesce *c, uint8_t *packet, size_t len, struct parsed *p)
{
	uint8_t protocol = 0;
	bool ok;

	*p = (struct parsed){ .packet = packet, .len = len, .l3 = (uint16_t)c->l2_len };
	if (len <= c->l2_len || len - c->l2_len > IP_LEN_MAX)
		return KIND_OTHER;
	ok = packet[p->l3] >> 4 == 4   ? parse_ipv4(p, &protocol)
	     : packet[p->l3] >> 4 == 6 ? parse_ipv6(p, &protocol)
				       : false;
	if (!ok)
		return KIND_OTHER;
	if (protocol == WIRE_PROTOCOL_TCP && c->tcp)
		ok = parse_tcp(p);
	else if (protocol == WIRE_PROTOCOL_UDP && c->udp)
		ok = parse_udp(p);
	else
		return KIND_OTHER;
	p->payload = ok ? (uint16_t)(len - p->header_len) : 0;
	return ok ? KIND_JOINED : has_ports(p) ? KIND_ALONE : KIND_OTHER;
}

/* The flow as bytes: addresses (behind each other in both versions), ports. */
static const uint8_t *addresses_of(const struct parsed *p)
{
	return p->packet + p->l3 + (p->is_v6 ? WIRE_IPV6_SRC : WIRE_IPV4_SRC);
}

static uint32_t hash_of(const struct parsed *p)
{
	const uint8_t *a = addresses_of(p);
	uint64_t h = wire_be32(p->packet + p->l4) ^ ((uint64_t)p->is_udp << 32);

	for (size_t i = 0; i < (p->is_v6 ? 32u : 8u); i += 4)
		h = (h ^ wire_be32(a + i)) * 0x9e3779b97f4a7c15u;
	return (uint32_t)(h >> 40);
}

/* Right, and as segmentation writes it: a sum of zero is 0 in TCP, 0xffff in UDP. */
static bool is_checksum_right(const struct parsed *p)
{
	uint16_t odd = p->is_udp ? 0 : 0xffff;
	uint8_t protocol = p->is_udp ? WIRE_PROTOCOL_UDP : WIRE_PROTOCOL_TCP;
	size_t l4_len = p->len - p->l4;
	uint64_t sum = checksum_sum_pseudo(p->is_v6 ? 6 : 4, addresses_of(p), protocol) +
		       checksum_of_number((uint32_t)l4_len);

	return checksum_fold(sum + checksum_sum(p->packet + p->l4, l4_len)) == 0xffff &&
	       wire_native16(p->packet + p->l4 + (p->is_udp ? WIRE_UDP_CHECK : WIRE_TCP_CHECK)) !=
		       odd;
}

/* --- appending ----------------------------------------------------------------------------- */

static bool is_same_flow(const struct parsed *a, const struct parsed *b)
{
	return a->is_v6 == b->is_v6 && a->is_udp == b->is_udp &&
	       !memcmp(a->packet + a->l4, b->packet + b->l4, 4) &&
	       !memcmp(addresses_of(a), addresses_of(b), a->is_v6 ? 32 : 8);
}

/* IP headers: all but length, identification (counts up), checksum. */
static bool network_fits(const struct frame *f, const struct parsed *p)
{
	const uint8_t *a = f->head.packet + f->head.l3, *b = p->packet + p->l3;

	if (memcmp(f->head.packet, p->packet, p->l3))
		return false;
	if (p->is_v6)
		return !memcmp(a, b, WIRE_IPV6_PAYLOAD_LEN) &&
		       a[WIRE_IPV6_HOPS] == b[WIRE_IPV6_HOPS];
	return a[WIRE_IPV4_TOS] == b[WIRE_IPV4_TOS] && a[WIRE_IPV4_TTL] == b[WIRE_IPV4_TTL] &&
	       wire_native16(a + WIRE_IPV4_FRAGMENT) == wire_native16(b + WIRE_IPV4_FRAGMENT) &&
	       (uint16_t)(wire_be16(a + WIRE_IPV4_ID) + f->count) == wire_be16(b + WIRE_IPV4_ID);
}

/* TCP headers: all but sequence number (the next one), PSH, FIN, checksum. */
static bool tcp_fits(const struct frame *f, const struct parsed *p)
{
	const uint8_t *a = f->head.packet + f->head.l4, *b = p->packet + p->l4;
	uint8_t varies = WIRE_TCP_PSH | WIRE_TCP_FIN;
	uint32_t sent = (uint32_t)(f->bytes - f->head.header_len);

	return f->head.header_len == p->header_len &&
	       wire_be32(a + WIRE_TCP_SEQ) + sent == wire_be32(b + WIRE_TCP_SEQ) &&
	       !memcmp(a + WIRE_TCP_ACK, b + WIRE_TCP_ACK, 5) &&
	       !((a[WIRE_TCP_FLAGS] ^ b[WIRE_TCP_FLAGS]) & ~varies) && !memcmp(a + 14, b + 14, 2) &&
	       !memcmp(a + 18, b + 18, p->header_len - p->l4 - 18);
}

static bool frame_takes(const struct frame *f, const struct parsed *p)
{
	return f->count < COALESCE_PACKETS_MAX && p->payload <= f->head.payload &&
	       f->bytes + p->payload - p->l3 <= IP_LEN_MAX && network_fits(f, p) &&
	       (p->is_udp || tcp_fits(f, p));
}

/* Nothing may follow this packet in its frame. */
static bool is_last_of_frame(const struct frame *f, const struct parsed *p)
{
	if (p->payload < f->head.payload)
		return true;
	return !p->is_udp && p->packet[p->l4 + WIRE_TCP_FLAGS] & (WIRE_TCP_PSH | WIRE_TCP_FIN);
}

static uint32_t take_packet(struct coalesce *c, uint8_t *data, size_t len)
{
	uint32_t i = (uint32_t)c->packet_count++;

	c->packets[i] = (struct packet){ .data = data, .len = (uint32_t)len, .next = NONE };
	return i;
}

static struct frame *begin_frame(struct coalesce *c, uint8_t *data, size_t len)
{
	struct frame *f = &c->frames[c->frame_count++];

	memset(f, 0, sizeof(*f));
	f->first = f->last = take_packet(c, data, len);
	f->count = 1;
	f->bytes = len;
	return f;
}

static void append(struct coalesce *c, struct frame *f, const struct parsed *p)
{
	uint8_t *flags = f->head.packet + f->head.l4 + WIRE_TCP_FLAGS;
	uint32_t i = take_packet(c, p->packet + p->header_len, p->payload);

	c->packets[f->last].next = i;
	f->last = i;
	f->count++;
	f->bytes += p->payload;
	f->is_open = !is_last_of_frame(f, p);
	/* Its PSH and FIN go to the first header, and by segmentation to the last packet. */
	if (!p->is_udp)
		*flags |= p->packet[p->l4 + WIRE_TCP_FLAGS] & (WIRE_TCP_PSH | WIRE_TCP_FIN);
}

/* Join it to its flow's open frame.  False: it begins a frame of its own. */
static bool try_append(struct coalesce *c, struct frame *f, const struct parsed *p)
{
	if (!frame_takes(f, p))
		return false;
	if (!f->is_verified) {
		f->is_verified = is_checksum_right(&f->head);
		if (!f->is_verified)
			return false;
	}
	if (!is_checksum_right(p))
		return false;
	append(c, f, p);
	return true;
}

bool coalesce_add(struct coalesce *c, uint8_t *packet, size_t len)
{
	struct parsed p;
	struct frame *f;
	enum kind kind;
	uint32_t *place, hash;

	if (c->packet_count == c->packets_max)
		return false;
	kind = parse(c, packet, len, &p);
	if (kind == KIND_OTHER) {
		(void)begin_frame(c, packet, len);
		return true;
	}
	hash = hash_of(&p);
	place = &c->table[hash & (TABLE_SIZE - 1)];
	if (kind == KIND_ALONE) {
		/* Nothing that comes later may overtake it. */
		*place = NONE;
		(void)begin_frame(c, packet, len);
		return true;
	}
	f = *place == NONE ? NULL : &c->frames[*place];
	if (f && f->is_open && is_same_flow(&f->head, &p) && try_append(c, f, &p))
		return true;
	*place = (uint32_t)c->frame_count;
	f = begin_frame(c, packet, len);
	f->hash = hash;
	f->head = p;
	f->is_open = !is_last_of_frame(f, &p);
	return true;
}

/* --- what to write ------------------------------------------------------------------------- */

size_t coalesce_frame_count(const struct coalesce *c)
{
	return c->frame_count;
}

size_t coalesce_frame_packets(const struct coalesce *c, size_t i)
{
	return c->frames[i].count;
}

/* Make the first packet's headers those of all. */
static void finish_headers(struct frame *f)
{
	struct parsed *h = &f->head;
	uint8_t *ip = h->packet + h->l3, *l4 = h->packet + h->l4;
	uint8_t protocol = h->is_udp ? WIRE_PROTOCOL_UDP : WIRE_PROTOCOL_TCP;
	uint32_t l4_len = (uint32_t)(f->bytes - h->l4);
	uint64_t sum = checksum_sum_pseudo(h->is_v6 ? 6 : 4, addresses_of(h), protocol);

	if (h->is_v6) {
		wire_put_be16(ip + WIRE_IPV6_PAYLOAD_LEN, (uint16_t)l4_len);
	} else {
		wire_put_be16(ip + WIRE_IPV4_TOTAL_LEN, (uint16_t)(f->bytes - h->l3));
		wire_put_native16(ip + WIRE_IPV4_CHECK, 0);
		wire_put_native16(ip + WIRE_IPV4_CHECK,
				  (uint16_t)~checksum_fold(checksum_sum(ip, WIRE_IPV4_LEN)));
	}
	if (h->is_udp)
		wire_put_be16(l4 + WIRE_UDP_LENGTH, (uint16_t)l4_len);
	wire_put_native16(l4 + (h->is_udp ? WIRE_UDP_CHECK : WIRE_TCP_CHECK),
			  checksum_fold(sum + checksum_of_number(l4_len)));
}

static void finish_vnet(struct frame *f)
{
	const struct parsed *h = &f->head;

	f->vnet.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	f->vnet.gso_type = h->is_udp  ? VIRTIO_NET_HDR_GSO_UDP_L4
			   : h->is_v6 ? VIRTIO_NET_HDR_GSO_TCPV6
				      : VIRTIO_NET_HDR_GSO_TCPV4;
	f->vnet.hdr_len = (uint16_t)h->header_len;
	f->vnet.gso_size = h->payload;
	f->vnet.csum_start = h->l4;
	f->vnet.csum_offset = h->is_udp ? WIRE_UDP_CHECK : WIRE_TCP_CHECK;
}

size_t coalesce_frame(struct coalesce *c, size_t i, struct iovec *iov)
{
	struct frame *f = &c->frames[i];
	size_t n = 0;

	assert(i < c->frame_count);
	if (f->count > 1) {
		finish_headers(f);
		finish_vnet(f);
	}
	iov[n++] = (struct iovec){ &f->vnet, sizeof(f->vnet) };
	for (uint32_t p = f->first; p != NONE; p = c->packets[p].next)
		iov[n++] = (struct iovec){ c->packets[p].data, c->packets[p].len };
	assert(n == f->count + 1u && n <= COALESCE_IOV_MAX);
	return n;
}
