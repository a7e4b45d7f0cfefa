/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What vnetctl adds, sets and removes: two ways to the same end.
 *
 *   the long way    read and check everything, plan, run, rewrite vnetctl's file and the state.
 *                   Order: kernel, vnetctl's file, state.
 *   the short way   change the conf in force in place, check and plan what this one object can
 *                   touch (netd/quick.c), run, append a line to the journal.  Order: kernel,
 *journal.
 *
 * In between the change was never acknowledged; the next start takes it away or keeps it as a
 * whole.  The short way is for what is plainly fine, while the files are those that the conf in
 * force was read from and nothing is known to have drifted.  Whatever is not is undone and goes the
 * long way, which does it, or says what is wrong with it.  So both leave the same.
 *
 * Folding brings the journal's lines into the files:
 *
 *	config-BASE (+ lines but the last) = config-P, + the last = config-C; vnetctl.conf + lines
 *	vnetctl.conf -> state.json {previous: P, confirmed: C} -> empty journal
 *
 * A crash in between repeats it: a line says what an object is in the end (all keys of an added
 *one, new values of a changed one, gone), so lines may be replayed over their own result.  It
 *happens before anything else reads or changes the state, and at a stop.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cleanup.h"
#include "common/base/nearest.h"
#include "common/base/units.h"
#include "common/daemon/log.h"
#include "netd/desired.h"
#include "netd/manage_private.h"

/* What vnetctl asks for. */
struct change {
	enum manage_action action;
	const char *kind, *name;
	const struct manage_setting *settings;
	size_t count;
};

static const char *const action_words[] = {
	[MANAGE_ADD] = "add", [MANAGE_SET] = "set", [MANAGE_RM] = "rm"
};

/* --- one object of a tree --------------------------------------------------------------------- */

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

/* "010" is 10; `buf` of 24 bytes. */
static const char *canonical_name(const struct change *ch, char *buf)
{
	uint64_t vid;

	if (strcmp(ch->kind, "vlan") != 0 ||
	    number_parse(ch->name, 0, UINT32_MAX, "", &vid, NULL) != 0)
		return ch->name;
	snprintf(buf, 24, "%u", (unsigned int)vid);
	return buf;
}

static struct conf_section *find_section(struct conf *c, const struct change *ch)
{
	char buf[24];

	return conf_section_find(c, conf_root(c), ch->kind, canonical_name(ch, buf));
}

/* The section of an added object, or the one there is, with the keys set. */
static int put_section(struct manage *m, struct conf *c, const struct change *ch,
		       struct conf_section **ret, struct err *err)
{
	const struct conf_pos pos = { state_own_path(m->st), 0 };
	char buf[24];
	int r = conf_section_put(c, conf_root(c), ch->kind, canonical_name(ch, buf), &pos, ret,
				 err);

	for (size_t i = 0; r == 0 && i < ch->count; i++)
		r = set_key(c, *ret, &ch->settings[i], err);
	return r;
}

/* --- the long way ----------------------------------------------------------------------------- */

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

/* An object that a file of the administrator defines is changed there. */
static int demand_own(struct manage *m, const struct conf_section *s, struct err *err)
{
	char label[64];

	if (strcmp(s->pos.file, state_own_path(m->st)) == 0)
		return 0;
	return err_set(err, -EPERM, "%s is defined in %s:%u; change it there",
		       conf_section_label(s, label, sizeof(label)), s->pos.file, s->pos.line);
}

static int change_tree(struct manage *m, struct conf *c, const struct change *ch, struct err *err)
{
	struct conf_section *s = find_section(c, ch);
	char label[64];
	int r;

	if (ch->action == MANAGE_ADD && s)
		return err_set(err, -EEXIST, "%s exists (%s:%u)",
			       conf_section_label(s, label, sizeof(label)), s->pos.file,
			       s->pos.line);
	if (ch->action != MANAGE_ADD && !s)
		return err_set(err, -ENOENT, "there is no %s \"%s\"", ch->kind, ch->name);
	r = s ? demand_own(m, s, err) : 0;
	if (r < 0)
		return r;
	if (ch->action != MANAGE_RM)
		return put_section(m, c, ch, &s, err);
	conf_section_remove(c, s);
	return 0;
}

/*
 * `c` is in force and belongs to the reconcile, but is still there to be printed.  What cannot be
 * kept goes again.
 */
