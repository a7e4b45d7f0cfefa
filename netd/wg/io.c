/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Datagrams in batches; see io.h.
 *
 *	arena	 [ 1452 | 1452 | ... | 300 ][ 80 ][ 80 | 80 | 80 ]
 *	messages   to A, segment 1452	     to B  to A, segment 80
 *
 * A message takes another datagram while it goes to the same endpoint with the same TOS and source,
 * all before it have the length of the first, and it is not longer.
 *
 * When sending fails: EIO means that the interface cannot fill in checksums, so UDP_SEGMENT is off
 * from then on; EINVAL and EMSGSIZE that segments do not fit the path now (they are not fragmented,
 * single datagrams are); both are sent again one by one.  With a sticky source EINVAL may mean that
 * the address is gone: it is left out and the send tried again.  A full buffer loses what is left
 * of the batch, as a full queue of an interface does.
 */
#include "netd/wg/io.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define MESSAGE_IN_BYTES (64 << 10)
#define CONTROL_IN	 (CMSG_SPACE(sizeof(struct in6_pktinfo)) + 2 * CMSG_SPACE(sizeof(int)))
#define CONTROL_OUT	 (CMSG_SPACE(sizeof(struct in6_pktinfo)) + 2 * CMSG_SPACE(sizeof(int)))

union address {
	struct sockaddr sa;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

struct out {
	struct vpn_endpoint to;
	uint8_t *data;
	size_t len, segment, count;
	uint8_t tos;
	bool closed; /* a shorter datagram was appended */
};

struct io {
	int fds[2]; /* IPv4, IPv6 */
	bool gso;
	struct io_counters counters;

	struct mmsghdr in_hdr[IO_MESSAGES_IN];
	struct iovec in_iov[IO_MESSAGES_IN];
	union address in_from[IO_MESSAGES_IN];
	_Alignas(struct cmsghdr) uint8_t in_control[IO_MESSAGES_IN][CONTROL_IN];
	struct io_message in[IO_MESSAGES_IN];
	uint8_t *in_buffer;

	uint8_t *arena;
	size_t arena_len, out_count;
	struct out out[IO_MESSAGES_OUT];
	struct mmsghdr out_hdr[IO_MESSAGES_OUT];
	struct iovec out_iov[IO_MESSAGES_OUT];
	_Alignas(struct cmsghdr) uint8_t out_control[IO_MESSAGES_OUT][CONTROL_OUT];
};

static uint8_t *map(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

int io_new(struct io **ret)
{
	struct io *io = calloc(1, sizeof(*io));

	if (!io)
		return -ENOMEM;
	io->fds[0] = io->fds[1] = -1;
	io->in_buffer = map((size_t)IO_MESSAGES_IN * MESSAGE_IN_BYTES);
	io->arena = map(IO_ARENA_BYTES);
	if (!io->in_buffer || !io->arena) {
		io_free(io);
		return -ENOMEM;
	}
	*ret = io;
	return 0;
}

static void close_sockets(struct io *io)
{
	for (int i = 0; i < 2; i++)
		if (io->fds[i] >= 0)
			close(io->fds[i]);
}

void io_free(struct io *io)
{
	if (!io)
		return;
	close_sockets(io);
	if (io->in_buffer)
		munmap(io->in_buffer, (size_t)IO_MESSAGES_IN * MESSAGE_IN_BYTES);
	if (io->arena)
		munmap(io->arena, IO_ARENA_BYTES);
	free(io);
}

void io_set_sockets(struct io *io, int fd4, int fd6, bool gso)
{
	close_sockets(io);
	io->fds[0] = fd4;
	io->fds[1] = fd6;
	io->gso = gso;
}

int io_fd(const struct io *io, bool v6)
{
	return io->fds[v6];
}

bool io_gso(const struct io *io)
{
	return io->gso;
}

const struct io_counters *io_counters(const struct io *io)
{
	return &io->counters;
}

/* ---- in ---- */

static void take_control(struct io_message *m, struct msghdr *h)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		const uint8_t *data = CMSG_DATA(c);
		int number;

		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo info;

			memcpy(&info, data, sizeof(info));
			m->from.src4 = info.ipi_spec_dst;
			m->from.src_ifindex = (uint32_t)info.ipi_ifindex;
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			struct in6_pktinfo info;

			memcpy(&info, data, sizeof(info));
			m->from.src6 = info.ipi6_addr;
			m->from.src_ifindex = info.ipi6_ifindex;
		} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) {
			m->tos = *data;
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS) {
			memcpy(&number, data, sizeof(number));
			m->tos = (uint8_t)number;
		} else if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
			memcpy(&number, data, sizeof(number));
			if (number > 0)
				m->segment = (size_t)number;
		}
	}
}

