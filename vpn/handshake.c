/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Handshakes: messages made, sent, taken.
 *
 * An initiation is checked cheapest first: length, MAC1 (does the sender know our key?), under load
 * MAC2 or an answer to us (does it receive where it claims to be?) and the rate of its source, then
 * one X25519 (whose is it?), the proof by the static keys, the timestamp, the rate of the peer.
 * Only then anything of the peer changes.
 *
 * The two roles do not share state: as initiator a peer has one handshake that waits for its
 * answer; as responder the answer is made at once and only a session is kept.  So when both sides
 * begin at the same time both handshakes succeed.
 */
#include <errno.h>
#include <openssl/crypto.h>

#include "vpn/device.h"

/* ---- TAI64N -------------------------------------------------------------------------------- */

#define TAI64_EPOCH   UINT64_C(0x400000000000000a) /* 1970, with ten leap seconds */
#define TAI64N_COARSE (1u << 24)		   /* ns: does not tell how fast we calculate */

static void tai64n_write(uint64_t seconds, uint32_t ns, uint8_t ret[TAI64N_LEN])
{
	be64_t s = be64_put(seconds);
	be32_t n = be32_put(ns);

	memcpy(ret, &s, 8);
	memcpy(ret + 8, &n, 4);
}

/* A timestamp newer than `last`, which may have come from another life of this process. */
static void tai64n_after(const uint8_t last[TAI64N_LEN], uint64_t real_ns, uint8_t ret[TAI64N_LEN])
{
	be64_t s;
	be32_t n;
	uint64_t next;

	tai64n_write(TAI64_EPOCH + real_ns / SECOND_NS,
		     (uint32_t)(real_ns % SECOND_NS) & ~(TAI64N_COARSE - 1), ret);
	if (memcmp(ret, last, TAI64N_LEN) > 0)
		return;
	memcpy(&s, last, 8);
	memcpy(&n, last + 8, 4);
	next = (uint64_t)(be32_get(n) & ~(TAI64N_COARSE - 1)) + TAI64N_COARSE;
	tai64n_write(be64_get(s) + next / SECOND_NS, (uint32_t)(next % SECOND_NS), ret);
}

/* ---- indices ------------------------------------------------------------------------------- */

/* The lock is held; room was reserved with the peer. */
static uint32_t index_new(struct vpn *v, struct peer *p)
{
	uint32_t candidate;

	do
		device_random(v, &candidate, sizeof(candidate));
	while (!candidate || !index_take(&v->index, candidate, p));
	return candidate;
}

static void index_release(struct vpn *v, uint32_t index)
{
	device_lock(v);
	index_drop(&v->index, index);
	device_unlock(v);
}

void handshake_drop(struct vpn *v, struct peer *p)
{
	if (p->handshake.local_index)
		index_release(v, p->handshake.local_index);
	noise_handshake_clear(&p->handshake);
}

/* ---- sessions ------------------------------------------------------------------------------ */

/* Where the handshake led; its index becomes the session's. */
static enum vpn_verdict session_make(struct vpn *v, struct peer *p, struct noise_handshake *h,
				     const struct vpn_endpoint *from, size_t len, uint64_t now_ns)
{
	struct vpn_keypair *k, *dropped[SESSION_DROPPED_MAX] = { 0 };
	struct index_entry *e;

	if (keypair_new(v, p, h, now_ns, &k))
		return VPN_NO_MEMORY;
	device_lock(v);
	e = index_find(&v->index, k->local_index);
	e->keypair = k;
	session_add(v, p, k, dropped);
	timer_session_derived(v, p, now_ns);
	p->rx_bytes += len;
	p->rx_packets++;
	peer_roam(v, p, from, now_ns);
	timer_received(v, p, false, now_ns);
	if (k->initiator)
		session_up(v, p, now_ns);
	device_unlock(v);
	for (unsigned i = 0; i < SESSION_DROPPED_MAX; i++)
		keypair_put(dropped[i], 1);
	return VPN_OK;
}

/*
 * What the static keys give together is calculated when it is first needed: thousands of peers are
 * added, or meet a new key of ours, in one go, and packets do not wait for that.
 */
static int pair_ready(struct vpn *v, struct peer *p)
{
	return crypto_is_zero(p->pair.shared, KEY_LEN) ? noise_pair_derive(&p->pair, &v->self) : 0;
}

/* ---- initiator ----------------------------------------------------------------------------- */

