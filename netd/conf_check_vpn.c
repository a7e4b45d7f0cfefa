/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What tunnels and peers of netd.conf demand of each other and of the VLANs; and of their key
 * files, which is the only part that reads anything.
 *
 * Networks behind peers become routes of the host, so they may overlap neither each other, whatever
 * tunnel they belong to, nor a VLAN.  0.0.0.0/0 and ::/0 stand for everything else and may be
 * beside others, but only one peer can have them.
 */
#include "netd/conf.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cleanup.h"
#include "common/base/nearest.h"
#include "netd/keyfile.h"
#include "vpn/vpn.h"

#define OTHER_FMT  "%s:%u"
#define OTHER(pos) (pos)->file, (pos)->line

#define FOR_EACH(s, c, kind)                                                                       \
	for (struct conf_section *s = conf_section_first(conf_root(c), kind); s;                   \
	     s = conf_section_next(s, kind))

/* --- tunnels -------------------------------------------------------------------------------- */

static void check_vlans(struct conf *c, struct conf_section *s)
{
	const struct conf_entry *e = conf_entry(s, "vlans");
	struct vlan_vids seen = { 0 };

	for (size_t i = 0; e && i < e->count; i++) {
		unsigned int vid = (unsigned int)e->values[i].number;
		struct conf_section *vlan = vid ? netd_conf_vlan(c, vid) : NULL;
		const struct conf_entry *addrs = vlan ? conf_entry(vlan, "address") : NULL;

		if (vid && !vlan)
			conf_error_at(c, s, "vlans", "found %u, expected a VLAN of this config",
				      vid);
		else if (vlan && (!addrs || !addrs->count))
			conf_error_at(c, s, "vlans",
				      "found %u, expected an address of that VLAN for it", vid);
		if (vid && vlan_vids_has(&seen, vid))
			conf_error_at(c, s, "vlans", "found %u twice", vid);
		if (vid)
			vlan_vids_add(&seen, vid, vid);
	}
}

static void check_tunnel(struct conf *c, const struct netd_subnets *subnets, struct conf_section *s)
{
	const struct conf_entry *e = conf_entry(s, "address");
	char text[PREFIX_TEXT_MAX];

	if (conf_number(s, "engine") == NETD_ENGINE_KERNEL)
		conf_error_at(c, s, "engine",
			      "found kernel, expected user or auto: this netd does not drive the "
			      "kernel's WireGuard yet");
	if (e && e->count > NETD_CONF_ADDRS_MAX)
		conf_error_at(c, s, "address", "found %zu addresses, expected at most %d", e->count,
			      NETD_CONF_ADDRS_MAX);
	for (size_t i = 0; e && i < e->count; i++) {
		struct prefix net = prefix_network(&e->values[i].prefix);

		for (size_t k = 0; net.addr.family && k < subnets->count; k++)
			if (prefix_overlaps(&net, &subnets->v[k].net))
				conf_error_at(c, s, "address",
					      "found subnet %s, which overlaps that of vlan %s "
					      "(" OTHER_FMT ")",
					      prefix_format(&net, text), subnets->v[k].vlan->title,
					      OTHER(subnets->v[k].pos));
	}
	check_vlans(c, s);
}

static void check_two_tunnels(struct conf *c, struct conf_section *a, struct conf_section *b)
{
	const struct conf_entry *x = conf_entry(a, "address"), *y = conf_entry(b, "address");

	if (conf_is_set(b, "listen_port") &&
	    conf_number(a, "listen_port") == conf_number(b, "listen_port"))
		conf_error_at(c, b, "listen_port",
			      "found %u, on which tunnel \"%s\" listens too (" OTHER_FMT ")",
			      (unsigned int)conf_number(b, "listen_port"), a->title,
			      OTHER(conf_pos_of(a, "listen_port")));
	for (size_t i = 0; x && i < x->count; i++)
		for (size_t k = 0; y && k < y->count; k++)
			if (x->values[i].prefix.addr.family && y->values[k].prefix.addr.family &&
			    prefix_overlaps(&x->values[i].prefix, &y->values[k].prefix))
				conf_error_at(c, b, "address",
					      "found %s, which overlaps %s of tunnel \"%s\" "
					      "(" OTHER_FMT ")",
					      y->values[k].text, x->values[i].text, a->title,
					      OTHER(&x->values[i].pos));
}

/* --- peers ---------------------------------------------------------------------------------- */

