/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Each verb reads its arguments, calls manage or reconcile, and turns the answer into JSON.  On the
 * loop's thread; verbs that change something block it until the kernel has answered.
 */
#include "netd/ctl/verbs.h"

#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cleanup.h"
#include "common/daemon/log.h"
#include "netd/ctl/rows.h"
#include "netd/ctl/tunnels.h"
#include "netd/doctor.h"

/* --- helpers -------------------------------------------------------------------------------- */

/* "alice (uid 1000, pid 4711)" */
static void who_asks(struct ctl_request *req, char *buf, size_t size)
{
	const struct passwd *pw;
	pid_t pid = 0;
	uid_t uid = 0;

	ctl_request_peer(req, &pid, &uid, NULL);
	pw = getpwuid(uid);
	snprintf(buf, size, "%.40s (uid %u, pid %d)", pw ? pw->pw_name : "unknown",
		 (unsigned int)uid, (int)pid);
}

/* A configuration with errors as the answer; takes it over. */
static void reply_errors(struct ctl_request *req, struct conf *bad, const char *own_path)
{
	json_t *errors = json_array();
	size_t own_len = strlen(own_path);

	for (size_t i = 0; conf_error_text(bad, i); i++) {
		const char *text = conf_error_text(bad, i);

		/* what was just given on the command line has no line in a file */
		if (strncmp(text, own_path, own_len) == 0 &&
		    strncmp(text + own_len, ":0: ", 4) == 0)
			text += own_len + 4;
		json_array_append_new(errors, json_string(text));
	}
	conf_free(bad);
	ctl_reply(req, json_pack("{s:o}", "errors", errors));
}

/* The answer to a verb that applies: `result` on success, else what was wrong. */
static void reply_applied(struct verbs *v, struct ctl_request *req, int r, struct conf *bad,
			  const struct err *err, json_t *result)
{
	if (r == 0) {
		ctl_reply(req, result);
		return;
	}
	json_decref(result);
	if (bad)
		reply_errors(req, bad, state_own_path(v->state));
	else
		ctl_fail_err(req, err);
}

static void append_line(void *ctx, const char *text)
{
	json_array_append_new(ctx, json_string(text));
}

/* --- applying ------------------------------------------------------------------------------- */

static void verb_diff(struct ctl_request *req, void *ctx)
{
	struct verbs *v = ctx;
	json_t *lines = json_array();
	struct conf *bad = NULL;
	struct err err = { 0 };
	size_t count = 0;
	int r = manage_diff(v->manage, append_line, lines, &count, &bad, &err);

	reply_applied(v, req, r, bad, &err, json_pack("{s:o}", "operations", lines));
}

static void verb_apply(struct ctl_request *req, void *ctx)
{
	struct verbs *v = ctx;
	struct conf *bad = NULL;
	struct err err = { 0 };
	uint64_t window_ms = 0;
	char who[STATE_WHO_MAX];
	size_t count = 0;
	int r;

	if (ctl_arg_u64(req, "confirm_ms", false, &window_ms) < 0)
		return;
	if (window_ms && (window_ms < MANAGE_WINDOW_MIN_MS || window_ms > MANAGE_WINDOW_MAX_MS)) {
		ctl_fail(req, -EINVAL, "confirm: expected 5 seconds to 24 hours");
		return;
	}
	who_asks(req, who, sizeof(who));
	r = manage_apply(v->manage, who, window_ms, &count, &bad, &err);
	if (r == 0)
		log_info("config", "%s applied %s: %zu operations%s", who, v->path, count,
			 window_ms ? ", on trial" : "");
	reply_applied(
		v, req, r, bad, &err,
		json_pack("{s:I, s:b}", "count", (json_int_t)count, "pending", window_ms != 0));
}

static void verb_confirm(struct ctl_request *req, void *ctx)
{
	struct verbs *v = ctx;
	struct err err = { 0 };
	int r = manage_confirm(v->manage, &err);

	reply_applied(v, req, r, NULL, &err, json_object());
}

static void verb_rollback(struct ctl_request *req, void *ctx)
{
	struct verbs *v = ctx;
	struct err err = { 0 };
	char who[STATE_WHO_MAX];
	int r;

	who_asks(req, who, sizeof(who));
	r = manage_rollback(v->manage, who, &err);
	if (r == 0)
		log_info("config", "%s rolled back", who);
	reply_applied(v, req, r, NULL, &err, json_object());
}

