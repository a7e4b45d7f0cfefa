/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tables against slow ones that are plainly right: allowed-IPs against a list of all prefixes, the
 * replay window against a set of all counters, indices against an array.  Random, with fixed seeds.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/lib/rng.h"
#include "vpn/allowed.h"
#include "vpn/index.h"
#include "vpn/inner.h"
#include "vpn/ratelimit.h"
#include "vpn/replay.h"

/* ---- allowed-IPs --------------------------------------------------------------------------- */

#define OWNERS	 5
#define PREFIXES 300

struct oracle {
	struct prefix prefix[PREFIXES];
	struct allowed_owner *owner[PREFIXES]; /* NULL: not there */
};

/* Few different bits, so that prefixes nest, branch and meet again. */
static struct prefix some_prefix(struct rng *rng, bool v6)
{
	struct prefix p = { .addr.family = v6 ? 6 : 4 };
	unsigned bytes = v6 ? 16 : 4;

	for (unsigned i = 0; i < bytes; i++)
		p.addr.b[i] = rng_percent(rng, 60)
				      ? 0
				      : (uint8_t)(rng_below(rng, 4) << 6 | rng_below(rng, 2));
	p.len = (uint8_t)rng_below(rng, 8 * bytes + 1);
	return p;
}

static struct allowed_owner *slow_find(const struct oracle *o, const struct addr *a)
{
	int best = -1;

	for (int i = 0; i < PREFIXES; i++)
		if (o->owner[i] && prefix_contains(&o->prefix[i], a) &&
		    (best < 0 || o->prefix[i].len > o->prefix[best].len))
			best = i;
	return best < 0 ? NULL : o->owner[best];
}

static int slow_place(const struct oracle *o, const struct prefix *p)
{
	int free_place = -1;

	for (int i = 0; i < PREFIXES; i++) {
		if (o->owner[i] && !prefix_compare(&o->prefix[i], p))
			return i;
		if (!o->owner[i])
			free_place = i;
	}
	return free_place;
}

struct tally {
	const struct oracle *o;
	struct allowed_owner *owner;
	unsigned count;
};

static void tally_one(void *ctx, const struct prefix *p)
{
	struct tally *t = ctx;
	int i = slow_place(t->o, p);

	assert_true(i >= 0 && t->o->owner[i] == t->owner);
	assert_int_equal(prefix_compare(&t->o->prefix[i], p), 0);
	t->count++;
}

static void compare_all(const struct allowed *a, const struct oracle *o,
			struct allowed_owner *owners, struct rng *rng)
{
	for (unsigned i = 0; i < OWNERS; i++) {
		struct tally t = { o, &owners[i], 0 };
		unsigned count = 0;

		for (unsigned k = 0; k < PREFIXES; k++)
			count += o->owner[k] == &owners[i];
		allowed_each(&owners[i], tally_one, &t);
		assert_int_equal(t.count, count);
		assert_int_equal(owners[i].count, count);
	}
	for (unsigned i = 0; i < 50; i++) {
		struct prefix p = some_prefix(rng, i % 2);

		assert_ptr_equal(allowed_find(a, p.addr.family, p.addr.b), slow_find(o, &p.addr));
	}
}

static void change(struct allowed *a, struct oracle *o, struct allowed_owner *owners,
		   struct rng *rng)
{
	struct prefix p = some_prefix(rng, rng_percent(rng, 50));
	struct prefix network = prefix_network(&p);
	struct allowed_owner *owner = &owners[rng_below(rng, OWNERS)];
	int at = slow_place(o, &network);

	switch (rng_below(rng, 20)) {
	case 0: /* all of an owner */
		allowed_remove_all(a, owner);
		for (unsigned i = 0; i < PREFIXES; i++)
			if (o->owner[i] == owner)
				o->owner[i] = NULL;
		break;
	case 1: /* to another */
		allowed_move_all(owner, &owners[0]);
		for (unsigned i = 0; i < PREFIXES; i++)
			if (o->owner[i] == owner)
				o->owner[i] = &owners[0];
		break;
	case 2 ... 8: { /* one that is there, or any */
		unsigned k = (unsigned)rng_below(rng, PREFIXES);

		if (o->owner[k]) {
			p = o->prefix[k];
			at = (int)k;
		}
		if (at >= 0 && o->owner[at] == owner) {
			assert_int_equal(allowed_remove(a, &p, owner), 0);
			o->owner[at] = NULL;
		} else {
			assert_int_equal(allowed_remove(a, &p, owner), -ENOENT);
		}
		break;
	}
	default:
		if (at < 0)
			break;
		assert_int_equal(allowed_insert(a, &p, owner), 0);
		o->prefix[at] = network;
		o->owner[at] = owner;
		break;
	}
}

