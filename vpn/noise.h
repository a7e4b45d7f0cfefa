/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Noise_IKpsk2 as WireGuard uses it (paper, section 5.4; noise.c).
 *
 *	-> e, es, s, ss, {timestamp}	initiation
 *	<- e, ee, se, psk, {}		response
 *
 * Pure calculation: random bytes, indices and times come from the caller, messages are filled in
 * or read except for their macs.  The owner's thread only.
 */
#ifndef VPN_NOISE_H
#define VPN_NOISE_H

#include "vpn/cookie.h"
#include "vpn/crypto.h"

#define NOISE_CHECKED __attribute__((warn_unused_result, nonnull))

/* Our own static key. */
struct noise_self {
	EVP_PKEY *key; /* NULL: none */
	uint8_t private_key[KEY_LEN], public_key[KEY_LEN];
};

/* What the static keys of both sides lead to, per peer. */
struct noise_pair {
	uint8_t remote[KEY_LEN]; /* its static public key */
	uint8_t shared[KEY_LEN]; /* X25519 of both static keys; zero: not calculated yet */
	uint8_t psk[KEY_LEN];
};

enum noise_state {
	NOISE_NONE,
	NOISE_INITIATION_SENT,
	NOISE_INITIATION_TAKEN,
	NOISE_RESPONSE_SENT,  /* as responder, ready for noise_keys() */
	NOISE_RESPONSE_TAKEN, /* as initiator, the same */
};

struct noise_handshake {
	enum noise_state state;
	EVP_PKEY *ephemeral; /* ours, as initiator */
	uint8_t chain[HASH_LEN], hash[HASH_LEN];
	uint8_t remote_ephemeral[KEY_LEN];
	uint32_t local_index, remote_index;
};

/* The beginning of an initiation, before it is known whose it is. */
struct noise_opened {
	uint8_t chain[HASH_LEN], hash[HASH_LEN];
	uint8_t remote[KEY_LEN]; /* the sender's static key: claimed, not yet proven */
};

/* All zero: no key. 0 or -ENOMEM; untouched on failure. */
NOISE_CHECKED int noise_self_set(struct noise_self *self, const uint8_t private_key[KEY_LEN]);
void noise_self_clear(struct noise_self *self) __attribute__((nonnull));
/* `remote` is set.  A key of small order leaves `shared` zero and is -EPROTO. */
NOISE_CHECKED int noise_pair_derive(struct noise_pair *pair, const struct noise_self *self);

/* Zeroes it. */
void noise_handshake_clear(struct noise_handshake *h) __attribute__((nonnull));

/* As initiator: h->local_index is set; whatever was begun in `h` is forgotten. */
NOISE_CHECKED int noise_initiate(struct noise_handshake *h, const struct crypto *c,
				 const struct noise_self *self, const struct noise_pair *pair,
				 const uint8_t ephemeral[KEY_LEN],
				 const uint8_t timestamp[TAI64N_LEN],
				 struct message_initiation *ret);
/* As responder, in two steps: who is it, and is it really.  -EPROTO: no. */
NOISE_CHECKED int noise_initiation_open(const struct crypto *c, const struct noise_self *self,
					const struct message_initiation *m,
					struct noise_opened *ret);
NOISE_CHECKED int noise_initiation_verify(struct noise_opened *o, const struct crypto *c,
					  const struct noise_pair *pair,
					  const struct message_initiation *m,
					  uint8_t ret_timestamp[TAI64N_LEN]);
/* Begin `h` with it, when the timestamp is fine as well. */
void noise_initiation_take(struct noise_handshake *h, const struct noise_opened *o,
			   const struct message_initiation *m) __attribute__((nonnull));
/* h->local_index is set. */
NOISE_CHECKED int noise_respond(struct noise_handshake *h, const struct crypto *c,
				const struct noise_pair *pair, const uint8_t ephemeral[KEY_LEN],
				struct message_response *ret);
/* As initiator.  On failure `h` still waits for the right answer. */
NOISE_CHECKED int noise_response_take(struct noise_handshake *h, const struct crypto *c,
				      const struct noise_self *self, const struct noise_pair *pair,
				      const struct message_response *m);
/* The keys of the session; the handshake is zeroed except for its indices. */
NOISE_CHECKED int noise_keys(struct noise_handshake *h, const struct crypto *c,
			     uint8_t ret_send[KEY_LEN], uint8_t ret_receive[KEY_LEN]);

#endif
