/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fake kernel and the real one, side by side: the same random configurations lead to the same
 * plans and to the same observations.  (Per-vlan backend where the real kernel has no filtering,
 * aware where it has.)
 */
#include "tests/net/kernel.h"

#include <errno.h>

#include "tests/net/fake_kernel.h"
#include "tests/net/net_fixture.h"
#include "tests/net/random_config.h"

#define SEEDS 25

static struct net_fixture real, fake;
static enum vlan_backend backend;

static int setup(void **state)
{
	struct err err = { 0 };

	(void)state;
	sh("for n in eth0 nic0 other0; do ip link add $n type veth peer name p$n; done");
	sh("ip link set eth0 alias 'the uplink'; ip link set nic0 alias 'a nic'");
	sh("ip link set other0 alias \"somebody's\"");
	must(nl_open(&real.nl, &err), &err);
	must(observe_caps(real.nl, &real.vcaps, &real.ncaps, &err), &err);
	queue_init(&real.q, real.nl, &real.ncaps, false);
	backend = vlan_backend_choose(&real.vcaps);
	fake.nl = fake_kernel_new(backend == VLAN_BACKEND_AWARE);
	fake.vcaps = real.vcaps;
	fake.ncaps = real.ncaps;
	queue_init(&fake.q, fake.nl, &fake.ncaps, false);
	fake_kernel_add_foreign(fake.nl, "eth0", "the uplink");
	fake_kernel_add_foreign(fake.nl, "nic0", "a nic");
	fake_kernel_add_foreign(fake.nl, "other0", "somebody's");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	nl_close(real.nl);
	nl_close(fake.nl);
	return 0;
}

#define SAME(field)                                                                                \
	do {                                                                                       \
		if (a->field != b->field)                                                          \
			fail_msg("seed %u: %s: " #field " is %ld, the fake's %ld", seed, a->name,  \
				 (long)a->field, (long)b->field);                                  \
	} while (0)
#define SAME_TEXT(field)                                                                           \
	do {                                                                                       \
		if (strcmp(a->field, b->field))                                                    \
			fail_msg("seed %u: %s: " #field " is \"%s\", the fake's \"%s\"", seed,     \
				 a->name, a->field, b->field);                                     \
	} while (0)

static bool has(const struct vlan_link *l, const struct vlan_addr *a)
{
	for (size_t i = 0; i < l->addr_count; i++)
		if (l->addrs[i].ours == a->ours && l->addrs[i].prefix.len == a->prefix.len &&
		    addr_equal(&l->addrs[i].prefix.addr, &a->prefix.addr))
			return true;
	return false;
}

static void compare_addrs(uint32_t seed, const struct vlan_link *a, const struct vlan_link *b)
{
	for (size_t i = 0; i < a->addr_count; i++)
		if (a->addrs[i].ours && !has(b, &a->addrs[i]))
			fail_msg("seed %u: %s: an address that the fake has not", seed, a->name);
	for (size_t i = 0; i < b->addr_count; i++)
		if (!has(a, &b->addrs[i]))
			fail_msg("seed %u: %s: an address that only the fake has", seed, a->name);
}

/* `a` of the real kernel, `b` of the fake one. */
static void compare_link(uint32_t seed, const struct vlan_link *a, const struct vlan_link *b)
{
	static const struct vlan_membership none;

	SAME(kind);
	SAME(mtu);
	SAME(up);
	SAME(isolated);
	SAME(hairpin);
	SAME(vlan_filtering);
	SAME(vid);
	SAME_TEXT(alias);
	SAME_TEXT(master);
	SAME_TEXT(parent);
	if (a->kind == VLAN_KIND_TAP) {
		SAME(owner);
		SAME(group);
		SAME(multi_queue);
		SAME(vnet_hdr);
	}
	if (a->kind != VLAN_KIND_OTHER)
		assert_memory_equal(a->mac.b, b->mac.b, 6);
	assert_memory_equal(a->members ? a->members : &none, b->members ? b->members : &none,
			    sizeof(none));
	compare_addrs(seed, a, b);
}

