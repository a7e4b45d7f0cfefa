/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Connections in their transmission phase: the sockets around nbd/transmit.
 *
 * Edge-triggered: epoll says once that bytes have come, `readable` remembers it until a receive
 * comes back short.  (Except behind a hang-up: there may be an end of file behind the bytes, which
 * has no edge of its own.)  EPOLLOUT is armed only while a send would block; a unix socket would
 * otherwise wake us for each answer that the client takes.
 *
 * One receive and usually one send a turn; the turns are the reactor's.  A turn sends a bounded
 * share of what is there: a socket that its client has just emptied takes 3 MiB at once, and where
 * the kernel's pages are first touched under a hypervisor those are milliseconds for all others.
 *
 * Why epoll and plain calls: three ways were built on this reactor and measured in turn
 *(Linux 6.18, two virtual processors, unix socket, pool on tmpfs; thousands a second, server CPU
 *us/request):
 *
 *	                    epoll, recvmsg,  io_uring: deferred   the same, multishot
 *	                    sendmsg          task run, one        receive into a ring
 *	                                     recv, one send       of 64 x 36 KiB
 *	read 4K x32, batches  316 / 3.0        322 / 2.9            320 / 3.0
 *	write 4K x32, batches 349 / 2.7        318 / 2.9            335 / 2.8
 *	read 4K x32, fio      156 / 5.9        153 / 5.7            152 / 6.1
 *	write 4K x32, fio     119 / 7.6        109 / 8.7             91 / 10.4
 *	read 4K x1             38 / 23          38 / 26              36 / 26
 *	write 4K + flush x1    17 / 51          14 / 52              17 / 49
 *	read 1M x4            2.0 / 473        1.8 / 500            1.9 / 477
 *	write 1M x4           3.3 / 273        2.8 / 329            3.3 / 281
 *
 * The ring saves a call where calls are not what costs: a batch has three of them for 32 requests,
 * and a single request pays for waking the other side (see spin.h), which a ring has to do as well.
 * Its buffers would be owned by the kernel while a connection is cut, and provided ones copied once
 * more.  So the simplest of the three.
 *
 * The end, in this order: 1. the state machine is DONE or BROKEN, or the socket failed, or someone
 * cuts it; 2. the socket is closed, the machine aborted (after a stop from our side first a
 * shutdown and a short linger, as closing over unread bytes would reset the connection and take
 * the answers with it); 3. the last engine request returns; 4. the reactor closes the volume's
 * handle and sends the session to the control thread, which frees it.
 */
#include "blockd/session.h"

#include <assert.h>
#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "blockd/reactor_priv.h"

#define SEND_IOV_MAX	TRANSMIT_IOV_MAX
#define SEND_TURN_BYTES (256u << 10) /* of one session: see above */

static void wake(void *user)
{
	struct session *s = user;

	reactor_wake(s->reactor, s);
}

/* The state machine is some 100 KiB to be touched for the first time: not on the reactor's thread.
 */
static struct transmit *new_transmit(struct session *s)
{
	struct transmit_params params = {
		.pool = s->reactor->pool,
		.vol = s->adopt.handles.vol,
		.bufs = s->reactor->bufs,
		.lock = s->adopt.lock ? reactor_lock_conn(s->adopt.lock) : NULL,
		.read_only = s->adopt.read_only,
		.structured = s->adopt.structured,
		.contexts = s->adopt.contexts,
		.wake = wake,
		.user = s,
	};

	memcpy(params.bases, s->adopt.handles.bases, sizeof(params.bases));
	return transmit_new(&params);
}

struct session *session_new(struct reactor *reactor, const struct reactor_adopt *adopt)
{
	struct session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->reactor = reactor;
	s->adopt = *adopt;
	s->adopt.out = s->adopt.in = NULL;
	s->transmit = new_transmit(s);
	s->early = malloc(adopt->out_len + adopt->in_len + 1);
	if (!s->early || !s->transmit) {
		s->adopt.lock = NULL; /* is not taken */
		session_free(s);
		return NULL;
	}
	if (adopt->out_len)
		memcpy(s->early, adopt->out, adopt->out_len);
	if (adopt->in_len)
		memcpy(s->early + adopt->out_len, adopt->in, adopt->in_len);
	s->early_out = adopt->out_len;
	s->early_in = adopt->in_len;
	s->fd = adopt->fd;
	s->since_s = (uint64_t)time(NULL);
	return s;
}

void session_free(struct session *s)
{
	if (!s)
		return;
	transmit_free(s->transmit);
	reactor_lock_free(s->adopt.lock);
	free(s->early);
	free(s);
}

static uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int watch(struct session *s, int op, bool out)
{
	struct epoll_event event = {
		.events = EPOLLIN | EPOLLRDHUP | EPOLLET | (out ? (uint32_t)EPOLLOUT : 0),
		.data.ptr = s,
	};

	return epoll_ctl(reactor_epoll_fd(s->reactor), op, s->fd, &event) ? -errno : 0;
}

/*
 * On a unix socket what is under way is in the sender's buffer, and the usual 208 KiB make one
 * large answer a dozen rounds of "full, sleep, wake".  TCP finds its sizes by itself.
 */
static void widen(int fd)
{
	int bytes = SESSION_SEND_BUFFER;

	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)))
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

static bool is_local(int fd)
{
	int domain = 0;
	socklen_t len = sizeof(domain);

	return !getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) && domain == AF_UNIX;
}

int session_start(struct session *s, uint64_t now_ms)
{
	int rc;

	s->local = is_local(s->fd);
	if (s->local)
		widen(s->fd);
	s->mark_ms = now_ms;
	transmit_set_volume(s->transmit, &s->vol->io, &s->vol->latency);
	rc = watch(s, EPOLL_CTL_ADD, false);
	if (rc)
		return rc;
	s->readable = true;
	transmit_set_now(s->transmit, clock_ns());
	if (s->early_in)
		transmit_inject(s->transmit, s->early + s->early_out, s->early_in);
	return 0;
}

void session_event(struct session *s, uint32_t events)
{
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		s->readable = true;
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR) && !s->hung_up) {
		s->hung_up = true;
		if (s->adopt.lock && s->fd >= 0)
			reactor_lock_hung_up(s->adopt.lock);
	}
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR) && s->blocked) {
		s->blocked = false;
		if (s->fd >= 0)
			watch(s, EPOLL_CTL_MOD, false);
	}
}

/* Has the peer closed its side?  The event may not have been looked at yet. */
static bool peer_has_closed(const struct session *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLRDHUP };

	return s->hung_up || poll(&p, 1, 0) > 0;
}

void session_cut(struct session *s, const char *reason)
{
	bool clean, hung_up;

	if (s->fd < 0)
		return;
	snprintf(s->reason, sizeof(s->reason), "%s", reason);
	hung_up = s->adopt.lock && peer_has_closed(s);
	close(s->fd); /* leaves the epoll set by itself */
	s->fd = -1;
	clean = transmit_state(s->transmit) == TRANSMIT_DONE &&
		transmit_has_said_goodbye(s->transmit);
	transmit_abort(s->transmit, reason);
	if (s->adopt.lock)
		reactor_lock_closed(s->adopt.lock, clean, hung_up);
	reactor_wake(s->reactor, s);
}

static void cut_errno(struct session *s, int error)
{
	const char *reason = "lost: ";
	char text[sizeof(s->reason)];

	/* The client has gone, which it may do without a DISC when nothing is under way. */
	if ((error == EPIPE || error == ECONNRESET) && !transmit_open_requests(s->transmit))
		snprintf(text, sizeof(text), "closed by the client");
	else
		snprintf(text, sizeof(text), "%s%s", reason, strerror(error));
	session_cut(s, text);
}

/* The machine has come to an end. */
static void finish(struct session *s)
{
	if (transmit_state(s->transmit) == TRANSMIT_BROKEN) {
		s->protocol_error = true;
		session_cut(s, transmit_reason(s->transmit));
	} else if (!s->stopping) {
		session_cut(s, "");
	} else if (!s->lingering) {
		shutdown(s->fd, SHUT_WR);
		s->lingering = true;
		s->readable = true;
		s->linger_until_ms = reactor_now_ms(s->reactor) + SESSION_LINGER_MS;
		reactor_wake(s->reactor, s);
	}
}

static bool ended(const struct session *s)
{
	enum transmit_state state = transmit_state(s->transmit);

	return state == TRANSMIT_DONE || state == TRANSMIT_BROKEN;
}

/* Read and drop until the client closes too. */
static void linger(struct session *s)
{
	char waste[4096];
	ssize_t got = recv(s->fd, waste, sizeof(waste), MSG_DONTWAIT);

	if (got > 0)
		return;
	s->readable = false;
	if (got == 0 || errno != EAGAIN)
		session_cut(s, "");
}

bool session_can_receive(const struct session *s)
{
	return s->fd >= 0 && s->readable;
}

