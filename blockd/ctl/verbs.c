// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The verbs that look: status, lists, figures.  Those that change something are in change.c.
 *
 * Each asks the reactors for a snapshot (one turn of their loop) and answers at once.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blockd/ctl/target.h"
#include "blockd/ctl/verbs.h"
#include "blockd/reload.h"
#include "common/base/cleanup.h"
#include "common/daemon/loop.h"

static void reply_or_oom(struct ctl_request *req, json_t *result)
{
	if (result)
		ctl_reply(req, result);
	else
		ctl_fail(req, -ENOMEM, "out of memory");
}

/* ---- status ---- */

static void listener_append(json_t *listeners, const struct blockd *daemon,
			    const struct blockd_conf_listen *listen)
{
	const char *address;

	for (size_t i = 0; (address = listeners_address(daemon, listen, i)); i++)
		(void)json_array_append_new(listeners, json_pack("{s:s, s:s, s:s?}", "name",
								 listen->name, "address", address,
								 "default", listen->preset));
}

static void verb_status(struct ctl_request *req, void *ctx)
{
	const struct blockd *daemon = ctx;
	struct server_stat stat;
	json_t *listeners = json_array();

	server_get_stat(daemon->server, &stat);
	for (size_t i = 0; listeners && i < daemon->listener_count; i++)
		listener_append(listeners, daemon, daemon->listeners[i].conf);
	reply_or_oom(req, json_pack("{s:I, s:I, s:I, s:I, s:I, s:o}", "pid", (json_int_t)getpid(),
				    "uptime_ms", (json_int_t)(loop_now_ms() - daemon->started_ms),
				    "pools", (json_int_t)daemon->pool_count, "connections",
				    (json_int_t)stat.connections, "connection_max",
				    (json_int_t)stat.connection_max, "listeners", listeners));
}

/* ---- pools ---- */

/* Text of 16 bytes as 32 digits; `ret` has 33. */
static void id_text(const uint8_t *id, char *ret)
{
	for (int i = 0; i < 16; i++)
		sprintf(ret + 2 * i, "%02x", id[i]);
}

static json_t *pool_json(struct blockd_pool *pool)
{
	struct reactor_stat all;
	const struct thin_pool_stat *stat = &all.pool;
	const char *state;
	char id[33];

	reactor_get_stat(pool->reactor, &all);
	id_text(stat->id, id);
	state = stat->read_only ? "read-only" : stat->low_space ? "low on space" : "ok";
	return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
			 "name", pool->conf->name, "state", state, "path", pool->path, "id", id,
			 "size_bytes", (json_int_t)stat->size_bytes, "data_bytes",
			 (json_int_t)(stat->data_blocks * THIN_BLOCK_SIZE), "metadata_bytes",
			 (json_int_t)(stat->metadata_blocks * THIN_BLOCK_SIZE), "reserved_bytes",
			 (json_int_t)(stat->reserved_blocks * THIN_BLOCK_SIZE), "reclaim_bytes",
			 (json_int_t)(stat->reclaim_blocks * THIN_BLOCK_SIZE), "free_bytes",
			 (json_int_t)(stat->free_blocks * THIN_BLOCK_SIZE), "journal_bytes",
			 (json_int_t)stat->journal_bytes, "volumes", (json_int_t)stat->volume_count,
			 "connections", (json_int_t)all.connections);
}

static json_t *pool_details(struct blockd_pool *pool)
{
	struct reactor_stat all;
	const struct thin_pool_stat *stat = &all.pool;
	json_t *events = json_object(), *details;

	reactor_get_stat(pool->reactor, &all);
	for (int kind = 0; events && kind < BLOCKD_EVENT_KINDS; kind++)
		(void)json_object_set_new(
			events, pools_event_name((enum thin_event_kind)kind),
			json_integer((json_int_t)metric_get(&pool->events[kind])));
	details = json_pack(
		"{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
		"s:I, s:I, s:I, s:I, s:I, s:I}",
		"generation", (json_int_t)stat->generation, "log_used_bytes",
		(json_int_t)stat->log_used_bytes, "node_cache_bytes",
		(json_int_t)stat->node_cache_bytes, "dirty_nodes",
		(json_int_t)stat->node_dirty_count, "commits", (json_int_t)stat->commits,
		"checkpoints", (json_int_t)stat->checkpoints, "flushes", (json_int_t)stat->flushes,
		"checksum_errors", (json_int_t)stat->checksum_errors, "enospc_errors",
		(json_int_t)stat->enospc_errors, "punched_bytes", (json_int_t)stat->punched_bytes,
		"ahead_bytes", (json_int_t)stat->ahead_bytes, "buffer_used_bytes",
		(json_int_t)all.buffer_used_bytes, "buffer_limit_bytes",
		(json_int_t)all.buffer_limit_bytes, "data_cache_limit_bytes",
		(json_int_t)stat->data_cache_bytes, "data_cached_bytes",
		(json_int_t)stat->data_cached_bytes, "cache_hits", (json_int_t)stat->cache_hits,
		"cache_misses", (json_int_t)stat->cache_misses, "reclaimed_bytes",
		(json_int_t)(stat->reclaimed_blocks * THIN_BLOCK_SIZE), "reclaim_trees",
		(json_int_t)stat->reclaim_trees, "deleted", (json_int_t)stat->deleted_count,
		"deleted_held", (json_int_t)stat->held_count, "deleted_held_bytes",
		(json_int_t)(stat->held_blocks * THIN_BLOCK_SIZE));
	if (details)
		(void)json_object_set_new(details, "events", events);
	(void)json_object_set_new(details, "scrub", scrub_json(&stat->scrub));
	return details;
}

