/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one loop of netd:
 *
 *	sight (what is there)  +  want (what the conf in force says)  ->  plan  ->  run
 *
 * One thread.  Between events nothing is held open in the kernel but subscriptions: the monitor's
 * sockets, a watch on forwarding settings, the servers' pidfds.  An event sets a short timer, so
 * that a foreign script's hundred changes cost one look; the look plans, and an empty plan is the
 * end of it.  Others who keep undoing what we repair are met with growing patience, else two
 * managers would burn a processor fighting.
 */
#include "netd/reconcile.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/cleanup.h"
#include "common/base/plan.h"
#include "common/daemon/log.h"
#include "netd/alone.h"
#include "netd/observe.h"
#include "netd/reconcile_private.h"
#include "netd/settings.h"

#define HUSH_COUNT	256 /* elements written at once without hearing of them; a table: always */
#define SETTLE_MS	2   /* after the first event, for the rest of a burst */
#define RETRY_FIRST_MS	200 /* after a failed repair */
#define RETRY_LAST_MS	30000
#define FIGHT_COUNT	100 /* repairs within FIGHT_WINDOW_MS that make us slower */
#define FIGHT_WINDOW_MS 10000
#define FIGHT_WAIT_MS	1000

/* CLOCK_MONOTONIC in microseconds. */
static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* --- looking soon ---------------------------------------------------------------------------- */

/* How long to wait before the next look: longer when somebody keeps undoing repairs. */
static uint64_t patience_ms(struct reconcile *r)
{
	uint64_t now = loop_now_ms();

	if (now - r->fight_start_ms > FIGHT_WINDOW_MS) {
		r->fight_start_ms = now;
		r->fight_count = 0;
	}
	return r->fight_count < FIGHT_COUNT ? SETTLE_MS : FIGHT_WAIT_MS;
}

static void look_soon(struct reconcile *r)
{
	if (r->event_us)
		return; /* a look is due already */
	r->event_us = now_us();
	loop_timer_set(r->settle, patience_ms(r));
}

/* --- running plans ------------------------------------------------------------------------- */

/* Flows of forwards that changed would keep their old fate. */
void reconcile_forget(struct reconcile *r)
{
	struct err err = { 0 };
	size_t count = 0;

	if (!r->stales.count)
		return;
	if (observe_forget_flows(r->nl, &r->stales, &count, &err) < 0)
		log_warning("nat", "old connections of changed forwards live on: %s", err.text);
	r->stats.flow_deleted_count += count;
	free(r->stales.v);
	r->stales = (struct nat_stales){ 0 };
}

static void forget_flows(struct reconcile *r, const struct plan *plan)
{
	if (nat_stale_collect(plan, &r->stales) < 0)
		log_warning("nat", "old connections of changed forwards live on: out of memory");
	reconcile_forget(r);
}

/* Does it write so many elements that hearing of each would cost more than asking afterwards? */
static bool writes_much(const struct plan *plan)
{
	size_t n = 0;

	for (size_t i = 0; i < plan->count && n < HUSH_COUNT; i++) {
		const struct nat_op *op = (const struct nat_op *)plan->ops[i];

		if (op->op.owner != &nat_op_owner)
			continue;
		n += op->kind == NAT_OP_CREATE || op->kind == NAT_OP_DESTROY ? HUSH_COUNT : 1;
	}
	return n >= HUSH_COUNT;
}

int reconcile_execute(struct reconcile *r, struct plan *plan, struct err *err)
{
	struct plan_port port = queue_port(&r->queue);
	uint64_t before = r->queue.commits;
	bool much = writes_much(plan);
	unsigned int events = 0;
	int rc;

	if (much)
		monitor_hush(r->monitor);
	rc = plan_run(plan, &port, err);
	r->plan_done_us = now_us();
	if (much)
		events = monitor_unhush(r->monitor, r->queue.commits - before);
	r->nat_known = rc == 0 && !events;
	if (events)
		look_soon(r);
	if (rc == 0)
		forget_flows(r, plan);
	else
		r->stats.undo_failed_count += plan_count_state(plan, PLAN_UNDO_FAILED);
	return rc;
}

