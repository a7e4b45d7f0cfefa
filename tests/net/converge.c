/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From any configuration to any other and back, on a kernel that misbehaves: interrupted and lost
 * dumps, lost acknowledgements, refusals, links that vanish.  However it goes, once the kernel
 * behaves a single apply leads to where a second one has nothing to do, and what is foreign is as
 * it was.  A failing seed is printed; run it alone with the program's second argument.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/net/fake_kernel.h"
#include "tests/net/net_fixture.h"
#include "tests/net/random_config.h"

#define SEEDS 60
#define STEPS 6

static uint32_t first_seed = 1, last_seed = SEEDS;

static const struct fake_faults calm;

static void begin(struct net_fixture *f, bool filtering)
{
	memset(f, 0, sizeof(*f));
	f->nl = fake_kernel_new(filtering);
	f->vcaps = (struct vlan_caps){ .vlan_filtering = filtering,
				       .dot1q = filtering,
				       .isolated = true,
				       .addr_proto = true,
				       .tun = true };
	f->ncaps = (struct nat_caps){ .nftables = true, .bridge_family = true };
	queue_init(&f->q, f->nl, &f->ncaps, true);
	fake_kernel_add_foreign(f->nl, "eth0", "the uplink");
	fake_kernel_add_foreign(f->nl, "nic0", "a nic");
	fake_kernel_add_foreign(f->nl, "other0", "somebody's");
}

/* The foreign links as they were: alias, MTU, master, addresses without our mark. */
static void check_foreign(struct net_fixture *f, uint32_t seed, bool all_down)
{
	struct vlan_state s = { 0 };
	const struct vlan_link *l;

	assert_int_equal(observe_vlan(f->nl, &f->vcaps, &s, NULL), 0);
	l = vlan_state_find(&s, "other0");
	if (!l || strcmp(l->alias, "somebody's") != 0 || l->mtu != 1500 || l->master[0] || l->up)
		fail_msg("seed %u: other0 was touched", seed);
	l = vlan_state_find(&s, "eth0");
	if (!l || strcmp(l->alias, "the uplink") != 0 || l->master[0])
		fail_msg("seed %u: eth0 was touched", seed);
	if (all_down) {
		l = vlan_state_find(&s, "nic0");
		if (!l || strcmp(l->alias, "a nic") != 0 || l->mtu != 1500 || l->master[0] || l->up)
			fail_msg("seed %u: nic0 was not given back", seed);
		if (s.link_count != 3)
			fail_msg("seed %u: %zu links are left", seed, s.link_count);
	}
	vlan_state_clear(&s);
}

static void settle(struct net_fixture *f, const struct random_config *c, enum vlan_backend b,
		   uint32_t seed, int step)
{
	struct err err = { 0 };
	long r = net_run(f, &c->vlan, &c->nat, b, &err);

	if (r < 0)
		fail_msg("seed %u step %d: %s", seed, step, err.text);
	r = net_run(f, &c->vlan, &c->nat, b, &err);
	if (r)
		fail_msg("seed %u step %d: not at rest: %ld %s", seed, step, r, err.text);
}

static void journey(uint32_t seed, bool filtering)
{
	static const struct vlan_net no_links;
	enum vlan_backend backend = filtering ? VLAN_BACKEND_AWARE : VLAN_BACKEND_PER_VLAN;
	struct net_fixture f;
	struct random_config c;
	struct fake_faults faults = { 0 };

	begin(&f, filtering);
	faults.dump_interrupted = seed % 2 ? 150 : 0;
	faults.dump_lost = seed % 3 ? 200 : 0;
	faults.dump_reordered = 2;
	faults.ack_lost = seed % 5 ? 20 : 0;
	faults.refused = seed % 4 ? 40 : 0;
	faults.transaction_busy = seed % 6 ? 4 : 0;
	faults.forgets = seed % 7 ? 12 : 0;
	for (int step = 0; step < STEPS; step++) {
		random_config(&c, seed * 100 + (uint32_t)step, backend, true);
		fake_kernel_faults(f.nl, &faults, seed * 31 + (uint32_t)step);
		for (int i = 0; i < 3; i++) /* in bad weather it may fail, or not */
			(void)net_run(&f, &c.vlan, &c.nat, backend, NULL);
		fake_kernel_faults(f.nl, &calm, 0);
		settle(&f, &c, backend, seed, step);
		check_foreign(&f, seed, false);
	}
	assert_true(net_run(&f, &no_links, NULL, backend, NULL) >= 0);
	assert_int_equal(net_run(&f, &no_links, NULL, backend, NULL), 0);
	check_foreign(&f, seed, true);
	nl_close(f.nl);
}

