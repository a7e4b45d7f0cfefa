/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Addresses, routes and MTU of a tunnel's device; see tunnel_link.h. */
#include "netd/tunnel_link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/base/cleanup.h"

#define ROOM	     128
#define OVERHEAD4    60u /* outer IPv4 20, UDP 8, header 16, tag 16 */
#define OVERHEAD6    80u
#define MTU_LEAST    1280u
#define MTU_MOST     (65535u - OVERHEAD6)
#define MTU_ETHERNET 1500u

/* Of addresses or routes: those wanted, and which of them were found. */
struct wanted {
	struct prefix p;
	bool found;
};

struct sync {
	struct nl *nl;
	const struct tunnel_want *want;
	int index;
	bool run;
	struct wanted *addrs, *routes;
	size_t addr_count, route_count;
	struct nlbuf changes;
	char **texts; /* one for each message */
	size_t text_capacity, count;
	void (*line)(void *ctx, const char *text);
	void *ctx;
};

/* --- what there is to do -----------------------------------------------------------------------
 */

static int note(struct sync *s, char sign, const char *what, const struct prefix *p)
{
	char prefix[PREFIX_TEXT_MAX] = "", *text;

	if (p)
		prefix_format(p, prefix);
	if (asprintf(&text, "%c %s%s%s on %s", sign, what, p ? " " : "", prefix, s->want->name) < 0)
		return -ENOMEM;
	if (s->count == s->text_capacity) {
		size_t more = s->text_capacity ? s->text_capacity * 2 : 16;
		char **v = reallocarray(s->texts, more, sizeof(*v));

		if (!v) {
			free(text);
			return -ENOMEM;
		}
		s->texts = v;
		s->text_capacity = more;
	}
	s->texts[s->count++] = text;
	return 0;
}

static int put_address(struct sync *s, bool add, const struct prefix *p)
{
	bool v4 = p->addr.family == 4;
	struct nlmsghdr *nlh =
		nlbuf_start(&s->changes, add ? RTM_NEWADDR : RTM_DELADDR,
			    NLM_F_REQUEST | NLM_F_ACK | (add ? NLM_F_CREATE | NLM_F_EXCL : 0),
			    sizeof(struct ifaddrmsg), ROOM);
	struct ifaddrmsg *ifa;

	if (!nlh)
		return -ENOMEM;
	ifa = mnl_nlmsg_get_payload(nlh);
	ifa->ifa_family = v4 ? AF_INET : AF_INET6;
	ifa->ifa_prefixlen = p->len;
	ifa->ifa_index = (uint32_t)s->index;
	mnl_attr_put(nlh, IFA_LOCAL, v4 ? 4 : 16, p->addr.b);
	mnl_attr_put(nlh, IFA_ADDRESS, v4 ? 4 : 16, p->addr.b);
	/* without our mark: what bears it on a link that is none of vlan/'s is taken away there */
	if (add && !v4)
		mnl_attr_put_u32(nlh, IFA_FLAGS, IFA_F_NODAD);
	nlbuf_end(&s->changes, nlh);
	return note(s, add ? '+' : '-', "address", p);
}

static int put_route(struct sync *s, bool add, const struct prefix *p)
{
	bool v4 = p->addr.family == 4;
	struct nlmsghdr *nlh =
		nlbuf_start(&s->changes, add ? RTM_NEWROUTE : RTM_DELROUTE,
			    NLM_F_REQUEST | NLM_F_ACK | (add ? NLM_F_CREATE | NLM_F_EXCL : 0),
			    sizeof(struct rtmsg), ROOM);
	struct rtmsg *rtm;

	if (!nlh)
		return -ENOMEM;
	rtm = mnl_nlmsg_get_payload(nlh);
	rtm->rtm_family = v4 ? AF_INET : AF_INET6;
	rtm->rtm_dst_len = p->len;
	rtm->rtm_table = RT_TABLE_MAIN;
	rtm->rtm_protocol = VLAN_PROTO;
	rtm->rtm_scope = v4 ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
	rtm->rtm_type = RTN_UNICAST;
	mnl_attr_put(nlh, RTA_DST, v4 ? 4 : 16, p->addr.b);
	mnl_attr_put_u32(nlh, RTA_OIF, (uint32_t)s->index);
	nlbuf_end(&s->changes, nlh);
	return note(s, add ? '+' : '-', "route", p);
}

