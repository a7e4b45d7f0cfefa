/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The data path: from the device to the wire and back, in batches, run to completion by one thread.
 *
 *	device -> superframe -> cut -> sealed side by side -> one UDP_SEGMENT send for each
 *	wire -> UDP_GRO batch -> opened in place -> joined -> one write for each superframe
 *
 * Nothing is queued between the two ends but packets that wait for a handshake (stage.h) and
 * handshakes that wait for packets (backlog.h).
 */
#ifndef NETD_WG_PATH_H
#define NETD_WG_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "netd/wg/io.h"
#include "netd/wg/text.h"
#include "vpn/vpn.h"

struct path;

struct path_config {
	int device;   /* TUN or TAP with vnet headers, non-blocking; the path's from then on */
	bool offload; /* write superframes */
	bool uso;     /* also of UDP */
	uint16_t mtu;
	/* A peer's endpoint or handshake timestamps changed.  May be NULL. */
	void (*changed)(void *ctx, uint64_t peer);
	void *ctx;
};

struct path_counters {
	uint64_t frames_read, packets_read;	   /* from the device */
	uint64_t frames_written, packets_written;  /* to it */
	uint64_t frames_bad;			   /* vnet header and frame did not agree */
	uint64_t no_peer, no_session, no_endpoint; /* packets dropped on their way out */
	uint64_t write_errors;
	uint64_t joined_refused; /* superframes that the device did not take: written apart */
	uint64_t clamped;	 /* SYNs */
	uint64_t backlog_full;	 /* handshake messages dropped, because too many waited */
};

/* Opens the protocol's device too: path_vpn(). */
int path_new(const struct path_config *config, struct path **ret, struct err *err)
	__attribute__((warn_unused_result, nonnull(1, 2)));
void path_free(struct path *p);
struct vpn *path_vpn(struct path *p) __attribute__((nonnull));
struct io *path_io(struct path *p) __attribute__((nonnull));
int path_device(const struct path *p) __attribute__((nonnull));
const struct path_counters *path_counters(const struct path *p) __attribute__((nonnull));
/* The device was deleted: nothing can go on. */
bool path_is_gone(const struct path *p) __attribute__((nonnull));
/* Append "count_NAME=N" lines of what this and io.h count. */
void path_describe(const struct path *p, struct wg_text *to) __attribute__((nonnull));
void path_set_mtu(struct path *p, uint16_t mtu) __attribute__((nonnull));

/* CLOCK_BOOTTIME and CLOCK_REALTIME in nanoseconds. */
uint64_t path_now(void);
uint64_t path_real(void);

/* Carry one batch each way.  False: there was nothing to do. */
bool path_work(struct path *p) __attribute__((nonnull));
/* Timers; afterwards how long nothing is due: milliseconds, -1: for ever. */
int path_run_timers(struct path *p) __attribute__((nonnull));

#endif
