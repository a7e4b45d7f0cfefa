/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The transmission phase, bytes in and bytes out: Requests that are refused, and the engine's
 * errors. */
#include "tests/blockd/transmit_rig.h"

static void read_is_structured_even_for_an_early_einval(void **state)
{
	struct rig *rig = begin(true);

	request(rig, NBD_CMD_READ, NBD_CMD_FLAG_NO_HOLE, 5, 0, 512);
	expect_end(rig, 5, NBD_EINVAL);
	request(rig, NBD_CMD_READ, 0, 6, VOL_SIZE, 1);
	expect_end(rig, 6, NBD_EINVAL);
	expect_nothing(rig);
	end(rig);
}

static void past_the_end(void **state)
{
	static const struct {
		uint64_t offset;
		uint32_t len;
	} ranges[] = {
		{ VOL_SIZE, 1 },	  { VOL_SIZE - 1, 2 },	      { VOL_SIZE + 4096, 4096 },
		{ UINT64_MAX, 1 },	  { UINT64_MAX, UINT32_MAX }, { UINT64_MAX - 4095, 4096 },
		{ 1ull << 63, 1u << 31 }, { 0, UINT32_MAX },
	};
	static const struct {
		unsigned cmd;
		uint32_t error;
	} cmds[] = {
		{ NBD_CMD_READ, NBD_EINVAL },  { NBD_CMD_TRIM, NBD_EINVAL },
		{ NBD_CMD_CACHE, NBD_EINVAL }, { NBD_CMD_BLOCK_STATUS, NBD_EINVAL },
		{ NBD_CMD_WRITE, NBD_ENOSPC }, { NBD_CMD_WRITE_ZEROES, NBD_ENOSPC },
	};
	struct rig *rig = begin(true);
	size_t i, k;

	for (i = 0; i < sizeof(cmds) / sizeof(cmds[0]); i++)
		for (k = 0; k < sizeof(ranges) / sizeof(ranges[0]); k++) {
			if (cmds[i].cmd == NBD_CMD_WRITE && ranges[k].len > 4096)
				continue;
			if (cmds[i].cmd == NBD_CMD_WRITE)
				write_pattern(rig, 0, k, ranges[k].offset, ranges[k].len);
			else
				request(rig, cmds[i].cmd, 0, k, ranges[k].offset, ranges[k].len);
			expect_end(rig, k, cmds[i].error);
			expect_nothing(rig);
		}
	assert_int_equal(fake_thin_seen(rig->pool)->submitted, 0);
	assert_int_equal(rig->counters.errors, rig->counters.reads + rig->counters.writes +
						       rig->counters.trims + rig->counters.zeroes +
						       rig->counters.others);
	assert_int_equal(rig->counters.read_bytes + rig->counters.written_bytes, 0);
	end(rig);
}

static void read_only_refuses_changes(void **state)
{
	struct rig *rig = begin_with(true, true, CONTEXTS_ALL);

	fill_pattern(rig);
	write_pattern(rig, 0, 1, VOL_SIZE, 512); /* before the bounds check */
	expect_end(rig, 1, NBD_EPERM);
	request(rig, NBD_CMD_TRIM, 0, 2, 0, 4096);
	expect_end(rig, 2, NBD_EPERM);
	request(rig, NBD_CMD_WRITE_ZEROES, 0, 3, 0, 4096);
	expect_end(rig, 3, NBD_EPERM);
	request(rig, NBD_CMD_FLUSH, 0, 4, 0, 0);
	expect_end(rig, 4, 0);
	request(rig, NBD_CMD_READ, 0, 5, 0, 4096);
	expect_read_structured(rig, 5, 0, 4096, 1);
	expect_nothing(rig);
	assert_volume(rig, 0, 8192);
	end(rig);
}

