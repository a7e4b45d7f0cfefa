/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a verb is about: finding pools and volumes by the names people type, and naming them. */
#ifndef BLOCKD_CTL_TARGET_H
#define BLOCKD_CTL_TARGET_H

#include <jansson.h>

#include "blockd/daemon.h"
#include "common/daemon/ctl.h"

struct target {
	struct blockd_pool *pool;
	char name[THIN_PATH_MAX + 1]; /* without the pool */
	struct thin_vol_stat stat;    /* zeroed when it does not exist */
	bool exists;
};

/* A pool by name; NULL: `name` may be left out while there is one pool.  -ENOENT, -EINVAL with a
 * sentence and the nearest known name. */
int target_find_pool(const struct blockd *daemon, const char *name, struct blockd_pool **ret_pool,
		     struct err *err);

/* A volume that exists.  -ENOENT, or -EINVAL when the bare name is in several pools. */
int target_find_volume(const struct blockd *daemon, const char *volume, struct target *ret_target,
		       struct err *err);

/* The same for VOLUME@SNAPSHOT. */
int target_find_snapshot(const struct blockd *daemon, const char *path, struct target *ret_target,
			 struct err *err);
/* For either. */
int target_find_any(const struct blockd *daemon, const char *path, struct target *ret_target,
		    struct err *err);

/* A volume that may not exist yet: `pool` (may be NULL) and the pool in `volume` must agree. */
int target_resolve(const struct blockd *daemon, const char *volume, const char *pool,
		   struct target *ret_target, struct err *err);

/* The configuration's section about it, NULL when it has none. */
const struct blockd_conf_volume *target_declared(const struct blockd *daemon,
						 const struct target *target);

/* The URIs of a volume, one a listener, unix sockets first.  NULL: no memory. */
json_t *target_uris(const struct blockd *daemon, const struct target *target);

#endif
