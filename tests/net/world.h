/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A world to send packets through, on the real kernel (per-vlan backend).
 *
 *	   g1 10.10.0.11  fd10::11      g2 10.10.0.12       g3 10.20.0.11
 *	      |                          |                   |
 *	   vm1|______ guests.10 _________|vm2             vm3|____ guests.20
 *	              10.10.0.1/24 fd10::1/64                      10.20.0.1/24
 *	   host       192.0.2.1/24 2001:db8::1/64
 *	      |eth0
 *	   out 192.0.2.2  2001:db8::2   (the internet: no route to the guests)
 *
 * One process: a socket belongs to the namespace in which it was made, so each end is made in its
 * own and both are used from here.  br_netfilter stays as the kernel has it (on).
 */
#ifndef TESTS_NET_WORLD_H
#define TESTS_NET_WORLD_H

#include "tests/net/kernel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>

#include "tests/net/net_fixture.h"

#define WAIT_MS	 30000 /* for what must come */
#define QUIET_MS 120  /* for what must not */

static struct net_fixture f;

/* ---- namespaces and sockets ---- */

enum place { HOST, OUT, G1, G2, G3, PLACES };
static const char *const place_names[PLACES] = { "", "out", "g1", "g2", "g3" };
static int place_fd[PLACES];

static inline void enter(enum place p)
{
	if (setns(place_fd[p], CLONE_NEWNET) < 0)
		fail_msg("setns %s: %s", place_names[p], strerror(errno));
}

static inline socklen_t address(const char *text, uint16_t port, struct sockaddr_storage *ret)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret;

	memset(ret, 0, sizeof(*ret));
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		return sizeof(*v4);
	}
	assert_int_equal(inet_pton(AF_INET6, text, &v6->sin6_addr), 1);
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons(port);
	return sizeof(*v6);
}

static inline int open_socket(enum place p, const char *bind_to, uint16_t port, int type)
{
	struct sockaddr_storage a;
	socklen_t len = address(bind_to, port, &a);
	int on = 1, fd;

	enter(p);
	fd = socket(a.ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	enter(HOST);
	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&a, len) < 0)
		fail_msg("bind %s:%u: %s", bind_to, port, strerror(errno));
	if (type == SOCK_STREAM && port && listen(fd, 5) < 0)
		fail_msg("listen: %s", strerror(errno));
	return fd;
}

static inline bool readable(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) == 1;
}

static inline const char *any_of(const char *text)
{
	return strchr(text, ':') ? "::" : "0.0.0.0";
}

/* The text of the other end's address as the receiver saw it. */
static char seen_from[INET6_ADDRSTRLEN];

static inline void note_source(const struct sockaddr_storage *a)
{
	if (a->ss_family == AF_INET)
		inet_ntop(AF_INET, &((const struct sockaddr_in *)a)->sin_addr, seen_from,
			  sizeof(seen_from));
	else
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)a)->sin6_addr, seen_from,
			  sizeof(seen_from));
}

/* Whether a TCP connection to dst:port from `from` arrives at the server at:server_port. */
static inline bool tcp(enum place from, const char *dst, uint16_t port, enum place at,
		       uint16_t server_port, bool expected)
{
	int server = open_socket(at, any_of(dst), server_port, SOCK_STREAM);
	int client = open_socket(from, any_of(dst), 0, SOCK_STREAM);
	struct sockaddr_storage a;
	socklen_t len = address(dst, port, &a);
	bool arrived;

	(void)connect(client, (struct sockaddr *)&a, len);
	arrived = readable(server, expected ? WAIT_MS : QUIET_MS);
	if (arrived) {
		len = sizeof(a);
		close(accept(server, (struct sockaddr *)&a, &len));
		note_source(&a);
	}
	close(client);
	close(server);
	return arrived;
}

