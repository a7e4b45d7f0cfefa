// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One workload of the crash tests, see world.h.
 *
 *	setup (no cuts) -> operations (cuts at events) -> [life ends, recovery, adopt]... -> finish
 *
 * A scripted world performs its two or three operations one after the other or at once, and then
 * lets the pool come to rest, all under observation.  A random world lives several lives; each
 * ends with a cut or a kill in the middle of things, and the next begins with what was recovered.
 * At the end everything is answered, read, counted, deleted, closed, verified and opened again.
 */
#include "tests/crash/world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/crash/damage.h"
#include "tests/crash/ops.h"
#include "tests/crash/states.h"

#define IDLE_TURNS_MAX 1000 /* of a life in which no operation can be started */

#define BLK	    4096u
#define STUCK_TURNS 20000u /* without an answer: the engine hangs */
#define START_TRIES 60u

struct world_totals *world_totals;

void world_note(struct world *w, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(w->history[w->history_len++ % WORLD_HISTORY], sizeof(w->history[0]), fmt, ap);
	va_end(ap);
}

/* ---- the pool ---- */

struct thin_open world_open_params(struct world *w, void *shadow)
{
	struct thin_open open = w->open;

	open.shadow = shadow;
	/* in three quarters of the worlds small writes are answered before they are written */
	if (shadow && w->spec->kind != WORLD_FAULT && rng_mix(w->spec->seed ^ 0x57a6e) % 4) {
		open.stage = (char *)shadow + THIN_SHADOW_BYTES;
		open.stage_bytes = WORLD_STAGE_BYTES;
	}
	open.seed = rng_mix(w->spec->seed ^ rng_mix(++w->open_seed)) | 1;
	open.now_ms = world_clock_ms;
	return open;
}

/* A quiet life: only what fills log pages, nothing that commits.  A burst: many large writes and
 * some flushes, so that several log pages are on their way at once. */
static void world_choose_mood(struct world *w)
{
	unsigned mood = (unsigned)rng_below(&w->rng, 100);

	w->quiet = w->spec->kind != WORLD_SCRIPTED && mood < 20;
	w->burst = w->spec->kind != WORLD_SCRIPTED && mood >= 70;
	w->open.commit_ms = w->quiet ? 100000 : 0;
}

static void world_open(struct world *w)
{
	struct thin_open open = world_open_params(w, w->shadow);
	struct err err = { 0 };

	w->dev = dev_sim_port(w->sim);
	w->dev->sparse = true;
	if (thin_pool_open(w->dev, &open, &w->pool, &err))
		world_fail(w, "open: %s", err.text);
	world_totals->lives++;
}

static void world_create(struct world *w)
{
	static const uint64_t caches[] = { 320u << 10, 512u << 10, 2u << 20 };
	static const uint64_t data_caches[] = { 0, 1, 1u << 20 };
	static const uint64_t commits[] = { 16u << 10, 256u << 10, 64u << 20 };
	bool scripted = w->spec->kind == WORLD_SCRIPTED || w->spec->kind == WORLD_DAMAGE;
	uint64_t blocks = 256, pages = 16, mix = w->spec->seed;
	struct thin_create create = { .time_s = 1, .tiny = true };
	struct thin_pool_stat st;
	struct err err = { 0 };

	if (!scripted) {
		blocks = w->spec->kind == WORLD_FULL ? 128 + rng_below(&w->rng, 40)
						     : 200 + rng_below(&w->rng, 200);
		pages = 8 + rng_below(&w->rng, 24);
	}
	w->open.node_cache_bytes = caches[rng_below(&w->rng, 3)];
	w->open.buffer_bytes = 256u << 10;
	/* without a data cache, with one that is always too small, with one that holds a lot */
	for (unsigned i = 0; i < w->spec->script_len; i++)
		mix += (uint64_t)w->spec->script[i]->name[0] << 8 * i;
	w->open.data_cache_bytes = data_caches[rng_mix(mix) % 3];
	/* writing ahead in half of the worlds */
	w->open.ahead_bytes = rng_mix(w->spec->seed ^ 0xa4ead) % 2 ? 64 * BLK : 0;
	w->open.commit_bytes = commits[rng_below(&w->rng, 3)];
	w->may_fill = !scripted;
	w->sim = dev_sim_new(blocks * BLK, rng_next(&w->rng));
	w->dev = dev_sim_port(w->sim);
	dev_sim_set_delay(w->sim, (unsigned)rng_below(&w->rng, 6));
	create.journal_bytes = pages * BLK;
	create.seed = rng_next(&w->rng) | 1;
	if (thin_pool_create(w->dev, &create, &err))
		world_fail(w, "create: %s", err.text);
	oracle_init(&w->oracle, blocks);
	world_choose_mood(w);
	world_open(w);
	thin_pool_stat(w->pool, &st);
	w->empty_metadata = st.metadata_blocks;
}

