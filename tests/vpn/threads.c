/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two devices, three threads each way: one seals, one opens, and the owner of both rekeys, rotates
 * keys, changes allowed-IPs and peers meanwhile.  Time runs a thousand times faster, so that there
 * are dozens of sessions.  Whatever is opened is what was sealed; ThreadSanitizer and ASan watch.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "vpn/device.h"

#define BATCH	    24
#define PACKET	    700
#define PIPE_MAX    16
#define OWNER_TURNS 6000
#define TURN_NS	    (SECOND_NS / 5)

struct batch {
	uint8_t data[BATCH][VPN_HEADROOM + PACKET + VPN_TAILROOM];
	uint32_t len[BATCH];
	uint32_t count;
};

/* From one side to the other; what does not fit is lost, as on a wire. */
struct pipe {
	pthread_mutex_t lock;
	struct batch *batch[PIPE_MAX];
	unsigned count;
};

struct side {
	struct vpn *vpn;
	uint64_t peer; /* of its number: read by the sealing thread */
	_Atomic uint64_t peer_now;
	struct pipe in;
	struct side *other;
	uint8_t key[KEY_LEN], public[KEY_LEN];
	struct vpn_endpoint at;
	uint64_t verdicts[VPN_VERDICT_COUNT];
	_Atomic uint64_t opened;
	uint8_t number;
	pthread_t sealer, opener;
};

static struct side sides[2];
static _Atomic uint64_t now_ns = 1000 * SECOND_NS;
static atomic_bool stop;

static void pipe_put(struct pipe *p, struct batch *b)
{
	pthread_mutex_lock(&p->lock);
	if (p->count < PIPE_MAX) {
		p->batch[p->count++] = b;
		b = NULL;
	}
	pthread_mutex_unlock(&p->lock);
	free(b);
}

static struct batch *pipe_take(struct pipe *p)
{
	struct batch *b = NULL;

	pthread_mutex_lock(&p->lock);
	if (p->count) {
		b = p->batch[0];
		memmove(p->batch, p->batch + 1, --p->count * sizeof(b));
	}
	pthread_mutex_unlock(&p->lock);
	return b;
}

static void inner_fill(uint8_t *p, const struct side *s, uint32_t serial)
{
	memset(p, 0, PACKET);
	p[0] = 0x45;
	p[2] = PACKET >> 8;
	p[3] = PACKET & 0xff;
	p[12] = p[16] = 10;
	p[15] = s->number;
	p[19] = s->other->number;
	for (unsigned i = 24; i < PACKET; i++)
		p[i] = (uint8_t)(serial + i);
	memcpy(p + 20, &serial, 4);
}

static void *seal_on(void *arg)
{
	struct side *s = arg;
	uint32_t serial = 0;

	while (!atomic_load(&stop)) {
		struct batch *b = malloc(sizeof(*b));
		struct vpn_packet packets[BATCH];
		struct vpn_tx tx;

		assert_non_null(b);
		b->count = BATCH;
		for (uint32_t i = 0; i < BATCH; i++) {
			packets[i] = (struct vpn_packet){ b->data[i] + VPN_HEADROOM, PACKET };
			inner_fill(packets[i].data, s, serial++);
		}
		if (vpn_send_begin(s->vpn, atomic_load(&s->peer_now), BATCH, BATCH * PACKET,
				   atomic_load(&now_ns), &tx)) {
			free(b);
			continue;
		}
		vpn_seal(&tx, 0, 0, packets, BATCH);
		vpn_send_end(s->vpn, &tx);
		for (uint32_t i = 0; i < BATCH; i++)
			b->len[i] = packets[i].len;
		pipe_put(&s->other->in, b);
	}
	return NULL;
}

static void open_batch(struct side *s, struct batch *b)
{
	struct vpn_rx rx[BATCH];
	uint8_t wanted[PACKET];
	uint32_t serial;

	for (uint32_t i = 0; i < b->count; i++)
		rx[i] = (struct vpn_rx){ .data = b->data[i],
					 .len = b->len[i],
					 .from = &s->other->at };
	(void)!vpn_open(s->vpn, 1, rx, b->count, atomic_load(&now_ns));
	for (uint32_t i = 0; i < b->count; i++) {
		s->verdicts[rx[i].verdict]++;
		if (rx[i].verdict != VPN_OK)
			continue;
		memcpy(&serial, rx[i].data + 20, 4);
		inner_fill(wanted, s->other, serial);
		assert_int_equal(rx[i].len, PACKET);
		assert_memory_equal(rx[i].data, wanted, PACKET);
		atomic_fetch_add(&s->opened, 1);
	}
}

static void *open_on(void *arg)
{
	struct side *s = arg;

	while (!atomic_load(&stop)) {
		struct batch *b = pipe_take(&s->in);

		if (b)
			open_batch(s, b);
		free(b);
	}
	return NULL;
}

/* Handshake messages and keepalives go straight across, on the owner's thread. */
static struct {
	struct side *to;
	uint8_t data[VPN_MESSAGE_MAX];
	size_t len;
} post[64];
static unsigned posted;

static void on_send(void *ctx, uint64_t peer, const struct vpn_endpoint *to, const uint8_t *msg,
		    size_t len, uint8_t tos)
{
	struct side *s = ctx;

	(void)peer, (void)to, (void)tos;
	assert_true(posted < 64);
	post[posted].to = s->other;
	post[posted].len = len;
	memcpy(post[posted++].data, msg, len);
}

