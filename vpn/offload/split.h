/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Cutting a superframe, which a TUN or TAP with vnet headers hands out, into packets.
 *
 *	struct split s;
 *	if (!split_begin(&s, &vnet, frame, len, 0))
 *		while (split_next(&s, &packet, &packet_len))
 *			... seal it to somewhere else
 *
 * Nothing is copied: the headers of each packet are written right before its payload, over the
 * payload of the packet before, which must be done with by then.  So packets are good until the
 * next split_next(), in order, and the frame is destroyed.  What is no superframe comes out as one
 * packet, its checksum filled in when the header asks for it.
 *
 * Pure; any thread; no allocation.
 */
#ifndef VPN_OFFLOAD_SPLIT_H
#define VPN_OFFLOAD_SPLIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vpn/offload/vnet.h"

/* Ethernet, IPv6 with extension headers, TCP with options. */
#define SPLIT_HEADER_MAX 256
#define SPLIT_FRAME_MAX	 (65535 + 18)

struct split {
	uint8_t *frame;	     /* borrowed */
	size_t len, offset;  /* offset: payload that has been given out */
	size_t payload_size; /* of each packet but the last */
	uint16_t l3, l4, header_len;
	uint16_t index; /* of the next packet */
	bool is_gso, is_v6, is_udp;
	uint16_t first_id;   /* IPv4 */
	uint32_t first_seq;  /* TCP */
	uint64_t pseudo_sum; /* without the length */
	uint8_t header[SPLIT_HEADER_MAX];
};

/*
 * `frame` (len bytes, behind the vnet header) is borrowed and writable until the last packet is
 * done; `l2_len` is 0 for a TUN, the length of the Ethernet header for a TAP.  -EINVAL: vnet
 * header and frame do not agree; -EOPNOTSUPP: a kind of superframe that was not asked for (UFO).
 */
int split_begin(struct split *s, const struct virtio_net_hdr *vnet, uint8_t *frame, size_t len,
		size_t l2_len) __attribute__((warn_unused_result, nonnull));

/* How many packets it becomes, right after split_begin(). */
size_t split_count(const struct split *s) __attribute__((nonnull));

/* The next packet, link header included; false behind the last. */
bool split_next(struct split *s, uint8_t **ret_packet, size_t *ret_len)
	__attribute__((warn_unused_result, nonnull));

#endif
