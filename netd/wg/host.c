/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * netd's side of a tunnel; see host.h.
 *
 *	open	connect to RUN/NAME.sock: somebody answers GET in our version -> adopted
 *		else device, UDP sockets, RUN/NAME.sock, UAPI/NAME.sock; socketpair; netd-wg; START
 *	crash	EOF on the link -> the same without a new device: that is persistent
 *
 * The UDP port stays the one that was bound first, also where any would do, so that peers find it
 * after a restart.  While one waits for an answer, what else netd-wg says is taken on the way.
 */
#include "netd/wg/host.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "common/base/cleanup.h"
#include "common/base/units.h"
#include "netd/wg/link.h"
#include "netd/wg/memory.h"
#include "netd/wg/sockets.h"

#define ANSWER_WAIT_MS 2000
#define END_WAIT_MS    2000
#define LINK_FD	       3 /* in the new process */
#define PROGRAM	       "netd-wg"
#define PATH_LEN       sizeof(((struct sockaddr_un *)0)->sun_path)

extern char **environ;

struct wg_host {
	struct wg_host_config config;
	char *program, *run, *uapi; /* what config points to */
	char control_path[PATH_LEN], uapi_path[PATH_LEN];
	struct wg_link *link; /* NULL: no process */
	struct wg_memory *memory;
	pid_t pid;
	bool is_child; /* ours to reap */
};

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ---- frames ---- */

static int send_sockets(struct wg_host *h, const struct wg_udp_sockets *udp)
{
	const struct wg_sockets frame = {
		.fds = WG_FD_UDP4 | (udp->fd6 >= 0 ? WG_FD_UDP6 : 0u),
		.mark = udp->mark,
		.listen_port = udp->port,
		.gso = udp->gso,
	};
	const int fds[] = { udp->fd4, udp->fd6 };

	return wg_link_send(h->link, WG_SOCKETS, &frame, sizeof(frame), fds, udp->fd6 >= 0 ? 2 : 1);
}

/* Another port: other sockets.  Those there are stay open until netd-wg has the new ones. */
static int open_and_send(struct wg_host *h, uint16_t port, uint32_t mark, struct err *err)
{
	struct wg_udp_sockets udp;
	int r = wg_udp_open(port, mark, !h->config.no_offload, &udp, err);

	if (r)
		return r;
	r = send_sockets(h, &udp);
	if (r) {
		err_sys(err, r, "tunnel %s", h->config.name);
	} else {
		h->config.listen_port = udp.port;
		h->config.mark = mark;
	}
	wg_udp_close(&udp);
	return r;
}

/* The same port: a mark for the sockets that came along. */
static int mark_sockets(struct wg_host *h, const struct wg_message *m, uint32_t mark)
{
	const struct wg_sockets same = { .mark = mark, .listen_port = h->config.listen_port };

	for (size_t i = 0; i < m->fd_count; i++)
		if (setsockopt(m->fds[i], SOL_SOCKET, SO_MARK, &mark, sizeof(mark)))
			return -errno;
	h->config.mark = mark;
	return wg_link_send(h->link, WG_SOCKETS, &same, sizeof(same), NULL, 0);
}

static int take_want(struct wg_host *h, const struct wg_message *m)
{
	struct wg_want want;
	struct wg_reply refused;
	struct err err = { 0 };
	struct wg_text text = { 0 };
	int r;

	if (m->len != sizeof(want))
		return -EPROTO;
	memcpy(&want, m->data, sizeof(want));
	if (want.listen_port && want.listen_port == h->config.listen_port)
		refused.code = mark_sockets(h, m, want.mark);
	else
		refused.code = open_and_send(h, want.listen_port, want.mark, &err);
	if (!refused.code)
		return 0;
	wg_text_add_bytes(&text, &refused, sizeof(refused));
	wg_text_add(&text, "%.400s", err.text);
	r = wg_link_send(h->link, WG_REFUSED, text.data, text.len, NULL, 0);
	wg_text_clear(&text);
	return r;
}

/* What comes unasked.  -EPROTO: neither. */
static int take_news(struct wg_host *h, const struct wg_message *m)
{
	switch (m->type) {
	case WG_STATE:
		wg_memory_learn(h->memory, (const char *)m->data);
		return 0;
	case WG_WANT:
		return take_want(h, m);
	default:
		return -EPROTO;
	}
}

