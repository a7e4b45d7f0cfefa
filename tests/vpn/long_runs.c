/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two hours of traffic and rekeying in simulated time, on good and bad networks; and keys that are
 * changed meanwhile without a packet lost.
 */
#include "tests/vpn/net_rig.h"

static void traffic(struct net *net, uint64_t seconds, unsigned per_second)
{
	for (uint64_t i = 0; i < seconds * per_second; i++) {
		unsigned from = (unsigned)rng_below(&net->rng, net->hosts);
		unsigned to =
			(unsigned)((from + 1 + rng_below(&net->rng, net->hosts - 1)) % net->hosts);

		uint32_t min = INNER_MIN(net->v6);

		net_send(net, from, to, min + (uint32_t)rng_below(&net->rng, 1421 - min));
		net_run(net, SECOND_NS / per_second);
	}
}

/* Nothing is lost on a network that loses nothing, however it shuffles. */
static void two_hours(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 2; seed++) {
		struct net *net = seed % 2 ? net_new(seed, 3) : net_new_v6(seed, 3);

		net->min_ns = MS;
		net->max_ns = 150 * MS;
		traffic(net, 7200, 4);
		net_run(net, SECOND_NS);
		assert_int_equal(net->arrived, net->sent);
		assert_int_equal(net->dropped_staged, 0);
		for (unsigned i = 0; i < 3; i++)
			for (unsigned k = 0; k < 3; k++)
				if (i != k) {
					struct vpn_peer_info info = host_info(net, i, k);

					assert_in_range(info.handshakes, 7200 / 180, 7200 / 90);
					assert_int_equal(info.rx_lost, 0);
					assert_int_equal(info.rx_refused, 0);
				}
		net_free(net);
	}
}

/* A wire that loses a fifth and doubles a tenth: that much is lost, no more, nothing arrives
 * twice, and it is all well again afterwards. */
static void bad_hours(struct net *net)
{
	uint64_t doubled = 0;

	net->max_ns = 2000 * MS;
	net->loss_percent = 20;
	net->double_percent = 10;
	traffic(net, 7200, 4);
	net_run(net, 10 * SECOND_NS);
	/* Sent once more by chance arrive even if the first was lost: 0.2 * 0.9 are lost. */
	assert_true(net->arrived > net->sent * 80 / 100);
	for (unsigned i = 0; i < 3; i++)
		doubled += net->host[i].verdicts[VPN_REPLAYED];
	assert_true(doubled > net->sent / 20);
	assert_in_range(host_info(net, 0, 1).rx_lost, 1, net->sent);
	net->loss_percent = net->double_percent = 0;
	net->max_ns = MS;
	net_run(net, 60 * SECOND_NS);
	net_session(net, 0, 1);
	net_session(net, 1, 2);
	net_free(net);
}

static void two_bad_hours(void **state)
{
	(void)state;
	bad_hours(net_new(3, 3));
	bad_hours(net_new_v6(5, 3));
}

/* The wire is cut for a while; packets that were kept arrive, later ones are not lost. */
static void cuts(void **state)
{
	struct net *net = net_new(4, 2);

	(void)state;
	traffic(net, 10, 10);
	for (unsigned i = 1; i <= 8; i++) {
		net->loss_percent = 100;
		net_run(net, i * 37 * SECOND_NS);
		net_send(net, i % 2, !(i % 2), 100);
		net_run(net, 20 * SECOND_NS);
		net->loss_percent = 0;
		net_run(net, 30 * SECOND_NS);
		net_session(net, 0, 1);
	}
	net_free(net);
}

/* ---- rotation ------------------------------------------------------------------------------ */

/*
 * Host 1 gets another key.  Host 0 knows the new one as the successor of the old, host 1 changes
 * its own when it likes: packets flow both ways all the time, reordered, and none is lost.
 */
static void rotate(uint64_t seed, bool shuffle)
{
	struct net *net = seed % 4 < 2 ? net_new(seed, 2) : net_new_v6(seed, 2);
	struct host *h0 = &net->host[0], *h1 = &net->host[1];
	uint64_t old = h0->peer[1], fresh;
	uint8_t key[KEY_LEN], public[KEY_LEN];

	if (shuffle)
		net->max_ns = 100 * MS;
	traffic(net, 20, 50);
	assert_int_equal(vpn_private_key_new(key), 0);
	assert_int_equal(vpn_public_key(key, public), 0);
	assert_int_equal(vpn_peer_add(h0->vpn, public, net->now_ns, &fresh, NULL), 0);
	assert_int_equal(vpn_peer_set_successor(h0->vpn, old, fresh), 0);
	assert_int_equal(vpn_peer_set_successor(h0->vpn, old, old), -EINVAL);
	assert_int_equal(vpn_peer_set_successor(h0->vpn, fresh, old), -EINVAL);
	traffic(net, 5, 50);
	assert_int_equal(h0->succeeds, 0);
	assert_int_equal(vpn_set_private_key(h1->vpn, key, net->now_ns, NULL), 0);
	traffic(net, 10, 50);
	assert_int_equal(h0->succeeds, 1);
	h0->peer[1] = fresh;
	assert_int_equal(host_info(net, 0, 1).allowed_count, 1);
	traffic(net, 200, 5);
	assert_int_equal(vpn_peer_remove(h0->vpn, old), 0);
	traffic(net, 200, 5);
	net_run(net, SECOND_NS);
	assert_int_equal(net->arrived, net->sent);
	assert_int_equal(net->dropped_staged, 0);
	net_free(net);
}

static void rotation_loses_nothing(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 10; seed++)
		rotate(seed, seed % 2);
}

/* A host that changes its key before anyone knows the new one talks on in its old sessions. */
static void own_key_outlives_its_change(void **state)
{
	struct net *net = net_new(9, 2);
	uint8_t key[KEY_LEN];

	(void)state;
	traffic(net, 10, 20);
	assert_int_equal(vpn_private_key_new(key), 0);
	assert_int_equal(vpn_set_private_key(net->host[1].vpn, key, net->now_ns, NULL), 0);
	traffic(net, 100, 20);
	net_run(net, SECOND_NS);
	assert_int_equal(net->arrived, net->sent);
	net_free(net);
}

/* A successor is taken back, or goes. */
static void rotation_undone(void **state)
{
	struct net *net = net_new(10, 3);
	struct host *h = &net->host[0];

	(void)state;
	assert_int_equal(vpn_peer_set_successor(h->vpn, h->peer[1], h->peer[2]), 0);
	assert_int_equal(vpn_peer_set_successor(h->vpn, h->peer[1], VPN_NO_PEER), 0);
	net_session(net, 0, 2);
	assert_int_equal(h->succeeds, 0);
	net_session(net, 0, 1);
	assert_int_equal(vpn_peer_set_successor(h->vpn, h->peer[1], h->peer[2]), 0);
	vpn_peer_remove(h->vpn, h->peer[2]);
	assert_int_equal(host_info(net, 0, 1).successor, VPN_NO_PEER);
	net_session(net, 0, 1);
	net_free(net);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_hours),
		cmocka_unit_test(two_bad_hours),
		cmocka_unit_test(cuts),
		cmocka_unit_test(rotation_loses_nothing),
		cmocka_unit_test(own_key_outlives_its_change),
		cmocka_unit_test(rotation_undone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
