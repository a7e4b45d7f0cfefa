/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Datagrams into a tunnel device that has a session, a handshake under way and two peers.
 *
 * The input is a script: a byte that says what, then its operand.
 *	0-3	the next 2 + n bytes are a datagram, as they are
 *	4	the same with MAC1 made right (an attacker who knows our public key)
 *	5	a true message, of the type that the next byte says, with bytes changed (n pairs of
 *		place and value): it reaches what lies behind the MACs
 *	6	an inner packet of the next bytes, sealed by the peer: what lies behind the tag
 *	7	time passes; load; from another address
 * Random bytes and keys are fixed, so an input always means the same.
 */
#include <stdlib.h>
#include <string.h>

#include "common/base/cursor.h"
#include "vpn/device.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct side {
	struct vpn *vpn;
	uint64_t peer, other;
	uint8_t private_key[KEY_LEN], public_key[KEY_LEN];
	uint8_t last[5][VPN_MESSAGE_MAX]; /* that it sent, by type */
	size_t last_len[5];
	struct vpn_endpoint at;
	uint64_t random;
};

static struct side us, them;
static uint64_t now_ns;
static size_t backlog;

static void on_send(void *ctx, uint64_t peer, const struct vpn_endpoint *to, const uint8_t *msg,
		    size_t len, uint8_t tos)
{
	struct side *s = ctx;

	(void)peer, (void)to, (void)tos;
	memcpy(s->last[msg[0]], msg, len);
	s->last_len[msg[0]] = len;
}

static void on_random(void *ctx, uint8_t *bytes, size_t len)
{
	struct side *s = ctx;

	for (size_t i = 0; i < len; i++) {
		s->random = s->random * 6364136223846793005u + 1442695040888963407u;
		bytes[i] = (uint8_t)(s->random >> 56);
	}
}

static void must(int r)
{
	if (r)
		abort();
}

static void side_begin(struct side *s, uint8_t number)
{
	struct vpn_config config = { .ops = { .send = on_send, .random = on_random },
				     .ctx = s,
				     .workers = 1,
				     .mtu = 1420,
				     .load_burst = 20,
				     .load_rate = 5 };

	memset(s, 0, sizeof(*s));
	s->random = number;
	s->private_key[2] = number;
	s->private_key[1] = 77;
	s->at.v4.sin_family = AF_INET;
	s->at.v4.sin_addr.s_addr = htonl(0xc0000200u + number);
	s->at.v4.sin_port = htons(51820);
	must(vpn_public_key(s->private_key, s->public_key));
	must(vpn_new(&config, &s->vpn, NULL));
	must(vpn_set_private_key(s->vpn, s->private_key, now_ns, NULL));
}

static void sides_join(struct side *s, const struct side *peer, uint8_t inner)
{
	struct prefix p4 = { .addr = { 4, { 10, 0, 0, inner } }, .len = 32 };
	struct prefix p6 = { .addr = { 6, { 0xfd, [15] = inner } }, .len = 128 };
	uint8_t stranger[KEY_LEN] = { 9 };

	must(vpn_peer_add(s->vpn, peer->public_key, now_ns, &s->peer, NULL));
	must(vpn_allowed_add(s->vpn, s->peer, &p4));
	must(vpn_allowed_add(s->vpn, s->peer, &p6));
	must(vpn_peer_set_endpoint(s->vpn, s->peer, &peer->at, now_ns));
	must(vpn_peer_add(s->vpn, stranger, now_ns, &s->other, NULL));
}

/* Exactly its bytes on the heap, so that one too many is seen. */
static void deliver(struct side *to, const struct vpn_endpoint *from, const void *bytes, size_t len,
		    uint8_t tos)
{
	uint8_t *copy = malloc(len ? len : 1);
	struct vpn_rx rx = { .data = copy, .len = (uint32_t)len, .from = from, .tos = tos };

	if (len)
		memcpy(copy, bytes, len);
	(void)!vpn_open(to->vpn, 0, &rx, 1, now_ns);
	if (rx.verdict == VPN_HANDSHAKE) {
		(void)!vpn_receive_plausible(to->vpn, copy, len);
		vpn_receive(to->vpn, from, copy, len, backlog, now_ns, now_ns + SECOND_NS);
	} else if (rx.verdict == VPN_OK) {
		(void)!vpn_route(to->vpn, rx.data, rx.len);
		(void)!vpn_ecn_outer(rx.data, rx.len);
	}
	free(copy);
}

