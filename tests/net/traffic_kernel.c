/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packets through the ruleset, on the real kernel (per-vlan backend).
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
#include "tests/net/kernel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include "netd/monitor.h"
#include "tests/net/net_fixture.h"

#define WAIT_MS	 4000 /* for what must come */
#define QUIET_MS 120  /* for what must not */

static struct net_fixture f;

/* ---- namespaces and sockets ---- */

enum place { HOST, OUT, G1, G2, G3, PLACES };
static const char *const place_names[PLACES] = { "", "out", "g1", "g2", "g3" };
static int place_fd[PLACES];

static void enter(enum place p)
{
	if (setns(place_fd[p], CLONE_NEWNET) < 0)
		fail_msg("setns %s: %s", place_names[p], strerror(errno));
}

static socklen_t address(const char *text, uint16_t port, struct sockaddr_storage *ret)
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

static int open_socket(enum place p, const char *bind_to, uint16_t port, int type)
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

static bool readable(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) == 1;
}

static const char *any_of(const char *text)
{
	return strchr(text, ':') ? "::" : "0.0.0.0";
}

/* The text of the other end's address as the receiver saw it. */
static char seen_from[INET6_ADDRSTRLEN];

static void note_source(const struct sockaddr_storage *a)
{
	if (a->ss_family == AF_INET)
		inet_ntop(AF_INET, &((const struct sockaddr_in *)a)->sin_addr, seen_from,
			  sizeof(seen_from));
	else
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)a)->sin6_addr, seen_from,
			  sizeof(seen_from));
}

