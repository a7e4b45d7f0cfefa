/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Peers that come, are changed and go: nothing leads to one that is gone, a setting that is said
 * again changes nothing, figures are exact, and what was secret is zeroed.
 *
 * OPENSSL_cleanse() is wrapped (ld --wrap): it is counted by what it was given, and still done.
 */
#include "tests/vpn/net_rig.h"

#include <openssl/crypto.h>

/* ---- what is zeroed ---- */

#define CLEANSED_MAX 8192

static size_t cleansed[CLEANSED_MAX];
static unsigned cleansed_count;
static const uint8_t *sought; /* 32 bytes within */
static unsigned sought_count;

void __real_OPENSSL_cleanse(void *p, size_t len);
void __wrap_OPENSSL_cleanse(void *p, size_t len);
void __wrap_OPENSSL_cleanse(void *p, size_t len)
{
	if (cleansed_count < CLEANSED_MAX)
		cleansed[cleansed_count++] = len;
	if (sought && len == sizeof(struct noise_opened) && memmem(p, len, sought, KEY_LEN))
		sought_count++;
	__real_OPENSSL_cleanse(p, len);
}

static unsigned cleansed_of(size_t len)
{
	unsigned n = 0;

	for (unsigned i = 0; i < cleansed_count; i++)
		n += cleansed[i] == len;
	return n;
}

/* ---- helpers ---- */

static bool drop_initiations(struct net *net, struct datagram *d, void *ctx)
{
	(void)net;
	(void)ctx;
	return d->data[0] != VPN_TYPE_INITIATION;
}

static bool keep_last(struct net *net, struct datagram *d, void *ctx)
{
	(void)net;
	((struct datagram *)ctx)[d->data[0]] = *d;
	return true;
}

static uint64_t add_peer(struct vpn *v, uint32_t number)
{
	uint8_t key[KEY_LEN] = { 9, 1 };
	uint64_t id;

	memcpy(key + 2, &number, sizeof(number));
	assert_int_equal(vpn_peer_add(v, key, START_NS, &id, NULL), 0);
	return id;
}

static struct prefix prefix4(uint8_t last)
{
	return (struct prefix){ .addr = { 4, { 10, 0, 9, last } }, .len = 32 };
}

/* ---- going ---- */

/* With sessions, a handshake under way and timers: no index, time or address leads to it. */
static void nothing_leads_to_who_is_gone(void **state)
{
	struct net *net = net_new(51, 2);
	struct vpn *v = net->host[0].vpn;
	struct datagram last[5];
	uint64_t id = net->host[0].peer[1];
	struct vpn_peer_info info;

	(void)state;
	net->tap = keep_last;
	net->tap_ctx = last;
	net_session(net, 0, 1);
	net_run(net, 6 * SECOND_NS);
	vpn_peer_handshake(v, id, net->now_ns);
	net->loss_percent = 100;
	net_run(net, 2 * MS);
	assert_int_equal(v->index.used, 2);
	net_deliver(net, 1, &net->host[0].at, last[1].data, last[1].len);
	assert_int_equal(vpn_peer_remove(v, id), 0);
	assert_int_equal(v->index.used, 0);
	assert_int_equal(v->peer_count, 0);
	assert_int_equal(vpn_deadline(v), 0);
	assert_true(RB_EMPTY(&v->by_wake));
	assert_int_equal(vpn_route_addr(v, &(struct addr){ 4, { 10, 0, 0, 2 } }), VPN_NO_PEER);
	assert_int_equal(vpn_peer_get_info(v, id, &info), -ENOENT);
	assert_int_equal(vpn_peer_remove(v, id), -ENOENT);
	assert_int_equal(net_deliver(net, 0, &net->host[1].at, last[2].data, last[2].len),
			 VPN_NO_SESSION);
	assert_int_equal(net_deliver(net, 0, &net->host[1].at, last[4].data, last[4].len),
			 VPN_NO_SESSION);
	net_free(net);
}

