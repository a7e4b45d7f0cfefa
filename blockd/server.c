/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control thread's half of the NBD server; see server.h.  The exports that handshakes ask for
 * are server_exports.c.
 *
 *	listener --accept--> client in its handshake --GO--> handed to the reactor --closed--> gone
 *	                            |
 *	                            +-- timeout, error, ABORT, eviction --> gone
 *
 * The client's record lives from accept to its end, also while its socket is the reactor's: that
 * is how the cap counts.  At the cap a client that has been in its handshake for more than a
 * second is dropped for the new one (the oldest first), so that connections which never speak do
 * not keep others out; if there is none, accepting pauses until someone leaves.
 *
 * Records are freed at the end of a dispatch, since one event's handling may end another's client.
 */
#include "blockd/server_priv.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define EVENTS_MAX	64
#define EVICT_AGE_MS	1000u
#define ACCEPT_RETRY_MS 1000u /* after running out of descriptors */
#define TALK_ROUNDS	16    /* receives of one client in one dispatch */

static void tell(struct server *server, bool warning, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void tell(struct server *server, bool warning, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX + 256];
	va_list ap;

	if (!server->params.event)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	server->params.event(server->params.event_user, warning, text);
}

static int watch(struct server *server, int op, int fd, struct watched *what, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = what };

	return epoll_ctl(server->epoll_fd, op, fd, &event) ? -errno : 0;
}

/* ---- listening ---- */

static void listeners_watch(struct server *server, bool on)
{
	struct listener *l;

	if (server->accepting == on)
		return;
	server->accepting = on;
	LIST_FOREACH (l, &server->listeners, link)
		watch(server, EPOLL_CTL_MOD, l->fd, &l->watched, on ? EPOLLIN : 0);
}

static void listener_label(struct listener *l, const struct server_listen *params)
{
	snprintf(l->name, sizeof(l->name), "%s", params->name);
	snprintf(l->preset, sizeof(l->preset), "%s", params->preset ? params->preset : "");
}

static int listener_add(struct server *server, const struct server_listen *params,
			const struct listen_address *address, int fd, struct err *err)
{
	struct listener *l = calloc(1, sizeof(*l));
	struct stat st;
	int rc;

	if (!l)
		return err_set(err, -ENOMEM, "out of memory");
	l->watched.kind = WATCHED_LISTENER;
	l->fd = fd;
	l->id = server->listen_id_last;
	listener_label(l, params);
	l->address = *address;
	if (address->is_unix && params->fd < 0 && !lstat(address->path, &st)) {
		l->owns_file = true;
		l->dev = st.st_dev;
		l->ino = st.st_ino;
	}
	rc = watch(server, EPOLL_CTL_ADD, fd, &l->watched, server->accepting ? EPOLLIN : 0);
	if (rc) {
		free(l);
		return err_sys(err, rc, "epoll");
	}
	LIST_INSERT_HEAD(&server->listeners, l, link);
	return 0;
}

static void listener_close(struct server *server, struct listener *l)
{
	LIST_REMOVE(l, link);
	/* an inherited socket lives on in another descriptor, and would go on telling us */
	epoll_ctl(server->epoll_fd, EPOLL_CTL_DEL, l->fd, NULL);
	close(l->fd);
	if (l->owns_file)
		listen_remove_file(&l->address, l->dev, l->ino);
	free(l);
}

void server_unlisten(struct server *server, uint32_t id)
{
	struct listener *l, *next;

	for (l = LIST_FIRST(&server->listeners); l; l = next) {
		next = LIST_NEXT(l, link);
		if (l->id == id)
			listener_close(server, l);
	}
}

int server_listen(struct server *server, const struct server_listen *params, uint32_t *ret_id,
		  struct err *err)
{
	struct listen_owner owner = { params->mode, params->uid, params->gid };
	struct listen_address address = { 0 };
	int fds[LISTEN_FDS_MAX], rc = 0;
	size_t count = 1, i;

