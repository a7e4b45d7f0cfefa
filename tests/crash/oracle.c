// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The oracle of the crash tests, see oracle.h.
 *
 * A cell's list is in order of submission, which is the order in which overlapping changes take
 * effect (their answers may come in another one: FUA waits for a flush).  A flush drops what lies
 * in front of the last version that was answered before the flush was submitted, so a power cut
 * may find anything that is in the list, and the death of the process anything from the last
 * answered version on.
 */
#include "tests/crash/oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/rng.h"

#define BLK 4096u

/* The windows: the first blocks, the borders of leaves, single blocks far apart so that the tree
 * has many nodes, the border of a whole inner node. */
static const struct {
	uint64_t first;
	unsigned count;
} windows[] = { { 0, 12 },    { 252, 8 },   { 508, 8 },	   { 1100, 2 },	  { 5000, 2 },
		{ 20000, 2 }, { 65532, 8 }, { 140000, 2 }, { 500000, 2 }, { 900000, 2 } };

uint64_t oracle_cell_block(unsigned cell)
{
	for (unsigned w = 0;; cell -= windows[w++].count)
		if (cell < windows[w].count)
			return windows[w].first + cell;
}

uint64_t oracle_block_hash(const void *data)
{
	static const _Alignas(64) uint8_t zeroes[BLK];

	return memcmp(data, zeroes, BLK) ? rng_hash(data, BLK) : 0;
}

static uint64_t page_hash(const struct sim_page *page)
{
	return page ? page->hash : 0;
}

/* ---- cells ---- */

static void cell_drop(struct cell *c, unsigned i)
{
	sim_page_put(c->vers[i].page);
	memmove(&c->vers[i], &c->vers[i + 1], (c->count - i - 1) * sizeof(*c->vers));
	c->count--;
}

static void cell_clear(struct cell *c)
{
	while (c->count)
		cell_drop(c, c->count - 1);
}

/* Takes over the reference. */
static void cell_append(struct cell *c, struct ver v)
{
	if (c->count == c->capacity) {
		c->capacity = c->capacity ? c->capacity * 2 : 8;
		c->vers = realloc(c->vers, c->capacity * sizeof(*c->vers));
		if (!c->vers)
			abort();
	}
	c->vers[c->count++] = v;
}

static void cell_reset(struct cell *c, struct sim_page *page)
{
	cell_clear(c);
	cell_append(c, (struct ver){ .page = page, .state = VER_DONE });
}

/* The newest that was answered; there is always one. */
static unsigned cell_newest(const struct cell *c)
{
	for (unsigned i = c->count; i-- > 0;)
		if (c->vers[i].state == VER_DONE)
			return i;
	abort();
}

bool oracle_cell_unsure(const struct cell *c)
{
	for (unsigned i = cell_newest(c); i < c->count; i++)
		if (c->vers[i].state == VER_FAILED)
			return true;
	return false;
}

bool oracle_cell_busy(const struct cell *c)
{
	for (unsigned i = 0; i < c->count; i++)
		if (c->vers[i].state == VER_BUSY)
			return true;
	return false;
}

static void cell_drop_before(struct cell *c, unsigned i)
{
	while (i--)
		cell_drop(c, 0);
}

/* What was answered up to `seq` is durable. */
static void cell_flushed(struct cell *c, uint64_t seq)
{
	unsigned floor = 0;

	for (unsigned i = 0; i < c->count; i++)
		if (c->vers[i].state == VER_DONE && c->vers[i].seq <= seq)
			floor = i;
	cell_drop_before(c, floor);
}

static bool cell_allows(const struct cell *c, uint64_t hash, enum oracle_rule rule)
{
	unsigned newest = cell_newest(c);

	for (unsigned i = 0; i < c->count; i++) {
		if (page_hash(c->vers[i].page) == hash && (rule == RULE_POWER || i >= newest))
			return true;
	}
	return false;
}

/* ---- volumes ---- */

void oracle_init(struct oracle *o, uint64_t pool_blocks)
{
	*o = (struct oracle){ .pool_blocks = pool_blocks };
}

void oracle_copy(struct oracle *o, const struct oracle *from)
{
	*o = *from;
	for (int v = 0; v < ORACLE_VOLS; v++)
		for (unsigned i = 0; i < ORACLE_CELLS; i++) {
			const struct cell *c = &from->vols[v].cells[i];

			o->vols[v].cells[i] = (struct cell){ 0 };
			for (unsigned k = 0; k < c->count; k++) {
				sim_page_get(c->vers[k].page);
				cell_append(&o->vols[v].cells[i], c->vers[k]);
			}
		}
}

