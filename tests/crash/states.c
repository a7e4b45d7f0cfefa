// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The crash states of one workload, see states.h.
 *
 * Of n pending writes these are kept: none, all, each one, all but one, every prefix, random
 * subsets; with the last one torn between blocks, between sectors, or with a spoiled sector.  After
 * a kill everything that completed is kept, and the same choice is made among what was under way.
 *
 * Recovery is a function of the disk (and of the shadow memory); the nonce it writes is fresh each
 * time.  So its outcome is remembered by the hash of the disk.
 */
#include "tests/crash/states.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PENDING_MAX    1024
#define TABLE_CAPACITY 65536u /* outcomes remembered; a power of two */
#define RANDOM_SUBSETS 3
#define PENDING_SAMPLE 12
#define NEST_MAX       2

struct outcome {
	uint64_t key; /* 0: empty */
	struct dump *dump;
};

struct states {
	struct world *w;
	unsigned percent, nested_percent;
	struct rng rng;
	struct outcome *table;
	size_t used;
	char what[96]; /* the state being tried, for the report */
};

/* A recovery under examination: where to cut it again. */
struct trial {
	struct states *s;
	struct dev_sim *sim;
	void *shadow;
	enum oracle_rule rule;
	unsigned depth;
	int cut_at; /* event of the recovery at which it is cut; -1: never */
	int events;
};

static void trial_run(struct trial *t, struct dump *ret_dump);

struct states *states_new(struct world *w, unsigned percent, unsigned nested_percent)
{
	struct states *s = calloc(1, sizeof(*s));

	if (!s)
		abort();
	s->w = w;
	s->percent = percent;
	s->nested_percent = nested_percent;
	s->rng.state = rng_mix(w->spec->seed ^ 0x5747);
	s->table = calloc(TABLE_CAPACITY, sizeof(*s->table));
	if (!s->table)
		abort();
	return s;
}

static void states_forget(struct states *s)
{
	for (size_t i = 0; i < TABLE_CAPACITY; i++)
		free(s->table[i].dump);
	memset(s->table, 0, TABLE_CAPACITY * sizeof(*s->table));
	s->used = 0;
}

void states_free(struct states *s)
{
	if (!s)
		return;
	states_forget(s);
	free(s->table);
	free(s);
}

static struct outcome *states_find(struct states *s, uint64_t key)
{
	size_t i;

	key += !key;
	if (s->used > TABLE_CAPACITY / 2)
		states_forget(s);
	for (i = key & (TABLE_CAPACITY - 1); s->table[i].key && s->table[i].key != key;)
		i = (i + 1) & (TABLE_CAPACITY - 1);
	if (!s->table[i].key) {
		s->table[i].key = key;
		s->used++;
	}
	return &s->table[i];
}

/* ---- one state ---- */

static void *shadow_new(const void *from)
{
	void *shadow = aligned_alloc(SIM_BLOCK, WORLD_SHADOW_BYTES);

	if (!shadow)
		abort();
	if (from)
		memcpy(shadow, from, WORLD_SHADOW_BYTES);
	else
		memset(shadow, 0, WORLD_SHADOW_BYTES);
	return shadow;
}

/* Some of the pending writes, each whole, torn, or not at all. */
static void parts_random(struct rng *rng, uint8_t *parts, size_t n)
{
	static const unsigned chances[] = { 0, 15, 50, 50, 85, 100 };
	unsigned chance = chances[rng_below(rng, 6)];

	for (size_t i = 0; i < n; i++) {
		parts[i] = rng_percent(rng, chance) ? SIM_ALL : SIM_NONE;
		if (rng_percent(rng, 7))
			parts[i] = (uint8_t)(SIM_TORN_BLOCKS + rng_below(rng, 3));
	}
}

/* Cut the recovery of `t` here, and recover again. */
static void trial_nested(struct trial *t)
{
	uint8_t parts[PENDING_MAX];
	size_t n = dev_sim_pending(t->sim);
	bool kill = t->rule == RULE_KILL && rng_percent(&t->s->rng, 50);
	struct trial again = { .s = t->s, .depth = t->depth + 1, .cut_at = -1 };
	struct sim_image image;
	struct dump dump;
	char text[1400];

	if (n > PENDING_MAX)
		return;
	parts_random(&t->s->rng, parts, n);
	if (again.depth < NEST_MAX && rng_percent(&t->s->rng, 30))
		again.cut_at = (int)rng_below(&t->s->rng, 30);
	if (kill) {
		again.sim = dev_sim_kill(t->sim, parts, rng_next(&t->s->rng));
		again.rule = RULE_KILL;
	} else {
		dev_sim_cut(t->sim, parts, rng_next(&t->s->rng), &image);
		again.sim = dev_sim_new_image(&image, dev_sim_port(t->sim)->size_bytes,
					      rng_next(&t->s->rng));
		again.rule = RULE_POWER;
		sim_image_free(&image);
	}
	again.shadow = shadow_new(kill ? t->shadow : NULL);
	world_totals->nested++;
	trial_run(&again, &dump);
	if (!oracle_check(&t->s->w->oracle, &dump, again.rule, text, sizeof(text)))
		world_fail(t->s->w, "%s; then %s at event %d of the recovery: %s", t->s->what,
			   kill ? "killed" : "cut", t->cut_at, text);
	dev_sim_free(again.sim);
	free(again.shadow);
}

