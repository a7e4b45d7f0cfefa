/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The texts a managed dnsmasq is started with.  Pure.
 *
 * Choices, each against a failure seen elsewhere: an own config file, so that the host's
 * /etc/dnsmasq.conf is never read; bind-dynamic on one interface, so that neither a system-wide
 * dnsmasq on port 53 nor an address that appears later is in the way; no-hosts, since the host's
 * own names are nobody's business; no-ping, which delays a lease by seconds; dhcp-authoritative,
 * so that a guest with an old lease is answered at once.
 */
#include "netd/dnsmasq.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STATELESS_LEASE_S 3600	 /* router advertisements' lifetimes follow this */
#define LEASE_MAX	  100000 /* more than any range; a constant, so that a port changes nothing */
#define RA_INTERVAL_S	  60

static void print_netmask(FILE *f, uint8_t len)
{
	struct addr mask = addr_from_v4(len ? ~0u << (32 - len) : 0);
	char text[ADDR_TEXT_MAX];

	fputs(addr_format(&mask, text), f);
}

static bool dns_has(const struct dnsmasq_net *n, uint8_t family)
{
	for (size_t i = 0; i < n->dns_count; i++)
		if (n->dns[i].family == family)
			return true;
	return false;
}

static void print_dhcp(FILE *f, const struct dnsmasq_net *n, const struct dnsmasq_paths *p)
{
	char first[ADDR_TEXT_MAX], last[ADDR_TEXT_MAX], gateway[ADDR_TEXT_MAX];

	addr_format(&n->gateway.addr, gateway);
	fprintf(f, "dhcp-range=%s,%s,", addr_format(&n->range.first, first),
		addr_format(&n->range.last, last));
	print_netmask(f, n->gateway.len);
	fprintf(f, ",%llu\n", (unsigned long long)n->lease_s);
	fprintf(f, "dhcp-option=option:router,%s\n", gateway);
	fprintf(f, "dhcp-option=option:dns-server");
	if (!dns_has(n, 4))
		fprintf(f, ",%s", gateway);
	for (size_t i = 0; i < n->dns_count; i++)
		if (n->dns[i].family == 4)
			fprintf(f, ",%s", addr_format(&n->dns[i], first));
	fprintf(f, "\ndhcp-option-force=option:mtu,%u\n", n->mtu);
	fprintf(f, "dhcp-hostsfile=%s/dnsmasq-%u.hosts\n", p->run, n->vid);
	fputs("dhcp-authoritative\ndhcp-no-override\ndhcp-rapid-commit\nno-ping\n", f);
	fprintf(f, "dhcp-lease-max=%d\n", LEASE_MAX);
}

static void print_ra(FILE *f, const struct dnsmasq_net *n)
{
	char text[ADDR_TEXT_MAX];

	fputs("enable-ra\n", f);
	fprintf(f, "dhcp-range=::,constructor:%s,ra-stateless,64,%d\n", n->ifname,
		STATELESS_LEASE_S);
	fprintf(f, "ra-param=%s,mtu:%u,%d\n", n->ifname, n->mtu, RA_INTERVAL_S);
	if (!dns_has(n, 6))
		return;
	fputs("dhcp-option=option6:dns-server", f);
	for (size_t i = 0; i < n->dns_count; i++)
		if (n->dns[i].family == 6)
			fprintf(f, ",[%s]", addr_format(&n->dns[i], text));
	fputc('\n', f);
}

char *dnsmasq_config_text(const struct dnsmasq_net *n, const struct dnsmasq_paths *p)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	fprintf(f, "# netd: vlan %u; written anew at every change\n", n->vid);
	fprintf(f, "interface=%s\nexcept-interface=lo\nbind-dynamic\n", n->ifname);
	fprintf(f, "pid-file=%s/dnsmasq-%u.pid\n", p->run, n->vid);
	fprintf(f, "dhcp-leasefile=%s/leases-%u\n", p->state, n->vid);
	fputs("no-hosts\ndomain-needed\nbogus-priv\nlocalise-queries\n", f);
	fputs("quiet-dhcp\nquiet-dhcp6\nquiet-ra\n", f);
	if (n->domain[0])
		fprintf(f, "domain=%s\nlocal=/%s/\nexpand-hosts\n", n->domain, n->domain);
	if (n->dhcp)
		print_dhcp(f, n, p);
	if (n->ra)
		print_ra(f, n);
	if (fclose(f) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

char *dnsmasq_hosts_text(const struct dnsmasq_net *n)
{
	char mac[MAC_TEXT_MAX], ip[ADDR_TEXT_MAX], *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	for (size_t i = 0; i < n->lease_count; i++)
		fprintf(f, "%s,%s,%s\n", mac_format(&n->leases[i].mac, mac),
			addr_format(&n->leases[i].ip, ip), n->leases[i].name);
	if (fclose(f) != 0) {
		free(text);
		return NULL;
	}
	return text;
}
