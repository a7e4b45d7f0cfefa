/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The transmission phase, bytes in and bytes out: READ and WRITE of all shapes, in any portions and
 * pieces. */
#include "tests/blockd/transmit_rig.h"

static void reads_and_writes_of_all_shapes(void **state)
{
	static const struct {
		uint64_t offset;
		uint32_t len;
	} shapes[] = {
		{ 0, 1 },
		{ 0, 4096 },
		{ 1, 1 },
		{ 511, 4097 },
		{ 4095, 2 },
		{ VOL_SIZE - 1, 1 },
		{ 8191, 65536 },
		{ 4096, MIB },
		{ 4096, MIB + 1 },
		{ 3 * MIB - 1, MIB },
		{ 100, 5 * MIB + 77 },
		{ 0, 32 * MIB },
		{ 31, (uint32_t)(32 * MIB) },
	};
	int structured;
	size_t i;

	for (structured = 0; structured < 2; structured++)
		for (i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
			struct rig *rig = begin(structured);

			write_pattern(rig, 0, 1, shapes[i].offset, shapes[i].len);
			expect_result(rig, structured, 1, 0);
			assert_volume(rig, shapes[i].offset, shapes[i].len);
			request(rig, NBD_CMD_READ, 0, 2, shapes[i].offset, shapes[i].len);
			if (structured)
				expect_read_structured(rig, 2, shapes[i].offset, shapes[i].len,
						       UINT32_MAX);
			else
				expect_read_simple(rig, 2, shapes[i].offset, shapes[i].len);
			expect_nothing(rig);
			end(rig);
		}
}

/* Requests of all kinds, cut anywhere. */
static void bytes_may_come_in_any_portions(void **state)
{
	static const size_t portions[] = { 1, 2, 3, 27, 28, 29, 4095, 4123, 4124, 70000, 200000 };
	uint8_t *all = malloc(600000);
	size_t len = 0, i, p;
	uint64_t offset = 12345;

	for (i = 0; i < 60; i++) {
		uint32_t part = i % 7 == 6 ? 70001 : i % 3 ? 4096 : 37;
		struct nbd_request r = header(NBD_CMD_WRITE, 0, i, offset, part);
		uint32_t k;

		if (len + sizeof(r) + part > 600000)
			break;
		memcpy(all + len, &r, sizeof(r));
		for (k = 0; k < part; k++)
			all[len + sizeof(r) + k] = pattern(offset + k);
		len += sizeof(r) + part;
		offset += part;
	}
	for (p = 0; p < sizeof(portions) / sizeof(portions[0]); p++) {
		struct rig *rig = begin(false);
		size_t k;

		assert_int_equal(feed_by(rig, all, len, portions[p]), len);
		settle(rig);
		for (k = 0; k < i; k++) {
			struct cursor c = received(rig);

			assert_int_equal(cursor_be32(&c), NBD_SIMPLE_REPLY_MAGIC);
			assert_int_equal(cursor_be32(&c), 0);
			cookie_of(&c);
			took(rig, &c);
		}
		expect_nothing(rig);
		assert_volume(rig, 12345, offset - 12345);
		end(rig);
	}
	free(all);
}

static void every_request_of_a_batch_is_answered_once(void **state)
{
	enum { COUNT = 500 };
	struct rig *rig = begin(true);
	struct nbd_request batch[COUNT];
	uint8_t seen[COUNT] = { 0 };
	size_t i;

	fill_pattern(rig);
	for (i = 0; i < COUNT; i++)
		batch[i] = header(NBD_CMD_READ, 0, i, i * 4096, 4096);
	feed(rig, batch, sizeof(batch));
	for (i = 0; i < COUNT; i++) {
		struct got_chunk got = next_chunk(rig);

		assert_true(got.cookie < COUNT);
		assert_int_equal(seen[got.cookie]++, 0);
		assert_int_equal(cursor_be64(&got.payload), got.cookie * 4096);
		assert_int_equal(got.payload.at[0], pattern(got.cookie * 4096));
	}
	expect_nothing(rig);
	assert_int_equal(transmit_counters(rig->t)->reads, COUNT);
	assert_int_equal(rig->counters.read_bytes, COUNT * 4096);
	end(rig);
}

/* A large simple READ among small ones: its bytes stay in one run. */
static void large_simple_reads_are_not_interleaved(void **state)
{
	struct nbd_request batch[9];
	struct rig *rig = begin(false);
	size_t i;

	fill_pattern(rig);
	for (i = 0; i < 9; i++)
		batch[i] = header(NBD_CMD_READ, 0, i, i * MIB + 7, i == 4 ? 3 * MIB : 512);
	feed(rig, batch, sizeof(batch));
	for (i = 0; i < 9; i++) {
		struct cursor c = received(rig);
		uint64_t cookie;

		cursor_skip(&c, 8);
		cookie = cookie_of(&c);
		assert_true(cookie < 9);
		if (i == 4)
			assert_int_equal(cookie, 4);
		expect_read_simple(rig, cookie, cookie * MIB + 7, cookie == 4 ? 3 * MIB : 512);
	}
	expect_nothing(rig);
	end(rig);
}

