/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * thin/: pools of thin-provisioned, copy-on-write virtual disks.  The library's public header.
 *
 * Single-threaded and event-driven: every call on one pool is made on one thread (its reactor),
 * every I/O goes through a device port (thin/dev.h), time is passed in.  Calls that say
 * "blocking" wait on the device; all others return at once and report through a callback, which
 * is made from thin_pool_run() or from the device's poll() and never from within thin_submit().
 *
 * The owner's loop:
 *
 *	for (;;) {
 *		wait for dev->event_fd, its own sockets, or thin_pool_deadline_ms();
 *		dev->ops->poll(dev);
 *		read sockets, thin_submit() ...;
 *		thin_pool_run(pool, now_ms);
 *		send replies;
 *	}
 *
 * Return values: 0 or a negative errno.  -EUCLEAN is damage on disk.
 */
#ifndef THIN_THIN_H
#define THIN_THIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "thin/dev.h"

#define THIN_BLOCK_SIZE	    4096u
#define THIN_NAME_MAX	    127u	  /* bytes of a volume or snapshot name */
#define THIN_PATH_MAX	    255u	  /* bytes of "VOLUME@SNAPSHOT" */
#define THIN_VOLUME_MAX	    (1ULL << 50)  /* bytes of a volume */
#define THIN_POOL_MIN	    (64ULL << 20) /* bytes of a pool */
#define THIN_POOL_MAX	    (1ULL << 50)  /* bytes of a pool */
#define THIN_JOURNAL_MIN    (4ULL << 20)  /* bytes of the log ring */
#define THIN_JOURNAL_MAX    (4ULL << 30)
#define THIN_NODE_CACHE_MIN (8ULL << 20) /* bytes of the node cache */
#define THIN_SHADOW_BYTES   (1u << 20)	 /* size of the shadow area, see thin_open */

struct thin_pool;
struct thin_vol; /* an open volume */

/* ---- pool ---- */

struct thin_create {
	uint64_t size_bytes;	/* 0: the device's size; rounded down to blocks */
	uint64_t journal_bytes; /* 0: a default by size */
	uint64_t seed;		/* for the pool's id and nonces; 0: from the kernel */
	uint64_t time_s;	/* Unix time, kept as the time of creation */
	bool tiny;		/* tests: lifts the minimum sizes, makes zones of 64 blocks */
};

/* Write an empty pool over whatever `dev` holds.  Blocking.  The device stays the caller's. */
int thin_pool_create(struct thin_dev *dev, const struct thin_create *params, struct err *err)
	__attribute__((warn_unused_result));

enum thin_event_kind {
	THIN_EVENT_NOTE,      /* worth a line at info: recovery summary, a repaired copy */
	THIN_EVENT_DAMAGE,    /* checksum mismatch, lost copy: counted, service goes on */
	THIN_EVENT_LOW_SPACE, /* free space fell below the low-water mark */
	THIN_EVENT_FULL,      /* a write was answered with ENOSPC */
	THIN_EVENT_READ_ONLY, /* the pool went read-only: a flush or metadata write failed */
};

/* A pool takes no more memory than its caches and buffers, 64 KiB for each GiB of it, 640 bytes for
 * each volume and snapshot, and 64 MiB. */
struct thin_open {
	uint64_t node_cache_bytes;     /* memory for map nodes; 0: 64 MiB */
	uint64_t data_cache_bytes;     /* memory for blocks read and written lately; 0: none */
	uint64_t buffer_bytes;	       /* memory for data in flight; 0: 32 MiB */
	uint64_t checkpoint_log_bytes; /* checkpoint at this much log; 0: half the ring */
	uint64_t commit_bytes;	       /* commit by itself at this much new data; 0: 64 MiB */
	uint32_t commit_ms;	       /* ... or after this long with records; 0: 1000 */
	uint64_t ahead_bytes;	       /* free space to keep written (thin/ahead.h); 0: none */
	bool read_only;
	bool accept_damage; /* go on past a hole in the log (data is lost) */
	/* Read-only, and without the volumes and snapshots whose records are damaged; events say
	 * which.  Nothing else is accepted: what can be opened is as it was left. */
	bool salvage;
	uint64_t seed;	    /* for nonces; 0: from the kernel */
	/*
	 * THIN_SHADOW_BYTES of memory, 4096-aligned, that survive the process but not the power
	 * (a MAP_SHARED file on tmpfs), with what they held at the last process's end; NULL for
	 * none.  With it the death of the process loses no acknowledged write.  Must stay valid
	 * until thin_pool_close().
	 */
	void *shadow;
	/*
	 * More such memory, of stage_bytes, beside the shadow: small writes are answered as soon as
	 * they lie there (thin/stage.h).  NULL: when the device has them.
	 */
	void *stage;
	uint64_t stage_bytes;
	/* Called with what an administrator should hear; `text` without the pool's name. */
	void (*event)(void *user, enum thin_event_kind kind, const char *text);
	void *event_user;
	uint64_t now_ms; /* monotonic */
};

