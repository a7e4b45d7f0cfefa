/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Cutting superframes; see split.h.
 *
 *	frame	  [ headers | payload 0 | payload 1 | ... | payload n, shorter ]
 *	packet 0  [ headers | payload 0 ]
 *	packet 1              [ headers | payload 1 ]	over the end of payload 0
 *
 * What differs between packets is what the kernel's own segmentation makes of it: lengths, IPv4
 * identification counting up, TCP sequence number, FIN and PSH on the last only, CWR on the first
 * only, checksums.  The frame's checksum field holds the pseudo header's sum with the length of
 * all (CHECKSUM_PARTIAL): with that length taken out it is the start of each packet's sum, also
 * where a routing header makes the addresses in the IP header the wrong ones.
 *
 * Of the vnet header only gso_type, gso_size, csum_start and csum_offset are used; hdr_len may be
 * wrong (the kernel fills it with the linear length for forwarded frames).
 */
#include "vpn/offload/split.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "vpn/offload/checksum.h"
#include "vpn/offload/wire.h"

static_assert(SPLIT_FRAME_MAX < 1 << 17, "offsets fit");

static bool checksum_field_fits(const struct virtio_net_hdr *vnet, size_t len)
{
	return (size_t)vnet->csum_start + vnet->csum_offset + 2 <= len;
}

