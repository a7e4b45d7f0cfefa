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
 *   change           kernel, vnetctl's file, state.  In between: the change was never acknowledged;
 *                    the next start takes it away or keeps it as a whole.
 */
#include "netd/manage.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/cleanup.h"
#include "common/base/nearest.h"
#include "common/base/units.h"
#include "common/daemon/log.h"

struct manage {
	struct loop *loop;
	char *path;
	struct state *st;
	struct reconcile *reconcile;
	struct loop_timer *window; /* of the trial */
};

static void on_window_closed(void *ctx);

int manage_new(struct loop *loop, const char *path, struct state *st, struct reconcile *r,
	       struct manage **ret)
{
	struct manage *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	*m = (struct manage){ .loop = loop, .path = strdup(path), .st = st, .reconcile = r };
	if (!m->path || loop_timer_new(loop, on_window_closed, m, &m->window) < 0) {
		free(m->path);
		free(m);
		return -ENOMEM;
	}
	*ret = m;
	return 0;
}

void manage_free(struct manage *m)
{
	if (!m)
		return;
	loop_timer_free(m->window);
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

static int load_files(struct manage *m, struct conf **ret_good, struct conf **ret_bad,
		      struct err *err)
{
	struct conf *c = NULL;
	int r = manage_load(m->path, state_own_path(m->st), &c);

	if (r < 0)
		return err_sys(err, r, "%s", m->path);
	if (conf_error_count(c)) {
		*ret_bad = c;
		return err_set(err, -EINVAL, "%s: %zu errors", m->path, conf_error_count(c));
	}
	*ret_good = c;
	return 0;
}

/* A configuration that was in force once, from its canonical text. */
static int load_text(const char *name, const char *text, struct conf **ret, struct err *err)
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
		return load_text("(empty)", "", ret, err);
	r = state_load_config(m->st, m->st->confirmed, &text, err);
	return r < 0 ? r : load_text("(the confirmed configuration)", text, ret, err);
}

static int load_pending(struct manage *m, struct conf **ret, struct err *err)
{
	CLEANUP_FREE char *text = NULL;
	int r = state_load_config(m->st, m->st->pending.hash, &text, err);

	return r < 0 ? r : load_text("(the configuration on trial)", text, ret, err);
}

/* What vnetctl's own file holds now; "" without one. */
static int read_own(struct manage *m, char **ret, struct err *err)
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

/* --- the trial's end ------------------------------------------------------------------------- */

static void watch_window(struct manage *m)
{
	struct state_now now;

	state_now(&now);
	if (m->st->pending.active)
		loop_timer_set(m->window, state_pending_left(m->st, &now));
	else
		loop_timer_stop(m->window);
}

/* Reject what is on trial and bring the confirmed one back. */
static int end_trial(struct manage *m, struct err *err)
{
	struct conf *c = NULL;
	struct state_now now;
	int r;

	state_now(&now);
	r = state_reject(m->st, &now, err);
	if (r < 0)
		return r;
	watch_window(m);
	r = load_confirmed(m, &c, err);
	return r < 0 ? r : reconcile_apply(m->reconcile, c, RECONCILE_RESTORE, NULL, err);
}

static void on_window_closed(void *ctx)
{
	struct manage *m = ctx;
	struct err err = { 0 };
	struct state_now now;

	if (!m->st->pending.active)
		return;
	state_now(&now);
	if (state_pending_left(m->st, &now)) {
		watch_window(m); /* the clock of the timer stood still in suspend */
		return;
	}
	log_warning("config", "%s has not confirmed in time, rolling back", m->st->pending.who);
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
	int r = read_own(m, &own, err);

	if (r < 0) {
		conf_free(c);
		return r;
	}
	r = start_with(m, c, err);
	return r < 0 ? r : state_commit(m->st, text, own, err);
}

