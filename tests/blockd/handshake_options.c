/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The handshake, bytes in and bytes out: what clients do with options, what servers get wrong. */
#include "tests/blockd/handshake_rig.h"

static void unknown_client_flags_drop(void **state)
{
	uint32_t bit;

	for (bit = 2; bit < 32; bit++) {
		struct rig *rig = begin();

		flags(rig, NBD_CLIENT_FLAGS_KNOWN | 1u << bit);
		assert_failed(rig);
		end(rig);
	}
}

static void unknown_option_is_unsup_and_skipped(void **state)
{
	static const uint32_t numbers[] = {
		0, 4, NBD_OPT_STARTTLS, NBD_OPT_EXTENDED_HEADERS, 12, 0x7fffffff, 0xffffffff
	};
	uint8_t junk[100000];
	size_t i;

	memset(junk, 'I', sizeof(junk)); /* not to be taken for an option */
	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		struct rig *rig = begin_fixed();

		option(rig, numbers[i], junk, sizeof(junk));
		expect(rig, numbers[i], NBD_REP_ERR_UNSUP);
		option(rig, NBD_OPT_LIST, NULL, 0);
		expect(rig, NBD_OPT_LIST, NBD_REP_ACK);
		expect_nothing(rig);
		end(rig);
	}
}

static void abort_is_acknowledged_also_with_data(void **state)
{
	struct rig *rig = begin_fixed();

	option(rig, NBD_OPT_ABORT, "bye", 3);
	expect(rig, NBD_OPT_ABORT, NBD_REP_ACK);
	assert_int_equal(handshake_state(rig->h), HANDSHAKE_CLOSING);
	end(rig);
}

static void early_close_is_clean(void **state)
{
	struct rig *rig = begin_fixed();

	handshake_closed(rig->h);
	assert_int_equal(handshake_state(rig->h), HANDSHAKE_CLOSING);
	end(rig);
	rig = begin_fixed(); /* while a long answer is on its way */
	rig->no_send = true;
	rig->list_total = 5000;
	option(rig, NBD_OPT_LIST, NULL, 0);
	handshake_closed(rig->h);
	assert_int_equal(handshake_state(rig->h), HANDSHAKE_CLOSING);
	end(rig);
	rig = begin_fixed();
	feed(rig, "IHAV", 4);
	handshake_closed(rig->h);
	assert_failed(rig);
	end(rig);
}

static void list_with_data_is_invalid(void **state)
{
	struct rig *rig = begin_fixed();

	option(rig, NBD_OPT_LIST, "x", 1);
	expect(rig, NBD_OPT_LIST, NBD_REP_ERR_INVALID);
	option(rig, NBD_OPT_STRUCTURED_REPLY, "x", 1);
	expect(rig, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_INVALID);
	expect_nothing(rig);
	assert_talking(rig);
	end(rig);
}

static void list_names_all_however_many(void **state)
{
	struct rig *rig = begin_fixed();
	unsigned i;

	rig->list_total = 5000; /* many times the output buffer */
	option(rig, NBD_OPT_LIST, NULL, 0);
	for (i = 0; i < rig->list_total; i++) {
		struct cursor c = expect(rig, NBD_OPT_LIST, NBD_REP_SERVER);
		char name[32], want[32];

		assert_true(cursor_string(&c, cursor_be32(&c), name, sizeof(name)));
		snprintf(want, sizeof(want), "vol%u", i);
		assert_string_equal(name, want);
		assert_int_equal(cursor_left(&c),
				 i % 2 ? 0 : 6); /* a description, if there is one */
		assert_memory_equal(c.at, "a disk", cursor_left(&c));
	}
	expect(rig, NBD_OPT_LIST, NBD_REP_ACK);
	expect_nothing(rig);
	end(rig);
}

static void export_name_not_granted_drops(void **state)
{
	static const char *const names[] = { "", "nosuch", "locked", "demo;holder=", "demo@snap" };
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct rig *rig = begin_fixed();

		option(rig, NBD_OPT_EXPORT_NAME, names[i], (uint32_t)strlen(names[i]));
		assert_failed(rig);
		expect_nothing(rig);
		end(rig);
	}
}

static void export_name_sends_zeroes_unless_told(void **state)
{
	int no_zeroes;

	for (no_zeroes = 0; no_zeroes < 2; no_zeroes++) {
		struct rig *rig = begin();
		struct cursor c;
		size_t i;

		flags(rig, NBD_FLAG_FIXED_NEWSTYLE | (no_zeroes ? NBD_FLAG_NO_ZEROES : 0));
		option(rig, NBD_OPT_EXPORT_NAME, "demo", 4);
		c = cursor_over(rig->out + rig->out_at, rig->out_len - rig->out_at);
		assert_int_equal(cursor_be64(&c), MIB);
		assert_true(cursor_be16(&c) & NBD_FLAG_HAS_FLAGS);
		assert_int_equal(cursor_left(&c), no_zeroes ? 0 : 124);
		for (i = 0; i < cursor_left(&c); i++)
			assert_int_equal(c.at[i], 0);
		assert_int_equal(handshake_state(rig->h), HANDSHAKE_READY);
		end(rig);
	}
}

