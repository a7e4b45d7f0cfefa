/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When handshakes are tried again: never in step, never too early, never more often for being asked
 * twice; the owner is woken for what comes earlier, once; timestamps only grow.
 */
#include "tests/vpn/net_rig.h"

static bool drop_initiations(struct net *net, struct datagram *d, void *ctx)
{
	(void)net;
	(void)ctx;
	return d->data[0] != VPN_TYPE_INITIATION;
}

/* When the next initiation leaves. */
static uint64_t next_initiation(struct net *net)
{
	struct host *h = &net->host[0];
	unsigned had = h->sent_of_type[VPN_TYPE_INITIATION];

	while (h->sent_of_type[VPN_TYPE_INITIATION] == had)
		net_run(net, MS);
	return h->last_sent_ns[VPN_TYPE_INITIATION];
}

/* Two hosts that begin together do not collide for ever: each wait is another one. */
static void waits_differ(void **state)
{
	struct net *net = net_new(71, 2);
	struct peer *p = host_peer(net, 1, 0);
	uint64_t last = 0, shortest = UINT64_MAX, longest = 0;

	(void)state;
	net->loss_percent = 100;
	net_send(net, 0, 1, 100);
	for (unsigned i = 0; i <= REKEY_ATTEMPTS; i++) {
		uint64_t at = next_initiation(net), waited = at - last;

		if (last && waited < shortest)
			shortest = waited;
		if (last && waited > longest)
			longest = waited;
		last = at;
	}
	assert_true(shortest >= REKEY_TIMEOUT_NS && longest < REKEY_TIMEOUT_NS + JITTER_NS);
	assert_true(longest - shortest > JITTER_NS / 4);
	/* and so does the wait for an answer to data */
	net->loss_percent = 0;
	net_run(net, 6 * SECOND_NS); /* it gives up */
	net_session(net, 1, 0);
	shortest = UINT64_MAX;
	longest = 0;
	for (unsigned i = 0; i < 20; i++) {
		timer_clear(p, TIMER_NEW_HANDSHAKE);
		timer_sent(net->host[1].vpn, p, true, net->now_ns);
		last = p->due_ns[TIMER_NEW_HANDSHAKE] - net->now_ns - 15 * SECOND_NS;
		assert_true(last < JITTER_NS);
		shortest = last < shortest ? last : shortest;
		longest = last > longest ? last : longest;
	}
	assert_true(longest - shortest > JITTER_NS / 4);
	net_free(net);
}

/* Whoever keeps sending while an initiation waits for its answer changes nothing of its retry. */
static void asking_again_is_not_faster(void **state)
{
	struct net *net = net_new(72, 2);
	struct peer *p = host_peer(net, 0, 1);
	uint64_t due;

	(void)state;
	net->loss_percent = 100;
	net_send(net, 0, 1, 100);
	net_run(net, MS);
	due = p->due_ns[TIMER_RETRANSMIT];
	while (net->now_ns < due - SECOND_NS / 2) {
		net_send(net, 0, 1, 100);
		net_run(net, SECOND_NS / 10);
	}
	assert_int_equal(net->host[0].sent_of_type[VPN_TYPE_INITIATION], 1);
	assert_int_equal(next_initiation(net), due);
	net_free(net);
}

/* Asked for within 5 s of the last one: at 5 s, to the nanosecond. */
static void five_seconds_apart(void **state)
{
	struct net *net = net_new(73, 2);
	uint64_t first;

	(void)state;
	net_session(net, 0, 1);
	first = net->host[0].last_sent_ns[VPN_TYPE_INITIATION];
	net_run(net, SECOND_NS);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(
			vpn_peer_handshake(net->host[0].vpn, net->host[0].peer[1], net->now_ns), 0);
	assert_int_equal(next_initiation(net), first + REKEY_TIMEOUT_NS);
	net_run(net, 20 * SECOND_NS);
	assert_int_equal(net->host[0].sent_of_type[VPN_TYPE_INITIATION], 2);
	/* also for who answered: the session is as young for it */
	assert_int_equal(vpn_peer_handshake(net->host[0].vpn, net->host[0].peer[1], net->now_ns),
			 0);
	net_run(net, SECOND_NS);
	assert_int_equal(vpn_peer_handshake(net->host[1].vpn, net->host[1].peer[0], net->now_ns),
			 0);
	net_run(net, 3 * SECOND_NS);
	assert_int_equal(net->host[1].sent_of_type[VPN_TYPE_INITIATION], 0);
	net_run(net, 2 * SECOND_NS);
	assert_int_equal(net->host[1].sent_of_type[VPN_TYPE_INITIATION], 1);
	net_free(net);
}

