// SPDX-License-Identifier: GPL-2.0-or-later
/* The verbs that change volumes and pools; how each travels is op.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "blockd/ctl/op.h"
#include "blockd/ctl/verbs.h"
#include "common/base/units.h"
#include "common/daemon/log.h"

/* ---- checks ---- */

static int check_size(uint64_t size, struct err *err)
{
	char max[UNITS_TEXT_MAX];

	if (size == 0 || size % THIN_BLOCK_SIZE)
		return err_set(err, -EINVAL,
			       "found a size of %llu bytes, expected a multiple of %u",
			       (unsigned long long)size, THIN_BLOCK_SIZE);
	if (size > THIN_VOLUME_MAX)
		return err_set(err, -EINVAL, "found a size of %llu bytes, expected at most %s",
			       (unsigned long long)size, size_format(THIN_VOLUME_MAX, max));
	return 0;
}

/* ---- create ---- */

static void create_submit(struct op *op)
{
	op->task.req = (struct thin_req){ .op = THIN_VOL_CREATE,
					  .name = op->target.name,
					  .size_bytes = op->size_bytes,
					  .reserve_full = op->reserve_full,
					  .time_s = (uint64_t)time(NULL) };
	op_post(op);
}

static void create_answer(struct op *op)
{
	char size[UNITS_TEXT_MAX];

	op_log(op, "made in %s, %s", op->target.pool->subject, size_format(op->size_bytes, size));
	op_end(op, volume_reply(op));
}

/* Arguments of create and claim: volume, size, [pool], [reserve_full]. */
static int op_take_new(struct op *op, struct err *err)
{
	const char *volume, *pool = NULL;
	int rc;

	if (ctl_arg_text(op->req, "volume", true, &volume) < 0 ||
	    ctl_arg_u64(op->req, "size", true, &op->size_bytes) < 0 ||
	    ctl_arg_text(op->req, "pool", false, &pool) < 0 ||
	    ctl_arg_flag(op->req, "reserve_full", &op->reserve_full) < 0)
		return -EAGAIN;
	rc = check_size(op->size_bytes, err);
	return rc < 0 ? rc : target_resolve(op->daemon, volume, pool, &op->target, err);
}

static int create_take(struct op *op, struct err *err)
{
	int rc = op_take_new(op, err);

	if (rc == 0 && op->target.exists)
		rc = err_set(err, -EEXIST, "%s: volume '%s' exists already",
			     op->target.pool->subject, op->target.name);
	return rc;
}

void verb_volume_create(struct ctl_request *req, void *ctx)
{
	op_start(req, ctx, create_take, create_submit, create_answer);
}

/* ---- claim: the target of an import ---- */

static void claim_answer(struct op *op)
{
	json_t *result = volume_reply(op);
	bool empty = op->create ||
		     (op->target.stat.mapped_blocks == 0 && op->target.stat.reserved_blocks == 0);

	if (op->create)
		op_log(op, "made in %s for an import", op->target.pool->subject);
	(void)json_object_set_new(result, "created", json_boolean(op->create));
	(void)json_object_set_new(result, "empty", json_boolean(empty));
	(void)json_object_set_new(result, "uris", target_uris(op->daemon, &op->target));
	op_end(op, result);
}

static int claim_check(struct op *op, struct err *err)
{
	const struct thin_vol_stat *stat = &op->target.stat;
	char have[UNITS_TEXT_MAX], need[UNITS_TEXT_MAX];

	if (stat->size_bytes < op->size_bytes)
		return err_set(err, -ENOSPC,
			       "volume '%s' has %s, %s are needed: vdiskctl resize makes it larger",
			       op->target.name, size_format(stat->size_bytes, have),
			       size_format(op->size_bytes, need));
	if ((stat->mapped_blocks || stat->reserved_blocks) && !op->force)
		return err_set(err, -EEXIST,
			       "volume '%s' exists and holds data; --force overwrites it",
			       op->target.name);
	op->size_bytes = stat->size_bytes;
	return 0;
}

