/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What cli.c (parsing, running) and cli_help.c (help, completion) share. */
#ifndef COMMON_DAEMON_CLI_PRIVATE_H
#define COMMON_DAEMON_CLI_PRIVATE_H

#include "common/daemon/cli.h"

/* The global options that every tool has. */
extern const struct cli_option cli_common_options[];

/* The option by long name or letter, in the verb's, the tool's, the common ones; NULL: unknown. */
const struct cli_option *cli_find_option(const struct cli *cli, const char *name, size_t len);
const struct cli_option *cli_find_letter(const struct cli *cli, char letter);

/* The verb that the words begin with (one or two of them: *ret_words); NULL: none. */
const struct cli_verb *cli_find_verb(const struct cli_tool *tool, const char *const *words,
				     int count, int *ret_words);

void cli_print_tool_help(const struct cli_tool *tool, FILE *f);
void cli_print_verb_help(const struct cli_tool *tool, const struct cli_verb *verb, FILE *f);

/* Words that could stand at the end of `words` (the last may be begun), one a line. */
void cli_complete(struct cli *cli, const char *const *words, int count, FILE *f);
/* The bash function that asks for them. */
void cli_print_bash(const struct cli_tool *tool, FILE *f);

#endif
