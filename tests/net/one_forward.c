/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One forward at a time: what is kept and what the kernel holds are always what lowering and
 * planning everything anew would give.  Random forwards that come, change, go and get in each
 * other's way, on the fake kernel.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>

#include "tests/net/fake_kernel.h"
#include "tests/net/net_fixture.h"
#include "tests/net/random_config.h"

#define FORWARDS 24
#define STEPS	 1500

static struct random_config rnd;
static struct nat_forward now[FORWARDS];
static bool there[FORWARDS];

static struct addr random_on(bool v6)
{
	uint8_t b[16] = { 0x20, 1, [15] = (uint8_t)(1 + random_below(&rnd, 2)) };

	if (random_below(&rnd, 2))
		return (struct addr){ 0 };
	return v6 ? addr_from_bytes(6, b) : random_v4(200, 0, b[15]);
}

static struct addr random_to(bool v6)
{
	uint8_t b[16] = { 0xfd, 0x10, [15] = (uint8_t)(2 + random_below(&rnd, 9)) };

	return v6 ? addr_from_bytes(6, b) : random_v4(10, 0, b[15]);
}

/* Few ports, so that they meet. */
static struct nat_forward random_forward(void)
{
	bool v6 = random_below(&rnd, 3) == 0;
	uint16_t first = (uint16_t)(100 + random_below(&rnd, 60));
	uint16_t shift = (uint16_t)(random_below(&rnd, 3) ? 0 : 1000);

	return (struct nat_forward){
		.proto = random_below(&rnd, 2) ? NAT_TCP : NAT_UDP,
		.on = random_on(v6),
		.first = first,
		.last = (uint16_t)(first + (random_below(&rnd, 3) ? 0 : random_below(&rnd, 12))),
		.to = random_to(v6),
		.to_first = (uint16_t)(first + shift),
	};
}

/* As the checks of a configuration see it: some address and port would have two. */
static bool in_the_way(const struct nat_forward *a, const struct nat_forward *b)
{
	return a->proto == b->proto && a->to.family == b->to.family && a->first <= b->last &&
	       b->first <= a->last &&
	       (!a->on.family || !b->on.family || addr_equal(&a->on, &b->on));
}

static bool expect_fit(size_t skip, const struct nat_forward *f)
{
	for (size_t i = 0; f && i < FORWARDS; i++)
		if (there[i] && i != skip && in_the_way(&now[i], f))
			return false;
	return true;
}

static struct nat_state lower_all(void)
{
	struct nat_forward all[FORWARDS];
	struct nat_net net = { .forwards = all };
	struct nat_state s = { 0 };
	struct err err = { 0 };

	for (size_t i = 0; i < FORWARDS; i++)
		if (there[i])
			all[net.forward_count++] = now[i];
	if (nat_lower(&net, &s, &err) < 0)
		fail_msg("%s", err.text);
	return s;
}

static void check_same(const struct nat_state *a, const struct nat_state *b, int step)
{
	for (int i = 0; i < NAT_SET_COUNT; i++)
		if (a->sets[i].count != b->sets[i].count ||
		    (a->sets[i].count &&
		     memcmp(a->sets[i].e, b->sets[i].e, a->sets[i].count * sizeof(*a->sets[i].e))))
			fail_msg("step %d: set %s is not what it would be", step,
				 nat_set_name((enum nat_set_id)i));
}

static void check_kernel(struct net_fixture *f, const struct nat_state *want, int step)
{
	struct nat_state seen = { 0 };
	struct plan plan = { 0 };

	assert_int_equal(observe_nat(f->nl, &seen, NULL), 0);
	assert_int_equal(nat_plan(want, &seen, NAT_STAGE_BEFORE, true, NULL, 0, &plan, NULL), 0);
	if (plan.count)
		fail_msg("step %d: the kernel differs: %s", step, plan.ops[0]->text);
	plan_clear(&plan);
	nat_state_clear(&seen);
}

static void run_delta(struct net_fixture *f, struct nat_state *kept, const struct nat_delta *d)
{
	struct plan_port port = queue_port(&f->q);
	struct plan plan = { 0 };
	struct err err = { 0 };

	assert_int_equal(nat_delta_reserve(kept, d), 0);
	assert_int_equal(nat_delta_plan(d, &plan, &err), 0);
	if (plan_run(&plan, &port, &err) < 0)
		fail_msg("%s", err.text);
	nat_delta_keep(kept, d);
	plan_clear(&plan);
}

