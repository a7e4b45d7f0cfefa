/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The tools' side of the control protocol, blocking; see ctl.h. */
#include "common/daemon/ctl.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/cleanup.h"

struct ctl_client {
	int fd;
	bool lost;
	char *in;
	size_t in_len, in_size;
};

int ctl_client_open(const char *path, struct ctl_client **ret, struct err *err)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct ctl_client *c;
	int r;

	if (strlen(path) >= sizeof(sa.sun_path))
		return err_set(err, -ENAMETOOLONG, "control socket %.128s: path is too long", path);
	strcpy(sa.sun_path, path);
	c = calloc(1, sizeof(*c));
	if (!c)
		return err_set(err, -ENOMEM, "out of memory");
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&sa, sizeof(sa))) {
		r = -errno;
		ctl_client_close(c);
		if (r == -ENOENT || r == -ECONNREFUSED)
			return err_set(err, r, "control socket %s: %s (is the daemon running?)",
				       path, strerror(-r));
		return err_sys(err, r, "control socket %s", path);
	}
	*ret = c;
	return 0;
}

void ctl_client_close(struct ctl_client *c)
{
	if (!c)
		return;
	if (c->fd >= 0)
		close(c->fd);
	free(c->in);
	free(c);
}

/* Wait until the socket is ready.  0, -ETIMEDOUT, -errno. */
static int wait_for(struct ctl_client *c, short events, unsigned timeout_ms)
{
	struct pollfd p = { .fd = c->fd, .events = events };
	int n;

	do
		n = poll(&p, 1, timeout_ms ? (int)timeout_ms : -1);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n ? 0 : -ETIMEDOUT;
}

static int send_all(struct ctl_client *c, const char *text, size_t len, unsigned timeout_ms)
{
	while (len) {
		ssize_t n;
		int r = wait_for(c, POLLOUT, timeout_ms);

		if (r)
			return r;
		n = send(c->fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
		if (n > 0) {
			text += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

static int receive(struct ctl_client *c, unsigned timeout_ms)
{
	ssize_t n;
	int r = wait_for(c, POLLIN, timeout_ms);

	if (r)
		return r;
	if (c->in_len == c->in_size) {
		size_t size = c->in_size ? c->in_size * 2 : 65536;
		char *in;

		if (size > 2 * (size_t)CTL_REPLY_BYTES_MAX)
			return -EMSGSIZE;
		in = realloc(c->in, size);
		if (!in)
			return -ENOMEM;
		c->in = in;
		c->in_size = size;
	}
	do
		n = recv(c->fd, c->in + c->in_len, c->in_size - c->in_len, 0);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (n == 0)
		return -ECONNRESET;
	c->in_len += (size_t)n;
	return 0;
}

/* The next line as JSON. */
static int read_object(struct ctl_client *c, unsigned timeout_ms, json_t **ret)
{
	size_t searched = 0, len;
	char *end;

	while (!(end = c->in_len > searched ? memchr(c->in + searched, '\n', c->in_len - searched)
					    : NULL)) {
		int r;

		searched = c->in_len;
		r = receive(c, timeout_ms);
		if (r)
			return r;
	}
	len = (size_t)(end - c->in);
	*ret = json_loadb(c->in, len, 0, NULL);
	c->in_len -= len + 1;
	memmove(c->in, end + 1, c->in_len);
	return json_is_object(*ret) ? 0 : -EPROTO;
}

/* The errno that a name such as "ENOSPC" means. */
static int code_of(const char *name)
{
	for (int i = 1; name && i < 200; i++) {
		const char *known = strerrorname_np(i);

		if (known && !strcmp(known, name))
			return -i;
	}
	return -EIO;
}

static int take_error(json_t *error, struct err *err)
{
	const char *text = json_string_value(json_object_get(error, "text"));

	return err_set(err, code_of(json_string_value(json_object_get(error, "code"))), "%s",
		       text ? text : "unknown error");
}

static int send_request(struct ctl_client *c, const char *verb, json_t *args, unsigned timeout_ms,
			struct err *err)
{
	json_t *request =
		json_pack("{s:s, s:o}", "verb", verb, "args", args ? args : json_object());
	CLEANUP_FREE char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
	size_t len;
	int r;

	json_decref(request);
	if (!text)
		return err_set(err, -EINVAL, "%s: the request is not valid UTF-8", verb);
	c->lost = false;
	len = strlen(text);
	if (len >= CTL_REQUEST_BYTES_MAX)
		return err_set(err, -EMSGSIZE, "%s: the request is over 1 MiB", verb);
	text[len] = '\n'; /* in place of the NUL */
	r = send_all(c, text, len + 1, timeout_ms);
	c->lost = r != 0;
	return r ? err_sys(err, r, "control socket: %s", verb) : 0;
}

bool ctl_client_is_lost(const struct ctl_client *c)
{
	return c->lost;
}

int ctl_client_call(struct ctl_client *c, const char *verb, json_t *args, unsigned timeout_ms,
		    void (*on_progress)(json_t *progress, void *ctx), void *ctx, json_t **ret,
		    struct err *err)
{
	int r = send_request(c, verb, args, timeout_ms, err);

	while (!r) {
		json_t *reply = NULL, *part;

		r = read_object(c, timeout_ms, &reply);
		if (r) {
			json_decref(reply);
			c->lost = true;
			return err_sys(err, r, "control socket: %s", verb);
		}
		if ((part = json_object_get(reply, "progress"))) {
			if (on_progress)
				on_progress(part, ctx);
			json_decref(reply);
			continue;
		}
		if ((part = json_object_get(reply, "result")))
			*ret = json_incref(part);
		else if ((part = json_object_get(reply, "error")))
			r = take_error(part, err);
		else
			r = err_set(err, -EPROTO,
				    "control socket: %s: answer is neither result nor "
				    "error",
				    verb);
		json_decref(reply);
		return r;
	}
	return r;
}
