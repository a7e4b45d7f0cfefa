// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What `vdiskctl metrics` prints: the counters of the server, the pools and the volumes as
 * OpenMetrics families.
 *
 * A scrape takes one snapshot of each reactor first, since OpenMetrics wants each family in one
 * piece over all pools.  The families are tables: a name, a help text and where the number lies.
 */
#include <stddef.h>
#include <stdlib.h>

#include "blockd/daemon.h"
#include "thin/thin.h"

#define BLOCK 4096u

struct figure {
	const char *name, *help;
	size_t offset;
	enum metrics_type type;
	unsigned scale; /* blocks to bytes */
};

#define GAUGE(s, n, field, h)                                                                      \
	{                                                                                          \
		n, h, offsetof(s, field), METRICS_GAUGE, 1                                         \
	}
#define GAUGE_BLOCKS(s, n, field, h)                                                               \
	{                                                                                          \
		n, h, offsetof(s, field), METRICS_GAUGE, BLOCK                                     \
	}
#define COUNTER(s, n, field, h)                                                                    \
	{                                                                                          \
		n, h, offsetof(s, field), METRICS_COUNTER, 1                                       \
	}

#define POOL "blockd_pool_"
#define S    struct thin_pool_stat
static const struct figure pool_figures[] = {
	GAUGE(S, POOL "size_bytes", size_bytes, "Size of the pool."),
	GAUGE_BLOCKS(S, POOL "data_bytes", data_blocks, "Held by data of volumes."),
	GAUGE_BLOCKS(S, POOL "metadata_bytes", metadata_blocks, "Held by maps and the catalog."),
	GAUGE_BLOCKS(S, POOL "reserved_bytes", reserved_blocks, "Promised to provisioned zeroes."),
	GAUGE_BLOCKS(S, POOL "reclaim_bytes", reclaim_blocks, "Deleted and not yet given back."),
	{ POOL "reclaimed_bytes", "Of deleted things, given back.", offsetof(S, reclaimed_blocks),
	  METRICS_COUNTER, BLOCK },
	GAUGE(S, POOL "reclaim_trees", reclaim_trees, "Trees to be given back."),
	GAUGE(S, POOL "deleted", deleted_count, "Deleted snapshots that are still there."),
	GAUGE(S, POOL "deleted_held", held_count, "... as several are built on them."),
	GAUGE_BLOCKS(S, POOL "deleted_held_bytes", held_blocks, "Held by those."),
	GAUGE_BLOCKS(S, POOL "free_bytes", free_blocks, "Free."),
	GAUGE(S, POOL "log_used_bytes", log_used_bytes, "In use of the intent log."),
	GAUGE(S, POOL "volumes", volume_count, "Volumes in the pool."),
	GAUGE(S, POOL "node_cache_bytes", node_cache_bytes, "Held by the node cache."),
	GAUGE(S, POOL "data_cache_limit_bytes", data_cache_bytes, "Memory for the data cache."),
	GAUGE(S, POOL "data_cached_bytes", data_cached_bytes, "Data held by the data cache."),
	GAUGE(S, POOL "dirty_nodes", node_dirty_count, "Map nodes changed since the checkpoint."),
	GAUGE(S, POOL "scrub_running", scrub.running, "1 while a scrub goes on."),
	GAUGE(S, POOL "scrub_checked_bytes", scrub.checked_bytes, "Checked by the last scrub."),
	GAUGE(S, POOL "scrub_total_bytes", scrub.total_bytes, "To be checked by it, about."),
	GAUGE(S, POOL "scrub_finds", scrub.finds, "Damage that it has found."),
	GAUGE(S, POOL "scrub_damaged_bytes", scrub.damaged_bytes, "Bytes of it."),
	GAUGE(S, POOL "generation", generation, "The pool's generation."),
	COUNTER(S, POOL "commits", commits, "Log pages sealed and made durable in groups."),
	COUNTER(S, POOL "checkpoints", checkpoints, "Checkpoints taken."),
	COUNTER(S, POOL "flushes", flushes, "Flushes of the device."),
	COUNTER(S, POOL "checkpoint_bytes", checkpoint_bytes, "Written by checkpoints."),
	COUNTER(S, POOL "log_bytes", log_bytes, "Written to the intent log."),
	COUNTER(S, POOL "data_written_bytes", data_written_bytes, "Data written to the device."),
	COUNTER(S, POOL "data_read_bytes", data_read_bytes, "Data read from the device."),
	COUNTER(S, POOL "cache_hits", cache_hits, "Blocks read that were in the data cache."),
	COUNTER(S, POOL "cache_misses", cache_misses, "Blocks read that were not."),
	COUNTER(S, POOL "readahead_bytes", readahead_bytes, "Read ahead for sequential streams."),
	COUNTER(S, POOL "checksum_errors", checksum_errors, "Blocks that did not match."),
	COUNTER(S, POOL "enospc_errors", enospc_errors, "Requests refused for lack of space."),
	COUNTER(S, POOL "ahead_bytes", ahead_bytes, "Free space written ahead of its use."),
	COUNTER(S, POOL "punched_bytes", punched_bytes, "Given back to the host file system."),
	COUNTER(S, POOL "replayed_records", replayed_records, "Log records replayed at open."),
	COUNTER(S, POOL "skipped_records", skipped_records, "Log records skipped at open."),
};
#undef S

