/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What netd and a netd-wg say to each other: frames over a unix stream, with descriptors.
 *
 *	host (netd)				data path (netd-wg)
 *	START  struct wg_start + descriptors ->		once, first
 *	SET    text of keys and values ------->	<------ REPLY errno, text
 *	GET    ------------------------------->	<------ REPLY
 *	STOP   ------------------------------->		end, at once
 *						<------ WANT struct wg_want + its UDP sockets:
 *							a SET, or wg(8), wants another port or mark
 *	SOCKETS struct wg_sockets + descriptors ->	the answer: new sockets; without any: it
 *keeps its own, whose mark was changed REFUSED errno, text ------------------>
 *						<------ STATE text: endpoints and timestamps that
 *							changed, to be given back after a crash
 *
 * The text is that of WireGuard's cross-platform interface ("set=1" without its first and last
 * line), see uapi.h.  A netd-wg serves one host at a time; the newer connection takes over.
 * Neither trusts the other: frames have a limit, lengths are checked, descriptors that do not
 * belong to a frame are closed.
 */
#ifndef NETD_WG_LINK_H
#define NETD_WG_LINK_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

#define WG_LINK_VERSION	  1
#define WG_LINK_FRAME_MAX (64u << 20) /* 65536 peers' text */
#define WG_LINK_FDS_MAX	  5

enum wg_frame {
	WG_START = 1,
	WG_SET,
	WG_GET,
	WG_SOCKETS,
	WG_STOP,
	WG_REFUSED,
	WG_REPLY = 64,
	WG_WANT,
	WG_STATE,
};

/* Descriptors in this order; those whose bit is clear are left out. */
enum {
	WG_FD_DEVICE = 1, /* TUN or TAP with vnet headers, non-blocking */
	WG_FD_UDP4 = 2,	  /* bound, see sockets.h */
	WG_FD_UDP6 = 4,
	WG_FD_UAPI = 8,	    /* listening */
	WG_FD_CONTROL = 16, /* listening: where a later netd connects */
};

struct wg_start {
	uint32_t version, fds;
	char name[IFNAMSIZ];
	uint16_t mtu, listen_port;
	uint32_t mark;
	uint8_t l2;	 /* a TAP: Ethernet frames */
	uint8_t offload; /* 0: neither UDP_SEGMENT nor superframes */
	uint8_t uso;	 /* the device takes UDP superframes */
	uint8_t gso;	 /* UDP_SEGMENT works */
};

struct wg_sockets {
	uint32_t fds;
	uint32_t mark;
	uint16_t listen_port;
	uint8_t gso, pad;
};

struct wg_want {
	uint32_t mark;
	uint16_t listen_port; /* 0: any */
	uint16_t pad;
};

/* Of REPLY and REFUSED: `code` is 0 or a negative errno; text follows. */
struct wg_reply {
	int32_t code;
};

struct wg_message {
	uint32_t type;
	size_t len;
	uint8_t *data; /* len bytes and a NUL; the link's, until the next call */
	int fds[WG_LINK_FDS_MAX];
	size_t fd_count; /* the receiver's to close or keep (set to -1) */
};

/* One end.  One thread. */
struct wg_link;
/* Owns `fd` from now on (also on failure).  -ENOMEM. */
int wg_link_new(int fd, struct wg_link **ret) __attribute__((warn_unused_result, nonnull));
void wg_link_free(struct wg_link *l);
int wg_link_fd(const struct wg_link *l) __attribute__((nonnull));

/*
 * Send a frame: blocks for at most two seconds (what is sent is small or the peer reads).
 * Descriptors are duplicated.  -EPIPE, -ETIMEDOUT.
 */
int wg_link_send(struct wg_link *l, uint32_t type, const void *data, size_t len, const int *fds,
		 size_t fd_count) __attribute__((warn_unused_result, nonnull(1)));

/* What was received last is zeroed now, instead of with the next one. */
void wg_link_forget(struct wg_link *l) __attribute__((nonnull));

/*
 * The next frame that has come.  1: *ret is it; 0: not whole yet; -ECONNRESET: the other end is
 * gone; -EPROTO: it does not speak this.  Does not block.
 */
int wg_link_receive(struct wg_link *l, struct wg_message *ret)
	__attribute__((warn_unused_result, nonnull));
/* Close the descriptors that were not taken. */
void wg_message_done(struct wg_message *m) __attribute__((nonnull));

#endif