/* Send one datagram; whether it arrives. */
static inline bool datagram(int from, const char *dst, uint16_t port, int at, bool expected)
{
	struct sockaddr_storage a;
	socklen_t len = address(dst, port, &a);
	char buf[64];

	while (recv(at, buf, sizeof(buf), 0) >= 0)
		;
	(void)!sendto(from, "hello", 5, 0, (struct sockaddr *)&a, len);
	if (!readable(at, expected ? WAIT_MS : QUIET_MS))
		return false;
	len = sizeof(a);
	if (recvfrom(at, buf, sizeof(buf), 0, (struct sockaddr *)&a, &len) != 5)
		return false;
	note_source(&a);
	/* and back: a forward that answers from another address is none */
	(void)!sendto(at, "world", 5, 0, (struct sockaddr *)&a, len);
	if (!readable(from, WAIT_MS))
		return false;
	len = sizeof(a);
	return recvfrom(from, buf, sizeof(buf), 0, (struct sockaddr *)&a, &len) == 5;
}

static inline bool udp(enum place from, const char *dst, uint16_t port, enum place at,
		       uint16_t server_port, bool expected)
{
	int server = open_socket(at, any_of(dst), server_port, SOCK_DGRAM);
	int client = open_socket(from, any_of(dst), 0, SOCK_DGRAM);
	bool ok = datagram(client, dst, port, server, expected);

	close(client);
	close(server);
	return ok;
}

/* ICMP echo by a ping socket. */
static inline bool ping(enum place from, const char *dst, bool expected)
{
	struct sockaddr_storage a;
	socklen_t len = address(dst, 0, &a);
	uint8_t echo[16] = { a.ss_family == AF_INET ? 8 : 128 };
	bool ok;
	int fd;

	enter(from);
	fd = socket(a.ss_family, SOCK_DGRAM,
		    a.ss_family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6);
	enter(HOST);
	assert_true(fd >= 0);
	(void)!sendto(fd, echo, sizeof(echo), 0, (struct sockaddr *)&a, len);
	ok = readable(fd, expected ? WAIT_MS : QUIET_MS);
	close(fd);
	return ok;
}

#define reaches_tcp(from, dst, port, at, sport) assert_true(tcp(from, dst, port, at, sport, true))
#define no_tcp(from, dst, port, at, sport)	assert_false(tcp(from, dst, port, at, sport, false))
#define reaches_udp(from, dst, port, at, sport) assert_true(udp(from, dst, port, at, sport, true))
#define no_udp(from, dst, port, at, sport)	assert_false(udp(from, dst, port, at, sport, false))

/* ---- the config ---- */

static inline struct addr addr(const char *text)
{
	struct err err = { 0 };
	struct addr a;

	must(addr_parse(text, &a, &err), &err);
	return a;
}

static struct prefix gw10[2], gw20[1];
static const struct vlan_bridge bridges[] = { { .name = "guests" } };
static struct vlan_segment segments[] = {
	{ .bridge = "guests", .vid = 10, .addresses = gw10, .address_count = 2 },
	{ .bridge = "guests", .vid = 20, .addresses = gw20, .address_count = 1 },
};
#define PORT(n, v) .name = (n), .bridge = "guests", .access = (v), .kind = VLAN_PORT_EXISTING
static struct vlan_port ports[3];
static struct vlan_net links;

static struct nat_vlan nat_vlans[2];
static struct nat_port nat_ports[3];
static struct nat_source sources[4];
static struct nat_forward forwards[8];
static struct nat_policy policies[4];
static struct nat_net nat;
static struct vlan_extra_addr extra[4];

static inline void reset_config(void)
{
	static const struct vlan_port fresh_ports[] = { { PORT("vm1", 10) },
							{ PORT("vm2", 10) },
							{ PORT("vm3", 20) } };
	static const struct nat_vlan fresh_vlans[] = {
		{ .ifname = "guests.10",
		  .outside = true,
		  .masquerade4 = true,
		  .masquerade6 = true,
		  .addresses = gw10,
		  .address_count = 2 },
		{ .ifname = "guests.20", .addresses = gw20, .address_count = 1 },
	};
	static const struct nat_port fresh_nat_ports[] = {
		{ .ifname = "vm1", .guard = true },
		{ .ifname = "vm2", .guard = true },
		{ .ifname = "vm3", .guard = true },
	};

	memcpy(ports, fresh_ports, sizeof(ports));
	memcpy(nat_vlans, fresh_vlans, sizeof(nat_vlans));
	memcpy(nat_ports, fresh_nat_ports, sizeof(nat_ports));
	links = (struct vlan_net){ .bridges = bridges,
				   .bridge_count = 1,
				   .segments = segments,
				   .segment_count = 2,
				   .ports = ports,
				   .port_count = 3,
				   .extra = extra };
	nat = (struct nat_net){ .vlans = nat_vlans,
				.vlan_count = 2,
				.sources = sources,
				.forwards = forwards,
				.policies = policies,
				.ports = nat_ports,
				.port_count = 3 };
}