/* A slot is taken again, an id never: an old one does not lead to the new peer. */
static void ids_are_not_used_again(void **state)
{
	struct net *net = net_new(52, 1);
	struct vpn *v = net->host[0].vpn;
	uint64_t seen[100];
	struct vpn_peer_info info;

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		seen[i] = add_peer(v, i);
		for (unsigned k = 0; k < i; k++)
			assert_int_not_equal(seen[k], seen[i]);
		if (i >= 16)
			assert_int_equal(vpn_peer_get_info(v, seen[i - 16], &info), -ENOENT);
		assert_int_equal(vpn_peer_get_info(v, seen[i], &info), 0);
		if (i >= 15)
			assert_int_equal(vpn_peer_remove(v, seen[i - 15]), 0);
	}
	assert_int_equal(v->slot_count, 16);
	net_free(net);
}

/* As many as are promised, each with all its indices, and one more is refused. */
static void as_many_as_promised(void **state)
{
	static const uint8_t none[KEY_LEN];
	struct net *net = net_new(53, 1);
	struct vpn *v = net->host[0].vpn;
	struct err err = { 0 };
	uint8_t key[KEY_LEN] = { 77 };
	uint64_t id, first;

	(void)state;
	/* without a key of its own nothing is calculated */
	assert_int_equal(vpn_set_private_key(v, none, START_NS, NULL), 0);
	first = add_peer(v, 0);
	for (uint32_t i = 1; i < 300; i++)
		add_peer(v, i);
	for (uint32_t i = 0; i < 300 * INDICES_OF_PEER; i++)
		while (!index_take(&v->index, (uint32_t)rng_next(&net->rng), peer_get(v, first)))
			;
	for (uint32_t i = 300; i < VPN_PEERS_MAX; i++)
		add_peer(v, i);
	assert_int_equal(vpn_peer_add(v, key, START_NS, &id, &err), -ENOSPC);
	assert_non_null(strstr(err.text, "65536"));
	assert_int_equal(vpn_peer_remove(v, first), 0);
	assert_int_equal(vpn_peer_add(v, key, START_NS, &id, &err), 0);
	assert_int_equal(vpn_peer_find(v, key), id);
	net_free(net);
}

/* Keys of the peer, of its sessions, of what was calculated on the way. */
static void secrets_are_zeroed(void **state)
{
	struct net *net = net_new(54, 2);
	unsigned before;

	(void)state;
	cleansed_count = 0;
	sought = net->host[0].public_key; /* as host 1 opens it */
	net_send(net, 0, 1, 100); /* one handshake: host 1 answers */
	net_run(net, 20 * MS);
	assert_int_equal(net->arrived, 1);
	assert_int_equal(sought_count, 1);
	sought = NULL;
	/* cleared before it is begun, by noise_keys() on both sides, and at the end */
	assert_true(cleansed_of(sizeof(struct noise_handshake)) >= 3);
	assert_int_equal(cleansed_of(sizeof(struct vpn_keypair)), 0);
	before = cleansed_of(sizeof(struct noise_handshake));
	vpn_peer_remove(net->host[0].vpn, net->host[0].peer[1]);
	assert_int_equal(cleansed_of(sizeof(struct peer)), 1);
	assert_int_equal(cleansed_of(sizeof(struct vpn_keypair)), 1);
	assert_int_equal(cleansed_of(sizeof(struct noise_handshake)), before + 1);
	host_stop(net, 1);
	assert_int_equal(cleansed_of(sizeof(struct peer)), 2);
	assert_int_equal(cleansed_of(sizeof(struct vpn_keypair)), 2);
	assert_int_equal(cleansed_of(sizeof(struct vpn)), 1);
	assert_true(cleansed_count < CLEANSED_MAX);
	net_free(net);
}

/* ---- endpoints ---- */

