/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From what netd-wg has to what is wanted: the text of tunnel_delta() is given to the very code of
 * netd-wg that applies it, on a real device, and what that says afterwards must be what is wanted.
 *
 * Random configurations of a few peers and networks, one after the other; each rotation of a key by
 * hand; when an old key goes, with the time passed in.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "netd/tunnel_view.h"
#include "netd/wg/uapi.h"
#include "tests/lib/rng.h"

#define PEERS	 6
#define NETWORKS 10
#define ROUNDS	 600
#define NOW_NS	 UINT64_C(5000000000)

static struct uapi_device device;
static uint8_t keys[PEERS][KEY_LEN]; /* sorted */
static struct prefix networks[NETWORKS];

/* A configuration with its memory. */
struct config {
	uint8_t private_key[KEY_LEN];
	struct tunnel_peer_want peers[PEERS];
	struct tunnel_peer_more more[PEERS];
	struct prefix allowed[PEERS][NETWORKS];
	struct tunnel_want want;
};

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, KEY_LEN);
}

static int setup(void **state)
{
	const struct vpn_config config = { .workers = 1, .mtu = 1420, .aead = VPN_AEAD_OPENSSL };
	uint8_t secret[KEY_LEN];
	char text[PREFIX_TEXT_MAX];

	(void)state;
	device = (struct uapi_device){ .listen_port = 51820, .mtu = 1420 };
	for (unsigned i = 0; i < PEERS; i++) {
		memset(secret, (int)(i + 17), sizeof(secret));
		assert_int_equal(vpn_public_key(secret, keys[i]), 0);
	}
	qsort(keys, PEERS, KEY_LEN, compare);
	for (unsigned i = 0; i < NETWORKS; i++) {
		snprintf(text, sizeof(text), i % 3 ? "10.%u.0.0/%u" : "fd%02u::/%u", i,
			 i % 3 ? 16 + i % 2 : 48);
		assert_int_equal(prefix_parse(text, &networks[i], NULL), 0);
	}
	return vpn_new(&config, &device.vpn, NULL);
}

static int teardown(void **state)
{
	(void)state;
	vpn_free(device.vpn);
	return 0;
}

static void look(struct tunnel_view *ret)
{
	struct wg_text text = { 0 };

	uapi_get(&device, true, NOW_NS, &text);
	assert_false(text.failed);
	assert_int_equal(tunnel_view_parse(text.data, ret), 0);
	wg_text_clear(&text);
}

struct lines {
	char text[4096];
	size_t count;
};

static void take_line(void *ctx, const char *text)
{
	struct lines *l = ctx;
	size_t len = strlen(l->text);

	snprintf(l->text + len, sizeof(l->text) - len, "%s\n", text);
	l->count++;
}

static struct lines said;

/* The text of the difference; NULL: none. */
static char *delta(const struct config *c)
{
	struct tunnel_view view;
	char *text = NULL;

	said = (struct lines){ 0 };
	look(&view);
	assert_int_equal(
		tunnel_delta(&c->want, c->private_key, c->more, &view, take_line, &said, &text), 0);
	tunnel_view_clear(&view);
	return text;
}

static void apply(const struct config *c)
{
	struct err err = { 0 };
	struct uapi_wish wish;
	char *text = delta(c);

	if (text && uapi_set(&device, text, true, NOW_NS, &wish, &err))
		fail_msg("netd-wg refuses: %s", err.text);
	tunnel_text_free(text);
}

