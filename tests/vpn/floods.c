/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Floods of initiations from somebody who knows our public key: what they cost us is bounded,
 * sessions go on, and a peer that answers for its address still gets in.
 */
#include "tests/vpn/net_rig.h"

/* A stranger's initiations, with the right MAC1, as many as wanted. */
struct flooder {
	struct crypto c;
	struct noise_self self;
	struct noise_pair pair;
	struct cookie_jar jar;
};

static void flooder_init(struct flooder *f, const struct host *target)
{
	uint8_t key[KEY_LEN] = { 1, 2, 3, 4 };

	memset(f, 0, sizeof(*f));
	assert_int_equal(crypto_init(&f->c, NULL), 0);
	assert_int_equal(noise_self_set(&f->self, key), 0);
	memcpy(f->pair.remote, target->public_key, KEY_LEN);
	assert_int_equal(noise_pair_derive(&f->pair, &f->self), 0);
	assert_int_equal(cookie_keys_derive(&f->c, f->pair.remote, &f->jar.keys), 0);
}

static void flooder_clear(struct flooder *f)
{
	noise_self_clear(&f->self);
	crypto_clear(&f->c);
}

/* Garbage but for its form and MAC1: what costs the sender least. */
static void flooder_message(struct flooder *f, struct rng *rng, uint64_t now_ns,
			    struct message_initiation *m)
{
	for (size_t i = 0; i < sizeof(*m); i++)
		((uint8_t *)m)[i] = (uint8_t)rng_next(rng);
	m->type = le32_put(VPN_TYPE_INITIATION);
	assert_int_equal(cookie_jar_sign(&f->jar, &f->c, (uint8_t *)m, sizeof(*m), now_ns), 0);
}

struct attack {
	unsigned rate, seconds, sources; /* 0: ever new ones */
	struct vpn_endpoint as;		 /* if its port is not 0: all from there */
};

static struct vpn_endpoint source_of(const struct attack *a, unsigned i)
{
	if (a->as.v4.sin_port)
		return a->as;
	return net_address(0x10000 + (a->sources ? i % a->sources : i), (uint16_t)(1024 + i));
}

/* Into host 0, beside traffic between 0 and 1; after half of a second host 2 knocks. */
static void flood(struct net *net, struct flooder *f, const struct attack *a)
{
	struct message_initiation m;

	for (unsigned i = 0; i < a->rate * a->seconds; i++) {
		struct vpn_endpoint from = source_of(a, i);

		flooder_message(f, &net->rng, net->now_ns, &m);
		net_deliver(net, 0, &from, &m, sizeof(m));
		net_run(net, SECOND_NS / a->rate);
		if (i % 100 == 0)
			net_send(net, i / 100 % 2, !(i / 100 % 2), 100);
		if (i == a->rate / 2)
			net_send(net, 2, 0, 100);
	}
}

/* What a flood may cost in calculations and in answers; the rest is dropped. */
static void flood_of_strangers(void **state)
{
	const struct attack a = { .rate = 10000, .seconds = 3 };
	struct net *net = net_new(5, 3);
	struct host *h = &net->host[0];
	struct flooder f;
	struct vpn_counters counters;
	unsigned before, forged, answers = LOAD_NEW_RATE + LOAD_ANY_RATE;

	(void)state;
	flooder_init(&f, h);
	net_session(net, 0, 1);
	before = h->verdicts[VPN_FORGED];
	flood(net, &f, &a);
	/* So many were looked into: the burst and 500 a second until it was empty, each as four. */
	forged = h->verdicts[VPN_FORGED] - before;
	assert_in_range(forged, LOAD_BURST / LOAD_VAIN_COST - 10,
			(LOAD_BURST + LOAD_RATE * 3) / LOAD_VAIN_COST);
	vpn_get_counters(h->vpn, &counters);
	assert_int_equal(counters.under_load, 1);
	assert_int_equal(counters.cookies_sent, h->verdicts[VPN_COOKIE]);
	assert_in_range(counters.cookies_sent, answers * 7 / 2, answers * 4);
	assert_true(h->verdicts[VPN_LIMITED] >= 30000 - forged - answers * 4 - 10);
	net_run(net, 10 * SECOND_NS);
	assert_int_equal(net->arrived, net->sent);
	flooder_clear(&f);
	net_free(net);
}

