/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reactor: one thread that owns one pool, its device, its volumes and the connections that
 * are in their transmission phase.
 *
 * Nothing of this is locked: whatever touches the pool runs on the reactor's thread, sent there
 * as a task.  "Control thread" is the one that made the reactor and owns the `home` mailbox (the
 * server's, see server_home()); every function below is for the control thread unless it says
 * otherwise, and none may be called from within a task's `run`.
 *
 * A task travels: reactor_post() -> `run` on the reactor's thread -> (at once or after engine
 * requests) reactor_task_finish() -> home mailbox -> `done` on the control thread.
 */
#ifndef BLOCKD_REACTOR_H
#define BLOCKD_REACTOR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "blockd/access/lock.h"
#include "blockd/mailbox.h"
#include "blockd/nbd/contexts.h"
#include "blockd/nbd/counters.h"
#include "common/base/err.h"
#include "thin/thin.h"

#define REACTOR_POOL_NAME_MAX	127u
#define REACTOR_BUFFERS_DEFAULT (64ull << 20)

struct reactor;

struct reactor_params {
	const char *name;      /* the pool's name; copied */
	struct mailbox *home;  /* the control thread's; outlives the reactor */
	uint64_t buffer_bytes; /* memory for requests in flight; 0: REACTOR_BUFFERS_DEFAULT */
	uint32_t spin_us;      /* poll at most so long before sleeping (spin.h); 0: never */
	/*
	 * Open device and pool.  Called once on the reactor's thread (io_uring belongs to the
	 * thread that made it), may block (recovery).  On failure nothing is left open.
	 */
	int (*open)(void *user, struct thin_dev **ret_dev, struct thin_pool **ret_pool,
		    struct err *err);
	/*
	 * Close both: thin_pool_close(), dev->ops->close().  Called once on the reactor's thread
	 * after the last connection and volume handle is closed; may block.
	 */
	void (*close)(void *user, struct thin_dev *dev, struct thin_pool *pool);
	/* What has become of a volume's write lock, on the reactor's thread.  May be NULL. */
	void (*lock_event)(void *user, const char *volume, enum lock_event event, const char *text);
	void *user;
};

/*
 * Start the thread and return; the pool opens meanwhile.  Several pools may open side by side.
 * Then call reactor_wait().
 */
int reactor_start(const struct reactor_params *params, struct reactor **ret_reactor,
		  struct err *err) __attribute__((warn_unused_result));

/*
 * Blocks until `open` has returned; its result.  On failure the thread has ended: free the
 * reactor.  Nothing else below may be called before this has returned 0.
 */
int reactor_wait(struct reactor *reactor, struct err *err) __attribute__((warn_unused_result));

/*
 * Close all connections (gracefully within `drain_ms`, see reactor_drain()), run `close`, end the
 * thread.  Blocking.  Tasks posted before are run; those whose engine requests are under way
 * finish first.  NULL is fine.
 */
void reactor_stop_free(struct reactor *reactor, uint32_t drain_ms);

/* Another spin_us, from the next turn on. */
void reactor_set_spin(struct reactor *reactor, uint32_t spin_us);

const char *reactor_name(const struct reactor *reactor);

/* Any thread: rises with each turn of the loop and at least once a second.  A watchdog that sees
 * it stand still for long has found a hung pool.  Stands still during `open` and `close`. */
uint64_t reactor_beat(const struct reactor *reactor);

/* ---- tasks ---- */

struct reactor_task {
	/*
	 * On the reactor's thread.  Must lead to exactly one reactor_task_finish(), now or later.
	 * NULL: `req` (a control request of thin.h, or any other, without its done and user) is
	 * submitted and its result is the task's.
	 */
	void (*run)(struct reactor *reactor, struct reactor_task *task);
	/* On the control thread, from server_dispatch(); owns the task again.  May be NULL only if
	 * someone else frees the task. */
	void (*done)(struct reactor_task *task, int res);
	void *user;
	struct thin_req req; /* what it points to stays valid until done() */

	/* private */
	struct letter letter;
	struct reactor *reactor;
	int res;
	struct reactor_task *next; /* of those that wait for connections to end */
	uint64_t cut_id, cut_vol, cut_before;
	bool cut_snapshots;
	uint32_t drain_ms;
	char cut_name[THIN_PATH_MAX + 1];
};

