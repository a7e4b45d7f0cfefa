// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The pools of the daemon: from the configuration to open pools with their declared volumes.
 *
 *	missing and create = true -> made (poolfile.h)		one after the other
 *	all -> opened and recovered, each on its own reactor	side by side
 *	pool smaller than `size` -> grown			one after the other
 *	declared volume missing -> made; smaller -> grown; larger -> left, with a line in the log
 *
 * All failures of one step are logged before the daemon gives up, so that one start shows them.
 * What the engine has to say (its events) comes on the reactor's thread and is logged from there;
 * what clients can trigger at will is limited.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "blockd/daemon.h"
#include "blockd/signature.h"
#include "common/base/cleanup.h"
#include "common/base/units.h"
#include "common/daemon/log.h"
#include "common/daemon/loop.h"

/* A reactor turns at least once a second; what stands still for so long hangs. */
#define BEAT_LIMIT_MS 15000

/* ---- events ---- */

const char *pools_event_name(enum thin_event_kind kind)
{
	switch (kind) {
	case THIN_EVENT_NOTE:
		return "note";
	case THIN_EVENT_DAMAGE:
		return "damage";
	case THIN_EVENT_LOW_SPACE:
		return "low_space";
	case THIN_EVENT_FULL:
		return "full";
	case THIN_EVENT_READ_ONLY:
		return "read_only";
	}
	return "unknown";
}

/* On the reactor's thread. */
static void pool_event(void *user, enum thin_event_kind kind, const char *text)
{
	struct blockd_pool *pool = user;
	enum log_level level = LOG_LEVEL_WARNING;
	char key[192];

	metric_add(&pool->events[kind], 1);
	switch (kind) {
	case THIN_EVENT_NOTE:
		log_info(pool->subject, "%s", text);
		return;
	case THIN_EVENT_READ_ONLY:
		log_error(pool->subject, "%s", text);
		return;
	case THIN_EVENT_DAMAGE:
		level = LOG_LEVEL_ERROR;
		break;
	case THIN_EVENT_LOW_SPACE:
	case THIN_EVENT_FULL:
		break;
	}
	snprintf(key, sizeof(key), "%s %s", pool->subject, pools_event_name(kind));
	log_limited(level, key, pool->subject, "%s", text);
}

/* What an administrator did is always told; what clients can cause as often as they like is not. */
static bool is_administrators(enum lock_event event)
{
	return event == LOCK_EV_BROKEN || event == LOCK_EV_HANDOVER || event == LOCK_EV_ALLOWED;
}

/* Without its numbers (process, connection, epoch, time): who comes again and again is one key. */
static void add_without_digits(char *key, size_t size, const char *text)
{
	size_t len = strlen(key);

	for (; *text && len + 1 < size; text++)
		if (*text < '0' || *text > '9')
			key[len++] = *text;
	key[len] = '\0';
}

/* On the reactor's thread. */
static void pool_lock_event(void *user, const char *volume, enum lock_event event, const char *text)
{
	struct blockd_pool *pool = user;
	char subject[THIN_PATH_MAX + 8], key[THIN_PATH_MAX + 160];
	bool warn = event == LOCK_EV_BROKEN || event == LOCK_EV_FAILED || event == LOCK_EV_FENCED;

	metric_add(&pool->lock_events[event], 1);
	snprintf(subject, sizeof(subject), "vol %s", volume);
	snprintf(key, sizeof(key), "%s lock %s", subject, lock_event_name(event));
	if (event == LOCK_EV_ACQUIRED || event == LOCK_EV_RELEASED)
		add_without_digits(key, sizeof(key), text);
	if (!is_administrators(event))
		log_limited(warn ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO, key, subject,
			    "write lock: %s", text);
	else if (warn)
		log_warning(subject, "write lock: %s", text);
	else
		log_info(subject, "write lock: %s", text);
}

/* ---- opening ---- */

static int pool_open(void *user, struct thin_dev **ret_dev, struct thin_pool **ret_pool,
		     struct err *err)
{
	struct blockd_pool *pool = user;
	struct poolfile_open open = {
		.path = pool->path,
		.runtime = pool->runtime,
		.cache_bytes = pool->cache_bytes,
		.data_cache_bytes = pool->data_cache_bytes,
		.ahead_bytes = pool->ahead_bytes,
		.buffer_bytes = pool->buffer_bytes / 2,
		.salvage = pool->salvage,
		.event = pool_event,
		.event_user = pool,
	};
	int rc = poolfile_open(&open, &pool->file, err);

	if (rc < 0)
		return rc;
	*ret_dev = pool->file.dev;
	*ret_pool = pool->file.pool;
	return 0;
}