/* Whether a TCP connection to dst:port from `from` arrives at the server at:server_port. */
static bool tcp(enum place from, const char *dst, uint16_t port, enum place at,
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
static bool datagram(int from, const char *dst, uint16_t port, int at, bool expected)
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

static bool udp(enum place from, const char *dst, uint16_t port, enum place at,
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
static bool ping(enum place from, const char *dst, bool expected)
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

static struct addr addr(const char *text)
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

static void reset_config(void)
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
static void apply(void)
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

static void add_guest(const char *name, const char *nic, const char *mac, const char *ip, int net)
{
	sh("ip netns add %s && ip link add %s type veth peer name eth0 netns %s", name, nic, name);
	sh("ip -n %s link set eth0 address %s up && ip -n %s link set lo up", name, mac, name);
	sh("ip -n %s addr add %s/24 dev eth0 && ip -n %s route add default via 10.%d.0.1", name, ip,
	   name, net);
	sh("ip netns exec %s sysctl -qw net.ipv4.ping_group_range='0 0' "
	   "net.ipv6.conf.eth0.accept_dad=0",
	   name);
}

static int world(void **state)
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

static int end_of_world(void **state)
{
	(void)state;
	nl_close(f.nl);
	sh("for n in g1 g2 g3 out; do ip netns del $n; done");
	return 0;
}

static int fresh(void **state)
{
	(void)state;
	reset_config();
	return 0;
}

/* Not every kernel has br_netfilter loaded. */
static void bridge_netfilter(int on)
{
	sh("test ! -e /proc/sys/net/bridge || sysctl -qw net.bridge.bridge-nf-call-iptables=%d "
	   "net.bridge.bridge-nf-call-ip6tables=%d",
	   on, on);
}

/* ---- tests ---- */

static void masquerade_and_nat66(void **state)
{
	(void)state;
	apply();
	reaches_tcp(G1, "192.0.2.2", 80, OUT, 80);
	assert_string_equal(seen_from, "192.0.2.1");
	reaches_udp(G2, "192.0.2.2", 53, OUT, 53);
	assert_string_equal(seen_from, "192.0.2.1");
	reaches_tcp(G1, "2001:db8::2", 80, OUT, 80);
	assert_string_equal(seen_from, "2001:db8::1");
	no_tcp(G3, "192.0.2.2", 80, OUT, 80); /* its VLAN may not go outside */
}

static void snat_pool(void **state)
{
	(void)state;
	nat_vlans[0].masquerade4 = nat_vlans[0].masquerade6 = false;
	sources[0] = (struct nat_source){
		"guests.10", "eth0", 4, true, { addr("192.0.2.10"), addr("192.0.2.11") }
	};
	sources[1] = (struct nat_source){ "guests.10", "eth0", 6 }; /* masquerade there only */
	nat.source_count = 2;
	for (unsigned i = 0; i < 2; i++) {
		extra[i] = (struct vlan_extra_addr){ "eth0", { addr("192.0.2.10"), 32 } };
		extra[i].prefix.addr.b[3] = (uint8_t)(10 + i);
	}
	links.extra_count = 2;
	apply();
	sh("ip -br addr show dev eth0 | grep -q '192.0.2.1/24.*192.0.2.10/32.*192.0.2.11/32'");
	for (int i = 0; i < 4; i++) {
		reaches_tcp(i % 2 ? G1 : G2, "192.0.2.2", 80, OUT, 80);
		assert_true(!strcmp(seen_from, "192.0.2.10") || !strcmp(seen_from, "192.0.2.11"));
	}
	reaches_tcp(G1, "2001:db8::2", 80, OUT, 80);
	assert_string_equal(seen_from, "2001:db8::1");
	reset_config();
	apply();
	sh("! ip -br addr show dev eth0 | grep -q 192.0.2.10");
	sh("ip -br addr show dev eth0 | grep -q 192.0.2.1/24");
}

static void forwards_of_all_sorts(void **state)
{
	(void)state;
	forwards[0] = (struct nat_forward){ NAT_TCP, { 0 }, 2222, 2222, addr("10.10.0.11"), 22 };
	forwards[1] = (struct nat_forward){ NAT_UDP, addr("192.0.2.1"),	 5353,
					    5353,    addr("10.10.0.12"), 53 };
	forwards[2] = (struct nat_forward){ NAT_TCP, { 0 }, 8000, 8010, addr("10.10.0.12"), 8000 };
	forwards[3] = (struct nat_forward){ NAT_TCP, { 0 }, 9000, 9003, addr("10.10.0.12"), 9100 };
	forwards[4] = (struct nat_forward){ NAT_TCP, { 0 }, 2222, 2222, addr("fd10::11"), 22 };
	forwards[5] = (struct nat_forward){ NAT_UDP, addr("2001:db8::1"), 7000,
					    7100,    addr("fd10::11"),	  7000 };
	forwards[6] = (struct nat_forward){ NAT_TCP, addr("192.0.2.1"),	 7000,
					    7100,    addr("10.20.0.11"), 7000 };
	nat.forward_count = 7;
	apply();
	reaches_tcp(OUT, "192.0.2.1", 2222, G1, 22);
	assert_string_equal(seen_from, "192.0.2.2");
	reaches_udp(OUT, "192.0.2.1", 5353, G2, 53);
	reaches_tcp(OUT, "192.0.2.1", 8000, G2, 8000);
	reaches_tcp(OUT, "192.0.2.1", 8010, G2, 8010);
	no_tcp(OUT, "192.0.2.1", 8011, G2, 8011);
	reaches_tcp(OUT, "192.0.2.1", 9003, G2, 9103);
	reaches_tcp(OUT, "2001:db8::1", 2222, G1, 22);
	reaches_udp(OUT, "2001:db8::1", 7050, G1, 7050);
	reaches_tcp(OUT, "192.0.2.1", 7001, G3, 7001);
	reaches_tcp(HOST, "192.0.2.1", 2222, G1, 22); /* from the host itself */
	no_udp(OUT, "192.0.2.1", 2222, G1, 22);
	/* a forward does not take the host's other ports, nor those of the gateway's address */
	reaches_tcp(OUT, "192.0.2.1", 2223, HOST, 2223);
	nat_vlans[0].host = NAT_HOST_ALL;
	apply();
	reaches_tcp(G2, "10.10.0.1", 2222, HOST, 2222);
}

static void hairpin(void **state)
{
	(void)state;
	forwards[0] = (struct nat_forward){ NAT_TCP, { 0 }, 2222, 2222, addr("10.10.0.11"), 22 };
	forwards[1] = (struct nat_forward){ NAT_UDP, { 0 }, 5353, 5353, addr("10.10.0.11"), 53 };
	forwards[2] = (struct nat_forward){ NAT_TCP, { 0 }, 3333, 3333, addr("10.20.0.11"), 33 };
	forwards[3] = (struct nat_forward){ NAT_TCP, { 0 }, 2222, 2222, addr("fd10::11"), 22 };
	nat.forward_count = 4;
	apply();
	/*
	 * With br_netfilter the bridge itself translates and forwards the frame: the neighbour is
	 * reached with its own address, oneself not at all (doctor says so).
	 */
	reaches_tcp(G2, "192.0.2.1", 2222, G1, 22);
	bridge_netfilter(0);
	reaches_tcp(G2, "192.0.2.1", 2222, G1, 22); /* the neighbour */
	assert_string_equal(seen_from, "10.10.0.1");
	reaches_tcp(G1, "192.0.2.1", 2222, G1, 22); /* oneself */
	reaches_udp(G2, "192.0.2.1", 5353, G1, 53);
	reaches_tcp(G1, "2001:db8::1", 2222, G1, 22);
	reaches_tcp(G1, "192.0.2.1", 3333, G3, 33); /* another VLAN, by what is published */
	no_tcp(G1, "10.20.0.11", 33, G3, 33);	    /* and only that */
	bridge_netfilter(1);
}

static void policies_between_vlans(void **state)
{
	(void)state;
	apply();
	reaches_tcp(G1, "10.10.0.12", 80, G2, 80); /* within a VLAN */
	no_tcp(G1, "10.20.0.11", 80, G3, 80);
	no_tcp(G3, "10.10.0.11", 80, G1, 80);
	policies[0] = (struct nat_policy){ "guests.10", "guests.20" };
	nat.policy_count = 1;
	apply();
	reaches_tcp(G1, "10.20.0.11", 80, G3, 80);
	assert_string_equal(seen_from, "10.10.0.11"); /* not translated */
	no_tcp(G3, "10.10.0.11", 80, G1, 80);
	nat.policy_count = 0;
	apply();
	no_tcp(G1, "10.20.0.11", 80, G3, 80);
	/* from outside only where it is declared */
	sh("ip -n out route add 10.10.0.0/16 via 192.0.2.1");
	no_tcp(OUT, "10.10.0.11", 80, G1, 80);
	nat_vlans[0].reachable = true;
	apply();
	reaches_tcp(OUT, "10.10.0.11", 80, G1, 80);
	sh("ip -n out route del 10.10.0.0/16 via 192.0.2.1");
}

static void host_access(void **state)
{
	(void)state;
	apply(); /* services */
	reaches_tcp(G1, "10.10.0.1", 53, HOST, 53);
	reaches_udp(G1, "10.10.0.1", 67, HOST, 67);
	no_tcp(G1, "10.10.0.1", 22, HOST, 22);
	no_tcp(G1, "192.0.2.1", 53, HOST, 53); /* another address of the host */
	no_tcp(G1, "10.20.0.1", 53, HOST, 53);
	assert_true(ping(G1, "10.10.0.1", true));
	assert_true(ping(G1, "fd10::1", true));
	assert_false(ping(G1, "10.20.0.1", false));
	reaches_tcp(HOST, "10.10.0.11", 80, G1, 80);
	nat_vlans[0].host = NAT_HOST_ALL;
	apply();
	reaches_tcp(G1, "10.10.0.1", 22, HOST, 22);
	reaches_tcp(G1, "192.0.2.1", 22, HOST, 22);
	nat_vlans[0].host = NAT_HOST_NONE;
	apply();
	no_tcp(G1, "10.10.0.1", 53, HOST, 53);
	assert_false(ping(G1, "10.10.0.1", false));
	reaches_tcp(HOST, "10.10.0.11", 80, G1, 80); /* answers to the host still arrive */
}

/* One UDP flow from outside, never ending: where its packets go must follow the config. */
static void live_udp_follows_its_forward(void **state)
{
	int host, g1, g2, client;

	(void)state;
	apply();
	host = open_socket(HOST, "192.0.2.1", 5000, SOCK_DGRAM);
	g1 = open_socket(G1, "0.0.0.0", 5000, SOCK_DGRAM);
	g2 = open_socket(G2, "0.0.0.0", 5000, SOCK_DGRAM);
	client = open_socket(OUT, "192.0.2.2", 6000, SOCK_DGRAM);
	assert_true(datagram(client, "192.0.2.1", 5000, host, true));
	forwards[0] = (struct nat_forward){ NAT_UDP, { 0 }, 5000, 5000, addr("10.10.0.11"), 5000 };
	nat.forward_count = 1;
	apply(); /* added */
	assert_true(datagram(client, "192.0.2.1", 5000, g1, true));
	forwards[0].to = addr("10.10.0.12");
	apply(); /* changed */
	assert_true(datagram(client, "192.0.2.1", 5000, g2, true));
	nat.forward_count = 0;
	apply(); /* removed */
	assert_true(datagram(client, "192.0.2.1", 5000, host, true));
	close(host);
	close(g1);
	close(g2);
	close(client);
}

/* A change of one forward leaves the flows of the others, and guests' own flows, alone. */
static void other_flows_stay(void **state)
{
	int g1, g2, out, guest_client, client;

	(void)state;
	forwards[0] = (struct nat_forward){ NAT_UDP, { 0 }, 5001, 5001, addr("10.10.0.11"), 5001 };
	forwards[1] = (struct nat_forward){ NAT_UDP, { 0 }, 5002, 5002, addr("10.10.0.12"), 5002 };
	nat.forward_count = 2;
	apply();
	g1 = open_socket(G1, "0.0.0.0", 5001, SOCK_DGRAM);
	g2 = open_socket(G2, "0.0.0.0", 5002, SOCK_DGRAM);
	out = open_socket(OUT, "192.0.2.2", 5002, SOCK_DGRAM);
	client = open_socket(OUT, "192.0.2.2", 6001, SOCK_DGRAM);
	guest_client = open_socket(G1, "10.10.0.11", 6002, SOCK_DGRAM);
	assert_true(datagram(client, "192.0.2.1", 5001, g1, true));
	assert_true(datagram(client, "192.0.2.1", 5002, g2, true));
	assert_true(datagram(guest_client, "192.0.2.2", 5002, out, true));
	sh("conntrack -L -p udp 2>/dev/null | grep -o 'sport=60.*' | sort > /run/before");
	nat.forward_count = 1;
	apply();
	sh("conntrack -L -p udp 2>/dev/null | grep -o 'sport=60.*' | sort > /run/after");
	sh("! grep -q 'sport=6001 dport=5002' /run/after && grep -q 'sport=6001 dport=5001' "
	   "/run/after "
	   "&& grep -q 'sport=6002 dport=5002' /run/after && grep -q 'sport=6001 dport=5002' "
	   "/run/before");
	close(g1);
	close(g2);
	close(out);
	close(client);
	close(guest_client);
}

static void foreign_flush_is_heard_and_repaired(void **state)
{
	struct vlan_state want = { 0 };
	struct monitor *m;
	struct err err = { 0 };
	struct pollfd p[2];
	int fds[2];
	double t0;

	(void)state;
	f.q.table_flags = 0; /* as on a kernel without persist: made anew unowned */
	nat.vlan_count = 0;
	nat.port_count = 0;
	{
		struct nat_state seen = { 0 };
		struct plan plan = { 0 };
		struct plan_port port = queue_port(&f.q);

		must(observe_nat(f.nl, &seen, &err), &err);
		must(nat_plan(NULL, &seen, NAT_STAGE_AFTER, false, NULL, 0, &plan, &err), &err);
		must(plan_run(&plan, &port, &err), &err);
		plan_clear(&plan);
		nat_state_clear(&seen);
	}
	reset_config();
	must(monitor_open(f.nl, &m, &err), &err);
	monitor_fds(m, fds);
	must(vlan_lower(&links, VLAN_BACKEND_PER_VLAN, &f.vcaps, &want, &err), &err);
	apply();
	(void)monitor_read(m, &want);
	assert_int_equal(monitor_read(m, &want), 0);
	sh("nft add table inet somebody; ip link add other0 type bridge; ip link del other0");
	assert_int_equal(monitor_read(m, &want), 0); /* none of ours */
	t0 = now_ms();
	sh("nft flush ruleset");
	p[0] = (struct pollfd){ .fd = fds[0], .events = POLLIN };
	p[1] = (struct pollfd){ .fd = fds[1], .events = POLLIN };
	assert_true(poll(p, 2, WAIT_MS) > 0);
	assert_int_equal(monitor_read(m, &want), MONITOR_NAT);
	apply();
	printf("flushed, heard and repaired in %.1f ms\n", now_ms() - t0);
	assert_int_equal(monitor_read(m, &want) & MONITOR_NAT, 0); /* our own write is not news */
	reaches_tcp(G1, "192.0.2.2", 80, OUT, 80);
	sh("ip link set vm2 nomaster");
	assert_true(monitor_read(m, &want) & MONITOR_LINK);
	sh("ip addr del 10.20.0.1/24 dev guests.20");
	assert_true(monitor_read(m, &want) & MONITOR_ADDR);
	apply();
	reaches_tcp(G1, "10.10.0.12", 80, G2, 80);
	vlan_state_clear(&want);
	monitor_close(m);
}

/* ---- frames ---- */

static int packet_socket(enum place p)
{
	struct sockaddr_ll ll = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	int fd;

	enter(p);
	fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETH_P_ALL));
	ll.sll_ifindex = (int)if_nametoindex("eth0");
	enter(HOST);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&ll, sizeof(ll)), 0);
	return fd;
}

