/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * WireGuard as state machines: bytes and times in, bytes out.
 *
 *	 plaintext --vpn_route()--> peer --vpn_send_begin()--> struct vpn_tx --vpn_seal()-->
 *datagram datagram --vpn_open()--> plaintext + peer	(or: vpn_receive() for a handshake message)
 *	 vpn_run() at vpn_deadline(): timers; handshakes and keepalives go out by ops->send()
 *
 * No sockets, no clock, no logging, no globals.  Memory is only taken when peers, keys or
 * allowed-IPs change and when a handshake makes a session, never for a packet.
 *
 * Threads.  Each function names who may call it:
 *   [owner]   one thread (or one at a time): configuration, handshakes, timers;
 *   [any]     any thread, at any time, also while the owner works: the packet path.
 * A lock inside is held for table look-ups only, once or twice for a batch, never during crypto.
 * `worker` is a number below vpn_config.workers; two threads that run at the same time use two
 * different numbers (a worker has AEAD contexts of its own in every session).
 *
 * Peers are named by a number that is never used again (VPN_NO_PEER: none), so that tables of the
 * caller (a MAC table, staged packets) may keep it past the peer's end: calls then say -ENOENT.
 *
 * Time: `now_ns` is monotonic, counts time asleep (CLOCK_BOOTTIME) and never goes back between two
 * calls of a thread; `real_ns` is CLOCK_REALTIME.  Both in nanoseconds.  0 as a deadline: none.
 *
 * Errors: 0 or a negative errno; -ENOMEM wherever memory is taken.
 *
 * Source: Donenfeld, "WireGuard: Next Generation Kernel Network Tunnel" (the paper) and
 * www.wireguard.com/protocol; behaviour of timers as in Linux drivers/net/wireguard.
 */
#ifndef VPN_VPN_H
#define VPN_VPN_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "common/base/addr.h"
#include "common/base/err.h"

struct vpn;
struct vpn_keypair;

#define VPN_CHECKED __attribute__((warn_unused_result))

/* ---- sizes --------------------------------------------------------------------------------- */

#define VPN_KEY_LEN 32

/* Of a data message: type, reserved, receiver index, counter; then the sealed packet; its tag. */
#define VPN_HEADROOM 16
#define VPN_TAG_LEN  16
#define VPN_PAD_TO   16
/* Behind the packet: padding (at most 15 bytes) and tag. */
#define VPN_TAILROOM  (VPN_PAD_TO - 1 + VPN_TAG_LEN)
#define VPN_OVERHEAD  (VPN_HEADROOM + VPN_TAG_LEN)
#define VPN_BATCH_MAX 128 /* packets in one call of vpn_open() */

#define VPN_MESSAGE_MAX 148 /* the longest message of ops->send() */
/* Type byte of a datagram. */
#define VPN_TYPE_INITIATION 1
#define VPN_TYPE_RESPONSE   2
#define VPN_TYPE_COOKIE	    3
#define VPN_TYPE_DATA	    4

#define VPN_WORKERS_MAX 64
#define VPN_PEERS_MAX	65536 /* of one device; one more is -ENOSPC */

#define VPN_HANDSHAKE_TOS 0x88 /* AF41, for handshake messages, as the kernel sends them */

#define VPN_NO_PEER 0

/* ---- endpoints ----------------------------------------------------------------------------- */

/*
 * Where a peer is, ready for sendmsg(); family AF_UNSPEC (0): unknown.  The source is where the
 * peer's last authenticated packet arrived ("sticky"): for IP_PKTINFO / IPV6_PKTINFO.  ifindex 0:
 * let the kernel choose.  The caller fills it from the packet's control data, or leaves it zero.
 */
struct vpn_endpoint {
	union {
		struct sockaddr sa;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6; /* never v4-mapped: vpn_endpoint_normalize() */
	};
	uint32_t src_ifindex;
	union {
		struct in_addr src4;
		struct in6_addr src6;
	};
};

/* Turn ::ffff:a.b.c.d into a.b.c.d, source included.  [any] */
void vpn_endpoint_normalize(struct vpn_endpoint *e) __attribute__((nonnull));
/* Same address, port and scope; sources are not compared.  [any] */
bool vpn_endpoint_equal(const struct vpn_endpoint *a, const struct vpn_endpoint *b)
	__attribute__((nonnull));

/* ---- a device ------------------------------------------------------------------------------ */

/*
 * What the library asks of its caller.  All are called from [owner] functions, on that thread,
 * without the lock: they may call [any] functions, but no [owner] function.  Any may be NULL.
 */