/* --- servers and settings --------------------------------------------------------------------- */

static void on_server_changed(void *ctx, uint16_t vid, const char *what)
{
	char key[32];

	snprintf(key, sizeof(key), "vlan %u", vid);
	log_limited(LOG_LEVEL_WARNING, key, key, "%s", what);
}

/* The set for the conf's dnsmasq; another program means another set, which finds the processes. */
static int demand_servers(struct reconcile *r, struct conf *c)
{
	const char *program = conf_text(conf_root(c), "dnsmasq");
	const struct dnsmasq_paths paths = { r->run_dir, r->st->dir, program };
	char *copy;
	int rc;

	if (r->servers && strcmp(r->servers_program, program) == 0)
		return 0;
	copy = strdup(program);
	if (!copy)
		return -ENOMEM;
	dnsmasq_set_free(r->servers);
	r->servers = NULL;
	rc = dnsmasq_set_new(&paths, loop_event(r->loop), on_server_changed, r, &r->servers);
	if (rc < 0) {
		free(copy);
		return rc;
	}
	free(r->servers_program);
	r->servers_program = copy;
	return 0;
}

void reconcile_around(struct reconcile *r, struct conf *c, const struct netd_desired *want,
		      const struct sight *s)
{
	struct err err = { 0 };

	if (settings_apply(r->st, want->forward4, want->forward6, &s->links, &want->links, &err) <
	    0)
		log_error("settings", "%s", err.text);
	if (demand_servers(r, c) < 0)
		log_error("dnsmasq", "out of memory");
	else if (dnsmasq_set_apply(r->servers, want->servers, want->server_count, &err) < 0)
		log_error("dnsmasq", "%s", err.text);
	if (tunnels_apply(r->tunnels, want->tunnels, want->tunnel_count, &err) < 0)
		log_limited(LOG_LEVEL_ERROR, "tunnel", "tunnel", "%s", err.text);
}

/* --- apply ------------------------------------------------------------------------------------ */

/* Check against the host and build; errors of the conf are in it. */
static int prepare(struct conf *c, struct sight *s, bool missing_ok, struct netd_desired *want,
		   struct err *err)
{
	s->host.missing_ok = missing_ok;
	netd_conf_check_host(c, &s->host);
	if (conf_error_count(c))
		return err_set(err, -EINVAL, "%zu errors in the configuration",
			       conf_error_count(c));
	return netd_desired_build(c, &s->host, want, err);
}

static void retry_later(struct reconcile *r)
{
	loop_timer_set(r->retry, r->retry_ms);
	r->retry_ms = r->retry_ms * 2 > RETRY_LAST_MS ? RETRY_LAST_MS : r->retry_ms * 2;
}

void reconcile_put_in_force(struct reconcile *r, struct conf *c, struct netd_desired *want)
{
	if (r->conf != c)
		conf_free(r->conf);
	netd_desired_clear(&r->want);
	r->conf = c;
	r->want = *want;
	tunnels_rebase(r->tunnels, r->want.tunnels, r->want.tunnel_count);
	(void)!monitor_also(r->monitor, NULL);
	for (size_t i = 0; i < r->want.tunnel_count; i++)
		if (monitor_also(r->monitor, r->want.tunnels[i].name) < 0)
			log_error("tunnel", "out of memory");
	*want = (struct netd_desired){ 0 };
	r->want_stale = false;
	r->retry_ms = RETRY_FIRST_MS;
	r->stats.last_error[0] = '\0';
}

static void note_failure(struct reconcile *r, const struct err *err)
{
	r->nat_known = false;
	r->stats.apply_failed_count++;
	snprintf(r->stats.last_error, sizeof(r->stats.last_error), "%s", err->text);
}

/* A set of own_tables = false in the conf must reach the queue before the plan runs. */
static void tell_queue(struct reconcile *r, struct conf *c)
{
	queue_init(&r->queue, r->nl, &r->nat_caps, conf_flag(conf_root(c), "own_tables"));
}

/* Ports and keys, before anything changes. */
static int prepare_tunnels(struct reconcile *r, const struct netd_desired *want,
			   enum reconcile_mode mode, struct err *err)
{
	int rc = tunnels_prepare(r->tunnels, want->tunnels, want->tunnel_count, err);

