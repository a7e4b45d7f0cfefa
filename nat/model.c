/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From what a person says to set elements.  Each object becomes the elements of a few sets; the
 * sets are sorted at the end, and a key that turns up twice is a contradiction of the config that
 * is reported in its terms.
 */
#include <errno.h>
#include <netinet/in.h>
#include <linux/netfilter.h>
#include <stdlib.h>
#include <string.h>

#include "nat/sets.h"

static struct nat_bytes bytes_of(uint8_t *p, size_t size)
{
	return (struct nat_bytes){ p, 0, size };
}

static struct nat_bytes key_of(struct nat_elem *e)
{
	return bytes_of(e->key, sizeof(e->key));
}

/* An element whose key is one or two interface names. */
static struct nat_elem *add_names(struct nat_state *s, enum nat_set_id set, const char *a,
				  const char *b)
{
	struct nat_elem *e = nat_elems_add(&s->sets[set]);
	struct nat_bytes key;

	if (!e)
		return NULL;
	key = key_of(e);
	nat_put_ifname(&key, a);
	if (b)
		nat_put_ifname(&key, b);
	return e;
}

static int add_verdict(struct nat_state *s, enum nat_set_id set, const char *name,
		       enum nat_verdict v)
{
	struct nat_elem *e = add_names(s, set, name, NULL);

	if (!e)
		return -ENOMEM;
	e->verdict = v;
	return 0;
}

static int add_masq(struct nat_state *s, uint8_t family, const char *in, const char *out)
{
	struct nat_elem *e = nat_elems_add(&s->sets[out ? NAT_SET_MASQ_OUT : NAT_SET_MASQ]);
	struct nat_bytes key;

	if (!e)
		return -ENOMEM;
	key = key_of(e);
	nat_put_u8(&key, family == 4 ? NFPROTO_IPV4 : NFPROTO_IPV6);
	nat_put_ifname(&key, in);
	if (out)
		nat_put_ifname(&key, out);
	return 0;
}

static enum nat_verdict host_verdict(enum nat_host h)
{
	switch (h) {
	case NAT_HOST_SERVICES:
		return NAT_VERDICT_SERVICES;
	case NAT_HOST_ALL:
		return NAT_VERDICT_ACCEPT;
	case NAT_HOST_NONE:
		return NAT_VERDICT_DROP;
	}
	return NAT_VERDICT_DROP;
}

static int lower_vlan(struct nat_state *s, const struct nat_vlan *v)
{
	int r = 0;

	if (!add_names(s, NAT_SET_VLANS, v->ifname, NULL) ||
	    !add_names(s, NAT_SET_SAME, v->ifname, v->ifname) ||
	    !add_names(s, NAT_SET_POLICY, v->ifname, v->ifname))
		return -ENOMEM;
	r = add_verdict(s, NAT_SET_HOST, v->ifname, host_verdict(v->host));
	if (!r)
		r = add_verdict(s, NAT_SET_FROM, v->ifname,
				v->outside ? NAT_VERDICT_OUTSIDE : NAT_VERDICT_DROP);
	if (!r)
		r = add_verdict(s, NAT_SET_TO, v->ifname,
				v->reachable ? NAT_VERDICT_ACCEPT : NAT_VERDICT_DROP);
	if (!r && v->masquerade4)
		r = add_masq(s, 4, v->ifname, NULL);
	if (!r && v->masquerade6)
		r = add_masq(s, 6, v->ifname, NULL);
	for (size_t i = 0; i < v->address_count && !r; i++) {
		const struct addr *a = &v->addresses[i].addr;
		enum nat_set_id set = a->family == 4 ? NAT_SET_GATEWAY4 : NAT_SET_GATEWAY6;
		struct nat_elem *e = nat_elems_add(&s->sets[set]);
		struct nat_bytes key;

		if (!e)
			return -ENOMEM;
		key = key_of(e);
		nat_put_addr(&key, a);
	}
	return r;
}

