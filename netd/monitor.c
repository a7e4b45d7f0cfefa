/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hearing of changes; see monitor.h.
 *
 * Two sockets with multicast groups.  A message is looked at just long enough to see whether it is
 * about something of ours.  A kernel buffer that overflows (ENOBUFS) is an event of its own.
 */
#include "netd/monitor.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "nat/wire.h"

#define BUFFER_BYTES (4 << 20)
#define READ_BYTES   (64 << 10)
#define READS_MAX    256 /* datagrams a call; the rest waits for the next one */

struct monitor {
	struct mnl_socket *route, *netfilter;
	struct nl *nl;
	uint32_t own_port;
	char (*also)[IF_NAMESIZE]; /* names beside those of vlan/ */
	size_t also_count;
	bool hushed;
	uint32_t generation; /* when it was hushed */
	uint8_t buf[READ_BYTES];
};

static struct mnl_socket *subscribe(int family, const int *groups, size_t count)
{
	struct mnl_socket *s = mnl_socket_open2(family, SOCK_NONBLOCK | SOCK_CLOEXEC);
	int bytes = BUFFER_BYTES;

	if (!s)
		return NULL;
	if (mnl_socket_bind(s, 0, MNL_SOCKET_AUTOPID) < 0)
		goto fail;
	for (size_t i = 0; i < count; i++) {
		int group = groups[i];

		if (mnl_socket_setsockopt(s, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0)
			goto fail;
	}
	if (setsockopt(mnl_socket_get_fd(s), SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) < 0)
		(void)setsockopt(mnl_socket_get_fd(s), SOL_SOCKET, SO_RCVBUF, &bytes,
				 sizeof(bytes));
	return s;
fail:
	mnl_socket_close(s);
	return NULL;
}

int monitor_open(struct nl *nl, struct monitor **ret, struct err *err)
{
	static const int route_groups[] = { RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR,
					    RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE };
	static const int nft_groups[] = { NFNLGRP_NFTABLES };
	struct monitor *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return -ENOMEM;
	m->nl = nl;
	m->own_port = nl_port_id(nl);
	m->route = subscribe(NETLINK_ROUTE, route_groups, 5);
	m->netfilter = m->route ? subscribe(NETLINK_NETFILTER, nft_groups, 1) : NULL;
	if (!m->netfilter) {
		r = errno ? -errno : -EIO;
		monitor_close(m);
		return err_sys(err, r, "listening for network changes");
	}
	*ret = m;
	return 0;
}

void monitor_close(struct monitor *m)
{
	if (!m)
		return;
	if (m->route)
		mnl_socket_close(m->route);
	if (m->netfilter)
		mnl_socket_close(m->netfilter);
	free(m->also);
	free(m);
}

void monitor_fds(const struct monitor *m, int ret_fds[2])
{
	ret_fds[0] = mnl_socket_get_fd(m->route);
	ret_fds[1] = mnl_socket_get_fd(m->netfilter);
}

/* A string attribute of a message, "" when it is not there. */
static const char *text_of(const struct nlmsghdr *nlh, size_t header, uint16_t type)
{
	const struct nlattr *attr;

	if (mnl_nlmsg_get_payload_len(nlh) < header)
		return "";
	mnl_attr_for_each(attr, nlh,
			  (unsigned)header) if (mnl_attr_get_type(attr) == type &&
						mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >=
							0) return mnl_attr_get_str(attr);
	return "";
}

int monitor_also(struct monitor *m, const char *name)
{
	char(*more)[IF_NAMESIZE];

	if (!name) {
		m->also_count = 0;
		return 0;
	}
	more = reallocarray(m->also, m->also_count + 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	m->also = more;
	snprintf(more[m->also_count++], IF_NAMESIZE, "%s", name);
	return 0;
}

static bool is_wanted(const struct monitor *m, const struct vlan_state *desired, const char *name)
{
	for (size_t i = 0; i < m->also_count; i++)
		if (strcmp(m->also[i], name) == 0)
			return true;
	return vlan_state_find(desired, name) != NULL;
}

static unsigned route_event(const struct monitor *m, const struct nlmsghdr *nlh,
			    const struct vlan_state *desired)
{
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(nlh);
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(nlh);
	char name[IF_NAMESIZE];

	switch (nlh->nlmsg_type) {
	case RTM_NEWLINK:
	case RTM_DELLINK:
		if (!desired ||
		    is_wanted(m, desired, text_of(nlh, sizeof(struct ifinfomsg), IFLA_IFNAME)) ||
		    !strncmp(text_of(nlh, sizeof(struct ifinfomsg), IFLA_IFALIAS), VLAN_MARK,
			     strlen(VLAN_MARK)))
			return MONITOR_LINK;
		return 0;
	case RTM_NEWADDR:
	case RTM_DELADDR:
		if (mnl_nlmsg_get_payload_len(nlh) < sizeof(*ifa))
			return MONITOR_ADDR;
		if (!desired || !if_indextoname(ifa->ifa_index, name))
			return MONITOR_ADDR;
		return is_wanted(m, desired, name) ? MONITOR_ADDR : 0;
	case RTM_DELROUTE:
		return mnl_nlmsg_get_payload_len(nlh) >= sizeof(*rtm) &&
				       rtm->rtm_protocol == VLAN_PROTO
			       ? MONITOR_ADDR
			       : 0;
	}
	return 0;
}

/* Attribute 1 is the table's name in all of nftables' messages but that of a new generation. */
static unsigned nft_event(const struct monitor *m, const struct nlmsghdr *nlh)
{
	if (nlh->nlmsg_type >> 8 != NFNL_SUBSYS_NFTABLES || nlh->nlmsg_pid == m->own_port ||
	    (nlh->nlmsg_type & 0xff) == NFT_MSG_NEWGEN)
		return 0;
	return strcmp(text_of(nlh, sizeof(struct nfgenmsg), NFTA_TABLE_NAME), NAT_TABLE)
		       ? 0
		       : MONITOR_NAT;
}

static unsigned read_socket(struct monitor *m, struct mnl_socket *s,
			    const struct vlan_state *desired)
{
	unsigned events = 0;

	for (int i = 0; i < READS_MAX; i++) {
		ssize_t n = recv(mnl_socket_get_fd(s), m->buf, sizeof(m->buf), MSG_DONTWAIT);
		int len = (int)n;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == ENOBUFS ? events | MONITOR_LOST : events;
		for (const struct nlmsghdr *h = (const void *)m->buf; mnl_nlmsg_ok(h, len);
		     h = mnl_nlmsg_next(h, &len))
			events |= s == m->route ? route_event(m, h, desired) : nft_event(m, h);
	}
	return events;
}

/* --- while we write much ---------------------------------------------------------------------- */

static int on_generation(void *arg, const struct nlmsghdr *nlh)
{
	return nat_wire_generation(nlh, arg) == -EPROTO ? -EPROTO : 0;
}

/* How many commits nftables has seen in this namespace; 0: not known. */
static uint32_t generation_of(struct nl *nl)
{
	struct nlbuf b = { 0 };
	uint32_t generation = 0;
	int r = nat_wire_ask_generation(&b);

	r = r < 0 ? r : nl_dump(nl, NL_NETFILTER, &b, on_generation, &generation, NULL);
	nlbuf_clear(&b);
	return r < 0 ? 0 : generation;
}

static int set_membership(const struct monitor *m, int option)
{
	int group = NFNLGRP_NFTABLES;

	return mnl_socket_setsockopt(m->netfilter, option, &group, sizeof(group));
}

void monitor_hush(struct monitor *m)
{
	m->generation = generation_of(m->nl);
	m->hushed = m->generation && set_membership(m, NETLINK_DROP_MEMBERSHIP) == 0;
}

unsigned monitor_unhush(struct monitor *m, uint64_t commit_count)
{
	uint32_t expected = m->generation + (uint32_t)commit_count;

	if (!m->hushed)
		return 0;
	m->hushed = false;
	/* listen first, then look: what comes in between is heard twice rather than never */
	if (set_membership(m, NETLINK_ADD_MEMBERSHIP) < 0)
		return MONITOR_NAT;
	return generation_of(m->nl) == expected ? 0 : MONITOR_NAT;
}

unsigned monitor_read(struct monitor *m, const struct vlan_state *desired)
{
	return read_socket(m, m->route, desired) | read_socket(m, m->netfilter, desired);
}
