/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * WireGuard's cross-platform configuration protocol (www.wireguard.com/xplatform) on a device, as
 * wg(8) speaks it: lines KEY=VALUE, keys in hex.
 *
 *	device		private_key listen_port fwmark replace_peers
 *	peer		public_key update_only remove preshared_key endpoint
 *			persistent_keepalive_interval replace_allowed_ips allowed_ip
 *			protocol_version
 *	answers only	rx_bytes tx_bytes last_handshake_time_sec last_handshake_time_nsec errno
 *
 * Between netd and netd-wg also (`trusted`):
 *	device		mtu
 *	peer		successor (a public key; zero: none), handshake (1: start one),
 *			received_tai64n sent_tai64n (24 hex digits)
 *	answers only	rx_packets tx_packets rx_lost rx_refused handshakes
 *			last_received_ago_ms session successor, and the device's counters
 *"count_NAME"
 *
 * Pure but for the device.  A text is applied line by line; the first line that is wrong ends it
 * with -EINVAL (as others do, what came before stays), named in `err` without its value, which may
 * be a key.
 */
#ifndef NETD_WG_UAPI_H
#define NETD_WG_UAPI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "netd/wg/text.h"
#include "vpn/vpn.h"

/* What belongs to the device but not to vpn/: sockets, device. */
struct uapi_device {
	struct vpn *vpn;
	uint16_t listen_port;
	uint32_t fwmark;
	uint16_t mtu;
};

/* What a text asked for that needs another's help. */
struct uapi_wish {
	bool bind; /* other sockets: */
	uint16_t listen_port;
	uint32_t fwmark;
	bool set_mtu;
	uint16_t mtu;
};

/* `text` is changed; keys in it are cleaned.  Times as in vpn.h. */
int uapi_set(struct uapi_device *d, char *text, bool trusted, uint64_t now_ns,
	     struct uapi_wish *ret_wish, struct err *err)
	__attribute__((warn_unused_result, nonnull(1, 2, 5)));

/* Append all of the device, but for "errno=0\n\n". */
void uapi_get(const struct uapi_device *d, bool trusted, uint64_t now_ns, struct wg_text *to)
	__attribute__((nonnull));
/* Of one peer, what a restart needs: public_key, endpoint, timestamps. */
void uapi_get_state(const struct uapi_device *d, uint64_t peer, struct wg_text *to)
	__attribute__((nonnull));

#endif
