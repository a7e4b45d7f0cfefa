/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a mistake of one line once passed unnoticed: limits at their very number, the window when it
 * moves by any distance, who confirms a session, what padding consists of.
 */
#include "tests/vpn/net_rig.h"
#include "vpn/replay.h"

/* ---- sessions ---- */

static bool drop_responses(struct net *net, struct datagram *d, void *ctx)
{
	(void)net;
	(void)ctx;
	return d->data[0] != VPN_TYPE_RESPONSE;
}

static bool drop_initiations(struct net *net, struct datagram *d, void *ctx)
{
	(void)net;
	(void)ctx;
	return d->data[0] != VPN_TYPE_INITIATION;
}

/* A packet of the session in use proves nothing about the next one. */
static void only_the_new_session_confirms(void **state)
{
	struct net *net = net_new(31, 2);
	struct peer *p = host_peer(net, 1, 0);
	struct vpn_keypair *current;

	(void)state;
	net_session(net, 0, 1);
	net_run(net, 6 * SECOND_NS);
	current = p->current;
	net->tap = drop_responses;
	vpn_peer_handshake(net->host[0].vpn, net->host[0].peer[1], net->now_ns);
	net_run(net, SECOND_NS);
	assert_non_null(p->next);
	net_send(net, 0, 1, 100);
	net_run(net, SECOND_NS);
	assert_int_equal(net->arrived, net->sent);
	assert_ptr_equal(p->current, current);
	assert_non_null(p->next);
	assert_int_equal(host_info(net, 1, 0).handshakes, 1);
	net_free(net);
}

/* The session ends between the two steps of a batch: nothing of it is believed any more. */
static void an_ended_session_is_no_session(void **state)
{
	static const uint8_t none[KEY_LEN];
	struct net *net = net_new(32, 2);
	struct host *to = &net->host[1];
	uint8_t wire[512] = { 0 };
	struct vpn_packet packet = { .data = wire + VPN_HEADROOM, .len = 32 };
	struct vpn_rx rx = { .data = wire, .from = &net->host[0].at };
	struct vpn_tx tx;

	(void)state;
	net_session(net, 0, 1);
	assert_int_equal(
		vpn_send_begin(net->host[0].vpn, net->host[0].peer[1], 1, 32, net->now_ns, &tx), 0);
	vpn_seal(&tx, 0, 0, &packet, 1);
	vpn_send_end(net->host[0].vpn, &tx);
	rx.len = packet.len;
	vpn_open_begin(to->vpn, &rx, 1, net->now_ns);
	assert_int_equal(vpn_set_private_key(to->vpn, none, net->now_ns, NULL), 0);
	vpn_open_crypt(0, &rx, 1);
	(void)!vpn_open_finish(to->vpn, &rx, 1, net->now_ns);
	assert_int_equal(rx.verdict, VPN_NO_SESSION);
	net_free(net);
}

static void ages_at_their_nanosecond(void **state)
{
	struct net *net = net_new(33, 2);
	struct vpn_keypair *k;

	(void)state;
	net_session(net, 0, 1);
	k = host_peer(net, 0, 1)->current;
	assert_true(session_may_send(k, 1, k->born_ns + 180 * SECOND_NS - 1));
	assert_false(session_may_send(k, 1, k->born_ns + 180 * SECOND_NS));
	assert_true(session_may_receive(k, k->born_ns + 180 * SECOND_NS - 1));
	assert_false(session_may_receive(k, k->born_ns + 180 * SECOND_NS));
	net_run_to(net, k->born_ns + 120 * SECOND_NS - 1);
	net_send(net, 0, 1, 100);
	assert_int_equal(host_peer(net, 0, 1)->due_ns[TIMER_INITIATE], 0);
	net->now_ns++;
	net_send(net, 0, 1, 100);
	assert_int_not_equal(host_peer(net, 0, 1)->due_ns[TIMER_INITIATE], 0);
	net_free(net);
}

