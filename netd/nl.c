/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The netlink port on the real kernel; see nl.h.
 *
 * Two sockets of libmnl, and /dev/net/tun for TAPs, which rtnetlink cannot make.  A batch goes out
 * in pieces of SEND_MAX_BYTES, because the acknowledgements of one piece must fit the receive
 * buffer (the kernel answers while sendmsg() still runs; an answer that finds the buffer full is
 * lost, ENOBUFS).  Should that happen all the same, the results that are missing are -ENOBUFS and
 * the caller looks at the kernel again.
 *
 * An nftables transaction cannot be split; it is one sendmsg() of whatever size, and only its
 * last message is acknowledged.
 */
#include "netd/nl.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <libmnl/libmnl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/cleanup.h"
#include "vlan/wire.h"

#define RECEIVE_BUFFER_BYTES (8 << 20)
#define SEND_BUFFER_BYTES    (64 << 20) /* 10k forwards in one transaction are about 1 MiB */
#define SEND_MAX_BYTES	     (128 << 10)
#define READ_BYTES	     (64 << 10)

struct nl_kernel {
	struct nl nl;
	struct mnl_socket *sock[2]; /* by enum nl_bus */
	uint32_t seq;
	int ioctl_fd;
	uint8_t *buf; /* READ_BYTES */
};

static struct nl_kernel *kernel_of(struct nl *nl)
{
	return (struct nl_kernel *)nl;
}

