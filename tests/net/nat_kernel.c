/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ruleset on the real kernel: what we send is what we read back, the text says the same as
 * the messages, owner and persist keep others out, one change is one small transaction.
 */
#include "tests/net/kernel.h"

#include <errno.h>
#include <time.h>

#include "nat/wire.h"

struct fixture {
	struct nl *nl;
	struct queue q;
	struct vlan_caps vcaps;
	struct nat_caps caps;
};

static struct fixture f;
static bool own_tables = true;

static int setup(void **state)
{
	struct err err = { 0 };

	(void)state;
	must(nl_open(&f.nl, &err), &err);
	must(observe_caps(f.nl, &f.vcaps, &f.caps, &err), &err);
	queue_init(&f.q, f.nl, &f.caps, own_tables);
	return 0;
}

static int teardown(void **state)
{
	struct nat_state seen = { 0 };
	struct plan plan = { 0 };
	struct plan_port port = queue_port(&f.q);
	struct err err = { 0 };

	(void)state;
	must(observe_nat(f.nl, &seen, &err), &err);
	must(nat_plan(NULL, &seen, NAT_STAGE_AFTER, false, NULL, 0, &plan, &err), &err);
	must(plan_run(&plan, &port, &err), &err);
	plan_clear(&plan);
	nat_state_clear(&seen);
	nl_close(f.nl);
	return 0;
}

static struct addr addr(const char *text)
{
	struct err err = { 0 };
	struct addr a;

	must(addr_parse(text, &a, &err), &err);
	return a;
}

/* Plan and run; the number of operations. */
static size_t apply(const struct nat_state *want)
{
	struct nat_state seen = { 0 };
	struct plan plan = { 0 };
	struct plan_port port = queue_port(&f.q);
	struct err err = { 0 };
	size_t count;

	must(observe_nat(f.nl, &seen, &err), &err);
	must(nat_plan(want, &seen, NAT_STAGE_BEFORE, true, NULL, 0, &plan, &err), &err);
	count = plan.count;
	must(plan_run(&plan, &port, &err), &err);
	plan_clear(&plan);
	nat_state_clear(&seen);
	return count;
}

static const struct nat_vlan vlans[] = {
	{ .ifname = "guests.10", .host = NAT_HOST_SERVICES, .outside = true, .masquerade4 = true },
	{ .ifname = "guests.20", .host = NAT_HOST_NONE, .masquerade6 = true },
	{ .ifname = "guests.30", .host = NAT_HOST_ALL, .reachable = true, .outside = true },
};

/* One of everything. */
static void full(struct nat_state *ret)
{
	struct prefix gw[2] = { { addr("10.10.0.1"), 24 }, { addr("fd10::1"), 64 } };
	struct nat_vlan v[3] = { vlans[0], vlans[1], vlans[2] };
	struct nat_source sources[] = {
		{ "guests.20", "eth0", 4, true, { addr("192.0.2.10"), addr("192.0.2.13") } },
		{ "guests.20", "eth0", 6, true, { addr("2001:db8::10"), addr("2001:db8::10") } },
		{ "guests.30", "eth1", 4 },
	};
	struct nat_forward forwards[] = {
		{ NAT_TCP, { 0 }, 2222, 2222, addr("10.10.0.11"), 22 },
		{ NAT_UDP, addr("192.0.2.1"), 53, 53, addr("10.10.0.12"), 53 },
		{ NAT_TCP, { 0 }, 8000, 8010, addr("10.10.0.13"), 8000 },
		{ NAT_TCP, addr("192.0.2.1"), 9000, 9010, addr("10.10.0.13"), 9000 },
		{ NAT_TCP, { 0 }, 2222, 2222, addr("fd10::11"), 22 },
		{ NAT_TCP, addr("2001:db8::1"), 80, 80, addr("fd10::11"), 8080 },
		{ NAT_UDP, { 0 }, 8000, 8010, addr("fd10::13"), 8000 },
		{ NAT_UDP, addr("2001:db8::1"), 9000, 9010, addr("fd10::13"), 9000 },
		{ NAT_TCP, { 0 }, 100, 102, addr("10.10.0.13"), 200 },
	};
	struct nat_policy policies[] = { { "guests.10", "guests.20" } };
	struct addr ips[] = { addr("10.10.0.11"), addr("fd10::11") };
	struct nat_port ports[] = {
		{ "vm1", true, false, true, { { 0x52, 0x54, 0, 0, 0, 1 } }, ips, 2 },
		{ "fw1", true, true },
	};
	struct nat_net net = { v, 3, sources, 3, forwards, 9, policies, 1, ports, 2 };
	struct err err = { 0 };

	v[0].addresses = gw;
	v[0].address_count = 2;
	must(nat_lower(&net, ret, &err), &err);
}

static void sends_and_reads_the_same(void **state)
{
	struct nat_state want = { 0 }, seen = { 0 };
	struct err err = { 0 };

	(void)state;
	full(&want);
	assert_int_equal(apply(&want), 1);
	must(observe_nat(f.nl, &seen, &err), &err);
	assert_true(seen.tables);
	assert_true(seen.skeleton);
	for (int i = 0; i < NAT_SET_COUNT; i++) {
		if (seen.sets[i].count != want.sets[i].count)
			fail_msg("%s: %zu elements, expected %zu", nat_set_name((enum nat_set_id)i),
				 seen.sets[i].count, want.sets[i].count);
	}
	assert_int_equal(apply(&want), 0);
	nat_state_clear(&seen);
	nat_state_clear(&want);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(sends_and_reads_the_same, setup, teardown),
	};

	(void)argc;
	(void)argv;
	kernel_unshare();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
