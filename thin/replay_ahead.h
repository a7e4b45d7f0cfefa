/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a replay is going to touch, fetched before.
 *
 * Records come in any order, and each needs the leaf over its block.  Loading those one after the
 * other would wait for the device once for each (64 GiB: 65,000 times, 6 seconds), so pass 1
 * collects which leaves they are, and before they are needed those that are not in memory are read
 * level by level, in the order of their places on disk, adjacent ones at once, many reads in
 * flight.  Checkpoints write the leaves of a volume side by side: most reads bring many of them.
 *
 *	want(volume, block) ... -> sorted leaves -> missing nodes of a level -> sorted places
 *	                                ^                                          |
 *	                                `---- next level <---- [reads in flight] <-'
 *
 * All of this is a hint.  What could not be read, did not fit the cache or was not foreseen (an
 * operation in the log gives a volume another tree) is loaded when it is needed.
 *
 * Blocking; nothing else uses the pool meanwhile.
 */
#ifndef THIN_REPLAY_AHEAD_H
#define THIN_REPLAY_AHEAD_H

#include "thin/map.h"

struct replay_ahead;
struct fmt_log_head;

/* -ENOMEM. */
int replay_ahead_new(struct thin_pool *pool, struct replay_ahead **ret_ra);
void replay_ahead_free(struct replay_ahead *ra); /* NULL is fine */
/* The leaf over block `v` of a volume will be needed; from time to time this loads what came. */
void replay_ahead_want(struct replay_ahead *ra, uint64_t volume_id, struct vblk v);
/* Load what is still wanted. */
void replay_ahead_load(struct replay_ahead *ra);
/* The entries that the records of a log page change into the processor's cache. */
void replay_ahead_touch(struct thin_pool *pool, const struct fmt_log_head *page);

#endif
