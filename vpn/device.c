/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The device: its making, its key, its counters.  What it is made of: device.h. */
#include "vpn/device.h"

#include <assert.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdlib.h>

void device_random(struct vpn *v, void *bytes, size_t len)
{
	int r;

	if (v->config.ops.random) {
		v->config.ops.random(v->config.ctx, (uint8_t *)bytes, len);
		return;
	}
	r = RAND_priv_bytes((unsigned char *)bytes, (int)len);
	assert(r == 1); /* without random numbers there is nothing to do but to stop */
}

void device_count(struct vpn *v, enum vpn_verdict verdict)
{
	device_lock(v);
	v->counters.received[verdict]++;
	device_unlock(v);
}

int vpn_new(const struct vpn_config *config, struct vpn **ret, struct err *err)
{
	struct vpn *v = calloc(1, sizeof(*v));
	uint64_t seed;
	int r;

	assert(config->workers >= 1 && config->workers <= VPN_WORKERS_MAX);
	if (!v)
		return err_set(err, -ENOMEM, "out of memory");
	v->config = *config;
	v->mtu = config->mtu;
	v->armed_ns = UINT64_MAX;
	RB_INIT(&v->by_key);
	RB_INIT(&v->by_wake);
	TAILQ_INIT(&v->peers);
	pthread_mutex_init(&v->lock, NULL);
	device_random(v, &v->jitter, sizeof(v->jitter));
	device_random(v, &seed, sizeof(seed));
	v->jitter |= 1; /* never 0, where the generator stays */
	load_init(&v->load, config->load_burst ? config->load_burst : LOAD_BURST,
		  config->load_rate ? config->load_rate : LOAD_RATE, seed);
	r = crypto_init(&v->crypto, err);
	if (!r && ratelimit_new(seed, &v->ratelimit))
		r = err_set(err, -ENOMEM, "out of memory");
	if (!r) {
		v->aead = aead_choose(&v->crypto, config->aead);
		if (!v->aead)
			r = err_set(err, -EOPNOTSUPP, "this AEAD provider cannot run here");
	}
	if (r) {
		vpn_free(v);
		return r;
	}
	*ret = v;
	return 0;
}

void vpn_free(struct vpn *v)
{
	struct peer *p;

	if (!v)
		return;
	while ((p = TAILQ_FIRST(&v->peers)))
		peer_free(v, p);
	noise_self_clear(&v->self);
	(void)!cookie_guard_set(&v->guard, &v->crypto, NULL);
	ratelimit_free(v->ratelimit);
	index_clear(&v->index);
	free(v->slots);
	crypto_clear(&v->crypto);
	pthread_mutex_destroy(&v->lock);
	OPENSSL_cleanse(v, sizeof(*v));
	free(v);
}

const char *vpn_aead_name(const struct vpn *v)
{
	return v->aead->name;
}

void vpn_set_mtu(struct vpn *v, uint16_t mtu)
{
	device_lock(v);
	v->mtu = mtu;
	device_unlock(v);
}

/* ---- the key ------------------------------------------------------------------------------- */

/* Without a key there is nobody to be: sessions go as well. */
static void sessions_end(struct vpn *v, struct peer *p)
{
	struct vpn_keypair *dropped[SESSION_DROPPED_MAX];

	device_lock(v);
	session_clear(v, p, dropped);
	device_unlock(v);
	for (unsigned i = 0; i < SESSION_DROPPED_MAX; i++)
		keypair_put(dropped[i], 1);
}

static void key_changed(struct vpn *v, struct peer *p, uint64_t now_ns)
{
	OPENSSL_cleanse(p->pair.shared, sizeof(p->pair.shared)); /* it is another one now */
	handshake_drop(v, p);
	if (!v->self.key) {
		sessions_end(v, p);
		return;
	}
	device_lock(v);
	timer_clear(p, TIMER_RETRANSMIT);
	p->handshaking = false;
	if (p->current || p->keepalive_s)
		timer_ask_handshake(v, p, now_ns);
	device_unlock(v);
}

