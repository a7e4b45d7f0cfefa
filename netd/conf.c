/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The schema of netd.conf and reading it.  One value's form is checked here, by the tables and the
 * small functions they name; what depends on other objects is in conf_check.c.
 */
#include "netd/conf.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "common/base/cleanup.h"
#include "netd/endpoint.h"
#include "netd/keyfile.h"

#define VID_MAX	     4094
#define MTU_MIN	     576
#define MTU_MAX	     65535
#define TUNNEL_MTU_MIN	     1280 /* IPv6 needs no less */
#define LEASE_MIN_MS (2ull * 60 * 1000) /* dnsmasq takes no less than two minutes */
#define LEASE_MAX_MS (30ull * 24 * 3600 * 1000)

static const char *const backend_words[] = { "auto", "aware", "per-vlan", NULL };
static const char *const host_words[] = { "services", "all", "none", NULL };
static const char *const engine_words[] = { "auto", "user", "kernel", NULL };
static const char *const proto_words[] = { "tcp", "udp", NULL };

/* --- demands on one value ------------------------------------------------------------------- */

/* found "TEXT", expected ... */
static int refuse(struct err *err, const char *text, const char *expected)
{
	return err_set(err, -EINVAL, "found \"%.64s\", expected %s", text, expected);
}

/* Names of objects are names of interfaces or stand beside them: one rule for all. */
static int check_name_text(const char *name, struct err *err)
{
	size_t len = strlen(name);

	if (len == 0 || len >= IFNAMSIZ)
		return refuse(err, name, "a name of 1 to 15 characters");
	if (name[0] == '.' || name[0] == '-')
		return refuse(err, name, "a name that starts with a letter or digit");
	for (const char *p = name; *p; p++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-",
			    *p))
			return refuse(err, name, "a name of letters, digits and . _ -");
	return 0;
}

/* BRIDGE.4094 is an interface name too. */
static int check_bridge_name(const char *name, struct err *err)
{
	if (strlen(name) > VLAN_BRIDGE_NAME_LEN_MAX)
		return refuse(err, name,
			      "at most 10 characters, since with .4094 it names a gateway");
	return check_name_text(name, err);
}

static int check_name(const struct conf_value *v, struct err *err)
{
	return check_name_text(v->text, err);
}

/* A NIC may be called what the administrator likes, within the kernel's rule. */
static int check_ifname(const struct conf_value *v, struct err *err)
{
	size_t len = strlen(v->text);

	if (len == 0 || len >= IFNAMSIZ || strpbrk(v->text, "/: \t\n") ||
	    strcmp(v->text, ".") == 0 || strcmp(v->text, "..") == 0)
		return refuse(err, v->text, "the name of an interface, 1 to 15 characters");
	return 0;
}

static int check_socket(const struct conf_value *v, struct err *err)
{
	size_t max = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;

	return strlen(v->text) > max
		       ? refuse(err, v->text, "a path of at most 107 characters for a socket")
		       : 0;
}

static int check_gateway(const struct conf_value *v, struct err *err)
{
	const struct prefix *p = &v->prefix;
	struct prefix net = prefix_network(p);
	struct addr last = prefix_last(p);

	if (addr_is_multicast(&p->addr) || addr_is_loopback(&p->addr) ||
	    addr_is_unspecified(&p->addr) || addr_is_link_local(&p->addr))
		return refuse(err, v->text, "a unicast address of a subnet");
	if (p->len == 0)
		return refuse(err, v->text, "a subnet smaller than everything");
	if (p->addr.family == 4 && p->len < 31 &&
	    (addr_equal(&p->addr, &net.addr) || addr_equal(&p->addr, &last)))
		return refuse(err, v->text,
			      "an address of a host, not the first or last of its subnet");
	return 0;
}

static int check_host_addr(const struct conf_value *v, struct err *err)
{
	if (addr_is_multicast(&v->addr) || addr_is_unspecified(&v->addr))
		return refuse(err, v->text, "a unicast address");
	return 0;
}

static int check_v4_range(const struct conf_value *v, struct err *err)
{
	if (v->addr_range.first.family != 4)
		return refuse(err, v->text, "an IPv4 range");
	if (addr_range_count(&v->addr_range) > NETD_CONF_DHCP_MAX)
		return refuse(err, v->text, "at most 65536 addresses");
	return 0;
}

static int check_public_key(const struct conf_value *v, struct err *err)
{
	uint8_t key[KEY_LEN];

	return key_parse(v->text, key, err);
}

static int check_endpoint(const struct conf_value *v, struct err *err)
{
	struct endpoint e;

	return endpoint_parse(v->text, &e, err);
}

/* --- the tables ----------------------------------------------------------------------------- */

