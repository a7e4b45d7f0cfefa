// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Another configuration for a running blockd.
 *
 *	control thread	read and check the file as a whole; pools that are gone must be unused, and
 *			take no new clients from now on
 *	helper thread	make, open, recover the new pools; grow pools, make and grow volumes
 *	control thread	open the new listeners -> point of no return: the new configuration is in
 *			force, limits and labels follow, old listeners close
 *	helper thread	close the pools that are gone (a checkpoint)
 *	control thread	answer
 *
 * Whatever fails before the point of no return is undone, and nothing has changed (but volumes that
 * were made or grown stay: blockd never takes a disk away).  Existing connections notice nothing at
 * any time: reactors go on turning, a listener that stays keeps its sockets.  While the helper
 * works, the control thread serves handshakes and verbs; the helper touches only pools that nobody
 * else knows, and others by way of their reactors.
 *
 * What is fixed when a pool is opened (its path, its memory) is compared with what runs, not with
 * the last file: until the restart each reload says again what waits for it.
 */
#include "blockd/reload.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cleanup.h"
#include "common/base/units.h"
#include "common/daemon/log.h"
#include "common/daemon/loop.h"

#define LINE_MAX_BYTES 1024

struct reload {
	struct letter letter; /* first: from the helper to the control thread */
	struct blockd *daemon;
	struct blockd_conf *conf;   /* the new one; after the point of no return the old one */
	struct blockd_pool **pools; /* of the new configuration, in its order */
	struct blockd_pool **added, **leaving; /* opened or closed by the helper */
	size_t added_count, leaving_count;
	json_t *changed, *restart, *errors;
	reload_done *done;
	void *user;
	pthread_t helper;
	bool helping, abandoned;
	int rc;
	struct err err;
};

/* ---- lines ---- */

void reload_line(json_t *lines, const char *fmt, ...)
{
	char text[LINE_MAX_BYTES];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	(void)json_array_append_new(lines, json_string(text));
}

static void log_lines(json_t *lines, enum log_level level, const char *before)
{
	json_t *line;
	size_t i;

	json_array_foreach(lines, i, line)
		log_write(level, "config", "%s%s", before, json_string_value(line));
}

/* ---- life ---- */

static void reload_free(struct reload *r)
{
	if (!r)
		return;
	json_decref(r->changed);
	json_decref(r->restart);
	json_decref(r->errors);
	blockd_conf_free(r->conf);
	free(r->pools);
	free(r->added);
	free(r->leaving);
	free(r);
}

static struct reload *reload_new(struct blockd *daemon, reload_done *done, void *user)
{
	struct reload *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->daemon = daemon;
	r->done = done;
	r->user = user;
	r->changed = json_array();
	r->restart = json_array();
	r->errors = json_array();
	if (r->changed && r->restart && r->errors)
		return r;
	reload_free(r);
	return NULL;
}

/* Log it, tell it, forget it; and begin again if a signal came meanwhile. */
static void reload_end(struct reload *r)
{
	struct blockd *daemon = r->daemon;
	bool failed = json_array_size(r->errors) > 0;
	json_t *result =
		failed ? json_pack("{s:O}", "errors", r->errors)
		       : json_pack("{s:O, s:O}", "changed", r->changed, "restart", r->restart);

	metric_add(failed ? &daemon->refused_reloads : &daemon->reloads, 1);
	if (!failed)
		daemon->restart_count = json_array_size(r->restart);
	if (failed) {
		log_error("config", "not reloaded, nothing has changed:");
		log_lines(r->errors, LOG_LEVEL_ERROR, "");
	} else {
		log_info("config", "reloaded %s%s", daemon->conf_path,
			 json_array_size(r->changed) ? "" : ": nothing has changed");
		log_lines(r->changed, LOG_LEVEL_INFO, "");
		log_lines(r->restart, LOG_LEVEL_WARNING, "needs a restart: ");
	}
	daemon->reload = NULL;
	if (r->done)
		r->done(r->user, result);
	else
		json_decref(result);
	reload_free(r);
	if (daemon->reload_again && !daemon->stopping)
		reload_start(daemon, NULL, NULL);
	else
		loop_reload_done(daemon->loop);
}

static void reload_refuse(struct reload *r, const struct err *err)
{
	reload_line(r->errors, "%s", err->text);
	reload_end(r);
}

/* ---- the file ---- */

