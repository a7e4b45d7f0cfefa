/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the device share: the device, its peers, their sessions and timers.
 *
 *	struct vpn --> struct peer --> previous, current, next (struct vpn_keypair)
 *	     |             '--> noise_handshake (as initiator)
 *	     '--> index_table: receiver index -> handshake or keypair
 *	     '--> allowed: address -> peer
 *	     '--> wakes: peers by their next deadline
 *
 * Locks.  `lock` guards what the packet path reads or writes; fields say which they are.  The
 * owner's thread alone changes peers and does handshakes, so it reads what only it changes without
 * the lock, and takes the lock to change what others read.  Nothing else is locked within it, and
 * nothing slow is done (no crypto, no callback; memory is taken before).
 *
 * Sessions.  A keypair is held by its peer's slot and by each packet under way (refs); its keys
 * are zeroed when the last one lets go.
 */
#ifndef VPN_DEVICE_H
#define VPN_DEVICE_H

#include <bsd/sys/queue.h>
#include <bsd/sys/tree.h>
#include <pthread.h>
#include <stdatomic.h>

#include "vpn/aead.h"
#include "vpn/allowed.h"
#include "vpn/cookie.h"
#include "vpn/index.h"
#include "vpn/load.h"
#include "vpn/noise.h"
#include "vpn/ratelimit.h"
#include "vpn/replay.h"
#include "vpn/vpn.h"

#define INDICES_OF_PEER 5 /* three sessions, a handshake, and one that is being made */

/* ---- sessions ------------------------------------------------------------------------------ */

struct vpn_keypair {
	atomic_uint refs;
	/* Set once. */
	const struct aead_provider *aead;
	struct aead_key *sealing, *opening;
	uint8_t send_key[KEY_LEN]; /* for keepalives, which no worker sends */
	uint64_t peer;
	uint64_t born_ns;
	uint32_t local_index, remote_index;
	bool initiator;
	/* Under the lock. */
	bool listed; /* in a slot of its peer */
	uint64_t send_counter;
	struct replay replay;
};

/* ---- timers -------------------------------------------------------------------------------- */

/* Each one's trigger: timers.c. */
enum timer {
	TIMER_INITIATE,
	TIMER_RETRANSMIT,
	TIMER_KEEPALIVE,
	TIMER_NEW_HANDSHAKE,
	TIMER_ZERO_KEYS,
	TIMER_PERSISTENT,
	TIMER_TELL, /* callbacks are owed */
	TIMER_COUNT,
};

enum owed {
	OWED_SESSION_UP = 1,
	OWED_ROAMED = 2,
	OWED_SUCCEEDED = 4,
	OWED_HANDSHAKE_DONE = 8,
};

/* ---- peers --------------------------------------------------------------------------------- */

struct peer {
	uint64_t id;
	/* The owner's alone. */
	RB_ENTRY(peer) by_key;
	TAILQ_ENTRY(peer) in_order;
	struct noise_pair pair;
	struct noise_handshake handshake; /* ours, as initiator; local_index 0: none taken */
	struct cookie_jar jar;
	struct vpn_peer_state state;
	uint64_t last_taken_ns; /* an initiation of it */
	/* Under the lock. */
	struct vpn_keypair *previous, *current, *next;
	struct vpn_endpoint endpoint;
	struct allowed_owner allowed;
	uint64_t successor, predecessor;
	uint64_t succeeded;	      /* whom it succeeded: for OWED_SUCCEEDED */
	uint64_t due_ns[TIMER_COUNT]; /* 0: off */
	uint64_t wakes_ns;	      /* not after the earliest of them; 0: not in the tree */
	RB_ENTRY(peer) by_wake;
	unsigned owed;
	unsigned attempts; /* initiations without an answer */
	uint64_t last_handshake_sent_ns;
	uint16_t keepalive_s;
	bool another_keepalive, last_minute, handshaking;
	/* Counters, under the lock; `rx_lost` of sessions that are gone. */
	uint64_t last_handshake_ns, last_handshake_real_ns, last_received_ns;
	uint64_t tx_bytes, rx_bytes, tx_packets, rx_packets, rx_lost, rx_refused, handshakes;
};

RB_HEAD(peers_by_key, peer);
RB_HEAD(peers_by_wake, peer);
TAILQ_HEAD(peer_list, peer);
RB_PROTOTYPE(peers_by_key, peer, by_key, peer_key_compare)
RB_PROTOTYPE(peers_by_wake, peer, by_wake, peer_wake_compare)

/* ---- the device ---------------------------------------------------------------------------- */

