/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The verbs about snapshots, clones and what differs; how those that change travel is op.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "blockd/ctl/op.h"
#include "blockd/ctl/verbs.h"
#include "common/daemon/log.h"

#define GROUP_MAX    200u  /* snapshots taken at once; what one record of the log holds */
#define DIFF_EXTENTS 2048u /* in one answer */

/* ---- snapshot ---- */

struct group {
	const char *list[GROUP_MAX];
	uint32_t count;
	char names[]; /* the request's argument, taken apart */
};

static void group_answer(struct op *op)
{
	struct group *g = op->own;
	json_t *names = json_array();

	for (uint32_t i = 0; i < g->count; i++) {
		log_info(op->target.pool->subject, "snapshot %s taken", g->list[i]);
		(void)json_array_append_new(names, json_string(g->list[i]));
	}
	op_end(op,
	       json_pack("{s:s, s:o}", "pool", op->target.pool->conf->name, "snapshots", names));
}

static bool group_explain(struct op *op, int res, struct err *err)
{
	(void)op;
	if (res == -EEXIST)
		(void)err_set(err, res, "one of these snapshots exists already; none was taken");
	else if (res == -ENOENT)
		(void)err_set(err, res, "one of these volumes is gone; none was taken");
	else if (res == -EINVAL)
		(void)err_set(err, res, "a volume may stand only once in a group; none was taken");
	else if (res == -ENOSPC)
		(void)err_set(err, res,
			      "no space left: a fully reserved volume needs the promise of its "
			      "blocks again; none was taken");
	else if (res == -E2BIG)
		(void)err_set(err, res, "too many or too long names for one group");
	else
		return false;
	return true;
}

/* One member; all must be in one pool. */
static int group_add(struct op *op, struct group *g, char *path, struct err *err)
{
	char *at = strchr(path, '@'), *slash = strchr(path, '/');
	struct target target;
	int rc;

	if (!at || at == path || !at[1])
		return err_set(err, -EINVAL, "'%s' names no snapshot: expected VOL@SNAP", path);
	if (g->count == GROUP_MAX)
		return err_set(err, -E2BIG, "at most %u snapshots at once", GROUP_MAX);
	if (thin_name_check(at + 1, err) < 0)
		return -EINVAL;
	*at = '\0';
	rc = target_find_volume(op->daemon, path, &target, err);
	*at = '@';
	if (rc < 0)
		return rc;
	if (g->count && target.pool != op->target.pool)
		return err_set(err, -EINVAL,
			       "'%s' is in another pool: only volumes of one pool have a moment in "
			       "common",
			       path);
	op->target = target;
	g->list[g->count++] = slash && slash < at ? slash + 1 : path;
	return 0;
}

static int group_take(struct op *op, struct err *err)
{
	const char *names;
	char *save = NULL;
	struct group *g;
	int rc = 0;

	if (ctl_arg_text(op->req, "snapshots", true, &names) < 0)
		return -EAGAIN;
	g = op->own = calloc(1, sizeof(*g) + strlen(names) + 1);
	if (!g)
		return err_set(err, -ENOMEM, "out of memory");
	strcpy(g->names, names);
	for (char *p = strtok_r(g->names, " ", &save); p && rc == 0; p = strtok_r(NULL, " ", &save))
		rc = group_add(op, g, p, err);
	if (rc == 0 && !g->count)
		rc = err_set(err, -EINVAL, "expected VOL@SNAP");
	op->explain = group_explain;
	return rc;
}

static void group_submit(struct op *op)
{
	struct group *g = op->own;

	op->task.req = (struct thin_req){ .op = THIN_SNAPSHOT,
					  .names = g->list,
					  .name_count = g->count,
					  .time_s = (uint64_t)time(NULL) };
	op_post(op);
}

void verb_snapshot(struct ctl_request *req, void *ctx)
{
	op_start(req, ctx, group_take, group_submit, group_answer);
}

/* ---- clone ---- */