struct vpn_ops {
	/* `len` secret random bytes.  NULL: OpenSSL's; set it only in tests.  It calls nothing. */
	void (*random)(void *ctx, uint8_t *bytes, size_t len);
	/*
	 * Send this message (a handshake message, a cookie reply or a keepalive): `tos` is the
	 * outer TOS byte.  `to` is never AF_UNSPEC.  `peer` is VPN_NO_PEER for a cookie reply.
	 * A failed send is not reported back: the protocol retries.
	 */
	void (*send)(void *ctx, uint64_t peer, const struct vpn_endpoint *to, const uint8_t *msg,
		     size_t len, uint8_t tos);
	/* A session to send with is there: seal and send what was kept for the peer. */
	void (*session_up)(void *ctx, uint64_t peer);
	/* No answer for 90 s: drop what was kept for the peer. */
	void (*gave_up)(void *ctx, uint64_t peer);
	/* The peer moved (it was heard from another address): worth remembering for a restart. */
	void (*roamed)(void *ctx, uint64_t peer, const struct vpn_endpoint *to);
	/* Allowed-IPs moved from `peer`, whose key was rotated, to `successor`. */
	void (*succeeded)(void *ctx, uint64_t peer, uint64_t successor);
	/* A session was made: for a log. */
	void (*handshake_done)(void *ctx, uint64_t peer, bool initiator);
};

enum vpn_aead {
	VPN_AEAD_AUTO, /* the fastest that passes its known answers */
	VPN_AEAD_OPENSSL,
	VPN_AEAD_IPSEC_MB, /* -EOPNOTSUPP where it was not built in or the CPU has too little */
};

struct vpn_config {
	struct vpn_ops ops;
	void *ctx;
	unsigned workers; /* 1 to VPN_WORKERS_MAX */
	uint16_t mtu;	  /* of the inner device: padding never goes past it; 0: not known */
	enum vpn_aead aead;
	/*
	 * Handshakes that are answered without a cookie: so many at once, so many a second after
	 * that; beyond, the device is "under load" for at least a second.  0: 1024 and 500.  One
	 * that was in vain counts as four.
	 */
	unsigned load_burst, load_rate;
	/*
	 * Initiations that one vpn_run() makes, so that packets are not kept waiting when a
	 * thousand peers are due at once; vpn_deadline() is then not later than now.  0: all.
	 */
	unsigned initiations_per_run;
};

/* A device without key or peers.  *ret is the caller's, for vpn_free().  [owner] */
int vpn_new(const struct vpn_config *config, struct vpn **ret, struct err *err) VPN_CHECKED
	__attribute__((nonnull(1, 2)));
/* Zeroes all secrets.  No thread may be in a call, every vpn_tx must have ended.  NULL is fine. */
void vpn_free(struct vpn *v);
const char *vpn_aead_name(const struct vpn *v); /* "openssl", "ipsec-mb"; constant.  [any] */

/*
 * The private key (clamped here).  Sessions live on until they expire, and every peer that has an
 * endpoint and a session gets a handshake with the new key at once (but not within 5 s of the last
 * one).  All zero takes the key and all sessions away.  A peer
 * with the same public key is removed (as stock WireGuard does); *ret_removed (may be NULL) names
 * it.  [owner]
 */
int vpn_set_private_key(struct vpn *v, const uint8_t key[VPN_KEY_LEN], uint64_t now_ns,
			uint64_t *ret_removed) __attribute__((nonnull(1, 2)));
/* false (and zeroes) while there is none.  The caller cleans what it got.  [owner] */
bool vpn_get_private_key(const struct vpn *v, uint8_t ret_key[VPN_KEY_LEN])
	__attribute__((nonnull));
bool vpn_get_public_key(const struct vpn *v, uint8_t ret_key[VPN_KEY_LEN]) __attribute__((nonnull));
void vpn_set_mtu(struct vpn *v, uint16_t mtu) __attribute__((nonnull)); /* [owner] */

/* Public key of any private key; -EINVAL for a zero one.  [any] */
int vpn_public_key(const uint8_t private_key[VPN_KEY_LEN],
		   uint8_t ret_public[VPN_KEY_LEN]) VPN_CHECKED __attribute__((nonnull));
/* A new private key, clamped.  [any] */
int vpn_private_key_new(uint8_t ret_private[VPN_KEY_LEN]) VPN_CHECKED __attribute__((nonnull));

/* ---- peers --------------------------------------------------------------------------------- */

