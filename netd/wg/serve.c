/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The loop of netd-wg; see serve.h.
 *
 *	epoll: device, UDP sockets | wg(8): listening, connections | netd: control listening, link
 *
 * Packets first: after each wait, and again until there is nothing left, a batch each way; every
 * ROUNDS_MAX batches the other descriptors get their turn.  netd may be away at any time: then
 * endpoints and timestamps to report wait (each peer once), and wishes that need it (another port)
 * are refused.
 */
#include "netd/wg/serve.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "common/daemon/log.h"
#include "netd/wg/clients.h"
#include "netd/wg/path.h"
#include "netd/wg/sandbox.h"
#include "netd/wg/uapi.h"

#define ROUNDS_MAX     32
#define EVENTS	       16
#define NS_PER_MS      1000000u
#define REPORT_WAIT_MS 100	  /* changes gather for so long */
#define REPORT_BYTES   (48 << 10) /* of one STATE: fits the socket's buffer whole */
#define REPORT_PEERS   256	  /* more at once: all are reported */
#define START_WAIT_MS  10000
#define SWEEP_MS       1000

struct serve {
	struct wg_link *link; /* NULL: netd is away */
	struct path *path;
	struct clients *clients;
	struct uapi_device device;
	char name[IFNAMSIZ];
	int epoll_fd, control_fd;
	bool stop;
	enum { WANT_NONE, WANT_CLIENT, WANT_LINK } wanting; /* who waits for WANT's answer */
	uint64_t changed[REPORT_PEERS];
	size_t changed_count;
	uint64_t report_all_from; /* with report_all: peers behind this one */
	bool report_all;
	uint64_t report_at_ns, sweep_at_ns;
};

static void watch(int epoll_fd, int fd, bool add, bool read, bool write)
{
	struct epoll_event e = { .events = (read ? EPOLLIN : 0u) | (write ? EPOLLOUT : 0u),
				 .data.fd = fd };

	if (fd >= 0)
		(void)epoll_ctl(epoll_fd, add ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &e);
}

/* ---- what changed, for netd ---- */

static void on_changed(void *ctx, uint64_t peer)
{
	struct serve *s = ctx;

	if (!s->report_at_ns)
		s->report_at_ns = path_now() + (uint64_t)REPORT_WAIT_MS * NS_PER_MS;
	if (s->report_all)
		return;
	for (size_t i = 0; i < s->changed_count; i++)
		if (s->changed[i] == peer)
			return;
	if (s->changed_count == REPORT_PEERS) {
		s->report_all = true;
		s->report_all_from = VPN_NO_PEER;
		s->changed_count = 0;
		return;
	}
	s->changed[s->changed_count++] = peer;
}

/* The next peer to report, VPN_NO_PEER: none. */
static uint64_t next_changed(struct serve *s)
{
	if (s->changed_count)
		return s->changed[--s->changed_count];
	if (!s->report_all)
		return VPN_NO_PEER;
	s->report_all_from = vpn_peer_next(s->device.vpn, s->report_all_from);
	if (s->report_all_from == VPN_NO_PEER)
		s->report_all = false;
	return s->report_all_from;
}

static bool link_has_room(const struct serve *s)
{
	struct pollfd p = { .fd = wg_link_fd(s->link), .events = POLLOUT };

	return poll(&p, 1, 0) == 1 && p.revents & POLLOUT;
}

static void drop_link(struct serve *s)
{
	wg_link_free(s->link);
	s->link = NULL;
	if (s->wanting == WANT_CLIENT)
		clients_answer(s->clients, -ENOTCONN, path_now());
	s->wanting = WANT_NONE;
}

static void report(struct serve *s)
{
	struct wg_text text = { 0 };
	uint64_t peer = VPN_NO_PEER;

	if (!s->link || !link_has_room(s)) { /* later: nothing is forgotten */
		s->report_at_ns = path_now() + (uint64_t)SWEEP_MS * NS_PER_MS;
		return;
	}
	while (text.len < REPORT_BYTES && (peer = next_changed(s)) != VPN_NO_PEER)
		uapi_get_state(&s->device, peer, &text);
	s->report_at_ns = s->changed_count || s->report_all ? path_now() : 0;
	if (text.len && wg_link_send(s->link, WG_STATE, text.data, text.len, NULL, 0))
		drop_link(s);
	wg_text_clear(&text);
}