/* On failure every mistake is in r->errors. */
static int read_file(struct reload *r)
{
	CLEANUP_FREE char *text = NULL;
	size_t len = 0;
	FILE *errors = open_memstream(&text, &len);
	char *line, *rest;
	int rc;

	if (!errors)
		return -ENOMEM;
	rc = blockd_conf_load(r->daemon->conf_path, errors, &r->conf);
	if (fclose(errors) || rc == 0)
		return rc;
	for (rest = text; (line = strsep(&rest, "\n"));)
		if (*line)
			reload_line(r->errors, "%s", line);
	return rc;
}

/* ---- pools ---- */

static const struct blockd_conf_pool *conf_pool(const struct blockd_conf *conf, const char *name)
{
	for (size_t i = 0; i < conf->pool_count; i++)
		if (!strcmp(conf->pools[i].name, name))
			return &conf->pools[i];
	return NULL;
}

/* Which pools stay, come and go. */
static int sort_pools(struct reload *r)
{
	struct blockd *daemon = r->daemon;
	size_t count = r->conf->pool_count;

	r->pools = calloc(count, sizeof(*r->pools));
	r->added = calloc(count, sizeof(*r->added));
	r->leaving = calloc(daemon->pool_count + count, sizeof(*r->leaving));
	if (!r->pools || !r->added || !r->leaving)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		r->pools[i] = pools_find(daemon, r->conf->pools[i].name);
		if (r->pools[i])
			continue;
		r->pools[i] = pools_new(&r->conf->pools[i], r->conf);
		if (!r->pools[i])
			return -ENOMEM;
		r->added[r->added_count++] = r->pools[i];
	}
	for (size_t i = 0; i < daemon->pool_count; i++)
		if (!conf_pool(r->conf, daemon->pools[i]->conf->name))
			r->leaving[r->leaving_count++] = daemon->pools[i];
	return 0;
}

/* May it go?  After server_remove_pool(), so that nobody new comes. */
static int check_unused(struct blockd_pool *pool, struct err *err)
{
	CLEANUP_FREE struct reactor_conn_info *list = NULL;
	size_t count = 0;
	int rc = reactor_list_conns(pool->reactor, &list, &count);

	if (rc < 0)
		return err_sys(err, rc, "%s", pool->subject);
	if (pool->op_count > 0)
		return err_set(err, -EBUSY,
			       "%s is not in the file any more, and vdiskctl is at work on it",
			       pool->subject);
	if (count == 0)
		return 0;
	return err_set(err, -EBUSY,
		       "%s is not in the file any more, and in use: volume '%s' by %s%s",
		       pool->subject, list[0].volume, list[0].peer, count > 1 ? " and others" : "");
}

/* Those that go take no new clients; 0 when no client is left on them. */
static int bar_leaving(struct reload *r, struct err *err)
{
	int rc = 0;

	for (size_t i = 0; i < r->leaving_count; i++) {
		server_remove_pool(r->daemon->server, r->leaving[i]->reactor);
		server_refuse_waiting(r->daemon->server, r->leaving[i]->reactor, NULL);
	}
	for (size_t i = 0; i < r->leaving_count && rc == 0; i++)
		rc = check_unused(r->leaving[i], err);
	return rc;
}

/* The server knows exactly `pools`, in this order. */
static void serve_pools(struct server *server, struct blockd_pool **pools, size_t count)
{
	struct err err = { 0 };

	for (size_t i = 0; i < count; i++) {
		server_remove_pool(server, pools[i]->reactor);
		if (server_add_pool(server, pools[i]->reactor, &err) < 0)
			log_error(pools[i]->subject, "%s", err.text);
	}
}

/* ---- the helper ---- */

static void help_open_done(struct letter *letter);
static void help_close_done(struct letter *letter);

static void *help_open(void *arg)
{
	struct reload *r = arg;

	r->rc = pools_open(r->daemon->server, r->added, r->added_count, &r->err);
	if (r->rc == 0)
		r->rc = pools_declare(r->conf, r->pools, r->conf->pool_count, &r->err);
	r->letter.open = help_open_done;
	mailbox_post(server_home(r->daemon->server), &r->letter);
	return NULL;
}

static void *help_close(void *arg)
{
	struct reload *r = arg;

	while (r->leaving_count > 0)
		(void)pools_close_free(r->leaving[--r->leaving_count], BLOCKD_DRAIN_MS);
	r->letter.open = help_close_done;
	mailbox_post(server_home(r->daemon->server), &r->letter);
	return NULL;
}

/* Without a thread to be had the work is done here, and takes as long as it takes. */
static void help(struct reload *r, void *(*work)(void *))
{
	r->helping = pthread_create(&r->helper, NULL, work, r) == 0;
	if (!r->helping)
		work(r);
}

