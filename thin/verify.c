/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Offline verification: recover in memory, then walk everything and hold it against the bitmaps
 * and the counters.
 *
 *	referred to, but free           error: it would be overwritten
 *	referred to twice               error
 *	allocated, referred to by none  leaked (space only)
 *	counters that differ            error
 *	younger than its parent         error: births decide what a snapshot may free
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cleanup.h"
#include "thin/pool.h"
#include "thin/recover.h"
#include "thin/walk.h"

#define PROBLEMS_TOLD 100u /* sentences; the rest is only counted */

struct verify {
	struct thin_pool *pool;
	bool data;
	uint8_t *block;
	uint8_t *seen; /* a bit a block */
	uint64_t blocks_seen, nodes, records, reserved;
	struct volume *volume; /* whose blocks are being counted */
	uint64_t mapped, provisioned;
	void (*problem)(void *user, const char *text);
	void *user;
	struct thin_verify_report *report;
};

static void tell(struct verify *v, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void tell(struct verify *v, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;

	v->report->errors++;
	if (!v->problem || v->report->errors > PROBLEMS_TOLD)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	v->problem(v->user, text);
}

static const char *owner_name(const struct walk_item *item)
{
	return item->volume ? item->volume->name : "(internal)";
}

static void mark_seen(struct verify *v, const struct walk_item *item)
{
	uint64_t index = space_index(&v->pool->space, ent_pblk(item->e));

	if (!space_is_allocated(&v->pool->space, ent_pblk(item->e)))
		tell(v, "block %" PRIu64 " of \"%s\" is in use but marked free",
		     ent_pblk(item->e).n, owner_name(item));
	if (v->seen[index / 8] & 1u << index % 8)
		tell(v, "block %" PRIu64 " of \"%s\" is referred to twice", ent_pblk(item->e).n,
		     owner_name(item));
	v->seen[index / 8] |= (uint8_t)(1u << index % 8);
	v->blocks_seen++;
}

static void check_data(struct verify *v, const struct walk_item *item)
{
	int r = pool_read_block(v->pool, ent_pblk(item->e), v->block);

	if (!r && pool_crc(v->block, FMT_BLOCK) == item->e.crc)
		return;
	tell(v, "volume \"%s\": offset %" PRIu64 ": %s", owner_name(item), item->v.n * FMT_BLOCK,
	     r ? strerror(-r) : "checksum differs");
}

/* Volumes come one after the other. */
static void volume_done(struct verify *v)
{
	const struct volume *vol = v->volume;
	uint64_t own;

	if (!vol)
		return;
	own = vol->own_blocks;
	if (lineage_cursor(vol)) /* some are counted there as long as the splice goes on */
		own += vol->parent->own_blocks - vol->parent->freed_blocks;
	/* what is under reclaim still counts for its volume */
	if (v->mapped > own || v->provisioned > vol->reserved_blocks)
		tell(v, "volume \"%s\": counts %" PRIu64 " blocks of its own, has %" PRIu64,
		     vol->name, own, v->mapped);
	v->mapped = v->provisioned = 0;
}

static int visit(void *user, const struct walk_item *item)
{
	struct verify *v = user;

	if (item->volume != v->volume) {
		volume_done(v);
		v->volume = item->volume;
	}
	if (item->what != WALK_RESERVED)
		mark_seen(v, item);
	if (item->e.birth > item->born_by)
		tell(v, "block %" PRIu64 " of \"%s\" is younger (%u) than what names it (%u)",
		     item->e.where & FMT_PBLK_MASK, owner_name(item), item->e.birth, item->born_by);
	switch (item->what) {
	case WALK_NODE:
		v->nodes++;
		break;
	case WALK_RECORD:
		v->records++;
		break;
	case WALK_RESERVED:
		v->provisioned++;
		v->reserved++;
		break;
	case WALK_DATA:
		v->report->data_blocks++;
		v->mapped++;
		if (v->data && item->volume)
			check_data(v, item);
		break;
	}
	return 0;
}

static int damaged(void *user, const struct walk_item *item, int res)
{
	struct verify *v = user;

	tell(v, "\"%s\": the map at offset %" PRIu64 " (block %" PRIu64 ") is damaged: %s",
	     owner_name(item), item->v.n * FMT_BLOCK, item->e.where & FMT_PBLK_MASK,
	     res == -EUCLEAN ? "checksum differs" : strerror(-res));
	return 0;
}

static void check_totals(struct verify *v)
{
	struct thin_pool *pool = v->pool;

	volume_done(v);
	if (v->report->errors == 0 && v->nodes + v->records != pool->metadata_blocks)
		tell(v, "the pool counts %" PRIu64 " metadata blocks, has %" PRIu64,
		     pool->metadata_blocks, v->nodes + v->records);
	if (pool->space.inconsistencies)
		tell(v, "%" PRIu64 " blocks were freed that were not allocated",
		     pool->space.inconsistencies);
	v->report->leaked_blocks = pool->space.alloc_count - v->blocks_seen;
	v->report->nodes = v->nodes;
	v->report->catalog_blocks = v->records;
	v->report->volumes = pool->catalog.volume_count;
}

struct events {
	void (*problem)(void *user, const char *text);
	void *user;
	uint64_t damage;
};

static void on_event(void *user, enum thin_event_kind kind, const char *text)
{
	struct events *e = user;

	if (kind != THIN_EVENT_DAMAGE)
		return;
	e->damage++;
	if (e->problem)
		e->problem(e->user, text);
}

int thin_verify(struct thin_dev *dev, bool data, void (*problem)(void *user, const char *text),
		void *user, struct thin_verify_report *ret_report, struct err *err)
{
	struct events events = { problem, user, 0 };
	struct thin_open open = { .read_only = true, .event = on_event, .event_user = &events };
	struct verify v = { .data = data, .problem = problem, .user = user, .report = ret_report };
	const struct walk_ops ops = { visit, damaged, &v };
	CLEANUP_FREE void *block = NULL;
	CLEANUP_FREE uint8_t *seen = NULL;
	int r;

	memset(ret_report, 0, sizeof(*ret_report));
	r = recover_in_memory(dev, &open, &v.pool, err);
	if (r) {
		ret_report->errors = 1;
		return r;
	}
	seen = calloc(v.pool->space.zone_count * v.pool->space.zone_blocks / 8 + 1, 1);
	if (!seen || posix_memalign(&block, FMT_BLOCK, FMT_BLOCK)) {
		pool_free(v.pool);
		return err_set(err, -ENOMEM, "out of memory");
	}
	v.seen = seen;
	v.block = block;
	v.pool->event = NULL; /* the walk tells of damage itself */
	walk_all(v.pool, &ops);
	check_totals(&v);
	ret_report->errors += events.damage;
	pool_free(v.pool);
	return ret_report->errors || ret_report->leaked_blocks ? -EUCLEAN : 0;
}