static void verb_down(struct ctl_request *req, void *ctx)
{
	struct verbs *v = ctx;
	struct err err = { 0 };
	char who[STATE_WHO_MAX];
	size_t count = 0;
	int r = manage_down(v->manage, &count, &err);

	who_asks(req, who, sizeof(who));
	if (r == 0)
		log_info("config", "%s took everything down", who);
	reply_applied(v, req, r, NULL, &err, json_pack("{s:I}", "count", (json_int_t)count));
}

/* --- changing ------------------------------------------------------------------------------- */

static bool parse_action(const char *text, enum manage_action *ret)
{
	static const char *const words[] = {
		[MANAGE_ADD] = "add", [MANAGE_SET] = "set", [MANAGE_RM] = "rm"
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (strcmp(text, words[i]) == 0) {
			*ret = (enum manage_action)i;
			return true;
		}
	return false;
}

static bool kind_known(const char *kind)
{
	for (const struct conf_section_type *t = netd_conf_schema.sections; t->name; t++)
		if (strcmp(t->name, kind) == 0)
			return true;
	return false;
}

static void verb_change(struct ctl_request *req, void *ctx)
{
	struct verbs *v = ctx;
	const char *action_text, *kind, *name, *key;
	CLEANUP_FREE struct manage_setting *settings = NULL;
	json_t *keys = json_object_get(ctl_request_args(req), "keys"), *value;
	enum manage_action action;
	struct conf *bad = NULL;
	struct err err = { 0 };
	char who[STATE_WHO_MAX];
	size_t count = 0;
	int r;

	if (ctl_arg_text(req, "action", true, &action_text) < 0 ||
	    ctl_arg_text(req, "kind", true, &kind) < 0 ||
	    ctl_arg_text(req, "name", true, &name) < 0)
		return;
	if (!parse_action(action_text, &action) || !kind_known(kind) ||
	    (keys && !json_is_object(keys))) {
		ctl_fail(req, -EINVAL, "change: expected an action, a kind and keys");
		return;
	}
	settings = calloc(json_object_size(keys) + 1, sizeof(*settings));
	if (!settings) {
		ctl_fail(req, -ENOMEM, "out of memory");
		return;
	}
	json_object_foreach(keys, key, value)
	{
		if (!json_is_string(value)) {
			ctl_fail(req, -EINVAL, "change: %s: expected a text", key);
			return;
		}
		settings[count++] = (struct manage_setting){ key, json_string_value(value) };
	}
	who_asks(req, who, sizeof(who));
	r = manage_change(v->manage, who, action, kind, name, settings, count, &bad, &err);
	reply_applied(v, req, r, bad, &err, json_object());
}

/* --- looking -------------------------------------------------------------------------------- */

static json_t *pending_json(const struct verbs *v)
{
	const struct state_pending *p = &v->state->pending;
	struct state_now now;

	if (!p->active)
		return json_null();
	state_now(&now);
	return json_pack("{s:s, s:I, s:I}", "who", p->who, "since", (json_int_t)p->since_wall_s,
			 "left_ms", (json_int_t)state_pending_left(v->state, &now));
}

static json_int_t count_kind(struct conf *c, const char *kind)
{
	json_int_t n = 0;
	struct conf_section *s = c ? conf_section_first(conf_root(c), kind) : NULL;

	for (; s; s = conf_section_next(s, kind))
		n++;
	return n;
}

static json_int_t count_peers_up(struct verbs *v, struct conf *c)
{
	json_t *all = tunnels_json(reconcile_tunnels(v->reconcile), c, NULL, NULL), *tunnel, *peer;
	json_int_t n = 0;
	size_t i, k;

	json_array_foreach(all, i, tunnel)
		json_array_foreach(json_object_get(tunnel, "peers"), k, peer) n +=
		strcmp(json_string_value(json_object_get(peer, "state")), "up") == 0;
	json_decref(all);
	return n;
}

static void verb_status(struct ctl_request *req, void *ctx)
{
	struct verbs *v = ctx;
	const struct reconcile_stats *st = reconcile_stats(v->reconcile);
	struct conf *c = reconcile_conf(v->reconcile);
	json_t *o = json_pack("{s:s, s:s}", "config", v->path, "state", c ? "running" : "down");
	json_t *counts = json_object();
	size_t differ = 0;

	if (c) {
		const struct vlan_caps *caps = reconcile_vlan_caps(v->reconcile);

		json_object_set_new(o, "backend",
				    json_string(vlan_backend_name(netd_conf_backend(c, caps))));
		if (reconcile_count_drift(v->reconcile, &differ, NULL) == 0)
			json_object_set_new(o, "in_sync", json_boolean(differ == 0));
		for (const struct conf_section_type *t = netd_conf_schema.sections; t->name; t++)
			json_object_set_new(counts, t->name, json_integer(count_kind(c, t->name)));
	}
	json_object_set_new(o, "count", counts);
	if (count_kind(c, "peer"))
		json_object_set_new(o, "peers_up", json_integer(count_peers_up(v, c)));
	json_object_set_new(o, "pending", pending_json(v));
	if (v->state->rejected[0])
		json_object_set_new(o, "rejected",
				    json_pack("{s:s, s:I}", "who", v->state->rejected_who, "at",
					      (json_int_t)v->state->rejected_wall_s));
	json_object_set_new(o, "drift_count", json_integer((json_int_t)st->drift_count));
	if (st->last_error[0])
		json_object_set_new(o, "last_error", json_string(st->last_error));
	ctl_reply(req, o);
}

static void verb_drift(struct ctl_request *req, void *ctx)
{
	struct verbs *v = ctx;
	const struct reconcile_stats *st = reconcile_stats(v->reconcile);
	json_t *o = json_pack(
		"{s:I, s:I, s:I, s:I, s:I}", "check_count", (json_int_t)st->drift_check_count,
		"drift_count", (json_int_t)st->drift_count, "repaired_count",
		(json_int_t)st->repaired_count, "failed_count", (json_int_t)st->repair_failed_count,
		"resync_count", (json_int_t)st->resync_count);

	if (st->drift_count) {
		json_object_set_new(o, "last_at", json_integer(st->last_drift_wall_s));
		json_object_set_new(o, "last", json_string(st->last_drift));
		json_object_set_new(o, "last_repair_us",
				    json_integer((json_int_t)st->last_repair_us));
	}
	if (st->last_error[0])
		json_object_set_new(o, "last_error", json_string(st->last_error));
	ctl_reply(req, o);
}

static void verb_capabilities(struct ctl_request *req, void *ctx)
{
	struct verbs *v = ctx;
	const struct vlan_caps *vc = reconcile_vlan_caps(v->reconcile);
	const struct nat_caps *nc = reconcile_nat_caps(v->reconcile);

	ctl_reply(req,
		  json_pack("{s:s, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b}",
			    "backend", vlan_backend_name(vlan_backend_choose(vc)),
			    "bridge_vlan_filtering", vc->vlan_filtering, "8021q", vc->dot1q,
			    "port_isolation", vc->isolated, "neigh_suppress", vc->neigh_suppress,
			    "address_protocol", vc->addr_proto, "tun", vc->tun, "nftables",
			    nc->nftables, "nftables_bridge", nc->bridge_family, "table_owner",
			    nc->owner, "table_persist", nc->persist, "conntrack", nc->conntrack));
}

static void verb_ls(struct ctl_request *req, void *ctx)
{
	struct verbs *v = ctx;
	struct conf *c = reconcile_conf(v->reconcile);
	struct vlan_state links = { 0 };
	struct err err = { 0 };
	const char *kind;

	if (ctl_arg_text(req, "kind", true, &kind) < 0)
		return;
	if (!kind_known(kind)) {
		ctl_fail(req, -EINVAL, "there is no kind \"%s\"", kind);
		return;
	}
	if (reconcile_links(v->reconcile, &links, &err) < 0)
		ctl_fail_err(req, &err);
	else
		ctl_reply(req,
			  json_pack("{s:o}", "rows", c ? rows_of(c, kind, &links) : json_array()));
	vlan_state_clear(&links);
}

static void verb_tunnels(struct ctl_request *req, void *ctx)
{
	struct verbs *v = ctx;
	const char *name = NULL;
	struct err err = { 0 };
	json_t *list;

	if (ctl_arg_text(req, "name", false, &name) < 0)
		return;
	list = tunnels_json(reconcile_tunnels(v->reconcile), reconcile_conf(v->reconcile), name,
			    &err);
	if (list)
		ctl_reply(req, json_pack("{s:o}", "tunnels", list));
	else
		ctl_fail_err(req, &err);
}

static void verb_tunnel_rotate(struct ctl_request *req, void *ctx)
{
	struct verbs *v = ctx;
	char who[STATE_WHO_MAX], text[KEY_TEXT_MAX];
	uint8_t public[KEY_LEN];
	struct err err = { 0 };
	const char *name;

	if (ctl_arg_text(req, "name", true, &name) < 0)
		return;
	who_asks(req, who, sizeof(who));
	if (tunnels_rotate(reconcile_tunnels(v->reconcile), name, public, &err) < 0) {
		ctl_fail_err(req, &err);
		return;
	}
	log_info(name, "%s gave it another key", who);
	ctl_reply(req, json_pack("{s:s}", "public_key", key_format(public, text)));
}

static void verb_nft(struct ctl_request *req, void *ctx)
{
	struct verbs *v = ctx;
	CLEANUP_FREE char *text = NULL;
	struct err err = { 0 };
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	int r;

	if (!f) {
		ctl_fail(req, -ENOMEM, "out of memory");
		return;
	}
	r = reconcile_print_nft(v->reconcile, f, &err);
	if (fclose(f) != 0 && r == 0)
		r = err_set(&err, -ENOMEM, "out of memory");
	if (r < 0)
		ctl_fail_err(req, &err);
	else
		ctl_reply(req, json_pack("{s:s}", "text", text));
}

static void verb_metrics(struct ctl_request *req, void *ctx)
{
	struct verbs *v = ctx;
	CLEANUP_FREE char *text = metrics_scrape(v->metrics);

	if (text)
		ctl_reply(req, json_pack("{s:s}", "text", text));
	else
		ctl_fail(req, -ENOMEM, "out of memory");
}

static void verb_doctor(struct ctl_request *req, void *ctx)
{
	struct verbs *v = ctx;
	struct doctor_facts facts = { 0 };
	struct err err = { 0 };
	json_t *findings = json_array();
	int r = doctor_gather(reconcile_conf(v->reconcile), &facts, &err);

	if (r < 0) {
		json_decref(findings);
		ctl_fail_err(req, &err);
	} else {
		doctor_judge(&facts, rows_add_finding, findings);
		ctl_reply(req, json_pack("{s:o}", "findings", findings));
	}
	doctor_facts_clear(&facts);
}

const struct ctl_verb verbs_table[] = {
	{ "diff", verb_diff },
	{ "apply", verb_apply },
	{ "confirm", verb_confirm },
	{ "rollback", verb_rollback },
	{ "down", verb_down },
	{ "change", verb_change },
	{ "status", verb_status },
	{ "drift", verb_drift },
	{ "capabilities", verb_capabilities },
	{ "ls", verb_ls },
	{ "tunnels", verb_tunnels },
	{ "tunnel_rotate", verb_tunnel_rotate },
	{ "nft", verb_nft },
	{ "metrics", verb_metrics },
	{ "doctor", verb_doctor },
	{ 0 },
};

/* --- metrics -------------------------------------------------------------------------------- */

static void one(struct metrics_writer *w, const char *name, enum metrics_type type,
		const char *help, uint64_t value)
{
	metrics_family(w, name, type, help);
	metrics_u64(w, value, NULL);
}

void verbs_collect(struct metrics_writer *w, void *ctx)
{
	struct verbs *v = ctx;
	const struct reconcile_stats *st = reconcile_stats(v->reconcile);
	struct conf *c = reconcile_conf(v->reconcile);

	metrics_family(w, "netd_objects", METRICS_GAUGE, "Objects of the configuration in force.");
	for (const struct conf_section_type *t = netd_conf_schema.sections; t->name; t++)
		metrics_u64(w, (uint64_t)count_kind(c, t->name), "kind", t->name, NULL);
	one(w, "netd_applies", METRICS_COUNTER, "Configurations applied.", st->apply_count);
	one(w, "netd_quick_applies", METRICS_COUNTER, "Of those, one object changed the short way.",
	    st->quick_count);
	one(w, "netd_apply_failures", METRICS_COUNTER, "Applies that failed and were undone.",
	    st->apply_failed_count);
	one(w, "netd_undo_failures", METRICS_COUNTER, "Operations that could not be undone.",
	    st->undo_failed_count);
	one(w, "netd_drift_checks", METRICS_COUNTER, "Notifications that made netd look.",
	    st->drift_check_count);
	one(w, "netd_drifts", METRICS_COUNTER, "Times the kernel had drifted from the config.",
	    st->drift_count);
	one(w, "netd_drift_repairs", METRICS_COUNTER, "Operations that repaired drift.",
	    st->repaired_count);
	one(w, "netd_drift_repair_failures", METRICS_COUNTER, "Repairs that failed.",
	    st->repair_failed_count);
	one(w, "netd_resyncs", METRICS_COUNTER, "Lost notifications.", st->resync_count);
	one(w, "netd_flows_forgotten", METRICS_COUNTER,
	    "Conntrack entries deleted after changes of forwards.", st->flow_deleted_count);
	one(w, "netd_dnsmasq_restarts", METRICS_COUNTER, "Servers that died and were restarted.",
	    reconcile_server_restarts(v->reconcile));
	tunnels_collect(reconcile_tunnels(v->reconcile), c, w);
	one(w, "netd_config_pending", METRICS_GAUGE, "1 while a configuration waits for a confirm.",
	    v->state->pending.active);
}
