/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Order matters for IPv6: accept_ra goes to 2 before forwarding goes to 1, because the kernel
 * drops what it learned from advertisements in between.  Back in the opposite order.
 */
#include "netd/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include "common/base/cleanup.h"

#define FORWARD4 "net/ipv4/ip_forward"
#define FORWARD6 "net/ipv6/conf/all/forwarding"
#define CONF6	 "net/ipv6/conf"

/* The value without newline; false when the setting does not exist (a kernel without IPv6). */
static bool setting_read(const char *path, char *buf, size_t size)
{
	char full[256];
	CLEANUP_CLOSE int fd = -1;
	ssize_t n;

	snprintf(full, sizeof(full), "/proc/sys/%s", path);
	fd = open(full, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, buf, size - 1);
	if (n < 0)
		return false;
	buf[n] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return true;
}

static int setting_write(const char *path, const char *value, struct err *err)
{
	char full[256];
	CLEANUP_CLOSE int fd = -1;

	snprintf(full, sizeof(full), "/proc/sys/%s", path);
	fd = open(full, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		return err_sys(err, -errno, "/proc/sys/%s", path);
	return 0;
}

static bool setting_is(const char *path, const char *value)
{
	char now[64];

	return !setting_read(path, now, sizeof(now)) || strcmp(now, value) == 0;
}

/* Remember, then write. */
static int setting_change(struct state *st, const char *path, const char *value, struct err *err)
{
	char now[64];
	int r;

	if (!setting_read(path, now, sizeof(now)) || strcmp(now, value) == 0)
		return 0;
	r = state_keep_sysctl(st, path, now, err);
	return r < 0 ? r : setting_write(path, value, err);
}

static int keep_hearing_on(struct state *st, const char *ifname, struct err *err)
{
	char path[160], now[64];

	snprintf(path, sizeof(path), CONF6 "/%s/accept_ra", ifname);
	if (!setting_read(path, now, sizeof(now)) || strcmp(now, "1") != 0)
		return 0;
	return setting_change(st, path, "2", err);
}

/* Interfaces that listen to router advertisements as hosts do: with forwarding they would stop. */
static int keep_hearing(struct state *st, const struct vlan_state *seen,
			const struct vlan_state *want, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < seen->link_count && r == 0; i++) {
		const struct vlan_link *l = &seen->links[i], *w = vlan_state_find(want, l->name);

		if (strcmp(l->name, "lo") == 0 || l->master_ifindex || vlan_link_is_ours(l) ||
		    (w && !w->addr_only))
			continue;
		r = keep_hearing_on(st, l->name, err);
	}
	return r;
}

/* A NIC that went and came back is new to the kernel: as it was set before it went. */
static int hear_again(struct state *st, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < st->sysctl_count && r == 0; i++) {
		const struct state_sysctl *s = &st->sysctls[i];
		char now[64];

		if (strncmp(s->path, CONF6, strlen(CONF6)) == 0 && strcmp(s->path, FORWARD6) != 0 &&
		    setting_read(s->path, now, sizeof(now)) && strcmp(now, "1") == 0)
			r = setting_write(s->path, "2", err);
	}
	return r;
}

static bool is_v6(const char *path)
{
	return strncmp(path, "net/ipv6/", 9) == 0;
}

/* Put back what was remembered for a family: forwarding first, then what depended on it. */
static int put_back(struct state *st, bool v6, struct err *err)
{
	for (int pass = 0; pass < 2; pass++)
		for (size_t i = 0; i < st->sysctl_count; i++) {
			const struct state_sysctl *s = &st->sysctls[i];
			bool forwarding =
				strcmp(s->path, FORWARD4) == 0 || strcmp(s->path, FORWARD6) == 0;

			if (is_v6(s->path) != v6 || forwarding != (pass == 0) ||
			    setting_is(s->path, s->value))
				continue;
			if (setting_write(s->path, s->value, err) < 0)
				return err ? err->code : -EIO;
		}
	return state_forget_sysctls(st, v6 ? "net/ipv6/" : "net/ipv4/", err);
}

int settings_apply(struct state *st, bool forward4, bool forward6, const struct vlan_state *seen,
		   const struct vlan_state *want, struct err *err)
{
	int r = forward4 ? setting_change(st, FORWARD4, "1", err) : put_back(st, false, err);

	if (r < 0)
		return r;
	if (!forward6)
		return put_back(st, true, err);
	if (setting_is(FORWARD6, "1"))
		return hear_again(st, err);
	r = keep_hearing(st, seen, want, err);
	return r < 0 ? r : setting_change(st, FORWARD6, "1", err);
}

size_t settings_diff(bool forward4, bool forward6, void (*line)(void *ctx, const char *text),
		     void *ctx)
{
	size_t n = 0;

	if (forward4 && !setting_is(FORWARD4, "1")) {
		n++;
		if (line)
			line(ctx, "~ setting " FORWARD4 " = 1");
	}
	if (forward6 && !setting_is(FORWARD6, "1")) {
		n++;
		if (line)
			line(ctx, "~ setting " FORWARD6 " = 1");
	}
	return n;
}

int settings_watch_open(void)
{
	static const int groups[] = { RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF };
	struct sockaddr_nl self = { .nl_family = AF_NETLINK };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

	/* without an address of its own a socket is taken for the kernel and hears nothing */
	if (fd >= 0 && bind(fd, (struct sockaddr *)&self, sizeof(self)) < 0) {
		close(fd);
		return -1;
	}
	for (size_t i = 0; fd >= 0 && i < sizeof(groups) / sizeof(*groups); i++)
		if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &groups[i],
			       sizeof(groups[i])) < 0) {
			close(fd);
			return -1;
		}
	return fd;
}

bool settings_watch_read(int fd)
{
	bool any = false;
	char buf[4096];
	ssize_t n;

	/* lost messages (ENOBUFS) are something too: what changed, the settings themselves say */
	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0 || (n < 0 && errno == ENOBUFS))
		any = true;
	return any;
}
