/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ruleset as text and plans against golden files; what lowering refuses; flows that go stale.
 */
#include "tests/net/golden.h"

#include <errno.h>

#include "nat/nat.h"
#include "nat/rules.h"
#include "nat/wire.h"

static struct addr addr(const char *text)
{
	struct addr a = { 0 };

	assert_int_equal(addr_parse(text, &a, NULL), 0);
	return a;
}

static struct prefix gw[2];
static struct nat_vlan vlans[2];
static struct nat_source sources[2];
static struct nat_forward forwards[8];
static struct nat_policy policies[2];
static struct addr ips[2];
static struct nat_port ports[2];
static struct nat_net net;

static int reset(void **state)
{
	(void)state;
	gw[0] = (struct prefix){ addr("10.10.0.1"), 24 };
	gw[1] = (struct prefix){ addr("fd10::1"), 64 };
	ips[0] = addr("10.10.0.11");
	ips[1] = addr("fd10::11");
	vlans[0] = (struct nat_vlan){ .ifname = "guests.10",
				      .outside = true,
				      .masquerade4 = true,
				      .addresses = gw,
				      .address_count = 2 };
	vlans[1] = (struct nat_vlan){ .ifname = "guests.20",
				      .host = NAT_HOST_NONE,
				      .reachable = true };
	sources[0] = (struct nat_source){
		"guests.20", "eth0", 4, true, { addr("192.0.2.10"), addr("192.0.2.13") }
	};
	forwards[0] = (struct nat_forward){ NAT_TCP, { 0 }, 2222, 2222, addr("10.10.0.11"), 22 };
	forwards[1] = (struct nat_forward){ NAT_UDP, addr("192.0.2.1"),	 5000,
					    5010,    addr("10.10.0.12"), 5000 };
	forwards[2] = (struct nat_forward){ NAT_TCP, addr("2001:db8::1"), 443,
					    443,     addr("fd10::11"),	  8443 };
	policies[0] = (struct nat_policy){ "guests.10", "guests.20" };
	ports[0] = (struct nat_port){ "vm1", true, false, true, { { 0x52, 0x54, 0, 0, 0, 1 } },
				      ips,   2 };
	ports[1] = (struct nat_port){ "fw1", true, true };
	net = (struct nat_net){ vlans, 2, sources, 1, forwards, 3, policies, 1, ports, 2 };
	return 0;
}

static struct nat_state lower(void)
{
	struct nat_state s = { 0 };
	struct err err = { 0 };

	if (nat_lower(&net, &s, &err))
		fail_msg("%s", err.text);
	return s;
}

static void text(void **state)
{
	struct nat_state s = lower();
	char *buf = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&buf, &size);

	(void)state;
	assert_int_equal(nat_print(&s, f), 0);
	fclose(f);
	golden_check("ruleset", buf);
	free(buf);
	nat_state_clear(&s);
}

static void ruleset_is_small_and_constant(void **state)
{
	size_t inet = 0;

	(void)state;
	for (size_t i = 0; i < nat_rule_count; i++)
		inet += nat_chain_info[nat_rules[i].chain].family == NAT_FAMILY_INET;
	assert_in_range(inet, 1, 39);
	assert_in_range(nat_rule_count, 1, 49);
}

static void plans(void **state)
{
	static const char *const moving[] = { "vm1" };
	static const struct nat_state nothing;
	struct nat_state a = lower(), b;
	struct plan plan = { 0 };

	assert_int_equal(nat_plan(&a, &nothing, NAT_STAGE_BEFORE, true, NULL, 0, &plan, NULL), 0);
	golden_plan("new", &plan);
	plan_clear(&plan);
	reset(state);
	forwards[0].to_first = 23;	      /* changed */
	forwards[1].last = 5020;	      /* a range that grows */
	net.policy_count = 0;		      /* gone */
	vlans[1].host = NAT_HOST_ALL;	      /* another verdict */
	forwards[2].on = addr("2001:db8::2"); /* one gone, one new */
	b = lower();
	assert_int_equal(nat_plan(&b, &a, NAT_STAGE_BEFORE, false, moving, 1, &plan, NULL), 0);
	assert_int_equal(nat_plan(&b, &a, NAT_STAGE_AFTER, false, moving, 1, &plan, NULL), 0);
	golden_plan("change", &plan);
	plan_clear(&plan);
	assert_int_equal(nat_plan(&a, &a, NAT_STAGE_BEFORE, true, NULL, 0, &plan, NULL), 0);
	assert_int_equal(nat_plan(NULL, &a, NAT_STAGE_BEFORE, false, NULL, 0, &plan, NULL), 0);
	assert_int_equal(plan.count, 0); /* links first */
	assert_int_equal(nat_plan(NULL, &a, NAT_STAGE_AFTER, false, NULL, 0, &plan, NULL), 0);
	golden_plan("down", &plan);
	plan_clear(&plan);
	nat_state_clear(&a);
	nat_state_clear(&b);
}

static void refused(const char *word)
{
	struct nat_state s = { 0 };
	struct err err = { 0 };
	int r = nat_lower(&net, &s, &err);

	if (r != -EINVAL || !strstr(err.text, word))
		fail_msg("%d \"%s\", expected a refusal with \"%s\"", r, err.text, word);
	assert_null(s.sets[NAT_SET_SERVICES].e); /* untouched */
	reset(NULL);
}

