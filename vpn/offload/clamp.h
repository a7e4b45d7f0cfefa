/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Clamping the maximum segment size that a TCP SYN announces, so that the other end never sends
 * what the tunnel does not take: connections through a tunnel work also where ICMP is dropped.
 */
#ifndef VPN_OFFLOAD_CLAMP_H
#define VPN_OFFLOAD_CLAMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * If the IPv4 or IPv6 packet is a TCP SYN whose MSS option says more than fits `mtu`, lower it and
 * correct the checksum (also a partial one: it does not cover options' change otherwise).  A SYN
 * without the option is left alone, as are fragments and IPv6 extension headers.  True: changed.
 */
bool clamp_mss(uint8_t *packet, size_t len, size_t mtu, bool partial_checksum)
	__attribute__((nonnull));

#endif
