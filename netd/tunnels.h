/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tunnels of the configuration in force, each with its netd-wg.
 *
 *	prepare   keys are read, devices and ports taken: what can fail for good reasons does so
 *		  before anything else of an apply is done; tunnels_abort() takes it back
 *	apply	  keys and peers by differences, addresses, routes, MTU; tunnels that went stop
 *	between	  a netd-wg that dies is started again at once with what it knew; names are asked
 *		  for again when a peer is not heard; a rotated key's old half is let go
 *
 * A netd-wg outlives netd: the next one finds it by its socket in RUN/wg, also one that is not
 * wanted any more.  While no peer has a name and no key is rotated, nothing wakes.
 *
 * The loop's thread.
 */
#ifndef NETD_TUNNELS_H
#define NETD_TUNNELS_H

#include <sys/types.h>

#include "common/daemon/loop.h"
#include "netd/nl.h"
#include "netd/tunnel_view.h"

struct tunnels;

/* `run_dir` is that of the control socket; `nl` is borrowed. */
int tunnels_new(struct loop *loop, struct nl *nl, const char *run_dir, struct tunnels **ret)
	__attribute__((nonnull, warn_unused_result));
/* All go on. */
void tunnels_free(struct tunnels *t);

/* -EADDRINUSE, -EPERM and so on with a sentence: nothing has changed then. */
int tunnels_prepare(struct tunnels *t, const struct tunnel_want *want, size_t count,
		    struct err *err) __attribute__((nonnull(1), warn_unused_result));
void tunnels_abort(struct tunnels *t) __attribute__((nonnull));
/* Goes on after a failure and returns the first one; what is missing is tried again. */
int tunnels_apply(struct tunnels *t, const struct tunnel_want *want, size_t count, struct err *err)
	__attribute__((nonnull(1), warn_unused_result));
/* What was applied lives there from now on: `want` is borrowed until the next call. */
void tunnels_rebase(struct tunnels *t, const struct tunnel_want *want, size_t count)
	__attribute__((nonnull(1)));
/* What an apply would do, one line each; returns how many. */
size_t tunnels_diff(struct tunnels *t, const struct tunnel_want *want, size_t count,
		    void (*line)(void *ctx, const char *text), void *ctx)
	__attribute__((nonnull(1)));

/* --- questions -------------------------------------------------------------------------------- */

struct tunnel_facts {
	pid_t pid; /* 0: netd-wg does not run at the moment */
	uint16_t mtu;
	uint64_t crash_count;
	uint64_t unresolved_count; /* questions for names that had no answer */
};

/* -ENOENT: there is none of that name.  The caller clears *ret_view. */
int tunnels_look(struct tunnels *t, const char *name, struct tunnel_facts *ret_facts,
		 struct tunnel_view *ret_view, struct err *err)
	__attribute__((nonnull(1, 2, 3, 4), warn_unused_result));
/* What is wanted of it, NULL: no such tunnel. */
const struct tunnel_want *tunnels_wanted(struct tunnels *t, const char *name)
	__attribute__((nonnull));
/* Why a peer's name has no address: "" when it has one, or needs none. */
const char *tunnels_why_unresolved(struct tunnels *t, const char *name,
				   const uint8_t peer[KEY_LEN]) __attribute__((nonnull));

/*
 * A new key for this host: written to the key file, then in use; sessions go on until they expire.
 * *ret_public is what the peers must be told.
 */
int tunnels_rotate(struct tunnels *t, const char *name, uint8_t ret_public[KEY_LEN],
		   struct err *err) __attribute__((nonnull(1, 2, 3), warn_unused_result));

#endif
