/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The reactor from its sessions' point of view, and the parts that its .c files share. */
#ifndef BLOCKD_REACTOR_PRIV_H
#define BLOCKD_REACTOR_PRIV_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "blockd/session.h"
#include "blockd/spin.h"

TAILQ_HEAD(session_queue, session);

struct vol_lock;

struct reactor {
	/* fixed */
	char name[REACTOR_POOL_NAME_MAX + 1];
	struct mailbox *home, *box;
	uint64_t buffer_bytes;
	struct reactor_params params;
	int epoll_fd;
	pthread_t thread;

	/* start */
	sem_t opened;
	int open_rc;
	struct err open_err;
	bool waited;

	/* the reactor's thread */
	struct thin_dev *dev;
	struct thin_pool *pool;
	struct bufpool *bufs;
	uint64_t now_ms, tick_ms;
	uint64_t now_us, idle_us; /* this turn's work began; the last one's had ended */
	struct spin spin, spin_device; /* for requests; while the device is awaited */
	struct session_queue sessions, turn, hungry;
	uint32_t session_count;
	uint64_t session_seq, freed_seen;
	struct reactor_vols vols;
	uint32_t open_tasks; /* tasks under way, those that wait here included */
	LIST_HEAD(, reactor_hold) holds;
	struct reactor_task *cuts;   /* wait for sessions to end */
	struct reactor_task *drains; /* wait for all of them to end */
	bool draining, again, stopping;
	uint64_t drain_until_ms;
	struct reactor_stat stat; /* counters only */

	/* write locks */
	LIST_HEAD(, vol_lock) locks;
	uint64_t locks_at_ms; /* something of theirs is due; UINT64_MAX: nothing */
	uint32_t mourning;    /* locks that wait for the end of a process */
	uint64_t opened_ms;
	struct reactor_lock_policy *policies;
	size_t policy_count;

	_Atomic uint64_t beat;
};

/* ---- reactor.c, on the reactor's thread ---- */

/* The session has something to do in this turn or the next. */
void reactor_wake(struct reactor *r, struct session *s);
int reactor_epoll_fd(const struct reactor *r);
uint64_t reactor_now_ms(const struct reactor *r);

/* ---- reactor_locks.c, on the reactor's thread ---- */

void reactor_locks_start(struct reactor *r);
/* Once a turn: what is due. */
void reactor_locks_run(struct reactor *r);
/* Refuse all that wait: the end has come. */
void reactor_locks_stop(struct reactor *r);
void reactor_locks_free(struct reactor *r);
/* A volume is gone; false: its lock is still in use. */
bool reactor_lock_forget(struct vol_lock *vl);
/* Its session has been made; false: close it, the lock has been broken meanwhile. */
bool reactor_lock_adopted(struct reactor_lock *lock, struct session *s);
/* The peer has closed; the socket is closed; nothing is in flight. */
void reactor_lock_hung_up(struct reactor_lock *lock);
void reactor_lock_closed(struct reactor_lock *lock, bool clean, bool hung_up);
void reactor_lock_left(struct reactor_lock *lock);
struct lock_conn *reactor_lock_conn(struct reactor_lock *lock);
/* Any thread, when all others are done with it. */
void reactor_lock_free(struct reactor_lock *lock);
struct reactor_vol *reactor_vol_get(struct reactor *r, uint64_t id);

/* ---- reactor_conns.c, on the reactor's thread ---- */

/* One turn's receives; then, after the engine has run, its sends. */
void reactor_conns_receive(struct reactor *r);
void reactor_conns_send(struct reactor *r);
/* Once a second. */
void reactor_conns_tick(struct reactor *r);
/* A session may be waiting to be turned at once. */
bool reactor_conns_busy(const struct reactor *r);
void reactor_conns_drain(struct reactor *r, uint32_t drain_ms);
void reactor_conns_free(struct reactor *r);
/* The counters of a volume that was open; NULL: it never was. */
struct reactor_vol *reactor_vol_find(struct reactor *r, uint64_t id);

#endif
