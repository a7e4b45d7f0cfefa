/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Holding answers back: from a client that is busy with others, never for long from one that is
 * not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "blockd/hold.h"

#define START_US 1000000u

static bool ask(struct hold *hold, size_t queued, size_t unread, uint64_t now_us)
{
	return hold_may(hold, queued, now_us) && hold_is_worth(hold, unread, now_us);
}

static void a_client_that_waits_is_answered_at_once(void **state)
{
	struct hold hold = { 0 };

	assert_false(ask(&hold, 4096, 0, START_US));
	assert_false(ask(&hold, 4096, HOLD_UNREAD - 1, START_US));
	assert_false(hold.on);
}

static void nothing_to_send_is_not_held(void **state)
{
	struct hold hold = { 0 };

	assert_false(ask(&hold, 0, 10 * HOLD_UNREAD, START_US));
}

static void a_busy_client_gets_many_together(void **state)
{
	struct hold hold = { 0 };
	uint64_t now_us = START_US;
	size_t queued;

	for (queued = 4096; queued < HOLD_QUEUED; queued += 4096)
		assert_true(ask(&hold, queued, HOLD_UNREAD, now_us += 5));
	assert_false(ask(&hold, queued, HOLD_UNREAD, now_us));
	/* the next ones are a hold of their own, however long it all takes */
	for (; now_us < START_US + 100 * HOLD_US; now_us += 10) {
		assert_true(ask(&hold, 4096, HOLD_UNREAD, now_us));
		assert_true(ask(&hold, 8192, HOLD_UNREAD, now_us + 5));
		assert_false(ask(&hold, 8192, HOLD_UNREAD - 1, now_us + 9));
	}
}

static void a_client_that_takes_nothing_costs_little(void **state)
{
	struct hold hold = { 0 };
	uint64_t now_us, held_us = 0;

	for (now_us = START_US; now_us < START_US + 10000000; now_us++)
		held_us += ask(&hold, 4096, HOLD_UNREAD, now_us);
	assert_in_range(held_us, HOLD_US, 10000000 / 1000 * 2);
}

static void no_hold_lasts_longer_than_its_time(void **state)
{
	struct hold hold = { 0 };

	assert_true(ask(&hold, 4096, HOLD_UNREAD, START_US));
	assert_true(ask(&hold, 4096, HOLD_UNREAD, START_US + HOLD_US - 1));
	assert_false(ask(&hold, 4096, HOLD_UNREAD, START_US + HOLD_US));
	assert_false(ask(&hold, 4096, HOLD_UNREAD, START_US + HOLD_US + HOLD_QUIET_US - 1));
	assert_true(ask(&hold, 4096, HOLD_UNREAD, START_US + HOLD_US + HOLD_QUIET_US));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_client_that_waits_is_answered_at_once),
		cmocka_unit_test(nothing_to_send_is_not_held),
		cmocka_unit_test(a_busy_client_gets_many_together),
		cmocka_unit_test(a_client_that_takes_nothing_costs_little),
		cmocka_unit_test(no_hold_lasts_longer_than_its_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
