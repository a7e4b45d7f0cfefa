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

/* The tables made by nft from our text are in sync with ours, but for the rule it cannot say. */
static void text_says_the_same(void **state)
{
	struct nat_state want = { 0 }, seen = { 0 };
	struct plan plan = { 0 };
	struct err err = { 0 };
	FILE *text = fopen("/tmp/ashlar-test.nft", "we");

	(void)state;
	assert_non_null(text);
	full(&want);
	assert_int_equal(nat_print(&want, text), 0);
	fclose(text);
	sh("mount -t tmpfs none /mnt && mv /tmp/ashlar-test.nft /mnt/");
	sh("nft -f /mnt/ashlar-test.nft");
	must(observe_nat(f.nl, &seen, &err), &err);
	assert_true(seen.tables);
	assert_false(seen.skeleton); /* one rule is missing */
	for (int i = 0; i < NAT_SET_COUNT; i++) {
		assert_int_equal(seen.sets[i].count, want.sets[i].count);
		for (size_t k = 0; k < want.sets[i].count; k++)
			assert_memory_equal(&seen.sets[i].e[k], &want.sets[i].e[k],
					    sizeof(struct nat_elem));
	}
	nat_state_clear(&seen);
	sh("nft delete table inet ashlar; nft delete table bridge ashlar");
	/* the inet table, of which nft can say every rule: also rule by rule */
	f.q.table_flags = 0;
	apply(&want);
	sh("nft delete table inet ashlar; sed '/^table bridge/,$d' /mnt/ashlar-test.nft | nft -f "
	   "-");
	must(observe_nat(f.nl, &seen, &err), &err);
	assert_true(seen.skeleton);
	nat_state_clear(&seen);
	sh("umount /mnt");
	plan_clear(&plan);
	nat_state_clear(&want);
}

static struct nat_state one_forward(uint16_t port, uint16_t to_port)
{
	struct nat_forward forward = { NAT_TCP, { 0 }, port, port, addr("10.10.0.11"), to_port };
	struct nat_net net = {
		.vlans = vlans, .vlan_count = 3, .forwards = &forward, .forward_count = 1
	};
	struct nat_state s = { 0 };
	struct err err = { 0 };

	must(nat_lower(&net, &s, &err), &err);
	return s;
}

static void others_are_kept_out(void **state)
{
	struct nat_state want = one_forward(2222, 22), seen = { 0 };
	struct err err = { 0 };

	(void)state;
	if (!f.caps.persist)
		skip();
	apply(&want);
	assert_int_not_equal(sh_status("nft add chain inet ashlar mine 2>/dev/null"), 0);
	assert_int_not_equal(sh_status("nft delete table inet ashlar 2>/dev/null"), 0);
	sh("nft flush ruleset");
	assert_int_equal(apply(&want), 0);
	/* another netd of the same namespace is refused, and told why */
	{
		struct nl *other;
		struct plan plan = { 0 };

		must(nl_open(&other, &err), &err);
		must(observe_nat(other, &seen, &err), &err);
		assert_true(seen.foreign_owner);
		assert_int_equal(
			nat_plan(&want, &seen, NAT_STAGE_BEFORE, true, NULL, 0, &plan, &err),
			-EPERM);
		assert_non_null(strstr(err.text, "another process"));
		nat_state_clear(&seen);
		nl_close(other);
	}
	nat_state_clear(&want);
}

static void tables_outlive_their_owner_and_are_adopted(void **state)
{
	struct nat_state want = one_forward(2222, 22), seen = { 0 };
	struct err err = { 0 };

	(void)state;
	if (!f.caps.persist)
		skip();
	apply(&want);
	nl_close(f.nl);
	sh("nft list table inet ashlar | grep -q 2222");
	must(nl_open(&f.nl, &err), &err);
	f.q.nl = f.nl;
	must(observe_nat(f.nl, &seen, &err), &err);
	assert_true(seen.skeleton);
	assert_int_equal(seen.owner, 0);
	must(queue_adopt_tables(&f.q, &seen, &err), &err);
	assert_int_not_equal(sh_status("nft delete table inet ashlar 2>/dev/null"), 0);
	assert_int_not_equal(sh_status("nft delete table bridge ashlar 2>/dev/null"), 0);
	assert_int_equal(apply(&want), 0);
	nat_state_clear(&seen);
	nat_state_clear(&want);
}

static void unowned_damage_is_found_and_repaired(void **state)
{
	static const char *const damage[] = {
		"nft flush ruleset",
		"nft delete table bridge ashlar",
		"nft add rule inet ashlar forward drop",
		"nft insert rule inet ashlar forward index 0 drop",
		"nft flush chain inet ashlar postrouting",
		"nft add set inet ashlar mine '{ type ipv4_addr; }'",
		"nft add chain inet ashlar mine",
		"nft delete element inet ashlar fwd4_any '{ tcp . 2222 }'",
		"nft add element inet ashlar fwd4_any '{ tcp . 2223 : 10.0.0.1 . 1 }'",
		"nft delete element inet ashlar vlan_host '{ \"guests.20\" }' && "
		"nft add element inet ashlar vlan_host '{ \"guests.20\" : accept }'",
		"nft add table inet ashlar '{ flags dormant; }'",
	};
	struct nat_state want = one_forward(2222, 22);
	double t0;

	(void)state;
	f.q.table_flags = 0;
	apply(&want);
	for (size_t i = 0; i < sizeof(damage) / sizeof(damage[0]); i++) {
		sh("%s", damage[i]);
		t0 = now_ms();
		if (!apply(&want))
			fail_msg("not noticed: %s", damage[i]);
		printf("repaired in %.1f ms: %s\n", now_ms() - t0, damage[i]);
		if (apply(&want))
			fail_msg("not repaired: %s", damage[i]);
	}
	nat_state_clear(&want);
}

