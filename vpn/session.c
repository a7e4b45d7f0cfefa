/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sessions of a peer, in three slots:
 *
 *	current		what we send with
 *	previous	the one before: packets under way in it are still taken
 *	next		made as responder, but the initiator has not used it yet: whoever replays
 *			an old initiation gets this far and no further.  We are silent in it; the
 *			first packet that comes in it makes it current.
 *
 * As initiator, the response was the proof, so a session becomes current at once.  When there is a
 * `next` at that time both sides began at once: it becomes previous, because the other side may
 * already send in it.
 */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>

#include "vpn/device.h"

int keypair_new(struct vpn *v, struct peer *p, struct noise_handshake *h, uint64_t now_ns,
		struct vpn_keypair **ret)
{
	struct vpn_keypair *k = calloc(1, sizeof(*k));
	bool initiator = h->state == NOISE_RESPONSE_TAKEN;
	uint8_t receive_key[KEY_LEN];
	int r;

	if (!k)
		return -ENOMEM;
	atomic_init(&k->refs, 1);
	k->aead = v->aead;
	r = noise_keys(h, &v->crypto, k->send_key, receive_key);
	if (!r)
		r = k->aead->key_new(&v->crypto, k->send_key, true, v->config.workers, &k->sealing);
	if (!r)
		r = k->aead->key_new(&v->crypto, receive_key, false, v->config.workers,
				     &k->opening);
	OPENSSL_cleanse(receive_key, sizeof(receive_key));
	if (r) {
		keypair_put(k, 1);
		return r;
	}
	k->peer = p->id;
	k->born_ns = now_ns;
	k->local_index = h->local_index;
	k->remote_index = h->remote_index;
	k->initiator = initiator;
	*ret = k;
	return 0;
}

void keypair_put(struct vpn_keypair *k, unsigned refs)
{
	if (!k || atomic_fetch_sub_explicit(&k->refs, refs, memory_order_acq_rel) != refs)
		return;
	k->aead->key_free(k->sealing);
	k->aead->key_free(k->opening);
	OPENSSL_cleanse(k, sizeof(*k));
	free(k);
}

/* Out of its slot; the caller puts it after the lock. */
static struct vpn_keypair *slot_clear(struct vpn *v, struct peer *p, struct vpn_keypair **slot)
{
	struct vpn_keypair *k = *slot;

	*slot = NULL;
	if (!k)
		return NULL;
	p->rx_lost += k->replay.next - k->replay.accepted;
	k->listed = false;
	index_drop(&v->index, k->local_index);
	return k;
}

/* Those of the peer's slots that lead to somewhere; NULLs are left out. */
static void drop(struct vpn *v, struct peer *p, struct vpn_keypair **slot,
		 struct vpn_keypair **dropped)
{
	struct vpn_keypair *k = slot_clear(v, p, slot);

	while (*dropped)
		dropped++;
	*dropped = k;
}

void session_add(struct vpn *v, struct peer *p, struct vpn_keypair *k,
		 struct vpn_keypair *dropped[SESSION_DROPPED_MAX])
{
	memset(dropped, 0, SESSION_DROPPED_MAX * sizeof(dropped[0]));
	k->listed = true;
	if (!k->initiator) {
		drop(v, p, &p->next, dropped);
		p->next = k;
		return;
	}
	drop(v, p, &p->previous, dropped);
	if (p->next) {
		p->previous = p->next;
		p->next = NULL;
		drop(v, p, &p->current, dropped);
	} else {
		p->previous = p->current;
	}
	p->current = k;
}

void session_confirm(struct vpn *v, struct peer *p, struct vpn_keypair *dropped[2])
{
	dropped[0] = dropped[1] = NULL;
	drop(v, p, &p->previous, dropped);
	p->previous = p->current;
	p->current = p->next;
	p->next = NULL;
}

void session_clear(struct vpn *v, struct peer *p, struct vpn_keypair *dropped[SESSION_DROPPED_MAX])
{
	memset(dropped, 0, SESSION_DROPPED_MAX * sizeof(dropped[0]));
	drop(v, p, &p->previous, dropped);
	drop(v, p, &p->current, dropped);
	drop(v, p, &p->next, dropped);
}

void session_up(struct vpn *v, struct peer *p, uint64_t now_ns)
{
	struct peer *old = peer_get(v, p->predecessor);

	timer_handshake_complete(v, p, now_ns);
	timer_tell(v, p, OWED_SESSION_UP | OWED_HANDSHAKE_DONE, now_ns);
	if (!old)
		return;
	allowed_move_all(&old->allowed, &p->allowed);
	p->succeeded = old->id;
	p->predecessor = VPN_NO_PEER;
	timer_tell(v, p, OWED_SUCCEEDED, now_ns);
}

bool session_may_send(const struct vpn_keypair *k, uint64_t count, uint64_t now_ns)
{
	return k && age_ns(now_ns, k->born_ns) < REJECT_AFTER_NS &&
	       k->send_counter < REJECT_AFTER_COUNT - count;
}

bool session_may_receive(const struct vpn_keypair *k, uint64_t now_ns)
{
	return k && age_ns(now_ns, k->born_ns) < REJECT_AFTER_NS &&
	       k->replay.next < REJECT_AFTER_COUNT;
}
