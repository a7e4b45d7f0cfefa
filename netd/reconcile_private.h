/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What reconcile.c and quick.c share. */
#ifndef NETD_RECONCILE_PRIVATE_H
#define NETD_RECONCILE_PRIVATE_H

#include "netd/desired.h"
#include "netd/monitor.h"
#include "netd/queue.h"
#include "netd/reconcile.h"
#include "netd/sight.h"
#include "netd/tunnels.h"

#define RECONCILE_SOURCE_COUNT 3

struct reconcile {
	struct loop *loop;
	struct state *st;
	char *run_dir;
	struct nl *nl;
	struct queue queue;
	struct monitor *monitor;
	struct dnsmasq_set *servers;
	struct tunnels *tunnels;
	char *servers_program;
	int settings_fd;
	int alone_fd; /* no other netd while it is open */
	sd_event_source *sources[RECONCILE_SOURCE_COUNT];
	struct loop_timer *settle, *retry;
	struct vlan_caps vlan_caps;
	struct nat_caps nat_caps;
	uint64_t mac_salt;
	struct conf *conf;	  /* in force; NULL: down */
	struct netd_desired want; /* what it wants */
	bool want_stale;	  /* it is to be built anew before anything is done for it */
	uint64_t retry_ms;
	uint64_t event_ms, event_us; /* when the look that is due was asked for */
	uint64_t plan_done_us;	     /* when the last plan had its last answer */
	uint64_t fight_start_ms;
	unsigned int fight_count;
	/*
	 * The tables are as `want` says, as far as anybody has told: the last plan went through, and
	 * the monitor has heard of no other's write since.
	 */
	bool nat_known;
	struct nat_stales stales; /* of changes done the short way: flows to be forgotten soon */
	struct loop_timer *forget;
	struct reconcile_stats stats;
};

/* Run it, or have it undone; what it leaves stale is forgotten. */
int reconcile_execute(struct reconcile *r, struct plan *plan, struct err *err);
/* What is not undone when it fails: the network stands without it, and it is tried again. */
void reconcile_around(struct reconcile *r, struct conf *c, const struct netd_desired *want,
		      const struct sight *s);
/* `c` and what it wants are in force from now on. */
void reconcile_put_in_force(struct reconcile *r, struct conf *c, struct netd_desired *want);
/* Take in what the monitor has heard; what concerns us is looked at soon. */
void reconcile_hear(struct reconcile *r);
/* Forget the flows that quick changes made stale, now. */
void reconcile_forget(struct reconcile *r);

#endif
