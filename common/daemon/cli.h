/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Command lines from tables: a tool is a list of verbs with their arguments and options.
 *
 *	vdiskctl [-s SOCKET] [--json] VERB ARGUMENTS [OPTIONS]
 *
 * From the table come parsing, the usage and help texts, "did you mean", and the words that bash
 * completion offers.  A verb's name may be two words ("pool create").  Options may stand anywhere
 * behind the verb, as "--size 10G" or "--size=10G"; "--" ends them.  Global options may stand
 * before the verb too.  Every tool has -h --help, -V --version, --json, and -s --socket.
 *
 * Exit codes: CLI_OK, CLI_FAILED, CLI_USAGE, or what the verb returns.
 */
#ifndef COMMON_DAEMON_CLI_H
#define COMMON_DAEMON_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/err.h"
#include "common/daemon/output.h"

#define CLI_OPTION_COUNT_MAX   32
#define CLI_ARGUMENT_COUNT_MAX 256

enum cli_exit {
	CLI_OK = 0,
	CLI_FAILED = 1,
	CLI_USAGE = 2,
};

struct cli_option {
	const char *name;  /* without "--"; NULL ends the table */
	char letter;	   /* 0: none */
	const char *value; /* "SIZE": takes a value; NULL: a flag */
	bool repeats;	   /* may be given several times */
	const char *help;
};

struct cli;

struct cli_verb {
	const char *name; /* "pool create"; NULL ends the table */
	/* "VOL SIZE", "[VOL]", "VOL..." (one or more), "[KEY=VALUE...]"; NULL: none.  Optional ones
	 * come last. */
	const char *arguments;
	const struct cli_option *options; /* NULL: none */
	int (*run)(struct cli *cli);	  /* the exit code */
	const char *help;
};

struct cli_tool {
	const char *name;
	const char *summary; /* one line */
	const char *socket;  /* default control socket */
	const struct cli_verb *verbs;
	const struct cli_option *options; /* further global ones; NULL: none */
	/* Words for completing the argument `argument` ("VOL") of a verb: one a line to `f`.  May
	 * ask the daemon; must be quick and silent when it fails.  NULL: none. */
	void (*complete)(struct cli *cli, const char *argument, FILE *f);
	void *ctx;
};

struct cli {
	const struct cli_tool *tool;
	const struct cli_verb *verb;
	const char *socket;
	const char *argv[CLI_ARGUMENT_COUNT_MAX + 1]; /* positional, behind the verb */
	int argc;
	struct output *out; /* stdout, text or JSON as --json says */
	struct {
		const struct cli_option *option;
		const char *value;
	} given[CLI_OPTION_COUNT_MAX];
	int given_count;
};

/* Parse, run the verb, return the exit code for main(). */
int cli_main(const struct cli_tool *tool, int argc, char **argv);

/* A global or verb option (must be in a table: asserted).  Value of the last one, NULL: not
 * given; for a flag "" when given. */
const char *cli_option(const struct cli *cli, const char *name);
bool cli_flag(const struct cli *cli, const char *name);
/* The n-th of a repeated option, NULL behind the last. */
const char *cli_option_nth(const struct cli *cli, const char *name, int n);

/* Print "TOOL: text" to stderr and return CLI_FAILED or CLI_USAGE. */
int cli_fail(const struct cli *cli, const struct err *err);
int cli_usage_error(const struct cli *cli, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* A size or duration given by an option or argument; `what` is "--size".  On failure prints and
 * returns CLI_USAGE, else 0. */
int cli_parse_size(const struct cli *cli, const char *what, const char *text, uint64_t *ret)
	__attribute__((warn_unused_result));
int cli_parse_duration(const struct cli *cli, const char *what, const char *text, uint64_t *ret)
	__attribute__((warn_unused_result));

#endif