	fds[0] = params->fd;
	if (params->fd < 0) {
		rc = listen_address_parse(params->address, &address, err);
		if (!rc)
			rc = listen_open(&address, &owner, fds, &count, err);
		if (rc)
			return rc;
	} else if (fcntl(params->fd, F_SETFL, fcntl(params->fd, F_GETFL) | O_NONBLOCK)) {
		return err_sys(err, -errno, "inherited socket");
	}
	server->listen_id_last++;
	for (i = 0; i < count && !rc; i++)
		rc = listener_add(server, params, &address, fds[i], err);
	if (!rc) {
		*ret_id = server->listen_id_last;
		return 0;
	}
	for (i = i - 1; params->fd < 0 && i < count; i++)
		close(fds[i]);
	server_unlisten(server, server->listen_id_last);
	return rc;
}

int server_listen_change(struct server *server, uint32_t id, const struct server_listen *params,
			 struct err *err)
{
	struct listen_owner owner = { params->mode, params->uid, params->gid };
	struct listener *l;

	LIST_FOREACH (l, &server->listeners, link) {
		int rc = l->id == id && l->owns_file
				 ? listen_change_owner(&l->address, &owner, l->dev, l->ino, err)
				 : 0;

		if (rc)
			return rc;
		if (l->id == id)
			listener_label(l, params);
	}
	return 0;
}

int server_check_address(const char *address, struct err *err)
{
	struct listen_address parsed;

	return listen_address_parse(address, &parsed, err);
}

bool server_address_is_public(const char *address)
{
	struct listen_address parsed;

	if (listen_address_parse(address, &parsed, NULL) || parsed.is_unix)
		return false;
	return strncmp(parsed.host, "127.", 4) && strcmp(parsed.host, "::1") &&
	       strcmp(parsed.host, "localhost");
}

/* ---- clients ---- */

/* The handshake is over without a connection, or the connection has ended. */
static void client_end(struct client *client)
{
	struct server *server = client->server;

	if (client->dead)
		return;
	client->dead = true;
	if (client->fd >= 0)
		close(client->fd);
	client->fd = -1;
	if (client->handshake)
		server->handshake_count--;
	handshake_free(client->handshake);
	client->handshake = NULL;
	if (client->lock)
		reactor_drop_lock(client->lock);
	client->lock = NULL;
	if (client->reactor) /* it has gone before the answer to its GO */
		reactor_close(client->reactor, &client->handles);
	client->reactor = NULL;
	TAILQ_REMOVE(&server->clients, client, link);
	TAILQ_INSERT_TAIL(&server->dead, client, link);
	server->client_count--;
	server->reap = true;
}

static void connection_closed(void *user, uint64_t id, const char *reason)
{
	struct client *client = user;

	tell(client->server, false, "client %llu: %s: %s%s%s", (unsigned long long)id, client->peer,
	     client->export, reason[0] ? ": " : ": closed", reason);
	client_end(client);
}

static void hand_over(struct client *client)
{
	struct handshake_result result;
	struct reactor_adopt adopt = {
		.fd = client->fd,
		.id = client->id,
		.handles = client->handles,
		.lock = client->lock,
		.closed = connection_closed,
		.user = client,
	};
	struct reactor *reactor = client->reactor;
	struct server *server = client->server;
	int rc;

	handshake_get_result(client->handshake, &result);
	snprintf(adopt.peer, sizeof(adopt.peer), "%s", client->peer);
	snprintf(adopt.listener, sizeof(adopt.listener), "%s", client->listener);
	adopt.read_only = result.read_only;
	adopt.structured = result.structured;
	adopt.contexts = result.contexts;
	adopt.in = result.in;
	adopt.in_len = result.in_len;
	adopt.out_len = handshake_pending(client->handshake, &adopt.out);
	epoll_ctl(server->epoll_fd, EPOLL_CTL_DEL, client->fd, NULL);
	client->fd = -1;
	client->reactor = NULL;
	client->lock = NULL;
	rc = reactor_adopt(reactor, &adopt);
	if (rc) {
		tell(server, true, "client %llu: %s: out of memory", (unsigned long long)client->id,
		     client->peer);
		client_end(client);
		return;
	}
	tell(server, false, "client %llu: %s: opened %s%s", (unsigned long long)client->id,
	     client->peer, client->export, result.read_only ? " read-only" : "");
	handshake_free(client->handshake);
	client->handshake = NULL;
	server->handshake_count--;
}

