/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The descriptors that a data path works with, made by who has the privileges: netd, or netd-wg's
 * own parent when it runs alone.
 */
#ifndef NETD_WG_SOCKETS_H
#define NETD_WG_SOCKETS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"

#define WG_SOCKET_BUFFER_BYTES (7 << 20)
/* What the kernel may put into one superframe, so that it fits one UDP_SEGMENT send once each
 * packet has become 32 bytes longer: 44 packets of 1452 bytes. */
#define WG_GSO_MAX_BYTES 61500

/* IPv4 and IPv6 on one port; fd6 is -1 where there is no IPv6. */
struct wg_udp_sockets {
	int fd4, fd6;
	uint16_t port;
	uint32_t mark;
	bool gso; /* UDP_SEGMENT works: it was tried */
};

/*
 * Bind both to `port` (0: any), non-blocking, with large buffers (as large as allowed without
 * CAP_NET_ADMIN), UDP_GRO, sticky sources and TOS reported.  -EADDRINUSE names the port.
 */
int wg_udp_open(uint16_t port, uint32_t mark, bool offload, struct wg_udp_sockets *ret,
		struct err *err) __attribute__((warn_unused_result, nonnull(4)));
void wg_udp_close(struct wg_udp_sockets *s) __attribute__((nonnull));

/* Does a UDP_SEGMENT send arrive as it should, equal tails too?  Over loopback; where that is down
 * only whether the kernel knows it. */
bool wg_udp_gso_works(void);

struct wg_device {
	int fd;
	bool uso; /* takes UDP superframes */
};

/*
 * Make or open the TUN (or TAP) `name`, persistent, with vnet headers, and set its MTU.  -EBUSY:
 * another process has it.
 */
int wg_device_open(const char *name, bool l2, uint16_t mtu, bool offload, struct wg_device *ret,
		   struct err *err) __attribute__((warn_unused_result, nonnull(1, 5)));
int wg_device_set_mtu(const char *name, uint16_t mtu, struct err *err)
	__attribute__((warn_unused_result, nonnull(1)));
/* It goes with its last descriptor. */
void wg_device_release(int fd);

/* A listening unix socket DIR/NAME.sock, folders made; a stale one is replaced, one in use is
 * -EADDRINUSE.  The path goes into `path` (of 108 bytes). */
int wg_listen(const char *dir, const char *name, char *path, int *ret_fd, struct err *err)
	__attribute__((warn_unused_result, nonnull(1, 2, 3, 4)));
/* Connect to it: -ENOENT or -ECONNREFUSED when nobody is there. */
int wg_connect(const char *dir, const char *name, int *ret_fd)
	__attribute__((warn_unused_result, nonnull));

#endif
