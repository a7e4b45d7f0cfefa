/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The handshake, bytes in and bytes out: meta contexts. */
#include "tests/blockd/handshake_rig.h"

static unsigned contexts_after_go(struct rig *rig, const char *name)
{
	struct handshake_result result;

	option_go(rig, NBD_OPT_GO, name, NULL, 0);
	assert_int_equal(handshake_state(rig->h), HANDSHAKE_READY);
	handshake_get_result(rig->h, &result);
	end(rig);
	return result.contexts;
}

static void set_context(struct rig *rig, const char *name, const char *query)
{
	option_queries(rig, NBD_OPT_SET_META_CONTEXT, name, &query, 1);
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
	option_queries(rig, NBD_OPT_SET_META_CONTEXT, "demo", NULL, 0); /* zero queries: none */
	assert_int_equal(contexts_after_go(rig, "demo"), 0);
}

static void wildcards_list_but_do_not_select(void **state)
{
	const char *bare = "base:";
	struct rig *rig = begin_structured();

	option_queries(rig, NBD_OPT_LIST_META_CONTEXT, "demo", &bare, 1);
	expect_allocation(rig, NBD_OPT_LIST_META_CONTEXT, false);
	set_context(rig, "demo", bare);
	expect(rig, NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK);
	expect_nothing(rig);
	set_context(rig, "demo", "qemu:");
	expect(rig, NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK);
	expect_nothing(rig);
	assert_int_equal(contexts_after_go(rig, "demo"), 0);
}

static void expect_contexts(struct rig *rig, uint32_t number, unsigned set)
{
	static const char *const names[] = { "base:allocation", "qemu:allocation-depth",
					     "x-ashlar:shared" };
	uint32_t ids[3] = { 0 };
	unsigned i;

	for (i = 0; i < 3; i++) {
		struct cursor c;

		if (!(set >> i & 1))
			continue;
		c = expect(rig, number, NBD_REP_META_CONTEXT);
		ids[i] = cursor_be32(&c);
		assert_int_equal(!!ids[i], number == NBD_OPT_SET_META_CONTEXT);
		assert_int_equal(cursor_left(&c), strlen(names[i]));
		assert_memory_equal(c.at, names[i], strlen(names[i]));
		assert_true(!ids[i] || !i || (ids[i] != ids[0] && ids[i] != ids[i - 1]));
	}
	expect(rig, number, NBD_REP_ACK);
	expect_nothing(rig);
}

static void every_namespace_has_its_wildcard(void **state)
{
	static const char *const queries[] = { "base:", "qemu:", "x-ashlar:" };
	const char *both[] = { "x-ashlar:", "nosuch:", "qemu:allocation-depth", "x-ashlar:shared" };
	struct rig *rig = begin_structured();
	unsigned i;

	for (i = 0; i < 3; i++) {
		const char *query = queries[i];

		option_queries(rig, NBD_OPT_LIST_META_CONTEXT, "demo", &query, 1);
		expect_contexts(rig, NBD_OPT_LIST_META_CONTEXT, 1u << i);
	}
	option_queries(rig, NBD_OPT_LIST_META_CONTEXT, "demo", both, 4);
	expect_contexts(rig, NBD_OPT_LIST_META_CONTEXT, 6);
	option_queries(rig, NBD_OPT_LIST_META_CONTEXT, "demo", NULL, 0); /* no query: all */
	expect_contexts(rig, NBD_OPT_LIST_META_CONTEXT, 7);
	end(rig);
}

static void several_contexts_are_selected_together(void **state)
{
	const char *queries[] = { "x-ashlar:shared", "base:allocation", "qemu:allocation-depth" };
	struct rig *rig = begin_structured();

	option_queries(rig, NBD_OPT_SET_META_CONTEXT, "demo", queries, 2);
	expect_contexts(rig, NBD_OPT_SET_META_CONTEXT, 5);
	option_queries(rig, NBD_OPT_SET_META_CONTEXT, "demo", queries, 3);
	expect_contexts(rig, NBD_OPT_SET_META_CONTEXT, 7);
	assert_int_equal(contexts_after_go(rig, "demo"), CONTEXTS_ALL);
}

