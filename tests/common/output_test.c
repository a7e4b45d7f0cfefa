/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A list that comes in pieces is printed as if it had come whole, as text and as JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/daemon/output.h"

#define ROWS 7u

static const struct output_column columns[] = {
	{ "name", "NAME", OUTPUT_TEXT },
	{ "size", "SIZE", OUTPUT_SIZE },
	{ "tags", "TAGS", OUTPUT_TEXT },
	{ NULL },
};

/* What could be taken for the end of a list, or be wider than what came before. */
static json_t *make_rows(void)
{
	return json_pack("[{s:s, s:i, s:[]}, {}, {s:s, s:{s:[i, i]}}, {s:s, s:[s, s]}, {s:n}, "
			 "{s:s, s:I}, {s:[{}, []]}]",
			 "name", "a", "size", 5, "tags", "name", "]\n}", "tags", "x", 1, 2, "name",
			 "\xc3\xa4 and a name that is wider", "tags", "]", "\n]", "name", "name",
			 "last but one", "size", (json_int_t)10 << 30, "tags");
}

/* `split` has a bit for each place at which a piece ends. */
static char *in_pieces(json_t *rows, bool json, const char *member, unsigned split)
{
	char *text = NULL;
	size_t len, i;
	FILE *f = open_memstream(&text, &len);
	struct output *o = output_new(f, json);
	struct output_list *list = output_list_new(o, columns, member, "nothing");
	json_t *piece = json_array(), *row;

	assert_non_null(list);
	json_array_foreach(rows, i, row)
	{
		(void)json_array_append(piece, row);
		if (split & 1u << i) {
			output_list_add(list, piece);
			(void)json_array_clear(piece);
		}
	}
	output_list_add(list, piece);
	output_list_end(list, true);
	assert_int_equal(output_finish(o), 0);
	output_free(o);
	json_decref(piece);
	fclose(f);
	return text;
}

static char *whole_json(json_t *rows, const char *member)
{
	json_t *all = member ? json_pack("{s:O}", member, rows) : json_incref(rows);
	char *text = json_dumps(all, JSON_INDENT(2)), *line;

	assert_int_not_equal(asprintf(&line, "%s\n", text), -1);
	free(text);
	json_decref(all);
	return line;
}

static char *whole_table(json_t *rows)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	struct output *o = output_new(f, false);

	output_table(o, rows, columns, "nothing");
	output_free(o);
	fclose(f);
	return text;
}

static void expect(json_t *rows, bool json, const char *member)
{
	char *whole = json ? whole_json(rows, member) : whole_table(rows);

	for (unsigned split = 0; split < 1u << ROWS; split++) {
		char *text = in_pieces(rows, json, member, split);

		assert_string_equal(text, whole);
		free(text);
	}
	free(whole);
}

static void test_rows(void **state)
{
	json_t *rows = make_rows();

	(void)state;
	assert_int_equal(json_array_size(rows), ROWS);
	expect(rows, true, NULL);
	expect(rows, true, "nodes");
	expect(rows, false, NULL);
	json_decref(rows);
}

static void test_none(void **state)
{
	json_t *rows = json_array();
	char *text = in_pieces(rows, false, NULL, 0);

	(void)state;
	assert_string_equal(text, "nothing\n");
	free(text);
	expect(rows, true, NULL);
	expect(rows, true, "nodes");
	json_decref(rows);
}

/* A list that breaks off is no JSON: nobody takes it for all there is. */
static void test_broken_off(void **state)
{
	json_t *rows = make_rows(), *parsed;
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	struct output *o = output_new(f, true);
	struct output_list *list = output_list_new(o, columns, "nodes", NULL);

	(void)state;
	output_list_add(list, rows);
	output_list_end(list, false);
	output_free(o);
	fclose(f);
	assert_true(len > 0);
	parsed = json_loads(text, 0, NULL);
	assert_null(parsed);
	free(text);
	json_decref(rows);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_none),
		cmocka_unit_test(test_broken_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
