/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What netd says of its tunnels: to vnetctl as JSON, to a scrape as metrics.  Never a secret. */
#ifndef NETD_CTL_TUNNELS_H
#define NETD_CTL_TUNNELS_H

#include <jansson.h>

#include "common/base/err.h"
#include "common/daemon/metrics.h"
#include "netd/conf.h"
#include "netd/tunnels.h"

/*
 * An array of tunnels with their peers: all, or the one called `name`.  NULL with an error when
 * there is none of that name.
 */
json_t *tunnels_json(struct tunnels *t, struct conf *c, const char *name, struct err *err)
	__attribute__((nonnull(1)));
void tunnels_collect(struct tunnels *t, struct conf *c, struct metrics_writer *w)
	__attribute__((nonnull(1, 3)));

#endif