static void unknown_contexts_are_ignored(void **state)
{
	const char *queries[] = { "qemu:dirty-bitmap:x", "base:nosuch",	   "nocolon", "x-foo:", "",
				  "base:allocation",	 "base:allocation" };
	struct rig *rig = begin_structured();

	option_queries(rig, NBD_OPT_SET_META_CONTEXT, "demo", queries, 5);
	expect(rig, NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK);
	expect_nothing(rig);
	option_queries(rig, NBD_OPT_SET_META_CONTEXT, "demo", queries, 7); /* named twice: once */
	expect_allocation(rig, NBD_OPT_SET_META_CONTEXT, true);
	option_queries(rig, NBD_OPT_LIST_META_CONTEXT, "nosuch", queries, 7);
	expect(rig, NBD_OPT_LIST_META_CONTEXT, NBD_REP_ERR_UNKNOWN);
	end(rig);
}

/* ---- dirty bitmaps ---- */

static uint32_t expect_context(struct rig *rig, uint32_t number, const char *name)
{
	struct cursor c = expect(rig, number, NBD_REP_META_CONTEXT);
	uint32_t id = cursor_be32(&c);

	assert_int_equal(cursor_left(&c), strlen(name));
	assert_memory_equal(c.at, name, strlen(name));
	return id;
}

static void bitmaps_are_selected_and_opened(void **state)
{
	const char *queries[] = { "qemu:dirty-bitmap:snap1",  "base:allocation",
				  "qemu:dirty-bitmap:nosuch", "qemu:dirty-bitmap:",
				  "qemu:dirty-bitmap:snap0",  "qemu:dirty-bitmap:snap1" };
	struct rig *rig = begin_structured();
	struct handshake_result result;
	uint32_t ids[3];

	rig->base_total = 3;
	option_queries(rig, NBD_OPT_SET_META_CONTEXT, "demo", queries, 6);
	ids[0] = expect_context(rig, NBD_OPT_SET_META_CONTEXT, "base:allocation");
	ids[1] = expect_context(rig, NBD_OPT_SET_META_CONTEXT, queries[0]);
	ids[2] = expect_context(rig, NBD_OPT_SET_META_CONTEXT, queries[4]);
	expect(rig, NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK);
	expect_nothing(rig);
	assert_int_equal(ids[0], context_id(CONTEXT_ALLOCATION));
	assert_int_equal(ids[1], context_id(CONTEXT_COUNT));
	assert_int_equal(ids[2], context_id(CONTEXT_COUNT + 1));
	assert_int_equal(rig->opens, 0);
	assert_int_equal(rig->base_finds, 1); /* all at once */
	option_go(rig, NBD_OPT_GO, "demo", NULL, 0);
	assert_int_equal(handshake_state(rig->h), HANDSHAKE_READY);
	handshake_get_result(rig->h, &result);
	assert_int_equal(result.contexts, 1u << CONTEXT_ALLOCATION | CONTEXTS_BITMAPS(2));
	assert_int_equal(rig->opened_count, 2);
	assert_int_equal(rig->opened[0].id, 101);
	assert_string_equal(rig->opened[1].name, "snap0");
	end(rig);
}

static void bitmaps_of_another_name_are_not_opened(void **state)
{
	const char *query = "qemu:dirty-bitmap:snap0";
	struct rig *rig = begin_structured();

	rig->base_total = 1;
	option_queries(rig, NBD_OPT_SET_META_CONTEXT, "demo", &query, 1);
	assert_int_equal(contexts_after_go(rig, "pool/other"), 0);

	rig = begin_structured();
	rig->base_total = 1;
	option_queries(rig, NBD_OPT_SET_META_CONTEXT, "demo", &query, 1);
	option_go(rig, NBD_OPT_GO, "pool/other", NULL, 0);
	assert_int_equal(rig->opened_count, 0);
	end(rig);

	rig = begin_structured();
	rig->base_total = 1;
	option_queries(rig, NBD_OPT_SET_META_CONTEXT, "demo", &query, 1);
	option_queries(rig, NBD_OPT_SET_META_CONTEXT, "demo", NULL, 0);
	option_go(rig, NBD_OPT_GO, "demo", NULL, 0);
	assert_int_equal(rig->opened_count, 0);
	end(rig);
}

