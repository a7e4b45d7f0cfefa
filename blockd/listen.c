/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Listening sockets; see listen.h.
 *
 * A unix socket's file is made with mode 0 (the mode of the unbound socket is what bind() gives
 * the file), then given its owner, then its mode: at no time can someone connect who should not.
 * A file that is there already is replaced only if it is a socket and connecting to it is refused.
 *
 * Thread: control.  Stateless.
 */
#include "blockd/listen.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG		     128
#define KEEPALIVE_IDLE_S     20
#define KEEPALIVE_INTERVAL_S 5
#define KEEPALIVE_COUNT	     6
#define USER_TIMEOUT_MS	     50000 /* 20 + 6 * 5 s: the two rules agree */
#define PORT_DEFAULT	     "10809"

static_assert(sizeof(((struct listen_address *)0)->path) <=
		      sizeof(((struct sockaddr_un *)0)->sun_path),
	      "a checked path fits");

/* ---- addresses ---- */

static int parse_unix(const char *text, const char *path, struct listen_address *a, struct err *err)
{
	if (path[0] != '/')
		return err_set(err, -EINVAL,
			       "found \"%s\", expected an absolute path behind \"unix:\"", text);
	if (strlen(path) >= sizeof(a->path))
		return err_set(err, -EINVAL, "\"%s\": too long for a socket (%zu bytes at most)",
			       path, sizeof(a->path) - 1);
	a->is_unix = true;
	snprintf(a->path, sizeof(a->path), "%s", path);
	return 0;
}

static bool is_port(const char *text)
{
	size_t len = strlen(text);

	return len >= 1 && len <= 5 && strspn(text, "0123456789") == len && atoi(text) >= 1 &&
	       atoi(text) <= 65535;
}

static bool is_host(const char *text, size_t len, bool bracketed)
{
	size_t i;

	if (!len || len > 253)
		return false;
	for (i = 0; i < len; i++)
		if (bracketed ? !isxdigit((unsigned char)text[i]) && !strchr(":.", text[i])
			      : !isalnum((unsigned char)text[i]) && !strchr(".-_", text[i]))
			return false;
	return true;
}

static int parse_tcp(const char *text, const char *rest, struct listen_address *a, struct err *err)
{
	bool bracketed = rest[0] == '[';
	const char *host = bracketed ? rest + 1 : rest;
	size_t len = strcspn(host, bracketed ? "]" : ":");
	const char *behind = host + len + (bracketed && host[len]);

	if (bracketed && !host[len])
		return err_set(err, -EINVAL, "found \"%s\", expected \"]\" behind the address",
			       text);
	if (*behind && (*behind != ':' || !is_port(behind + 1)))
		return err_set(err, -EINVAL,
			       "found \"%s\", expected tcp:HOST:PORT with a port from 1 to 65535 "
			       "(an IPv6 address in brackets)",
			       text);
	if (len == 1 && *host == '*' && !bracketed)
		len = 0;
	else if (!is_host(host, len, bracketed))
		return err_set(err, -EINVAL,
			       "found \"%s\", expected an IPv4 address, an IPv6 address in "
			       "brackets, a host name or \"*\" behind \"tcp:\"",
			       text);
	snprintf(a->host, sizeof(a->host), "%.*s", (int)len, host);
	snprintf(a->port, sizeof(a->port), "%s", *behind ? behind + 1 : PORT_DEFAULT);
	return 0;
}

int listen_address_parse(const char *text, struct listen_address *ret_address, struct err *err)
{
	struct listen_address a = { 0 };
	int rc;

	if (!strncmp(text, "unix:", 5))
		rc = parse_unix(text, text + 5, &a, err);
	else if (!strncmp(text, "tcp:", 4))
		rc = parse_tcp(text, text + 4, &a, err);
	else
		rc = err_set(err, -EINVAL,
			     "found \"%s\", expected \"unix:/PATH\" or \"tcp:HOST:PORT\"", text);
	if (!rc)
		*ret_address = a;
	return rc;
}

/* ---- unix ---- */