static int lower_source(struct nat_state *s, const struct nat_source *n, struct err *err)
{
	struct nat_elem *e;
	struct nat_bytes data;

	if (!n->out[0] || (n->family != 4 && n->family != 6))
		return err_set(err, -EINVAL, "nat from %s: no outside interface", n->from);
	if (!n->pool_given)
		return add_masq(s, n->family, n->from, n->out);
	if (n->pool.first.family != n->family || n->pool.last.family != n->family ||
	    addr_compare(&n->pool.first, &n->pool.last) > 0)
		return err_set(err, -EINVAL,
			       "nat from %s: the pool is not a range of IPv%u addresses", n->from,
			       n->family);
	e = add_names(s, n->family == 4 ? NAT_SET_SNAT4 : NAT_SET_SNAT6, n->from, n->out);
	if (!e)
		return -ENOMEM;
	data = bytes_of(e->data, sizeof(e->data));
	nat_put_addr(&data, &n->pool.first);
	nat_put_addr(&data, &n->pool.last);
	return 0;
}

/* The set of a forward: family, with or without an address, single or range. */
static enum nat_set_id forward_set(const struct nat_forward *f, bool range)
{
	unsigned first = f->to.family == 4 ? NAT_SET_FWD4 : NAT_SET_FWD6;

	return (enum nat_set_id)(first + (f->on.family ? 0 : 2) + (range ? 1 : 0));
}

static void put_listen(uint8_t *p, const struct nat_forward *f, uint16_t port)
{
	struct nat_bytes b = bytes_of(p, NAT_KEY_MAX);

	nat_put_u8(&b, (uint8_t)f->proto);
	if (f->on.family)
		nat_put_addr(&b, &f->on);
	nat_put_port(&b, port);
}

static int add_single(struct nat_state *s, const struct nat_forward *f, uint16_t port,
		      uint16_t to_port)
{
	struct nat_elem *e = nat_elems_add(&s->sets[forward_set(f, false)]);
	struct nat_bytes data;

	if (!e)
		return -ENOMEM;
	put_listen(e->key, f, port);
	data = bytes_of(e->data, sizeof(e->data));
	nat_put_addr(&data, &f->to);
	nat_put_port(&data, to_port);
	return 0;
}

static int add_range(struct nat_state *s, const struct nat_forward *f)
{
	struct nat_elem *e = nat_elems_add(&s->sets[forward_set(f, true)]);
	struct nat_bytes data;

	if (!e)
		return -ENOMEM;
	put_listen(e->key, f, f->first);
	put_listen(e->key_end, f, f->last);
	data = bytes_of(e->data, sizeof(e->data));
	nat_put_addr(&data, &f->to);
	return 0;
}

static int lower_forward(struct nat_state *s, const struct nat_forward *f, struct err *err)
{
	unsigned count = (unsigned)f->last - f->first + 1u;
	int r = 0;

	if (!f->first || f->last < f->first || !f->to_first || f->to_first + count - 1 > 65535)
		return err_set(err, -EINVAL, "forward of ports %u-%u: not a range of ports",
			       f->first, f->last);
	if ((f->to.family != 4 && f->to.family != 6) ||
	    (f->on.family && f->on.family != f->to.family))
		return err_set(err, -EINVAL, "forward of port %u: addresses of two families",
			       f->first);
	if (count == 1)
		return add_single(s, f, f->first, f->to_first);
	if (f->first == f->to_first)
		return add_range(s, f);
	if (count > NAT_SHIFT_MAX)
		return err_set(
			err, -EINVAL,
			"forward of ports %u-%u: a range to other ports has at most %u ports",
			f->first, f->last, NAT_SHIFT_MAX);
	for (unsigned i = 0; i < count && !r; i++)
		r = add_single(s, f, (uint16_t)(f->first + i), (uint16_t)(f->to_first + i));
	return r;
}

static bool has_vlan(const struct nat_net *net, const char *name)
{
	for (size_t i = 0; i < net->vlan_count; i++)
		if (!strcmp(net->vlans[i].ifname, name))
			return true;
	return false;
}

