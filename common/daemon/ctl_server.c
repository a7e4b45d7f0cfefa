/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The daemon's side of the control protocol; see ctl.h.
 *
 * A connection is in one of these states:
 *
 *	READING	 waiting for the rest of a request line
 *	WAITING	 a request is with its handler; nothing is read (so a client that sends ahead is
 *		 held back by its socket), only a hangup is noticed (not a half-close: one who says
 *		 that he sends no more still wants his answer)
 *	CLOSING	 no more is read; it goes when everything is written
 *
 * Replies are written at once as far as the socket takes them; the rest waits in one growing buffer
 * of at most CTL_REPLY_BYTES_MAX.
 *
 * Life: the connection owns its descriptor and buffers, the request is the handler's until it
 * answers.  They point at each other; whichever goes first clears the other's pointer.  Freeing a
 * connection happens only in conn_free(), which is called from event handlers as their last
 * action, never from within ctl_reply() (a handler may reply before it returns to the reader): a
 * connection that breaks during a reply is marked CLOSING and freed from a deferred event.
 */
#include "common/daemon/ctl.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/nearest.h"
#include "common/daemon/log.h"

enum conn_state {
	CONN_READING,
	CONN_WAITING,
	CONN_CLOSING,
};

struct conn {
	struct ctl_server *server;
	struct conn *next, *prev;
	enum conn_state state;
	int fd;
	sd_event_source *io;
	sd_event_source *again; /* deferred: go on after a reply, or free */
	sd_event_source *timer; /* of an incomplete request, or of a stuck write */
	struct ucred peer;
	struct ctl_request *request; /* WAITING, not yet answered */
	char *in;
	size_t in_len, in_size;
	char *out;
	size_t out_len, out_done, out_size;
	bool broken; /* the client is gone: drop everything */
};

struct ctl_server {
	struct loop *loop;
	int fd;
	const struct ctl_verb *verbs;
	void *ctx;
	sd_event_source *io;
	struct loop_timer *accept_timer;
	struct conn *conns; /* the newest first */
	unsigned conn_count;
};

struct ctl_request {
	struct conn *conn; /* NULL: gone */
	json_t *root;
	const char *verb;
	json_t *args;
	struct ucred peer;
	void (*on_gone)(struct ctl_request *req, void *ctx);
	void *on_gone_ctx;
};

static int on_conn_time(sd_event_source *s, uint64_t usec, void *ctx);

/* ---- connections ---- */

static void conn_free(struct conn *c)
{
	struct ctl_request *req = c->request;

	if (c->prev)
		c->prev->next = c->next;
	else
		c->server->conns = c->next;
	if (c->next)
		c->next->prev = c->prev;
	c->server->conn_count--;
	if (c->server->io)
		sd_event_source_set_enabled(c->server->io, SD_EVENT_ON);
	sd_event_source_disable_unref(c->io);
	sd_event_source_disable_unref(c->again);
	sd_event_source_disable_unref(c->timer);
	close(c->fd);
	free(c->in);
	free(c->out);
	free(c);
	if (req) {
		req->conn = NULL;
		if (req->on_gone)
			req->on_gone(req, req->on_gone_ctx);
	}
}

/* Run a timer for what the connection is waiting for; 0 stops it. */
static void conn_set_timer(struct conn *c, unsigned after_ms)
{
	if (!after_ms) {
		if (c->timer)
			sd_event_source_set_enabled(c->timer, SD_EVENT_OFF);
		return;
	}
	if (!c->timer && sd_event_add_time(loop_event(c->server->loop), &c->timer, CLOCK_MONOTONIC,
					   UINT64_MAX, 100000, on_conn_time, c) < 0)
		return;
	sd_event_source_set_time(c->timer, (loop_now_ms() + after_ms) * 1000);
	sd_event_source_set_enabled(c->timer, SD_EVENT_ONESHOT);
}

static size_t conn_unsent(const struct conn *c)
{
	return c->out_len - c->out_done;
}

/* Listen for what the state needs. A hangup is always noticed (EPOLLHUP, EPOLLERR). */
static void conn_watch(struct conn *c)
{
	uint32_t events = conn_unsent(c) ? EPOLLOUT : 0;

	if (c->state == CONN_READING && !events)
		events |= EPOLLIN;
	sd_event_source_set_io_events(c->io, events);
}

