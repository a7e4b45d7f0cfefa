/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where writes go on when a zone has come to its end: in the emptiest one that is half free. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "thin/space.h"

#define ZONE	  64u
#define ZONES	  3u
#define LOG_PAGES 16u

static void fill(struct space *sp)
{
	const uint64_t end = FMT_LOG_FIRST + LOG_PAGES + ZONES * (ZONE + FMT_ZONE_BITMAPS);
	const struct space_held_room held = { 1, 1 };
	struct pblk first;

	assert_int_equal(space_init(sp, end, LOG_PAGES, ZONE, &held), 0);
	for (uint64_t z = 0; z < ZONES; z++)
		assert_int_equal(space_take_run(sp, ZONE, false, &first), ZONE);
	assert_int_equal(space_free_count(sp), 0);
}

static void give_back(struct space *sp, uint64_t zone, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		space_free_unpublished(sp, space_pblk(sp, zone * ZONE + i));
}

static uint64_t zone_of_next(struct space *sp)
{
	struct pblk first;

	assert_true(space_take_run(sp, 1, false, &first) == 1);
	return space_index(sp, first) / ZONE;
}

static void the_emptiest_is_next(void **state)
{
	struct space sp;

	fill(&sp);
	give_back(&sp, 0, ZONE / 2);
	give_back(&sp, 1, ZONE / 4 * 3);
	assert_int_equal(zone_of_next(&sp), 1);
	space_fini(&sp);
}

static void of_equals_the_first_is_next(void **state)
{
	struct space sp;

	fill(&sp);
	give_back(&sp, 2, ZONE / 2);
	give_back(&sp, 1, ZONE / 2);
	assert_int_equal(zone_of_next(&sp), 1);
	space_fini(&sp);
}

static void none_half_free_is_next_fit(void **state)
{
	struct space sp;

	fill(&sp);
	give_back(&sp, 1, 1);
	give_back(&sp, 2, 2);
	assert_int_equal(zone_of_next(&sp), 1);
	assert_int_equal(zone_of_next(&sp), 2);
	space_fini(&sp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_emptiest_is_next),
		cmocka_unit_test(of_equals_the_first_is_next),
		cmocka_unit_test(none_half_free_is_next_fit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
