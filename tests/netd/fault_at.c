/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For LD_PRELOAD into netd: a fault at the N-th change that it makes to the kernel's network
 * configuration or to its own state.  What and when stands in the file that FAULT names; nothing
 * happens while there is none.  "7 kill" counts down with each change, and at the last one the
 * file goes away and
 *
 *	kill          netd dies (SIGKILL) before it
 *	eperm         the kernel refuses it: CAP_NET_ADMIN is away while it is sent
 *	overflow      its answers find the socket's buffer full (ENOBUFS)
 *	overflow2     those of the repetition, too
 *	run COMMAND   the shell runs this before it
 *
 * Changes are runs of messages on netlink sockets that are no dumps, TAP ioctls, renames, and lines
 * of the journal.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BUFFER_BYTES (8 << 20) /* what netd asks for */
#define NEXT(name)   ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static unsigned int overflows; /* changes whose answers are to be lost, this one included */
static bool refused;

static void set_net_admin(bool on)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];
	const __u32 bit = 1u << CAP_NET_ADMIN;

	if (syscall(SYS_capget, &head, data) < 0)
		abort();
	data[0].effective = on ? data[0].effective | bit : data[0].effective & ~bit;
	if (syscall(SYS_capset, &head, data) < 0)
		abort();
}

static void happen(const char *what)
{
	if (strcmp(what, "kill") == 0)
		kill(getpid(), SIGKILL);
	else if (strcmp(what, "eperm") == 0)
		set_net_admin(!(refused = true));
	else if (strcmp(what, "overflow") == 0)
		overflows = 1;
	else if (strcmp(what, "overflow2") == 0)
		overflows = 2;
	else if (strncmp(what, "run ", 4) == 0 && system(what + 4) < 0)
		abort();
}

/* In front of each change. */
static void step(void)
{
	const char *path = getenv("FAULT");
	char what[256] = "";
	unsigned int left = 0;
	FILE *f = path ? fopen(path, "r+e") : NULL;

	if (!f)
		return;
	if (fscanf(f, "%u %255[^\n]", &left, what) == 2 && left > 1) {
		rewind(f);
		fprintf(f, "%-10u %s\n", left - 1, what);
		left--;
		what[0] = '\0';
	}
	fclose(f);
	if (!what[0])
		return;
	unlink(path);
	unsetenv("LD_PRELOAD");
	happen(what);
}

/* Behind it. */
static void step_done(void)
{
	int saved = errno;

	if (refused)
		set_net_admin(!(refused = false));
	errno = saved;
}

/* A change: a message on a netlink socket that is no dump. */
static bool is_change(int fd, const void *buf, size_t len)
{
	const struct nlmsghdr *nlh = buf;
	struct sockaddr_storage a;
	socklen_t a_len = sizeof(a);

	return getsockname(fd, (struct sockaddr *)&a, &a_len) == 0 && a.ss_family == AF_NETLINK &&
	       len >= sizeof(*nlh) && !(nlh->nlmsg_flags & NLM_F_ROOT);
}

/* The kernel answers while it is sent: the buffer matters only in between. */
static void shrink(int fd, bool on)
{
	int bytes = on ? 0 : BUFFER_BYTES;

	if (setsockopt(fd, SOL_SOCKET, on ? SO_RCVBUF : SO_RCVBUFFORCE, &bytes, sizeof(bytes)) < 0)
		abort();
}

static bool before_send(int fd, const void *buf, size_t len)
{
	bool change = is_change(fd, buf, len);

	if (change)
		step();
	if (change && overflows)
		shrink(fd, true);
	return change;
}

static void after_send(int fd, bool change)
{
	int saved = errno;

	if (change && overflows) {
		overflows--;
		shrink(fd, false);
	}
	if (change)
		step_done();
	errno = saved;
}

ssize_t sendto(int fd, const void *buf, size_t len, int flags, const struct sockaddr *to,
	       socklen_t to_len)
{
	bool change = before_send(fd, buf, len);
	ssize_t n = NEXT(sendto)(fd, buf, len, flags, to, to_len);

	after_send(fd, change);
	return n;
}

ssize_t send(int fd, const void *buf, size_t len, int flags)
{
	bool change = before_send(fd, buf, len);
	ssize_t n = NEXT(send)(fd, buf, len, flags);

	after_send(fd, change);
	return n;
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	bool change =
		msg->msg_iovlen && before_send(fd, msg->msg_iov->iov_base, msg->msg_iov->iov_len);
	ssize_t n = NEXT(sendmsg)(fd, msg, flags);

	after_send(fd, change);
	return n;
}

int ioctl(int fd, unsigned long request, ...)
{
	bool change = request == TUNSETIFF || request == TUNSETOWNER || request == TUNSETPERSIST;
	va_list ap;
	void *arg;
	int r;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (change)
		step();
	r = NEXT(ioctl)(fd, request, arg);
	if (change)
		step_done();
	return r;
}

int rename(const char *from, const char *to)
{
	int r;

	step();
	r = NEXT(rename)(from, to);
	step_done();
	return r;
}

/* Zeros are no line. */
ssize_t pwrite(int fd, const void *buf, size_t len, off_t at)
{
	bool line = len && *(const char *)buf;
	ssize_t n;

	if (line)
		step();
	n = NEXT(pwrite)(fd, buf, len, at);
	if (line)
		step_done();
	return n;
}
