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

#include "tests/lib/rng.h"
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
	int r = thin_vol_open(pool, d->path, &vol);

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
			snprintf(text, len, "volume %s: read at block %llu: %s", d->path,
				 (unsigned long long)(req.bad_offset / BLK), strerror(-r));
	}
	thin_vol_close(vol);
	return r;
}

void world_make_lock(uint64_t epoch, struct thin_lock *lock)
{
	*lock = (struct thin_lock){ .epoch = epoch,
				    .state = (uint32_t)epoch % 3,
				    .policy = (uint32_t)epoch * 7 + 1,
				    .wait_ms = (uint32_t)epoch * 11,
				    .grace_ms = (uint32_t)epoch * 13,
				    .since_s = epoch * 17,
				    .until_s = epoch * 19 };
	memset(lock->owner, 'a' + (int)(epoch % 26), epoch % (THIN_LOCK_TEXT_MAX + 1));
	memset(lock->heir, 'A' + (int)(epoch % 26), epoch * 5 % (THIN_LOCK_TEXT_MAX + 1));
}

static void dump_lock(struct thin_pool *pool, uint64_t id, struct dump_vol *d)
{
	struct thin_lock lock, whole;

	if (thin_lock_get(pool, id, &lock) || (!lock.epoch && !lock.policy))
		return;
	world_make_lock(lock.epoch, &whole);
	d->lock_epoch = lock.epoch;
	d->lock_torn = memcmp(&lock, &whole, sizeof(lock)) != 0;
}

/* `of`: the place of a snapshot's volume, or -1. */
static int dump_one(struct thin_pool *pool, struct dev_sim *sim, struct dump *dump, int of,
		    const struct thin_vol_stat *st,
		    struct sim_page *pages[ORACLE_VOLS][ORACLE_CELLS], char *text, unsigned len)
{
	struct dump_vol *d = &dump->vols[dump->count];

	if (dump->count == ORACLE_VOLS || strlen(st->name) >= ORACLE_NAME) {
		snprintf(text, len, "an unknown volume '%s'", st->name);
		return -EUCLEAN;
	}
	memcpy(d->name, st->name, strlen(st->name));
	if (of >= 0) {
		strcpy(d->path, dump->vols[of].name);
		strcat(d->path, "@");
	}
	strcat(d->path, st->name);
	d->of = of;
	d->blocks = st->size_bytes / BLK;
	d->mapped = st->mapped_blocks;
	d->promised = st->reserve_full;
	dump_lock(pool, st->id, d);
	return look_read(pool, sim, d, pages ? pages[dump->count++] : (dump->count++, NULL), text,
			 len);
}

int world_dump(struct thin_pool *pool, struct dev_sim *sim, struct dump *ret_dump,
	       struct sim_page *pages[ORACLE_VOLS][ORACLE_CELLS], char *text, unsigned len)
{
	struct thin_vol_stat st = { 0 }, snap;
	struct thin_pool_stat ps;
	uint64_t ids[ORACLE_VOLS] = { 0 };
	unsigned volumes;
	int r = 0;

	memset(ret_dump, 0, sizeof(*ret_dump));
	thin_pool_stat(pool, &ps);
	ret_dump->pool_blocks = ps.size_bytes / BLK;
	while (r == 0 && thin_vol_next(pool, st.name, &st) == 0) {
		if (ret_dump->count < ORACLE_VOLS)
			ids[ret_dump->count] = st.id;
		r = dump_one(pool, sim, ret_dump, -1, &st, pages, text, len);
	}
	volumes = ret_dump->count;
	for (unsigned i = 0; i < volumes && r == 0; i++) {
		snap.name[0] = 0;
		while (r == 0 && thin_snapshot_next(pool, ids[i], snap.name, &snap) == 0)
			r = dump_one(pool, sim, ret_dump, (int)i, &snap, pages, text, len);
	}
	return r;
}

/* ---- who has which block, by brute force ---- */

#define NODES_MAX 64

struct census {
	struct thin_vol_stat stat[NODES_MAX];
	uint64_t block[NODES_MAX][ORACLE_CELLS]; /* 0: none */
	uint64_t own[NODES_MAX];		 /* younger than the parent */
	unsigned count;
};