bool session_receive(struct session *s)
{
	struct iovec iov[2];
	struct msghdr msg = { .msg_iov = iov };
	size_t want;
	ssize_t got;

	if (!session_can_receive(s))
		return false;
	if (s->lingering) {
		linger(s);
		return session_can_receive(s);
	}
	msg.msg_iovlen = (size_t)transmit_rx_iov(s->transmit, iov);
	if (!msg.msg_iovlen)
		return false; /* until an answer or a buffer moves it on */
	want = iov[0].iov_len + (msg.msg_iovlen > 1 ? iov[1].iov_len : 0);
	got = recvmsg(s->fd, &msg, MSG_DONTWAIT);
	s->recvs++;
	if (got < 0 && errno == EINTR)
		return true;
	if (got < 0 && errno != EAGAIN) {
		cut_errno(s, errno);
		return false;
	}
	if (got < 0) {
		s->readable = false;
		return false;
	}
	if (got == 0) {
		s->readable = false;
		transmit_eof(s->transmit);
	} else {
		s->received_bytes += (uint64_t)got;
		transmit_set_now(s->transmit, clock_ns());
		transmit_received(s->transmit, (size_t)got);
		if ((size_t)got < want && !s->hung_up)
			s->readable = false;
	}
	if (ended(s))
		finish(s);
	return session_can_receive(s);
}

/* True when all has gone. */
static bool sent(struct session *s, ssize_t got, size_t want)
{
	s->sends++;
	if (got >= 0) {
		s->sent_bytes += (uint64_t)got;
		if ((size_t)got == want)
			return true;
	} else if (errno != EAGAIN && errno != EINTR) {
		cut_errno(s, errno);
		return false;
	}
	s->blocked = true;
	watch(s, EPOLL_CTL_MOD, true);
	return false;
}

static bool send_early(struct session *s)
{
	size_t left = s->early_out - s->early_sent;
	ssize_t got;

	if (!left)
		return true;
	got = send(s->fd, s->early + s->early_sent, left, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (got > 0)
		s->early_sent += (size_t)got;
	return sent(s, got, left);
}

static void send_replies(struct session *s)
{
	struct iovec iov[SEND_IOV_MAX];
	struct msghdr msg = { .msg_iov = iov };

	for (size_t turn_bytes = 0; turn_bytes < SEND_TURN_BYTES;) {
		size_t want = 0, count, i;
		ssize_t got;

		count = (size_t)transmit_tx_iov(s->transmit, iov, SEND_IOV_MAX);
		if (!count)
			return;
		for (i = 0; i < count && turn_bytes + want < SEND_TURN_BYTES; i++)
			want += iov[i].iov_len;
		msg.msg_iovlen = i;
		turn_bytes += want;
		got = sendmsg(s->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (got > 0)
			transmit_sent(s->transmit, (size_t)got);
		if (!sent(s, got, want))
			return;
	}
	s->unsent = true;
}

/* See hold.h.  Over TCP what is unread cannot be told from what is on the wire. */
static bool hold_back(struct session *s)
{
	uint64_t now_us = s->reactor->now_us;
	int unread;

	if (!s->local || !s->reactor->spin.bound_us ||
	    !hold_may(&s->hold, transmit_tx_bytes(s->transmit), now_us) ||
	    ioctl(s->fd, SIOCOUTQ, &unread))
		return false;
	return hold_is_worth(&s->hold, (size_t)unread, now_us);
}

bool session_send(struct session *s)
{
	bool submitted;

	if (s->fd < 0)
		return false;
	if (transmit_is_untimed(s->transmit))
		transmit_time(s->transmit, clock_ns());
	if (!s->blocked && send_early(s)) {
		s->unsent = hold_back(s);
		if (!s->unsent)
			send_replies(s);
	}
	if (s->fd < 0)
		return false;
	submitted = transmit_retry(s->transmit);
	if (s->hung_up && transmit_wants_lock(s->transmit)) {
		session_cut(s, "closed by the client while its write waited for the lock");
		return submitted;
	}
	if (ended(s))
		finish(s);
	return submitted;
}

void session_stop(struct session *s)
{
	if (s->fd < 0)
		return;
	s->stopping = true;
	transmit_stop(s->transmit);
	reactor_wake(s->reactor, s);
}

bool session_tick(struct session *s, uint64_t now_ms)
{
	uint64_t bytes = s->received_bytes + s->sent_bytes;

	if (s->fd < 0)
		return false;
	if (s->lingering && now_ms >= s->linger_until_ms) {
		session_cut(s, "");
		return false;
	}
	if (!transmit_client_holds_memory(s->transmit) ||
	    bytes - s->mark_bytes >= SESSION_STALL_BYTES) {
		s->mark_ms = now_ms;
		s->mark_bytes = bytes;
		return false;
	}
	return now_ms - s->mark_ms >= SESSION_STALL_MS;
}

bool session_is_over(const struct session *s)
{
	return s->fd < 0 && !transmit_in_flight(s->transmit);
}
