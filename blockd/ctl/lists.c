// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The verbs that list volumes, snapshots and the lineage.
 *
 * A pool may have a hundred thousand of them.  So an answer has PAGE rows at most, and "more" when
 * there are others: the place to go on behind, which the next request names as `after`.  What is
 * there all the time is listed once, whatever else comes and goes between two pages.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/ctl/target.h"
#include "blockd/ctl/verbs.h"
#include "common/base/cleanup.h"

#define PAGE 1000u

/* ---- pages ---- */

struct page {
	const struct blockd *daemon;
	struct blockd_pool *only;
	const char *after; /* "POOL/PLACE"; NULL: from the beginning */
	json_t *rows;
	char more[2 * THIN_NAME_MAX + 2]; /* "" at the end */
};

/* Rows of one pool behind `place`; `ret_last`: the last one's place. */
typedef int rows_fn(struct page *page, struct blockd_pool *pool, const char *place, size_t max,
		    char ret_last[THIN_NAME_MAX + 1]);

/* Of the pool to go on with; pool_count: it is not there. */
static size_t pool_index(const struct blockd *daemon, const char *after)
{
	size_t len = after ? strcspn(after, "/") : 0, i = 0;

	while (len && i < daemon->pool_count &&
	       (strncmp(daemon->pools[i]->conf->name, after, len) ||
		daemon->pools[i]->conf->name[len]))
		i++;
	return i;
}

/* 0, or -EAGAIN: it has been answered. */
static int page_take(struct ctl_request *req, struct page *page)
{
	const char *name = NULL;
	struct err err = { 0 };

	if (ctl_arg_text(req, "pool", false, &name) < 0 ||
	    ctl_arg_text(req, "after", false, &page->after) < 0)
		return -EAGAIN;
	if (page->after && !strchr(page->after, '/'))
		(void)err_set(&err, -EINVAL, "after: found '%.140s', expected what \"more\" said",
			      page->after);
	else if (page->after && pool_index(page->daemon, page->after) == page->daemon->pool_count)
		(void)err_set(&err, -ENOENT, "the pool of '%.140s' is gone: list anew",
			      page->after);
	else if (name)
		(void)target_find_pool(page->daemon, name, &page->only, &err);
	if (!err.code)
		return 0;
	ctl_fail_err(req, &err);
	return -EAGAIN;
}

static int page_fill(struct page *page, rows_fn *fn)
{
	const char *place = page->after ? strchr(page->after, '/') + 1 : "";
	int rc = 0;

	for (size_t i = pool_index(page->daemon, page->after); !rc && i < page->daemon->pool_count;
	     i++, place = "") {
		struct blockd_pool *pool = page->daemon->pools[i];
		char last[THIN_NAME_MAX + 1] = "";

		if (page->only && pool != page->only)
			continue;
		rc = fn(page, pool, place, PAGE - json_array_size(page->rows), last);
		if (json_array_size(page->rows) < PAGE)
			continue;
		snprintf(page->more, sizeof(page->more), "%s/%s", pool->conf->name,
			 last[0] ? last : place);
		break;
	}
	return rc;
}

static void verb_page(struct ctl_request *req, void *ctx, rows_fn *fn, const char *key)
{
	struct page page = { .daemon = ctx };
	json_t *answer;

	if (page_take(req, &page) < 0)
		return;
	page.rows = json_array();
	answer = json_object();
	if (!page.rows || !answer || page_fill(&page, fn) < 0) {
		json_decref(page.rows);
		json_decref(answer);
		ctl_fail(req, -ENOMEM, "out of memory");
		return;
	}
	(void)json_object_set_new(answer, key, page.rows);
	if (page.more[0])
		(void)json_object_set_new(answer, "more", json_string(page.more));
	ctl_reply(req, answer);
}

/* ---- volumes ---- */

static json_t *declared_json(const struct blockd_conf_volume *declared)
{
	char place[4096];

	if (!declared)
		return json_null();
	snprintf(place, sizeof(place), "%s:%u", declared->section->pos.file,
		 declared->section->pos.line);
	return json_string(place);
}

