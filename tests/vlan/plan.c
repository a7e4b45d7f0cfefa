/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Plans of both backends against golden files, and what lowering and planning refuse.  What a plan
 * would have made is the observed state of the next one, so no kernel is needed.
 */
#include "tests/net/golden.h"

#include <errno.h>

#include "vlan/state.h"

static const struct vlan_caps all_caps = { true, true, true, true, true, true, true };
static const struct vlan_caps ci_caps = { .isolated = true, .tun = true, .addr_proto = true };

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct prefix prefix(const char *text)
{
	struct prefix p = { 0 };

	assert_int_equal(prefix_parse(text, &p, NULL), 0);
	return p;
}

static struct prefix gw10[2], gw20[1];
static struct vlan_bridge bridges[1];
static struct vlan_segment segments[3];
static struct vlan_port ports[4];
static struct vlan_net net;

static int reset(void **state)
{
	(void)state;
	gw10[0] = prefix("10.10.0.1/24");
	gw10[1] = prefix("fd10::1/64");
	gw20[0] = prefix("10.20.0.1/24");
	bridges[0] = (struct vlan_bridge){ .name = "guests" };
	segments[0] = (struct vlan_segment){ "guests", 10, gw10, 2, 0 };
	segments[1] = (struct vlan_segment){ "guests", 20, gw20, 1, 1400 };
	segments[2] = (struct vlan_segment){ "guests", 30, NULL, 0, 0 };
	ports[0] = (struct vlan_port){ .name = "vm1",
				       .bridge = "guests",
				       .access = 10,
				       .owner = 64055,
				       .group = (gid_t)-1,
				       .queues = 1,
				       .vnet_hdr = true };
	ports[1] = (struct vlan_port){ .name = "vm2",
				       .bridge = "guests",
				       .access = 20,
				       .owner = 64055,
				       .group = (gid_t)-1,
				       .queues = 2,
				       .isolated = true };
	ports[2] = (struct vlan_port){
		.name = "nic0", .bridge = "guests", .access = 30, .kind = VLAN_PORT_EXISTING
	};
	ports[3] = (struct vlan_port){ .name = "fw1",
				       .bridge = "guests",
				       .native = 30,
				       .owner = (uid_t)-1,
				       .group = (gid_t)-1,
				       .queues = 1 };
	vlan_vids_add(&ports[3].tagged, 10, 20);
	net = (struct vlan_net){ bridges, 1, segments, 3, ports, 4, NULL, 0, 42 };
	return 0;
}

/* The state of the host before us: what is there already. */
static struct vlan_link *foreign(struct vlan_state *s, const char *name, const char *alias)
{
	struct vlan_link *l = vlan_state_add(s);

	assert_non_null(l);
	vlan_name_copy(l->name, name);
	snprintf(l->alias, sizeof(l->alias), "%s", alias);
	l->mtu = 1500;
	return l;
}

static void lower(enum vlan_backend b, struct vlan_state *ret)
{
	struct err err = { 0 };

	if (vlan_lower(&net, b, b == VLAN_BACKEND_AWARE ? &all_caps : &all_caps, ret, &err))
		fail_msg("%s", err.text);
}

/* A desired state as it looks when it has been made. */
static void made(enum vlan_backend b, struct vlan_state *ret)
{
	lower(b, ret);
	for (size_t i = 0; i < ret->link_count; i++) {
		struct vlan_link *l = &ret->links[i];

		if (l->kind == VLAN_KIND_OTHER)
			snprintf(l->alias, sizeof(l->alias), "ashlar:use:1500:0:");
		if (!l->mtu)
			l->mtu = 1500;
	}
}

static void check(const char *name, const struct vlan_state *want, const struct vlan_state *have)
{
	struct vlan_names moving = { 0 };
	struct plan plan = { 0 };
	struct err err = { 0 };

	if (vlan_plan(want, have, &plan, &moving, &err))
		fail_msg("%s: %s", name, err.text);
	golden_plan(name, &plan);
	plan_clear(&plan);
	vlan_names_clear(&moving);
}

