// SPDX-License-Identifier: GPL-2.0-or-later
/* The verbs about write locks; what they do is access/lock.h. */
#include "blockd/ctl/locks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/access/lock_policy.h"
#include "blockd/ctl/target.h"
#include "blockd/ctl/verbs.h"
#include "common/base/units.h"
#include "common/daemon/log.h"

struct lock_op {
	struct reactor_lock_task task; /* first */
	struct ctl_request *req;
	struct blockd *daemon;
	struct blockd_pool *pool;
	struct target target;
};

static json_t *text_or_null(const char *text)
{
	return text[0] ? json_string(text) : json_null();
}

static json_t *ms_or_null(uint64_t ms)
{
	return ms == UINT64_MAX ? json_null() : json_integer((json_int_t)ms);
}

static json_t *policy_json(const struct lock_policy *policy)
{
	char second[LOCK_SETTING_MAX], grace[UNITS_TEXT_MAX];

	return json_pack("{s:s, s:s, s:s, s:s}", "second_writer",
			 lock_policy_second_text(policy, second), "on_disconnect",
			 lock_disconnect_words[policy->keep], "grace",
			 duration_format(policy->grace_ms, grace), "fence",
			 lock_fence_words[policy->disconnect]);
}

static json_t *lock_json(const char *pool, const struct reactor_lock_info *info)
{
	json_t *counts = json_object();

	for (int i = 0; counts && i < LOCK_EVENT_KINDS; i++)
		(void)json_object_set_new(counts, lock_event_name((enum lock_event)i),
					  json_integer((json_int_t)info->counts[i]));
	return json_pack(
		"{s:s, s:s, s:s, s:I, s:o, s:o, s:b, s:o, s:o, s:o, s:o, s:I, s:I, s:I, "
		"s:o, s:o}",
		"pool", pool, "volume", info->volume, "state", lock_state_name(info->state),
		"epoch", (json_int_t)info->epoch, "holder", text_or_null(info->owner), "since_s",
		info->since_s ? json_integer((json_int_t)info->since_s) : json_null(), "connected",
		info->connected, "grace_left_ms", ms_or_null(info->left_ms), "target",
		text_or_null(info->heir), "target_left_ms", ms_or_null(info->heir_ms), "fenced",
		text_or_null(info->fenced), "connections", (json_int_t)info->writers, "standbys",
		(json_int_t)info->standbys, "waiting", (json_int_t)info->waiting, "settings",
		policy_json(&info->policy), "counts", counts);
}

static void lock_done(struct reactor_task *task, int res)
{
	struct lock_op *op = task->user;

	op->pool->op_count--;
	if (res < 0) {
		metric_add(&op->daemon->refused_verbs, 1);
		if (!op->task.err.code)
			(void)err_sys(&op->task.err, res, "volume '%s'", op->target.name);
		ctl_fail_err(op->req, &op->task.err);
	} else {
		ctl_reply(op->req, lock_json(op->pool->conf->name, &op->task.info));
	}
	free(op);
}

static void lock_start(struct ctl_request *req, struct blockd *daemon, enum reactor_lock_verb verb,
		       int (*take)(struct lock_op *op))
{
	struct lock_op *op = calloc(1, sizeof(*op));
	const char *volume;
	struct err err = { 0 };
	int rc;

	if (!op) {
		ctl_fail(req, -ENOMEM, "out of memory");
		return;
	}
	metric_add(&daemon->verbs, 1);
	op->req = req;
	op->daemon = daemon;
	op->task.verb = verb;
	op->task.task.done = lock_done;
	op->task.task.user = op;
	rc = ctl_arg_text(req, "volume", true, &volume) < 0 ? -EAGAIN : 0;
	if (rc == 0 && target_find_volume(daemon, volume, &op->target, &err) < 0) {
		ctl_fail_err(req, &err);
		rc = -EAGAIN;
	}
	if (rc == 0 && take)
		rc = take(op);
	if (rc) { /* answered */
		metric_add(&daemon->refused_verbs, 1);
		free(op);
		return;
	}
	op->pool = op->target.pool;
	op->pool->op_count++;
	snprintf(op->task.volume, sizeof(op->task.volume), "%.127s", op->target.name);
	reactor_post_lock(op->pool->reactor, &op->task);
}

