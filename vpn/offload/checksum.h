/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The Internet checksum (RFC 1071), fast.
 *
 * A sum is of 16-bit words in the byte order of memory, kept wide and folded at the end; the
 * result goes back to memory as it is.  Sums of several areas add up when each but the last has an
 * even length.  Pure; any thread.
 */
#ifndef VPN_OFFLOAD_CHECKSUM_H
#define VPN_OFFLOAD_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* The sum of `len` (up to 65535) bytes, to be added to others and folded. */
uint64_t checksum_sum(const uint8_t *bytes, size_t len) __attribute__((nonnull, pure));

/* The sum of the pseudo header but for its length; family 4 or 6, addresses as on the wire, one
 * behind the other. */
uint64_t checksum_sum_pseudo(unsigned family, const uint8_t *addresses, uint8_t protocol)
	__attribute__((nonnull, pure));

/* What a 16-bit or 32-bit number of host order adds. */
uint64_t checksum_of_number(uint32_t number) __attribute__((const));

/* To 16 bits, not yet inverted: 0xffff for what sums up right. */
static inline uint16_t checksum_fold(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

#endif