static json_t *volume_json(const struct blockd *daemon, struct blockd_pool *pool,
			   const struct reactor_vol_info *info)
{
	const struct thin_vol_stat *stat = &info->stat;
	const struct io_counters *io = &info->io;
	const struct blockd_conf_volume *declared =
		blockd_conf_volume_find(daemon->conf, pool->conf->name, stat->name);
	json_t *text = declared && declared->description ? json_string(declared->description)
							 : json_null();

	return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, "
			 "s:b, s:{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}}",
			 "pool", pool->conf->name, "name", stat->name, "id", (json_int_t)stat->id,
			 "size_bytes", (json_int_t)stat->size_bytes, "used_bytes",
			 (json_int_t)(stat->mapped_blocks * THIN_BLOCK_SIZE), "reserved_bytes",
			 (json_int_t)(stat->reserved_blocks * THIN_BLOCK_SIZE), "connections",
			 (json_int_t)info->connections, "created_s", (json_int_t)stat->created_s,
			 "declared", declared_json(declared), "description", text, "reserve_full",
			 stat->reserve_full, "io", "reads", (json_int_t)io->reads, "writes",
			 (json_int_t)io->writes, "flushes", (json_int_t)io->flushes, "trims",
			 (json_int_t)io->trims, "zeroes", (json_int_t)io->zeroes, "others",
			 (json_int_t)io->others, "read_bytes", (json_int_t)io->read_bytes,
			 "written_bytes", (json_int_t)io->written_bytes, "trimmed_bytes",
			 (json_int_t)io->trimmed_bytes, "zeroed_bytes",
			 (json_int_t)io->zeroed_bytes, "errors", (json_int_t)io->errors);
}

static int volume_rows(struct page *page, struct blockd_pool *pool, const char *place, size_t max,
		       char ret_last[THIN_NAME_MAX + 1])
{
	CLEANUP_FREE struct reactor_vol_info *list = NULL;
	size_t count = 0;
	int rc = reactor_list_vols(pool->reactor, place, max, &list, &count);

	for (size_t i = 0; i < count; i++)
		(void)json_array_append_new(page->rows, volume_json(page->daemon, pool, &list[i]));
	if (count)
		memcpy(ret_last, list[count - 1].stat.name, THIN_NAME_MAX + 1);
	return rc;
}

void verb_volume_list(struct ctl_request *req, void *ctx)
{
	verb_page(req, ctx, volume_rows, "volumes");
}

void verb_volume_info(struct ctl_request *req, void *ctx)
{
	const struct blockd *daemon = ctx;
	struct reactor_vol_info info;
	const char *volume;
	struct target target;
	struct err err = { 0 };
	json_t *found;
	int rc;

	if (ctl_arg_text(req, "volume", true, &volume) < 0)
		return;
	rc = target_find_volume(daemon, volume, &target, &err);
	if (rc == 0) {
		rc = reactor_vol_info(target.pool->reactor, target.name, &info);
		if (rc < 0)
			(void)err_sys(&err, rc, "%s", volume);
	}
	if (rc < 0) {
		ctl_fail_err(req, &err);
		return;
	}
	found = volume_json(daemon, target.pool, &info);
	if (!found) {
		ctl_fail(req, -ENOMEM, "out of memory");
		return;
	}
	(void)json_object_set_new(found, "uris", target_uris(daemon, &target));
	ctl_reply(req, found);
}

/* ---- the lineage ---- */

static const char *state_name(enum thin_vol_state state)
{
	switch (state) {
	case THIN_VOL_LIVE:
		return "volume";
	case THIN_VOL_SNAPSHOT:
		return "snapshot";
	case THIN_VOL_HIDDEN:
		break;
	}
	return "deleted";
}