#define S struct reactor_stat
static const struct figure reactor_figures[] = {
	GAUGE(S, POOL "buffer_limit_bytes", buffer_limit_bytes, "Memory for requests."),
	GAUGE(S, POOL "buffer_used_bytes", buffer_used_bytes, "Memory for requests in use."),
	GAUGE(S, POOL "buffer_peak_bytes", buffer_peak_bytes, "The most that was in use."),
	COUNTER(S, POOL "buffer_waits", buffer_waits, "Times a client waited for memory."),
	COUNTER(S, POOL "stalled_drops", stalled_drops, "Clients cut for holding memory."),
	COUNTER(S, POOL "protocol_drops", protocol_drops, "Clients cut for breaking the protocol."),
	COUNTER(S, POOL "reactor_turns", turns, "Turns of the reactor's loop."),
	COUNTER(S, POOL "reactor_sleeps", sleeps, "Times it slept."),
	COUNTER(S, POOL "reactor_spins", spins, "Times polling before a sleep saved it."),
	COUNTER(S, POOL "reactor_recvs", recvs, "System calls that received."),
	COUNTER(S, POOL "reactor_sends", sends, "System calls that sent."),
};
#undef S

#define VOL "blockd_volume_"
#define S   struct reactor_vol_info
static const struct figure volume_figures[] = {
	GAUGE(S, VOL "size_bytes", stat.size_bytes, "Size of the volume."),
	GAUGE_BLOCKS(S, VOL "used_bytes", stat.mapped_blocks, "Held by its data."),
	GAUGE_BLOCKS(S, VOL "reserved_bytes", stat.reserved_blocks, "Promised to it."),
	COUNTER(S, VOL "reads", io.reads, "Reads answered."),
	COUNTER(S, VOL "writes", io.writes, "Writes answered."),
	COUNTER(S, VOL "flushes", io.flushes, "Flushes answered."),
	COUNTER(S, VOL "trims", io.trims, "Trims answered."),
	COUNTER(S, VOL "zeroes", io.zeroes, "Zero requests answered."),
	COUNTER(S, VOL "others", io.others, "Other requests answered."),
	COUNTER(S, VOL "read_bytes", io.read_bytes, "Bytes read."),
	COUNTER(S, VOL "written_bytes", io.written_bytes, "Bytes written."),
	COUNTER(S, VOL "trimmed_bytes", io.trimmed_bytes, "Bytes trimmed."),
	COUNTER(S, VOL "zeroed_bytes", io.zeroed_bytes, "Bytes zeroed."),
	COUNTER(S, VOL "errors", io.errors, "Requests answered with an error."),
};
#undef S

#define S struct server_stat
static const struct figure server_figures[] = {
	COUNTER(S, "blockd_accepted_connections", accepted, "Connections accepted."),
	COUNTER(S, "blockd_handshake_timeouts", handshake_timeouts, "Handshakes too slow."),
	COUNTER(S, "blockd_handshake_errors", handshake_errors, "Handshakes broken off."),
	COUNTER(S, "blockd_handshake_evictions", handshake_evictions, "Dropped at the cap."),
	COUNTER(S, "blockd_accept_pauses", accept_pauses, "Times the cap stopped accepting."),
	COUNTER(S, "blockd_refusals", refusals, "Exports asked for and not granted."),
};
#undef S

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

