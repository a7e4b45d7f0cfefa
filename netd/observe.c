/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Observations; see observe.h.
 *
 * A dump of the kernel is not atomic.  Where it says so (NLM_F_DUMP_INTR) or loses messages
 * (ENOBUFS), everything seen so far is thrown away and the observation starts again, with a small
 * pause that grows, a bounded number of times.
 */
#include "netd/observe.h"

#include <assert.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "nat/wire.h"
#include "vlan/wire.h"

static uint64_t restarts;

uint64_t observe_restarts(void)
{
	return restarts;
}

static bool worth_a_retry(int r)
{
	return r == -EINTR || r == -ENOBUFS || r == -EAGAIN;
}

static void pause_before_retry(int attempt)
{
	struct timespec t = { .tv_nsec = 1000000L << (attempt < 6 ? attempt : 6) };

	restarts++;
	nanosleep(&t, NULL);
}

/* ---- links ---- */

static int on_vlan(void *arg, const struct nlmsghdr *nlh)
{
	return vlan_observe_message(arg, nlh);
}

static int vlan_once(struct nl *nl, const struct vlan_caps *caps, struct vlan_state *s,
		     struct err *err)
{
	struct nlbuf b = { 0 };
	int r = 0;

	s->addr_proto = caps && caps->addr_proto;
	for (size_t i = 0; !r; i++) {
		nlbuf_reset(&b);
		r = vlan_wire_dump(&b, i);
		if (r == -ERANGE)
			break;
		if (!r)
			r = nl_dump(nl, NL_ROUTE, &b, on_vlan, s, err);
	}
	nlbuf_clear(&b);
	return r == -ERANGE ? vlan_observe_finish(s) : r;
}

int observe_vlan(struct nl *nl, const struct vlan_caps *caps, struct vlan_state *ret,
		 struct err *err)
{
	for (int attempt = 0; attempt < OBSERVE_TRIES; attempt++) {
		struct vlan_state s = { 0 };
		struct err e = { 0 };
		int r = vlan_once(nl, caps, &s, &e);

		if (!r) {
			*ret = s;
			return 0;
		}
		vlan_state_clear(&s);
		if (!worth_a_retry(r))
			return err_sys(err, r, "looking at links%s%s", e.code ? ": " : "", e.text);
		pause_before_retry(attempt);
	}
	return err_set(err, -EAGAIN, "links change faster than they can be listed (%d tries)",
		       OBSERVE_TRIES);
}

/* ---- tables ---- */

static int on_nat(void *arg, const struct nlmsghdr *nlh)
{
	return nat_observe_message(arg, nlh);
}

static int nat_once(struct nl *nl, struct nat_state *s, struct err *err)
{
	struct nlbuf b = { 0 };
	int r = 0;

	for (size_t i = 0; !r; i++) {
		nlbuf_reset(&b);
		r = nat_wire_dump(&b, i);
		if (r == -ERANGE)
			break;
		if (!r)
			r = nl_dump(nl, NL_NETFILTER, &b, on_nat, s, err);
		if (r == -ENOENT) { /* no such table or set */
			r = 0;
			if (err)
				err->code = 0;
		}
	}
	nlbuf_clear(&b);
	return r == -ERANGE ? nat_observe_finish(s) : r;
}

int observe_nat(struct nl *nl, struct nat_state *ret, struct err *err)
{
	for (int attempt = 0; attempt < OBSERVE_TRIES; attempt++) {
		struct nat_state s = { 0 };
		struct err e = { 0 };
		int r = nat_once(nl, &s, &e);

		if (!r) {
			s.foreign_owner = s.owner && s.owner != nl_port_id(nl);
			*ret = s;
			return 0;
		}
		nat_state_clear(&s);
		if (!worth_a_retry(r))
			return err_sys(err, r, "looking at nftables%s%s", e.code ? ": " : "",
				       e.text);
		pause_before_retry(attempt);
	}
	return err_set(err, -EAGAIN, "nftables change faster than they can be listed (%d tries)",
		       OBSERVE_TRIES);
}

/* ---- what the kernel can do ---- */

