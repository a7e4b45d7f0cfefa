/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The daemon's own objects: what main.c sets up and the verbs of the control socket look at.
 *
 * One struct blockd for the process, made and used on the control thread.  Of a struct
 * blockd_pool, `file` belongs to the pool's reactor; `events` may be touched by any thread.
 */
#ifndef BLOCKD_DAEMON_H
#define BLOCKD_DAEMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "blockd/conf.h"
#include "blockd/poolfile.h"
#include "blockd/reactor.h"
#include "blockd/server.h"
#include "common/base/err.h"
#include "common/daemon/metrics.h"

#define BLOCKD_EVENT_KINDS 5 /* of enum thin_event_kind */
#define BLOCKD_DRAIN_MS	   5000

struct blockd_pool {
	const struct blockd_conf_pool *conf; /* of the configuration that is in force */
	/* what it was opened with: a reload may find other values, which count from the next start
	 * on */
	char *path, *runtime;
	uint64_t journal_bytes, cache_bytes, data_cache_bytes, ahead_bytes, buffer_bytes;
	bool salvage;
	char subject[160]; /* for the log: 'pool main' */
	unsigned op_count; /* verbs that are at work on it */
	struct reactor *reactor;
	bool running; /* reactor_wait() has returned 0 */
	struct poolfile file;
	int close_rc; /* of the pool's close; valid once the reactor has ended */
	struct metric_counter events[BLOCKD_EVENT_KINDS];
	struct metric_counter lock_events[LOCK_EVENT_KINDS]; /* of all its volumes */
	/* the watchdog's: the last beat seen, and when it was seen to change */
	uint64_t beat, beat_ms;
};

/* A listening socket that systemd passed. */
#define BLOCKD_INHERITED_MAX 32u
struct blockd_inherited {
	char name[256]; /* FileDescriptorName= */
	char address[128];
	int fd;
	bool is_public; /* TCP beyond loopback */
};

/* A listen section that is served. */
#define LISTENER_IDS_MAX 8u
struct blockd_listener {
	const struct blockd_conf_listen *conf;
	uint32_t ids[LISTENER_IDS_MAX]; /* of server_listen() */
	size_t id_count;
};

struct blockd {
	const char *conf_path;
	struct blockd_conf *conf; /* in force; owned */
	struct server *server;
	struct loop *loop;
	struct reload *reload; /* under way; NULL: none */
	bool reload_again;     /* a SIGHUP came meanwhile */
	bool stopping;
	bool verbose;		 /* -v: whatever log_level says */
	char *control, *runtime; /* those of the start */
	struct blockd_inherited inherited[BLOCKD_INHERITED_MAX];
	size_t inherited_count;
	struct blockd_listener listeners[BLOCKD_LISTEN_MAX];
	size_t listener_count;
	struct metrics *metrics;
	struct blockd_pool **pools; /* in the order of the configuration */
	size_t pool_count;
	uint64_t started_ms;
	struct metric_counter refused_verbs, verbs, reloads, refused_reloads;
	size_t restart_count; /* values that the last reload left to the next start */
};

/* ---- pools.c ---- */

/*
 * Make the pools that are missing and may be made, open all of them, make and grow what the
 * configuration declares.  Every failure is logged; -errno of the first.  `daemon` has its
 * configuration and server.  Blocking for as long as recovery takes.
 */
int pools_start(struct blockd *daemon) __attribute__((warn_unused_result));

/* Close them all: checkpoint, end of the threads.  Blocking.  0 or the first -errno. */
int pools_stop(struct blockd *daemon, uint32_t drain_ms);

/*
 * The parts of these, for a reload.  Those that block for long may run on a thread of their own, as
 * long as no other touches the pools: they use nothing else of the daemon but `server_home()`.
 */

/* Not open yet.  NULL: no memory. */
struct blockd_pool *pools_new(const struct blockd_conf_pool *conf, const struct blockd_conf *all);
/* Made if it may be, opened, recovered.  Failures are logged, the first one is in `err`. */
int pools_open(struct server *server, struct blockd_pool **pools, size_t count, struct err *err)
	__attribute__((warn_unused_result));
/* Grow pools, make and grow volumes, as `conf` declares them for the pools given. */
int pools_declare(const struct blockd_conf *conf, struct blockd_pool **pools, size_t count,
		  struct err *err) __attribute__((warn_unused_result));
/* What `conf` says of the write locks of declared volumes is in force from now on. */
void pools_set_lock_policies(const struct blockd_conf *conf, struct blockd_pool **pools,
			     size_t count);
/* Close, end the thread, free; the server must not know it any more.  0 or -errno of its close. */
int pools_close_free(struct blockd_pool *pool, uint32_t drain_ms);

/* Does every reactor still turn?  For the watchdog; logs the one that does not. */
bool pools_are_well(struct blockd *daemon, uint64_t now_ms);

/* NULL: none of that name. */
struct blockd_pool *pools_find(const struct blockd *daemon, const char *name);

/* Grow device and pool.  Blocking.  -EINVAL: smaller than it is; -ENOSPC: the device is smaller. */
int pools_grow(struct blockd_pool *pool, uint64_t size_bytes, struct err *err);

/* A volume by name in one pool.  Blocks for a turn of the reactor.  -ENOENT. */
int pools_find_volume(struct blockd_pool *pool, const char *name, struct thin_vol_stat *ret_stat);

const char *pools_event_name(enum thin_event_kind kind);

/* ---- listeners.c ---- */

/* Take the sockets that systemd has passed; each must have its section.  Before all else. */
int listeners_inherit(struct blockd *daemon, struct err *err) __attribute__((warn_unused_result));
/* Open all of the configuration's.  On failure some may be open: server_free() closes them. */
int listeners_start(struct blockd *daemon, struct err *err) __attribute__((warn_unused_result));
/* One of them; all of its sockets or none. */
int listeners_open(struct blockd *daemon, const struct blockd_conf_listen *conf,
		   struct blockd_listener *ret_listener, struct err *err)
	__attribute__((warn_unused_result));
void listeners_close(struct blockd *daemon, struct blockd_listener *listener);
/* What a section listens on, as "unix:PATH" or "tcp:HOST:PORT"; NULL behind the last. */
const char *listeners_address(const struct blockd *daemon, const struct blockd_conf_listen *listen,
			      size_t index);

/* ---- figures.c ---- */

/* Everything `vdiskctl metrics` prints; for metrics_add(), ctx is the struct blockd. */
void figures_collect(struct metrics_writer *w, void *ctx);

/* "read", "write", "flush", "other": as labels and in JSON. */
const char *figures_kind_name(enum io_kind kind);

#endif