static void post_deliver(void)
{
	for (unsigned i = 0; i < posted; i++) {
		struct side *s = post[i].to;
		uint64_t now = atomic_load(&now_ns);
		struct vpn_rx rx = { .data = post[i].data,
				     .len = (uint32_t)post[i].len,
				     .from = &s->other->at };

		(void)!vpn_open(s->vpn, 2, &rx, 1, now);
		if (rx.verdict == VPN_HANDSHAKE)
			vpn_receive(s->vpn, &s->other->at, post[i].data, post[i].len, 0, now, now);
	}
	posted = 0;
}

static void side_join(struct side *s, const uint8_t public_key[KEY_LEN])
{
	struct prefix p = { .addr = { 4, { 10, 0, 0, s->other->number } }, .len = 32 };

	assert_int_equal(vpn_peer_add(s->vpn, public_key, 1, &s->peer, NULL), 0);
	assert_int_equal(vpn_allowed_add(s->vpn, s->peer, &p), 0);
	vpn_peer_set_endpoint(s->vpn, s->peer, &s->other->at, 1);
	atomic_store(&s->peer_now, s->peer);
}

/* The owner's other work, now and then. */
static void disturb(unsigned turn)
{
	struct side *s = &sides[turn / 50 % 2];
	struct prefix p = { .addr = { 4, { 10, 1, 0, (uint8_t)turn } }, .len = 32 };
	struct vpn_peer_info info;
	struct vpn_counters counters;
	uint64_t old = s->peer;

	assert_int_equal(vpn_allowed_add(s->vpn, s->peer, &p), 0);
	(void)!vpn_allowed_remove(s->vpn, s->peer, &p);
	assert_int_equal(vpn_peer_get_info(s->vpn, s->peer, &info), 0);
	vpn_get_counters(s->vpn, &counters);
	if (turn % 1000 == 950) { /* the peer goes and comes back */
		assert_int_equal(vpn_peer_remove(s->vpn, old), 0);
		side_join(s, s->other->public);
	}
	if (turn % 1500 == 700) /* another key, and back */
		assert_int_equal(vpn_set_private_key(s->vpn, (const uint8_t[KEY_LEN]){ [9] = 1 },
						     atomic_load(&now_ns), NULL),
				 0);
	if (turn % 1500 == 750)
		for (unsigned i = 0; i < 2; i++)
			assert_int_equal(vpn_set_private_key(sides[i].vpn, sides[i].key,
							     atomic_load(&now_ns), NULL),
					 0);
}

/* On a busy machine the threads take their time. */
static bool both_opened(void)
{
	return atomic_load(&sides[0].opened) > 1000 && atomic_load(&sides[1].opened) > 1000;
}

static void own(void)
{
	for (unsigned turn = 0; turn < OWNER_TURNS || (!both_opened() && turn < 50 * OWNER_TURNS);
	     turn++) {
		atomic_fetch_add(&now_ns, TURN_NS);
		for (unsigned i = 0; i < 2; i++) {
			uint64_t now = atomic_load(&now_ns), due = vpn_deadline(sides[i].vpn);

			if (due && due <= now)
				vpn_run(sides[i].vpn, now, now);
		}
		while (posted)
			post_deliver();
		if (turn % 50 == 0)
			disturb(turn);
		nanosleep(&(struct timespec){ .tv_nsec = 20000 }, NULL);
	}
}

static void all_at_once(void **state)
{
	struct vpn_config config = { .ops.send = on_send, .workers = 3, .mtu = 1420 };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct side *s = &sides[i];

		s->other = &sides[!i];
		s->number = (uint8_t)(i + 1);
		pthread_mutex_init(&s->in.lock, NULL);
		s->at.v4.sin_family = AF_INET;
		s->at.v4.sin_port = htons((uint16_t)(1000 + i));
		config.ctx = s;
		assert_int_equal(vpn_private_key_new(s->key), 0);
		assert_int_equal(vpn_public_key(s->key, s->public), 0);
		assert_int_equal(vpn_new(&config, &s->vpn, NULL), 0);
		assert_int_equal(vpn_set_private_key(s->vpn, s->key, 1, NULL), 0);
	}
	for (unsigned i = 0; i < 2; i++)
		side_join(&sides[i], sides[!i].public);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(pthread_create(&sides[i].sealer, NULL, seal_on, &sides[i]), 0);
		assert_int_equal(pthread_create(&sides[i].opener, NULL, open_on, &sides[i]), 0);
	}
	own();
	atomic_store(&stop, true);
	for (unsigned i = 0; i < 2; i++) {
		struct side *s = &sides[i];
		struct batch *b;

		pthread_join(s->sealer, NULL);
		pthread_join(s->opener, NULL);
		while ((b = pipe_take(&s->in)))
			free(b);
		assert_true(s->opened > 0);
		assert_int_equal(s->verdicts[VPN_FORGED], 0);
		/* Replayed may be: a keepalive overtook what a full pipe held back for too long. */
		assert_int_equal(s->verdicts[VPN_MALFORMED], 0);
		assert_int_equal(s->verdicts[VPN_SOURCE], 0);
	}
	/* 1,200 s went by: at least seven sessions. */
	struct vpn_counters c;
	uint64_t responses = 0;

	for (unsigned i = 0; i < 2; i++) {
		vpn_get_counters(sides[i].vpn, &c);
		responses += c.responses_received;
		vpn_free(sides[i].vpn);
	}
	assert_true(responses >= 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