static void reap(struct wg_host *h)
{
	if (h->pid > 0 && h->is_child) {
		uint64_t end = now_ms() + END_WAIT_MS;

		while (waitpid(h->pid, NULL, WNOHANG) == 0) {
			if (now_ms() >= end) {
				kill(h->pid, SIGKILL);
				end = UINT64_MAX;
			}
			poll(NULL, 0, 1);
		}
	}
	h->pid = 0;
	h->is_child = false;
}

static int lost(struct wg_host *h, int r, struct err *err)
{
	wg_link_free(h->link);
	h->link = NULL;
	if (h->pid > 0 && h->is_child)
		kill(h->pid, SIGKILL); /* it may live and speak nonsense */
	reap(h);
	(void)r;
	return err_set(err, -ECONNRESET, "tunnel %s: netd-wg ended", h->config.name);
}

int wg_host_process(struct wg_host *h, struct err *err)
{
	struct wg_message m;
	int r;

	if (!h->link)
		return err_set(err, -ECONNRESET, "tunnel %s: no netd-wg", h->config.name);
	while ((r = wg_link_receive(h->link, &m)) > 0) {
		r = take_news(h, &m);
		wg_message_done(&m);
		if (r)
			break;
	}
	return r < 0 ? lost(h, r, err) : 0;
}

static int take_reply(const struct wg_host *h, const struct wg_message *m, char **ret_text,
		      struct err *err)
{
	const char *text = (const char *)m->data + sizeof(struct wg_reply);
	int code;

	memcpy(&code, m->data, sizeof(code));
	if (code)
		return err_set(err, code < 0 ? code : -EPROTO, "tunnel %s: %.400s", h->config.name,
			       text);
	if (!ret_text)
		return 0;
	*ret_text = strdup(text);
	return *ret_text ? 0 : err_sys(err, -ENOMEM, "tunnel %s", h->config.name);
}

/* Wait for the REPLY.  0: *ret_text is what follows the code (the caller frees and cleans). */
static int wait_reply(struct wg_host *h, char **ret_text, struct err *err)
{
	uint64_t end = now_ms() + ANSWER_WAIT_MS, now;
	struct wg_message m;
	int r;

	for (;;) {
		struct pollfd p = { .fd = wg_link_fd(h->link), .events = POLLIN };

		r = wg_link_receive(h->link, &m);
		if (r < 0)
			return lost(h, r, err);
		if (r > 0 && m.type == WG_REPLY && m.len >= sizeof(struct wg_reply))
			break;
		if (r > 0) {
			r = take_news(h, &m);
			wg_message_done(&m);
			if (r)
				return lost(h, r, err);
			continue;
		}
		now = now_ms();
		if (now >= end)
			return err_set(err, -ETIMEDOUT, "tunnel %s: netd-wg does not answer",
				       h->config.name);
		(void)poll(&p, 1, (int)(end - now));
	}
	wg_message_done(&m);
	r = take_reply(h, &m, ret_text, err);
	wg_link_forget(h->link); /* it may say keys */
	return r;
}

static int ask(struct wg_host *h, uint32_t type, const char *text, char **ret_text, struct err *err)
{
	int r;

	if (!h->link)
		return err_set(err, -ENOTCONN, "tunnel %s: no netd-wg", h->config.name);
	r = wg_link_send(h->link, type, text, text ? strlen(text) : 0, NULL, 0);
	return r ? lost(h, r, err) : wait_reply(h, ret_text, err);
}

/* ---- starting one ---- */

static char *find_program(const char *wanted)
{
	char path[4096];
	ssize_t n;
	char *slash, *found;

	if (wanted)
		return strdup(wanted);
	n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	if (n <= 0)
		return strdup(PROGRAM);
	path[n] = 0;
	slash = strrchr(path, '/');
	if (!slash || asprintf(&found, "%.*s/%s", (int)(slash - path), path, PROGRAM) < 0)
		return strdup(PROGRAM);
	return found;
}

