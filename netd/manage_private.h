/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What manage.c and change.c share. */
#ifndef NETD_MANAGE_PRIVATE_H
#define NETD_MANAGE_PRIVATE_H

#include "netd/journal.h"
#include "netd/manage.h"
#include "netd/stamps.h"

struct manage {
	struct loop *loop;
	char *path;
	char *control; /* as it was at the start */
	struct state *st;
	struct reconcile *reconcile;
	struct loop_timer *window; /* of the trial */
	bool ended;		   /* it is over, but the state could not be written yet */
	struct journal *journal;   /* changes since the confirmed configuration */
	/*
	 * Of the conf in force: the files as it was read from them (invalid: it is from elsewhere),
	 * and its subnets once somebody asked.
	 */
	struct stamps stamps;
	struct netd_subnets subnets;
	bool subnets_known;
	uint64_t load_ns; /* when the last reading of the files began */
};

/* Read the files, after the journal was folded into vnetctl's own. */
int manage_load_files(struct manage *m, struct conf **ret_good, struct conf **ret_bad,
		      struct err *err) __attribute__((nonnull(1, 2, 3), warn_unused_result));
/* A configuration that was in force once, from its canonical text. */
int manage_load_text(const char *name, const char *text, struct conf **ret, struct err *err)
	__attribute__((nonnull(1, 2, 3), warn_unused_result));
/* What vnetctl's own file holds now; "" without one.  The caller frees. */
int manage_read_own(struct manage *m, char **ret, struct err *err)
	__attribute__((nonnull(1, 2), warn_unused_result));
/* Apply `c`; on failure it goes to *ret_bad when it is at fault, else away. */
int manage_apply_conf(struct manage *m, struct conf *c, size_t *ret_count, struct conf **ret_bad,
		      struct err *err) __attribute__((nonnull(1, 2, 4), warn_unused_result));
/* Another conf is in force; `files`: it is what manage_load_files() read. */
void manage_in_force(struct manage *m, bool files) __attribute__((nonnull));
/* The canonical text of what is in force; NULL: nothing.  The caller frees. */
char *manage_text_in_force(struct manage *m) __attribute__((nonnull));
/* What was applied could not be written down: back to what was in force before, NULL: nothing. */
void manage_take_back(struct manage *m, const char *before) __attribute__((nonnull(1)));

/* What the journal says, over what the files say (change.c): where it cannot be folded. */
int manage_replay(struct manage *m, struct conf *c, struct err *err)
	__attribute__((nonnull(1, 2), warn_unused_result));
/* Fold the journal into the files (change.c). */
int manage_fold(struct manage *m, struct err *err) __attribute__((nonnull(1), warn_unused_result));

#endif