/* Real hosts flood us: a peer gets its cookie at once, and in with it while they go on. */
static void flood_of_hosts(void **state)
{
	const struct attack a = { .rate = 5000, .seconds = 7, .sources = 150 };
	struct net *net = net_new(9, 3);
	struct flooder f;
	struct vpn_counters counters;

	(void)state;
	flooder_init(&f, &net->host[0]);
	net_session(net, 0, 1);
	flood(net, &f, &a);
	vpn_get_counters(net->host[2].vpn, &counters);
	assert_int_equal(counters.cookies_received, 1);
	assert_int_equal(counters.initiations_sent, 2);
	assert_int_equal(counters.responses_received, 1);
	/* a handful a second to each of them, and what is left over */
	vpn_get_counters(net->host[0].vpn, &counters);
	assert_true(counters.cookies_sent < 7 * 150 * LOAD_NEW_MAX + 8 * LOAD_ANY_RATE + 10);
	net_run(net, SECOND_NS);
	assert_int_equal(net->arrived, net->sent);
	flooder_clear(&f);
	net_free(net);
}

/* Somebody floods us in a peer's name: that does not keep it out. */
static void flood_in_a_name(void **state)
{
	struct net *net = net_new(10, 3);
	const struct attack a = { .rate = 2000, .seconds = 30, .as = net->host[2].at };
	struct flooder f;
	struct vpn_counters counters;

	(void)state;
	flooder_init(&f, &net->host[0]);
	net_session(net, 0, 1);
	flood(net, &f, &a);
	vpn_get_counters(net->host[2].vpn, &counters);
	assert_int_equal(counters.responses_received, 1);
	flooder_clear(&f);
	net_free(net);
}

/* A thousand at once are taken in, of those that calculate in vain a quarter. */
static void vain_calculations(void **state)
{
	struct load *l = calloc(1, sizeof(*l));
	unsigned good = 0, vain = 0;
	bool begins;

	(void)state;
	assert_non_null(l);
	load_init(l, LOAD_BURST, LOAD_RATE, 1);
	while (!load_take(l, 0, START_NS, &begins))
		good++;
	assert_true(begins);
	assert_int_equal(good, LOAD_BURST);
	load_init(l, LOAD_BURST, LOAD_RATE, 1);
	for (; !load_take(l, 0, START_NS, &begins); vain++)
		load_vain(l);
	assert_int_equal(vain, LOAD_BURST / LOAD_VAIN_COST);
	/* Too many that wait are load as well, for a second. */
	load_init(l, LOAD_BURST, LOAD_RATE, 1);
	assert_false(load_take(l, LOAD_BACKLOG - 1, START_NS, &begins));
	assert_true(load_take(l, LOAD_BACKLOG, START_NS, &begins));
	assert_true(load_take(l, 0, START_NS + LOAD_HOLD_NS - 1, &begins));
	assert_false(begins);
	assert_false(load_take(l, 0, START_NS + LOAD_HOLD_NS, &begins));
	free(l);
}

/* Without MAC1 not even a cookie is given, and no load is felt. */
static void flood_without_mac1(void **state)
{
	struct net *net = net_new(6, 2);
	struct vpn_counters counters;
	struct message_initiation m;

	(void)state;
	memset(&m, 7, sizeof(m));
	m.type = le32_put(VPN_TYPE_INITIATION);
	for (unsigned i = 0; i < 5000; i++)
		assert_int_equal(net_deliver(net, 0, &net->host[1].at, &m, sizeof(m)), VPN_FORGED);
	assert_false(vpn_receive_plausible(net->host[0].vpn, (uint8_t *)&m, sizeof(m)));
	vpn_get_counters(net->host[0].vpn, &counters);
	assert_int_equal(counters.under_load, 0);
	assert_int_equal(counters.cookies_sent, 0);
	net_session(net, 1, 0);
	net_free(net);
}

static bool keep_last(struct net *net, struct datagram *d, void *ctx)
{
	((struct datagram *)ctx)[d->data[0]] = *d;
	(void)net;
	return true;
}