static bool census_take(struct thin_pool *pool, struct census *c)
{
	uint64_t id = 0;

	for (c->count = 0; c->count < NODES_MAX; c->count++) {
		struct thin_vol_stat *st = &c->stat[c->count];
		struct volume *vol;

		if (thin_lineage_next(pool, id, st))
			return true;
		id = st->id;
		vol = volume_by_id(&pool->catalog, id);
		c->own[c->count] = 0;
		for (unsigned i = 0; i < ORACLE_CELLS; i++) {
			struct vblk v = { oracle_cell_block(i) }, next;
			struct node *leaf;
			struct ent e = { 0 };

			if (map_leaf(pool, &vol->tree, v, NULL, &leaf, &next) == 0)
				e = ent_get(&leaf->page->entry[v.n % FMT_NODE_ENTRIES]);
			c->block[c->count][i] =
				e.where & FMT_ENT_MAPPED ? e.where & FMT_PBLK_MASK : 0;
			c->own[c->count] += e.where & FMT_ENT_MAPPED &&
					    e.birth > (vol->parent ? vol->parent->generation : 0);
		}
	}
	return false;
}

static bool census_has(const struct census *c, unsigned node, uint64_t block)
{
	for (unsigned i = 0; i < ORACLE_CELLS; i++)
		if (c->block[node][i] == block)
			return true;
	return false;
}

/* Whether the nodes counted from `from` on have it, `but` excepted. */
static bool census_others(const struct census *c, unsigned from, unsigned but, uint64_t block)
{
	for (unsigned n = from; n < c->count; n++)
		if (n != but && census_has(c, n, block))
			return true;
	return false;
}

static const char *path_of(const struct census *c, unsigned n, char path[300])
{
	for (unsigned i = 0; i < c->count; i++)
		if (c->stat[n].of && c->stat[i].id == c->stat[n].of) {
			snprintf(path, 300, "%s@%s", c->stat[i].name, c->stat[n].name);
			return path;
		}
	return c->stat[n].name;
}

/* What the engine says of the difference of `a` to `b`, against the blocks they have. */
static bool diff_agrees(struct thin_pool *pool, struct dev_sim *sim, const struct census *c,
			unsigned a, unsigned b, char *text, unsigned len)
{
	struct thin_extent extents[ORACLE_CELLS];
	struct thin_req req = { .op = THIN_DIFF, .extents = extents, .extent_max = ORACLE_CELLS };
	char path[300];
	bool ok = true;
	unsigned i = 0;

	if (thin_vol_open(pool, path_of(c, a, path), &req.vol) ||
	    thin_vol_open(pool, path_of(c, b, path), &req.base))
		return false;
	while (ok && req.offset < c->stat[a].size_bytes) {
		req.len = c->stat[a].size_bytes - req.offset;
		ok = world_sync(pool, sim, &req) == 0 && req.extent_count;
		for (unsigned e = 0; ok && e < req.extent_count; e++) {
			req.offset += extents[e].len_bytes;
			for (; i < ORACLE_CELLS && oracle_cell_block(i) * BLK < req.offset; i++)
				ok &= !(extents[e].flags & THIN_EXTENT_CHANGED) ==
				      (c->block[a][i] == c->block[b][i]);
		}
	}
	if (!ok)
		snprintf(text, len, "the difference of \"%s\" (%llu) to \"%s\" (%llu) is wrong",
			 c->stat[a].name, (unsigned long long)c->stat[a].id, c->stat[b].name,
			 (unsigned long long)c->stat[b].id);
	thin_vol_close(req.vol);
	thin_vol_close(req.base);
	return ok;
}

/* Of two by lot: all of them would take longer than the rest. */
static bool some_diff_agrees(struct thin_pool *pool, struct dev_sim *sim, const struct census *c,
			     char *text, unsigned len)
{
	struct thin_pool_stat st;
	struct rng rng;
	unsigned a, b;

	if (!c->count)
		return true;
	thin_pool_stat(pool, &st);
	rng.state = rng_mix(st.generation ^ st.free_blocks << 20);
	a = (unsigned)rng_below(&rng, c->count);
	b = (unsigned)rng_below(&rng, c->count);
	return c->stat[a].state == THIN_VOL_HIDDEN || c->stat[b].state == THIN_VOL_HIDDEN ||
	       diff_agrees(pool, sim, c, a, b, text, len);
}

