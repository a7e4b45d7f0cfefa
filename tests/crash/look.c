// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Looking at a pool in the crash tests: a request and its answer, settle, read everything, count,
 * verify.  Works on any pool and its simulated disk, not only on a world's own.
 */
#include "tests/crash/world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "thin/pool.h"

#define BLK	     4096u
#define SETTLE_TURNS 20000u
#define WINDOW_CELLS 12u /* the largest window */

uint64_t world_clock_ms;

static void look_turn(struct thin_pool *pool, struct dev_sim *sim)
{
	struct thin_dev *dev = dev_sim_port(sim);
	uint64_t deadline;

	thin_pool_run(pool, world_clock_ms);
	if (dev_sim_in_flight(sim)) {
		dev->ops->wait(dev);
		return;
	}
	deadline = thin_pool_deadline_ms(pool);
	if (deadline != UINT64_MAX && deadline > world_clock_ms)
		world_clock_ms = deadline;
	else
		world_clock_ms++;
}

bool world_settle(struct thin_pool *pool, struct dev_sim *sim)
{
	for (unsigned i = 0; i < SETTLE_TURNS; i++) {
		if (thin_pool_idle(pool) && !dev_sim_in_flight(sim))
			return true;
		look_turn(pool, sim);
	}
	return false;
}

struct look_answer {
	bool answered;
	int res;
};

static void look_done(struct thin_req *req, int res)
{
	struct look_answer *a = req->user;

	*a = (struct look_answer){ true, res };
}

int world_sync(struct thin_pool *pool, struct dev_sim *sim, struct thin_req *req)
{
	struct look_answer answer = { false, -ETIME };

	req->done = look_done;
	req->user = &answer;
	thin_submit(pool, req);
	for (unsigned i = 0; i < SETTLE_TURNS && !answer.answered; i++)
		look_turn(pool, sim);
	return answer.res;
}

/* Read the cells of one volume, a window at a time. */
static int look_read(struct thin_pool *pool, struct dev_sim *sim, struct dump_vol *d,
		     struct sim_page **pages, char *text, unsigned len)
{
	static _Alignas(4096) uint8_t buf[WINDOW_CELLS * BLK];
	struct thin_vol *vol = NULL;
	int r = thin_vol_open(pool, d->name, &vol);

	for (unsigned i = 0, n; r == 0 && i < ORACLE_CELLS; i += n) {
		uint64_t first = oracle_cell_block(i);
		struct thin_req req = { .op = THIN_READ, .vol = vol, .offset = first * BLK };

		for (n = 1; i + n < ORACLE_CELLS && oracle_cell_block(i + n) == first + n; n++)
			;
		if (first >= d->blocks)
			continue;
		req.buf = buf;
		req.len = (first + n <= d->blocks ? n : d->blocks - first) * BLK;
		r = world_sync(pool, sim, &req);
		for (unsigned k = 0; r == 0 && k < req.len / BLK; k++) {
			d->hash[i + k] = oracle_block_hash(buf + k * BLK);
			if (pages)
				pages[i + k] = sim_page_new(buf + k * BLK);
		}
		if (r)
			snprintf(text, len, "volume %s: read at block %llu: %s", d->name,
				 (unsigned long long)(req.bad_offset / BLK), strerror(-r));
	}
	thin_vol_close(vol);
	return r;
}

int world_dump(struct thin_pool *pool, struct dev_sim *sim, struct dump *ret_dump,
	       struct sim_page *pages[ORACLE_VOLS][ORACLE_CELLS], char *text, unsigned len)
{
	struct thin_vol_stat st = { 0 };
	struct thin_pool_stat ps;
	int r = 0;

