/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Handshakes between two hosts: what they lead to, and all that must not. */
#include "tests/vpn/net_rig.h"

/* The last message of each type on the wire, whoever sent it. */
struct seen {
	struct datagram last[5];
	int block; /* this type of host 0 does not get through */
};

static bool keep(struct net *net, struct datagram *d, void *ctx)
{
	struct seen *s = ctx;

	s->last[d->data[0]] = *d;
	return !(s->block && d->data[0] == s->block &&
		 vpn_endpoint_equal(&d->from, &net->host[0].at));
}

static struct net *begin(struct seen *s)
{
	struct net *net = net_new(42, 2);

	memset(s, 0, sizeof(*s));
	net->tap = keep;
	net->tap_ctx = s;
	return net;
}

static void both_ways(void **state)
{
	struct seen s;
	struct net *net = begin(&s);

	(void)state;
	net_session(net, 0, 1);
	assert_int_equal(net->host[0].sent_of_type[VPN_TYPE_INITIATION], 1);
	assert_int_equal(net->host[1].sent_of_type[VPN_TYPE_RESPONSE], 1);
	assert_int_equal(net->host[1].sent_of_type[VPN_TYPE_INITIATION], 0);
	assert_int_equal(net->host[0].session_ups, 1);
	assert_int_equal(net->host[1].session_ups, 1);
	assert_int_equal(net->host[1].handshakes, 1);
	assert_int_equal(host_info(net, 0, 1).handshakes, 1);
	assert_int_equal(host_info(net, 1, 0).rx_lost, 0);
	assert_true(host_info(net, 1, 0).last_handshake_real_ns / SECOND_NS ==
		    START_REAL_NS / SECOND_NS);
	for (uint32_t len = 32; len <= 1420; len++) {
		net_send(net, 0, 1, len);
		net_send(net, 1, 0, len);
	}
	net_run(net, 20 * MS);
	assert_int_equal(net->arrived, net->sent);
	net_free(net);
}

/* The responder sends nothing in a session that the initiator has not used yet. */
static void silent_until_confirmed(void **state)
{
	struct seen s;
	struct net *net = begin(&s);

	(void)state;
	s.block = VPN_TYPE_DATA; /* the initiator's keepalive and packets get lost */
	net_send(net, 0, 1, 100);
	net_run(net, 20 * MS);
	assert_non_null(host_peer(net, 1, 0)->next);
	assert_null(host_peer(net, 1, 0)->current);
	net_send(net, 1, 0, 100);
	net_run(net, 20 * MS);
	assert_int_equal(net->host[1].sent_of_type[VPN_TYPE_DATA], 0);
	assert_int_equal(net->host[1].session_ups, 0);
	s.block = 0;
	net_send(net, 0, 1, 100);
	net_run(net, 20 * MS);
	assert_int_equal(net->host[1].session_ups, 1);
	assert_int_equal(net->arrived, 2); /* the second, and what host 1 had kept */
	net_free(net);
}

/* Both begin at the same time: both succeed, and packets pass at once. */
static void both_begin(void **state)
{
	struct seen s;
	struct net *net = begin(&s);

	(void)state;
	net_send(net, 0, 1, 100);
	net_send(net, 1, 0, 100);
	net_run(net, 20 * MS);
	assert_int_equal(net->arrived, 2);
	for (unsigned i = 0; i < 200; i++) {
		net_send(net, i % 2, !(i % 2), 100);
		net_run(net, SECOND_NS);
	}
	assert_int_equal(net->arrived, net->sent);
	net_free(net);
}

