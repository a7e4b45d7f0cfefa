/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Timers of a peer, and the loop that runs what is due.
 *
 *	INITIATE	a handshake was asked for: at once, but not within 5 s of the last
 *	RETRANSMIT	5 s after an initiation, until answered; 18 times, then we give up
 *	KEEPALIVE	10 s after data came and nothing has been sent since: an empty packet
 *	NEW_HANDSHAKE	15 s after data was sent and nothing has come since: a handshake
 *	ZERO_KEYS	540 s after the last session was made: all keys are zeroed
 *	PERSISTENT	the interval after any packet, either way: an empty packet
 *	TELL		callbacks are owed to the owner
 *
 * A deadline is a time in the peer (0: off).  The packet path sets and clears them for every batch,
 * so that must cost nothing: the peer's place in the tree is by `wakes_ns`, which is only a lower
 * bound of its deadlines.  Setting a later one leaves the tree alone, clearing one always does;
 * when the owner comes at wakes_ns, it finds out what is true and puts the peer back.
 *
 * The owner sleeps until `armed_ns`.  Whoever sets something earlier leaves `wake` for the caller.
 */
#include <limits.h>

#include "vpn/device.h"

static int peer_wake_compare(struct peer *a, struct peer *b)
{
	if (a->wakes_ns != b->wakes_ns)
		return a->wakes_ns < b->wakes_ns ? -1 : 1;
	return (a->id > b->id) - (a->id < b->id);
}

RB_GENERATE(peers_by_wake, peer, by_wake, peer_wake_compare)

/* ---- the tree ------------------------------------------------------------------------------ */

static void wake_at(struct vpn *v, struct peer *p, uint64_t at_ns)
{
	if (p->wakes_ns && p->wakes_ns <= at_ns)
		return;
	if (p->wakes_ns)
		RB_REMOVE(peers_by_wake, &v->by_wake, p);
	p->wakes_ns = at_ns;
	RB_INSERT(peers_by_wake, &v->by_wake, p);
	if (at_ns < v->armed_ns) {
		v->armed_ns = at_ns;
		v->wake = true;
	}
}

void timer_set(struct vpn *v, struct peer *p, enum timer t, uint64_t at_ns)
{
	at_ns += !at_ns; /* 0 says off */
	p->due_ns[t] = at_ns;
	wake_at(v, p, at_ns);
}

void timer_clear(struct peer *p, enum timer t)
{
	p->due_ns[t] = 0;
}

void timer_forget(struct vpn *v, struct peer *p)
{
	if (p->wakes_ns)
		RB_REMOVE(peers_by_wake, &v->by_wake, p);
	p->wakes_ns = 0;
	memset(p->due_ns, 0, sizeof(p->due_ns));
}

/* Up to a third of a second, so that both ends do not retry in step (xorshift64). */
static uint64_t jitter(struct vpn *v)
{
	v->jitter ^= v->jitter << 13;
	v->jitter ^= v->jitter >> 7;
	v->jitter ^= v->jitter << 17;
	return v->jitter % JITTER_NS;
}

/* ---- what happens -------------------------------------------------------------------------- */

void timer_tell(struct vpn *v, struct peer *p, enum owed owed, uint64_t now_ns)
{
	p->owed |= owed;
	timer_set(v, p, TIMER_TELL, now_ns);
}

void timer_ask_handshake(struct vpn *v, struct peer *p, uint64_t now_ns)
{
	uint64_t soonest = p->last_handshake_sent_ns + REKEY_TIMEOUT_NS;

	p->attempts = 0;
	if (p->due_ns[TIMER_RETRANSMIT] || p->due_ns[TIMER_INITIATE])
		return;
	timer_set(v, p, TIMER_INITIATE,
		  p->last_handshake_sent_ns && soonest > now_ns ? soonest : now_ns);
}

void timer_traversed(struct vpn *v, struct peer *p, uint64_t now_ns)
{
	if (p->keepalive_s)
		timer_set(v, p, TIMER_PERSISTENT, now_ns + p->keepalive_s * SECOND_NS);
}