/* A name that nobody has: of this process, and tried. */
static int probe_name(struct nl *nl, char *buf)
{
	for (unsigned i = 0; i < 100; i++) {
		snprintf(buf, VLAN_NAME_MAX, "aprobe%u", ((unsigned)getpid() % 10000) * 100 + i);
		if (nl_ifindex(nl, buf) == -ENODEV)
			return 0;
	}
	return -EEXIST;
}

#define PROBE_MESSAGES 2

/*
 * The first message's result.  What is sent together happens together: a netd that is killed leaves
 * no link of a probe behind, or one that carries our mark and goes with the next plan.
 */
static int send_probe(struct nl *nl, struct nlbuf *b)
{
	int results[PROBE_MESSAGES] = { 0 }, r;

	assert(b->message_count <= PROBE_MESSAGES);
	r = nl_batch(nl, b, results, NULL);
	nlbuf_reset(b);
	return r ? r : results[0];
}

static int probe_link(struct nl *nl, enum vlan_probe p, const char *parent, bool *ret)
{
	char name[VLAN_NAME_MAX];
	struct nlbuf b = { 0 };
	int r = probe_name(nl, name);
	int index = parent ? nl_ifindex(nl, parent) : 0;

	*ret = false;
	if (!r && index < 0)
		r = index;
	if (!r)
		r = vlan_wire_probe(&b, p, name, index);
	if (!r)
		r = vlan_wire_delete(&b, name);
	if (!r) {
		int result = send_probe(nl, &b);

		*ret = !result;
		r = result == -EPERM ? result : 0;
	}
	nlbuf_clear(&b);
	return r;
}

/* Port flags show in what the kernel reports of a port; no need to set one. */
static int probe_dot1q(struct nl *nl, struct vlan_caps *caps)
{
	char name[VLAN_NAME_MAX];
	struct nlbuf b = { 0 };
	int r = probe_name(nl, name), result;

	if (!r)
		r = vlan_wire_probe(&b, VLAN_PROBE_BRIDGE, name, 0);
	if (!r)
		r = vlan_wire_mark(&b, name, VLAN_MARK "probe");
	if (r)
		goto out;
	result = send_probe(nl, &b);
	if (result) {
		r = result == -EPERM ? result : 0;
		goto out;
	}
	r = probe_link(nl, VLAN_PROBE_DOT1Q, name, &caps->dot1q);
	if (!r)
		r = vlan_wire_delete(&b, name);
	if (!r)
		r = send_probe(nl, &b);
out:
	nlbuf_clear(&b);
	return r;
}

static int probe_table(struct nl *nl, uint32_t flags, bool bridge, bool *ret)
{
	struct nlbuf b = { 0 };
	int r = nat_wire_begin(&b);

	if (!r)
		r = nat_wire_probe(&b, flags, bridge);
	if (!r)
		r = nat_wire_end(&b);
	if (!r) {
		int result = nl_transact(nl, &b, NULL);

		*ret = !result;
		r = result == -EPERM ? result : 0;
	}
	nlbuf_clear(&b);
	return r;
}

static int on_nothing(void *arg, const struct nlmsghdr *nlh)
{
	(void)arg;
	(void)nlh;
	return 0;
}

static bool probe_conntrack(struct nl *nl)
{
	struct nlbuf b = { 0 };
	int r = nat_wire_flow_dump(&b, 4);

	if (!r)
		r = nl_dump(nl, NL_NETFILTER, &b, on_nothing, NULL, NULL);
	nlbuf_clear(&b);
	return !r || worth_a_retry(r);
}

int observe_caps(struct nl *nl, struct vlan_caps *ret_vlan, struct nat_caps *ret_nat,
		 struct err *err)
{
	struct vlan_caps v = { 0 };
	struct nat_caps n = { 0 };
	struct vlan_state s = { 0 };
	int r = probe_link(nl, VLAN_PROBE_FILTERING, NULL, &v.vlan_filtering);

