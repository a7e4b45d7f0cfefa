/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packets sealed by OpenSSL.  Setting a key costs more than sealing a packet, so each worker has a
 * context of its own in each key with the key already in it; a packet only sets its nonce.
 */
#include "vpn/aead.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>

struct aead_key {
	unsigned workers;
	EVP_CIPHER_CTX *ctx[];
};

static void openssl_key_free(struct aead_key *key)
{
	if (!key)
		return;
	for (unsigned i = 0; i < key->workers; i++)
		EVP_CIPHER_CTX_free(key->ctx[i]); /* which zeroes it */
	free(key);
}

static int openssl_key_new(const struct crypto *c, const uint8_t bytes[KEY_LEN], bool sealing,
			   unsigned workers, struct aead_key **ret)
{
	struct aead_key *key = calloc(1, sizeof(*key) + workers * sizeof(EVP_CIPHER_CTX *));

	if (!key)
		return -ENOMEM;
	key->workers = workers;
	for (unsigned i = 0; i < workers; i++) {
		key->ctx[i] = EVP_CIPHER_CTX_new();
		if (!key->ctx[i] || !EVP_CipherInit_ex2(key->ctx[i], c->chacha20_poly1305, bytes,
							NULL, sealing, NULL)) {
			openssl_key_free(key);
			return -ENOMEM;
		}
	}
	*ret = key;
	return 0;
}

static void nonce_set(uint8_t nonce[12], uint64_t counter)
{
	le64_t le = le64_put(counter);

	memcpy(nonce + 4, le.b, 8);
}

static void openssl_seal(struct aead_key *key, unsigned worker, struct aead_item *items, uint32_t n)
{
	EVP_CIPHER_CTX *ctx = key->ctx[worker];
	uint8_t nonce[12] = { 0 };

	for (struct aead_item *i = items; i < items + n; i++) {
		uint8_t *tag = i->data + i->len;
		int done = 0;

		nonce_set(nonce, i->counter);
		if (!EVP_EncryptInit_ex2(ctx, NULL, NULL, nonce, NULL) ||
		    (i->len && !EVP_EncryptUpdate(ctx, i->data, &done, i->data, (int)i->len)) ||
		    !EVP_EncryptFinal_ex(ctx, tag, &done) ||
		    !EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, VPN_TAG_LEN, tag))
			memset(i->data, 0, i->len + VPN_TAG_LEN);
	}
}

static void openssl_open(struct aead_key *key, unsigned worker, struct aead_item *items, uint32_t n)
{
	EVP_CIPHER_CTX *ctx = key->ctx[worker];
	uint8_t nonce[12] = { 0 }, none;

	for (struct aead_item *i = items; i < items + n; i++) {
		uint8_t *tag = i->data + i->len;
		int done = 0;

		nonce_set(nonce, i->counter);
		i->ok = EVP_DecryptInit_ex2(ctx, NULL, NULL, nonce, NULL) &&
			EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, VPN_TAG_LEN, tag) &&
			(!i->len || EVP_DecryptUpdate(ctx, i->data, &done, i->data, (int)i->len)) &&
			EVP_DecryptFinal_ex(ctx, &none, &done) > 0;
	}
}

static bool openssl_usable(const struct crypto *c)
{
	return c->chacha20_poly1305;
}

const struct aead_provider aead_openssl = {
	.name = "openssl",
	.usable = openssl_usable,
	.key_new = openssl_key_new,
	.key_free = openssl_key_free,
	.seal = openssl_seal,
	.open = openssl_open,
};

static const struct aead_provider *choose_ipsec_mb(const struct crypto *c)
{
#ifdef HAVE_IPSEC_MB
	if (aead_ipsec_mb.usable(c))
		return &aead_ipsec_mb;
#endif
	(void)c;
	return NULL;
}

const struct aead_provider *aead_choose(const struct crypto *c, enum vpn_aead wanted)
{
	const struct aead_provider *p = NULL;

	if (wanted != VPN_AEAD_OPENSSL)
		p = choose_ipsec_mb(c);
	if (!p && wanted != VPN_AEAD_IPSEC_MB && aead_openssl.usable(c))
		p = &aead_openssl;
	return p;
}
