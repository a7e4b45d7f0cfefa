/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Netlink messages that no kernel sends: every truncation and many seeded mutations of real ones
 * are taken or refused, never crash.  Each message is copied to a block of its own exact size, so
 * that the sanitizers see a byte too many.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

#include "nat/sets.h"
#include "nat/wire.h"
#include "vlan/wire.h"

#define MUTATIONS 20000

static uint32_t seed = 1;

static uint32_t next(void)
{
	seed = seed * 1664525 + 1013904223;
	return seed >> 8;
}

static void feed(const uint8_t *bytes, size_t len, struct nat_state *n, struct vlan_state *v)
{
	struct nlmsghdr *copy = malloc(NLMSG_ALIGN(len)); /* a message is padded */
	struct nat_flow flow;
	struct nlbuf b = { 0 };
	int r;

	assert_non_null(copy);
	memset(copy, 0xff, NLMSG_ALIGN(len));
	memcpy(copy, bytes, len);
	copy->nlmsg_len = (uint32_t)len; /* the socket layer has checked this much */
	r = nat_observe_message(n, copy);
	assert_true(r == 0 || r == -EPROTO);
	r = vlan_observe_message(v, copy);
	assert_true(r == 0 || r == -EPROTO);
	r = nat_wire_flow_parse(copy, &flow);
	assert_true(r == 0 || r == -EPROTO || r == -ENOMSG);
	r = nat_wire_flow_delete(&b, copy);
	assert_true(r == 0 || r == -EPROTO || r == -ENOMSG);
	nlbuf_clear(&b);
	free(copy);
}

/* Every message of the run, truncated everywhere, then mutated. */
static void torture(const struct nlbuf *run)
{
	struct nat_state n = { 0 };
	struct vlan_state v = { 0 };

	for (size_t at = 0; at < run->len_bytes;) {
		const struct nlmsghdr *h = (const void *)(run->data + at);

		for (size_t len = sizeof(*h); len <= h->nlmsg_len && len < 400; len++)
			feed((const uint8_t *)h, len, &n, &v);
		at += NLMSG_ALIGN(h->nlmsg_len);
	}
	for (unsigned i = 0; i < MUTATIONS; i++) {
		const struct nlmsghdr *h = (const void *)run->data;
		uint8_t bytes[4096];
		size_t len;

		for (unsigned skip = next() % (unsigned)run->message_count; skip; skip--)
			h = (const void *)((const uint8_t *)h + NLMSG_ALIGN(h->nlmsg_len));
		len = h->nlmsg_len < sizeof(bytes) ? h->nlmsg_len : sizeof(bytes);
		memcpy(bytes, h, len);
		for (unsigned k = 1 + next() % 4; k; k--)
			bytes[sizeof(*h) + next() % (len - sizeof(*h))] = (uint8_t)next();
		if (i % 1000 == 0) {
			(void)!nat_observe_finish(&n);
			(void)!vlan_observe_finish(&v);
			nat_state_clear(&n);
			vlan_state_clear(&v);
		}
		feed(bytes, len, &n, &v);
	}
	nat_state_clear(&n);
	vlan_state_clear(&v);
}

static void nftables(void **state)
{
	struct nat_vlan vlan = { .ifname = "guests.10", .masquerade4 = true };
	struct nat_forward forwards[2] = { { NAT_TCP, { 0 }, 1, 1, { 4, { 10, 0, 0, 1 } }, 1 },
					   { NAT_UDP, { 0 }, 5, 9, { 4, { 10, 0, 0, 1 } }, 5 } };
	struct nat_net net = {
		.vlans = &vlan, .vlan_count = 1, .forwards = forwards, .forward_count = 2
	};
	struct nat_op op = { .kind = NAT_OP_CREATE };
	const struct nat_op *ops[] = { &op };
	struct nat_state s = { 0 };
	struct nlbuf run = { 0 };

	(void)state;
	assert_int_equal(nat_lower(&net, &s, NULL), 0);
	op.new = &s;
	assert_int_equal(nat_wire_ops(&run, ops, 1, false, 0), 0);
	torture(&run);
	nlbuf_clear(&run);
	nat_state_clear(&s);
}