	if (!r)
		r = probe_dot1q(nl, &v);
	if (!r)
		r = probe_link(nl, VLAN_PROBE_VNIFILTER, NULL, &v.vxlan_vnifilter);
	if (!r)
		r = probe_table(nl, 0, false, &n.nftables);
	if (!r && n.nftables)
		r = probe_table(nl, 0, true, &n.bridge_family);
	if (!r && n.nftables)
		r = probe_table(nl, NAT_TABLE_F_OWNER, false, &n.owner);
	if (!r && n.owner)
		r = probe_table(nl, NAT_TABLE_F_OWNER | NAT_TABLE_F_PERSIST, false, &n.persist);
	if (!r)
		r = observe_vlan(nl, NULL, &s, NULL);
	if (r)
		return err_sys(err, r, "finding out what the kernel can do");
	/* from 5.18 on the kernel marks its own loopback addresses, too */
	v.addr_proto = s.addr_proto;
	vlan_state_clear(&s);
	v.isolated = v.neigh_suppress = true; /* 4.18, 4.15: older than any nftables we can use */
	v.tun = !access("/dev/net/tun", R_OK | W_OK);
	n.conntrack = probe_conntrack(nl);
	*ret_vlan = v;
	*ret_nat = n;
	return 0;
}

/* ---- flows ---- */

struct forgetting {
	const struct nat_stales *stales;
	struct nlbuf deletes;
	size_t count;
};

static int on_flow(void *arg, const struct nlmsghdr *nlh)
{
	struct forgetting *f = arg;
	struct nat_flow flow;
	int r = nat_wire_flow_parse(nlh, &flow);

	if (r == -ENOMSG)
		return 0;
	if (r || !nat_stale_matches(f->stales, &flow))
		return r;
	return nat_wire_flow_delete(&f->deletes, nlh);
}

/* Deletions go one by one, each acknowledged by an empty dump answer: there are few. */
static int delete_flows(struct nl *nl, struct forgetting *f, struct err *err)
{
	struct nlbuf one_message = { 0 };
	int r = 0;

	for (size_t at = 0; at < f->deletes.len_bytes && !r;) {
		struct nlmsghdr *h = (struct nlmsghdr *)(void *)(f->deletes.data + at);

		at += NLMSG_ALIGN(h->nlmsg_len);
		h->nlmsg_flags |= NLM_F_ACK;
		one_message.data = (uint8_t *)h;
		one_message.len_bytes = NLMSG_ALIGN(h->nlmsg_len);
		one_message.message_count = 1;
		r = nl_dump(nl, NL_NETFILTER, &one_message, on_nothing, NULL, err);
		if (r == -ENOENT) /* it ended by itself */
			r = 0;
		else if (!r)
			f->count++;
	}
	return r;
}

/* The flows of a family that has stale ones: the kernel walks its whole table for each list. */
static int list_flows(struct nl *nl, uint8_t family, struct nlbuf *b, struct forgetting *f,
		      struct err *err)
{
	bool wanted = false;
	int r;

	for (size_t i = 0; i < f->stales->count; i++)
		wanted = wanted || f->stales->v[i].family == family;
	if (!wanted)
		return 0;
	nlbuf_reset(b);
	r = nat_wire_flow_dump(b, family);
	return r ? r : nl_dump(nl, NL_NETFILTER, b, on_flow, f, err);
}

static int on_flow_count(void *arg, const struct nlmsghdr *nlh)
{
	int r = nat_wire_flow_count(nlh, arg);

	return r == -ENOMSG ? 0 : r;
}

/* None for sure; a kernel that does not tell may have any. */
static bool no_flows(struct nl *nl)
{
	uint32_t count = UINT32_MAX;
	struct nlbuf b = { 0 };
	int r = nat_wire_flow_stats(&b);

	if (!r)
		r = nl_dump(nl, NL_NETFILTER, &b, on_flow_count, &count, NULL);
	nlbuf_clear(&b);
	return !r && !count;
}

int observe_forget_flows(struct nl *nl, const struct nat_stales *stales, size_t *ret_count,
			 struct err *err)
{
	*ret_count = 0;
	if (!stales->count || no_flows(nl))
		return 0;
	for (int attempt = 0; attempt < OBSERVE_TRIES; attempt++) {
		struct forgetting f = { .stales = stales };
		struct nlbuf b = { 0 };
		int r = list_flows(nl, 4, &b, &f, err);

		if (!r)
			r = list_flows(nl, 6, &b, &f, err);
		if (!r)
			r = delete_flows(nl, &f, err);
		nlbuf_clear(&b);
		nlbuf_clear(&f.deletes);
		*ret_count += f.count;
		if (!worth_a_retry(r))
			return r;
		pause_before_retry(attempt);
	}
	return err_set(err, -EAGAIN, "the flow table changes faster than it can be listed");
}
