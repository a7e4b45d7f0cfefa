/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ICMP answer to a packet that does not fit: "fragmentation needed" (RFC 792, 1191), "packet
 * too big" (RFC 4443).
 *
 * Behind a TUN the kernel gives it, by the device's MTU.  Behind a TAP nobody does: frames are
 * bridged, the sender is a guest that believes in its own MTU.  The answer looks as if the packet's
 * destination had sent it (a bridge has no address of its own), as the kernel's VXLAN does it.
 *
 * Pure; any thread; no allocation.
 */
#ifndef VPN_OFFLOAD_TOOBIG_H
#define VPN_OFFLOAD_TOOBIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Ethernet header, IP header, ICMP header and what is quoted: at most 1280 bytes of IP. */
#define TOOBIG_FRAME_MAX (18 + 1280)

/*
 * Does the IP packet behind `l2_len` bytes of link header, which is `ip_len` bytes long (for a
 * superframe: the longest packet it becomes), go beyond `mtu`?  And may one say so: not of
 * IPv4 without DF (it is fragmented on its way), nor to or about groups, broadcasts, later
 * fragments, ICMP errors, or to nobody (RFC 1122, 3.2.2; RFC 4443, 2.4).  Then the answer is in
 * `ret`, with the link header turned round, and its length is returned; else 0.  Of `frame` only
 * `len` bytes are there; a packet that lies about itself gets none.
 */
size_t toobig_answer(const uint8_t *frame, size_t len, size_t l2_len, size_t ip_len, uint16_t mtu,
		     uint8_t ret[TOOBIG_FRAME_MAX])
	__attribute__((warn_unused_result, nonnull));

#endif