static void foreign_tables_stay(void **state)
{
	struct nat_state want = one_forward(2222, 22);

	(void)state;
	sh("nft add table ip ashlar && nft 'add set ip ashlar fwd4 { type ipv4_addr; }' && "
	   "nft 'add element ip ashlar fwd4 { 1.2.3.4 }' && nft add table inet other && "
	   "nft 'add chain inet other c { type filter hook input priority 0; }'");
	apply(&want);
	assert_int_equal(apply(&want), 0);
	sh("nft list table ip ashlar | grep -q 1.2.3.4 && nft list table inet other | grep -q "
	   "hook");
	sh("nft delete table ip ashlar; nft delete table inet other");
	nat_state_clear(&want);
}

/* A failed transaction leaves nothing: two forwards from one key cannot be, the first goes too. */
static void transaction_is_whole_or_nothing(void **state)
{
	struct nat_state want = one_forward(2222, 22), seen = { 0 }, other = one_forward(3333, 33);
	struct plan_port port = queue_port(&f.q);
	struct plan plan = { 0 };
	struct err err = { 0 };

	(void)state;
	f.q.table_flags = 0;
	apply(&want);
	must(observe_nat(f.nl, &seen, &err), &err);
	must(nat_plan(&other, &seen, NAT_STAGE_BEFORE, true, NULL, 0, &plan, &err), &err);
	assert_int_equal(plan.count, 2);
	/* behind the plan's back */
	sh("nft delete element inet ashlar fwd4_any '{ tcp . 2222 }'");
	assert_int_equal(plan_run(&plan, &port, &err), -ENOENT);
	sh("! nft list map inet ashlar fwd4_any | grep -q 3333");
	plan_clear(&plan);
	nat_state_clear(&seen);
	nat_state_clear(&want);
	nat_state_clear(&other);
}

static void change_and_undo(void **state)
{
	struct nat_state a = { 0 }, b = one_forward(2222, 23), seen = { 0 };
	struct plan_port port = queue_port(&f.q);
	struct plan plan = { 0 };
	struct err err = { 0 };

	(void)state;
	full(&a);
	apply(&a);
	must(observe_nat(f.nl, &seen, &err), &err);
	must(nat_plan(&b, &seen, NAT_STAGE_BEFORE, false, NULL, 0, &plan, &err), &err);
	must(nat_plan(&b, &seen, NAT_STAGE_AFTER, false, NULL, 0, &plan, &err), &err);
	must(plan_run(&plan, &port, &err), &err);
	assert_int_equal(apply(&b), 0);
	must(plan_undo(&plan, &port, &err), &err);
	assert_int_equal(apply(&a), 0);
	plan_clear(&plan);
	nat_state_clear(&seen);
	nat_state_clear(&a);
	nat_state_clear(&b);
}

static void ten_thousand_forwards(void **state)
{
	enum { N = 10000 };
	struct nat_forward *forwards = calloc(N + 1, sizeof(*forwards));
	struct nat_net net = {
		.vlans = vlans, .vlan_count = 3, .forwards = forwards, .forward_count = N
	};
	struct nat_state a = { 0 }, b = { 0 };
	struct err err = { 0 };
	double t0, t1, t2, t3;
	uint64_t messages;

	(void)state;
	for (unsigned i = 0; i <= N; i++)
		forwards[i] = (struct nat_forward){ NAT_TCP,
						    { 0 },
						    (uint16_t)(10000 + i),
						    (uint16_t)(10000 + i),
						    addr("10.10.0.11"),
						    80 };
	must(nat_lower(&net, &a, &err), &err);
	net.forward_count++;
	must(nat_lower(&net, &b, &err), &err);
	t0 = now_ms();
	apply(&a);
	t1 = now_ms();
	messages = f.q.transactions;
	assert_int_equal(apply(&b), 1);
	assert_int_equal(f.q.transactions, messages + 1);
	t2 = now_ms();
	assert_int_equal(apply(&b), 0);
	t3 = now_ms();
	printf("10000 forwards: %.0f ms; look and one more: %.1f ms; look alone: %.1f ms\n",
	       t1 - t0, t2 - t1, t3 - t2);
	nat_state_clear(&a);
	nat_state_clear(&b);
	free(forwards);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(sends_and_reads_the_same),
		T(text_says_the_same),
		T(others_are_kept_out),
		T(tables_outlive_their_owner_and_are_adopted),
		T(unowned_damage_is_found_and_repaired),
		T(foreign_tables_stay),
		T(transaction_is_whole_or_nothing),
		T(change_and_undo),
		T(ten_thousand_forwards),
	};

	kernel_unshare();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