static int claim_take(struct op *op, struct err *err)
{
	int rc = op_take_new(op, err);

	if (rc == 0 && ctl_arg_flag(op->req, "force", &op->force) < 0)
		rc = -EAGAIN;
	if (rc == 0 && op->target.exists)
		rc = claim_check(op, err);
	op->create = !op->target.exists;
	op->close_first = op->bound = true;
	return rc;
}

static void claim_submit(struct op *op)
{
	if (op->create)
		create_submit(op);
	else
		claim_answer(op);
}

void verb_volume_claim(struct ctl_request *req, void *ctx)
{
	op_start(req, ctx, claim_take, claim_submit, claim_answer);
}

/* ---- resize ---- */

static void resize_submit(struct op *op)
{
	op->task.req = (struct thin_req){ .op = THIN_VOL_RESIZE,
					  .name = op->target.name,
					  .size_bytes = op->size_bytes,
					  .shrink = op->size_bytes < op->target.stat.size_bytes };
	op_post(op);
}

static void resize_answer(struct op *op)
{
	char size[UNITS_TEXT_MAX], old[UNITS_TEXT_MAX];

	op_log(op, "resized from %s to %s", size_format(op->target.stat.size_bytes, old),
	       size_format(op->size_bytes, size));
	op_end(op, volume_reply(op));
}

static int shrink_check(const struct op *op, bool shrink, struct err *err)
{
	const struct blockd_conf_volume *declared = target_declared(op->daemon, &op->target);
	char have[UNITS_TEXT_MAX];

	if (declared && op->size_bytes < declared->size_bytes)
		return check_undeclared(op, "made smaller than it says there", err);
	if (!shrink)
		return err_set(
			err, -EINVAL,
			"volume '%s' has %s; --shrink makes it smaller, what is beyond is lost",
			op->target.name, size_format(op->target.stat.size_bytes, have));
	return 0;
}

static int resize_take(struct op *op, struct err *err)
{
	bool shrink = false;
	int rc = op_take_volume(op, err);

	if (rc == 0 && (ctl_arg_u64(op->req, "size", true, &op->size_bytes) < 0 ||
			ctl_arg_flag(op->req, "shrink", &shrink) < 0 ||
			ctl_arg_flag(op->req, "force", &op->force) < 0))
		rc = -EAGAIN;
	if (rc == 0)
		rc = check_size(op->size_bytes, err);
	op->close_first = op->bound = op->size_bytes < op->target.stat.size_bytes;
	return rc == 0 && op->close_first ? shrink_check(op, shrink, err) : rc;
}

void verb_volume_resize(struct ctl_request *req, void *ctx)
{
	op_start(req, ctx, resize_take, resize_submit, resize_answer);
}

/* ---- rename ---- */

static void rename_submit(struct op *op)
{
	op->task.req = (struct thin_req){ .op = THIN_VOL_RENAME,
					  .name = op->target.name,
					  .new_name = op->new_name };
	op_post(op);
}

static void rename_answer(struct op *op)
{
	op_log(op, "renamed to %s", op->new_name);
	op_end(op, volume_reply(op));
}

static int rename_check(struct op *op, const char *name, struct err *err)
{
	if (thin_name_check(name, err) < 0)
		return err ? err->code : -EINVAL;
	snprintf(op->new_name, sizeof(op->new_name), "%s", name);
	op->size_bytes = op->target.stat.size_bytes;
	return check_undeclared(op, "renamed", err);
}

static int rename_take(struct op *op, struct err *err)
{
	const char *name;
	int rc = op_take_volume(op, err);

	if (rc == 0 && (ctl_arg_text(op->req, "name", true, &name) < 0 ||
			ctl_arg_flag(op->req, "force", &op->force) < 0))
		rc = -EAGAIN;
	op->close_first = true;
	return rc == 0 ? rename_check(op, name, err) : rc;
}

void verb_volume_rename(struct ctl_request *req, void *ctx)
{
	op_start(req, ctx, rename_take, rename_submit, rename_answer);
}

/* ---- delete ---- */