	if (rc == 0 || mode == RECONCILE_STRICT)
		return rc;
	log_error("tunnel", "%s; trying again", err->text);
	*err = (struct err){ 0 };
	return 0;
}

static int apply_plan(struct reconcile *r, struct sight *s, const struct netd_desired *want,
		      size_t *ret_count, struct err *err)
{
	struct plan plan = { 0 };
	int rc = sight_plan(s, want, &plan, err);

	if (rc == 0) {
		if (ret_count)
			*ret_count = plan.count;
		rc = reconcile_execute(r, &plan, err);
	}
	/* after the plan: what it made belongs to us already */
	if (rc == 0)
		rc = queue_adopt_tables(&r->queue, &s->nat, err);
	plan_clear(&plan);
	return rc;
}

int reconcile_apply(struct reconcile *r, struct conf *c, enum reconcile_mode mode,
		    size_t *ret_count, struct err *err)
{
	struct netd_desired want = { 0 };
	struct err sub = { 0 };
	struct sight s = { 0 };
	int rc = sight_take(r->nl, &r->vlan_caps, r->mac_salt, &s, &sub);
	size_t tunnel_count = 0;

	tell_queue(r, c);
	rc = rc < 0 ? rc : prepare(c, &s, mode != RECONCILE_STRICT, &want, &sub);
	if (rc == 0 && ret_count) /* before ports and devices are taken */
		tunnel_count = tunnels_diff(r->tunnels, want.tunnels, want.tunnel_count, NULL, NULL);
	rc = rc < 0 ? rc : prepare_tunnels(r, &want, mode, &sub);
	if (rc == 0) {
		rc = apply_plan(r, &s, &want, ret_count, &sub);
		if (rc < 0)
			tunnels_abort(r->tunnels);
	}
	if (rc == 0) {
		r->stats.apply_count++;
		if (ret_count)
			*ret_count += tunnel_count;
		reconcile_around(r, c, &want, &s);
		reconcile_put_in_force(r, c, &want);
	}
	sight_clear(&s);
	if (rc == 0)
		return 0;
	if (mode == RECONCILE_RESTORE) {
		log_error("config", "%s; trying again", sub.text);
		reconcile_put_in_force(r, c, &want);
		r->want_stale = true; /* perhaps nothing yet: never act on that */
		note_failure(r, &sub);
		retry_later(r);
		return 0;
	}
	note_failure(r, &sub);
	netd_desired_clear(&want);
	if (r->conf)
		tell_queue(r, r->conf);
	/* if an undo failed, drift's way mends it */
	if (r->conf && r->stats.undo_failed_count)
		loop_timer_set(r->settle, SETTLE_MS);
	return err_set(err, rc, "%s", sub.text);
}

struct line_sink {
	void (*line)(void *ctx, const char *text);
	void *ctx;
};

static size_t print_plan(const struct plan *plan, const struct line_sink *sink)
{
	for (size_t i = 0; sink->line && i < plan->count; i++)
		sink->line(sink->ctx, plan->ops[i]->text ? plan->ops[i]->text : "?");
	return plan->count;
}

/* Plan, settings and servers together. */
static int diff_want(struct reconcile *r, struct conf *c, const struct netd_desired *want,
		     const struct sight *s, const struct line_sink *sink, size_t *ret_count,
		     struct err *err)
{
	struct plan plan = { 0 };
	int rc = sight_plan(s, want, &plan, err);

	if (rc == 0) {
		*ret_count = print_plan(&plan, sink);
		*ret_count += settings_diff(want->forward4, want->forward6, sink->line, sink->ctx);
		if (demand_servers(r, c) == 0)
			*ret_count += dnsmasq_set_diff(r->servers, want->servers,
						       want->server_count, sink->line, sink->ctx);
		*ret_count += tunnels_diff(r->tunnels, want->tunnels, want->tunnel_count,
					   sink->line, sink->ctx);
	}
	plan_clear(&plan);
	return rc;
}