static void expect_reads_in_any_order(struct rig *rig, unsigned count, uint32_t len)
{
	struct cursor answers = received(rig);
	unsigned i, seen = 0;

	for (i = 0; i < count; i++) {
		uint64_t cookie;

		assert_int_equal(cursor_be32(&answers), NBD_SIMPLE_REPLY_MAGIC);
		assert_int_equal(cursor_be32(&answers), 0);
		cookie = cookie_of(&answers);
		assert_pattern(cursor_bytes(&answers, len), cookie * len, len);
		seen |= 1u << cookie;
	}
	took(rig, &answers);
	assert_int_equal(seen, (1u << count) - 1);
	expect_nothing(rig);
}

/* A long queue of large READs leaves the other connections their turn. */
static void a_turn_issues_a_bounded_part_of_a_queue(void **state)
{
	enum { COUNT = 16, LEN = 128 << 10 };
	struct rig *rig = begin(false);
	struct nbd_request batch[COUNT];
	unsigned i;

	fill_pattern(rig);
	for (i = 0; i < COUNT; i++)
		batch[i] = header(NBD_CMD_READ, 0, i, (uint64_t)i * LEN, LEN);
	transmit_inject(rig->t, batch, sizeof(batch));
	assert_in_range(transmit_held_bytes(rig->t), LEN, 3 * LEN);
	assert_true(transmit_has_yielded(rig->t));
	assert_false(transmit_wants_memory(rig->t));
	assert_true(transmit_retry(rig->t)); /* the next turn */
	assert_in_range(transmit_held_bytes(rig->t), 2 * LEN, 6 * LEN);
	settle(rig);
	assert_false(transmit_has_yielded(rig->t));
	expect_reads_in_any_order(rig, COUNT, LEN);
	end(rig);
}

/* Also those that a turn has left for the next; a payload that will never be whole is dropped. */
static void a_stop_answers_what_has_come(void **state)
{
	enum { COUNT = 16, LEN = 128 << 10 };
	struct rig *rig = begin(false);
	struct nbd_request batch[COUNT + 1];
	unsigned i;

	fill_pattern(rig);
	for (i = 0; i < COUNT; i++)
		batch[i] = header(NBD_CMD_READ, 0, i, (uint64_t)i * LEN, LEN);
	batch[COUNT] = header(NBD_CMD_WRITE, 0, COUNT, 0, 4096);
	transmit_inject(rig->t, batch, sizeof(batch));
	transmit_stop(rig->t);
	assert_int_equal(transmit_state(rig->t), TRANSMIT_DRAINING);
	settle(rig);
	assert_int_equal(transmit_state(rig->t), TRANSMIT_DONE);
	expect_reads_in_any_order(rig, COUNT, LEN);
	end(rig);
}

static void zero_length_requests_are_harmless(void **state)
{
	int structured;

	for (structured = 0; structured < 2; structured++) {
		struct rig *rig = begin(structured);

		request(rig, NBD_CMD_READ, 0, 1, 0, 0);
		if (structured) { /* always, with a READ */
			struct got_chunk got = next_chunk(rig);

			assert_int_equal(got.cookie, 1);
			assert_int_equal(got.type, NBD_REPLY_TYPE_NONE);
			assert_int_equal(got.flags, NBD_REPLY_FLAG_DONE);
			assert_int_equal(cursor_left(&got.payload), 0);
		} else {
			expect_simple(rig, 1, 0);
		}
		expect_nothing(rig);
		request(rig, NBD_CMD_WRITE, 0, 2, VOL_SIZE, 0);
		expect_result(rig, structured, 2, 0);
		request(rig, NBD_CMD_TRIM, 0, 3, 4096, 0);
		expect_result(rig, structured, 3, 0);
		request(rig, NBD_CMD_READ, 0, 4, VOL_SIZE + 1, 0);
		expect_result(rig, structured, 4, NBD_EINVAL);
		request(rig, NBD_CMD_BLOCK_STATUS, 0, 5, 0, 0);
		expect_result(rig, structured, 5, NBD_EINVAL);
		assert_int_equal(fake_thin_seen(rig->pool)->submitted, 0);
		end(rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_and_writes_of_all_shapes),
		cmocka_unit_test(bytes_may_come_in_any_portions),
		cmocka_unit_test(every_request_of_a_batch_is_answered_once),
		cmocka_unit_test(large_simple_reads_are_not_interleaved),
		cmocka_unit_test(a_turn_issues_a_bounded_part_of_a_queue),
		cmocka_unit_test(a_stop_answers_what_has_come),
		cmocka_unit_test(zero_length_requests_are_harmless),
	};

	return cmocka_run_group_tests(tests, NULL, rig_free_shared);
}
