// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A workload of its own for what chance alone hardly meets: changes of a volume while a snapshot
 * under it is being given back leaf by leaf.
 *
 *	a wide volume, all its leaves written -> snapshot -> much of it written anew -> (once more)
 *	-> a snapshot is deleted -> while its splice goes through the leaves, watched: writes,
 *ranges trimmed and cut off over the cursor, snapshots that take the child's place, rollbacks,
 *	   clones, further deletions -> rest, or the end of this life
 *
 * As each leaf takes some turns in a pool for tests, a few operations with a few turns in between
 * meet the cursor anywhere.
 */
#include "tests/crash/ops.h"

#define ROUNDS	   3u
#define OPS_MAX	   7u
#define TURNS_MAX  16u
#define REST_TURNS 120u

struct choice {
	const char *op;
	unsigned weight;
};

static const char *choose(struct rng *rng, const struct choice *choices)
{
	unsigned total = 0, at;

	for (const struct choice *c = choices; c->op; c++)
		total += c->weight;
	at = (unsigned)rng_below(rng, total);
	for (; at >= choices->weight; choices++)
		at -= choices->weight;
	return choices->op;
}

static void write_widely(struct world *w, unsigned count)
{
	while (count--)
		world_must(w, "fill");
}

static void turns(struct world *w, uint64_t count)
{
	while (count--)
		world_turn(w);
}

/* What happens to the volume while the walk goes on. */
static void disturb(struct world *w)
{
	static const struct choice choices[] = {
		{ "fill", 30 },	    { "trim", 24 },	  { "shrink", 10 },  { "grow", 6 },
		{ "snapshot", 16 }, { "snap-delete", 8 }, { "rollback", 6 }, { "clone", 4 },
		{ "flush", 6 },	    { "checkpoint", 8 },  { "partial", 4 },  { "zero", 4 },
		{ "delete", 2 },    { "read", 4 },	  { NULL, 0 },
	};
	uint64_t count = 1 + rng_below(&w->rng, OPS_MAX);

	while (count--) {
		world_start(w, op_find(choose(&w->rng, choices)));
		turns(w, rng_below(&w->rng, TURNS_MAX));
	}
}

static void round_of(struct world *w)
{
	world_must(w, "wide");
	write_widely(w, 4 + (unsigned)rng_below(&w->rng, 8));
	world_must(w, "snapshot");
	write_widely(w, 2 + (unsigned)rng_below(&w->rng, 6));
	if (rng_percent(&w->rng, 50)) {
		world_must(w, "snapshot");
		write_widely(w, 1 + (unsigned)rng_below(&w->rng, 4));
	}
	if (rng_percent(&w->rng, 60))
		world_must(w, "checkpoint");
	world_start(w, op_find("snap-delete"));
	turns(w, rng_below(&w->rng, 4 * TURNS_MAX));
}

void splice_run(struct world *w)
{
	for (unsigned i = 0; i < ROUNDS; i++) {
		round_of(w);
		world_watch(w, 2, 10);
		disturb(w);
		turns(w, rng_below(&w->rng, REST_TURNS));
		if (rng_percent(&w->rng, 60))
			world_next_life(w);
		else
			world_drain(w);
		world_unwatch(w);
	}
}
