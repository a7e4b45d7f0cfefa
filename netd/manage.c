/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Orders that survive a crash between any two steps:
 *
 *   apply            kernel, then state (confirmed).  In between: the next start reads the files
 *                    and finds an empty plan.
 *   apply --confirm  state (pending), then kernel.  In between: the next start goes on with the
 *                    trial, or ends it.
 *   roll back        state (rejected), then kernel.  In between: the next start sees that the files
 *                    hold what was rejected, and runs the confirmed one.
 *
 * And a disk that cannot be written (full, read-only): what cannot be kept is not applied, or is
 * taken back; a trial ends in time all the same, and the state is written when that is possible; a
 * start needs the disk for nothing that was confirmed before.
 *
 * What vnetctl changes is in change.c.
 */
#include "netd/manage.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/cleanup.h"
#include "common/daemon/log.h"
#include "netd/manage_private.h"

#define AGAIN_MS 2000 /* a trial's end that could not be written down */

static void on_window_closed(void *ctx);

static int open_journal(struct manage *m, struct err *err)
{
	size_t foreign;
	int r = journal_open(m->st->dir, m->st->confirmed, &m->journal, &foreign, err);

	if (r == 0 && foreign)
		log_warning("config", "%zu changes of another configuration are left out", foreign);
	return r;
}

int manage_new(struct loop *loop, const char *path, struct state *st, struct reconcile *r,
	       struct manage **ret, struct err *err)
{
	struct manage *m = calloc(1, sizeof(*m));
	int rc;

	if (!m)
		return err_set(err, -ENOMEM, "out of memory");
	*m = (struct manage){ .loop = loop, .path = strdup(path), .st = st, .reconcile = r };
	if (!m->path || loop_timer_new(loop, on_window_closed, m, &m->window) < 0)
		rc = err_set(err, -ENOMEM, "out of memory");
	else
		rc = open_journal(m, err);
	if (rc == 0)
		rc = manage_fold(m, err);
	if (rc == -ENOSPC || rc == -EDQUOT || rc == -EROFS) {
		log_error("config", "%s", err->text); /* replayed by manage_start() */
		*err = (struct err){ 0 };
		rc = 0;
	}
	if (rc < 0) {
		manage_free(m);
		return rc;
	}
	m->load_ns = stamps_now_ns();
	*ret = m;
	return 0;
}

void manage_free(struct manage *m)
{
	if (!m)
		return;
	loop_timer_free(m->window);
	journal_close(m->journal);
	stamps_clear(&m->stamps);
	netd_subnets_clear(&m->subnets);
	free(m->control);
	free(m->path);
	free(m);
}

/* --- reading -------------------------------------------------------------------------------- */

int manage_load(const char *path, const char *own_path, struct conf **ret)
{
	struct conf *c = conf_new(&netd_conf_schema);
	int r;

	if (!c)
		return -ENOMEM;
	r = netd_conf_read(c, path);
	if (r != -ENOMEM && own_path && access(own_path, F_OK) == 0)
		r = conf_read_file(c, own_path);
	if (r != -ENOMEM)
		r = conf_finish(c);
	if (r == -ENOMEM) {
		conf_free(c);
		return r;
	}
	netd_conf_check(c);
	*ret = c;
	return 0;
}

/* What a running netd cannot change: where it listens, and what it remembers. */
static void demand_same(struct conf *c, const char *key, const char *now)
{
	const char *found = conf_text(conf_root(c), key);

	if (now && strcmp(found, now) != 0)
		conf_error_at(c, conf_root(c), key,
			      "found \"%s\", expected \"%s\" while netd runs with that; to "
			      "change it, restart netd",
			      found, now);
}

int manage_load_files(struct manage *m, struct conf **ret_good, struct conf **ret_bad,
		      struct err *err)
{
	struct conf *c = NULL;
	int r = manage_fold(m, err);

