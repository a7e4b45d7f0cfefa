/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The transmission phase, bytes in and bytes out: BLOCK_STATUS. */
#include "tests/blockd/transmit_rig.h"

static void status_needs_a_context(void **state)
{
	struct rig *rig = begin_with(true, false, 0);

	request(rig, NBD_CMD_BLOCK_STATUS, 0, 1, 0, 4096);
	expect_end(rig, 1, NBD_EINVAL);
	end(rig);
	rig = begin_with(false, false, CONTEXTS_ALL);
	request(rig, NBD_CMD_BLOCK_STATUS, 0, 1, 0, 4096);
	expect_simple(rig, 1, NBD_EINVAL);
	end(rig);
}

struct desc {
	uint32_t len, flags;
};

/* The next chunk must be this context's; returns the number of its descriptors. */
static size_t status_chunk(struct rig *rig, unsigned context, bool done, struct desc *to)
{
	struct got_chunk got = next_chunk(rig);
	size_t count = 0;

	assert_int_equal(got.cookie, 77);
	assert_int_equal(got.type, NBD_REPLY_TYPE_BLOCK_STATUS);
	assert_int_equal(got.flags, done ? NBD_REPLY_FLAG_DONE : 0);
	assert_int_equal(cursor_be32(&got.payload), context_id(context));
	while (cursor_left(&got.payload)) {
		to[count].len = cursor_be32(&got.payload);
		to[count].flags = cursor_be32(&got.payload);
		assert_int_not_equal(to[count].len, 0);
		assert_true(!count || to[count].flags != to[count - 1].flags);
		count++;
	}
	assert_true(cursor_ok(&got.payload));
	assert_true(count > 0);
	return count;
}

static size_t status(struct rig *rig, unsigned flags, uint64_t offset, uint32_t len,
		     struct desc *to)
{
	size_t count;

	request(rig, NBD_CMD_BLOCK_STATUS, flags, 77, offset, len);
	count = status_chunk(rig, CONTEXT_ALLOCATION, true, to);
	expect_nothing(rig);
	return count;
}

static void status_describes_the_range(void **state)
{
	struct rig *rig = begin_with(true, false, 1u << CONTEXT_ALLOCATION);
	static struct desc d[8192];
	size_t count, i;
	uint64_t total = 0;

	write_pattern(rig, 0, 1, 4096, 8192);
	expect_end(rig, 1, 0);
	request(rig, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE, 2, 16384, 4096);
	expect_end(rig, 2, 0);
	count = status(rig, 0, 0, VOL_SIZE, d);
	assert_int_equal(count, 5);
	assert_int_equal(d[0].len, 4096);
	assert_int_equal(d[0].flags, NBD_STATE_HOLE | NBD_STATE_ZERO);
	assert_int_equal(d[1].len, 8192);
	assert_int_equal(d[1].flags, 0);
	assert_int_equal(d[2].len, 4096);
	assert_int_equal(d[3].len, 4096);
	assert_int_equal(d[3].flags, NBD_STATE_ZERO);
	/* Unaligned: cut to the request at both ends. */
	count = status(rig, 0, 4100, 8192, d);
	assert_int_equal(count, 2);
	assert_int_equal(d[0].len, 8188);
	assert_int_equal(d[1].len, 4);
	/* One, and within the request. */
	count = status(rig, NBD_CMD_FLAG_REQ_ONE, 4100, 100, d);
	assert_int_equal(count, 1);
	assert_int_equal(d[0].len, 100);
	count = status(rig, NBD_CMD_FLAG_REQ_ONE, 0, VOL_SIZE, d);
	assert_int_equal(count, 1);
	assert_int_equal(d[0].len, 4096);
	/* Many: all of them. */
	for (i = 0; i < 3000; i++) {
		write_pattern(rig, 0, i, i * 8192, 4096);
		expect_end(rig, i, 0);
	}
	count = status(rig, 0, 0, VOL_SIZE, d);
	assert_int_equal(count, 5998); /* the first three blocks are one */
	for (i = 0; i < count; i++) {
		assert_int_equal(d[i].flags, i % 2 ? NBD_STATE_HOLE | NBD_STATE_ZERO : 0);
		total += d[i].len;
	}
	assert_int_equal(total, VOL_SIZE);
	end(rig);
}

