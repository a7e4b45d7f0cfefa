/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/vpn/net_rig.h"

#define PACKETS_MAX (1u << 20)

enum {
	PACKET_SENT = 1,
	PACKET_ARRIVED = 2,
};

/* ---- the wire ------------------------------------------------------------------------------ */

static bool before(const struct datagram *a, const struct datagram *b)
{
	return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->serial < b->serial;
}

static void queue_put(struct net *net, struct datagram *d)
{
	size_t i = net->queued++;

	if (net->queued > net->room) {
		net->room = net->room ? 2 * net->room : 256;
		net->queue = realloc(net->queue, net->room * sizeof(*net->queue));
		assert_non_null(net->queue);
	}
	for (; i && before(d, net->queue[(i - 1) / 2]); i = (i - 1) / 2)
		net->queue[i] = net->queue[(i - 1) / 2];
	net->queue[i] = d;
}

static struct datagram *queue_take(struct net *net)
{
	struct datagram *first = net->queue[0], *last = net->queue[--net->queued];
	size_t i = 0, child;

	while ((child = 2 * i + 1) < net->queued) {
		if (child + 1 < net->queued && before(net->queue[child + 1], net->queue[child]))
			child++;
		if (!before(net->queue[child], last))
			break;
		net->queue[i] = net->queue[child];
		i = child;
	}
	net->queue[i] = last;
	return first;
}

static void wire_put(struct net *net, const struct datagram *d)
{
	struct datagram *copy = malloc(sizeof(*copy));
	uint64_t spread = net->max_ns - net->min_ns;

	assert_non_null(copy);
	*copy = *d;
	copy->serial = net->serial++;
	copy->at_ns = net->now_ns + net->min_ns + rng_below(&net->rng, spread + 1);
	queue_put(net, copy);
}

static void wire_send(struct net *net, struct datagram *d)
{
	if (net->tap && !net->tap(net, d, net->tap_ctx))
		return;
	d->tos |= net->mark;
	if (!rng_percent(&net->rng, net->loss_percent))
		wire_put(net, d);
	if (rng_percent(&net->rng, net->double_percent))
		wire_put(net, d);
}

void net_inject(struct net *net, const struct vpn_endpoint *from, const struct vpn_endpoint *to,
		const void *data, size_t len)
{
	struct datagram d = { .from = *from, .to = *to, .len = (uint32_t)len };

	memcpy(d.data, data, len);
	wire_put(net, &d);
}

struct vpn_endpoint net_address(uint32_t last_bytes, uint16_t port)
{
	struct vpn_endpoint e = { 0 };

	e.v4.sin_family = AF_INET;
	e.v4.sin_addr.s_addr = htonl(0xc0000200u + last_bytes);
	e.v4.sin_port = htons(port);
	return e;
}

static struct vpn_endpoint address6(uint8_t last, uint16_t port)
{
	struct vpn_endpoint e = { 0 };

	e.v6.sin6_family = AF_INET6;
	e.v6.sin6_addr = (struct in6_addr){ { { 0x20, 0x01, 0x0d, 0xb8, [15] = last } } };
	e.v6.sin6_port = htons(port);
	return e;
}

static struct addr inner_address(const struct net *net, unsigned i)
{
	uint8_t last = (uint8_t)(i + 1);

	if (net->v6)
		return (struct addr){ 6, { 0xfd, [15] = last } };
	return (struct addr){ 4, { 10, 0, 0, last } };
}

uint64_t net_real(const struct net *net)
{
	return START_REAL_NS + (net->now_ns - START_NS) + (uint64_t)net->clock_off_ns;
}

/* ---- what the device asks ------------------------------------------------------------------ */

static struct host *owner_of(void *ctx)
{
	return ctx;
}

static unsigned host_of_peer(const struct host *h, uint64_t peer)
{
	for (unsigned i = 0; i < HOSTS_MAX; i++)
		if (h->peer[i] == peer)
			return i;
	return HOSTS_MAX;
}