/* No message of another length, with another type or reserved byte, is looked at. */
static void exact_forms(void **state)
{
	struct seen s;
	struct net *net = begin(&s);
	uint8_t m[2048];

	(void)state;
	s.block = VPN_TYPE_INITIATION;
	net_send(net, 0, 1, 100);
	net_run(net, MS);
	for (uint32_t len = 0; len <= 300; len++) {
		memset(m, 0, sizeof(m));
		memcpy(m, s.last[1].data, s.last[1].len);
		if (len != sizeof(struct message_initiation))
			assert_int_equal(net_deliver(net, 1, &net->host[0].at, m, len),
					 VPN_MALFORMED);
		m[0] = VPN_TYPE_RESPONSE;
		if (len != sizeof(struct message_response))
			assert_int_equal(net_deliver(net, 1, &net->host[0].at, m, len),
					 VPN_MALFORMED);
		m[0] = VPN_TYPE_COOKIE;
		if (len != sizeof(struct message_cookie))
			assert_int_equal(net_deliver(net, 1, &net->host[0].at, m, len),
					 VPN_MALFORMED);
		m[0] = VPN_TYPE_DATA;
		assert_int_equal(net_deliver(net, 1, &net->host[0].at, m, len),
				 len < VPN_OVERHEAD ? VPN_MALFORMED : VPN_NO_SESSION);
	}
	for (unsigned type = 0; type < 256; type++)
		for (unsigned reserved = 1; reserved < 4; reserved++) {
			memcpy(m, s.last[1].data, s.last[1].len);
			m[0] = (uint8_t)type;
			m[reserved] = type ? 1 : 128;
			assert_int_equal(net_deliver(net, 1, &net->host[0].at, m, s.last[1].len),
					 VPN_MALFORMED);
		}
	/* As it was, it is fine. */
	assert_int_equal(net_deliver(net, 1, &net->host[0].at, s.last[1].data, s.last[1].len),
			 VPN_OK);
	net_free(net);
}

/* Every bit of every message counts.  A forged one changes nothing: the true one still works. */
static void every_bit_counts(void **state)
{
	struct seen s;
	struct net *net = begin(&s);
	uint8_t m[2048];

	(void)state;
	for (int type = VPN_TYPE_INITIATION; type <= VPN_TYPE_DATA; type++) {
		unsigned to = type != VPN_TYPE_RESPONSE;
		const struct datagram *d = &s.last[type];

		if (type == VPN_TYPE_COOKIE)
			continue;
		net->loss_percent = 100; /* we deliver by hand */
		if (type == VPN_TYPE_INITIATION)
			net_send(net, 0, 1, 100);
		net_run(net, MS);
		assert_int_equal(d->data[0], type);
		for (uint32_t bit = 0; bit < d->len * 8; bit++) {
			if (type != VPN_TYPE_DATA && bit >= (d->len - MAC_LEN) * 8)
				continue; /* MAC2, which only counts under load */
			memcpy(m, d->data, d->len);
			m[bit / 8] ^= (uint8_t)(1 << bit % 8);
			assert_int_not_equal(net_deliver(net, to, &net->host[!to].at, m, d->len),
					     VPN_OK);
		}
		assert_int_equal(net_deliver(net, to, &net->host[!to].at, d->data, d->len), VPN_OK);
	}
	net_free(net);
}

static void replays(void **state)
{
	struct seen s;
	struct net *net = begin(&s);
	struct datagram old[5];

	(void)state;
	net_session(net, 0, 1);
	memcpy(old, s.last, sizeof(old));
	assert_int_equal(net_deliver(net, 1, &net->host[0].at, old[1].data, old[1].len),
			 VPN_REPLAYED);
	assert_int_equal(net_deliver(net, 0, &net->host[1].at, old[2].data, old[2].len),
			 VPN_NO_SESSION);
	assert_int_equal(net_deliver(net, 0, &net->host[1].at, old[4].data, old[4].len),
			 VPN_REPLAYED);
	assert_int_equal(host_info(net, 0, 1).rx_refused, 1);
	/* From elsewhere it does not move the peer either. */
	struct vpn_endpoint elsewhere = net_address(200, 9);

	net_deliver(net, 0, &elsewhere, old[4].data, old[4].len);
	assert_true(vpn_endpoint_equal(&host_peer(net, 0, 1)->endpoint, &net->host[1].at));
	net_run(net, 125 * SECOND_NS);
	net_session(net, 0, 1); /* rekeyed */
	assert_int_equal(net_deliver(net, 1, &net->host[0].at, old[1].data, old[1].len),
			 VPN_REPLAYED);
	net_free(net);
}

