/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Polling before a sleep: for as long as it pays, and hardly ever where it does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "blockd/spin.h"

#define BOUND 50u

static struct spin for_requests(void)
{
	return (struct spin){ .bound_us = BOUND, .saves_us = SPIN_SAVES_US };
}

/* Traffic with these gaps, in turn; returns the microseconds polled in vain, adds what was found.
 */
static uint64_t live(struct spin *spin, const uint64_t *gaps, size_t gap_count, uint64_t until_us,
		     uint64_t *now_us, unsigned *found)
{
	uint64_t vain_us = 0;
	size_t i;

	for (i = 0; *now_us < until_us; i++) {
		uint64_t gap = gaps[i % gap_count];

		if (spin_is_worth(spin, *now_us)) {
			if (gap <= spin->bound_us) {
				spin_found(spin);
				++*found;
			} else {
				spin_vain(spin, *now_us + spin->bound_us);
				vain_us += spin->bound_us;
			}
		}
		*now_us += gap;
	}
	return vain_us;
}

static void never_without_a_bound(void **state)
{
	struct spin spin = { 0 };

	assert_false(spin_is_worth(&spin, 0));
	assert_false(spin_is_worth(&spin, UINT64_MAX));
}

static void quick_answers_are_always_polled_for(void **state)
{
	struct spin spin = for_requests();
	const uint64_t gaps[] = { 20 };
	uint64_t now_us = 0;
	unsigned found = 0;

	assert_int_equal(live(&spin, gaps, 1, 1000000, &now_us, &found), 0);
	assert_int_equal(found, 50000);
}

/* A pause now and then costs the bound, not the polling. */
static void a_pause_ends_nothing(void **state)
{
	struct spin spin = for_requests();
	const uint64_t gaps[] = { 20, 20, 20, 20, 20, 20, 20, 5000 };
	uint64_t now_us = 0;
	unsigned found = 0;

	live(&spin, gaps, 8, 1000000, &now_us, &found);
	assert_true(found >= 7 * (1000000 / 5140));
}

static void slow_traffic_is_slept_for(void **state)
{
	struct spin spin = for_requests();
	const uint64_t gaps[] = { 60 };
	uint64_t now_us = 0;
	unsigned found = 0;

	assert_in_range(live(&spin, gaps, 1, 10000000, &now_us, &found), 1, 10000000 / 1000);
	assert_int_equal(found, 0);
}

/* Half in time: saves 20, costs 50. */
static void mixed_traffic_is_slept_for(void **state)
{
	struct spin spin = for_requests();
	const uint64_t gaps[] = { 40, 120 };
	uint64_t now_us = 0;
	unsigned found = 0;

	assert_in_range(live(&spin, gaps, 2, 10000000, &now_us, &found), 0, 10000000 / 500);
}

static void returns_when_traffic_becomes_quick(void **state)
{
	struct spin spin = for_requests();
	const uint64_t slow[] = { 500 }, quick[] = { 20 };
	uint64_t now_us = 0;
	unsigned found = 0;

	live(&spin, slow, 1, 1000000, &now_us, &found);
	assert_int_equal(found, 0);
	live(&spin, quick, 1, 2000000, &now_us, &found);
	assert_true(found > 40000);
}

static void a_stolen_processor_is_left_to_others(void **state)
{
	struct spin spin = for_requests();

	spin.credit_us = SPIN_CREDIT_BOUNDS * BOUND;
	assert_false(spin_stolen(&spin, SPIN_STOLEN_US - 1, 1000));
	assert_true(spin_is_worth(&spin, 1000));
	assert_true(spin_stolen(&spin, SPIN_STOLEN_US, 1000));
	assert_false(spin_is_worth(&spin, 1000 + SPIN_QUIET_US - 1));
	assert_true(spin_is_worth(&spin, 1000 + SPIN_QUIET_US));
}

/* A disk is waited for with what it saves: one late answer in eleven ends nothing, slow disks are
 * slept for. */
static void disks_are_polled_for_longer(void **state)
{
	struct spin spin = { .bound_us = SPIN_DEVICE_BOUNDS * BOUND,
			     .saves_us = SPIN_SAVES_DEVICE_US };
	const uint64_t quick[] = { 60, 120, 180, 60, 120, 180, 60, 120, 180, 60, 900 };
	const uint64_t slow[] = { 900 };
	uint64_t now_us = 0;
	unsigned found = 0;

	live(&spin, quick, 11, 1000000, &now_us, &found);
	assert_true(found >= 10 * (1000000 / (2040 + 1)) - 10);
	now_us = 0;
	spin = (struct spin){ .bound_us = SPIN_DEVICE_BOUNDS * BOUND,
			      .saves_us = SPIN_SAVES_DEVICE_US };
	found = 0;
	assert_in_range(live(&spin, slow, 1, 10000000, &now_us, &found), 1, 10000000 / 400);
	assert_int_equal(found, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(never_without_a_bound),
		cmocka_unit_test(quick_answers_are_always_polled_for),
		cmocka_unit_test(a_pause_ends_nothing),
		cmocka_unit_test(slow_traffic_is_slept_for),
		cmocka_unit_test(mixed_traffic_is_slept_for),
		cmocka_unit_test(returns_when_traffic_becomes_quick),
		cmocka_unit_test(a_stolen_processor_is_left_to_others),
		cmocka_unit_test(disks_are_polled_for_longer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