static void conn_enter(struct conn *c, enum conn_state state)
{
	c->state = state;
	conn_watch(c);
}

/* Come back from the loop: for the next request, or to free a broken connection. */
static void conn_defer(struct conn *c)
{
	sd_event_source_set_enabled(c->again, SD_EVENT_ONESHOT);
}

static void conn_break(struct conn *c)
{
	c->broken = true;
	conn_enter(c, CONN_CLOSING);
	conn_defer(c);
}

/* Write what waits, as far as the socket takes it. */
static void conn_flush(struct conn *c)
{
	while (conn_unsent(c) && !c->broken) {
		ssize_t n = send(c->fd, c->out + c->out_done, conn_unsent(c), MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			conn_watch(c);
			return;
		}
		if (n < 0) {
			conn_break(c);
			return;
		}
		c->out_done += (size_t)n;
		conn_set_timer(c, conn_unsent(c) ? CTL_WRITE_TIMEOUT_MS : 0);
	}
	if (!conn_unsent(c)) {
		if (c->state == CONN_READING)
			conn_defer(c);
		c->out_len = c->out_done = 0;
		if (c->out_size > 1 << 20) { /* not kept for ever after one great answer */
			free(c->out);
			c->out = NULL;
			c->out_size = 0;
		}
	}
	conn_watch(c);
}

/* Put a line into the output.  False: it does not fit. */
static bool conn_put(struct conn *c, const char *text, size_t len)
{
	size_t need;

	if (c->out_done) {
		memmove(c->out, c->out + c->out_done, conn_unsent(c));
		c->out_len -= c->out_done;
		c->out_done = 0;
	}
	need = c->out_len + len + 1;
	if (need > CTL_REPLY_BYTES_MAX)
		return false;
	if (need > c->out_size) {
		size_t size = need < 4096 ? 4096 : need + need / 2;
		char *out = realloc(c->out, size);

		if (!out)
			return false;
		c->out = out;
		c->out_size = size;
	}
	memcpy(c->out + c->out_len, text, len);
	c->out[c->out_len + len] = '\n';
	c->out_len = need;
	return true;
}

/* Send {member: value}; takes the value over.  False when it cannot be queued. */
static bool conn_send(struct conn *c, const char *member, json_t *value)
{
	bool was_idle = !conn_unsent(c);
	json_t *root = json_object();
	char *text = NULL;
	bool ok = false;

	if (root && value && !json_object_set_new(root, member, value))
		text = json_dumps(root, JSON_COMPACT);
	if (text) {
		ok = conn_put(c, text, strlen(text));
		free(text);
	}
	json_decref(root);
	if (!ok)
		return false;
	if (was_idle)
		conn_set_timer(c, CTL_WRITE_TIMEOUT_MS);
	conn_flush(c);
	return true;
}

/* ---- requests ---- */

static json_t *error_object(int code, const char *text)
{
	const char *name = strerrorname_np(-code);

	json_t *j = json_string(text);

	assert(code < 0);
	if (!j) { /* the text carries foreign bytes that are not UTF-8, or was cut within a letter
		   */
		char plain[ERR_TEXT_MAX];
		size_t i;

		for (i = 0; text[i] && i < sizeof(plain) - 1; i++)
			plain[i] = (unsigned char)text[i] < 0x80 ? text[i] : '?';
		plain[i] = '\0';
		j = json_string(plain);
	}
	return json_pack("{s:s, s:o}", "code", name ? name : "EIO", "text", j);
}

/* An error outside any request: say it and close. */
static void conn_refuse(struct conn *c, int code, const char *text)
{
	conn_enter(c, CONN_CLOSING);
	if (!conn_send(c, "error", error_object(code, text)))
		c->broken = true;
	conn_defer(c);
}

static void request_free(struct ctl_request *req)
{
	json_decref(req->root);
	free(req);
}

