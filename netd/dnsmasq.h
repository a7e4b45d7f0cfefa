/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * DHCPv4, DNS and router advertisements for guests: one dnsmasq per VLAN that asks for it, bound to
 * its gateway interface, with a config file of its own.
 *
 * dnsmasq_net says what a VLAN's server does; the two text functions are pure.  struct
 * dnsmasq_set runs them: each is a process in its own session that outlives netd.  A starting netd
 * finds them by their pid files, checks that the process really is that dnsmasq, and goes on with
 * it; one that dies is noticed through its pidfd and started again, later and later when it keeps
 * dying.  No timer runs while all is well.
 *
 *	RUN/dnsmasq-10.conf    what it is started with; a change restarts it
 *	RUN/dnsmasq-10.hosts   static leases; a change is a SIGHUP
 *	RUN/dnsmasq-10.pid
 *	STATE/leases-10        survives reboots
 */
#ifndef NETD_DNSMASQ_H
#define NETD_DNSMASQ_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/addr.h"
#include "common/base/err.h"

#define DNSMASQ_ADDRS_MAX  8
#define DNSMASQ_DOMAIN_MAX 32

struct dnsmasq_lease {
	char name[IFNAMSIZ]; /* the port's */
	struct mac mac;
	struct addr ip; /* IPv4 */
};

struct dnsmasq_net {
	uint16_t vid;
	char ifname[IFNAMSIZ];
	char domain[DNSMASQ_DOMAIN_MAX]; /* "" none */
	uint32_t mtu;
	bool dhcp;
	struct addr_range range;
	struct prefix gateway; /* IPv4 address whose subnet the range is in */
	uint64_t lease_s;
	bool ra;
	struct addr dns[DNSMASQ_ADDRS_MAX]; /* announced in place of the gateway */
	size_t dns_count;
	struct prefix addrs[DNSMASQ_ADDRS_MAX]; /* gateway addresses, both families */
	size_t addr_count;
	const struct dnsmasq_lease *leases;
	size_t lease_count;
};

struct dnsmasq_paths {
	const char *run;     /* directory of config and pid files */
	const char *state;   /* directory of leases */
	const char *program; /* "/usr/sbin/dnsmasq" */
};

/* The config file and the hosts file as text; the caller frees; NULL when out of memory. */
char *dnsmasq_config_text(const struct dnsmasq_net *n, const struct dnsmasq_paths *p)
	__attribute__((nonnull, warn_unused_result));
char *dnsmasq_hosts_text(const struct dnsmasq_net *n) __attribute__((nonnull, warn_unused_result));

struct dnsmasq_set;
struct sd_event;

/*
 * `changed` is called when a server died, came back or could not be started, for the log.
 * `event` NULL: no watching (a tool that only looks).
 */
int dnsmasq_set_new(const struct dnsmasq_paths *p, struct sd_event *event,
		    void (*changed)(void *ctx, uint16_t vid, const char *what), void *ctx,
		    struct dnsmasq_set **ret) __attribute__((nonnull(1, 5), warn_unused_result));
/* Forgets the set; the processes go on. */
void dnsmasq_set_free(struct dnsmasq_set *s);

/* What would be done, one line each through `line`; returns how many. */
size_t dnsmasq_set_diff(struct dnsmasq_set *s, const struct dnsmasq_net *want, size_t count,
			void (*line)(void *ctx, const char *text), void *ctx)
	__attribute__((nonnull(1)));

/*
 * Make the running servers those of `want` (sorted by VID): start, stop, restart, reload.  Goes on
 * after a failure and returns the first one with its sentence.
 */
int dnsmasq_set_apply(struct dnsmasq_set *s, const struct dnsmasq_net *want, size_t count,
		      struct err *err) __attribute__((nonnull(1), warn_unused_result));

/* The pid serving a VLAN, 0 when none. */
int dnsmasq_set_pid(const struct dnsmasq_set *s, uint16_t vid) __attribute__((nonnull));
uint64_t dnsmasq_set_restarts(const struct dnsmasq_set *s) __attribute__((nonnull));

#endif
