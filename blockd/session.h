/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One connection in its transmission phase: a socket and its state machine; see session.c. */
#ifndef BLOCKD_SESSION_H
#define BLOCKD_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include <bsd/sys/tree.h>

#include "blockd/hold.h"
#include "blockd/nbd/transmit.h"
#include "blockd/reactor.h"

#define SESSION_STALL_MS    10000u	/* so long may a client sit on memory others wait for */
#define SESSION_STALL_BYTES (64u << 10) /* ... unless it moves this much in that time */
#define SESSION_LINGER_MS   1000u
#define SESSION_SEND_BUFFER (2u << 20) /* the kernel takes it twice, bookkeeping included */

/* A volume that is or was open: its counters outlive its connections. */
struct reactor_vol {
	RB_ENTRY(reactor_vol) by_id;
	uint64_t id; /* the engine's, never reused */
	uint32_t connections;
	struct io_counters io;
	struct io_latency latency;
	struct vol_lock *lock; /* NULL: nobody has asked since the pool was opened */
};
RB_HEAD(reactor_vols, reactor_vol);
RB_PROTOTYPE(reactor_vols, reactor_vol, by_id, );

struct session {
	TAILQ_ENTRY(session) link;   /* all of the reactor's */
	TAILQ_ENTRY(session) turn;   /* has work in this turn or the next */
	TAILQ_ENTRY(session) hungry; /* waits for memory */
	bool in_turn, in_hungry;
	struct reactor *reactor;
	struct reactor_adopt adopt; /* pointers to bytes are not valid */
	struct letter letter;	    /* to the reactor, at the end to the control thread */
	uint64_t seq;		    /* rises with each session of the reactor */
	uint64_t since_s;

	int fd; /* -1: closed */
	struct transmit *transmit;
	struct reactor_vol *vol;
	uint8_t *early; /* bytes of the handshake: early_out to send, then early_in to parse */
	size_t early_out, early_sent, early_in;
	bool readable; /* the socket may have bytes (edge-triggered) */
	bool hung_up;  /* ... or an end that must still be read */
	bool blocked;  /* sending would block; EPOLLOUT is armed */
	bool unsent;   /* its turn's share of sending is used up, or it holds answers back */
	bool local;    /* a unix socket: what is under way lies in our send buffer */
	struct hold hold;
	bool stopping; /* closed by us: linger so that the answers are not lost */
	bool lingering;
	bool protocol_error; /* the client's fault */
	uint64_t linger_until_ms;
	char reason[96];

	uint64_t received_bytes, sent_bytes, recvs, sends;
	uint64_t mark_ms, mark_bytes; /* of the stall watch */
};

/* On the control thread, with the pool open.  NULL without memory; takes nothing then. */
struct session *session_new(struct reactor *reactor, const struct reactor_adopt *adopt);
/* Anywhere, once nothing of the reactor's is held any more. */
void session_free(struct session *s);

/* All else on the reactor's thread. */

/* Begin: -errno and a reason if it can not. */
int session_start(struct session *s, uint64_t now_ms);
/* What epoll said. */
void session_event(struct session *s, uint32_t events);
/* Receive once; true if there may be more at once. */
bool session_receive(struct session *s);
/* Send a turn's share, parse what had to wait; true if the engine was given something. */
bool session_send(struct session *s);
/* No further requests; answer, close. */
void session_stop(struct session *s);
/* Close the socket now; what is in flight in the engine goes on. */
void session_cut(struct session *s, const char *reason);
/* Once a second: ends a linger.  True if the client has been sitting on memory for too long. */
bool session_tick(struct session *s, uint64_t now_ms);
/* The socket is closed and nothing is in flight: it can be ended. */
bool session_is_over(const struct session *s);
/* It has volume `id` open, or with `snapshots` one of its snapshots: reactor_pins.c. */
bool session_pins(const struct session *s, uint64_t id, bool snapshots);
/* Can be received from at once. */
bool session_can_receive(const struct session *s);

#endif
