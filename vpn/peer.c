/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Peers: added, found, changed, removed.
 *
 * An id is a serial number above a slot number.  A slot is used again, an id never, so a look-up
 * by an old id finds nothing.
 *
 * Removal, in this order: the id leads nowhere (lock), its sessions, indices, addresses and timers
 * are taken out of their tables (lock), then keys are zeroed.  Packets under way still hold their
 * keypair; when they come back to the device they find no peer.
 */
#include <assert.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>

#include "vpn/device.h"

#define SLOT_BITS 16
#define SLOT_MASK ((1u << SLOT_BITS) - 1)

static_assert(VPN_PEERS_MAX == 1u << SLOT_BITS, "an id has as many slots");

static int peer_key_compare(struct peer *a, struct peer *b)
{
	return memcmp(a->pair.remote, b->pair.remote, KEY_LEN);
}

RB_GENERATE(peers_by_key, peer, by_key, peer_key_compare)

/* ---- look-up ------------------------------------------------------------------------------- */

struct peer *peer_get(const struct vpn *v, uint64_t id)
{
	uint32_t slot = (uint32_t)id & SLOT_MASK;
	struct peer *p = id && slot < v->slot_count ? v->slots[slot] : NULL;

	return p && p->id == id ? p : NULL;
}

struct peer *peer_find(const struct vpn *v, const uint8_t public_key[KEY_LEN])
{
	struct peer wanted;

	memcpy(wanted.pair.remote, public_key, KEY_LEN);
	return RB_FIND(peers_by_key, (struct peers_by_key *)&v->by_key, &wanted);
}

uint64_t vpn_peer_find(const struct vpn *v, const uint8_t public_key[KEY_LEN])
{
	const struct peer *p = peer_find(v, public_key);

	return p ? p->id : VPN_NO_PEER;
}

uint64_t vpn_peer_next(const struct vpn *v, uint64_t peer)
{
	const struct peer *p = peer ? peer_get(v, peer) : NULL;

	if (peer && !p)
		return VPN_NO_PEER;
	p = p ? TAILQ_NEXT(p, in_order) : TAILQ_FIRST(&v->peers);
	return p ? p->id : VPN_NO_PEER;
}

void peer_roam(struct vpn *v, struct peer *p, const struct vpn_endpoint *from, uint64_t now_ns)
{
	bool moved = !vpn_endpoint_equal(&p->endpoint, from);

	p->endpoint = *from; /* with the source */
	if (moved)
		timer_tell(v, p, OWED_ROAMED, now_ns);
}

/* ---- adding, removing ---------------------------------------------------------------------- */

