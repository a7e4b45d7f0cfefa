/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of the crash tests' operations share: ops.c has the table, targets, locks, data
 * and order; ops_volumes.c and ops_snapshots.c the rest.  Starting and finishing: ops.h. */
#ifndef TESTS_CRASH_OPS_PRIV_H
#define TESTS_CRASH_OPS_PRIV_H

#include "tests/crash/ops.h"

#define BLK 4096u

/* ---- ops.c ---- */

int op_pick_vol(struct world *w);

/* ---- ops_volumes.c ---- */

bool op_new_volume(struct world *w, struct client *c);
bool op_start_create(struct world *w, struct client *c);
bool op_start_wide(struct world *w, struct client *c);
void op_finish_create(struct world *w, struct client *c, int res);
bool op_start_delete_of(struct world *w, struct client *c);
bool op_start_delete(struct world *w, struct client *c);
void op_finish_delete(struct world *w, struct client *c, int res);
bool op_start_rename(struct world *w, struct client *c);
void op_finish_rename(struct world *w, struct client *c, int res);
bool op_start_grow(struct world *w, struct client *c);
bool op_start_shrink(struct world *w, struct client *c);
void op_finish_resize(struct world *w, struct client *c, int res);
bool op_start_lock(struct world *w, struct client *c);
void op_finish_lock(struct world *w, struct client *c, int res);
bool op_start_pool_grow(struct world *w, struct client *c);
void op_finish_pool_grow(struct world *w, struct client *c, int res);

/* ---- ops_snapshots.c ---- */

bool op_start_snapshot(struct world *w, struct client *c);
bool op_start_group(struct world *w, struct client *c);
void op_finish_snapshots(struct world *w, struct client *c, int res);
bool op_start_snapshot_delete(struct world *w, struct client *c);
bool op_start_clone(struct world *w, struct client *c);
void op_finish_clone(struct world *w, struct client *c, int res);
bool op_start_rollback(struct world *w, struct client *c);
void op_finish_rollback(struct world *w, struct client *c, int res);

#endif