/* One step; whether something changed. */
static bool step(struct net_fixture *f, struct nat_state *kept)
{
	size_t i = random_below(&rnd, FORWARDS);
	struct nat_forward next = random_forward(), *new = &next;
	struct nat_delta d = { 0 };
	bool fits;

	if (there[i] && random_below(&rnd, 3) == 0)
		new = NULL;
	else if (there[i] && random_below(&rnd, 3) == 0)
		next = (struct nat_forward){ now[i].proto, now[i].on, now[i].first,
					     now[i].last,  next.to,   now[i].first };
	if (new &&new->on.family &&new->on.family != new->to.family)
		new->on.family = 0;
	assert_int_equal(nat_delta_forward(there[i] ? &now[i] : NULL, new, &d, NULL), 0);
	fits = nat_delta_fits(kept, &d);
	assert_int_equal(fits, expect_fit(i, new));
	if (fits) {
		run_delta(f, kept, &d);
		there[i] = new != NULL;
		if (new)
			now[i] = *new;
	}
	nat_delta_clear(&d);
	return fits;
}

static void each_step_equals_the_whole(void **state)
{
	struct net_fixture f = { .nl = fake_kernel_new(false),
				 .ncaps = { .nftables = true, .bridge_family = true } };
	static const struct vlan_net no_links;
	static const struct nat_net nothing;
	struct nat_state kept, whole;
	int changed = 0;

	(void)state;
	rnd.seed = 4711;
	queue_init(&f.q, f.nl, &f.ncaps, true);
	assert_int_equal(net_run(&f, &no_links, &nothing, VLAN_BACKEND_PER_VLAN, NULL), 1);
	assert_int_equal(nat_lower(&nothing, &kept, NULL), 0);
	for (int i = 0; i < STEPS; i++) {
		changed += step(&f, &kept);
		whole = lower_all();
		check_same(&kept, &whole, i);
		check_kernel(&f, &whole, i);
		nat_state_clear(&whole);
	}
	assert_in_range(changed, STEPS / 4, STEPS - STEPS / 10); /* both happen */
	nat_state_clear(&kept);
	nl_close(f.nl);
}

/* What the kernel holds against expectation makes it refuse, and nothing changes. */
static void kernel_that_differs_refuses(void **state)
{
	struct net_fixture f = { .nl = fake_kernel_new(false),
				 .ncaps = { .nftables = true, .bridge_family = true } };
	static const struct vlan_net no_links;
	struct nat_forward fw = { NAT_TCP, { 0 }, 80, 80, random_v4(10, 0, 2), 80 };
	const struct nat_net net = { .forwards = &fw, .forward_count = 1 };
	struct plan_port port;
	struct plan plan = { 0 };
	struct nat_delta d = { 0 };

	(void)state;
	queue_init(&f.q, f.nl, &f.ncaps, true);
	port = queue_port(&f.q);
	assert_int_equal(net_run(&f, &no_links, &net, VLAN_BACKEND_PER_VLAN, NULL), 1);
	assert_int_equal(nat_delta_forward(NULL, &fw, &d, NULL), 0);
	assert_int_equal(nat_delta_plan(&d, &plan, NULL), 0);
	assert_int_equal(plan_run(&plan, &port, NULL), -EEXIST);
	plan_clear(&plan);
	nat_delta_clear(&d);
	fw.first = fw.last = fw.to_first = 81;
	assert_int_equal(nat_delta_forward(&fw, NULL, &d, NULL), 0);
	assert_int_equal(nat_delta_plan(&d, &plan, NULL), 0);
	assert_int_equal(plan_run(&plan, &port, NULL), -ENOENT);
	plan_clear(&plan);
	nat_delta_clear(&d);
	fw.first = fw.last = fw.to_first = 80;
	assert_int_equal(net_run(&f, &no_links, &net, VLAN_BACKEND_PER_VLAN, NULL), 0);
	nl_close(f.nl);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_step_equals_the_whole),
		cmocka_unit_test(kernel_that_differs_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