/* One chunk for each, in one reply, each with runs of its own. */
static void contexts_have_a_chunk_each(void **state)
{
	struct rig *rig = begin(true);
	struct desc d[16];

	fake_thin_mark(rig->pool, "demo", 8192, 8192, false);
	fake_thin_mark(rig->pool, "demo", 16384, 4096, true);
	request(rig, NBD_CMD_BLOCK_STATUS, 0, 77, 4096, 65536);
	assert_int_equal(status_chunk(rig, CONTEXT_ALLOCATION, false, d), 3);
	assert_int_equal(d[0].flags, NBD_STATE_HOLE | NBD_STATE_ZERO);
	assert_int_equal(d[1].len, 12288);
	assert_int_equal(d[1].flags, 0);
	assert_int_equal(d[2].len, 65536 - 4096 - 12288);
	assert_int_equal(status_chunk(rig, CONTEXT_DEPTH, false, d), 4);
	assert_int_equal(d[0].flags, 0);
	assert_int_equal(d[1].len, 8192);
	assert_int_equal(d[1].flags, 1);
	assert_int_equal(d[2].len, 4096);
	assert_int_equal(d[2].flags, 2);
	assert_int_equal(d[3].flags, 0);
	assert_int_equal(status_chunk(rig, CONTEXT_SHARED, true, d), 3);
	assert_int_equal(d[0].len, 12288);
	assert_int_equal(d[0].flags, 0);
	assert_int_equal(d[1].len, 4096);
	assert_int_equal(d[1].flags, CONTEXT_STATE_SHARED);
	expect_nothing(rig);
	/* REQ_ONE is one descriptor in each, none beyond the request. */
	request(rig, NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG_REQ_ONE, 77, 8200, 9000);
	assert_int_equal(status_chunk(rig, CONTEXT_ALLOCATION, false, d), 1);
	assert_int_equal(d[0].len, 9000);
	assert_int_equal(status_chunk(rig, CONTEXT_DEPTH, false, d), 1);
	assert_int_equal(d[0].len, 8184);
	assert_int_equal(status_chunk(rig, CONTEXT_SHARED, true, d), 1);
	assert_int_equal(d[0].len, 8184);
	expect_nothing(rig);
	end(rig);
}

static void only_selected_contexts_are_answered(void **state)
{
	unsigned set;

	for (set = 1; set <= CONTEXTS_ALL; set++) {
		struct rig *rig = begin_with(true, false, set);
		struct desc d[4];
		unsigned i;

		request(rig, NBD_CMD_BLOCK_STATUS, 0, 77, 0, 4096);
		for (i = 0; i < CONTEXT_COUNT; i++)
			if (set >> i & 1)
				status_chunk(rig, i, !(set >> i >> 1), d);
		expect_nothing(rig);
		end(rig);
	}
}

/* When memory is short there are fewer extents, from the beginning of the range on. */
static void status_makes_do_with_little_memory(void **state)
{
	static struct desc d[8192];
	struct bufpool_account other = { 0 };
	void *held[128];
	struct rig *rig;
	size_t count, taken = 0, i;
	uint64_t total = 0;

	new_bufs();
	rig = begin_with(true, false, 1u << CONTEXT_ALLOCATION);
	for (i = 0; i < VOL_SIZE; i += 8192)
		fake_thin_mark(rig->pool, "demo", i, 4096, false);
	while (taken < 128) { /* accounts of their own: as many clients */
		struct bufpool_account one = { 0 };

		held[taken] = bufpool_get(rig->bufs, &one, MIB / 4);
		if (!held[taken])
			break;
		other.held_bytes += one.held_bytes;
		taken++;
	}
	assert_true(taken > 8);
	count = status(rig, 0, 0, VOL_SIZE, d);
	assert_in_range(count, 2000, 3000);
	for (i = 0; i < count; i++)
		total += d[i].len;
	assert_int_equal(total, count * 4096);
	while (taken)
		bufpool_put(rig->bufs, &other, held[--taken], MIB / 4);
	end(rig);
}

/* The largest range there is, in a sparse volume. */
static void status_of_4_gib(void **state)
{
	struct rig *rig = begin_big(9ull << 30, 1u << CONTEXT_ALLOCATION);
	struct desc d[8];

	assert_int_equal(status(rig, 0, 4097, UINT32_MAX, d), 1);
	assert_int_equal(d[0].len, UINT32_MAX);
	fake_thin_mark(rig->pool, "big", 5ull << 30, 4096, false);
	assert_int_equal(status(rig, 0, (1ull << 30) + 1, UINT32_MAX, d), 1);
	assert_int_equal(status(rig, 0, (1ull << 30) + 2, UINT32_MAX, d), 2);
	assert_int_equal(d[0].len, UINT32_MAX - 1);
	assert_int_equal(d[1].len, 1);
	end(rig);
}

/* ---- dirty bitmaps ---- */

static void bitmaps_tell_what_has_changed(void **state)
{
	struct rig *rig = begin_compared(0, 1);
	struct desc d[16];

	write_pattern(rig, 0, 1, 8192, 4096);
	expect_end(rig, 1, 0);
	write_pattern(rig, 0, 2, 20000, 1);
	expect_end(rig, 2, 0);
	request(rig, NBD_CMD_BLOCK_STATUS, 0, 77, 0, VOL_SIZE);
	assert_int_equal(status_chunk(rig, CONTEXT_COUNT, true, d), 5);
	expect_nothing(rig);
	assert_int_equal(d[0].len, 8192);
	assert_int_equal(d[0].flags, 0);
	assert_int_equal(d[1].len, 4096);
	assert_int_equal(d[1].flags, CONTEXT_STATE_DIRTY);
	assert_int_equal(d[2].len, 4096);
	assert_int_equal(d[3].len, 4096);
	assert_int_equal(d[3].flags, CONTEXT_STATE_DIRTY);
	assert_int_equal(d[4].flags, 0);
	request(rig, NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG_REQ_ONE, 77, 8193, 100000);
	assert_int_equal(status_chunk(rig, CONTEXT_COUNT, true, d), 1);
	assert_int_equal(d[0].len, 4095);
	expect_nothing(rig);
	end(rig);
}