/* One datagram with a time limit: its length, or -errno. */
static ssize_t receive(struct nl_kernel *k, enum nl_bus bus)
{
	struct pollfd p = { .fd = mnl_socket_get_fd(k->sock[bus]), .events = POLLIN };
	ssize_t n;
	int r;

	do
		r = poll(&p, 1, NL_TIMEOUT_MS);
	while (r < 0 && errno == EINTR);
	if (r <= 0)
		return r ? -errno : -ETIMEDOUT;
	do
		n = recv(p.fd, k->buf, READ_BYTES, 0);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* Throw away what a failed exchange may have left. */
static void drain(struct nl_kernel *k, enum nl_bus bus)
{
	while (recv(mnl_socket_get_fd(k->sock[bus]), k->buf, READ_BYTES, MSG_DONTWAIT) >= 0 ||
	       errno == ENOBUFS || errno == EINTR)
		;
}

static int transmit(struct nl_kernel *k, enum nl_bus bus, const void *data, size_t len)
{
	ssize_t n;

	do
		n = mnl_socket_sendto(k->sock[bus], data, len);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

/* The kernel's own words for a failure, where it has any. */
static const char *error_text(const struct nlmsghdr *nlh)
{
	const struct nlmsgerr *e = mnl_nlmsg_get_payload(nlh);
	size_t skip = sizeof(*e);
	const struct nlattr *attr;

	if (!(nlh->nlmsg_flags & NLM_F_ACK_TLVS))
		return NULL;
	if (!(nlh->nlmsg_flags & NLM_F_CAPPED))
		skip += mnl_nlmsg_get_payload_len(nlh) > sizeof(*e)
				? NLMSG_ALIGN(e->msg.nlmsg_len) - NLMSG_HDRLEN
				: 0;
	if (mnl_nlmsg_get_payload_len(nlh) < skip)
		return NULL;
	mnl_attr_for_each(attr, nlh, skip) if (mnl_attr_get_type(attr) == NLMSGERR_ATTR_MSG &&
					       mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >=
						       0) return mnl_attr_get_str(attr);
	return NULL;
}

static int error_code(const struct nlmsghdr *nlh)
{
	if (mnl_nlmsg_get_payload_len(nlh) < sizeof(struct nlmsgerr))
		return -EPROTO;
	return ((const struct nlmsgerr *)mnl_nlmsg_get_payload(nlh))->error;
}

static void note_error(struct err *err, int code, const struct nlmsghdr *nlh)
{
	const char *words = error_text(nlh);

	if (!err || err->code)
		return;
	if (words)
		err_set(err, code, "%s (%s)", words, strerror(-code));
	else
		err_set(err, code, "%s", strerror(-code));
}

/* ---- dumps ---- */

/* One datagram of a dump.  1 when the dump is over, 0 to go on, -errno. */
static int dump_datagram(struct nl_kernel *k, ssize_t n, uint32_t seq, nl_message_fn fn, void *arg,
			 struct err *err)
{
	int len = (int)n;

	for (const struct nlmsghdr *h = (const void *)k->buf; mnl_nlmsg_ok(h, len);
	     h = mnl_nlmsg_next(h, &len)) {
		int r;

		if (h->nlmsg_seq != seq)
			continue; /* of an exchange that was given up */
		if (h->nlmsg_flags & NLM_F_DUMP_INTR)
			return -EINTR;
		if (h->nlmsg_type == NLMSG_ERROR) {
			r = error_code(h);
			if (r)
				note_error(err, r, h);
			return r ? r : 1;
		}
		if (h->nlmsg_type == NLMSG_DONE)
			return 1;
		r = fn(arg, h);
		if (r)
			return r;
	}
	return 0;
}

static int kernel_dump(struct nl *nl, enum nl_bus bus, const struct nlbuf *request,
		       nl_message_fn fn, void *arg, struct err *err)
{
	struct nl_kernel *k = kernel_of(nl);
	struct nlmsghdr *req = (struct nlmsghdr *)(void *)request->data;
	uint32_t seq = ++k->seq;
	int r;

	req->nlmsg_seq = seq;
	r = transmit(k, bus, request->data, request->len_bytes);
	while (!r) {
		ssize_t n = receive(k, bus);

		r = n < 0 ? (int)n : dump_datagram(k, n, seq, fn, arg, err);
	}
	if (r < 0)
		drain(k, bus);
	return r < 0 ? r : 0;
}

/* ---- batches ---- */

/* Results of the messages first..first+count, whose sequence numbers begin at `seq`. */
static int collect_acks(struct nl_kernel *k, uint32_t seq, size_t count, int *results,
			struct err *err)
{
	size_t left = count;

	while (left) {
		ssize_t n = receive(k, NL_ROUTE);
		int len = (int)n;

		if (n < 0)
			return (int)n;
		for (const struct nlmsghdr *h = (const void *)k->buf; mnl_nlmsg_ok(h, len);
		     h = mnl_nlmsg_next(h, &len)) {
			uint32_t i = h->nlmsg_seq - seq;

			if (h->nlmsg_type != NLMSG_ERROR || i >= count || results[i] != -ENOBUFS)
				continue;
			results[i] = error_code(h);
			if (results[i])
				note_error(err, results[i], h);
			left--;
		}
	}
	return 0;
}

/* As many messages as fit a piece; at least one. */
static size_t piece(const struct nlbuf *b, size_t at, size_t *ret_count)
{
	size_t end = at, count = 0;

	while (end < b->len_bytes) {
		const struct nlmsghdr *h = (const void *)(b->data + end);
		size_t len = NLMSG_ALIGN(h->nlmsg_len);

		if (count && end + len - at > SEND_MAX_BYTES)
			break;
		end += len;
		count++;
	}
	*ret_count = count;
	return end - at;
}

static void number(struct nl_kernel *k, struct nlbuf *b, uint16_t flags)
{
	for (size_t at = 0; at < b->len_bytes;) {
		struct nlmsghdr *h = (struct nlmsghdr *)(void *)(b->data + at);

		h->nlmsg_seq = ++k->seq;
		h->nlmsg_flags |= flags;
		at += NLMSG_ALIGN(h->nlmsg_len);
	}
}

static int kernel_batch(struct nl *nl, struct nlbuf *b, int *results, struct err *err)
{
	struct nl_kernel *k = kernel_of(nl);
	uint32_t seq = k->seq + 1;
	size_t first = 0;

	number(k, b, NLM_F_REQUEST | NLM_F_ACK);
	for (size_t i = 0; i < b->message_count; i++)
		results[i] = -ENOBUFS; /* not answered */
	for (size_t at = 0, count, len; at < b->len_bytes; at += len, first += count) {
		int r;

		len = piece(b, at, &count);
		r = transmit(k, NL_ROUTE, b->data + at, len);
		if (!r)
			r = collect_acks(k, seq + (uint32_t)first, count, results + first, err);
		if (r == -ENOBUFS) {
			drain(k, NL_ROUTE); /* some answers are gone; theirs stay -ENOBUFS */
			r = err_set(err, r, "netlink acknowledgements were lost");
		}
		if (r)
			return r;
	}
	return 0;
}

/* ---- nftables transactions ---- */

static int transact_result(struct nl_kernel *k, uint32_t first, uint32_t last, struct err *err)
{
	int result = 0;

	for (;;) {
		ssize_t n = receive(k, NL_NETFILTER);
		int len = (int)n;

		if (n < 0)
			return (int)n;
		for (const struct nlmsghdr *h = (const void *)k->buf; mnl_nlmsg_ok(h, len);
		     h = mnl_nlmsg_next(h, &len)) {
			int r;

			if (h->nlmsg_type != NLMSG_ERROR || h->nlmsg_seq - first > last - first)
				continue;
			r = error_code(h);
			if (r && !result) {
				result = r;
				note_error(err, r, h);
			}
			/* the begin marker fails when the whole batch does */
			if (h->nlmsg_seq == last || h->nlmsg_seq == first)
				return result;
		}
	}
}

static int kernel_transact(struct nl *nl, struct nlbuf *b, struct err *err)
{
	struct nl_kernel *k = kernel_of(nl);
	uint32_t first = k->seq + 1;
	int r;

	if (b->message_count < 3)
		return 0; /* two markers with nothing in between */
	number(k, b, NLM_F_REQUEST);
	r = transmit(k, NL_NETFILTER, b->data, b->len_bytes);
	if (!r) /* the last before the end marker is the one that was asked to answer */
		r = transact_result(k, first, first + (uint32_t)b->message_count - 2, err);
	drain(k, NL_NETFILTER);
	if (r && err && !err->code)
		err_sys(err, r, "nftables");
	return r;
}

/* ---- names and TAPs ---- */

static int kernel_ifindex(struct nl *nl, const char *name)
{
	struct ifreq ifr = { 0 };

	memcpy(ifr.ifr_name, name, strnlen(name, IFNAMSIZ - 1));
	if (ioctl(kernel_of(nl)->ioctl_fd, SIOCGIFINDEX, &ifr) < 0)
		return -errno;
	return ifr.ifr_ifindex;
}

static int tap_attach(const struct vlan_link *tap, bool exclusive, struct err *err)
{
	struct ifreq ifr = { 0 };
	int flags = IFF_TAP | IFF_NO_PI | (tap->vnet_hdr ? IFF_VNET_HDR : 0) |
		    (tap->multi_queue ? IFF_MULTI_QUEUE : 0) | (exclusive ? IFF_TUN_EXCL : 0);
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return err_sys(err, -errno, "/dev/net/tun");
	memcpy(ifr.ifr_name, tap->name, strlen(tap->name));
	ifr.ifr_flags = (short)flags;
	if (ioctl(fd, TUNSETIFF, &ifr) < 0) {
		int r = errno == EBUSY && exclusive ? -EEXIST : -errno;

		close(fd);
		return err_sys(err, r, "/dev/net/tun");
	}
	return fd;
}

/* There is no ioctl for "nobody": a TAP that had an owner is made anew for that. */
static int tap_set_owner(int fd, const struct vlan_link *tap, struct err *err)
{
	if (tap->owner != (uid_t)-1 && ioctl(fd, TUNSETOWNER, (unsigned long)tap->owner) < 0)
		return err_sys(err, -errno, "owner %u", tap->owner);
	if (tap->group != (gid_t)-1 && ioctl(fd, TUNSETGROUP, (unsigned long)tap->group) < 0)
		return err_sys(err, -errno, "group %u", tap->group);
	return 0;
}

static int kernel_tap_add(struct nl *nl, const struct vlan_link *tap, struct err *err)
{
	CLEANUP_CLOSE int fd = tap_attach(tap, true, err);
	struct nlbuf b = { 0 };
	int result = 0, r;

	if (fd < 0)
		return fd;
	r = tap_set_owner(fd, tap, err);
	if (!r)
		r = vlan_wire_alias(&b, tap->name, tap->alias);
	if (!r)
		r = kernel_batch(nl, &b, &result, err);
	nlbuf_clear(&b);
	if (r || result)
		return r ? r : result;
	if (ioctl(fd, TUNSETPERSIST, 1) < 0)
		return err_sys(err, -errno, "/dev/net/tun");
	return 0;
}

static int kernel_tap_own(struct nl *nl, const struct vlan_link *tap, struct err *err)
{
	CLEANUP_CLOSE int fd = tap_attach(tap, false, err);

	(void)nl;
	return fd < 0 ? fd : tap_set_owner(fd, tap, err);
}

static uint32_t kernel_port_id(struct nl *nl)
{
	return mnl_socket_get_portid(kernel_of(nl)->sock[NL_NETFILTER]);
}

static void kernel_close(struct nl *nl)
{
	struct nl_kernel *k = kernel_of(nl);

	for (int i = 0; i < 2; i++)
		if (k->sock[i])
			mnl_socket_close(k->sock[i]);
	if (k->ioctl_fd >= 0)
		close(k->ioctl_fd);
	free(k->buf);
	free(k);
}

static const struct nl_ops kernel_ops = {
	.dump = kernel_dump,
	.batch = kernel_batch,
	.transact = kernel_transact,
	.ifindex = kernel_ifindex,
	.tap_add = kernel_tap_add,
	.tap_own = kernel_tap_own,
	.port_id = kernel_port_id,
	.close = kernel_close,
};

/* Buffers beyond the limits need CAP_NET_ADMIN of the first user namespace; less also works. */
static void set_buffer(int fd, int force, int plain, int bytes)
{
	if (setsockopt(fd, SOL_SOCKET, force, &bytes, sizeof(bytes)) < 0)
		(void)setsockopt(fd, SOL_SOCKET, plain, &bytes, sizeof(bytes));
}

static struct mnl_socket *open_socket(int family)
{
	struct mnl_socket *s = mnl_socket_open2(family, SOCK_CLOEXEC);
	int on = 1;

	if (!s)
		return NULL;
	if (mnl_socket_bind(s, 0, MNL_SOCKET_AUTOPID) < 0) {
		mnl_socket_close(s);
		return NULL;
	}
	(void)mnl_socket_setsockopt(s, NETLINK_EXT_ACK, &on, sizeof(on));
	(void)mnl_socket_setsockopt(s, NETLINK_CAP_ACK, &on, sizeof(on));
	if (family == NETLINK_ROUTE)
		(void)mnl_socket_setsockopt(s, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
	set_buffer(mnl_socket_get_fd(s), SO_RCVBUFFORCE, SO_RCVBUF, RECEIVE_BUFFER_BYTES);
	set_buffer(mnl_socket_get_fd(s), SO_SNDBUFFORCE, SO_SNDBUF, SEND_BUFFER_BYTES);
	return s;
}

int nl_open(struct nl **ret, struct err *err)
{
	struct nl_kernel *k = calloc(1, sizeof(*k));
	int r;

	if (!k)
		return -ENOMEM;
	k->nl.ops = &kernel_ops;
	k->ioctl_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	k->buf = malloc(READ_BYTES);
	k->sock[NL_ROUTE] = open_socket(NETLINK_ROUTE);
	k->sock[NL_NETFILTER] = open_socket(NETLINK_NETFILTER);
	if (k->ioctl_fd < 0 || !k->buf || !k->sock[NL_ROUTE] || !k->sock[NL_NETFILTER]) {
		r = errno ? -errno : -ENOMEM;
		kernel_close(&k->nl);
		return err_sys(err, r, "netlink sockets");
	}
	*ret = &k->nl;
	return 0;
}

/* ---- the port, whoever is behind it ---- */

void nl_close(struct nl *nl)
{
	if (nl)
		nl->ops->close(nl);
}

int nl_dump(struct nl *nl, enum nl_bus bus, const struct nlbuf *request, nl_message_fn fn,
	    void *arg, struct err *err)
{
	return nl->ops->dump(nl, bus, request, fn, arg, err);
}

int nl_batch(struct nl *nl, struct nlbuf *messages, int *ret_results, struct err *err)
{
	return nl->ops->batch(nl, messages, ret_results, err);
}

int nl_transact(struct nl *nl, struct nlbuf *messages, struct err *err)
{
	return nl->ops->transact(nl, messages, err);
}

int nl_ifindex(struct nl *nl, const char *name)
{
	return nl->ops->ifindex(nl, name);
}

int nl_tap_add(struct nl *nl, const struct vlan_link *tap, struct err *err)
{
	return nl->ops->tap_add(nl, tap, err);
}

int nl_tap_own(struct nl *nl, const struct vlan_link *tap, struct err *err)
{
	return nl->ops->tap_own(nl, tap, err);
}

uint32_t nl_port_id(struct nl *nl)
{
	return nl->ops->port_id(nl);
}