static void handshake_failed(struct client *client)
{
	struct server *server = client->server;

	server->stat.handshake_errors++;
	tell(server, true, "client %llu: %s: handshake: %s", (unsigned long long)client->id,
	     client->peer, handshake_reason(client->handshake));
	client_end(client);
}

/* Send what is pending; false when the client is gone. */
static bool client_send(struct client *client)
{
	const void *from;
	size_t len;

	while ((len = handshake_pending(client->handshake, &from))) {
		ssize_t got = send(client->fd, from, len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (got < 0 && errno == EAGAIN)
			return true;
		if (got < 0 && errno != EINTR) {
			/* It has gone: between options, or behind ABORT, a clean end. */
			handshake_closed(client->handshake);
			if (handshake_state(client->handshake) == HANDSHAKE_FAILED)
				handshake_failed(client);
			else
				client_end(client);
			return false;
		}
		if (got > 0)
			handshake_sent(client->handshake, (size_t)got);
	}
	return true;
}

/* Receive once; false when there is nothing more now. */
static bool client_receive(struct client *client)
{
	void *to;
	size_t room = handshake_room(client->handshake, &to);
	ssize_t got;

	if (!room)
		return false;
	got = recv(client->fd, to, room, MSG_DONTWAIT);
	if (got > 0) {
		handshake_received(client->handshake, (size_t)got);
		return true;
	}
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	handshake_closed(client->handshake);
	return true;
}

static void client_watch(struct client *client)
{
	const void *from;
	void *to;
	uint32_t events = 0;

	if (handshake_pending(client->handshake, &from))
		events |= EPOLLOUT;
	if (handshake_room(client->handshake, &to))
		events |= EPOLLIN;
	if (handshake_is_opening(client->handshake))
		events |= EPOLLRDHUP; /* who has gone need not wait for a lock */
	if (events != client->events)
		watch(client->server, EPOLL_CTL_MOD, client->fd, &client->watched, events);
	client->events = events;
}

static void client_talk(struct client *client)
{
	int round = 0;

	do {
		if (!client_send(client))
			return;
		switch (handshake_state(client->handshake)) {
		case HANDSHAKE_TALKING:
			break;
		case HANDSHAKE_READY:
			hand_over(client);
			return;
		case HANDSHAKE_CLOSING: /* what could not be sent by now is not worth a wait */
			client_end(client);
			return;
		case HANDSHAKE_FAILED:
			handshake_failed(client);
			return;
		}
		/* Never leave with an end that nothing would wake us for. */
	} while (
		client_receive(client) &&
		(++round < TALK_ROUNDS || handshake_state(client->handshake) != HANDSHAKE_TALKING));
	client_watch(client);
}

void server_client_resume(struct client *client)
{
	if (!client->dead && client->handshake)
		client_talk(client);
}

static void client_event(struct client *client, uint32_t events)
{
	if (client->dead || !client->handshake)
		return;
	if (handshake_is_opening(client->handshake) &&
	    events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
		client_end(client);
		return;
	}
	client_talk(client);
}

static void client_new(struct server *server, const struct listener *listener, int fd,
		       uint64_t now_ms)
{
	struct client *client = calloc(1, sizeof(*client));

	if (!client)
		goto fail;
	client->watched.kind = WATCHED_CLIENT;
	client->server = server;
	client->id = ++server->id_last;
	client->fd = fd;
	client->since_ms = now_ms;
	client->events = EPOLLIN;
	snprintf(client->listener, sizeof(client->listener), "%s", listener->name);
	memcpy(client->preset, listener->preset, sizeof(client->preset));
	listen_setup_accepted(fd);
	listen_peer_text(fd, client->peer, sizeof(client->peer));
	client->handshake = handshake_new(&server_handshake_ops, client, now_ms,
					  server->params.handshake_timeout_ms);
	if (!client->handshake ||
	    watch(server, EPOLL_CTL_ADD, fd, &client->watched, client->events))
		goto fail;
	TAILQ_INSERT_TAIL(&server->clients, client, link);
	server->client_count++;
	server->handshake_count++;
	client_talk(client);
	return;
fail:
	if (client)
		handshake_free(client->handshake);
	free(client);
	close(fd);
}

/* Room under the cap, made if need be. */
static bool make_room(struct server *server, uint64_t now_ms)
{
	struct client *client;

	if (server->client_count < server->params.connection_max)
		return true;
	TAILQ_FOREACH (client, &server->clients, link) {
		if (!client->handshake || handshake_is_opening(client->handshake) ||
		    now_ms - client->since_ms < EVICT_AGE_MS)
			continue;
		server->stat.handshake_evictions++;
		tell(server, true, "client %llu: %s: dropped in its handshake for a newer client",
		     (unsigned long long)client->id, client->peer);
		client_end(client);
		return true;
	}
	return false;
}

static void pause_accept(struct server *server, uint64_t until_ms)
{
	if (server->accepting)
		server->stat.accept_pauses++;
	server->accept_at_ms = until_ms;
	listeners_watch(server, false);
}

static void listener_accept(struct server *server, struct listener *l, uint64_t now_ms)
{
	int fd;

	if (!make_room(server, now_ms)) {
		pause_accept(server, now_ms + EVICT_AGE_MS);
		return;
	}
	fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0) {
		server->stat.accepted++;
		client_new(server, l, fd, now_ms);
	} else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
		tell(server, true, "listener %s: accept: %s", l->name, strerror(errno));
		pause_accept(server, now_ms + ACCEPT_RETRY_MS);
	}
}

