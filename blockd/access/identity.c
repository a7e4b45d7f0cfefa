// SPDX-License-Identifier: GPL-2.0-or-later
/* See identity.h.  Reads /proc; any thread. */
#include "blockd/access/identity.h"

#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif

#define STAT_START 20 /* fields from the state on: starttime is the 22nd of proc(5)'s list */

bool identity_is_alive(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return pidfd >= 0 && poll(&p, 1, 0) == 0;
}

/* In clock ticks since boot; 0: there is no such process. */
static uint64_t start_time(int pid)
{
	char path[32], text[1024], *at;
	size_t len;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	len = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[len] = '\0';
	at = strrchr(text, ')'); /* its name may hold anything */
	for (int i = 0; at && i < STAT_START; i++)
		at = strchr(at + 1, ' ');
	return at ? strtoull(at + 1, NULL, 10) : 0;
}

static int open_pid(int pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* The start time is that of the process behind the pidfd only if that is still there afterwards. */
static bool process_token(int fd, int pid, char *to, size_t size, int *ret_pidfd)
{
	int pidfd = -1;
	socklen_t len = sizeof(pidfd);
	uint64_t start;

	if (pid <= 0)
		return false;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &len))
		pidfd = open_pid(pid);
	start = start_time(pid);
	if (!start || !identity_is_alive(pidfd)) {
		if (pidfd >= 0)
			close(pidfd);
		return false;
	}
	snprintf(to, size, "pid=%d.%llu", pid, (unsigned long long)start);
	*ret_pidfd = pidfd;
	return true;
}

void identity_of(int fd, const char *holder, uint64_t conn_id, uint64_t boot, char *ret_owner,
		 size_t size, int *ret_pidfd)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);
	struct ucred cred = { 0 };
	char scope[96] = "unknown", token[96], host[64];
	bool is_unix = false;

	*ret_pidfd = -1;
	if (!getpeername(fd, (struct sockaddr *)&ss, &len) && ss.ss_family != AF_UNIX) {
		if (!getnameinfo((struct sockaddr *)&ss, len, host, sizeof(host), NULL, 0,
				 NI_NUMERICHOST))
			snprintf(scope, sizeof(scope), "addr=%s", host);
	} else {
		len = sizeof(cred);
		is_unix = !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
		if (is_unix)
			snprintf(scope, sizeof(scope), "uid=%u", (unsigned)cred.uid);
	}
	if (holder[0])
		snprintf(token, sizeof(token), "holder=%s", holder);
	else if (!is_unix || !process_token(fd, cred.pid, token, sizeof(token), ret_pidfd))
		snprintf(token, sizeof(token), "conn=%llu.%llx", (unsigned long long)conn_id,
			 (unsigned long long)boot);
	snprintf(ret_owner, size, "%s/%s", scope, token);
}

int identity_find(const char *owner)
{
	const char *token = strstr(owner, "/pid=");
	unsigned long long start;
	int pid, pidfd;

	if (!token || sscanf(token, "/pid=%d.%llu", &pid, &start) != 2)
		return -1;
	pidfd = open_pid(pid);
	if (pidfd >= 0 && (start_time(pid) != start || !identity_is_alive(pidfd))) {
		close(pidfd);
		pidfd = -1;
	}
	return pidfd;
}