static void allowed_as_a_list(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 40; seed++) {
		struct rng rng = { seed };
		struct allowed a = { 0 };
		struct allowed_owner owners[OWNERS] = { 0 };
		struct oracle o = { 0 };

		for (unsigned step = 0; step < 400; step++) {
			change(&a, &o, owners, &rng);
			if (step % 8 == 0)
				compare_all(&a, &o, owners, &rng);
		}
		for (unsigned i = 0; i < OWNERS; i++)
			allowed_remove_all(&a, &owners[i]);
		assert_null(a.root4);
		assert_null(a.root6);
	}
}

/* ---- replay window ------------------------------------------------------------------------- */

#define COUNTERS 200000

static void window_as_a_set(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct rng rng = { seed };
		struct replay r = { 0 };
		uint8_t *seen = calloc(COUNTERS, 1);
		uint64_t newest = 0, at = 0;
		bool any = false;

		assert_non_null(seen);
		for (unsigned step = 0; step < 60000; step++) {
			uint64_t counter;
			bool wanted;

			switch (rng_below(&rng, 10)) {
			case 0: /* far ahead, also past the whole window */
				at += rng_below(&rng, seed % 3 ? 300 : 20000);
				break;
			case 1 ... 4:
				at++;
				break;
			default:
				break;
			}
			counter = at - rng_below(&rng, at < 9000 ? at + 1 : 9000);
			if (rng_percent(&rng, 40))
				counter = at;
			if (counter >= COUNTERS)
				break;
			wanted = !seen[counter] && (!any || counter + REPLAY_WINDOW >= newest);
			assert_int_equal(replay_accept(&r, counter), wanted);
			if (wanted) {
				seen[counter] = 1;
				any = true;
				newest = counter > newest ? counter : newest;
			}
		}
		free(seen);
	}
}

static void window_at_its_ends(void **state)
{
	struct replay r = { 0 };

	(void)state;
	assert_true(REPLAY_WINDOW >= 8128);
	assert_true(replay_accept(&r, 0));
	assert_false(replay_accept(&r, 0));
	assert_true(replay_accept(&r, REPLAY_WINDOW));
	assert_false(replay_accept(&r, 0));
	assert_true(replay_accept(&r, 1));
	assert_true(replay_accept(&r, REPLAY_WINDOW + 2));
	assert_false(replay_accept(&r, 1)); /* one too old, though never seen */
	assert_true(replay_accept(&r, 2));
	assert_true(replay_accept(&r, REJECT_AFTER_COUNT - 1));
	assert_false(replay_accept(&r, REJECT_AFTER_COUNT - 1));
	assert_false(replay_accept(&r, REJECT_AFTER_COUNT));
	assert_false(replay_accept(&r, UINT64_MAX));
	assert_true(replay_accept(&r, REJECT_AFTER_COUNT - 1 - REPLAY_WINDOW));
	assert_false(replay_accept(&r, REJECT_AFTER_COUNT - 2 - REPLAY_WINDOW));
}

/* ---- indices ------------------------------------------------------------------------------- */

static void indices_as_an_array(void **state)
{
	enum { MANY = 2000 };
	static uint32_t taken[MANY];
	struct index_table t = { 0 };
	struct rng rng = { 3 };
	struct peer *peer = (struct peer *)&rng;

	(void)state;
	for (unsigned step = 0; step < 20000; step++) {
		unsigned i = (unsigned)rng_below(&rng, MANY);

		if (taken[i]) {
			assert_non_null(index_find(&t, taken[i]));
			index_drop(&t, taken[i]);
			assert_null(index_find(&t, taken[i]));
			taken[i] = 0;
			continue;
		}
		assert_int_equal(index_reserve(&t, t.used + 1), 0);
		do
			taken[i] = (uint32_t)rng_next(&rng);
		while (!taken[i] || !index_take(&t, taken[i], peer));
	}
	for (unsigned i = 0; i < MANY; i++)
		if (taken[i])
			assert_int_equal(index_find(&t, taken[i])->index, taken[i]);
	index_clear(&t);
}

/* ---- rate limit ---------------------------------------------------------------------------- */

static struct vpn_endpoint v4(uint32_t a)
{
	struct vpn_endpoint e = { 0 };

	e.v4.sin_family = AF_INET;
	e.v4.sin_addr.s_addr = htonl(a);
	return e;
}

