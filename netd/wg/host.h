/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * netd's side of a user-space tunnel: its TUN device, its UDP sockets, the process netd-wg that
 * carries its packets, and what that must be told again after a crash.
 *
 *	wg_host_open()	   a running netd-wg of that name goes on (netd was restarted), else the
 *			   device is made and a netd-wg started
 *	wg_host_set()	   keys, peers: text as of `wg set` (uapi.h), plus keys of our own
 *	wg_host_get()	   all of it, with counters
 *	wg_host_fd()	   readable: wg_host_process()
 *	wg_host_close()	   forget it, it goes on; wg_host_stop(): it ends, the device goes
 *
 * The device is persistent: address, routes and link stay when the process dies.  netd-wg reports
 * endpoints and handshake timestamps as they change; after a crash wg_host_restart() starts another
 * one and gives them back, once the caller has set its keys and peers again.
 *
 * Privileges needed: CAP_NET_ADMIN (TUN, mark, forced buffers), CAP_NET_BIND_SERVICE for low ports.
 * One thread; calls wait for netd-wg's answer, up to two seconds.
 */
#ifndef NETD_WG_HOST_H
#define NETD_WG_HOST_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/base/err.h"

struct wg_host;

struct wg_host_config {
	char name[IFNAMSIZ];  /* of the device */
	const char *program;  /* NULL: netd-wg beside this program, else in PATH's sbin */
	const char *run;      /* folder of NAME.sock, where a later netd finds it: "/run/netd/wg" */
	const char *uapi;     /* folder of NAME.sock for wg(8): "/run/wireguard"; NULL: none */
	uint16_t mtu;	      /* of the device */
	uint16_t listen_port; /* 0: any */
	uint32_t mark;	      /* fwmark, 0: none */
	bool no_offload;      /* never UDP_SEGMENT, no superframes */
};

/* Folders are made.  *ret_adopted: it was running.  Errors say what to do. */
int wg_host_open(const struct wg_host_config *config, struct wg_host **ret, bool *ret_adopted,
		 struct err *err) __attribute__((warn_unused_result, nonnull(1, 2, 3)));
void wg_host_close(struct wg_host *h); /* the process goes on; NULL is fine */
void wg_host_stop(struct wg_host *h);  /* process, sockets and device end; frees */

/* To be polled for reading; -1 while there is no process. */
int wg_host_fd(const struct wg_host *h) __attribute__((nonnull));
/*
 * Take what netd-wg has to say.  -ECONNRESET: it has died: call wg_host_restart(), at once for the
 * first time, later and later when it keeps dying.
 */
int wg_host_process(struct wg_host *h, struct err *err)
	__attribute__((warn_unused_result, nonnull(1)));
/* Start it again.  Then wg_host_set() everything, then wg_host_restore(). */
int wg_host_restart(struct wg_host *h, struct err *err)
	__attribute__((warn_unused_result, nonnull(1)));
/* Give back endpoints and timestamps; peers that had a session get a handshake at once. */
int wg_host_restore(struct wg_host *h, struct err *err)
	__attribute__((warn_unused_result, nonnull(1)));

/* "private_key=...\npublic_key=...\n": see uapi.h.  The text is cleaned by the caller. */
int wg_host_set(struct wg_host *h, const char *text, struct err *err)
	__attribute__((warn_unused_result, nonnull(1, 2)));
/* Text of `wg`'s get=1 and our own keys; the caller frees, and cleans: it has the keys. */
int wg_host_get(struct wg_host *h, char **ret_text, struct err *err)
	__attribute__((warn_unused_result, nonnull(1, 2)));
/* Another port or mark, live.  -EADDRINUSE: it stays as it was. */
int wg_host_bind(struct wg_host *h, uint16_t listen_port, uint32_t mark, struct err *err)
	__attribute__((warn_unused_result, nonnull(1)));
int wg_host_set_mtu(struct wg_host *h, uint16_t mtu, struct err *err)
	__attribute__((warn_unused_result, nonnull(1)));

pid_t wg_host_pid(const struct wg_host *h) __attribute__((nonnull)); /* 0: none */

#endif