/* 2^60 packets (the paper, 6.1); there and not twice that. */
static void counters_at_their_number(void **state)
{
	struct net *net = net_new(34, 2);
	struct vpn_keypair *k;

	(void)state;
	net_session(net, 0, 1);
	net_run(net, 6 * SECOND_NS);
	k = host_peer(net, 0, 1)->current;
	k->send_counter = (UINT64_C(1) << 60) - 1;
	net_send(net, 0, 1, 100);
	assert_int_equal(host_peer(net, 0, 1)->due_ns[TIMER_INITIATE], 0);
	net_send(net, 0, 1, 100);
	assert_int_not_equal(host_peer(net, 0, 1)->due_ns[TIMER_INITIATE], 0);
	k->replay.next = UINT64_MAX - 8192;
	assert_false(session_may_receive(k, net->now_ns));
	k->replay.next--;
	assert_true(session_may_receive(k, net->now_ns));
	net_free(net);
}

/* ---- renewing while nothing but keepalives comes ---- */

/* The initiator asks 15 s before the end, once: the tries go on from there, 90 s long. */
static void who_only_hears_renews_once(void **state)
{
	struct net *net = net_new(35, 2);
	uint64_t born;

	(void)state;
	net_session(net, 0, 1);
	net_run(net, 12 * SECOND_NS); /* keepalives for what was said */
	born = host_peer(net, 0, 1)->current->born_ns;
	net->tap = drop_initiations;
	vpn_peer_set_keepalive(net->host[1].vpn, net->host[1].peer[0], 1, net->now_ns);
	net_run_to(net, born + 164 * SECOND_NS);
	assert_int_equal(net->host[0].sent_of_type[VPN_TYPE_INITIATION], 1);
	net_run_to(net, born + 167 * SECOND_NS);
	assert_int_equal(net->host[0].sent_of_type[VPN_TYPE_INITIATION], 2);
	/* each later keepalive does not make it begin to count anew */
	net_run_to(net,
		   born + 165 * SECOND_NS + 19 * (REKEY_TIMEOUT_NS + JITTER_NS) + 2 * SECOND_NS);
	assert_int_equal(net->host[0].gave_ups, 1);
	net_free(net);
}

/* Session after session. */
static void who_only_hears_renews_each_time(void **state)
{
	struct net *net = net_new(39, 2);

	(void)state;
	net_session(net, 0, 1);
	vpn_peer_set_keepalive(net->host[1].vpn, net->host[1].peer[0], 1, net->now_ns);
	net_run(net, 520 * SECOND_NS);
	assert_in_range(net->host[0].sent_of_type[VPN_TYPE_INITIATION], 4, 5);
	assert_int_equal(net->host[1].sent_of_type[VPN_TYPE_INITIATION], 0);
	net_free(net);
}

/* The responder leaves it to the initiator, also when that is not heard. */
static void who_answered_does_not_renew(void **state)
{
	struct net *net = net_new(36, 2);
	uint64_t born;

	(void)state;
	net_session(net, 0, 1);
	net_run(net, 12 * SECOND_NS);
	born = host_peer(net, 1, 0)->current->born_ns;
	net->tap = drop_initiations;
	vpn_peer_set_keepalive(net->host[0].vpn, net->host[0].peer[1], 1, net->now_ns);
	net_run_to(net, born + 179 * SECOND_NS);
	assert_int_equal(net->host[1].sent_of_type[VPN_TYPE_INITIATION], 0);
	net_free(net);
}

/* Who gave up and is asked again tries for as long as the first time. */
static void giving_up_is_not_for_ever(void **state)
{
	struct net *net = net_new(37, 2);
	unsigned first;

	(void)state;
	net->tap = drop_initiations;
	host_endpoint(net, 0, 1);
	net_send(net, 0, 1, 100);
	net_run(net, 120 * SECOND_NS);
	assert_int_equal(net->host[0].gave_ups, 1);
	first = net->host[0].sent_of_type[VPN_TYPE_INITIATION];
	assert_int_equal(first, 1 + REKEY_ATTEMPTS);
	net_send(net, 0, 1, 100);
	net_run(net, 120 * SECOND_NS);
	assert_int_equal(net->host[0].gave_ups, 2);
	assert_int_equal(net->host[0].sent_of_type[VPN_TYPE_INITIATION], 2 * first);
	net_free(net);
}