static void not_fixed_newstyle_has_only_export_name(void **state)
{
	struct rig *rig = begin();

	flags(rig, 0);
	option(rig, NBD_OPT_LIST, NULL, 0);
	assert_failed(rig);
	end(rig);
	rig = begin();
	flags(rig, 0);
	option(rig, NBD_OPT_EXPORT_NAME, "demo", 4);
	assert_int_equal(handshake_state(rig->h), HANDSHAKE_READY);
	end(rig);
}

static void go_never_sends_zeroes_and_is_strict(void **state)
{
	struct rig *rig = begin();

	flags(rig, NBD_FLAG_FIXED_NEWSTYLE); /* without NO_ZEROES */
	option_go(rig, NBD_OPT_GO, "demo", NULL, 0);
	expect_info_export(rig, NBD_OPT_GO);
	expect(rig, NBD_OPT_GO, NBD_REP_ACK);
	expect_nothing(rig);
	assert_int_equal(handshake_state(rig->h), HANDSHAKE_READY);
	end(rig);
}

static void info_predicts_go_and_changes_nothing(void **state)
{
	static const uint16_t infos[] = { NBD_INFO_BLOCK_SIZE,	NBD_INFO_NAME, 77,
					  NBD_INFO_DESCRIPTION, 0xffff,	       NBD_INFO_NAME };
	static const char *const names[] = { "demo", "demo;ro", "pool/other" };
	size_t i, from, len;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct rig *rig = begin_fixed();
		uint8_t first[1024];

		from = rig->out_at;
		option_go(rig, NBD_OPT_INFO, names[i], infos, 6);
		len = rig->out_len - from;
		assert_int_equal(rig->opens, 0);
		assert_talking(rig);
		memcpy(first, rig->out + from, len);
		from = rig->out_len;
		option_go(rig, NBD_OPT_GO, names[i], infos, 6);
		assert_int_equal(rig->opens, 1);
		/* The same but for the option's number in each reply (bytes 8 to 11). */
		assert_int_equal(rig->out_len - from, len);
		expect_info_export(rig, NBD_OPT_INFO);
		for (size_t at = 0; at < len;) {
			be32_t part;

			memcpy(&part, first + at + 16, 4);
			assert_memory_equal(first + at, rig->out + from + at, 8);
			assert_memory_equal(first + at + 12, rig->out + from + at + 12,
					    8 + be32_get(part));
			at += 20 + be32_get(part);
		}
		end(rig);
	}
}

static void infos_are_given_as_asked(void **state)
{
	static const uint16_t infos[] = { NBD_INFO_NAME, NBD_INFO_DESCRIPTION, NBD_INFO_BLOCK_SIZE,
					  9, 0x8000 };
	struct rig *rig = begin_fixed();
	struct cursor c;

	option_go(rig, NBD_OPT_INFO, "demo", infos, 5);
	expect_info_export(rig, NBD_OPT_INFO);
	c = expect(rig, NBD_OPT_INFO, NBD_REP_INFO);
	assert_int_equal(cursor_be16(&c), NBD_INFO_NAME);
	assert_memory_equal(c.at, "pool/demo", cursor_left(&c));
	c = expect(rig, NBD_OPT_INFO, NBD_REP_INFO);
	assert_int_equal(cursor_be16(&c), NBD_INFO_DESCRIPTION);
	assert_memory_equal(c.at, "a disk", cursor_left(&c));
	c = expect(rig, NBD_OPT_INFO, NBD_REP_INFO);
	assert_int_equal(cursor_be16(&c), NBD_INFO_BLOCK_SIZE);
	assert_int_equal(cursor_be32(&c), 1);
	assert_int_equal(cursor_be32(&c), 4096);
	assert_int_equal(cursor_be32(&c), 32u << 20);
	expect(rig, NBD_OPT_INFO, NBD_REP_ACK);
	expect_nothing(rig);
	end(rig);
}

