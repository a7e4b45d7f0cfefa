/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The judgements.  Each names what drops the packet and what to type.  An accept of ours cannot
 * override a drop in another base chain of the same hook, whatever the priorities: that is why
 * these are the administrator's to solve.
 */
#include "netd/doctor.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct report {
	doctor_line_fn line;
	void *ctx;
	size_t breaks;
};

static void report(struct report *r, bool breaks, const char *subject, const char *what,
		   const char *fix)
{
	struct doctor_finding f = { .breaks = breaks };

	snprintf(f.subject, sizeof(f.subject), "%s", subject);
	snprintf(f.what, sizeof(f.what), "%s", what);
	snprintf(f.fix, sizeof(f.fix), "%s", fix);
	r->line(r->ctx, &f);
	r->breaks += breaks;
}

static const char *first_bridge(const struct doctor_facts *f)
{
	return f->bridge_count ? f->bridges[0] : "BRIDGE";
}

/* --- chains of others ------------------------------------------------------------------------ */

enum neighbour { NEIGHBOUR_DOCKER, NEIGHBOUR_FIREWALLD, NEIGHBOUR_UFW, NEIGHBOUR_OTHER };

/* Whose table is it: by what else is in there. */
static enum neighbour neighbour_of(const struct doctor_facts *f, const struct doctor_chain *c)
{
	if (strcmp(c->table, "firewalld") == 0)
		return NEIGHBOUR_FIREWALLD;
	if (strncmp(c->table, "docker", 6) == 0)
		return NEIGHBOUR_DOCKER;
	for (size_t i = 0; i < f->chain_count; i++) {
		const struct doctor_chain *o = &f->chains[i];

		if (strcmp(o->table, c->table) != 0 || strcmp(o->family, c->family) != 0)
			continue;
		if (strncmp(o->chain, "DOCKER", 6) == 0)
			return NEIGHBOUR_DOCKER;
		if (strncmp(o->chain, "ufw-", 4) == 0)
			return NEIGHBOUR_UFW;
	}
	return NEIGHBOUR_OTHER;
}

static void fix_for(const struct doctor_facts *f, const struct doctor_chain *c, char *fix,
		    size_t size)
{
	const char *b = first_bridge(f),
		   *tables = strcmp(c->family, "ip6") == 0 ? "ip6tables" : "iptables";
	bool forward = c->hook == DOCTOR_FORWARD;

	switch (neighbour_of(f, c)) {
	case NEIGHBOUR_DOCKER:
		snprintf(fix, size,
			 "%s -I DOCKER-USER -i %s.+ -j ACCEPT; %s -I DOCKER-USER -o %s.+ -j ACCEPT "
			 "(or set net.ipv4.ip_forward=1 in /etc/sysctl.d before docker starts)",
			 tables, b, tables, b);
		return;
	case NEIGHBOUR_FIREWALLD:
		snprintf(fix, size,
			 "firewall-cmd --permanent --zone=trusted --add-interface=%s.VID for each "
			 "VLAN; firewall-cmd --reload",
			 b);
		return;
	case NEIGHBOUR_UFW:
		snprintf(fix, size,
			 forward ? "ufw route allow in on %s.VID for each VLAN"
				 : "ufw allow in on %s.VID for each VLAN",
			 b);
		return;
	case NEIGHBOUR_OTHER:
		break;
	}
	if (forward)
		snprintf(fix, size,
			 "nft insert rule %s %s %s iifname \"%s.*\" accept; nft insert rule %s %s "
			 "%s "
			 "oifname \"%s.*\" accept",
			 c->family, c->table, c->chain, b, c->family, c->table, c->chain, b);
	else
		snprintf(fix, size, "nft insert rule %s %s %s iifname \"%s.*\" accept", c->family,
			 c->table, c->chain, b);
}

static bool chain_matters(const struct doctor_facts *f, const struct doctor_chain *c)
{
	bool v6 = strcmp(c->family, "ip6") == 0, both = strcmp(c->family, "inet") == 0;
	bool bridged = v6 ? f->bridge_nf6 == 1 : f->bridge_nf4 == 1 || (both && f->bridge_nf6 == 1);

	if (!c->base || !c->drops || c->allows || !f->bridge_count)
		return false;
	if (c->hook == DOCTOR_INPUT)
		return f->serves;
	return bridged || (both ? f->routes4 || f->routes6 : v6 ? f->routes6 : f->routes4);
}

