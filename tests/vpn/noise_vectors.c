/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A handshake of the library with everything given, for comparison with noise_reference.
 *
 * usage: noise_vectors PSK STATIC_I EPHEMERAL_I STATIC_R EPHEMERAL_R STAMP COOKIE NONCE INDICES
 * All in hex.  Prints initiation (with MAC2 from the cookie), response, cookie reply and both
 * transport keys; each side takes what the other made.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vpn/cookie.h"
#include "vpn/noise.h"

static void must(int r, const char *what)
{
	if (!r)
		return;
	fprintf(stderr, "%s: %d\n", what, r);
	exit(1);
}

static void parse(const char *hex, void *to, size_t len)
{
	uint8_t *bytes = to;

	must(strlen(hex) != 2 * len, "length of an argument");
	for (size_t i = 0; i < len; i++)
		must(sscanf(hex + 2 * i, "%2hhx", &bytes[i]) != 1, "hex");
}

static void print(const void *data, size_t len)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i < len; i++)
		printf("%02x", bytes[i]);
	printf("\n");
}

struct side {
	struct noise_self self;
	struct noise_pair pair;
	struct noise_handshake handshake;
	struct cookie_jar jar;
	uint8_t ephemeral[KEY_LEN], send[KEY_LEN], receive[KEY_LEN];
};

static struct crypto c;

/* The library would make this cookie from a secret; here it is given, so its sealing is shown. */
static void cookie_print(const struct side *r, const struct message_initiation *m,
			 const uint8_t *cookie, const uint8_t *nonce, struct side *i)
{
	struct message_cookie reply = { .type = le32_put(VPN_TYPE_COOKIE), .receiver = m->sender };
	struct cookie_keys keys;

	must(cookie_keys_derive(&c, r->self.public_key, &keys), "cookie keys");
	memcpy(reply.nonce, nonce, sizeof(reply.nonce));
	must(crypto_xseal(&c, keys.cookie, nonce, m->macs.mac1, MAC_LEN, cookie, COOKIE_LEN,
			  reply.cookie),
	     "cookie");
	must(cookie_jar_take(&i->jar, &c, &reply, 0), "the cookie is not taken");
	must(memcmp(i->jar.cookie, cookie, COOKIE_LEN), "another cookie is taken");
	print(&reply, sizeof(reply));
}

int main(int argc, char **argv)
{
	struct side i = { 0 }, r = { 0 };
	struct message_initiation first;
	struct message_response second;
	struct noise_opened opened;
	uint8_t private_i[KEY_LEN], private_r[KEY_LEN], stamp[TAI64N_LEN], heard[TAI64N_LEN];
	uint8_t cookie[COOKIE_LEN], nonce[XAEAD_NONCE_LEN];
	le32_t indices[2];

	must(argc != 10, "usage");
	parse(argv[1], i.pair.psk, KEY_LEN);
	memcpy(r.pair.psk, i.pair.psk, KEY_LEN);
	parse(argv[2], private_i, KEY_LEN);
	parse(argv[3], i.ephemeral, KEY_LEN);
	parse(argv[4], private_r, KEY_LEN);
	parse(argv[5], r.ephemeral, KEY_LEN);
	parse(argv[6], stamp, sizeof(stamp));
	parse(argv[7], cookie, sizeof(cookie));
	parse(argv[8], nonce, sizeof(nonce));
	parse(argv[9], indices, sizeof(indices));
	must(crypto_init(&c, NULL), "crypto");
	must(noise_self_set(&i.self, private_i), "static key");
	must(noise_self_set(&r.self, private_r), "static key");
	memcpy(i.pair.remote, r.self.public_key, KEY_LEN);
	memcpy(r.pair.remote, i.self.public_key, KEY_LEN);
	must(noise_pair_derive(&i.pair, &i.self), "pair");
	must(noise_pair_derive(&r.pair, &r.self), "pair");
	must(cookie_keys_derive(&c, i.pair.remote, &i.jar.keys), "jar");
	must(cookie_keys_derive(&c, r.pair.remote, &r.jar.keys), "jar");

	i.handshake.local_index = le32_get(indices[0]);
	r.handshake.local_index = le32_get(indices[1]);
	must(noise_initiate(&i.handshake, &c, &i.self, &i.pair, i.ephemeral, stamp, &first),
	     "init");
	i.jar.have = true;
	memcpy(i.jar.cookie, cookie, COOKIE_LEN);
	must(cookie_jar_sign(&i.jar, &c, (uint8_t *)&first, sizeof(first), 1), "sign");
	must(noise_initiation_open(&c, &r.self, &first, &opened), "open");
	must(memcmp(opened.remote, i.self.public_key, KEY_LEN), "whose is it");
	must(noise_initiation_verify(&opened, &c, &r.pair, &first, heard), "verify");
	must(memcmp(heard, stamp, sizeof(stamp)), "timestamp");
	noise_initiation_take(&r.handshake, &opened, &first);
	must(noise_respond(&r.handshake, &c, &r.pair, r.ephemeral, &second), "respond");
	must(cookie_jar_sign(&r.jar, &c, (uint8_t *)&second, sizeof(second), 1), "sign");
	must(noise_response_take(&i.handshake, &c, &i.self, &i.pair, &second), "take");
	must(noise_keys(&i.handshake, &c, i.send, i.receive), "keys");
	must(noise_keys(&r.handshake, &c, r.send, r.receive), "keys");
	must(memcmp(i.send, r.receive, KEY_LEN) || memcmp(i.receive, r.send, KEY_LEN),
	     "both sides have other keys");

	print(&first, sizeof(first));
	print(&second, sizeof(second));
	cookie_print(&r, &first, cookie, nonce, &i);
	print(i.send, KEY_LEN);
	print(r.send, KEY_LEN);
	noise_self_clear(&i.self);
	noise_self_clear(&r.self);
	crypto_clear(&c);
	return 0;
}
