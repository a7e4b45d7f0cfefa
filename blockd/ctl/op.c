/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Operations: see op.h. */
#include "blockd/ctl/op.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/ctl/locks.h"
#include "common/base/cleanup.h"
#include "common/daemon/log.h"

#define CUT_MAX	 20 /* the bar lets nobody new in: more than one round is rare already */
#define PINS_MAX 3  /* named in a refusal */

/* ---- life ---- */

struct op *op_new(struct ctl_request *req, struct blockd *daemon)
{
	struct op *op = calloc(1, sizeof(*op));

	if (!op) {
		ctl_fail(req, -ENOMEM, "out of memory");
		return NULL;
	}
	metric_add(&daemon->verbs, 1);
	op->req = req;
	op->daemon = daemon;
	op->task.user = op;
	return op;
}

static void op_free(struct op *op)
{
	server_unbar(op->daemon->server, &op->bar);
	if (op->holds)
		op->target.pool->op_count--;
	free(op->own);
	free(op);
}

void op_end(struct op *op, json_t *result)
{
	ctl_reply(op->req, result);
	op_free(op);
}

void op_refuse(struct op *op, const struct err *err)
{
	metric_add(&op->daemon->refused_verbs, 1);
	ctl_fail_err(op->req, err);
	op_free(op);
}