int reconcile_diff(struct reconcile *r, struct conf *c, void (*line)(void *ctx, const char *text),
		   void *ctx, size_t *ret_count, struct err *err)
{
	const struct line_sink sink = { line, ctx };
	struct netd_desired want = { 0 };
	struct sight s = { 0 };
	int rc = sight_take(r->nl, &r->vlan_caps, r->mac_salt, &s, err);

	rc = rc < 0 ? rc : prepare(c, &s, false, &want, err);
	rc = rc < 0 ? rc : diff_want(r, c, &want, &s, &sink, ret_count, err);
	sight_clear(&s);
	netd_desired_clear(&want);
	return rc;
}

int reconcile_count_drift(struct reconcile *r, size_t *ret_count, struct err *err)
{
	const struct line_sink sink = { 0 };
	struct sight s = { 0 };
	int rc = r->conf ? sight_take(r->nl, &r->vlan_caps, r->mac_salt, &s, err) : 0;

	*ret_count = 0;
	if (r->conf && rc == 0)
		rc = diff_want(r, r->conf, &r->want, &s, &sink, ret_count, err);
	sight_clear(&s);
	return rc;
}

int reconcile_down(struct reconcile *r, size_t *ret_count, struct err *err)
{
	struct netd_desired nothing = { 0 };
	struct plan plan = { 0 };
	struct sight s = { 0 };
	struct err sub = { 0 };
	int rc = sight_take(r->nl, &r->vlan_caps, r->mac_salt, &s, err);

	nothing.links.backend = vlan_backend_choose(&r->vlan_caps);
	if (rc == 0)
		rc = vlan_plan(&nothing.links, &s.links, &plan, NULL, err);
	/* links first: their guards go last */
	if (rc == 0)
		rc = nat_plan(NULL, &s.nat, NAT_STAGE_AFTER, false, NULL, 0, &plan, err);
	if (rc == 0) {
		*ret_count = plan.count;
		rc = reconcile_execute(r, &plan, err);
	}
	plan_clear(&plan);
	if (rc == 0 && settings_apply(r->st, false, false, &s.links, &nothing.links, &sub) < 0)
		log_error("settings", "%s", sub.text);
	sight_clear(&s);
	if (rc < 0)
		return rc;
	(void)!tunnels_apply(r->tunnels, NULL, 0, NULL);
	if (r->conf)
		reconcile_put_in_force(r, NULL, &nothing);
	if (r->servers && dnsmasq_set_apply(r->servers, NULL, 0, &sub) < 0)
		log_error("dnsmasq", "%s", sub.text);
	loop_timer_stop(r->retry);
	return 0;
}

/* --- drift ------------------------------------------------------------------------------------ */

static void note_drift(struct reconcile *r, const struct plan *plan)
{
	r->stats.drift_count++;
	r->stats.last_drift_wall_s = time(NULL);
	snprintf(r->stats.last_drift, sizeof(r->stats.last_drift), "%s",
		 plan->ops[0]->text ? plan->ops[0]->text : "");
	r->fight_count++;
	log_limited(LOG_LEVEL_WARNING, "drift", "drift",
		    "somebody changed what is ours; repairing %zu: %s%s", plan->count,
		    r->stats.last_drift, plan->count > 1 ? ", ..." : "");
}

/*
 * While an interface is missing, what is wanted depends on what is there; and a rollback that
 * failed its checks (a user is gone) has built nothing.  Built here without them: the rest comes
 * back.
 */
static int refresh_want(struct reconcile *r, struct sight *s, struct err *err)
{
	struct netd_desired want = { 0 };
	int rc;

	s->host.missing_ok = true;
	rc = netd_desired_build(r->conf, &s->host, &want, err);
	if (rc < 0) {
		netd_desired_clear(&want);
		return rc;
	}
	if (want.missing_count < r->want.missing_count)
		log_info("config", "an interface that was missing is here");
	netd_desired_clear(&r->want);
	r->want = want;
	r->want_stale = false;
	return 0;
}

/* What is wanted is about to be built anew: the sight must not borrow from it. */
static int look_again(struct reconcile *r, struct sight *s, struct err *err)
{
	sight_clear(s);
	return sight_take(r->nl, &r->vlan_caps, r->mac_salt, s, err);
}

