/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The handshake's calculation.  Notation of the paper: C is the chaining key, H the hash of all
 * that was said, k a key used once.
 *
 *			initiation			response
 *	mix e		H, C = e_i			H, C = e_r
 *	k = KDF		es: s_r with e_i		C: ee, C: se
 *	sealed		static key of i			k, H: psk (KDF3)
 *	k = KDF		ss				sealed: nothing
 *	sealed		timestamp
 *
 * Both sides run the same steps with the roles of private and public exchanged, so each step is
 * one function of (own private, other public).  Whatever held a secret is zeroed on every way out.
 */
#include "vpn/noise.h"

#include <errno.h>
#include <openssl/crypto.h>

static const char CONSTRUCTION[] = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
static const char IDENTIFIER[] = "WireGuard v1 zx2c4 Jason@zx2c4.com";

/* Chaining key and hash, and the key that came last. */
struct symmetric {
	uint8_t chain[HASH_LEN], hash[HASH_LEN], key[KEY_LEN];
};

static void clean(void *what, size_t len)
{
	OPENSSL_cleanse(what, len);
}

static void symmetric_clean(struct symmetric *s)
{
	OPENSSL_cleanse(s, sizeof(*s));
}

#define CLEAN_SYMMETRIC __attribute__((cleanup(symmetric_clean)))

static int mix_hash(struct symmetric *s, const struct crypto *c, const void *data, size_t len)
{
	return crypto_hash(c, s->hash, HASH_LEN, data, len, s->hash);
}

/* C = KDF1(C, data), or with `keyed` (C, k) = KDF2(C, data). */
static int mix_chain(struct symmetric *s, const struct crypto *c, const void *data, bool keyed)
{
	uint8_t out[2 * HASH_LEN];
	int r = crypto_kdf(c, s->chain, data, KEY_LEN, out, keyed ? sizeof(out) : HASH_LEN);

	if (!r) {
		memcpy(s->chain, out, HASH_LEN);
		if (keyed)
			memcpy(s->key, out + HASH_LEN, KEY_LEN);
	}
	clean(out, sizeof(out));
	return r;
}

static int mix_dh(struct symmetric *s, const struct crypto *c, EVP_PKEY *own,
		  const uint8_t other[KEY_LEN], bool keyed)
{
	uint8_t shared[KEY_LEN];
	int r = crypto_dh(own, other, shared);

	if (!r)
		r = mix_chain(s, c, shared, keyed);
	clean(shared, sizeof(shared));
	return r;
}

static int mix_ephemeral(struct symmetric *s, const struct crypto *c, const uint8_t e[KEY_LEN])
{
	int r = mix_hash(s, c, e, KEY_LEN);

	return r ? r : mix_chain(s, c, e, false);
}

/* (C, t, k) = KDF3(C, psk); H = HASH(H || t). */
static int mix_psk(struct symmetric *s, const struct crypto *c, const uint8_t psk[KEY_LEN])
{
	uint8_t out[3 * HASH_LEN];
	int r = crypto_kdf(c, s->chain, psk, KEY_LEN, out, sizeof(out));

	if (!r) {
		memcpy(s->chain, out, HASH_LEN);
		memcpy(s->key, out + 2 * HASH_LEN, KEY_LEN);
		r = mix_hash(s, c, out + HASH_LEN, HASH_LEN);
	}
	clean(out, sizeof(out));
	return r;
}

static int seal(struct symmetric *s, const struct crypto *c, const void *from, size_t len,
		uint8_t *to)
{
	int r = crypto_seal(c, s->key, 0, s->hash, HASH_LEN, from, len, to);

	return r ? r : mix_hash(s, c, to, len + VPN_TAG_LEN);
}

static int open(struct symmetric *s, const struct crypto *c, const uint8_t *from, size_t len,
		void *to)
{
	int r = crypto_open(c, s->key, 0, s->hash, HASH_LEN, from, len, to);

	return r ? r : mix_hash(s, c, from, len);
}

/* C and H before the first message, which are about the responder. */
static int symmetric_begin(struct symmetric *s, const struct crypto *c,
			   const uint8_t responder[KEY_LEN])
{
	int r = crypto_hash(c, CONSTRUCTION, sizeof(CONSTRUCTION) - 1, "", 0, s->chain);

	if (!r)
		r = crypto_hash(c, s->chain, HASH_LEN, IDENTIFIER, sizeof(IDENTIFIER) - 1, s->hash);
	return r ? r : mix_hash(s, c, responder, KEY_LEN);
}