/* Under load: MAC2 gets in, from its own address and port only, at 20 a second, for two minutes. */
static void cookies(void **state)
{
	struct net *net = net_new(7, 2);
	struct host *h = &net->host[1];
	struct datagram last[5];
	struct vpn_endpoint thief = net_address(66, 51820), other_port = net->host[0].at;

	(void)state;
	net->tap = keep_last;
	net->tap_ctx = last;
	h->vpn->load.burst = 1; /* one, and it is under load */
	h->vpn->load.last_ns = net->now_ns;
	net_send(net, 0, 1, 100);
	net_run(net, 10 * MS);
	assert_int_equal(h->verdicts[VPN_COOKIE], 1);
	assert_int_equal(last[VPN_TYPE_COOKIE].len, 64);
	assert_int_equal(net->arrived, 0);
	h->vpn->load.last_ns = net->now_ns + 4 * SECOND_NS;
	net->loss_percent = 100;
	net_run(net, 6 * SECOND_NS);
	other_port.v4.sin_port = htons(9);
	h->vpn->load.last_ns = net->now_ns;
	assert_int_equal(net_deliver(net, 1, &thief, last[1].data, last[1].len), VPN_COOKIE);
	assert_int_equal(net_deliver(net, 1, &other_port, last[1].data, last[1].len), VPN_COOKIE);
	assert_int_equal(net_deliver(net, 1, &net->host[0].at, last[1].data, last[1].len), VPN_OK);
	/* Replays with a right MAC2 are limited by their source before they cost much. */
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(net_deliver(net, 1, &net->host[0].at, last[1].data, last[1].len),
				 VPN_REPLAYED);
	assert_int_equal(net_deliver(net, 1, &net->host[0].at, last[1].data, last[1].len),
			 VPN_LIMITED);
	/* The secret changes. */
	net_run(net, COOKIE_SECRET_NS);
	h->vpn->load.last_ns = net->now_ns;
	assert_int_equal(net_deliver(net, 1, &net->host[0].at, last[1].data, last[1].len),
			 VPN_COOKIE);
	net_free(net);
}

/* Under load an answer to an initiation of ours needs no cookie, but only to one. */
static void awaited_answers(void **state)
{
	struct net *net = net_new(11, 2);
	struct host *h = &net->host[0];
	struct datagram last[5];

	(void)state;
	net->tap = keep_last;
	net->tap_ctx = last;
	h->vpn->load.burst = 0; /* always under load */
	net_send(net, 0, 1, 100);
	net_run(net, 100 * MS);
	assert_int_equal(net->arrived, 1);
	assert_int_equal(h->verdicts[VPN_COOKIE], 0);
	assert_int_equal(net_deliver(net, 0, &net->host[1].at, last[2].data, last[2].len),
			 VPN_COOKIE);
	net_free(net);
}

/* A forged cookie, one for another message, and the same one twice are not taken. */
static void forged_cookies(void **state)
{
	struct net *net = net_new(8, 2);
	struct datagram last[5];
	struct message_cookie m;

	(void)state;
	net->tap = keep_last;
	net->tap_ctx = last;
	net->host[1].vpn->load.burst = 0; /* always under load */
	net->loss_percent = 100;
	net_send(net, 0, 1, 100);
	net_run(net, MS);
	net_deliver(net, 1, &net->host[0].at, last[1].data, last[1].len);
	assert_int_equal(net->host[1].last_verdict, VPN_COOKIE);
	memcpy(&m, last[VPN_TYPE_COOKIE].data, sizeof(m));
	for (unsigned byte = 8; byte < sizeof(m); byte++) {
		((uint8_t *)&m)[byte] ^= 1;
		assert_int_equal(net_deliver(net, 0, &net->host[1].at, &m, sizeof(m)), VPN_FORGED);
		((uint8_t *)&m)[byte] ^= 1;
	}
	m.receiver.b[0] ^= 1;
	assert_int_equal(net_deliver(net, 0, &net->host[1].at, &m, sizeof(m)), VPN_NO_SESSION);
	m.receiver.b[0] ^= 1;
	assert_int_equal(net_deliver(net, 0, &net->host[1].at, &m, sizeof(m)), VPN_OK);
	assert_true(host_peer(net, 0, 1)->jar.have);
	assert_int_equal(net_deliver(net, 0, &net->host[1].at, &m, sizeof(m)), VPN_FORGED);
	/* It is used for less than two minutes. */
	net_run(net, 80 * SECOND_NS);
	assert_true(host_peer(net, 0, 1)->jar.have);
	net_run(net, 40 * SECOND_NS);
	net_send(net, 0, 1, 100);
	net_run(net, SECOND_NS);
	assert_false(host_peer(net, 0, 1)->jar.have);
	net_free(net);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(flood_of_strangers), cmocka_unit_test(flood_of_hosts),
		cmocka_unit_test(flood_in_a_name),    cmocka_unit_test(vain_calculations),
		cmocka_unit_test(flood_without_mac1), cmocka_unit_test(cookies),
		cmocka_unit_test(awaited_answers),    cmocka_unit_test(forged_cookies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
