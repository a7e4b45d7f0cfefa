/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Golden config errors: for each N.in of the folder given as argument, the errors must be exactly
 * N.ok, and when there are none N.ok holds what -nv prints.  With UPDATE=1 in the environment the
 * .ok files are written instead: read the diff before you commit it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <glob.h>
#include <libgen.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/common/conf_schema.h"

static glob_t inputs;

static char *slurp(const char *path)
{
	FILE *f = fopen(path, "r");
	char *text = calloc(1, 1 << 20);

	if (f) {
		if (!fread(text, 1, (1 << 20) - 1, f))
			text[0] = '\0';
		fclose(f);
	}
	return text;
}

static void run_golden(void **state)
{
	const char *in = *state;
	char ok[512], *got = NULL, *want;
	struct conf *c = conf_new(&schema_root);
	size_t len;
	FILE *f = open_memstream(&got, &len);

	conf_read_file(c, in);
	conf_finish(c);
	if (conf_error_count(c))
		conf_print_errors(c, f);
	else
		conf_print(c, f, CONF_PRINT_PRESETS);
	fclose(f);
	snprintf(ok, sizeof(ok), "%.*s.ok", (int)strlen(in) - 3, in);
	if (getenv("UPDATE")) {
		f = fopen(ok, "w");
		fputs(got, f);
		fclose(f);
	}
	want = slurp(ok);
	assert_string_equal(got, want);
	free(want);
	free(got);
	conf_free(c);
}

int main(int argc, char **argv)
{
	struct CMUnitTest tests[64] = { 0 };

	if (argc != 2 || chdir(argv[1]) || glob("*.in", 0, NULL, &inputs) || inputs.gl_pathc > 64) {
		fprintf(stderr, "usage: conf_golden_test FOLDER\n");
		return 1;
	}
	for (size_t i = 0; i < inputs.gl_pathc; i++)
		tests[i] = (struct CMUnitTest){ .name = inputs.gl_pathv[i],
						.test_func = run_golden,
						.initial_state = inputs.gl_pathv[i] };
	return _cmocka_run_group_tests("golden", tests, inputs.gl_pathc, NULL, NULL);
}