static void pool_close(void *user, struct thin_dev *dev, struct thin_pool *thin)
{
	struct blockd_pool *pool = user;
	int rc = poolfile_close(&pool->file);

	(void)dev;
	(void)thin;
	pool->close_rc = rc;
	if (rc < 0)
		log_error(pool->subject,
			  "not closed cleanly: %s (it is recovered at the next start)",
			  strerror(-rc));
	else
		log_info(pool->subject, "closed");
}

/* Make what is missing and may be made. */
static int pool_prepare(struct blockd_pool *pool, struct err *err)
{
	const struct blockd_conf_pool *conf = pool->conf;
	struct poolfile_create create = { .size_bytes = conf->size_bytes,
					  .journal_bytes = conf->journal_bytes };
	struct stat st;
	int rc;

	if (!conf->create || conf->salvage) {
		if (stat(conf->path, &st) < 0 && errno == ENOENT)
			return err_set(
				err, -ENOENT,
				"'%s' does not exist; if it should not: create = true makes it "
				"(%s:%u), or: vdiskctl pool create %s --size SIZE",
				conf->path, conf->section->pos.file, conf->section->pos.line,
				conf->path);
		return 0;
	}
	if (signature_check(conf->path, NULL) < 0)
		return 0; /* there is something: opening it will say what is wrong with it */
	rc = poolfile_create(conf->path, &create, err);
	if (rc == 0)
		log_info(pool->subject, "made '%s'", conf->path);
	return rc;
}

static int pool_launch(struct server *server, struct blockd_pool *pool, struct err *err)
{
	struct reactor_params params = {
		.name = pool->conf->name,
		.home = server_home(server),
		.buffer_bytes = pool->buffer_bytes,
		.spin_us = pool->conf->spin_us,
		.open = pool_open,
		.close = pool_close,
		.lock_event = pool_lock_event,
		.user = pool,
	};
	int rc = pool_prepare(pool, err);

	if (rc == 0)
		rc = reactor_start(&params, &pool->reactor, err);
	if (rc < 0)
		log_error(pool->subject, "%s", err->text);
	return rc;
}

/* What opening a foreign or blank device looks like, with the way out.  A damaged pool gets no
 * advice to write over it. */
static void explain_failure(const struct blockd_pool *pool, int rc, const struct err *err)
{
	struct err what = { 0 };

	log_error(pool->subject, "%s", err->text);
	if (rc != -EUCLEAN)
		return;
	if (signature_check(pool->conf->path, &what) == 0)
		log_error(
			pool->subject,
			"'%s' is blank: create = true, or vdiskctl pool create, makes a pool on it",
			pool->conf->path);
	else if (what.code == -EEXIST && !strstr(what.text, SIGNATURE_POOL))
		log_error(pool->subject, "%s", what.text);
}

static int pool_await(struct blockd_pool *pool, struct err *err)
{
	int rc = reactor_wait(pool->reactor, err);

	if (rc < 0)
		explain_failure(pool, rc, err);
	else
		pool->running = true;
	return rc;
}

/* ---- growing ---- */

struct resize {
	uint64_t size_bytes;
	struct err *err;
};

static int resize_device(struct reactor *reactor, void *arg)
{
	const struct resize *resize = arg;
	struct thin_dev *dev = reactor_dev(reactor);

	if (dev->size_bytes >= resize->size_bytes)
		return 0;
	return dev->ops->resize(dev, resize->size_bytes, resize->err);
}

int pools_grow(struct blockd_pool *pool, uint64_t size_bytes, struct err *err)
{
	struct resize resize = { size_bytes, err };
	struct thin_req req = { .op = THIN_POOL_GROW, .size_bytes = size_bytes };
	struct reactor_stat stat;
	char have[UNITS_TEXT_MAX];
	int rc;

	reactor_get_stat(pool->reactor, &stat);
	if (size_bytes <= stat.pool.size_bytes)
		return err_set(err, -EINVAL, "it has %s already; a pool is never shrunk",
			       size_format(stat.pool.size_bytes, have));
	rc = reactor_call(pool->reactor, resize_device, &resize);
	if (rc < 0)
		return rc;
	rc = reactor_request(pool->reactor, &req);
	return rc < 0 ? err_sys(err, rc, "grow") : 0;
}

static int pool_grow_declared(struct blockd_pool *pool, const struct blockd_conf_pool *conf,
			      struct err *err)
{
	struct reactor_stat stat;
	char size[UNITS_TEXT_MAX];
	int rc;

