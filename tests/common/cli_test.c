/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Command lines: parsing, errors, help and completion from one table; and what tools print.  Each
 * case runs cli_main() in a child and looks at its exit code, output and error output.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/daemon/cli.h"

/* ---- the tool ---- */

/* Print all that was parsed. */
static int run_show(struct cli *cli)
{
	printf("%s socket=%s", cli->verb->name, cli->socket);
	for (int i = 0; i < cli->argc; i++)
		printf(" [%s]", cli->argv[i]);
	for (int i = 0; i < cli->given_count; i++)
		printf(" %s=%s", cli->given[i].option->name, cli->given[i].value);
	printf("\n");
	return 0;
}

static int run_create(struct cli *cli)
{
	const char *size = cli_option(cli, "size");
	uint64_t bytes = 0;
	int r = size ? cli_parse_size(cli, "--size", size, &bytes)
		     : cli_usage_error(cli, "--size is missing");

	if (r)
		return r;
	for (int i = 0; cli_option_nth(cli, "tag", i); i++)
		printf("tag %s\n", cli_option_nth(cli, "tag", i));
	output_note(cli->out, "%s: %llu bytes%s", cli->argv[0], (unsigned long long)bytes,
		    cli_flag(cli, "force") ? ", forced" : "");
	return 0;
}

static int run_fail(struct cli *cli)
{
	struct err err = { -ENOSPC, "pool main: no space" };

	return cli_fail(cli, &err);
}

static const struct output_column columns[] = {
	{ "name", "NAME", OUTPUT_TEXT },      { "size", "SIZE", OUTPUT_SIZE },
	{ "pool.name", "POOL", OUTPUT_TEXT }, { "age", "AGE", OUTPUT_DURATION },
	{ "use", "USE", OUTPUT_PERCENT },     { "tags", "TAGS", OUTPUT_TEXT },
	{ "open", "OPEN", OUTPUT_TEXT },      { NULL },
};

static int run_ls(struct cli *cli)
{
	json_t *rows = json_pack("[{s:s, s:i, s:{s:s}, s:i, s:f, s:[s,s], s:b},"
				 " {s:s, s:I, s:n, s:s}]",
				 "name", "db\xc3\xa4", "size", 512, "pool", "name", "main", "age",
				 5000, "use", 42.4, "tags", "a", "b", "open", 1, "name",
				 "evil\x1b[31m", "size", (json_int_t)10 << 30, "pool", "age", "?");

	assert(rows);
	if (cli->argc)
		json_array_clear(rows);
	output_table(cli->out, rows, columns, "no volumes");
	if (!cli->argc && !output_is_json(cli->out))
		output_record(cli->out, json_array_get(rows, 0), columns);
	json_decref(rows);
	return 0;
}

static const struct cli_option create_options[] = {
	{ "size", 0, "SIZE", false, "size of the volume" },
	{ "tag", 't', "TAG", true, "a tag; may be repeated" },
	{ "force", 'f', NULL, false, "do not ask" },
	{ NULL },
};

static const struct cli_option show_options[] = {
	{ "verbose", 'v', NULL, true, "say more" },
	{ "pool", 'p', "POOL", false, NULL },
	{ NULL },
};

static const struct cli_verb verbs[] = {
	{ "create", "VOL", create_options, run_create, "make a volume" },
	{ "ls", "[WHAT]", NULL, run_ls, "list volumes" },
	{ "pool create", "POOL [PATH]", show_options, run_show, "make a pool" },
	{ "pool ls", NULL, NULL, run_show, "list pools" },
	{ "set", "VOL KEY=VALUE...", NULL, run_show, "change a volume" },
	{ "fail", NULL, NULL, run_fail, "fail" },
	{ NULL },
};

static void complete(struct cli *cli, const char *argument, FILE *f)
{
	fprintf(f, "%s-of-%s\n", argument, cli->verb->name);
}

static const struct cli_tool tool = {
	"tool", "does things", "/run/tool.sock", verbs, NULL, complete, NULL,
};

/* ---- running it ---- */

static char out[8192], err_out[8192];