/* ---- wg(8) ---- */

static void on_get(void *ctx, struct wg_text *to)
{
	struct serve *s = ctx;

	uapi_get(&s->device, false, path_now(), to);
}

/* 0, -errno, or CLIENTS_LATER: `who` gets the answer. */
static int apply_wish(struct serve *s, const struct uapi_wish *wish, int who)
{
	struct wg_want want = { .mark = wish->fwmark, .listen_port = wish->listen_port };
	int fds[2], n = 0;

	if (wish->set_mtu) {
		s->device.mtu = wish->mtu;
		path_set_mtu(s->path, wish->mtu);
	}
	if (!wish->bind)
		return 0;
	if (!s->link)
		return -ENOTCONN;
	if (s->wanting)
		return -EBUSY;
	for (int v6 = 0; v6 < 2; v6++)
		if (io_fd(path_io(s->path), v6) >= 0)
			fds[n++] = io_fd(path_io(s->path), v6);
	if (wg_link_send(s->link, WG_WANT, &want, sizeof(want), fds, (size_t)n)) {
		drop_link(s);
		return -ENOTCONN;
	}
	s->wanting = who;
	return CLIENTS_LATER;
}

static int on_set(void *ctx, char *text)
{
	struct serve *s = ctx;
	struct uapi_wish wish;
	struct err err = { 0 };
	int r = uapi_set(&s->device, text, false, path_now(), &wish, &err);

	if (r) {
		log_warning(s->name, "a setting was refused: %s", err.text);
		return r;
	}
	return apply_wish(s, &wish, WANT_CLIENT);
}

static void on_watch(void *ctx, int fd, bool add, bool read, bool write)
{
	watch(((struct serve *)ctx)->epoll_fd, fd, add, read, write);
}

/* ---- netd ---- */

static void reply(struct serve *s, int code, const char *text, size_t len)
{
	struct wg_text frame = { 0 };
	struct wg_reply head = { .code = code };

	wg_text_add_bytes(&frame, &head, sizeof(head));
	wg_text_add_bytes(&frame, text, len);
	if (frame.failed || wg_link_send(s->link, WG_REPLY, frame.data, frame.len, NULL, 0))
		drop_link(s);
	wg_text_clear(&frame);
}

static void take_set(struct serve *s, struct wg_message *m)
{
	struct uapi_wish wish;
	struct err err = { 0 };
	int r = uapi_set(&s->device, (char *)m->data, true, path_now(), &wish, &err);

	if (!r)
		r = apply_wish(s, &wish, WANT_LINK);
	if (r <= 0 && s->link)
		reply(s, r, err.text, strlen(err.text));
}

static void take_get(struct serve *s)
{
	struct wg_text text = { 0 };

	wg_text_add(&text, "link_version=%u\npid=%d\n", WG_LINK_VERSION, (int)getpid());
	uapi_get(&s->device, true, path_now(), &text);
	path_describe(s->path, &text);
	if (text.failed)
		reply(s, -ENOMEM, "", 0);
	else
		reply(s, 0, text.data, text.len);
	wg_text_clear(&text);
}

/* The descriptor of `bit` among those that came, -1: none.  Taken from the message. */
static int take_fd(struct wg_message *m, uint32_t fds, uint32_t bit)
{
	size_t at = (size_t)__builtin_popcount(fds & (bit - 1));
	int fd;

	if (!(fds & bit) || at >= m->fd_count)
		return -1;
	fd = m->fds[at];
	m->fds[at] = -1;
	return fd;
}

static void take_udp(struct serve *s, struct wg_message *m, uint32_t fds, bool gso)
{
	int fd4 = take_fd(m, fds, WG_FD_UDP4), fd6 = take_fd(m, fds, WG_FD_UDP6);

	io_set_sockets(path_io(s->path), fd4, fd6, gso);
	watch(s->epoll_fd, fd4, true, true, false);
	watch(s->epoll_fd, fd6, true, true, false);
}