static void delete_submit(struct op *op)
{
	op->task.req = (struct thin_req){ .op = THIN_VOL_DELETE,
					  .name = op->target.name,
					  .snapshots = op->snapshots };
	op_post(op);
}

static void delete_answer(struct op *op)
{
	op_log(op, "removed from %s", op->target.pool->subject);
	op_end(op, volume_reply(op));
}

static int delete_take(struct op *op, struct err *err)
{
	int rc = op_take_any(op, err);

	if (rc == 0 && (ctl_arg_flag(op->req, "force", &op->force) < 0 ||
			ctl_arg_flag(op->req, "snapshots", &op->snapshots) < 0))
		rc = -EAGAIN;
	op->size_bytes = op->target.stat.size_bytes;
	op->close_first = op->bound = true;
	return rc == 0 && !op->target.stat.of ? check_undeclared(op, "removed", err) : rc;
}

void verb_volume_delete(struct ctl_request *req, void *ctx)
{
	op_start(req, ctx, delete_take, delete_submit, delete_answer);
}

/* ---- pool grow ---- */

static void grow_done(struct thin_req *req, int res)
{
	struct op *op = req->user;
	reactor_task_finish(&op->task, res);
}

/* On the reactor's thread: the device first, then the pool in it. */
static void grow_run(struct reactor *reactor, struct reactor_task *task)
{
	struct op *op = task->user;
	struct thin_dev *dev = reactor_dev(reactor);
	int rc = 0;

	if (dev->size_bytes < op->size_bytes)
		rc = dev->ops->resize(dev, op->size_bytes, NULL);
	if (rc < 0) {
		reactor_task_finish(task, rc);
		return;
	}
	task->req = (struct thin_req){
		.op = THIN_POOL_GROW, .size_bytes = op->size_bytes, .done = grow_done, .user = op
	};
	thin_submit(reactor_pool(reactor), &task->req);
}

static void grow_finished(struct reactor_task *task, int res)
{
	struct op *op = task->user;
	struct err err = { 0 };
	char size[UNITS_TEXT_MAX];

	size_format(op->size_bytes, size);
	if (res < 0) {
		(void)err_sys(&err, res, "%s: '%s' cannot grow to %s", op->target.pool->subject,
			      op->target.pool->path, size);
		op_refuse(op, &err);
		return;
	}
	log_info(op->target.pool->subject, "grown to %s", size);
	op_end(op, json_pack("{s:s, s:I}", "pool", op->target.pool->conf->name, "size_bytes",
			     (json_int_t)op->size_bytes));
}

static int grow_check(struct op *op, const char *name, struct err *err)
{
	struct reactor_stat stat;
	char have[UNITS_TEXT_MAX];
	int rc = target_find_pool(op->daemon, name, &op->target.pool, err);

	if (rc < 0)
		return rc;
	if (op->size_bytes % THIN_BLOCK_SIZE || op->size_bytes > THIN_POOL_MAX)
		return err_set(err, -EINVAL,
			       "found a size of %llu bytes, expected a multiple of %u up to %s",
			       (unsigned long long)op->size_bytes, THIN_BLOCK_SIZE,
			       size_format(THIN_POOL_MAX, have));
	reactor_get_stat(op->target.pool->reactor, &stat);
	if (op->size_bytes <= stat.pool.size_bytes)
		return err_set(err, -EINVAL, "%s has %s already; a pool is never shrunk",
			       op->target.pool->subject, size_format(stat.pool.size_bytes, have));
	return 0;
}

static int grow_take(struct op *op, struct err *err)
{
	const char *name;

	if (ctl_arg_text(op->req, "pool", true, &name) < 0 ||
	    ctl_arg_u64(op->req, "size", true, &op->size_bytes) < 0)
		return -EAGAIN;
	return grow_check(op, name, err);
}

static void grow_submit(struct op *op)
{
	op_hold(op);
	op->task.run = grow_run;
	op->task.done = grow_finished;
	reactor_post(op->target.pool->reactor, &op->task);
}

void verb_pool_grow(struct ctl_request *req, void *ctx)
{
	op_start(req, ctx, grow_take, grow_submit, NULL);
}