/* Initiations of one peer are 20 ms apart, whatever their timestamps say. */
static void not_too_fast(void **state)
{
	struct seen s;
	struct net *net = begin(&s);

	(void)state;
	net_session(net, 0, 1);
	for (unsigned i = 0; i < 3; i++) {
		host_peer(net, 0, 1)->last_handshake_sent_ns = 0;
		net->loss_percent = 100;
		vpn_peer_handshake(net->host[0].vpn, net->host[0].peer[1], net->now_ns);
		host_peer(net, 0, 1)->due_ns[TIMER_RETRANSMIT] = 0;
		vpn_peer_handshake(net->host[0].vpn, net->host[0].peer[1], net->now_ns);
		net_run(net, i == 1 ? 19 * MS : MS);
		assert_int_equal(
			net_deliver(net, 1, &net->host[0].at, s.last[1].data, s.last[1].len),
			i == 1 ? VPN_LIMITED : VPN_OK);
		if (i == 1)
			net_run(net, 20 * MS);
	}
	net_free(net);
}

/* After a restart with a clock that went back, and replays against a restarted responder. */
static void timestamps_across_restarts(void **state)
{
	struct seen s;
	struct net *net = begin(&s);
	struct vpn_peer_state mine, theirs;
	struct datagram first;

	(void)state;
	net_session(net, 0, 1);
	first = s.last[VPN_TYPE_INITIATION];
	assert_int_equal(vpn_peer_get_state(net->host[0].vpn, net->host[0].peer[1], &mine), 0);
	assert_int_equal(vpn_peer_get_state(net->host[1].vpn, net->host[1].peer[0], &theirs), 0);
	assert_memory_equal(mine.sent_tai64n, theirs.received_tai64n, TAI64N_LEN);

	host_stop(net, 0);
	net->clock_off_ns = -(int64_t)(86400 * SECOND_NS);
	host_start(net, 0);
	host_join(net, 0, 1);
	host_endpoint(net, 0, 1);
	net_send(net, 0, 1, 100);
	net_run(net, SECOND_NS);
	assert_int_equal(net->host[1].last_verdict, VPN_REPLAYED);
	host_stop(net, 0);
	net->host[0].staged_count = 0;
	host_start(net, 0);
	host_join(net, 0, 1);
	assert_int_equal(vpn_peer_set_state(net->host[0].vpn, net->host[0].peer[1], &mine), 0);
	host_endpoint(net, 0, 1);
	net_session(net, 0, 1);

	host_stop(net, 1);
	host_start(net, 1);
	host_join(net, 1, 0);
	assert_int_equal(vpn_peer_set_state(net->host[1].vpn, net->host[1].peer[0], &theirs), 0);
	assert_int_equal(net_deliver(net, 1, &net->host[0].at, first.data, first.len),
			 VPN_REPLAYED);
	/* Without the state it would get as far as a session that cannot be used. */
	host_stop(net, 1);
	host_start(net, 1);
	host_join(net, 1, 0);
	assert_int_equal(net_deliver(net, 1, &net->host[0].at, first.data, first.len), VPN_OK);
	assert_null(host_peer(net, 1, 0)->current);
	net_free(net);
}

static void preshared_keys(void **state)
{
	struct seen s;
	struct net *net = begin(&s);
	uint8_t psk[KEY_LEN] = { 1, 2, 3 };

	(void)state;
	vpn_peer_set_psk(net->host[0].vpn, net->host[0].peer[1], psk);
	net_send(net, 0, 1, 100);
	net_run(net, SECOND_NS);
	assert_int_equal(net->host[0].last_verdict, VPN_FORGED); /* the response */
	assert_int_equal(net->arrived, 0);
	vpn_peer_set_psk(net->host[1].vpn, net->host[1].peer[0], psk);
	net_run(net, 6 * SECOND_NS);
	assert_int_equal(net->arrived, 1);
	/* Changed on both while a session is up: it goes on, and so do the next ones. */
	psk[0] = 9;
	vpn_peer_set_psk(net->host[0].vpn, net->host[0].peer[1], psk);
	vpn_peer_set_psk(net->host[1].vpn, net->host[1].peer[0], psk);
	for (unsigned i = 0; i < 150; i++) {
		net_send(net, i % 2, !(i % 2), 100);
		net_run(net, SECOND_NS);
	}
	assert_int_equal(net->arrived, net->sent);
	assert_true(host_info(net, 0, 1).handshakes >= 2);
	net_free(net);
}

