/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The handshake, bytes in and bytes out: what clients do, what servers get wrong (doc/proto.md),
 * what attackers send.  Two exports: "demo" (1 MiB) and "pool/other"; "locked" is refused by
 * policy.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "blockd/nbd/contexts.h"
#include "blockd/nbd/handshake.h"
#include "blockd/nbd/wire.h"
#include "common/base/cursor.h"

#define MIB (1ull << 20)

struct rig {
	struct handshake *h;
	int finds, opens;
	unsigned list_total;
	uint8_t out[1 << 20];
	size_t out_len, out_at;
	bool no_send; /* the client does not read */
};

static int answer(struct rig *rig, const struct export_name *name, struct handshake_export *export,
		  struct err *err)
{
	if (!strcmp(name->volume, "locked"))
		return err_set(err, -EACCES, "held by someone else");
	if (strcmp(name->volume, "demo") &&
	    (strcmp(name->volume, "other") || strcmp(name->pool, "pool")))
		return err_set(err, -ENOENT, "no such export");
	export->size_bytes = MIB;
	snprintf(export->name, sizeof(export->name), "pool/%s", name->volume);
	snprintf(export->description, sizeof(export->description), "a disk");
	return 0;
}

static int rig_find(void *user, const struct export_name *name, struct handshake_export *export,
		    struct err *err)
{
	struct rig *rig = user;

	rig->finds++;
	return answer(rig, name, export, err);
}

static int rig_open(void *user, const struct export_name *name, struct handshake_export *export,
		    struct err *err)
{
	struct rig *rig = user;

	rig->opens++;
	return answer(rig, name, export, err);
}

static size_t rig_list(void *user, struct handshake_list *list,
		       char names[HANDSHAKE_LIST_BATCH][EXPORT_NAME_MAX + 1])
{
	struct rig *rig = user;
	size_t count = 0;

	while (count < HANDSHAKE_LIST_BATCH && list->pool_index < rig->list_total)
		snprintf(names[count++], EXPORT_NAME_MAX + 1, "vol%u", list->pool_index++);
	return count;
}

static const struct handshake_ops ops = { rig_find, rig_open, rig_list };

static void pump(struct rig *rig)
{
	const void *from;
	size_t len;

	while (!rig->no_send && (len = handshake_pending(rig->h, &from))) {
		assert_true(rig->out_len + len <= sizeof(rig->out));
		memcpy(rig->out + rig->out_len, from, len);
		rig->out_len += len;
		handshake_sent(rig->h, len);
	}
}

/* Bytes from the client, in portions of `portion`. */
static void feed_by(struct rig *rig, const void *data, size_t len, size_t portion)
{
	const uint8_t *at = data;

	while (len && handshake_state(rig->h) == HANDSHAKE_TALKING) {
		void *to;
		size_t room = handshake_room(rig->h, &to);
		size_t part = len < portion ? len : portion;

		if (part > room)
			part = room;
		if (!part)
			break;
		memcpy(to, at, part);
		handshake_received(rig->h, part);
		pump(rig);
		at += part;
		len -= part;
	}
}

static void feed(struct rig *rig, const void *data, size_t len)
{
	feed_by(rig, data, len, SIZE_MAX);
}

static void flags(struct rig *rig, uint32_t value)
{
	be32_t raw = be32_put(value);

	feed(rig, &raw, sizeof(raw));
}

static void option(struct rig *rig, uint32_t number, const void *data, uint32_t len)
{
	struct nbd_option_header header = { be64_put(NBD_OPTION_MAGIC), be32_put(number),
					    be32_put(len) };

	feed(rig, &header, sizeof(header));
	feed(rig, data, len);
}

/* INFO or GO for `name` with `count` info requests. */
static void option_go(struct rig *rig, uint32_t number, const char *name, const uint16_t *infos,
		      uint16_t count)
{
	uint8_t data[8192];
	size_t at = 0, i;
	be32_t len = be32_put((uint32_t)strlen(name));
	be16_t n = be16_put(count);

	memcpy(data, &len, 4);
	memcpy(data + 4, name, strlen(name));
	at = 4 + strlen(name);
	memcpy(data + at, &n, 2);
	at += 2;
	for (i = 0; i < count; i++, at += 2) {
		be16_t info = be16_put(infos[i]);

		memcpy(data + at, &info, 2);
	}
	option(rig, number, data, (uint32_t)at);
}