/* The answer is queued: the connection can read on. */
static void finish(struct ctl_request *req, const char *member, json_t *value)
{
	struct conn *c = req->conn;

	if (!c) {
		json_decref(value);
		request_free(req);
		return;
	}
	c->request = NULL;
	if (!value)
		value = error_object(-ENOMEM, "out of memory"), member = "error";
	if (!conn_send(c, member, value) &&
	    !conn_send(c, "error", error_object(-EMSGSIZE, "the answer is too long"))) {
		conn_break(c);
	} else if (!c->broken) {
		conn_enter(c, CONN_READING);
		conn_defer(c);
	}
	request_free(req);
}

void ctl_reply(struct ctl_request *req, json_t *result)
{
	finish(req, "result", result ? result : json_object());
}

void ctl_fail(struct ctl_request *req, int code, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	finish(req, "error", error_object(code, text));
}

void ctl_fail_err(struct ctl_request *req, const struct err *err)
{
	ctl_fail(req, err->code, "%s", err->text);
}

bool ctl_progress(struct ctl_request *req, json_t *progress)
{
	/* Progress is worth nothing to one who does not read it: leave room for the answer. */
	if (!req->conn || conn_unsent(req->conn) > CTL_REPLY_BYTES_MAX / 64) {
		json_decref(progress);
		return false;
	}
	return conn_send(req->conn, "progress", progress);
}

const char *ctl_request_verb(const struct ctl_request *req)
{
	return req->verb;
}

json_t *ctl_request_args(const struct ctl_request *req)
{
	return req->args;
}

void ctl_request_peer(const struct ctl_request *req, pid_t *ret_pid, uid_t *ret_uid, gid_t *ret_gid)
{
	if (ret_pid)
		*ret_pid = req->peer.pid;
	if (ret_uid)
		*ret_uid = req->peer.uid;
	if (ret_gid)
		*ret_gid = req->peer.gid;
}

bool ctl_request_gone(const struct ctl_request *req)
{
	return !req->conn || req->conn->broken;
}

void ctl_request_on_gone(struct ctl_request *req, void (*fn)(struct ctl_request *req, void *ctx),
			 void *ctx)
{
	if (!req->conn) {
		fn(req, ctx);
		return;
	}
	req->on_gone = fn;
	req->on_gone_ctx = ctx;
}

/* The argument, NULL when missing (`required` says whether that is an error, then *ret is set). */
static json_t *find_arg(struct ctl_request *req, const char *name, bool required, int *ret)
{
	json_t *j = json_object_get(req->args, name);

	*ret = 0;
	if (j && !json_is_null(j))
		return j;
	if (required) {
		*ret = -EINVAL;
		ctl_fail(req, -EINVAL, "%s: found no \"%s\", expected one", req->verb, name);
	}
	return NULL;
}

static int wrong_arg(struct ctl_request *req, const char *name, const char *expected)
{
	ctl_fail(req, -EINVAL, "%s: \"%s\": expected %s", req->verb, name, expected);
	return -EINVAL;
}

int ctl_arg_text(struct ctl_request *req, const char *name, bool required, const char **ret)
{
	int r;
	json_t *j = find_arg(req, name, required, &r);

	if (!j)
		return r;
	if (!json_is_string(j))
		return wrong_arg(req, name, "a string");
	*ret = json_string_value(j);
	return 0;
}

int ctl_arg_u64(struct ctl_request *req, const char *name, bool required, uint64_t *ret)
{
	int r;
	json_t *j = find_arg(req, name, required, &r);

	if (!j)
		return r;
	if (!json_is_integer(j) || json_integer_value(j) < 0)
		return wrong_arg(req, name, "a number from 0 on");
	*ret = (uint64_t)json_integer_value(j);
	return 0;
}

int ctl_arg_flag(struct ctl_request *req, const char *name, bool *ret)
{
	int r;
	json_t *j = find_arg(req, name, false, &r);

	if (!j)
		return 0;
	if (!json_is_boolean(j))
		return wrong_arg(req, name, "true or false");
	*ret = json_is_true(j);
	return 0;
}

/* ---- reading ---- */

static const struct ctl_verb *find_verb(const struct ctl_server *s, const char *name,
					const char **ret_near)
{
	struct nearest near;

	nearest_start(&near, name);
	for (const struct ctl_verb *v = s->verbs; v->name; v++) {
		if (!strcmp(v->name, name))
			return v;
		nearest_feed(&near, v->name);
	}
	*ret_near = near.best;
	return NULL;
}

