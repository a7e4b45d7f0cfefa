/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading what is left of a pool: see salvage.h.  While the pool is being opened. */
#include "thin/salvage.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "thin/pool.h"

#define TOLD_MAX 100u /* events for what is lost; the rest is only counted */

static void add(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void add(struct err *err, const char *fmt, ...)
{
	size_t used = strlen(err->text);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err->text + used, sizeof(err->text) - used, fmt, ap);
	va_end(ap);
}

/* The record of a volume or snapshot, as far as it can be read: its name, or false. */
static bool name_of(const struct fmt_rec_volume *rec, char name[THIN_NAME_MAX + 1])
{
	uint32_t state = le32_get(rec->state);

	if (le32_get(rec->head.magic) != FMT_REC_MAGIC ||
	    le32_get(rec->head.kind) != FMT_REC_VOLUME ||
	    (state != VOLUME_LIVE && state != VOLUME_SNAPSHOT))
		return false;
	memcpy(name, rec->name, THIN_NAME_MAX + 1);
	name[THIN_NAME_MAX] = 0;
	return thin_name_check(name, NULL) == 0;
}

static int lost(struct thin_pool *pool, int r, struct err *err)
{
	if (!pool->salvage) {
		add(err,
		    "; nothing was changed; opened with salvage = true, all others can be read");
		return r;
	}
	if (pool->salvaged.lost++ < TOLD_MAX)
		pool_damage(pool, "%s; it is left out", err->text);
	*err = (struct err){ 0 };
	return 0;
}

/* What a volume was called, for its snapshots. */
static void remember(struct thin_pool *pool, const struct fmt_rec_volume *rec, const char *name)
{
	struct salvaged *s = &pool->salvaged;

	if (le32_get(rec->state) != VOLUME_LIVE || s->name_count == SALVAGE_NAMES)
		return;
	s->name[s->name_count].id = le64_get(rec->id);
	strcpy(s->name[s->name_count++].name, name);
}

int salvage_record(struct thin_pool *pool, struct pblk at, const void *block, int r,
		   struct err *err)
{
	const struct fmt_rec_volume *rec = block;
	char name[THIN_NAME_MAX + 1];
	bool named = rec && name_of(rec, name);

	if (r == -ENOMEM)
		return r;
	add(err, " (offset %" PRIu64 " of the pool", at.n * FMT_BLOCK);
	if (named)
		add(err, "; as far as it can be read, %s \"%s\"",
		    le32_get(rec->state) == VOLUME_LIVE ? "volume" : "a snapshot", name);
	add(err, ")");
	if (named && pool->salvage)
		remember(pool, rec, name);
	return lost(pool, r, err);
}

int salvage_node(struct thin_pool *pool, uint64_t slot, int r, struct err *err)
{
	(void)slot;
	return r == -ENOMEM || r == -ENOBUFS ? r : lost(pool, r, err);
}

/* ---- standing in ---- */

static void name_for(struct thin_pool *pool, uint64_t id, char name[THIN_NAME_MAX + 1])
{
	const struct salvaged *s = &pool->salvaged;

	for (uint32_t i = 0; i < s->name_count; i++)
		if (s->name[i].id == id && !volume_by_name(&pool->catalog, 0, s->name[i].name)) {
			strcpy(name, s->name[i].name);
			return;
		}
	snprintf(name, THIN_NAME_MAX + 1, "damaged-%" PRIu64, id);
	for (unsigned i = 2; volume_by_name(&pool->catalog, 0, name); i++)
		snprintf(name, THIN_NAME_MAX + 1, "damaged-%" PRIu64 "-%u", id, i);
}

static int stand_in(struct thin_pool *pool, uint64_t id)
{
	char name[THIN_NAME_MAX + 1];
	struct volume *vol;
	int r;

	name_for(pool, id, name);
	r = volume_add(&pool->catalog, VOLUME_LIVE, id, 0, name, &vol);
	if (r)
		return r;
	vol->left_out = true;
	pool_damage(pool, "volume %" PRIu64 " is lost, its snapshots are there: \"%s@...\"", id,
		    name);
	return 0;
}

int salvage_volumes(struct thin_pool *pool)
{
	struct catalog *c = &pool->catalog;
	struct volume *vol;
	uint64_t at = 0;
	int r = 0;

	while (!r && (vol = volume_after_id(c, at))) {
		const struct volume *of = vol->of ? volume_by_id(c, vol->of) : NULL;

		at = vol->id;
		if (vol->state == VOLUME_SNAPSHOT && !of && vol->of < c->next_id)
			r = stand_in(pool, vol->of);
	}
	return r;
}

/* ---- the log ---- */

void salvage_passed(struct thin_pool *pool, uint64_t volume, bool is_wrong_now)
{
	struct volume *vol = volume_by_id(&pool->catalog, volume);

	pool->salvaged.passed++;
	if (!vol || vol->left_out || !is_wrong_now)
		return;
	vol->left_out = true;
	pool_damage(pool,
		    "volume \"%s\": what was done to it last cannot be repeated; it is left out",
		    vol->name);
}

void salvage_replayed(struct thin_pool *pool)
{
	if (pool->salvaged.passed)
		pool_damage(pool, "%" PRIu64 " records of the log belong to what is left out",
			    pool->salvaged.passed);
}