/* The client has been told that it has the context: it cannot be left out silently. */
static void a_base_deleted_before_go_refuses_it(void **state)
{
	const char *query = "qemu:dirty-bitmap:snap0";
	struct rig *rig = begin_structured();

	rig->base_total = 1;
	option_queries(rig, NBD_OPT_SET_META_CONTEXT, "demo", &query, 1);
	expect_context(rig, NBD_OPT_SET_META_CONTEXT, query);
	expect(rig, NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK);
	rig->bases_gone = true;
	option_go(rig, NBD_OPT_GO, "demo", NULL, 0);
	expect(rig, NBD_OPT_GO, NBD_REP_ERR_UNKNOWN);
	assert_talking(rig);
	option_queries(rig, NBD_OPT_SET_META_CONTEXT, "demo", NULL, 0);
	assert_int_equal(contexts_after_go(rig, "demo"), 0);
}

static void too_many_bitmaps_are_too_big(void **state)
{
	char texts[CONTEXTS_BITMAP_MAX + 1][40];
	const char *queries[CONTEXTS_BITMAP_MAX + 1];
	struct rig *rig = begin_structured();
	unsigned i;

	rig->base_total = 100;
	for (i = 0; i <= CONTEXTS_BITMAP_MAX; i++) {
		snprintf(texts[i], sizeof(texts[i]), "qemu:dirty-bitmap:snap%u", i);
		queries[i] = texts[i];
	}
	option_queries(rig, NBD_OPT_SET_META_CONTEXT, "demo", queries, CONTEXTS_BITMAP_MAX);
	for (i = 0; i < CONTEXTS_BITMAP_MAX; i++)
		expect_context(rig, NBD_OPT_SET_META_CONTEXT, texts[i]);
	expect(rig, NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK);
	option_queries(rig, NBD_OPT_SET_META_CONTEXT, "demo", queries, CONTEXTS_BITMAP_MAX + 1);
	expect(rig, NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_TOO_BIG);
	option_queries(rig, NBD_OPT_LIST_META_CONTEXT, "demo", queries, CONTEXTS_BITMAP_MAX + 1);
	expect(rig, NBD_OPT_LIST_META_CONTEXT, NBD_REP_ERR_TOO_BIG);
	expect_nothing(rig);
	assert_int_equal(contexts_after_go(rig, "demo"), 0); /* the old selection went too */
}

static void list_bitmaps(struct rig *rig, const char *query, unsigned count, bool more)
{
	unsigned i;
	char want[40];

	option_queries(rig, NBD_OPT_LIST_META_CONTEXT, "demo", &query, 1);
	if (!strcmp(query, "qemu:"))
		assert_int_equal(
			expect_context(rig, NBD_OPT_LIST_META_CONTEXT, "qemu:allocation-depth"), 0);
	for (i = 0; i < count; i++) {
		snprintf(want, sizeof(want), "qemu:dirty-bitmap:snap%u", i);
		assert_int_equal(expect_context(rig, NBD_OPT_LIST_META_CONTEXT, want), 0);
	}
	if (more)
		expect_context(rig, NBD_OPT_LIST_META_CONTEXT, "qemu:dirty-bitmap:");
	expect(rig, NBD_OPT_LIST_META_CONTEXT, NBD_REP_ACK);
	expect_nothing(rig);
}

/* Who asks for them gets all; who asks for everything gets some, and a hint how to get more. */
static void bitmaps_are_listed_however_many(void **state)
{
	static const unsigned totals[] = { 0, 1, 15, 16, 17, 64, 65, 5000 };
	struct rig *rig = begin_structured();
	size_t i;

	for (i = 0; i < sizeof(totals) / sizeof(totals[0]); i++) {
		rig->base_total = totals[i];
		list_bitmaps(rig, "qemu:dirty-bitmap:", totals[i], false);
		list_bitmaps(rig, "qemu:", totals[i] < 64 ? totals[i] : 64, totals[i] > 64);
	}
	list_bitmaps(rig, "qemu:dirty-bitmap", 0, false); /* no wildcard, no bitmap's name */
	assert_int_equal(rig->opens, 0);
	end(rig);
}