/* Send a task.  Never fails, never blocks.  Belongs to the reactor until `done`. */
void reactor_post(struct reactor *reactor, struct reactor_task *task);

/* On the reactor's thread: the end of a task. */
void reactor_task_finish(struct reactor_task *task, int res);

/* On the reactor's thread: what it owns. */
struct thin_pool *reactor_pool(struct reactor *reactor);
struct thin_dev *reactor_dev(struct reactor *reactor);

/*
 * Run `fn` on the reactor's thread and wait for its return.  Blocking for about one turn of the
 * loop.  `fn` must not block and sees a pool between two turns: right for thin_vol_find(),
 * thin_pool_stat() and their like, wrong for anything that waits for the device.
 */
int reactor_call(struct reactor *reactor, int (*fn)(struct reactor *reactor, void *arg), void *arg);

/* Submit an engine request (without its done and user) and wait for its result.  Blocking for as
 * long as the device takes: for start-up and small tools; verbs post a task. */
int reactor_request(struct reactor *reactor, struct thin_req *req);

/* ---- connections and counters ---- */

struct reactor_conn_info {
	uint64_t id;			    /* as in server.h */
	char peer[128];			    /* "tcp:10.0.0.7:40112", "unix:pid=812,uid=64055" */
	char listener[64];		    /* the listen block's name */
	char volume[THIN_PATH_MAX + 1];	    /* as it is called now */
	bool read_only, structured, status; /* status: base:allocation was negotiated */
	uint64_t since_s;		    /* Unix time */
	uint32_t in_flight;		    /* requests */
	uint64_t buffer_bytes;		    /* memory of the pool's buffers it holds now */
	uint64_t received_bytes, sent_bytes;
	struct io_counters io;
};

struct reactor_vol_info {
	struct thin_vol_stat stat;
	uint32_t connections;
	struct io_counters io;
};

struct reactor_latency_info {
	uint64_t id; /* the volume's */
	char volume[THIN_NAME_MAX + 1];
	struct io_counters io;
	struct io_latency latency;
};

struct reactor_stat {
	struct thin_pool_stat pool;
	uint32_t connections;
	uint64_t buffer_limit_bytes, buffer_used_bytes, buffer_peak_bytes;
	uint64_t buffer_waits;	 /* times a connection had to wait for memory */
	uint64_t stalled_drops;	 /* connections closed for holding memory others waited for */
	uint64_t protocol_drops; /* connections closed for breaking the protocol */
	uint64_t turns, sleeps, recvs, sends;
	uint64_t spins; /* times polling before a sleep saved it */
};

/* Snapshots; blocking for one turn, for one each few hundred volumes.  `*ret_list` is malloc'ed
 * (NULL when empty), the caller frees it.  -ENOMEM. */
int reactor_list_conns(struct reactor *reactor, struct reactor_conn_info **ret_list,
		       size_t *ret_count) __attribute__((warn_unused_result));
/* Volumes in order of their names, open or not: at most `max` (0: all) behind `after` (NULL: from
 * the first on). */
int reactor_list_vols(struct reactor *reactor, const char *after, size_t max,
		      struct reactor_vol_info **ret_list, size_t *ret_count)
	__attribute__((warn_unused_result));
/* A volume or snapshot.  -ENOENT. */
int reactor_vol_info(struct reactor *reactor, const char *path, struct reactor_vol_info *ret_info)
	__attribute__((warn_unused_result));
/* The lineage in order of ids, deleted ones included: at most `max` behind `after`. */
int reactor_list_lineage(struct reactor *reactor, uint64_t after, size_t max,
			 struct thin_vol_stat **ret_list, size_t *ret_count)
	__attribute__((warn_unused_result));
/* Those that have been open only. */
int reactor_list_latencies(struct reactor *reactor, struct reactor_latency_info **ret_list,
			   size_t *ret_count) __attribute__((warn_unused_result));
void reactor_get_stat(struct reactor *reactor, struct reactor_stat *ret_stat);

/*
 * For whom deleted nodes are still there: up to REACTOR_HEIRS_MAX for each of `ids`, in their
 * order. Like the lists above.
 */