static void take_message(struct io *io, size_t i)
{
	struct io_message *m = &io->in[i];
	struct msghdr *h = &io->in_hdr[i].msg_hdr;

	*m = (struct io_message){ .data = io->in_buffer + i * MESSAGE_IN_BYTES,
				  .len = io->in_hdr[i].msg_len };
	m->segment = m->len;
	if (io->in_from[i].sa.sa_family == AF_INET)
		m->from.v4 = io->in_from[i].v4;
	else
		m->from.v6 = io->in_from[i].v6;
	take_control(m, h);
	if (h->msg_flags & MSG_TRUNC)
		m->len = m->segment = 0; /* it cannot be ours */
	if (m->segment > m->len)
		m->segment = m->len;
	vpn_endpoint_normalize(&m->from);
	io->counters.messages_in++;
	io->counters.datagrams_in += m->segment ? (m->len + m->segment - 1) / m->segment : 1;
}

size_t io_receive(struct io *io, bool v6)
{
	int n;

	if (io->fds[v6] < 0)
		return 0;
	for (size_t i = 0; i < IO_MESSAGES_IN; i++) {
		io->in_iov[i] =
			(struct iovec){ io->in_buffer + i * MESSAGE_IN_BYTES, MESSAGE_IN_BYTES };
		io->in_hdr[i].msg_hdr = (struct msghdr){
			.msg_name = &io->in_from[i],
			.msg_namelen = sizeof(io->in_from[i]),
			.msg_iov = &io->in_iov[i],
			.msg_iovlen = 1,
			.msg_control = io->in_control[i],
			.msg_controllen = CONTROL_IN,
		};
	}
	n = recvmmsg(io->fds[v6], io->in_hdr, IO_MESSAGES_IN, MSG_DONTWAIT, NULL);
	for (int i = 0; i < n; i++)
		take_message(io, (size_t)i);
	return n > 0 ? (size_t)n : 0;
}

struct io_message *io_message(struct io *io, size_t i)
{
	return &io->in[i];
}

/* ---- out ---- */

uint8_t *io_room(struct io *io, size_t len)
{
	if (IO_ARENA_BYTES - io->arena_len < len || IO_MESSAGES_OUT - io->out_count < IO_BATCH_MAX)
		return NULL;
	return io->arena + io->arena_len;
}

/* The same place by the same way. */
static bool is_same_target(const struct vpn_endpoint *a, const struct vpn_endpoint *b)
{
	return vpn_endpoint_equal(a, b) && a->src_ifindex == b->src_ifindex &&
	       (a->sa.sa_family == AF_INET ? a->src4.s_addr == b->src4.s_addr
					   : !memcmp(&a->src6, &b->src6, sizeof(a->src6)));
}

static bool takes(const struct io *io, const struct out *o, const struct vpn_endpoint *to,
		  uint8_t tos, size_t len)
{
	return io->gso && !o->closed && o->count < IO_SEGMENTS_MAX && len <= o->segment &&
	       o->len + len <= IO_MESSAGE_MAX && o->tos == tos && is_same_target(&o->to, to);
}

void io_queue(struct io *io, const struct vpn_endpoint *to, uint8_t tos, size_t len)
{
	struct out *o = io->out_count ? &io->out[io->out_count - 1] : NULL;
	uint8_t *data = io->arena + io->arena_len;

	assert(len && len <= IO_ARENA_BYTES - io->arena_len && io->out_count < IO_MESSAGES_OUT);
	io->arena_len += len;
	if (o && takes(io, o, to, tos, len)) {
		o->closed = len < o->segment;
		o->len += len;
		o->count++;
		return;
	}
	io->out[io->out_count++] = (struct out){
		.to = *to, .data = data, .len = len, .segment = len, .count = 1, .tos = tos
	};
}

static struct cmsghdr *put_cmsg(struct msghdr *h, int level, int type, const void *data, size_t len)
{
	struct cmsghdr *c = (struct cmsghdr *)((uint8_t *)h->msg_control + h->msg_controllen);

	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(c), data, len);
	h->msg_controllen += CMSG_SPACE(len);
	return c;
}

static bool has_source(const struct vpn_endpoint *e)
{
	static const struct in6_addr any;

	return e->sa.sa_family == AF_INET ? e->src4.s_addr != 0
					  : memcmp(&e->src6, &any, sizeof(any)) != 0;
}