/* At the tables only if somebody wrote to them: they may be large. */
static int look(struct reconcile *r, struct sight *s, struct err *err)
{
	if (r->nat_known && !r->want.missing_count)
		return sight_take_links(r->nl, &r->vlan_caps, r->mac_salt, &r->want.nat, s, err);
	return sight_take(r->nl, &r->vlan_caps, r->mac_salt, s, err);
}

static int repair(struct reconcile *r, struct sight *s, struct err *err)
{
	struct plan plan = { 0 };
	int rc = sight_plan(s, &r->want, &plan, err);

	/* an interface in use has vanished: go on without it until it is back */
	if (rc == -ENODEV) {
		plan_clear(&plan);
		rc = s->nat_lent ? look_again(r, s, err) : 0;
		rc = rc < 0 ? rc : refresh_want(r, s, err);
		rc = rc < 0 ? rc : sight_plan(s, &r->want, &plan, err);
	}
	if (rc == 0 && plan.count) {
		note_drift(r, &plan);
		rc = reconcile_execute(r, &plan, err);
		if (rc == 0)
			r->stats.repaired_count += plan.count;
	}
	plan_clear(&plan);
	return rc;
}

static void on_settled(void *ctx)
{
	struct reconcile *r = ctx;
	uint64_t start = r->event_us ? r->event_us : now_us(), before = r->stats.repaired_count;
	struct sight s = { 0 };
	struct err err = { 0 };
	int rc;

	r->event_us = 0;
	if (!r->conf)
		return;
	r->stats.drift_check_count++;
	rc = look(r, &s, &err);
	if (rc == 0 && (r->want_stale || r->want.missing_count))
		rc = refresh_want(r, &s, &err);
	r->nat_known = rc == 0; /* unless the repair has news */
	rc = rc < 0 ? rc : repair(r, &s, &err);
	if (rc == 0)
		reconcile_around(r, r->conf, &r->want, &s);
	sight_clear(&s);
	if (rc < 0) {
		r->nat_known = false;
		r->stats.repair_failed_count++;
		snprintf(r->stats.last_error, sizeof(r->stats.last_error), "%s", err.text);
		log_limited(LOG_LEVEL_ERROR, "repair", "drift", "repair failed: %s", err.text);
		retry_later(r);
		return;
	}
	r->retry_ms = RETRY_FIRST_MS;
	r->stats.last_error[0] = '\0';
	loop_timer_stop(r->retry);
	if (r->stats.repaired_count != before)
		r->stats.last_repair_us = r->plan_done_us - start;
}

void reconcile_hear(struct reconcile *r)
{
	/* with something missing, every link may be the one */
	bool any = !r->conf || r->want.missing_count;
	unsigned int events = monitor_read(r->monitor, any ? NULL : &r->want.links);

	if (events & MONITOR_LOST)
		r->stats.resync_count++;
	if (events & (MONITOR_LOST | MONITOR_NAT))
		r->nat_known = false;
	if (events && r->conf)
		look_soon(r);
}

static int on_monitor(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	reconcile_hear(userdata);
	return 0;
}

static int on_setting(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct reconcile *r = userdata;

	if (settings_watch_read(fd) && r->conf &&
	    settings_diff(r->want.forward4, r->want.forward6, NULL, NULL))
		look_soon(r);
	return 0;
}

/* --- life ------------------------------------------------------------------------------------- */

/* Differs between hosts, stays the same on each: generated MACs depend on it. */
static uint64_t host_salt(void)
{
	CLEANUP_FCLOSE FILE *f = fopen("/etc/machine-id", "re");
	char id[64] = "no machine id", hash[STATE_HASH_LEN + 1];

	if (f && !fgets(id, sizeof(id), f))
		strcpy(id, "empty machine id");
	state_hash(id, strlen(id), hash);
	hash[16] = '\0';
	return strtoull(hash, NULL, 16);
}

static void on_forget(void *ctx)
{
	reconcile_forget(ctx);
}

