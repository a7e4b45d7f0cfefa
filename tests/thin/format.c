// SPDX-License-Identifier: GPL-2.0-or-later
/* The places that FORMAT.md names: whoever moves one has changed the format. */
#include <stddef.h>

#include "tests/thin/dev_rig.h"

#include "thin/format.h"

#define AT(type, field, at) assert_int_equal(offsetof(struct type, field), at)

static void test_superblock(void **state)
{
	(void)state;
	AT(fmt_super, version, 8);
	AT(fmt_super, crc, 12);
	AT(fmt_super, feature_incompat, 16);
	AT(fmt_super, pool_id, 40);
	AT(fmt_super, generation, 56);
	AT(fmt_super, nonce, 72);
	AT(fmt_super, log_seq, 96);
	AT(fmt_super, log_pred, 104);
	AT(fmt_super, zone_end, 112);
	AT(fmt_super, catalog_root, 136);
	AT(fmt_super, metadata_copies, 156);
	AT(fmt_super, created_s, 160);
	AT(fmt_super, metadata_blocks, 176);
	AT(fmt_super, label, 184);
	AT(fmt_super, reserved, 248);
}

static void test_log(void **state)
{
	(void)state;
	AT(fmt_log_head, crc, 4);
	AT(fmt_log_head, nonce, 24);
	AT(fmt_log_head, flushed, 40);
	AT(fmt_log_head, pred, 48);
	AT(fmt_log_head, slots, 52);
	AT(fmt_log_block, key, 8);
	AT(fmt_log_block, where, 16);
	AT(fmt_log_op, key, 8);
	AT(fmt_log_op, fragment, 16);
	AT(fmt_log_op, total, 22);
	AT(fmt_log_op, generation, 24);
	AT(fmt_op, volume, 8);
	AT(fmt_op, a, 16);
	AT(fmt_op, name, 32);
	assert_int_equal(FMT_LOG_SLOTS, 126);
}

static void test_records(void **state)
{
	(void)state;
	AT(fmt_rec_volume, id, 32);
	AT(fmt_rec_volume, root, 88);
	AT(fmt_rec_volume, state, 108);
	AT(fmt_rec_volume, name, 120);
	AT(fmt_rec_volume, lock_epoch, 248);
	AT(fmt_rec_volume, of, 520);
	AT(fmt_rec_volume, lock_since_s, 568);
	AT(fmt_rec_volume, lock_heir, 592);
	AT(fmt_rec_volume, reserved, 848);
	AT(fmt_rec_zones, first_zone, 32);
	AT(fmt_rec_zones, zone, 48);
	AT(fmt_rec_work, item, 64);
	AT(fmt_work, cursor, 24);
	AT(fmt_work, owner, 32);
	AT(fmt_work, left, 40);
	AT(fmt_bitmap, zone, 8);
	AT(fmt_bitmap, bits, 64);
	assert_int_equal(FMT_ZONES_PER_REC, 253);
	assert_int_equal(FMT_ZONE_BLOCKS, 32256);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_superblock),
		cmocka_unit_test(test_log),
		cmocka_unit_test(test_records),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