/* May we, and where to?  Takes an index if so. */
static bool initiate_begin(struct vpn *v, struct peer *p, uint64_t now_ns, struct vpn_endpoint *to)
{
	bool may = false;

	handshake_drop(v, p);
	if (!v->self.key)
		return false;
	device_lock(v);
	*to = p->endpoint;
	if (to->sa.sa_family == AF_UNSPEC) {
		p->handshaking = false;
	} else if (p->last_handshake_sent_ns &&
		   age_ns(now_ns, p->last_handshake_sent_ns) < REKEY_TIMEOUT_NS) {
		timer_set(v, p, TIMER_INITIATE, p->last_handshake_sent_ns + REKEY_TIMEOUT_NS);
	} else {
		p->handshake.local_index = index_new(v, p);
		may = true;
	}
	device_unlock(v);
	return may;
}

static int initiation_make(struct vpn *v, struct peer *p, uint64_t now_ns, uint64_t real_ns,
			   struct message_initiation *m)
{
	uint8_t ephemeral[KEY_LEN], timestamp[TAI64N_LEN];
	int r;

	device_random(v, ephemeral, sizeof(ephemeral));
	tai64n_after(p->state.sent_tai64n, real_ns, timestamp);
	r = pair_ready(v, p);
	if (!r)
		r = noise_initiate(&p->handshake, &v->crypto, &v->self, &p->pair, ephemeral,
				   timestamp, m);
	OPENSSL_cleanse(ephemeral, sizeof(ephemeral));
	if (!r)
		r = cookie_jar_sign(&p->jar, &v->crypto, (uint8_t *)m, sizeof(*m), now_ns);
	if (!r)
		memcpy(p->state.sent_tai64n, timestamp, TAI64N_LEN);
	return r;
}

void handshake_initiate(struct vpn *v, struct peer *p, uint64_t now_ns, uint64_t real_ns)
{
	struct message_initiation m;
	struct vpn_endpoint to;
	int r;

	if (!initiate_begin(v, p, now_ns, &to))
		return;
	r = initiation_make(v, p, now_ns, real_ns, &m);
	if (r)
		handshake_drop(v, p); /* for lack of memory: the timer tries again */
	device_lock(v);
	timer_handshake_sent(v, p, now_ns);
	if (!r) {
		p->tx_packets++;
		p->tx_bytes += sizeof(m);
		v->counters.initiations_sent++;
	}
	device_unlock(v);
	if (!r && v->config.ops.send)
		v->config.ops.send(v->config.ctx, p->id, &to, (const uint8_t *)&m, sizeof(m),
				   VPN_HANDSHAKE_TOS);
}

/* The handshake or session that a message answers, NULL: none. */
static struct peer *addressee(struct vpn *v, uint32_t receiver, bool handshake_only)
{
	struct index_entry *e;
	struct peer *p;

	device_lock(v);
	e = index_find(&v->index, receiver);
	p = e && !(handshake_only && e->keypair) ? e->peer : NULL;
	device_unlock(v);
	return p;
}

static enum vpn_verdict response_take(struct vpn *v, const struct vpn_endpoint *from,
				      const struct message_response *m, uint64_t now_ns)
{
	struct peer *p = addressee(v, le32_get(m->receiver), true);
	enum vpn_verdict verdict;
	int r;

	if (!p || p->handshake.state != NOISE_INITIATION_SENT ||
	    p->handshake.local_index != le32_get(m->receiver))
		return VPN_NO_SESSION;
	r = noise_response_take(&p->handshake, &v->crypto, &v->self, &p->pair, m);
	if (r)
		return r == -ENOMEM ? VPN_NO_MEMORY : VPN_FORGED;
	verdict = session_make(v, p, &p->handshake, from, sizeof(*m), now_ns);
	if (verdict != VPN_OK) {
		handshake_drop(v, p);
		return verdict;
	}
	p->handshake.local_index = 0; /* it is the session's */
	device_lock(v);
	v->counters.responses_received++;
	device_unlock(v);
	/* The responder is silent until it hears from us; data may take its time. */
	send_keepalive(v, p, now_ns);
	return VPN_OK;
}

static enum vpn_verdict cookie_take(struct vpn *v, const struct message_cookie *m, uint64_t now_ns)
{
	struct peer *p = addressee(v, le32_get(m->receiver), false);
	int r;