/* Twenty milliseconds between two that are taken: at that very time the next one may come. */
static void twenty_milliseconds_apart(void **state)
{
	struct net *net = net_new(74, 2);
	struct peer *p = host_peer(net, 0, 1);

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		timer_clear(p, TIMER_RETRANSMIT);
		p->last_handshake_sent_ns = 0;
		vpn_peer_handshake(net->host[0].vpn, p->id, net->now_ns);
		net_run(net, INITIATION_GAP_NS);
		assert_int_equal(net->host[1].verdicts[VPN_LIMITED], 0);
	}
	assert_int_equal(net->host[1].sent_of_type[VPN_TYPE_RESPONSE], 2);
	net_free(net);
}

/* Retries count as well against what one turn may do. */
static void retries_in_parts(void **state)
{
	struct net *net = net_new(75, 4);
	struct host *h = &net->host[0];

	(void)state;
	net->loss_percent = 100;
	for (unsigned i = 1; i < 4; i++)
		net_send(net, 0, i, 100);
	net_run(net, MS);
	assert_int_equal(h->sent_of_type[VPN_TYPE_INITIATION], 3);
	h->vpn->config.initiations_per_run = 2;
	net->now_ns += 6 * SECOND_NS;
	vpn_run(h->vpn, net->now_ns, net_real(net));
	assert_int_equal(h->sent_of_type[VPN_TYPE_INITIATION], 5);
	vpn_run(h->vpn, net->now_ns, net_real(net));
	assert_int_equal(h->sent_of_type[VPN_TYPE_INITIATION], 6);
	net_free(net);
}

/* To give up leaves nothing to be done but to forget the keys, 540 s after the last session. */
static void giving_up_keeps_the_end(void **state)
{
	struct net *net = net_new(76, 2);
	struct peer *p = host_peer(net, 0, 1);
	uint64_t born;

	(void)state;
	net_session(net, 0, 1);
	born = p->current->born_ns;
	net->tap = drop_initiations;
	net_run_to(net, born + 200 * SECOND_NS);
	net_send(net, 0, 1, 100);
	while (p->attempts < REKEY_ATTEMPTS)
		next_initiation(net);
	/* each initiation is an answer to data; here data came behind the last one */
	timer_set(net->host[0].vpn, p, TIMER_KEEPALIVE, born + 500 * SECOND_NS);
	net_run_to(net, born + 320 * SECOND_NS);
	assert_int_equal(net->host[0].gave_ups, 1);
	assert_int_equal(p->due_ns[TIMER_KEEPALIVE], 0);
	assert_int_equal(p->due_ns[TIMER_ZERO_KEYS], born + ZERO_KEYS_NS);
	net_free(net);
}

/* After each message neither side waits for an answer to data, or owes one. */
static bool nobody_waits(struct net *net, struct datagram *d, void *ctx)
{
	unsigned *seen = ctx;

	(void)d;
	for (unsigned i = 0; i < 2; i++) {
		const struct peer *p = host_peer(net, i, !i);

		assert_int_equal(p->due_ns[TIMER_KEEPALIVE], 0);
		assert_int_equal(p->due_ns[TIMER_NEW_HANDSHAKE], 0);
		assert_false(p->another_keepalive);
	}
	++*seen;
	return true;
}

/* A handshake is no data: nobody owes a keepalive for it, and it is an answer to data. */
static void a_handshake_is_no_data(void **state)
{
	struct net *net = net_new(77, 2);
	struct peer *p = host_peer(net, 0, 1);
	unsigned seen = 0;

	(void)state;
	net->tap = nobody_waits;
	net->tap_ctx = &seen;
	vpn_peer_handshake(net->host[0].vpn, p->id, net->now_ns);
	net_run(net, 20 * MS);
	assert_int_equal(seen, 3); /* initiation, response, keepalive */
	assert_int_equal(host_info(net, 1, 0).handshakes, 1);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(host_peer(net, i, !i)->due_ns[TIMER_KEEPALIVE], 0);
		assert_int_equal(host_peer(net, i, !i)->due_ns[TIMER_NEW_HANDSHAKE], 0);
	}
	net->tap = NULL;
	/* data without an answer, then a handshake of the other side: that is one */
	net_run(net, 6 * SECOND_NS);
	net_send(net, 0, 1, 100);
	assert_int_not_equal(p->due_ns[TIMER_NEW_HANDSHAKE], 0);
	vpn_peer_handshake(net->host[1].vpn, net->host[1].peer[0], net->now_ns);
	net_run(net, 2 * MS - 1);
	assert_int_equal(net->host[0].sent_of_type[VPN_TYPE_RESPONSE], 1);
	assert_int_equal(p->due_ns[TIMER_NEW_HANDSHAKE], 0);
	assert_int_equal(p->last_received_ns, net->host[0].last_sent_ns[VPN_TYPE_RESPONSE]);
	/* while an answer to data is owed: not a second one for the handshake */
	net_run(net, 30 * SECOND_NS);
	net_send(net, 0, 1, 100);
	net_run(net, 2 * MS);
	assert_int_not_equal(host_peer(net, 1, 0)->due_ns[TIMER_KEEPALIVE], 0);
	vpn_peer_handshake(net->host[0].vpn, p->id, net->now_ns);
	net_run(net, 20 * MS);
	assert_int_equal(net->host[1].sent_of_type[VPN_TYPE_RESPONSE], 2);
	assert_false(host_peer(net, 1, 0)->another_keepalive);
	net_free(net);
}