/* The figures about what is deleted and still there, against the nodes themselves. */
static bool held_agrees(struct thin_pool *pool, const struct census *c, char *text, unsigned len)
{
	struct thin_pool_stat st;
	uint64_t deleted = 0, held = 0, blocks = 0;

	thin_pool_stat(pool, &st);
	for (unsigned n = 0; n < c->count; n++) {
		bool hidden = c->stat[n].state == THIN_VOL_HIDDEN;

		deleted += hidden;
		held += hidden && c->stat[n].child_count > 1;
		blocks += hidden && c->stat[n].child_count > 1 ? c->stat[n].own_blocks : 0;
	}
	if (deleted == st.deleted_count && held == st.held_count && blocks == st.held_blocks)
		return true;
	snprintf(text, len, "%llu deleted, %llu held with %llu blocks; counted %llu, %llu, %llu",
		 (unsigned long long)deleted, (unsigned long long)held, (unsigned long long)blocks,
		 (unsigned long long)st.deleted_count, (unsigned long long)st.held_count,
		 (unsigned long long)st.held_blocks);
	return false;
}

/* Sums over all nodes of the lineage against what the engine counts. */
static bool census_agrees(struct thin_pool *pool, struct dev_sim *sim, uint64_t data_blocks,
			  char *text, unsigned len)
{
	static struct census c;
	uint64_t all = 0, own = 0;

	if (!census_take(pool, &c))
		return true;
	for (unsigned n = 0; n < c.count; n++) {
		const struct thin_vol_stat *st = &c.stat[n];
		uint64_t alone = 0;

		own += st->own_blocks;
		for (unsigned i = 0; i < ORACLE_CELLS; i++) {
			if (!c.block[n][i])
				continue;
			all += !census_others(&c, n + 1, n, c.block[n][i]);
			alone += !census_others(&c, 0, n, c.block[n][i]);
		}
		if (c.own[n] != st->own_blocks) {
			snprintf(text, len, "\"%s\" (%llu) has %llu blocks of its own, counts %llu",
				 st->name, (unsigned long long)st->id, (unsigned long long)c.own[n],
				 (unsigned long long)st->own_blocks);
			return false;
		}
		if (st->state == THIN_VOL_HIDDEN && st->child_count < 2) {
			snprintf(text, len, "\"%s\" is deleted, has %u children and stays",
				 st->name, st->child_count);
			return false;
		}
		if (st->state == THIN_VOL_SNAPSHOT && st->child_count < 2 && st->exclusive_exact &&
		    st->exclusive_blocks != alone) {
			snprintf(text, len, "snapshot \"%s\" has %llu blocks alone, counts %llu",
				 st->name, (unsigned long long)alone,
				 (unsigned long long)st->exclusive_blocks);
			return false;
		}
	}
	if (all == data_blocks && own == all)
		return held_agrees(pool, &c, text, len) &&
		       some_diff_agrees(pool, sim, &c, text, len);
	snprintf(text, len, "%llu blocks are referred to, %llu counted, %llu owned",
		 (unsigned long long)all, (unsigned long long)data_blocks, (unsigned long long)own);
	return false;
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

bool world_account(struct thin_pool *pool, struct dev_sim *sim, const struct dump *d, char *text,
		   unsigned len)
{
	struct thin_pool_stat st;
	uint64_t sum;

	if (!cached_is_allocated(pool, text, len))
		return false;
	thin_pool_stat(pool, &st);
	if (!census_agrees(pool, sim, st.data_blocks, text, len))
		return false;
	sum = st.data_blocks + st.metadata_blocks + st.reclaim_blocks + st.free_blocks;
	if (sum == st.block_count && st.volume_count + st.snapshot_count == d->count &&
	    !st.reclaim_blocks && !st.checksum_errors)
		return true;
	snprintf(text, len,
		 "accounts: %llu data + %llu metadata + %llu to reclaim + %llu free "
		 "of %llu; %llu volumes, %llu snapshots (%u found), %llu checksum errors",
		 (unsigned long long)st.data_blocks, (unsigned long long)st.metadata_blocks,
		 (unsigned long long)st.reclaim_blocks, (unsigned long long)st.free_blocks,
		 (unsigned long long)st.block_count, (unsigned long long)st.volume_count,
		 (unsigned long long)st.snapshot_count, d->count,
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