static void from_nothing(void **state)
{
	static const char *const names[] = { "aware-new", "per-vlan-new" };

	(void)state;
	for (int b = 0; b < 2; b++) {
		struct vlan_state want = { 0 }, have = { 0 };
		size_t dup;

		foreign(&have, "nic0", "the admin's");
		foreign(&have, "eth0", "");
		assert_int_equal(vlan_state_sort(&have, &dup), 0);
		lower((enum vlan_backend)b, &want);
		check(names[b], &want, &have);
		vlan_state_clear(&want);
		vlan_state_clear(&have);
	}
}

static void in_sync_is_empty(void **state)
{
	(void)state;
	for (int b = 0; b < 2; b++) {
		struct vlan_state want = { 0 }, have = { 0 };
		struct plan plan = { 0 };

		lower((enum vlan_backend)b, &want);
		made((enum vlan_backend)b, &have);
		assert_int_equal(vlan_plan(&want, &have, &plan, NULL, NULL), 0);
		assert_int_equal(plan.count, 0);
		vlan_state_clear(&want);
		vlan_state_clear(&have);
	}
}

static void changes(void **state)
{
	static const char *const names[] = { "aware-change", "per-vlan-change" };

	for (int b = 0; b < 2; b++) {
		struct vlan_state want = { 0 }, have = { 0 };

		reset(state);
		made((enum vlan_backend)b, &have);
		ports[0].access = 20; /* another VLAN */
		ports[1].queues = 1;  /* made anew */
		ports[3].native = 0;  /* trunk only */
		ports[3].tagged.bits[0] &= ~(UINT64_C(1) << 15);
		net.port_count = 4;
		segments[1].mtu = 1450;
		gw20[0] = prefix("10.20.1.1/24");
		lower((enum vlan_backend)b, &want);
		check(names[b], &want, &have);
		vlan_state_clear(&want);
		vlan_state_clear(&have);
	}
}

static void down_to_nothing(void **state)
{
	static const char *const names[] = { "aware-down", "per-vlan-down" };
	static const struct vlan_state nothing;

	(void)state;
	for (int b = 0; b < 2; b++) {
		struct vlan_state have = { 0 };

		made((enum vlan_backend)b, &have);
		check(names[b], &nothing, &have);
		vlan_state_clear(&have);
	}
}

static void backend_exchange(void **state)
{
	struct vlan_state want = { 0 }, have = { 0 };

	(void)state;
	made(VLAN_BACKEND_PER_VLAN, &have);
	lower(VLAN_BACKEND_AWARE, &want);
	check("per-vlan-to-aware", &want, &have);
	vlan_state_clear(&want);
	vlan_state_clear(&have);
}

static void moving_ports_are_named(void **state)
{
	struct vlan_state want = { 0 }, have = { 0 };
	struct vlan_names moving = { 0 };
	struct plan plan = { 0 };

	(void)state;
	made(VLAN_BACKEND_PER_VLAN, &have);
	ports[0].access = 20;
	lower(VLAN_BACKEND_PER_VLAN, &want);
	assert_int_equal(vlan_plan(&want, &have, &plan, &moving, NULL), 0);
	assert_int_equal(moving.count, 1);
	assert_string_equal(moving.names[0], "vm1");
	plan_clear(&plan);
	vlan_names_clear(&moving);
	vlan_state_clear(&want);
	vlan_state_clear(&have);
}

/* ---- refusals ---- */

static int plan_error(struct vlan_state *have, struct err *err)
{
	struct vlan_state want = { 0 };
	struct plan plan = { 0 };
	size_t dup;
	int r;

	assert_int_equal(vlan_state_sort(have, &dup), 0);
	lower(VLAN_BACKEND_PER_VLAN, &want);
	r = vlan_plan(&want, have, &plan, NULL, err);
	assert_int_equal(plan.count, 0);
	vlan_state_clear(&want);
	vlan_state_clear(have);
	return r;
}

static void foreign_things_in_the_way(void **state)
{
	struct vlan_state have = { 0 };
	struct err err = { 0 };
	struct vlan_link *l;

	(void)state;
	assert_int_equal(plan_error(&have, &err), -ENODEV); /* nic0 is not there */
	assert_non_null(strstr(err.text, "nic0"));
	foreign(&have, "nic0", "");
	foreign(&have, "vm1", "made by libvirt");
	assert_int_equal(plan_error(&have, &err), -EEXIST);
	assert_non_null(strstr(err.text, "vm1"));
	l = foreign(&have, "nic0", "");
	vlan_name_copy(l->master, "br0");
	foreign(&have, "br0", "");
	assert_int_equal(plan_error(&have, &err), -EBUSY);
	assert_non_null(strstr(err.text, "br0"));
}

