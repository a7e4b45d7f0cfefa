/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A pool on a simulated disk, its clients, and the oracle that watches them: one workload.
 *
 *	clients --requests--> pool --> simulated disk --events--> states.c: what if it ended here?
 *	   |                                 reply ----events--------^
 *	   `---> oracle: what must be there
 *
 * Everything follows from the spec: the same spec is the same run, event for event.
 */
#ifndef TESTS_CRASH_WORLD_H
#define TESTS_CRASH_WORLD_H

#include "tests/crash/oracle.h"
#include "tests/lib/dev_sim.h"
#include "thin/thin.h"

/* the log's pages, and a stage of so few blocks that it is full now and then */
#define WORLD_STAGE_BYTES  (13u * 4096u)
#define WORLD_SHADOW_BYTES (THIN_SHADOW_BYTES + WORLD_STAGE_BYTES)
#define WORLD_CLIENTS	8
#define WORLD_SCRIPT	4
#define WORLD_BUF_BYTES (16u * 4096u)
#define WORLD_HISTORY	1024
#define WORLD_GROUP	3 /* snapshots taken at once */

enum world_kind {
	WORLD_SCRIPTED, /* pairs and triples: every cut of it is tried */
	WORLD_RANDOM,	/* long, several lives, a sample of the cuts */
	WORLD_FULL,	/* as RANDOM, on a pool that is too small */
	WORLD_FAULT,	/* as RANDOM, with failing I/O */
	WORLD_SPLICE,	/* one wide volume, changed while a snapshot of it is given back */
	WORLD_DAMAGE,	/* every block of a pool at rest is damaged, one at a time */
};

struct op_type;

struct spec {
	enum world_kind kind;
	const struct op_type *script[WORLD_SCRIPT];
	unsigned script_len;
	uint64_t seed;
};

struct client {
	struct world *world;
	struct thin_req req;
	const struct op_type *type; /* NULL: idle */
	int vol;
	uint32_t op;
	uint64_t seq;		 /* the oracle's at submission */
	bool after_failed_flush; /* submitted when a flush of the device had failed */
	uint64_t since;
	bool exclusive;
	char name[2 * ORACLE_NAME], new_name[ORACLE_NAME];
	int snap[WORLD_GROUP]; /* that are taken, or the one that is cloned or gone back to */
	char path[WORLD_GROUP][2 * ORACLE_NAME];
	const char *paths[WORLD_GROUP];
	struct thin_extent extents[8];
	struct thin_lock lock;
	uint8_t *buf;
};

struct cell_lock {
	uint8_t readers, writers;
	bool exclusive;
};

struct world {
	const struct spec *spec;
	struct rng rng;
	struct dev_sim *sim;
	struct thin_dev *dev;
	struct thin_pool *pool;
	struct thin_open open;
	struct thin_vol *handles[ORACLE_VOLS];
	bool vol_ctl[ORACLE_VOLS]; /* a control operation is under way on it */
	struct cell_lock locks[ORACLE_VOLS][ORACLE_CELLS];
	unsigned data_ops[ORACLE_VOLS];
	struct oracle oracle;
	struct client clients[WORLD_CLIENTS];
	unsigned client_count, busy_count;
	uint64_t turns;
	uint32_t next_op;
	unsigned replies, grows;
	unsigned hot_cell;
	bool quiet;    /* nobody flushes: log pages fill, operations span them */
	bool burst;    /* several log pages at once */
	bool may_fill; /* ENOSPC is an answer */
	bool may_fail; /* EIO and EROFS are answers: faults are injected */
	bool pool_ctl; /* a grow of the pool is under way */
	uint64_t open_seed, empty_metadata;
	struct states *states;	  /* NULL: no cuts now */
	int super_cut_in;	  /* FUA writes until the one that a cut tears; -1: never */
	struct dev_sim *cut;	  /* the disk after that cut: this life is over, ... */
	struct oracle cut_oracle; /* ... and what had been promised by then */
	void *shadow;
	char history[WORLD_HISTORY][96];
	unsigned history_len;
};

/* Counted over all workloads. */
struct world_totals {
	uint64_t workloads, replies, events, states, kills, nested, compared, enospc, checkpoints,
		lives, faults, damaged, refused;
};
extern struct world_totals *world_totals; /* shared by all processes of a run */

/* Ends the workload; does not return. */
void world_fail(struct world *w, const char *fmt, ...)
	__attribute__((noreturn, format(printf, 2, 3)));
void world_note(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

void world_open_handle(struct world *w, int vol);
/* For the kinds of workloads. */
bool world_start(struct world *w, const struct op_type *type); /* false: not now */
void world_must(struct world *w, const char *name); /* start it if at all possible, and wait */
void world_turn(struct world *w);
void world_drain(struct world *w); /* until all are answered */
void world_watch(struct world *w, unsigned percent, unsigned nested);
void world_unwatch(struct world *w);
void world_next_life(struct world *w); /* the power goes, or the process dies */
/* splice.c: the operations of WORLD_SPLICE. */
void splice_run(struct world *w);
/* Run a workload to its end; a failure leaves through world_fail(). */
void world_run(struct world *w, const struct spec *spec);
void world_free(struct world *w);

/* The clock of all pools.  A trial puts it back, so that the world's own time does not depend on
 * how many states were tried. */
extern uint64_t world_clock_ms;

/* A pool on `sim` for a look: open it, run until idle, read everything. */
struct thin_open world_open_params(struct world *w, void *shadow);
/* Submit and wait.  The result, or -ETIME when it never comes. */
int world_sync(struct thin_pool *pool, struct dev_sim *sim, struct thin_req *req);
/* Run until idle; false: never. */
bool world_settle(struct thin_pool *pool, struct dev_sim *sim);
/* All of a lock's fields follow from its epoch. */
void world_make_lock(uint64_t epoch, struct thin_lock *ret_lock);
/* Read all volumes; `pages`, if not NULL, gets a page per volume and cell.  0 or -errno. */
int world_dump(struct thin_pool *pool, struct dev_sim *sim, struct dump *ret_dump,
	       struct sim_page *pages[ORACLE_VOLS][ORACLE_CELLS], char *text, unsigned text_len);
/* Everything is either in use or free, and verifies. */
bool world_account(struct thin_pool *pool, struct dev_sim *sim, const struct dump *d, char *text,
		   unsigned text_len);
/* `crashed`: as a crash left it, before recovery. */
bool world_verify(const struct sim_image *image, uint64_t size_bytes, bool crashed, char *text,
		  unsigned text_len);

#endif