/* ---- requests ---- */

/* Whether the engine may say 0 to it only after a successful flush of the device. */
static bool promises_durability(const struct thin_req *req)
{
	return req->op == THIN_FLUSH || req->op >= THIN_VOL_CREATE || (req->flags & THIN_FUA);
}

/* Whether the request must not meet ENOSPC: a write to a volume that was made with reserve_full.
 * (Zeroing a range takes more nodes at once than what a tiny pool keeps back.) */
static bool world_promised(const struct world *w, const struct client *c)
{
	return c->req.op == THIN_WRITE && w->oracle.vols[c->vol].promised;
}

static void world_check_result(struct world *w, const struct client *c, int res)
{
	if (res == 0 && c->after_failed_flush && promises_durability(&c->req))
		world_fail(w, "%s succeeded after a flush of the device had failed", c->type->name);
	if (res == 0)
		return;
	if (res == -ENOSPC) {
		world_totals->enospc++;
		if (w->may_fill && c->type->may_fill && !world_promised(w, c))
			return;
	}
	if (w->may_fail && (res == -EIO || res == -EROFS || res == -ENOSPC))
		return;
	world_fail(w, "%s answered %s", c->type->name, strerror(-res));
}

static void world_done(struct thin_req *req, int res)
{
	struct client *c = req->user;
	struct world *w = c->world;

	if (!c->type)
		world_fail(w, "a request is answered twice");
	world_note(w, "-> %s #%u: %s", c->type->name, c->op, res ? strerror(-res) : "ok");
	world_check_result(w, c, res);
	c->type->finish(w, c, res);
	c->type = NULL;
	w->busy_count--;
	w->replies++;
	w->turns = 0;
	world_totals->replies++;
	if (w->states)
		states_event(w->states, SIM_REPLY);
}

bool world_start(struct world *w, const struct op_type *type)
{
	struct client *c = w->clients;

	while (c->type)
		if (++c == w->clients + w->client_count)
			return false;
	memset(&c->req, 0, sizeof(c->req));
	c->type = type;
	c->op = ++w->next_op;
	c->req.done = world_done;
	c->req.user = c;
	if (!type->start(w, c)) {
		c->type = NULL;
		w->next_op--;
		return false;
	}
	w->busy_count++;
	c->after_failed_flush = dev_sim_failed(w->sim, DEV_FLUSH) > 0;
	thin_submit(w->pool, &c->req);
	return true;
}

void world_turn(struct world *w)
{
	w->dev->ops->poll(w->dev);
	thin_pool_run(w->pool, world_clock_ms);
	world_clock_ms += rng_below(&w->rng, 4);
	if (rng_percent(&w->rng, 1))
		world_clock_ms += 1000;
	if (w->busy_count && ++w->turns > STUCK_TURNS)
		world_fail(w, "no answer after %u turns", STUCK_TURNS);
}

void world_drain(struct world *w)
{
	while (w->busy_count)
		world_turn(w);
}

/* ---- watching ---- */

static void world_event(void *user, enum sim_event what)
{
	struct world *w = user;

	if (what == SIM_WRITE && w->super_cut_in >= 0 && dev_sim_last_is_fua(w->sim) &&
	    w->super_cut_in-- == 0) {
		w->cut = states_tear_last(w);
		oracle_copy(&w->cut_oracle, &w->oracle);
	}
	if (w->states)
		states_event(w->states, what);
}

void world_watch(struct world *w, unsigned percent, unsigned nested)
{
	w->states = states_new(w, percent, nested);
	dev_sim_on_event(w->sim, world_event, w);
}

void world_unwatch(struct world *w)
{
	if (w->sim)
		dev_sim_on_event(w->sim, NULL, NULL);
	states_free(w->states);
	w->states = NULL;
}

/* ---- phases ---- */

void world_must(struct world *w, const char *name)
{
	const struct op_type *type = op_find(name);

	for (unsigned i = 0; i < START_TRIES; i++) {
		if (world_start(w, type))
			break;
		world_turn(w);
	}
	world_drain(w);
}