static void option_meta(struct rig *rig, uint32_t number, const char *name, const char **queries,
			uint32_t count)
{
	uint8_t data[8192];
	size_t at = 0, i;
	be32_t raw = be32_put((uint32_t)strlen(name));

	memcpy(data, &raw, 4);
	memcpy(data + 4, name, strlen(name));
	at = 4 + strlen(name);
	raw = be32_put(count);
	memcpy(data + at, &raw, 4);
	at += 4;
	for (i = 0; i < count; i++) {
		raw = be32_put((uint32_t)strlen(queries[i]));
		memcpy(data + at, &raw, 4);
		memcpy(data + at + 4, queries[i], strlen(queries[i]));
		at += 4 + strlen(queries[i]);
	}
	option(rig, number, data, (uint32_t)at);
}

/* The next reply must be this; returns its data. */
static struct cursor expect(struct rig *rig, uint32_t number, uint32_t type)
{
	struct cursor c = cursor_over(rig->out + rig->out_at, rig->out_len - rig->out_at), data;

	assert_int_equal(cursor_be64(&c), NBD_OPT_REPLY_MAGIC);
	assert_int_equal(cursor_be32(&c), number);
	assert_int_equal(cursor_be32(&c), type);
	data = cursor_sub(&c, cursor_be32(&c));
	assert_true(cursor_ok(&c));
	rig->out_at = (size_t)(c.at - rig->out);
	return data;
}

static void expect_nothing(const struct rig *rig)
{
	assert_int_equal(rig->out_at, rig->out_len);
}

static uint16_t expect_info_export(struct rig *rig, uint32_t number)
{
	struct cursor c = expect(rig, number, NBD_REP_INFO);

	assert_int_equal(cursor_left(&c), 12);
	assert_int_equal(cursor_be16(&c), NBD_INFO_EXPORT);
	assert_int_equal(cursor_be64(&c), MIB);
	return cursor_be16(&c);
}

static struct rig *begin(void)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	struct cursor c;

	rig->h = handshake_new(&ops, rig, 1000, 10000);
	assert_non_null(rig->h);
	pump(rig);
	c = cursor_over(rig->out, rig->out_len);
	assert_int_equal(cursor_be64(&c), NBD_MAGIC);
	assert_int_equal(cursor_be64(&c), NBD_OPTION_MAGIC);
	assert_int_equal(cursor_be16(&c), NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	assert_true(cursor_done(&c));
	rig->out_at = rig->out_len;
	return rig;
}

static struct rig *begin_fixed(void)
{
	struct rig *rig = begin();

	flags(rig, NBD_CLIENT_FLAGS_KNOWN);
	return rig;
}

static void end(struct rig *rig)
{
	handshake_free(rig->h);
	free(rig);
}

static void assert_talking(const struct rig *rig)
{
	assert_int_equal(handshake_state(rig->h), HANDSHAKE_TALKING);
}

static void assert_failed(const struct rig *rig)
{
	assert_int_equal(handshake_state(rig->h), HANDSHAKE_FAILED);
	assert_true(handshake_reason(rig->h)[0]);
}

/* ---- what servers get wrong ---- */

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
	}
	expect(rig, NBD_OPT_LIST, NBD_REP_ACK);
	expect_nothing(rig);
	end(rig);
}

static void export_name_not_granted_drops(void **state)
{
	static const char *const names[] = { "", "nosuch", "locked", "demo;holder=1", "demo@snap" };
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
		"demo;ro;holder=7",
		"demo;standby",
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
	option_go(rig, NBD_OPT_GO, "locked", NULL, 0);
	expect(rig, NBD_OPT_GO, NBD_REP_ERR_POLICY);
	expect_nothing(rig);
	/* None of this has hurt. */
	option_go(rig, NBD_OPT_GO, "demo", NULL, 0);
	assert_int_equal(handshake_state(rig->h), HANDSHAKE_READY);
	end(rig);
}

/* ---- meta contexts ---- */

static unsigned contexts_after_go(struct rig *rig, const char *name)
{
	struct handshake_result result;

	option_go(rig, NBD_OPT_GO, name, NULL, 0);
	assert_int_equal(handshake_state(rig->h), HANDSHAKE_READY);
	handshake_get_result(rig->h, &result);
	end(rig);
	return result.contexts;
}

static struct rig *begin_structured(void)
{
	struct rig *rig = begin_fixed();

