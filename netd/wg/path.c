/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The data path; see path.h.
 *
 * Out.  Frames are read one behind the other into an arena until it holds a superframe's worth or
 * the device has no more.  Neighbours that go to one peer are one leave (vpn_send_begin).  Each
 * packet is copied to where it goes out from, sealed there, and the lot is sent.  A batch is small
 * enough to stay in the second-level cache, and the receiver can open the first half while the
 * second is read: more in one go measured slower.
 *
 * In.  Up to eight messages (of up to 64 datagrams) are received, opened in place, joined, written.
 *
 * Handshakes.  A message is put aside until the packets that came with it, and those that wait in
 * the device, are gone; then some are answered, for at most half a millisecond.  So a flood of them
 * delays a packet by no more than that, however many came in one message of the socket.
 *
 * Answers that the kernel makes while it takes a packet (an echo, an acknowledgment) lie in the
 * device when the write returns: path_work() does the wire first and the device then, so they leave
 * in the same turn.
 */
#include "netd/wg/path.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "netd/wg/backlog.h"
#include "netd/wg/stage.h"
#include "vpn/offload/clamp.h"
#include "vpn/offload/coalesce.h"
#include "vpn/offload/split.h"

#define READ_ENOUGH	(60 << 10) /* bytes: then it is sealed */
#define READ_ROOM	(sizeof(struct virtio_net_hdr) + SPLIT_FRAME_MAX)
#define READ_ARENA	(READ_ENOUGH + READ_ROOM + 4096)
#define READ_FRAMES	64
#define WORKER		0
#define NS_PER_S	1000000000u
#define NS_PER_MS	1000000u
#define REFUSED_MAX	16 /* superframes in a row that the device refuses: then none are made */
#define STAGED_BYTES	9216
#define ANSWERS_MAX	64 /* handshake messages in one turn */
#define ANSWERS_NS	(NS_PER_MS / 2)
#define INITIATIONS_MAX 8 /* of ours in one run of the timers: as long */

struct frame {
	struct split split;
	uint64_t peer;
	size_t count;
};

struct path {
	struct vpn *vpn;
	struct io *io;
	struct coalesce *coalesce;
	struct stage *stage;
	struct backlog *backlog;
	int device;
	bool offload, uso, gone;
	uint16_t mtu;
	unsigned refused;
	void (*changed)(void *ctx, uint64_t peer);
	void *ctx;
	struct path_counters counters;
	uint64_t now_ns;

	uint8_t *arena; /* frames read */
	struct frame frames[READ_FRAMES];

	struct vpn_packet batch[IO_BATCH_MAX]; /* laid down, not yet sealed */
	uint8_t batch_tos[IO_BATCH_MAX];
	uint32_t batch_count, batch_first;
	size_t batch_bytes;

	struct vpn_rx rx[VPN_BATCH_MAX];
	uint32_t rx_count;
};

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

uint64_t path_now(void)
{
	return clock_ns(CLOCK_BOOTTIME);
}

uint64_t path_real(void)
{
	return clock_ns(CLOCK_REALTIME);
}

/* ---- out: sealing ---- */

static void seal_batch(struct path *p, const struct vpn_tx *tx)
{
	if (!p->batch_count)
		return;
	vpn_seal(tx, WORKER, p->batch_first, p->batch, p->batch_count);
	for (uint32_t i = 0; i < p->batch_count; i++)
		io_queue(p->io, &tx->to, p->batch_tos[i], p->batch[i].len);
	p->batch_first += p->batch_count;
	p->batch_count = 0;
	p->batch_bytes = 0;
}

static void put_packet(struct path *p, const struct vpn_tx *tx, const uint8_t *packet, size_t len)
{
	size_t sealed = vpn_sealed_len((uint32_t)len, tx->mtu);
	uint8_t *room =
		p->batch_count == IO_BATCH_MAX ? NULL : io_room(p->io, p->batch_bytes + sealed);

	if (!room) {
		seal_batch(p, tx);
		room = io_room(p->io, sealed);
	}
	if (!room) {
		io_flush(p->io);
		room = io_room(p->io, sealed);
	}
	room += p->batch_bytes;
	memcpy(room + VPN_HEADROOM, packet, len);
	p->batch_tos[p->batch_count] = vpn_ecn_outer(packet, len);
	p->batch[p->batch_count++] =
		(struct vpn_packet){ .data = room + VPN_HEADROOM, .len = (uint32_t)len };
	p->batch_bytes += sealed;
}

static void put_frame(struct path *p, const struct vpn_tx *tx, struct frame *f)
{
	uint8_t *packet;
	size_t len;

	while (split_next(&f->split, &packet, &len))
		put_packet(p, tx, packet, len);
}