static void clone_submit(struct op *op)
{
	op->task.req = (struct thin_req){ .op = THIN_CLONE,
					  .name = op->snapshot,
					  .new_name = op->new_name,
					  .reserve_full = op->reserve_full,
					  .time_s = (uint64_t)time(NULL) };
	op_post(op);
}

static void clone_answer(struct op *op)
{
	op_log(op, "cloned from %s", op->snapshot);
	op_end(op, volume_reply(op));
}

static int clone_take(struct op *op, struct err *err)
{
	struct target from;
	const char *snapshot, *name;
	int rc;

	if (ctl_arg_text(op->req, "snapshot", true, &snapshot) < 0 ||
	    ctl_arg_text(op->req, "name", true, &name) < 0 ||
	    ctl_arg_flag(op->req, "reserve_full", &op->reserve_full) < 0)
		return -EAGAIN;
	rc = target_find_snapshot(op->daemon, snapshot, &from, err);
	if (rc == 0 && thin_name_check(name, err) < 0)
		rc = -EINVAL;
	if (rc < 0)
		return rc;
	op->target = from;
	memcpy(op->snapshot, from.name, sizeof(op->snapshot));
	snprintf(op->new_name, sizeof(op->new_name), "%s", name);
	snprintf(op->target.name, sizeof(op->target.name), "%s", name);
	op->size_bytes = from.stat.size_bytes;
	return 0;
}

void verb_clone(struct ctl_request *req, void *ctx)
{
	op_start(req, ctx, clone_take, clone_submit, clone_answer);
}

/* ---- rollback ---- */

static void rollback_submit(struct op *op)
{
	op->task.req = (struct thin_req){ .op = THIN_ROLLBACK, .name = op->snapshot };
	op_post(op);
}

static void rollback_answer(struct op *op)
{
	op_log(op, "rolled back to %s", op->snapshot);
	op_end(op, volume_reply(op));
}

static int rollback_take(struct op *op, struct err *err)
{
	struct target snapshot;
	const char *path;
	char *at;
	int rc;

	if (ctl_arg_text(op->req, "snapshot", true, &path) < 0 ||
	    ctl_arg_flag(op->req, "force", &op->force) < 0)
		return -EAGAIN;
	rc = target_find_snapshot(op->daemon, path, &snapshot, err);
	if (rc < 0)
		return rc;
	op->target = snapshot;
	memcpy(op->snapshot, snapshot.name, sizeof(op->snapshot));
	op->size_bytes = snapshot.stat.size_bytes;
	at = strchr(op->target.name, '@');
	*at = '\0';
	op->close_first = op->bound = true;
	rc = pools_find_volume(op->target.pool, op->target.name, &op->target.stat);
	return rc < 0 ? err_sys(err, rc, "%s", path) : 0;
}

void verb_rollback(struct ctl_request *req, void *ctx)
{
	op_start(req, ctx, rollback_take, rollback_submit, rollback_answer);
}

/* ---- diff ---- */

/* One answer's worth of a comparison.  The next one names the ids, so that what it goes on with is
 * what it began with. */
struct diff {
	char base[THIN_PATH_MAX + 1];
	uint64_t id, base_id, offset;
	struct reactor_hold hold;
	struct thin_extent extents[DIFF_EXTENTS];
};

static void diff_close(struct diff *d)
{
	thin_vol_close(d->hold.vol);
	thin_vol_close(d->hold.base);
}

static void diff_done(struct thin_req *req, int res)
{
	struct op *op = req->user;
	struct diff *d = op->own;

	reactor_unhold(&d->hold);
	diff_close(d);
	reactor_task_finish(&op->task, res);
}

static int diff_open(struct thin_pool *pool, const char *name, uint64_t id,
		     struct thin_vol **ret_vol)
{
	struct thin_vol_stat stat;
	int rc = thin_vol_open(pool, name, ret_vol);

	if (rc < 0)
		return rc;
	thin_vol_stat(*ret_vol, &stat);
	return stat.id == id ? 0 : -ESTALE;
}

