/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The operations of the crash tests, as a table: a name, a weight for random workloads, how to
 * start one and what its answer means for the oracle.  A new operation of the engine is a new
 * row; pairs and triples are formed of all rows that are `scripted`.
 */
#ifndef TESTS_CRASH_OPS_H
#define TESTS_CRASH_OPS_H

#include "tests/crash/world.h"

struct op_type {
	const char *name;
	unsigned weight;
	bool scripted; /* takes part in pairs and triples */
	bool may_fill; /* -ENOSPC is an answer on a full pool */
	bool commits;  /* makes the log durable; left out of quiet lives */
	bool (*start)(struct world *w, struct client *c); /* fills c->req; false: not now */
	void (*finish)(struct world *w, struct client *c, int res);
};

extern const struct op_type op_types[];
extern const unsigned op_type_count;

const struct op_type *op_find(const char *name);
const struct op_type *op_random(struct rng *rng, bool quiet);

#endif