	memset(ret_dump, 0, sizeof(*ret_dump));
	thin_pool_stat(pool, &ps);
	ret_dump->pool_blocks = ps.size_bytes / BLK;
	while (r == 0 && thin_vol_next(pool, st.name, &st) == 0) {
		struct dump_vol *d = &ret_dump->vols[ret_dump->count];

		if (ret_dump->count == ORACLE_VOLS || strlen(st.name) >= ORACLE_NAME) {
			snprintf(text, len, "an unknown volume '%s'", st.name);
			return -EUCLEAN;
		}
		memcpy(d->name, st.name, strlen(st.name));
		d->blocks = st.size_bytes / BLK;
		d->mapped = st.mapped_blocks;
		d->promised = st.reserve_full;
		r = look_read(pool, sim, d, pages ? pages[ret_dump->count] : NULL, text, len);
		ret_dump->count++;
	}
	return r;
}

/* What the data cache would answer is allocated. */
static bool cached_is_allocated(struct thin_pool *pool, char *text, unsigned len)
{
	for (uint32_t slot = 1; slot <= pool->data.fresh; slot++) {
		struct pblk at = { pool->data.slot[slot].key.pblk };

		if (data_cache_state(&pool->data, slot) < DATA_FILLING ||
		    (space_valid(&pool->space, at) && space_is_allocated(&pool->space, at)))
			continue;
		snprintf(text, len, "block %llu is free and in the data cache",
			 (unsigned long long)at.n);
		return false;
	}
	return true;
}

bool world_account(struct thin_pool *pool, const struct dump *d, char *text, unsigned len)
{
	struct thin_pool_stat st;
	uint64_t mapped = 0, sum;

	if (!cached_is_allocated(pool, text, len))
		return false;
	thin_pool_stat(pool, &st);
	for (unsigned i = 0; i < d->count; i++)
		mapped += d->vols[i].mapped;
	sum = st.data_blocks + st.metadata_blocks + st.reclaim_blocks + st.free_blocks;
	if (sum == st.block_count && st.data_blocks == mapped && st.volume_count == d->count &&
	    !st.reclaim_blocks && !st.checksum_errors)
		return true;
	snprintf(text, len,
		 "accounts: %llu data (%llu mapped) + %llu metadata + %llu to reclaim + %llu free "
		 "of %llu; %llu volumes (%u found), %llu checksum errors",
		 (unsigned long long)st.data_blocks, (unsigned long long)mapped,
		 (unsigned long long)st.metadata_blocks, (unsigned long long)st.reclaim_blocks,
		 (unsigned long long)st.free_blocks, (unsigned long long)st.block_count,
		 (unsigned long long)st.volume_count, d->count,
		 (unsigned long long)st.checksum_errors);
	return false;
}

struct look_problem {
	char *text;
	unsigned len;
	bool crashed; /* the pool has not been recovered */
};

static void look_problem(void *user, const char *text)
{
	struct look_problem *p = user;

	/* a cut may tear the copy that is being written; recovery repairs it */
	if (p->crashed && !strncmp(text, "superblock copy", 15))
		return;
	if (!p->text[0])
		snprintf(p->text, p->len, "%s", text);
}

bool world_verify(const struct sim_image *image, uint64_t size_bytes, bool crashed, char *text,
		  unsigned len)
{
	struct dev_sim *sim = dev_sim_new_image(image, size_bytes, 1);
	struct look_problem problem = { text, len, crashed };
	struct thin_verify_report report = { 0 };
	struct err err = { 0 };
	int r;

	text[0] = 0;
	r = thin_verify(dev_sim_port(sim), true, look_problem, &problem, &report, &err);
	if (r == -EUCLEAN && crashed && !text[0] && !err.text[0])
		r = 0;
	if (r == 0 && dev_sim_view(sim)->hash != image->hash) {
		snprintf(text, len, "it changed the disk");
		r = -EUCLEAN;
	}
	if (r == 0 && !crashed && report.leaked_blocks) {
		snprintf(text, len, "%llu blocks leaked", (unsigned long long)report.leaked_blocks);
		r = -EUCLEAN;
	}
	if (r && !text[0])
		snprintf(text, len, "%s (%s)", err.text, strerror(-r));
	dev_sim_free(sim);
	return r == 0;
}
