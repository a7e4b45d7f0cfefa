/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Plans with inverses; see plan.h for the model.  One thread. */
#include "common/base/plan.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

int plan_add(struct plan *p, struct plan_op *op)
{
	assert(!p->count || p->ops[p->count - 1]->stage <= op->stage);
	if (p->count == p->capacity) {
		size_t capacity = p->capacity ? p->capacity * 2 : 16;
		struct plan_op **ops = reallocarray(p->ops, capacity, sizeof(*ops));

		if (!ops)
			return -ENOMEM;
		p->ops = ops;
		p->capacity = capacity;
	}
	op->state = PLAN_WAITING;
	op->result = 0;
	p->ops[p->count++] = op;
	return 0;
}

/* How many ops from `first` on share its stage. */
static size_t stage_length(struct plan_op *const *ops, size_t count)
{
	size_t n = 1;

	while (n < count && ops[n]->stage == ops[0]->stage)
		n++;
	return n;
}

/* One batch forward.  0 when all succeeded, else the first failure. */
static int run_stage(struct plan_op *const *ops, size_t count, const struct plan_port *port,
		     struct err *err)
{
	int r = port->run(port->ctx, ops, count, false, err);

	for (size_t i = 0; i < count; i++) {
		ops[i]->state = ops[i]->result ? PLAN_FAILED : PLAN_DONE;
		if (ops[i]->result && !r)
			r = ops[i]->result;
	}
	return r;
}

int plan_run(struct plan *p, const struct plan_port *port, struct err *err)
{
	size_t n;

	for (size_t i = 0; i < p->count; i += n) {
		struct err undo_err = { 0 };
		int r;

		n = stage_length(p->ops + i, p->count - i);
		r = run_stage(p->ops + i, n, port, err);
		if (!r)
			continue;
		if (plan_undo(p, port, &undo_err) && err) {
			struct err first = *err;

			err_set(err, r, "%.300s; and the undo failed: %.180s", first.text,
				undo_err.text);
		}
		return r;
	}
	return 0;
}

static int undo_batch(struct plan_op *const *ops, size_t count, const struct plan_port *port,
		      struct err *err)
{
	struct err e = { 0 };
	bool failed = port->run(port->ctx, ops, count, true, &e) != 0;

	for (size_t i = 0; i < count; i++) {
		ops[i]->state = ops[i]->result ? PLAN_UNDO_FAILED : PLAN_UNDONE;
		failed = failed || ops[i]->result;
	}
	if (failed && err && !err->code)
		*err = e;
	return failed ? -EIO : 0;
}

int plan_undo(struct plan *p, const struct plan_port *port, struct err *err)
{
	struct plan_op **done = calloc(p->count + 1, sizeof(struct plan_op *));
	size_t count = 0, n;
	int r = 0;

	for (size_t i = p->count; i-- > 0;) {
		if (p->ops[i]->state != PLAN_DONE)
			continue;
		if (!done) /* no memory for batches: one at a time is slower and as good */
			r = undo_batch(&p->ops[i], 1, port, err) ? -EIO : r;
		else
			done[count++] = p->ops[i];
	}
	for (size_t i = 0; i < count; i += n) {
		n = stage_length(done + i, count - i);
		r = undo_batch(done + i, n, port, err) ? -EIO : r;
	}
	free(done);
	return r;
}

size_t plan_count_state(const struct plan *p, enum plan_state state)
{
	size_t n = 0;

	for (size_t i = 0; i < p->count; i++)
		n += p->ops[i]->state == state;
	return n;
}

void plan_clear(struct plan *p)
{
	for (size_t i = 0; i < p->count; i++)
		if (p->ops[i]->release)
			p->ops[i]->release(p->ops[i]);
	free(p->ops);
	*p = (struct plan){ 0 };
}
