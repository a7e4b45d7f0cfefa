/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The outer side of a tunnel: datagrams in batches through two UDP sockets (IPv4, IPv6).
 *
 *	in	recvmmsg(); each message is up to 64 datagrams of one sender (UDP_GRO)
 *	out	datagrams are laid one behind the other in an arena; those that go to one place and
 *		have one length become one message (UDP_SEGMENT); io_flush() is one sendmmsg()
 *
 * One thread; memory is allocated at start only.
 */
#ifndef NETD_WG_IO_H
#define NETD_WG_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vpn/vpn.h"

#define IO_MESSAGES_IN	8     /* of one recvmmsg() */
#define IO_MESSAGES_OUT 128   /* of one sendmmsg() */
#define IO_BATCH_MAX	64    /* datagrams that are laid down before they are queued */
#define IO_SEGMENTS_MAX 64    /* UDP_MAX_SEGMENTS of older kernels */
#define IO_MESSAGE_MAX	65507 /* of UDP over IPv4 */
#define IO_ARENA_BYTES	(256 << 10)

struct io;

/* What came: datagrams of `segment` bytes (the last one may be shorter) of one sender. */
struct io_message {
	uint8_t *data;
	size_t len, segment;
	struct vpn_endpoint from; /* normalized, with the source to answer from */
	uint8_t tos;
};

struct io_counters {
	uint64_t messages_in, datagrams_in;
	uint64_t messages_out, datagrams_out;
	uint64_t send_errors;	  /* datagrams lost to an error of sendmsg() */
	uint64_t send_full;	  /* datagrams lost to a full socket buffer */
	uint64_t gso_refused;	  /* messages that had to be sent one by one */
	uint64_t sources_dropped; /* sticky sources that were no longer ours */
};

int io_new(struct io **ret) __attribute__((warn_unused_result, nonnull));
void io_free(struct io *io); /* closes the sockets */
/* Take over these sockets; what was there is closed.  -1: none. */
void io_set_sockets(struct io *io, int fd4, int fd6, bool gso) __attribute__((nonnull));
int io_fd(const struct io *io, bool v6) __attribute__((nonnull));
bool io_gso(const struct io *io) __attribute__((nonnull));
const struct io_counters *io_counters(const struct io *io) __attribute__((nonnull));

/* Receive what is there: number of messages (0: nothing), good until the next call. */
size_t io_receive(struct io *io, bool v6) __attribute__((nonnull));
struct io_message *io_message(struct io *io, size_t i) __attribute__((nonnull));

/*
 * Room for up to IO_BATCH_MAX datagrams of `len` bytes altogether, one behind the other, behind
 * what was queued; NULL: io_flush() first.
 */
uint8_t *io_room(struct io *io, size_t len) __attribute__((nonnull));
/* The next datagram that stands there, of `len` bytes, goes to `to`. */
void io_queue(struct io *io, const struct vpn_endpoint *to, uint8_t tos, size_t len)
	__attribute__((nonnull));
void io_flush(struct io *io) __attribute__((nonnull));

#endif
