// SPDX-License-Identifier: GPL-2.0-or-later
/* Operations on snapshots, see ops.h: take, in groups too, delete, clone, roll back. */
#include "tests/crash/ops_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static bool snapshot_add(struct world *w, struct client *c, uint32_t *count)
{
	static const char *const names[] = { "s", "t-1", "u.x", "v" };
	int vol = op_pick_vol(w), snap = oracle_free_place(&w->oracle);
	const char *name = names[rng_below(&w->rng, 4)];

	if (vol < 0 || snap < 0)
		return false;
	for (int v = 0; v < ORACLE_VOLS; v++)
		if (w->oracle.vols[v].state != VOL_NONE && w->oracle.vols[v].of == vol &&
		    !strcmp(w->oracle.vols[v].name, name))
			return false;
	w->vol_ctl[vol] = w->vol_ctl[snap] = true;
	oracle_begin_snapshot(&w->oracle, snap, vol, name, c->op);
	oracle_path(&w->oracle, snap, false, c->path[*count]);
	c->paths[*count] = c->path[*count];
	c->snap[(*count)++] = snap;
	return true;
}

static bool start_snapshots(struct world *w, struct client *c, uint32_t want)
{
	c->req.op = THIN_SNAPSHOT;
	c->req.names = c->paths;
	c->req.time_s = 1;
	c->seq = w->oracle.seq;
	while (want--)
		snapshot_add(w, c, &c->req.name_count);
	for (uint32_t i = 0; i < c->req.name_count; i++)
		world_note(w, "snapshot %s (%u of %u)", c->path[i], i + 1, c->req.name_count);
	return c->req.name_count > 0;
}

bool op_start_snapshot(struct world *w, struct client *c)
{
	return start_snapshots(w, c, 1);
}

bool op_start_group(struct world *w, struct client *c)
{
	return start_snapshots(w, c, WORLD_GROUP);
}

void op_finish_snapshots(struct world *w, struct client *c, int res)
{
	for (uint32_t i = 0; i < c->req.name_count; i++) {
		int snap = c->snap[i];

		if (res && w->may_fail)
			continue;
		w->vol_ctl[snap] = w->vol_ctl[w->oracle.vols[snap].of] = false;
		if (res) {
			oracle_vol_gone(&w->oracle, snap);
			continue;
		}
		oracle_end_snapshot(&w->oracle, snap, c->seq);
		world_open_handle(w, snap);
	}
}

static int pick_idle_snapshot(struct world *w)
{
	int found[ORACLE_VOLS], n = 0;

	for (int v = 0; v < ORACLE_VOLS; v++)
		if (w->oracle.vols[v].state == VOL_LIVE && w->oracle.vols[v].of >= 0 &&
		    !w->vol_ctl[v] && !w->vol_ctl[w->oracle.vols[v].of])
			found[n++] = v;
	return n ? found[rng_below(&w->rng, (uint64_t)n)] : -1;
}

bool op_start_snapshot_delete(struct world *w, struct client *c)
{
	c->vol = pick_idle_snapshot(w);
	return c->vol >= 0 && op_start_delete_of(w, c);
}

bool op_start_clone(struct world *w, struct client *c)
{
	int snap = pick_idle_snapshot(w);

	if (snap < 0 || !op_new_volume(w, c))
		return false;
	w->vol_ctl[c->vol] = w->vol_ctl[snap] = true;
	c->snap[0] = snap;
	memcpy(c->new_name, c->name, sizeof(c->new_name));
	oracle_path(&w->oracle, snap, false, c->path[0]);
	oracle_begin_clone(&w->oracle, c->vol, snap, c->new_name);
	c->req.op = THIN_CLONE;
	c->req.name = c->path[0];
	c->req.new_name = c->new_name;
	c->req.time_s = 1;
	c->req.reserve_full = w->oracle.vols[snap].blocks <= 12 && rng_percent(&w->rng, 30);
	w->oracle.vols[c->vol].promised = c->req.reserve_full;
	world_note(w, "clone %s as %s", c->path[0], c->new_name);
	return true;
}

void op_finish_clone(struct world *w, struct client *c, int res)
{
	w->vol_ctl[c->snap[0]] = false;
	op_finish_create(w, c, res);
}

bool op_start_rollback(struct world *w, struct client *c)
{
	int snap = pick_idle_snapshot(w), vol = snap < 0 ? -1 : w->oracle.vols[snap].of;

	if (vol < 0 || w->vol_ctl[vol] || w->data_ops[vol] ||
	    (w->oracle.vols[vol].promised && w->oracle.vols[snap].blocks > 12))
		return false;
	thin_vol_close(w->handles[vol]);
	w->handles[vol] = NULL;
	w->vol_ctl[vol] = w->vol_ctl[snap] = true;
	w->oracle.vols[vol].rolling = snap;
	c->vol = vol;
	c->snap[0] = snap;
	oracle_path(&w->oracle, snap, false, c->path[0]);
	c->req.op = THIN_ROLLBACK;
	c->req.name = c->path[0];
	world_note(w, "roll back to %s", c->path[0]);
	return true;
}

void op_finish_rollback(struct world *w, struct client *c, int res)
{
	if (res && w->may_fail)
		return;
	w->vol_ctl[c->vol] = w->vol_ctl[c->snap[0]] = false;
	if (res == 0)
		oracle_rolled_back(&w->oracle, c->vol);
	w->oracle.vols[c->vol].rolling = -1;
	world_open_handle(w, c->vol);
}