static struct conf_section *tunnel_of(struct conf *c, const struct conf_section *peer)
{
	const char *name = conf_text(peer, "tunnel");

	return name ? conf_section_find(c, conf_root(c), "tunnel", name) : NULL;
}

static void demand_tunnel(struct conf *c, struct conf_section *s)
{
	const char *name = conf_text(s, "tunnel");
	struct nearest near;

	if (!name || tunnel_of(c, s))
		return;
	nearest_start(&near, name);
	FOR_EACH(t, c, "tunnel")
	nearest_feed(&near, t->title);
	conf_error_at(c, s, "tunnel", "found \"%.32s\", expected a tunnel of this config%s%s%s",
		      name, near.best ? "; did you mean \"" : "", near.best ? near.best : "",
		      near.best ? "\"?" : "");
}

static void check_peer(struct conf *c, struct conf_section *s)
{
	const struct conf_section *tunnel = tunnel_of(c, s);
	const struct conf_entry *mine = tunnel ? conf_entry(tunnel, "address") : NULL;
	const struct conf_entry *its = conf_entry(s, "address"), *nets = conf_entry(s, "allowed");

	demand_tunnel(c, s);
	for (size_t i = 0; its && i < its->count; i++)
		for (size_t k = 0; mine && k < mine->count; k++)
			if (its->values[i].addr.family &&
			    addr_equal(&its->values[i].addr, &mine->values[k].prefix.addr))
				conf_error_at(c, s, "address",
					      "found %s, this host's own address in the tunnel "
					      "(" OTHER_FMT ")",
					      its->values[i].text, OTHER(&mine->values[k].pos));
	if ((!its || !its->count) && (!nets || !nets->count))
		conf_error_at(c, s, NULL,
			      "found neither address nor allowed, expected where it "
			      "is reached inside the tunnel");
}

/* --- keys ----------------------------------------------------------------------------------- */

static int by_key(const void *a, const void *b)
{
	const struct conf_section *x = *(struct conf_section *const *)a;
	const struct conf_section *y = *(struct conf_section *const *)b;
	int r = strcmp(conf_text(x, "tunnel"), conf_text(y, "tunnel"));

	r = r ? r : strcmp(conf_text(x, "public_key"), conf_text(y, "public_key"));
	return r ? r : strcmp(x->title, y->title);
}

static void check_key_twice(struct conf *c, struct conf_section *const *v, size_t count)
{
	for (size_t i = 1; i < count; i++)
		if (strcmp(conf_text(v[i - 1], "tunnel"), conf_text(v[i], "tunnel")) == 0 &&
		    strcmp(conf_text(v[i - 1], "public_key"), conf_text(v[i], "public_key")) == 0)
			conf_error_at(c, v[i], "public_key",
				      "found the key of peer \"%s\" (" OTHER_FMT ")",
				      v[i - 1]->title, OTHER(conf_pos_of(v[i - 1], "public_key")));
}

/* --- networks ------------------------------------------------------------------------------- */

struct behind {
	struct prefix net;
	struct conf_section *peer;
	const char *key;
	const struct conf_pos *pos;
};

static int by_net(const void *a, const void *b)
{
	const struct behind *x = a, *y = b;
	int r = prefix_compare(&x->net, &y->net);

	return r ? r : strcmp(x->peer->title, y->peer->title);
}

static size_t count_behind(struct conf *c)
{
	size_t n = 0;

	FOR_EACH(s, c, "peer")
	{
		const struct conf_entry *its = conf_entry(s, "address");
		const struct conf_entry *nets = conf_entry(s, "allowed");

		n += (its ? its->count : 0) + (nets ? nets->count : 0);
	}
	return n;
}

static size_t list_behind(struct conf *c, struct behind *v)
{
	size_t n = 0;

	FOR_EACH(s, c, "peer")
	{
		const struct conf_entry *its = conf_entry(s, "address");
		const struct conf_entry *nets = conf_entry(s, "allowed");

		for (size_t i = 0; its && i < its->count; i++) {
			struct prefix p = { its->values[i].addr,
					    (uint8_t)addr_bits(&its->values[i].addr) };

			if (p.addr.family)
				v[n++] = (struct behind){ p, s, "address", &its->values[i].pos };
		}
		for (size_t i = 0; nets && i < nets->count; i++)
			if (nets->values[i].prefix.addr.family)
				v[n++] = (struct behind){ nets->values[i].prefix, s, "allowed",
							  &nets->values[i].pos };
	}
	qsort(v, n, sizeof(*v), by_net);
	return n;
}

