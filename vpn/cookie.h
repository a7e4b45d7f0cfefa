/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MAC1, cookies and MAC2 (paper, sections 5.3, 5.4.4 and 5.4.7; cookie.c).
 *
 * A struct cookie_jar is one peer's: what we need to put MACs on messages to it.  A struct
 * cookie_guard is the device's: what it needs to check them.  The owner's thread only, except
 * cookie_mac1_right().
 */
#ifndef VPN_COOKIE_H
#define VPN_COOKIE_H

#include "vpn/crypto.h"

#define COOKIE_CHECKED __attribute__((warn_unused_result, nonnull))

/* Keys that follow from the public key of whoever receives a message. */
struct cookie_keys {
	uint8_t mac1[KEY_LEN], cookie[KEY_LEN];
};

struct cookie_jar {
	struct cookie_keys keys; /* of the peer's static key */
	uint8_t last_mac1[MAC_LEN];
	bool mac1_sent; /* a cookie that comes now can be an answer to it */
	bool have;
	uint8_t cookie[COOKIE_LEN];
	uint64_t born_ns;
};

struct cookie_guard {
	struct cookie_keys keys; /* of our static key */
	EVP_MAC_CTX *mac1;	 /* with its key; NULL: there is none */
	uint8_t secret[KEY_LEN];
	uint64_t born_ns;
	bool have_secret;
};

COOKIE_CHECKED int cookie_keys_derive(const struct crypto *c, const uint8_t public_key[KEY_LEN],
				      struct cookie_keys *ret);

/* Fill in the macs at the end of a message to the jar's peer. */
COOKIE_CHECKED int cookie_jar_sign(struct cookie_jar *jar, const struct crypto *c, uint8_t *msg,
				   size_t len, uint64_t now_ns);
/* A cookie reply: 0, or -EPROTO when it answers nothing that we sent. */
COOKIE_CHECKED int cookie_jar_take(struct cookie_jar *jar, const struct crypto *c,
				   const struct message_cookie *msg, uint64_t now_ns);

/* Other keys of ours; NULL: none. */
int cookie_guard_set(struct cookie_guard *g, const struct crypto *c, const struct cookie_keys *keys)
	__attribute__((warn_unused_result, nonnull(1, 2)));
COOKIE_CHECKED bool cookie_mac1_right(const struct cookie_keys *keys, const struct crypto *c,
				      const uint8_t *msg, size_t len);
/* The same with the guard's own key, which is cheaper. */
COOKIE_CHECKED bool cookie_guard_mac1_right(struct cookie_guard *g, const uint8_t *msg, size_t len);

/* Does the guard need a new secret?  To be asked before the two below. */
bool cookie_guard_stale(const struct cookie_guard *g, uint64_t now_ns) __attribute__((nonnull));
void cookie_guard_renew(struct cookie_guard *g, const uint8_t secret[KEY_LEN], uint64_t now_ns)
	__attribute__((nonnull));
COOKIE_CHECKED bool cookie_mac2_right(const struct cookie_guard *g, const struct crypto *c,
				      const uint8_t *msg, size_t len,
				      const struct vpn_endpoint *from);
/* The reply to a message with the right MAC1. */
COOKIE_CHECKED int cookie_reply(const struct cookie_guard *g, const struct crypto *c,
				const uint8_t *msg, size_t len, const struct vpn_endpoint *from,
				const uint8_t nonce[XAEAD_NONCE_LEN], struct message_cookie *ret);

#endif
