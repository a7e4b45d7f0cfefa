/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The handshake's primitives over OpenSSL 3.  Algorithms are fetched once: an implicit fetch takes
 * locks and a search each time.  Contexts live for one call; handshakes are rare, and memory that
 * held a key is zeroed when OpenSSL frees the context.
 *
 * What OpenSSL lacks is HChaCha20.  One block of ChaCha20 is the permuted state plus the initial
 * state; HChaCha20 is words 0-3 and 12-15 of the permuted state.  The initial state is known in
 * those words (the constants, and counter and nonce), so they are subtracted from the keystream.
 */
#include "vpn/crypto.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <stdlib.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

static const char CHACHA_CONSTANTS[16] = "expand 32-byte k"; /* RFC 8439, 2.3 */

static void cipher_free(EVP_CIPHER_CTX **ctx)
{
	EVP_CIPHER_CTX_free(*ctx);
}

static void md_free(EVP_MD_CTX **ctx)
{
	EVP_MD_CTX_free(*ctx);
}

static void mac_free(EVP_MAC_CTX **ctx)
{
	EVP_MAC_CTX_free(*ctx);
}

static void kdf_free(EVP_KDF_CTX **ctx)
{
	EVP_KDF_CTX_free(*ctx);
}

static void pkey_free(EVP_PKEY **key)
{
	EVP_PKEY_free(*key);
}

static void pkey_ctx_free(EVP_PKEY_CTX **ctx)
{
	EVP_PKEY_CTX_free(*ctx);
}

#define WITH(free_function) __attribute__((cleanup(free_function)))

int crypto_init(struct crypto *c, struct err *err)
{
	*c = (struct crypto){
		.blake2s = EVP_MD_fetch(NULL, "BLAKE2S-256", NULL),
		.blake2s_mac = EVP_MAC_fetch(NULL, "BLAKE2SMAC", NULL),
		.hkdf = EVP_KDF_fetch(NULL, "HKDF", NULL),
		.chacha20 = EVP_CIPHER_fetch(NULL, "ChaCha20", NULL),
		.chacha20_poly1305 = EVP_CIPHER_fetch(NULL, "ChaCha20-Poly1305", NULL),
	};
#ifdef HAVE_IPSEC_MB
	c->ipsec_mb = calloc(1, sizeof(*c->ipsec_mb)); /* without it OpenSSL does all */
#endif
	if (c->blake2s && c->blake2s_mac && c->hkdf && c->chacha20 && c->chacha20_poly1305)
		return 0;
	crypto_clear(c);
	return err_set(err, -EOPNOTSUPP,
		       "this OpenSSL lacks one of BLAKE2S-256, BLAKE2SMAC, HKDF, ChaCha20, "
		       "ChaCha20-Poly1305 (a FIPS-only configuration?)");
}

void crypto_clear(struct crypto *c)
{
	EVP_MD_free(c->blake2s);
	EVP_MAC_free(c->blake2s_mac);
	EVP_KDF_free(c->hkdf);
	EVP_CIPHER_free(c->chacha20);
	EVP_CIPHER_free(c->chacha20_poly1305);
#ifdef HAVE_IPSEC_MB
	crypto_ipsec_mb_free(c->ipsec_mb);
#endif
	*c = (struct crypto){ 0 };
}

int crypto_hash(const struct crypto *c, const void *a, size_t a_len, const void *b, size_t b_len,
		uint8_t ret[HASH_LEN])
{
	WITH(md_free) EVP_MD_CTX *ctx = EVP_MD_CTX_new();

	if (!ctx || !EVP_DigestInit_ex2(ctx, c->blake2s, NULL) ||
	    !EVP_DigestUpdate(ctx, a, a_len) || !EVP_DigestUpdate(ctx, b, b_len) ||
	    !EVP_DigestFinal_ex(ctx, ret, NULL))
		return -ENOMEM;
	return 0;
}

int crypto_mac_key_new(const struct crypto *c, const uint8_t *key, size_t key_len,
		       EVP_MAC_CTX **ret)
{
	EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(c->blake2s_mac);
	size_t size = MAC_LEN;
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &size),
		OSSL_PARAM_construct_end(),
	};

	if (!ctx || !EVP_MAC_init(ctx, key, key_len, params)) {
		EVP_MAC_CTX_free(ctx);
		return -ENOMEM;
	}
	*ret = ctx;
	return 0;
}

int crypto_mac_keyed(EVP_MAC_CTX *key, const void *data, size_t len, uint8_t ret[MAC_LEN])
{
	if (!EVP_MAC_init(key, NULL, 0, NULL) || !EVP_MAC_update(key, data, len) ||
	    !EVP_MAC_final(key, ret, NULL, MAC_LEN))
		return -ENOMEM;
	return 0;
}