void op_refuse_text(struct op *op, struct err *err, int rc, const char *fmt, ...)
{
	char text[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	(void)err_set(err, rc, "%s", text);
	op_refuse(op, err);
}

void op_drop(struct op *op)
{
	metric_add(&op->daemon->refused_verbs, 1);
	op_free(op);
}

/* ---- what is in use ---- */

static bool is_in_the_way(const struct op *op, const struct reactor_pin *pin)
{
	return pin->id == op->target.stat.id || (op->snapshots && pin->of == op->target.stat.id);
}

/* "exported to unix:pid=812,uid=64055", with a name when it is another than the op's */
static size_t name_pin(const struct op *op, const struct reactor_pin *pin, char *buf, size_t size)
{
	bool other = pin->id != op->target.stat.id;
	int n;

	if (pin->with[0])
		n = snprintf(buf, size, "%s%scompared with '%s' by %s", other ? pin->path : "",
			     other ? " " : "", pin->with, pin->by);
	else
		n = snprintf(buf, size, "%s%sexported to %s", other ? pin->path : "",
			     other ? " " : "", pin->by);
	return (size_t)n < size ? (size_t)n : size - 1;
}

/* PINS_MAX of them, then "and 2 more"; false: nobody is seen. */
static bool name_pins(const struct op *op, char *buf, size_t size)
{
	CLEANUP_FREE struct reactor_pin *list = NULL;
	size_t count = 0, all = 0, used = 0;

	if (reactor_list_pins(op->target.pool->reactor, &list, &count) < 0)
		return false;
	for (size_t i = 0; i < count; i++) {
		if (!is_in_the_way(op, &list[i]) || all++ >= PINS_MAX)
			continue;
		if (all > 1 && used + 3 < size)
			used += (size_t)snprintf(buf + used, size - used, ", ");
		used += name_pin(op, &list[i], buf + used, size - used);
	}
	if (all > PINS_MAX && used + 1 < size)
		snprintf(buf + used, size - used, " and %zu more", all - PINS_MAX);
	return all > 0;
}

static void refuse_busy(struct op *op)
{
	const char *kind = op->target.stat.of ? "snapshot" : "volume", *name = op->target.name;
	char pins[320], holder[LOCK_TEXT_MAX + 64];
	bool pinned = name_pins(op, pins, sizeof(pins));
	struct err err = { 0 };

	if (op->bound && !op->force &&
	    locks_describe(op->target.pool->reactor, name, holder, sizeof(holder)))
		(void)err_set(&err, -EBUSY, "%s '%s'%s%s: %s; --force breaks the lock%s", kind,
			      name, pinned ? " is open: " : "", pinned ? pins : "", holder,
			      pinned ? " and closes these connections first" : "");
	else if (!pinned)
		(void)err_set(&err, -EBUSY,
			      "%s '%s' is open: a connection is just coming or going; try again",
			      kind, name);
	else if (op->force)
		(void)err_set(&err, -EBUSY, "%s '%s' is open and does not close: %s; try again",
			      kind, name, pins);
	else
		(void)err_set(&err, -EBUSY,
			      "%s '%s' is open: %s; disconnect there, or --force closes these "
			      "connections first",
			      kind, name, pins);
	op_refuse(op, &err);
}

/* The engine's answer as a sentence. */
static void op_failed(struct op *op, int res)
{
	const char *pool = op->target.pool->subject, *name = op->target.name;
	struct err err = { 0 };

	if (op->explain && op->explain(op, res, &err)) {
		op_refuse(op, &err);
		return;
	}
	if (res == -EEXIST)
		(void)err_set(&err, res, "%s: volume '%s' exists already", pool,
			      op->new_name[0] ? op->new_name : name);
	else if (res == -ENOENT)
		(void)err_set(&err, res, "%s: no volume '%s'", pool, name);
	else if (res == -ENOTEMPTY)
		(void)err_set(&err, res,
			      "volume '%s' has snapshots; --snapshots removes them with it", name);
	else if (res == -ENOSPC)
		(void)err_set(&err, res, "%s: no space left", pool);
	else if (res == -EROFS)
		(void)err_set(&err, res, "%s is read-only (the log says why)", pool);
	else
		(void)err_sys(&err, res, "%s: volume '%s'", pool, name);
	op_refuse(op, &err);
}

void op_log(const struct op *op, const char *fmt, ...)
{
	char subject[THIN_PATH_MAX + 8], text[256];
	va_list ap;

	snprintf(subject, sizeof(subject), "vol %s", op->target.name);
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_info(subject, "%s", text);
}

/* ---- steps ---- */

static void op_done(struct reactor_task *task, int res);

void op_hold(struct op *op)
{
	if (!op->holds)
		op->target.pool->op_count++;
	op->holds = true;
}

void op_post(struct op *op)
{
	op_hold(op);
	op->task.run = NULL;
	op->task.done = op_done;
	reactor_post(op->target.pool->reactor, &op->task);
}

static void op_cut_done(struct reactor_task *task, int res)
{
	struct op *op = task->user;

	if (res > 0)
		op_log(op, "%d connections closed by --force", res);
	op->submit(op);
}

static void op_cut(struct op *op)
{
	op_hold(op);
	op->cuts++;
	op->task.done = op_cut_done;
	reactor_cut_conns(op->target.pool->reactor, op->target.name, op->snapshots, 0, &op->task);
}

static void op_broken(struct reactor_task *task, int res)
{
	struct op *op = task->user;

	if (res < 0)
		op_refuse(op, &op->breaking.err);
	else
		op_cut(op);
}

/* Nobody comes any more, and who is there is out: a client that connects anew must not write again
 * what it had under way. */
static void op_force(struct op *op)
{
	char holder[LOCK_TEXT_MAX + 64];

	op_hold(op);
	op->bar.reactor = op->target.pool->reactor;
	op->bar.volume = op->target.name;
	op->bar.snapshots = op->snapshots;
	server_bar(op->daemon->server, &op->bar);
	if (!op->bound ||
	    !locks_describe(op->target.pool->reactor, op->target.name, holder, sizeof(holder))) {
		op_cut(op);
		return;
	}
	op->breaking.verb = REACTOR_LOCK_BREAK;
	snprintf(op->breaking.volume, sizeof(op->breaking.volume), "%.127s", op->target.name);
	op->breaking.task.done = op_broken;
	op->breaking.task.user = op;
	reactor_post_lock(op->target.pool->reactor, &op->breaking);
}

static void op_done(struct reactor_task *task, int res)
{
	struct op *op = task->user;

	if (res == -EBUSY && op->force && op->cuts < CUT_MAX)
		op->cuts ? op_cut(op) : op_force(op);
	else if (res == -EBUSY)
		refuse_busy(op);
	else if (res < 0)
		op_failed(op, res);
	else
		op->answer(op);
}

void op_need_closed(struct op *op)
{
	char holder[LOCK_TEXT_MAX + 64];
	bool held = op->bound && locks_describe(op->target.pool->reactor, op->target.name, holder,
						sizeof(holder));

	if (op->target.stat.open_count == 0 && !held)
		op->submit(op);
	else if (op->force)
		op_force(op);
	else
		refuse_busy(op);
}

int check_undeclared(const struct op *op, const char *what, struct err *err)
{
	const struct blockd_conf_volume *declared = target_declared(op->daemon, &op->target);

	if (!declared)
		return 0;
	return err_set(err, -EPERM,
		       "volume '%s' is declared in %s:%u and cannot be %s; take it out there and "
		       "reload blockd first",
		       op->target.name, declared->section->pos.file, declared->section->pos.line,
		       what);
}

int op_take_volume(struct op *op, struct err *err)
{
	const char *volume;

	if (ctl_arg_text(op->req, "volume", true, &volume) < 0)
		return -EAGAIN; /* answered */
	return target_find_volume(op->daemon, volume, &op->target, err);
}

int op_take_any(struct op *op, struct err *err)
{
	const char *volume;

	if (ctl_arg_text(op->req, "volume", true, &volume) < 0)
		return -EAGAIN; /* answered */
	return target_find_any(op->daemon, volume, &op->target, err);
}

void op_reject(struct op *op, int rc, const struct err *err)
{
	if (rc == -EAGAIN)
		op_drop(op);
	else
		op_refuse(op, err);
}

json_t *volume_reply(const struct op *op)
{
	return json_pack("{s:s, s:s, s:I}", "pool", op->target.pool->conf->name, "name",
			 op->new_name[0] ? op->new_name : op->target.name, "size_bytes",
			 (json_int_t)op->size_bytes);
}

void op_start(struct ctl_request *req, struct blockd *daemon,
	      int (*take)(struct op *op, struct err *err), void (*submit)(struct op *op),
	      void (*answer)(struct op *op))
{
	struct op *op = op_new(req, daemon);
	struct err err = { 0 };
	int rc;

	if (!op)
		return;
	op->submit = submit;
	op->answer = answer;
	rc = take(op, &err);
	if (rc < 0)
		op_reject(op, rc, &err);
	else if (op->close_first)
		op_need_closed(op);
	else
		op->submit(op);
}