/* Whether a frame with this marker at its end arrives. */
static bool frame_arrives(int tx, int rx, uint8_t *frame, size_t len, bool expected)
{
	uint8_t buf[2048];
	double end;

	frame[len - 1] = 0xa5;
	frame[len - 2]++;
	assert_int_equal(send(tx, frame, len, 0), (ssize_t)len);
	end = now_ms() + (expected ? WAIT_MS : QUIET_MS);
	while (now_ms() < end) {
		ssize_t n;

		if (!readable(rx, 10))
			continue;
		n = recv(rx, buf, sizeof(buf), 0);
		if (n == (ssize_t)len && !memcmp(buf, frame, len))
			return true;
	}
	return false;
}

/* The header checksum of an IPv4 frame: br_netfilter drops bad ones. */
static void sum_ipv4(uint8_t *frame)
{
	uint32_t sum = 0;

	frame[24] = frame[25] = 0;
	for (int i = 14; i < 34; i += 2)
		sum += (uint32_t)(frame[i] << 8 | frame[i + 1]);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = ~((sum & 0xffff) + (sum >> 16));
	frame[24] = (uint8_t)(sum >> 8);
	frame[25] = (uint8_t)sum;
}

#define MAC1 0x52, 0x54, 0, 0, 0, 1
#define ALL  0xff, 0xff, 0xff, 0xff, 0xff, 0xff