static void verb_pool_list(struct ctl_request *req, void *ctx)
{
	const struct blockd *daemon = ctx;
	json_t *pools = json_array();

	for (size_t i = 0; pools && i < daemon->pool_count; i++)
		(void)json_array_append_new(pools, pool_json(daemon->pools[i]));
	reply_or_oom(req, json_pack("{s:o}", "pools", pools));
}

static void verb_pool_status(struct ctl_request *req, void *ctx)
{
	const struct blockd *daemon = ctx;
	struct blockd_pool *only = NULL;
	const char *name = NULL;
	struct err err = { 0 };
	json_t *pools;

	if (ctl_arg_text(req, "pool", false, &name) < 0)
		return;
	if (name && target_find_pool(daemon, name, &only, &err) < 0) {
		ctl_fail_err(req, &err);
		return;
	}
	pools = json_array();
	for (size_t i = 0; pools && i < daemon->pool_count; i++) {
		struct blockd_pool *pool = daemon->pools[i];
		json_t *json, *details;

		if (only && pool != only)
			continue;
		json = pool_json(pool);
		details = pool_details(pool);
		(void)json_object_update(json, details);
		json_decref(details);
		(void)json_array_append_new(pools, json);
	}
	reply_or_oom(req, json_pack("{s:o}", "pools", pools));
}

/* ---- clients ---- */

static json_t *client_json(const struct blockd_pool *pool, const struct reactor_conn_info *info)
{
	return json_pack("{s:I, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
			 "id", (json_int_t)info->id, "pool", pool->conf->name, "volume",
			 info->volume, "peer", info->peer, "listener", info->listener, "mode",
			 info->read_only ? "ro" : "rw", "since_s", (json_int_t)info->since_s,
			 "in_flight", (json_int_t)info->in_flight, "reads",
			 (json_int_t)info->io.reads, "writes", (json_int_t)info->io.writes,
			 "flushes", (json_int_t)info->io.flushes, "read_bytes",
			 (json_int_t)info->io.read_bytes, "written_bytes",
			 (json_int_t)info->io.written_bytes, "errors", (json_int_t)info->io.errors);
}

static int clients_append(json_t *clients, struct blockd_pool *pool, const char *volume)
{
	CLEANUP_FREE struct reactor_conn_info *list = NULL;
	size_t count = 0;
	int rc = reactor_list_conns(pool->reactor, &list, &count);

	for (size_t i = 0; rc == 0 && i < count; i++)
		if (!volume || strcmp(list[i].volume, volume) == 0)
			(void)json_array_append_new(clients, client_json(pool, &list[i]));
	return rc;
}

/*
 * What `append` finds in every pool, or of the one volume that the request names; NULL: it is
 * answered, or there is no memory (*ret_answered says which).
 */
static json_t *collect(struct ctl_request *req, const struct blockd *daemon,
		       int (*append)(json_t *list, struct blockd_pool *pool, const char *volume),
		       bool *ret_answered)
{
	const char *volume = NULL;
	struct target target = { 0 };
	struct err err = { 0 };
	json_t *list;

	*ret_answered = true;
	if (ctl_arg_text(req, "volume", false, &volume) < 0)
		return NULL;
	if (volume && target_find_volume(daemon, volume, &target, &err) < 0) {
		ctl_fail_err(req, &err);
		return NULL;
	}
	*ret_answered = false;
	list = json_array();
	for (size_t i = 0; list && i < daemon->pool_count; i++) {
		struct blockd_pool *pool = daemon->pools[i];

		if (target.pool && target.pool != pool)
			continue;
		if (append(list, pool, volume ? target.name : NULL) < 0) {
			json_decref(list);
			list = NULL;
		}
	}
	return list;
}

