// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The operations of the crash tests, see ops.h.
 *
 * Start: choose a target, take the cells' locks, tell the oracle, fill the request.  Finish: tell
 * the oracle, give the locks back.  The locks keep the oracle decidable: reads never overlap
 * changes, changes of parts of a block never overlap other changes; changes of whole blocks may
 * overlap each other, then the order of submission is the order of their effects.
 */
#include "tests/crash/ops_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FULL_BLOCKS 80u /* a tiny pool with less free space may take its reserve for full */

/* ---- targets and locks ---- */

int op_pick_vol(struct world *w)
{
	int found[ORACLE_VOLS], n = 0;

	for (int v = 0; v < ORACLE_VOLS; v++)
		if (w->oracle.vols[v].state == VOL_LIVE && !w->vol_ctl[v] &&
		    w->oracle.vols[v].of < 0)
			found[n++] = v;
	if (!n)
		return -1;
	return rng_percent(&w->rng, 50) ? found[0] : found[rng_below(&w->rng, (uint64_t)n)];
}

/* A volume for data; during a resize only what is there before and after. */
static int pick_data_vol(struct world *w, uint64_t *ret_blocks)
{
	int found[ORACLE_VOLS], n = 0, v;

	for (v = 0; v < ORACLE_VOLS; v++)
		if (w->handles[v] && w->oracle.vols[v].of < 0)
			found[n++] = v;
	if (!n)
		return -1;
	v = rng_percent(&w->rng, 60) ? found[0] : found[rng_below(&w->rng, (uint64_t)n)];
	*ret_blocks = w->oracle.vols[v].blocks;
	if (w->oracle.vols[v].resizing && w->oracle.vols[v].new_blocks < *ret_blocks)
		*ret_blocks = w->oracle.vols[v].new_blocks;
	return v;
}

static unsigned cells_below(uint64_t blocks)
{
	unsigned n = 0;

	while (n < ORACLE_CELLS && oracle_cell_block(n) < blocks)
		n++;
	return n;
}

/* Some consecutive blocks of a window, often the hot ones. */
static bool pick_blocks(struct world *w, int *ret_vol, uint64_t *ret_first, unsigned *ret_count)
{
	uint64_t blocks;
	unsigned cells, cell, count = 1;
	int vol = pick_data_vol(w, &blocks);

	if (vol < 0 || !blocks)
		return false;
	cells = cells_below(blocks);
	cell = rng_percent(&w->rng, 50) ? w->hot_cell % cells : (unsigned)rng_below(&w->rng, cells);
	while (count < 6 && cell + count < cells &&
	       oracle_cell_block(cell + count) == oracle_cell_block(cell) + count &&
	       rng_percent(&w->rng, 55))
		count++;
	*ret_vol = vol;
	*ret_first = oracle_cell_block(cell);
	*ret_count = count;
	return true;
}

/* A range for trims and zeroes: a few blocks, a whole leaf, or all from somewhere to the end. */
static bool pick_range(struct world *w, int *ret_vol, uint64_t *ret_offset, uint64_t *ret_len)
{
	uint64_t first, blocks;
	unsigned count;

	if (!pick_blocks(w, ret_vol, &first, &count))
		return false;
	*ret_offset = first * BLK;
	*ret_len = (uint64_t)count * BLK;
	blocks = w->oracle.vols[*ret_vol].blocks;
	if (w->oracle.vols[*ret_vol].resizing && w->oracle.vols[*ret_vol].new_blocks < blocks)
		blocks = w->oracle.vols[*ret_vol].new_blocks;
	switch (rng_below(&w->rng, 6)) {
	case 0: /* a leaf, or what there is of it */
		*ret_offset = first / 256 * 256 * BLK;
		*ret_len = 256 * BLK;
		break;
	case 1:
		*ret_len = blocks * BLK - *ret_offset;
		break;
	case 2: /* edges inside blocks */
		*ret_offset += rng_below(&w->rng, 8) * 512;
		*ret_len += rng_below(&w->rng, 8) * 512;
		break;
	}
	if (*ret_offset + *ret_len > blocks * BLK)
		*ret_len = blocks * BLK - *ret_offset;
	return *ret_len > 0;
}

static bool cell_in(unsigned cell, uint64_t offset, uint64_t len)
{
	uint64_t start = oracle_cell_block(cell) * BLK;

	return start < offset + len && offset < start + BLK;
}

static bool locks_allow(struct world *w, int vol, uint64_t offset, uint64_t len, bool write,
			bool exclusive)
{
	bool overlap_ok = rng_percent(&w->rng, 30);

	for (unsigned i = 0; i < ORACLE_CELLS; i++) {
		const struct cell_lock *l = &w->locks[vol][i];

		if (!cell_in(i, offset, len))
			continue;
		if (l->exclusive || (write && l->readers) || (!write && l->writers))
			return false;
		if (write && l->writers && (exclusive || !overlap_ok))
			return false;
		if (exclusive && oracle_cell_unsure(&w->oracle.vols[vol].cells[i]))
			return false;
	}
	return true;
}