/* Said again, as each `wg syncconf` and each reload does: that must not cost a handshake. */
static bool is_own_key(const struct vpn *v, const uint8_t key[VPN_KEY_LEN])
{
	uint8_t clamped[KEY_LEN];
	bool same;

	memcpy(clamped, key, KEY_LEN);
	crypto_clamp(clamped);
	same = v->self.key && crypto_equal(clamped, v->self.private_key, KEY_LEN);
	OPENSSL_cleanse(clamped, sizeof(clamped));
	return same;
}

int vpn_set_private_key(struct vpn *v, const uint8_t key[VPN_KEY_LEN], uint64_t now_ns,
			uint64_t *ret_removed)
{
	struct cookie_keys keys = { 0 };
	struct peer *p;
	int r;

	if (ret_removed)
		*ret_removed = VPN_NO_PEER;
	if (is_own_key(v, key))
		return 0;
	r = noise_self_set(&v->self, key);
	if (!r && v->self.key)
		r = cookie_keys_derive(&v->crypto, v->self.public_key, &keys);
	if (!r)
		r = cookie_guard_set(&v->guard, &v->crypto, v->self.key ? &keys : NULL);
	if (r)
		return r;
	device_lock(v);
	v->mac_keys = keys;
	v->has_key = v->self.key;
	device_unlock(v);
	p = v->self.key ? peer_find(v, v->self.public_key) : NULL;
	if (p) {
		if (ret_removed)
			*ret_removed = p->id;
		peer_free(v, p);
	}
	TAILQ_FOREACH (p, &v->peers, in_order)
		key_changed(v, p, now_ns);
	return 0;
}

bool vpn_get_private_key(const struct vpn *v, uint8_t ret_key[VPN_KEY_LEN])
{
	memcpy(ret_key, v->self.private_key, KEY_LEN);
	return v->self.key;
}

bool vpn_get_public_key(const struct vpn *v, uint8_t ret_key[VPN_KEY_LEN])
{
	memcpy(ret_key, v->self.public_key, KEY_LEN);
	return v->self.key;
}

int vpn_public_key(const uint8_t private_key[VPN_KEY_LEN], uint8_t ret_public[VPN_KEY_LEN])
{
	struct noise_self self = { 0 };
	int r;

	if (crypto_is_zero(private_key, KEY_LEN))
		return -EINVAL;
	r = noise_self_set(&self, private_key);
	if (!r)
		memcpy(ret_public, self.public_key, KEY_LEN);
	noise_self_clear(&self);
	return r;
}

int vpn_private_key_new(uint8_t ret_private[VPN_KEY_LEN])
{
	if (RAND_priv_bytes(ret_private, VPN_KEY_LEN) != 1)
		return -EIO;
	crypto_clamp(ret_private);
	return 0;
}

/* ---- counters ------------------------------------------------------------------------------ */

void vpn_get_counters(const struct vpn *v, struct vpn_counters *ret)
{
	device_lock(v);
	*ret = v->counters;
	device_unlock(v);
}

const char *vpn_verdict_name(enum vpn_verdict verdict)
{
	static const char *const names[VPN_VERDICT_COUNT] = {
		[VPN_OK] = "ok",
		[VPN_KEEPALIVE] = "keepalive",
		[VPN_HANDSHAKE] = "handshake",
		[VPN_MALFORMED] = "malformed",
		[VPN_NO_SESSION] = "no_session",
		[VPN_FORGED] = "forged",
		[VPN_REPLAYED] = "replayed",
		[VPN_UNKNOWN] = "unknown",
		[VPN_LIMITED] = "limited",
		[VPN_COOKIE] = "cookie",
		[VPN_INNER] = "inner",
		[VPN_SOURCE] = "source",
		[VPN_ECN] = "ecn",
		[VPN_NO_KEY] = "no_key",
		[VPN_NO_MEMORY] = "no_memory",
	};

	return names[verdict];
}
