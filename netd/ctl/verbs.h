/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control verbs of netd, as vnetctl sends them (common/daemon/ctl.h has the protocol).
 *
 *	diff                              -> {"operations": ["+ bridge guests", ...]}
 *	apply {"confirm_ms": n}           -> {"count": n, "pending": bool}
 *	confirm, rollback, down           -> {} or {"count": n}
 *	status, drift, capabilities       -> objects, see vnetctl(1)
 *	ls {"kind": "port"}               -> {"rows": [...]}
 *	change {"action": "add", "kind": "port", "name": "vm1", "keys": {"vlan": "10"}} -> {}
 *	nft, metrics                      -> {"text": "..."}
 *	doctor                            -> {"findings": [...]}
 *
 * A configuration at fault is answered with {"errors": ["FILE:LINE: ...", ...]}.
 */
#ifndef NETD_CTL_VERBS_H
#define NETD_CTL_VERBS_H

#include "common/daemon/ctl.h"
#include "common/daemon/metrics.h"
#include "netd/manage.h"
#include "netd/reconcile.h"
#include "netd/state.h"

struct verbs {
	struct manage *manage;
	struct reconcile *reconcile;
	struct state *state;
	struct metrics *metrics;
	const char *path;    /* config file, for status */
	const char *run_dir; /* of the servers' files, for doctor */
};

/* The table for ctl_server_new(), with a struct verbs as its context. */
extern const struct ctl_verb verbs_table[];

/* A collector for metrics_add(), with a struct verbs as its context. */
void verbs_collect(struct metrics_writer *w, void *ctx);

#endif