void oracle_free(struct oracle *o)
{
	for (int v = 0; v < ORACLE_VOLS; v++)
		for (unsigned i = 0; i < ORACLE_CELLS; i++) {
			cell_clear(&o->vols[v].cells[i]);
			free(o->vols[v].cells[i].vers);
		}
	memset(o, 0, sizeof(*o));
}

void oracle_vol_begin_create(struct oracle *o, int vol, const char *name, uint64_t blocks)
{
	struct oracle_vol *v = &o->vols[vol];

	v->state = VOL_CREATING;
	v->blocks = blocks;
	v->renaming = v->resizing = v->promised = v->locking = false;
	v->lock_epoch = 0;
	v->of = v->rolling = -1;
	snprintf(v->name, sizeof(v->name), "%s", name);
	for (unsigned i = 0; i < ORACLE_CELLS; i++)
		cell_reset(&v->cells[i], NULL);
}

void oracle_vol_gone(struct oracle *o, int vol)
{
	o->vols[vol].state = VOL_NONE;
}

/* ---- snapshots ---- */

int oracle_free_place(const struct oracle *o)
{
	for (int v = 0; v < ORACLE_VOLS; v++)
		if (o->vols[v].state == VOL_NONE)
			return v;
	return -1;
}

void oracle_path(const struct oracle *o, int vol, bool after, char path[2 * ORACLE_NAME])
{
	const struct oracle_vol *v = &o->vols[vol], *of = v->of < 0 ? v : &o->vols[v->of];
	const char *name = after && of->renaming ? of->new_name : of->name;

	if (v->of < 0)
		snprintf(path, 2 * ORACLE_NAME, "%s", name);
	else
		snprintf(path, 2 * ORACLE_NAME, "%s@%s", name, v->name);
}

static void cells_copy(struct oracle_vol *to, const struct oracle_vol *from)
{
	for (unsigned i = 0; i < ORACLE_CELLS; i++) {
		const struct cell *c = &from->cells[i];

		cell_clear(&to->cells[i]);
		for (unsigned k = 0; k < c->count; k++) {
			struct ver v = c->vers[k];

			sim_page_get(v.page);
			cell_append(&to->cells[i], v);
		}
	}
}

void oracle_begin_snapshot(struct oracle *o, int snap, int vol, const char *name, unsigned group)
{
	oracle_vol_begin_create(o, snap, name, o->vols[vol].blocks);
	o->vols[snap].of = vol;
	o->vols[snap].group = group;
	cells_copy(&o->vols[snap], &o->vols[vol]);
}

void oracle_end_snapshot(struct oracle *o, int snap, uint64_t seq)
{
	struct oracle_vol *s = &o->vols[snap];

	s->state = VOL_LIVE;
	for (unsigned i = 0; i < ORACLE_CELLS; i++) {
		cell_flushed(&s->cells[i], seq);
		for (unsigned k = 0; k < s->cells[i].count; k++)
			s->cells[i].vers[k].state = k ? VER_FAILED : VER_DONE;
	}
}

void oracle_begin_clone(struct oracle *o, int vol, int snap, const char *name)
{
	oracle_vol_begin_create(o, vol, name, o->vols[snap].blocks);
	cells_copy(&o->vols[vol], &o->vols[snap]);
}

void oracle_rolled_back(struct oracle *o, int vol)
{
	struct oracle_vol *v = &o->vols[vol];

	cells_copy(v, &o->vols[v->rolling]);
	v->blocks = o->vols[v->rolling].blocks;
	v->rolling = -1;
}

void oracle_vol_resized(struct oracle *o, int vol, bool ok)
{
	struct oracle_vol *v = &o->vols[vol];

	v->resizing = false;
	if (!ok)
		return;
	v->blocks = v->new_blocks;
	for (unsigned i = 0; i < ORACLE_CELLS; i++)
		if (oracle_cell_block(i) >= v->blocks)
			cell_reset(&v->cells[i], NULL);
}

void oracle_vol_renamed(struct oracle *o, int vol, bool ok)
{
	struct oracle_vol *v = &o->vols[vol];

	v->renaming = false;
	if (ok)
		memcpy(v->name, v->new_name, sizeof(v->name));
}

/* ---- changes ---- */

static struct sim_page *compose(const struct cell *c, uint64_t from, uint64_t to,
				const uint8_t *data)
{
	_Alignas(64) uint8_t block[BLK];

	memcpy(block, sim_page_data(c->vers[cell_newest(c)].page), BLK);
	if (data)
		memcpy(block + from, data, to - from);
	else
		memset(block + from, 0, to - from);
	return sim_page_new(block);
}

static void append_busy(struct oracle *o, int vol, unsigned cell, struct ver v)
{
	cell_append(&o->vols[vol].cells[cell], v);
	for (int i = 0; i < ORACLE_VOLS; i++)
		if (o->vols[i].state == VOL_CREATING && o->vols[i].of == vol) {
			sim_page_get(v.page);
			cell_append(&o->vols[i].cells[cell], v);
		}
}

