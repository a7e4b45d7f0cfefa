/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who may make us calculate.
 *
 * MAC1 shows that the sender knows our public key; without it we are silent.  Under load that is
 * not enough: a sender must also show that it receives at the address it sends from.  It gets a
 * cookie, a MAC of its address and port under a secret of ours that lasts two minutes, sealed so
 * that only who saw the message's MAC1 and knows our public key can read it; the sender keys MAC2
 * of its next message with the cookie.  We keep no state for it.
 *
 * Each MAC covers the message up to itself.
 */
#include "vpn/cookie.h"

#include <errno.h>
#include <openssl/crypto.h>

#define LABEL_LEN 8

int cookie_keys_derive(const struct crypto *c, const uint8_t public_key[KEY_LEN],
		       struct cookie_keys *ret)
{
	int r = crypto_hash(c, "mac1----", LABEL_LEN, public_key, KEY_LEN, ret->mac1);

	return r ? r : crypto_hash(c, "cookie--", LABEL_LEN, public_key, KEY_LEN, ret->cookie);
}

static struct message_macs *macs_of(uint8_t *msg, size_t len)
{
	return (struct message_macs *)(msg + len - sizeof(struct message_macs));
}

static const struct message_macs *macs_in(const uint8_t *msg, size_t len)
{
	return (const struct message_macs *)(msg + len - sizeof(struct message_macs));
}

int cookie_jar_sign(struct cookie_jar *jar, const struct crypto *c, uint8_t *msg, size_t len,
		    uint64_t now_ns)
{
	struct message_macs *macs = macs_of(msg, len);
	size_t covered = len - sizeof(*macs);
	int r = crypto_mac(c, jar->keys.mac1, KEY_LEN, msg, covered, macs->mac1);

	if (r)
		return r;
	memcpy(jar->last_mac1, macs->mac1, MAC_LEN);
	jar->mac1_sent = true;
	memset(macs->mac2, 0, MAC_LEN);
	if (jar->have && now_ns - jar->born_ns >= COOKIE_SECRET_NS - COOKIE_LATENCY_NS) {
		OPENSSL_cleanse(jar->cookie, sizeof(jar->cookie));
		jar->have = false;
	}
	if (!jar->have)
		return 0;
	return crypto_mac(c, jar->cookie, COOKIE_LEN, msg, covered + MAC_LEN, macs->mac2);
}

int cookie_jar_take(struct cookie_jar *jar, const struct crypto *c,
		    const struct message_cookie *msg, uint64_t now_ns)
{
	uint8_t cookie[COOKIE_LEN];
	int r;

	if (!jar->mac1_sent)
		return -EPROTO;
	r = crypto_xopen(c, jar->keys.cookie, msg->nonce, jar->last_mac1, MAC_LEN, msg->cookie,
			 sizeof(msg->cookie), cookie);
	if (r)
		return r;
	memcpy(jar->cookie, cookie, COOKIE_LEN);
	OPENSSL_cleanse(cookie, sizeof(cookie));
	jar->have = true;
	jar->mac1_sent = false; /* one answer to one message: no replays */
	jar->born_ns = now_ns;
	return 0;
}

bool cookie_mac1_right(const struct cookie_keys *keys, const struct crypto *c, const uint8_t *msg,
		       size_t len)
{
	const struct message_macs *macs = macs_in(msg, len);
	uint8_t mac[MAC_LEN];

	return !crypto_mac(c, keys->mac1, KEY_LEN, msg, len - sizeof(*macs), mac) &&
	       crypto_equal(mac, macs->mac1, MAC_LEN);
}

int cookie_guard_set(struct cookie_guard *g, const struct crypto *c, const struct cookie_keys *keys)
{
	EVP_MAC_CTX *mac1 = NULL;
	int r = keys ? crypto_mac_key_new(c, keys->mac1, KEY_LEN, &mac1) : 0;

	if (r)
		return r;
	EVP_MAC_CTX_free(g->mac1);
	g->mac1 = mac1;
	if (keys)
		g->keys = *keys;
	else
		OPENSSL_cleanse(&g->keys, sizeof(g->keys));
	return 0;
}

bool cookie_guard_mac1_right(struct cookie_guard *g, const uint8_t *msg, size_t len)
{
	const struct message_macs *macs = macs_in(msg, len);
	uint8_t mac[MAC_LEN];

	return g->mac1 && !crypto_mac_keyed(g->mac1, msg, len - sizeof(*macs), mac) &&
	       crypto_equal(mac, macs->mac1, MAC_LEN);
}

bool cookie_guard_stale(const struct cookie_guard *g, uint64_t now_ns)
{
	return !g->have_secret || now_ns - g->born_ns >= COOKIE_SECRET_NS;
}

void cookie_guard_renew(struct cookie_guard *g, const uint8_t secret[KEY_LEN], uint64_t now_ns)
{
	memcpy(g->secret, secret, KEY_LEN);
	g->born_ns = now_ns;
	g->have_secret = true;
}

/* The cookie of an address and port. */
static int cookie_of(const struct cookie_guard *g, const struct crypto *c,
		     const struct vpn_endpoint *from, uint8_t ret[COOKIE_LEN])
{
	uint8_t who[18];
	size_t len;

	if (from->sa.sa_family == AF_INET6) {
		memcpy(who, &from->v6.sin6_addr, 16);
		memcpy(who + 16, &from->v6.sin6_port, 2);
		len = 18;
	} else {
		memcpy(who, &from->v4.sin_addr, 4);
		memcpy(who + 4, &from->v4.sin_port, 2);
		len = 6;
	}
	return crypto_mac(c, g->secret, KEY_LEN, who, len, ret);
}

bool cookie_mac2_right(const struct cookie_guard *g, const struct crypto *c, const uint8_t *msg,
		       size_t len, const struct vpn_endpoint *from)
{
	const struct message_macs *macs = macs_in(msg, len);
	uint8_t cookie[COOKIE_LEN], mac[MAC_LEN];
	bool right = !crypto_is_zero(macs->mac2, MAC_LEN) && /* most have none */
		     !cookie_of(g, c, from, cookie) &&
		     !crypto_mac(c, cookie, COOKIE_LEN, msg, len - MAC_LEN, mac) &&
		     crypto_equal(mac, macs->mac2, MAC_LEN);

	OPENSSL_cleanse(cookie, sizeof(cookie));
	return right;
}

int cookie_reply(const struct cookie_guard *g, const struct crypto *c, const uint8_t *msg,
		 size_t len, const struct vpn_endpoint *from, const uint8_t nonce[XAEAD_NONCE_LEN],
		 struct message_cookie *ret)
{
	const struct message_macs *macs = macs_in(msg, len);
	uint8_t cookie[COOKIE_LEN];
	le32_t sender;
	int r = cookie_of(g, c, from, cookie);

	memcpy(&sender, msg + sizeof(le32_t), sizeof(sender));
	ret->type = le32_put(VPN_TYPE_COOKIE);
	ret->receiver = sender; /* who sends that index receives this */
	memcpy(ret->nonce, nonce, XAEAD_NONCE_LEN);
	if (!r)
		r = crypto_xseal(c, g->keys.cookie, nonce, macs->mac1, MAC_LEN, cookie, COOKIE_LEN,
				 ret->cookie);
	OPENSSL_cleanse(cookie, sizeof(cookie));
	return r;
}