/* On the reactor's thread. */
static void diff_run(struct reactor *reactor, struct reactor_task *task)
{
	struct op *op = task->user;
	struct diff *d = op->own;
	struct thin_pool *pool = reactor_pool(reactor);
	int rc = diff_open(pool, op->target.name, d->id, &d->hold.vol);

	if (rc == 0)
		rc = diff_open(pool, d->base, d->base_id, &d->hold.base);
	if (rc == 0 && d->offset >= thin_vol_size_bytes(d->hold.vol))
		rc = -EINVAL;
	if (rc < 0) {
		diff_close(d);
		reactor_task_finish(task, rc);
		return;
	}
	d->hold.by = "vdiskctl diff";
	reactor_hold(reactor, &d->hold);
	task->req.vol = d->hold.vol;
	task->req.base = d->hold.base;
	task->req.len = thin_vol_size_bytes(d->hold.vol) - d->offset;
	thin_submit(pool, &task->req);
}

static void diff_answer(struct op *op)
{
	struct diff *d = op->own;
	uint64_t at = d->offset;
	json_t *rows = json_array();

	for (uint32_t i = 0; i < op->task.req.extent_count; i++) {
		if (d->extents[i].flags & THIN_EXTENT_CHANGED)
			(void)json_array_append_new(
				rows, json_pack("{s:I, s:I}", "offset", (json_int_t)at, "length",
						(json_int_t)d->extents[i].len_bytes));
		at += d->extents[i].len_bytes;
	}
	op_end(op, json_pack("{s:o, s:I, s:I, s:I, s:I}", "changed", rows, "next", (json_int_t)at,
			     "size_bytes", (json_int_t)op->target.stat.size_bytes, "id",
			     (json_int_t)d->id, "base_id", (json_int_t)d->base_id));
}

static void diff_finished(struct reactor_task *task, int res)
{
	struct op *op = task->user;
	const struct diff *d = op->own;
	struct err err = { 0 };

	if (res == 0)
		diff_answer(op);
	else if (res == -ENOENT || res == -ESTALE)
		op_refuse_text(op, &err, res, "'%s' or '%s' was deleted during the comparison",
			       op->target.name, d->base);
	else
		op_refuse_text(op, &err, res, "comparing '%s' with '%s': %s", op->target.name,
			       d->base, strerror(-res));
}

static int diff_take(struct op *op, struct err *err)
{
	struct target base;
	struct diff *d;
	const char *name;
	int rc = op_take_any(op, err);

	if (rc < 0)
		return rc;
	d = op->own = calloc(1, sizeof(*d));
	if (!d)
		return err_set(err, -ENOMEM, "out of memory");
	if (ctl_arg_text(op->req, "base", true, &name) < 0 ||
	    ctl_arg_u64(op->req, "offset", false, &d->offset) < 0 ||
	    ctl_arg_u64(op->req, "id", false, &d->id) < 0 ||
	    ctl_arg_u64(op->req, "base_id", false, &d->base_id) < 0)
		return -EAGAIN;
	rc = target_find_any(op->daemon, name, &base, err);
	if (rc < 0)
		return rc;
	if (base.pool != op->target.pool)
		return err_set(err, -EINVAL, "'%s' is in another pool", name);
	if (d->offset % THIN_BLOCK_SIZE)
		return err_set(err, -EINVAL, "offset: expected a multiple of %u", THIN_BLOCK_SIZE);
	if (!d->id)
		d->id = op->target.stat.id;
	if (!d->base_id)
		d->base_id = base.stat.id;
	memcpy(d->base, base.name, sizeof(d->base));
	return 0;
}

static void diff_submit(struct op *op)
{
	struct diff *d = op->own;

	op_hold(op);
	op->task.req = (struct thin_req){ .op = THIN_DIFF,
					  .offset = d->offset,
					  .extents = d->extents,
					  .extent_max = DIFF_EXTENTS,
					  .done = diff_done,
					  .user = op };
	op->task.run = diff_run;
	op->task.done = diff_finished;
	reactor_post(op->target.pool->reactor, &op->task);
}

void verb_diff(struct ctl_request *req, void *ctx)
{
	op_start(req, ctx, diff_take, diff_submit, NULL);
}
