// SPDX-License-Identifier: GPL-2.0-or-later
/* Operations on volumes and the pool, see ops.h: make, delete, rename, resize, lock, grow. */
#include "tests/crash/ops_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static bool pick_name(struct world *w, char *ret_name)
{
	static const char *const names[] = { "a", "b", "c", "db-1", "e.img", "\xc3\xa9t\xc3\xa9" };
	const char *name = names[rng_below(&w->rng, 6)];

	for (int v = 0; v < ORACLE_VOLS; v++) {
		const struct oracle_vol *o = &w->oracle.vols[v];

		if (o->state != VOL_NONE &&
		    (!strcmp(o->name, name) || (o->renaming && !strcmp(o->new_name, name))))
			return false;
	}
	snprintf(ret_name, ORACLE_NAME, "%s", name);
	return true;
}

static uint64_t pick_size(struct world *w)
{
	static const uint64_t sizes[] = { 1, 12, 254, 256, 600, 65536, 65540, 1u << 20 };

	return sizes[rng_below(&w->rng, sizeof(sizes) / sizeof(sizes[0]))];
}

/* A place and a name for one more; not too many. */
bool op_new_volume(struct world *w, struct client *c)
{
	unsigned volumes = 0;

	for (int v = 0; v < ORACLE_VOLS; v++)
		volumes += w->oracle.vols[v].state != VOL_NONE && w->oracle.vols[v].of < 0;
	c->vol = oracle_free_place(&w->oracle);
	return volumes < 5 && c->vol >= 0 && pick_name(w, c->name);
}

static bool start_create_of(struct world *w, struct client *c, uint64_t blocks)
{
	if (!op_new_volume(w, c))
		return false;
	c->req.op = THIN_VOL_CREATE;
	c->req.name = c->name;
	c->req.size_bytes = blocks * BLK;
	c->req.time_s = 1;
	c->req.reserve_full = blocks <= 12 && rng_percent(&w->rng, 40);
	oracle_vol_begin_create(&w->oracle, c->vol, c->name, blocks);
	w->oracle.vols[c->vol].promised = c->req.reserve_full;
	w->vol_ctl[c->vol] = true;
	world_note(w, "create %s of %llu blocks%s", c->name, (unsigned long long)blocks,
		   c->req.reserve_full ? ", promised" : "");
	return true;
}

bool op_start_create(struct world *w, struct client *c)
{
	return start_create_of(w, c, pick_size(w));
}

/* One with many leaves. */
bool op_start_wide(struct world *w, struct client *c)
{
	return start_create_of(w, c, rng_percent(&w->rng, 70) ? 1u << 20 : 65540);
}

void op_finish_create(struct world *w, struct client *c, int res)
{
	w->vol_ctl[c->vol] = false;
	if (res == 0) {
		w->oracle.vols[c->vol].state = VOL_LIVE;
		world_open_handle(w, c->vol);
	} else if (!w->may_fail) {
		oracle_vol_gone(&w->oracle, c->vol);
	}
}

/* It and its snapshots are closed, or nothing is done. */
static bool close_for_delete(struct world *w, int vol, bool *ret_snapshots)
{
	const struct oracle *o = &w->oracle;

	*ret_snapshots = false;
	for (int v = 0; v < ORACLE_VOLS; v++) {
		if (o->vols[v].state == VOL_NONE || (v != vol && o->vols[v].of != vol))
			continue;
		if (w->data_ops[v] || w->vol_ctl[v] || o->vols[v].state != VOL_LIVE)
			return false;
		*ret_snapshots |= v != vol;
	}
	for (int v = 0; v < ORACLE_VOLS; v++)
		if (o->vols[v].state == VOL_LIVE && (v == vol || o->vols[v].of == vol)) {
			thin_vol_close(w->handles[v]);
			w->handles[v] = NULL;
			w->vol_ctl[v] = true;
			w->oracle.vols[v].state = VOL_DELETING;
		}
	return true;
}

bool op_start_delete_of(struct world *w, struct client *c)
{
	bool snapshots;

	if (!close_for_delete(w, c->vol, &snapshots))
		return false;
	oracle_path(&w->oracle, c->vol, false, c->name);
	c->req.op = THIN_VOL_DELETE;
	c->req.name = c->name;
	c->req.snapshots = snapshots;
	world_note(w, "delete %s%s", c->name, snapshots ? " and its snapshots" : "");
	return true;
}

bool op_start_delete(struct world *w, struct client *c)
{
	c->vol = op_pick_vol(w);
	return c->vol >= 0 && op_start_delete_of(w, c);
}

void op_finish_delete(struct world *w, struct client *c, int res)
{
	for (int v = 0; v < ORACLE_VOLS; v++) {
		struct oracle_vol *o = &w->oracle.vols[v];

		if (o->state != VOL_DELETING || (v != c->vol && o->of != c->vol))
			continue;
		if (res == 0) {
			w->vol_ctl[v] = false;
			oracle_vol_gone(&w->oracle, v);
		} else if (!w->may_fail) {
			w->vol_ctl[v] = false;
			o->state = VOL_LIVE;
			world_open_handle(w, v);
		}
	}
}