static void answer_want(struct serve *s, int code, const char *text)
{
	int who = s->wanting;

	s->wanting = WANT_NONE;
	if (who == WANT_CLIENT)
		clients_answer(s->clients, code, path_now());
	else if (who == WANT_LINK)
		reply(s, code, text, strlen(text));
}

static void take_sockets(struct serve *s, struct wg_message *m)
{
	struct wg_sockets sockets;

	if (m->len != sizeof(sockets)) {
		drop_link(s);
		return;
	}
	memcpy(&sockets, m->data, sizeof(sockets));
	if (sockets.fds)
		take_udp(s, m, sockets.fds, sockets.gso);
	s->device.listen_port = sockets.listen_port;
	s->device.fwmark = sockets.mark;
	vpn_peer_clear_source(s->device.vpn, VPN_NO_PEER);
	answer_want(s, 0, "");
}

static void take_refused(struct serve *s, struct wg_message *m)
{
	struct wg_reply why = { .code = -EPERM };
	const char *text = "";

	if (m->len >= sizeof(why)) {
		memcpy(&why, m->data, sizeof(why));
		text = (const char *)m->data + sizeof(why);
	}
	answer_want(s, why.code < 0 ? why.code : -EPERM, text);
}

static void take_message(struct serve *s, struct wg_message *m)
{
	switch (m->type) {
	case WG_SET:
		take_set(s, m);
		break;
	case WG_GET:
		take_get(s);
		break;
	case WG_SOCKETS:
		take_sockets(s, m);
		break;
	case WG_REFUSED:
		take_refused(s, m);
		break;
	case WG_STOP:
		s->stop = true;
		break;
	default:
		drop_link(s);
	}
	wg_message_done(m);
}

static void read_link(struct serve *s)
{
	struct wg_message m;
	int r = 0;

	while (s->link && !s->stop && (r = wg_link_receive(s->link, &m)) > 0)
		take_message(s, &m);
	if (s->link && r < 0)
		drop_link(s);
}

static void accept_link(struct serve *s)
{
	struct wg_link *link;
	int fd = accept4(s->control_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0 || wg_link_new(fd, &link))
		return;
	if (s->link)
		drop_link(s);
	s->link = link;
	watch(s->epoll_fd, fd, true, true, false);
	log_debug(s->name, "netd is back");
}

/* ---- loop ---- */

static void dispatch(struct serve *s, int fd, uint64_t now_ns)
{
	if (fd == s->control_fd)
		accept_link(s);
	else if (s->link && fd == wg_link_fd(s->link))
		read_link(s);
	else
		(void)clients_ready(s->clients, fd, now_ns);
}

/* Other duties; how long until the next: milliseconds, -1: none. */
static int run_duties(struct serve *s)
{
	uint64_t now_ns = path_now();

	if (s->report_at_ns && s->report_at_ns <= now_ns)
		report(s);
	if (clients_any(s->clients) && s->sweep_at_ns <= now_ns) {
		clients_sweep(s->clients, now_ns);
		s->sweep_at_ns = now_ns + (uint64_t)SWEEP_MS * NS_PER_MS;
	}
	if (s->report_at_ns)
		return REPORT_WAIT_MS;
	return clients_any(s->clients) ? SWEEP_MS : -1;
}

static int shorter(int a, int b)
{
	return a < 0 ? b : b < 0 ? a : a < b ? a : b;
}

int serve_run(struct serve *s)
{
	struct epoll_event events[EVENTS];
	bool busy = false;

	while (!s->stop) {
		int wait_ms = shorter(run_duties(s), path_run_timers(s->path));
		int n = epoll_wait(s->epoll_fd, events, EVENTS, busy ? 0 : wait_ms);
		uint64_t now_ns = path_now();

		for (int i = 0; i < n; i++)
			dispatch(s, events[i].data.fd, now_ns);
		busy = false;
		for (int round = 0; round < ROUNDS_MAX; round++) {
			busy = path_work(s->path);
			if (!busy)
				break;
		}
		if (!s->link && s->control_fd < 0)
			return EXIT_FAILURE; /* nobody could ever stop it */
		if (path_is_gone(s->path)) {
			log_warning(s->name, "the device was deleted");
			return EXIT_FAILURE;
		}
	}
	return EXIT_SUCCESS;
}