static void on_send(void *ctx, uint64_t peer, const struct vpn_endpoint *to, const uint8_t *msg,
		    size_t len, uint8_t tos)
{
	struct host *h = owner_of(ctx);
	struct datagram d = { .from = h->at, .to = *to, .len = (uint32_t)len };

	(void)peer;
	assert_int_not_equal(to->sa.sa_family, AF_UNSPEC);
	assert_true(message_type(msg, len));
	assert_int_equal(tos, len == VPN_OVERHEAD ? 0 : VPN_HANDSHAKE_TOS);
	memcpy(d.data, msg, len);
	h->sent_of_type[msg[0]]++;
	h->last_sent_ns[msg[0] == VPN_TYPE_DATA ? 0 : msg[0]] = h->net->now_ns;
	wire_send(h->net, &d);
}

static bool inner_send(struct net *net, unsigned from, unsigned to, uint32_t id, uint32_t len);

static void on_session_up(void *ctx, uint64_t peer)
{
	struct host *h = owner_of(ctx);
	unsigned kept = 0;

	h->session_ups++;
	for (unsigned i = 0; i < h->staged_count; i++) {
		const struct addr to = inner_address(h->net, h->staged[i].to);

		if (vpn_route_addr(h->vpn, &to) == peer &&
		    inner_send(h->net, h->number, h->staged[i].to, h->staged[i].id,
			       h->staged[i].len))
			continue;
		h->staged[kept++] = h->staged[i];
	}
	h->staged_count = kept;
}

static void on_gave_up(void *ctx, uint64_t peer)
{
	struct host *h = owner_of(ctx);
	unsigned kept = 0;

	h->gave_ups++;
	for (unsigned i = 0; i < h->staged_count; i++)
		if (h->staged[i].to != host_of_peer(h, peer))
			h->staged[kept++] = h->staged[i];
	h->net->dropped_staged += h->staged_count - kept;
	h->staged_count = kept;
}

static void on_roamed(void *ctx, uint64_t peer, const struct vpn_endpoint *to)
{
	(void)peer, (void)to;
	owner_of(ctx)->roams++;
}

static void on_succeeded(void *ctx, uint64_t peer, uint64_t successor)
{
	assert_int_not_equal(peer, successor);
	owner_of(ctx)->succeeds++;
	owner_of(ctx)->succeeded_from = peer;
	owner_of(ctx)->succeeded_to = successor;
}

static void on_handshake(void *ctx, uint64_t peer, bool initiator)
{
	(void)peer;
	owner_of(ctx)->handshakes++;
	owner_of(ctx)->handshakes_begun += initiator;
}

static void on_random(void *ctx, uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)rng_next(&owner_of(ctx)->net->rng);
}

/* ---- hosts --------------------------------------------------------------------------------- */

void host_start(struct net *net, unsigned i)
{
	struct host *h = &net->host[i];
	struct vpn_config config = {
		.ops = { .send = on_send,
			 .session_up = on_session_up,
			 .gave_up = on_gave_up,
			 .roamed = on_roamed,
			 .succeeded = on_succeeded,
			 .handshake_done = on_handshake,
			 .random = on_random },
		.ctx = h,
		.workers = 1,
		.mtu = 1420,
	};

	assert_int_equal(vpn_new(&config, &h->vpn, NULL), 0);
	assert_int_equal(vpn_set_private_key(h->vpn, h->private_key, net->now_ns, NULL), 0);
}

void host_stop(struct net *net, unsigned i)
{
	vpn_free(net->host[i].vpn);
	net->host[i].vpn = NULL;
}

uint64_t host_join(struct net *net, unsigned i, unsigned other)
{
	struct host *h = &net->host[i];
	struct prefix p = { .addr = inner_address(net, other), .len = net->v6 ? 128 : 32 };

	assert_int_equal(vpn_peer_add(h->vpn, net->host[other].public_key, net->now_ns,
				      &h->peer[other], NULL),
			 0);
	assert_int_equal(vpn_allowed_add(h->vpn, h->peer[other], &p), 0);
	return h->peer[other];
}

void host_endpoint(struct net *net, unsigned i, unsigned other)
{
	assert_int_equal(vpn_peer_set_endpoint(net->host[i].vpn, net->host[i].peer[other],
					       &net->host[other].at, net->now_ns),
			 0);
}

struct peer *host_peer(struct net *net, unsigned i, unsigned other)
{
	return peer_get(net->host[i].vpn, net->host[i].peer[other]);
}

struct vpn_peer_info host_info(struct net *net, unsigned i, unsigned other)
{
	struct vpn_peer_info info;

