/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Packets through the ruleset of the table inet, on the real kernel (see world.h). */
#include "tests/net/world.h"

#include "netd/monitor.h"

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

/* Our own large write is not listened to; a foreign one meanwhile shows all the same. */
static void large_writes_in_silence(struct monitor *m, const struct vlan_state *want)
{
	uint64_t commits = f.q.commits;

	monitor_hush(m);
	apply(); /* nothing to do */
	assert_int_equal(f.q.commits, commits);
	assert_int_equal(monitor_unhush(m, 0), 0);
	monitor_hush(m);
	nat_vlans[0].host = NAT_HOST_ALL;
	apply();
	assert_true(f.q.commits > commits);
	assert_int_equal(monitor_unhush(m, f.q.commits - commits), 0);
	assert_int_equal(monitor_read(m, want), 0);
	commits = f.q.commits;
	monitor_hush(m);
	nat_vlans[0].host = NAT_HOST_SERVICES;
	apply();
	sh("nft flush set inet ashlar services");
	assert_int_equal(monitor_unhush(m, f.q.commits - commits), MONITOR_NAT);
	assert_int_equal(monitor_read(m, want), 0); /* it was not listened to */
	sh("nft flush set inet ashlar gateway4");
	assert_int_equal(monitor_read(m, want), MONITOR_NAT); /* and now it is again */
	apply();
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
	large_writes_in_silence(m, &want);
	sh("ip link set vm2 nomaster");
	assert_true(monitor_read(m, &want) & MONITOR_LINK);
	sh("ip addr del 10.20.0.1/24 dev guests.20");
	assert_true(monitor_read(m, &want) & MONITOR_ADDR);
	apply();
	reaches_tcp(G1, "10.10.0.12", 80, G2, 80);
	vlan_state_clear(&want);
	monitor_close(m);
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
		T(foreign_flush_is_heard_and_repaired),
	};

	kernel_unshare();
	sh("mount -t sysfs none /sys && mount -t tmpfs none /run");
	return cmocka_run_group_tests(tests, world, end_of_world);
}