/* ---- start ---- */

static int receive_start(struct wg_link *link, struct wg_message *m, struct err *err)
{
	struct pollfd p = { .fd = wg_link_fd(link), .events = POLLIN };
	int r = 0;

	while (!r && poll(&p, 1, START_WAIT_MS) > 0)
		r = wg_link_receive(link, m);
	if (r <= 0)
		return err_sys(err, r ? r : -ETIMEDOUT, "no start from netd");
	if (m->type != WG_START || m->len != sizeof(struct wg_start))
		return err_set(err, -EPROTO, "netd speaks another version");
	return 0;
}

static int build(struct serve *s, const struct wg_start *start, struct wg_message *m,
		 struct err *err)
{
	const struct path_config config = {
		.device = take_fd(m, start->fds, WG_FD_DEVICE),
		.offload = start->offload,
		.uso = start->uso,
		.mtu = start->mtu,
		.changed = on_changed,
		.ctx = s,
	};
	const struct clients_ops ops = {
		.get = on_get, .set = on_set, .watch = on_watch, .ctx = s
	};
	int r;

	s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (s->epoll_fd < 0)
		return err_sys(err, -errno, "epoll");
	if (config.device < 0)
		return err_set(err, -EPROTO, "no device came with the start");
	r = path_new(&config, &s->path, err);
	if (r)
		return r;
	s->device = (struct uapi_device){ .vpn = path_vpn(s->path),
					  .listen_port = start->listen_port,
					  .fwmark = start->mark,
					  .mtu = start->mtu };
	take_udp(s, m, start->fds, start->gso);
	watch(s->epoll_fd, config.device, true, true, false);
	s->control_fd = take_fd(m, start->fds, WG_FD_CONTROL);
	watch(s->epoll_fd, s->control_fd, true, true, false);
	watch(s->epoll_fd, wg_link_fd(s->link), true, true, false);
	r = clients_new(&ops, take_fd(m, start->fds, WG_FD_UAPI), &s->clients);
	return r ? err_sys(err, r, "clients") : 0;
}

static int start(struct serve *s, struct err *err)
{
	struct wg_start start;
	struct wg_message m;
	bool locked;
	int r = receive_start(s->link, &m, err);

	if (r)
		return r;
	memcpy(&start, m.data, sizeof(start));
	start.name[IFNAMSIZ - 1] = 0;
	memcpy(s->name, start.name, sizeof(s->name));
	r = start.version == WG_LINK_VERSION
		    ? build(s, &start, &m, err)
		    : err_set(err, -EPROTO, "netd speaks version %u of the link, this netd-wg %u",
			      start.version, WG_LINK_VERSION);
	wg_message_done(&m);
	if (r)
		return r;
	tzset(); /* while its file can be opened: for the log */
	r = sandbox_enter(&locked, err);
	if (!r && !locked)
		log_warning(s->name, "memory with keys may be swapped out (LimitMEMLOCK=infinity "
				     "would avoid that)");
	return r;
}

int serve_new(struct wg_link *link, struct serve **ret, struct err *err)
{
	struct serve *s = calloc(1, sizeof(*s));
	int r;

	if (!s) {
		wg_link_free(link);
		return err_sys(err, -ENOMEM, "netd-wg");
	}
	s->epoll_fd = s->control_fd = -1;
	s->link = link;
	r = start(s, err);
	reply(s, r, r ? err->text : "", r ? strlen(err->text) : 0);
	if (r) {
		serve_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void serve_free(struct serve *s)
{
	if (!s)
		return;
	wg_link_free(s->link);
	clients_free(s->clients);
	path_free(s->path);
	if (s->control_fd >= 0)
		close(s->control_fd);
	if (s->epoll_fd >= 0)
		close(s->epoll_fd);
	free(s);
}