static void stage_frame(struct path *p, struct frame *f)
{
	uint8_t *packet;
	size_t len;

	while (split_next(&f->split, &packet, &len))
		p->counters.no_session += stage_put(p->stage, f->peer, packet, len);
}

/* Frames first .. end - 1, all for one peer. */
static void send_frames(struct path *p, size_t first, size_t end)
{
	uint64_t peer = p->frames[first].peer, bytes = 0;
	struct vpn_tx tx;
	size_t count = 0;
	int r;

	for (size_t i = first; i < end; i++) {
		count += p->frames[i].count;
		bytes += p->frames[i].split.len;
	}
	if (peer == VPN_NO_PEER) {
		p->counters.no_peer += count;
		return;
	}
	r = vpn_send_begin(p->vpn, peer, (uint32_t)count, bytes, p->now_ns, &tx);
	if (r == -EAGAIN) {
		for (size_t i = first; i < end; i++)
			stage_frame(p, &p->frames[i]);
		return;
	}
	if (r) {
		p->counters.no_endpoint += count;
		return;
	}
	p->batch_first = 0;
	for (size_t i = first; i < end; i++)
		put_frame(p, &tx, &p->frames[i]);
	seal_batch(p, &tx);
	vpn_send_end(p->vpn, &tx);
}

/* A session came up: what waited for it goes. */
static void send_staged(struct path *p, uint64_t peer)
{
	size_t count = stage_count(p->stage, peer), len;
	struct vpn_tx tx;

	if (!count || vpn_send_begin(p->vpn, peer, (uint32_t)count, 0, p->now_ns, &tx))
		return;
	p->batch_first = 0;
	for (size_t i = 0; i < count; i++) {
		uint8_t *packet = stage_take(p->stage, peer, &len);

		put_packet(p, &tx, packet, len);
	}
	seal_batch(p, &tx);
	vpn_send_end(p->vpn, &tx);
}

/* ---- out: reading the device ---- */

static bool take_frame(struct path *p, struct frame *f, uint8_t *read_at, size_t len)
{
	struct virtio_net_hdr vnet;
	uint8_t *packet = read_at + sizeof(vnet);
	bool partial;

	if (len <= sizeof(vnet)) {
		p->counters.frames_bad++;
		return false;
	}
	memcpy(&vnet, read_at, sizeof(vnet));
	len -= sizeof(vnet);
	partial = vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM;
	if (vnet.gso_type == VIRTIO_NET_HDR_GSO_NONE)
		p->counters.clamped += clamp_mss(packet, len, p->mtu, partial);
	f->peer = vpn_route(p->vpn, packet, len);
	if (split_begin(&f->split, &vnet, packet, len, 0)) {
		p->counters.frames_bad++;
		return false;
	}
	f->count = split_count(&f->split);
	p->counters.frames_read++;
	p->counters.packets_read += f->count;
	return true;
}

static bool device_to_wire(struct path *p)
{
	size_t used = 0, count = 0, reads = 0, first;

	while (used < READ_ENOUGH && reads < READ_FRAMES) {
		ssize_t n = read(p->device, p->arena + used, READ_ROOM);

		if (n <= 0) {
			p->gone = n < 0 && errno == EBADFD;
			break;
		}
		reads++;
		count += take_frame(p, &p->frames[count], p->arena + used, (size_t)n);
		used += ((size_t)n + 63) & ~(size_t)63;
	}
	for (size_t i = 0; i < count;) {
		first = i;
		while (i < count && p->frames[i].peer == p->frames[first].peer)
			i++;
		send_frames(p, first, i);
	}
	io_flush(p->io);
	return reads > 0;
}

/* ---- in ---- */