#define REACTOR_HEIRS_MAX 4u
struct reactor_heir {
	uint64_t of; /* the deleted one */
	char path[THIN_PATH_MAX + 1];
};
int reactor_list_heirs(struct reactor *reactor, const uint64_t *ids, size_t id_count,
		       struct reactor_heir **ret_list, size_t *ret_count)
	__attribute__((warn_unused_result));

/* A volume or snapshot that is open, and who has it open: a client's address, or what a hold says.
 */
struct reactor_pin {
	uint64_t id, of;	      /* of: a snapshot's volume */
	char path[THIN_PATH_MAX + 1]; /* what is pinned */
	char by[128];
	char with[THIN_PATH_MAX + 1]; /* what it is compared with; "": it is exported */
};
/* In order of `id`; like the lists above. */
int reactor_list_pins(struct reactor *reactor, struct reactor_pin **ret_list, size_t *ret_count)
	__attribute__((warn_unused_result));

/* On the reactor's thread: something else than a connection has these open (`base` may be NULL),
 * until reactor_unhold().  The hold is the caller's. */
struct reactor_hold {
	LIST_ENTRY(reactor_hold) link;
	const char *by; /* in a sentence behind "in use by" */
	struct thin_vol *vol, *base;
};
void reactor_hold(struct reactor *reactor, struct reactor_hold *hold);
void reactor_unhold(struct reactor_hold *hold);

/*
 * Cut the connections that have this volume or snapshot open, as their export or to compare with,
 * or with `snapshots` one of the volume's (NULL: all of them), or the one with `id` (0: any).  What
 * they have in flight finishes in the engine but is not answered.  When no handle of theirs is
 * left, task->done gets the number cut: from then on THIN_VOL_DELETE and the like do not see
 * these handles (a client may of course have connected anew).  `task` needs only `done` and `user`;
 * its `run` is overwritten.
 */
void reactor_cut_conns(struct reactor *reactor, const char *volume, bool snapshots, uint64_t id,
		       struct reactor_task *task);

/*
 * Graceful: no further requests are read, what is in flight is finished and answered, then the
 * connections are closed; those that do not take their answers are cut after `drain_ms`.
 * task->done comes when none is left (its `run` is overwritten).  Connections handed over later are
 * closed at once.
 */
void reactor_drain(struct reactor *reactor, uint32_t drain_ms, struct reactor_task *task);

/* ---- write locks; see access/lock.h ---- */

struct reactor_lock_info {
	char volume[THIN_NAME_MAX + 1];
	enum lock_state state;
	uint64_t epoch, since_s;
	bool connected;	  /* the owner is */
	uint64_t left_ms; /* until the owner's grace is over; UINT64_MAX: no end, or none */
	uint64_t heir_ms; /* until the heir must have come; UINT64_MAX: it has, or no heir */
	char owner[LOCK_TEXT_MAX + 1], fenced[LOCK_TEXT_MAX + 1], heir[LOCK_TEXT_MAX + 1];
	uint32_t writers, standbys, waiting; /* connections; of the standbys those with a change */
	struct lock_policy policy;
	uint64_t counts[LOCK_EVENT_KINDS];
};

enum reactor_lock_verb {
	REACTOR_LOCK_SHOW,
	REACTOR_LOCK_HANDOVER, /* to, ttl_ms, if_epoch */
	REACTOR_LOCK_CANCEL,
	REACTOR_LOCK_BREAK, /* to ("": nobody), if_epoch */
	REACTOR_LOCK_ALLOW,
	REACTOR_LOCK_SET, /* policy, for volumes that no file declares */
};

/* A verb on its way; the owner fills the first part.  The task's result is 0 with `info`, or
 * -errno with `err`; it comes when what was done is durable, and of a break when the fenced
 * owner's last change is over. */
struct reactor_lock_task {
	struct reactor_task task; /* `done` and `user` only */
	enum reactor_lock_verb verb;
	char volume[THIN_NAME_MAX + 1];
	char to[LOCK_TEXT_MAX + 1];
	uint64_t ttl_ms, if_epoch;
	struct lock_policy policy;

