/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The transmission phase, bytes in and bytes out: What hostile clients send, that nothing grows
 * without a bound, and how it ends. */
#include "tests/blockd/transmit_rig.h"

static void oversize_write_is_drained(void **state)
{
	static const uint32_t lens[] = { 32 * MIB + 1, 64 * MIB };
	struct rig *rig;
	uint8_t *junk = malloc(64 * MIB);
	size_t i;

	new_bufs();
	rig = begin(true);
	memset(junk, 0x25, 64 * MIB);
	for (i = 0; i < 2; i++) {
		struct nbd_request r = header(NBD_CMD_WRITE, 0, i, 0, lens[i]);

		feed(rig, &r, sizeof(r));
		feed(rig, junk, lens[i]);
		expect_end(rig, i, NBD_EINVAL);
		assert_int_equal(bufpool_peak_bytes(rig->bufs), 0); /* never buffered */
	}
	assert_int_equal(fake_thin_seen(rig->pool)->submitted, 0);
	request(rig, NBD_CMD_FLUSH, 0, 3, 0, 0);
	expect_end(rig, 3, 0);
	free(junk);
	end(rig);
}

static void absurd_write_disconnects(void **state)
{
	struct nbd_request r = header(NBD_CMD_WRITE, 0, 1, 0, 64 * MIB + 1);
	struct rig *rig = begin(true);

	feed_by(rig, &r, sizeof(r), SIZE_MAX);
	assert_int_equal(transmit_state(rig->t), TRANSMIT_BROKEN);
	end(rig);
}

static void garbage_disconnects(void **state)
{
	struct rig *rig = begin(true);
	uint8_t junk[28];

	memset(junk, 'x', sizeof(junk));
	feed_by(rig, junk, sizeof(junk), SIZE_MAX);
	assert_int_equal(transmit_state(rig->t), TRANSMIT_BROKEN);
	assert_true(transmit_reason(rig->t)[0]);
	end(rig);
}

static void half_requests_leave_nothing_behind(void **state)
{
	static const size_t cuts[] = { 0, 1, 27, 28, 29, 28 + 4096, 28 + 2 * MIB - 1 };
	size_t i;

	for (i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
		struct nbd_request r = header(NBD_CMD_WRITE, 0, 1, 0, 2 * MIB);
		uint8_t *message = calloc(1, sizeof(r) + 2 * MIB);
		struct rig *rig = begin(true);

		memcpy(message, &r, sizeof(r));
		feed(rig, message, cuts[i]);
		transmit_eof(rig->t);
		settle(rig);
		assert_int_equal(transmit_state(rig->t), TRANSMIT_DONE);
		expect_nothing(rig);
		assert_int_equal(transmit_held_bytes(rig->t), 0);
		end(rig); /* checks that all buffers are back */
		free(message);
	}
}

static void a_client_that_does_not_read_is_held_back(void **state)
{
	enum { COUNT = 400 }; /* of 256 KiB: 100 MiB asked for, 24 MiB there are */
	struct rig *rig;
	struct nbd_request batch[COUNT];
	struct iovec iov[2];
	size_t i;

	new_bufs();
	rig = begin(true);
	fill_pattern(rig);
	rig->no_read = true;
	for (i = 0; i < COUNT; i++)
		batch[i] = header(NBD_CMD_READ, 0, i, i % 16 * MIB, 256 << 10);
	feed(rig, batch, sizeof(batch));
	assert_int_equal(transmit_rx_iov(rig->t, iov), 0);
	assert_true(transmit_wants_memory(rig->t));
	assert_true(transmit_client_holds_memory(rig->t));
	/* A fifth of all, as bufpool.h says. */
	assert_in_range(bufpool_used_bytes(rig->bufs), 1, BUFS / 5);
	/* It reads again: everything comes. */
	rig->no_read = false;
	settle(rig);
	assert_int_equal(transmit_open_requests(rig->t), 0);
	assert_true(rig->out_len > COUNT * (256ull << 10));
	assert_true(bufpool_peak_bytes(rig->bufs) <= BUFS / 5);
	end(rig);
}