static void pass_time(uint64_t ns)
{
	now_ns += ns;
	vpn_run(us.vpn, now_ns, now_ns + SECOND_NS);
	vpn_run(them.vpn, now_ns, now_ns + SECOND_NS);
}

static void begin(void)
{
	now_ns = 1000 * SECOND_NS;
	backlog = 0;
	side_begin(&us, 1);
	side_begin(&them, 2);
	sides_join(&us, &them, 2);
	sides_join(&them, &us, 1);
	must(vpn_peer_handshake(them.vpn, them.peer, now_ns));
	pass_time(1);
	deliver(&us, &them.at, them.last[1], them.last_len[1], 0);
	deliver(&them, &us.at, us.last[2], us.last_len[2], 0);
	deliver(&us, &them.at, them.last[4], them.last_len[4], 0);
	pass_time(6 * SECOND_NS);
	must(vpn_peer_handshake(us.vpn, us.peer, now_ns));
	must(vpn_peer_handshake(them.vpn, them.peer, now_ns));
	pass_time(1);
}

static void raw(struct cursor *c, bool sign)
{
	size_t len = cursor_le16(c) % 1600;
	struct cursor d = cursor_sub(c, len < cursor_left(c) ? len : cursor_left(c));
	uint8_t copy[1600];

	len = cursor_left(&d);
	if (len)
		memcpy(copy, d.at, len);
	if (sign && len >= sizeof(struct message_macs)) {
		struct cookie_jar jar = { .keys = us.vpn->guard.keys };

		must(cookie_jar_sign(&jar, &us.vpn->crypto, copy, len, now_ns));
	}
	deliver(&us, &them.at, copy, len, 0);
}

static void changed(struct cursor *c)
{
	uint8_t what = cursor_u8(c), type = what % 5, n = what / 5 % 8;
	uint8_t copy[VPN_MESSAGE_MAX];

	if (type == VPN_TYPE_RESPONSE) /* to what we began */
		deliver(&them, &us.at, us.last[1], us.last_len[1], 0);
	memcpy(copy, them.last[type], sizeof(copy));
	for (uint8_t i = 0; i < n; i++) {
		size_t at = cursor_u8(c) % VPN_MESSAGE_MAX;

		copy[at] ^= cursor_u8(c);
	}
	if (what & 128 && them.last_len[type] > sizeof(struct message_macs)) {
		struct cookie_jar jar = { .keys = us.vpn->guard.keys };

		must(cookie_jar_sign(&jar, &us.vpn->crypto, copy, them.last_len[type], now_ns));
	}
	deliver(&us, &them.at, copy, them.last_len[type], 0);
}

static void inner(struct cursor *c)
{
	size_t len = cursor_le16(c) % 1421;
	struct cursor d = cursor_sub(c, len < cursor_left(c) ? len : cursor_left(c));
	uint8_t buffer[VPN_HEADROOM + 1421 + VPN_TAILROOM];
	struct vpn_packet p = { buffer + VPN_HEADROOM, (uint32_t)cursor_left(&d) };
	struct vpn_tx tx;

	if (p.len)
		memcpy(p.data, d.at, p.len);
	if (vpn_send_begin(them.vpn, them.peer, 1, p.len, now_ns, &tx))
		return;
	vpn_seal(&tx, 0, 0, &p, 1);
	vpn_send_end(them.vpn, &tx);
	deliver(&us, &them.at, p.data, p.len, cursor_u8(c));
}

static void circumstances(struct cursor *c)
{
	uint8_t what = cursor_u8(c);

	backlog = what & 1 ? 100000 : 0;
	them.at.v4.sin_port ^= what & 2 ? 256 : 0;
	if (what & 4) {
		memset(&them.at, 0, sizeof(them.at));
		them.at.v6.sin6_family = AF_INET6;
		them.at.v6.sin6_addr.s6_addr[0] = what;
	}
	pass_time((uint64_t)(what >> 3) * (what & 128 ? 10 * SECOND_NS : SECOND_NS / 10));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct cursor c = cursor_over(data, len);

	begin();
	for (unsigned steps = 0; cursor_left(&c) && steps < 40; steps++) {
		uint8_t what = cursor_u8(&c) % 8;

		if (what < 5)
			raw(&c, what == 4);
		else if (what == 5)
			changed(&c);
		else if (what == 6)
			inner(&c);
		else
			circumstances(&c);
	}
	pass_time(SECOND_NS);
	vpn_free(us.vpn);
	vpn_free(them.vpn);
	return 0;
}
