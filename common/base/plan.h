/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A plan: ordered operations, each of which can be undone.
 *
 * A plan is computed by pure code from what is wanted and what is there, printed by `diff`, run by
 * `apply`.  An operation is data that its owner understands: struct plan_op is embedded as the
 * first member of the owner's struct.  Running is the port's business (a netlink socket, a fake
 * kernel in tests), and goes in batches, because one message and one wait per operation is slow:
 *
 *	stage 0    stage 0    stage 1    stage 1    stage 2
 *	 op 0       op 1       op 2       op 3       op 4
 *	`------ batch ------' `------ batch ------' `-- batch --'
 *
 * Stages never decrease along the plan.  Operations of one stage do not depend on each other's
 * result, and the port may send them all before it looks at the first answer; the next stage
 * starts when all of them succeeded.  When one fails, every operation that is done is undone, last
 * first, in batches of one stage again; a failing undo is counted and the rest is undone all the
 * same.  So the outcome is all done, or nothing done, or (undo failed too) what
 * plan_count_state(PLAN_UNDO_FAILED) counts.
 *
 * A plan is one thread's.  The only allocation is plan_add()'s.
 */
#ifndef COMMON_BASE_PLAN_H
#define COMMON_BASE_PLAN_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/err.h"

enum plan_state {
	PLAN_WAITING, /* not tried */
	PLAN_DONE,
	PLAN_FAILED, /* tried, refused: changed nothing */
	PLAN_UNDONE,
	PLAN_UNDO_FAILED, /* done and could not be taken back */
};

/* Whose struct an operation is embedded in: one constant object per library, compared by address.
 */
struct plan_owner {
	const char *name;
};

struct plan_op {
	const struct plan_owner *owner;
	unsigned stage;
	enum plan_state state;
	int result; /* of the last try: 0 or -errno, set by the port */
	/* One line for `diff`, e.g. "+ vlan 10 on bridge guests"; owned by the op's owner. */
	const char *text;
	void (*release)(struct plan_op *op); /* frees the op; NULL: the owner does */
};

/*
 * Runs a batch.  For ops[0..count), all of one stage: do it (or, with `undo`, its inverse) and set
 * op->result.  They are in the order in which their effects must come.  Blocking.  Returns 0 when
 * every op has its result; a negative errno when the port itself broke (the socket died): then
 * ops with no answer must carry a negative result too, and the plan is undone as far as it
 * goes.  `err` is for the first failure's sentence.
 */
struct plan_port {
	int (*run)(void *ctx, struct plan_op *const *ops, size_t count, bool undo, struct err *err);
	void *ctx;
};

struct plan {
	struct plan_op **ops;
	size_t count, capacity;
};

/* Append; the stage must not be lower than the last one's (asserted).  0 or -ENOMEM. */
int plan_add(struct plan *p, struct plan_op *op) __attribute__((warn_unused_result, nonnull));

/* Run all of it.  0, or the first failure's -errno after everything done was undone. */
int plan_run(struct plan *p, const struct plan_port *port, struct err *err)
	__attribute__((warn_unused_result, nonnull(1, 2)));

/* Undo every operation that is PLAN_DONE, last first.  0, or -EIO when some would not go back. */
int plan_undo(struct plan *p, const struct plan_port *port, struct err *err)
	__attribute__((nonnull(1, 2)));

size_t plan_count_state(const struct plan *p, enum plan_state state) __attribute__((nonnull));

/* Release every operation and the list; the struct is empty and usable again. */
void plan_clear(struct plan *p) __attribute__((nonnull));

#endif
