/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A daemon's main loop on sd-event: signals, readiness, watchdog, listening sockets.
 *
 *	SIGTERM, SIGINT	 stop: STOPPING=1, then on_stop(); a second one makes loop_run() return
 *	SIGHUP		 reload: RELOADING=1, on_reload(), READY=1
 *	SIGPIPE		 ignored
 *
 * The signals are blocked from loop_new() on, so threads started later do not get them.  The
 * watchdog (WatchdogSec= of the unit) is fed at a third of its time, and only when on_watchdog()
 * says that the daemon is well; without systemd nothing of this happens and nothing fails.  One
 * thread; other threads reach the loop with loop_wake().
 */
#ifndef COMMON_DAEMON_LOOP_H
#define COMMON_DAEMON_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <systemd/sd-event.h>

#include "common/base/err.h"

struct loop;

struct loop_hooks {
	/* Start to stop; call loop_quit() when done, at once or later.  NULL: quits at once. */
	void (*on_stop)(void *ctx);
	/* NULL: SIGHUP is logged and does nothing.  See loop_reload_defer(). */
	void (*on_reload)(void *ctx);
	bool (*on_watchdog)(void *ctx); /* NULL: always well */
	void *ctx;
};

int loop_new(struct loop **ret, const struct loop_hooks *hooks, struct err *err)
	__attribute__((warn_unused_result));
void loop_free(struct loop *l);
sd_event *loop_event(struct loop *l); /* borrowed */

/* Say READY=1 with a status line ("2 pools, 14 volumes"), and change that line later. */
void loop_ready(struct loop *l, const char *status);
void loop_status(struct loop *l, const char *status);

/* From within on_reload(): it goes on after the return, and READY=1 is to wait for
 * loop_reload_done(). */
void loop_reload_defer(struct loop *l);
void loop_reload_done(struct loop *l);

/* Until loop_quit().  Returns its code. */
int loop_run(struct loop *l);
void loop_quit(struct loop *l, int code);

/*
 * A wakeup from other threads: `fn` runs on the loop soon after each loop_waker_wake() (several
 * may become one call).  Any thread may wake; new and free on the loop's.
 */
struct loop_waker;
int loop_waker_new(struct loop *l, void (*fn)(void *ctx), void *ctx, struct loop_waker **ret)
	__attribute__((warn_unused_result));
void loop_waker_free(struct loop_waker *w);
void loop_waker_wake(struct loop_waker *w);

/* A timer on the loop.  after_ms from now; re-arm from within fn if it should repeat. */
struct loop_timer;
int loop_timer_new(struct loop *l, void (*fn)(void *ctx), void *ctx, struct loop_timer **ret)
	__attribute__((warn_unused_result));
void loop_timer_set(struct loop_timer *t, uint64_t after_ms);
void loop_timer_stop(struct loop_timer *t);
void loop_timer_free(struct loop_timer *t);

/* CLOCK_MONOTONIC in milliseconds. */
uint64_t loop_now_ms(void);

/*
 * A listening socket: one passed by systemd (LISTEN_FDS) under the name `fd_name`
 * (FileDescriptorName=), else a new unix socket at `path` with `mode`.  A stale socket file, which
 * nobody listens on, is replaced; one that is in use is -EADDRINUSE.  Folders are not made.
 * Non-blocking, close-on-exec.  *ret_owned: the caller made the file and unlinks it at the end.
 */
int loop_listen_unix(const char *fd_name, const char *path, unsigned mode, int *ret_fd,
		     bool *ret_owned, struct err *err) __attribute__((warn_unused_result));
/* The descriptor that systemd passed under this name, -1: none.  Each is given out once. */
int loop_take_listen_fd(const char *fd_name);
/* The names (FileDescriptorName=) of all that systemd passed to this process, taken or not; NULL
 * behind the last. */
const char *loop_listen_fd_name(unsigned index);

/* Make FILE say our process id, held locked while we live: -EBUSY with the other's pid if another
 * daemon holds it. */
int loop_lock_pidfile(const char *path, int *ret_fd, struct err *err)
	__attribute__((warn_unused_result));

#endif