static void compare_links(uint32_t seed)
{
	struct vlan_state r = { 0 }, k = { 0 };
	struct err err = { 0 };

	must(observe_vlan(real.nl, &real.vcaps, &r, &err), &err);
	must(observe_vlan(fake.nl, &fake.vcaps, &k, &err), &err);
	assert_int_equal(r.link_count, k.link_count + 4); /* lo and the peers */
	for (size_t i = 0; i < k.link_count; i++) {
		const struct vlan_link *l = vlan_state_find(&r, k.links[i].name);

		if (!l)
			fail_msg("seed %u: only the fake has %s", seed, k.links[i].name);
		compare_link(seed, l, &k.links[i]);
	}
	vlan_state_clear(&r);
	vlan_state_clear(&k);
}

static void compare_tables(uint32_t seed)
{
	struct nat_state r = { 0 }, k = { 0 };
	struct err err = { 0 };

	must(observe_nat(real.nl, &r, &err), &err);
	must(observe_nat(fake.nl, &k, &err), &err);
	assert_int_equal(r.tables, k.tables);
	assert_int_equal(r.skeleton, k.skeleton);
	for (int i = 0; i < NAT_SET_COUNT; i++) {
		if (r.sets[i].count != k.sets[i].count)
			fail_msg("seed %u: %s: %zu elements, the fake has %zu", seed,
				 nat_set_name((enum nat_set_id)i), r.sets[i].count,
				 k.sets[i].count);
		if (r.sets[i].count)
			assert_memory_equal(r.sets[i].e, k.sets[i].e,
					    r.sets[i].count * sizeof(struct nat_elem));
	}
	nat_state_clear(&r);
	nat_state_clear(&k);
}

static void same_plans_same_outcome(void **state)
{
	static const struct vlan_net no_links;
	struct err err = { 0 };

	(void)state;
	for (uint32_t seed = 1; seed <= SEEDS; seed++) {
		struct random_config c;
		long on_real, on_fake;

		random_config(&c, seed, backend, true);
		on_real = net_run(&real, &c.vlan, &c.nat, backend, &err);
		if (on_real < 0)
			fail_msg("seed %u: %s", seed, err.text);
		on_fake = net_run(&fake, &c.vlan, &c.nat, backend, &err);
		if (on_real != on_fake)
			fail_msg("seed %u: %ld operations, on the fake %ld", seed, on_real,
				 on_fake);
		compare_links(seed);
		compare_tables(seed);
		assert_int_equal(net_run(&real, &c.vlan, &c.nat, backend, &err), 0);
	}
	assert_true(net_run(&real, &no_links, NULL, backend, &err) >= 0);
	assert_true(net_run(&fake, &no_links, NULL, backend, &err) >= 0);
	compare_links(0);
	compare_tables(0);
}

/* What one refuses, the other refuses alike. */
static void same_refusals(void **state)
{
	struct random_config c;
	struct err err = { 0 };

	(void)state;
	random_config(&c, 1, backend, false);
	strcpy(c.ports[0].name, "gone0");
	c.ports[0].kind = VLAN_PORT_EXISTING;
	assert_int_equal(net_run(&real, &c.vlan, &c.nat, backend, &err), -ENODEV);
	assert_int_equal(net_run(&fake, &c.vlan, &c.nat, backend, &err), -ENODEV);
	random_config(&c, 1, backend, false);
	strcpy(c.ports[0].name, "other0");
	c.ports[0].kind = VLAN_PORT_TAP;
	assert_int_equal(net_run(&real, &c.vlan, &c.nat, backend, &err), -EEXIST);
	assert_int_equal(net_run(&fake, &c.vlan, &c.nat, backend, &err), -EEXIST);
	compare_links(0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(same_plans_same_outcome),
		cmocka_unit_test(same_refusals),
	};

	kernel_unshare();
	return cmocka_run_group_tests(tests, setup, teardown);
}