static const struct conf_key bridge_keys[] = {
	{ "uplink", CONF_STRING, .check = check_ifname, .max = IFNAMSIZ - 1,
	  .help = "NIC that carries every VLAN of the bridge, tagged" },
	{ "mtu", CONF_INT, .min = MTU_MIN, .max = MTU_MAX, .preset = "1500",
	  .help = "largest packet of its VLANs" },
	{ 0 },
};

static const struct conf_key vlan_keys[] = {
	{ "bridge", CONF_STRING, CONF_REQUIRED, .help = "the bridge it lives on" },
	{ "name", CONF_STRING, .check = check_name, .help = "for people and the guests' domain" },
	{ "address", CONF_IFADDR, CONF_LIST, .check = check_gateway,
	  .help = "gateway addresses with prefix length" },
	{ "nat", CONF_BOOL, .preset = "false", .help = "masquerade what leaves the host" },
	{ "dhcp", CONF_ADDRRANGE, .check = check_v4_range, .help = "range served by DHCPv4" },
	{ "dns", CONF_ADDRESS, CONF_LIST, .check = check_host_addr,
	  .help = "name servers to announce in place of the gateway" },
	{ "lease", CONF_DURATION, .min = LEASE_MIN_MS, .max = LEASE_MAX_MS, .preset = "1h",
	  .help = "DHCP lease time" },
	{ "ra", CONF_BOOL, .help = "send router advertisements" },
	{ "routed", CONF_BOOL, .preset = "false",
	  .help = "guests reach the world, and it reaches them, under their own addresses" },
	{ "host", CONF_WORD, .words = host_words, .preset = "services",
	  .help = "what guests reach on the host" },
	{ 0 },
};

static const struct conf_key port_keys[] = {
	{ "vlan", CONF_INT, .min = 1, .max = VID_MAX, .help = "untagged member of this VLAN" },
	{ "trunk", CONF_RANGES, .min = 1, .max = VID_MAX, .help = "tagged member of these VLANs" },
	{ "native", CONF_INT, .min = 1, .max = VID_MAX,
	  .help = "VLAN of a trunk's untagged frames" },
	{ "bridge", CONF_STRING, .help = "bridge of a trunk whose VLANs are not declared" },
	{ "existing", CONF_BOOL, .preset = "false", .help = "attach an interface that is there" },
	{ "owner", CONF_STRING, .help = "user that may open the TAP" },
	{ "group", CONF_STRING, .help = "group that may open the TAP" },
	{ "queues", CONF_INT, .min = 1, .max = NETD_CONF_QUEUE_MAX, .preset = "1",
	  .help = "queue pairs of the TAP" },
	{ "vnet_hdr", CONF_BOOL, .preset = "true", .help = "checksum and segmentation offload" },
	{ "mac", CONF_MAC, .help = "the guest's MAC address" },
	{ "ip", CONF_ADDRESS, CONF_LIST, .check = check_host_addr,
	  .help = "the guest's addresses" },
	{ "guard", CONF_BOOL, .preset = "true", .help = "drop other source addresses" },
	{ "isolated", CONF_BOOL, .preset = "false", .help = "no traffic to other isolated ports" },
	{ 0 },
};

static const struct conf_key forward_keys[] = {
	{ "proto", CONF_WORD, CONF_REQUIRED, .words = proto_words, .help = "tcp or udp" },
	{ "listen", CONF_PORTS, CONF_REQUIRED, .help = "port or range of the host" },
	{ "to", CONF_ENDPOINT, CONF_REQUIRED, .help = "a guest's address and port" },
	{ "on", CONF_ADDRESS, .check = check_host_addr, .help = "one address of the host" },
	{ 0 },
};

static const struct conf_key nat_keys[] = {
	{ "from", CONF_INT, CONF_LIST | CONF_REQUIRED, .min = 1, .max = VID_MAX,
	  .help = "VLANs whose traffic it is" },
	{ "to", CONF_STRING, CONF_REQUIRED, .check = check_ifname, .max = IFNAMSIZ - 1,
	  .help = "interface through which it leaves" },
	{ "snat", CONF_ADDRRANGE, .help = "source addresses it gets; default: masquerade" },
	{ 0 },
};

static const struct conf_key policy_keys[] = {
	{ "from", CONF_INT, CONF_LIST | CONF_REQUIRED, .min = 1, .max = VID_MAX,
	  .help = "VLANs that may open connections" },
	{ "to", CONF_INT, CONF_LIST | CONF_REQUIRED, .min = 1, .max = VID_MAX,
	  .help = "VLANs they reach" },
	{ 0 },
};