/*
 * Add a peer.  -EINVAL: the key is zero or a point of small order; -EADDRINUSE: it is our own;
 * -EEXIST: it is there (then *ret_peer is that one); -ENOSPC: VPN_PEERS_MAX.  [owner]
 */
int vpn_peer_add(struct vpn *v, const uint8_t public_key[VPN_KEY_LEN], uint64_t now_ns,
		 uint64_t *ret_peer, struct err *err) VPN_CHECKED __attribute__((nonnull(1, 2, 4)));
uint64_t vpn_peer_find(const struct vpn *v, const uint8_t public_key[VPN_KEY_LEN])
	__attribute__((nonnull)); /* VPN_NO_PEER: none.  [owner] */
/* Zeroes its sessions and gives its allowed-IPs back.  [owner] */
int vpn_peer_remove(struct vpn *v, uint64_t peer) __attribute__((nonnull));
/* The peer behind `peer` in the order of adding, VPN_NO_PEER starts.  [owner] */
uint64_t vpn_peer_next(const struct vpn *v, uint64_t peer) __attribute__((nonnull));

/* All zero: no PSK.  Used from the next handshake on; sessions go on.  [owner] */
int vpn_peer_set_psk(struct vpn *v, uint64_t peer, const uint8_t psk[VPN_KEY_LEN])
	__attribute__((nonnull));
/* A new address forgets the sticky source.  Packets kept for lack of one: handshake at once. */
int vpn_peer_set_endpoint(struct vpn *v, uint64_t peer, const struct vpn_endpoint *to,
			  uint64_t now_ns) __attribute__((nonnull));
/* Forget the sticky source (a route changed).  VPN_NO_PEER: of all peers.  [owner] */
void vpn_peer_clear_source(struct vpn *v, uint64_t peer) __attribute__((nonnull));
/* Seconds, 0: off.  Turning it on sends one at once.  [owner] */
int vpn_peer_set_keepalive(struct vpn *v, uint64_t peer, uint16_t interval_s, uint64_t now_ns)
	__attribute__((nonnull));
/* Start a handshake now (limited to one in 5 s, as any).  [owner] */
int vpn_peer_handshake(struct vpn *v, uint64_t peer, uint64_t now_ns) __attribute__((nonnull));

/*
 * Allowed-IPs: longest prefix wins, one owner for each prefix.  Adding takes it from its owner if
 * it has one; host bits are cleared.  Removing what is another's, or nobody's, is -ENOENT.  [owner]
 */
int vpn_allowed_add(struct vpn *v, uint64_t peer, const struct prefix *p) VPN_CHECKED
	__attribute__((nonnull));
int vpn_allowed_remove(struct vpn *v, uint64_t peer, const struct prefix *p)
	__attribute__((nonnull));
int vpn_allowed_clear(struct vpn *v, uint64_t peer) __attribute__((nonnull));
/* Calls `each` for every prefix of the peer; it must not call back here.  [owner] */
int vpn_allowed_each(const struct vpn *v, uint64_t peer,
		     void (*each)(void *ctx, const struct prefix *p), void *ctx)
	__attribute__((nonnull(1, 3)));

/*
 * Rotation of a peer's static key without loss: `peer` is the old key, `successor` the new one, a
 * peer without allowed-IPs of its own.  On the successor's first session the allowed-IPs move to it
 * at once (ops->succeeded), and packets still under way in the old sessions are accepted for as
 * long as the old peer lives; remove it when they have expired (180 s).  -EINVAL: the same peer,
 * or a chain longer than one.  VPN_NO_PEER takes it back.  [owner]
 */
int vpn_peer_set_successor(struct vpn *v, uint64_t peer, uint64_t successor)
	__attribute__((nonnull));

/*
 * What must outlive a restart of the process: replayed old initiations stay refused, our own new
 * ones stay newer than all before (also when the clock went back meanwhile).
 */
struct vpn_peer_state {
	uint8_t received_tai64n[12]; /* the newest that the peer sent */
	uint8_t sent_tai64n[12];     /* the newest that we sent */
};
int vpn_peer_get_state(const struct vpn *v, uint64_t peer, struct vpn_peer_state *ret)
	__attribute__((nonnull)); /* [owner] */
/* Takes what is newer than what it has; right after vpn_peer_add().  [owner] */
int vpn_peer_set_state(struct vpn *v, uint64_t peer, const struct vpn_peer_state *state)
	__attribute__((nonnull));

