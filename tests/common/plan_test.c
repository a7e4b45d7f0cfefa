/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Plans: all done or all undone, whichever operation fails and whichever undo fails as well.  The
 * port is a register of bits: operation n sets bit n and its inverse clears it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/base/plan.h"

#define OP_COUNT 6

struct bit_op {
	struct plan_op op;
	unsigned bit;
};

struct port {
	uint32_t bits;
	int fail_bit, fail_undo_bit; /* -1: none */
	bool port_breaks;	     /* a failure is the port's end: nothing answers any more */
	bool broken;
	unsigned batches;
	char log[256];
};

/* As netlink does it: a message that fails does not keep later ones of the batch from working. */
static int run_batch(void *ctx, struct plan_op *const *ops, size_t count, bool undo,
		     struct err *err)
{
	struct port *p = ctx;
	int first = 0;

	p->batches++;
	for (size_t i = 0; i < count; i++) {
		unsigned bit = ((struct bit_op *)ops[i])->bit;

		assert_int_equal(ops[i]->stage, ops[0]->stage);
		sprintf(p->log + strlen(p->log), "%c%u ", undo ? '-' : '+', bit);
		ops[i]->result = 0;
		if (p->broken || (int)bit == (undo ? p->fail_undo_bit : p->fail_bit)) {
			ops[i]->result = -EBUSY;
			p->broken = p->port_breaks;
			if (!first)
				first = err_set(err, -EBUSY, "bit %u is busy", bit);
		} else if (undo) {
			assert_true(p->bits & 1u << bit);
			p->bits &= ~(1u << bit);
		} else {
			assert_false(p->bits & 1u << bit);
			p->bits |= 1u << bit;
		}
	}
	return p->port_breaks ? first : 0;
}

static unsigned released;

static void release(struct plan_op *op)
{
	released++;
}

/* Stages 0 0 1 1 1 2. */
static void build(struct plan *plan, struct bit_op *ops)
{
	static const unsigned stages[OP_COUNT] = { 0, 0, 1, 1, 1, 2 };

	for (unsigned i = 0; i < OP_COUNT; i++) {
		ops[i] = (struct bit_op){ .op = { .stage = stages[i], .release = release },
					  .bit = i };
		assert_int_equal(plan_add(plan, &ops[i].op), 0);
	}
}

static void test_runs_in_batches_of_stages(void **state)
{
	struct bit_op ops[OP_COUNT];
	struct plan plan = { 0 };
	struct port p = { .fail_bit = -1, .fail_undo_bit = -1 };
	struct plan_port port = { run_batch, &p };

	build(&plan, ops);
	assert_int_equal(plan_run(&plan, &port, NULL), 0);
	assert_int_equal(p.bits, 0x3f);
	assert_int_equal(p.batches, 3);
	assert_int_equal(plan_count_state(&plan, PLAN_DONE), OP_COUNT);
	assert_int_equal(plan_undo(&plan, &port, NULL), 0);
	assert_int_equal(p.bits, 0);
	assert_string_equal(p.log, "+0 +1 +2 +3 +4 +5 -5 -4 -3 -2 -1 -0 ");
	released = 0;
	plan_clear(&plan);
	assert_int_equal(released, OP_COUNT);
	assert_int_equal(plan_run(&plan, &port, NULL), 0); /* nothing to do */
}

static void test_every_failure_undoes_all(void **state)
{
	for (int fail = 0; fail < OP_COUNT; fail++) {
		struct bit_op ops[OP_COUNT];
		struct plan plan = { 0 };
		struct port p = { .fail_bit = fail, .fail_undo_bit = -1 };
		struct plan_port port = { run_batch, &p };
		struct err err = { 0 };

		build(&plan, ops);
		assert_int_equal(plan_run(&plan, &port, &err), -EBUSY);
		assert_int_equal(p.bits, 0);
		assert_int_equal(plan_count_state(&plan, PLAN_FAILED), 1);
		assert_int_equal(plan_count_state(&plan, PLAN_DONE), 0);
		assert_int_equal(plan_count_state(&plan, PLAN_UNDO_FAILED), 0);
		assert_int_equal(ops[fail].op.state, PLAN_FAILED);
		assert_non_null(strstr(err.text, "is busy"));
		plan_clear(&plan);
	}
}

static void test_failing_undo_does_not_stop_the_others(void **state)
{
	for (int fail = 1; fail < OP_COUNT; fail++)
		for (int undo = 0; undo < fail; undo++) {
			struct bit_op ops[OP_COUNT];
			struct plan plan = { 0 };
			struct port p = { .fail_bit = fail, .fail_undo_bit = undo };
			struct plan_port port = { run_batch, &p };
			struct err err = { 0 };
			char expected[128];

			build(&plan, ops);
			assert_int_equal(plan_run(&plan, &port, &err), -EBUSY);
			assert_int_equal(p.bits, 1u << undo);
			assert_int_equal(plan_count_state(&plan, PLAN_UNDO_FAILED), 1);
			assert_int_equal(ops[undo].op.state, PLAN_UNDO_FAILED);
			sprintf(expected, "bit %d is busy; and the undo failed: bit %d is busy",
				fail, undo);
			assert_string_equal(err.text, expected);
			plan_clear(&plan);
		}
}

/* The socket died: what was done is known, and is reported as not taken back. */
static void test_broken_port(void **state)
{
	struct bit_op ops[OP_COUNT];
	struct plan plan = { 0 };
	struct port p = { .fail_bit = 3, .fail_undo_bit = -1, .port_breaks = true };
	struct plan_port port = { run_batch, &p };
	struct err err = { 0 };

	build(&plan, ops);
	assert_int_equal(plan_run(&plan, &port, &err), -EBUSY);
	assert_int_equal(p.bits, 0x7);
	assert_int_equal(plan_count_state(&plan, PLAN_UNDO_FAILED), 3);
	assert_int_equal(plan_count_state(&plan, PLAN_FAILED), 2);
	assert_int_equal(plan_count_state(&plan, PLAN_WAITING), 1);
	plan_clear(&plan);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_runs_in_batches_of_stages),
		cmocka_unit_test(test_every_failure_undoes_all),
		cmocka_unit_test(test_failing_undo_does_not_stop_the_others),
		cmocka_unit_test(test_broken_port),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