int manage_start(struct manage *m, struct conf *c, struct err *err)
{
	CLEANUP_FREE char *text = netd_conf_canonical(c);
	char hash[STATE_HASH_LEN + 1];
	struct conf *other = NULL;
	enum state_choice choice;
	struct state_now now;
	int r;

	if (!text) {
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
	int r = load_files(m, &c, ret_bad, err);

	if (r < 0)
		return r;
	r = reconcile_diff(m->reconcile, c, line, ctx, ret_count, err);
	if (r < 0 && conf_error_count(c))
		*ret_bad = c;
	else
		conf_free(c);
	return r;
}

/* Apply `c`; on failure it goes to *ret_bad when it is at fault, else away. */
static int apply_conf(struct manage *m, struct conf *c, size_t *ret_count, struct conf **ret_bad,
		      struct err *err)
{
	int r = reconcile_apply(m->reconcile, c, RECONCILE_STRICT, ret_count, err);

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
	r = apply_conf(m, c, ret_count, ret_bad, err);
	if (r < 0 && state_cancel(m->st, NULL) < 0)
		log_error("config", "the failed trial could not be forgotten");
	watch_window(m);
	return r;
}

int manage_apply(struct manage *m, const char *who, uint64_t window_ms, size_t *ret_count,
		 struct conf **ret_bad, struct err *err)
{
	CLEANUP_FREE char *text = NULL;
	CLEANUP_FREE char *own = NULL;
	struct conf *c = NULL;
	int r = state_idle(m->st, err);

	r = r < 0 ? r : load_files(m, &c, ret_bad, err);
	if (r < 0)
		return r;
	text = netd_conf_canonical(c);
	r = text ? read_own(m, &own, err) : err_set(err, -ENOMEM, "out of memory");
	if (r < 0) {
		conf_free(c);
		return r;
	}
	if (window_ms)
		return apply_on_trial(m, who, window_ms, c, text, own, ret_count, ret_bad, err);
	r = apply_conf(m, c, ret_count, ret_bad, err);
	return r < 0 ? r : state_commit(m->st, text, own, err);
}

int manage_confirm(struct manage *m, struct err *err)
{
	int r = state_confirm(m->st, err);

	watch_window(m);
	return r;
}

int manage_rollback(struct manage *m, const char *who, struct err *err)
{
	struct conf *c = NULL;
	struct state_now now;
	int r;

	if (m->st->pending.active)
		return end_trial(m, err);
	state_now(&now);
	r = state_step_back(m->st, who, &now, err);
	r = r < 0 ? r : load_confirmed(m, &c, err);
	return r < 0 ? r : reconcile_apply(m->reconcile, c, RECONCILE_RESTORE, NULL, err);
}

int manage_down(struct manage *m, size_t *ret_count, struct err *err)
{
	int r = state_idle(m->st, err);

	return r < 0 ? r : reconcile_down(m->reconcile, ret_count, err);
}

/* --- changes by vnetctl ------------------------------------------------------------------------
 */

/* A change is applied alone: what somebody edited in the files meanwhile waits for an apply. */
static int demand_files_in_force(struct manage *m, const struct conf *c, struct err *err)
{
	CLEANUP_FREE char *files = netd_conf_canonical(c);
	struct conf *running = reconcile_conf(m->reconcile);
	CLEANUP_FREE char *now = running ? netd_conf_canonical(running) : NULL;

	if (!running)
		return err_set(err, -ESTALE,
			       "nothing is in force since vnetctl down; vnetctl "
			       "apply first");
	if (!files || !now)
		return err_set(err, -ENOMEM, "out of memory");
	if (strcmp(files, now) != 0)
		return err_set(err, -ESTALE,
			       "%s has changed since it was applied (vnetctl diff "
			       "shows how); vnetctl apply first",
			       m->path);
	return 0;
}

static const struct conf_key *find_key(const struct conf_section *s, const char *name)
{
	for (const struct conf_key *k = s->type->keys; k->name; k++)
		if (strcmp(k->name, name) == 0)
			return k;
	return NULL;
}

static int refuse_key(const struct conf_section *s, const char *name, struct err *err)
{
	struct nearest near;

	nearest_start(&near, name);
	for (const struct conf_key *k = s->type->keys; k->name; k++)
		nearest_feed(&near, k->name);
	if (near.best)
		return err_set(err, -EINVAL,
			       "found unknown key \"%.40s\", expected a known one; did you mean "
			       "\"%s\"?",
			       name, near.best);
	return err_set(err, -EINVAL, "found unknown key \"%.40s\", expected a known one", name);
}

/* "a,b" becomes two values where the key is a list. */
static int set_key(struct conf *c, struct conf_section *s, const struct manage_setting *v,
		   struct err *err)
{
	const struct conf_key *key = find_key(s, v->key);
	CLEANUP_FREE char *copy = strdup(v->value);
	const char *texts[256];
	size_t count = 0;
	char *rest = copy;

	if (!copy)
		return err_set(err, -ENOMEM, "out of memory");
	if (!key)
		return refuse_key(s, v->key, err);
	if (!v->value[0]) {
		conf_entry_unset(c, s, v->key);
		return 0;
	}
	if (!(key->flags & CONF_LIST))
		return conf_entry_set(c, s, v->key, (const char *const[]){ v->value }, 1, err);
	while (rest) {
		char *one = strsep(&rest, ",");

		if (count == sizeof(texts) / sizeof(*texts))
			return err_set(err, -E2BIG, "%s: found more than %zu values", v->key,
				       count);
		texts[count++] = one;
	}
	return conf_entry_set(c, s, v->key, texts, count, err);
}

/* An object that a file of the administrator defines is changed there. */
static int demand_own(struct manage *m, const struct conf_section *s, struct err *err)
{
	char label[64];

	if (strcmp(s->pos.file, state_own_path(m->st)) == 0)
		return 0;
	return err_set(err, -EPERM, "%s is defined in %s:%u; change it there",
		       conf_section_label(s, label, sizeof(label)), s->pos.file, s->pos.line);
}

static int change_section(struct manage *m, struct conf *c, enum manage_action action,
			  const char *kind, const char *name, const struct manage_setting *settings,
			  size_t count, struct err *err)
{
	const struct conf_pos pos = { state_own_path(m->st), 0 };
	char canonical[24], label[64];
	struct conf_section *s;
	uint64_t vid;
	int r;

	if (strcmp(kind, "vlan") == 0 && number_parse(name, 0, UINT32_MAX, "", &vid, NULL) == 0) {
		snprintf(canonical, sizeof(canonical), "%u", (unsigned int)vid);
		name = canonical; /* "010" is 10 */
	}
	s = conf_section_find(c, conf_root(c), kind, name);

	if (action == MANAGE_ADD && s)
		return err_set(err, -EEXIST, "%s exists (%s:%u)",
			       conf_section_label(s, label, sizeof(label)), s->pos.file,
			       s->pos.line);
	if (action != MANAGE_ADD && !s)
		return err_set(err, -ENOENT, "there is no %s \"%s\"", kind, name);
	if (s) {
		r = demand_own(m, s, err);
		if (r < 0)
			return r;
	}
	if (action == MANAGE_RM) {
		conf_section_remove(c, s);
		return 0;
	}
	r = s ? 0 : conf_section_put(c, conf_root(c), kind, name, &pos, &s, err);
	for (size_t i = 0; r == 0 && i < count; i++)
		r = set_key(c, s, &settings[i], err);
	return r;
}

int manage_change(struct manage *m, const char *who, enum manage_action action, const char *kind,
		  const char *name, const struct manage_setting *settings, size_t count,
		  struct conf **ret_bad, struct err *err)
{
	CLEANUP_FREE char *text = NULL;
	CLEANUP_FREE char *own = NULL;
	struct conf *c = NULL;
	int r = state_idle(m->st, err);

	r = r < 0 ? r : load_files(m, &c, ret_bad, err);
	if (r < 0)
		return r;
	r = demand_files_in_force(m, c, err);
	r = r < 0 ? r : change_section(m, c, action, kind, name, settings, count, err);
	if (r < 0) {
		conf_free(c);
		return r;
	}
	if (conf_finish(c) == 0)
		netd_conf_check(c);
	if (conf_error_count(c)) {
		*ret_bad = c;
		return err_set(err, -EINVAL, "the change is refused");
	}
	r = apply_conf(m, c, NULL, ret_bad, err);
	if (r < 0)
		return r;
	/* `c` is in force now and belongs to the reconcile, but is still there to be printed */
	r = conf_save(c, state_own_path(m->st), state_own_path(m->st), err);
	text = netd_conf_canonical(c);
	r = r < 0 ? r : read_own(m, &own, err);
	r = r < 0 ? r : (text ? 0 : err_set(err, -ENOMEM, "out of memory"));
	r = r < 0 ? r : state_commit(m->st, text, own, err);
	if (r == 0)
		log_info("config", "%s: %s %s \"%s\"", who,
			 action == MANAGE_RM	? "removed"
			 : action == MANAGE_ADD ? "added"
						: "set",
			 kind, name);
	return r;
}