const char *figures_kind_name(enum io_kind kind)
{
	switch (kind) {
	case IO_READ:
		return "read";
	case IO_WRITE:
		return "write";
	case IO_FLUSH:
		return "flush";
	case IO_OTHER:
		return "other";
	}
	return "unknown";
}

/* One reactor's snapshot. */
struct snapshot {
	const char *pool;
	struct reactor_stat stat;
	struct reactor_vol_info *volumes;
	struct reactor_latency_info *latencies;
	size_t volume_count, latency_count;
};

/* All fields of the tables are uint64_t. */
static uint64_t figure_value(const struct figure *f, const void *base)
{
	const uint64_t *value = (const uint64_t *)((const char *)base + f->offset);
	return *value * f->scale;
}

static void write_pools(struct metrics_writer *w, const struct snapshot *snaps, size_t count)
{
	for (size_t f = 0; f < COUNT(pool_figures); f++) {
		const struct figure *fig = &pool_figures[f];
		metrics_family(w, fig->name, fig->type, fig->help);
		for (size_t i = 0; i < count; i++)
			metrics_u64(w, figure_value(fig, &snaps[i].stat.pool), "pool",
				    snaps[i].pool, NULL);
	}
	for (size_t f = 0; f < COUNT(reactor_figures); f++) {
		const struct figure *fig = &reactor_figures[f];
		metrics_family(w, fig->name, fig->type, fig->help);
		for (size_t i = 0; i < count; i++)
			metrics_u64(w, figure_value(fig, &snaps[i].stat), "pool", snaps[i].pool,
				    NULL);
	}
	metrics_family(w, POOL "read_only", METRICS_GAUGE, "1 when the pool went read-only.");
	for (size_t i = 0; i < count; i++)
		metrics_u64(w, snaps[i].stat.pool.read_only, "pool", snaps[i].pool, NULL);
	metrics_family(w, POOL "low_space", METRICS_GAUGE, "1 when space is low.");
	for (size_t i = 0; i < count; i++)
		metrics_u64(w, snaps[i].stat.pool.low_space, "pool", snaps[i].pool, NULL);
	metrics_family(w, POOL "connections", METRICS_GAUGE, "Clients connected.");
	for (size_t i = 0; i < count; i++)
		metrics_u64(w, snaps[i].stat.connections, "pool", snaps[i].pool, NULL);
}

static void write_events(struct metrics_writer *w, const struct blockd *daemon)
{
	metrics_family(w, POOL "events", METRICS_COUNTER, "What the engine had to say.");
	for (size_t i = 0; i < daemon->pool_count; i++)
		for (int kind = 0; kind < BLOCKD_EVENT_KINDS; kind++)
			metrics_u64(w, metric_get(&daemon->pools[i]->events[kind]), "pool",
				    daemon->pools[i]->conf->name, "event",
				    pools_event_name((enum thin_event_kind)kind), NULL);
}

static void write_locks(struct metrics_writer *w, const struct blockd *daemon)
{
	metrics_family(w, POOL "lock_events", METRICS_COUNTER,
		       "What has become of the volumes' write locks.");
	for (size_t i = 0; i < daemon->pool_count; i++)
		for (int event = 0; event < LOCK_EVENT_KINDS; event++)
			metrics_u64(w, metric_get(&daemon->pools[i]->lock_events[event]), "pool",
				    daemon->pools[i]->conf->name, "event",
				    lock_event_name((enum lock_event)event), NULL);
	metrics_family(w, VOL "lock_epoch", METRICS_GAUGE,
		       "Epoch of the write lock; of volumes that were locked.");
	for (size_t i = 0; i < daemon->pool_count; i++) {
		struct reactor_lock_info *list = NULL;
		size_t count = 0;

		if (reactor_list_locks(daemon->pools[i]->reactor, &list, &count) < 0)
			continue;
		for (size_t k = 0; k < count; k++)
			metrics_u64(w, list[k].epoch, "pool", daemon->pools[i]->conf->name,
				    "volume", list[k].volume, NULL);
		free(list);
	}
}

