/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Giving freed space back to the host file system: free runs of 1 MiB and more in zones where
 * something was freed are punched out, one at a time and only while the pool is idle (a punch
 * stops all direct I/O to an ext4 file for its duration).  The run is withheld from the allocator
 * until the punch has completed.
 */
#ifndef THIN_PUNCH_H
#define THIN_PUNCH_H

#include <stdbool.h>

struct thin_pool;

#define PUNCH_IDLE_MS	 500u
#define PUNCH_MIN_BLOCKS 256u
#define PUNCH_MAX_BLOCKS 16384u /* 64 MiB */

void punch_run(struct thin_pool *pool, bool idle);
bool punch_wanted(const struct thin_pool *pool);

#endif
