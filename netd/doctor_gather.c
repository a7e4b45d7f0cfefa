/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What doctor_judge() judges by: chains of other tables over netlink, settings and listeners from
 * /proc, programs by name.  Foreign bytes are parsed with bounds; what cannot be read is left out,
 * since a doctor who gives up at the first odd thing is of no use.
 */
#include "netd/doctor.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "common/base/cleanup.h"
#include "nat/nat.h"

#define LIST_MAX 4096 /* chains, listeners: a host with more is not helped by a longer list */

/* --- chains ---------------------------------------------------------------------------------- */

struct chain_scan {
	struct doctor_facts *facts;
	bool failed;
};

static const char *family_name(uint32_t family)
{
	switch (family) {
	case NFPROTO_IPV4:
		return "ip";
	case NFPROTO_IPV6:
		return "ip6";
	case NFPROTO_INET:
		return "inet";
	default:
		return NULL;
	}
}

static int on_chain(const struct nlmsghdr *nlh, void *data)
{
	struct chain_scan *scan = data;
	struct doctor_facts *f = scan->facts;
	struct nftnl_chain *c = nftnl_chain_alloc();
	const char *family, *table, *name;
	struct doctor_chain *d;
	uint32_t hook;

	if (!c || nftnl_chain_nlmsg_parse(nlh, c) < 0 || f->chain_count == LIST_MAX)
		goto out;
	family = family_name(nftnl_chain_get_u32(c, NFTNL_CHAIN_FAMILY));
	table = nftnl_chain_get_str(c, NFTNL_CHAIN_TABLE);
	name = nftnl_chain_get_str(c, NFTNL_CHAIN_NAME);
	if (!family || !table || !name || strcmp(table, NAT_TABLE) == 0)
		goto out;
	d = reallocarray(f->chains, f->chain_count + 1, sizeof(*d));
	if (!d) {
		scan->failed = true;
		goto out;
	}
	f->chains = d;
	d = &f->chains[f->chain_count++];
	*d = (struct doctor_chain){ 0 };
	snprintf(d->family, sizeof(d->family), "%s", family);
	snprintf(d->table, sizeof(d->table), "%s", table);
	snprintf(d->chain, sizeof(d->chain), "%s", name);
	if (!nftnl_chain_is_set(c, NFTNL_CHAIN_HOOKNUM))
		goto out;
	hook = nftnl_chain_get_u32(c, NFTNL_CHAIN_HOOKNUM);
	d->base = hook == NF_INET_FORWARD || hook == NF_INET_LOCAL_IN;
	d->hook = hook == NF_INET_FORWARD ? DOCTOR_FORWARD : DOCTOR_INPUT;
	d->drops = nftnl_chain_is_set(c, NFTNL_CHAIN_POLICY) &&
		   nftnl_chain_get_u32(c, NFTNL_CHAIN_POLICY) == NF_DROP;
out:
	nftnl_chain_free(c);
	return MNL_CB_OK;
}

/* What one rule says: drops everything, or speaks of an interface of ours. */
struct rule_view {
	const struct doctor_facts *facts;
	bool conditions, drops, names_us;
};

static bool starts_with_ours(const struct doctor_facts *f, const char *data, uint32_t len)
{
	for (size_t i = 0; i < f->bridge_count; i++) {
		size_t n = strlen(f->bridges[i]);

		if (len > n && memcmp(data, f->bridges[i], n) == 0 && data[n] == '.')
			return true;
	}
	return false;
}

static int on_expr(struct nftnl_expr *e, void *data)
{
	struct rule_view *v = data;
	const char *name = nftnl_expr_get_str(e, NFTNL_EXPR_NAME);
	const void *bytes;
	uint32_t len = 0;

	if (strcmp(name, "reject") == 0) {
		v->drops = true;
	} else if (strcmp(name, "immediate") == 0) {
		v->drops = nftnl_expr_is_set(e, NFTNL_EXPR_IMM_VERDICT) &&
			   nftnl_expr_get_u32(e, NFTNL_EXPR_IMM_VERDICT) == NF_DROP;
	} else if (strcmp(name, "cmp") == 0) {
		v->conditions = true;
		bytes = nftnl_expr_get(e, NFTNL_EXPR_CMP_DATA, &len);
		if (bytes && starts_with_ours(v->facts, bytes, len))
			v->names_us = true;
	} else if (strcmp(name, "counter") != 0 && strcmp(name, "log") != 0) {
		v->conditions = true;
	}
	return 0;
}