static void random_config(struct rng *r, struct config *c)
{
	int owner[NETWORKS];

	*c = (struct config){ 0 };
	memset(c->private_key, 0x40 | (int)rng_below(r, 2), KEY_LEN);
	c->private_key[0] &= 248;
	for (size_t i = 0; i < NETWORKS; i++)
		owner[i] = rng_percent(r, 80) ? (int)rng_below(r, PEERS) : -1;
	for (size_t i = 0; i < PEERS; i++) {
		struct tunnel_peer_want *p = &c->peers[c->want.peer_count];
		struct tunnel_peer_more *more = &c->more[c->want.peer_count];
		struct prefix *allowed = c->allowed[i];

		if (!rng_percent(r, 70))
			continue;
		c->want.peer_count++;
		snprintf(p->name, sizeof(p->name), "p%zu", i);
		memcpy(p->key, keys[i], KEY_LEN);
		p->keepalive_s = (uint16_t)(rng_below(r, 2) * 25);
		p->allowed = allowed;
		for (size_t k = 0; k < NETWORKS; k++)
			if (owner[k] == (int)i)
				allowed[p->allowed_count++] = networks[k];
		memset(more->psk, (int)rng_below(r, 2), KEY_LEN);
		if (!rng_percent(r, 60))
			continue;
		more->endpoint.v4.sin_family = AF_INET;
		more->endpoint.v4.sin_port = htons((uint16_t)(1 + rng_below(r, 3)));
		more->endpoint.v4.sin_addr.s_addr = htonl(0xc0000201);
	}
	c->want.peers = c->peers;
}

static bool has(const struct prefix *v, size_t count, const struct prefix *p)
{
	for (size_t i = 0; i < count; i++)
		if (!prefix_compare(&v[i], p))
			return true;
	return false;
}

static void must_be(const struct config *c)
{
	struct tunnel_view view;

	look(&view);
	assert_memory_equal(view.private_key, c->private_key, KEY_LEN);
	assert_int_equal(view.peer_count, c->want.peer_count);
	for (size_t i = 0; i < c->want.peer_count; i++) {
		const struct tunnel_peer_want *w = &c->peers[i];
		const struct tunnel_view_peer *p = tunnel_view_find(&view, w->key);
		char text[ENDPOINT_TEXT_MAX];

		assert_non_null(p);
		assert_memory_equal(p->psk, c->more[i].psk, KEY_LEN);
		assert_int_equal(p->keepalive_s, w->keepalive_s);
		assert_int_equal(p->allowed_count, w->allowed_count);
		for (size_t k = 0; k < w->allowed_count; k++)
			assert_true(has(p->allowed, p->allowed_count, &w->allowed[k]));
		if (c->more[i].endpoint.sa.sa_family)
			assert_string_equal(p->endpoint,
					    endpoint_format(&c->more[i].endpoint, text));
	}
	tunnel_view_clear(&view);
}

static void test_any_to_any(void **state)
{
	struct rng r = { 7 };
	static struct config c;

	(void)state;
	for (unsigned round = 0; round < ROUNDS; round++) {
		uint64_t before[PEERS];

		for (size_t i = 0; i < PEERS; i++)
			before[i] = vpn_peer_find(device.vpn, keys[i]);
		random_config(&r, &c);
		apply(&c);
		must_be(&c);
		/* who stays is the same peer, with its session */
		for (size_t i = 0; i < PEERS; i++)
			if (before[i] != VPN_NO_PEER && tunnel_want_find(&c.want, keys[i]))
				assert_true(vpn_peer_find(device.vpn, keys[i]) == before[i]);
		assert_null(delta(&c));
		assert_int_equal(said.count, 0);
	}
}

/* Another endpoint is not a difference while it is not known; nor is who roamed sent back. */
static void test_what_is_not_asked_for_is_left(void **state)
{
	struct rng r = { 8 };
	static struct config c;

	(void)state;
	do
		random_config(&r, &c);
	while (!c.want.peer_count || !c.more[0].endpoint.sa.sa_family);
	apply(&c);
	c.more[0].endpoint = (union endpoint_addr){ 0 };
	assert_null(delta(&c));
}