	assert_int_equal(vpn_peer_get_info(net->host[i].vpn, net->host[i].peer[other], &info), 0);
	return info;
}

static struct net *new_net(uint64_t seed, unsigned hosts, bool v6)
{
	struct net *net = calloc(1, sizeof(*net));

	assert_non_null(net);
	net->rng.state = seed;
	net->now_ns = START_NS;
	net->min_ns = net->max_ns = MS;
	net->hosts = hosts;
	net->v6 = v6;
	net->state = calloc(PACKETS_MAX, 1);
	assert_non_null(net->state);
	for (unsigned i = 0; i < hosts; i++) {
		struct host *h = &net->host[i];

		h->net = net;
		h->number = i;
		h->at = v6 ? address6((uint8_t)(i + 1), 51820) : net_address(i + 1, 51820);
		on_random(h, h->private_key, KEY_LEN);
		assert_int_equal(vpn_public_key(h->private_key, h->public_key), 0);
		host_start(net, i);
	}
	for (unsigned i = 0; i < hosts; i++)
		for (unsigned k = 0; k < hosts; k++)
			if (k != i) {
				host_join(net, i, k);
				host_endpoint(net, i, k);
			}
	return net;
}

struct net *net_new(uint64_t seed, unsigned hosts)
{
	return new_net(seed, hosts, false);
}

struct net *net_new_v6(uint64_t seed, unsigned hosts)
{
	return new_net(seed, hosts, true);
}

void net_free(struct net *net)
{
	for (unsigned i = 0; i < net->hosts; i++)
		vpn_free(net->host[i].vpn);
	while (net->queued)
		free(queue_take(net));
	free(net->queue);
	free(net->state);
	free(net);
}

/* ---- packets ------------------------------------------------------------------------------- */

/* A header that says ECT(0), the packet's number, and what follows from it. */
static void inner_fill(const struct net *net, uint8_t *p, unsigned from, unsigned to, uint32_t id,
		       uint32_t len)
{
	const struct addr source = inner_address(net, from), target = inner_address(net, to);
	uint32_t at = INNER_MIN(net->v6);

	memset(p, 0, at);
	if (net->v6) {
		memcpy(p,
		       (uint8_t[]){ 0x60, 0x20, 0, 0, (uint8_t)((len - 40) >> 8),
				    (uint8_t)(len - 40), 17, 64 },
		       8);
		memcpy(p + 8, source.b, 16);
		memcpy(p + 24, target.b, 16);
	} else {
		memcpy(p,
		       (uint8_t[]){ 0x45, 2, (uint8_t)(len >> 8), (uint8_t)len, 0, 0, 0, 0, 64,
				    17 },
		       10);
		memcpy(p + 12, source.b, 4);
		memcpy(p + 16, target.b, 4);
	}
	memcpy(p + at - sizeof(id), &id, sizeof(id));
	for (uint32_t i = at; i < len; i++)
		p[i] = (uint8_t)(id * 7 + i);
}

/* false: no session */
static bool inner_send(struct net *net, unsigned from, unsigned to, uint32_t id, uint32_t len)
{
	struct host *h = &net->host[from];
	struct datagram d = { .from = h->at };
	struct vpn_packet packet = { d.data + VPN_HEADROOM, len };
	struct vpn_tx tx;
	uint64_t peer;
	int r;

	inner_fill(net, packet.data, from, to, id, len);
	peer = vpn_route(h->vpn, packet.data, len);
	assert_int_not_equal(peer, VPN_NO_PEER);
	r = vpn_send_begin(h->vpn, peer, 1, len, net->now_ns, &tx);
	if (r) {
		assert_true(r == -EAGAIN || r == -EDESTADDRREQ);
		return false;
	}
	d.tos = vpn_ecn_outer(packet.data, len);
	vpn_seal(&tx, 0, 0, &packet, 1);
	assert_int_equal(packet.len, vpn_sealed_len(len, 1420));
	d.to = tx.to;
	d.len = packet.len;
	vpn_send_end(h->vpn, &tx);
	h->sent_of_type[VPN_TYPE_DATA]++;
	h->last_sent_ns[VPN_TYPE_DATA] = net->now_ns;
	wire_send(net, &d);
	return true;
}