void timer_sent(struct vpn *v, struct peer *p, bool data, uint64_t now_ns)
{
	timer_clear(p, TIMER_KEEPALIVE);
	timer_traversed(v, p, now_ns);
	if (data && !p->due_ns[TIMER_NEW_HANDSHAKE])
		timer_set(v, p, TIMER_NEW_HANDSHAKE,
			  now_ns + KEEPALIVE_NS + REKEY_TIMEOUT_NS + jitter(v));
}

void timer_received(struct vpn *v, struct peer *p, bool data, uint64_t now_ns)
{
	timer_clear(p, TIMER_NEW_HANDSHAKE);
	timer_traversed(v, p, now_ns);
	p->last_received_ns = now_ns;
	if (!data)
		return;
	if (!p->due_ns[TIMER_KEEPALIVE])
		timer_set(v, p, TIMER_KEEPALIVE, now_ns + KEEPALIVE_NS);
	else
		p->another_keepalive = true;
}

void timer_handshake_sent(struct vpn *v, struct peer *p, uint64_t now_ns)
{
	p->last_handshake_sent_ns = now_ns;
	p->handshaking = true;
	timer_clear(p, TIMER_INITIATE);
	timer_sent(v, p, false, now_ns);
	timer_set(v, p, TIMER_RETRANSMIT, now_ns + REKEY_TIMEOUT_NS + jitter(v));
}

void timer_handshake_complete(struct vpn *v, struct peer *p, uint64_t now_ns)
{
	timer_clear(p, TIMER_RETRANSMIT);
	timer_clear(p, TIMER_INITIATE);
	p->attempts = 0;
	p->last_minute = false;
	p->handshaking = false;
	p->handshakes++;
	p->last_handshake_ns = now_ns;
	p->last_handshake_real_ns = atomic_load_explicit(&v->real_ns, memory_order_relaxed);
}

void timer_session_derived(struct vpn *v, struct peer *p, uint64_t now_ns)
{
	timer_set(v, p, TIMER_ZERO_KEYS, now_ns + ZERO_KEYS_NS);
}

/* ---- what is due --------------------------------------------------------------------------- */

/* No answer.  Once more, unless that was the last time. */
static void on_retransmit(struct vpn *v, struct peer *p, uint64_t now_ns, uint64_t real_ns)
{
	bool last;

	device_lock(v);
	last = p->attempts >= REKEY_ATTEMPTS;
	if (last) {
		p->handshaking = false;
		timer_clear(p, TIMER_KEEPALIVE);
		if (!p->due_ns[TIMER_ZERO_KEYS])
			timer_session_derived(v, p, now_ns);
		v->counters.gave_up++;
	} else {
		p->attempts++;
		p->endpoint.src_ifindex = 0; /* maybe it was the way back that was wrong */
	}
	device_unlock(v);
	if (!last)
		handshake_initiate(v, p, now_ns, real_ns);
	else if (v->config.ops.gave_up)
		v->config.ops.gave_up(v->config.ctx, p->id);
}

static void on_new_handshake(struct vpn *v, struct peer *p, uint64_t now_ns)
{
	device_lock(v);
	p->endpoint.src_ifindex = 0;
	timer_ask_handshake(v, p, now_ns);
	device_unlock(v);
}

static void on_keepalive(struct vpn *v, struct peer *p, uint64_t now_ns)
{
	send_keepalive(v, p, now_ns);
	device_lock(v);
	if (p->another_keepalive) {
		p->another_keepalive = false;
		timer_set(v, p, TIMER_KEEPALIVE, now_ns + KEEPALIVE_NS);
	}
	device_unlock(v);
}

static void on_zero_keys(struct vpn *v, struct peer *p)
{
	struct vpn_keypair *dropped[SESSION_DROPPED_MAX];

	handshake_drop(v, p);
	device_lock(v);
	session_clear(v, p, dropped);
	device_unlock(v);
	for (unsigned i = 0; i < SESSION_DROPPED_MAX; i++)
		keypair_put(dropped[i], 1);
}