	if (r < 0)
		return r;
	m->load_ns = stamps_now_ns();
	r = manage_load(m->path, state_own_path(m->st), &c);
	if (r < 0)
		return err_sys(err, r, "%s", m->path);
	demand_same(c, "control", m->control);
	demand_same(c, "state", m->st->dir);
	if (conf_error_count(c)) {
		*ret_bad = c;
		return err_set(err, -EINVAL, "%s: %zu errors", m->path, conf_error_count(c));
	}
	*ret_good = c;
	return 0;
}

int manage_load_text(const char *name, const char *text, struct conf **ret, struct err *err)
{
	struct conf *c = conf_new(&netd_conf_schema);
	int r;

	if (!c)
		return err_set(err, -ENOMEM, "%s: out of memory", name);
	r = conf_read_text(c, name, text, strlen(text));
	r = r ? r : conf_finish(c);
	if (r < 0) {
		const char *first = conf_error_count(c) ? conf_error_text(c, 0) : "out of memory";

		err_set(err, r, "%s: %s", name, first);
		conf_free(c);
		return r;
	}
	netd_conf_check(c);
	*ret = c;
	return 0;
}

/* The confirmed one; on a host where nothing was confirmed yet, an empty one. */
static int load_confirmed(struct manage *m, struct conf **ret, struct err *err)
{
	CLEANUP_FREE char *text = NULL;
	int r;

	if (!m->st->confirmed[0])
		return manage_load_text("(empty)", "", ret, err);
	r = state_load_config(m->st, m->st->confirmed, &text, err);
	return r < 0 ? r : manage_load_text("(the confirmed configuration)", text, ret, err);
}

static int load_pending(struct manage *m, struct conf **ret, struct err *err)
{
	CLEANUP_FREE char *text = NULL;
	int r = state_load_config(m->st, m->st->pending.hash, &text, err);

	return r < 0 ? r : manage_load_text("(the configuration on trial)", text, ret, err);
}

int manage_read_own(struct manage *m, char **ret, struct err *err)
{
	CLEANUP_FCLOSE FILE *f = fopen(state_own_path(m->st), "re");
	size_t size = 0;

	*ret = NULL;
	if (!f && errno != ENOENT)
		return err_sys(err, -errno, "%s", state_own_path(m->st));
	if (f && getdelim(ret, &size, '\0', f) >= 0)
		return 0;
	free(*ret);
	*ret = strdup("");
	return *ret ? 0 : err_set(err, -ENOMEM, "out of memory");
}

void manage_in_force(struct manage *m, bool files)
{
	struct conf *c = reconcile_conf(m->reconcile);

	netd_subnets_clear(&m->subnets);
	m->subnets_known = false;
	if (files && c)
		stamps_take(&m->stamps, c, m->path, state_own_path(m->st), m->load_ns);
	else
		stamps_clear(&m->stamps);
}

/* --- the trial's end ------------------------------------------------------------------------- */

static void watch_window(struct manage *m)
{
	struct state_now now;

	state_now(&now);
	if (m->st->pending.active)
		loop_timer_set(m->window, m->ended ? AGAIN_MS : state_pending_left(m->st, &now));
	else
		loop_timer_stop(m->window);
}

static int restore_confirmed(struct manage *m, struct err *err)
{
	struct conf *c = NULL;
	int r = load_confirmed(m, &c, err);

	if (r == 0)
		r = reconcile_apply(m->reconcile, c, RECONCILE_RESTORE, NULL, err);
	manage_in_force(m, false);
	return r;
}

/*
 * Reject what is on trial and bring the confirmed one back.  A state that cannot be written keeps
 * nobody cut off: the network goes back, and the state follows when it can.
 */
static int end_trial(struct manage *m, struct err *err)
{
	struct err unwritten = { 0 };
	struct state_now now;
	int r;

	state_now(&now);
	r = state_reject(m->st, &now, &unwritten);
	if (r < 0 && !m->ended)
		log_error("config", "%s; rolling back all the same", unwritten.text);
	m->ended = r < 0;
	watch_window(m);
	return restore_confirmed(m, err);
}