int noise_self_set(struct noise_self *self, const uint8_t private_key[KEY_LEN])
{
	struct noise_self fresh = { 0 };
	int r;

	if (!crypto_is_zero(private_key, KEY_LEN)) {
		memcpy(fresh.private_key, private_key, KEY_LEN);
		crypto_clamp(fresh.private_key);
		r = crypto_dh_new(fresh.private_key, &fresh.key, fresh.public_key);
		if (r) {
			clean(&fresh, sizeof(fresh));
			return r;
		}
	}
	noise_self_clear(self);
	*self = fresh;
	clean(&fresh, sizeof(fresh));
	return 0;
}

void noise_self_clear(struct noise_self *self)
{
	EVP_PKEY_free(self->key);
	clean(self, sizeof(*self));
}

int noise_pair_derive(struct noise_pair *pair, const struct noise_self *self)
{
	int r = self->key ? crypto_dh(self->key, pair->remote, pair->shared) : 0;

	if (!self->key || r)
		clean(pair->shared, sizeof(pair->shared));
	return r;
}

void noise_handshake_clear(struct noise_handshake *h)
{
	EVP_PKEY_free(h->ephemeral);
	clean(h, sizeof(*h));
}

/* Keep where the handshake is. */
static void handshake_store(struct noise_handshake *h, const struct symmetric *s,
			    enum noise_state state)
{
	memcpy(h->chain, s->chain, HASH_LEN);
	memcpy(h->hash, s->hash, HASH_LEN);
	h->state = state;
}

static void handshake_load(const struct noise_handshake *h, struct symmetric *s)
{
	memcpy(s->chain, h->chain, HASH_LEN);
	memcpy(s->hash, h->hash, HASH_LEN);
}

int noise_initiate(struct noise_handshake *h, const struct crypto *c, const struct noise_self *self,
		   const struct noise_pair *pair, const uint8_t ephemeral[KEY_LEN],
		   const uint8_t timestamp[TAI64N_LEN], struct message_initiation *ret)
{
	CLEAN_SYMMETRIC struct symmetric s = { 0 };
	uint32_t index = h->local_index;
	int r;

	noise_handshake_clear(h);
	h->local_index = index;
	if (crypto_is_zero(pair->shared, KEY_LEN))
		return -EPROTO;
	*ret = (struct message_initiation){
		.type = le32_put(VPN_TYPE_INITIATION),
		.sender = le32_put(index),
	};
	if ((r = symmetric_begin(&s, c, pair->remote)) ||
	    (r = crypto_dh_new(ephemeral, &h->ephemeral, ret->ephemeral)) ||
	    (r = mix_ephemeral(&s, c, ret->ephemeral)) ||
	    (r = mix_dh(&s, c, h->ephemeral, pair->remote, true)) ||
	    (r = seal(&s, c, self->public_key, KEY_LEN, ret->static_key)) ||
	    (r = mix_chain(&s, c, pair->shared, true)) ||
	    (r = seal(&s, c, timestamp, TAI64N_LEN, ret->timestamp)))
		return r;
	handshake_store(h, &s, NOISE_INITIATION_SENT);
	return 0;
}

int noise_initiation_open(const struct crypto *c, const struct noise_self *self,
			  const struct message_initiation *m, struct noise_opened *ret)
{
	CLEAN_SYMMETRIC struct symmetric s = { 0 };
	int r;

	if ((r = symmetric_begin(&s, c, self->public_key)) ||
	    (r = mix_ephemeral(&s, c, m->ephemeral)) ||
	    (r = mix_dh(&s, c, self->key, m->ephemeral, true)) ||
	    (r = open(&s, c, m->static_key, sizeof(m->static_key), ret->remote)))
		return r;
	memcpy(ret->chain, s.chain, HASH_LEN);
	memcpy(ret->hash, s.hash, HASH_LEN);
	return 0;
}

