/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The shadow area of a pool: a small file in the runtime directory, mapped shared, so that what
 * the engine keeps there outlives the process but never the power (see thin_open.shadow).
 */
#ifndef BLOCKD_SHADOW_H
#define BLOCKD_SHADOW_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"

struct shadow;

/*
 * Map the area of the pool at `pool_path` (which must exist), in `runtime`, which is made if only
 * itself is missing.  What it held is kept when it was written during this boot, and zeroed
 * otherwise.  Blocking.
 */
int shadow_open(const char *runtime, const char *pool_path, struct shadow **ret_shadow,
		struct err *err) __attribute__((warn_unused_result));

/* THIN_SHADOW_BYTES, 4096-aligned, until the shadow is closed. */
void *shadow_area(const struct shadow *shadow);

/* What follows it for data (thin_open.stage); NULL where it would not pay. */
void *shadow_stage(const struct shadow *shadow, uint64_t *ret_bytes);

/* `remove`: the pool was closed cleanly and needs none any more.  NULL is fine. */
void shadow_close(struct shadow *shadow, bool remove);

#endif