static void endpoints_and_their_sources(void **state)
{
	struct net *net = net_new(55, 3);
	struct vpn *v = net->host[0].vpn;
	struct peer *p = host_peer(net, 0, 1), *other = host_peer(net, 0, 2);
	struct vpn_endpoint at = net->host[1].at, mapped = { 0 };
	struct datagram last[5];

	(void)state;
	net->tap = keep_last;
	net->tap_ctx = last;
	/* heard on an interface: answered from there, also when the address is the old one */
	net_session(net, 0, 1);
	net->loss_percent = 100;
	net_send(net, 1, 0, 100);
	at.src_ifindex = 7;
	assert_int_equal(net_deliver(net, 0, &at, last[4].data, last[4].len), VPN_OK);
	assert_int_equal(p->endpoint.src_ifindex, 7);
	assert_int_equal(net->host[0].roams, 0);
	/* the same address again, as each reload says it: nothing is forgotten */
	assert_int_equal(vpn_peer_set_endpoint(v, p->id, &net->host[1].at, net->now_ns), 0);
	assert_int_equal(p->endpoint.src_ifindex, 7);
	/* another one: the source may be wrong there */
	at.v4.sin_port = htons(4);
	assert_int_equal(vpn_peer_set_endpoint(v, p->id, &at, net->now_ns), 0);
	assert_int_equal(p->endpoint.v4.sin_port, htons(4));
	assert_int_equal(p->endpoint.src_ifindex, 0);
	/* IPv4 in IPv6's clothes is IPv4 */
	mapped.v6.sin6_family = AF_INET6;
	mapped.v6.sin6_port = htons(5);
	memcpy(&mapped.v6.sin6_addr, (uint8_t[16]){ [10] = 255, 255, 192, 0, 2, 9 }, 16);
	assert_int_equal(vpn_peer_set_endpoint(v, p->id, &mapped, net->now_ns), 0);
	assert_int_equal(p->endpoint.sa.sa_family, AF_INET);
	assert_int_equal(p->endpoint.v4.sin_addr.s_addr, htonl(0xc0000209));
	/* sources are forgotten of one, or of all */
	p->endpoint.src_ifindex = other->endpoint.src_ifindex = 9;
	vpn_peer_clear_source(v, other->id);
	assert_int_equal(p->endpoint.src_ifindex, 9);
	assert_int_equal(other->endpoint.src_ifindex, 0);
	other->endpoint.src_ifindex = 9;
	vpn_peer_clear_source(v, VPN_NO_PEER);
	assert_int_equal(p->endpoint.src_ifindex, 0);
	assert_int_equal(other->endpoint.src_ifindex, 0);
	net_free(net);
}

/* The answer to a handshake came from elsewhere: all that follows is told, once. */
static void an_answer_from_elsewhere(void **state)
{
	struct net *net = net_new(56, 2);
	struct host *h = &net->host[0];
	struct vpn_endpoint elsewhere = net_address(99, 99);
	struct datagram last[5];

	(void)state;
	net->tap = keep_last;
	net->tap_ctx = last;
	net_send(net, 0, 1, 100);
	net_run_to(net, net->now_ns + MS); /* it is there; the answer is under way */
	net->loss_percent = 100;
	assert_int_equal(net_deliver(net, 0, &elsewhere, last[2].data, last[2].len), VPN_OK);
	assert_true(vpn_endpoint_equal(&host_peer(net, 0, 1)->endpoint, &elsewhere));
	net_run(net, SECOND_NS);
	assert_int_equal(h->roams, 1);
	assert_int_equal(h->session_ups, 1);
	assert_int_equal(h->handshakes, 1);
	assert_int_equal(h->handshakes_begun, 1);
	assert_int_equal(net->host[1].handshakes_begun, 0);
	assert_false(host_info(net, 0, 1).handshaking);
	/* what was told is not told again */
	net_deliver(net, 1, &net->host[0].at, last[4].data, last[4].len);
	elsewhere.v4.sin_port = htons(98);
	net_send(net, 1, 0, 100);
	net_deliver(net, 0, &elsewhere, last[4].data, last[4].len);
	net_run(net, SECOND_NS);
	assert_int_equal(h->roams, 2);
	assert_int_equal(h->session_ups, 1);
	net_free(net);
}

/* ---- settings ---- */

/* Said again, the interval goes on; another one begins now, but sends nothing at once. */
static void keepalive_said_again(void **state)
{
	struct net *net = net_new(57, 2);
	struct vpn *v = net->host[0].vpn;
	uint64_t id = net->host[0].peer[1];
	unsigned sent;

	(void)state;
	assert_int_equal(vpn_peer_set_keepalive(v, id, 25, net->now_ns), 0);
	net_run(net, SECOND_NS);
	sent = net->host[0].sent_of_type[VPN_TYPE_DATA];
	for (unsigned i = 0; i < 5; i++) {
		net_run(net, 10 * SECOND_NS);
		assert_int_equal(vpn_peer_set_keepalive(v, id, 25, net->now_ns), 0);
	}
	assert_int_equal(net->host[0].sent_of_type[VPN_TYPE_DATA], sent + 2);
	sent += 2;
	assert_int_equal(vpn_peer_set_keepalive(v, id, 40, net->now_ns), 0);
	net_run(net, 39 * SECOND_NS);
	assert_int_equal(net->host[0].sent_of_type[VPN_TYPE_DATA], sent);
	net_run(net, 2 * SECOND_NS);
	assert_int_equal(net->host[0].sent_of_type[VPN_TYPE_DATA], sent + 1);
	net_free(net);
}

