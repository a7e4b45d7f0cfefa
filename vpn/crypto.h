/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The primitives of the handshake, from OpenSSL: BLAKE2s, HKDF over it, X25519, ChaCha20-Poly1305
 * and XChaCha20-Poly1305 (crypto.c).  Packets have their own: aead.h.
 *
 * struct crypto holds fetched algorithms and is only read afterwards: any thread.  Functions that
 * can only fail for lack of memory say so with -ENOMEM; outputs are then undefined.
 */
#ifndef VPN_CRYPTO_H
#define VPN_CRYPTO_H

#include <openssl/evp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vpn/message.h"

#define CRYPTO_CHECKED __attribute__((warn_unused_result, nonnull))

/* Managers of libipsec-mb, one for each worker, made when they are needed (aead_ipsec_mb.c). */
struct crypto_ipsec_mb {
	void *managers[VPN_WORKERS_MAX];
};

struct crypto {
	EVP_MD *blake2s;
	EVP_MAC *blake2s_mac;
	EVP_KDF *hkdf;
	EVP_CIPHER *chacha20, *chacha20_poly1305;
	struct crypto_ipsec_mb *ipsec_mb; /* NULL: not built in */
};

/* -EOPNOTSUPP with the algorithm's name: this OpenSSL lacks it. */
int crypto_init(struct crypto *c, struct err *err) __attribute__((warn_unused_result, nonnull(1)));
void crypto_clear(struct crypto *c);
void crypto_ipsec_mb_free(struct crypto_ipsec_mb *mb);

/* BLAKE2s-256 of `a` followed by `b`. */
CRYPTO_CHECKED int crypto_hash(const struct crypto *c, const void *a, size_t a_len, const void *b,
			       size_t b_len, uint8_t ret[HASH_LEN]);
/* Keyed BLAKE2s with 16 bytes of output. */
CRYPTO_CHECKED int crypto_mac(const struct crypto *c, const uint8_t *key, size_t key_len,
			      const void *data, size_t len, uint8_t ret[MAC_LEN]);
/* The same with a key that is set once, at half the price.  One thread. */
CRYPTO_CHECKED int crypto_mac_key_new(const struct crypto *c, const uint8_t *key, size_t key_len,
				      EVP_MAC_CTX **ret);
CRYPTO_CHECKED int crypto_mac_keyed(EVP_MAC_CTX *key, const void *data, size_t len,
				    uint8_t ret[MAC_LEN]);
/* KDF1 to KDF3 of the paper: `ret_len` is 32, 64 or 96.  `input` may overlap nothing of `ret`. */
CRYPTO_CHECKED int crypto_kdf(const struct crypto *c, const uint8_t chain[HASH_LEN],
			      const void *input, size_t len, uint8_t *ret, size_t ret_len);

/* ChaCha20-Poly1305 with a 64-bit counter as nonce.  `to` has VPN_TAG_LEN more than `len`. */
CRYPTO_CHECKED int crypto_seal(const struct crypto *c, const uint8_t key[KEY_LEN], uint64_t counter,
			       const void *ad, size_t ad_len, const void *from, size_t len,
			       uint8_t *to);
/* -EPROTO: forged.  `len` counts the tag. */
CRYPTO_CHECKED int crypto_open(const struct crypto *c, const uint8_t key[KEY_LEN], uint64_t counter,
			       const void *ad, size_t ad_len, const uint8_t *from, size_t len,
			       void *to);
/* The same with XChaCha20 and a 24-byte nonce. */
CRYPTO_CHECKED int crypto_xseal(const struct crypto *c, const uint8_t key[KEY_LEN],
				const uint8_t nonce[XAEAD_NONCE_LEN], const void *ad, size_t ad_len,
				const void *from, size_t len, uint8_t *to);
CRYPTO_CHECKED int crypto_xopen(const struct crypto *c, const uint8_t key[KEY_LEN],
				const uint8_t nonce[XAEAD_NONCE_LEN], const void *ad, size_t ad_len,
				const uint8_t *from, size_t len, void *to);
/* draft-irtf-cfrg-xchacha, section 2.2. */
CRYPTO_CHECKED int crypto_hchacha20(const struct crypto *c, const uint8_t key[KEY_LEN],
				    const uint8_t nonce[16], uint8_t ret[KEY_LEN]);

/* An X25519 private key with its public one; freeing it zeroes it. */
CRYPTO_CHECKED int crypto_dh_new(const uint8_t private_key[KEY_LEN], EVP_PKEY **ret,
				 uint8_t ret_public[KEY_LEN]);
/* -EPROTO: the other key is a point of small order (all-zero result). */
CRYPTO_CHECKED int crypto_dh(EVP_PKEY *own, const uint8_t other[KEY_LEN], uint8_t ret[KEY_LEN]);
/* Is it one of the points whose result is zero for every key?  Without calculating. */
bool crypto_is_small_order(const uint8_t point[KEY_LEN]) __attribute__((nonnull));

void crypto_clamp(uint8_t key[KEY_LEN]) __attribute__((nonnull));
/* In constant time. */
bool crypto_equal(const void *a, const void *b, size_t len) __attribute__((nonnull));
bool crypto_is_zero(const uint8_t *bytes, size_t len) __attribute__((nonnull));

#endif
