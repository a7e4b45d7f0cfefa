/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Another configuration for a running blockd: SIGHUP and `vdiskctl reload`; see reload.c. */
#ifndef BLOCKD_RELOAD_H
#define BLOCKD_RELOAD_H

#include <jansson.h>

#include "blockd/daemon.h"

/*
 * What became of it.  One of:
 *	{"changed": [line], "restart": [line]}		it is in force; restart: not these values
 *	{"errors": [line]}				nothing has changed
 */
typedef void reload_done(void *user, json_t *result /* owned by the caller */);

/*
 * Read the configuration again and apply it.  `done` is called once, now or later from
 * server_dispatch(); NULL: only the log hears of it.  One at a time.
 */
void reload_start(struct blockd *daemon, reload_done *done, void *user);

/* For the end of the process: waits for one that is under way and undoes it, without a word. */
void reload_abandon(struct blockd *daemon);

/* listeners.c: a change of listeners that can be taken back until it is finished. */
struct listeners_change {
	struct blockd_listener now[BLOCKD_LISTEN_MAX]; /* of the new configuration */
	bool is_new[BLOCKD_LISTEN_MAX];
	struct blockd_listener removed[BLOCKD_LISTEN_MAX]; /* of the old one */
	size_t now_count, removed_count;
	bool removed_closed; /* early, because a new one wants their place */
};

/* Open what is new.  On failure everything is as before. */
int listeners_change_begin(struct blockd *daemon, const struct blockd_conf *conf,
			   struct listeners_change *change, struct err *err)
	__attribute__((warn_unused_result));
/* Close what is gone and label what stayed; `changed` and `restart` get a line for each. */
void listeners_change_finish(struct blockd *daemon, struct listeners_change *change,
			     const struct blockd_conf *conf, json_t *changed, json_t *restart);

/* A line, printf-like, for one of the arrays. */
void reload_line(json_t *lines, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
