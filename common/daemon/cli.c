/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Parsing a command line by the tool's tables and running its verb; see cli.h.
 *
 * Two hidden first words serve completion: "__complete WORD..." prints candidates for the last
 * word, "__bash" prints the shell function that calls it.
 */
#include "common/daemon/cli_private.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/nearest.h"
#include "common/base/units.h"

const struct cli_option cli_common_options[] = {
	{ "socket", 's', "SOCKET", false, "control socket of the daemon" },
	{ "json", 0, NULL, false, "print JSON" },
	{ "help", 'h', NULL, false, "print this help" },
	{ "version", 'V', NULL, false, "print the version" },
	{ NULL },
};

/* ---- errors ---- */

int cli_fail(const struct cli *cli, const struct err *err)
{
	fprintf(stderr, "%s: %s\n", cli->tool->name, err->text);
	return CLI_FAILED;
}

int cli_usage_error(const struct cli *cli, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s: ", cli->tool->name);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	if (cli->verb)
		fprintf(stderr, "\nTry \"%s %s --help\".\n", cli->tool->name, cli->verb->name);
	else
		fprintf(stderr, "\nTry \"%s --help\".\n", cli->tool->name);
	return CLI_USAGE;
}

/* ---- tables ---- */

typedef bool (*option_match)(const struct cli_option *o, const void *key);

/* Over the verb's options, then the tool's, then the common ones. */
static const struct cli_option *search_options(const struct cli *cli, option_match match,
					       const void *key)
{
	const struct cli_option *tables[] = { cli->verb ? cli->verb->options : NULL,
					      cli->tool->options, cli_common_options };

	for (size_t i = 0; i < 3; i++)
		for (const struct cli_option *o = tables[i]; o && o->name; o++)
			if (match(o, key))
				return o;
	return NULL;
}

struct name {
	const char *text;
	size_t len;
};

static bool match_name(const struct cli_option *o, const void *key)
{
	const struct name *n = key;

	return strlen(o->name) == n->len && !strncmp(o->name, n->text, n->len);
}

static bool match_letter(const struct cli_option *o, const void *key)
{
	return o->letter && o->letter == *(const char *)key;
}

static bool feed_nearest(const struct cli_option *o, const void *key)
{
	nearest_feed((struct nearest *)key, o->name);
	return false;
}

const struct cli_option *cli_find_option(const struct cli *cli, const char *name, size_t len)
{
	struct name key = { name, len };

	return search_options(cli, match_name, &key);
}

const struct cli_option *cli_find_letter(const struct cli *cli, char letter)
{
	return search_options(cli, match_letter, &letter);
}

const struct cli_verb *cli_find_verb(const struct cli_tool *tool, const char *const *words,
				     int count, int *ret_words)
{
	for (const struct cli_verb *v = tool->verbs; v->name; v++) {
		size_t len = count ? strlen(words[0]) : 0;

		if (!count || strncmp(v->name, words[0], len) != 0)
			continue;
		*ret_words = 1 + (v->name[len] == ' ');
		if (!v->name[len] ||
		    (v->name[len] == ' ' && count > 1 && !strcmp(v->name + len + 1, words[1])))
			return v;
	}
	return NULL;
}

/* ---- parsing ---- */

static int add_option(struct cli *cli, const struct cli_option *o, const char *value)
{
	for (int i = 0; i < cli->given_count && !o->repeats; i++)
		if (cli->given[i].option == o)
			return cli_usage_error(cli, "--%s is given twice", o->name);
	if (cli->given_count == CLI_OPTION_COUNT_MAX)
		return cli_usage_error(cli, "more than %d options", CLI_OPTION_COUNT_MAX);
	cli->given[cli->given_count].option = o;
	cli->given[cli->given_count++].value = value;
	return 0;
}