static bool send_wakes(struct net *net, unsigned to)
{
	struct host *h = &net->host[0];
	struct vpn_tx tx;

	if (!vpn_send_begin(h->vpn, h->peer[to], 1, 100, net->now_ns, &tx))
		vpn_send_end(h->vpn, &tx);
	return tx.wake;
}

/* The owner asked when to wake, and sleeps: it is called for what is earlier, once, not for more.
 */
static void wakes_the_owner_once(void **state)
{
	struct net *net = net_new(78, 4);
	struct vpn *v = net->host[0].vpn;

	(void)state;
	net->loss_percent = 100;
	assert_int_equal(vpn_deadline(v), 0);
	assert_true(send_wakes(net, 1));  /* a handshake, now; it slept for ever */
	assert_false(send_wakes(net, 2)); /* it is up already */
	assert_int_equal(vpn_deadline(v), net->now_ns);
	vpn_run(v, net->now_ns, net_real(net));
	/* asleep until the first retry, in 5 s: */
	assert_true(vpn_deadline(v) >= net->now_ns + REKEY_TIMEOUT_NS);
	assert_false(send_wakes(net, 1)); /* its handshake is under way */
	assert_true(send_wakes(net, 3));
	/* another owner call that sets something is no reason to be woken by the next packet */
	vpn_deadline(v);
	vpn_peer_handshake(v, net->host[0].peer[3], net->now_ns);
	vpn_deadline(v);
	assert_false(send_wakes(net, 3));
	net_free(net);
}

/* ---- timestamps ---- */

/* TAI64N: the second's label, then nanoseconds, of which the low 24 bits are not told. */
static void timestamps_are_coarse(void **state)
{
	const uint64_t label = UINT64_C(0x400000000000000a) + START_REAL_NS / SECOND_NS;
	struct net *net = net_new(79, 2);
	struct peer *p = host_peer(net, 0, 1);
	struct vpn_peer_state before = { 0 };
	be64_t s;
	be32_t n;

	(void)state;
	for (unsigned i = 0; i < 200; i++) {
		net->now_ns = START_NS + 123456789 + (i < 100 ? 0 : i * MS);
		timer_clear(p, TIMER_RETRANSMIT);
		p->last_handshake_sent_ns = 0;
		vpn_peer_handshake(net->host[0].vpn, p->id, net->now_ns);
		vpn_run(net->host[0].vpn, net->now_ns, net_real(net));
		memcpy(&s, p->state.sent_tai64n, 8);
		memcpy(&n, p->state.sent_tai64n + 8, 4);
		assert_true(memcmp(p->state.sent_tai64n, before.sent_tai64n, TAI64N_LEN) > 0);
		assert_true(be32_get(n) < SECOND_NS);
		if (!i) {
			assert_int_equal(be64_get(s), label);
			assert_int_equal(be32_get(n), 123456789 & ~0xffffff);
		}
		/* the first hundred in one nanosecond: each a step on, over the second's end too */
		assert_in_range(be64_get(s), label, label + 4);
		if (i < 50)
			assert_int_equal(be32_get(n) & 0xffffff, 0);
		before = p->state;
	}
	net_free(net);
}

/* Zero is no index: it says "none" elsewhere. */
static void random_zero(void *ctx, uint8_t *bytes, size_t len)
{
	static unsigned zeros = 3;
	struct host *h = ctx;

	for (size_t i = 0; i < len; i++)
		bytes[i] = len == 4 && zeros ? 0 : (uint8_t)rng_next(&h->net->rng);
	zeros -= len == 4 && zeros;
}

static void no_index_is_zero(void **state)
{
	struct net *net = net_new(80, 2);

	(void)state;
	net->host[0].vpn->config.ops.random = random_zero;
	net_send(net, 0, 1, 100);
	net_run(net, MS / 2);
	assert_int_not_equal(host_peer(net, 0, 1)->handshake.local_index, 0);
	net_run(net, 20 * MS);
	assert_int_equal(net->arrived, 1);
	net_free(net);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(waits_differ),
		cmocka_unit_test(asking_again_is_not_faster),
		cmocka_unit_test(five_seconds_apart),
		cmocka_unit_test(twenty_milliseconds_apart),
		cmocka_unit_test(retries_in_parts),
		cmocka_unit_test(giving_up_keeps_the_end),
		cmocka_unit_test(a_handshake_is_no_data),
		cmocka_unit_test(wakes_the_owner_once),
		cmocka_unit_test(timestamps_are_coarse),
		cmocka_unit_test(no_index_is_zero),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