static void test_a_plan_has_its_lines(void **state)
{
	static struct config c;
	struct rng r = { 9 };

	(void)state;
	do
		random_config(&r, &c);
	while (c.want.peer_count < 3);
	apply(&c);
	assert_non_null(strstr(said.text, "~ tunnel "));
	assert_non_null(strstr(said.text, "+ peer p"));
	c.peers[0].keepalive_s = 7;
	tunnel_text_free(delta(&c));
	assert_int_equal(said.count, 1);
	assert_non_null(strstr(said.text, " s -> 7 s\n"));
	c.more[1].psk[3] ^= 1;
	c.want.peer_count--;
	tunnel_text_free(delta(&c));
	assert_int_equal(said.count, 3);
	assert_non_null(strstr(said.text, "- peer "));
	assert_non_null(strstr(said.text, " preshared key\n"));
}

/* ---- rotation ---- */

static void one_peer(struct config *c, const uint8_t *key, const uint8_t *old)
{
	*c = (struct config){ 0 };
	memset(c->private_key, 0x40, KEY_LEN);
	c->want.peers = c->peers;
	c->want.peer_count = 1;
	strcpy(c->peers[0].name, "hostb");
	memcpy(c->peers[0].key, key, KEY_LEN);
	c->peers[0].allowed = networks;
	c->peers[0].allowed_count = 3;
	if (old)
		memcpy(c->more[0].old_key, old, KEY_LEN);
}

/* Is the old key there, with all networks, and followed by the new one? */
static void must_overlap(const uint8_t *old_key, const uint8_t *new_key)
{
	struct tunnel_view view;
	const struct tunnel_view_peer *old, *new;

	look(&view);
	old = tunnel_view_find(&view, old_key);
	new = tunnel_view_find(&view, new_key);
	assert_true(view.peer_count == 2 && old && new);
	assert_true(old->replaced && !memcmp(old->successor, new_key, KEY_LEN));
	assert_int_equal(old->allowed_count, 3);
	assert_int_equal(new->allowed_count, 0);
	tunnel_view_clear(&view);
}

static void test_a_rotated_key_overlaps(void **state)
{
	struct config c;

	(void)state;
	one_peer(&c, keys[0], NULL);
	apply(&c);
	one_peer(&c, keys[1], keys[0]);
	apply(&c);
	assert_non_null(strstr(said.text, "the old one stays until"));
	assert_null(strstr(said.text, "- peer"));
	must_overlap(keys[0], keys[1]);
	assert_null(delta(&c));
	/* a netd that was restarted meanwhile does not know of it, and leaves it */
	one_peer(&c, keys[1], NULL);
	assert_null(delta(&c));
	/* fewer networks: the old key's, who has them */
	c.peers[0].allowed_count = 2;
	apply(&c);
	c.peers[0].allowed_count = 3;
	apply(&c);
	must_overlap(keys[0], keys[1]);
	/* the first handshake: netd-wg moves them */
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(vpn_allowed_add(device.vpn, vpn_peer_find(device.vpn, keys[1]),
						 &networks[i]),
				 0);
	assert_null(delta(&c));
	/* the peer goes: so do both */
	c.want.peer_count = 0;
	apply(&c);
	assert_true(vpn_peer_next(device.vpn, VPN_NO_PEER) == VPN_NO_PEER);
}

static struct tunnel_view_peer *peer_of(struct tunnel_view *v, const uint8_t *key)
{
	struct tunnel_view_peer *p = tunnel_view_find(v, key);

	assert_non_null(p);
	return p;
}