static int watch(struct reconcile *r)
{
	sd_event *event = loop_event(r->loop);
	int fds[2], rc;

	monitor_fds(r->monitor, fds);
	rc = sd_event_add_io(event, &r->sources[0], fds[0], EPOLLIN, on_monitor, r);
	if (rc >= 0)
		rc = sd_event_add_io(event, &r->sources[1], fds[1], EPOLLIN, on_monitor, r);
	if (rc >= 0 && r->settings_fd >= 0)
		rc = sd_event_add_io(event, &r->sources[2], r->settings_fd, EPOLLIN, on_setting, r);
	if (rc >= 0)
		rc = loop_timer_new(r->loop, on_settled, r, &r->settle);
	if (rc >= 0)
		rc = loop_timer_new(r->loop, on_settled, r, &r->retry);
	if (rc >= 0)
		rc = loop_timer_new(r->loop, on_forget, r, &r->forget);
	return rc < 0 ? rc : 0;
}

int reconcile_new(struct loop *loop, const char *run_dir, struct state *st, struct reconcile **ret,
		  struct err *err)
{
	struct reconcile *r = calloc(1, sizeof(*r));
	int rc;

	if (!r || !(r->run_dir = strdup(run_dir))) {
		free(r);
		return err_set(err, -ENOMEM, "out of memory");
	}
	r->loop = loop;
	r->st = st;
	r->retry_ms = RETRY_FIRST_MS;
	r->mac_salt = host_salt();
	r->settings_fd = settings_watch_open();
	rc = alone_lock(&r->alone_fd, err);
	rc = rc < 0 ? rc : nl_open(&r->nl, err);
	rc = rc < 0 ? rc : observe_caps(r->nl, &r->vlan_caps, &r->nat_caps, err);
	rc = rc < 0 ? rc : monitor_open(r->nl, &r->monitor, err);
	if (rc == 0) {
		queue_init(&r->queue, r->nl, &r->nat_caps, true);
		rc = tunnels_new(loop, r->nl, run_dir, &r->tunnels);
		rc = rc < 0 ? rc : watch(r);
		if (rc < 0)
			err_sys(err, rc, "event loop");
	}
	if (rc < 0) {
		reconcile_free(r);
		return rc;
	}
	*ret = r;
	return 0;
}

void reconcile_free(struct reconcile *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < RECONCILE_SOURCE_COUNT; i++)
		sd_event_source_disable_unref(r->sources[i]);
	reconcile_forget(r);
	loop_timer_free(r->settle);
	loop_timer_free(r->retry);
	loop_timer_free(r->forget);
	if (r->settings_fd >= 0)
		close(r->settings_fd);
	if (r->alone_fd >= 0)
		close(r->alone_fd);
	dnsmasq_set_free(r->servers);
	tunnels_free(r->tunnels);
	free(r->servers_program);
	monitor_close(r->monitor);
	nl_close(r->nl);
	netd_desired_clear(&r->want);
	conf_free(r->conf);
	free(r->run_dir);
	free(r);
}

/* --- questions -------------------------------------------------------------------------------- */

struct conf *reconcile_conf(struct reconcile *r)
{
	return r->conf;
}

int reconcile_links(struct reconcile *r, struct vlan_state *ret, struct err *err)
{
	return observe_vlan(r->nl, &r->vlan_caps, ret, err);
}

int reconcile_print_nft(struct reconcile *r, FILE *f, struct err *err)
{
	struct nat_state now = { 0 };
	int rc = observe_nat(r->nl, &now, err);

	rc = rc < 0 ? rc : nat_print(&now, f);
	nat_state_clear(&now);
	return rc < 0 ? rc : 0;
}

struct tunnels *reconcile_tunnels(const struct reconcile *r)
{
	return r->tunnels;
}

const struct vlan_caps *reconcile_vlan_caps(const struct reconcile *r)
{
	return &r->vlan_caps;
}

const struct nat_caps *reconcile_nat_caps(const struct reconcile *r)
{
	return &r->nat_caps;
}

const struct reconcile_stats *reconcile_stats(const struct reconcile *r)
{
	return &r->stats;
}

uint64_t reconcile_server_restarts(const struct reconcile *r)
{
	return r->servers ? dnsmasq_set_restarts(r->servers) : 0;
}