bool op_start_rename(struct world *w, struct client *c)
{
	struct oracle_vol *o;

	c->vol = op_pick_vol(w);
	if (c->vol < 0 || !pick_name(w, c->new_name))
		return false;
	for (int v = 0; v < ORACLE_VOLS; v++) /* those are called by the old name */
		if (w->oracle.vols[v].state != VOL_NONE && w->oracle.vols[v].of == c->vol &&
		    w->vol_ctl[v])
			return false;
	o = &w->oracle.vols[c->vol];
	snprintf(c->name, sizeof(c->name), "%s", o->name);
	snprintf(o->new_name, sizeof(o->new_name), "%s", c->new_name);
	o->renaming = w->vol_ctl[c->vol] = true;
	c->req.op = THIN_VOL_RENAME;
	c->req.name = c->name;
	c->req.new_name = c->new_name;
	world_note(w, "rename %s to %s", c->name, c->new_name);
	return true;
}

void op_finish_rename(struct world *w, struct client *c, int res)
{
	if (res && w->may_fail)
		return; /* either, for ever */
	w->vol_ctl[c->vol] = false;
	oracle_vol_renamed(&w->oracle, c->vol, res == 0);
}

static bool start_resize(struct world *w, struct client *c, bool shrink)
{
	uint64_t blocks = pick_size(w);
	struct oracle_vol *o;

	c->vol = op_pick_vol(w);
	if (c->vol < 0)
		return false;
	o = &w->oracle.vols[c->vol];
	if (o->promised && blocks > 12)
		return false;
	if (shrink ? blocks >= o->blocks : blocks <= o->blocks)
		return false;
	/* Grown over what a shrink cut off while a request was under way there: not decidable. */
	if (w->data_ops[c->vol] && (!shrink || rng_percent(&w->rng, 50)))
		return false;
	for (unsigned i = 0; shrink && i < ORACLE_CELLS; i++)
		if (oracle_cell_block(i) >= blocks &&
		    (w->locks[c->vol][i].readers || w->locks[c->vol][i].writers))
			return false;
	o->new_blocks = blocks;
	o->resizing = w->vol_ctl[c->vol] = true;
	snprintf(c->name, sizeof(c->name), "%s", o->name);
	c->req.op = THIN_VOL_RESIZE;
	c->req.name = c->name;
	c->req.size_bytes = blocks * BLK;
	c->req.shrink = shrink;
	world_note(w, "resize %s from %llu to %llu blocks", c->name, (unsigned long long)o->blocks,
		   (unsigned long long)blocks);
	return true;
}

bool op_start_grow(struct world *w, struct client *c)
{
	return start_resize(w, c, false);
}

bool op_start_shrink(struct world *w, struct client *c)
{
	return start_resize(w, c, true);
}

void op_finish_resize(struct world *w, struct client *c, int res)
{
	if (res && w->may_fail)
		return;
	w->vol_ctl[c->vol] = false;
	oracle_vol_resized(&w->oracle, c->vol, res == 0);
}

/* A larger epoch, and all else with it. */
bool op_start_lock(struct world *w, struct client *c)
{
	struct thin_vol_stat stat;
	struct oracle_vol *o;

	c->vol = op_pick_vol(w);
	if (c->vol < 0 || !w->handles[c->vol])
		return false;
	o = &w->oracle.vols[c->vol];
	thin_vol_stat(w->handles[c->vol], &stat);
	o->new_epoch = o->lock_epoch + 1 + rng_below(&w->rng, 40);
	o->locking = w->vol_ctl[c->vol] = true;
	world_make_lock(o->new_epoch, &c->lock);
	c->req.op = THIN_LOCK;
	c->req.id = stat.id;
	c->req.lock = &c->lock;
	world_note(w, "lock %s: epoch %llu", o->name, (unsigned long long)o->new_epoch);
	return true;
}

void op_finish_lock(struct world *w, struct client *c, int res)
{
	struct oracle_vol *o = &w->oracle.vols[c->vol];

	if (res && w->may_fail)
		return;
	w->vol_ctl[c->vol] = o->locking = false;
	if (res == 0)
		o->lock_epoch = o->new_epoch;
}

bool op_start_pool_grow(struct world *w, struct client *c)
{
	uint64_t blocks = w->oracle.pool_blocks + 1 + rng_below(&w->rng, 100);
	struct err err;

	if (w->pool_ctl || w->grows >= 3)
		return false;
	if (w->dev->size_bytes < blocks * BLK && w->dev->ops->resize(w->dev, blocks * BLK, &err))
		world_fail(w, "resize of the device: %s", err.text);
	w->pool_ctl = true;
	w->grows++;
	w->oracle.new_pool_blocks = blocks;
	c->req.op = THIN_POOL_GROW;
	c->req.size_bytes = blocks * BLK;
	world_note(w, "grow the pool from %llu to %llu blocks",
		   (unsigned long long)w->oracle.pool_blocks, (unsigned long long)blocks);
	return true;
}

void op_finish_pool_grow(struct world *w, struct client *c, int res)
{
	if (res && w->may_fail)
		return;
	w->pool_ctl = false;
	if (res == 0)
		w->oracle.pool_blocks = w->oracle.new_pool_blocks;
	w->oracle.new_pool_blocks = 0;
}
