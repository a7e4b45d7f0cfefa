/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How fast deleted things are given back beside clients.
 *
 * Reclaim, splices and counts are walks that could take all of the reactor and fill checkpoint
 * after checkpoint.  While clients are served they get an allowance that grows with time: a step
 * costs PACE_STEP_COST and one for each block that it frees.  Half a GiB a second is given back so,
 * for a tenth of the processor and a handful of checkpoints.  Without clients, and while somebody
 * waits for space, there is no limit but that of one turn.
 */
#ifndef THIN_PACE_H
#define THIN_PACE_H

#include <stdbool.h>
#include <stdint.h>

struct thin_pool;

#define PACE_STEP_COST 32 /* blocks' worth of looking at a node */

struct pace {
	uint64_t filled_ms;
	int64_t left;	   /* blocks */
	bool free;	   /* no limit now */
	uint64_t short_ms; /* somebody last found no space then; 0: never */
};

void pace_turn(struct thin_pool *pool); /* time has gone on */
bool pace_allows(const struct thin_pool *pool);
void pace_spend(struct thin_pool *pool, int64_t blocks);
/* Somebody has to wait for space. */
void pace_short(struct thin_pool *pool);
/* When it allows something again; UINT64_MAX: it does now. */
uint64_t pace_deadline_ms(const struct thin_pool *pool);

#endif
