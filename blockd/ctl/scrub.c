// SPDX-License-Identifier: GPL-2.0-or-later
/* The verb about scrubbing a pool: begin, stop, look. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/ctl/target.h"
#include "blockd/ctl/verbs.h"
#include "common/base/cleanup.h"
#include "common/daemon/log.h"

struct scrub {
	bool start, stop;
	int rc;
	struct thin_scrub_stat stat;
	uint32_t count;
	struct thin_scrub_find finds[THIN_SCRUB_FINDS_MAX];
};

/* On the reactor's thread. */
static int act(struct reactor *reactor, void *arg)
{
	struct scrub *scrub = arg;
	struct thin_pool *pool = reactor_pool(reactor);

	if (scrub->stop)
		thin_scrub_stop(pool);
	else if (scrub->start)
		scrub->rc = thin_scrub_start(pool);
	thin_scrub_stat(pool, &scrub->stat);
	while (thin_scrub_find(pool, scrub->count, &scrub->finds[scrub->count]) == 0)
		scrub->count++;
	return 0;
}

static const char *state_name(enum thin_scrub_state state)
{
	switch (state) {
	case THIN_SCRUB_NEVER:
		return "never";
	case THIN_SCRUB_RUNNING:
		return "running";
	case THIN_SCRUB_DONE:
		return "done";
	case THIN_SCRUB_STOPPED:
		break;
	}
	return "stopped";
}

json_t *scrub_json(const struct thin_scrub_stat *st)
{
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "state",
			 state_name(st->state), "checked_bytes", (json_int_t)st->checked_bytes,
			 "total_bytes", (json_int_t)st->total_bytes, "finds", (json_int_t)st->finds,
			 "damaged_bytes", (json_int_t)st->damaged_bytes, "rewritten",
			 (json_int_t)st->rewritten, "read_errors", (json_int_t)st->read_errors,
			 "read_again", (json_int_t)st->read_again, "took_ms",
			 (json_int_t)st->took_ms);
}

static json_t *find_json(const struct thin_scrub_find *f)
{
	static const char *const kinds[] = { "data", "map", "pool" };

	return json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:s, s:b}", "kind", kinds[f->kind], "name",
			 f->path, "also", f->also, "offset", (json_int_t)f->offset, "length",
			 (json_int_t)f->len_bytes, "pool_offset", (json_int_t)f->pool_offset,
			 "error", f->res == -EUCLEAN ? "checksum differs" : strerror(-f->res),
			 "rewritten", f->rewritten);
}

static json_t *answer(const struct blockd_pool *pool, const struct scrub *scrub)
{
	json_t *json = scrub_json(&scrub->stat), *found = json_array();

	for (uint32_t i = 0; i < scrub->count; i++)
		(void)json_array_append_new(found, find_json(&scrub->finds[i]));
	(void)json_object_set_new(json, "pool", json_string(pool->conf->name));
	(void)json_object_set_new(json, "found", found);
	return json;
}

void verb_pool_scrub(struct ctl_request *req, void *ctx)
{
	const struct blockd *daemon = ctx;
	CLEANUP_FREE struct scrub *scrub = calloc(1, sizeof(*scrub));
	struct blockd_pool *pool;
	const char *name = NULL;
	bool status = false;
	struct err err = { 0 };

	if (!scrub) {
		ctl_fail(req, -ENOMEM, "out of memory");
		return;
	}
	if (ctl_arg_text(req, "pool", false, &name) < 0 ||
	    ctl_arg_flag(req, "stop", &scrub->stop) < 0 || ctl_arg_flag(req, "status", &status) < 0)
		return;
	if (target_find_pool(daemon, name, &pool, &err) < 0) {
		ctl_fail_err(req, &err);
		return;
	}
	scrub->start = !scrub->stop && !status;
	(void)reactor_call(pool->reactor, act, scrub);
	if (scrub->rc == -EALREADY)
		ctl_fail(req, -EALREADY, "%s is being scrubbed already", pool->subject);
	else if (scrub->rc < 0)
		ctl_fail(req, scrub->rc, "%s: scrub: %s", pool->subject, strerror(-scrub->rc));
	else
		ctl_reply(req, answer(pool, scrub));
	if (scrub->rc == 0 && !status)
		log_info(pool->subject, scrub->start ? "scrub begun" : "scrub stopped");
}