	option(rig, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	expect(rig, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK);
	return rig;
}

static void set_context(struct rig *rig, const char *name, const char *query)
{
	option_meta(rig, NBD_OPT_SET_META_CONTEXT, name, &query, 1);
}

static void expect_allocation(struct rig *rig, uint32_t number, bool id)
{
	struct cursor c = expect(rig, number, NBD_REP_META_CONTEXT);

	assert_int_equal(!!cursor_be32(&c), id);
	assert_int_equal(cursor_left(&c), 15);
	assert_memory_equal(c.at, "base:allocation", 15);
	expect(rig, number, NBD_REP_ACK);
	expect_nothing(rig);
}

static void set_context_needs_structured_replies(void **state)
{
	struct rig *rig = begin_fixed();

	set_context(rig, "demo", "base:allocation");
	expect(rig, NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_INVALID);
	expect_nothing(rig);
	assert_int_equal(contexts_after_go(rig, "demo"), 0);
}

static void set_context_selects(void **state)
{
	struct rig *rig = begin_structured();

	set_context(rig, "demo", "base:allocation");
	expect_allocation(rig, NBD_OPT_SET_META_CONTEXT, true);
	assert_int_equal(contexts_after_go(rig, "demo"), 1u << CONTEXT_ALLOCATION);
}

static void contexts_are_bound_to_the_name(void **state)
{
	struct rig *rig = begin_structured();

	set_context(rig, "demo", "base:allocation");
	expect_allocation(rig, NBD_OPT_SET_META_CONTEXT, true);
	assert_int_equal(contexts_after_go(rig, "pool/other"), 0);
}

static void set_context_replaces_also_when_it_fails(void **state)
{
	const char *query = "base:allocation";
	struct rig *rig = begin_structured();

	set_context(rig, "demo", query);
	expect_allocation(rig, NBD_OPT_SET_META_CONTEXT, true);
	set_context(rig, "nosuch", query);
	expect(rig, NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_UNKNOWN);
	assert_int_equal(contexts_after_go(rig, "demo"), 0);

	rig = begin_structured();
	set_context(rig, "demo", query);
	option(rig, NBD_OPT_SET_META_CONTEXT, "\0\0\0\x7f", 4); /* malformed */
	assert_int_equal(contexts_after_go(rig, "demo"), 0);

	rig = begin_structured();
	set_context(rig, "demo", query);
	option_meta(rig, NBD_OPT_SET_META_CONTEXT, "demo", NULL, 0); /* zero queries: none */
	assert_int_equal(contexts_after_go(rig, "demo"), 0);
}

static void wildcards_list_but_do_not_select(void **state)
{
	const char *bare = "base:";
	struct rig *rig = begin_structured();

	option_meta(rig, NBD_OPT_LIST_META_CONTEXT, "demo", &bare, 1);
	expect_allocation(rig, NBD_OPT_LIST_META_CONTEXT, false);
	option_meta(rig, NBD_OPT_LIST_META_CONTEXT, "demo", NULL, 0);
	expect_allocation(rig, NBD_OPT_LIST_META_CONTEXT, false);
	set_context(rig, "demo", bare);
	expect(rig, NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK);
	expect_nothing(rig);
	assert_int_equal(contexts_after_go(rig, "demo"), 0);
}

static void unknown_contexts_are_ignored(void **state)
{
	const char *queries[] = { "qemu:dirty-bitmap:x", "base:nosuch",	   "nocolon", "x-foo:", "",
				  "base:allocation",	 "base:allocation" };
	struct rig *rig = begin_structured();

	option_meta(rig, NBD_OPT_SET_META_CONTEXT, "demo", queries, 5);
	expect(rig, NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK);
	expect_nothing(rig);
	option_meta(rig, NBD_OPT_SET_META_CONTEXT, "demo", queries, 7); /* named twice: once */
	expect_allocation(rig, NBD_OPT_SET_META_CONTEXT, true);
	option_meta(rig, NBD_OPT_LIST_META_CONTEXT, "nosuch", queries, 7);
	expect(rig, NBD_OPT_LIST_META_CONTEXT, NBD_REP_ERR_UNKNOWN);
	end(rig);
}

/* ---- hostile ---- */

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
		cmocka_unit_test(set_context_needs_structured_replies),
		cmocka_unit_test(set_context_selects),
		cmocka_unit_test(contexts_are_bound_to_the_name),
		cmocka_unit_test(set_context_replaces_also_when_it_fails),
		cmocka_unit_test(wildcards_list_but_do_not_select),
		cmocka_unit_test(unknown_contexts_are_ignored),
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
