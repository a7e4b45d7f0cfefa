/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the pool must hold: a plain array per volume.
 *
 * A volume may be large; the tests touch only a few windows of it, whose blocks are numbered
 * through ("cells").  Each cell has a list of versions:
 *
 *	state		crash (power)			death of the process
 *	answered	allowed from the newest		the newest is allowed
 *			flushed one on
 *	under way,	allowed unless a later one	allowed unless a later one
 *	failed		is flushed			is answered
 *
 * Volumes: existence, name and size are exact once an operation has been answered, either value
 * while it is under way.
 *
 * A snapshot is a volume that nobody writes.  While it is being taken its cells follow those of its
 * volume; when that is answered, each has what was answered before it was asked for, or what was
 * under way then: one of them, always the same (a live read settles which), whatever happens later.
 */
#ifndef TESTS_CRASH_ORACLE_H
#define TESTS_CRASH_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/lib/sim_image.h"

#define ORACLE_VOLS  12 /* volumes and snapshots */
#define ORACLE_CELLS 48
#define ORACLE_NAME  16

/* The block of a cell, and the cells that lie in [first, first + count) blocks. */
uint64_t oracle_cell_block(unsigned cell);

enum ver_state { VER_BUSY, VER_DONE, VER_FAILED };

struct ver {
	struct sim_page *page;
	uint64_t seq; /* of the answer; of BUSY: none */
	uint32_t op;
	enum ver_state state;
};

struct cell {
	struct ver *vers;
	unsigned count, capacity;
};

enum vol_state { VOL_NONE, VOL_CREATING, VOL_LIVE, VOL_DELETING };

struct oracle_vol {
	enum vol_state state;
	char name[ORACLE_NAME], new_name[ORACLE_NAME]; /* new: rename under way */
	uint64_t blocks, new_blocks;		       /* new: resize under way */
	bool renaming, resizing;
	int of;				/* a snapshot's volume; else -1 */
	unsigned group;			/* of snapshots that are being taken at once */
	int rolling;			/* a rollback to this snapshot is under way; else -1 */
	uint64_t lock_epoch, new_epoch; /* new: a lock's change is under way */
	bool locking;
	bool promised; /* made with reserve_full: its writes never meet ENOSPC */
	struct cell cells[ORACLE_CELLS];
};

struct oracle {
	struct oracle_vol vols[ORACLE_VOLS];
	uint64_t seq;
	uint64_t pool_blocks, new_pool_blocks; /* new: grow under way, else 0 */
};

void oracle_init(struct oracle *o, uint64_t pool_blocks);
void oracle_copy(struct oracle *o, const struct oracle *from);
void oracle_free(struct oracle *o);

void oracle_vol_begin_create(struct oracle *o, int vol, const char *name, uint64_t blocks);
void oracle_vol_gone(struct oracle *o, int vol);
/* Where there is none: as a free place. */
int oracle_free_place(const struct oracle *o);
/* "volume" or "volume@snapshot"; `after`: behind the rename that is under way. */
void oracle_path(const struct oracle *o, int vol, bool after, char path[2 * ORACLE_NAME]);
void oracle_begin_snapshot(struct oracle *o, int snap, int vol, const char *name, unsigned group);
/* It was asked for when o->seq was `seq`. */
void oracle_end_snapshot(struct oracle *o, int snap, uint64_t seq);
void oracle_begin_clone(struct oracle *o, int vol, int snap, const char *name);
void oracle_rolled_back(struct oracle *o, int vol);
void oracle_vol_resized(struct oracle *o, int vol, bool ok);
void oracle_vol_renamed(struct oracle *o, int vol, bool ok);

enum oracle_change { CHANGE_WRITE, CHANGE_ZERO, CHANGE_TRIM };

/* A change of bytes is submitted (`data` for WRITE) or has been answered. */
void oracle_begin(struct oracle *o, int vol, uint32_t op, enum oracle_change how, uint64_t offset,
		  uint64_t len, const uint8_t *data);
void oracle_end(struct oracle *o, int vol, uint32_t op, bool ok, bool fua);
/* A flush that was submitted when o->seq was `seq` has succeeded. */
void oracle_flushed(struct oracle *o, uint64_t seq);

/* No answered content is certain: a failed change is newer. */
bool oracle_cell_unsure(const struct cell *c);
bool oracle_cell_busy(const struct cell *c);

/* What recovery found.  `mapped` is DUMP_UNSETTLED while reclaim may still be at work. */
#define DUMP_UNSETTLED UINT64_MAX
struct dump_vol {
	char name[ORACLE_NAME], path[2 * ORACLE_NAME];
	int of; /* place of a snapshot's volume; else -1 */
	uint64_t blocks, mapped, promised, lock_epoch;
	bool lock_torn;		     /* its parts are not of one change */
	uint64_t hash[ORACLE_CELLS]; /* 0: zeroes; cells beyond the size: 0 */
};

struct dump {
	unsigned count;
	uint64_t pool_blocks;
	struct dump_vol vols[ORACLE_VOLS];
};

/* A hash of a block as sim_page_new() makes it. */
uint64_t oracle_block_hash(const void *data);

enum oracle_rule {
	RULE_POWER, /* what was flushed */
	RULE_KILL,  /* what was answered */
};

/* Returns true when `d` is allowed; else a sentence in `text`. */
bool oracle_check(const struct oracle *o, const struct dump *d, enum oracle_rule rule, char *text,
		  unsigned text_len);
/* One cell of a live read; true when allowed.  An unsure cell becomes sure. */
bool oracle_check_cell(struct oracle *o, int vol, unsigned cell, const void *data, char *text,
		       unsigned text_len);

/* Start anew from what recovery found; `page` of each cell is passed by fetch(). */
void oracle_adopt(struct oracle *o, const struct dump *d,
		  struct sim_page *(*fetch)(void *user, unsigned vol, unsigned cell), void *user);

#endif