/* What is heard keeps a NAT's entry as well as what is sent. */
static void hearing_saves_a_keepalive(void **state)
{
	struct net *net = net_new(58, 2);
	struct vpn *v = net->host[0].vpn;
	uint64_t at;

	(void)state;
	net_session(net, 0, 1);
	net_run(net, 12 * SECOND_NS);
	assert_int_equal(vpn_peer_set_keepalive(v, net->host[0].peer[1], 5, net->now_ns), 0);
	net_run(net, 3 * SECOND_NS);
	net_send(net, 1, 0, 100);
	net_run(net, MS);
	at = net->now_ns;
	assert_int_equal(host_info(net, 0, 1).last_received_ns, at);
	net->host[0].last_sent_ns[0] = 0;
	net_run_to(net, at + 5 * SECOND_NS - 1);
	assert_int_equal(net->host[0].last_sent_ns[0], 0);
	net_run(net, MS);
	assert_int_equal(net->host[0].last_sent_ns[0], at + 5 * SECOND_NS);
	net_free(net);
}

/* A chain of successors has one link, and nobody succeeds two. */
static void successors_refused(void **state)
{
	struct net *net = net_new(59, 4);
	struct vpn *v = net->host[0].vpn;
	const uint64_t *id = net->host[0].peer;

	(void)state;
	assert_int_equal(vpn_peer_set_successor(v, id[1], id[2]), 0);
	assert_int_equal(vpn_peer_set_successor(v, id[3], id[2]), -EINVAL); /* it has one */
	assert_int_equal(vpn_peer_set_successor(v, id[2], id[3]), -EINVAL); /* it is one */
	assert_int_equal(vpn_peer_set_successor(v, id[3], id[1]), -EINVAL); /* it has one itself */
	assert_int_equal(vpn_peer_set_successor(v, id[1], 12345), -ENOENT);
	assert_int_equal(vpn_peer_set_successor(v, id[1], id[2]), 0); /* said again */
	/* When the old one goes before it was succeeded, the place is free. */
	assert_int_equal(vpn_peer_remove(v, id[1]), 0);
	assert_int_equal(peer_get(v, id[2])->predecessor, VPN_NO_PEER);
	assert_int_equal(vpn_peer_set_successor(v, id[3], id[2]), 0);
	net_session(net, 0, 2);
	assert_int_equal(net->host[0].succeeds, 1);
	assert_true(net->host[0].succeeded_from == id[3] && net->host[0].succeeded_to == id[2]);
	net_free(net);
}

/* State of another life: only what is newer counts. */
static void older_state_is_not_taken(void **state)
{
	struct net *net = net_new(60, 2);
	struct vpn *v = net->host[0].vpn;
	uint64_t id = net->host[0].peer[1];
	struct vpn_peer_state had, got, older = { 0 };

	(void)state;
	net_session(net, 0, 1);
	net_session(net, 1, 0);
	assert_int_equal(vpn_peer_get_state(v, id, &had), 0);
	assert_int_equal(vpn_peer_set_state(v, id, &older), 0);
	assert_int_equal(vpn_peer_get_state(v, id, &got), 0);
	assert_memory_equal(&got, &had, sizeof(had));
	net_free(net);
}

/* An address of one is another's when that one claims it; taken from whoever had it. */
static void prefixes_have_one_owner(void **state)
{
	struct net *net = net_new(61, 3);
	struct vpn *v = net->host[0].vpn;
	const uint64_t *id = net->host[0].peer;
	struct prefix p = prefix4(1);

	(void)state;
	assert_int_equal(vpn_allowed_add(v, id[1], &p), 0);
	assert_int_equal(vpn_allowed_add(v, id[2], &p), 0);
	assert_int_equal(vpn_route_addr(v, &p.addr), id[2]);
	assert_int_equal(vpn_allowed_remove(v, id[1], &p), -ENOENT);
	assert_int_equal(host_info(net, 0, 1).allowed_count, 1);
	/* A longer prefix of another within it wins, and is given back when it goes. */
	p.len = 24;
	assert_int_equal(vpn_allowed_add(v, id[1], &p), 0);
	assert_int_equal(vpn_route_addr(v, &(struct addr){ 4, { 10, 0, 9, 1 } }), id[2]);
	assert_int_equal(vpn_route_addr(v, &(struct addr){ 4, { 10, 0, 9, 2 } }), id[1]);
	assert_int_equal(vpn_allowed_clear(v, id[2]), 0);
	assert_int_equal(vpn_route_addr(v, &(struct addr){ 4, { 10, 0, 9, 1 } }), id[1]);
	net_free(net);
}

