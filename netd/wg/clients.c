/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wg(8)'s connections; see clients.h.
 *
 *	READING --a whole request--> (WAITING for netd) --> WRITING --all out--> READING
 *
 * A request ends with an empty line.  What is wrong with its form closes the connection.
 */
#include "netd/wg/clients.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_BYTES 16384
#define NS_PER_MS  1000000u

enum client_state { CLIENT_FREE, CLIENT_READING, CLIENT_WAITING, CLIENT_WRITING };

struct client {
	enum client_state state;
	int fd;
	struct wg_text in, out;
	size_t sent, scanned;
	uint64_t active_ns;
};

struct clients {
	struct clients_ops ops;
	int listen_fd;
	bool listening; /* watched: there is room */
	struct client *waiting;
	struct client clients[CLIENTS_MAX];
};

static void watch_listening(struct clients *c, bool on)
{
	if (on == c->listening || c->listen_fd < 0)
		return;
	c->listening = on;
	c->ops.watch(c->ops.ctx, c->listen_fd, false, on, false);
}

int clients_new(const struct clients_ops *ops, int listen_fd, struct clients **ret)
{
	struct clients *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->ops = *ops;
	c->listen_fd = listen_fd;
	if (listen_fd >= 0) {
		c->listening = true;
		ops->watch(ops->ctx, listen_fd, true, true, false);
	}
	*ret = c;
	return 0;
}

static void close_client(struct clients *c, struct client *k)
{
	if (c->waiting == k)
		c->waiting = NULL;
	close(k->fd); /* and out of the epoll set */
	wg_text_clear(&k->in);
	wg_text_clear(&k->out);
	*k = (struct client){ .fd = -1 };
	watch_listening(c, true);
}

void clients_free(struct clients *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (c->clients[i].state != CLIENT_FREE)
			close_client(c, &c->clients[i]);
	if (c->listen_fd >= 0)
		close(c->listen_fd);
	free(c);
}

static void enter(struct clients *c, struct client *k, enum client_state state)
{
	k->state = state;
	c->ops.watch(c->ops.ctx, k->fd, false, state == CLIENT_READING, state == CLIENT_WRITING);
}

static void accept_client(struct clients *c, uint64_t now_ns)
{
	struct client *k = NULL;
	int fd;

	for (size_t i = 0; i < CLIENTS_MAX && !k; i++)
		if (c->clients[i].state == CLIENT_FREE)
			k = &c->clients[i];
	if (!k) {
		watch_listening(c, false);
		return;
	}
	fd = accept4(c->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return;
	*k = (struct client){ .state = CLIENT_READING, .fd = fd, .active_ns = now_ns };
	c->ops.watch(c->ops.ctx, fd, true, true, false);
}

/* What of its input is whole, while it reads. */
static void proceed(struct clients *c, struct client *k);

static void write_some(struct clients *c, struct client *k)
{
	while (k->sent < k->out.len) {
		ssize_t n = send(k->fd, k->out.data + k->sent, k->out.len - k->sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			if (k->state != CLIENT_WRITING)
				enter(c, k, CLIENT_WRITING);
			return;
		}
		if (n < 0) {
			close_client(c, k);
			return;
		}
		k->sent += (size_t)n;
	}
	wg_text_clear(&k->out);
	k->sent = 0;
	enter(c, k, CLIENT_READING);
}

static void answer(struct clients *c, struct client *k, int error)
{
	wg_text_add(&k->out, "errno=%d\n\n", error); /* negative, as wg(8) expects */
	if (k->out.failed)
		close_client(c, k);
	else
		write_some(c, k);
}

void clients_answer(struct clients *c, int error, uint64_t now_ns)
{
	struct client *k = c->waiting;

	if (!k)
		return;
	c->waiting = NULL;
	k->active_ns = now_ns;
	answer(c, k, error);
	proceed(c, k);
	for (size_t i = 0; i < CLIENTS_MAX && !c->waiting; i++) { /* who waited for it */
		k = &c->clients[i];
		if (k->state == CLIENT_WAITING)
			enter(c, k, CLIENT_READING);
		proceed(c, k);
	}
}

/* A request of `len` bytes, the empty line included, stands at the start of `in`. */
static void take_request(struct clients *c, struct client *k, size_t len)
{
	int r = -EINVAL;

	k->in.data[len - 1] = 0;
	if (!strcmp(k->in.data, "get=1\n")) {
		c->ops.get(c->ops.ctx, &k->out);
		r = 0;
	} else if (!strncmp(k->in.data, "set=1\n", 6)) {
		r = c->ops.set(c->ops.ctx, k->in.data + 6);
	}
	wg_text_drop(&k->in, len);
	k->scanned = 0;
	if (r == CLIENTS_LATER) {
		c->waiting = k;
		enter(c, k, CLIENT_WAITING);
		return;
	}
	answer(c, k, r);
}

/* The length of the first whole request, 0: there is none yet. */
static size_t find_request(struct client *k)
{
	size_t from = k->scanned ? k->scanned - 1 : 0;
	char *end =
		k->in.len > from ? memmem(k->in.data + from, k->in.len - from, "\n\n", 2) : NULL;

	k->scanned = k->in.len;
	return end ? (size_t)(end - k->in.data) + 2 : 0;
}

static void proceed(struct clients *c, struct client *k)
{
	size_t len;

	while (k->state == CLIENT_READING && !c->waiting && (len = find_request(k)))
		take_request(c, k, len);
}

static void read_some(struct clients *c, struct client *k, uint64_t now_ns)
{
	char bytes[READ_BYTES];
	ssize_t n;

	n = recv(k->fd, bytes, sizeof(bytes), 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		k->active_ns = now_ns;
		wg_text_add_bytes(&k->in, bytes, (size_t)n);
		explicit_bzero(bytes, (size_t)n);
	}
	if (n <= 0 || k->in.failed || k->in.len > CLIENT_TEXT_MAX) {
		close_client(c, k);
		return;
	}
	proceed(c, k);
}

bool clients_ready(struct clients *c, int fd, uint64_t now_ns)
{
	if (fd == c->listen_fd) {
		accept_client(c, now_ns);
		return true;
	}
	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		struct client *k = &c->clients[i];

		if (k->state == CLIENT_FREE || k->fd != fd)
			continue;
		if (k->state == CLIENT_READING && !c->waiting)
			read_some(c, k, now_ns);
		else if (k->state == CLIENT_READING)
			enter(c, k, CLIENT_WAITING);
		else if (k->state == CLIENT_WRITING) {
			write_some(c, k);
			proceed(c, k);
		} else /* hung up while it waits */
			close_client(c, k);
		return true;
	}
	return false;
}

void clients_sweep(struct clients *c, uint64_t now_ns)
{
	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		struct client *k = &c->clients[i];

		if (k->state != CLIENT_FREE && k->state != CLIENT_WAITING &&
		    now_ns - k->active_ns > (uint64_t)CLIENT_IDLE_MS * NS_PER_MS)
			close_client(c, k);
	}
}

bool clients_any(const struct clients *c)
{
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (c->clients[i].state != CLIENT_FREE)
			return true;
	return false;
}
