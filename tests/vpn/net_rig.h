/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hosts with a tunnel device each, on a simulated network with a simulated clock.
 *
 * Host i is at 192.0.2.(i+1):51820, inside 10.0.0.(i+1); or [2001:db8::i+1]:51820 and fd00::i+1.
 * Datagrams take min_ns to max_ns (so they
 * overtake each other), get lost and doubled by percentages.  Every inner packet has a number and
 * contents that follow from it; the rig asserts that what arrives is what was sent, from where it
 * should come, and at most once.
 */
#ifndef TESTS_VPN_NET_RIG_H
#define TESTS_VPN_NET_RIG_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/lib/rng.h"
#include "vpn/device.h"

#define HOSTS_MAX     4
#define STAGED_MAX    128
#define START_NS      (1000 * SECOND_NS)
#define START_REAL_NS (UINT64_C(1700000000) * SECOND_NS)
#define MS	      UINT64_C(1000000)

struct host {
	struct vpn *vpn;
	uint64_t peer[HOSTS_MAX]; /* by host */
	uint8_t private_key[KEY_LEN], public_key[KEY_LEN];
	struct vpn_endpoint at;
	struct net *net;
	unsigned number;
	struct {
		unsigned to;
		uint32_t id, len;
	} staged[STAGED_MAX];
	unsigned staged_count;
	unsigned session_ups, gave_ups, roams, succeeds, handshakes; /* callbacks */
	unsigned handshakes_begun;				     /* of these, as initiator */
	uint64_t succeeded_from, succeeded_to;
	unsigned sent_of_type[5];
	uint64_t last_sent_ns[5]; /* by type; keepalives under 0 */
	enum vpn_verdict last_verdict;
	unsigned verdicts[VPN_VERDICT_COUNT];
};

struct datagram {
	uint64_t at_ns, serial;
	struct vpn_endpoint from, to;
	uint32_t len;
	uint8_t tos;
	uint8_t data[2048];
};

struct net {
	struct rng rng;
	uint64_t now_ns;
	int64_t clock_off_ns; /* of CLOCK_REALTIME */
	struct host host[HOSTS_MAX];
	unsigned hosts;
	bool v6; /* outside and inside */
	unsigned loss_percent, double_percent;
	uint64_t min_ns, max_ns;
	struct datagram **queue; /* a heap by time */
	size_t queued, room;
	uint64_t serial;
	/* Sees each datagram as it is sent; false: it is gone. */
	bool (*tap)(struct net *net, struct datagram *d, void *ctx);
	void *tap_ctx;
	uint8_t *state; /* of packets by number: sent, arrived */
	uint32_t packets, arrived, sent, dropped_staged;
	uint8_t mark; /* ECN of the wire */
};

struct net *net_new(uint64_t seed, unsigned hosts); /* all are each other's peers */
struct net *net_new_v6(uint64_t seed, unsigned hosts);
void net_free(struct net *net);
/* (Re)start a host's device; its peers come back without endpoints or state. */
void host_start(struct net *net, unsigned i);
void host_stop(struct net *net, unsigned i);
uint64_t host_join(struct net *net, unsigned i, unsigned other); /* other as a peer of i */
void host_endpoint(struct net *net, unsigned i, unsigned other); /* tell i where other is */
struct peer *host_peer(struct net *net, unsigned i, unsigned other);
struct vpn_peer_info host_info(struct net *net, unsigned i, unsigned other);

uint64_t net_real(const struct net *net);
#define INNER_MIN(v6) ((v6) ? 44u : 32u)
/* One inner packet of `len` bytes (at least INNER_MIN) from host to host. */
void net_send(struct net *net, unsigned from, unsigned to, uint32_t len);
void net_run(struct net *net, uint64_t duration_ns);
void net_run_to(struct net *net, uint64_t at_ns);
/* Put a datagram on the wire as if `from` had sent it. */
void net_inject(struct net *net, const struct vpn_endpoint *from, const struct vpn_endpoint *to,
		const void *data, size_t len);
/* Let host i receive it now. */
enum vpn_verdict net_deliver(struct net *net, unsigned i, const struct vpn_endpoint *from,
			     const void *data, size_t len);
struct vpn_endpoint net_address(uint32_t last_bytes, uint16_t port); /* 192.0.x.y */
/* A session between both, made by i and used both ways; the network is quiet after it. */
void net_session(struct net *net, unsigned i, unsigned other);

#endif
