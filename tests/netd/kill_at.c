/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For LD_PRELOAD into netd: kill -9 in front of the N-th change that it makes to the kernel's
 * network configuration or to its own state.
 *
 *	KILL_AT=7        the count; 0: never, only count
 *	KILL_COUNT=FILE  where the count so far is written
 *
 * Counted are runs of messages on netlink sockets that are no dumps, TAP ioctls and renames.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static unsigned int seen;

static void step(void)
{
	const char *at = getenv("KILL_AT"), *count = getenv("KILL_COUNT");
	char text[16];
	int fd;

	seen++;
	if (count) {
		fd = open(count, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		snprintf(text, sizeof(text), "%u", seen);
		if (fd < 0 || write(fd, text, strlen(text)) < 0)
			abort();
		close(fd);
	}
	if (at && seen == (unsigned int)atoi(at))
		kill(getpid(), SIGKILL);
}

/* A change: a message on a netlink socket that is no dump. */
static int is_change(int fd, const void *buf, size_t len)
{
	const struct nlmsghdr *nlh = buf;
	struct sockaddr_storage a;
	socklen_t a_len = sizeof(a);

	return getsockname(fd, (struct sockaddr *)&a, &a_len) == 0 && a.ss_family == AF_NETLINK &&
	       len >= sizeof(*nlh) && !(nlh->nlmsg_flags & NLM_F_ROOT);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t sendto(int fd, const void *buf, size_t len, int flags, const struct sockaddr *to,
	       socklen_t to_len)
{
	int ours = is_change(fd, buf, len);

	if (ours)
		step();
	return NEXT(sendto)(fd, buf, len, flags, to, to_len);
}

ssize_t send(int fd, const void *buf, size_t len, int flags)
{
	int ours = is_change(fd, buf, len);

	if (ours)
		step();
	return NEXT(send)(fd, buf, len, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	int ours = msg->msg_iovlen && is_change(fd, msg->msg_iov->iov_base, msg->msg_iov->iov_len);

	if (ours)
		step();
	return NEXT(sendmsg)(fd, msg, flags);
}

int ioctl(int fd, unsigned long request, ...)
{
	int ours = request == TUNSETIFF || request == TUNSETOWNER || request == TUNSETPERSIST;
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (ours)
		step();
	return NEXT(ioctl)(fd, request, arg);
}

int rename(const char *from, const char *to)
{
	step();
	return NEXT(rename)(from, to);
}