/* ---- figures ---- */

/* To the byte: a handshake, the packet that confirms it, and a packet each way. */
static void figures_are_exact(void **state)
{
	const uint64_t padded = 112 + VPN_OVERHEAD, keepalive = VPN_OVERHEAD;
	struct net *net = net_new(62, 2);
	struct vpn_peer_info a, b;
	struct vpn_counters c;

	(void)state;
	net_session(net, 0, 1); /* 100 bytes are padded to 112 on the wire */
	a = host_info(net, 0, 1);
	b = host_info(net, 1, 0);
	assert_int_equal(a.tx_packets, 3);
	assert_int_equal(a.tx_bytes, 148 + keepalive + 100 + VPN_OVERHEAD);
	assert_int_equal(a.rx_packets, 2);
	assert_int_equal(a.rx_bytes, 92 + padded);
	assert_int_equal(b.tx_packets, 2);
	assert_int_equal(b.tx_bytes, 92 + 100 + VPN_OVERHEAD);
	assert_int_equal(b.rx_packets, 3);
	assert_int_equal(b.rx_bytes, 148 + keepalive + padded);
	vpn_get_counters(net->host[0].vpn, &c);
	assert_int_equal(c.initiations_sent, 1);
	assert_int_equal(c.responses_received, 1);
	assert_int_equal(c.keepalives_sent, 1);
	assert_int_equal(c.initiations_received + c.responses_sent, 0);
	vpn_get_counters(net->host[1].vpn, &c);
	assert_int_equal(c.initiations_received, 1);
	assert_int_equal(c.responses_sent, 1);
	assert_int_equal(c.initiations_sent + c.responses_received, 0);
	net->tap = drop_initiations;
	net_run(net, 130 * SECOND_NS);
	net_send(net, 0, 1, 100);
	net_run(net, 100 * SECOND_NS);
	vpn_get_counters(net->host[0].vpn, &c);
	assert_int_equal(c.gave_up, 1);
	net_free(net);
}

/* What the wire lost, in the session in use and in those before it. */
static void losses_are_counted(void **state)
{
	struct net *net = net_new(63, 2);
	unsigned lost = 0;

	(void)state;
	for (unsigned round = 1; round <= 3; round++) {
		net_session(net, 0, 1);
		assert_int_equal(host_info(net, 1, 0).rx_lost, lost);
		net->loss_percent = 100;
		for (unsigned i = 0; i < 5 * round; i++)
			net_send(net, 0, 1, 100);
		net->loss_percent = 0;
		net_send(net, 0, 1, 100);
		net_run(net, 10 * MS);
		lost += 5 * round;
		assert_int_equal(host_info(net, 1, 0).rx_lost, lost);
		net_run(net, 12 * SECOND_NS);
		assert_int_equal(
			vpn_peer_handshake(net->host[0].vpn, net->host[0].peer[1], net->now_ns), 0);
		net_run(net, 20 * MS);
		assert_int_equal(host_info(net, 1, 0).handshakes, round + 1);
	}
	net_free(net);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_leads_to_who_is_gone),
		cmocka_unit_test(ids_are_not_used_again),
		cmocka_unit_test(as_many_as_promised),
		cmocka_unit_test(secrets_are_zeroed),
		cmocka_unit_test(endpoints_and_their_sources),
		cmocka_unit_test(an_answer_from_elsewhere),
		cmocka_unit_test(keepalive_said_again),
		cmocka_unit_test(hearing_saves_a_keepalive),
		cmocka_unit_test(successors_refused),
		cmocka_unit_test(older_state_is_not_taken),
		cmocka_unit_test(prefixes_have_one_owner),
		cmocka_unit_test(figures_are_exact),
		cmocka_unit_test(losses_are_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