static void on_window_closed(void *ctx)
{
	struct manage *m = ctx;
	struct err err = { 0 };
	struct state_now now;

	if (!m->st->pending.active)
		return;
	state_now(&now);
	if (!m->ended && state_pending_left(m->st, &now)) {
		watch_window(m); /* the clock of the timer stood still in suspend */
		return;
	}
	if (!m->ended)
		log_warning("config", "%s has not confirmed in time, rolling back",
			    m->st->pending.who);
	if (end_trial(m, &err) < 0)
		log_error("config", "rollback: %s", err.text);
}

/* --- start ----------------------------------------------------------------------------------- */

static int start_with(struct manage *m, struct conf *c, struct err *err)
{
	int r = reconcile_apply(m->reconcile, c, RECONCILE_START, NULL, err);

	if (r < 0 && conf_error_count(c))
		conf_print_errors(c, stderr);
	if (r < 0)
		conf_free(c);
	return r;
}

/* The files as they are; confirmed, since nobody asked for a trial. */
static int start_files(struct manage *m, struct conf *c, const char *text, struct err *err)
{
	CLEANUP_FREE char *own = NULL;
	int r = manage_read_own(m, &own, err);

	if (r < 0) {
		conf_free(c);
		return r;
	}
	r = start_with(m, c, err);
	if (r == 0 && state_commit(m->st, text, own, err) < 0) {
		/* a network without a memory is better than none */
		log_error("config", "not remembered as confirmed: %s", err->text);
		*err = (struct err){ 0 };
		manage_in_force(m, false);
		return 0;
	}
	manage_in_force(m, r == 0);
	return r;
}

int manage_start(struct manage *m, struct conf *c, struct err *err)
{
	int r = journal_count(m->journal) ? manage_replay(m, c, err) : 0;
	CLEANUP_FREE char *text = r == 0 ? netd_conf_canonical(c) : NULL;
	char hash[STATE_HASH_LEN + 1];
	struct conf *other = NULL;
	enum state_choice choice;
	struct state_now now;

	if (r < 0) {
		conf_free(c);
		return r;
	}
	m->control = strdup(conf_text(conf_root(c), "control"));
	if (!text || !m->control) {
		conf_free(c);
		return err_set(err, -ENOMEM, "out of memory");
	}
	state_now(&now);
	state_hash(text, strlen(text), hash);
	choice = state_choose(m->st, hash, &now);
	if (choice == STATE_RUN_FILES)
		return start_files(m, c, text, err);
	conf_free(c);
	if (choice == STATE_RUN_ROLLBACK) {
		log_warning("config", "%s had not confirmed in time, rolling back",
			    m->st->pending.who);
		return end_trial(m, err);
	}
	if (choice == STATE_RUN_CONFIRMED)
		log_warning("config",
			    "%s holds what was rolled back; running the last confirmed one "
			    "(edit the file, or vnetctl apply to take it all the same)",
			    m->path);
	r = choice == STATE_RUN_PENDING ? load_pending(m, &other, err)
					: load_confirmed(m, &other, err);
	r = r < 0 ? r : start_with(m, other, err);
	watch_window(m);
	return r;
}

/* --- verbs ----------------------------------------------------------------------------------- */

int manage_diff(struct manage *m, void (*line)(void *ctx, const char *text), void *ctx,
		size_t *ret_count, struct conf **ret_bad, struct err *err)
{
	struct conf *c = NULL;
	int r = manage_load_files(m, &c, ret_bad, err);

	if (r < 0)
		return r;
	r = reconcile_diff(m->reconcile, c, line, ctx, ret_count, err);
	if (r < 0 && conf_error_count(c))
		*ret_bad = c;
	else
		conf_free(c);
	return r;
}