static int commit_change(struct manage *m, struct conf *c, const char *before, struct err *err)
{
	CLEANUP_FREE char *text = netd_conf_canonical(c);
	CLEANUP_FREE char *old_own = NULL;
	CLEANUP_FREE char *own = NULL;
	int r = manage_read_own(m, &old_own, err);

	r = r < 0 ? r : conf_save(c, state_own_path(m->st), state_own_path(m->st), err);

	r = r < 0 ? r : manage_read_own(m, &own, err);
	r = r < 0 ? r : (text ? 0 : err_set(err, -ENOMEM, "out of memory"));
	r = r < 0 ? r : state_commit(m->st, text, own, err);
	manage_in_force(m, r == 0);
	if (r == 0)
		return 0;
	if (own && strcmp(own, old_own) != 0 && state_write_own(m->st, old_own, NULL) < 0)
		log_error("config", "%s holds a change that was taken back", state_own_path(m->st));
	manage_take_back(m, before);
	return r;
}

static int change_long(struct manage *m, const struct change *ch, struct conf **ret_bad,
		       struct err *err)
{
	CLEANUP_FREE char *before = manage_text_in_force(m);
	struct conf *c = NULL;
	int r = manage_load_files(m, &c, ret_bad, err);

	if (r < 0)
		return r;
	r = demand_files_in_force(m, c, err);
	r = r < 0 ? r : change_tree(m, c, ch, err);
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
	r = manage_apply_conf(m, c, NULL, ret_bad, err);
	return r < 0 ? r : commit_change(m, c, before, err);
}

/* --- the journal's lines -----------------------------------------------------------------------
 */

/* {"action": "set", "kind": "forward", "name": "x", "keys": {"listen": "80"}}; NULL: no memory. */
static char *line_of(const struct change *ch)
{
	json_t *keys = json_object(), *o;
	char *text;

	for (size_t i = 0; i < ch->count; i++)
		json_object_set_new(keys, ch->settings[i].key, json_string(ch->settings[i].value));
	o = json_pack("{s:s, s:s, s:s, s:o}", "action", action_words[ch->action], "kind", ch->kind,
		      "name", ch->name, "keys", keys);
	text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	json_decref(o);
	return text;
}

/* Bring `c` to where the change led, whatever of it is there already. */
static int replay(struct manage *m, struct conf *c, const struct change *ch, struct err *err)
{
	struct conf_section *s = find_section(c, ch);

	if (s && ch->action != MANAGE_SET)
		conf_section_remove(c, s);
	return ch->action == MANAGE_RM ? 0 : put_section(m, c, ch, &s, err);
}

static int replay_json(struct manage *m, struct conf *c, json_t *o, struct err *err)
{
	const char *action = json_string_value(json_object_get(o, "action")), *key;
	json_t *keys = json_object_get(o, "keys"), *value;
	CLEANUP_FREE struct manage_setting *settings =
		calloc(json_object_size(keys) + 1, sizeof(*settings));
	struct change ch = { .kind = json_string_value(json_object_get(o, "kind")),
			     .name = json_string_value(json_object_get(o, "name")),
			     .settings = settings };

	if (!settings)
		return err_set(err, -ENOMEM, "out of memory");
	json_object_foreach(keys, key, value) settings[ch.count++] =
		(struct manage_setting){ key, json_string_value(value) };
	for (size_t i = 0; action && ch.kind && ch.name && i < 3; i++)
		if (strcmp(action, action_words[i]) == 0) {
			ch.action = (enum manage_action)i;
			return replay(m, c, &ch, err);
		}
	return err_set(err, -EUCLEAN, "found a line of another version of netd");
}

/* Lines first..last-1 over `c`. */
static int replay_lines(struct manage *m, struct conf *c, size_t first, size_t last,
			struct err *err)
{
	int r = 0;

	for (size_t i = first; r == 0 && i < last; i++) {
		json_t *o = json_loads(journal_line(m->journal, i), 0, NULL);

		r = replay_json(m, c, o, err);
		json_decref(o);
		if (r < 0)
			err_context(err, "change %zu of the journal", i + 1);
	}
	return r;
}

int manage_replay(struct manage *m, struct conf *c, struct err *err)
{
	int r = replay_lines(m, c, 0, journal_count(m->journal), err);

	if (r == 0 && conf_finish(c) == 0)
		netd_conf_check(c);
	return r;
}

