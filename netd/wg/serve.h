/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The process netd-wg behind its start: one loop over device, sockets, wg(8)'s connections and
 * netd's, until netd says stop or the control socket is gone for good.
 */
#ifndef NETD_WG_SERVE_H
#define NETD_WG_SERVE_H

#include "common/base/err.h"
#include "netd/wg/link.h"

struct serve;

/*
 * Wait for START on `link` (owned), build everything, give up all privileges.  Returns 0 or
 * -errno, which the host also gets as a REPLY.
 */
int serve_new(struct wg_link *link, struct serve **ret, struct err *err)
	__attribute__((warn_unused_result, nonnull(1, 2)));
int serve_run(struct serve *s) __attribute__((nonnull)); /* exit status */
void serve_free(struct serve *s);

#endif
