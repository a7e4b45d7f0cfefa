/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host's facts come from getifaddrs(3), which anybody may ask.  What the kernel can do is found
 * out by trying, in a network namespace of its own in a child process, so that the host sees
 * nothing of it; an ordinary user gets one through a user namespace.  Where that is forbidden,
 * those checks are left to netd, and said to be.
 */
#include "netd/ctl/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/cleanup.h"
#include "netd/conf.h"
#include "netd/observe.h"

struct host_links {
	struct netd_conf_link *v;
	struct prefix *addrs; /* all links' in one array, as many as entries */
	size_t count;
};

static struct netd_conf_link *link_named(struct host_links *h, const char *name)
{
	for (size_t i = 0; i < h->count; i++)
		if (strcmp(h->v[i].name, name) == 0)
			return &h->v[i];
	return NULL;
}

static unsigned int mask_len(const uint8_t *mask, size_t size)
{
	unsigned int len = 0;

	for (size_t i = 0; i < size; i++)
		len += (unsigned int)__builtin_popcount(mask[i]);
	return len;
}

static bool prefix_of(const struct ifaddrs *a, struct prefix *ret)
{
	if (!a->ifa_addr || !a->ifa_netmask)
		return false;
	if (a->ifa_addr->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)a->ifa_addr;
		const struct sockaddr_in *mask = (const void *)a->ifa_netmask;

		ret->addr = addr_from_bytes(4, &in->sin_addr);
		ret->len = (uint8_t)mask_len((const uint8_t *)&mask->sin_addr, 4);
		return true;
	}
	if (a->ifa_addr->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in = (const void *)a->ifa_addr;
		const struct sockaddr_in6 *mask = (const void *)a->ifa_netmask;

		ret->addr = addr_from_bytes(6, &in->sin6_addr);
		ret->len = (uint8_t)mask_len((const uint8_t *)&mask->sin6_addr, 16);
		return true;
	}
	return false;
}

/* Interfaces that the config itself makes are ours, not the host's. */
static bool made_by(struct conf *c, const char *name)
{
	struct conf_section *s = conf_section_find(c, conf_root(c), "port", name);
	char gateway[IFNAMSIZ];

	if (s && !conf_flag(s, "existing"))
		return true;
	if (conf_section_find(c, conf_root(c), "bridge", name) ||
	    conf_section_find(c, conf_root(c), "tunnel", name))
		return true;
	for (s = conf_section_first(conf_root(c), "vlan"); s; s = conf_section_next(s, "vlan"))
		if (netd_conf_gateway_name(s, gateway) && strcmp(gateway, name) == 0)
			return true;
	return false;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct netd_conf_link *)a)->name,
		      ((const struct netd_conf_link *)b)->name);
}

static int gather(struct conf *c, struct host_links *h)
{
	struct ifaddrs *all = NULL, *a;
	size_t max = 1, used = 0;

	if (getifaddrs(&all) < 0)
		return -errno;
	for (a = all; a; a = a->ifa_next)
		max++;
	h->v = calloc(max, sizeof(*h->v));
	h->addrs = calloc(max, sizeof(*h->addrs));
	for (a = all; h->v && h->addrs && a; a = a->ifa_next) {
		struct netd_conf_link *l = &h->v[h->count];

		if (link_named(h, a->ifa_name))
			continue;
		strncpy(l->name, a->ifa_name, sizeof(l->name) - 1);
		l->loopback = a->ifa_flags & IFF_LOOPBACK;
		l->ours = made_by(c, l->name);
		l->addrs = h->addrs + used;
		for (struct ifaddrs *b = all; b; b = b->ifa_next)
			if (strcmp(b->ifa_name, l->name) == 0 &&
			    prefix_of(b, &h->addrs[used + l->addr_count]))
				l->addr_count++;
		used += l->addr_count;
		h->count++;
	}
	freeifaddrs(all);
	if (h->v)
		qsort(h->v, h->count, sizeof(*h->v), by_name);
	return h->v && h->addrs ? 0 : -ENOMEM;
}

/* In the child: the answer through the pipe, or nothing. */
static void probe_and_tell(int fd)
{
	struct vlan_caps caps = { 0 };
	struct nat_caps nat = { 0 };
	struct nl *nl = NULL;

	if (unshare(geteuid() == 0 ? CLONE_NEWNET : CLONE_NEWUSER | CLONE_NEWNET) == 0 &&
	    nl_open(&nl, NULL) == 0 && observe_caps(nl, &caps, &nat, NULL) == 0 &&
	    write(fd, &caps, sizeof(caps)) != sizeof(caps))
		_exit(1);
	_exit(0);
}

static bool probe_kernel(struct vlan_caps *ret_caps)
{
	CLEANUP_CLOSE int in = -1;
	int fds[2];
	pid_t pid;
	bool ok;

	if (pipe(fds) < 0)
		return false;
	in = fds[0];
	pid = fork();
	if (pid == 0)
		probe_and_tell(fds[1]);
	close(fds[1]);
	ok = pid > 0 && read(in, ret_caps, sizeof(*ret_caps)) == sizeof(*ret_caps);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	if (ok && geteuid() != 0)
		ret_caps->tun = true; /* that we may not open it says nothing of netd */
	return ok;
}

int check_run(struct cli *cli, const char *path)
{
	struct conf *c = conf_new(&netd_conf_schema);
	struct netd_conf_host host = { 0 };
	struct host_links links = { 0 };
	struct vlan_caps caps;
	json_t *errors = json_array(), *o;
	size_t count;

	if (c && netd_conf_read(c, path) != -ENOMEM && conf_finish(c) != -ENOMEM) {
		netd_conf_check(c);
		if (gather(c, &links) == 0) {
			host.links = links.v;
			host.link_count = links.count;
			host.skip_keys = geteuid() != 0;
			host.caps = probe_kernel(&caps) ? &caps : NULL;
			netd_conf_check_host(c, &host);
		}
	}
	count = c ? conf_error_count(c) : 1;
	for (size_t i = 0; c && conf_error_text(c, i); i++)
		json_array_append_new(errors, json_string(conf_error_text(c, i)));
	o = json_pack("{s:o}", "errors", errors);
	output_json(cli->out, o);
	json_decref(o);
	if (c)
		conf_print_errors(c, stderr);
	if (!count)
		output_note(cli->out, "%s: good%s", path,
			    host.caps ? "" : " (what this kernel can do was not tried)");
	free(links.v);
	free(links.addrs);
	conf_free(c);
	return count ? CLI_FAILED : CLI_OK;
}
