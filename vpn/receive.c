/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packets in, in three steps: find the sessions (lock), open (no lock), judge (lock).
 *
 *	type, length, receiver index, age of the session		vpn_open_begin()
 *	tag								vpn_open_crypt()
 *	counter, then: the peer is where this came from, the session
 *	is confirmed, timers; then the inner packet: its length,
 *	congestion mark, and whether its source is the peer's		vpn_open_finish()
 *
 * Nothing is believed of a packet before its tag is right, and nothing is remembered of it before
 * its counter is new.  Packets of one session that follow each other (a "run") are handled
 *together.
 */
#include <assert.h>
#include <errno.h>

#include "vpn/device.h"
#include "vpn/inner.h"

/* Packets from rx on that share its session. */
static uint32_t run_length(const struct vpn_rx *rx, uint32_t count)
{
	uint32_t n = 1;

	while (n < count && rx[n].keypair == rx[0].keypair)
		n++;
	return n;
}

/* ---- find ---------------------------------------------------------------------------------- */

static struct vpn_keypair *session_find(struct vpn *v, uint32_t receiver, uint64_t now_ns)
{
	struct index_entry *e = index_find(&v->index, receiver);

	return e && session_may_receive(e->keypair, now_ns) ? e->keypair : NULL;
}

static void classify(struct vpn_rx *rx, uint32_t *receiver)
{
	struct message_data h;

	rx->keypair = NULL;
	rx->peer = VPN_NO_PEER;
	switch (message_type(rx->data, rx->len)) {
	case VPN_TYPE_DATA:
		memcpy(&h, rx->data, sizeof(h));
		rx->counter = le64_get(h.counter);
		*receiver = le32_get(h.receiver);
		rx->verdict = VPN_NO_SESSION;
		break;
	case 0:
		rx->verdict = VPN_MALFORMED;
		break;
	default:
		rx->verdict = VPN_HANDSHAKE;
		break;
	}
}

void vpn_open_begin(struct vpn *v, struct vpn_rx *rx, uint32_t count, uint64_t now_ns)
{
	uint32_t receivers[VPN_BATCH_MAX] = { 0 };

	assert(count <= VPN_BATCH_MAX);
	for (uint32_t i = 0; i < count; i++)
		classify(&rx[i], &receivers[i]);
	device_lock(v);
	for (uint32_t i = 0; i < count; i++) {
		if (rx[i].verdict != VPN_NO_SESSION)
			continue;
		if (i && rx[i - 1].keypair && receivers[i] == receivers[i - 1])
			rx[i].keypair = rx[i - 1].keypair;
		else
			rx[i].keypair = session_find(v, receivers[i], now_ns);
	}
	for (uint32_t i = 0, n; i < count; i += n) {
		n = run_length(rx + i, count - i);
		if (rx[i].keypair)
			atomic_fetch_add_explicit(&rx[i].keypair->refs, n, memory_order_relaxed);
	}
	device_unlock(v);
}

/* ---- open ---------------------------------------------------------------------------------- */

static void open_run(unsigned worker, struct vpn_rx *rx, uint32_t count)
{
	struct aead_item items[VPN_BATCH_MAX];
	struct vpn_keypair *k = rx->keypair;

	for (uint32_t i = 0; i < count; i++)
		items[i] = (struct aead_item){ rx[i].data + VPN_HEADROOM, rx[i].len - VPN_OVERHEAD,
					       false, rx[i].counter };
	k->aead->open(k->opening, worker, items, count);
	for (uint32_t i = 0; i < count; i++) {
		rx[i].verdict = items[i].ok ? VPN_OK : VPN_FORGED;
		if (!items[i].ok)
			continue;
		rx[i].data = items[i].data;
		rx[i].len = items[i].len;
	}
}

void vpn_open_crypt(unsigned worker, struct vpn_rx *rx, uint32_t count)
{
	for (uint32_t i = 0, n; i < count; i += n) {
		n = run_length(rx + i, count - i);
		if (rx[i].keypair)
			open_run(worker, rx + i, n);
	}
}

/* ---- judge --------------------------------------------------------------------------------- */

/* The first packet in a session that we made as responder: the initiator has it. */
static void confirm(struct vpn *v, struct peer *p, const struct vpn_keypair *k, uint64_t now_ns,
		    struct vpn_keypair **dropped)
{
	struct vpn_keypair *old[2];

	if (k != p->next)
		return;
	session_confirm(v, p, old);
	session_up(v, p, now_ns);
	assert(!*dropped && !old[1]);
	*dropped = old[0];
}