static void put_control(struct msghdr *h, const struct out *o, bool segmented)
{
	bool v6 = o->to.sa.sa_family == AF_INET6;
	uint16_t segment = (uint16_t)o->segment;
	int tos = o->tos;

	if (segmented)
		put_cmsg(h, SOL_UDP, UDP_SEGMENT, &segment, sizeof(segment));
	if (tos)
		put_cmsg(h, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_TCLASS : IP_TOS, &tos,
			 sizeof(tos));
	if (!has_source(&o->to))
		return;
	if (v6) {
		struct in6_pktinfo info = { .ipi6_addr = o->to.src6 };

		/* Only a link-local address needs its link: routes may have changed. */
		if (IN6_IS_ADDR_LINKLOCAL(&o->to.v6.sin6_addr))
			info.ipi6_ifindex = o->to.src_ifindex;
		put_cmsg(h, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
	} else {
		struct in_pktinfo info = { .ipi_spec_dst = o->to.src4 };

		put_cmsg(h, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
	}
}

static void make_header(struct io *io, size_t slot, struct out *o, uint8_t *data, size_t len,
			bool segmented)
{
	struct msghdr *h = &io->out_hdr[slot].msg_hdr;

	io->out_iov[slot] = (struct iovec){ data, len };
	*h = (struct msghdr){ .msg_iov = &io->out_iov[slot],
			      .msg_iovlen = 1,
			      .msg_name = &o->to.sa,
			      .msg_namelen = o->to.sa.sa_family == AF_INET ? sizeof(o->to.v4)
									   : sizeof(o->to.v6),
			      .msg_control = io->out_control[slot] };
	put_control(h, o, segmented);
	if (!h->msg_controllen)
		h->msg_control = NULL;
}

/* Its datagrams one by one: the slow way round what UDP_SEGMENT cannot do. */
static void send_singly(struct io *io, int fd, struct out *o)
{
	for (size_t at = 0; at < o->len; at += o->segment) {
		size_t len = o->len - at < o->segment ? o->len - at : o->segment;

		make_header(io, 0, o, o->data + at, len, false);
		if (sendmsg(fd, &io->out_hdr[0].msg_hdr, MSG_DONTWAIT) < 0)
			io->counters.send_errors++;
		else
			io->counters.datagrams_out++;
	}
}

/* The first of a batch was refused with `error`. */
static void send_again(struct io *io, int fd, struct out *o, int error)
{
	if (error == EAGAIN || error == ENOBUFS) {
		io->counters.send_full += o->count;
		return;
	}
	if (has_source(&o->to) && (error == EINVAL || error == EADDRNOTAVAIL ||
				   error == ENETUNREACH || error == EHOSTUNREACH)) {
		io->counters.sources_dropped++;
		memset(&o->to.src6, 0, sizeof(o->to.src6));
		make_header(io, 0, o, o->data, o->len, o->count > 1);
		if (sendmsg(fd, &io->out_hdr[0].msg_hdr, MSG_DONTWAIT) >= 0) {
			io->counters.datagrams_out += o->count;
			return;
		}
		error = errno;
	}
	if (o->count > 1 && (error == EIO || error == EINVAL || error == EMSGSIZE)) {
		io->counters.gso_refused++;
		if (error == EIO)
			io->gso = false;
		send_singly(io, fd, o);
		return;
	}
	io->counters.send_errors += o->count;
}

/* Messages first .. end - 1, all of one family. */
static void send_run(struct io *io, size_t first, size_t end)
{
	int fd = io->fds[io->out[first].to.sa.sa_family == AF_INET6];

	while (first < end) {
		size_t count = end - first;
		int n;

		if (fd < 0) {
			io->counters.send_errors += io->out[first++].count;
			continue;
		}
		for (size_t i = 0; i < count; i++) {
			struct out *o = &io->out[first + i];

			make_header(io, i, o, o->data, o->len, o->count > 1);
		}
		n = sendmmsg(fd, io->out_hdr, (unsigned)count, MSG_DONTWAIT);
		if (n <= 0) {
			send_again(io, fd, &io->out[first++], n ? errno : EIO);
			continue;
		}
		for (int i = 0; i < n; i++) {
			io->counters.messages_out++;
			io->counters.datagrams_out += io->out[first + (size_t)i].count;
		}
		first += (size_t)n;
	}
}

void io_flush(struct io *io)
{
	size_t i = 0;

	while (i < io->out_count) {
		size_t first = i;
		sa_family_t family = io->out[i].to.sa.sa_family;

		while (i < io->out_count && io->out[i].to.sa.sa_family == family)
			i++;
		send_run(io, first, i);
	}
	io->out_count = 0;
	io->arena_len = 0;
}