	reactor_get_stat(pool->reactor, &stat);
	if (conf->size_bytes <= stat.pool.size_bytes || pool->salvage)
		return 0;
	rc = pools_grow(pool, conf->size_bytes, err);
	if (rc < 0)
		log_error(pool->subject, "%s:%u: size: %s", conf->section->pos.file,
			  conf_pos_of(conf->section, "size")->line, err->text);
	else
		log_info(pool->subject, "grown to %s", size_format(conf->size_bytes, size));
	return rc;
}

/* ---- volumes ---- */

struct find {
	const char *name;
	struct thin_vol_stat *ret_stat;
};

static int find_volume(struct reactor *reactor, void *arg)
{
	const struct find *find = arg;
	return thin_vol_find(reactor_pool(reactor), find->name, find->ret_stat);
}

int pools_find_volume(struct blockd_pool *pool, const char *name, struct thin_vol_stat *ret_stat)
{
	struct find find = { name, ret_stat };
	return reactor_call(pool->reactor, find_volume, &find);
}

static int volume_declare(struct blockd_pool *pool, const struct blockd_conf_volume *volume,
			  const char **ret_what)
{
	struct thin_req req = { .name = volume->name,
				.size_bytes = volume->size_bytes,
				.reserve_full = volume->reserve_full,
				.time_s = (uint64_t)time(NULL) };
	struct thin_vol_stat stat;
	int rc = pools_find_volume(pool, volume->name, &stat);

	if (rc == 0 && stat.size_bytes >= volume->size_bytes) {
		*ret_what = stat.size_bytes > volume->size_bytes
				    ? "larger than declared: left as it is"
				    : NULL;
		return 0;
	}
	if (rc < 0 && rc != -ENOENT)
		return rc;
	if (pool->salvage) {
		*ret_what = "not there, or smaller than declared: its pool is only read";
		return 0;
	}
	req.op = rc == 0 ? THIN_VOL_RESIZE : THIN_VOL_CREATE;
	*ret_what = rc == 0 ? "grown as declared" : "made as declared";
	return reactor_request(pool->reactor, &req);
}

static struct blockd_pool *pool_in(struct blockd_pool **pools, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(pools[i]->conf->name, name) == 0)
			return pools[i];
	return NULL;
}

static int volumes_declare(const struct blockd_conf *conf, struct blockd_pool **pools, size_t count,
			   struct err *err)
{
	int result = 0;

	for (size_t i = 0; i < conf->volume_count; i++) {
		const struct blockd_conf_volume *volume = &conf->volumes[i];
		struct blockd_pool *pool = pool_in(pools, count, volume->pool);
		char subject[160], size[UNITS_TEXT_MAX];
		const char *what = NULL;
		struct err own = { 0 };
		int rc = volume_declare(pool, volume, &what);

		snprintf(subject, sizeof(subject), "vol %s", volume->name);
		if (rc < 0) {
			(void)err_set(&own, rc, "%s:%u: cannot be made or grown in pool %s: %s",
				      volume->section->pos.file, volume->section->pos.line,
				      volume->pool, strerror(-rc));
			log_error(subject, "%s", own.text);
			(void)err_context(&own, "%s", subject);
		} else if (what) {
			log_info(subject, "%s (%s)", what, size_format(volume->size_bytes, size));
		}
		if (rc < 0 && result == 0) {
			result = rc;
			*err = own;
		}
	}
	return result;
}

/* ---- all of them ---- */

/* Run one step for every pool, also after a failure; the first error counts. */
#define FOR_ALL(pools, count, rc, err, step)                                                       \
	for (size_t pool_i = 0; pool_i < (count); pool_i++) {                                      \
		struct blockd_pool *pool = (pools)[pool_i];                                        \
		struct err own = { 0 };                                                            \
		int step_rc = (step);                                                              \
		if (step_rc < 0 && (rc) == 0) {                                                    \
			(rc) = step_rc;                                                            \
			(void)err_context(&own, "%s", pool->subject);                              \
			*(err) = own;                                                              \
		}                                                                                  \
	}

struct blockd_pool *pools_new(const struct blockd_conf_pool *conf, const struct blockd_conf *all)
{
	struct blockd_pool *pool = calloc(1, sizeof(*pool));

	if (!pool)
		return NULL;
	pool->conf = conf;
	pool->path = strdup(conf->path);
	pool->runtime = strdup(all->runtime);
	if (!pool->path || !pool->runtime) {
		pools_close_free(pool, 0);
		return NULL;
	}
	pool->journal_bytes = conf->journal_bytes;
	pool->cache_bytes = conf->cache_bytes;
	pool->data_cache_bytes = conf->data_cache_bytes;
	pool->ahead_bytes = conf->ahead_bytes;
	pool->buffer_bytes = conf->buffer_bytes;
	pool->salvage = conf->salvage;
	snprintf(pool->subject, sizeof(pool->subject), "pool %s", conf->name);
	return pool;
}