/* The initiator of a session that carries only packets to us renews it just before it ends. */
static void keep_fresh(struct vpn *v, struct peer *p, uint64_t now_ns)
{
	const struct vpn_keypair *k = p->current;

	if (p->last_minute || !k || !k->initiator ||
	    age_ns(now_ns, k->born_ns) < REJECT_AFTER_NS - KEEPALIVE_NS - REKEY_TIMEOUT_NS)
		return;
	p->last_minute = true;
	timer_ask_handshake(v, p, now_ns);
}

/* May this peer send from there?  Its successor's addresses are its own while it lives. */
static bool source_allowed(const struct vpn *v, const struct peer *p, const struct inner *in)
{
	const struct allowed_owner *owner = allowed_find(&v->allowed, in->family, in->source);
	const struct peer *other;

	if (owner == &p->allowed)
		return true;
	other = owner && p->successor ? peer_get(v, p->successor) : NULL;
	return other && owner == &other->allowed;
}

static enum vpn_verdict judge_inner(const struct vpn *v, const struct peer *p, struct vpn_rx *rx)
{
	struct inner in;

	if (!rx->len)
		return VPN_KEEPALIVE;
	if (!inner_parse(rx->data, rx->len, &in))
		return VPN_INNER;
	if (!source_allowed(v, p, &in))
		return VPN_SOURCE;
	if (!inner_ecn_decapsulate(rx->data, rx->tos))
		return VPN_ECN;
	rx->len = in.len;
	return VPN_OK;
}

static void judge_run(struct vpn *v, struct vpn_rx *rx, uint32_t count, uint64_t now_ns,
		      struct vpn_keypair **dropped)
{
	struct vpn_keypair *k = rx->keypair;
	struct peer *p = peer_get(v, k->peer);
	const struct vpn_endpoint *from = NULL;
	bool any = false, data = false;

	for (uint32_t i = 0; i < count; i++) {
		if (rx[i].verdict != VPN_OK)
			continue;
		if (!p || !k->listed) {
			rx[i].verdict = VPN_NO_SESSION;
			continue;
		}
		rx[i].peer = p->id;
		if (!replay_accept(&k->replay, rx[i].counter)) {
			rx[i].verdict = VPN_REPLAYED;
			p->rx_refused++;
			continue;
		}
		any = true;
		from = rx[i].from;
		confirm(v, p, k, now_ns, dropped); /* first: it may bring addresses */
		p->rx_packets++;
		p->rx_bytes += rx[i].len + VPN_OVERHEAD;
		data |= rx[i].len > 0;
		rx[i].verdict = judge_inner(v, p, &rx[i]);
		p->rx_refused += rx[i].verdict != VPN_OK && rx[i].verdict != VPN_KEEPALIVE;
	}
	if (!any)
		return;
	peer_roam(v, p, from, now_ns);
	keep_fresh(v, p, now_ns);
	timer_received(v, p, data, now_ns);
}

bool vpn_open_finish(struct vpn *v, struct vpn_rx *rx, uint32_t count, uint64_t now_ns)
{
	struct vpn_keypair *dropped[VPN_BATCH_MAX] = { 0 };
	uint32_t drops = 0;
	bool wake;

	assert(count <= VPN_BATCH_MAX);
	device_lock(v);
	for (uint32_t i = 0, n; i < count; i += n) {
		n = run_length(rx + i, count - i);
		if (rx[i].keypair)
			judge_run(v, rx + i, n, now_ns, &dropped[drops]);
		drops += dropped[drops] != NULL;
	}
	for (uint32_t i = 0; i < count; i++)
		v->counters.received[rx[i].verdict] += rx[i].verdict != VPN_HANDSHAKE;
	wake = v->wake;
	v->wake = false;
	device_unlock(v);
	for (uint32_t i = 0; i < drops; i++)
		keypair_put(dropped[i], 1);
	for (uint32_t i = 0, n; i < count; i += n) {
		n = run_length(rx + i, count - i);
		if (rx[i].keypair)
			keypair_put(rx[i].keypair, n);
	}
	return wake;
}

bool vpn_open(struct vpn *v, unsigned worker, struct vpn_rx *rx, uint32_t count, uint64_t now_ns)
{
	vpn_open_begin(v, rx, count, now_ns);
	vpn_open_crypt(worker, rx, count);
	return vpn_open_finish(v, rx, count, now_ns);
}
