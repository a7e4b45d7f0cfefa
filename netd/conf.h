/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * netd's configuration: its schema, reading it with its drop-ins, and every check that goes beyond
 * one value.
 *
 * The checks come in two kinds.  netd_conf_check() needs the configuration alone, so it says the
 * same on every machine.  netd_conf_check_host() holds it against facts of this host, which the
 * caller gathers (or a test makes up): interfaces with their addresses, users, what the kernel
 * can do.  Both collect all errors in the conf with file and line and touch nothing else.
 */
#ifndef NETD_CONF_H
#define NETD_CONF_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/addr.h"
#include "common/base/err.h"
#include "common/daemon/conf.h"
#include "vlan/vlan.h"

#define NETD_CONF_FILE	    "/etc/ashlar/netd.conf"
#define NETD_CONF_MTU	    1500
#define NETD_CONF_ADDRS_MAX 8	   /* gateway addresses of a VLAN */
#define NETD_CONF_IPS_MAX   16	   /* addresses of a port */
#define NETD_CONF_QUEUE_MAX 16	   /* queue pairs of a TAP */
#define NETD_CONF_DHCP_MAX  65536  /* addresses of a DHCP range: a /16 */
#define NETD_CONF_POOL_MAX  1024   /* addresses of a SNAT pool inside the uplink's subnet */
#define NETD_CONF_PAIR_MAX  262144 /* VLAN pairs of all policies */

enum netd_backend { NETD_BACKEND_AUTO, NETD_BACKEND_AWARE, NETD_BACKEND_PER_VLAN };
enum netd_host { NETD_HOST_SERVICES, NETD_HOST_ALL, NETD_HOST_NONE };
enum netd_engine { NETD_ENGINE_AUTO, NETD_ENGINE_USER, NETD_ENGINE_KERNEL };
enum netd_proto { NETD_PROTO_TCP, NETD_PROTO_UDP };

extern const struct conf_section_type netd_conf_schema;

/*
 * Read `path` and the *.conf files of the directory `path`.d in order of their names.  Errors are
 * in the conf; -ENOMEM, else as conf_read_file().
 */
int netd_conf_read(struct conf *c, const char *path) __attribute__((nonnull));

/* All checks that need no host.  Call it after conf_finish().  O(n log n). */
void netd_conf_check(struct conf *c) __attribute__((nonnull));
/* The same but for forwards, when neither they nor the subnets of VLANs have changed. */
void netd_conf_check_rest(struct conf *c) __attribute__((nonnull));

/* An interface of the host as the checks see it. */
struct netd_conf_link {
	char name[IFNAMSIZ];
	bool ours; /* carries netd's mark */
	bool loopback;
	const struct prefix *addrs;
	size_t addr_count;
};

struct netd_conf_host {
	const struct netd_conf_link *links; /* sorted by name */
	size_t link_count;
	bool skip_keys; /* whoever asks may not read the key files: they are left to netd */
	/* What the kernel can do; NULL (no root, no probe) skips those checks. */
	const struct vlan_caps *caps;
	bool missing_ok;   /* an interface that is not there is waited for, no error */
	uint64_t mac_salt; /* see struct vlan_net */
	/* 0 and the id, or -ENOENT; NULL: getpwnam(), getgrnam(). */
	int (*find_user)(const char *name, uint32_t *ret_id);
	int (*find_group)(const char *name, uint32_t *ret_id);
};

void netd_conf_check_host(struct conf *c, const struct netd_conf_host *host)
	__attribute__((nonnull));

/* The interface of that name or NULL.  O(log n). */
const struct netd_conf_link *netd_conf_find_link(const struct netd_conf_host *host,
						 const char *name) __attribute__((nonnull));
/* A user's or group's id from a name or a number; find NULL: getpwnam(), getgrnam(). -ENOENT. */
int netd_conf_id(const char *name, int (*find)(const char *, uint32_t *), bool group,
		 uint32_t *ret_id) __attribute__((nonnull(1, 4), warn_unused_result));
/* The backend that the configuration gets on this kernel. */
enum vlan_backend netd_conf_backend(struct conf *c, const struct vlan_caps *caps)
	__attribute__((nonnull));
/* A port section's membership into the VLAN library's terms. */
void netd_conf_port_vids(const struct conf_section *port, struct vlan_port *ret_port)
	__attribute__((nonnull));

/* --- questions about a checked configuration ------------------------------------------------- */

/* Is the key written, with another value than its default?  (What -nv prints writes them all.) */
bool netd_conf_differs(const struct conf_section *s, const char *key) __attribute__((nonnull));
/* Does the VLAN get router advertisements: as set, else an IPv6 /64 and guests reach the host. */
bool netd_conf_vlan_ra(const struct conf_section *vlan) __attribute__((nonnull));
/* Does it need a dnsmasq? */
bool netd_conf_vlan_served(const struct conf_section *vlan) __attribute__((nonnull));
/* "guests.10" into ret (IFNAMSIZ); false when it does not fit. */
bool netd_conf_gateway_name(const struct conf_section *vlan, char *ret) __attribute__((nonnull));
/* The VLAN with this number or NULL.  O(1). */
struct conf_section *netd_conf_vlan(struct conf *c, unsigned int vid) __attribute__((nonnull));
/* The bridge of a port: its VLAN's, the one it names, or that of the first declared VLAN of its
 * trunk; NULL when nothing tells. */
struct conf_section *netd_conf_port_bridge(struct conf *c, const struct conf_section *port)
	__attribute__((nonnull));
/*
 * The subnets of all VLANs, sorted, for O(log n) answers to "whose address is this".  Belongs to
 * the conf it was built from; -ENOMEM.
 */
struct netd_subnet {
	struct prefix net;
	struct addr gateway;
	struct conf_section *vlan;
	const struct conf_pos *pos;
};
struct netd_subnets {
	struct netd_subnet *v;
	size_t count;
};
int netd_subnets_build(struct conf *c, struct netd_subnets *ret)
	__attribute__((nonnull, warn_unused_result));
/* The parts of netd_conf_check() about NAT and policies, and about forwards; called by it. */
void netd_conf_check_nat(struct conf *c) __attribute__((nonnull));
void netd_conf_check_forwards(struct conf *c, const struct netd_subnets *subnets)
	__attribute__((nonnull));
/* What a forward demands for itself, without a look at what others listen on. */
void netd_conf_check_forward(struct conf *c, const struct netd_subnets *subnets,
			     struct conf_section *forward) __attribute__((nonnull));
/* Tunnels and peers; called by netd_conf_check() and netd_conf_check_host(). */
void netd_conf_check_tunnels(struct conf *c, const struct netd_subnets *subnets)
	__attribute__((nonnull));
void netd_conf_check_keys(struct conf *c) __attribute__((nonnull));
const struct netd_subnet *netd_subnets_find(const struct netd_subnets *all, const struct addr *a)
	__attribute__((nonnull));
void netd_subnets_clear(struct netd_subnets *all) __attribute__((nonnull));

/* What -nv prints and what a configuration is named by: caller frees; NULL when out of memory. */
char *netd_conf_canonical(const struct conf *c) __attribute__((nonnull));

#endif