	if (!p)
		return VPN_NO_SESSION;
	r = cookie_jar_take(&p->jar, &v->crypto, m, now_ns);
	if (r)
		return r == -ENOMEM ? VPN_NO_MEMORY : VPN_FORGED;
	device_lock(v);
	v->counters.cookies_received++;
	device_unlock(v);
	return VPN_OK;
}

/* ---- responder ----------------------------------------------------------------------------- */

/* Whose initiation is it?  The peer's state is not touched yet. */
static enum vpn_verdict initiation_check(struct vpn *v, const struct message_initiation *m,
					 uint64_t now_ns, struct noise_opened *o,
					 uint8_t timestamp[TAI64N_LEN], struct peer **ret)
{
	struct peer *p;
	int r = noise_initiation_open(&v->crypto, &v->self, m, o);

	if (r)
		return r == -ENOMEM ? VPN_NO_MEMORY : VPN_FORGED;
	p = peer_find(v, o->remote);
	if (!p)
		return VPN_UNKNOWN;
	r = pair_ready(v, p);
	if (!r)
		r = noise_initiation_verify(o, &v->crypto, &p->pair, m, timestamp);
	if (r)
		return r == -ENOMEM ? VPN_NO_MEMORY : VPN_FORGED;
	if (memcmp(timestamp, p->state.received_tai64n, TAI64N_LEN) <= 0)
		return VPN_REPLAYED;
	if (p->last_taken_ns && age_ns(now_ns, p->last_taken_ns) < INITIATION_GAP_NS)
		return VPN_LIMITED;
	*ret = p;
	return VPN_OK;
}

/* The lock is not held.  The answer, and the session that it makes. */
static enum vpn_verdict respond(struct vpn *v, struct peer *p, const struct noise_opened *o,
				const struct message_initiation *in,
				const struct vpn_endpoint *from, uint64_t now_ns)
{
	struct noise_handshake h = { 0 };
	struct message_response m;
	enum vpn_verdict verdict = VPN_NO_MEMORY;
	uint8_t ephemeral[KEY_LEN];
	uint32_t index;
	int r;

	device_lock(v);
	index = h.local_index = index_new(v, p);
	device_unlock(v);
	noise_initiation_take(&h, o, in);
	device_random(v, ephemeral, sizeof(ephemeral));
	r = noise_respond(&h, &v->crypto, &p->pair, ephemeral, &m);
	OPENSSL_cleanse(ephemeral, sizeof(ephemeral));
	if (!r)
		r = cookie_jar_sign(&p->jar, &v->crypto, (uint8_t *)&m, sizeof(m), now_ns);
	if (r == -EPROTO)
		verdict = VPN_FORGED; /* an ephemeral key of small order */
	else if (!r)
		verdict = session_make(v, p, &h, from, sizeof(*in), now_ns);
	noise_handshake_clear(&h);
	if (verdict != VPN_OK) {
		index_release(v, index);
		return verdict;
	}
	device_lock(v);
	p->last_handshake_sent_ns = now_ns;
	p->tx_packets++;
	p->tx_bytes += sizeof(m);
	timer_sent(v, p, false, now_ns);
	v->counters.responses_sent++;
	v->counters.initiations_received++;
	device_unlock(v);
	if (v->config.ops.send)
		v->config.ops.send(v->config.ctx, p->id, from, (const uint8_t *)&m, sizeof(m),
				   VPN_HANDSHAKE_TOS);
	return VPN_OK;
}

static enum vpn_verdict initiation_take(struct vpn *v, const struct vpn_endpoint *from,
					const struct message_initiation *m, uint64_t now_ns)
{
	struct noise_opened o = { 0 };
	uint8_t timestamp[TAI64N_LEN];
	struct peer *p = NULL;
	enum vpn_verdict verdict = initiation_check(v, m, now_ns, &o, timestamp, &p);

	if (verdict == VPN_OK) {
		memcpy(p->state.received_tai64n, timestamp, TAI64N_LEN);
		p->last_taken_ns = now_ns;
		verdict = respond(v, p, &o, m, from, now_ns);
	}
	OPENSSL_cleanse(&o, sizeof(o));
	return verdict;
}

/* ---- load ---------------------------------------------------------------------------------- */

static bool under_load(struct vpn *v, size_t backlog, uint64_t now_ns)
{
	bool begins, is = load_take(&v->load, backlog, now_ns, &begins);

	if (begins) {
		device_lock(v);
		v->counters.under_load++;
		device_unlock(v);
	}
	return is;
}