static void judge_chains(const struct doctor_facts *f, struct report *r)
{
	char subject[160], what[256], fix[384];

	for (size_t i = 0; i < f->chain_count; i++) {
		const struct doctor_chain *c = &f->chains[i];
		bool bridged =
			c->hook == DOCTOR_FORWARD && (f->bridge_nf4 == 1 || f->bridge_nf6 == 1);

		if (!chain_matters(f, c))
			continue;
		snprintf(subject, sizeof(subject), "chain %.7s %.24s %.24s", c->family, c->table,
			 c->chain);
		if (c->hook == DOCTOR_INPUT)
			snprintf(what, sizeof(what),
				 "drops what guests ask of this host (DHCP, DNS, "
				 "router advertisements)");
		else
			snprintf(what, sizeof(what), "drops packets of guests that are forwarded%s",
				 bridged ? ", and with br_netfilter also frames between guests of "
					   "one VLAN"
					 : "");
		fix_for(f, c, fix, sizeof(fix));
		report(r, true, subject, what, fix);
	}
	if (f->legacy_iptables)
		report(r, false, "iptables-legacy",
		       "holds rules that cannot be seen here; they drop packets all the same",
		       "iptables-legacy -S FORWARD; then move them to nftables "
		       "(update-alternatives "
		       "--set iptables /usr/sbin/iptables-nft)");
}

/* --- settings -------------------------------------------------------------------------------- */

static void judge_settings(const struct doctor_facts *f, struct report *r)
{
	if (f->routes4 && f->forward4 == 0)
		report(r, true, "net.ipv4.ip_forward",
		       "is 0: no IPv4 packet of a guest leaves its VLAN",
		       "sysctl -w net.ipv4.ip_forward=1, and find who resets it: grep -r "
		       "ip_forward "
		       "/etc/sysctl.conf /etc/sysctl.d");
	if (f->routes6 && f->forward6 == 0)
		report(r, true, "net.ipv6.conf.all.forwarding",
		       "is 0: no IPv6 packet of a guest leaves its VLAN",
		       "sysctl -w net.ipv6.conf.all.forwarding=1, and find who resets it: grep -r "
		       "forwarding /etc/sysctl.conf /etc/sysctl.d");
	if (f->bridge_count && (f->bridge_nf4 == 1 || f->bridge_nf6 == 1))
		report(r, false, "br_netfilter",
		       "sends frames between guests through the rules for routed packets: slower, "
		       "and "
		       "any drop there hits them too",
		       "sysctl -w net.bridge.bridge-nf-call-iptables=0 "
		       "net.bridge.bridge-nf-call-ip6tables=0 (not where docker or kubernetes "
		       "filters "
		       "bridged traffic)");
}

static void judge_outside(const struct doctor_facts *f, struct report *r)
{
	char subject[64], fix[384];

	for (size_t i = 0; i < f->outside_count; i++) {
		const struct doctor_outside *o = &f->outside[i];

		if (o->rp_filter != 1 || o->is_default_route)
			continue;
		snprintf(subject, sizeof(subject), "rp_filter of %s", o->name);
		snprintf(fix, sizeof(fix), "sysctl -w net.ipv4.conf.%s.rp_filter=2", o->name);
		report(r, true, subject,
		       "is strict, and the default route is another interface: replies and "
		       "forwarded "
		       "connections that come in here are dropped",
		       fix);
	}
}

/* --- programs -------------------------------------------------------------------------------- */

static bool takes_gateway(const struct doctor_facts *f, const struct doctor_listener *l)
{
	if (addr_is_unspecified(&l->addr))
		return true;
	for (size_t i = 0; i < f->gateway_count; i++)
		if (addr_equal(&l->addr, &f->gateways[i]))
			return true;
	return false;
}

static void judge_listeners(const struct doctor_facts *f, struct report *r)
{
	char subject[64], what[256], text[ADDR_TEXT_MAX];

	for (size_t i = 0; f->serves && i < f->listener_count; i++) {
		const struct doctor_listener *l = &f->listeners[i];

		if (!takes_gateway(f, l))
			continue;
		snprintf(subject, sizeof(subject), "port %u/%s", l->port, l->udp ? "udp" : "tcp");
		snprintf(what, sizeof(what),
			 "is taken by %s (pid %d) on %s: the dnsmasq of guests cannot serve %s",
			 l->comm[0] ? l->comm : "a program", l->pid, addr_format(&l->addr, text),
			 l->port == 67 ? "DHCP" : "DNS");
		report(r, true, subject, what,
		       l->port == 67
			       ? "stop it, or bind it to its own interface only"
			       : "bind it to its own addresses only (dnsmasq: bind-interfaces "
				 "and interface=; named, unbound: listen-on, interface)");
	}
}

static void judge_managers(const struct doctor_facts *f, struct report *r)
{
	char fix[384];

	if (!f->network_manager || f->network_manager_told || !f->bridge_count)
		return;
	snprintf(
		fix, sizeof(fix),
		"printf '[keyfile]\\nunmanaged-devices=interface-name:%s,interface-name:%s.*\\n' > "
		"/etc/NetworkManager/conf.d/90-netd.conf; nmcli general reload (and add the ports)",
		first_bridge(f), first_bridge(f));
	report(r, false, "NetworkManager", "runs and may reconfigure interfaces of netd", fix);
}

size_t doctor_judge(const struct doctor_facts *f, doctor_line_fn line, void *ctx)
{
	struct report r = { line, ctx, 0 };

	judge_chains(f, &r);
	judge_settings(f, &r);
	judge_outside(f, &r);
	judge_listeners(f, &r);
	judge_managers(f, &r);
	return r.breaks;
}
