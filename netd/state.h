/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What netd remembers across crashes and reboots: which configuration was last confirmed, which
 * one is being tried and until when, which one was rolled back, what vnetctl has set, and the
 * kernel settings that were there before netd changed them.
 *
 * A configuration is kept as its canonical text and named by the SHA-256 of that text, beside a
 * copy of what vnetctl's own file held at that moment.  One small file, state.json, says which
 * hash plays which role; it is replaced by rename after everything it names is on disk, so every
 * transition is one atomic step and a crash sees the state before or after it.
 *
 * One thread, blocking file I/O of a few kilobytes.  The decision what to run after a start
 * (state_choose) is pure.
 */
#ifndef NETD_STATE_H
#define NETD_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

#define STATE_HASH_LEN	 64 /* SHA-256 in hex */
#define STATE_WHO_MAX	 128
#define STATE_BOOT_ID	 36
#define STATE_SYSCTL_MAX 256 /* remembered kernel settings; a host has a handful of NICs */

/* Time as the confirm window needs it: monotonic through suspend, and which boot it belongs to. */
struct state_now {
	uint64_t boot_ms;		 /* CLOCK_BOOTTIME */
	int64_t wall_s;			 /* for people only, decides nothing */
	char boot_id[STATE_BOOT_ID + 1]; /* a deadline of another boot has passed */
};

struct state_pending {
	bool active;
	char hash[STATE_HASH_LEN + 1];
	char who[STATE_WHO_MAX]; /* "alice (uid 1000, pid 4711)" */
	int64_t since_wall_s;
	uint64_t deadline_boot_ms;
	char boot_id[STATE_BOOT_ID + 1];
};

struct state_sysctl {
	char path[160]; /* below /proc/sys, with slashes */
	char value[64]; /* what it was before netd */
};

struct state {
	char *dir;
	char *own_path;			    /* DIR/vnetctl.conf */
	char confirmed[STATE_HASH_LEN + 1]; /* "" before the first apply */
	char previous[STATE_HASH_LEN + 1];  /* confirmed before the last one: vnetctl rollback */
	char rejected[STATE_HASH_LEN + 1];  /* rolled back: not taken from the files again */
	char rejected_who[STATE_WHO_MAX];
	int64_t rejected_wall_s;
	struct state_pending pending;
	struct state_sysctl sysctls[STATE_SYSCTL_MAX];
	size_t sysctl_count;
};

/* What a starting netd is to run. */
enum state_choice {
	STATE_RUN_FILES,     /* the config files */
	STATE_RUN_PENDING,   /* the configuration on trial; the window goes on */
	STATE_RUN_CONFIRMED, /* the files hold what was rolled back: the last confirmed one */
	STATE_RUN_ROLLBACK,  /* the window closed meanwhile: reject, then the last confirmed one */
};

/*
 * Open (and create, 0700) the directory and read what is there.  A damaged state.json is an error
 * that names the file, never a guess.  The caller frees *ret_st with state_close().
 */
int state_open(const char *dir, struct state **ret_st, struct err *err)
	__attribute__((nonnull(1, 2), warn_unused_result));
void state_close(struct state *st);

/* The time of this moment; boot id from the kernel. */
void state_now(struct state_now *ret_now) __attribute__((nonnull));

/* The name of a configuration: SHA-256 of its canonical text, hex. */
void state_hash(const char *text, size_t len, char ret_hash[STATE_HASH_LEN + 1])
	__attribute__((nonnull));

/* What to run now that the files' configuration has this hash.  Pure. */
enum state_choice state_choose(const struct state *st, const char *files_hash,
			       const struct state_now *now)
	__attribute__((nonnull, warn_unused_result));

/* Milliseconds until the window closes, 0 when it has (also by a reboot).  Pure. */
uint64_t state_pending_left(const struct state *st, const struct state_now *now)
	__attribute__((nonnull, warn_unused_result));

/*
 * Start a trial of `text` (with `own` as vnetctl's file) for `window_ms`.  Durable on return: call
 * it before the first kernel operation.  -EBUSY with who and when if a trial is running.
 */
int state_begin(struct state *st, const char *text, const char *own, const char *who,
		uint64_t window_ms, const struct state_now *now, struct err *err)
	__attribute__((nonnull(1, 2, 3, 4, 6), warn_unused_result));

/* The running trial is the confirmed configuration from now on.  -ENOENT without one. */
int state_confirm(struct state *st, struct err *err)
	__attribute__((nonnull(1), warn_unused_result));

/* `text` was applied without a trial: confirmed at once.  -EBUSY while a trial runs. */
int state_commit(struct state *st, const char *text, const char *own, struct err *err)
	__attribute__((nonnull(1, 2, 3), warn_unused_result));

/*
 * What was confirmed has become `text` step by step, and was `before` one step earlier: those are
 * the confirmed and the previous configuration from now on, `own` is vnetctl's file.  Call it again
 * after a crash.
 */
int state_advance(struct state *st, const char *before, const char *before_own, const char *text,
		  const char *own, struct err *err)
	__attribute__((nonnull(1, 2, 3, 4, 5), warn_unused_result));

/* The running trial is over and its configuration rejected.  -ENOENT without one. */
int state_reject(struct state *st, const struct state_now *now, struct err *err)
	__attribute__((nonnull(1, 2), warn_unused_result));

/* The running trial's configuration did not reach the kernel: forget it, reject nothing. */
int state_cancel(struct state *st, struct err *err) __attribute__((nonnull(1), warn_unused_result));
/* 0, or -EBUSY with who and when while a trial runs. */
int state_idle(const struct state *st, struct err *err)
	__attribute__((nonnull(1), warn_unused_result));

/*
 * Go back one confirmed configuration: previous becomes confirmed, confirmed becomes rejected.
 * -ENOENT when there is none, -EBUSY while a trial runs.
 */
int state_step_back(struct state *st, const char *who, const struct state_now *now, struct err *err)
	__attribute__((nonnull(1, 2, 3), warn_unused_result));

/* The canonical text of a role's hash; the caller frees. */
int state_load_config(const struct state *st, const char *hash, char **ret_text, struct err *err)
	__attribute__((nonnull(1, 2, 3), warn_unused_result));
/* What vnetctl's file held with it; the caller frees. */
int state_load_own(const struct state *st, const char *hash, char **ret_text, struct err *err)
	__attribute__((nonnull(1, 2, 3), warn_unused_result));

/* vnetctl's own file, DIR/vnetctl.conf: its path (borrowed from st) and a durable replacement. */
const char *state_own_path(const struct state *st) __attribute__((nonnull));
int state_write_own(struct state *st, const char *text, struct err *err)
	__attribute__((nonnull(1, 2), warn_unused_result));

/*
 * Remember what a kernel setting was before netd first changed it; a second call for the same path
 * keeps the first value.  state_forget_sysctls() after those below `prefix` ("net/ipv6/") were put
 * back.
 */
int state_keep_sysctl(struct state *st, const char *path, const char *value, struct err *err)
	__attribute__((nonnull(1, 2, 3), warn_unused_result));
int state_forget_sysctls(struct state *st, const char *prefix, struct err *err)
	__attribute__((nonnull(1, 2), warn_unused_result));

#endif
