/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Touching memory in the background: all of it comes, its content stays, an end does not wait. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "thin/prefault.h"

#define BYTES	(64ull << 20)
#define PAGE	4096u
#define BURNERS 4

static uint8_t *mapped(void)
{
	uint8_t *at = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(at != MAP_FAILED);
	if (madvise(at, PAGE, MADV_POPULATE_WRITE)) {
		munmap(at, BYTES);
		skip(); /* Linux before 5.14 */
	}
	return at;
}

static uint64_t pages_present(uint8_t *at)
{
	unsigned char *in = malloc(BYTES / PAGE);
	uint64_t count = 0;

	assert_non_null(in);
	assert_int_equal(mincore(at, BYTES, in), 0);
	for (uint64_t i = 0; i < BYTES / PAGE; i++)
		count += in[i] & 1;
	free(in);
	return count;
}

/* Until all of it has come. */
static void wait_for_all(uint8_t *at)
{
	while (pages_present(at) < BYTES / PAGE)
		usleep(20000);
}

/* The end of a measurement: what was left of it comes now. */
static void come_to_end(struct prefault *p, uint8_t *at)
{
	wait_for_all(at);
	prefault_stop(p);
	munmap(at, BYTES);
}

static atomic_bool burn;

static void *burner(void *arg)
{
	while (atomic_load_explicit(&burn, memory_order_relaxed))
		;
	return arg;
}

static void begin_burning(pthread_t *threads)
{
	atomic_store(&burn, true);
	for (int i = 0; i < BURNERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, burner, NULL), 0);
}

static void end_burning(pthread_t *threads)
{
	atomic_store(&burn, false);
	for (int i = 0; i < BURNERS; i++)
		pthread_join(threads[i], NULL);
}

static int nth_cpu(const cpu_set_t *set, int n)
{
	int cpu = 0;

	while (!CPU_ISSET(cpu, set) || n--)
		cpu++;
	return cpu;
}

/* This thread and those that it begins. */
static void stay_on(int cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
}

static long long ms_of(const struct timespec *t)
{
	return t->tv_sec * 1000ll + t->tv_nsec / 1000000;
}

static void all_of_it_comes_and_content_stays(void **state)
{
	struct prefault p = { 0 };
	uint8_t *at = mapped();

	prefault_start(&p, at, BYTES, NULL);
	assert_true(p.running);
	for (uint64_t i = 0; i < BYTES; i += 1 << 20)
		at[i] = (uint8_t)(i >> 20) | 1;
	wait_for_all(at);
	prefault_stop(&p);
	for (uint64_t i = 0; i < BYTES; i += 1 << 20)
		assert_int_equal(at[i], (uint8_t)(i >> 20) | 1);
	munmap(at, BYTES);
}

/* The others burn for 0.4 s on another processor, so that it is not for want of one that nothing
 * comes.  Was something left to do? */
static bool some_is_left_beside_others(const cpu_set_t *cpus)
{
	struct prefault p = { 0 };
	struct timespec begin, now;
	pthread_t threads[BURNERS];
	uint8_t *at = mapped();
	bool left;

	stay_on(nth_cpu(cpus, 0));
	begin_burning(threads);
	stay_on(nth_cpu(cpus, 1));
	prefault_start(&p, at, BYTES, NULL);
	assert_true(p.running);
	assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin), 0);
	do {
		usleep(10000);
		assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now), 0);
	} while (ms_of(&now) < ms_of(&begin) + 400);
	left = pages_present(at) < BYTES / PAGE;
	end_burning(threads);
	come_to_end(&p, at);
	return left;
}

/* Once is enough: where strangers take the processor, the others are idle at times. */
static void others_of_the_process_go_first(void **state)
{
	cpu_set_t before;
	bool left = false;

	assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
	if (CPU_COUNT(&before) < 2)
		skip();
	for (int i = 0; i < 10 && !left; i++)
		left = some_is_left_beside_others(&before);
	assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
	assert_true(left);
}

/* A pool that is asked for something every millisecond, and waits for its disk: it takes no
 * processor time at all. */
static bool some_is_left_beside_requests(void)
{
	atomic_uint_fast64_t asked = 0;
	struct prefault p = { 0 };
	uint8_t *at = mapped();
	bool left;

	prefault_start(&p, at, BYTES, &asked);
	assert_true(p.running);
	for (int i = 0; i < 300; i++) {
		atomic_fetch_add(&asked, 1);
		usleep(1000);
	}
	left = pages_present(at) < BYTES / PAGE;
	come_to_end(&p, at);
	return left;
}

static void requests_go_first(void **state)
{
	bool left = false;

	for (int i = 0; i < 10 && !left; i++)
		left = some_is_left_beside_requests();
	assert_true(left);
}

static void little_is_not_worth_a_thread(void **state)
{
	struct prefault p = { 0 };
	uint8_t *at = mapped();

	prefault_start(&p, at, PAGE, NULL);
	assert_false(p.running);
	prefault_stop(&p);
	munmap(at, BYTES);
}

/* Its only processor is taken by others: the memory goes away all the same, in time. */
static void an_end_comes_on_a_busy_processor(void **state)
{
	pthread_t threads[BURNERS];
	cpu_set_t before;
	uint8_t *at = mapped();

	assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
	stay_on(nth_cpu(&before, 0));
	begin_burning(threads);
	for (int i = 0; i < 3; i++) {
		struct prefault p = { 0 };

		prefault_start(&p, at, BYTES, NULL);
		assert_true(p.running);
		usleep(20000);
		prefault_stop(&p);
		assert_int_equal(madvise(at, BYTES, MADV_DONTNEED), 0);
	}
	end_burning(threads);
	assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
	munmap(at, BYTES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_of_it_comes_and_content_stays),
		cmocka_unit_test(others_of_the_process_go_first),
		cmocka_unit_test(requests_go_first),
		cmocka_unit_test(little_is_not_worth_a_thread),
		cmocka_unit_test(an_end_comes_on_a_busy_processor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