static void locks_change(struct world *w, const struct client *c, bool write, int by)
{
	for (unsigned i = 0; i < ORACLE_CELLS; i++) {
		struct cell_lock *l = &w->locks[c->vol][i];

		if (!cell_in(i, c->req.offset, c->req.len))
			continue;
		if (write) {
			l->writers = (uint8_t)(l->writers + by);
			l->exclusive = c->exclusive && by > 0;
		} else {
			l->readers = (uint8_t)(l->readers + by);
		}
	}
	w->data_ops[c->vol] += (unsigned)by;
}

/* ---- data ---- */

static bool start_data(struct world *w, struct client *c, enum thin_op op, int vol, uint64_t offset,
		       uint64_t len, bool write)
{
	c->exclusive = write && (offset % BLK || len % BLK);
	if (!locks_allow(w, vol, offset, len, write, c->exclusive))
		return false;
	if (w->quiet)
		c->req.flags &= ~THIN_FUA;
	c->vol = vol;
	c->req.op = op;
	c->req.vol = w->handles[vol];
	c->req.offset = offset;
	c->req.len = len;
	locks_change(w, c, write, 1);
	world_note(w, "%s%s vol %s %llu+%llu%s", c->type->name,
		   c->req.flags & THIN_NO_HOLE ? " no-hole" : "", w->oracle.vols[vol].name,
		   (unsigned long long)offset, (unsigned long long)len,
		   c->req.flags & THIN_FUA ? " fua" : "");
	return true;
}

static void finish_change(struct world *w, struct client *c, int res)
{
	locks_change(w, c, true, -1);
	oracle_end(&w->oracle, c->vol, c->op, res == 0, c->req.flags & THIN_FUA);
}

/* On a full pool a trim may do nothing: it is advice.  Then either content may be there, until the
 * next change or look. */
static void finish_trim(struct world *w, struct client *c, int res)
{
	struct thin_pool_stat st;

	thin_pool_stat(w->pool, &st);
	locks_change(w, c, true, -1);
	oracle_end(&w->oracle, c->vol, c->op, res == 0 && st.free_blocks > FULL_BLOCKS,
		   c->req.flags & THIN_FUA);
}

static void fill(struct client *c, uint64_t len)
{
	uint64_t state = rng_mix(c->op);

	for (uint64_t i = 0; i < len; i += 8) {
		state = rng_mix(state);
		memcpy(c->buf + i, &state, len - i < 8 ? len - i : 8);
	}
}

static bool start_write_blocks(struct world *w, struct client *c)
{
	uint64_t first;
	unsigned count;
	int vol;

	if (!pick_blocks(w, &vol, &first, &count) ||
	    !start_data(w, c, THIN_WRITE, vol, first * BLK, (uint64_t)count * BLK, true))
		return false;
	fill(c, c->req.len);
	if (rng_percent(&w->rng, 15)) /* becomes a hole */
		memset(c->buf + rng_below(&w->rng, count) * BLK, 0, BLK);
	c->req.buf = c->buf;
	oracle_begin(&w->oracle, vol, c->op, CHANGE_WRITE, c->req.offset, c->req.len, c->buf);
	return true;
}

/* As much as lies together, anywhere: to fill a pool. */
static bool start_fill(struct world *w, struct client *c)
{
	uint64_t blocks;
	unsigned cells, cell, count = 1;
	int vol = pick_data_vol(w, &blocks);

	if (vol < 0)
		return false;
	cells = cells_below(blocks);
	cell = (unsigned)rng_below(&w->rng, cells);
	while (count < 12 && cell + count < cells &&
	       oracle_cell_block(cell + count) == oracle_cell_block(cell) + count)
		count++;
	if (!start_data(w, c, THIN_WRITE, vol, oracle_cell_block(cell) * BLK, (uint64_t)count * BLK,
			true))
		return false;
	fill(c, c->req.len);
	c->req.buf = c->buf;
	oracle_begin(&w->oracle, vol, c->op, CHANGE_WRITE, c->req.offset, c->req.len, c->buf);
	return true;
}

static bool start_write(struct world *w, struct client *c)
{
	return start_write_blocks(w, c);
}

static bool start_fua(struct world *w, struct client *c)
{
	c->req.flags = THIN_FUA;
	return start_write_blocks(w, c);
}

