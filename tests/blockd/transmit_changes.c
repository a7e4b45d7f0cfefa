/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The transmission phase, bytes in and bytes out: Durability, and what reaches the engine of WRITE,
 * TRIM and WRITE_ZEROES. */
#include "tests/blockd/transmit_rig.h"

static void fua_is_accepted_on_every_command(void **state)
{
	unsigned cmd;
	int structured;

	for (structured = 0; structured < 2; structured++)
		for (cmd = 0; cmd <= NBD_CMD_BLOCK_STATUS; cmd++) {
			struct rig *rig = begin(structured);
			uint32_t len = cmd == NBD_CMD_FLUSH ? 0 : 4096;

			if (cmd == NBD_CMD_DISC || (cmd == NBD_CMD_BLOCK_STATUS && !structured)) {
				end(rig);
				continue;
			}
			if (cmd == NBD_CMD_WRITE)
				write_pattern(rig, NBD_CMD_FLAG_FUA, 9, 0, len);
			else
				request(rig, cmd, NBD_CMD_FLAG_FUA, 9, 0, len);
			if (structured && (cmd == NBD_CMD_READ || cmd == NBD_CMD_BLOCK_STATUS)) {
				struct got_chunk got = next_chunk(rig);

				assert_true(got.type < 0x8000);
			} else {
				expect_simple(rig, 9, 0);
			}
			assert_int_equal(fake_thin_seen(rig->pool)->fua,
					 cmd == NBD_CMD_WRITE || cmd == NBD_CMD_TRIM ||
						 cmd == NBD_CMD_WRITE_ZEROES);
			end(rig);
		}
}

static void fua_of_a_write_in_pieces_is_one_flush_behind_them(void **state)
{
	struct rig *rig = begin(true);

	write_pattern(rig, NBD_CMD_FLAG_FUA, 1, 512, 3 * MIB);
	expect_end(rig, 1, 0);
	assert_int_equal(fake_thin_seen(rig->pool)->flushes, 1);
	assert_int_equal(fake_thin_seen(rig->pool)->last.op, THIN_FLUSH);
	fake_thin_fail(rig->pool, THIN_FLUSH, -EROFS, 1);
	write_pattern(rig, NBD_CMD_FLAG_FUA, 2, 512, 3 * MIB);
	expect_end(rig, 2, NBD_EPERM);
	expect_nothing(rig);
	end(rig);
}

static void flags_reach_the_engine(void **state)
{
	struct rig *rig = begin(true);

	request(rig, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE, 1, 0, UINT32_MAX & 0xffff);
	assert_int_equal(fake_thin_seen(rig->pool)->last.flags, THIN_NO_HOLE);
	request(rig, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FAST_ZERO | NBD_CMD_FLAG_FUA, 2, 0, 4096);
	assert_int_equal(fake_thin_seen(rig->pool)->last.flags, THIN_FAST | THIN_FUA);
	request(rig, NBD_CMD_TRIM, NBD_CMD_FLAG_FUA, 3, 0, 4096);
	assert_int_equal(fake_thin_seen(rig->pool)->last.op, THIN_TRIM);
	assert_int_equal(fake_thin_seen(rig->pool)->last.flags, THIN_FUA);
	end(rig);
}

static void trim_and_zeroes_up_to_4_gib_just_work(void **state)
{
	struct rig *rig = begin_big(8ull << 30, 0);

	fake_thin_fail(rig->pool, THIN_TRIM, 0, 1); /* without touching 4 GiB of memory */
	request(rig, NBD_CMD_TRIM, 0, 1, 1, UINT32_MAX);
	expect_end(rig, 1, 0);
	assert_int_equal(fake_thin_seen(rig->pool)->last.len, UINT32_MAX);
	fake_thin_fail(rig->pool, THIN_ZERO, 0, 1);
	request(rig, NBD_CMD_WRITE_ZEROES, 0, 2, 4096, UINT32_MAX);
	expect_end(rig, 2, 0);
	expect_nothing(rig);
	end(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fua_is_accepted_on_every_command),
		cmocka_unit_test(fua_of_a_write_in_pieces_is_one_flush_behind_them),
		cmocka_unit_test(flags_reach_the_engine),
		cmocka_unit_test(trim_and_zeroes_up_to_4_gib_just_work),
	};

	return cmocka_run_group_tests(tests, NULL, rig_free_shared);
}