static void world_setup(struct world *w)
{
	static const char *const ops[] = { "write", "write",	"partial",  "write",
					   "trim",  "snapshot", "flush",    "zero-no-hole",
					   "write", "snapshot", "snapshot", "clone" };
	static const char *const ends[] = { "checkpoint", "flush", "write" };
	unsigned n = 4 + (unsigned)rng_below(&w->rng, 10);

	if (w->spec->kind == WORLD_SPLICE)
		return;
	world_must(w, "create");
	world_must(w, "create");
	for (unsigned i = 0; i < n; i++)
		world_must(w, ops[rng_below(&w->rng, sizeof(ops) / sizeof(ops[0]))]);
	world_must(w, ends[rng_below(&w->rng, 3)]);
}

static void world_script(struct world *w)
{
	/* in turn, at once, in turn and a flush, one a little after the other and a flush */
	unsigned how = (unsigned)rng_below(&w->rng, 4);

	world_watch(w, 100, 8);
	for (unsigned i = 0; i < w->spec->script_len; i++) {
		for (unsigned t = 0; t < START_TRIES; t++) {
			if (world_start(w, w->spec->script[i]))
				break;
			world_turn(w);
		}
		if (how == 0 || how == 2)
			world_drain(w);
		for (uint64_t t = how == 3 ? rng_below(&w->rng, 10) : 0; t > 0; t--)
			world_turn(w);
	}
	if (how >= 2)
		world_start(w, op_find("flush"));
	world_drain(w);
	for (unsigned i = 0; i < 20; i++)
		world_turn(w);
	world_unwatch(w);
}

static struct sim_page *adopt_fetch(void *user, unsigned vol, unsigned cell)
{
	struct sim_page *(*pages)[ORACLE_CELLS] = user;

	return pages[vol][cell];
}

static void world_forget_locks(struct world *w)
{
	memset(w->locks, 0, sizeof(w->locks));
	memset(w->data_ops, 0, sizeof(w->data_ops));
	memset(w->vol_ctl, 0, sizeof(w->vol_ctl));
	memset(w->handles, 0, sizeof(w->handles));
	for (unsigned i = 0; i < WORLD_CLIENTS; i++)
		w->clients[i].type = NULL;
	w->busy_count = 0;
	w->pool_ctl = false;
	w->turns = 0;
}

void world_open_handle(struct world *w, int vol)
{
	char path[2 * ORACLE_NAME];
	int r;

	oracle_path(&w->oracle, vol, false, path);
	r = thin_vol_open(w->pool, path, &w->handles[vol]);
	if (r)
		world_fail(w, "open %s: %s", path, strerror(-r));
}

static void world_open_handles(struct world *w)
{
	for (int v = 0; v < ORACLE_VOLS; v++)
		if (w->oracle.vols[v].state == VOL_LIVE)
			world_open_handle(w, v);
}

/* Compare with the oracle and take over what was found. */
static void world_adopt(struct world *w, enum oracle_rule rule)
{
	struct sim_page *pages[ORACLE_VOLS][ORACLE_CELLS] = { 0 };
	struct dump dump;
	char text[1400];
	int r = world_dump(w->pool, w->sim, &dump, pages, text, sizeof(text));

	for (unsigned i = 0; r == 0 && i < dump.count; i++)
		dump.vols[i].mapped = DUMP_UNSETTLED;
	if (r || !oracle_check(&w->oracle, &dump, rule, text, sizeof(text)))
		world_fail(w, "next life after a %s: %s", rule == RULE_KILL ? "kill" : "cut", text);
	oracle_adopt(&w->oracle, &dump, adopt_fetch, pages);
	world_forget_locks(w);
	world_open_handles(w);
}

/* Begin a life on `sim`, after a cut or a kill by `rule`.  The recovery may be cut again. */
static enum oracle_rule world_begin_life(struct world *w, struct dev_sim *sim,
					 enum oracle_rule rule)
{
	world_unwatch(w);
	if (w->pool)
		thin_pool_abandon(w->pool);
	dev_sim_free(w->sim);
	if (w->cut) {
		oracle_free(&w->oracle);
		w->oracle = w->cut_oracle;
		memset(&w->cut_oracle, 0, sizeof(w->cut_oracle));
	}
	w->sim = sim;
	w->pool = NULL;
	w->cut = NULL;
	w->super_cut_in = rng_percent(&w->rng, 30) ? (int)rng_below(&w->rng, 3) : -1;
	dev_sim_set_delay(w->sim, (unsigned)rng_below(&w->rng, 6));
	dev_sim_on_event(w->sim, world_event, w);
	if (rule == RULE_POWER)
		memset(w->shadow, 0, WORLD_SHADOW_BYTES);
	world_choose_mood(w);
	world_open(w);
	if (!w->cut)
		return rule;
	world_note(w, "==== power cut in the recovery, a superblock torn");
	return world_begin_life(w, w->cut, RULE_POWER);
}