/* Apply, and forget the flows that the change made stale, as netd does. */
static inline void apply(void)
{
	struct plan_port port = queue_port(&f.q);
	struct nat_stales stales = { 0 };
	struct net_apply a = { 0 };
	struct err err = { 0 };
	size_t forgotten;

	must(net_plan(&f, &links, &nat, VLAN_BACKEND_PER_VLAN, &a, &err), &err);
	must(plan_run(&a.plan, &port, &err), &err);
	must(nat_stale_collect(&a.plan, &stales), &err);
	must(observe_forget_flows(f.nl, &stales, &forgotten, &err), &err);
	free(stales.v);
	net_apply_clear(&a);
}

static inline void add_guest(const char *name, const char *nic, const char *mac, const char *ip,
			     int net)
{
	sh("ip netns add %s && ip link add %s type veth peer name eth0 netns %s", name, nic, name);
	sh("ip -n %s link set eth0 address %s up && ip -n %s link set lo up", name, mac, name);
	sh("ip -n %s addr add %s/24 dev eth0 && ip -n %s route add default via 10.%d.0.1", name, ip,
	   name, net);
	sh("ip netns exec %s sysctl -qw net.ipv4.ping_group_range='0 0' "
	   "net.ipv6.conf.eth0.accept_dad=0",
	   name);
}

static inline int world(void **state)
{
	struct err err = { 0 };

	(void)state;
	gw10[0] = (struct prefix){ addr("10.10.0.1"), 24 };
	gw10[1] = (struct prefix){ addr("fd10::1"), 64 };
	gw20[0] = (struct prefix){ addr("10.20.0.1"), 24 };
	add_guest("g1", "vm1", "52:54:00:00:00:01", "10.10.0.11", 10);
	add_guest("g2", "vm2", "52:54:00:00:00:02", "10.10.0.12", 10);
	add_guest("g3", "vm3", "52:54:00:00:00:03", "10.20.0.11", 20);
	sh("ip netns add out && ip link add eth0 type veth peer name eth0 netns out");
	sh("sysctl -qw net.ipv6.conf.eth0.accept_dad=0 && ip netns exec out sysctl -qw "
	   "net.ipv6.conf.eth0.accept_dad=0");
	sh("ip -n out link set eth0 up && ip -n out link set lo up && ip link set eth0 up");
	sh("ip addr add 192.0.2.1/24 dev eth0 && ip -n out addr add 192.0.2.2/24 dev eth0");
	sh("ip -6 addr add 2001:db8::1/64 dev eth0 && ip -n out -6 addr add 2001:db8::2/64 dev "
	   "eth0");
	sh("ip -n g1 -6 addr add fd10::11/64 dev eth0 && ip -n g1 -6 route add default via "
	   "fd10::1");
	sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
	for (int i = 0; i < PLACES; i++) {
		char path[64] = "/proc/self/ns/net";

		if (i)
			snprintf(path, sizeof(path), "/run/netns/%s", place_names[i]);
		place_fd[i] = open(path, O_RDONLY | O_CLOEXEC);
		assert_true(place_fd[i] >= 0);
	}
	must(nl_open(&f.nl, &err), &err);
	must(observe_caps(f.nl, &f.vcaps, &f.ncaps, &err), &err);
	queue_init(&f.q, f.nl, &f.ncaps, true);
	return 0;
}

static inline int end_of_world(void **state)
{
	(void)state;
	nl_close(f.nl);
	sh("for n in g1 g2 g3 out; do ip netns del $n; done");
	return 0;
}

static inline int fresh(void **state)
{
	(void)state;
	reset_config();
	return 0;
}

/* Not every kernel has br_netfilter loaded. */
static inline void bridge_netfilter(int on)
{
	sh("test ! -e /proc/sys/net/bridge || sysctl -qw net.bridge.bridge-nf-call-iptables=%d "
	   "net.bridge.bridge-nf-call-ip6tables=%d",
	   on, on);
}

#endif