/* ---- dispatch ---- */

static void reap(struct server *server)
{
	struct client *client;

	while ((client = TAILQ_FIRST(&server->dead))) {
		TAILQ_REMOVE(&server->dead, client, link);
		free(client);
	}
	server->reap = false;
}

static void check_times(struct server *server, uint64_t now_ms)
{
	struct client *client, *next;

	for (client = TAILQ_FIRST(&server->clients); client; client = next) {
		next = TAILQ_NEXT(client, link);
		if (!client->handshake)
			continue;
		handshake_tick(client->handshake, now_ms);
		if (handshake_state(client->handshake) != HANDSHAKE_FAILED)
			continue;
		server->stat.handshake_timeouts++;
		tell(server, true, "client %llu: %s: %s", (unsigned long long)client->id,
		     client->peer, handshake_reason(client->handshake));
		client_end(client);
	}
	if (server->accepting || server->stopping)
		return;
	if (now_ms >= server->accept_at_ms || server->client_count < server->params.connection_max)
		listeners_watch(server, true);
}

void server_dispatch(struct server *server, uint64_t now_ms)
{
	struct epoll_event events[EVENTS_MAX];
	int count = epoll_wait(server->epoll_fd, events, EVENTS_MAX, 0), i;

	for (i = 0; i < count; i++) {
		struct watched *what = events[i].data.ptr;

		switch (what->kind) {
		case WATCHED_HOME:
			mailbox_run(server->home);
			break;
		case WATCHED_LISTENER:
			if (!server->stopping)
				listener_accept(server, (struct listener *)what, now_ms);
			break;
		case WATCHED_CLIENT:
			client_event((struct client *)what, events[i].events);
			break;
		}
	}
	check_times(server, now_ms);
	if (server->reap)
		reap(server);
}

