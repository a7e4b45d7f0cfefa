/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The life of a configuration: read, checked, applied, on trial, confirmed, rolled back, changed by
 * vnetctl.  It ties the files, the state directory and the reconcile together; the control verbs
 * are thin shells around it.
 *
 *	        apply                apply --confirm
 *	files --------> confirmed    files ------------> on trial --confirm--> confirmed
 *	                                                    |
 *	                          time out, rollback, reboot `--> rejected; the confirmed one is
 *back
 *
 * The loop's thread.
 */
#ifndef NETD_MANAGE_H
#define NETD_MANAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/daemon/conf.h"
#include "common/daemon/loop.h"
#include "netd/reconcile.h"
#include "netd/state.h"

#define MANAGE_WINDOW_MIN_MS 5000
#define MANAGE_WINDOW_MAX_MS (24ull * 3600 * 1000)

struct manage;

/*
 * `path` is the config file; `st` and `r` are borrowed.  Brings vnetctl's own file up to date with
 * changes that a killed netd left in the journal, so read the files after this.
 */
int manage_new(struct loop *loop, const char *path, struct state *st, struct reconcile *r,
	       struct manage **ret, struct err *err)
	__attribute__((nonnull(1, 2, 3, 4, 5), warn_unused_result));
/* Bring the files of the state up to date, for whoever reads them while no netd runs. */
int manage_close(struct manage *m, struct err *err) __attribute__((nonnull(1), warn_unused_result));
void manage_free(struct manage *m);

/*
 * Read the files and vnetctl's own, with all checks that need no host.  Always a conf in *ret
 * (conf_error_count() says whether it is good), the caller frees it; or -ENOMEM.
 */
int manage_load(const char *path, const char *own_path, struct conf **ret)
	__attribute__((nonnull(1, 3), warn_unused_result));

/*
 * What a start does: run what state_choose() says.  `c` (from manage_load(), without errors) is
 * taken over.
 */
int manage_start(struct manage *m, struct conf *c, struct err *err)
	__attribute__((nonnull(1, 2), warn_unused_result));

/*
 * The verbs.  When the configuration itself is at fault they return -EINVAL and hand its conf, with
 * all errors, to *ret_bad (the caller frees); in every other failure *ret_bad stays NULL.
 */
int manage_diff(struct manage *m, void (*line)(void *ctx, const char *text), void *ctx,
		size_t *ret_count, struct conf **ret_bad, struct err *err)
	__attribute__((nonnull(1, 4, 5), warn_unused_result));
/* window_ms 0: confirmed at once. */
int manage_apply(struct manage *m, const char *who, uint64_t window_ms, size_t *ret_count,
		 struct conf **ret_bad, struct err *err)
	__attribute__((nonnull(1, 2, 4, 5), warn_unused_result));
int manage_confirm(struct manage *m, struct err *err)
	__attribute__((nonnull(1), warn_unused_result));
int manage_rollback(struct manage *m, const char *who, struct err *err)
	__attribute__((nonnull(1, 2), warn_unused_result));
int manage_down(struct manage *m, size_t *ret_count, struct err *err)
	__attribute__((nonnull(1), warn_unused_result));

enum manage_action { MANAGE_ADD, MANAGE_SET, MANAGE_RM };

struct manage_setting {
	const char *key;
	const char *value; /* as on a command line, lists with commas; "" takes the key away */
};

/* Add, change or remove one object of vnetctl's own file, apply and keep it. */
int manage_change(struct manage *m, const char *who, enum manage_action action, const char *kind,
		  const char *name, const struct manage_setting *settings, size_t count,
		  struct conf **ret_bad, struct err *err)
	__attribute__((nonnull(1, 2, 4, 5, 8), warn_unused_result));

#endif