static int lower_policy(struct nat_state *s, const struct nat_net *net, const struct nat_policy *p,
			struct err *err)
{
	if (!has_vlan(net, p->from) || !has_vlan(net, p->to))
		return err_set(err, -EINVAL, "policy from %s to %s: no such VLAN", p->from, p->to);
	if (!strcmp(p->from, p->to))
		return 0; /* always allowed */
	return add_names(s, NAT_SET_POLICY, p->from, p->to) ? 0 : -ENOMEM;
}

static int add_port_addr(struct nat_state *s, const char *port, const struct addr *a)
{
	struct nat_elem *e = add_names(s, a->family == 4 ? NAT_SET_IP4S : NAT_SET_IP6S, port, NULL);
	struct nat_bytes key;

	if (!e)
		return -ENOMEM;
	key = key_of(e);
	key.used = NAT_NAME_MAX;
	nat_put_addr(&key, a);
	return 0;
}

/* fe80::/64 with the modified EUI-64 of the MAC (RFC 4291, appendix A). */
static struct addr link_local(const struct mac *m)
{
	uint8_t b[16] = { 0xfe, 0x80 };

	b[8] = m->b[0] ^ 0x02;
	b[9] = m->b[1];
	b[10] = m->b[2];
	b[11] = 0xff;
	b[12] = 0xfe;
	memcpy(b + 13, m->b + 3, 3);
	return addr_from_bytes(6, b);
}

static int lower_port_ips(struct nat_state *s, const struct nat_port *p)
{
	bool family[7] = { false };
	static const uint8_t zero[16];
	int r = 0;

	for (size_t i = 0; i < p->ip_count && !r; i++) {
		family[p->ips[i].family == 4 ? 4 : 6] = true;
		r = add_port_addr(s, p->ifname, &p->ips[i]);
	}
	if (family[4] && !r) { /* DHCP and ARP probes have no source address yet */
		struct addr none = addr_from_bytes(4, zero);

		r = add_port_addr(s, p->ifname, &none);
		if (!r && !add_names(s, NAT_SET_IP4_PORTS, p->ifname, NULL))
			r = -ENOMEM;
	}
	if (family[6] && !r) { /* so has duplicate address detection */
		struct addr none = addr_from_bytes(6, zero), local = link_local(&p->mac);

		r = add_port_addr(s, p->ifname, &none);
		if (!r && p->mac_given)
			r = add_port_addr(s, p->ifname, &local);
		if (!r && !add_names(s, NAT_SET_IP6_PORTS, p->ifname, NULL))
			r = -ENOMEM;
	}
	return r;
}

static int lower_port(struct nat_state *s, const struct nat_port *p)
{
	struct nat_elem *e;

	if (p->guard && !add_names(s, NAT_SET_GUESTS, p->ifname, NULL))
		return -ENOMEM;
	if (p->guard && !p->trunk && !add_names(s, NAT_SET_ACCESS, p->ifname, NULL))
		return -ENOMEM;
	if (p->mac_given) {
		struct nat_bytes key;

		e = add_names(s, NAT_SET_MACS, p->ifname, NULL);
		if (!e || !add_names(s, NAT_SET_MAC_PORTS, p->ifname, NULL))
			return -ENOMEM;
		key = key_of(e);
		key.used = NAT_NAME_MAX;
		nat_put(&key, p->mac.b, sizeof(p->mac.b));
	}
	return lower_port_ips(s, p);
}

static int lower_services(struct nat_state *s)
{
	static const struct {
		uint8_t proto;
		uint16_t port;
	} services[] = {
		{ IPPROTO_TCP, 53 },
		{ IPPROTO_UDP, 53 },
		{ IPPROTO_UDP, 67 },
		{ IPPROTO_UDP, 547 },
	};

	for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++) {
		struct nat_elem *e = nat_elems_add(&s->sets[NAT_SET_SERVICES]);
		struct nat_bytes key;

		if (!e)
			return -ENOMEM;
		key = key_of(e);
		nat_put_u8(&key, services[i].proto);
		nat_put_port(&key, services[i].port);
	}
	return 0;
}

/* Sets in which saying the same thing twice is no contradiction. */
static bool repeats_are_fine(enum nat_set_id set)
{
	return set == NAT_SET_POLICY || set == NAT_SET_IP4S || set == NAT_SET_IP6S;
}

