/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tunnels and peers of the conf, as netd/tunnels takes them, and as nat/ sees a tunnel: a network
 * beside the VLANs.  Its peers reach all of the host, as hosts of one administrator; nothing is
 * masqueraded into it; guests of the VLANs that it names go through in both directions; peers reach
 * each other through it.
 */
#include "netd/desired_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FOR_EACH(s, c, kind)                                                                       \
	for (struct conf_section *s = conf_section_first(conf_root(c), kind); s;                   \
	     s = conf_section_next(s, kind))

static int take_text(struct netd_desired *d, const char *text, const char **ret)
{
	char *copy;

	*ret = NULL;
	if (!text)
		return 0;
	copy = desired_take(d, strlen(text) + 1, 1);
	if (!copy)
		return -ENOMEM;
	strcpy(copy, text);
	*ret = copy;
	return 0;
}

static int build_peer(struct netd_desired *d, const struct conf_section *s,
		      struct tunnel_peer_want *p)
{
	const struct conf_entry *addrs = conf_entry(s, "address"), *nets = conf_entry(s, "allowed");
	size_t max = (addrs ? addrs->count : 0) + (nets ? nets->count : 0);
	struct prefix *v = desired_take(d, max, sizeof(*v));
	int r;

	if (!v)
		return -ENOMEM;
	snprintf(p->name, sizeof(p->name), "%s", s->title);
	r = key_parse(conf_text(s, "public_key"), p->key, NULL);
	r = r < 0 ? r : take_text(d, conf_text(s, "preshared_key_file"), &p->psk_file);
	r = r < 0 ? r : take_text(d, conf_text(s, "endpoint"), &p->endpoint);
	p->keepalive_s = (uint16_t)((conf_number(s, "keepalive") + 999) / 1000);
	for (size_t i = 0; addrs && i < addrs->count; i++)
		v[p->allowed_count++] =
			(struct prefix){ addrs->values[i].addr,
					 (uint8_t)addr_bits(&addrs->values[i].addr) };
	for (size_t i = 0; nets && i < nets->count; i++)
		v[p->allowed_count++] = nets->values[i].prefix;
	p->allowed = v;
	return r;
}

static int by_key(const void *a, const void *b)
{
	return memcmp(((const struct tunnel_peer_want *)a)->key,
		      ((const struct tunnel_peer_want *)b)->key, KEY_LEN);
}

static bool is_of(const struct conf_section *peer, const struct conf_section *tunnel)
{
	return strcmp(conf_text(peer, "tunnel"), tunnel->title) == 0;
}

static int build_peers(struct conf *c, struct netd_desired *d, const struct conf_section *tunnel,
		       struct tunnel_want *w)
{
	struct tunnel_peer_want *v;
	size_t count = 0, n = 0;
	int r = 0;

	FOR_EACH(s, c, "peer")
	count += is_of(s, tunnel);
	v = desired_take(d, count, sizeof(*v));
	if (!v)
		return -ENOMEM;
	for (struct conf_section *s = conf_section_first(conf_root(c), "peer"); r == 0 && s;
	     s = conf_section_next(s, "peer"))
		if (is_of(s, tunnel))
			r = build_peer(d, s, &v[n++]);
	if (n)
		qsort(v, n, sizeof(*v), by_key);
	w->peers = v;
	w->peer_count = n;
	return r;
}

/* Between peers, and between them and guests, this host is a router. */
static void note_forwarding(struct netd_desired *d, const struct conf_section *s,
			    const struct tunnel_want *w)
{
	const struct conf_entry *vlans = conf_entry(s, "vlans");

	if (w->peer_count < 2 && (!vlans || !vlans->count))
		return;
	for (size_t i = 0; i < w->addr_count; i++) {
		d->forward4 = d->forward4 || w->addrs[i].addr.family == 4;
		d->forward6 = d->forward6 || w->addrs[i].addr.family == 6;
	}
}

static int build_tunnel(struct conf *c, struct netd_desired *d, const struct conf_section *s,
			struct tunnel_want *w, struct nat_vlan *nat)
{
	const struct conf_entry *addrs = conf_entry(s, "address");
	struct prefix *v = desired_take(d, addrs ? addrs->count : 0, sizeof(*v));
	int r;

	if (!v)
		return -ENOMEM;
	snprintf(w->name, sizeof(w->name), "%s", s->title);
	for (size_t i = 0; addrs && i < addrs->count; i++)
		v[w->addr_count++] = addrs->values[i].prefix;
	w->addrs = v;
	w->port = (uint16_t)conf_number(s, "listen_port");
	w->mtu = (uint16_t)conf_number(s, "mtu");
	w->mark = (uint32_t)conf_number(s, "fwmark");
	r = take_text(d, conf_text(s, "private_key_file"), &w->key_file);
	r = r < 0 ? r : build_peers(c, d, s, w);
	note_forwarding(d, s, w);
	memcpy(nat->ifname, w->name, sizeof(nat->ifname));
	nat->host = NAT_HOST_ALL;
	nat->addresses = v;
	nat->address_count = w->addr_count;
	return r;
}

int desired_build_tunnels(struct conf *c, struct netd_desired *d, struct nat_vlan *nat)
{
	struct tunnel_want *v = desired_take(d, desired_count(c, "tunnel"), sizeof(*v));
	size_t n = 0;
	int r = v ? 0 : -ENOMEM;

	for (struct conf_section *s = conf_section_first(conf_root(c), "tunnel"); r == 0 && s;
	     s = conf_section_next(s, "tunnel"), n++)
		r = build_tunnel(c, d, s, &v[n], &nat[n]);
	d->tunnels = v;
	d->tunnel_count = r < 0 ? 0 : n;
	return r;
}

size_t desired_tunnel_pairs_max(struct conf *c)
{
	size_t max = 0;

	FOR_EACH(s, c, "tunnel")
	{
		const struct conf_entry *vlans = conf_entry(s, "vlans");

		max += vlans ? 2 * vlans->count : 0;
	}
	return max;
}

size_t desired_tunnel_pairs(struct conf *c, struct nat_policy *v)
{
	size_t n = 0;

	FOR_EACH(s, c, "tunnel")
	{
		const struct conf_entry *vlans = conf_entry(s, "vlans");

		for (size_t i = 0; vlans && i < vlans->count; i++) {
			const struct nat_vlan *vlan =
				netd_conf_vlan(c, (unsigned int)vlans->values[i].number)->user;

			snprintf(v[n].from, sizeof(v[n].from), "%s", s->title);
			memcpy(v[n++].to, vlan->ifname, sizeof(vlan->ifname));
			memcpy(v[n].from, vlan->ifname, sizeof(vlan->ifname));
			snprintf(v[n].to, sizeof(v[n].to), "%s", s->title);
			n++;
		}
	}
	return n;
}