static const struct conf_key tunnel_keys[] = {
	{ "address", CONF_IFADDR, CONF_LIST | CONF_REQUIRED, .check = check_gateway,
	  .help = "this host's addresses inside the tunnel, with prefix length" },
	{ "listen_port", CONF_INT, .min = 1, .max = 65535, .help = "UDP port; default: any" },
	{ "private_key_file", CONF_PATH, CONF_REQUIRED,
	  .help = "file with this host's key, readable by root only" },
	{ "engine", CONF_WORD, .words = engine_words, .preset = "auto",
	  .help = "what carries the packets" },
	{ "vlans", CONF_INT, CONF_LIST, .min = 1, .max = VID_MAX,
	  .help = "VLANs whose guests reach the tunnel and are reached through it" },
	{ "mtu", CONF_INT, .min = TUNNEL_MTU_MIN, .max = MTU_MAX,
	  .help = "largest inner packet; default: what the way to the peers leaves" },
	{ "fwmark", CONF_INT, .min = 1, .max = UINT32_MAX,
	  .help = "mark of the encrypted packets, for routing rules" },
	{ 0 },
};

static const struct conf_key peer_keys[] = {
	{ "tunnel", CONF_STRING, CONF_REQUIRED, .help = "the tunnel it is a peer of" },
	{ "public_key", CONF_STRING, CONF_REQUIRED, .check = check_public_key,
	  .help = "its public key in base64" },
	{ "preshared_key_file", CONF_PATH, .help = "file with a key that both have" },
	{ "endpoint", CONF_STRING, .check = check_endpoint,
	  .help = "HOST:PORT where it listens; default: it calls first" },
	{ "address", CONF_ADDRESS, CONF_LIST, .check = check_host_addr,
	  .help = "its addresses inside the tunnel" },
	{ "allowed", CONF_NETWORK, CONF_LIST, .help = "networks behind it" },
	{ "keepalive", CONF_DURATION, .min = 1000, .max = 65535ull * 1000,
	  .help = "send something that often, so that a NAT on the way does not forget" },
	{ 0 },
};

#define NAMED(kind, table, text)                                                                   \
	{                                                                                          \
		.name = kind, .title = CONF_TITLE_STRING, .title_max = IFNAMSIZ - 1,               \
		.title_check = check_name_text, .keys = table, .help = text                        \
	}

static const struct conf_section_type sections[] = {
	{ .name = "bridge",
	  .title = CONF_TITLE_STRING,
	  .title_max = IFNAMSIZ - 1,
	  .title_check = check_bridge_name,
	  .keys = bridge_keys,
	  .help = "a switch" },
	{ .name = "vlan",
	  .title = CONF_TITLE_INT,
	  .title_min = 1,
	  .title_max = VID_MAX,
	  .keys = vlan_keys,
	  .help = "a network of guests" },
	NAMED("port", port_keys, "a guest's network card"),
	NAMED("forward", forward_keys, "the world reaches a guest"),
	NAMED("nat", nat_keys, "guests leave with other addresses"),
	NAMED("policy", policy_keys, "a VLAN reaches another"),
	NAMED("tunnel", tunnel_keys, "an encrypted network of VM hosts"),
	NAMED("peer", peer_keys, "another host of a tunnel"),
	{ 0 },
};

static const struct conf_key root_keys[] = {
	{ "control", CONF_PATH, .check = check_socket, .preset = "/run/netd/control.sock",
	  .help = "socket of vnetctl" },
	{ "state", CONF_PATH, .preset = "/var/lib/netd",
	  .help = "directory of what is remembered" },
	{ "backend", CONF_WORD, .words = backend_words, .preset = "auto",
	  .help = "how VLANs are made" },
	{ "dnsmasq", CONF_PATH, .preset = "/usr/sbin/dnsmasq", .help = "server of DHCP, DNS, RA" },
	{ "own_tables", CONF_BOOL, .preset = "true",
	  .help = "keep others from writing to our nftables tables, where the kernel can" },
	{ 0 },
};

const struct conf_section_type netd_conf_schema = {
	.name = "",
	.title = CONF_TITLE_NONE,
	.keys = root_keys,
	.hide = key_hide,
	.sections = sections,
	.required = true,
};

/* --- reading -------------------------------------------------------------------------------- */

int netd_conf_read(struct conf *c, const char *path)
{
	CLEANUP_FREE char *pattern = NULL;
	glob_t found = { 0 };
	int r = conf_read_file(c, path);

	if (r == -ENOMEM || asprintf(&pattern, "%s.d/*.conf", path) < 0)
		return -ENOMEM;
	if (glob(pattern, 0, NULL, &found) == GLOB_NOSPACE)
		r = -ENOMEM;
	for (size_t i = 0; r != -ENOMEM && i < found.gl_pathc; i++) {
		int one = conf_read_file(c, found.gl_pathv[i]);

		r = one ? one : r;
	}
	globfree(&found);
	return r;
}

char *netd_conf_canonical(const struct conf *c)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	int r;

	if (!f)
		return NULL;
	r = conf_print(c, f, CONF_PRINT_SET);
	if (fclose(f) != 0 || r < 0) {
		free(text);
		return NULL;
	}
	return text;
}

