/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An operation: a verb that changes something, from its request to its answer.
 *
 *	check -> [bar new connections, break the lock, cut the volume's] -> engine request
 *	      -> unbar, answer
 *	                               ^------------ -EBUSY: one was on its way in, CUT_MAX times
 *
 * It travels as a reactor task and comes back on the control thread, which never waits for a
 * device.  What the checks saw may have changed when the request reaches the engine, whose own
 * answer (-EBUSY, -EEXIST, -ENOENT) then decides.
 *
 * Thread: the control thread.  Every op ends in exactly one of op_end(), op_refuse(), op_drop().
 */
#ifndef BLOCKD_CTL_OP_H
#define BLOCKD_CTL_OP_H

#include "blockd/ctl/target.h"
#include "common/daemon/ctl.h"

struct op {
	struct reactor_task task;
	struct ctl_request *req;
	struct blockd *daemon;
	struct target target;
	char new_name[THIN_NAME_MAX + 1];
	char snapshot[THIN_PATH_MAX + 1]; /* clone, rollback: what from */
	uint64_t size_bytes;
	bool reserve_full; /* create, clone */
	bool snapshots;	   /* delete: those too */
	bool force;
	bool close_first; /* the volume's connections */
	bool bound;	  /* by the write lock: who has it would write on over what was changed */
	bool create;
	bool holds; /* counted in its pool's op_count: it stays */
	unsigned cuts;
	struct reactor_lock_task breaking;
	struct server_bar bar;	       /* in force after the first cut */
	void (*submit)(struct op *op); /* after the connections are gone */
	void (*answer)(struct op *op);
	/* the verb's own words for an engine's answer; false: it has none.  May be NULL */
	bool (*explain)(struct op *op, int res, struct err *err);
	void *own; /* the verb's; freed at the end */
};

/* NULL: out of memory, answered. */
struct op *op_new(struct ctl_request *req, struct blockd *daemon);
void op_end(struct op *op, json_t *result);
void op_refuse(struct op *op, const struct err *err);
__attribute__((format(printf, 4, 5))) void op_refuse_text(struct op *op, struct err *err, int rc,
							  const char *fmt, ...);
/* The request's arguments were wrong and it has been answered. */
void op_drop(struct op *op);
/* What the taking of arguments returned: -EAGAIN is op_drop(), all else op_refuse(). */
void op_reject(struct op *op, int rc, const struct err *err);

/*
 * A whole verb: `take` its arguments and check them (0, -EAGAIN when it has been answered, or an
 * error), close what must be closed (close_first), submit, answer.
 */
void op_start(struct ctl_request *req, struct blockd *daemon,
	      int (*take)(struct op *op, struct err *err), void (*submit)(struct op *op),
	      void (*answer)(struct op *op));

/* "vol db1: <text>" into the log. */
__attribute__((format(printf, 2, 3))) void op_log(const struct op *op, const char *fmt, ...);

/* The volume of a verb's argument, which must exist.  -EAGAIN: answered already. */
int op_take_volume(struct op *op, struct err *err);
/* The same for a volume or a snapshot. */
int op_take_any(struct op *op, struct err *err);
/* -EPERM when the config file declares the volume: "cannot be <what>". */
int check_undeclared(const struct op *op, const char *what, struct err *err);
json_t *volume_reply(const struct op *op);

/* From here on a reload cannot take the pool away. */
void op_hold(struct op *op);
/* Submit op->task.req; op->answer follows. */
void op_post(struct op *op);
/* Go on with op->submit when the volume is closed; cut its connections when forced; else refuse. */
void op_need_closed(struct op *op);

#endif