	struct reactor_lock_info info;
	struct err err;
	struct reactor_lock_task *next; /* private from here on */
	uint64_t change, epoch;
};
void reactor_post_lock(struct reactor *reactor, struct reactor_lock_task *task);

/* Of all volumes that have been locked since the pool was opened; as reactor_list_conns(). */
int reactor_list_locks(struct reactor *reactor, struct reactor_lock_info **ret_list,
		       size_t *ret_count) __attribute__((warn_unused_result));
/* The same for one volume, locked or not.  Blocking for one turn.  -ENOENT. */
int reactor_get_lock(struct reactor *reactor, const char *volume,
		     struct reactor_lock_info *ret_info) __attribute__((warn_unused_result));

/* The policies of the volumes that the configuration declares, from now on; all others have what
 * the pool keeps for them.  Blocking for one turn.  -ENOMEM. */
struct reactor_lock_policy {
	char volume[THIN_NAME_MAX + 1];
	struct lock_policy policy;
};
int reactor_set_lock_policies(struct reactor *reactor, const struct reactor_lock_policy *list,
			      size_t count) __attribute__((warn_unused_result));

/* ---- for server.c ---- */

/* Who asks for write access. */
struct reactor_lock_ask {
	char owner[LOCK_TEXT_MAX + 1];
	int pidfd; /* -1, or taken over */
	bool standby, single;
};
struct reactor_lock; /* a connection's part in its volume's lock */

/*
 * Ask for write access to the volume with this id, which is open and stays so.  `answered` comes on
 * the control thread, once, never from within; then the lock goes to reactor_adopt(), or to
 * reactor_drop_lock(), which may come earlier too.  NULL without memory.
 */
struct reactor_lock *
reactor_ask_lock(struct reactor *reactor, uint64_t vol_id, const struct reactor_lock_ask *ask,
		 void (*answered)(void *user, enum lock_verdict verdict, const char *text),
		 void *user);
void reactor_drop_lock(struct reactor_lock *lock);
/* What it would be answered now; `ret_shares`: and a further connection be let in beside it.
 * Blocking for one turn. */
enum lock_verdict reactor_predict_lock(struct reactor *reactor, const char *volume,
				       const struct reactor_lock_ask *ask, bool *ret_shares,
				       char *text, size_t size);

/* What a connection has open, by reactor_open(). */
struct reactor_handles {
	struct thin_vol *vol;
	struct thin_vol
		*bases[CONTEXTS_BITMAP_MAX]; /* what it is compared with, from the first on */
};

/* What the handshake settled.  Sockets and bytes are handed over. */
struct reactor_adopt {
	int fd; /* non-blocking; the reactor's from now on */
	uint64_t id;
	char peer[128];
	char listener[64];
	struct reactor_handles handles; /* from reactor_open() */
	struct reactor_lock *lock;	/* NULL: read-only */
	bool read_only, structured;
	unsigned contexts; /* as in struct transmit_params */
	const void *out;   /* bytes of the handshake not yet sent; copied */
	size_t out_len;
	const void *in; /* bytes received behind the handshake; copied */
	size_t in_len;
	/* On the control thread when the connection is closed; `reason` says why, "" if cleanly. */
	void (*closed)(void *user, uint64_t id, const char *reason);
	void *user;
};

/*
 * Open a volume for a connection to come, and the snapshots with these names, which must have these
 * ids.  Blocking for one turn.  -ENOENT; -ESTALE: one of the snapshots is not there any more.
 */
struct reactor_open_params {
	const char *volume;
	const char *const *bases;
	const uint64_t *base_ids;
	size_t base_count;
};
struct reactor_opened {
	struct reactor_handles handles;
	struct thin_vol_stat stat;
	bool read_only; /* it, or its pool */
};
int reactor_open(struct reactor *reactor, const struct reactor_open_params *params,
		 struct reactor_opened *ret_opened) __attribute__((warn_unused_result));
/* The connection does not come.  Blocking for one turn. */
void reactor_close(struct reactor *reactor, const struct reactor_handles *handles);

/* Hand a connection over.  Takes the fd and the handles in every case.  -ENOMEM: they have been
 * closed and `closed` will not be called. */
int reactor_adopt(struct reactor *reactor, const struct reactor_adopt *adopt)
	__attribute__((warn_unused_result));

#endif