/* --- folding ------------------------------------------------------------------------------------
 */

/* A configuration before the journal's last line, and after it. */
struct folded {
	char *before, *after;
};

static void folded_clear(struct folded *f)
{
	free(f->before);
	free(f->after);
}

static int fold_tree(struct manage *m, struct conf *c, struct folded *ret, struct err *err)
{
	size_t count = journal_count(m->journal);
	int r = replay_lines(m, c, 0, count - 1, err);

	if (r == 0)
		ret->before = netd_conf_canonical(c);
	r = r < 0 ? r : replay_lines(m, c, count - 1, count, err);
	if (r == 0)
		ret->after = netd_conf_canonical(c);
	if (r == 0 && (!ret->before || !ret->after))
		r = err_set(err, -ENOMEM, "out of memory");
	return r;
}

static int fold_base(struct manage *m, struct folded *ret, struct err *err)
{
	CLEANUP_FREE char *text = NULL;
	struct conf *c = NULL;
	int r = state_load_config(m->st, m->st->confirmed, &text, err);

	r = r < 0 ? r : manage_load_text("(the confirmed configuration)", text, &c, err);
	r = r < 0 ? r : fold_tree(m, c, ret, err);
	conf_free(c);
	return r;
}

static int fold_own(struct manage *m, struct folded *ret, struct err *err)
{
	CLEANUP_FREE char *text = NULL;
	struct conf *c = conf_new(&netd_conf_schema);
	int r = c ? manage_read_own(m, &text, err) : err_set(err, -ENOMEM, "out of memory");

	if (r == 0 && conf_read_text(c, state_own_path(m->st), text, strlen(text)) < 0)
		r = err_set(err, -EINVAL, "%s",
			    conf_error_count(c) ? conf_error_text(c, 0) : "out of memory");
	r = r < 0 ? r : fold_tree(m, c, ret, err);
	conf_free(c);
	return r;
}

int manage_fold(struct manage *m, struct err *err)
{
	struct folded all = { 0 }, own = { 0 };
	bool same;
	int r;

	if (!journal_count(m->journal))
		return 0;
	same = stamps_same(&m->stamps);
	r = fold_base(m, &all, err);
	r = r < 0 ? r : fold_own(m, &own, err);
	r = r < 0 ? r : state_advance(m->st, all.before, own.before, all.after, own.after, err);
	if (same) /* what was written there is in force */
		stamps_renew(&m->stamps, state_own_path(m->st));
	r = r < 0 ? r : journal_reset(m->journal, err);
	folded_clear(&all);
	folded_clear(&own);
	return r;
}

int manage_close(struct manage *m, struct err *err)
{
	return manage_fold(m, err);
}

/* --- the short way ------------------------------------------------------------------------------
 */

static bool is_own(struct manage *m, const struct conf_section *s)
{
	return strcmp(s->pos.file, state_own_path(m->st)) == 0;
}

/* A change of the conf in force that may have to be taken back. */
struct attempt {
	struct manage *m;
	struct conf *c;
	const struct change *ch;
	struct conf_section *s;	     /* NULL: not there yet */
	struct conf_section *before; /* where a removed one was */
	struct conf_entry **saved;   /* of a changed one */
	bool put, removed;
	bool forward, old_given, new_given;
	struct nat_forward old, new; /* of a forward */
};

static void attempt_undo(struct attempt *a)
{
	if (a->saved)
		conf_section_restore(a->s, a->saved);
	if (a->removed)
		conf_section_put_back(a->c, a->s, a->before);
	if (a->put && a->s)
		conf_section_remove(a->c, a->s);
	conf_errors_clear(a->c);
}

/* Does a forward stand for itself?  Errors are left behind in the conf. */
static bool forward_is_fine(struct attempt *a)
{
	struct manage *m = a->m;

	if (a->removed)
		return true;
	if (!m->subnets_known && netd_subnets_build(a->c, &m->subnets) < 0)
		return false;
	m->subnets_known = true;
	netd_conf_check_forward(a->c, &m->subnets, a->s);
	if (conf_error_count(a->c))
		return false;
	a->new_given = true;
	return netd_desired_forward(a->s, &a->new) == 0;
}