void net_send(struct net *net, unsigned from, unsigned to, uint32_t len)
{
	struct host *h = &net->host[from];
	uint32_t id = net->packets++;

	assert_true(id < PACKETS_MAX && len >= INNER_MIN(net->v6) && len <= 1420);
	net->state[id] = PACKET_SENT;
	net->sent++;
	if (inner_send(net, from, to, id, len))
		return;
	if (h->staged_count == STAGED_MAX) {
		net->dropped_staged++;
		return;
	}
	h->staged[h->staged_count].to = to;
	h->staged[h->staged_count].id = id;
	h->staged[h->staged_count++].len = len;
}

static void inner_arrived(struct net *net, unsigned at, const struct vpn_rx *rx)
{
	struct host *h = &net->host[at];
	uint8_t wanted[2048];
	uint32_t id, min = INNER_MIN(net->v6);
	unsigned from = rx->data[net->v6 ? 23 : 15] - 1u;
	const struct addr source = inner_address(net, from);

	assert_true(rx->len >= min && from < net->hosts);
	memcpy(&id, rx->data + min - sizeof(id), sizeof(id));
	assert_true(id < net->packets);
	assert_int_equal(net->state[id], PACKET_SENT); /* once */
	net->state[id] = PACKET_ARRIVED;
	inner_fill(net, wanted, from, at, id, rx->len);
	if (net->mark == 3)
		assert_int_equal(rx->data[1] >> (net->v6 ? 4 : 0) & 3, 3);
	else
		assert_memory_equal(rx->data, wanted, rx->len);
	assert_true(rx->peer == vpn_route_addr(h->vpn, &source) || h->succeeds);
	net->arrived++;
}

enum vpn_verdict net_deliver(struct net *net, unsigned i, const struct vpn_endpoint *from,
			     const void *data, size_t len)
{
	struct host *h = &net->host[i];
	uint8_t buffer[2048];
	struct vpn_rx rx = { .data = buffer, .len = (uint32_t)len, .from = from, .tos = net->mark };

	memcpy(buffer, data, len);
	(void)!vpn_open(h->vpn, 0, &rx, 1, net->now_ns);
	h->last_verdict = (enum vpn_verdict)rx.verdict;
	if (rx.verdict == VPN_HANDSHAKE) {
		bool plausible = vpn_receive_plausible(h->vpn, buffer, len);

		h->last_verdict =
			vpn_receive(h->vpn, from, buffer, len, 0, net->now_ns, net_real(net));
		if (h->last_verdict == VPN_OK)
			assert_true(plausible);
	} else if (rx.verdict == VPN_OK) {
		inner_arrived(net, i, &rx);
	}
	h->verdicts[h->last_verdict]++;
	return h->last_verdict;
}

static void wire_arrive(struct net *net, struct datagram *d)
{
	for (unsigned i = 0; i < net->hosts; i++)
		if (net->host[i].vpn && vpn_endpoint_equal(&net->host[i].at, &d->to))
			net_deliver(net, i, &d->from, d->data, d->len);
	free(d);
}

/* ---- time ---------------------------------------------------------------------------------- */

void net_run_to(struct net *net, uint64_t at_ns)
{
	for (;;) {
		uint64_t next = at_ns;

		for (unsigned i = 0; i < net->hosts; i++) {
			uint64_t due = net->host[i].vpn ? vpn_deadline(net->host[i].vpn) : 0;

			if (due && due < next)
				next = due;
		}
		if (net->queued && net->queue[0]->at_ns < next)
			next = net->queue[0]->at_ns;
		if (next > net->now_ns)
			net->now_ns = next;
		if (net->queued && net->queue[0]->at_ns <= net->now_ns)
			wire_arrive(net, queue_take(net));
		for (unsigned i = 0; i < net->hosts; i++)
			if (net->host[i].vpn)
				vpn_run(net->host[i].vpn, net->now_ns, net_real(net));
		if (net->now_ns >= at_ns && !(net->queued && net->queue[0]->at_ns <= at_ns))
			return;
	}
}

void net_run(struct net *net, uint64_t duration_ns)
{
	net_run_to(net, net->now_ns + duration_ns);
}

void net_session(struct net *net, unsigned i, unsigned other)
{
	uint32_t arrived = net->arrived;

	net_send(net, i, other, 100);
	net_run(net, 20 * MS);
	net_send(net, other, i, 100);
	net_run(net, 20 * MS);
	assert_int_equal(net->arrived, arrived + 2);
}