void oracle_begin(struct oracle *o, int vol, uint32_t op, enum oracle_change how, uint64_t offset,
		  uint64_t len, const uint8_t *data)
{
	struct oracle_vol *v = &o->vols[vol];

	for (unsigned i = 0; i < ORACLE_CELLS; i++) {
		uint64_t start = oracle_cell_block(i) * BLK, end = start + BLK;
		uint64_t from = offset > start ? offset : start;
		uint64_t to = offset + len < end ? offset + len : end;

		if (from >= to || (how == CHANGE_TRIM && to - from < BLK))
			continue;
		append_busy(
			o, vol, i,
			(struct ver){ .page = compose(&v->cells[i], from - start, to - start,
						      how == CHANGE_WRITE ? data + (from - offset)
									  : NULL),
				      .op = op,
				      .state = VER_BUSY });
	}
}

void oracle_end(struct oracle *o, int vol, uint32_t op, bool ok, bool fua)
{
	struct oracle_vol *v = &o->vols[vol];
	uint64_t seq = ++o->seq;

	for (unsigned i = 0; i < ORACLE_CELLS; i++) {
		struct cell *c = &v->cells[i];
		unsigned at = 0;

		while (at < c->count && (c->vers[at].state != VER_BUSY || c->vers[at].op != op))
			at++;
		if (at == c->count)
			continue; /* not touched, or what follows it has been flushed */
		c->vers[at].state = ok ? VER_DONE : VER_FAILED;
		c->vers[at].seq = seq;
		if (ok && fua)
			cell_drop_before(c, at);
	}
}

void oracle_flushed(struct oracle *o, uint64_t seq)
{
	for (int v = 0; v < ORACLE_VOLS; v++)
		for (unsigned i = 0; o->vols[v].state != VOL_NONE && i < ORACLE_CELLS; i++)
			cell_flushed(&o->vols[v].cells[i], seq);
}

/* ---- checks ---- */

static const struct dump_vol *dump_find(const struct dump *d, const char *name)
{
	for (unsigned i = 0; i < d->count; i++)
		if (!strcmp(d->vols[i].path, name))
			return &d->vols[i];
	return NULL;
}

static void cell_describe(const struct cell *c, char *text, unsigned len)
{
	static const char *const names[] = { "under way", "answered", "failed" };
	unsigned used = 0;

	for (unsigned i = 0; i < c->count && used < len; i++)
		used += (unsigned)snprintf(text + used, len - used, "%s%016llx op %u (%s)",
					   i ? ", " : "",
					   (unsigned long long)page_hash(c->vers[i].page),
					   c->vers[i].op, names[c->vers[i].state]);
}

static bool vol_check(const struct oracle_vol *v, const struct dump_vol *d, enum oracle_rule rule,
		      char *text, unsigned len)
{
	char allowed[1024];
	uint64_t mapped = 0;

	if (d->blocks != v->blocks && !(v->resizing && d->blocks == v->new_blocks)) {
		snprintf(text, len, "volume %s has %llu blocks, not %llu", d->name,
			 (unsigned long long)d->blocks, (unsigned long long)v->blocks);
		return false;
	}
	if (d->promised != v->promised) {
		snprintf(text, len, "volume %s has%s its space promised", d->name,
			 d->promised ? "" : " not");
		return false;
	}
	if (d->lock_torn ||
	    (d->lock_epoch != v->lock_epoch && !(v->locking && d->lock_epoch == v->new_epoch))) {
		snprintf(text, len, "volume %s has lock epoch %llu%s, not %llu", d->name,
			 (unsigned long long)d->lock_epoch, d->lock_torn ? " in part" : "",
			 (unsigned long long)v->lock_epoch);
		return false;
	}
	for (unsigned i = 0; i < ORACLE_CELLS; i++) {
		if (oracle_cell_block(i) >= d->blocks)
			continue;
		mapped += d->hash[i] != 0;
		if (cell_allows(&v->cells[i], d->hash[i], rule))
			continue;
		cell_describe(&v->cells[i], allowed, sizeof(allowed));
		snprintf(text, len, "volume %s block %llu reads %016llx, allowed %s: %s", d->name,
			 (unsigned long long)oracle_cell_block(i), (unsigned long long)d->hash[i],
			 rule == RULE_POWER ? "any of" : "the newest of", allowed);
		return false;
	}
	if (d->mapped != DUMP_UNSETTLED && d->mapped != mapped) {
		snprintf(text, len, "volume %s counts %llu mapped blocks and has %llu", d->name,
			 (unsigned long long)d->mapped, (unsigned long long)mapped);
		return false;
	}
	return true;
}