static void trial_event(void *user, enum sim_event what)
{
	struct trial *t = user;

	if (t->events++ == t->cut_at)
		trial_nested(t);
}

static void trial_fail(struct trial *t, const char *what, const char *text)
{
	world_fail(t->s->w, "%s: %s%s%s%s", t->s->what, t->depth ? "second recovery: " : "", what,
		   text ? ": " : "", text ? text : "");
}

/* Recover, settle, read, count, verify.  Failures that need no oracle end here. */
static void trial_run(struct trial *t, struct dump *ret_dump)
{
	struct world *w = t->s->w;
	struct thin_open open = world_open_params(w, t->shadow);
	struct thin_dev *dev = dev_sim_port(t->sim);
	struct thin_pool *pool = NULL;
	uint64_t clock = world_clock_ms;
	struct err err = { 0 };
	char text[1400] = "";

	if (!world_verify(dev_sim_view(t->sim), dev->size_bytes, true, text, sizeof(text)))
		trial_fail(t, "verify before recovery", text);
	dev_sim_on_event(t->sim, t->cut_at >= 0 ? trial_event : NULL, t);
	if (thin_pool_open(dev, &open, &pool, &err))
		trial_fail(t, "recovery", err.text);
	dev_sim_on_event(t->sim, NULL, NULL);
	if (!world_settle(pool, t->sim))
		trial_fail(t, "recovered pool never becomes idle", NULL);
	if (world_dump(pool, t->sim, ret_dump, NULL, text, sizeof(text)))
		trial_fail(t, "recovered pool", text);
	if (!world_account(pool, t->sim, ret_dump, text, sizeof(text)))
		trial_fail(t, "recovered pool", text);
	thin_pool_abandon(pool);
	if (!world_verify(dev_sim_view(t->sim), dev->size_bytes, false, text, sizeof(text)))
		trial_fail(t, "verify after recovery", text);
	world_clock_ms = clock;
}

static bool dump_equal(const struct dump *a, const struct dump *b)
{
	return a->count == b->count && a->pool_blocks == b->pool_blocks &&
	       memcmp(a->vols, b->vols, a->count * sizeof(a->vols[0])) == 0;
}

/* What recovery has answered for is durable: the power goes again, right after. */
static void trial_stable(struct trial *t, const struct dump *first)
{
	struct trial again = { .s = t->s, .rule = RULE_POWER, .depth = 1, .cut_at = -1 };
	struct dump dump;

	again.sim = dev_sim_new_image(dev_sim_durable(t->sim), dev_sim_port(t->sim)->size_bytes,
				      rng_next(&t->s->rng));
	again.shadow = shadow_new(NULL);
	world_totals->nested++;
	trial_run(&again, &dump);
	if (!dump_equal(&dump, first))
		world_fail(t->s->w, "%s: what was recovered is lost by a cut after recovery",
			   t->s->what);
	dev_sim_free(again.sim);
	free(again.shadow);
}

/* Takes over `sim` and `shadow`. */
static void states_try(struct states *s, struct dev_sim *sim, void *shadow, enum oracle_rule rule,
		       struct outcome *known)
{
	struct trial t = { .s = s, .sim = sim, .shadow = shadow, .rule = rule, .cut_at = -1 };
	struct dump dump;

	memset(&dump, 0, sizeof(dump));
	if (rng_percent(&s->rng, s->nested_percent))
		t.cut_at = (int)rng_below(&s->rng, 40);
	world_totals->states++;
	world_totals->kills += rule == RULE_KILL;
	trial_run(&t, &dump);
	if (rng_percent(&s->rng, s->nested_percent / 2))
		trial_stable(&t, &dump);
	known->dump = malloc(sizeof(dump));
	if (!known->dump)
		abort();
	*known->dump = dump;
	dev_sim_free(sim);
	free(shadow);
}

static void states_compare(struct states *s, const struct outcome *known, enum oracle_rule rule)
{
	char text[1400];

	world_totals->compared++;
	if (!oracle_check(&s->w->oracle, known->dump, rule, text, sizeof(text)))
		world_fail(s->w, "%s: %s", s->what, text);
}

static void states_power(struct states *s, const uint8_t *parts, const char *what)
{
	struct world *w = s->w;
	struct sim_image image;
	struct outcome *known;

	snprintf(s->what, sizeof(s->what), "power cut keeping %s", what);
	dev_sim_cut(w->sim, parts, rng_next(&s->rng), &image);
	known = states_find(s, rng_mix(image.hash ^ w->dev->size_bytes));
	if (!known->dump)
		states_try(s, dev_sim_new_image(&image, w->dev->size_bytes, rng_next(&s->rng)),
			   shadow_new(NULL), RULE_POWER, known);
	sim_image_free(&image);
	states_compare(s, known, RULE_POWER);
}