/* One packet: fill in its checksum if that was left to us. */
static int begin_single(struct split *s, const struct virtio_net_hdr *vnet)
{
	uint8_t *start;
	uint16_t sum;

	s->payload_size = s->len;
	if (!(vnet->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
		return 0;
	if (!checksum_field_fits(vnet, s->len))
		return -EINVAL;
	start = s->frame + vnet->csum_start;
	sum = (uint16_t)~checksum_fold(checksum_sum(start, s->len - vnet->csum_start));
	/* Zero means "none" in UDP; elsewhere both zeros are the same. */
	wire_put_native16(start + vnet->csum_offset, sum ? sum : 0xffff);
	return 0;
}

static int check_network_header(struct split *s, unsigned family)
{
	const uint8_t *ip = s->frame + s->l3;
	size_t least = family == 4 ? WIRE_IPV4_LEN : WIRE_IPV6_LEN;

	if (s->l4 < s->l3 + least || s->l4 > s->len || ip[0] >> 4 != family)
		return -EINVAL;
	if (family == 4 && s->l3 + (ip[0] & 15u) * 4 != s->l4)
		return -EINVAL;
	return 0;
}

static int check_transport_header(struct split *s, const struct virtio_net_hdr *vnet)
{
	size_t room = s->len - s->l4, header_len;

	if (s->is_udp) {
		header_len = WIRE_UDP_LEN;
		if (vnet->csum_offset != WIRE_UDP_CHECK)
			return -EINVAL;
	} else {
		if (vnet->csum_offset != WIRE_TCP_CHECK || room < WIRE_TCP_LEN)
			return -EINVAL;
		header_len = (s->frame[s->l4 + WIRE_TCP_OFFSET] >> 4) * 4u;
		if (header_len < WIRE_TCP_LEN)
			return -EINVAL;
	}
	if (header_len >= room || s->l4 + header_len > SPLIT_HEADER_MAX)
		return -EINVAL;
	s->header_len = (uint16_t)(s->l4 + header_len);
	return 0;
}

/* What all packets start from. */
static void take_header(struct split *s)
{
	const uint8_t *l4 = s->frame + s->l4;
	uint32_t check = wire_native16(l4 + (s->is_udp ? WIRE_UDP_CHECK : WIRE_TCP_CHECK));

	memcpy(s->header, s->frame, s->header_len);
	/* Minus the length of all: plus its complement. */
	s->pseudo_sum =
		check + (uint16_t)~checksum_fold(checksum_of_number((uint32_t)(s->len - s->l4)));
	if (!s->is_v6)
		s->first_id = wire_be16(s->frame + s->l3 + WIRE_IPV4_ID);
	if (!s->is_udp)
		s->first_seq = wire_be32(l4 + WIRE_TCP_SEQ);
}

static int begin_gso(struct split *s, const struct virtio_net_hdr *vnet, unsigned type)
{
	unsigned family;
	int r;

	s->is_udp = type == VIRTIO_NET_HDR_GSO_UDP_L4;
	if (!(vnet->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) || !vnet->gso_size || s->l3 >= s->len)
		return -EINVAL;
	family = s->frame[s->l3] >> 4;
	if (type == VIRTIO_NET_HDR_GSO_TCPV4 && family != 4)
		return -EINVAL;
	if (type == VIRTIO_NET_HDR_GSO_TCPV6 && family != 6)
		return -EINVAL;
	if (family != 4 && family != 6)
		return -EINVAL;
	s->is_gso = true;
	s->is_v6 = family == 6;
	s->l4 = vnet->csum_start;
	r = check_network_header(s, family);
	if (!r)
		r = check_transport_header(s, vnet);
	if (r)
		return r;
	s->payload_size = vnet->gso_size;
	take_header(s);
	return 0;
}

int split_begin(struct split *s, const struct virtio_net_hdr *vnet, uint8_t *frame, size_t len,
		size_t l2_len)
{
	unsigned type = vnet->gso_type & ~VIRTIO_NET_HDR_GSO_ECN;

	s->frame = frame;
	s->len = len;
	s->offset = 0;
	s->index = 0;
	s->is_gso = false;
	if (!len || len > SPLIT_FRAME_MAX || l2_len >= len || l2_len > SPLIT_HEADER_MAX)
		return -EINVAL;
	s->l3 = (uint16_t)l2_len;
	switch (type) {
	case VIRTIO_NET_HDR_GSO_NONE:
		return begin_single(s, vnet);
	case VIRTIO_NET_HDR_GSO_TCPV4:
	case VIRTIO_NET_HDR_GSO_TCPV6:
	case VIRTIO_NET_HDR_GSO_UDP_L4:
		return begin_gso(s, vnet, type);
	default:
		return -EOPNOTSUPP;
	}
}

size_t split_count(const struct split *s)
{
	if (!s->is_gso)
		return 1;
	return (s->len - s->header_len + s->payload_size - 1) / s->payload_size;
}

static void patch_network_header(const struct split *s, uint8_t *packet, size_t len)
{
	uint8_t *ip = packet + s->l3;

	if (s->is_v6) {
		wire_put_be16(ip + WIRE_IPV6_PAYLOAD_LEN, (uint16_t)(len - s->l3 - WIRE_IPV6_LEN));
		return;
	}
	wire_put_be16(ip + WIRE_IPV4_TOTAL_LEN, (uint16_t)(len - s->l3));
	wire_put_be16(ip + WIRE_IPV4_ID, (uint16_t)(s->first_id + s->index));
	wire_put_native16(ip + WIRE_IPV4_CHECK, 0);
	wire_put_native16(ip + WIRE_IPV4_CHECK,
			  (uint16_t)~checksum_fold(checksum_sum(ip, (size_t)(s->l4 - s->l3))));
}

static void patch_tcp_header(const struct split *s, uint8_t *tcp, bool is_last)
{
	uint8_t *flags = tcp + WIRE_TCP_FLAGS;

	wire_put_be32(tcp + WIRE_TCP_SEQ, s->first_seq + (uint32_t)s->offset);
	if (!is_last)
		*flags &= (uint8_t) ~(WIRE_TCP_FIN | WIRE_TCP_PSH);
	if (s->index)
		*flags &= (uint8_t)~WIRE_TCP_CWR;
}

static void patch_checksum(const struct split *s, uint8_t *l4, size_t l4_len)
{
	uint8_t *field = l4 + (s->is_udp ? WIRE_UDP_CHECK : WIRE_TCP_CHECK);
	uint64_t sum;
	uint16_t check;

	wire_put_native16(field, 0);
	sum = s->pseudo_sum + checksum_of_number((uint32_t)l4_len) + checksum_sum(l4, l4_len);
	check = (uint16_t)~checksum_fold(sum);
	wire_put_native16(field, check || !s->is_udp ? check : 0xffff);
}

bool split_next(struct split *s, uint8_t **ret_packet, size_t *ret_len)
{
	size_t left = s->len - s->header_len - s->offset, payload, len;
	uint8_t *packet;

	if (!s->is_gso) {
		if (s->index++)
			return false;
		*ret_packet = s->frame;
		*ret_len = s->len;
		return true;
	}
	if (!left)
		return false;
	payload = left < s->payload_size ? left : s->payload_size;
	len = s->header_len + payload;
	packet = s->frame + s->offset;
	memcpy(packet, s->header, s->header_len);
	patch_network_header(s, packet, len);
	if (s->is_udp)
		wire_put_be16(packet + s->l4 + WIRE_UDP_LENGTH, (uint16_t)(len - s->l4));
	else
		patch_tcp_header(s, packet + s->l4, payload == left);
	patch_checksum(s, packet + s->l4, len - s->l4);
	s->offset += payload;
	s->index++;
	*ret_packet = packet;
	*ret_len = len;
	return true;
}