/*
 * Recover and open.  Blocking.  `dev` stays the caller's and must outlive the pool.
 * -EUCLEAN: not a pool, or damaged; -ENOTSUP: made by a newer version; -EROFS is never returned:
 * an unknown read-only feature flag opens the pool read-only and says so by an event.
 */
int thin_pool_open(struct thin_dev *dev, const struct thin_open *params,
		   struct thin_pool **ret_pool, struct err *err)
	__attribute__((warn_unused_result));

/* Finish what is in flight, checkpoint, free.  Blocking.  All volumes must be closed. */
int thin_pool_close(struct thin_pool *pool);

/* Free without any I/O, as if the process had died.  Nothing may be in flight on the device, or
 * the device must never complete it. */
void thin_pool_abandon(struct thin_pool *pool);

/* Do what is ready: admit requests, commit, checkpoint, reclaim.  Once per turn of the loop, after
 * the device's poll(). */
void thin_pool_run(struct thin_pool *pool, uint64_t now_ms);

/* When thin_pool_run() wants to be called next if nothing else happens; UINT64_MAX: never. */
uint64_t thin_pool_deadline_ms(const struct thin_pool *pool);

/* True when the device owes us something that a request, or the next one, is going to wait for. */
bool thin_pool_awaits_device(const struct thin_pool *pool);

/* True when nothing is queued, in flight or due: no request, commit, checkpoint or reclaim. */
bool thin_pool_idle(const struct thin_pool *pool);

enum thin_scrub_state {
	THIN_SCRUB_NEVER,
	THIN_SCRUB_RUNNING,
	THIN_SCRUB_DONE,
	THIN_SCRUB_STOPPED,
};

struct thin_scrub_stat {
	enum thin_scrub_state state; /* of the last one since the pool was opened */
	uint64_t running;	     /* 1 or 0 */
	uint64_t checked_bytes, total_bytes;
	uint64_t finds, damaged_bytes;
	uint64_t rewritten;   /* finds that the pool had in memory: written anew */
	uint64_t read_errors; /* of the device, twice in the same place */
	uint64_t read_again;  /* blocks that differed when they were read first */
	uint64_t took_ms;
};

struct thin_pool_stat {
	uint8_t id[16];
	uint64_t size_bytes, journal_bytes;
	uint64_t block_count;	  /* allocatable blocks */
	uint64_t data_blocks;	  /* blocks holding data of volumes */
	uint64_t metadata_blocks; /* map nodes, catalog */
	uint64_t reserved_blocks; /* promised: NO_HOLE ranges and full reservations */
	uint64_t reclaim_blocks;  /* of deleted things, not yet given back (upper bound) */
	uint64_t free_blocks;	  /* block_count - data - metadata - reclaim */
	uint64_t generation;
	uint64_t log_used_bytes;
	uint64_t volume_count, snapshot_count;
	uint64_t node_cache_bytes, node_dirty_count;
	uint64_t data_cache_bytes; /* its limit; 0: there is none */
	uint64_t data_cached_bytes;
	bool read_only, low_space;
	/* counters since open */
	uint64_t commits, checkpoints, flushes, checkpoint_bytes, log_bytes;
	uint64_t data_written_bytes, data_read_bytes, checksum_errors, enospc_errors, punched_bytes;
	uint64_t ahead_bytes; /* of free space written ahead */
	uint64_t replayed_records, skipped_records;
	uint64_t readahead_bytes;
	struct thin_scrub_stat scrub;
	uint64_t cache_hits, cache_misses; /* blocks that reads found in the data cache, or not */
	uint64_t reclaimed_blocks;	   /* data blocks of deleted things, given back */
	/* what has been deleted and is still there */
	uint64_t reclaim_trees; /* of volumes and trims, given back one after the other */
	uint64_t deleted_count; /* snapshots and volumes */
	/* of these, such that several others are built on: they wait until one is left */
	uint64_t held_count;
	uint64_t held_blocks; /* ... and hold so many that their ancestors do not have */
};
void thin_pool_stat(const struct thin_pool *pool, struct thin_pool_stat *ret_stat);

