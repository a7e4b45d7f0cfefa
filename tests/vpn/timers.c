/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Each timer at its time, to the millisecond where it has no jitter (paper, section 6). */
#include "tests/vpn/net_rig.h"

#define JITTER_MS (JITTER_NS / MS + 1)

static void assert_at(uint64_t got_ns, uint64_t wanted_ns, uint64_t jitter_ms)
{
	assert_in_range(got_ns / MS, wanted_ns / MS, wanted_ns / MS + jitter_ms);
}

static void rekey_after_120_s(void **state)
{
	struct net *net = net_new(1, 2);
	uint64_t born;

	(void)state;
	net_session(net, 0, 1);
	born = host_peer(net, 0, 1)->current->born_ns;
	net_run_to(net, born + REKEY_AFTER_NS - 10 * MS);
	net_send(net, 0, 1, 100);
	net_run(net, 5 * MS);
	assert_int_equal(net->host[0].sent_of_type[VPN_TYPE_INITIATION], 1);
	/* The responder does not begin, even when it sends. */
	net_run_to(net, born + REKEY_AFTER_NS + MS);
	net_send(net, 1, 0, 100);
	net_run(net, 5 * MS);
	assert_int_equal(net->host[1].sent_of_type[VPN_TYPE_INITIATION], 0);
	net_send(net, 0, 1, 100);
	net_run(net, 5 * MS);
	assert_int_equal(net->host[0].sent_of_type[VPN_TYPE_INITIATION], 2);
	assert_true(host_peer(net, 0, 1)->current->born_ns > born);
	assert_int_equal(host_peer(net, 0, 1)->previous->born_ns, born);
	assert_int_equal(net->arrived, net->sent);
	net_free(net);
}

/* An initiator that only receives renews the session 15 s before its end. */
static void rekey_while_receiving(void **state)
{
	struct net *net = net_new(1, 2);
	uint64_t born;

	(void)state;
	net_session(net, 0, 1);
	born = host_peer(net, 0, 1)->current->born_ns;
	for (unsigned i = 0; i < 300; i++) {
		net_send(net, 1, 0, 100);
		net_run(net, SECOND_NS);
		if (net->now_ns < born + 120 * SECOND_NS)
			assert_int_equal(net->host[0].sent_of_type[VPN_TYPE_INITIATION], 1);
	}
	assert_int_equal(net->arrived, net->sent);
	/* Its own keepalives (each 10 s) made it renew after 120 s. */
	assert_int_equal(net->host[0].sent_of_type[VPN_TYPE_INITIATION], 3);
	assert_int_equal(net->host[1].sent_of_type[VPN_TYPE_INITIATION], 0);
	net_free(net);
}

/* A session is not used for more than 180 s, either way. */
static void reject_after_180_s(void **state)
{
	struct net *net = net_new(1, 2);
	uint64_t born;
	unsigned before;

	(void)state;
	net_session(net, 0, 1);
	net_run_to(net, host_peer(net, 1, 0)->current->born_ns + REJECT_AFTER_NS - 20 * MS);
	born = host_peer(net, 1, 0)->current->born_ns;
	assert_true(net->now_ns < born + REJECT_AFTER_NS);
	net->loss_percent = 100; /* or the initiator would renew it */
	before = net->host[1].sent_of_type[VPN_TYPE_DATA];
	net_send(net, 1, 0, 100); /* the responder may: to the last */
	assert_int_equal(net->host[1].sent_of_type[VPN_TYPE_DATA], before + 1);
	net_run_to(net, born + REJECT_AFTER_NS);
	net_send(net, 1, 0, 100);
	net_run(net, MS);
	assert_int_equal(net->host[1].staged_count, 1);
	assert_int_equal(net->host[1].sent_of_type[VPN_TYPE_INITIATION], 1);
	net->loss_percent = 0;
	net_run(net, 6 * SECOND_NS);
	assert_int_equal(net->arrived, 3);
	net_free(net);
}