static enum vpn_verdict cookie_give(struct vpn *v, const struct vpn_endpoint *from,
				    const uint8_t *msg, size_t len, uint64_t now_ns)
{
	struct message_cookie m;
	uint8_t nonce[XAEAD_NONCE_LEN];

	if (!load_may_reply(&v->load, from, now_ns))
		return VPN_LIMITED;
	device_random(v, nonce, sizeof(nonce));
	if (cookie_reply(&v->guard, &v->crypto, msg, len, from, nonce, &m))
		return VPN_NO_MEMORY;
	device_lock(v);
	v->counters.cookies_sent++;
	device_unlock(v);
	if (v->config.ops.send)
		v->config.ops.send(v->config.ctx, VPN_NO_PEER, from, (const uint8_t *)&m, sizeof(m),
				   VPN_HANDSHAKE_TOS);
	return VPN_COOKIE;
}

/* Who knows the index of an initiation of ours has received it: as good as a cookie. */
static bool is_awaited(struct vpn *v, const uint8_t *msg, size_t len)
{
	struct message_response m;
	const struct peer *p;

	if (message_type(msg, len) != VPN_TYPE_RESPONSE)
		return false;
	memcpy(&m, msg, sizeof(m));
	p = addressee(v, le32_get(m.receiver), true);
	return p && p->handshake.state == NOISE_INITIATION_SENT;
}

/* May this message cost us a calculation?  VPN_OK: yes. */
static enum vpn_verdict admit(struct vpn *v, const struct vpn_endpoint *from, const uint8_t *msg,
			      size_t len, size_t backlog, uint64_t now_ns)
{
	if (!cookie_guard_mac1_right(&v->guard, msg, len))
		return VPN_FORGED;
	if (!under_load(v, backlog, now_ns))
		return VPN_OK;
	if (cookie_guard_stale(&v->guard, now_ns)) {
		uint8_t secret[KEY_LEN];

		device_random(v, secret, sizeof(secret));
		cookie_guard_renew(&v->guard, secret, now_ns);
		OPENSSL_cleanse(secret, sizeof(secret));
	}
	if (!is_awaited(v, msg, len) && !cookie_mac2_right(&v->guard, &v->crypto, msg, len, from))
		return cookie_give(v, from, msg, len, now_ns);
	return ratelimit_allow(v->ratelimit, from, now_ns) ? VPN_OK : VPN_LIMITED;
}

static enum vpn_verdict receive(struct vpn *v, const struct vpn_endpoint *from, const uint8_t *msg,
				size_t len, size_t backlog, uint64_t now_ns)
{
	uint32_t type = message_type(msg, len);
	enum vpn_verdict verdict;

	if (!type || type == VPN_TYPE_DATA)
		return VPN_MALFORMED;
	if (!v->self.key)
		return VPN_NO_KEY;
	if (type == VPN_TYPE_COOKIE)
		return cookie_take(v, (const struct message_cookie *)msg, now_ns);
	verdict = admit(v, from, msg, len, backlog, now_ns);
	if (verdict != VPN_OK)
		return verdict;
	if (type == VPN_TYPE_INITIATION)
		verdict = initiation_take(v, from, (const struct message_initiation *)msg, now_ns);
	else
		verdict = response_take(v, from, (const struct message_response *)msg, now_ns);
	if (verdict != VPN_OK)
		load_vain(&v->load);
	return verdict;
}

enum vpn_verdict vpn_receive(struct vpn *v, const struct vpn_endpoint *from, const uint8_t *msg,
			     size_t len, size_t backlog, uint64_t now_ns, uint64_t real_ns)
{
	enum vpn_verdict verdict;

	atomic_store_explicit(&v->real_ns, real_ns, memory_order_relaxed);
	verdict = receive(v, from, msg, len, backlog, now_ns);
	device_count(v, verdict);
	return verdict;
}

bool vpn_receive_plausible(const struct vpn *v, const uint8_t *msg, size_t len)
{
	struct cookie_keys keys;
	uint32_t type = message_type(msg, len);
	bool has_key;

	if (type == VPN_TYPE_COOKIE)
		return true;
	if (!type || type == VPN_TYPE_DATA)
		return false;
	device_lock(v);
	keys = v->mac_keys;
	has_key = v->has_key;
	device_unlock(v);
	return has_key && cookie_mac1_right(&keys, &v->crypto, msg, len);
}