/* The device refused a superframe: its packets one by one. */
static void write_apart(struct path *p, const struct iovec *iov, size_t n)
{
	static const struct virtio_net_hdr none;
	uint8_t *flat = p->arena, *packet;
	struct split s;
	size_t len = 0;

	for (size_t i = 1; i < n; i++) {
		memcpy(flat + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
	}
	p->counters.joined_refused++;
	if (++p->refused == REFUSED_MAX)
		coalesce_set(p->coalesce, false, false);
	if (split_begin(&s, iov[0].iov_base, flat, len, 0))
		return;
	while (split_next(&s, &packet, &len)) {
		struct iovec one[2] = { { (void *)(uintptr_t)&none, sizeof(none) },
					{ packet, len } };

		if (writev(p->device, one, 2) < 0)
			p->counters.write_errors++;
	}
}

static void write_joined(struct path *p)
{
	struct iovec iov[COALESCE_IOV_MAX];
	size_t count = coalesce_frame_count(p->coalesce);

	for (size_t i = 0; i < count; i++) {
		size_t n = coalesce_frame(p->coalesce, i, iov);

		p->counters.frames_written++;
		p->counters.packets_written += n - 1;
		if (writev(p->device, iov, (int)n) >= 0) {
			p->refused = n > 2 ? 0 : p->refused;
			continue;
		}
		if (errno == EINVAL && n > 2)
			write_apart(p, iov, n);
		else
			p->counters.write_errors++;
	}
	coalesce_reset(p->coalesce);
}

static void deliver(struct path *p, struct vpn_rx *rx)
{
	switch ((enum vpn_verdict)rx->verdict) {
	case VPN_OK:
		p->counters.clamped += clamp_mss(rx->data, rx->len, p->mtu, false);
		if (!coalesce_add(p->coalesce, rx->data, rx->len)) {
			write_joined(p);
			(void)!coalesce_add(p->coalesce, rx->data, rx->len);
		}
		return;
	case VPN_HANDSHAKE:
		p->counters.backlog_full += !backlog_put(p->backlog, rx->from, rx->data, rx->len);
		return;
	case VPN_KEEPALIVE:
	case VPN_MALFORMED:
	case VPN_NO_SESSION:
	case VPN_FORGED:
	case VPN_REPLAYED:
	case VPN_UNKNOWN:
	case VPN_LIMITED:
	case VPN_COOKIE:
	case VPN_INNER:
	case VPN_SOURCE:
	case VPN_ECN:
	case VPN_NO_KEY:
	case VPN_NO_MEMORY:
		return; /* counted by vpn/ */
	}
}

static void open_batch(struct path *p)
{
	uint32_t count = p->rx_count;

	if (!count)
		return;
	(void)!vpn_open(p->vpn, WORKER, p->rx, count, p->now_ns);
	for (uint32_t i = 0; i < count; i++)
		deliver(p, &p->rx[i]);
	p->rx_count = 0;
}

static void take_message(struct path *p, struct io_message *m)
{
	size_t at = 0;

	do { /* an empty one is a datagram as well: counted as what it is */
		size_t left = m->len - at;

		p->rx[p->rx_count++] = (struct vpn_rx){
			.data = m->data + at,
			.len = (uint32_t)(left < m->segment ? left : m->segment),
			.from = &m->from,
			.tos = m->tos,
		};
		if (p->rx_count == VPN_BATCH_MAX)
			open_batch(p);
		at += m->segment;
	} while (at < m->len);
}

static bool wire_to_device(struct path *p, bool v6)
{
	size_t count = io_receive(p->io, v6);

	for (size_t i = 0; i < count; i++)
		take_message(p, io_message(p->io, i));
	open_batch(p);
	write_joined(p);
	return count > 0;
}

static bool answer_handshakes(struct path *p)
{
	const struct backlog_message *m;
	uint64_t end_ns = 0, real_ns = 0;

	for (int i = 0; i < ANSWERS_MAX && (!i || path_now() < end_ns); i++) {
		m = backlog_take(p->backlog);
		if (!m)
			break;
		if (!i) {
			end_ns = path_now() + ANSWERS_NS;
			real_ns = path_real();
		}
		(void)vpn_receive(p->vpn, &m->from, m->data, m->len, backlog_count(p->backlog),
				  p->now_ns, real_ns);
	}
	io_flush(p->io);
	return end_ns > 0;
}

bool path_work(struct path *p)
{
	bool any;

	p->now_ns = path_now();
	any = wire_to_device(p, false);
	any |= wire_to_device(p, true);
	any |= device_to_wire(p);
	any |= answer_handshakes(p);
	return any;
}

int path_run_timers(struct path *p)
{
	uint64_t deadline = vpn_deadline(p->vpn);

	p->now_ns = path_now();
	if (deadline && deadline <= p->now_ns) {
		vpn_run(p->vpn, p->now_ns, path_real());
		io_flush(p->io);
		deadline = vpn_deadline(p->vpn);
	}
	if (!deadline)
		return -1;
	if (deadline <= p->now_ns)
		return 0;
	deadline = (deadline - p->now_ns) / NS_PER_MS + 1;
	return deadline > NS_PER_S ? (int)NS_PER_S : (int)deadline;
}

/* ---- what the protocol asks for ---- */

static void on_send(void *ctx, uint64_t peer, const struct vpn_endpoint *to, const uint8_t *msg,
		    size_t len, uint8_t tos)
{
	struct path *p = ctx;
	uint8_t *room = io_room(p->io, len);

	(void)peer;
	if (!room) {
		io_flush(p->io);
		room = io_room(p->io, len);
	}
	memcpy(room, msg, len);
	io_queue(p->io, to, tos, len);
}

static void on_session_up(void *ctx, uint64_t peer)
{
	send_staged(ctx, peer);
}

static void on_gave_up(void *ctx, uint64_t peer)
{
	struct path *p = ctx;

	p->counters.no_session += stage_drop(p->stage, peer);
}

static void on_roamed(void *ctx, uint64_t peer, const struct vpn_endpoint *to)
{
	struct path *p = ctx;

	(void)to;
	if (p->changed)
		p->changed(p->ctx, peer);
}

static void on_handshake_done(void *ctx, uint64_t peer, bool initiator)
{
	(void)initiator;
	on_roamed(ctx, peer, NULL);
}

/* ---- object ---- */

static int open_vpn(struct path *p, struct err *err)
{
	const struct vpn_config config = {
		.ops = { .send = on_send,
			 .session_up = on_session_up,
			 .gave_up = on_gave_up,
			 .roamed = on_roamed,
			 .handshake_done = on_handshake_done },
		.ctx = p,
		.workers = 1,
		.mtu = p->mtu,
		.aead = VPN_AEAD_AUTO,
		.initiations_per_run = INITIATIONS_MAX,
	};

	return vpn_new(&config, &p->vpn, err);
}

int path_new(const struct path_config *config, struct path **ret, struct err *err)
{
	struct path *p = calloc(1, sizeof(*p));
	void *arena = mmap(NULL, READ_ARENA, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	int r = -ENOMEM;

	if (!p || arena == MAP_FAILED) {
		free(p);
		return err_sys(err, r, "data path");
	}
	p->arena = arena;
	p->device = config->device;
	p->offload = config->offload;
	p->uso = config->uso;
	p->mtu = config->mtu;
	p->changed = config->changed;
	p->ctx = config->ctx;
	p->now_ns = path_now();
	r = io_new(&p->io);
	if (!r)
		r = coalesce_new((size_t)IO_MESSAGES_IN * IO_SEGMENTS_MAX * 2, 0, p->offload,
				 p->offload && p->uso, &p->coalesce);
	if (!r)
		r = stage_new(p->mtu > STAGED_BYTES ? p->mtu : STAGED_BYTES, &p->stage);
	if (!r)
		r = backlog_new(&p->backlog);
	if (r) {
		err_sys(err, r, "data path");
	} else {
		r = open_vpn(p, err);
	}
	if (r) {
		p->device = -1;
		path_free(p);
		return r;
	}
	*ret = p;
	return 0;
}

void path_free(struct path *p)
{
	if (!p)
		return;
	vpn_free(p->vpn);
	coalesce_free(p->coalesce);
	stage_free(p->stage);
	backlog_free(p->backlog);
	io_free(p->io);
	if (p->device >= 0)
		close(p->device);
	munmap(p->arena, READ_ARENA);
	free(p);
}

struct vpn *path_vpn(struct path *p)
{
	return p->vpn;
}

struct io *path_io(struct path *p)
{
	return p->io;
}

int path_device(const struct path *p)
{
	return p->device;
}

const struct path_counters *path_counters(const struct path *p)
{
	return &p->counters;
}

void path_set_mtu(struct path *p, uint16_t mtu)
{
	p->mtu = mtu;
	vpn_set_mtu(p->vpn, mtu);
}

bool path_is_gone(const struct path *p)
{
	return p->gone;
}

void path_describe(const struct path *p, struct wg_text *to)
{
	const struct path_counters *c = &p->counters;
	const struct io_counters *i = io_counters(p->io);
	const struct {
		const char *name;
		uint64_t value;
	} rows[] = {
		{ "device_read_frames", c->frames_read },
		{ "device_read_packets", c->packets_read },
		{ "device_written_frames", c->frames_written },
		{ "device_written_packets", c->packets_written },
		{ "device_bad_frames", c->frames_bad },
		{ "device_write_errors", c->write_errors },
		{ "device_refused_superframes", c->joined_refused },
		{ "no_peer", c->no_peer },
		{ "no_session_dropped", c->no_session },
		{ "no_endpoint", c->no_endpoint },
		{ "mss_clamped", c->clamped },
		{ "handshake_backlog_full", c->backlog_full },
		{ "udp_messages_in", i->messages_in },
		{ "udp_datagrams_in", i->datagrams_in },
		{ "udp_messages_out", i->messages_out },
		{ "udp_datagrams_out", i->datagrams_out },
		{ "udp_send_errors", i->send_errors },
		{ "udp_send_full", i->send_full },
		{ "udp_segment_refused", i->gso_refused },
		{ "udp_sources_dropped", i->sources_dropped },
	};

	wg_text_add(to, "udp_segment=%d\n", io_gso(p->io));
	for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++)
		wg_text_add(to, "count_%s=%llu\n", rows[k].name, (unsigned long long)rows[k].value);
}