static bool is_everything(const struct prefix *p)
{
	return p->len == 0;
}

static void check_overlaps(struct conf *c, const struct behind *v, size_t count)
{
	char text[PREFIX_TEXT_MAX], other[PREFIX_TEXT_MAX];
	size_t widest = 0;

	for (size_t i = 1; i < count; i++) {
		const struct behind *w = &v[widest], *n = &v[i];

		if (!prefix_overlaps(&w->net, &n->net) ||
		    (is_everything(&w->net) && !is_everything(&n->net))) {
			widest = i;
			continue;
		}
		if (w->peer != n->peer)
			conf_error_at(c, n->peer, n->key,
				      "found %s, which overlaps %s of peer \"%s\" (" OTHER_FMT ")",
				      prefix_format(&n->net, text), prefix_format(&w->net, other),
				      w->peer->title, OTHER(w->pos));
	}
}

static void check_beside_vlans(struct conf *c, const struct netd_subnets *subnets,
			       const struct behind *v, size_t count)
{
	char text[PREFIX_TEXT_MAX];

	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; k < subnets->count && !is_everything(&v[i].net); k++)
			if (prefix_overlaps(&v[i].net, &subnets->v[k].net))
				conf_error_at(c, v[i].peer, v[i].key,
					      "found %s, which overlaps the subnet of vlan %s of "
					      "this host (" OTHER_FMT ")",
					      prefix_format(&v[i].net, text),
					      subnets->v[k].vlan->title, OTHER(subnets->v[k].pos));
}

static void check_networks(struct conf *c, const struct netd_subnets *subnets)
{
	CLEANUP_FREE struct behind *v = calloc(count_behind(c) + 1, sizeof(*v));
	size_t n;

	if (!v)
		return;
	n = list_behind(c, v);
	check_overlaps(c, v, n);
	check_beside_vlans(c, subnets, v, n);
}

void netd_conf_check_tunnels(struct conf *c, const struct netd_subnets *subnets)
{
	CLEANUP_FREE struct conf_section **keyed = NULL;
	size_t peers = 0, n = 0;

	FOR_EACH(s, c, "tunnel")
	{
		check_tunnel(c, subnets, s);
		for (struct conf_section *o = conf_section_first(conf_root(c), "tunnel"); o != s;
		     o = conf_section_next(o, "tunnel"))
			check_two_tunnels(c, o, s);
	}
	FOR_EACH(s, c, "peer")
	{
		check_peer(c, s);
		peers++;
	}
	keyed = calloc(peers + 1, sizeof(*keyed));
	if (!keyed)
		return;
	FOR_EACH(s, c, "peer")
	if (conf_text(s, "tunnel") && conf_text(s, "public_key"))
		keyed[n++] = s;
	qsort(keyed, n, sizeof(struct conf_section *), by_key);
	check_key_twice(c, keyed, n);
	check_networks(c, subnets);
}

/* --- key files ------------------------------------------------------------------------------ */

/* Peers whose key is the tunnel's own. */
static void check_itself(struct conf *c, const struct conf_section *tunnel,
			 const uint8_t private_key[KEY_LEN])
{
	uint8_t own[KEY_LEN], its[KEY_LEN];

	if (vpn_public_key(private_key, own) < 0)
		return;
	FOR_EACH(s, c, "peer")
	if (tunnel_of(c, s) == tunnel && conf_text(s, "public_key") &&
	    key_parse(conf_text(s, "public_key"), its, NULL) == 0 && memcmp(own, its, KEY_LEN) == 0)
		conf_error_at(c, s, "public_key",
			      "found the key of this host's own tunnel \"%s\": a peer is another "
			      "host",
			      tunnel->title);
}

static void check_file(struct conf *c, struct conf_section *s, const char *key,
		       const struct conf_section *tunnel)
{
	const char *path = conf_text(s, key);
	uint8_t secret[KEY_LEN] = { 0 };
	struct err err = { 0 };

	if (!path)
		return;
	if (keyfile_read(path, secret, &err) < 0)
		conf_error_at(c, s, key, "%s", err.text);
	else if (tunnel)
		check_itself(c, tunnel, secret);
	OPENSSL_cleanse(secret, sizeof(secret));
}

void netd_conf_check_keys(struct conf *c)
{
	FOR_EACH(s, c, "tunnel")
	check_file(c, s, "private_key_file", s);
	FOR_EACH(s, c, "peer")
	check_file(c, s, "preshared_key_file", NULL);
}