/* ---- volumes ---- */

/*
 * A name: 1 to THIN_NAME_MAX bytes of [A-Za-z0-9._-] and UTF-8 letters beyond ASCII, not beginning
 * with '.' or '-'.  (Free of '/', '@' and ';', which the export grammar uses, of blanks and of
 * control characters.)  Returns 0 or -EINVAL with a sentence.
 */
int thin_name_check(const char *name, struct err *err);

enum thin_vol_state {
	THIN_VOL_LIVE = 1,
	THIN_VOL_SNAPSHOT = 2,
	THIN_VOL_HIDDEN = 3, /* deleted; others are built on it, or it is being given back */
};

struct thin_vol_stat {
	uint64_t id;
	char name[THIN_NAME_MAX + 1]; /* of a snapshot without its volume's */
	char path[THIN_PATH_MAX + 1]; /* as the calls take it; of a hidden one its last name */
	enum thin_vol_state state;
	uint64_t of;		    /* a snapshot's volume */
	uint64_t parent;	    /* in the lineage: a snapshot's id; 0: none */
	uint32_t child_count;	    /* built on it */
	uint32_t generation;	    /* of a snapshot */
	uint64_t own_blocks;	    /* written since its parent was taken */
	uint64_t exclusive_blocks;  /* of a snapshot: what deleting it would free */
	bool exclusive_exact;	    /* false: being counted */
	uint64_t reclaiming_blocks; /* of a hidden one, still to be given back */
	uint64_t size_bytes;
	uint64_t mapped_blocks;	  /* blocks with data that it refers to */
	uint64_t reserved_blocks; /* provisioned zeroes */
	bool reserve_full;	  /* the pool keeps space for every block of it */
	uint32_t open_count;
	uint64_t created_s; /* Unix time */
};

/* Volumes in order of their names: the first whose name is greater than `after` (NULL or "": the
 * first of all).  -ENOENT at the end. */
int thin_vol_next(const struct thin_pool *pool, const char *after, struct thin_vol_stat *ret_stat);
int thin_vol_find(const struct thin_pool *pool, const char *name, struct thin_vol_stat *ret_stat);

/* A volume's snapshots in order of their names; everything in order of ids, hidden ones too. */
int thin_snapshot_next(const struct thin_pool *pool, uint64_t of, const char *after,
		       struct thin_vol_stat *ret_stat);
int thin_lineage_next(const struct thin_pool *pool, uint64_t after, struct thin_vol_stat *ret_stat);
/* The nearest ancestor of `id` that is a snapshot, but none of volume `of`; -ENOENT. */
int thin_ancestor_next(const struct thin_pool *pool, uint64_t id, uint64_t of,
		       struct thin_vol_stat *ret_stat);
/* For whom a deleted one is still there: those built on it that are not deleted themselves, nearest
 * first, at most `max` ids.  Returns how many it has given.  Looks at so many nodes at most, and
 * adds them to `looks`: deleted ones may lie behind each other by the thousand. */
#define THIN_HEIRS_LOOKS 1024u
uint32_t thin_heirs(const struct thin_pool *pool, uint64_t id, uint64_t *ids, uint32_t max,
		    uint32_t *looks);
/* Both have come from the same volume, by snapshots, clones and rollbacks: they may share blocks,
 * and what differs between them says something. */
bool thin_lineage_related(const struct thin_pool *pool, uint64_t a, uint64_t b);

/* A handle for I/O; several may be open for one volume.  A snapshot's can only be read, and keeps
 * it from being deleted.  -ENOENT. */
int thin_vol_open(struct thin_pool *pool, const char *name, struct thin_vol **ret_vol)
	__attribute__((warn_unused_result));
/* No request of this handle may be in flight.  NULL is fine. */
void thin_vol_close(struct thin_vol *vol);
uint64_t thin_vol_size_bytes(const struct thin_vol *vol);
void thin_vol_stat(const struct thin_vol *vol, struct thin_vol_stat *ret_stat);

/*
 * The write lock of a volume.  The engine keeps it, durable and with the volume through renames,
 * rollbacks and snapshots (a snapshot and a clone begin without), and sees to it that the epoch
 * never becomes smaller.  What the rest means is the caller's; all zero: never locked.
 */