static void helped(struct reload *r)
{
	if (r->helping)
		pthread_join(r->helper, NULL);
	r->helping = false;
}

static void help_close_done(struct letter *letter)
{
	struct reload *r = (struct reload *)letter;

	helped(r);
	reload_end(r);
}

/* ---- what is different ---- */

static void compare_size(struct reload *r, const char *subject, const char *key, uint64_t runs,
			 uint64_t file)
{
	char a[UNITS_TEXT_MAX], b[UNITS_TEXT_MAX];

	if (runs != file)
		reload_line(r->restart, "%s: %s: %s runs, the file has %s", subject, key,
			    size_format(runs, a), size_format(file, b));
}

static void compare_text(struct reload *r, const char *key, const char *runs, const char *file)
{
	if (strcmp(runs, file) != 0)
		reload_line(r->restart, "%s: '%s' runs, the file has '%s'", key, runs, file);
}

/* A pool that stays. */
static void change_pool(struct reload *r, struct blockd_pool *pool,
			const struct blockd_conf_pool *now)
{
	const struct blockd_conf_pool *old = pool->conf;
	char key[200], size[UNITS_TEXT_MAX];

	snprintf(key, sizeof(key), "%s: path", pool->subject);
	compare_text(r, key, pool->path, now->path);
	compare_size(r, pool->subject, "cache", pool->cache_bytes, now->cache_bytes);
	compare_size(r, pool->subject, "data_cache", pool->data_cache_bytes, now->data_cache_bytes);
	compare_size(r, pool->subject, "ahead", pool->ahead_bytes, now->ahead_bytes);
	compare_size(r, pool->subject, "buffers", pool->buffer_bytes, now->buffer_bytes);
	snprintf(key, sizeof(key), "%s: salvage", pool->subject);
	compare_text(r, key, pool->salvage ? "true" : "false", now->salvage ? "true" : "false");
	if (now->journal_bytes && now->journal_bytes != pool->journal_bytes)
		reload_line(r->changed, "%s: journal: fixed when the pool was made, left as it is",
			    pool->subject);
	if (now->size_bytes > old->size_bytes)
		reload_line(r->changed, "%s: size at least %s", pool->subject,
			    size_format(now->size_bytes, size));
	if (now->spin_us != old->spin_us) {
		reactor_set_spin(pool->reactor, now->spin_us);
		reload_line(r->changed, "%s: spin_us %u", pool->subject, now->spin_us);
	}
}

static void change_volumes(struct reload *r, const struct blockd_conf *old)
{
	const struct blockd_conf *conf = r->conf;
	char size[UNITS_TEXT_MAX];

	for (size_t i = 0; i < conf->volume_count; i++) {
		const struct blockd_conf_volume *v = &conf->volumes[i];
		const struct blockd_conf_volume *was =
			blockd_conf_volume_find(old, v->pool, v->name);

		if (!was || was->size_bytes < v->size_bytes)
			reload_line(r->changed, "volume %s/%s: %s %s", v->pool, v->name,
				    was ? "at least" : "declared",
				    size_format(v->size_bytes, size));
		if (was && memcmp(&was->lock, &v->lock, sizeof(v->lock)) != 0)
			reload_line(r->changed, "volume %s/%s: settings of its write lock", v->pool,
				    v->name);
	}
	for (size_t i = 0; i < old->volume_count; i++) {
		const struct blockd_conf_volume *v = &old->volumes[i];

		if (!blockd_conf_volume_find(conf, v->pool, v->name))
			reload_line(r->changed, "volume %s/%s: not declared any more, left",
				    v->pool, v->name);
	}
}

static void change_limits(struct reload *r, const struct blockd_conf *old)
{
	const struct blockd_conf *conf = r->conf;
	struct blockd *daemon = r->daemon;
	char time[UNITS_TEXT_MAX];

	server_set_limits(daemon->server, (uint32_t)conf->connections_max,
			  (uint32_t)conf->handshake_timeout_ms);
	if (conf->connections_max != old->connections_max)
		reload_line(r->changed, "connections %llu",
			    (unsigned long long)conf->connections_max);
	if (conf->handshake_timeout_ms != old->handshake_timeout_ms)
		reload_line(r->changed, "handshake_timeout %s",
			    duration_format(conf->handshake_timeout_ms, time));
	if (conf->log_level != old->log_level)
		reload_line(r->changed, "log_level %s",
			    conf_text(conf_root(conf->tree), "log_level"));
	if (!daemon->verbose)
		log_set_level(conf->log_level);
	compare_text(r, "control", daemon->control, conf->control);
	compare_text(r, "runtime", daemon->runtime, conf->runtime);
}