int noise_initiation_verify(struct noise_opened *o, const struct crypto *c,
			    const struct noise_pair *pair, const struct message_initiation *m,
			    uint8_t ret_timestamp[TAI64N_LEN])
{
	CLEAN_SYMMETRIC struct symmetric s = { 0 };
	int r;

	if (crypto_is_zero(pair->shared, KEY_LEN))
		return -EPROTO;
	memcpy(s.chain, o->chain, HASH_LEN);
	memcpy(s.hash, o->hash, HASH_LEN);
	if ((r = mix_chain(&s, c, pair->shared, true)) ||
	    (r = open(&s, c, m->timestamp, sizeof(m->timestamp), ret_timestamp)))
		return r;
	memcpy(o->chain, s.chain, HASH_LEN);
	memcpy(o->hash, s.hash, HASH_LEN);
	return 0;
}

void noise_initiation_take(struct noise_handshake *h, const struct noise_opened *o,
			   const struct message_initiation *m)
{
	uint32_t index = h->local_index;

	noise_handshake_clear(h);
	h->local_index = index;
	h->remote_index = le32_get(m->sender);
	memcpy(h->remote_ephemeral, m->ephemeral, KEY_LEN);
	memcpy(h->chain, o->chain, HASH_LEN);
	memcpy(h->hash, o->hash, HASH_LEN);
	h->state = NOISE_INITIATION_TAKEN;
}

static int respond(struct noise_handshake *h, const struct crypto *c, const struct noise_pair *pair,
		   EVP_PKEY *key, struct message_response *ret)
{
	CLEAN_SYMMETRIC struct symmetric s = { 0 };
	int r;

	handshake_load(h, &s);
	if ((r = mix_ephemeral(&s, c, ret->ephemeral)) ||
	    (r = mix_dh(&s, c, key, h->remote_ephemeral, false)) ||
	    (r = mix_dh(&s, c, key, pair->remote, false)) || (r = mix_psk(&s, c, pair->psk)) ||
	    (r = seal(&s, c, "", 0, ret->nothing)))
		return r;
	handshake_store(h, &s, NOISE_RESPONSE_SENT);
	return 0;
}

int noise_respond(struct noise_handshake *h, const struct crypto *c, const struct noise_pair *pair,
		  const uint8_t ephemeral[KEY_LEN], struct message_response *ret)
{
	EVP_PKEY *key;
	int r;

	if (h->state != NOISE_INITIATION_TAKEN)
		return -EPROTO;
	*ret = (struct message_response){
		.type = le32_put(VPN_TYPE_RESPONSE),
		.sender = le32_put(h->local_index),
		.receiver = le32_put(h->remote_index),
	};
	r = crypto_dh_new(ephemeral, &key, ret->ephemeral);
	if (r)
		return r;
	r = respond(h, c, pair, key, ret);
	EVP_PKEY_free(key);
	return r;
}

int noise_response_take(struct noise_handshake *h, const struct crypto *c,
			const struct noise_self *self, const struct noise_pair *pair,
			const struct message_response *m)
{
	CLEAN_SYMMETRIC struct symmetric s = { 0 };
	uint8_t none[1];
	int r;

	if (h->state != NOISE_INITIATION_SENT || !self->key)
		return -EPROTO;
	handshake_load(h, &s);
	if ((r = mix_ephemeral(&s, c, m->ephemeral)) ||
	    (r = mix_dh(&s, c, h->ephemeral, m->ephemeral, false)) ||
	    (r = mix_dh(&s, c, self->key, m->ephemeral, false)) ||
	    (r = mix_psk(&s, c, pair->psk)) ||
	    (r = open(&s, c, m->nothing, sizeof(m->nothing), none)))
		return r;
	h->remote_index = le32_get(m->sender);
	handshake_store(h, &s, NOISE_RESPONSE_TAKEN);
	return 0;
}

int noise_keys(struct noise_handshake *h, const struct crypto *c, uint8_t ret_send[KEY_LEN],
	       uint8_t ret_receive[KEY_LEN])
{
	bool initiator = h->state == NOISE_RESPONSE_TAKEN;
	uint32_t local = h->local_index, remote = h->remote_index;
	uint8_t out[2 * KEY_LEN];
	int r;

	if (!initiator && h->state != NOISE_RESPONSE_SENT)
		return -EPROTO;
	r = crypto_kdf(c, h->chain, "", 0, out, sizeof(out));
	if (!r) {
		memcpy(initiator ? ret_send : ret_receive, out, KEY_LEN);
		memcpy(initiator ? ret_receive : ret_send, out + KEY_LEN, KEY_LEN);
	}
	clean(out, sizeof(out));
	noise_handshake_clear(h);
	h->local_index = local;
	h->remote_index = remote;
	return r;
}