static void guards(void **state)
{
	uint8_t plain[80] = { ALL, MAC1, 0x88, 0xb5 };
	uint8_t bpdu[80] = { 0x01, 0x80, 0xc2, 0, 0, 0, MAC1, 0, 38, 0x42, 0x42, 3 };
	uint8_t ra[80] = { 0x33, 0x33, 0,  0,	0,    1,    MAC1, 0x86, 0xdd, 0x60, 0,	 0, 0,
			   0,	 26,   58, 255, 0xfe, 0x80, 0,	  0,	0,    0,    0,	 0, 0,
			   0,	 0,    0,  0,	0,    0,    1,	  0xff, 0x02, 0,    0,	 0, 0,
			   0,	 0,    0,  0,	0,    0,    0,	  0,	0,    1,    134, 0 };
	uint8_t dhcp[80] = { ALL, MAC1, 0x08, 0, 0x45, 0,   0,	 66,  0,   0, 0,  0, 64, 17, 0,
			     0,	  10,	10,   0, 9,    255, 255, 255, 255, 0, 67, 0, 68, 0,  46 };
	int tx, rx;

	(void)state;
	sum_ipv4(dhcp);
	apply();
	tx = packet_socket(G1);
	rx = packet_socket(G2);
	assert_true(frame_arrives(tx, rx, plain, sizeof(plain), true));
	assert_false(frame_arrives(tx, rx, bpdu, sizeof(bpdu), false));
	assert_false(frame_arrives(tx, rx, ra, sizeof(ra), false));
	assert_false(frame_arrives(tx, rx, dhcp, sizeof(dhcp), false));
	nat_ports[0].guard = false;
	apply();
	assert_true(frame_arrives(tx, rx, bpdu, sizeof(bpdu), true)); /* it was the guard */
	assert_true(frame_arrives(tx, rx, ra, sizeof(ra), true));
	assert_true(frame_arrives(tx, rx, dhcp, sizeof(dhcp), true));
	close(tx);
	close(rx);
}