static void keys_refused(void **state)
{
	struct seen s;
	struct net *net = begin(&s);
	struct vpn *v = net->host[0].vpn;
	uint8_t zero[KEY_LEN] = { 0 }, one[KEY_LEN] = { 1 }, key[KEY_LEN];
	struct err err = { 0 };
	uint64_t id = 77, removed;

	(void)state;
	assert_int_equal(vpn_peer_add(v, zero, net->now_ns, &id, &err), -EINVAL);
	assert_int_equal(vpn_peer_add(v, one, net->now_ns, &id, &err), -EINVAL);
	assert_int_equal(vpn_peer_add(v, net->host[0].public_key, net->now_ns, &id, &err),
			 -EADDRINUSE);
	assert_int_equal(id, 77);
	assert_int_equal(vpn_peer_add(v, net->host[1].public_key, net->now_ns, &id, &err), -EEXIST);
	assert_int_equal(id, net->host[0].peer[1]);
	/* To become a peer removes that peer. */
	assert_int_equal(vpn_set_private_key(v, net->host[1].private_key, net->now_ns, &removed),
			 0);
	assert_int_equal(removed, id);
	assert_int_equal(vpn_peer_find(v, net->host[1].public_key), VPN_NO_PEER);
	assert_int_equal(vpn_peer_next(v, VPN_NO_PEER), VPN_NO_PEER);
	assert_int_equal(vpn_peer_set_psk(v, id, zero), -ENOENT);
	/* No key: nothing is answered. */
	assert_int_equal(vpn_set_private_key(v, zero, net->now_ns, NULL), 0);
	assert_false(vpn_get_private_key(v, key));
	net_send(net, 1, 0, 100);
	net_run(net, 5 * MS);
	assert_int_equal(net->host[0].last_verdict, VPN_NO_KEY);
	net_free(net);
}

/* A point of small order is no peer, whether it comes before the private key or after it. */
static void small_order_is_no_peer(void **state)
{
	struct seen s;
	struct net *net = begin(&s);
	struct vpn *v = net->host[0].vpn;
	uint8_t zero[KEY_LEN] = { 0 }, one[KEY_LEN] = { 1 };
	struct err err = { 0 };
	uint64_t id;

	(void)state;
	assert_int_equal(vpn_peer_add(v, one, net->now_ns, &id, &err), -EINVAL);
	assert_non_null(strstr(err.text, "small order"));
	assert_int_equal(vpn_set_private_key(v, zero, net->now_ns, NULL), 0);
	assert_int_equal(vpn_peer_add(v, one, net->now_ns, &id, NULL), -EINVAL);
	assert_int_equal(vpn_set_private_key(v, net->host[0].private_key, net->now_ns, NULL), 0);
	net_session(net, 0, 1);
	net_free(net);
}

/* What costs a multiplication waits for the first handshake, with our new key as well. */
static void keys_meet_when_they_must(void **state)
{
	struct seen s;
	struct net *net = begin(&s);
	struct peer *p = host_peer(net, 0, 1), *q = host_peer(net, 1, 0);

	(void)state;
	assert_true(crypto_is_zero(p->pair.shared, KEY_LEN));
	assert_true(crypto_is_zero(q->pair.shared, KEY_LEN));
	net_session(net, 0, 1);
	assert_false(crypto_is_zero(p->pair.shared, KEY_LEN));
	assert_memory_equal(p->pair.shared, q->pair.shared, KEY_LEN);
	assert_int_equal(
		vpn_set_private_key(net->host[0].vpn, (uint8_t[KEY_LEN]){ 7 }, net->now_ns, NULL),
		0);
	assert_true(crypto_is_zero(p->pair.shared, KEY_LEN));
	net_free(net);
}