static void any_to_any_under_faults(void **state)
{
	(void)state;
	for (uint32_t seed = first_seed; seed <= last_seed; seed++) {
		journey(seed, false);
		journey(seed, true);
	}
}

/* A failed apply on a kernel that only refuses leaves what was there before. */
static void failed_apply_leaves_what_was_there(void **state)
{
	unsigned failed = 0;

	(void)state;
	for (uint32_t seed = first_seed; seed <= last_seed; seed++) {
		bool filtering = seed % 2;
		enum vlan_backend backend = filtering ? VLAN_BACKEND_AWARE : VLAN_BACKEND_PER_VLAN;
		struct fake_faults faults = { .refused = 6 };
		struct net_fixture f;
		struct random_config a, b;
		struct net_apply apply = { 0 };
		struct plan_port port;
		struct err err = { 0 };

		begin(&f, filtering);
		port = queue_port(&f.q);
		random_config(&a, seed, backend, true);
		random_config(&b, seed + 1000000, backend, true);
		settle(&f, &a, backend, seed, 0);
		assert_int_equal(net_plan(&f, &b.vlan, &b.nat, backend, &apply, &err), 0);
		fake_kernel_faults(f.nl, &faults, seed);
		if (plan_run(&apply.plan, &port, &err) &&
		    !plan_count_state(&apply.plan, PLAN_UNDO_FAILED)) {
			long r;

			failed++;
			fake_kernel_faults(f.nl, &calm, 0);
			r = net_run(&f, &a.vlan, &a.nat, backend, &err);
			if (r)
				fail_msg("seed %u: the undo left %ld differences", seed, r);
		}
		net_apply_clear(&apply);
		nl_close(f.nl);
	}
	if (last_seed > first_seed)
		assert_in_range(failed, 5, SEEDS);
}

/* With no change there is no message. */
static void at_rest_nothing_is_sent(void **state)
{
	struct net_fixture f;
	struct random_config c;
	uint64_t before;

	(void)state;
	begin(&f, true);
	random_config(&c, 7, VLAN_BACKEND_AWARE, true);
	settle(&f, &c, VLAN_BACKEND_AWARE, 7, 0);
	before = fake_kernel_messages(f.nl);
	for (int i = 0; i < 10; i++)
		assert_int_equal(net_run(&f, &c.vlan, &c.nat, VLAN_BACKEND_AWARE, NULL), 0);
	assert_int_equal(fake_kernel_messages(f.nl), before);
	nl_close(f.nl);
}

/* Dumps that never come through end in an error, after a bounded number of tries. */
static void endless_interruption_ends(void **state)
{
	struct fake_faults faults = { .dump_interrupted = 1 };
	struct vlan_state s = { 0 };
	struct nat_state n = { 0 };
	struct net_fixture f;
	struct err err = { 0 };
	uint64_t before = observe_restarts();

	(void)state;
	begin(&f, false);
	fake_kernel_faults(f.nl, &faults, 1);
	assert_int_equal(observe_vlan(f.nl, &f.vcaps, &s, &err), -EAGAIN);
	assert_non_null(strstr(err.text, "faster"));
	assert_int_equal(observe_nat(f.nl, &n, &err), -EAGAIN);
	assert_int_equal(observe_restarts() - before, 2 * OBSERVE_TRIES);
	nl_close(f.nl);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_to_any_under_faults),
		cmocka_unit_test(failed_apply_leaves_what_was_there),
		cmocka_unit_test(at_rest_nothing_is_sent),
		cmocka_unit_test(endless_interruption_ends),
	};

	if (argc > 1)
		first_seed = last_seed = (uint32_t)strtoul(argv[1], NULL, 10);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
