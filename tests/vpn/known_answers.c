/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Primitives against the examples of their RFCs, and each packet AEAD against the handshake's. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/lib/rng.h"
#include "vpn/aead.h"

static struct crypto c;

static void hex(const char *text, uint8_t *to, size_t len)
{
	assert_int_equal(strlen(text), 2 * len);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(sscanf(text + 2 * i, "%2hhx", &to[i]), 1);
}

#define ASSERT_BYTES(text, got, len)                                                               \
	do {                                                                                       \
		uint8_t wanted_[len];                                                              \
		hex(text, wanted_, len);                                                           \
		assert_memory_equal(got, wanted_, len);                                            \
	} while (0)

static void x25519_of(const char *private_key, const char *other, const char *shared)
{
	uint8_t key[KEY_LEN], public[KEY_LEN], point[KEY_LEN], out[KEY_LEN];
	EVP_PKEY *own;

	hex(private_key, key, KEY_LEN);
	hex(other, point, KEY_LEN);
	assert_int_equal(crypto_dh_new(key, &own, public), 0);
	assert_int_equal(crypto_dh(own, point, out), 0);
	ASSERT_BYTES(shared, out, KEY_LEN);
	EVP_PKEY_free(own);
}

/* RFC 7748, sections 5.2 and 6.1. */
static void x25519(void **state)
{
	uint8_t key[KEY_LEN], public[KEY_LEN];
	EVP_PKEY *own;

	(void)state;
	x25519_of("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
		  "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
		  "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552");
	x25519_of("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
		  "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
		  "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
	hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb", key, KEY_LEN);
	assert_int_equal(crypto_dh_new(key, &own, public), 0);
	ASSERT_BYTES("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f", public,
		     KEY_LEN);
	EVP_PKEY_free(own);
}

/* Points of small order (RFC 7748, section 6.1): their result is zero for every key. */
static void small_order(void **state)
{
	static const char *const points[] = {
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
		"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	};
	uint8_t key[KEY_LEN] = { 8, 1, 2, 3, [31] = 64 }, public[KEY_LEN], point[KEY_LEN],
		out[KEY_LEN];
	EVP_PKEY *own;

	(void)state;
	assert_int_equal(crypto_dh_new(key, &own, public), 0);
	for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
		hex(points[i], point, KEY_LEN);
		for (unsigned high = 0; high < 2; high++) {
			point[31] = (uint8_t)(point[31] ^ (high ? 0x80 : 0));
			assert_int_equal(crypto_dh(own, point, out), -EPROTO);
			assert_true(crypto_is_small_order(point));
		}
		/* neighbours are none, but for those that are in the list themselves */
		point[i == 0 || i > 3 ? 1 : 0] ^= 4;
		assert_int_equal(crypto_dh(own, point, out), 0);
		assert_false(crypto_is_small_order(point));
	}
	EVP_PKEY_free(own);
}

/* RFC 7693, appendix B; with a key: the first of its authors' test vectors, cut by hashlib. */
static void blake2s(void **state)
{
	uint8_t out[HASH_LEN];

	(void)state;
	assert_int_equal(crypto_hash(&c, "ab", 2, "c", 1, out), 0);
	ASSERT_BYTES("508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982", out,
		     HASH_LEN);
	assert_int_equal(crypto_hash(&c, "", 0, "", 0, out), 0);
	ASSERT_BYTES("69217a3079908094e11121d042354a7c1f55b6482ca1a51e1b250dfd1ed0eef9", out,
		     HASH_LEN);
}

/* RFC 8439, A.5, of which the first and last bytes. */
static void chacha20_poly1305(void **state)
{
	static const char text[] =
		"Internet-Drafts are draft documents valid for a maximum of six months and may be "
		"updated, replaced, or obsoleted by other documents at any time. It is "
		"inappropriate to use Internet-Drafts as reference material or to cite them other "
		"than as /\xe2\x80\x9cwork in progress./\xe2\x80\x9d";
	uint8_t key[KEY_LEN], ad[12], out[sizeof(text) - 1 + VPN_TAG_LEN], back[sizeof(text)];
	size_t len = sizeof(text) - 1;

	(void)state;
	assert_int_equal(len, 265);
	hex("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0", key, KEY_LEN);
	hex("f33388860000000000004e91", ad, sizeof(ad));
	assert_int_equal(
		crypto_seal(&c, key, UINT64_C(0x0807060504030201), ad, sizeof(ad), text, len, out),
		0);
	ASSERT_BYTES("64a0861575861af460f062c79be643bd", out, 16);
	ASSERT_BYTES("eead9d67890cbb22392336fea1851f38", out + len, VPN_TAG_LEN);
	assert_int_equal(crypto_open(&c, key, UINT64_C(0x0807060504030201), ad, sizeof(ad), out,
				     len + VPN_TAG_LEN, back),
			 0);
	assert_memory_equal(back, text, len);
	out[0] ^= 1;
	assert_int_equal(crypto_open(&c, key, UINT64_C(0x0807060504030201), ad, sizeof(ad), out,
				     len + VPN_TAG_LEN, back),
			 -EPROTO);
}

/* draft-irtf-cfrg-xchacha, sections 2.2.1 and A.3.1. */
static void xchacha20_poly1305(void **state)
{
	static const char text[] = "Ladies and Gentlemen of the class of '99: If I could offer you "
				   "only one tip for the future, sunscreen would be it.";
	uint8_t key[KEY_LEN], nonce[XAEAD_NONCE_LEN], ad[12], out[sizeof(text) - 1 + VPN_TAG_LEN];
	uint8_t back[sizeof(text)];
	size_t len = sizeof(text) - 1;

	(void)state;
	for (uint8_t i = 0; i < KEY_LEN; i++)
		key[i] = i;
	hex("000000090000004a0000000031415927", nonce, 16);
	assert_int_equal(crypto_hchacha20(&c, key, nonce, back), 0);
	ASSERT_BYTES("82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc", back,
		     KEY_LEN);
	for (uint8_t i = 0; i < KEY_LEN; i++)
		key[i] = (uint8_t)(0x80 + i);
	for (uint8_t i = 0; i < XAEAD_NONCE_LEN; i++)
		nonce[i] = (uint8_t)(0x40 + i);
	hex("50515253c0c1c2c3c4c5c6c7", ad, sizeof(ad));
	assert_int_equal(crypto_xseal(&c, key, nonce, ad, sizeof(ad), text, len, out), 0);
	ASSERT_BYTES("bd6d179d3e83d43b9576579493c0e939", out, 16);
	ASSERT_BYTES("c0875924c1c7987947deafd8780acf49", out + len, VPN_TAG_LEN);
	assert_int_equal(crypto_xopen(&c, key, nonce, ad, sizeof(ad), out, len + VPN_TAG_LEN, back),
			 0);
	assert_memory_equal(back, text, len);
}

#define ITEMS 64

/* Each provider seals what crypto_seal() seals, in batches of all lengths, and opens no other. */
static void provider(const struct aead_provider *p)
{
	struct rng rng = { 7 };
	uint8_t key[KEY_LEN], plain[2048], wanted[2048 + VPN_TAG_LEN];
	static uint8_t buffers[ITEMS][2048 + VPN_TAG_LEN];
	struct aead_key *sealing, *opening;
	struct aead_item items[ITEMS];

	for (unsigned i = 0; i < KEY_LEN; i++)
		key[i] = (uint8_t)rng_next(&rng);
	for (unsigned i = 0; i < sizeof(plain); i++)
		plain[i] = (uint8_t)rng_next(&rng);
	assert_int_equal(p->key_new(&c, key, true, 2, &sealing), 0);
	assert_int_equal(p->key_new(&c, key, false, 2, &opening), 0);
	for (uint32_t first = 0; first < 2048; first += ITEMS) {
		uint32_t n = 1 + (uint32_t)rng_below(&rng, ITEMS);

		for (uint32_t i = 0; i < n; i++) {
			items[i] =
				(struct aead_item){ buffers[i], first + i, false, rng_next(&rng) };
			memcpy(buffers[i], plain, first + i);
		}
		p->seal(sealing, first / ITEMS % 2, items, n);
		for (uint32_t i = 0; i < n; i++) {
			assert_int_equal(crypto_seal(&c, key, items[i].counter, "", 0, plain,
						     first + i, wanted),
					 0);
			assert_memory_equal(buffers[i], wanted, first + i + VPN_TAG_LEN);
		}
		buffers[0][rng_below(&rng, first + VPN_TAG_LEN)] ^= 1;
		p->open(opening, first / ITEMS % 2, items, n);
		assert_false(items[0].ok);
		for (uint32_t i = 1; i < n; i++) {
			assert_true(items[i].ok);
			assert_memory_equal(buffers[i], plain, first + i);
		}
	}
	p->key_free(sealing);
	p->key_free(opening);
}

static void providers(void **state)
{
	(void)state;
	for (enum vpn_aead a = VPN_AEAD_AUTO; a <= VPN_AEAD_IPSEC_MB; a++)
		if (aead_choose(&c, a))
			provider(aead_choose(&c, a));
	assert_non_null(aead_choose(&c, VPN_AEAD_AUTO));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(x25519),
		cmocka_unit_test(small_order),
		cmocka_unit_test(blake2s),
		cmocka_unit_test(chacha20_poly1305),
		cmocka_unit_test(xchacha20_poly1305),
		cmocka_unit_test(providers),
	};
	int r;

	if (crypto_init(&c, NULL))
		return 1;
	r = cmocka_run_group_tests(tests, NULL, NULL);
	crypto_clear(&c);
	return r;
}