/* The power goes, or the process dies, in the middle of things. */
void world_next_life(struct world *w)
{
	bool kill = !w->cut && states_kill_allowed(w) && rng_percent(&w->rng, 35);
	enum oracle_rule rule = kill ? RULE_KILL : RULE_POWER;

	world_note(w, "==== %s",
		   w->cut ? "power cut, a superblock torn"
		   : kill ? "kill"
			  : "power cut");
	rule = world_begin_life(w, w->cut ? w->cut : states_choose(w, kill), rule);
	world_adopt(w, rule);
}

static const struct op_type *world_pick(struct world *w)
{
	if (w->spec->kind == WORLD_FULL && rng_percent(&w->rng, 50))
		return op_find(rng_percent(&w->rng, 80) ? "fill" : "create");
	if (w->burst && rng_percent(&w->rng, 80))
		return op_find(rng_percent(&w->rng, 85) ? "fill" : "flush");
	return op_random(&w->rng, w->quiet);
}

static void world_life(struct world *w, unsigned replies)
{
	unsigned end = w->replies + replies, idle = 0;

	w->client_count = 1 + (unsigned)rng_below(&w->rng, 6);
	w->super_cut_in = rng_percent(&w->rng, 30) ? (int)rng_below(&w->rng, 6) : -1;
	/* A world without volumes may find nothing to do in this life. */
	while (w->replies < end && !w->cut && idle < IDLE_TURNS_MAX) {
		for (unsigned i = rng_below(&w->rng, 3); i-- > 0;)
			world_start(w, world_pick(w));
		idle = w->busy_count ? 0 : idle + 1;
		world_turn(w);
	}
}

/* What goes wrong in this life. */
static void world_inject(struct world *w)
{
	struct rng *r = &w->rng;

	unsigned what = (unsigned)rng_below(r, 9);

	w->may_fail = what < 7;
	world_note(w, "==== faults of kind %u", what);
	switch (what) {
	case 0:
		dev_sim_fail(w->sim, DEV_FLUSH, (unsigned)rng_below(r, 12), -EIO);
		break;
	case 1:
		dev_sim_fail(w->sim, DEV_WRITE, (unsigned)rng_below(r, 150), -EIO);
		break;
	case 2:
		dev_sim_fail_percent(w->sim, DEV_WRITE, 2, -EIO);
		break;
	case 3:
		dev_sim_fail(w->sim, DEV_WRITE, (unsigned)rng_below(r, 150), -ENOSPC);
		break;
	case 4:
		dev_sim_fail_percent(w->sim, DEV_WRITE, 2, -ENOSPC);
		break;
	case 5:
		dev_sim_fail_percent(w->sim, DEV_READ, 10, -EIO);
		break;
	case 6:
		dev_sim_fail_percent(w->sim, DEV_PUNCH, 50, -EIO);
		break;
	}
}

/* A pool whose flush has failed says so and stays read-only. */
static void world_check_failed(struct world *w)
{
	struct thin_pool_stat st;

	thin_pool_stat(w->pool, &st);
	if (dev_sim_failed(w->sim, DEV_FLUSH) && !st.read_only)
		world_fail(w, "a flush of the device has failed and the pool is not read-only");
	for (int op = DEV_READ; op <= DEV_PUNCH; op++)
		world_totals->faults += dev_sim_failed(w->sim, (enum dev_op)op);
}

static void world_random(struct world *w)
{
	unsigned lives = 2 + (unsigned)rng_below(&w->rng, 4);
	unsigned percent = 1 + (unsigned)rng_below(&w->rng, 4);

	for (unsigned life = 0;; life++) {
		if (w->spec->kind == WORLD_FAULT && life + 1 < lives)
			world_inject(w);
		world_watch(w, percent, 10);
		world_life(w, 20 + (unsigned)rng_below(&w->rng, 150));
		if (w->may_fail)
			world_check_failed(w);
		if (life + 1 >= lives && !w->cut)
			break;
		world_next_life(w);
		w->may_fail = false;
	}
	w->super_cut_in = -1;
	world_unwatch(w);
}

/* ---- the end ---- */

static void world_look(struct world *w, const char *when, struct dump *ret_dump)
{
	char text[1400];

	if (!world_settle(w->pool, w->sim))
		world_fail(w, "%s: never idle", when);
	if (world_dump(w->pool, w->sim, ret_dump, NULL, text, sizeof(text)) ||
	    !oracle_check(&w->oracle, ret_dump, RULE_KILL, text, sizeof(text)) ||
	    !world_account(w->pool, w->sim, ret_dump, text, sizeof(text)))
		world_fail(w, "%s: %s", when, text);
}