static void late_packets_are_rejected(void **state)
{
	struct net *net = net_new(1, 2);
	uint64_t born;

	(void)state;
	net_session(net, 0, 1);
	born = host_peer(net, 0, 1)->current->born_ns;
	net_run_to(net, born + REJECT_AFTER_NS - 5 * MS);
	net->min_ns = net->max_ns = 50 * MS;
	net_send(net, 1, 0, 100);
	net_run(net, 100 * MS);
	assert_int_equal(net->host[0].last_verdict, VPN_NO_SESSION);
	assert_int_equal(net->arrived, 2);
	net_free(net);
}

/* Whoever got data and has nothing to say says nothing, after 10 s, once. */
static void keepalive_after_10_s(void **state)
{
	struct net *net = net_new(1, 2);
	uint64_t at;

	(void)state;
	net_session(net, 0, 1);
	net_run(net, 30 * SECOND_NS);
	net->host[1].last_sent_ns[0] = 0;
	net_send(net, 0, 1, 100);
	at = net->now_ns + MS;
	net_run(net, 9 * SECOND_NS);
	assert_int_equal(net->host[1].last_sent_ns[0], 0);
	net_run(net, 40 * SECOND_NS);
	assert_at(net->host[1].last_sent_ns[0], at + KEEPALIVE_NS, 0);
	assert_int_equal(net->host[0].sent_of_type[VPN_TYPE_INITIATION], 1);
	net_free(net);
}

/* Whoever sends something else meanwhile needs no keepalive. */
static void sending_saves_the_keepalive(void **state)
{
	struct net *net = net_new(1, 2);
	unsigned before;

	(void)state;
	net_session(net, 0, 1);
	net_run(net, 30 * SECOND_NS);
	net_send(net, 0, 1, 100);
	net_run(net, 5 * SECOND_NS);
	before = net->host[1].sent_of_type[VPN_TYPE_DATA];
	net_send(net, 1, 0, 100);
	net_run(net, 40 * SECOND_NS);
	assert_int_equal(net->host[1].sent_of_type[VPN_TYPE_DATA], before + 1);
	net_free(net);
}

/* More data while the keepalive waits: one more of them, 10 s later. */
static void another_keepalive(void **state)
{
	struct net *net = net_new(1, 2);
	unsigned before;
	uint64_t at;

	(void)state;
	net_session(net, 0, 1);
	net_run(net, 30 * SECOND_NS);
	before = net->host[1].sent_of_type[VPN_TYPE_DATA];
	net_send(net, 0, 1, 100);
	at = net->now_ns + MS;
	net_run(net, 5 * SECOND_NS);
	net_send(net, 0, 1, 100);
	net_run(net, 40 * SECOND_NS);
	assert_int_equal(net->host[1].sent_of_type[VPN_TYPE_DATA], before + 2);
	assert_at(net->host[1].last_sent_ns[0], at + 2 * KEEPALIVE_NS, 0);
	net_free(net);
}

/* A retry does not insist on the source address that got no answer. */
static void retry_from_a_fresh_source(void **state)
{
	struct net *net = net_new(1, 2);

	(void)state;
	net->loss_percent = 100;
	host_peer(net, 0, 1)->endpoint.src_ifindex = 7;
	net_send(net, 0, 1, 100);
	net_run(net, SECOND_NS);
	assert_int_equal(host_peer(net, 0, 1)->endpoint.src_ifindex, 7);
	net_run(net, 6 * SECOND_NS);
	assert_int_equal(host_peer(net, 0, 1)->endpoint.src_ifindex, 0);
	net_free(net);
}

/* Data without any answer: after 15 s a handshake, from a fresh source. */
static void new_handshake_after_15_s(void **state)
{
	struct net *net = net_new(1, 2);
	uint64_t at;

	(void)state;
	net_session(net, 0, 1);
	net_run(net, 30 * SECOND_NS);
	host_peer(net, 1, 0)->endpoint.src_ifindex = 7;
	net->loss_percent = 100;
	net_send(net, 1, 0, 100);
	at = net->now_ns;
	net_run(net, SECOND_NS);
	net_send(net, 1, 0, 100);
	net_run(net, 16 * SECOND_NS);
	assert_at(net->host[1].last_sent_ns[VPN_TYPE_INITIATION], at + 15 * SECOND_NS, JITTER_MS);
	assert_int_equal(host_peer(net, 1, 0)->endpoint.src_ifindex, 0);
	net_free(net);
}