/* 0 when the path is free (now). */
static int clear_path(const struct sockaddr_un *sun, struct err *err)
{
	struct stat st;
	int fd, rc = 0;

	if (lstat(sun->sun_path, &st))
		return errno == ENOENT ? 0 : err_sys(err, -errno, "%s", sun->sun_path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(err, -EEXIST, "%s: is there and is not a socket", sun->sun_path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(err, -errno, "socket");
	if (!connect(fd, (const struct sockaddr *)sun, sizeof(*sun)) || errno != ECONNREFUSED)
		rc = err_set(err, -EADDRINUSE, "%s: someone else listens there", sun->sun_path);
	else if (unlink(sun->sun_path) && errno != ENOENT)
		rc = err_sys(err, -errno, "%s", sun->sun_path);
	close(fd);
	return rc;
}

static int open_unix(const struct listen_address *a, const struct listen_owner *owner, int *ret_fd,
		     struct err *err)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd, rc;

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", a->path);
	rc = clear_path(&sun, err);
	if (rc)
		return rc;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(err, -errno, "socket");
	if (fchmod(fd, 0) || bind(fd, (struct sockaddr *)&sun, sizeof(sun))) {
		rc = err_sys(err, -errno, "%s", a->path);
		close(fd);
		return rc;
	}
	if (lchown(a->path, owner->uid, owner->gid) ||
	    chmod(a->path, owner->mode ? owner->mode : 0660) || listen(fd, BACKLOG)) {
		rc = err_sys(err, -errno, "%s", a->path);
		unlink(a->path);
		close(fd);
		return rc;
	}
	*ret_fd = fd;
	return 0;
}

int listen_change_owner(const struct listen_address *a, const struct listen_owner *owner, dev_t dev,
			ino_t ino, struct err *err)
{
	struct stat st;

	if (lstat(a->path, &st) || st.st_dev != dev || st.st_ino != ino)
		return err_set(err, -ESTALE, "%s: another file has taken the socket's place",
			       a->path);
	/* first the mode that nobody new can use, then the owner, then the mode it will have */
	if (chmod(a->path, 0) || lchown(a->path, owner->uid, owner->gid) ||
	    chmod(a->path, owner->mode ? owner->mode : 0660))
		return err_sys(err, -errno, "%s", a->path);
	return 0;
}

void listen_remove_file(const struct listen_address *a, dev_t dev, ino_t ino)
{
	struct stat st;

	if (a->is_unix && !lstat(a->path, &st) && st.st_dev == dev && st.st_ino == ino)
		unlink(a->path);
}

/* ---- TCP ---- */

static int open_one(const struct addrinfo *ai)
{
	int fd, on = 1, rc;

	fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (ai->ai_family == AF_INET6) /* each family has a socket of its own */
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) || listen(fd, BACKLOG)) {
		rc = -errno;
		close(fd);
		return rc;
	}
	return fd;
}

static int open_tcp(const struct listen_address *a, int fds[LISTEN_FDS_MAX], size_t *ret_count,
		    struct err *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE };
	struct addrinfo *list, *ai;
	size_t count = 0;
	int rc;

	rc = getaddrinfo(a->host[0] ? a->host : NULL, a->port, &hints, &list);
	if (rc)
		return err_set(err, -EADDRNOTAVAIL, "%s: %s", a->host, gai_strerror(rc));
	rc = 0;
	for (ai = list; ai && count < LISTEN_FDS_MAX; ai = ai->ai_next) {
		int fd = open_one(ai);

		if (fd >= 0) {
			fds[count++] = fd;
			continue;
		}
		/* A family that this host does not have is no error while the other works. */
		if (fd == -EAFNOSUPPORT || (fd == -EADDRNOTAVAIL && !a->host[0])) {
			rc = rc ? rc : fd;
			continue;
		}
		while (count)
			close(fds[--count]);
		rc = fd;
		break;
	}
	freeaddrinfo(list);
	if (!count)
		return err_sys(err, rc ? rc : -EADDRNOTAVAIL, "%s port %s",
			       a->host[0] ? a->host : "*", a->port);
	*ret_count = count;
	return 0;
}

int listen_open(const struct listen_address *address, const struct listen_owner *owner,
		int ret_fds[LISTEN_FDS_MAX], size_t *ret_count, struct err *err)
{
	int rc;

	if (!address->is_unix)
		return open_tcp(address, ret_fds, ret_count, err);
	rc = open_unix(address, owner, &ret_fds[0], err);
	if (!rc)
		*ret_count = 1;
	return rc;
}

/* ---- accepted sockets ---- */

void listen_setup_accepted(int fd)
{
	int on = 1, idle = KEEPALIVE_IDLE_S, interval = KEEPALIVE_INTERVAL_S;
	int count = KEEPALIVE_COUNT;
	unsigned timeout = USER_TIMEOUT_MS;

	/* On a unix socket these fail, which is as it should be. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof(timeout));
}

void listen_peer_text(int fd, char *buf, size_t size)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);
	char host[64], port[8];
	struct ucred cred = { 0 };

	if (!getpeername(fd, (struct sockaddr *)&ss, &len) && ss.ss_family != AF_UNIX &&
	    !getnameinfo((struct sockaddr *)&ss, len, host, sizeof(host), port, sizeof(port),
			 NI_NUMERICHOST | NI_NUMERICSERV)) {
		bool v6 = ss.ss_family == AF_INET6;

		snprintf(buf, size, v6 ? "tcp:[%s]:%s" : "tcp:%s:%s", host, port);
		return;
	}
	len = sizeof(cred);
	if (ss.ss_family == AF_UNIX && !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		snprintf(buf, size, "unix:pid=%d,uid=%u", (int)cred.pid, (unsigned)cred.uid);
	else
		snprintf(buf, size, "unknown");
}
