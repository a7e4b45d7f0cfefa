/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * UDP and unix sockets of a tunnel; see sockets.h.
 *
 * UDP_SEGMENT is tried before it is trusted: some kernels corrupt or drop segments whose tail has
 * the full size (7.0 to 7.1.4, some 6.17 guests).  The test sends five equal segments and a short
 * one to itself over loopback and compares every byte.  A fault that only a real interface shows
 * comes back as EIO or EINVAL from sendmsg(); io.c handles that.
 */
#include "netd/wg/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "common/base/cleanup.h"

#define TEST_SEGMENT   1400
#define TEST_SEGMENTS  6 /* the last one is short */
#define TEST_TAIL      100
#define TEST_WAIT_MS   200
#define PORT_TRIES     20 /* any port that is free in both families */
#define LISTEN_BACKLOG 8

static int set_int(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) ? -errno : 0;
}

static void set_buffers(int fd)
{
	if (set_int(fd, SOL_SOCKET, SO_RCVBUFFORCE, WG_SOCKET_BUFFER_BYTES))
		(void)set_int(fd, SOL_SOCKET, SO_RCVBUF, WG_SOCKET_BUFFER_BYTES);
	if (set_int(fd, SOL_SOCKET, SO_SNDBUFFORCE, WG_SOCKET_BUFFER_BYTES))
		(void)set_int(fd, SOL_SOCKET, SO_SNDBUF, WG_SOCKET_BUFFER_BYTES);
}

/* Outer packets that do not fit the path are fragmented: the device's MTU is what avoids that. */
static int set_options(int fd, bool v6, uint32_t mark, bool offload)
{
	int r;

	set_buffers(fd);
	r = v6 ? set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1) : 0;
	if (!r)
		r = v6 ? set_int(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
		       : set_int(fd, IPPROTO_IP, IP_PKTINFO, 1);
	if (!r)
		r = v6 ? set_int(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1)
		       : set_int(fd, IPPROTO_IP, IP_RECVTOS, 1);
	if (!r && mark)
		r = set_int(fd, SOL_SOCKET, SO_MARK, (int)mark);
	if (!r && offload)
		(void)set_int(fd, SOL_UDP, UDP_GRO, 1);
	return r;
}

static int open_bound(bool v6, uint16_t port, uint32_t mark, bool offload, int *ret)
{
	struct sockaddr_in6 to6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct sockaddr_in to4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	CLEANUP_CLOSE int fd =
		socket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int r;

	if (fd < 0)
		return -errno;
	r = set_options(fd, v6, mark, offload);
	if (r)
		return r;
	if (bind(fd, v6 ? (struct sockaddr *)&to6 : (struct sockaddr *)&to4,
		 v6 ? sizeof(to6) : sizeof(to4)))
		return -errno;
	*ret = fd;
	fd = -1;
	return 0;
}

static uint16_t port_of(int fd)
{
	struct sockaddr_in a = { 0 };
	socklen_t len = sizeof(a);

	return getsockname(fd, (struct sockaddr *)&a, &len) ? 0 : ntohs(a.sin_port);
}

static bool lacks_ipv6(int r)
{
	return r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL;
}

static int open_both(uint16_t port, uint32_t mark, bool offload, struct wg_udp_sockets *s)
{
	int r = open_bound(false, port, mark, offload, &s->fd4);

	if (r)
		return r;
	s->port = port_of(s->fd4);
	r = open_bound(true, s->port, mark, offload, &s->fd6);
	if (r && !lacks_ipv6(r)) {
		wg_udp_close(s);
		return r;
	}
	return 0;
}

int wg_udp_open(uint16_t port, uint32_t mark, bool offload, struct wg_udp_sockets *ret,
		struct err *err)
{
	struct wg_udp_sockets s = { .fd4 = -1, .fd6 = -1, .mark = mark };
	int r = -EADDRINUSE;

	for (int i = 0; r == -EADDRINUSE && i < (port ? 1 : PORT_TRIES); i++)
		r = open_both(port, mark, offload, &s);
	if (r == -EADDRINUSE)
		return err_set(err, r, "UDP port %u is in use; choose another listen_port", port);
	if (r == -EACCES)
		return err_set(err, r, "UDP port %u needs CAP_NET_BIND_SERVICE", port);
	if (r == -EPERM)
		return err_set(err, r, "mark %u needs CAP_NET_ADMIN", mark);
	if (r)
		return err_sys(err, r, "UDP port %u", port);
	s.gso = offload && wg_udp_gso_works();
	*ret = s;
	return 0;
}