static int on_rule(const struct nlmsghdr *nlh, void *data)
{
	struct chain_scan *scan = data;
	struct doctor_facts *f = scan->facts;
	struct rule_view view = { .facts = f };
	struct nftnl_rule *r = nftnl_rule_alloc();
	const char *family, *table, *chain;

	if (!r || nftnl_rule_nlmsg_parse(nlh, r) < 0)
		goto out;
	family = family_name(nftnl_rule_get_u32(r, NFTNL_RULE_FAMILY));
	table = nftnl_rule_get_str(r, NFTNL_RULE_TABLE);
	chain = nftnl_rule_get_str(r, NFTNL_RULE_CHAIN);
	if (!family || !table || !chain)
		goto out;
	nftnl_expr_foreach(r, on_expr, &view);
	for (size_t i = 0; i < f->chain_count; i++) {
		struct doctor_chain *c = &f->chains[i];

		if (strcmp(c->table, table) != 0 || strcmp(c->family, family) != 0)
			continue;
		c->allows = c->allows || view.names_us;
		if (strcmp(c->chain, chain) == 0 && view.drops && !view.conditions)
			c->drops = true;
	}
out:
	nftnl_rule_free(r);
	return MNL_CB_OK;
}

static int dump(struct mnl_socket *nl, uint16_t type, mnl_cb_t fn, void *data)
{
	char buf[32768];
	struct nlmsghdr *nlh =
		nftnl_nlmsg_build_hdr(buf, type, NFPROTO_UNSPEC, NLM_F_DUMP | NLM_F_ACK, 1);
	ssize_t n;

	if (mnl_socket_sendto(nl, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	while ((n = mnl_socket_recvfrom(nl, buf, sizeof(buf))) > 0) {
		int r = mnl_cb_run(buf, (size_t)n, 1, mnl_socket_get_portid(nl), fn, data);

		if (r < 0 && errno != EINTR)
			return -errno;
		if (r <= 0)
			return 0;
	}
	return n < 0 ? -errno : 0;
}

static int gather_chains(struct doctor_facts *f, struct err *err)
{
	struct mnl_socket *nl = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	struct chain_scan scan = { .facts = f };
	int r = nl ? 0 : -errno;

	if (r == 0 && mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0)
		r = -errno;
	r = r < 0 ? r : dump(nl, NFT_MSG_GETCHAIN, on_chain, &scan);
	r = r < 0 ? r : dump(nl, NFT_MSG_GETRULE, on_rule, &scan);
	if (nl)
		mnl_socket_close(nl);
	if (scan.failed)
		r = -ENOMEM;
	return r < 0 ? err_sys(err, r, "tables of others") : 0;
}

/* --- settings -------------------------------------------------------------------------------- */

static int setting(const char *path)
{
	char full[256], text[32] = "";
	CLEANUP_FCLOSE FILE *f = NULL;

	snprintf(full, sizeof(full), "/proc/sys/%s", path);
	f = fopen(full, "re");
	if (!f || !fgets(text, sizeof(text), f))
		return -1;
	return atoi(text);
}

static int rp_filter_of(const char *name)
{
	char path[128];
	int all = setting("net/ipv4/conf/all/rp_filter"), one;

	snprintf(path, sizeof(path), "net/ipv4/conf/%s/rp_filter", name);
	one = setting(path);
	return one > all ? one : all;
}

static bool is_default_route(const char *name)
{
	CLEANUP_FCLOSE FILE *f = fopen("/proc/thread-self/net/route", "re");
	char line[512], ifname[32];
	unsigned int dest, mask;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%31s %x %*x %*x %*d %*d %*d %x", ifname, &dest, &mask) == 3 &&
		    dest == 0 && mask == 0 && strcmp(ifname, name) == 0)
			return true;
	return false;
}

static bool file_says(const char *path, const char *word)
{
	CLEANUP_FCLOSE FILE *f = fopen(path, "re");
	char line[1024];

	while (f && fgets(line, sizeof(line), f))
		if (strstr(line, word))
			return true;
	return false;
}

/* --- listeners and programs ------------------------------------------------------------------ */

static bool is_our_dnsmasq(int pid)
{
	char path[64], line[1024];
	CLEANUP_FCLOSE FILE *f = NULL;
	size_t n;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	f = fopen(path, "re");
	n = f ? fread(line, 1, sizeof(line) - 1, f) : 0;
	line[n] = '\0';
	for (size_t at = 0; at < n; at += strlen(line + at) + 1)
		if (strncmp(line + at, "--conf-file=", 12) == 0 && strstr(line + at, "/dnsmasq-") &&
		    strcmp(line, "dnsmasq") == 0)
			return true;
	return false;
}

static void read_comm(int pid, char *buf, size_t size)
{
	char path[64];
	CLEANUP_FCLOSE FILE *f = NULL;

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	f = fopen(path, "re");
	if (!f || !fgets(buf, (int)size, f))
		buf[0] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
}

static bool holds_socket(int pid, unsigned long inode)
{
	char path[320], target[64], want[64];
	struct dirent *e;
	bool found = false;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	snprintf(want, sizeof(want), "socket:[%lu]", inode);
	d = opendir(path);
	while (d && !found && (e = readdir(d))) {
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/%d/fd/%s", pid, e->d_name);
		n = readlink(path, target, sizeof(target) - 1);
		if (n < 0)
			continue;
		target[n] = '\0';
		found = strcmp(target, want) == 0;
	}
	if (d)
		closedir(d);
	return found;
}

/* Calls fn with each process until it returns true; that pid, or 0. */
static int find_process(bool (*fn)(int pid, const void *ctx), const void *ctx)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	int found = 0;

	while (d && !found && (e = readdir(d)))
		if (isdigit((unsigned char)e->d_name[0]) && fn(atoi(e->d_name), ctx))
			found = atoi(e->d_name);
	if (d)
		closedir(d);
	return found;
}