static void spoofing(void **state)
{
	static struct addr ips[2];
	uint8_t other_mac[80] = { ALL, 0x52, 0x54, 0, 0, 0, 9, 0x88, 0xb5 };
	uint8_t own_mac[80] = { ALL, MAC1, 0x88, 0xb5 };
	uint8_t arp[80] = { ALL, MAC1, 0x08, 6, 0, 1, 8, 0, 6, 4,  0,  1, MAC1, 10,
			    10,	 0,    11,   0, 0, 0, 0, 0, 0, 10, 10, 0, 12 };
	uint8_t ip[80] = { ALL, MAC1, 0x08, 0, 0x45, 0,	 0,  66,  0,   0, 0, 0, 64, 17, 0,
			   0,	10,   10,   0, 11,   10, 10, 255, 255, 0, 9, 0, 9,  0,	46 };
	uint8_t na[90] = { 0x33, 0x33, 0,    0, 0, 1, MAC1, 0x86, 0xdd, 0x60, 0,    0, 0, 0, 36, 58,
			   255,	 0xfd, 0x10, 0, 0, 0, 0,    0,	  0,	0,    0,    0, 0, 0, 0,	 0,
			   0x11, 0xff, 0x02, 0, 0, 0, 0,    0,	  0,	0,    0,    0, 0, 0, 0,	 0,
			   1,	 136,  0,    0, 0, 0, 0,    0,	  0,	0xfd, 0x10, 0, 0, 0, 0,	 0,
			   0,	 0,    0,    0, 0, 0, 0,    0,	  0x11 };
	int tx, rx;

	(void)state;
	ips[0] = addr("10.10.0.11");
	ips[1] = addr("fd10::11");
	nat_ports[0].mac_given = true;
	nat_ports[0].mac = (struct mac){ { MAC1 } };
	nat_ports[0].ips = ips;
	nat_ports[0].ip_count = 2;
	apply();
	tx = packet_socket(G1);
	rx = packet_socket(G2);
	assert_true(frame_arrives(tx, rx, own_mac, sizeof(own_mac), true));
	assert_false(frame_arrives(tx, rx, other_mac, sizeof(other_mac), false));
	assert_true(frame_arrives(tx, rx, arp, sizeof(arp), true));
	arp[27] = 9; /* the sender's MAC in the payload */
	assert_false(frame_arrives(tx, rx, arp, sizeof(arp), false));
	arp[27] = 1;
	arp[31] = 99; /* the sender's address */
	assert_false(frame_arrives(tx, rx, arp, sizeof(arp), false));
	memset(arp + 28, 0, 4); /* a probe has none */
	assert_true(frame_arrives(tx, rx, arp, sizeof(arp), true));
	sum_ipv4(ip);
	assert_true(frame_arrives(tx, rx, ip, sizeof(ip), true));
	ip[29] = 99;
	sum_ipv4(ip);
	assert_false(frame_arrives(tx, rx, ip, sizeof(ip), false));
	assert_true(frame_arrives(tx, rx, na, sizeof(na), true));
	na[77] = 1; /* the gateway's address as target */
	assert_false(frame_arrives(tx, rx, na, sizeof(na), false));
	na[77] = 0x11;
	na[37] = 1; /* as source */
	assert_false(frame_arrives(tx, rx, na, sizeof(na), false));
	reaches_tcp(G1, "192.0.2.2", 80, OUT, 80); /* what it may, it can */
	reaches_tcp(G1, "2001:db8::2", 80, OUT, 80);
	close(tx);
	close(rx);
}