static int spawn(struct wg_host *h, int fd, struct err *err)
{
	char fd_text[UNITS_TEXT_MAX];
	char *argv[] = { h->program, (char *)"--link", fd_text, h->config.name, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none;
	int r;

	snprintf(fd_text, sizeof(fd_text), "%d", LINK_FD);
	sigemptyset(&none);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	/* Also when it has that number: dup2 takes close-on-exec away. */
	posix_spawn_file_actions_adddup2(&actions, fd, LINK_FD);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK);
	r = posix_spawnp(&h->pid, h->program, &actions, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	if (r) {
		h->pid = 0;
		return err_sys(err, -r, "%s", h->program);
	}
	h->is_child = true;
	return 0;
}

struct parts {
	struct wg_device device;
	struct wg_udp_sockets udp;
	int uapi_fd, control_fd;
};

static void close_parts(struct parts *p)
{
	if (p->device.fd >= 0)
		close(p->device.fd);
	wg_udp_close(&p->udp);
	if (p->uapi_fd >= 0)
		close(p->uapi_fd);
	if (p->control_fd >= 0)
		close(p->control_fd);
}

static int make_parts(struct wg_host *h, struct parts *p, struct err *err)
{
	const struct wg_host_config *c = &h->config;
	bool offload = !c->no_offload;
	int r = wg_device_open(c->name, false, c->mtu, offload, &p->device, err);

	if (!r)
		r = wg_udp_open(c->listen_port, c->mark, offload, &p->udp, err);
	if (!r)
		r = wg_listen(c->run, c->name, h->control_path, &p->control_fd, err);
	if (!r && c->uapi)
		r = wg_listen(c->uapi, c->name, h->uapi_path, &p->uapi_fd, err);
	return r ? err_context(err, "tunnel %s", c->name) : 0;
}

static int send_start(struct wg_host *h, const struct parts *p, struct err *err)
{
	struct wg_start start = {
		.version = WG_LINK_VERSION,
		.mtu = h->config.mtu,
		.listen_port = p->udp.port,
		.mark = h->config.mark,
		.offload = !h->config.no_offload,
		.uso = p->device.uso,
		.gso = p->udp.gso,
	};
	const struct {
		uint32_t bit;
		int fd;
	} all[] = {
		{ WG_FD_DEVICE, p->device.fd },	  { WG_FD_UDP4, p->udp.fd4 },
		{ WG_FD_UDP6, p->udp.fd6 },	  { WG_FD_UAPI, p->uapi_fd },
		{ WG_FD_CONTROL, p->control_fd },
	};
	int fds[WG_LINK_FDS_MAX];
	size_t n = 0;
	int r;

	memcpy(start.name, h->config.name, sizeof(start.name));
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (all[i].fd < 0)
			continue;
		start.fds |= all[i].bit;
		fds[n++] = all[i].fd;
	}
	r = wg_link_send(h->link, WG_START, &start, sizeof(start), fds, n);
	return r ? lost(h, r, err) : wait_reply(h, NULL, err);
}