static void world_close_handles(struct world *w)
{
	for (int v = 0; v < ORACLE_VOLS; v++) {
		thin_vol_close(w->handles[v]);
		w->handles[v] = NULL;
	}
}

/* Deleting always works, and gives everything back. */
static void world_delete_all(struct world *w)
{
	struct thin_pool_stat st;

	for (int v = 0; v < ORACLE_VOLS; v++) {
		struct thin_req req = { .op = THIN_VOL_DELETE,
					.name = w->oracle.vols[v].name,
					.snapshots = true };
		int r;

		if (w->oracle.vols[v].state != VOL_LIVE || w->oracle.vols[v].of >= 0)
			continue;
		r = world_sync(w->pool, w->sim, &req);
		if (r)
			world_fail(w, "delete %s at the end: %s", req.name, strerror(-r));
	}
	for (int v = 0; v < ORACLE_VOLS; v++)
		oracle_vol_gone(&w->oracle, v);
	for (int i = 0; i < 2; i++) { /* reclaim, then the records of what was deleted */
		struct thin_req req = { .op = THIN_CHECKPOINT };

		if (!world_settle(w->pool, w->sim))
			world_fail(w, "after deleting everything: never idle");
		if (world_sync(w->pool, w->sim, &req))
			world_fail(w, "after deleting everything: no checkpoint");
	}
	thin_pool_stat(w->pool, &st);
	if (st.data_blocks || st.reserved_blocks || st.reclaim_blocks ||
	    st.metadata_blocks > w->empty_metadata)
		world_fail(w, "empty, and yet %llu data, %llu reserved, %llu metadata blocks",
			   (unsigned long long)st.data_blocks,
			   (unsigned long long)st.reserved_blocks,
			   (unsigned long long)st.metadata_blocks);
}

static void world_finish(struct world *w)
{
	struct thin_pool_stat st;
	struct dump live, again;
	char text[1400];
	int r;

	world_drain(w);
	world_look(w, "at the end", &live);
	world_close_handles(w);
	if (rng_percent(&w->rng, 50)) {
		world_delete_all(w);
		world_look(w, "empty", &live);
	}
	thin_pool_stat(w->pool, &st);
	world_totals->checkpoints += st.checkpoints;
	r = thin_pool_close(w->pool);
	w->pool = NULL;
	if (r)
		world_fail(w, "close: %s", strerror(-r));
	if (!world_verify(dev_sim_durable(w->sim), w->dev->size_bytes, false, text, sizeof(text)))
		world_fail(w, "verify after close: %s", text);
	world_open(w);
	world_look(w, "opened again", &again);
	thin_pool_abandon(w->pool);
	w->pool = NULL;
}

void world_run(struct world *w, const struct spec *spec)
{
	memset(w, 0, sizeof(*w));
	w->spec = spec;
	w->rng.state = rng_mix(spec->seed);
	for (unsigned i = 0; i < spec->script_len; i++)
		for (const char *p = spec->script[i]->name; *p; p++)
			w->rng.state = rng_mix(w->rng.state ^ (uint64_t)*p);
	w->super_cut_in = -1;
	w->hot_cell = (unsigned)rng_below(&w->rng, 20);
	w->client_count = 4;
	w->shadow = aligned_alloc(BLK, WORLD_SHADOW_BYTES);
	memset(w->shadow, 0, WORLD_SHADOW_BYTES);
	for (unsigned i = 0; i < WORLD_CLIENTS; i++) {
		w->clients[i].world = w;
		w->clients[i].buf = aligned_alloc(BLK, WORLD_BUF_BYTES);
	}
	world_clock_ms = 1000;
	world_totals->workloads++;
	world_create(w);
	world_setup(w);
	if (spec->kind == WORLD_SCRIPTED)
		world_script(w);
	else if (spec->kind == WORLD_DAMAGE)
		damage_run(w);
	else if (spec->kind == WORLD_SPLICE)
		splice_run(w);
	else
		world_random(w);
	world_finish(w);
}

void world_free(struct world *w)
{
	world_unwatch(w);
	if (w->pool)
		thin_pool_abandon(w->pool);
	dev_sim_free(w->sim);
	oracle_free(&w->oracle);
	free(w->shadow);
	for (unsigned i = 0; i < WORLD_CLIENTS; i++)
		free(w->clients[i].buf);
	memset(w, 0, sizeof(*w));
}