uint64_t server_deadline_ms(const struct server *server)
{
	uint64_t deadline = UINT64_MAX;
	const struct client *client;

	TAILQ_FOREACH (client, &server->clients, link)
		if (client->handshake && handshake_deadline_ms(client->handshake) < deadline)
			deadline = handshake_deadline_ms(client->handshake);
	if (!server->accepting && !server->stopping && server->accept_at_ms < deadline)
		deadline = server->accept_at_ms;
	return deadline;
}

int server_fd(const struct server *server)
{
	return server->epoll_fd;
}

struct mailbox *server_home(struct server *server)
{
	return server->home;
}

void server_set_limits(struct server *server, uint32_t connection_max,
		       uint32_t handshake_timeout_ms)
{
	server->params.connection_max =
		connection_max ? connection_max : SERVER_CONNECTIONS_DEFAULT;
	server->params.handshake_timeout_ms =
		handshake_timeout_ms ? handshake_timeout_ms : SERVER_HANDSHAKE_TIMEOUT_MS;
}

/* ---- life ---- */

int server_new(const struct server_params *params, struct server **ret_server, struct err *err)
{
	struct server *server = calloc(1, sizeof(*server));
	int rc;

	if (!server)
		return err_set(err, -ENOMEM, "out of memory");
	server->params = *params;
	server_set_limits(server, params->connection_max, params->handshake_timeout_ms);
	TAILQ_INIT(&server->clients);
	TAILQ_INIT(&server->dead);
	server->accepting = true;
	if (getrandom(&server->boot, sizeof(server->boot), 0) < 0)
		server->boot = (uint64_t)getpid();
	server->home_watched.kind = WATCHED_HOME;
	server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	rc = server->epoll_fd < 0 ? err_sys(err, -errno, "epoll") : mailbox_new(&server->home, err);
	if (!rc) {
		rc = watch(server, EPOLL_CTL_ADD, mailbox_fd(server->home), &server->home_watched,
			   EPOLLIN);
		if (rc)
			err_sys(err, rc, "epoll");
	}
	if (rc) {
		server_free(server);
		return rc;
	}
	*ret_server = server;
	return 0;
}

static void close_listeners(struct server *server)
{
	struct listener *l;

	while ((l = LIST_FIRST(&server->listeners)))
		listener_close(server, l);
}

void server_free(struct server *server)
{
	struct client *client;

	if (!server)
		return;
	close_listeners(server);
	if (server->home)
		mailbox_run(server->home); /* ends of connections */
	while ((client = TAILQ_FIRST(&server->clients)))
		client_end(client);
	reap(server);
	mailbox_free(server->home);
	if (server->epoll_fd >= 0)
		close(server->epoll_fd);
	free(server);
}

static void drained(struct reactor_task *task, int res)
{
	struct server *server = task->user;

	server->drain_count--;
}

void server_stop(struct server *server, uint32_t drain_ms)
{
	struct client *client, *next;
	size_t i;

	if (server->stopping)
		return;
	server->stopping = true;
	close_listeners(server);
	for (client = TAILQ_FIRST(&server->clients); client; client = next) {
		next = TAILQ_NEXT(client, link);
		if (client->handshake)
			client_end(client);
	}
	for (i = 0; i < server->pool_count; i++) {
		struct reactor_task *task = &server->drains[i];

		*task = (struct reactor_task){ .done = drained, .user = server };
		server->drain_count++;
		reactor_drain(server->pools[i], drain_ms, task);
	}
}

bool server_stopped(const struct server *server)
{
	return server->stopping && !server->client_count && !server->drain_count;
}

void server_get_stat(const struct server *server, struct server_stat *ret_stat)
{
	*ret_stat = server->stat;
	ret_stat->connections = server->client_count;
	ret_stat->handshakes = server->handshake_count;
	ret_stat->connection_max = server->params.connection_max;
}