static int launch(struct wg_host *h, const struct parts *p, struct err *err)
{
	int pair[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return err_sys(err, -errno, "tunnel %s", h->config.name);
	r = spawn(h, pair[1], err);
	close(pair[1]);
	if (r) {
		close(pair[0]);
		return r;
	}
	r = wg_link_new(pair[0], &h->link);
	if (r)
		return err_sys(err, r, "tunnel %s", h->config.name);
	r = send_start(h, p, err);
	if (!r)
		h->config.listen_port = p->udp.port;
	return r;
}

int wg_host_restart(struct wg_host *h, struct err *err)
{
	struct parts parts = {
		.device.fd = -1, .udp = { .fd4 = -1, .fd6 = -1 }, .uapi_fd = -1, .control_fd = -1
	};
	int r;

	if (h->link)
		(void)lost(h, 0, NULL);
	r = make_parts(h, &parts, err);
	if (!r)
		r = launch(h, &parts, err);
	if (r && h->link)
		(void)lost(h, r, NULL);
	close_parts(&parts);
	return r;
}

/* ---- finding one ---- */

static uint64_t number_of(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	return at && (at == text || at[-1] == '\n') ? strtoull(at + strlen(key), NULL, 10) : 0;
}

/* What runs and speaks our version goes on.  Whatever else answers is told to stop. */
static bool adopt(struct wg_host *h)
{
	char *text = NULL;
	bool ok = false;
	int fd;

	if (wg_connect(h->config.run, h->config.name, &fd) || wg_link_new(fd, &h->link))
		return false;
	if (!ask(h, WG_GET, NULL, &text, NULL)) {
		ok = number_of(text, "link_version=") == WG_LINK_VERSION;
		h->pid = (pid_t)number_of(text, "pid=");
		h->config.listen_port = (uint16_t)number_of(text, "listen_port=");
		h->config.mark = (uint32_t)number_of(text, "fwmark=");
		wg_memory_learn(h->memory, text);
		OPENSSL_cleanse(text, strlen(text));
		free(text);
	}
	if (!ok && h->link) {
		(void)!wg_link_send(h->link, WG_STOP, NULL, 0, NULL, 0);
		wg_link_free(h->link);
		h->link = NULL;
		h->pid = 0;
	}
	return ok;
}

static int copy_config(struct wg_host *h, const struct wg_host_config *c)
{
	h->config = *c;
	h->program = find_program(c->program);
	h->run = strdup(c->run);
	h->uapi = c->uapi ? strdup(c->uapi) : NULL;
	if (!h->program || !h->run || (c->uapi && !h->uapi))
		return -ENOMEM;
	h->config.program = h->program;
	h->config.run = h->run;
	h->config.uapi = h->uapi;
	snprintf(h->control_path, PATH_LEN, "%s/%s.sock", h->run, c->name);
	if (h->uapi)
		snprintf(h->uapi_path, PATH_LEN, "%s/%s.sock", h->uapi, c->name);
	return wg_memory_new(&h->memory);
}

int wg_host_open(const struct wg_host_config *config, struct wg_host **ret, bool *ret_adopted,
		 struct err *err)
{
	struct wg_host *h = calloc(1, sizeof(*h));
	int r = h ? copy_config(h, config) : -ENOMEM;

	if (r) {
		wg_host_close(h);
		return err_sys(err, r, "tunnel %s", config->name);
	}
	*ret_adopted = adopt(h);
	if (!*ret_adopted)
		r = wg_host_restart(h, err);
	else if (h->config.mtu)
		r = wg_host_set_mtu(h, h->config.mtu, err);
	if (r) {
		wg_host_close(h);
		return r;
	}
	*ret = h;
	return 0;
}

void wg_host_close(struct wg_host *h)
{
	if (!h)
		return;
	wg_link_free(h->link);
	wg_memory_free(h->memory);
	free(h->program);
	free(h->run);
	free(h->uapi);
	free(h);
}

/* The device is let go by whoever has it open; the process does when it ends. */
static void remove_device(const struct wg_host *h)
{
	uint64_t end = now_ms() + END_WAIT_MS;
	struct wg_device device;
	int r;

	/* one that is not our child hangs up a moment before it has closed everything */
	while ((r = wg_device_open(h->config.name, false, h->config.mtu, false, &device, NULL)) ==
		       -EBUSY &&
	       now_ms() < end)
		poll(NULL, 0, 2);
	if (r)
		return;
	wg_device_release(device.fd);
	close(device.fd);
}

void wg_host_stop(struct wg_host *h)
{
	struct pollfd p;

	if (!h)
		return;
	if (h->link) {
		(void)!wg_link_send(h->link, WG_STOP, NULL, 0, NULL, 0);
		p = (struct pollfd){ .fd = wg_link_fd(h->link), .events = 0 };
		(void)poll(&p, 1, END_WAIT_MS); /* until it hangs up */
		reap(h);
	}
	remove_device(h);
	unlink(h->control_path);
	if (h->uapi)
		unlink(h->uapi_path);
	wg_host_close(h);
}

/* ---- asking ---- */

int wg_host_fd(const struct wg_host *h)
{
	return h->link ? wg_link_fd(h->link) : -1;
}

pid_t wg_host_pid(const struct wg_host *h)
{
	return h->pid;
}

int wg_host_set(struct wg_host *h, const char *text, struct err *err)
{
	return ask(h, WG_SET, text, NULL, err);
}

int wg_host_get(struct wg_host *h, char **ret_text, struct err *err)
{
	return ask(h, WG_GET, NULL, ret_text, err);
}

int wg_host_restore(struct wg_host *h, struct err *err)
{
	struct wg_text text = { 0 };
	int r = 0;

	wg_memory_recall(h->memory, &text);
	if (text.failed)
		r = err_sys(err, -ENOMEM, "tunnel %s", h->config.name);
	else if (text.len)
		r = wg_host_set(h, text.data, err);
	wg_text_clear(&text);
	return r;
}

/* netd-wg asks back for sockets, in wait_reply(). */
int wg_host_bind(struct wg_host *h, uint16_t listen_port, uint32_t mark, struct err *err)
{
	char text[2 * UNITS_TEXT_MAX];

	snprintf(text, sizeof(text), "listen_port=%u\nfwmark=%u\n", listen_port, mark);
	return wg_host_set(h, text, err);
}

int wg_host_set_mtu(struct wg_host *h, uint16_t mtu, struct err *err)
{
	char text[UNITS_TEXT_MAX];
	int r = wg_device_set_mtu(h->config.name, mtu, err);

	if (r)
		return r;
	snprintf(text, sizeof(text), "mtu=%u\n", mtu);
	r = wg_host_set(h, text, err);
	if (!r)
		h->config.mtu = mtu;
	return r;
}