static int unknown_option(struct cli *cli, const char *word)
{
	char name[64];
	struct nearest near;

	snprintf(name, sizeof(name), "%.*s", (int)strcspn(word + 2, "="), word + 2);
	nearest_start(&near, name);
	search_options(cli, feed_nearest, &near);
	if (near.best)
		return cli_usage_error(cli, "unknown option \"--%s\"; did you mean \"--%s\"?", name,
				       near.best);
	return cli_usage_error(cli, "unknown option \"--%s\"", name);
}

/* "--name", "--name=value", "--name value".  *at is moved over what was used. */
static int parse_long(struct cli *cli, int argc, char **argv, int *at)
{
	const char *word = argv[*at], *equals = strchr(word, '=');
	size_t len = equals ? (size_t)(equals - word) - 2 : strlen(word) - 2;
	const struct cli_option *o = cli_find_option(cli, word + 2, len);

	if (!o)
		return unknown_option(cli, word);
	if (!o->value && equals)
		return cli_usage_error(cli, "--%s takes no value", o->name);
	if (!o->value)
		return add_option(cli, o, "");
	if (equals)
		return add_option(cli, o, equals + 1);
	if (*at + 1 >= argc)
		return cli_usage_error(cli, "--%s needs a value: %s", o->name, o->value);
	return add_option(cli, o, argv[++*at]);
}

/* "-v", "-vv" of flags, "-s value", "-svalue". */
static int parse_short(struct cli *cli, int argc, char **argv, int *at)
{
	for (const char *p = argv[*at] + 1; *p; p++) {
		const struct cli_option *o = cli_find_letter(cli, *p);
		int r;

		if (!o)
			return cli_usage_error(cli, "unknown option \"-%c\"", *p);
		if (o->value && p[1])
			return add_option(cli, o, p + 1);
		if (o->value && *at + 1 >= argc)
			return cli_usage_error(cli, "-%c needs a value: %s", *p, o->value);
		r = add_option(cli, o, o->value ? argv[++*at] : "");
		if (r || o->value)
			return r;
	}
	return 0;
}

static int unknown_verb(struct cli *cli, const char *word, const char *second)
{
	struct nearest near;
	char both[128];

	snprintf(both, sizeof(both), "%.60s%s%.60s", word, second ? " " : "", second ? second : "");
	nearest_start(&near, both);
	for (const struct cli_verb *v = cli->tool->verbs; v->name; v++)
		nearest_feed(&near, v->name);
	if (!near.best && second) {
		nearest_start(&near, word);
		for (const struct cli_verb *v = cli->tool->verbs; v->name; v++)
			nearest_feed(&near, v->name);
	}
	if (near.best)
		return cli_usage_error(cli, "unknown command \"%s\"; did you mean \"%s\"?",
				       near.best && strchr(near.best, ' ') ? both : word,
				       near.best);
	return cli_usage_error(cli, "unknown command \"%s\"", word);
}

/*
 * Words in order: global options, the verb, then its arguments and options in any order.  The verb
 * is looked for as soon as a positional word comes, since options depend on it.
 */
static int parse_words(struct cli *cli, int argc, char **argv)
{
	bool only_words = false;

	for (int i = 1; i < argc; i++) {
		const char *word = argv[i];
		int r = 0, used = 0;

		if (!only_words && !strcmp(word, "--")) {
			only_words = true;
		} else if (!only_words && word[0] == '-' && word[1] == '-') {
			r = parse_long(cli, argc, argv, &i);
		} else if (!only_words && word[0] == '-' && word[1]) {
			r = parse_short(cli, argc, argv, &i);
		} else if (!cli->verb) {
			cli->verb = cli_find_verb(cli->tool, (const char *const *)argv + i,
						  argc - i, &used);
			if (!cli->verb)
				return unknown_verb(cli, word, i + 1 < argc ? argv[i + 1] : NULL);
			i += used - 1;
		} else if (cli->argc == CLI_ARGUMENT_COUNT_MAX) {
			r = cli_usage_error(cli, "more than %d arguments", CLI_ARGUMENT_COUNT_MAX);
		} else {
			cli->argv[cli->argc++] = word;
		}
		if (r)
			return r;
	}
	return 0;
}