int crypto_mac(const struct crypto *c, const uint8_t *key, size_t key_len, const void *data,
	       size_t len, uint8_t ret[MAC_LEN])
{
	WITH(mac_free) EVP_MAC_CTX *ctx = NULL;

	if (crypto_mac_key_new(c, key, key_len, &ctx) || !EVP_MAC_update(ctx, data, len) ||
	    !EVP_MAC_final(ctx, ret, NULL, MAC_LEN))
		return -ENOMEM;
	return 0;
}

int crypto_kdf(const struct crypto *c, const uint8_t chain[HASH_LEN], const void *input, size_t len,
	       uint8_t *ret, size_t ret_len)
{
	WITH(kdf_free) EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(c->hkdf);
	char digest[] = "BLAKE2S-256";
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)chain, HASH_LEN),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)input, len),
		OSSL_PARAM_construct_end(),
	};

	if (!ctx || EVP_KDF_derive(ctx, ret, ret_len, params) <= 0)
		return -ENOMEM;
	return 0;
}

/* 96 bits: four zero bytes, then the counter. */
static void nonce_of(uint64_t counter, uint8_t nonce[12])
{
	le64_t le = le64_put(counter);

	memset(nonce, 0, 4);
	memcpy(nonce + 4, le.b, 8);
}

static int seal_nonce(const struct crypto *c, const uint8_t *key, const uint8_t nonce[12],
		      const void *ad, size_t ad_len, const void *from, size_t len, uint8_t *to)
{
	WITH(cipher_free) EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int n;

	if (!ctx || !EVP_EncryptInit_ex2(ctx, c->chacha20_poly1305, key, nonce, NULL) ||
	    (ad_len && !EVP_EncryptUpdate(ctx, NULL, &n, ad, (int)ad_len)) ||
	    (len && !EVP_EncryptUpdate(ctx, to, &n, from, (int)len)) ||
	    !EVP_EncryptFinal_ex(ctx, to + len, &n) ||
	    !EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, VPN_TAG_LEN, to + len))
		return -ENOMEM;
	return 0;
}

static int open_nonce(const struct crypto *c, const uint8_t *key, const uint8_t nonce[12],
		      const void *ad, size_t ad_len, const uint8_t *from, size_t len, uint8_t *to)
{
	WITH(cipher_free) EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	size_t plain = len - VPN_TAG_LEN;
	uint8_t none;
	int n;

	if (!ctx || !EVP_DecryptInit_ex2(ctx, c->chacha20_poly1305, key, nonce, NULL) ||
	    !EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, VPN_TAG_LEN, (void *)(from + plain)))
		return -ENOMEM;
	if ((ad_len && !EVP_DecryptUpdate(ctx, NULL, &n, ad, (int)ad_len)) ||
	    (plain && !EVP_DecryptUpdate(ctx, to, &n, from, (int)plain)) ||
	    EVP_DecryptFinal_ex(ctx, &none, &n) <= 0) {
		if (plain)
			OPENSSL_cleanse(to, plain);
		return -EPROTO;
	}
	return 0;
}

int crypto_seal(const struct crypto *c, const uint8_t key[KEY_LEN], uint64_t counter,
		const void *ad, size_t ad_len, const void *from, size_t len, uint8_t *to)
{
	uint8_t nonce[12];

	nonce_of(counter, nonce);
	return seal_nonce(c, key, nonce, ad, ad_len, from, len, to);
}

int crypto_open(const struct crypto *c, const uint8_t key[KEY_LEN], uint64_t counter,
		const void *ad, size_t ad_len, const uint8_t *from, size_t len, void *to)
{
	uint8_t nonce[12];

	nonce_of(counter, nonce);
	return open_nonce(c, key, nonce, ad, ad_len, from, len, (uint8_t *)to);
}

static void subtract_words(uint8_t *stream, const void *initial)
{
	for (size_t i = 0; i < 16; i += 4) {
		le32_t a, b;

		memcpy(&a, stream + i, 4);
		memcpy(&b, (const uint8_t *)initial + i, 4);
		a = le32_put(le32_get(a) - le32_get(b));
		memcpy(stream + i, &a, 4);
	}
}

int crypto_hchacha20(const struct crypto *c, const uint8_t key[KEY_LEN], const uint8_t nonce[16],
		     uint8_t ret[KEY_LEN])
{
	WITH(cipher_free) EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	uint8_t stream[64] = { 0 };
	int n, r = -ENOMEM;

	if (ctx && EVP_EncryptInit_ex2(ctx, c->chacha20, key, nonce, NULL) &&
	    EVP_EncryptUpdate(ctx, stream, &n, stream, sizeof(stream))) {
		subtract_words(stream, CHACHA_CONSTANTS);
		subtract_words(stream + 48, nonce);
		memcpy(ret, stream, 16);
		memcpy(ret + 16, stream + 48, 16);
		r = 0;
	}
	OPENSSL_cleanse(stream, sizeof(stream));
	return r;
}