static int put_up(struct sync *s)
{
	struct nlmsghdr *nlh = nlbuf_start(&s->changes, RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK,
					   sizeof(struct ifinfomsg), ROOM);
	struct ifinfomsg *ifi;

	if (!nlh)
		return -ENOMEM;
	ifi = mnl_nlmsg_get_payload(nlh);
	ifi->ifi_index = s->index;
	ifi->ifi_flags = IFF_UP;
	ifi->ifi_change = IFF_UP;
	nlbuf_end(&s->changes, nlh);
	return note(s, '~', "up", NULL);
}

/* --- what there is ------------------------------------------------------------------------------
 */

static bool take_found(struct wanted *v, size_t count, const struct prefix *p)
{
	for (size_t i = 0; i < count; i++)
		if (prefix_compare(&v[i].p, p) == 0 && addr_equal(&v[i].p.addr, &p->addr)) {
			v[i].found = true;
			return true;
		}
	return false;
}

static const struct nlattr *attribute(const struct nlmsghdr *nlh, size_t header, uint16_t type,
				      size_t size)
{
	const struct nlattr *attr;

	mnl_attr_for_each(attr, nlh, (unsigned int)header) if (mnl_attr_get_type(attr) == type &&
							       mnl_attr_get_payload_len(attr) ==
								       size) return attr;
	return NULL;
}

static int on_address(void *arg, const struct nlmsghdr *nlh)
{
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(nlh);
	struct sync *s = arg;
	const struct nlattr *a;
	struct prefix p;
	bool v4;

	if (nlh->nlmsg_type != RTM_NEWADDR || mnl_nlmsg_get_payload_len(nlh) < sizeof(*ifa) ||
	    (int)ifa->ifa_index != s->index)
		return 0;
	v4 = ifa->ifa_family == AF_INET;
	a = attribute(nlh, sizeof(*ifa), IFA_LOCAL, v4 ? 4 : 16);
	a = a ? a : attribute(nlh, sizeof(*ifa), IFA_ADDRESS, v4 ? 4 : 16);
	if (!a || (!v4 && ifa->ifa_family != AF_INET6))
		return 0;
	p = (struct prefix){ addr_from_bytes(v4 ? 4 : 6, mnl_attr_get_payload(a)),
			     ifa->ifa_prefixlen };
	if (addr_is_link_local(&p.addr) || take_found(s->addrs, s->addr_count, &p))
		return 0;
	return put_address(s, false, &p);
}

static int on_route(void *arg, const struct nlmsghdr *nlh)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(nlh);
	struct sync *s = arg;
	const struct nlattr *dst, *oif;
	struct prefix p;
	bool v4;

	if (nlh->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(nlh) < sizeof(*rtm) ||
	    rtm->rtm_protocol != VLAN_PROTO)
		return 0;
	v4 = rtm->rtm_family == AF_INET;
	dst = attribute(nlh, sizeof(*rtm), RTA_DST, v4 ? 4 : 16);
	oif = attribute(nlh, sizeof(*rtm), RTA_OIF, 4);
	if (!dst || !oif || (int)mnl_attr_get_u32(oif) != s->index)
		return 0;
	p = (struct prefix){ addr_from_bytes(v4 ? 4 : 6, mnl_attr_get_payload(dst)),
			     rtm->rtm_dst_len };
	return take_found(s->routes, s->route_count, &p) ? 0 : put_route(s, false, &p);
}