/* A free slot number; the lock is held.  Slots are never more than there were peers at once. */
static int slot_reserve(struct vpn *v, uint32_t *ret)
{
	struct peer **slots;
	uint32_t count;

	for (uint32_t i = 0; v->peer_count < v->slot_count && i < v->slot_count; i++) {
		/* From behind the last one taken, so that the search is short. */
		uint32_t slot = (uint32_t)((v->last_id + 1 + i) % v->slot_count);

		if (!v->slots[slot]) {
			*ret = slot;
			return 0;
		}
	}
	count = v->slot_count ? v->slot_count * 2 : 16;
	slots = reallocarray(v->slots, count, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	memset(slots + v->slot_count, 0, (count - v->slot_count) * sizeof(*slots));
	*ret = v->slot_count;
	v->slots = slots;
	v->slot_count = count;
	return 0;
}

static int peer_enter(struct vpn *v, struct peer *p)
{
	uint32_t slot;
	int r;

	device_lock(v);
	r = index_reserve(&v->index, (v->peer_count + 1) * INDICES_OF_PEER);
	if (!r)
		r = slot_reserve(v, &slot);
	if (!r) {
		p->id = ++v->last_id << SLOT_BITS | slot;
		v->slots[slot] = p;
		v->peer_count++;
	}
	device_unlock(v);
	if (r)
		return r;
	RB_INSERT(peers_by_key, &v->by_key, p);
	TAILQ_INSERT_TAIL(&v->peers, p, in_order);
	return 0;
}

int vpn_peer_add(struct vpn *v, const uint8_t public_key[VPN_KEY_LEN], uint64_t now_ns,
		 uint64_t *ret_peer, struct err *err)
{
	struct peer *p = peer_find(v, public_key);
	int r;

	(void)now_ns;
	if (p) {
		*ret_peer = p->id;
		return err_set(err, -EEXIST, "a peer with this public key is there already");
	}
	if (crypto_is_zero(public_key, KEY_LEN))
		return err_set(err, -EINVAL, "the public key is all zero");
	if (crypto_is_small_order(public_key))
		return err_set(err, -EINVAL, "the public key is a point of small order: no key");
	if (v->self.key && crypto_equal(public_key, v->self.public_key, KEY_LEN))
		return err_set(err, -EADDRINUSE,
			       "the public key is this tunnel's own: a peer has another");
	if (v->peer_count == VPN_PEERS_MAX)
		return err_set(err, -ENOSPC, "a tunnel has at most %d peers", VPN_PEERS_MAX);
	p = calloc(1, sizeof(*p));
	if (!p)
		return err_set(err, -ENOMEM, "out of memory");
	memcpy(p->pair.remote, public_key, KEY_LEN);
	r = cookie_keys_derive(&v->crypto, public_key, &p->jar.keys);
	if (!r)
		r = peer_enter(v, p);
	if (r) {
		OPENSSL_cleanse(p, sizeof(*p));
		free(p);
		return err_set(err, r, "out of memory");
	}
	*ret_peer = p->id;
	return 0;
}

void peer_free(struct vpn *v, struct peer *p)
{
	struct vpn_keypair *dropped[SESSION_DROPPED_MAX];
	struct peer *other;

	RB_REMOVE(peers_by_key, &v->by_key, p);
	TAILQ_REMOVE(&v->peers, p, in_order);
	handshake_drop(v, p);
	device_lock(v);
	v->slots[p->id & SLOT_MASK] = NULL;
	v->peer_count--;
	session_clear(v, p, dropped);
	allowed_remove_all(&v->allowed, &p->allowed);
	timer_forget(v, p);
	if ((other = peer_get(v, p->successor)) && other->predecessor == p->id)
		other->predecessor = VPN_NO_PEER;
	if ((other = peer_get(v, p->predecessor)))
		other->successor = VPN_NO_PEER;
	device_unlock(v);
	for (unsigned i = 0; i < SESSION_DROPPED_MAX; i++)
		keypair_put(dropped[i], 1);
	OPENSSL_cleanse(p, sizeof(*p));
	free(p);
}

int vpn_peer_remove(struct vpn *v, uint64_t peer)
{
	struct peer *p = peer_get(v, peer);

	if (!p)
		return -ENOENT;
	peer_free(v, p);
	return 0;
}

/* ---- settings ------------------------------------------------------------------------------ */

int vpn_peer_set_psk(struct vpn *v, uint64_t peer, const uint8_t psk[VPN_KEY_LEN])
{
	struct peer *p = peer_get(v, peer);

	if (!p)
		return -ENOENT;
	memcpy(p->pair.psk, psk, KEY_LEN);
	return 0;
}

int vpn_peer_set_endpoint(struct vpn *v, uint64_t peer, const struct vpn_endpoint *to,
			  uint64_t now_ns)
{
	struct peer *p = peer_get(v, peer);
	bool first;

	if (!p)
		return -ENOENT;
	device_lock(v);
	first = p->endpoint.sa.sa_family == AF_UNSPEC;
	if (!vpn_endpoint_equal(&p->endpoint, to)) {
		p->endpoint = *to;
		vpn_endpoint_normalize(&p->endpoint);
		p->endpoint.src_ifindex = 0;
	}
	if (first && p->keepalive_s && !session_may_send(p->current, 1, now_ns))
		timer_ask_handshake(v, p, now_ns);
	device_unlock(v);
	return 0;
}

void vpn_peer_clear_source(struct vpn *v, uint64_t peer)
{
	struct peer *p;

	device_lock(v);
	TAILQ_FOREACH (p, &v->peers, in_order)
		if (!peer || p->id == peer)
			p->endpoint.src_ifindex = 0;
	device_unlock(v);
}

int vpn_peer_set_keepalive(struct vpn *v, uint64_t peer, uint16_t interval_s, uint64_t now_ns)
{
	struct peer *p = peer_get(v, peer);

	if (!p)
		return -ENOENT;
	device_lock(v);
	if (!interval_s)
		timer_clear(p, TIMER_PERSISTENT);
	else if (interval_s != p->keepalive_s)
		timer_set(v, p, TIMER_PERSISTENT,
			  p->keepalive_s ? now_ns + interval_s * SECOND_NS : now_ns);
	p->keepalive_s = interval_s;
	device_unlock(v);
	return 0;
}

int vpn_peer_handshake(struct vpn *v, uint64_t peer, uint64_t now_ns)
{
	struct peer *p = peer_get(v, peer);

	if (!p)
		return -ENOENT;
	device_lock(v);
	timer_ask_handshake(v, p, now_ns);
	device_unlock(v);
	return 0;
}

/* ---- allowed-IPs --------------------------------------------------------------------------- */

int vpn_allowed_add(struct vpn *v, uint64_t peer, const struct prefix *prefix)
{
	struct peer *p = peer_get(v, peer);
	int r;

	if (!p)
		return -ENOENT;
	device_lock(v);
	r = allowed_insert(&v->allowed, prefix, &p->allowed);
	device_unlock(v);
	return r;
}

int vpn_allowed_remove(struct vpn *v, uint64_t peer, const struct prefix *prefix)
{
	struct peer *p = peer_get(v, peer);
	int r;

	if (!p)
		return -ENOENT;
	device_lock(v);
	r = allowed_remove(&v->allowed, prefix, &p->allowed);
	device_unlock(v);
	return r;
}

int vpn_allowed_clear(struct vpn *v, uint64_t peer)
{
	struct peer *p = peer_get(v, peer);

	if (!p)
		return -ENOENT;
	device_lock(v);
	allowed_remove_all(&v->allowed, &p->allowed);
	device_unlock(v);
	return 0;
}

int vpn_allowed_each(const struct vpn *v, uint64_t peer,
		     void (*each)(void *ctx, const struct prefix *p), void *ctx)
{
	const struct peer *p = peer_get(v, peer);

	if (!p)
		return -ENOENT;
	device_lock(v); /* a confirmed session may move them */
	allowed_each(&p->allowed, each, ctx);
	device_unlock(v);
	return 0;
}

/* ---- rotation ------------------------------------------------------------------------------ */

int vpn_peer_set_successor(struct vpn *v, uint64_t peer, uint64_t successor)
{
	struct peer *p = peer_get(v, peer), *s = peer_get(v, successor), *before;
	int r = 0;

	if (!p || (successor && !s))
		return -ENOENT;
	device_lock(v);
	before = peer_get(v, p->successor);
	if (s && (s == p || s->successor || (s->predecessor && s->predecessor != peer) ||
		  p->predecessor)) {
		r = -EINVAL;
	} else {
		if (before && before->predecessor == peer)
			before->predecessor = VPN_NO_PEER;
		p->successor = successor;
		if (s)
			s->predecessor = peer;
	}
	device_unlock(v);
	return r;
}

/* ---- state and figures --------------------------------------------------------------------- */

int vpn_peer_get_state(const struct vpn *v, uint64_t peer, struct vpn_peer_state *ret)
{
	const struct peer *p = peer_get(v, peer);

	if (!p)
		return -ENOENT;
	*ret = p->state;
	return 0;
}

static void newer(uint8_t ours[TAI64N_LEN], const uint8_t theirs[TAI64N_LEN])
{
	if (memcmp(theirs, ours, TAI64N_LEN) > 0)
		memcpy(ours, theirs, TAI64N_LEN);
}

int vpn_peer_set_state(struct vpn *v, uint64_t peer, const struct vpn_peer_state *state)
{
	struct peer *p = peer_get(v, peer);

	if (!p)
		return -ENOENT;
	newer(p->state.received_tai64n, state->received_tai64n);
	newer(p->state.sent_tai64n, state->sent_tai64n);
	return 0;
}

static uint64_t lost_in(const struct vpn_keypair *k)
{
	return k ? k->replay.next - k->replay.accepted : 0;
}

int vpn_peer_get_info(const struct vpn *v, uint64_t peer, struct vpn_peer_info *ret)
{
	const struct peer *p = peer_get(v, peer);

	if (!p)
		return -ENOENT;
	device_lock(v);
	*ret = (struct vpn_peer_info){
		.endpoint = p->endpoint,
		.keepalive_s = p->keepalive_s,
		.successor = p->successor,
		.allowed_count = p->allowed.count,
		.last_handshake_real_ns = p->last_handshake_real_ns,
		.last_handshake_ns = p->last_handshake_ns,
		.last_received_ns = p->last_received_ns,
		.session = p->current,
		.handshaking = p->handshaking,
		.tx_bytes = p->tx_bytes,
		.rx_bytes = p->rx_bytes,
		.tx_packets = p->tx_packets,
		.rx_packets = p->rx_packets,
		.rx_lost =
			p->rx_lost + lost_in(p->previous) + lost_in(p->current) + lost_in(p->next),
		.rx_refused = p->rx_refused,
		.handshakes = p->handshakes,
	};
	device_unlock(v);
	memcpy(ret->public_key, p->pair.remote, KEY_LEN);
	memcpy(ret->psk, p->pair.psk, KEY_LEN);
	return 0;
}
