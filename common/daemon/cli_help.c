/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Help texts and completion from the same tables as the parser; see cli.h. */
#include "common/daemon/cli_private.h"

#include <string.h>

#define HELP_COLUMN 34 /* where explanations begin */

/* "  left", padded, "right"; on its own line when left is too wide. */
static void print_pair(FILE *f, const char *left, const char *right)
{
	if (strlen(left) + 4 > HELP_COLUMN)
		fprintf(f, "  %s\n%*s%s\n", left, HELP_COLUMN, "", right ? right : "");
	else
		fprintf(f, "  %-*s%s\n", HELP_COLUMN - 2, left, right ? right : "");
}

static void print_options(const struct cli_option *o, FILE *f)
{
	char left[128];

	for (; o && o->name; o++) {
		snprintf(left, sizeof(left), "%s%c%s--%s%s%s", o->letter ? "-" : " ",
			 o->letter ? o->letter : ' ', o->letter ? " " : " ", o->name,
			 o->value ? " " : "", o->value ? o->value : "");
		print_pair(f, left, o->help);
	}
}

void cli_print_tool_help(const struct cli_tool *tool, FILE *f)
{
	char left[160];

	fprintf(f, "usage: %s [-s SOCKET] [--json] COMMAND ...\n%s\n\ncommands:\n", tool->name,
		tool->summary);
	for (const struct cli_verb *v = tool->verbs; v->name; v++) {
		snprintf(left, sizeof(left), "%s%s%s", v->name, v->arguments ? " " : "",
			 v->arguments ? v->arguments : "");
		print_pair(f, left, v->help);
	}
	fprintf(f, "\noptions:\n");
	print_options(tool->options, f);
	print_options(cli_common_options, f);
	fprintf(f, "\n\"%s COMMAND --help\" says more about one.  Control socket: %s\n", tool->name,
		tool->socket);
}

void cli_print_verb_help(const struct cli_tool *tool, const struct cli_verb *verb, FILE *f)
{
	fprintf(f, "usage: %s %s%s%s%s\n%s\n", tool->name, verb->name, verb->arguments ? " " : "",
		verb->arguments ? verb->arguments : "", verb->options ? " [OPTIONS]" : "",
		verb->help);
	if (verb->options) {
		fprintf(f, "\noptions:\n");
		print_options(verb->options, f);
	}
	fprintf(f, "\nglobal options:\n");
	print_options(tool->options, f);
	print_options(cli_common_options, f);
}

/* ---- completion ---- */

static void offer(FILE *f, const char *prefix, const char *word, size_t len)
{
	if (!strncmp(word, prefix, strlen(prefix)) && len >= strlen(prefix))
		fprintf(f, "%.*s\n", (int)len, word);
}

static void offer_options(FILE *f, const char *prefix, const struct cli_option *o)
{
	char name[80];

	for (; o && o->name; o++) {
		snprintf(name, sizeof(name), "--%s", o->name);
		offer(f, prefix, name, strlen(name));
	}
}

/* First words of verbs, or the second words of those that begin with `first`. */
static void offer_verbs(const struct cli_tool *tool, const char *first, const char *prefix, FILE *f)
{
	const char *last = "";
	size_t last_len = 0;

	for (const struct cli_verb *v = tool->verbs; v->name; v++) {
		const char *word = v->name;
		size_t len = strcspn(word, " ");

		if (first) {
			if (strncmp(word, first, len) != 0 || first[len] || !word[len])
				continue;
			word += len + 1;
			len = strlen(word);
		}
		if (len == last_len && !strncmp(word, last, len))
			continue; /* "pool create", "pool ls": pool once */
		offer(f, prefix, word, len);
		last = word;
		last_len = len;
	}
}

/* The name of the n-th argument: "VOL" of "[VOL...]". */
static bool argument_name(const char *text, int n, char *buf, size_t size)
{
	for (; text && *text; n--) {
		size_t len = strcspn(text, " ");
		bool repeats = memmem(text, len, "...", 3) != NULL;

		if (n <= 0 || (repeats && !text[len])) {
			size_t start = text[0] == '[', end = strcspn(text, ". ]");

			snprintf(buf, size, "%.*s", (int)(end - start), text + start);
			return true;
		}
		text += len + strspn(text + len, " ");
	}
	return false;
}

void cli_complete(struct cli *cli, const char *const *words, int count, FILE *f)
{
	const char *last = words[count - 1], *first = NULL;
	const struct cli_option *pending = NULL;
	char name[64];

	for (int i = 0; i < count - 1; i++) {
		const char *word = words[i];
		int used = 0;

		if (pending) {
			if (!strcmp(pending->name, "socket"))
				cli->socket = word;
			pending = NULL;
		} else if (word[0] == '-' && word[1] == '-' && word[2]) {
			pending = strchr(word, '=')
					  ? NULL
					  : cli_find_option(cli, word + 2, strlen(word + 2));
		} else if (word[0] == '-' && word[1] && !word[2]) {
			pending = cli_find_letter(cli, word[1]);
		} else if (cli->verb) {
			if (cli->argc < CLI_ARGUMENT_COUNT_MAX)
				cli->argv[cli->argc++] = word;
		} else {
			cli->verb = cli_find_verb(cli->tool, words + i, count - 1 - i, &used);
			first = word;
			i += cli->verb ? used - 1 : 0;
		}
		if (pending && !pending->value)
			pending = NULL;
	}
	if (pending) {
		if (cli->tool->complete && strcmp(pending->name, "socket") != 0)
			cli->tool->complete(cli, pending->value, f);
		return;
	}
	if (last[0] == '-') {
		offer_options(f, last, cli->verb ? cli->verb->options : NULL);
		offer_options(f, last, cli->tool->options);
		offer_options(f, last, cli_common_options);
	} else if (!cli->verb) {
		offer_verbs(cli->tool, first, last, f);
	} else if (cli->tool->complete &&
		   argument_name(cli->verb->arguments, cli->argc, name, sizeof(name))) {
		cli->tool->complete(cli, name, f);
	}
}

/* '@' parts words for bash, and only what is behind the last one is replaced. */
void cli_print_bash(const struct cli_tool *tool, FILE *f)
{
	fprintf(f,
		"# bash completion for %s; made by \"%s __bash\"\n"
		"_%s()\n"
		"{\n"
		"\tlocal IFS=$'\\n' words=() cut= i\n"
		"\tfor ((i = 1; i <= COMP_CWORD; i++)); do\n"
		"\t\tif [[ ${#words[@]} -gt 0 &&\n"
		"\t\t\t(${COMP_WORDS[i]} == @ || ${COMP_WORDS[i - 1]} == @) ]]; then\n"
		"\t\t\twords[-1]+=${COMP_WORDS[i]}\n"
		"\t\t\t[[ ${COMP_WORDS[i]} != @ ]] || cut=${words[-1]}\n"
		"\t\telse\n"
		"\t\t\twords+=(\"${COMP_WORDS[i]}\") cut=\n"
		"\t\tfi\n"
		"\tdone\n"
		"\tCOMPREPLY=($(compgen -W \"$(\"$1\" __complete "
		"\"${words[@]}\" 2>/dev/null)\" -- \"${words[-1]}\"))\n"
		"\tCOMPREPLY=(\"${COMPREPLY[@]#\"$cut\"}\")\n"
		"}\n"
		"complete -o default -F _%s %s\n",
		tool->name, tool->name, tool->name, tool->name, tool->name);
}