struct vpn {
	struct vpn_config config;
	struct crypto crypto;
	const struct aead_provider *aead;
	/* The owner's alone. */
	struct noise_self self;
	struct cookie_guard guard;
	struct ratelimit *ratelimit;
	struct load load;
	struct peers_by_key by_key;
	struct peer_list peers;
	uint64_t last_id;
	_Atomic uint64_t real_ns; /* as last heard, for sessions that the packet path confirms */
	/* Under the lock. */
	pthread_mutex_t lock;
	struct cookie_keys mac_keys; /* of our static key, for vpn_receive_plausible() */
	bool has_key;
	uint16_t mtu;
	struct peer **slots; /* by the low bits of the id */
	uint32_t slot_count, peer_count;
	struct index_table index;
	struct allowed allowed;
	struct peers_by_wake by_wake;
	uint64_t armed_ns; /* what the owner sleeps until; UINT64_MAX: for ever */
	bool wake;	   /* there is something earlier */
	uint64_t jitter;   /* state of a small generator */
	struct vpn_counters counters;
};

/* Threads read the clock on their own: `then` may be a little ahead of `now`. */
static inline uint64_t age_ns(uint64_t now_ns, uint64_t then_ns)
{
	return now_ns > then_ns ? now_ns - then_ns : 0;
}

static inline void device_lock(const struct vpn *v)
{
	pthread_mutex_lock((pthread_mutex_t *)&v->lock);
}

static inline void device_unlock(const struct vpn *v)
{
	pthread_mutex_unlock((pthread_mutex_t *)&v->lock);
}

/* device.c */
void device_random(struct vpn *v, void *bytes, size_t len);
void device_count(struct vpn *v, enum vpn_verdict verdict); /* takes the lock */

/* peer.c: NULL: there is none.  The first under the lock or on the owner's thread. */
struct peer *peer_get(const struct vpn *v, uint64_t id);
struct peer *peer_find(const struct vpn *v, const uint8_t public_key[KEY_LEN]);
void peer_free(struct vpn *v, struct peer *p);
/* The peer was heard from there, authenticated.  Under the lock. */
void peer_roam(struct vpn *v, struct peer *p, const struct vpn_endpoint *from, uint64_t now_ns);

/* session.c */
/*
 * Make a session from a finished handshake.  `index` is its local index.  0, -ENOMEM or -EPROTO.
 */
int keypair_new(struct vpn *v, struct peer *p, struct noise_handshake *h, uint64_t now_ns,
		struct vpn_keypair **ret) __attribute__((warn_unused_result));
void keypair_put(struct vpn_keypair *k, unsigned refs);
/* Under the lock.  Sessions that lose their slot are handed back for keypair_put(), NULL-ended. */
#define SESSION_DROPPED_MAX 4
void session_add(struct vpn *v, struct peer *p, struct vpn_keypair *k,
		 struct vpn_keypair *dropped[SESSION_DROPPED_MAX]);
void session_confirm(struct vpn *v, struct peer *p, struct vpn_keypair *dropped[2]);
void session_clear(struct vpn *v, struct peer *p, struct vpn_keypair *dropped[SESSION_DROPPED_MAX]);
/* A session to send with came up: what follows from it. */
void session_up(struct vpn *v, struct peer *p, uint64_t now_ns);
bool session_may_send(const struct vpn_keypair *k, uint64_t count, uint64_t now_ns);
bool session_may_receive(const struct vpn_keypair *k, uint64_t now_ns);

/* timers.c; all under the lock */
void timer_set(struct vpn *v, struct peer *p, enum timer t, uint64_t at_ns);
void timer_clear(struct peer *p, enum timer t);
void timer_tell(struct vpn *v, struct peer *p, enum owed owed, uint64_t now_ns);
void timer_ask_handshake(struct vpn *v, struct peer *p, uint64_t now_ns);
void timer_traversed(struct vpn *v, struct peer *p, uint64_t now_ns);
void timer_sent(struct vpn *v, struct peer *p, bool data, uint64_t now_ns);
void timer_received(struct vpn *v, struct peer *p, bool data, uint64_t now_ns);
void timer_handshake_sent(struct vpn *v, struct peer *p, uint64_t now_ns);
void timer_handshake_complete(struct vpn *v, struct peer *p, uint64_t now_ns);
void timer_session_derived(struct vpn *v, struct peer *p, uint64_t now_ns);
void timer_forget(struct vpn *v, struct peer *p); /* the peer goes */

/* handshake.c; the owner's, without the lock */
void handshake_initiate(struct vpn *v, struct peer *p, uint64_t now_ns, uint64_t real_ns);
void handshake_drop(struct vpn *v, struct peer *p); /* what was begun */
/* send.c */
void send_keepalive(struct vpn *v, struct peer *p, uint64_t now_ns);

#endif