static void unknown_commands_and_flags_keep_in_step(void **state)
{
	static const unsigned cmds[] = { 8, 9, 100, 0x7fff, 0xffff };
	unsigned cmd, bit;
	struct rig *rig = begin(true);
	size_t i;

	for (i = 0; i < sizeof(cmds) / sizeof(cmds[0]); i++) {
		request(rig, cmds[i], 0, i, 0, 4096);
		expect_end(rig, i, NBD_EINVAL);
	}
	for (cmd = 0; cmd <= NBD_CMD_BLOCK_STATUS; cmd++)
		for (bit = 1; bit < 16; bit++) {
			bool known =
				(cmd == NBD_CMD_READ && 1u << bit == NBD_CMD_FLAG_DF) ||
				(cmd == NBD_CMD_WRITE_ZEROES &&
				 1u << bit & (NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO)) ||
				(cmd == NBD_CMD_BLOCK_STATUS && 1u << bit == NBD_CMD_FLAG_REQ_ONE);

			if (known || cmd == NBD_CMD_DISC)
				continue;
			if (cmd == NBD_CMD_WRITE) /* its payload must be skipped */
				write_pattern(rig, 1u << bit, bit, 0, 5000);
			else
				request(rig, cmd, 1u << bit, bit, 0,
					cmd == NBD_CMD_FLUSH ? 0 : 4096);
			expect_end(rig, bit, NBD_EINVAL);
			expect_nothing(rig);
		}
	assert_int_equal(fake_thin_seen(rig->pool)->submitted, 0);
	end(rig);
	rig = begin(false); /* DF only with structured replies */
	request(rig, NBD_CMD_READ, NBD_CMD_FLAG_DF, 1, 0, 4096);
	expect_simple(rig, 1, NBD_EINVAL);
	expect_nothing(rig);
	end(rig);
}

static void df_is_one_chunk_or_eoverflow(void **state)
{
	struct rig *rig = begin(true);

	fill_pattern(rig);
	request(rig, NBD_CMD_READ, NBD_CMD_FLAG_DF, 1, 4095, 65536);
	expect_read_structured(rig, 1, 4095, 65536, 1);
	request(rig, NBD_CMD_READ, NBD_CMD_FLAG_DF, 2, 0, MIB);
	expect_read_structured(rig, 2, 0, MIB, 1);
	request(rig, NBD_CMD_READ, NBD_CMD_FLAG_DF, 3, 0, MIB + 1);
	expect_end(rig, 3, NBD_EOVERFLOW);
	request(rig, NBD_CMD_READ, 0, 4, 0, 33 * MIB);
	expect_end(rig, 4, NBD_EOVERFLOW);
	expect_nothing(rig);
	end(rig);
}

static void read_errors(void **state)
{
	struct rig *rig = begin(true);
	bool failed = false;
	uint64_t bytes = 0;
	struct got_chunk got;

	fill_pattern(rig);
	fake_thin_fail(rig->pool, THIN_READ, -EIO, 1);
	request(rig, NBD_CMD_READ, 0, 1, 100, 200);
	got = next_chunk(rig);
	assert_int_equal(got.type, NBD_REPLY_TYPE_ERROR_OFFSET);
	assert_int_equal(got.flags, NBD_REPLY_FLAG_DONE);
	assert_int_equal(cursor_be32(&got.payload), NBD_EIO);
	assert_int_equal(cursor_be16(&got.payload), 0);
	assert_int_equal(cursor_be64(&got.payload), 100); /* within the request */
	assert_true(cursor_done(&got.payload));

	/* One piece of many: an error chunk, no overlap, the rest served, DONE at the end only. */
	fake_thin_fail(rig->pool, THIN_READ, -EUCLEAN, 1);
	request(rig, NBD_CMD_READ, 0, 2, 0, 4 * MIB);
	do {
		got = next_chunk(rig);
		if (got.type == NBD_REPLY_TYPE_ERROR_OFFSET) {
			assert_false(failed);
			failed = true;
		} else {
			assert_int_equal(got.type, NBD_REPLY_TYPE_OFFSET_DATA);
			bytes += cursor_left(&got.payload) - 8;
		}
	} while (!(got.flags & NBD_REPLY_FLAG_DONE));
	assert_true(failed);
	assert_int_equal(bytes, 3 * MIB);
	expect_nothing(rig);
	assert_int_equal(rig->counters.errors, 2);
	end(rig);
}