/* Isolated ports never hear each other, also while one of them moves between VLANs. */
static volatile bool flooding;

static void *flood(void *arg)
{
	uint8_t frame[80] = { ALL, MAC1, 0x88, 0xb5 };
	int fd = *(int *)arg;

	while (flooding)
		(void)!send(fd, frame, sizeof(frame), 0);
	return NULL;
}

static void moving_leaks_nothing(void **state)
{
	int tx, rx, heard = 0;
	pthread_t thread;
	uint8_t buf[2048];

	(void)state;
	for (int i = 0; i < 3; i++)
		ports[i].isolated = true;
	apply();
	tx = packet_socket(G1);
	rx = packet_socket(G3);
	flooding = true;
	assert_int_equal(pthread_create(&thread, NULL, flood, &tx), 0);
	for (int i = 0; i < 30; i++) {
		ssize_t n;

		ports[0].access = i % 2 ? 10 : 20;
		apply();
		while ((n = recv(rx, buf, sizeof(buf), 0)) >= 0)
			heard += n == 80 && buf[12] == 0x88 && buf[13] == 0xb5;
	}
	flooding = false;
	pthread_join(thread, NULL);
	assert_int_equal(heard, 0);
	close(tx);
	close(rx);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup(name, fresh)
	const struct CMUnitTest tests[] = {
		T(masquerade_and_nat66),
		T(snat_pool),
		T(forwards_of_all_sorts),
		T(hairpin),
		T(policies_between_vlans),
		T(host_access),
		T(live_udp_follows_its_forward),
		T(other_flows_stay),
		T(guards),
		T(spoofing),
		T(moving_leaks_nothing),
		T(foreign_flush_is_heard_and_repaired),
	};

	kernel_unshare();
	sh("mount -t sysfs none /sys && mount -t tmpfs none /run");
	return cmocka_run_group_tests(tests, world, end_of_world);
}