/* A hash that grows while it is listed shows a key twice: that is no malice, one looks again. */
static void torn_dump(void **state)
{
	int torn = 0;

	(void)state;
	for (int i = 0; i < NAT_SET_COUNT; i++) {
		struct nat_state s = { 0 };

		if (nat_set_info[i].interval)
			continue;
		assert_non_null(nat_elems_add(&s.sets[i]));
		assert_non_null(nat_elems_add(&s.sets[i]));
		assert_int_equal(nat_observe_finish(&s), -EAGAIN);
		nat_state_clear(&s);
		torn++;
	}
	assert_true(torn > 0);
}

static int index_of(void *ctx, const char *name)
{
	(void)ctx;
	(void)name;
	return 7;
}

static void links(void **state)
{
	struct vlan_membership m = { .pvid = 10 };
	struct vlan_addr a = { .prefix = { { 4, { 10, 0, 0, 1 } }, 24 } };
	struct vlan_link port = { .name = "vm1",
				  .kind = VLAN_KIND_DOT1Q,
				  .master = "b",
				  .vid = 7,
				  .alias = "ashlar:port vm1",
				  .members = &m,
				  .parent = "b" };
	struct vlan_link bridge = { .name = "b", .kind = VLAN_KIND_BRIDGE, .vlan_filtering = true };
	struct vlan_resolver res = { index_of, NULL };
	struct vlan_op ops[] = { { .kind = VLAN_OP_LINK_ADD, .after = &port },
				 { .kind = VLAN_OP_LINK_ADD, .after = &bridge },
				 { .kind = VLAN_OP_VIDS_ADD, .before = &bridge, .after = &port },
				 { .kind = VLAN_OP_ADDR_ADD, .after = &port, .addr = &a } };
	struct nlbuf run = { 0 };

	(void)state;
	vlan_vids_add(&m.tagged, 20, 4000);
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		assert_int_equal(vlan_wire_op(&run, &ops[i], false, &res), 0);
	for (size_t at = 0; at < run.len_bytes;) { /* requests become what a dump would hold */
		struct nlmsghdr *h = (void *)(run.data + at);

		if (h->nlmsg_type == RTM_SETLINK)
			h->nlmsg_type = RTM_NEWLINK;
		at += NLMSG_ALIGN(h->nlmsg_len);
	}
	torture(&run);
	nlbuf_clear(&run);
}

/* A flow as conntrack lists it, by hand. */
static void flows(void **state)
{
	static const uint8_t
		body[] = {
			2,   0,	  0,   0,    /* nfgenmsg: IPv4 */
			52,  0,	  1,   0x80, /* CTA_TUPLE_ORIG */
			20,  0,	  1,   0x80, 8, 0,  1,	0,   192,  0,  2,    2,	 8, 0,	2,
			0,   192, 0,   2,    1, /* IP */
			28,  0,	  2,   0x80, 5, 0,  1,	0,   17,   0,  0,    0,	 6, 0,	2,
			0,   23,  112, 0,    0, 6,  0,	3,   0,	   19, 136,  0,	 0, /* PROTO: udp
										       6000 5000 */
			52,  0,	  2,   0x80, /* CTA_TUPLE_REPLY */
			20,  0,	  1,   0x80, 8, 0,  1,	0,   10,   10, 0,    11, 8, 0,	2,
			0,   192, 0,   2,    2, 28, 0,	2,   0x80, 5,  0,    1,	 0, 17, 0,
			0,   0,	  6,   0,    2, 0,  19, 136, 0,	   0,  6,    0,	 3, 0,	23,
			112, 0,	  0,   8,    0, 3,  0,	0,   0,	   0,  0x2a, /* CTA_STATUS:
										IPS_DST_NAT and
										others */
			8,   0,	  12,  0,    1, 2,  3,	4,		     /* CTA_ID */
		};
	struct nlbuf run = { 0 };
	struct nlmsghdr *h = nlbuf_start(&run, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW, 0,
					 sizeof(body), 0);
	struct nat_flow f;

	(void)state;
	assert_non_null(h);
	memcpy(NLMSG_DATA(h), body, sizeof(body));
	nlbuf_end(&run, h);
	assert_int_equal(nat_wire_flow_parse(h, &f), 0);
	assert_int_equal(f.proto, 17);
	assert_int_equal(f.sport, 6000);
	assert_int_equal(f.dport, 5000);
	assert_true(f.dnat);
	assert_int_equal(f.reply_src.b[3], 11);
	torture(&run);
	nlbuf_clear(&run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nftables),
		cmocka_unit_test(torn_dump),
		cmocka_unit_test(links),
		cmocka_unit_test(flows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