static int take_to(struct lock_op *op, bool required)
{
	const char *to = NULL;

	if (ctl_arg_text(op->req, "to", required, &to) < 0 ||
	    ctl_arg_u64(op->req, "if_epoch", false, &op->task.if_epoch) < 0)
		return -EAGAIN;
	if (to && strlen(to) > LOCK_TEXT_MAX) {
		ctl_fail(op->req, -EINVAL, "whom to hand it to: at most %u bytes", LOCK_TEXT_MAX);
		return -EAGAIN;
	}
	snprintf(op->task.to, sizeof(op->task.to), "%s", to ? to : "");
	return 0;
}

static int take_handover(struct lock_op *op)
{
	bool cancel = false;

	op->task.ttl_ms = LOCK_HANDOVER_TTL_MS;
	if (ctl_arg_flag(op->req, "cancel", &cancel) < 0 ||
	    ctl_arg_u64(op->req, "ttl_ms", false, &op->task.ttl_ms) < 0)
		return -EAGAIN;
	if (op->task.ttl_ms > LOCK_GRACE_MAX_MS) {
		ctl_fail(op->req, -EINVAL, "--ttl: at most 24h");
		return -EAGAIN;
	}
	if (cancel)
		op->task.verb = REACTOR_LOCK_CANCEL;
	return take_to(op, !cancel);
}

static int take_break(struct lock_op *op)
{
	return take_to(op, false);
}

void verb_lock_show(struct ctl_request *req, void *ctx)
{
	const struct blockd *daemon = ctx;
	const char *volume = NULL;
	json_t *locks;

	if (ctl_arg_text(req, "volume", false, &volume) < 0)
		return;
	if (volume) {
		lock_start(req, ctx, REACTOR_LOCK_SHOW, NULL);
		return;
	}
	locks = json_array();
	for (size_t i = 0; i < daemon->pool_count; i++) {
		struct reactor_lock_info *list = NULL;
		size_t count = 0;

		if (reactor_list_locks(daemon->pools[i]->reactor, &list, &count) < 0)
			continue;
		for (size_t k = 0; k < count; k++)
			(void)json_array_append_new(
				locks, lock_json(daemon->pools[i]->conf->name, &list[k]));
		free(list);
	}
	ctl_reply(req, json_pack("{s:o}", "locks", locks));
}

void verb_lock_handover(struct ctl_request *req, void *ctx)
{
	lock_start(req, ctx, REACTOR_LOCK_HANDOVER, take_handover);
}

void verb_lock_break(struct ctl_request *req, void *ctx)
{
	lock_start(req, ctx, REACTOR_LOCK_BREAK, take_break);
}

void verb_lock_allow(struct ctl_request *req, void *ctx)
{
	lock_start(req, ctx, REACTOR_LOCK_ALLOW, NULL);
}

/* ---- settings ---- */

static int take_setting(struct lock_op *op)
{
	const struct blockd_conf_volume *declared = target_declared(op->daemon, &op->target);
	struct reactor_lock_info info;
	const char *key, *value;
	struct err err = { 0 };
	int rc;

	if (ctl_arg_text(op->req, "key", true, &key) < 0 ||
	    ctl_arg_text(op->req, "value", true, &value) < 0)
		return -EAGAIN;
	if (declared)
		rc = err_set(&err, -EPERM,
			     "volume '%s' is declared in %s:%u: change it there and reload blockd",
			     op->target.name, declared->section->pos.file,
			     declared->section->pos.line);
	else
		rc = reactor_get_lock(op->target.pool->reactor, op->target.name, &info);
	if (rc == 0) {
		op->task.policy = info.policy;
		rc = lock_policy_set(&op->task.policy, key, value, &err);
	} else if (!err.code) {
		(void)err_sys(&err, rc, "volume '%s'", op->target.name);
	}
	if (rc == 0)
		return 0;
	ctl_fail_err(op->req, &err);
	return -EAGAIN;
}

void verb_volume_set(struct ctl_request *req, void *ctx)
{
	lock_start(req, ctx, REACTOR_LOCK_SET, take_setting);
}

/* ---- what binds the other verbs ---- */

bool locks_describe(struct reactor *reactor, const char *volume, char *text, size_t size)
{
	struct reactor_lock_info info;

	text[0] = '\0';
	if (strchr(volume, '@') || reactor_get_lock(reactor, volume, &info) < 0 ||
	    info.state == LOCK_FREE)
		return false;
	snprintf(text, size, "%s %s, epoch %llu",
		 info.owner[0] ? "its write lock is held by" : "its write lock is reserved for",
		 info.owner[0] ? info.owner : info.heir, (unsigned long long)info.epoch);
	return true;
}