void wg_udp_close(struct wg_udp_sockets *s)
{
	if (s->fd4 >= 0)
		close(s->fd4);
	if (s->fd6 >= 0)
		close(s->fd6);
	s->fd4 = s->fd6 = -1;
}

/* ---- does UDP_SEGMENT work? ---- */

static bool receive_segments(int fd, const uint8_t *sent)
{
	uint8_t got[TEST_SEGMENT + 1];
	struct pollfd p = { .fd = fd, .events = POLLIN };

	for (int i = 0; i < TEST_SEGMENTS; i++) {
		ssize_t want = i == TEST_SEGMENTS - 1 ? TEST_TAIL : TEST_SEGMENT;

		if (poll(&p, 1, TEST_WAIT_MS) != 1)
			return false;
		if (recv(fd, got, sizeof(got), 0) != want ||
		    memcmp(got, sent + i * TEST_SEGMENT, (size_t)want))
			return false;
	}
	return true;
}

bool wg_udp_gso_works(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	uint8_t sent[(TEST_SEGMENTS - 1) * TEST_SEGMENT + TEST_TAIL];
	socklen_t len = sizeof(to);
	CLEANUP_CLOSE int out = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	CLEANUP_CLOSE int in = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (in < 0 || out < 0 || set_int(out, SOL_UDP, UDP_SEGMENT, TEST_SEGMENT))
		return false;
	if (bind(in, (struct sockaddr *)&to, sizeof(to)) ||
	    getsockname(in, (struct sockaddr *)&to, &len))
		return true;
	for (size_t i = 0; i < sizeof(sent); i++)
		sent[i] = (uint8_t)(i * 131 >> 3);
	if (sendto(out, sent, sizeof(sent), 0, (struct sockaddr *)&to, sizeof(to)) < 0)
		return errno == ENETUNREACH || errno == EHOSTUNREACH; /* lo is down */
	return receive_segments(in, sent);
}

/* ---- unix sockets ---- */

static int make_path(const char *dir, const char *name, struct sockaddr_un *to)
{
	int n = snprintf(to->sun_path, sizeof(to->sun_path), "%s/%s.sock", dir, name);

	to->sun_family = AF_UNIX;
	return n < 0 || (size_t)n >= sizeof(to->sun_path) ? -ENAMETOOLONG : 0;
}

static int make_folders(const char *dir)
{
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];

	if (strlen(dir) >= sizeof(path))
		return -ENAMETOOLONG;
	strcpy(path, dir);
	for (char *p = path + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = 0;
		if (mkdir(path, 0755) && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return mkdir(path, 0755) && errno != EEXIST ? -errno : 0;
}

int wg_connect(const char *dir, const char *name, int *ret_fd)
{
	struct sockaddr_un to = { 0 };
	CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r = fd < 0 ? -errno : make_path(dir, name, &to);

	if (r)
		return r;
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)))
		return -errno;
	*ret_fd = fd;
	fd = -1;
	return 0;
}

int wg_listen(const char *dir, const char *name, char *path, int *ret_fd, struct err *err)
{
	struct sockaddr_un to = { 0 };
	CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int r = fd < 0 ? -errno : make_path(dir, name, &to), other;

	if (!r)
		r = make_folders(dir);
	if (r)
		return err_sys(err, r, "%s", dir);
	if (!wg_connect(dir, name, &other)) {
		close(other);
		return err_set(err, -EADDRINUSE, "%s: another process serves it", to.sun_path);
	}
	unlink(to.sun_path);
	/* The file's mode is the socket's: nobody else may connect, not for a moment. */
	if (fchmod(fd, 0600) || bind(fd, (struct sockaddr *)&to, sizeof(to)) ||
	    listen(fd, LISTEN_BACKLOG))
		return err_sys(err, -errno, "%s", to.sun_path);
	strcpy(path, to.sun_path);
	*ret_fd = fd;
	fd = -1;
	return 0;
}