/* Forwards must be in the subnets of VLANs; else nothing of theirs depends on other objects. */
static bool rest_is_fine(struct attempt *a)
{
	const char *kind = a->ch->kind;

	if (strcmp(kind, "vlan") != 0 && strcmp(kind, "bridge") != 0) {
		netd_conf_check_rest(a->c);
	} else {
		netd_conf_check(a->c);
		netd_subnets_clear(&a->m->subnets);
		a->m->subnets_known = false;
	}
	return !conf_error_count(a->c);
}

static bool is_fine(struct attempt *a)
{
	if (!a->removed && conf_section_finish(a->c, a->s) < 0)
		return false;
	return a->forward ? forward_is_fine(a) : rest_is_fine(a);
}

static char *text_of(const struct conf_section *s)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (f && conf_print_section(s, f, CONF_PRINT_SET) == 0 && fclose(f) == 0)
		return text;
	free(text);
	return NULL;
}

/* Another value is another text; the same one would be no step to roll back to. */
static int change_keys(struct attempt *a)
{
	CLEANUP_FREE char *old = text_of(a->s), *new = NULL;

	a->saved = conf_section_save(a->c, a->s);
	if (!old || !a->saved || put_section(a->m, a->c, a->ch, &a->s, NULL) < 0)
		return -EAGAIN;
	new = text_of(a->s);
	return new &&strcmp(old, new) != 0 ? 0 : -EAGAIN;
}

static int change_in_place(struct attempt *a)
{
	if (a->ch->action == MANAGE_RM) {
		a->before = conf_section_before(a->s);
		conf_section_remove(a->c, a->s);
		a->removed = true;
		return 0;
	}
	if (a->s)
		return change_keys(a);
	a->put = true;
	return put_section(a->m, a->c, a->ch, &a->s, NULL);
}

static int attempt_start(struct attempt *a)
{
	a->s = find_section(a->c, a->ch);
	if ((a->ch->action == MANAGE_ADD) != !a->s || (a->s && !is_own(a->m, a->s)))
		return -EAGAIN;
	a->forward = strcmp(a->ch->kind, "forward") == 0;
	a->old_given = a->forward && a->s;
	if (a->old_given && netd_desired_forward(a->s, &a->old) < 0)
		return -EAGAIN;
	return change_in_place(a) < 0 || !is_fine(a) ? -EAGAIN : 0;
}

static int attempt_run(struct attempt *a)
{
	if (!a->forward)
		return reconcile_change_rest(a->m->reconcile);
	return reconcile_change_forward(a->m->reconcile, a->old_given ? &a->old : NULL,
					a->new_given ? &a->new : NULL);
}

/* What could not be written down must not stay. */
static void attempt_take_back(struct attempt *a)
{
	int r;

	attempt_undo(a);
	if (a->forward)
		r = reconcile_change_forward(a->m->reconcile, a->new_given ? &a->new : NULL,
					     a->old_given ? &a->old : NULL);
	else
		r = reconcile_change_rest(a->m->reconcile);
	if (r < 0)
		log_error("config", "a change could not be taken back; see vnetctl diff");
}

/* -EAGAIN: nothing has changed, take the long way. */
static int change_short(struct manage *m, const struct change *ch, struct err *err)
{
	struct attempt a = { .m = m, .c = reconcile_conf(m->reconcile), .ch = ch };
	CLEANUP_FREE char *line = NULL;
	int r;

	if (!a.c || !stamps_same(&m->stamps))
		return -EAGAIN;
	line = line_of(ch);
	if (!line || !journal_fits(m->journal, strlen(line)))
		return -EAGAIN;
	r = attempt_start(&a);
	r = r < 0 ? r : attempt_run(&a);
	if (r < 0) {
		attempt_undo(&a);
		return -EAGAIN;
	}
	r = journal_append(m->journal, m->st->confirmed, line, err);
	if (r < 0)
		attempt_take_back(&a);
	return r;
}

int manage_change(struct manage *m, const char *who, enum manage_action action, const char *kind,
		  const char *name, const struct manage_setting *settings, size_t count,
		  struct conf **ret_bad, struct err *err)
{
	const struct change ch = { action, kind, name, settings, count };
	int r = state_idle(m->st, err);

	r = r < 0 ? r : change_short(m, &ch, err);
	if (r == -EAGAIN)
		r = change_long(m, &ch, ret_bad, err);
	if (r == 0)
		log_info("config", "%s: %s %s \"%s\"", who,
			 action == MANAGE_RM	? "removed"
			 : action == MANAGE_ADD ? "added"
						: "set",
			 kind, name);
	return r;
}