/* A peer that is not ours, and one that was. */
static void strangers(void **state)
{
	struct seen s;
	struct net *net = begin(&s);

	(void)state;
	vpn_peer_remove(net->host[1].vpn, net->host[1].peer[0]);
	net_send(net, 0, 1, 100);
	net_run(net, SECOND_NS);
	assert_int_equal(net->host[1].last_verdict, VPN_UNKNOWN);
	assert_int_equal(net->host[1].sent_of_type[VPN_TYPE_RESPONSE], 0);
	host_join(net, 1, 0);
	net_run(net, 10 * SECOND_NS);
	assert_int_equal(net->arrived, 1);
	/* Removed while packets are under way. */
	net_send(net, 0, 1, 100);
	vpn_peer_remove(net->host[1].vpn, net->host[1].peer[0]);
	net_run(net, 5 * MS);
	assert_int_equal(net->host[1].last_verdict, VPN_NO_SESSION);
	net_free(net);
}

static void roaming(void **state)
{
	struct seen s;
	struct net *net = begin(&s);
	struct datagram d;

	(void)state;
	net_session(net, 0, 1);
	net->host[0].at = net_address(77, 1234);
	net_send(net, 0, 1, 100);
	net_run(net, 5 * MS);
	net_send(net, 1, 0, 100);
	net_run(net, 5 * MS);
	assert_int_equal(net->arrived, 4);
	assert_int_equal(net->host[1].roams, 1);
	/* A forged packet moves nobody. */
	d = s.last[VPN_TYPE_DATA];
	d.data[d.len - 1] ^= 1;
	struct vpn_endpoint thief = net_address(66, 6);

	assert_int_equal(net_deliver(net, 0, &thief, d.data, d.len), VPN_FORGED);
	net_send(net, 0, 1, 100);
	net_run(net, 5 * MS);
	assert_int_equal(net->arrived, 5);
	net_free(net);
}

/* An inner source that is not the peer's is dropped, whatever session it came in. */
static void foreign_sources(void **state)
{
	struct net *net = net_new(1, 3);
	struct prefix p = { .addr = { 4, { 10, 0, 0, 1 } }, .len = 32 };

	(void)state;
	net_session(net, 0, 1);
	assert_int_equal(vpn_allowed_add(net->host[1].vpn, net->host[1].peer[2], &p), 0);
	net_send(net, 0, 1, 100);
	net_run(net, 5 * MS);
	assert_int_equal(net->host[1].last_verdict, VPN_SOURCE);
	assert_int_equal(host_info(net, 1, 0).allowed_count, 0); /* it was taken from it */
	assert_int_equal(host_info(net, 1, 2).allowed_count, 2);
	assert_int_equal(host_info(net, 1, 0).rx_refused, 1);
	assert_int_equal(vpn_allowed_remove(net->host[1].vpn, net->host[1].peer[0], &p), -ENOENT);
	net_free(net);
}

static void congestion_marks(void **state)
{
	(void)state;
	for (unsigned v6 = 0; v6 < 2; v6++) {
		struct net *net = v6 ? net_new_v6(1, 2) : net_new(1, 2);

		net_session(net, 0, 1);
		net->mark = 3; /* the rig's packets are ECT(0) */
		net_send(net, 0, 1, 100);
		net_run(net, 5 * MS);
		assert_int_equal(net->arrived, 3);
		net_free(net);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_ways),
		cmocka_unit_test(silent_until_confirmed),
		cmocka_unit_test(both_begin),
		cmocka_unit_test(exact_forms),
		cmocka_unit_test(every_bit_counts),
		cmocka_unit_test(replays),
		cmocka_unit_test(not_too_fast),
		cmocka_unit_test(timestamps_across_restarts),
		cmocka_unit_test(preshared_keys),
		cmocka_unit_test(keys_refused),
		cmocka_unit_test(small_order_is_no_peer),
		cmocka_unit_test(keys_meet_when_they_must),
		cmocka_unit_test(strangers),
		cmocka_unit_test(roaming),
		cmocka_unit_test(foreign_sources),
		cmocka_unit_test(congestion_marks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