struct vpn_peer_info {
	uint8_t public_key[VPN_KEY_LEN];
	uint8_t psk[VPN_KEY_LEN]; /* secret: the caller cleans it */
	struct vpn_endpoint endpoint;
	uint16_t keepalive_s;
	uint64_t successor;
	uint64_t allowed_count;
	uint64_t last_handshake_real_ns; /* 0: never */
	uint64_t last_handshake_ns;	 /* as now_ns; 0: never */
	uint64_t last_received_ns;	 /* any authenticated packet; 0: never */
	bool session;			 /* there is one (perhaps too old to send with: 180 s) */
	bool handshaking;		 /* an initiation waits for its answer */
	uint64_t tx_bytes, rx_bytes;	 /* with overhead, without padding; handshakes too */
	uint64_t tx_packets, rx_packets;
	uint64_t rx_lost;    /* counters never seen below the newest: about what the wire lost */
	uint64_t rx_refused; /* authenticated, but replayed, malformed or from a foreign source */
	uint64_t handshakes; /* that made a session */
};
int vpn_peer_get_info(const struct vpn *v, uint64_t peer, struct vpn_peer_info *ret)
	__attribute__((nonnull)); /* [owner] */

/* ---- time ---------------------------------------------------------------------------------- */

/* When vpn_run() has something to do at the latest; 0: never, until another call.  [owner] */
uint64_t vpn_deadline(struct vpn *v) __attribute__((nonnull));
/* Do what is due: timers, handshakes asked for by the packet path, callbacks owed.  [owner] */
void vpn_run(struct vpn *v, uint64_t now_ns, uint64_t real_ns) __attribute__((nonnull));

/* ---- handshake messages -------------------------------------------------------------------- */

enum vpn_verdict {
	VPN_OK,		/* vpn_open(): an inner packet for the peer's allowed-IPs */
	VPN_KEEPALIVE,	/* authenticated and empty: nothing to deliver */
	VPN_HANDSHAKE,	/* vpn_open(): not data, hand it to vpn_receive() */
	VPN_MALFORMED,	/* type, reserved bytes or length are wrong */
	VPN_NO_SESSION, /* unknown or expired receiver index */
	VPN_FORGED,	/* MAC1, tag or cookie is not right */
	VPN_REPLAYED,	/* a counter or timestamp that was used before, or is too old */
	VPN_UNKNOWN,	/* an initiation of a key that is no peer of ours */
	VPN_LIMITED,	/* initiations too fast: of the peer, the source, or for an answer */
	VPN_COOKIE,	/* under load: answered by a cookie reply */
	VPN_INNER,	/* the inner packet is no valid IPv4 or IPv6 packet */
	VPN_SOURCE,	/* its source is not in the peer's allowed-IPs */
	VPN_ECN,    /* congestion marked on the way, but the inner packet knows no ECN: dropped */
	VPN_NO_KEY, /* the device has no private key */
	VPN_NO_MEMORY,
};
#define VPN_VERDICT_COUNT (VPN_NO_MEMORY + 1)
const char *vpn_verdict_name(enum vpn_verdict v); /* for metrics: "replayed" */

/*
 * A handshake message (type 1 to 3) that came from `from`; the answer leaves by ops->send().
 * `backlog` is how many more such messages wait: from 1024 on the device counts as under load.
 * A message is only read.  [owner]
 */
enum vpn_verdict vpn_receive(struct vpn *v, const struct vpn_endpoint *from, const uint8_t *msg,
			     size_t len, size_t backlog, uint64_t now_ns, uint64_t real_ns)
	__attribute__((nonnull));

/*
 * The cheap part of it, for a flood: is the length and MAC1 right?  A thread that only reads the
 * socket may drop what is not before it queues.  [any]
 */
bool vpn_receive_plausible(const struct vpn *v, const uint8_t *msg, size_t len)
	__attribute__((nonnull));

/* ---- packets out --------------------------------------------------------------------------- */

/* Whose is the destination of this inner packet (IPv4 or IPv6 header)?  [any] */
uint64_t vpn_route(const struct vpn *v, const uint8_t *packet, size_t len) __attribute__((nonnull));
uint64_t vpn_route_addr(const struct vpn *v, const struct addr *to) __attribute__((nonnull));

/* Leave to send some packets to one peer: a session, its next counters, where to. */
struct vpn_tx {
	struct vpn_keypair *keypair; /* held until vpn_send_end() */
	uint64_t counter;	     /* of the first packet */
	uint64_t peer;
	struct vpn_endpoint to;
	uint32_t count;
	uint16_t mtu;
	bool wake; /* set also on -EAGAIN: vpn_deadline() is earlier now, tell the owner */
};

