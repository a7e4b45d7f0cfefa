/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The transmission phase of one connection as a state machine without sockets, threads or clock:
 * bytes in, engine requests out, engine answers in, bytes out.
 *
 *	loop:
 *		if transmit_rx_iov() gives room: receive into it, transmit_received()
 *		(engine runs, its answers come back by themselves)
 *		while transmit_tx_iov() gives bytes: send them, transmit_sent()
 *		transmit_retry() when buffers have been freed
 *	until transmit_state() is DONE or BROKEN; then close the socket, transmit_abort(), and free
 *	it once transmit_in_flight() is 0.
 *
 * Memory is bounded: the receive buffer, TRANSMIT_REQUEST_MAX requests, and payloads from the
 * bufpool within this connection's share.  When any of them is used up nothing more is received,
 * which is how a slow reader and a flood are held back.
 *
 * Thread: the reactor's.
 */
#ifndef BLOCKD_NBD_TRANSMIT_H
#define BLOCKD_NBD_TRANSMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "blockd/access/lock.h"
#include "blockd/bufpool.h"
#include "blockd/nbd/contexts.h"
#include "blockd/nbd/counters.h"
#include "thin/thin.h"

#define TRANSMIT_REQUEST_MAX 128u /* requests taken up and not yet answered */
#define TRANSMIT_IOV_MAX     320  /* 1 MiB out of the cache, block by block, and more */

struct transmit;

struct transmit_params {
	struct thin_pool *pool;
	struct thin_vol *vol; /* stays open as long as this lives */
	struct bufpool *bufs;
	bool read_only, structured;
	unsigned contexts; /* mask of enum context and of bitmaps behind them */
	struct thin_vol *bases[CONTEXTS_BITMAP_MAX]; /* of the bitmaps; stay open likewise */
	struct io_counters *volume_counters;	     /* added to besides the connection's own */
	struct io_latency *volume_latency;	     /* NULL: not counted */
	struct lock_conn *lock; /* asked before each change; NULL: nobody is.  As long as this. */
	/* There is something to send or the state has changed.  Called from engine callbacks;
	 * only makes a note. */
	void (*wake)(void *user);
	void *user;
};

enum transmit_state {
	TRANSMIT_RUNNING,
	TRANSMIT_DRAINING, /* takes no further requests, answers what it has */
	TRANSMIT_DONE,	   /* drained and all sent: close */
	TRANSMIT_BROKEN,   /* close at once; transmit_reason() says why */
};

/* NULL without memory.  Any thread may make it and free it. */
struct transmit *transmit_new(const struct transmit_params *params);
/* Where to count besides, instead of what the parameters said. */
void transmit_set_volume(struct transmit *t, struct io_counters *counters,
			 struct io_latency *latency);
/* Nothing may be in flight.  After transmit_abort() on any thread.  NULL is fine. */
void transmit_free(struct transmit *t);

enum transmit_state transmit_state(const struct transmit *t);
const char *transmit_reason(const struct transmit *t); /* "" for a clean end */

/*
 * The clock of the latencies, two readings a turn: `now_ns` when bytes have just come, before
 * transmit_received(); and just before answers are sent, if any are waiting to be timed.  All
 * requests of one receive have come at its time, all answers of one send leave at its.
 */
void transmit_set_now(struct transmit *t, uint64_t now_ns);
bool transmit_is_untimed(const struct transmit *t);
void transmit_time(struct transmit *t, uint64_t now_ns);

/* Where to receive; returns the number of pieces (at most 2), 0: not now. */
int transmit_rx_iov(struct transmit *t, struct iovec iov[2]);
/* `len` bytes have come: parse them and submit what they ask for. */
void transmit_received(struct transmit *t, size_t len);
/* As if received: bytes that came with the handshake.  At most 32 KiB. */
void transmit_inject(struct transmit *t, const void *data, size_t len);
/* The peer will send no more. */
void transmit_eof(struct transmit *t);
/* Parsing may have stopped for want of a buffer, a slot or an answer: try again.  True if something
 * was given to the engine. */
bool transmit_retry(struct transmit *t);

/* What to send; returns the number of pieces, 0: nothing. */
int transmit_tx_iov(struct transmit *t, struct iovec *iov, int iov_max);
/* How many bytes there are to send. */
size_t transmit_tx_bytes(const struct transmit *t);
void transmit_sent(struct transmit *t, size_t len);

/* Receive no further requests; those that have come whole are answered. */
void transmit_stop(struct transmit *t);
/* Give up: drop what was to be sent.  Afterwards BROKEN. */
void transmit_abort(struct transmit *t, const char *reason);

uint32_t transmit_in_flight(const struct transmit *t); /* engine requests */
uint32_t transmit_open_requests(const struct transmit *t);
uint64_t transmit_held_bytes(const struct transmit *t);
/* Has issued as much as one turn may: go on with transmit_retry() in the next. */
bool transmit_has_yielded(const struct transmit *t);
/* Parsing stands still for want of the write lock; transmit_retry() when that has changed. */
bool transmit_wants_lock(const struct transmit *t);
/* Its end is a DISC, not a lost connection. */
bool transmit_has_said_goodbye(const struct transmit *t);
/* Parsing stands still for want of a buffer. */
bool transmit_wants_memory(const struct transmit *t);
/* Holds buffers that only the client can set free: unsent answers, an incomplete payload. */
bool transmit_client_holds_memory(const struct transmit *t);
const struct io_counters *transmit_counters(const struct transmit *t);

#endif