/* What was begun and never answered is not kept for ever either. */
static void an_unanswered_handshake_is_zeroed(void **state)
{
	struct net *net = net_new(40, 2);

	(void)state;
	net->tap = drop_initiations;
	host_endpoint(net, 0, 1);
	net_send(net, 0, 1, 100);
	net_run(net, 120 * SECOND_NS);
	assert_int_not_equal(host_peer(net, 0, 1)->handshake.local_index, 0);
	net_run(net, ZERO_KEYS_NS);
	assert_int_equal(host_peer(net, 0, 1)->handshake.local_index, 0);
	assert_true(crypto_is_zero((const uint8_t *)&host_peer(net, 0, 1)->handshake,
				   sizeof(struct noise_handshake)));
	net_free(net);
}

/* Their handshake came first: ours, which was waiting for its turn, is not needed. */
static void a_handshake_saves_the_one_that_waits(void **state)
{
	struct net *net = net_new(41, 2);
	struct peer *p = host_peer(net, 1, 0);

	(void)state;
	net_session(net, 0, 1);
	net_run(net, 6 * SECOND_NS);
	timer_set(net->host[1].vpn, p, TIMER_INITIATE, net->now_ns + 3 * SECOND_NS);
	vpn_peer_handshake(net->host[0].vpn, net->host[0].peer[1], net->now_ns);
	net_run(net, 12 * SECOND_NS); /* it would have waited for 5 s behind our answer */
	assert_int_equal(host_info(net, 1, 0).handshakes, 2);
	assert_int_equal(net->host[1].sent_of_type[VPN_TYPE_INITIATION], 0);
	net_free(net);
}

/* Five seconds before its giver forgets it. */
static void a_cookie_is_used_for_115_s(void **state)
{
	struct net *net = net_new(42, 1);
	struct cookie_jar jar = { .have = true, .born_ns = SECOND_NS };
	struct message_initiation m = { .type = le32_put(VPN_TYPE_INITIATION) };
	const struct crypto *c = &net->host[0].vpn->crypto;

	(void)state;
	assert_int_equal(cookie_jar_sign(&jar, c, (uint8_t *)&m, sizeof(m), 116 * SECOND_NS - 1),
			 0);
	assert_false(crypto_is_zero(m.macs.mac2, sizeof(m.macs.mac2)));
	assert_int_equal(cookie_jar_sign(&jar, c, (uint8_t *)&m, sizeof(m), 116 * SECOND_NS), 0);
	assert_true(crypto_is_zero(m.macs.mac2, sizeof(m.macs.mac2)));
	net_free(net);
}

/* A cookie is that of an address and a port, in both families. */
static void a_cookie_is_of_one_place(void **state)
{
	static const uint8_t secret[KEY_LEN] = { 1 }, nonce[XAEAD_NONCE_LEN] = { 2 };
	struct net *net = net_new(43, 1);
	const struct crypto *c = &net->host[0].vpn->crypto;
	struct message_initiation m = { .type = le32_put(VPN_TYPE_INITIATION) };
	const uint8_t *msg = (const uint8_t *)&m;

	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		struct vpn_endpoint from = { 0 }, other;
		struct cookie_guard g = { 0 };
		struct cookie_jar jar = { 0 };
		struct message_cookie reply;

		from.sa.sa_family = v6 ? AF_INET6 : AF_INET;
		from.v4.sin_port = 7; /* in one place in both */
		assert_int_equal(cookie_keys_derive(c, net->host[0].public_key, &jar.keys), 0);
		assert_int_equal(cookie_guard_set(&g, c, &jar.keys), 0);
		cookie_guard_renew(&g, secret, SECOND_NS);
		assert_int_equal(cookie_jar_sign(&jar, c, (uint8_t *)&m, sizeof(m), SECOND_NS), 0);
		assert_false(cookie_mac2_right(&g, c, msg, sizeof(m), &from));
		assert_int_equal(cookie_reply(&g, c, msg, sizeof(m), &from, nonce, &reply), 0);
		assert_int_equal(cookie_jar_take(&jar, c, &reply, SECOND_NS), 0);
		assert_int_equal(cookie_jar_sign(&jar, c, (uint8_t *)&m, sizeof(m), SECOND_NS), 0);
		assert_true(cookie_mac2_right(&g, c, msg, sizeof(m), &from));
		other = from;
		other.v4.sin_port = 8;
		assert_false(cookie_mac2_right(&g, c, msg, sizeof(m), &other));
		other = from;
		((uint8_t *)(v6 ? (void *)&other.v6.sin6_addr : &other.v4.sin_addr))[v6 ? 15 : 3] =
			1;
		assert_false(cookie_mac2_right(&g, c, msg, sizeof(m), &other));
		assert_int_equal(cookie_guard_set(&g, c, NULL), 0);
	}
	net_free(net);
}