static void states_kill(struct states *s, const uint8_t *parts, uint64_t shadow_hash,
			const char *what)
{
	struct world *w = s->w;
	struct dev_sim *sim = dev_sim_kill(w->sim, parts, rng_next(&s->rng));
	struct outcome *known;

	snprintf(s->what, sizeof(s->what), "kill with %s of what was under way", what);
	known = states_find(s, rng_mix(dev_sim_view(sim)->hash ^ rng_mix(shadow_hash) ^
				       rng_mix(w->dev->size_bytes + 1)));
	if (!known->dump)
		states_try(s, sim, shadow_new(w->shadow), RULE_KILL, known);
	else
		dev_sim_free(sim);
	states_compare(s, known, RULE_KILL);
}

/* ---- the states of one event ---- */

typedef void (*parts_fn)(struct states *s, const uint8_t *parts, uint64_t arg, const char *what);

static void power_fn(struct states *s, const uint8_t *parts, uint64_t arg, const char *what)
{
	states_power(s, parts, what);
}

static void kill_fn(struct states *s, const uint8_t *parts, uint64_t arg, const char *what)
{
	states_kill(s, parts, arg, what);
}

/* All choices among parts[from .. n); in long workloads with much pending only every so many. */
static void states_each(struct states *s, uint8_t *parts, size_t from, size_t n, parts_fn fn,
			uint64_t arg)
{
	size_t step = s->percent == 100 ? 1 : (n - from) / PENDING_SAMPLE + 1;
	size_t phase = rng_below(&s->rng, step);
	char what[64];

	memset(parts + from, SIM_NONE, n - from);
	fn(s, parts, arg, "none");
	if (from == n)
		return;
	for (size_t i = from; i < n; i++) { /* prefixes, the last of them is all */
		parts[i] = SIM_ALL;
		if ((i - from) % step != phase && i + 1 < n)
			continue;
		snprintf(what, sizeof(what), "the first %zu of %zu", i - from + 1, n - from);
		fn(s, parts, arg, what);
	}
	for (size_t i = from + phase; i < n && n - from > 2; i += step) {
		parts[i] = SIM_NONE;
		snprintf(what, sizeof(what), "all %zu but number %zu", n - from, i - from + 1);
		fn(s, parts, arg, what);
		parts[i] = SIM_ALL;
	}
	for (unsigned torn = SIM_TORN_BLOCKS; torn <= SIM_SPOILED; torn++) {
		parts[n - 1] = (uint8_t)torn;
		snprintf(what, sizeof(what), "all %zu, the last torn (%u)", n - from, torn);
		fn(s, parts, arg, what);
	}
	memset(parts + from, SIM_NONE, n - from);
	for (size_t i = from + 1 + phase; i < n; i += step) {
		parts[i] = SIM_ALL;
		snprintf(what, sizeof(what), "number %zu of %zu", i - from + 1, n - from);
		fn(s, parts, arg, what);
		parts[i] = SIM_NONE;
	}
	for (unsigned k = 0; k < RANDOM_SUBSETS && n - from > 1; k++) {
		parts_random(&s->rng, parts + from, n - from);
		snprintf(what, sizeof(what), "a random part of %zu (%u)", n - from, k);
		fn(s, parts, arg, what);
	}
}

bool states_kill_allowed(const struct world *w)
{
	return dev_sim_failed(w->sim, DEV_FLUSH) == 0;
}

void states_event(struct states *s, enum sim_event what)
{
	struct world *w = s->w;
	uint8_t parts[PENDING_MAX];
	size_t n = dev_sim_pending(w->sim), done = dev_sim_pending_done(w->sim);

	world_totals->events++;
	if (n > PENDING_MAX || !rng_percent(&s->rng, s->percent))
		return;
	states_each(s, parts, 0, n, power_fn, 0);
	if (!states_kill_allowed(w))
		return;
	memset(parts, SIM_ALL, n);
	states_each(s, parts, done, n, kill_fn, rng_hash(w->shadow, WORLD_SHADOW_BYTES));
}

static struct dev_sim *cut_now(struct world *w, const uint8_t *parts)
{
	struct sim_image image;
	struct dev_sim *sim;

	dev_sim_cut(w->sim, parts, rng_next(&w->rng), &image);
	sim = dev_sim_new_image(&image, w->dev->size_bytes, rng_next(&w->rng));
	sim_image_free(&image);
	return sim;
}

struct dev_sim *states_choose(struct world *w, bool kill)
{
	uint8_t parts[PENDING_MAX];
	size_t n = dev_sim_pending(w->sim);

	if (n > PENDING_MAX)
		world_fail(w, "%zu writes pending", n);
	parts_random(&w->rng, parts, n);
	return kill ? dev_sim_kill(w->sim, parts, rng_next(&w->rng)) : cut_now(w, parts);
}

struct dev_sim *states_tear_last(struct world *w)
{
	uint8_t parts[PENDING_MAX];
	size_t n = dev_sim_pending(w->sim);

	if (!n || n > PENDING_MAX)
		world_fail(w, "%zu writes pending", n);
	parts_random(&w->rng, parts, n);
	parts[n - 1] = SIM_SPOILED;
	return cut_now(w, parts);
}
