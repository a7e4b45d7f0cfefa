/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What reconcile.c and quick.c share. */
#ifndef NETD_RECONCILE_PRIVATE_H
#define NETD_RECONCILE_PRIVATE_H

#include "netd/desired.h"
#include "netd/monitor.h"
#include "netd/queue.h"
#include "netd/reconcile.h"

#define RECONCILE_SOURCE_COUNT 3

struct reconcile {
	struct loop *loop;
	struct state *st;
	char *run_dir;
	struct nl *nl;
	struct queue queue;
	struct monitor *monitor;
	struct dnsmasq_set *servers;
	char *servers_program;
	int settings_fd;
	sd_event_source *sources[RECONCILE_SOURCE_COUNT];
	struct loop_timer *settle, *retry;
	struct vlan_caps vlan_caps;
	struct nat_caps nat_caps;
	uint64_t mac_salt;
	struct conf *conf;	  /* in force; NULL: down */
	struct netd_desired want; /* what it wants */
	uint64_t retry_ms;
	uint64_t event_ms, event_us; /* when the look that is due was asked for */
	uint64_t plan_done_us;	     /* when the last plan had its last answer */
	uint64_t fight_start_ms;
	unsigned int fight_count;
	/*
	 * As far as anybody has told, the kernel holds what `want` says: no operation has failed
	 * since the last one that went through, and no event is waiting for a look.
	 */
	bool in_sync;
	struct nat_stales stales; /* of changes done the short way: flows to be forgotten soon */
	struct loop_timer *forget;
	struct reconcile_stats stats;
};

/* Take in what the monitor has heard; what concerns us is looked at soon. */
void reconcile_hear(struct reconcile *r);
/* Forget the flows that quick changes made stale, now. */
void reconcile_forget(struct reconcile *r);

#endif