static json_t *node_json(const char *pool, const struct thin_vol_stat *st)
{
	return json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:I, s:I, s:I}",
			 "pool", pool, "name", st->path, "kind", state_name(st->state), "id",
			 (json_int_t)st->id, "parent", (json_int_t)st->parent, "of",
			 (json_int_t)st->of, "size_bytes", (json_int_t)st->size_bytes, "used_bytes",
			 (json_int_t)(st->mapped_blocks * THIN_BLOCK_SIZE), "own_bytes",
			 (json_int_t)(st->own_blocks * THIN_BLOCK_SIZE), "exclusive_bytes",
			 (json_int_t)(st->exclusive_blocks * THIN_BLOCK_SIZE), "exclusive_exact",
			 st->exclusive_exact, "reclaiming_bytes",
			 (json_int_t)(st->reclaiming_blocks * THIN_BLOCK_SIZE), "children",
			 (json_int_t)st->child_count, "created_s", (json_int_t)st->created_s);
}

/* Who has which row open; the pins are in order of ids, as the rows are. */
static int add_pins(json_t *rows, size_t first, struct blockd_pool *pool,
		    const struct thin_vol_stat *stats, size_t count)
{
	CLEANUP_FREE struct reactor_pin *pins = NULL;
	size_t pin_count = 0, p = 0;
	int rc = reactor_list_pins(pool->reactor, &pins, &pin_count);

	for (size_t i = 0; i < count; i++) {
		json_t *list = json_array();

		while (p < pin_count && pins[p].id < stats[i].id)
			p++;
		for (; p < pin_count && pins[p].id == stats[i].id; p++)
			(void)json_array_append_new(
				list, pins[p].with[0]
					      ? json_pack("{s:s, s:s, s:s}", "by", pins[p].by,
							  "use", "compare", "with", pins[p].with)
					      : json_pack("{s:s, s:s}", "by", pins[p].by, "use",
							  "export"));
		(void)json_object_set_new(json_array_get(rows, first + i), "pins", list);
	}
	return rc;
}

/* For whom deleted ones are still there. */
static int add_heirs(json_t *rows, size_t first, struct blockd_pool *pool,
		     const struct thin_vol_stat *stats, size_t count)
{
	CLEANUP_FREE struct reactor_heir *heirs = NULL;
	CLEANUP_FREE uint64_t *ids = calloc(count + 1, sizeof(*ids));
	size_t id_count = 0, heir_count = 0, h = 0;
	int rc;

	if (!ids)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		if (stats[i].state == THIN_VOL_HIDDEN)
			ids[id_count++] = stats[i].id;
	rc = reactor_list_heirs(pool->reactor, ids, id_count, &heirs, &heir_count);
	for (size_t i = 0; i < count; i++) {
		json_t *list = stats[i].state == THIN_VOL_HIDDEN ? json_array() : NULL;

		if (!list)
			continue;
		for (; h < heir_count && heirs[h].of == stats[i].id; h++)
			(void)json_array_append_new(list, json_string(heirs[h].path));
		(void)json_object_set_new(json_array_get(rows, first + i), "held_for", list);
	}
	return rc;
}

static int lineage_rows(struct page *page, struct blockd_pool *pool, const char *place, size_t max,
			char ret_last[THIN_NAME_MAX + 1])
{
	CLEANUP_FREE struct thin_vol_stat *list = NULL;
	size_t count = 0;
	int rc = reactor_list_lineage(pool->reactor, strtoull(place, NULL, 10), max, &list, &count);

	size_t first = json_array_size(page->rows);

	for (size_t i = 0; i < count; i++)
		(void)json_array_append_new(page->rows, node_json(pool->conf->name, &list[i]));
	if (rc == 0)
		rc = add_pins(page->rows, first, pool, list, count);
	if (rc == 0)
		rc = add_heirs(page->rows, first, pool, list, count);
	if (count)
		snprintf(ret_last, THIN_NAME_MAX + 1, "%" PRIu64, list[count - 1].id);
	return rc;
}

void verb_lineage(struct ctl_request *req, void *ctx)
{
	verb_page(req, ctx, lineage_rows, "nodes");
}