/* An unanswered initiation is repeated each 5 s (and up to a third), and given up after 90 s. */
static void retry_then_give_up(void **state)
{
	struct net *net = net_new(1, 2);
	uint64_t last = 0, first;

	(void)state;
	net->loss_percent = 100;
	net_send(net, 0, 1, 100);
	first = net->now_ns;
	for (unsigned i = 0; i < 19; i++) {
		uint64_t sent;

		net_run(net, i ? REKEY_TIMEOUT_NS : MS);
		while (net->host[0].sent_of_type[VPN_TYPE_INITIATION] == i)
			net_run(net, MS);
		sent = net->host[0].last_sent_ns[VPN_TYPE_INITIATION];
		if (last)
			assert_at(sent, last + REKEY_TIMEOUT_NS, JITTER_MS);
		last = sent;
	}
	assert_int_equal(net->host[0].gave_ups, 0);
	assert_true(host_info(net, 0, 1).handshaking);
	net_run(net, 200 * SECOND_NS);
	assert_int_equal(net->host[0].sent_of_type[VPN_TYPE_INITIATION], 19);
	assert_int_equal(net->host[0].gave_ups, 1);
	assert_int_equal(net->dropped_staged, 1);
	assert_true(last - first >= 90 * SECOND_NS);
	assert_false(host_info(net, 0, 1).handshaking);
	/* New data tries again. */
	net->loss_percent = 0;
	net_send(net, 0, 1, 100);
	net_run(net, SECOND_NS);
	assert_int_equal(net->arrived, 1);
	net_free(net);
}

/* 540 s after the last session no key is left, and nothing is due any more. */
static void zero_keys_after_540_s(void **state)
{
	struct net *net = net_new(1, 2);
	struct vpn_keypair *k;
	uint64_t at;

	(void)state;
	net_session(net, 0, 1);
	k = host_peer(net, 0, 1)->current;
	at = k->born_ns + ZERO_KEYS_NS;
	atomic_fetch_add(&k->refs, 1); /* to look at it afterwards */
	net_run_to(net, at - 10 * MS);
	assert_ptr_equal(host_peer(net, 0, 1)->current, k);
	net_run_to(net, at);
	assert_null(host_peer(net, 0, 1)->current);
	assert_null(host_peer(net, 0, 1)->previous);
	assert_int_equal(atomic_load(&k->refs), 1); /* nobody else has it */
	keypair_put(k, 1);
	assert_int_equal(net->host[0].vpn->index.used, 0);
	net_run(net, SECOND_NS);
	assert_int_equal(vpn_deadline(net->host[0].vpn), 0);
	net_session(net, 0, 1);
	net_free(net);
}

static void persistent_keepalive(void **state)
{
	struct net *net = net_new(1, 2);
	unsigned before;

	(void)state;
	vpn_peer_set_keepalive(net->host[0].vpn, net->host[0].peer[1], 25, net->now_ns);
	net_run(net, 50 * MS);
	assert_int_equal(host_info(net, 1, 0).handshakes, 1); /* at once */
	before = net->host[0].sent_of_type[VPN_TYPE_DATA];
	net_run(net, 100 * SECOND_NS);
	assert_int_equal(net->host[0].sent_of_type[VPN_TYPE_DATA], before + 4);
	net_run(net, 7200 * SECOND_NS);
	assert_in_range(host_info(net, 0, 1).handshakes, 7300 / 150, 7300 / 120 + 1);
	assert_int_equal(net->host[1].sent_of_type[VPN_TYPE_INITIATION], 0);
	/* It never gives up, and comes back by itself. */
	net->loss_percent = 100;
	net_run(net, 1000 * SECOND_NS);
	assert_true(net->host[0].gave_ups > 0);
	net->loss_percent = 0;
	net_run(net, 26 * SECOND_NS);
	assert_true(host_info(net, 0, 1).last_handshake_ns > net->now_ns - 30 * SECOND_NS);
	vpn_peer_set_keepalive(net->host[0].vpn, net->host[0].peer[1], 0, net->now_ns);
	net_run(net, 1000 * SECOND_NS);
	assert_int_equal(vpn_deadline(net->host[0].vpn), 0);
	net_free(net);
}