/* Every selection in one reply, a chunk each, DONE on the last. */
static void bitmaps_and_contexts_are_answered_together(void **state)
{
	unsigned set;

	for (set = 0; set <= CONTEXTS_ALL; set++) {
		struct rig *rig = begin_compared(set, CONTEXTS_BITMAP_MAX);
		struct desc d[4];
		unsigned i;

		fake_thin_mark(rig->pool, "demo", 0, 4096, false);
		fake_thin_bytes(rig->pool, "demo@snap2")[0] = 1;
		fake_thin_mark(rig->pool, "demo@snap2", 0, 8192, false);
		request(rig, NBD_CMD_BLOCK_STATUS, 0, 77, 0, 65536);
		for (i = 0; i < CONTEXT_COUNT; i++)
			if (set >> i & 1)
				status_chunk(rig, i, false, d);
		for (i = 0; i < CONTEXTS_BITMAP_MAX; i++) {
			size_t n = status_chunk(rig, CONTEXT_COUNT + i,
						i == CONTEXTS_BITMAP_MAX - 1, d);

			assert_int_equal(n, 2);
			assert_int_equal(d[0].flags, CONTEXT_STATE_DIRTY);
			assert_int_equal(d[0].len, i == 2 ? 8192 : 4096);
		}
		expect_nothing(rig);
		end(rig);
	}
}

/* "0 is always safe" is not true of this context: whoever copies by it would leave blocks out. */
static void a_failed_comparison_is_an_error(void **state)
{
	struct rig *rig = begin_compared(1, 2);
	struct desc d[4];

	fake_thin_fail(rig->pool, THIN_DIFF, -EIO, 1);
	request(rig, NBD_CMD_BLOCK_STATUS, 0, 77, 0, 65536);
	expect_end(rig, 77, NBD_EIO);
	expect_nothing(rig);
	assert_int_equal(rig->counters.errors, 1);
	request(rig, NBD_CMD_BLOCK_STATUS, 0, 77, 0, 65536);
	status_chunk(rig, CONTEXT_ALLOCATION, false, d);
	status_chunk(rig, CONTEXT_COUNT, false, d);
	status_chunk(rig, CONTEXT_COUNT + 1, true, d);
	expect_nothing(rig);
	end(rig);
}

/* The buffer is shared by all: with many contexts and extents there are fewer of each, never too
 * many for it. */
static void many_extents_of_many_contexts_fit(void **state)
{
	struct rig *rig = begin_compared(CONTEXTS_ALL, CONTEXTS_BITMAP_MAX);
	static struct desc d[8192];
	size_t count, i;

	for (i = 0; i < VOL_SIZE; i += 8192) {
		fake_thin_bytes(rig->pool, "demo")[i] = 1;
		fake_thin_mark(rig->pool, "demo", i, 4096, false);
	}
	request(rig, NBD_CMD_BLOCK_STATUS, 0, 77, 0, VOL_SIZE);
	for (i = 0; i < CONTEXT_COUNT + CONTEXTS_BITMAP_MAX; i++) {
		count = status_chunk(rig, (unsigned)i, i == CONTEXT_COUNT + CONTEXTS_BITMAP_MAX - 1,
				     d);
		if (i != CONTEXT_SHARED)
			assert_in_range(count, 4000, 8192);
	}
	expect_nothing(rig);
	end(rig);
}

/* The connection breaks between two of the engine's answers. */
static void a_comparison_may_be_left_alone(void **state)
{
	struct rig *rig = begin_compared(1, 3);
	unsigned runs;

	for (runs = 0; runs < 3; runs++) {
		struct nbd_request r = header(NBD_CMD_BLOCK_STATUS, 0, 77, 0, VOL_SIZE);
		unsigned i;

		assert_int_equal(feed_by(rig, &r, sizeof(r), SIZE_MAX), sizeof(r));
		for (i = 0; i < runs; i++)
			thin_pool_run(rig->pool, 0);
		end(rig);
		rig = begin_compared(1, 3);
	}
	end(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(status_needs_a_context),
		cmocka_unit_test(status_describes_the_range),
		cmocka_unit_test(contexts_have_a_chunk_each),
		cmocka_unit_test(only_selected_contexts_are_answered),
		cmocka_unit_test(status_makes_do_with_little_memory),
		cmocka_unit_test(status_of_4_gib),
		cmocka_unit_test(bitmaps_tell_what_has_changed),
		cmocka_unit_test(bitmaps_and_contexts_are_answered_together),
		cmocka_unit_test(a_failed_comparison_is_an_error),
		cmocka_unit_test(many_extents_of_many_contexts_fit),
		cmocka_unit_test(a_comparison_may_be_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, rig_free_shared);
}