/* One line has come: give it to its handler. */
static void start_request(struct conn *c, const char *line, size_t len)
{
	struct ctl_server *s = c->server;
	json_error_t problem;
	json_t *root = json_loadb(line, len, JSON_REJECT_DUPLICATES, &problem), *verb, *args;
	const struct ctl_verb *v;
	struct ctl_request *req;
	const char *near = NULL;
	char text[ERR_TEXT_MAX];

	verb = json_object_get(root, "verb");
	args = json_object_get(root, "args");
	if (!json_is_string(verb) || (args && !json_is_object(args))) {
		snprintf(text, sizeof(text), "found %s, expected {\"verb\": ..., \"args\": {...}}",
			 root ? "other JSON" : "no JSON");
		json_decref(root);
		conn_refuse(c, -EPROTO, text);
		return;
	}
	req = calloc(1, sizeof(*req));
	if (req && !args) {
		args = json_object();
		json_object_set_new(root, "args", args);
	}
	if (!req || !args) {
		free(req);
		json_decref(root);
		conn_refuse(c, -ENOMEM, "out of memory");
		return;
	}
	req->conn = c;
	req->root = root;
	req->verb = json_string_value(verb);
	req->args = args;
	req->peer = c->peer;
	c->request = req;
	conn_enter(c, CONN_WAITING);
	v = find_verb(s, req->verb, &near);
	if (v)
		v->run(req, s->ctx);
	else
		ctl_fail(req, -ENOSYS, "found unknown verb \"%.64s\"%s%s%s", req->verb,
			 near ? ", did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

/* Take one complete line out of the input, if there is one. */
static void take_line(struct conn *c)
{
	char *end = c->in_len ? memchr(c->in, '\n', c->in_len) : NULL, *line;
	size_t len;

	if (!end) {
		if (c->in_len >= CTL_REQUEST_BYTES_MAX)
			conn_refuse(c, -EMSGSIZE,
				    "found a request over 1 MiB, expected a shorter one");
		return;
	}
	len = (size_t)(end - c->in);
	line = c->in;
	c->in = NULL;
	c->in_size = 0;
	if (c->in_len > len + 1) { /* the start of the next one */
		size_t rest = c->in_len - len - 1;

		c->in = malloc(rest);
		if (!c->in) {
			free(line);
			conn_refuse(c, -ENOMEM, "out of memory");
			return;
		}
		memcpy(c->in, end + 1, rest);
		c->in_size = rest;
		c->in_len = rest;
	} else {
		c->in_len = 0;
	}
	conn_set_timer(c, 0);
	start_request(c, line, len);
	free(line);
}

/* Read once.  False: the connection is at its end. */
static bool read_some(struct conn *c)
{
	ssize_t n;

	if (c->in_len == c->in_size) {
		size_t size = c->in_size ? c->in_size * 2 : 4096;
		char *in;

		if (size > CTL_REQUEST_BYTES_MAX)
			size = CTL_REQUEST_BYTES_MAX;
		if (size <= c->in_len)
			return true; /* full: take_line() refuses */
		in = realloc(c->in, size);
		if (!in)
			return false;
		c->in = in;
		c->in_size = size;
	}
	n = recv(c->fd, c->in + c->in_len, c->in_size - c->in_len, 0);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0)
		return false;
	if (!c->in_len)
		conn_set_timer(c, CTL_REQUEST_TIMEOUT_MS);
	c->in_len += (size_t)n;
	return true;
}

static int on_conn_io(sd_event_source *s, int fd, uint32_t revents, void *ctx)
{
	struct conn *c = ctx;

	if (revents & EPOLLOUT)
		conn_flush(c);
	if (c->broken || (revents & EPOLLERR) ||
	    (c->state == CONN_WAITING && (revents & EPOLLHUP))) {
		conn_free(c);
		return 0;
	}
	if (c->state == CONN_CLOSING) {
		if (!conn_unsent(c) || (revents & EPOLLHUP))
			conn_free(c);
		return 0;
	}
	if (c->state == CONN_READING && conn_unsent(c) && (revents & EPOLLHUP)) {
		conn_free(c);
		return 0;
	}
	if (c->state == CONN_READING && (revents & (EPOLLIN | EPOLLHUP))) {
		if (!read_some(c))
			conn_free(c);
		else
			take_line(c);
	}
	return 0;
}

static int on_conn_again(sd_event_source *s, void *ctx)
{
	struct conn *c = ctx;

	if (c->broken || (c->state == CONN_CLOSING && !conn_unsent(c)))
		conn_free(c);
	else if (c->state == CONN_READING && !conn_unsent(c) && c->in_len) {
		conn_set_timer(c, CTL_REQUEST_TIMEOUT_MS);
		take_line(c);
	}
	return 0;
}

static int on_conn_time(sd_event_source *s, uint64_t usec, void *ctx)
{
	struct conn *c = ctx;

	if (conn_unsent(c)) {
		log_limited(LOG_LEVEL_WARNING, "ctl-slow", "control",
			    "client (process %d) does not read its answer: dropped", c->peer.pid);
		conn_free(c);
	} else {
		conn_refuse(c, -ETIMEDOUT, "the request did not come to its end in time");
	}
	return 0;
}

/* ---- the server ---- */

static void accept_one(struct ctl_server *s, int fd)
{
	struct conn *c = calloc(1, sizeof(*c));
	socklen_t len = sizeof(c->peer);

	if (!c) {
		close(fd);
		return;
	}
	c->server = s;
	c->fd = fd;
	c->next = s->conns;
	if (s->conns)
		s->conns->prev = c;
	s->conns = c;
	s->conn_count++;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c->peer, &len) ||
	    sd_event_add_io(loop_event(s->loop), &c->io, fd, EPOLLIN, on_conn_io, c) < 0 ||
	    sd_event_add_defer(loop_event(s->loop), &c->again, on_conn_again, c) < 0 ||
	    sd_event_source_set_enabled(c->again, SD_EVENT_OFF) < 0)
		conn_free(c);
}