static void simple_read_error_has_no_data(void **state)
{
	struct rig *rig = begin(false);

	fill_pattern(rig);
	fake_thin_fail(rig->pool, THIN_READ, -EIO, 1);
	request(rig, NBD_CMD_READ, 0, 1, 0, 4096);
	expect_simple(rig, 1, NBD_EIO);
	fake_thin_fail(rig->pool, THIN_READ, -EIO, 1); /* the first piece of several */
	request(rig, NBD_CMD_READ, 0, 2, 0, 4 * MIB);
	expect_simple(rig, 2, NBD_EIO);
	expect_nothing(rig);
	request(rig, NBD_CMD_READ, 0, 3, 0, 4 * MIB);
	expect_read_simple(rig, 3, 0, 4 * MIB);
	expect_nothing(rig);
	end(rig);
}

static void simple_read_failing_after_its_header_disconnects(void **state)
{
	struct rig *rig = begin(false);
	struct nbd_request r = header(NBD_CMD_READ, 0, 1, 0, 4 * MIB);
	int i;

	feed_by(rig, &r, sizeof(r), SIZE_MAX);
	for (i = 0; i < 100 && !rig->out_len; i++) {
		thin_pool_run(rig->pool, 0);
		send_out(rig);
	}
	assert_true(rig->out_len > 0);
	fake_thin_fail(rig->pool, THIN_READ, -EIO, 1);
	settle(rig);
	assert_int_equal(transmit_state(rig->t), TRANSMIT_BROKEN);
	end(rig);
}

static void only_errors_of_the_protocol(void **state)
{
	static const struct {
		enum thin_op op;
		int res;
		unsigned cmd, flags;
		uint32_t error;
	} cases[] = {
		{ THIN_WRITE, -ENOSPC, NBD_CMD_WRITE, 0, NBD_ENOSPC },
		{ THIN_WRITE, -EDQUOT, NBD_CMD_WRITE, 0, NBD_ENOSPC },
		{ THIN_WRITE, -EFBIG, NBD_CMD_WRITE, 0, NBD_ENOSPC },
		{ THIN_WRITE, -EROFS, NBD_CMD_WRITE, 0, NBD_EPERM },
		{ THIN_WRITE, -ENOMEM, NBD_CMD_WRITE, 0, NBD_EIO },
		{ THIN_WRITE, -EUCLEAN, NBD_CMD_WRITE, 0, NBD_EIO },
		{ THIN_WRITE, -ENOTSUP, NBD_CMD_WRITE, 0, NBD_EIO },
		{ THIN_WRITE, -ESHUTDOWN, NBD_CMD_WRITE, 0, NBD_ESHUTDOWN },
		{ THIN_FLUSH, -EROFS, NBD_CMD_FLUSH, 0, NBD_EIO },
		{ THIN_FLUSH, -ENOSPC, NBD_CMD_FLUSH, 0, NBD_EIO },
		{ THIN_TRIM, -ENOENT, NBD_CMD_TRIM, 0, NBD_EIO },
		{ THIN_ZERO, -ENOTSUP, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FAST_ZERO, NBD_ENOTSUP },
		{ THIN_ZERO, -ENOTSUP, NBD_CMD_WRITE_ZEROES, 0, NBD_EIO },
		{ THIN_READ, -ENOSPC, NBD_CMD_READ, 0, NBD_EIO },
		{ THIN_STATUS, -EIO, NBD_CMD_BLOCK_STATUS, 0, NBD_EIO },
	};
	struct rig *rig = begin(true);
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fake_thin_fail(rig->pool, cases[i].op, cases[i].res, 1);
		if (cases[i].cmd == NBD_CMD_WRITE)
			write_pattern(rig, 0, i, 0, 4096);
		else
			request(rig, cases[i].cmd, cases[i].flags, i, 0,
				cases[i].cmd == NBD_CMD_FLUSH ? 0 : 4096);
		expect_end(rig, i, cases[i].error);
		expect_nothing(rig);
	}
	end(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(read_is_structured_even_for_an_early_einval),
		cmocka_unit_test(past_the_end),
		cmocka_unit_test(read_only_refuses_changes),
		cmocka_unit_test(unknown_commands_and_flags_keep_in_step),
		cmocka_unit_test(df_is_one_chunk_or_eoverflow),
		cmocka_unit_test(read_errors),
		cmocka_unit_test(simple_read_error_has_no_data),
		cmocka_unit_test(simple_read_failing_after_its_header_disconnects),
		cmocka_unit_test(only_errors_of_the_protocol),
	};

	return cmocka_run_group_tests(tests, NULL, rig_free_shared);
}