static void flags_follow_what_was_negotiated(void **state)
{
	struct rig *rig = begin_fixed();
	uint16_t got;

	option_go(rig, NBD_OPT_INFO, "demo", NULL, 0);
	got = expect_info_export(rig, NBD_OPT_INFO);
	assert_false(got & NBD_FLAG_SEND_DF);
	assert_false(got & NBD_FLAG_READ_ONLY);
	assert_true(got & NBD_FLAG_CAN_MULTI_CONN);
	assert_true(got & NBD_FLAG_SEND_FAST_ZERO);
	expect(rig, NBD_OPT_INFO, NBD_REP_ACK);
	option(rig, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	expect(rig, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK);
	option_go(rig, NBD_OPT_GO, "demo;ro", NULL, 0);
	got = expect_info_export(rig, NBD_OPT_GO);
	assert_true(got & NBD_FLAG_SEND_DF);
	assert_true(got & NBD_FLAG_READ_ONLY);
	assert_true(got & NBD_FLAG_CAN_MULTI_CONN);
	assert_false(got & NBD_FLAG_SEND_WRITE_ZEROES);
	assert_false(got & NBD_FLAG_SEND_FAST_ZERO);
	end(rig);
}

static void names_that_are_no_exports_are_unknown(void **state)
{
	static const char *const names[] = {
		"",
		"nosuch",
		"demo;",
		"demo;rw",
		"demo;standbyx",
		"demo;holder",
		"demo;;ro",
		"demo@monday",
		"/demo",
		"pool/",
		"a/b/demo",
		";ro",
		"nopool/demo2",
	};
	struct rig *rig = begin_fixed();
	char longest[NBD_STRING_MAX + 1];
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		option_go(rig, NBD_OPT_GO, names[i], NULL, 0);
		expect(rig, NBD_OPT_GO, NBD_REP_ERR_UNKNOWN);
	}
	memset(longest, 'x', NBD_STRING_MAX);
	longest[NBD_STRING_MAX] = '\0';
	option_go(rig, NBD_OPT_GO, longest, NULL, 0);
	expect(rig, NBD_OPT_GO, NBD_REP_ERR_UNKNOWN);
	expect_nothing(rig);
	/* None of this has hurt. */
	option_go(rig, NBD_OPT_GO, "demo", NULL, 0);
	assert_int_equal(handshake_state(rig->h), HANDSHAKE_READY);
	end(rig);
}

/* What is refused by policy says why. */
static void locks_are_refused_by_policy(void **state)
{
	struct rig *rig = begin_fixed();

	for (int go = 0; go < 2; go++) {
		char text[256] = "";
		struct cursor c;

		option_go(rig, go ? NBD_OPT_GO : NBD_OPT_INFO, "locked", NULL, 0);
		c = expect(rig, go ? NBD_OPT_GO : NBD_OPT_INFO, NBD_REP_ERR_POLICY);
		assert_true(cursor_string(&c, cursor_left(&c), text, sizeof(text)));
		assert_non_null(strstr(text, "held by someone else"));
	}
	assert_talking(rig);
	assert_int_equal(rig->opens, 1); /* by GO; INFO only asks */
	end(rig);
}

/* Whom a name says the client is, and how it wants the lock. */
static void names_have_lock_options(void **state)
{
	static const struct {
		const char *name, *holder;
		bool standby, single, read_only;
	} good[] = {
		{ "demo;holder=7f1a", "7f1a", false, false, false },
		{ "demo;holder=a:b.c_d-E;single", "a:b.c_d-E", false, true, false },
		{ "demo;standby", "", true, false, false },
		{ "demo;standby;holder=x;ro", "x", true, false, true },
	};
	static const char *const bad[] = { "demo;holder=",     "demo;holder=a b", "demo;holder=a/b",
					   "demo;holder=\xc3", "demo;single=1" };
	struct export_name name;
	struct err err = { 0 };
	char longest[100];

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(
			export_name_parse(good[i].name, strlen(good[i].name), &name, &err), 0);
		assert_string_equal(name.holder, good[i].holder);
		assert_int_equal(name.standby, good[i].standby);
		assert_int_equal(name.single, good[i].single);
		assert_int_equal(name.read_only, good[i].read_only);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(export_name_parse(bad[i], strlen(bad[i]), &name, &err), -ENOENT);
	snprintf(longest, sizeof(longest), "demo;holder=%065d", 1);
	assert_int_equal(export_name_parse(longest, strlen(longest), &name, &err), -ENOENT);
	longest[12 + 64] = 0;
	assert_int_equal(export_name_parse(longest, strlen(longest), &name, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unknown_client_flags_drop),
		cmocka_unit_test(unknown_option_is_unsup_and_skipped),
		cmocka_unit_test(abort_is_acknowledged_also_with_data),
		cmocka_unit_test(early_close_is_clean),
		cmocka_unit_test(list_with_data_is_invalid),
		cmocka_unit_test(list_names_all_however_many),
		cmocka_unit_test(export_name_not_granted_drops),
		cmocka_unit_test(export_name_sends_zeroes_unless_told),
		cmocka_unit_test(not_fixed_newstyle_has_only_export_name),
		cmocka_unit_test(go_never_sends_zeroes_and_is_strict),
		cmocka_unit_test(info_predicts_go_and_changes_nothing),
		cmocka_unit_test(infos_are_given_as_asked),
		cmocka_unit_test(flags_follow_what_was_negotiated),
		cmocka_unit_test(names_that_are_no_exports_are_unknown),
		cmocka_unit_test(locks_are_refused_by_policy),
		cmocka_unit_test(names_have_lock_options),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