static void drop_repeats(struct nat_elems *l)
{
	size_t kept = 0;

	for (size_t i = 0; i < l->count; i++)
		if (!kept || nat_elem_compare_key(&l->e[kept - 1], &l->e[i]))
			l->e[kept++] = l->e[i];
	l->count = kept;
}

/* Ranges that differ only in the port field overlap when one begins before the other ends. */
static const struct nat_elem *find_overlap(const struct nat_elems *l, size_t key_len)
{
	for (size_t i = 1; i < l->count; i++)
		if (!memcmp(l->e[i - 1].key, l->e[i].key, key_len - 4) &&
		    memcmp(l->e[i - 1].key_end, l->e[i].key, key_len) >= 0)
			return &l->e[i];
	return NULL;
}

/* A single port inside a range would win over it silently: refused, whoever asks. */
static const struct nat_elem *find_shadowed(const struct nat_state *s, enum nat_set_id single)
{
	const struct nat_elems *a = &s->sets[single], *b = &s->sets[single + 1];
	size_t len = nat_key_len(single);
	size_t k = 0;

	for (size_t i = 0; i < a->count; i++) {
		while (k < b->count && memcmp(b->e[k].key_end, a->e[i].key, len) < 0)
			k++;
		if (k < b->count && memcmp(b->e[k].key, a->e[i].key, len) <= 0)
			return &a->e[i];
	}
	return NULL;
}

static int finish_set(struct nat_state *s, enum nat_set_id set, struct err *err)
{
	struct nat_elems *l = &s->sets[set];
	const struct nat_elem *bad = NULL;
	char text[160];
	size_t dup;

	if (nat_elems_sort(l, &dup)) {
		if (repeats_are_fine(set))
			drop_repeats(l);
		else
			bad = &l->e[dup];
	}
	if (!bad && nat_set_info[set].interval)
		bad = find_overlap(l, nat_key_len(set));
	if (!bad)
		return 0;
	return err_set(err, -EINVAL, "%s: %s is given twice", nat_set_name(set),
		       nat_elem_format(set, bad, text, sizeof(text)));
}

static int finish(struct nat_state *s, struct err *err)
{
	static const enum nat_set_id singles[] = { NAT_SET_FWD4, NAT_SET_FWD4_ANY, NAT_SET_FWD6,
						   NAT_SET_FWD6_ANY };
	int r = 0;

	for (int i = 0; i < NAT_SET_COUNT && !r; i++)
		r = finish_set(s, (enum nat_set_id)i, err);
	for (size_t i = 0; i < sizeof(singles) / sizeof(singles[0]) && !r; i++) {
		const struct nat_elem *e = find_shadowed(s, singles[i]);
		char text[160];

		if (e)
			r = err_set(err, -EINVAL, "%s: %s is inside a forwarded range",
				    nat_set_name(singles[i]),
				    nat_elem_format(singles[i], e, text, sizeof(text)));
	}
	return r;
}

int nat_lower(const struct nat_net *net, struct nat_state *ret, struct err *err)
{
	struct nat_state s = { 0 };
	int r = lower_services(&s);

	for (size_t i = 0; i < net->vlan_count && !r; i++)
		r = lower_vlan(&s, &net->vlans[i]);
	for (size_t i = 0; i < net->source_count && !r; i++)
		r = lower_source(&s, &net->sources[i], err);
	for (size_t i = 0; i < net->forward_count && !r; i++)
		r = lower_forward(&s, &net->forwards[i], err);
	for (size_t i = 0; i < net->policy_count && !r; i++)
		r = lower_policy(&s, net, &net->policies[i], err);
	for (size_t i = 0; i < net->port_count && !r; i++)
		r = lower_port(&s, &net->ports[i]);
	if (!r)
		r = finish(&s, err);
	if (r) {
		nat_state_clear(&s);
		return r == -ENOMEM ? err_set(err, r, "out of memory") : r;
	}
	s.tables = s.skeleton = true;
	*ret = s;
	return 0;
}