static void on_tell(struct vpn *v, struct peer *p)
{
	const struct vpn_ops *ops = &v->config.ops;
	struct vpn_endpoint to;
	unsigned owed;
	uint64_t old;
	bool initiator;

	device_lock(v);
	owed = p->owed;
	p->owed = 0;
	old = p->succeeded;
	to = p->endpoint;
	initiator = p->current && p->current->initiator;
	device_unlock(v);
	/* First whose the addresses are now, then what may be sent to them. */
	if (owed & OWED_SUCCEEDED && ops->succeeded)
		ops->succeeded(v->config.ctx, old, p->id);
	if (owed & OWED_ROAMED && ops->roamed)
		ops->roamed(v->config.ctx, p->id, &to);
	if (owed & OWED_HANDSHAKE_DONE && ops->handshake_done)
		ops->handshake_done(v->config.ctx, p->id, initiator);
	if (owed & OWED_SESSION_UP && ops->session_up)
		ops->session_up(v->config.ctx, p->id);
}

static void run_timer(struct vpn *v, struct peer *p, enum timer t, uint64_t now_ns,
		      uint64_t real_ns)
{
	switch (t) {
	case TIMER_INITIATE:
		handshake_initiate(v, p, now_ns, real_ns);
		break;
	case TIMER_RETRANSMIT:
		on_retransmit(v, p, now_ns, real_ns);
		break;
	case TIMER_KEEPALIVE:
		on_keepalive(v, p, now_ns);
		break;
	case TIMER_NEW_HANDSHAKE:
		on_new_handshake(v, p, now_ns);
		break;
	case TIMER_ZERO_KEYS:
		on_zero_keys(v, p);
		break;
	case TIMER_PERSISTENT:
		if (p->keepalive_s)
			send_keepalive(v, p, now_ns);
		break;
	case TIMER_TELL:
		on_tell(v, p);
		break;
	case TIMER_COUNT:
		break;
	}
}

/* Take one timer that is due; false: none, and the peer is back in the tree at its true place. */
static bool take_due(struct vpn *v, struct peer *p, uint64_t now_ns, enum timer *ret)
{
	uint64_t earliest = 0;
	enum timer t = TIMER_COUNT;

	for (unsigned i = 0; i < TIMER_COUNT; i++)
		if (p->due_ns[i] && (!earliest || p->due_ns[i] < earliest)) {
			earliest = p->due_ns[i];
			t = i;
		}
	if (earliest && earliest <= now_ns) {
		p->due_ns[t] = 0;
		*ret = t;
		return true;
	}
	RB_REMOVE(peers_by_wake, &v->by_wake, p);
	p->wakes_ns = earliest;
	if (earliest)
		RB_INSERT(peers_by_wake, &v->by_wake, p);
	return false;
}

void vpn_run(struct vpn *v, uint64_t now_ns, uint64_t real_ns)
{
	unsigned left = v->config.initiations_per_run ? v->config.initiations_per_run : UINT_MAX;
	struct peer *p;
	enum timer t;

	atomic_store_explicit(&v->real_ns, real_ns, memory_order_relaxed);
	device_lock(v);
	while (left && (p = RB_MIN(peers_by_wake, &v->by_wake)) && p->wakes_ns <= now_ns) {
		if (!take_due(v, p, now_ns, &t))
			continue;
		left -= t == TIMER_INITIATE || t == TIMER_RETRANSMIT;
		device_unlock(v);
		run_timer(v, p, t, now_ns, real_ns);
		device_lock(v);
	}
	device_unlock(v);
}

uint64_t vpn_deadline(struct vpn *v)
{
	const struct peer *p;
	uint64_t at;

	device_lock(v);
	p = RB_MIN(peers_by_wake, &v->by_wake);
	at = p ? p->wakes_ns : 0;
	v->armed_ns = p ? at : UINT64_MAX;
	v->wake = false;
	device_unlock(v);
	return at;
}
