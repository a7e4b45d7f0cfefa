// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Damage, see damage.h.
 *
 *	block hit		what must happen
 *	superblock copy		opens from the other copy, all data right, verify counts it
 *	log page		nothing (the log is empty: a checkpoint has just been taken)
 *	bitmap copy in use	rebuilt from the trees, all data right
 *	catalog			refused, or what is served is right
 *	map node, data		the blocks below it answer EIO, all others are right
 *
 * The blocks' kinds are not told apart here: each outcome is held against the oracle, and the
 * number of blocks that could not be read against what one node may cover.
 */
#include "tests/crash/damage.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLK 4096u

struct damage_case {
	struct world *w;
	uint64_t block;
	struct dev_sim *sim;
	struct thin_pool *pool;
	unsigned bad_cells, read_cells;
};

/* Every cell reads as it should or not at all. */
static void damage_read_vol(struct damage_case *d, int v)
{
	static _Alignas(4096) uint8_t buf[BLK];
	const struct oracle_vol *o = &d->w->oracle.vols[v];
	struct thin_vol *vol = NULL;
	char path[2 * ORACLE_NAME];

	oracle_path(&d->w->oracle, v, false, path);
	if (thin_vol_open(d->pool, path, &vol))
		world_fail(d->w, "block %llu damaged: volume %s is lost",
			   (unsigned long long)d->block, path);
	for (unsigned i = 0; i < ORACLE_CELLS && oracle_cell_block(i) < o->blocks; i++) {
		const struct cell *c = &o->cells[i];
		struct thin_req req = { .op = THIN_READ,
					.vol = vol,
					.offset = oracle_cell_block(i) * BLK,
					.len = BLK,
					.buf = buf };
		int r = world_sync(d->pool, d->sim, &req);

		d->read_cells++;
		d->bad_cells += r != 0;
		if (r == -EIO && req.bad_offset != req.offset)
			world_fail(d->w, "block %llu damaged: EIO names offset %llu, not %llu",
				   (unsigned long long)d->block, (unsigned long long)req.bad_offset,
				   (unsigned long long)req.offset);
		if (r && r != -EIO)
			world_fail(d->w, "block %llu damaged: read answers %s",
				   (unsigned long long)d->block, strerror(-r));
		if (!r &&
		    oracle_block_hash(buf) !=
			    (c->vers[c->count - 1].page ? c->vers[c->count - 1].page->hash : 0))
			world_fail(d->w, "block %llu damaged: wrong data is served",
				   (unsigned long long)d->block);
	}
	thin_vol_close(vol);
}

static void damage_ignore(void *user, const char *text)
{
}

static void damage_one(struct world *w, const struct sim_image *good, uint64_t block)
{
	struct damage_case d = { .w = w, .block = block };
	struct thin_verify_report report = { 0 };
	struct thin_open open = world_open_params(w, NULL);
	struct sim_image image;
	struct err err = { 0 };
	int verified, r;

	sim_image_copy(&image, good);
	sim_image_corrupt(&image, block, rng_below(&w->rng, BLK * 8));
	d.sim = dev_sim_new_image(&image, w->dev->size_bytes, rng_next(&w->rng));
	world_totals->damaged++;
	verified = thin_verify(dev_sim_port(d.sim), true, damage_ignore, NULL, &report, &err);
	if (dev_sim_view(d.sim)->hash != image.hash)
		world_fail(w, "block %llu damaged: verify changes the disk",
			   (unsigned long long)block);
	r = thin_pool_open(dev_sim_port(d.sim), &open, &d.pool, &err);
	if (r && r != -EUCLEAN)
		world_fail(w, "block %llu damaged: open: %s", (unsigned long long)block, err.text);
	world_totals->refused += r != 0;
	if (!r) {
		for (int v = 0; v < ORACLE_VOLS; v++)
			if (w->oracle.vols[v].state == VOL_LIVE)
				damage_read_vol(&d, v);
		world_settle(d.pool, d.sim);
		thin_pool_abandon(d.pool);
	}
	if ((r || d.bad_cells) && !verified)
		world_fail(w, "block %llu damaged: verify finds nothing",
			   (unsigned long long)block);
	dev_sim_free(d.sim);
	sim_image_free(&image);
}

void damage_run(struct world *w)
{
	struct thin_req req = { .op = THIN_CHECKPOINT };
	struct sim_image image;
	uint64_t blocks = w->dev->size_bytes / BLK;

	if (world_sync(w->pool, w->sim, &req) || !world_settle(w->pool, w->sim))
		world_fail(w, "checkpoint");
	sim_image_copy(&image, dev_sim_view(w->sim));
	for (uint64_t b = 0; b < blocks; b++)
		if (sim_image_get(&image, b))
			damage_one(w, &image, b);
	sim_image_free(&image);
}