/* ---- the point of no return ---- */

static void put_in_force(struct reload *r, struct listeners_change *listeners)
{
	struct blockd *daemon = r->daemon;
	struct blockd_conf *old = daemon->conf;
	struct blockd_pool **old_pools = daemon->pools;

	change_limits(r, old);
	for (size_t i = 0; i < r->conf->pool_count; i++)
		if (r->pools[i]->conf != &r->conf->pools[i])
			change_pool(r, r->pools[i], &r->conf->pools[i]);
		else
			reload_line(r->changed, "%s: opened", r->pools[i]->subject);
	for (size_t i = 0; i < r->leaving_count; i++)
		reload_line(r->changed, "%s: closed", r->leaving[i]->subject);
	change_volumes(r, old);
	listeners_change_finish(daemon, listeners, r->conf, r->changed, r->restart);
	for (size_t i = 0; i < r->conf->pool_count; i++)
		r->pools[i]->conf = &r->conf->pools[i];
	daemon->pools = r->pools;
	daemon->pool_count = r->conf->pool_count;
	daemon->conf = r->conf;
	pools_set_lock_policies(daemon->conf, daemon->pools, daemon->pool_count);
	serve_pools(daemon->server, daemon->pools, daemon->pool_count);
	r->pools = old_pools;
	r->conf = old; /* the pools that go still point into it */
}

/* The pools that were added go again, those that should have gone stay. */
static void take_back(struct reload *r)
{
	reload_line(r->errors, "%s", r->err.text);
	serve_pools(r->daemon->server, r->daemon->pools, r->daemon->pool_count);
	memcpy(r->leaving, r->added, r->added_count * sizeof(*r->added));
	r->leaving_count = r->added_count;
	r->added_count = 0;
	help(r, help_close);
}

static void help_open_done(struct letter *letter)
{
	struct reload *r = (struct reload *)letter;
	struct listeners_change listeners;

	helped(r);
	if (r->rc == 0 && (r->abandoned || r->daemon->stopping))
		r->rc = err_set(&r->err, -ESHUTDOWN, "blockd is being stopped");
	for (size_t i = 0; i < r->leaving_count && r->rc == 0; i++)
		r->rc = check_unused(r->leaving[i], &r->err);
	if (r->rc == 0)
		r->rc = listeners_change_begin(r->daemon, r->conf, &listeners, &r->err);
	if (r->rc < 0) {
		take_back(r);
		return;
	}
	put_in_force(r, &listeners);
	help(r, help_close);
}

/* ---- beginning, and the end of all ---- */

void reload_start(struct blockd *daemon, reload_done *done, void *user)
{
	struct reload *r;
	struct err err = { 0 };
	int rc;

	if (daemon->reload && !done) {
		daemon->reload_again = true;
		return;
	}
	if (!done)
		daemon->reload_again = false;
	r = reload_new(daemon, done, user);
	if (!r) {
		log_error("config", "not reloaded: out of memory");
		if (done)
			done(user, NULL);
		return;
	}
	if (daemon->reload) {
		reload_line(r->errors, "a reload is under way, try again in a moment");
		done(user, json_pack("{s:O}", "errors", r->errors));
		reload_free(r);
		return;
	}
	daemon->reload = r;
	rc = read_file(r);
	if (rc == 0)
		rc = sort_pools(r);
	if (rc < 0 && json_array_size(r->errors) == 0)
		reload_line(r->errors, "%s: %s", daemon->conf_path, strerror(-rc));
	if (rc < 0) {
		while (r->added_count > 0)
			(void)pools_close_free(r->added[--r->added_count], 0);
		reload_end(r);
		return;
	}
	rc = bar_leaving(r, &err);
	if (rc < 0) {
		serve_pools(daemon->server, daemon->pools, daemon->pool_count);
		while (r->added_count > 0)
			(void)pools_close_free(r->added[--r->added_count], 0);
		reload_refuse(r, &err);
		return;
	}
	help(r, help_open);
}

/* The helper ends, its letter is opened, which for an abandoned one leads here soon. */
void reload_abandon(struct blockd *daemon)
{
	while (daemon->reload) {
		daemon->reload->abandoned = true;
		daemon->reload_again = false;
		helped(daemon->reload);
		mailbox_run(server_home(daemon->server));
	}
}