/* How many arguments "VOL [SIZE] FILE..." takes. */
static void count_arguments(const char *text, int *ret_min, int *ret_max)
{
	*ret_min = *ret_max = 0;
	for (; text && *text; text += strspn(text, " ")) {
		size_t len = strcspn(text, " ");
		bool optional = text[0] == '[';
		size_t end = optional && len ? len - 1 : len;

		if (!optional)
			++*ret_min;
		if (end > 3 && !strncmp(text + end - 3, "...", 3))
			*ret_max = CLI_ARGUMENT_COUNT_MAX;
		else
			++*ret_max;
		text += len;
	}
}

static int check_arguments(const struct cli *cli)
{
	int min, max;

	count_arguments(cli->verb->arguments, &min, &max);
	if (cli->argc < min)
		return cli_usage_error(cli, "%s: found %d argument%s, expected %s", cli->verb->name,
				       cli->argc, cli->argc == 1 ? "" : "s", cli->verb->arguments);
	if (cli->argc > max)
		return cli_usage_error(cli, "%s: unexpected argument \"%s\"", cli->verb->name,
				       cli->argv[max]);
	return 0;
}

/* ---- reading what was given ---- */

const char *cli_option_nth(const struct cli *cli, const char *name, int n)
{
	const struct cli_option *o = cli_find_option(cli, name, strlen(name));

	assert(o);
	for (int i = 0; i < cli->given_count; i++)
		if (cli->given[i].option == o && n-- == 0)
			return cli->given[i].value;
	return NULL;
}

const char *cli_option(const struct cli *cli, const char *name)
{
	return cli_option_nth(cli, name, 0);
}

bool cli_flag(const struct cli *cli, const char *name)
{
	return cli_option(cli, name) != NULL;
}

int cli_parse_size(const struct cli *cli, const char *what, const char *text, uint64_t *ret)
{
	struct err err;

	return size_parse(text, ret, &err) ? cli_usage_error(cli, "%s: %s", what, err.text) : 0;
}

int cli_parse_duration(const struct cli *cli, const char *what, const char *text, uint64_t *ret)
{
	struct err err;

	return duration_parse(text, ret, &err) ? cli_usage_error(cli, "%s: %s", what, err.text) : 0;
}

/* ---- running ---- */

static int run_verb(struct cli *cli)
{
	int r, code;

	cli->out = output_new(stdout, cli_flag(cli, "json"));
	if (!cli->out)
		return CLI_FAILED;
	code = cli->verb->run(cli);
	output_progress_end();
	r = output_finish(cli->out);
	output_free(cli->out);
	if (r && r != -EPIPE) {
		fprintf(stderr, "%s: standard output: %s\n", cli->tool->name, strerror(-r));
		return code ? code : CLI_FAILED;
	}
	return code;
}

int cli_main(const struct cli_tool *tool, int argc, char **argv)
{
	struct cli cli = { .tool = tool, .socket = tool->socket };
	int r;

	if (argc > 1 && !strcmp(argv[1], "__bash")) {
		cli_print_bash(tool, stdout);
		return CLI_OK;
	}
	if (argc > 2 && !strcmp(argv[1], "__complete")) {
		cli_complete(&cli, (const char *const *)argv + 2, argc - 2, stdout);
		return CLI_OK;
	}
	r = parse_words(&cli, argc, argv);
	if (r)
		return r;
	if (cli_flag(&cli, "help")) {
		if (cli.verb)
			cli_print_verb_help(tool, cli.verb, stdout);
		else
			cli_print_tool_help(tool, stdout);
		return CLI_OK;
	}
	if (cli_flag(&cli, "version")) {
		printf("%s %s\n", tool->name, ASHLAR_VERSION);
		return CLI_OK;
	}
	if (!cli.verb) {
		cli_print_tool_help(tool, stderr);
		return CLI_USAGE;
	}
	if (cli_option(&cli, "socket"))
		cli.socket = cli_option(&cli, "socket");
	r = check_arguments(&cli);
	return r ? r : run_verb(&cli);
}