/* ---- the window ---- */

/* Every counter once, after a move by any number of words. */
static void window_moves_by_any_distance(void **state)
{
	(void)state;
	for (uint64_t gap = 1; gap < 3 * REPLAY_WORDS; gap++) {
		struct replay r = { 0 };
		uint64_t top = (REPLAY_WORDS - 1 + gap) * 64 + 63, bottom;

		for (uint64_t i = 0; i < REPLAY_WORDS * 64; i++)
			assert_true(replay_accept(&r, i));
		assert_true(replay_accept(&r, top));
		bottom = top - REPLAY_WINDOW;
		for (uint64_t i = bottom; i < top; i++)
			assert_int_equal(replay_accept(&r, i), i >= REPLAY_WORDS * 64);
	}
}

/* ---- padding ---- */

/* To 16 bytes, but not past the MTU; of zeros: whatever was in memory stays here. */
static void padding_is_zeros_within_the_mtu(void **state)
{
	static const struct {
		uint32_t len, mtu, padded;
	} rows[] = {
		{ 0, 1420, 0 },	      { 1, 1420, 16 },	    { 16, 1420, 16 },
		{ 17, 1420, 32 },     { 1408, 1420, 1408 }, { 1409, 1420, 1420 },
		{ 1420, 1420, 1420 }, { 1421, 1420, 1436 }, { 1500, 1420, 1500 },
		{ 2839, 1420, 2840 }, { 1501, 0, 1504 },
	};
	struct net *net = net_new(38, 2);
	struct host *from = &net->host[0], *to = &net->host[1];
	uint8_t wire[512];
	struct vpn_packet packet = { .data = wire + VPN_HEADROOM, .len = 33 };
	struct vpn_rx rx = { .data = wire, .from = &from->at };
	struct vpn_tx tx;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(vpn_sealed_len(rows[i].len, (uint16_t)rows[i].mtu),
				 rows[i].padded + VPN_OVERHEAD);
	net_session(net, 0, 1);
	memset(wire, 0xaa, sizeof(wire));
	memset(packet.data, 0, 33);
	packet.data[0] = 0x45;
	packet.data[3] = 33;
	packet.data[12] = packet.data[16] = 10;
	packet.data[15] = 1;
	packet.data[19] = 2;
	assert_int_equal(vpn_send_begin(from->vpn, from->peer[1], 1, 33, net->now_ns, &tx), 0);
	vpn_seal(&tx, 0, 0, &packet, 1);
	vpn_send_end(from->vpn, &tx);
	assert_int_equal(packet.len, 48 + VPN_OVERHEAD);
	rx.len = packet.len;
	(void)!vpn_open(to->vpn, 0, &rx, 1, net->now_ns);
	assert_int_equal(rx.verdict, VPN_OK);
	assert_int_equal(rx.len, 33);
	for (unsigned i = 33; i < 48; i++)
		assert_int_equal(rx.data[i], 0);
	net_free(net);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_the_new_session_confirms),
		cmocka_unit_test(an_ended_session_is_no_session),
		cmocka_unit_test(ages_at_their_nanosecond),
		cmocka_unit_test(counters_at_their_number),
		cmocka_unit_test(who_only_hears_renews_once),
		cmocka_unit_test(who_only_hears_renews_each_time),
		cmocka_unit_test(an_unanswered_handshake_is_zeroed),
		cmocka_unit_test(a_handshake_saves_the_one_that_waits),
		cmocka_unit_test(a_cookie_is_used_for_115_s),
		cmocka_unit_test(a_cookie_is_of_one_place),
		cmocka_unit_test(who_answered_does_not_renew),
		cmocka_unit_test(giving_up_is_not_for_ever),
		cmocka_unit_test(window_moves_by_any_distance),
		cmocka_unit_test(padding_is_zeros_within_the_mtu),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