static bool has_inode(int pid, const void *ctx)
{
	return holds_socket(pid, *(const unsigned long *)ctx);
}

static bool has_name(int pid, const void *ctx)
{
	char comm[32];

	read_comm(pid, comm, sizeof(comm));
	return strcmp(comm, ctx) == 0;
}

/* "0100007F:0035" or 32 hex digits for IPv6: words of the host's order. */
static bool parse_local(const char *text, struct addr *ret_addr, unsigned int *ret_port)
{
	const char *colon = strchr(text, ':');
	size_t digits = colon ? (size_t)(colon - text) : 0;
	uint8_t bytes[16];

	if ((digits != 8 && digits != 32) || sscanf(colon + 1, "%4x", ret_port) != 1)
		return false;
	for (size_t i = 0; i < digits / 8; i++) {
		unsigned int word;

		if (sscanf(text + 8 * i, "%8x", &word) != 1)
			return false;
		memcpy(bytes + 4 * i, &word, 4);
	}
	*ret_addr = addr_from_bytes(digits == 8 ? 4 : 6, bytes);
	return true;
}

static int add_listener(struct doctor_facts *f, bool udp, unsigned int port, struct addr addr,
			unsigned long inode)
{
	struct doctor_listener *l;
	int pid = find_process(has_inode, &inode);

	if ((pid && is_our_dnsmasq(pid)) || f->listener_count == LIST_MAX)
		return 0;
	l = reallocarray(f->listeners, f->listener_count + 1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	f->listeners = l;
	l = &f->listeners[f->listener_count++];
	*l = (struct doctor_listener){
		.port = (uint16_t)port, .udp = udp, .addr = addr, .pid = pid
	};
	read_comm(pid, l->comm, sizeof(l->comm));
	return 0;
}

/* /proc/net/udp and its like: local address, state and inode of each socket. */
static int gather_sockets(struct doctor_facts *f, const char *file, bool udp)
{
	char path[64], line[512], local[64];
	CLEANUP_FCLOSE FILE *in = NULL;
	unsigned int state, port;
	unsigned long inode;
	struct addr addr;
	int r = 0;

	snprintf(path, sizeof(path), "/proc/thread-self/net/%s", file);
	in = fopen(path, "re");
	while (in && r == 0 && fgets(line, sizeof(line), in)) {
		if (sscanf(line, " %*d: %63s %*s %x %*s %*s %*s %*d %*d %lu", local, &state,
			   &inode) != 3 ||
		    !parse_local(local, &addr, &port))
			continue;
		if (port != 53 && !(udp && port == 67))
			continue;
		if (udp || state == 0x0A) /* TCP_LISTEN */
			r = add_listener(f, udp, port, addr, inode);
	}
	return r;
}

static void gather_manager(struct doctor_facts *f)
{
	static const char *const patterns[] = { "/etc/NetworkManager/conf.d/*.conf",
						"/etc/NetworkManager/NetworkManager.conf",
						"/run/NetworkManager/conf.d/*.conf",
						"/usr/lib/NetworkManager/conf.d/*.conf", NULL };

	f->network_manager = find_process(has_name, "NetworkManager") != 0;
	for (const char *const *p = patterns; f->network_manager && *p; p++) {
		glob_t g = { 0 };

		if (glob(*p, 0, NULL, &g) == 0)
			for (size_t i = 0; i < g.gl_pathc; i++)
				for (size_t b = 0; b < f->bridge_count; b++)
					if (file_says(g.gl_pathv[i], "unmanaged-devices") &&
					    file_says(g.gl_pathv[i], f->bridges[b]))
						f->network_manager_told = true;
		globfree(&g);
	}
}

/* --- our side -------------------------------------------------------------------------------- */

#define FOR_EACH(s, c, kind)                                                                       \
	for (struct conf_section *s = conf_section_first(conf_root(c), kind); s;                   \
	     s = conf_section_next(s, kind))

static size_t count_of(struct conf *c, const char *kind)
{
	size_t n = 0;

	FOR_EACH(s, c, kind)
	n++;
	return n;
}

static void gather_vlan(struct doctor_facts *f, const struct conf_section *s)
{
	const struct conf_entry *e = conf_entry(s, "address");
	bool leaves = conf_flag(s, "nat") || conf_flag(s, "routed");

	f->serves = f->serves || netd_conf_vlan_served(s);
	for (size_t i = 0; e && i < e->count && i < NETD_CONF_ADDRS_MAX; i++) {
		f->gateways[f->gateway_count++] = e->values[i].prefix.addr;
		if (e->values[i].prefix.addr.family == 4)
			f->routes4 = f->routes4 || leaves;
		else
			f->routes6 = f->routes6 || leaves;
	}
}

static int gather_conf(struct doctor_facts *f, struct conf *c)
{
	size_t outside = count_of(c, "nat");

	f->bridges = calloc(count_of(c, "bridge") + 1, sizeof(*f->bridges));
	f->gateways = calloc(count_of(c, "vlan") * NETD_CONF_ADDRS_MAX + 1, sizeof(*f->gateways));
	f->outside = calloc(outside + 1, sizeof(*f->outside));
	if (!f->bridges || !f->gateways || !f->outside)
		return -ENOMEM;
	FOR_EACH(b, c, "bridge")
	snprintf(f->bridges[f->bridge_count++], IFNAMSIZ, "%.15s", b->title);
	FOR_EACH(v, c, "vlan")
	gather_vlan(f, v);
	FOR_EACH(n, c, "nat")
	{
		struct doctor_outside *o = &f->outside[f->outside_count++];

		snprintf(o->name, sizeof(o->name), "%.15s", conf_text(n, "to"));
		o->rp_filter = rp_filter_of(o->name);
		o->is_default_route = is_default_route(o->name);
		f->routes4 = true;
	}
	f->routes4 = f->routes4 || count_of(c, "forward") || count_of(c, "policy");
	return 0;
}

int doctor_gather(struct conf *c, struct doctor_facts *ret, struct err *err)
{
	int r = c ? gather_conf(ret, c) : 0;

	if (r == 0)
		r = gather_sockets(ret, "udp", true);
	if (r == 0)
		r = gather_sockets(ret, "udp6", true);
	if (r == 0)
		r = gather_sockets(ret, "tcp", false);
	if (r == 0)
		r = gather_sockets(ret, "tcp6", false);
	if (r < 0)
		return err_sys(err, r, "doctor");
	ret->forward4 = setting("net/ipv4/ip_forward");
	ret->forward6 = setting("net/ipv6/conf/all/forwarding");
	ret->bridge_nf4 = setting("net/bridge/bridge-nf-call-iptables");
	ret->bridge_nf6 = setting("net/bridge/bridge-nf-call-ip6tables");
	ret->legacy_iptables = file_says("/proc/thread-self/net/ip_tables_names", "filter");
	gather_manager(ret);
	return gather_chains(ret, err);
}

void doctor_facts_clear(struct doctor_facts *f)
{
	free(f->bridges);
	free(f->gateways);
	free(f->chains);
	free(f->listeners);
	free(f->outside);
	*f = (struct doctor_facts){ 0 };
}