static void one_bitmap_can_be_asked_for(void **state)
{
	const char *queries[] = { "qemu:dirty-bitmap:snap7", "qemu:dirty-bitmap:snap", "base:" };
	struct rig *rig = begin_structured();

	rig->base_total = 100;
	option_queries(rig, NBD_OPT_LIST_META_CONTEXT, "demo", queries, 3);
	expect_context(rig, NBD_OPT_LIST_META_CONTEXT, "base:allocation");
	expect_context(rig, NBD_OPT_LIST_META_CONTEXT, queries[0]);
	expect(rig, NBD_OPT_LIST_META_CONTEXT, NBD_REP_ACK);
	expect_nothing(rig);
	end(rig);
}

/* Names that no snapshot can have: too long for one, with a NUL. */
static void strange_bitmap_names_are_unknown(void **state)
{
	char longest[400] = CONTEXTS_BITMAP_PREFIX;
	const char *query = longest;
	uint8_t option_bytes[4 + 4 + 4 + 4 + 24];
	struct rig *rig = begin_structured();

	rig->base_total = 5;
	memset(longest + strlen(CONTEXTS_BITMAP_PREFIX), 's', 300);
	option_queries(rig, NBD_OPT_SET_META_CONTEXT, "demo", &query, 1);
	expect(rig, NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK);
	memcpy(option_bytes, "\0\0\0\4demo\0\0\0\1\0\0\0\30qemu:dirty-bitmap:snap0\0", 40);
	option(rig, NBD_OPT_SET_META_CONTEXT, option_bytes, 40);
	expect(rig, NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK);
	expect_nothing(rig);
	assert_int_equal(rig->base_finds, 0);
	end(rig);
}

/* A slow reader of a long list holds no more memory than others. */
static void a_list_of_bitmaps_waits_for_room(void **state)
{
	const char *query = "qemu:dirty-bitmap:";
	struct rig *rig = begin_structured();
	const void *from;
	unsigned i;

	rig->base_total = 5000;
	rig->no_send = true;
	option_queries(rig, NBD_OPT_LIST_META_CONTEXT, "demo", &query, 1);
	assert_in_range(handshake_pending(rig->h, &from), 4096, 16384);
	rig->no_send = false;
	pump(rig);
	for (i = 0; i < 5000; i++)
		expect(rig, NBD_OPT_LIST_META_CONTEXT, NBD_REP_META_CONTEXT);
	expect(rig, NBD_OPT_LIST_META_CONTEXT, NBD_REP_ACK);
	rig->no_send = true;
	option_queries(rig, NBD_OPT_LIST_META_CONTEXT, "demo", &query, 1);
	handshake_closed(rig->h);
	assert_int_equal(handshake_state(rig->h), HANDSHAKE_CLOSING);
	end(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(set_context_needs_structured_replies),
		cmocka_unit_test(set_context_selects),
		cmocka_unit_test(contexts_are_bound_to_the_name),
		cmocka_unit_test(set_context_replaces_also_when_it_fails),
		cmocka_unit_test(wildcards_list_but_do_not_select),
		cmocka_unit_test(every_namespace_has_its_wildcard),
		cmocka_unit_test(several_contexts_are_selected_together),
		cmocka_unit_test(unknown_contexts_are_ignored),
		cmocka_unit_test(bitmaps_are_selected_and_opened),
		cmocka_unit_test(bitmaps_of_another_name_are_not_opened),
		cmocka_unit_test(a_base_deleted_before_go_refuses_it),
		cmocka_unit_test(too_many_bitmaps_are_too_big),
		cmocka_unit_test(bitmaps_are_listed_however_many),
		cmocka_unit_test(one_bitmap_can_be_asked_for),
		cmocka_unit_test(strange_bitmap_names_are_unknown),
		cmocka_unit_test(a_list_of_bitmaps_waits_for_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
