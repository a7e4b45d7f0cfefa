/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Desired against observed: the one piece that makes the kernel what a configuration says.
 *
 *	conf --desired--> links, sets, servers --.
 *	                                         |--> plan --run--> kernel
 *	kernel --observe--> links, sets ---------'     |
 *	                                               `-- fails: undone, the old conf stays in
 *force
 *
 * diff, apply, a start after a crash and the repair of drift are the same code: observe, plan, and
 * then print, run or count.  A plan is run all or not at all.  Between applies a monitor listens
 * for what others change; it wakes us, we plan, and repair what is not empty.  No timer runs while
 * all is well.
 *
 * The loop's thread; apply and diff block until the kernel has answered.
 */
#ifndef NETD_RECONCILE_H
#define NETD_RECONCILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/err.h"
#include "common/daemon/loop.h"
#include "netd/conf.h"
#include "netd/state.h"
#include "nat/nat.h"
#include "vlan/vlan.h"

struct reconcile;
struct tunnels;

struct reconcile_stats {
	uint64_t apply_count, apply_failed_count;
	uint64_t quick_count;	    /* of the applies: one object, done the short way */
	uint64_t undo_failed_count; /* operations that could not be taken back */
	uint64_t drift_check_count; /* wakeups that looked */
	uint64_t drift_count;	    /* of those, how many found something */
	uint64_t repaired_count;    /* operations that put it right */
	uint64_t repair_failed_count;
	uint64_t flow_deleted_count; /* conntrack entries forgotten after changes of forwards */
	uint64_t resync_count;	     /* notifications lost */
	int64_t last_drift_wall_s;
	uint64_t last_repair_us; /* from the wakeup to the last answer */
	char last_drift[256];	 /* its first operation */
	char last_error[ERR_TEXT_MAX]; /* "": what went wrong is mended */
};

/* How strict an apply is. */
enum reconcile_mode {
	RECONCILE_STRICT,  /* a missing interface is an error; a failure leaves the old conf */
	RECONCILE_START,   /* a missing interface is waited for; else as STRICT */
	RECONCILE_RESTORE, /* the conf is in force whatever happens, and tried again on failure */
};

/*
 * Opens the kernel and probes what it can do.  `run_dir` is for the servers' files; `st` is
 * borrowed.  Nothing is changed until the first apply.
 */
int reconcile_new(struct loop *loop, const char *run_dir, struct state *st, struct reconcile **ret,
		  struct err *err) __attribute__((nonnull(1, 2, 3, 4), warn_unused_result));
/* Leaves the kernel and the servers as they are. */
void reconcile_free(struct reconcile *r);

/*
 * What an apply of `c` would do, one line each through `line` (may be NULL); the number in
 * *ret_count.  Errors of the conf against this host are added to `c` and -EINVAL returned.
 */
int reconcile_diff(struct reconcile *r, struct conf *c, void (*line)(void *ctx, const char *text),
		   void *ctx, size_t *ret_count, struct err *err)
	__attribute__((nonnull(1, 2, 5), warn_unused_result));

/* How many operations would bring the kernel back to the conf in force: 0 is in sync. */
int reconcile_count_drift(struct reconcile *r, size_t *ret_count, struct err *err)
	__attribute__((nonnull(1, 2), warn_unused_result));

/*
 * Make it so.  On success `c` is in force and belongs to the reconcile; on failure (but in mode
 * RESTORE) it stays the caller's, the kernel is as it was and the old conf in force.  *ret_count
 * operations were run.  Servers that do not start are no failure: they are logged and tried again;
 * a tunnel whose port is in use or whose key file is not good is one in mode STRICT only.
 */
int reconcile_apply(struct reconcile *r, struct conf *c, enum reconcile_mode mode,
		    size_t *ret_count, struct err *err)
	__attribute__((nonnull(1, 2), warn_unused_result));

/* Take away everything of ours; no conf is in force and drift is not watched until the next
 * apply. */
int reconcile_down(struct reconcile *r, size_t *ret_count, struct err *err)
	__attribute__((nonnull(1), warn_unused_result));

/*
 * The short way for one forward of the conf in force: `old` (NULL: none) becomes `new` (NULL:
 * none), and the conf in force is to be changed by the caller likewise.  Costs one small
 * transaction; flows of the old one are forgotten some milliseconds later.  -EAGAIN: nothing was
 * done, change the conf and apply it; the kernel may have drifted, or the forward is not fine, or
 * there is no change.
 */
int reconcile_change_forward(struct reconcile *r, const struct nat_forward *old,
			     const struct nat_forward *new)
	__attribute__((nonnull(1), warn_unused_result));

/*
 * The short way for anything but forwards: the conf in force has been changed in place and checked.
 * Only links are looked at.  -EAGAIN: nothing was done, take the change back, then as above.
 */
int reconcile_change_rest(struct reconcile *r) __attribute__((nonnull, warn_unused_result));

/* The conf in force, NULL before the first apply and after down.  Borrowed. */
struct conf *reconcile_conf(struct reconcile *r) __attribute__((nonnull));

/* The links there are now; the caller clears *ret. */
int reconcile_links(struct reconcile *r, struct vlan_state *ret, struct err *err)
	__attribute__((nonnull(1, 2), warn_unused_result));
/* The tables there are now as nft text. */
int reconcile_print_nft(struct reconcile *r, FILE *f, struct err *err)
	__attribute__((nonnull(1, 2), warn_unused_result));

struct tunnels *reconcile_tunnels(const struct reconcile *r) __attribute__((nonnull));
const struct vlan_caps *reconcile_vlan_caps(const struct reconcile *r) __attribute__((nonnull));
const struct nat_caps *reconcile_nat_caps(const struct reconcile *r) __attribute__((nonnull));
const struct reconcile_stats *reconcile_stats(const struct reconcile *r) __attribute__((nonnull));
uint64_t reconcile_server_restarts(const struct reconcile *r) __attribute__((nonnull));

#endif