#define THIN_LOCK_TEXT_MAX 255u
struct thin_lock {
	uint64_t epoch;
	uint64_t since_s, until_s;
	uint32_t state, policy;
	uint32_t wait_ms, grace_ms;
	char owner[THIN_LOCK_TEXT_MAX + 1], heir[THIN_LOCK_TEXT_MAX + 1];
};
/* Of the volume with this id, as last set (not before it is durable: an answer says that).
 * -ENOENT. */
int thin_lock_get(const struct thin_pool *pool, uint64_t id, struct thin_lock *ret_lock);

/* ---- requests ---- */

enum thin_op {
	THIN_READ,   /* offset and len multiples of 4096; holes read as zeroes, see `holes` */
	THIN_WRITE,  /* any offset and length */
	THIN_ZERO,   /* any offset and length; see THIN_NO_HOLE, THIN_FAST */
	THIN_TRIM,   /* whole blocks inside the range become holes; the rest is left alone */
	THIN_FLUSH,  /* every request answered before its submission becomes durable */
	THIN_STATUS, /* fills `extents` for whole blocks covering the range */
	THIN_DIFF,   /* the same: what differs from `base`, any volume or snapshot of the pool */
	THIN_CACHE,  /* load the map of the range */
	/* Control; durable when answered. */
	THIN_VOL_CREATE, /* `name`, `size_bytes`, `time_s`: -EEXIST -ENOSPC -EINVAL */
	THIN_VOL_RESIZE, /* `name`, `size_bytes`, `shrink`: -ENOENT -EBUSY (see `shrink`) */
	THIN_VOL_RENAME, /* `name` -> `new_name`: -ENOENT -EEXIST */
	/* `name`: -ENOENT, -EBUSY while open; -ENOTEMPTY: it has snapshots and not `snapshots` */
	THIN_VOL_DELETE,
	THIN_LOCK,	 /* `id`, `lock`: -ENOENT; -ESTALE: a smaller epoch than it has */
	THIN_POOL_GROW,	 /* `size_bytes`; the device must already have that size */
	THIN_CHECKPOINT, /* take one now and wait for it */
	/* Snapshots; a snapshot is called "VOLUME@SNAPSHOT" wherever a name is asked for. */
	THIN_SNAPSHOT, /* `names`, `time_s`: all at the same moment, or none: -ENOENT -EEXIST */
	THIN_CLONE,    /* `name` of a snapshot -> volume `new_name`, `time_s`, `reserve_full` */
	THIN_ROLLBACK, /* `name` of a snapshot: its volume becomes that again; -EBUSY while open */
};

#define THIN_FUA (1u << 0) /* any op: durable when answered */
#define THIN_NO_HOLE                                                                               \
	(1u << 1)	    /* THIN_ZERO: stays provisioned, a later write cannot fail for space */
#define THIN_FAST (1u << 2) /* THIN_ZERO: -ENOTSUP unless it needs no data written */

#define THIN_LEND (1u << 3) /* THIN_READ: the answer may lie in the engine's memory, see `iov` */

#define THIN_EXTENT_HOLE    (1u << 0) /* not provisioned: writing allocates */
#define THIN_EXTENT_ZERO    (1u << 1) /* reads as zeroes */
#define THIN_EXTENT_CHANGED (1u << 2) /* THIN_DIFF */

#define THIN_DEPTH_MAX 1024u

struct thin_extent {
	uint64_t len_bytes;
	uint32_t flags;
	/*
	 * The layer whose block this is: 0 for a hole, 1 for the volume's own, more for a block
	 * that an ancestor holds as well, so that overwriting it takes another.  Up to
	 * THIN_DEPTH_MAX, which stands for more as well: a chain may be as long as it likes.
	 */
	uint32_t depth;
};

/*
 * A request.  Belongs to the engine from thin_submit() until `done`.  The owner fills the first
 * part; `buf` must stay valid as long.  For THIN_READ `buf` is aligned to 4096; for THIN_WRITE an
 * aligned buf at an aligned offset spares a copy.
 */