static void test_an_old_key_goes_after_its_sessions(void **state)
{
	struct tunnel_view_peer peers[4] = { 0 };
	struct tunnel_view v = { .peers = peers, .peer_count = 4 };
	uint64_t first = 0, second = 0, start = 1000;

	(void)state;
	for (size_t i = 0; i < 4; i++)
		memcpy(peers[i].key, keys[i], KEY_LEN);
	for (size_t i = 0; i < 4; i += 2) { /* 0 -> 1, 2 -> 3 */
		peers[i].replaced = true;
		memcpy(peers[i].successor, keys[i + 1], KEY_LEN);
		peers[i].allowed_count = 1;
	}
	/* not heard: it stays for ever */
	assert_false(tunnel_view_retires(&v, peer_of(&v, keys[0]), start, &first));
	assert_false(tunnel_view_retires(&v, peer_of(&v, keys[0]), start + 86400000, &first));
	assert_int_equal(first, 0);
	/* heard: 185 s from when that was seen, each for itself */
	peers[0].allowed_count = 0;
	peers[1].allowed_count = 1;
	start = 100000000;
	assert_false(tunnel_view_retires(&v, &peers[0], start, &first));
	peers[2].allowed_count = 0;
	peers[3].allowed_count = 1;
	assert_false(tunnel_view_retires(&v, &peers[2], start + 180000, &second));
	assert_false(tunnel_view_retires(&v, &peers[0], start + 184999, &first));
	assert_true(tunnel_view_retires(&v, &peers[0], start + 185000, &first));
	assert_false(tunnel_view_retires(&v, &peers[2], start + 185000, &second));
	assert_false(tunnel_view_retires(&v, &peers[2], start + 364999, &second));
	assert_true(tunnel_view_retires(&v, &peers[2], start + 365000, &second));
	/* the networks went back: the old key has sessions again */
	peers[2].allowed_count = 1;
	assert_false(tunnel_view_retires(&v, &peers[2], start + 365000, &second));
	peers[2].allowed_count = 0;
	assert_false(tunnel_view_retires(&v, &peers[2], start + 365001, &second));
	/* what is not rotated never goes */
	first = 0;
	assert_false(tunnel_view_retires(&v, &peers[1], start + 999999, &first));
}

/* ---- what netd-wg says ---- */

static void test_texts(void **state)
{
	static const char *const bad[] = {
		"nonsense\n",
		"private_key=00\n",
		"public_key=xyz\n",
		"public_key=\n",
		"private_key=" /* too long */
		"000000000000000000000000000000000000000000000000000000000000000000\n",
		"public_key=5fc4e1e0d5b2a3948576675849302112031425364758697a8b9cadbecfd0e1f2\n"
		"allowed_ip=10.0.0.0/33\n",
		"public_key=5fc4e1e0d5b2a3948576675849302112031425364758697a8b9cadbecfd0e1f2\n"
		"preshared_key=1\n",
		"public_key=5fc4e1e0d5b2a3948576675849302112031425364758697a8b9cadbecfd0e1f2\n"
		"successor=\n",
	};
	struct tunnel_view v;
	char text[512];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		strcpy(text, bad[i]);
		if (tunnel_view_parse(text, &v) != -EPROTO)
			fail_msg("taken: %s", bad[i]);
	}
	strcpy(text, "");
	assert_int_equal(tunnel_view_parse(text, &v), 0);
	assert_int_equal(v.peer_count, 0);
	tunnel_view_clear(&v);
	/* a later netd-wg says more: that is passed over; so are more counters than there is room
	 */
	strcpy(text, "count_ok=7\ncolour=green\n"
		     "public_key=5fc4e1e0d5b2a3948576675849302112031425364758697a8b9cadbecfd0e1f2\n"
		     "mood=good\nlast_received_ago_ms=12\nsession=1\n");
	assert_int_equal(tunnel_view_parse(text, &v), 0);
	assert_int_equal(v.counter_count, 1);
	assert_string_equal(v.counters[0].name, "ok");
	assert_int_equal(v.counters[0].value, 7);
	assert_true(v.peers[0].session && v.peers[0].heard_ms == 12);
	tunnel_view_clear(&v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_any_to_any, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_not_asked_for_is_left, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_a_plan_has_its_lines, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_rotated_key_overlaps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_an_old_key_goes_after_its_sessions, setup,
						teardown),
		cmocka_unit_test(test_texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