int manage_apply_conf(struct manage *m, struct conf *c, size_t *ret_count, struct conf **ret_bad,
		      struct err *err)
{
	int r = reconcile_apply(m->reconcile, c, RECONCILE_STRICT, ret_count, err);

	if (r == 0)
		manage_in_force(m, true);

	if (r < 0 && conf_error_count(c))
		*ret_bad = c;
	else if (r < 0)
		conf_free(c);
	return r;
}

static int apply_on_trial(struct manage *m, const char *who, uint64_t window_ms, struct conf *c,
			  const char *text, const char *own, size_t *ret_count,
			  struct conf **ret_bad, struct err *err)
{
	struct state_now now;
	size_t count = 0;
	int r = reconcile_diff(m->reconcile, c, NULL, NULL, &count, err);

	state_now(&now);
	if (r == 0)
		r = state_begin(m->st, text, own, who, window_ms, &now, err);
	if (r < 0) {
		if (conf_error_count(c))
			*ret_bad = c;
		else
			conf_free(c);
		return r;
	}
	r = manage_apply_conf(m, c, ret_count, ret_bad, err);
	if (r < 0 && state_cancel(m->st, NULL) < 0)
		log_error("config", "the failed trial could not be forgotten");
	watch_window(m);
	return r;
}

void manage_take_back(struct manage *m, const char *before)
{
	struct conf *c = NULL;
	struct err err = { 0 };
	size_t count;
	int r = before ? manage_load_text("(what was in force)", before, &c, &err) : 0;

	if (r == 0 && before)
		r = reconcile_apply(m->reconcile, c, RECONCILE_RESTORE, NULL, &err);
	else if (r == 0)
		r = reconcile_down(m->reconcile, &count, &err);
	manage_in_force(m, false);
	if (r < 0)
		log_error("config", "taking back what could not be written down: %s", err.text);
}

char *manage_text_in_force(struct manage *m)
{
	struct conf *c = reconcile_conf(m->reconcile);

	return c ? netd_conf_canonical(c) : NULL;
}

int manage_apply(struct manage *m, const char *who, uint64_t window_ms, size_t *ret_count,
		 struct conf **ret_bad, struct err *err)
{
	CLEANUP_FREE char *before = manage_text_in_force(m);
	CLEANUP_FREE char *text = NULL;
	CLEANUP_FREE char *own = NULL;
	struct conf *c = NULL;
	int r = state_idle(m->st, err);

	r = r < 0 ? r : manage_load_files(m, &c, ret_bad, err);
	if (r < 0)
		return r;
	text = netd_conf_canonical(c);
	r = text ? manage_read_own(m, &own, err) : err_set(err, -ENOMEM, "out of memory");
	if (r < 0) {
		conf_free(c);
		return r;
	}
	if (window_ms)
		return apply_on_trial(m, who, window_ms, c, text, own, ret_count, ret_bad, err);
	r = manage_apply_conf(m, c, ret_count, ret_bad, err);
	if (r < 0)
		return r;
	r = state_commit(m->st, text, own, err);
	if (r < 0)
		manage_take_back(m, before);
	return r;
}

int manage_confirm(struct manage *m, struct err *err)
{
	int r = m->ended ? err_set(err, -ETIMEDOUT, "too late: it was rolled back")
			 : state_confirm(m->st, err);

	watch_window(m);
	return r;
}

int manage_rollback(struct manage *m, const char *who, struct err *err)
{
	struct state_now now;
	int r;

	if (m->st->pending.active)
		return end_trial(m, err);
	r = manage_fold(m, err);
	state_now(&now);
	r = r < 0 ? r : state_step_back(m->st, who, &now, err);
	return r < 0 ? r : restore_confirmed(m, err);
}

int manage_down(struct manage *m, size_t *ret_count, struct err *err)
{
	int r = state_idle(m->st, err);

	return r < 0 ? r : reconcile_down(m->reconcile, ret_count, err);
}