/*
 * Ask leave for `count` packets (at least 1) of `bytes` altogether, before sealing (for counters).
 * -ENOENT: no such peer.  -EAGAIN: no session (a handshake is on its way): keep the packets, until
 * ops->session_up() or ops->gave_up().  -EDESTADDRREQ: it has no endpoint yet; keep or drop them.
 * *ret is set in all cases (keypair NULL on failure).  [any]
 */
int vpn_send_begin(struct vpn *v, uint64_t peer, uint32_t count, uint64_t bytes, uint64_t now_ns,
		   struct vpn_tx *ret) VPN_CHECKED __attribute__((nonnull));

/*
 * A packet to seal, in place: VPN_HEADROOM bytes before `data` and VPN_TAILROOM behind `len` are
 * the caller's to be overwritten.  After sealing data and len are the datagram.
 */
struct vpn_packet {
	uint8_t *data;
	uint32_t len;
};

/*
 * Seal packets `first` to `first + count - 1` of the leave.  Several workers may seal parts of one
 * leave at once.  Equal lengths in, equal lengths out (for UDP_SEGMENT): padded to a multiple of
 * VPN_PAD_TO, but not past the MTU.  [any]
 */
void vpn_seal(const struct vpn_tx *tx, unsigned worker, uint32_t first, struct vpn_packet *packets,
	      uint32_t count) __attribute__((nonnull));
/* Length of the datagram that an inner packet of `len` becomes. */
uint32_t vpn_sealed_len(uint32_t len, uint16_t mtu);
void vpn_send_end(struct vpn *v, struct vpn_tx *tx) __attribute__((nonnull)); /* [any] */

/* ---- packets in ---------------------------------------------------------------------------- */

/* A datagram that came, and what it is. */
struct vpn_rx {
	uint8_t *data; /* in: the datagram; out (VPN_OK): the inner packet, within it */
	uint32_t len;
	const struct vpn_endpoint *from; /* in; batches of one sender share it */
	uint8_t tos;	 /* in: the outer TOS byte, its ECN goes inside (RFC 6040) */
	uint8_t verdict; /* out: enum vpn_verdict */
	uint64_t peer;	 /* out: once authenticated, else VPN_NO_PEER */
	/* Between the phases; the caller leaves them alone. */
	struct vpn_keypair *keypair;
	uint64_t counter;
};

/*
 * Open a batch of at most VPN_BATCH_MAX datagrams, in place and in order.  Padding is cut off by
 * the inner packet's own length.  True: vpn_deadline() is earlier now, tell the owner.  [any]
 */
bool vpn_open(struct vpn *v, unsigned worker, struct vpn_rx *rx, uint32_t count,
	      uint64_t now_ns) VPN_CHECKED __attribute__((nonnull));

/*
 * The same in three steps, for crypto spread over workers: begin the batch, open parts of it on
 * any number of threads, finish it (replay window, timers, sources) when all parts are done.
 * Between begin and finish sessions are held.  Order of the inner packets: that of finishing.
 */
void vpn_open_begin(struct vpn *v, struct vpn_rx *rx, uint32_t count, uint64_t now_ns)
	__attribute__((nonnull));
void vpn_open_crypt(unsigned worker, struct vpn_rx *rx, uint32_t count) __attribute__((nonnull));
bool vpn_open_finish(struct vpn *v, struct vpn_rx *rx, uint32_t count, uint64_t now_ns) VPN_CHECKED
	__attribute__((nonnull));

/* ---- ECN (RFC 6040), for the outer header --------------------------------------------------- */

/* Outer TOS byte for an inner packet: DSCP 0, ECN copied (normal mode).  [any] */
uint8_t vpn_ecn_outer(const uint8_t *packet, size_t len) __attribute__((nonnull));

/* ---- counters ------------------------------------------------------------------------------ */

struct vpn_counters {
	uint64_t received[VPN_VERDICT_COUNT]; /* messages and packets, by what they were */
	uint64_t initiations_sent, responses_sent, cookies_sent, keepalives_sent;
	uint64_t initiations_received, responses_received, cookies_received;
	uint64_t under_load; /* times that it began */
	uint64_t gave_up;    /* handshakes without an answer for 90 s */
};
void vpn_get_counters(const struct vpn *v, struct vpn_counters *ret)
	__attribute__((nonnull)); /* [any] */

#undef VPN_CHECKED
#endif