int crypto_xseal(const struct crypto *c, const uint8_t key[KEY_LEN],
		 const uint8_t nonce[XAEAD_NONCE_LEN], const void *ad, size_t ad_len,
		 const void *from, size_t len, uint8_t *to)
{
	uint8_t sub[KEY_LEN], short_nonce[12] = { 0 };
	int r = crypto_hchacha20(c, key, nonce, sub);

	memcpy(short_nonce + 4, nonce + 16, 8);
	if (!r)
		r = seal_nonce(c, sub, short_nonce, ad, ad_len, from, len, to);
	OPENSSL_cleanse(sub, sizeof(sub));
	return r;
}

int crypto_xopen(const struct crypto *c, const uint8_t key[KEY_LEN],
		 const uint8_t nonce[XAEAD_NONCE_LEN], const void *ad, size_t ad_len,
		 const uint8_t *from, size_t len, void *to)
{
	uint8_t sub[KEY_LEN], short_nonce[12] = { 0 };
	int r = crypto_hchacha20(c, key, nonce, sub);

	memcpy(short_nonce + 4, nonce + 16, 8);
	if (!r)
		r = open_nonce(c, sub, short_nonce, ad, ad_len, from, len, (uint8_t *)to);
	OPENSSL_cleanse(sub, sizeof(sub));
	return r;
}

int crypto_dh_new(const uint8_t private_key[KEY_LEN], EVP_PKEY **ret, uint8_t ret_public[KEY_LEN])
{
	WITH(pkey_free)
	EVP_PKEY *key = EVP_PKEY_new_raw_private_key_ex(NULL, "X25519", NULL, private_key, KEY_LEN);
	size_t len = KEY_LEN;

	if (!key || !EVP_PKEY_get_raw_public_key(key, ret_public, &len))
		return -ENOMEM;
	*ret = key;
	key = NULL;
	return 0;
}

int crypto_dh(EVP_PKEY *own, const uint8_t other[KEY_LEN], uint8_t ret[KEY_LEN])
{
	WITH(pkey_free)
	EVP_PKEY *key = EVP_PKEY_new_raw_public_key_ex(NULL, "X25519", NULL, other, KEY_LEN);
	WITH(pkey_ctx_free) EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, own, NULL);
	size_t len = KEY_LEN;

	if (!key || !ctx || EVP_PKEY_derive_init(ctx) <= 0)
		return -ENOMEM;
	/* Not validated: OpenSSL's own check of the peer costs another multiplication. */
	if (EVP_PKEY_derive_set_peer_ex(ctx, key, 0) <= 0)
		return -ENOMEM;
	return EVP_PKEY_derive(ctx, ret, &len) > 0 && len == KEY_LEN ? 0 : -EPROTO;
}

/*
 * All u of order 1, 2, 4 and 8 on the curve and its twist, and those that p may be added to within
 * 255 bits: 0, 1, two of order 8, p - 1, p, p + 1.  The highest bit is not looked at (RFC 7748, 5).
 */
static const uint8_t small_order[][KEY_LEN] = {
	{ 0 },
	{ 1 },
	{ 0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3,
	  0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32,
	  0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00 },
	{ 0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1,
	  0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c,
	  0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57 },
#define TO_P(last)                                                                                 \
	{                                                                                          \
		last, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,      \
			0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,    \
			0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f                                   \
	}
	TO_P(0xec),
	TO_P(0xed),
	TO_P(0xee),
#undef TO_P
};

bool crypto_is_small_order(const uint8_t point[KEY_LEN])
{
	uint8_t u[KEY_LEN];

	memcpy(u, point, KEY_LEN);
	u[KEY_LEN - 1] &= 127;
	for (size_t i = 0; i < sizeof(small_order) / sizeof(small_order[0]); i++)
		if (!memcmp(u, small_order[i], KEY_LEN))
			return true;
	return false;
}

void crypto_clamp(uint8_t key[KEY_LEN])
{
	key[0] &= 248;
	key[31] = (uint8_t)((key[31] & 127) | 64);
}

bool crypto_equal(const void *a, const void *b, size_t len)
{
	return !CRYPTO_memcmp(a, b, len);
}

bool crypto_is_zero(const uint8_t *bytes, size_t len)
{
	uint8_t any = 0;

	for (size_t i = 0; i < len; i++)
		any |= bytes[i];
	return !any;
}