/* An alias that only looks like ours, or a use-mark that is damaged, deletes nothing. */
static void marks_are_exact(void **state)
{
	static const char *const aliases[] = { "ashla:bridge x",    "Ashlar:bridge x",
					       " ashlar:x",	    "ashlar:use:",
					       "ashlar:use:abc:1:", "ashlar:use:1:2" };
	static const struct vlan_state nothing;
	struct vlan_state have = { 0 };
	struct plan plan = { 0 };
	size_t dup;

	(void)state;
	for (size_t i = 0; i < COUNT(aliases); i++) {
		char name[16];

		snprintf(name, sizeof(name), "x%zu", i);
		foreign(&have, name, aliases[i]);
	}
	assert_int_equal(vlan_state_sort(&have, &dup), 0);
	assert_int_equal(vlan_plan(&nothing, &have, &plan, NULL, NULL), 0);
	assert_int_equal(plan.count, 0);
	vlan_state_clear(&have);
}

static void lower_fails(const char *word, int code, enum vlan_backend b,
			const struct vlan_caps *caps)
{
	struct vlan_state s = { 0 };
	struct err err = { 0 };
	int r = vlan_lower(&net, b, caps, &s, &err);

	if (r != code || !strstr(err.text, word))
		fail_msg("%d \"%s\", expected %d with \"%s\"", r, err.text, code, word);
	reset(NULL);
}

static void lowering_refuses(void **state)
{
	(void)state;
	lower_fails("fw1", -EOPNOTSUPP, VLAN_BACKEND_PER_VLAN, &ci_caps); /* tagged, no 8021q */
	strcpy(bridges[0].uplink, "eth1");
	net.port_count = 3;
	lower_fails("eth1", -EOPNOTSUPP, VLAN_BACKEND_PER_VLAN, &ci_caps);
	segments[2].vid = ports[2].access = 20;
	lower_fails("used twice", -EINVAL, VLAN_BACKEND_PER_VLAN, &all_caps);
	strcpy(ports[0].bridge, "gone");
	lower_fails("gone", -EINVAL, VLAN_BACKEND_AWARE, &all_caps);
	ports[0].access = 99;
	lower_fails("VLAN 99", -EINVAL, VLAN_BACKEND_AWARE, &all_caps);
	strcpy(ports[1].name, "vm1");
	lower_fails("vm1", -EINVAL, VLAN_BACKEND_AWARE, &all_caps);
	strcpy(bridges[0].name, "elevenbytes");
	lower_fails("elevenbytes", -EINVAL, VLAN_BACKEND_AWARE, &all_caps);
	strcpy(ports[3].name, "elevenbytes");
	lower_fails("elevenbytes", -EINVAL, VLAN_BACKEND_PER_VLAN, &all_caps);
	strcpy(ports[0].name, "a/b");
	lower_fails("a/b", -EINVAL, VLAN_BACKEND_AWARE, &all_caps);
	segments[0].vid = 4095;
	lower_fails("4095", -EINVAL, VLAN_BACKEND_AWARE, &all_caps);
	ports[3].native = 15;
	lower_fails("both tagged and native", -EINVAL, VLAN_BACKEND_AWARE, &all_caps);
}

static void backend_is_chosen_by_what_the_kernel_has(void **state)
{
	struct vlan_caps c = all_caps;

	(void)state;
	assert_int_equal(vlan_backend_choose(&c), VLAN_BACKEND_AWARE);
	c.dot1q = false;
	assert_int_equal(vlan_backend_choose(&c), VLAN_BACKEND_PER_VLAN);
	assert_int_equal(vlan_backend_choose(&ci_caps), VLAN_BACKEND_PER_VLAN);
}

int main(int argc, char **argv)
{
#define T(name) cmocka_unit_test_setup(name, reset)
	const struct CMUnitTest tests[] = {
		T(from_nothing),
		T(in_sync_is_empty),
		T(changes),
		T(down_to_nothing),
		T(backend_exchange),
		T(moving_ports_are_named),
		T(foreign_things_in_the_way),
		T(marks_are_exact),
		T(lowering_refuses),
		T(backend_is_chosen_by_what_the_kernel_has),
	};

	if (argc > 1)
		golden_dir = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