static void lowering_refuses(void **state)
{
	(void)state;
	net.forward_count = 4;
	forwards[3] = forwards[0];
	refused("tcp . 2222"); /* twice */
	net.forward_count = 4;
	forwards[3] = forwards[1];
	forwards[3].first = forwards[3].to_first = 5010;
	forwards[3].last = 5030;
	refused("5010-5030"); /* ranges that overlap */
	net.forward_count = 4;
	forwards[3] = forwards[1];
	forwards[3].first = forwards[3].last = 5005;
	refused("inside a forwarded range");
	forwards[0].last = 1;
	refused("not a range of ports");
	forwards[0].first = 0;
	refused("not a range of ports");
	forwards[0].last = 2224;
	forwards[0].to_first = 65534;
	refused("not a range of ports");
	forwards[0].first = 1;
	forwards[0].last = NAT_SHIFT_MAX + 1;
	forwards[0].to_first = 2;
	refused("at most");
	forwards[0].on = addr("::1");
	refused("two families");
	sources[0].out[0] = '\0';
	refused("outside interface");
	sources[0].pool.last = addr("192.0.2.9");
	refused("not a range of IPv4");
	sources[0].pool.last = addr("::1");
	refused("not a range of IPv4");
	strcpy(policies[0].to, "nowhere");
	refused("no such VLAN");
	net.policy_count = 0;
	strcpy(vlans[1].ifname, "guests.10");
	refused("twice");
}

static void shifted_range_is_expanded(void **state)
{
	struct nat_state s;

	(void)state;
	forwards[1].to_first = 6000;
	s = lower();
	assert_int_equal(s.sets[NAT_SET_FWD4].count, 11);
	assert_int_equal(s.sets[NAT_SET_FWD4_RANGE].count, 0);
	nat_state_clear(&s);
}

static void another_owner_is_refused(void **state)
{
	struct nat_state a = lower(), seen = {
		.tables = true, .skeleton = true, .owner = 77, .foreign_owner = true
	};
	struct plan plan = { 0 };
	struct err err = { 0 };

	(void)state;
	assert_int_equal(nat_plan(&a, &seen, NAT_STAGE_BEFORE, true, NULL, 0, &plan, &err), -EPERM);
	assert_non_null(strstr(err.text, "77"));
	assert_int_equal(plan.count, 0);
	nat_state_clear(&a);
}

/* ---- flows ---- */

static struct nat_flow flow(uint8_t proto, const char *dst, uint16_t dport, const char *reply_src)
{
	return (struct nat_flow){ .family = strchr(dst, ':') ? 6 : 4,
				  .proto = proto,
				  .dst = addr(dst),
				  .dport = dport,
				  .reply_src = addr(reply_src),
				  .dnat = strcmp(dst, reply_src) != 0 };
}

static void stale_flows(void **state)
{
	struct nat_state a = lower(), b;
	struct nat_stales stales = { 0 };
	struct plan plan = { 0 };
	struct nat_flow f;

	(void)state;
	nat_state_clear(&a);
	forwards[3] = (struct nat_forward){ NAT_UDP, { 0 }, 3333, 3333, addr("10.10.0.11"), 53 };
	net.forward_count = 4;
	a = lower();
	forwards[0].to = addr("10.10.0.99");
	forwards[1] = forwards[3];
	forwards[1].to = addr("10.10.0.99");
	net.forward_count = 2;
	b = lower();
	assert_int_equal(nat_plan(&b, &a, NAT_STAGE_BEFORE, true, NULL, 0, &plan, NULL), 0);
	assert_int_equal(nat_stale_collect(&plan, &stales), 0);
	/* to the old target; a connection to the host from before there was a forward goes on */
	f = flow(6, "192.0.2.1", 2222, "10.10.0.11");
	assert_true(nat_stale_matches(&stales, &f));
	f = flow(6, "192.0.2.1", 2222, "192.0.2.1");
	assert_false(nat_stale_matches(&stales, &f));
	/* of UDP both go */
	f = flow(17, "192.0.2.1", 3333, "10.10.0.11");
	assert_true(nat_stale_matches(&stales, &f));
	f = flow(17, "192.0.2.1", 3333, "192.0.2.1");
	assert_true(nat_stale_matches(&stales, &f));
	/* to the new target already; another protocol; a guest's own flow through another NAT */
	f = flow(6, "192.0.2.1", 2222, "10.10.0.99");
	assert_false(nat_stale_matches(&stales, &f));
	f = flow(17, "192.0.2.1", 2222, "10.10.0.11");
	assert_false(nat_stale_matches(&stales, &f));
	/* removed: range and address count */
	f = flow(17, "192.0.2.1", 5010, "10.10.0.12");
	assert_true(nat_stale_matches(&stales, &f));
	f = flow(17, "192.0.2.1", 5011, "10.10.0.12");
	assert_false(nat_stale_matches(&stales, &f));
	f = flow(17, "192.0.2.2", 5010, "10.10.0.12");
	assert_false(nat_stale_matches(&stales, &f));
	f = flow(17, "192.0.2.1", 5010, "192.0.2.1"); /* it never was forwarded */
	assert_false(nat_stale_matches(&stales, &f));
	f = flow(6, "2001:db8::1", 443, "fd10::11");
	assert_true(nat_stale_matches(&stales, &f));
	free(stales.v);
	plan_clear(&plan);
	nat_state_clear(&a);
	nat_state_clear(&b);
}

int main(int argc, char **argv)
{
#define T(name) cmocka_unit_test_setup(name, reset)
	const struct CMUnitTest tests[] = {
		T(text),
		T(ruleset_is_small_and_constant),
		T(plans),
		T(lowering_refuses),
		T(shifted_range_is_expanded),
		T(another_owner_is_refused),
		T(stale_flows),
	};

	if (argc > 1)
		golden_dir = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