static void five_at_once_then_twenty_a_second(void **state)
{
	struct ratelimit *r;
	struct vpn_endpoint a = v4(1), b = v4(2), c6 = { 0 }, d6;
	unsigned allowed = 0;

	(void)state;
	assert_int_equal(ratelimit_new(1, &r), 0);
	for (uint64_t ms = 0; ms < 10000; ms++)
		allowed += ratelimit_allow(r, &a, (1000 + ms) * 1000000);
	assert_in_range(allowed, 5 + 20 * 10 - 2, 5 + 20 * 10);
	assert_true(ratelimit_allow(r, &b, SECOND_NS * 11));
	/* An IPv6 source is its /64; ports do not matter. */
	c6.v6.sin6_family = AF_INET6;
	c6.v6.sin6_addr.s6_addr[7] = 1;
	d6 = c6;
	for (unsigned i = 0; i < RATELIMIT_BURST; i++) {
		c6.v6.sin6_addr.s6_addr[15] = (uint8_t)i;
		c6.v6.sin6_port = (in_port_t)i;
		assert_true(ratelimit_allow(r, &c6, SECOND_NS * 11));
	}
	assert_false(ratelimit_allow(r, &c6, SECOND_NS * 11));
	d6.v6.sin6_addr.s6_addr[7] = 2;
	assert_true(ratelimit_allow(r, &d6, SECOND_NS * 11));
	ratelimit_free(r);
}

/* Ever more sources: the table is full and refuses, its memory stays, and it gets free again. */
static void many_sources(void **state)
{
	struct ratelimit *r;
	unsigned allowed = 0;

	(void)state;
	assert_int_equal(ratelimit_new(2, &r), 0);
	for (uint32_t i = 0; i < 100000; i++) {
		struct vpn_endpoint e = v4(i);

		allowed += ratelimit_allow(r, &e, SECOND_NS);
	}
	assert_in_range(allowed, 4000, 8192);
	for (uint32_t i = 0; i < 100; i++) {
		struct vpn_endpoint e = v4(1000000 + i);

		assert_true(ratelimit_allow(r, &e, 2 * SECOND_NS));
	}
	ratelimit_free(r);
}

/* ---- congestion marks ---------------------------------------------------------------------- */

static uint16_t v4_sum(const uint8_t *p)
{
	uint32_t sum = 0;

	for (unsigned i = 0; i < 20; i += 2)
		sum += (uint32_t)p[i] << 8 | p[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* RFC 6040, figure 4: Not-ECT 0, ECT(1) 1, ECT(0) 2, CE 3; -1: dropped. */
static void ecn_as_in_the_rfc(void **state)
{
	static const int after[4][4] = {
		/* inner, outer */
		{ 0, 0, 0, -1 },
		{ 1, 1, 1, 3 },
		{ 2, 1, 2, 3 },
		{ 3, 3, 3, 3 },
	};

	(void)state;
	for (unsigned inner = 0; inner < 4; inner++)
		for (unsigned outer = 0; outer < 4; outer++) {
			uint8_t v4[20] = { 0x45, (uint8_t)(0xb8 | inner), 0, 20, 1, 2, 3, 4 };
			uint8_t v6[40] = { 0x6b, (uint8_t)(0x8f | inner << 4) };
			uint16_t sum = v4_sum(v4);
			int wanted = after[inner][outer];

			v4[10] = (uint8_t)(sum >> 8);
			v4[11] = (uint8_t)sum;
			assert_int_equal(vpn_ecn_outer(v4, sizeof(v4)), inner);
			assert_int_equal(vpn_ecn_outer(v6, sizeof(v6)), inner);
			assert_int_equal(inner_ecn_decapsulate(v4, (uint8_t)(0xb8 | outer)),
					 wanted >= 0);
			assert_int_equal(inner_ecn_decapsulate(v6, (uint8_t)outer), wanted >= 0);
			if (wanted < 0)
				continue;
			assert_int_equal(v4[1], 0xb8 | wanted);
			assert_int_equal(v4_sum(v4), 0);
			assert_int_equal(v6[0], 0x6b);
			assert_int_equal(v6[1], 0x8f | wanted << 4);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(allowed_as_a_list),
		cmocka_unit_test(window_as_a_set),
		cmocka_unit_test(window_at_its_ends),
		cmocka_unit_test(indices_as_an_array),
		cmocka_unit_test(five_at_once_then_twenty_a_second),
		cmocka_unit_test(many_sources),
		cmocka_unit_test(ecn_as_in_the_rfc),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
