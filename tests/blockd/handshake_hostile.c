/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The handshake, bytes in and bytes out: what attackers send, and limits. */
#include "tests/blockd/handshake_rig.h"

static void lengths_that_lie_are_invalid(void **state)
{
	static const struct {
		const char *data;
		uint32_t len;
	} cases[] = {
		{ "", 0 },
		{ "\0\0\0", 3 },
		{ "\xff\xff\xff\xff", 4 }, /* name of 4 GiB */
		{ "\xff\xff\xff\xff\0\0", 6 },
		{ "\0\0\0\x04"
		  "demo",
		  8 }, /* no count */
		{ "\0\0\0\x04"
		  "demo\0\1",
		  10 }, /* one promised, none there */
		{ "\0\0\0\x04"
		  "demo\xff\xff",
		  10 },
		{ "\0\0\0\x04"
		  "demo\0\0\0",
		  11 }, /* one byte too many */
	};
	struct rig *rig = begin_structured();
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		option(rig, NBD_OPT_GO, cases[i].data, cases[i].len);
		expect(rig, NBD_OPT_GO, NBD_REP_ERR_INVALID);
		option(rig, NBD_OPT_SET_META_CONTEXT, cases[i].data, cases[i].len);
		expect(rig, NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_INVALID);
	}
	option(rig, NBD_OPT_LIST_META_CONTEXT,
	       "\0\0\0\x04"
	       "demo\xff\xff\xff\xff",
	       12);
	expect(rig, NBD_OPT_LIST_META_CONTEXT, NBD_REP_ERR_INVALID);
	option(rig, NBD_OPT_LIST_META_CONTEXT,
	       "\0\0\0\x04"
	       "demo\0\0\0\1\xff\xff\xff\xff",
	       16);
	expect(rig, NBD_OPT_LIST_META_CONTEXT, NBD_REP_ERR_INVALID);
	expect_nothing(rig);
	assert_int_equal(rig->finds + rig->opens, 0);
	end(rig);
}

static void huge_payloads_are_not_kept(void **state)
{
	static const uint32_t numbers[] = { NBD_OPT_EXPORT_NAME,
					    NBD_OPT_ABORT,
					    NBD_OPT_LIST,
					    NBD_OPT_GO,
					    NBD_OPT_SET_META_CONTEXT,
					    99 };
	uint8_t junk[60000] = { 0 };
	struct rig *rig;
	size_t i;

	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		struct nbd_option_header header = { be64_put(NBD_OPTION_MAGIC),
						    be32_put(numbers[i]), be32_put(0xffffffff) };

		rig = begin_structured();
		feed(rig, &header, sizeof(header));
		assert_failed(rig);
		end(rig);
	}
	rig = begin_structured();
	option(rig, NBD_OPT_GO, junk, sizeof(junk));
	expect(rig, NBD_OPT_GO, NBD_REP_ERR_TOO_BIG);
	option(rig, NBD_OPT_SET_META_CONTEXT, junk, sizeof(junk));
	expect(rig, NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_TOO_BIG);
	assert_talking(rig);
	end(rig);
}

static void endless_options_are_dropped(void **state)
{
	struct rig *rig = begin_fixed();
	int i;

	for (i = 0; i < 1000 && handshake_state(rig->h) == HANDSHAKE_TALKING; i++)
		option(rig, NBD_OPT_LIST, NULL, 0);
	assert_failed(rig);
	assert_in_range(i, 100, 999);
	end(rig);
}

static void a_client_that_does_not_read_is_held_back(void **state)
{
	struct rig *rig = begin_fixed();
	const void *from;
	int i;

	rig->no_send = true;
	for (i = 0; i < 200; i++)
		option(rig, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	assert_in_range(handshake_pending(rig->h, &from), 1, 16384);
	assert_talking(rig);
	rig->no_send = false;
	pump(rig);
	feed(rig, "", 0);
	for (i = 0; i < 200; i++)
		expect(rig, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK);
	expect_nothing(rig);
	end(rig);
}

static void garbage_is_dropped(void **state)
{
	struct rig *rig = begin_fixed();

	feed(rig, "GET / HTTP/1.1\r\n\r\n", 18);
	assert_failed(rig);
	end(rig);
}

static void time_is_limited(void **state)
{
	struct rig *rig = begin_fixed();

	assert_int_equal(handshake_deadline_ms(rig->h), 11000);
	handshake_tick(rig->h, 10999);
	assert_talking(rig);
	handshake_tick(rig->h, 11000);
	assert_failed(rig);
	end(rig);
}

/* Cut anywhere, it is the same; and what follows GO is handed on. */
static void bytes_may_come_one_by_one(void **state)
{
	uint8_t all[256];
	size_t len = 0, portion;
	struct nbd_option_header sr = { be64_put(NBD_OPTION_MAGIC),
					be32_put(NBD_OPT_STRUCTURED_REPLY), be32_put(0) };
	struct nbd_option_header go = { be64_put(NBD_OPTION_MAGIC), be32_put(NBD_OPT_GO),
					be32_put(10) };

	memcpy(all, "\0\0\0\3", 4);
	memcpy(all + 4, &sr, 16);
	memcpy(all + 20, &go, 16);
	memcpy(all + 36, "\0\0\0\4demo\0\0", 10);
	memcpy(all + 46, "next", 4);
	len = 50;
	for (portion = 1; portion <= len; portion++) {
		struct rig *rig = begin();
		struct handshake_result result;

		feed_by(rig, all, len, portion);
		assert_int_equal(handshake_state(rig->h), HANDSHAKE_READY);
		expect(rig, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK);
		expect_info_export(rig, NBD_OPT_GO);
		handshake_get_result(rig->h, &result);
		assert_true(result.structured);
		assert_string_equal(result.name.volume, "demo");
		if (portion == len) {
			assert_int_equal(result.in_len, 4);
			assert_memory_equal(result.in, "next", 4);
		}
		end(rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lengths_that_lie_are_invalid),
		cmocka_unit_test(huge_payloads_are_not_kept),
		cmocka_unit_test(endless_options_are_dropped),
		cmocka_unit_test(a_client_that_does_not_read_is_held_back),
		cmocka_unit_test(garbage_is_dropped),
		cmocka_unit_test(time_is_limited),
		cmocka_unit_test(bytes_may_come_one_by_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