static void write_volumes(struct metrics_writer *w, const struct snapshot *snaps, size_t count)
{
	for (size_t f = 0; f < COUNT(volume_figures); f++) {
		const struct figure *fig = &volume_figures[f];
		metrics_family(w, fig->name, fig->type, fig->help);
		for (size_t i = 0; i < count; i++)
			for (size_t j = 0; j < snaps[i].volume_count; j++)
				metrics_u64(w, figure_value(fig, &snaps[i].volumes[j]), "pool",
					    snaps[i].pool, "volume", snaps[i].volumes[j].stat.name,
					    NULL);
	}
	metrics_family(w, VOL "connections", METRICS_GAUGE, "Clients connected.");
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < snaps[i].volume_count; j++)
			metrics_u64(w, snaps[i].volumes[j].connections, "pool", snaps[i].pool,
				    "volume", snaps[i].volumes[j].stat.name, NULL);
}

static void write_latencies(struct metrics_writer *w, const struct snapshot *snap)
{
	for (size_t i = 0; i < snap->latency_count; i++)
		for (int kind = 0; kind < IO_KIND_COUNT; kind++)
			metrics_histogram(w, &snap->latencies[i].latency.kinds[kind], "pool",
					  snap->pool, "volume", snap->latencies[i].volume,
					  "request", figures_kind_name((enum io_kind)kind), NULL);
}

static void write_server(struct metrics_writer *w, const struct blockd *daemon)
{
	struct server_stat stat;

	server_get_stat(daemon->server, &stat);
	for (size_t f = 0; f < COUNT(server_figures); f++) {
		metrics_family(w, server_figures[f].name, server_figures[f].type,
			       server_figures[f].help);
		metrics_u64(w, figure_value(&server_figures[f], &stat), NULL);
	}
	metrics_family(w, "blockd_connections", METRICS_GAUGE, "Clients, in handshake or after.");
	metrics_u64(w, stat.connections, NULL);
	metrics_family(w, "blockd_handshakes", METRICS_GAUGE, "Clients in their handshake.");
	metrics_u64(w, stat.handshakes, NULL);
	metrics_family(w, "blockd_verbs", METRICS_COUNTER, "Changes asked for by vdiskctl.");
	metrics_u64(w, metric_get(&daemon->verbs), NULL);
	metrics_family(w, "blockd_reloads", METRICS_COUNTER, "Configurations put in force.");
	metrics_u64(w, metric_get(&daemon->reloads), NULL);
	metrics_family(w, "blockd_refused_reloads", METRICS_COUNTER, "Configurations refused.");
	metrics_u64(w, metric_get(&daemon->refused_reloads), NULL);
	metrics_family(w, "blockd_restart_needs", METRICS_GAUGE,
		       "Values of the configuration that wait for a restart.");
	metrics_u64(w, daemon->restart_count, NULL);
	metrics_family(w, "blockd_refused_verbs", METRICS_COUNTER, "Changes refused or failed.");
	metrics_u64(w, metric_get(&daemon->refused_verbs), NULL);
}

void figures_collect(struct metrics_writer *w, void *ctx)
{
	const struct blockd *daemon = ctx;
	struct snapshot *snaps = calloc(daemon->pool_count + 1, sizeof(*snaps));

	write_server(w, daemon);
	if (!snaps)
		return;
	for (size_t i = 0; i < daemon->pool_count; i++) {
		struct snapshot *snap = &snaps[i];
		snap->pool = daemon->pools[i]->conf->name;
		reactor_get_stat(daemon->pools[i]->reactor, &snap->stat);
		if (reactor_list_vols(daemon->pools[i]->reactor, NULL, 0, &snap->volumes,
				      &snap->volume_count) < 0)
			snap->volume_count = 0;
		if (reactor_list_latencies(daemon->pools[i]->reactor, &snap->latencies,
					   &snap->latency_count) < 0)
			snap->latency_count = 0;
	}
	write_pools(w, snaps, daemon->pool_count);
	write_events(w, daemon);
	write_locks(w, daemon);
	write_volumes(w, snaps, daemon->pool_count);
	metrics_family(w, VOL "request_seconds", METRICS_HISTOGRAM,
		       "From a request's last byte to its answer; of volumes that were opened.");
	for (size_t i = 0; i < daemon->pool_count; i++)
		write_latencies(w, &snaps[i]);
	for (size_t i = 0; i < daemon->pool_count; i++) {
		free(snaps[i].volumes);
		free(snaps[i].latencies);
	}
	free(snaps);
}
