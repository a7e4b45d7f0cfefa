/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pool of buffers: no two overlap, none gets lost, nobody gets all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "blockd/bufpool.h"

#define SIZE (16ull << 20)

static struct bufpool *begin(void)
{
	struct bufpool *pool;

	assert_int_equal(bufpool_new(SIZE, &pool, NULL), 0);
	return pool;
}

static void one_account_gets_a_fifth(void **state)
{
	struct bufpool *pool = begin();
	struct bufpool_account a = { 0 };
	void *bufs[8192];
	size_t count = 0;

	while ((bufs[count] = bufpool_get(pool, &a, 4096)))
		count++;
	assert_in_range(a.held_bytes, SIZE / 5 - 8192, SIZE / 5);
	while (count)
		bufpool_put(pool, &a, bufs[--count], 4096);
	assert_int_equal(bufpool_used_bytes(pool), 0);
	bufpool_free(pool);
}

/* However many sit on all they could get, the next one still gets its 64 KiB. */
static void latecomers_find_some(void **state)
{
	enum { ACCOUNTS = 60 };
	struct bufpool *pool = begin();
	struct bufpool_account accounts[ACCOUNTS] = { 0 };
	static void *bufs[ACCOUNTS][2048];
	size_t counts[ACCOUNTS] = { 0 }, i;

	for (i = 0; i < ACCOUNTS; i++) {
		while ((bufs[i][counts[i]] = bufpool_get(pool, &accounts[i], 4096)))
			counts[i]++;
		assert_true(counts[i] >= BUFPOOL_ALWAYS / 4096);
	}
	for (i = 0; i < ACCOUNTS; i++)
		while (counts[i])
			bufpool_put(pool, &accounts[i], bufs[i][--counts[i]], 4096);
	bufpool_free(pool);
}

static void random_use_keeps_buffers_apart(void **state)
{
	enum { SLOTS = 400 };
	static struct {
		uint8_t *buf;
		size_t len;
		uint8_t mark;
	} slots[SLOTS];
	static struct bufpool_account accounts[SLOTS];
	struct bufpool *pool = begin();
	size_t i, k, round;

	srandom(5);
	for (round = 0; round < 200000; round++) {
		i = (size_t)random() % SLOTS;
		if (!slots[i].buf) {
			size_t len = 1 + (size_t)random() % (4096u << random() % 9);

			slots[i].buf = bufpool_get(pool, &accounts[i], len);
			slots[i].len = len;
			slots[i].mark = (uint8_t)random();
			if (!slots[i].buf)
				continue;
			assert_int_equal((uintptr_t)slots[i].buf % BUFPOOL_PAGE, 0);
			for (k = 0; k < len; k += 1024)
				slots[i].buf[k] = slots[i].mark;
			slots[i].buf[len - 1] = slots[i].mark;
		} else {
			for (k = 0; k < slots[i].len; k += 1024)
				assert_int_equal(slots[i].buf[k], slots[i].mark);
			assert_int_equal(slots[i].buf[slots[i].len - 1], slots[i].mark);
			bufpool_put(pool, &accounts[i], slots[i].buf, slots[i].len);
			slots[i].buf = NULL;
		}
	}
	for (i = 0; i < SLOTS; i++)
		if (slots[i].buf)
			bufpool_put(pool, &accounts[i], slots[i].buf, slots[i].len);
	/* Whole again: every large buffer can be had. */
	for (i = 0; i < SIZE / BUFPOOL_BUF_MAX / 4 * 3; i++)
		assert_non_null(slots[i].buf = bufpool_get(pool, &accounts[i], BUFPOOL_BUF_MAX));
	for (i = 0; i < SIZE / BUFPOOL_BUF_MAX / 4 * 3; i++)
		bufpool_put(pool, &accounts[i], slots[i].buf, BUFPOOL_BUF_MAX);
	bufpool_free(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_account_gets_a_fifth),
		cmocka_unit_test(latecomers_find_some),
		cmocka_unit_test(random_use_keeps_buffers_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