int pools_open(struct server *server, struct blockd_pool **pools, size_t count, struct err *err)
{
	int rc = 0;

	FOR_ALL(pools, count, rc, err, pool_launch(server, pool, &own));
	FOR_ALL(pools, count, rc, err, pool->reactor ? pool_await(pool, &own) : 0);
	return rc;
}

int pools_declare(const struct blockd_conf *conf, struct blockd_pool **pools, size_t count,
		  struct err *err)
{
	int rc = 0;

	for (size_t i = 0; i < conf->pool_count; i++) {
		const struct blockd_conf_pool *now = &conf->pools[i];
		struct blockd_pool *found = pool_in(pools, count, now->name);
		FOR_ALL(&found, 1, rc, err, pool_grow_declared(pool, now, &own));
	}
	return rc == 0 ? volumes_declare(conf, pools, count, err) : rc;
}

int pools_start(struct blockd *daemon)
{
	const struct blockd_conf *conf = daemon->conf;
	struct err err = { 0 };
	int rc = 0;

	daemon->pools = calloc(conf->pool_count, sizeof(*daemon->pools));
	if (!daemon->pools)
		return -ENOMEM;
	for (size_t i = 0; i < conf->pool_count; i++) {
		daemon->pools[i] = pools_new(&conf->pools[i], conf);
		if (!daemon->pools[i])
			return -ENOMEM;
		daemon->pool_count++;
	}
	rc = pools_open(daemon->server, daemon->pools, daemon->pool_count, &err);
	for (size_t i = 0; i < daemon->pool_count && rc == 0; i++) {
		rc = server_add_pool(daemon->server, daemon->pools[i]->reactor, &err);
		if (rc < 0)
			log_error(daemon->pools[i]->subject, "%s", err.text);
	}
	if (rc == 0)
		rc = pools_declare(conf, daemon->pools, daemon->pool_count, &err);
	pools_set_lock_policies(conf, daemon->pools, daemon->pool_count);
	return rc;
}

static void set_lock_policies(const struct blockd_conf *conf, struct blockd_pool *pool)
{
	CLEANUP_FREE struct reactor_lock_policy *list =
		calloc(conf->volume_count + 1, sizeof(*list));
	size_t count = 0;
	int rc = -ENOMEM;

	for (size_t i = 0; list && i < conf->volume_count; i++) {
		const struct blockd_conf_volume *v = &conf->volumes[i];

		if (strcmp(v->pool, pool->conf->name) != 0)
			continue;
		snprintf(list[count].volume, sizeof(list[count].volume), "%s", v->name);
		list[count++].policy = v->lock;
	}
	if (list)
		rc = reactor_set_lock_policies(pool->reactor, list, count);
	if (rc < 0)
		log_error(pool->subject, "settings of write locks: %s", strerror(-rc));
}

void pools_set_lock_policies(const struct blockd_conf *conf, struct blockd_pool **pools,
			     size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (pools[i]->running)
			set_lock_policies(conf, pools[i]);
}

int pools_close_free(struct blockd_pool *pool, uint32_t drain_ms)
{
	int rc;

	reactor_stop_free(pool->reactor, drain_ms);
	rc = pool->close_rc;
	free(pool->path);
	free(pool->runtime);
	free(pool);
	return rc;
}

int pools_stop(struct blockd *daemon, uint32_t drain_ms)
{
	int rc = 0;

	for (size_t i = 0; i < daemon->pool_count; i++) {
		struct blockd_pool *pool = daemon->pools[i];
		int close_rc;

		if (pool->running)
			server_remove_pool(daemon->server, pool->reactor);
		close_rc = pools_close_free(pool, drain_ms);
		if (close_rc < 0 && rc == 0)
			rc = close_rc;
	}
	free(daemon->pools);
	daemon->pools = NULL;
	daemon->pool_count = 0;
	return rc;
}

bool pools_are_well(struct blockd *daemon, uint64_t now_ms)
{
	bool well = true;

	for (size_t i = 0; i < daemon->pool_count; i++) {
		struct blockd_pool *pool = daemon->pools[i];
		uint64_t beat = reactor_beat(pool->reactor);

		if (beat != pool->beat || pool->beat_ms == 0) {
			pool->beat = beat;
			pool->beat_ms = now_ms;
		} else if (now_ms - pool->beat_ms > BEAT_LIMIT_MS) {
			log_error(pool->subject, "its thread has stood still for %" PRIu64 " ms",
				  now_ms - pool->beat_ms);
			well = false;
		}
	}
	return well;
}

struct blockd_pool *pools_find(const struct blockd *daemon, const char *name)
{
	return pool_in(daemon->pools, daemon->pool_count, name);
}