static int look_at_addresses(struct sync *s, struct err *err)
{
	struct nlbuf b = { 0 };
	struct nlmsghdr *nlh = nlbuf_start(&b, RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP,
					   sizeof(struct ifaddrmsg), ROOM);
	int r = -ENOMEM;

	if (nlh) {
		nlbuf_end(&b, nlh);
		r = nl_dump(s->nl, NL_ROUTE, &b, on_address, s, err);
	}
	nlbuf_clear(&b);
	return r;
}

static int look_at_routes(struct sync *s, int family, struct err *err)
{
	struct nlbuf b = { 0 };
	struct nlmsghdr *nlh = nlbuf_start(&b, RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP,
					   sizeof(struct rtmsg), ROOM);
	struct rtmsg *rtm;
	int r = -ENOMEM;

	if (nlh) {
		rtm = mnl_nlmsg_get_payload(nlh);
		rtm->rtm_family = (unsigned char)family;
		rtm->rtm_protocol = VLAN_PROTO;
		nlbuf_end(&b, nlh);
		r = nl_dump(s->nl, NL_ROUTE, &b, on_route, s, err);
	}
	nlbuf_clear(&b);
	return r;
}

static bool is_up(const char *name)
{
	CLEANUP_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq req = { 0 };

	snprintf(req.ifr_name, sizeof(req.ifr_name), "%s", name);
	return fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &req) == 0 && (req.ifr_flags & IFF_UP);
}

/* --- both together -----------------------------------------------------------------------------
 */

static bool needs_route(const struct tunnel_want *w, const struct prefix *p)
{
	if (p->len == 0)
		return false;
	for (size_t i = 0; i < w->addr_count; i++) {
		struct prefix own = prefix_network(&w->addrs[i]);

		if (prefix_contains_prefix(&own, p))
			return false;
	}
	return true;
}

static int list_wanted(struct sync *s)
{
	const struct tunnel_want *w = s->want;
	size_t max = 1;

	for (size_t i = 0; i < w->peer_count; i++)
		max += w->peers[i].allowed_count;
	s->addrs = calloc(w->addr_count + 1, sizeof(*s->addrs));
	s->routes = calloc(max, sizeof(*s->routes));
	if (!s->addrs || !s->routes)
		return -ENOMEM;
	for (size_t i = 0; i < w->addr_count; i++)
		s->addrs[s->addr_count++].p = w->addrs[i];
	for (size_t i = 0; i < w->peer_count; i++)
		for (size_t k = 0; k < w->peers[i].allowed_count; k++)
			if (needs_route(w, &w->peers[i].allowed[k]))
				s->routes[s->route_count++].p = w->peers[i].allowed[k];
	return 0;
}

/* Addresses that come do so before the routes that need a device that is up. */
static int plan(struct sync *s, struct err *err)
{
	int r = list_wanted(s);

	r = r < 0 ? r : look_at_addresses(s, err);
	r = r < 0 ? r : look_at_routes(s, AF_INET, err);
	r = r < 0 ? r : look_at_routes(s, AF_INET6, err);
	if (r == 0 && !is_up(s->want->name))
		r = put_up(s);
	for (size_t i = 0; r == 0 && i < s->addr_count; i++)
		if (!s->addrs[i].found)
			r = put_address(s, true, &s->addrs[i].p);
	for (size_t i = 0; r == 0 && i < s->route_count; i++)
		if (!s->routes[i].found)
			r = put_route(s, true, &s->routes[i].p);
	return r;
}

