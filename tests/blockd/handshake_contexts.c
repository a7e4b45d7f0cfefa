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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