/* By count: a new session after 2^60 packets, and none is sent past 2^64 - 2^13 - 1. */
static void limits_of_messages(void **state)
{
	struct net *net = net_new(1, 2);
	struct vpn_tx tx;

	(void)state;
	net_session(net, 0, 1);
	net_run(net, 10 * SECOND_NS);
	host_peer(net, 1, 0)->current->send_counter = REKEY_AFTER_COUNT + 1; /* the responder */
	net_send(net, 1, 0, 100);
	net_run(net, 100 * MS);
	assert_int_equal(net->host[1].sent_of_type[VPN_TYPE_INITIATION], 1);
	assert_true(host_peer(net, 1, 0)->current->send_counter < 10);
	host_peer(net, 0, 1)->current->send_counter = REJECT_AFTER_COUNT - 44;
	assert_int_equal(
		vpn_send_begin(net->host[0].vpn, net->host[0].peer[1], 44, 44, net->now_ns, &tx),
		-EAGAIN);
	assert_int_equal(
		vpn_send_begin(net->host[0].vpn, net->host[0].peer[1], 43, 43, net->now_ns, &tx),
		0);
	vpn_send_end(net->host[0].vpn, &tx);
	assert_int_equal(
		vpn_send_begin(net->host[0].vpn, net->host[0].peer[1], 1, 1, net->now_ns, &tx),
		-EAGAIN);
	net_free(net);
}

/* Without an endpoint nothing is tried; when it comes, a peer to be kept alive is met at once. */
static void no_endpoint(void **state)
{
	struct net *net = net_new(1, 2);
	struct vpn_tx tx;

	(void)state;
	host_stop(net, 0);
	host_start(net, 0);
	host_join(net, 0, 1);
	vpn_peer_set_keepalive(net->host[0].vpn, net->host[0].peer[1], 25, net->now_ns);
	assert_int_equal(
		vpn_send_begin(net->host[0].vpn, net->host[0].peer[1], 1, 1, net->now_ns, &tx),
		-EDESTADDRREQ);
	net_run(net, 100 * SECOND_NS);
	assert_int_equal(net->host[0].sent_of_type[VPN_TYPE_INITIATION], 0);
	host_endpoint(net, 0, 1);
	net_run(net, 100 * MS);
	assert_int_equal(host_info(net, 1, 0).handshakes, 1);
	net_free(net);
}

/* Many peers due at once: so many initiations in one run, the others in the next ones. */
static void initiations_in_parts(void **state)
{
	struct net *net = net_new(1, 4);
	struct host *h = &net->host[0];

	(void)state;
	h->vpn->config.initiations_per_run = 2;
	for (unsigned i = 1; i < 4; i++)
		assert_int_equal(vpn_peer_handshake(h->vpn, h->peer[i], net->now_ns), 0);
	vpn_run(h->vpn, net->now_ns, net_real(net));
	assert_int_equal(h->sent_of_type[VPN_TYPE_INITIATION], 2);
	assert_true(vpn_deadline(h->vpn) && vpn_deadline(h->vpn) <= net->now_ns);
	vpn_run(h->vpn, net->now_ns, net_real(net));
	assert_int_equal(h->sent_of_type[VPN_TYPE_INITIATION], 3);
	net_run(net, SECOND_NS);
	for (unsigned i = 1; i < 4; i++)
		assert_int_equal(host_info(net, 0, i).handshakes, 1);
	net_free(net);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rekey_after_120_s),
		cmocka_unit_test(rekey_while_receiving),
		cmocka_unit_test(reject_after_180_s),
		cmocka_unit_test(late_packets_are_rejected),
		cmocka_unit_test(keepalive_after_10_s),
		cmocka_unit_test(sending_saves_the_keepalive),
		cmocka_unit_test(another_keepalive),
		cmocka_unit_test(retry_from_a_fresh_source),
		cmocka_unit_test(new_handshake_after_15_s),
		cmocka_unit_test(retry_then_give_up),
		cmocka_unit_test(zero_keys_after_540_s),
		cmocka_unit_test(persistent_keepalive),
		cmocka_unit_test(limits_of_messages),
		cmocka_unit_test(no_endpoint),
		cmocka_unit_test(initiations_in_parts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