static void verb_clients(struct ctl_request *req, void *ctx)
{
	bool answered;
	json_t *clients = collect(req, ctx, clients_append, &answered);

	if (!answered)
		reply_or_oom(req, json_pack("{s:o}", "clients", clients));
}

/* ---- stat ---- */

/* [[END_NS, COUNT], ...] of the buckets that count anything; the last has no end: null. */
static json_t *histogram_json(const struct histogram *h)
{
	json_t *buckets = json_array();

	for (unsigned i = 0; buckets && i < HISTOGRAM_BUCKET_COUNT; i++) {
		uint64_t end = histogram_end_ns(i);

		if (h->counts[i])
			(void)json_array_append_new(
				buckets,
				json_pack("[o, I]",
					  end == UINT64_MAX ? json_null()
							    : json_integer((json_int_t)end),
					  (json_int_t)h->counts[i]));
	}
	return buckets;
}

static json_t *latency_json(const struct blockd_pool *pool, const struct reactor_latency_info *info)
{
	const struct io_counters *io = &info->io;
	json_t *latency = json_object();

	for (int kind = 0; latency && kind < IO_KIND_COUNT; kind++)
		(void)json_object_set_new(latency, figures_kind_name((enum io_kind)kind),
					  histogram_json(&info->latency.kinds[kind]));
	return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "pool",
			 pool->conf->name, "name", info->volume, "id", (json_int_t)info->id,
			 "reads", (json_int_t)io->reads, "writes", (json_int_t)io->writes,
			 "flushes", (json_int_t)io->flushes, "others",
			 (json_int_t)(io->trims + io->zeroes + io->others), "read_bytes",
			 (json_int_t)io->read_bytes, "written_bytes", (json_int_t)io->written_bytes,
			 "errors", (json_int_t)io->errors, "latency", latency);
}

static int latencies_append(json_t *volumes, struct blockd_pool *pool, const char *volume)
{
	CLEANUP_FREE struct reactor_latency_info *list = NULL;
	size_t count = 0;
	int rc = reactor_list_latencies(pool->reactor, &list, &count);

	for (size_t i = 0; rc == 0 && i < count; i++)
		if (!volume || strcmp(list[i].volume, volume) == 0)
			(void)json_array_append_new(volumes, latency_json(pool, &list[i]));
	return rc;
}

static void verb_stat(struct ctl_request *req, void *ctx)
{
	const struct blockd *daemon = ctx;
	bool answered;
	json_t *volumes = collect(req, daemon, latencies_append, &answered);

	if (!answered)
		reply_or_oom(req, json_pack("{s:I, s:o}", "uptime_ms",
					    (json_int_t)(loop_now_ms() - daemon->started_ms),
					    "volumes", volumes));
}

static void verb_metrics(struct ctl_request *req, void *ctx)
{
	struct blockd *daemon = ctx;
	CLEANUP_FREE char *text = metrics_scrape(daemon->metrics);

	reply_or_oom(req, text ? json_pack("{s:s}", "text", text) : NULL);
}

/* ---- reload ---- */

static void reload_finished(void *user, json_t *result)
{
	struct ctl_request *req = user;

	if (result)
		ctl_reply(req, result);
	else
		ctl_fail(req, -ESHUTDOWN, "blockd is being stopped");
}

static void verb_reload(struct ctl_request *req, void *ctx)
{
	struct blockd *daemon = ctx;

	if (daemon->stopping)
		reload_finished(req, NULL);
	else
		reload_start(daemon, reload_finished, req);
}

const struct ctl_verb verbs_table[] = {
	{ "status", verb_status },
	{ "pool-list", verb_pool_list },
	{ "pool-status", verb_pool_status },
	{ "pool-grow", verb_pool_grow },
	{ "pool-scrub", verb_pool_scrub },
	{ "volume-list", verb_volume_list },
	{ "volume-info", verb_volume_info },
	{ "volume-create", verb_volume_create },
	{ "volume-resize", verb_volume_resize },
	{ "volume-rename", verb_volume_rename },
	{ "volume-delete", verb_volume_delete },
	{ "volume-claim", verb_volume_claim },
	{ "snapshot", verb_snapshot },
	{ "clone", verb_clone },
	{ "rollback", verb_rollback },
	{ "lineage", verb_lineage },
	{ "diff", verb_diff },
	{ "lock-show", verb_lock_show },
	{ "lock-handover", verb_lock_handover },
	{ "lock-break", verb_lock_break },
	{ "lock-allow", verb_lock_allow },
	{ "volume-set", verb_volume_set },
	{ "clients", verb_clients },
	{ "stat", verb_stat },
	{ "metrics", verb_metrics },
	{ "reload", verb_reload },
	{ NULL, NULL },
};