enum vlan_backend netd_conf_backend(struct conf *c, const struct vlan_caps *caps)
{
	uint64_t want = conf_number(conf_root(c), "backend");

	if (want == NETD_BACKEND_AUTO)
		return vlan_backend_choose(caps);
	return want == NETD_BACKEND_AWARE ? VLAN_BACKEND_AWARE : VLAN_BACKEND_PER_VLAN;
}

/* --- questions ------------------------------------------------------------------------------ */

bool netd_conf_differs(const struct conf_section *s, const char *key)
{
	const struct conf_entry *e = conf_entry(s, key);

	return e && !e->is_preset && e->count &&
	       (!e->key->preset || strcmp(e->values[0].text, e->key->preset) != 0);
}

bool netd_conf_vlan_ra(const struct conf_section *vlan)
{
	const struct conf_entry *e = conf_entry(vlan, "address");

	if (conf_is_set(vlan, "ra"))
		return conf_flag(vlan, "ra");
	if (conf_number(vlan, "host") == NETD_HOST_NONE)
		return false;
	for (size_t i = 0; e && i < e->count; i++)
		if (e->values[i].prefix.addr.family == 6 && e->values[i].prefix.len == 64)
			return true;
	return false;
}

bool netd_conf_vlan_served(const struct conf_section *vlan)
{
	return conf_is_set(vlan, "dhcp") || netd_conf_vlan_ra(vlan);
}

bool netd_conf_gateway_name(const struct conf_section *vlan, char *ret)
{
	const char *bridge = conf_text(vlan, "bridge");

	if (!bridge || strlen(bridge) + 1 + strlen(vlan->title) >= IFNAMSIZ)
		return false;
	sprintf(ret, "%s.%s", bridge, vlan->title);
	return true;
}

struct conf_section *netd_conf_vlan(struct conf *c, unsigned int vid)
{
	char title[16];

	snprintf(title, sizeof(title), "%u", vid);
	return conf_section_find(c, conf_root(c), "vlan", title);
}

struct conf_section *netd_conf_port_bridge(struct conf *c, const struct conf_section *port)
{
	const struct conf_value *trunk = conf_value(port, "trunk");
	const char *name = conf_text(port, "bridge");
	struct conf_section *vlan = NULL;

	if (conf_is_set(port, "vlan"))
		vlan = netd_conf_vlan(c, (unsigned int)conf_number(port, "vlan"));
	for (size_t i = 0; !vlan && !name && trunk && i < trunk->ranges.count; i++)
		for (uint64_t v = trunk->ranges.items[i].first;
		     !vlan && v <= trunk->ranges.items[i].last; v++)
			vlan = netd_conf_vlan(c, (unsigned int)v);
	if (vlan)
		name = conf_text(vlan, "bridge");
	return name ? conf_section_find(c, conf_root(c), "bridge", name) : NULL;
}

static int subnet_compare(const void *a, const void *b)
{
	const struct netd_subnet *x = a, *y = b;
	int r = prefix_compare(&x->net, &y->net);

	if (r)
		return r;
	return x->pos->line < y->pos->line ? -1 : x->pos->line > y->pos->line;
}

int netd_subnets_build(struct conf *c, struct netd_subnets *ret)
{
	struct conf_section *s = conf_section_first(conf_root(c), "vlan");
	const struct conf_entry *e;
	size_t max = 1, n = 0;

	for (; s; s = conf_section_next(s, "vlan")) {
		e = conf_entry(s, "address");
		max += e ? e->count : 0;
	}
	ret->v = calloc(max, sizeof(*ret->v));
	if (!ret->v)
		return -ENOMEM;
	s = conf_section_first(conf_root(c), "vlan");
	for (; s; s = conf_section_next(s, "vlan")) {
		e = conf_entry(s, "address");
		for (size_t i = 0; e && i < e->count; i++) {
			const struct conf_value *v = &e->values[i];

			if (v->prefix.addr.family)
				ret->v[n++] = (struct netd_subnet){ prefix_network(&v->prefix),
								    v->prefix.addr, s, &v->pos };
		}
	}
	qsort(ret->v, n, sizeof(*ret->v), subnet_compare);
	ret->count = n;
	return 0;
}

const struct netd_subnet *netd_subnets_find(const struct netd_subnets *all, const struct addr *a)
{
	size_t low = 0, high = all->count;

	/* the last one that starts at or before `a`: they do not overlap, so no other can hold it
	 */
	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (addr_compare(&all->v[mid].net.addr, a) <= 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low && prefix_contains(&all->v[low - 1].net, a) ? &all->v[low - 1] : NULL;
}

void netd_subnets_clear(struct netd_subnets *all)
{
	free(all->v);
	*all = (struct netd_subnets){ 0 };
}