static void a_flood_of_small_requests_is_bounded(void **state)
{
	enum { COUNT = 50000 };
	struct rig *rig = begin(true);
	struct nbd_request *batch = malloc(COUNT * sizeof(*batch));
	size_t i;

	fake_thin_hold(rig->pool, true); /* the engine does not answer */
	for (i = 0; i < COUNT; i++)
		batch[i] = header(i % 2 ? NBD_CMD_FLUSH : 99, 0, i, 0, 0);
	rig->no_read = true;
	assert_true(feed_by(rig, batch, COUNT * sizeof(*batch), SIZE_MAX) < COUNT * sizeof(*batch));
	assert_int_equal(transmit_open_requests(rig->t), TRANSMIT_REQUEST_MAX);
	free(batch);
	end(rig);
}

static void disc_finishes_what_is_outstanding(void **state)
{
	struct nbd_request batch[12];
	struct rig *rig = begin(true);
	size_t i;

	fill_pattern(rig);
	fake_thin_hold(rig->pool, true);
	for (i = 0; i < 10; i++)
		batch[i] = header(NBD_CMD_READ, 0, i, i * 4096, 4096);
	batch[10] = header(NBD_CMD_DISC, 0, 10, 0, 0);
	batch[11] = header(NBD_CMD_READ, 0, 11, 0, 4096); /* after DISC: nothing */
	feed(rig, batch, sizeof(batch));
	assert_int_equal(transmit_state(rig->t), TRANSMIT_DRAINING);
	fake_thin_hold(rig->pool, false);
	settle(rig);
	for (i = 0; i < 10; i++)
		assert_true(next_chunk(rig).cookie < 10);
	expect_nothing(rig);
	assert_int_equal(transmit_state(rig->t), TRANSMIT_DONE);
	end(rig);
}

static void stop_answers_what_was_taken(void **state)
{
	struct nbd_request r = header(NBD_CMD_READ, 0, 1, 0, 8 * MIB);
	struct rig *rig = begin(true);

	fill_pattern(rig);
	fake_thin_hold(rig->pool, true);
	feed(rig, &r, sizeof(r));
	transmit_stop(rig->t); /* in the midst of issuing its pieces */
	assert_int_equal(transmit_state(rig->t), TRANSMIT_DRAINING);
	fake_thin_hold(rig->pool, false);
	settle(rig);
	expect_read_structured(rig, 1, 0, 8 * MIB, UINT32_MAX);
	assert_int_equal(transmit_state(rig->t), TRANSMIT_DONE);
	end(rig);
}

static void abort_waits_for_the_engine_only(void **state)
{
	struct rig *rig = begin(true);

	fake_thin_hold(rig->pool, true);
	write_pattern(rig, 0, 1, 0, 4096);
	assert_int_equal(transmit_in_flight(rig->t), 1);
	transmit_abort(rig->t, "test");
	assert_int_equal(transmit_in_flight(rig->t), 1);
	fake_thin_hold(rig->pool, false);
	rig->wakes = 0;
	fake_thin_settle(rig->pool);
	assert_int_equal(transmit_in_flight(rig->t), 0);
	assert_true(rig->wakes > 0);
	expect_nothing(rig);
	end(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(oversize_write_is_drained),
		cmocka_unit_test(absurd_write_disconnects),
		cmocka_unit_test(garbage_disconnects),
		cmocka_unit_test(half_requests_leave_nothing_behind),
		cmocka_unit_test(a_client_that_does_not_read_is_held_back),
		cmocka_unit_test(a_flood_of_small_requests_is_bounded),
		cmocka_unit_test(disc_finishes_what_is_outstanding),
		cmocka_unit_test(stop_answers_what_was_taken),
		cmocka_unit_test(abort_waits_for_the_engine_only),
	};

	return cmocka_run_group_tests(tests, NULL, rig_free_shared);
}
