/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Why packets of guests do not arrive although netd did its part: what else on this host drops
 * them, and how to make it stop.
 *
 * doctor_gather() looks (other tables' base chains, kernel settings, listeners, processes, default
 * routes); doctor_judge() is pure and says what is wrong.  netd never changes what belongs to
 * others; the fix is for a person.
 */
#ifndef NETD_DOCTOR_H
#define NETD_DOCTOR_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/addr.h"
#include "common/base/err.h"
#include "netd/conf.h"

enum doctor_hook { DOCTOR_FORWARD, DOCTOR_INPUT };

/* A chain of a table that is not ours. */
struct doctor_chain {
	char family[8]; /* "ip", "ip6", "inet" */
	char table[64], chain[64];
	enum doctor_hook hook;
	bool base;   /* hooked; else only there to tell whose table it is */
	bool drops;  /* by its policy, or by a last rule without a condition */
	bool allows; /* the table has a rule about our interfaces: somebody saw to it */
};

struct doctor_listener {
	uint16_t port; /* 53, 67 */
	bool udp;
	struct addr addr; /* unspecified: all */
	int pid;	  /* 0: not known */
	char comm[32];
};

struct doctor_outside {
	char name[IFNAMSIZ];
	int rp_filter; /* the effective one: 0, 1 strict, 2 loose */
	bool is_default_route;
};

struct doctor_facts {
	/* what we do */
	char (*bridges)[IFNAMSIZ];
	size_t bridge_count;
	struct addr *gateways; /* addresses */
	size_t gateway_count;
	bool serves;	       /* some VLAN has a dnsmasq */
	bool routes4, routes6; /* some VLAN leaves the host or is reached */
	/* what is there; -1: no such setting */
	int forward4, forward6, bridge_nf4, bridge_nf6;
	struct doctor_chain *chains;
	size_t chain_count;
	struct doctor_listener *listeners;
	size_t listener_count;
	struct doctor_outside *outside;
	size_t outside_count;
	bool legacy_iptables;	   /* rules that nftables does not show */
	bool network_manager;	   /* runs */
	bool network_manager_told; /* its config leaves our interfaces alone */
};

struct doctor_finding {
	bool breaks; /* traffic is lost; else worth knowing */
	char subject[64];
	char what[256];
	char fix[384];
};

typedef void (*doctor_line_fn)(void *ctx, const struct doctor_finding *f);

/* Look at the host in the calling thread's network namespace.  `c` NULL: no config in force.  The
 * caller clears *ret.  Needs CAP_NET_ADMIN for the tables of others. */
int doctor_gather(struct conf *c, struct doctor_facts *ret, struct err *err)
	__attribute__((nonnull(2), warn_unused_result));
void doctor_facts_clear(struct doctor_facts *f) __attribute__((nonnull));

/* Report each finding; returns how many break traffic.  Pure. */
size_t doctor_judge(const struct doctor_facts *f, doctor_line_fn line, void *ctx)
	__attribute__((nonnull(1, 2)));

#endif