static bool start_partial(struct world *w, struct client *c)
{
	uint64_t first, offset, len;
	unsigned count, unit = rng_percent(&w->rng, 50) ? 512 : 1;
	int vol;

	if (!pick_blocks(w, &vol, &first, &count))
		return false;
	offset = rng_below(&w->rng, BLK / unit) * unit;
	len = (1 + rng_below(&w->rng, count * (BLK / unit))) * unit;
	if (offset + len > count * BLK)
		len = count * BLK - offset;
	if (!start_data(w, c, THIN_WRITE, vol, first * BLK + offset, len, true))
		return false;
	c->req.flags = rng_percent(&w->rng, 10) ? THIN_FUA : 0;
	fill(c, len);
	c->req.buf = c->buf;
	oracle_begin(&w->oracle, vol, c->op, CHANGE_WRITE, c->req.offset, len, c->buf);
	return true;
}

static bool start_range(struct world *w, struct client *c, enum thin_op op,
			enum oracle_change change)
{
	uint64_t offset, len;
	int vol;

	if (!pick_range(w, &vol, &offset, &len))
		return false;
	if (rng_percent(&w->rng, 20))
		c->req.flags |= THIN_FUA;
	if (!start_data(w, c, op, vol, offset, len, true))
		return false;
	oracle_begin(&w->oracle, vol, c->op, change, offset, len, NULL);
	return true;
}

static bool start_trim(struct world *w, struct client *c)
{
	return start_range(w, c, THIN_TRIM, CHANGE_TRIM);
}

static bool start_zero(struct world *w, struct client *c)
{
	return start_range(w, c, THIN_ZERO, CHANGE_ZERO);
}

/* A range that NO_HOLE would provision must fit into a tiny pool. */
static bool start_zero_no_hole(struct world *w, struct client *c)
{
	uint64_t first;
	unsigned count, shift = rng_percent(&w->rng, 30) ? 512 : 0;
	int vol;

	c->req.flags = THIN_NO_HOLE | (rng_percent(&w->rng, 20) ? THIN_FUA : 0);
	if (!pick_blocks(w, &vol, &first, &count) ||
	    !start_data(w, c, THIN_ZERO, vol, first * BLK + shift, (uint64_t)count * BLK - shift,
			true))
		return false;
	oracle_begin(&w->oracle, vol, c->op, CHANGE_ZERO, c->req.offset, c->req.len, NULL);
	return true;
}

/* One that can be read up to `end`, else `vol`. */
static int pick_snapshot(struct world *w, int vol, uint64_t end)
{
	for (int tries = 0; tries < 4; tries++) {
		int v = (int)rng_below(&w->rng, ORACLE_VOLS);

		if (w->handles[v] && w->oracle.vols[v].of >= 0 &&
		    w->oracle.vols[v].blocks * BLK >= end)
			return v;
	}
	return vol;
}

static bool start_read(struct world *w, struct client *c)
{
	uint64_t first;
	unsigned count;
	int vol;

	if (!pick_blocks(w, &vol, &first, &count))
		return false;
	if (rng_percent(&w->rng, 40))
		vol = pick_snapshot(w, vol, (first + count) * BLK);
	if (!start_data(w, c, THIN_READ, vol, first * BLK, (uint64_t)count * BLK, false))
		return false;
	c->req.buf = c->buf;
	return true;
}

static void finish_read(struct world *w, struct client *c, int res)
{
	char text[1400];

	locks_change(w, c, false, -1);
	for (unsigned i = 0; res == 0 && i < ORACLE_CELLS; i++) {
		uint64_t start = oracle_cell_block(i) * BLK;

		if (!cell_in(i, c->req.offset, c->req.len))
			continue;
		if (!oracle_check_cell(&w->oracle, c->vol, i, c->buf + (start - c->req.offset),
				       text, sizeof(text)))
			world_fail(w, "%s", text);
	}
}

static bool start_status(struct world *w, struct client *c)
{
	uint64_t offset, len;
	int vol;

	if (!pick_range(w, &vol, &offset, &len) || offset % BLK || len % BLK ||
	    !start_data(w, c, THIN_STATUS, vol, offset, len, false))
		return false;
	c->req.extents = c->extents;
	c->req.extent_max = 1 + (unsigned)rng_below(&w->rng, 8);
	return true;
}

/* What is said to be zero is zero, what holds data is not said to be a hole. */
static void finish_status(struct world *w, struct client *c, int res)
{
	uint64_t at = c->req.offset;

	locks_change(w, c, false, -1);
	if (res)
		return;
	if (!c->req.extent_count || c->req.extent_count > c->req.extent_max)
		world_fail(w, "status: %u extents", c->req.extent_count);
	for (unsigned e = 0; e < c->req.extent_count; e++) {
		const struct thin_extent *x = &c->extents[e];

		if (!x->len_bytes || x->len_bytes % BLK)
			world_fail(w, "status: extent of %llu bytes",
				   (unsigned long long)x->len_bytes);
		for (unsigned i = 0; i < ORACLE_CELLS; i++) {
			const struct cell *cell = &w->oracle.vols[c->vol].cells[i];

			if (!cell_in(i, at, x->len_bytes) || oracle_cell_unsure(cell))
				continue;
			if ((x->flags & (THIN_EXTENT_HOLE | THIN_EXTENT_ZERO)) &&
			    cell->vers[cell->count - 1].page)
				world_fail(w, "status: block %llu is not zero (flags %u)",
					   (unsigned long long)oracle_cell_block(i), x->flags);
		}
		at += x->len_bytes;
	}
	if (at > c->req.offset + c->req.len)
		world_fail(w, "status: describes beyond the range");
}