static void read_back(int fd, char *buf, size_t size)
{
	ssize_t n = pread(fd, buf, size - 1, 0);

	buf[n > 0 ? n : 0] = '\0';
	close(fd);
}

static int call(const char *first, ...)
{
	char *argv[32] = { "tool", (char *)first };
	int argc = first ? 2 : 1, status, out_fd = memfd_create("out", 0),
	    err_fd = memfd_create("err", 0);
	va_list ap;
	pid_t pid;

	va_start(ap, first);
	while (first && (argv[argc] = va_arg(ap, char *)))
		argc++;
	va_end(ap);
	fflush(NULL);
	pid = fork();
	if (!pid) {
		dup2(out_fd, 1);
		dup2(err_fd, 2);
		exit(cli_main(&tool, argc, argv));
	}
	waitpid(pid, &status, 0);
	read_back(out_fd, out, sizeof(out));
	read_back(err_fd, err_out, sizeof(err_out));
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_arguments_and_options(void **state)
{
	assert_int_equal(call("pool", "create", "a", "/b", NULL), 0);
	assert_string_equal(out, "pool create socket=/run/tool.sock [a] [/b]\n");
	assert_int_equal(call("-s", "/x", "pool", "create", "-vv", "a", "--pool=p", "-v", NULL), 0);
	assert_string_equal(out, "pool create socket=/x [a] socket=/x verbose= verbose= pool=p "
				 "verbose=\n");
	assert_int_equal(call("--socket=/y", "pool", "create", "--", "--a", NULL), 0);
	assert_string_equal(out, "pool create socket=/y [--a] socket=/y\n");
	assert_int_equal(call("pool", "ls", "-s/z", NULL), 0);
	assert_string_equal(out, "pool ls socket=/z socket=/z\n");
	assert_int_equal(call("set", "v", "a=1", "b=2", "-", NULL), 0);
	assert_string_equal(out, "set socket=/run/tool.sock [v] [a=1] [b=2] [-]\n");
	assert_int_equal(call("create", "v", "--size", "1K", "-t", "x", "-ty", "-f", NULL), 0);
	assert_string_equal(out, "tag x\ntag y\nv: 1024 bytes, forced\n");
}

static void test_mistakes(void **state)
{
	static const struct {
		const char *words[5];
		const char *text; /* the first line of the error output */
	} cases[] = {
		{ { "creat", "v" }, "tool: unknown command \"creat\"; did you mean \"create\"?" },
		{ { "pool", "crate" },
		  "tool: unknown command \"pool crate\"; did you mean \"pool create\"?" },
		{ { "pool" }, "tool: unknown command \"pool\"; did you mean \"pool ls\"?" },
		{ { "zzzzzzzz" }, "tool: unknown command \"zzzzzzzz\"" },
		{ { "create" }, "tool: create: found 0 arguments, expected VOL" },
		{ { "set", "v" }, "tool: set: found 1 argument, expected VOL KEY=VALUE..." },
		{ { "pool", "ls", "x" }, "tool: pool ls: unexpected argument \"x\"" },
		{ { "create", "v", "--szie", "1" },
		  "tool: unknown option \"--szie\"; did you mean \"--size\"?" },
		{ { "create", "v", "--qqqq" }, "tool: unknown option \"--qqqq\"" },
		{ { "create", "v", "-q" }, "tool: unknown option \"-q\"" },
		{ { "create", "v", "--size" }, "tool: --size needs a value: SIZE" },
		{ { "create", "v", "-t" }, "tool: -t needs a value: TAG" },
		{ { "create", "v", "--force=1" }, "tool: --force takes no value" },
		{ { "create", "v", "-f", "-f" }, "tool: --force is given twice" },
		{ { "create", "v" }, "tool: --size is missing" },
		{ { "create", "v", "--size=1Q" },
		  "tool: --size: found \"1Q\", expected a size such as 10G, 512M or 65536" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *const *w = cases[i].words;

		assert_int_equal(call(w[0], w[1], w[2], w[3], w[4], NULL), CLI_USAGE);
		*strchr(err_out, '\n') = '\0';
		assert_string_equal(err_out, cases[i].text);
		assert_string_equal(out, "");
	}
	assert_int_equal(call("fail", NULL), CLI_FAILED);
	assert_string_equal(err_out, "tool: pool main: no space\n");
	assert_int_equal(call(NULL), CLI_USAGE);
	assert_non_null(strstr(err_out, "usage: tool"));
}

static void test_help(void **state)
{
	assert_int_equal(call("--help", NULL), 0);
	assert_non_null(strstr(out, "usage: tool [-s SOCKET] [--json] COMMAND ..."));
	for (const struct cli_verb *v = verbs; v->name; v++) {
		assert_non_null(strstr(out, v->name));
		assert_non_null(strstr(out, v->help));
	}
	assert_int_equal(call("create", "--help", NULL), 0);
	assert_non_null(strstr(out, "usage: tool create VOL [OPTIONS]"));
	assert_non_null(strstr(out, "--size SIZE"));
	assert_int_equal(call("-V", NULL), 0);
	assert_memory_equal(out, "tool ", 5);
}

static void check_completion(const char *expected, const char *a, const char *b, const char *c,
			     const char *d)
{
	assert_int_equal(call("__complete", a, b, c, d, NULL), 0);
	assert_string_equal(out, expected);
}

static void test_completion(void **state)
{
	check_completion("create\nls\npool\nset\nfail\n", "", NULL, NULL, NULL);
	check_completion("pool\n", "po", NULL, NULL, NULL);
	check_completion("create\nls\n", "pool", "", NULL, NULL);
	check_completion("create\n", "pool", "c", NULL, NULL);
	check_completion("--size\n--socket\n", "create", "--s", NULL, NULL);
	check_completion("VOL-of-create\n", "create", "", NULL, NULL);
	check_completion("", "create", "v", "", NULL);
	check_completion("SIZE-of-create\n", "create", "v", "--size", "");
	check_completion("KEY=VALUE-of-set\n", "set", "v", "a=1", "");
	check_completion("create\nls\npool\nset\nfail\n", "-s", "/x", "", NULL);
	assert_int_equal(call("__bash", NULL), 0);
	assert_non_null(strstr(out, "complete -o default -F _tool tool"));
}

static void test_tables(void **state)
{
	json_t *json;

	assert_int_equal(call("ls", NULL), 0);
	assert_string_equal(out, "NAME         SIZE  POOL    AGE   USE  TAGS  OPEN\n"
				 "db\xc3\xa4         512 B  main  5.0 s  42 %  a,b   yes\n"
				 "evil?[31m  10 GiB  -         ?     -  -     -\n"
				 "NAME: db\xc3\xa4\n"
				 "SIZE: 512 B\n"
				 "POOL: main\n"
				 "AGE:  5.0 s\n"
				 "USE:  42 %\n"
				 "TAGS: a,b\n"
				 "OPEN: yes\n");
	assert_int_equal(call("ls", "none", NULL), 0);
	assert_string_equal(out, "no volumes\n");
	assert_int_equal(call("ls", "none", "--json", NULL), 0);
	assert_string_equal(out, "[]\n");
	assert_int_equal(call("--json", "ls", NULL), 0);
	json = json_loads(out, 0, NULL);
	assert_int_equal(json_integer_value(json_object_get(json_array_get(json, 1), "size")),
			 10LL << 30);
	json_decref(json);
	/* A note is for people. */
	assert_int_equal(call("create", "v", "--size=1", "--json", NULL), 0);
	assert_string_equal(out, "");
}

static void test_full_disk_is_noticed(void **state)
{
	int status;

	fflush(NULL);
	if (!fork()) {
		char *argv[] = { "tool", "ls", NULL };

		assert_non_null(freopen("/dev/full", "w", stdout));
		assert_non_null(freopen("/dev/null", "w", stderr));
		exit(cli_main(&tool, 2, argv));
	}
	wait(&status);
	assert_int_equal(WEXITSTATUS(status), CLI_FAILED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arguments_and_options),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_help),
		cmocka_unit_test(test_completion),
		cmocka_unit_test(test_tables),
		cmocka_unit_test(test_full_disk_is_noticed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