struct thin_req {
	enum thin_op op;
	uint32_t flags;
	struct thin_vol *vol; /* data ops */
	uint64_t offset, len; /* bytes; within the volume (the caller checks; -EINVAL if not) */
	void *buf;
	/*
	 * THIN_READ with THIN_LEND: room for a piece a block.  When answered with iov_count not 0,
	 * the data are these pieces, in `buf` or in the engine's cache, each a multiple of 4096
	 * long; they stay as they are until thin_read_return().  With 0 they are all in `buf`.
	 */
	struct iovec *iov;
	uint32_t iov_max, iov_count;
	/*
	 * THIN_READ: NULL, or a zeroed map with a bit for each block of the range.  The engine sets
	 * the bits of blocks that have no data and leaves their part of `buf` alone.
	 */
	uint64_t *holes;
	struct thin_vol *base;	     /* THIN_DIFF */
	struct thin_extent *extents; /* THIN_STATUS, THIN_DIFF */
	uint32_t extent_max;	     /* capacity, at least 1 */
	uint32_t extent_count;	     /* result; fewer bytes than `len` may be described */
	const char *name, *new_name; /* control */
	const char *const *names;    /* THIN_SNAPSHOT */
	uint32_t name_count;
	uint64_t size_bytes, time_s;
	uint64_t id;		      /* THIN_LOCK: the volume's */
	const struct thin_lock *lock; /* THIN_LOCK; valid until `done` */
	bool snapshots;		      /* THIN_VOL_DELETE: those too */
	bool shrink;		      /* THIN_VOL_RESIZE may cut data off (also while open) */
	bool reserve_full;	      /* THIN_VOL_CREATE: writing to it never meets -ENOSPC */
	void (*done)(struct thin_req *req, int res);
	void *user;
	uint64_t bad_offset; /* result: with -EIO of a checksum, the byte offset in the volume */

	uint64_t priv[32]; /* the engine's, between thin_submit() and `done` */
};

/*
 * Queue a request.  Never fails and never calls back from within.  Requests in flight are not
 * ordered among each other, except that overlapping writes, zeroes and trims of one volume take
 * effect one after the other.  FLUSH covers exactly what was answered before it was submitted.
 *
 * Results: 0; -EINVAL; -ENOSPC only after an own commit and checkpoint brought nothing back;
 * -EROFS (pool or handle read-only); -EIO for a checksum mismatch or a failing device.
 */
void thin_submit(struct thin_pool *pool, struct thin_req *req);

/* Give back what was lent, before the pool is closed. */
void thin_read_return(struct thin_pool *pool, struct thin_req *req);

/* ---- scrub ---- */

/*
 * Reads back everything that has a checksum, while clients are served, and slower then.  A scrub
 * that was stopped, or cut off by the end of the process, begins anew.
 */
#define THIN_SCRUB_FINDS_MAX 256u /* kept; others are counted */

enum thin_scrub_kind {
	THIN_SCRUB_DATA, /* a volume's or snapshot's data at `offset` */
	THIN_SCRUB_MAP,	 /* ... a map node: the whole range cannot be read */
	THIN_SCRUB_POOL, /* a block of the pool's own; `path` says which */
};

struct thin_scrub_find {
	enum thin_scrub_kind kind;
	char path[THIN_PATH_MAX + 16]; /* "db", "db@mon", "(deleted mon)", "log page 7" */
	char also[512];		       /* others that have the same block there: "db, db@tue" */
	uint64_t offset, len_bytes;
	uint64_t pool_offset; /* of the first block */
	int res;	      /* -EUCLEAN: checksum; else the device's */
	bool rewritten;
};

/* -EALREADY, -ENOMEM. */
int thin_scrub_start(struct thin_pool *pool);
void thin_scrub_stop(struct thin_pool *pool);
void thin_scrub_stat(const struct thin_pool *pool, struct thin_scrub_stat *ret_stat);
/* The finds of the last one, from 0 on.  -ENOENT. */
int thin_scrub_find(const struct thin_pool *pool, uint32_t index, struct thin_scrub_find *ret_find);

/* ---- offline verification ---- */

struct thin_verify_report {
	uint64_t volumes, nodes, data_blocks, catalog_blocks;
	uint64_t errors;	/* damage of any kind */
	uint64_t leaked_blocks; /* marked allocated, referenced by nothing */
};

/*
 * Check a pool that no one has open: superblocks, log, catalog, bitmaps, every node, and with
 * `data` every block's checksum.  Changes nothing (the log is replayed in memory).  Blocking.
 * `problem` is called with a sentence for each finding.  Returns 0 when clean, -EUCLEAN else.
 */
int thin_verify(struct thin_dev *dev, bool data, void (*problem)(void *user, const char *text),
		void *user, struct thin_verify_report *ret_report, struct err *err);

#endif