/* A volume as it is, or as a rollback would make it. */
static bool vol_check_both(const struct oracle *o, const struct oracle_vol *v,
			   const struct dump_vol *d, enum oracle_rule rule, char *text,
			   unsigned len)
{
	struct oracle_vol rolled;

	if (vol_check(v, d, rule, text, len))
		return true;
	if (v->rolling < 0)
		return false;
	rolled = o->vols[v->rolling];
	rolled.promised = v->promised;
	rolled.resizing = false;
	rolled.lock_epoch = v->lock_epoch;
	rolled.new_epoch = v->new_epoch;
	rolled.locking = v->locking;
	return vol_check(&rolled, d, rule, text, len);
}

/* Snapshots that are taken at once are all there or none. */
static bool group_check(const struct oracle *o, const bool there[ORACLE_VOLS], char *text,
			unsigned len)
{
	for (int i = 0; i < ORACLE_VOLS; i++)
		for (int k = 0; k < i; k++)
			if (o->vols[i].state == VOL_CREATING && o->vols[i].of >= 0 &&
			    o->vols[k].state == VOL_CREATING && o->vols[k].of >= 0 &&
			    o->vols[i].group == o->vols[k].group && there[i] != there[k]) {
				snprintf(text, len, "a group of snapshots is there in part");
				return false;
			}
	return true;
}

bool oracle_check(const struct oracle *o, const struct dump *d, enum oracle_rule rule, char *text,
		  unsigned len)
{
	bool there[ORACLE_VOLS] = { false };
	unsigned found = 0;

	if (d->pool_blocks != o->pool_blocks &&
	    !(o->new_pool_blocks && d->pool_blocks == o->new_pool_blocks)) {
		snprintf(text, len, "the pool has %llu blocks, not %llu",
			 (unsigned long long)d->pool_blocks, (unsigned long long)o->pool_blocks);
		return false;
	}
	for (int i = 0; i < ORACLE_VOLS; i++) {
		const struct oracle_vol *v = &o->vols[i];
		const struct dump_vol *dv, *other;
		char path[2 * ORACLE_NAME], after[2 * ORACLE_NAME];

		if (v->state == VOL_NONE)
			continue;
		oracle_path(o, i, false, path);
		oracle_path(o, i, true, after);
		dv = dump_find(d, path);
		other = strcmp(path, after) ? dump_find(d, after) : NULL;
		if (dv && other) {
			snprintf(text, len, "volume %s is there twice, also as %s", path, after);
			return false;
		}
		if (!dv)
			dv = other;
		if (!dv && v->state == VOL_LIVE) {
			snprintf(text, len, "volume %s is lost", path);
			return false;
		}
		if (!dv)
			continue;
		found++;
		there[i] = true;
		if (!vol_check_both(o, v, dv, rule, text, len))
			return false;
	}
	if (found != d->count) {
		snprintf(text, len, "%u volumes, %u of them known: a deleted one is back", d->count,
			 found);
		return false;
	}
	return group_check(o, there, text, len);
}

bool oracle_check_cell(struct oracle *o, int vol, unsigned cell, const void *data, char *text,
		       unsigned len)
{
	struct cell *c = &o->vols[vol].cells[cell];
	uint64_t hash = oracle_block_hash(data);
	unsigned newest = cell_newest(c), match = newest;
	char allowed[1024];

	if (!cell_allows(c, hash, RULE_KILL)) {
		cell_describe(c, allowed, sizeof(allowed));
		snprintf(text, len, "live read: volume %s block %llu reads %016llx, newest of: %s",
			 o->vols[vol].name, (unsigned long long)oracle_cell_block(cell),
			 (unsigned long long)hash, allowed);
		return false;
	}
	if (oracle_cell_busy(c))
		return true;
	for (unsigned i = newest; i < c->count; i++)
		if (page_hash(c->vers[i].page) == hash)
			match = i;
	c->vers[match].state = VER_DONE;
	for (unsigned i = c->count; i-- > newest + 1;)
		if (i != match)
			cell_drop(c, i);
	return true;
}

void oracle_adopt(struct oracle *o, const struct dump *d,
		  struct sim_page *(*fetch)(void *user, unsigned vol, unsigned cell), void *user)
{
	oracle_free(o);
	oracle_init(o, d->pool_blocks);
	for (unsigned i = 0; i < d->count; i++) {
		struct oracle_vol *v = &o->vols[i];

		oracle_vol_begin_create(o, (int)i, d->vols[i].name, d->vols[i].blocks);
		v->state = VOL_LIVE;
		v->of = d->vols[i].of;
		v->promised = d->vols[i].promised;
		v->lock_epoch = d->vols[i].lock_epoch;
		for (unsigned c = 0; c < ORACLE_CELLS; c++)
			if (oracle_cell_block(c) < v->blocks)
				cell_reset(&v->cells[c], fetch(user, i, c));
	}
}
