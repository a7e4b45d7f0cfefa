/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Frames over a unix stream; see link.h.
 *
 *	[ type, 4 bytes | length, 4 bytes | data ]	in the byte order of the machine
 *
 * Descriptors travel with the frame's first byte.  The receiver gathers a frame in a buffer that
 * grows to the length announced; descriptors that arrive meanwhile belong to it.
 */
#include "netd/wg/link.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <openssl/crypto.h>

#define HEADER_LEN   8
#define SEND_WAIT_MS 2000

struct wg_link {
	int fd;
	uint8_t header[HEADER_LEN];
	size_t header_len, len; /* received of header and data */
	uint8_t *data;
	size_t size; /* of data */
	int fds[WG_LINK_FDS_MAX];
	size_t fd_count;
	bool given; /* data went out with the last call */
};

int wg_link_new(int fd, struct wg_link **ret)
{
	struct wg_link *l = calloc(1, sizeof(*l));

	if (!l) {
		close(fd);
		return -ENOMEM;
	}
	(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	l->fd = fd;
	*ret = l;
	return 0;
}

void wg_link_forget(struct wg_link *l)
{
	if (l->data)
		OPENSSL_cleanse(l->data, l->size);
	free(l->data);
	l->data = NULL;
	l->size = l->len = l->header_len = 0;
	l->given = false;
}

void wg_link_free(struct wg_link *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < l->fd_count; i++)
		close(l->fds[i]);
	wg_link_forget(l);
	close(l->fd);
	free(l);
}

int wg_link_fd(const struct wg_link *l)
{
	return l->fd;
}

void wg_message_done(struct wg_message *m)
{
	for (size_t i = 0; i < m->fd_count; i++)
		if (m->fds[i] >= 0)
			close(m->fds[i]);
	m->fd_count = 0;
}

/* ---- sending ---- */

static size_t attach_fds(struct msghdr *m, void *control, const int *fds, size_t fd_count)
{
	struct cmsghdr *c = control;

	if (!fd_count)
		return 0;
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
	memcpy(CMSG_DATA(c), fds, fd_count * sizeof(int));
	m->msg_control = control;
	return CMSG_SPACE(fd_count * sizeof(int));
}

static int wait_writable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	int n = poll(&p, 1, SEND_WAIT_MS);

	return n > 0 ? 0 : n == 0 ? -ETIMEDOUT : errno == EINTR ? 0 : -errno;
}

int wg_link_send(struct wg_link *l, uint32_t type, const void *data, size_t len, const int *fds,
		 size_t fd_count)
{
	uint32_t header[2] = { type, (uint32_t)len };
	_Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(WG_LINK_FDS_MAX * sizeof(int))] = { 0 };
	size_t done = 0, total = HEADER_LEN + len;
	int r;

	if (len > WG_LINK_FRAME_MAX || fd_count > WG_LINK_FDS_MAX)
		return -EMSGSIZE;
	while (done < total) {
		size_t skip = done < HEADER_LEN ? 0 : done - HEADER_LEN;
		struct iovec iov[2] = {
			{ (uint8_t *)header + done, done < HEADER_LEN ? HEADER_LEN - done : 0 },
			{ (uint8_t *)(uintptr_t)data + skip, len - skip },
		};
		struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2 };
		ssize_t n;

		if (done >= HEADER_LEN)
			iov[0].iov_base = header;
		if (!done)
			m.msg_controllen = attach_fds(&m, control, fds, fd_count);
		n = sendmsg(l->fd, &m, MSG_NOSIGNAL);
		if (n >= 0) {
			done += (size_t)n;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return errno == ECONNRESET ? -EPIPE : -errno;
		r = wait_writable(l->fd);
		if (r)
			return r;
	}
	return 0;
}

/* ---- receiving ---- */

static void take_fds(struct wg_link *l, struct msghdr *m)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (l->fd_count < WG_LINK_FDS_MAX)
				l->fds[l->fd_count++] = fd;
			else
				close(fd);
		}
	}
}

/* Returns bytes, 0 when there are none now, or a negative errno. */
static ssize_t receive_some(struct wg_link *l, void *to, size_t len)
{
	_Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(WG_LINK_FDS_MAX * sizeof(int))];
	struct iovec iov = { to, len };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(l->fd, &m, MSG_CMSG_CLOEXEC);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -ECONNRESET;
	take_fds(l, &m);
	return n ? n : -ECONNRESET;
}

static int receive_header(struct wg_link *l)
{
	uint32_t len;

	while (l->header_len < HEADER_LEN) {
		ssize_t n = receive_some(l, l->header + l->header_len, HEADER_LEN - l->header_len);

		if (n <= 0)
			return (int)n;
		l->header_len += (size_t)n;
	}
	if (l->data)
		return 1;
	memcpy(&len, l->header + 4, sizeof(len));
	if (len > WG_LINK_FRAME_MAX)
		return -EPROTO;
	l->size = len + 1u;
	l->data = calloc(1, l->size);
	return l->data ? 1 : -ENOMEM;
}

int wg_link_receive(struct wg_link *l, struct wg_message *ret)
{
	uint32_t type;
	int r;

	if (l->given)
		wg_link_forget(l);
	r = receive_header(l);
	if (r <= 0)
		return r;
	while (l->len < l->size - 1) {
		ssize_t n = receive_some(l, l->data + l->len, l->size - 1 - l->len);

		if (n <= 0)
			return (int)n;
		l->len += (size_t)n;
	}
	memcpy(&type, l->header, sizeof(type));
	*ret = (struct wg_message){ .type = type, .len = l->len, .data = l->data };
	memcpy(ret->fds, l->fds, sizeof(ret->fds));
	ret->fd_count = l->fd_count;
	l->fd_count = 0;
	l->given = true;
	return 1;
}
