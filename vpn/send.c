/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packets out.  Leave to send is given under the lock (a session is held, counters are set aside,
 * timers are told); sealing needs no lock, and counters that are never used are only gaps.
 */
#include <assert.h>
#include <errno.h>

#include "vpn/device.h"
#include "vpn/inner.h"

static uint64_t route(const struct vpn *v, uint8_t family, const uint8_t *to)
{
	struct allowed_owner *owner;
	uint64_t id = VPN_NO_PEER;

	device_lock(v);
	owner = allowed_find(&v->allowed, family, to);
	if (owner)
		id = ((struct peer *)((char *)owner - offsetof(struct peer, allowed)))->id;
	device_unlock(v);
	return id;
}

uint64_t vpn_route(const struct vpn *v, const uint8_t *packet, size_t len)
{
	if (len >= INNER_V4_LEN && packet[0] >> 4 == 4)
		return route(v, 4, packet + 16);
	if (len >= INNER_V6_LEN && packet[0] >> 4 == 6)
		return route(v, 6, packet + 24);
	return VPN_NO_PEER;
}

uint64_t vpn_route_addr(const struct vpn *v, const struct addr *to)
{
	return to->family ? route(v, to->family, to->b) : VPN_NO_PEER;
}

/* A session gets old by its time or its counters: its initiator makes a new one. */
static void keep_fresh(struct vpn *v, struct peer *p, uint64_t now_ns)
{
	const struct vpn_keypair *k = p->current;

	if (k->send_counter > REKEY_AFTER_COUNT ||
	    (k->initiator && age_ns(now_ns, k->born_ns) >= REKEY_AFTER_NS))
		timer_ask_handshake(v, p, now_ns);
}

/* The lock is held. */
static int begin(struct vpn *v, struct peer *p, uint32_t count, uint64_t now_ns, struct vpn_tx *tx)
{
	struct vpn_keypair *k = p->current;

	if (!session_may_send(k, count, now_ns)) {
		if (p->endpoint.sa.sa_family == AF_UNSPEC)
			return -EDESTADDRREQ;
		timer_ask_handshake(v, p, now_ns);
		return -EAGAIN;
	}
	if (p->endpoint.sa.sa_family == AF_UNSPEC)
		return -EDESTADDRREQ;
	atomic_fetch_add_explicit(&k->refs, 1, memory_order_relaxed);
	tx->keypair = k;
	tx->counter = k->send_counter;
	tx->to = p->endpoint;
	k->send_counter += count;
	return 0;
}

int vpn_send_begin(struct vpn *v, uint64_t peer, uint32_t count, uint64_t bytes, uint64_t now_ns,
		   struct vpn_tx *ret)
{
	struct peer *p;
	int r = -ENOENT;

	assert(count > 0);
	memset(ret, 0, sizeof(*ret));
	ret->peer = peer;
	ret->count = count;
	device_lock(v);
	ret->mtu = v->mtu;
	p = peer_get(v, peer);
	if (p)
		r = begin(v, p, count, now_ns, ret);
	if (!r) {
		p->tx_packets += count;
		p->tx_bytes += bytes + (uint64_t)count * VPN_OVERHEAD;
		timer_sent(v, p, true, now_ns);
		keep_fresh(v, p, now_ns);
	}
	ret->wake = v->wake;
	v->wake = false;
	device_unlock(v);
	return r;
}

void vpn_send_end(struct vpn *v, struct vpn_tx *tx)
{
	(void)v;
	if (tx->keypair)
		keypair_put(tx->keypair, 1);
	tx->keypair = NULL;
}

/* A packet longer than the MTU (it was fragmented by hand) is padded as its last part. */
static uint32_t padding_of(uint32_t len, uint16_t mtu)
{
	uint32_t part = mtu && len > mtu ? len % mtu : len;
	uint32_t padded = (part + VPN_PAD_TO - 1) / VPN_PAD_TO * VPN_PAD_TO;

	if (mtu && padded > mtu)
		padded = mtu;
	return padded - part;
}

uint32_t vpn_sealed_len(uint32_t len, uint16_t mtu)
{
	return len + padding_of(len, mtu) + VPN_OVERHEAD;
}

static void header_write(uint8_t *to, uint32_t receiver, uint64_t counter)
{
	struct message_data h = {
		.type = le32_put(VPN_TYPE_DATA),
		.receiver = le32_put(receiver),
		.counter = le64_put(counter),
	};

	memcpy(to, &h, sizeof(h));
}

static void seal_some(const struct vpn_tx *tx, unsigned worker, uint64_t counter,
		      struct vpn_packet *packets, uint32_t count)
{
	struct aead_item items[VPN_BATCH_MAX];
	const struct vpn_keypair *k = tx->keypair;

	for (uint32_t i = 0; i < count; i++) {
		struct vpn_packet *p = &packets[i];
		uint32_t pad = padding_of(p->len, tx->mtu);

		memset(p->data + p->len, 0, pad);
		header_write(p->data - VPN_HEADROOM, k->remote_index, counter + i);
		items[i] = (struct aead_item){ p->data, p->len + pad, false, counter + i };
		p->data -= VPN_HEADROOM;
		p->len += pad + VPN_OVERHEAD;
	}
	k->aead->seal(k->sealing, worker, items, count);
}

void vpn_seal(const struct vpn_tx *tx, unsigned worker, uint32_t first, struct vpn_packet *packets,
	      uint32_t count)
{
	assert(tx->keypair && first <= tx->count && count <= tx->count - first);
	while (count) {
		uint32_t n = count < VPN_BATCH_MAX ? count : VPN_BATCH_MAX;

		seal_some(tx, worker, tx->counter + first, packets, n);
		first += n;
		packets += n;
		count -= n;
	}
}

void send_keepalive(struct vpn *v, struct peer *p, uint64_t now_ns)
{
	uint8_t msg[VPN_OVERHEAD];
	struct vpn_tx tx = { 0 };
	int r;

	device_lock(v);
	r = begin(v, p, 1, now_ns, &tx);
	if (!r) {
		p->tx_packets++;
		p->tx_bytes += sizeof(msg);
		timer_sent(v, p, false, now_ns);
		keep_fresh(v, p, now_ns);
		v->counters.keepalives_sent++;
	}
	device_unlock(v);
	if (r)
		return;
	header_write(msg, tx.keypair->remote_index, tx.counter);
	r = crypto_seal(&v->crypto, tx.keypair->send_key, tx.counter, "", 0, "", 0,
			msg + VPN_HEADROOM);
	vpn_send_end(v, &tx);
	if (!r && v->config.ops.send)
		v->config.ops.send(v->config.ctx, p->id, &tx.to, msg, sizeof(msg), 0);
}