static int carry_out(struct sync *s, struct err *err)
{
	CLEANUP_FREE int *results = calloc(s->count + 1, sizeof(*results));
	int r = results ? nl_batch(s->nl, &s->changes, results, err) : -ENOMEM;

	if (r < 0)
		return r;
	for (size_t i = 0; i < s->count; i++) {
		bool goes = s->texts[i][0] == '-';

		/* deleting an address takes its routes along */
		if (results[i] == 0 || (goes && (results[i] == -ESRCH || results[i] == -ENODEV ||
						 results[i] == -EADDRNOTAVAIL)))
			continue;
		if (results[i] == -EEXIST)
			return err_set(err, results[i], "%s: there is one already, of another's",
				       s->texts[i] + 2);
		return err_sys(err, results[i], "%s", s->texts[i] + 2);
	}
	return 0;
}

int tunnel_link_sync(struct nl *nl, const struct tunnel_want *w, bool run,
		     void (*line)(void *ctx, const char *text), void *ctx, size_t *ret_count,
		     struct err *err)
{
	struct sync s = { .nl = nl, .want = w, .run = run, .line = line, .ctx = ctx };
	struct err sub = { 0 };
	int r;

	*ret_count = 0;
	s.index = nl_ifindex(nl, w->name);
	if (s.index < 0)
		return err_sys(err, s.index, "tunnel %s", w->name);
	r = plan(&s, &sub);
	for (size_t i = 0; r == 0 && line && i < s.count; i++)
		line(ctx, s.texts[i]);
	if (r == 0 && run && s.count)
		r = carry_out(&s, &sub);
	*ret_count = s.count;
	for (size_t i = 0; i < s.count; i++)
		free(s.texts[i]);
	free(s.texts);
	free(s.addrs);
	free(s.routes);
	nlbuf_clear(&s.changes);
	if (r < 0)
		return err_set(err, r, "tunnel %s: %s", w->name, sub.text);
	return 0;
}

/* --- MTU ----------------------------------------------------------------------------------------
 */

/* What the kernel would send to it in one piece; 0: no way there. */
static unsigned int way_mtu(const union endpoint_addr *a, uint32_t mark)
{
	bool v4 = a->sa.sa_family == AF_INET;
	CLEANUP_CLOSE int fd = socket(a->sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int mtu = 0;
	socklen_t len = sizeof(mtu);

	if (fd < 0)
		return 0;
	if (mark)
		(void)setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark));
	if (connect(fd, &a->sa, v4 ? sizeof(a->v4) : sizeof(a->v6)) < 0 ||
	    getsockopt(fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_MTU : IPV6_MTU, &mtu, &len) < 0)
		return 0;
	return mtu > 0 ? (unsigned int)mtu : 0;
}

static void take_way(unsigned int *least, const union endpoint_addr *a, uint32_t mark)
{
	unsigned int overhead = a->sa.sa_family == AF_INET ? OVERHEAD4 : OVERHEAD6;
	unsigned int mtu = way_mtu(a, mark);

	if (mtu > overhead && mtu - overhead < *least)
		*least = mtu - overhead;
}

uint16_t tunnel_link_mtu(const union endpoint_addr *endpoints, size_t count, uint32_t mark)
{
	/* Documentation addresses: nothing is sent there, the default ways are asked for. */
	union endpoint_addr far4 = { .v4 = { .sin_family = AF_INET, .sin_port = htons(9) } };
	union endpoint_addr far6 = { .v6 = { .sin6_family = AF_INET6, .sin6_port = htons(9) } };
	unsigned int least = UINT32_MAX;

	for (size_t i = 0; i < count; i++)
		if (endpoints[i].sa.sa_family)
			take_way(&least, &endpoints[i], mark);
	if (least == UINT32_MAX) {
		inet_pton(AF_INET, "198.51.100.1", &far4.v4.sin_addr);
		inet_pton(AF_INET6, "2001:db8:ffff::1", &far6.v6.sin6_addr);
		take_way(&least, &far4, mark);
		take_way(&least, &far6, mark);
	}
	if (least == UINT32_MAX)
		least = MTU_ETHERNET - OVERHEAD6;
	return (uint16_t)(least < MTU_LEAST ? MTU_LEAST : least > MTU_MOST ? MTU_MOST : least);
}