static bool start_cache(struct world *w, struct client *c)
{
	uint64_t offset, len;
	int vol;

	return pick_range(w, &vol, &offset, &len) &&
	       start_data(w, c, THIN_CACHE, vol, offset, len, false);
}

static void finish_cache(struct world *w, struct client *c, int res)
{
	locks_change(w, c, false, -1);
}

/* ---- order ---- */

static bool start_flush(struct world *w, struct client *c)
{
	int vol;
	uint64_t blocks;

	vol = pick_data_vol(w, &blocks);
	if (vol < 0)
		return false;
	c->vol = vol;
	c->req.op = THIN_FLUSH;
	c->req.vol = w->handles[vol];
	w->data_ops[vol]++; /* the handle stays open */
	c->seq = w->oracle.seq;
	world_note(w, "flush");
	return true;
}

static void finish_flush(struct world *w, struct client *c, int res)
{
	w->data_ops[c->vol]--;
	if (res == 0)
		oracle_flushed(&w->oracle, c->seq);
}

static bool start_checkpoint(struct world *w, struct client *c)
{
	c->req.op = THIN_CHECKPOINT;
	c->seq = w->oracle.seq;
	world_note(w, "checkpoint");
	return true;
}

static void finish_checkpoint(struct world *w, struct client *c, int res)
{
	if (res == 0)
		oracle_flushed(&w->oracle, c->seq);
}

const struct op_type op_types[] = {
	{ "write", 30, true, true, false, start_write, finish_change },
	{ "partial", 12, true, true, false, start_partial, finish_change },
	{ "trim", 8, true, true, false, start_trim, finish_trim },
	{ "zero", 6, true, true, false, start_zero, finish_change },
	{ "zero-no-hole", 4, true, true, false, start_zero_no_hole, finish_change },
	{ "flush", 10, true, false, true, start_flush, finish_flush },
	{ "fua", 6, true, true, true, start_fua, finish_change },
	{ "checkpoint", 2, true, false, true, start_checkpoint, finish_checkpoint },
	{ "create", 3, true, true, true, op_start_create, op_finish_create },
	{ "grow", 2, true, true, true, op_start_grow, op_finish_resize },
	{ "shrink", 2, true, true, true, op_start_shrink, op_finish_resize },
	{ "rename", 2, true, true, true, op_start_rename, op_finish_rename },
	{ "delete", 3, true, false, true, op_start_delete, op_finish_delete },
	{ "snapshot", 5, true, true, true, op_start_snapshot, op_finish_snapshots },
	{ "group", 2, true, true, true, op_start_group, op_finish_snapshots },
	{ "clone", 3, true, true, true, op_start_clone, op_finish_clone },
	{ "rollback", 3, true, true, true, op_start_rollback, op_finish_rollback },
	{ "snap-delete", 5, true, false, true, op_start_snapshot_delete, op_finish_delete },
	{ "lock", 4, true, false, true, op_start_lock, op_finish_lock },
	{ "pool-grow", 1, true, false, true, op_start_pool_grow, op_finish_pool_grow },
	{ "wide", 0, false, true, true, op_start_wide, op_finish_create },
	{ "fill", 0, false, true, false, start_fill, finish_change },
	{ "read", 14, false, false, false, start_read, finish_read },
	{ "status", 4, false, false, false, start_status, finish_status },
	{ "cache", 1, false, false, false, start_cache, finish_cache },
};
const unsigned op_type_count = sizeof(op_types) / sizeof(op_types[0]);

const struct op_type *op_find(const char *name)
{
	for (unsigned i = 0; i < op_type_count; i++)
		if (!strcmp(op_types[i].name, name))
			return &op_types[i];
	return NULL;
}

const struct op_type *op_random(struct rng *rng, bool quiet)
{
	uint64_t total = 0, at;

	for (unsigned i = 0; i < op_type_count; i++)
		total += quiet && op_types[i].commits ? 0 : op_types[i].weight;
	at = rng_below(rng, total);
	for (unsigned i = 0;; i++) {
		unsigned weight = quiet && op_types[i].commits ? 0 : op_types[i].weight;

		if (at < weight)
			return &op_types[i];
		at -= weight;
	}
}