/* The connection that has been there longest and does nothing, NULL: all are at work. */
static struct conn *find_idle(struct ctl_server *s)
{
	struct conn *idle = NULL;

	for (struct conn *c = s->conns; c; c = c->next)
		if (c->state == CONN_READING && !c->in_len && !conn_unsent(c))
			idle = c;
	return idle;
}

static void on_accept_again(void *ctx)
{
	struct ctl_server *s = ctx;

	sd_event_source_set_enabled(s->io, SD_EVENT_ON);
}

/* No room: the rest waits in the backlog until a client goes, or for a second. */
static void pause_accept(struct ctl_server *s, const char *why)
{
	log_limited(LOG_LEVEL_WARNING, "ctl-full", "control", "%s: new clients have to wait", why);
	sd_event_source_set_enabled(s->io, SD_EVENT_OFF);
	loop_timer_set(s->accept_timer, 1000);
}

static int on_accept(sd_event_source *source, int listen_fd, uint32_t revents, void *ctx)
{
	struct ctl_server *s = ctx;
	struct conn *idle;
	int fd;

	if (s->conn_count >= CTL_CLIENT_COUNT_MAX) {
		idle = find_idle(s);
		if (!idle) {
			pause_accept(s, "too many clients");
			return 0;
		}
		conn_free(idle);
	}
	fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0)
		accept_one(s, fd);
	else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
		pause_accept(s, strerror(errno));
	return 0;
}

int ctl_server_new(struct loop *l, int listen_fd, const struct ctl_verb *verbs, void *ctx,
		   struct ctl_server **ret, struct err *err)
{
	struct ctl_server *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	s->loop = l;
	s->fd = listen_fd;
	s->verbs = verbs;
	s->ctx = ctx;
	r = loop_timer_new(l, on_accept_again, s, &s->accept_timer);
	if (!r)
		r = sd_event_add_io(loop_event(l), &s->io, listen_fd, EPOLLIN, on_accept, s);
	if (r < 0) {
		loop_timer_free(s->accept_timer);
		free(s);
		return err_sys(err, r, "control socket");
	}
	*ret = s;
	return 0;
}

void ctl_server_free(struct ctl_server *s)
{
	if (!s)
		return;
	sd_event_source_disable_unref(s->io);
	s->io = NULL;
	loop_timer_free(s->accept_timer);
	while (s->conns)
		conn_free(s->conns);
	close(s->fd);
	free(s);
}
