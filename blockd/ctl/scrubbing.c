// SPDX-License-Identifier: GPL-2.0-or-later
/* vdiskctl pool scrub: begin one, see how far it is, wait for it. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "blockd/ctl/vdiskctl.h"

#define LOOK_MS 200u

static int ask(struct cli *cli, const char *flag, json_t **ret)
{
	json_t *args = json_pack("{s:s}", "pool", cli->argv[0]);

	if (flag)
		(void)json_object_set_new(args, flag, json_true());
	return vdiskctl_ask(cli, "pool-scrub", args, ret);
}

static bool is_running(json_t *answer)
{
	const char *state = json_string_value(json_object_get(answer, "state"));

	return state && strcmp(state, "running") == 0;
}

static unsigned long long number(json_t *answer, const char *key)
{
	return (unsigned long long)json_integer_value(json_object_get(answer, key));
}

/* Until it is over; `answer` becomes what it was then. */
static int wait_for(struct cli *cli, json_t **answer)
{
	int rc = 0;

	while (rc == 0 && is_running(*answer)) {
		output_progress("scrub", number(*answer, "checked_bytes"),
				number(*answer, "total_bytes"), true);
		usleep(LOOK_MS * 1000);
		json_decref(*answer);
		rc = ask(cli, "status", answer);
	}
	output_progress_end();
	return rc;
}

static void show(struct cli *cli, json_t *answer)
{
	static const struct output_column columns[] = {
		{ "pool", "pool", OUTPUT_TEXT },
		{ "state", "scrub", OUTPUT_TEXT },
		{ "checked_bytes", "checked", OUTPUT_SIZE },
		{ "total_bytes", "of about", OUTPUT_SIZE },
		{ "finds", "finds", OUTPUT_NUMBER },
		{ "damaged_bytes", "damaged", OUTPUT_SIZE },
		{ "rewritten", "written anew", OUTPUT_NUMBER },
		{ "read_errors", "read errors", OUTPUT_NUMBER },
		{ 0 },
	};
	static const struct output_column finds[] = {
		{ "name", "WHERE", OUTPUT_TEXT },	{ "offset", "OFFSET", OUTPUT_NUMBER },
		{ "length", "LENGTH", OUTPUT_NUMBER },	{ "kind", "KIND", OUTPUT_TEXT },
		{ "rewritten", "ANEW", OUTPUT_TEXT },	{ "error", "ERROR", OUTPUT_TEXT },
		{ "also", "THE SAME IN", OUTPUT_TEXT }, { 0 },
	};
	json_t *found = json_object_get(answer, "found");

	output_record(cli->out, answer, columns);
	if (output_is_json(cli->out) || !json_array_size(found))
		return;
	output_note(cli->out, "%s", "");
	output_table(cli->out, found, finds, NULL);
	if (number(answer, "finds") > json_array_size(found))
		output_note(cli->out, "and %llu more",
			    number(answer, "finds") - json_array_size(found));
}

int vdiskctl_scrub(struct cli *cli)
{
	bool status = cli_flag(cli, "status"), stop = cli_flag(cli, "stop");
	bool wait = cli_flag(cli, "wait");
	json_t *answer;
	int rc;

	if (status + stop + wait > 1 && !(status && wait))
		return cli_usage_error(cli, "--stop goes with nothing else");
	rc = ask(cli, stop ? "stop" : status ? "status" : NULL, &answer);
	if (rc)
		return rc;
	if (wait)
		rc = wait_for(cli, &answer);
	if (rc)
		return rc;
	if (status || wait || stop || output_is_json(cli->out))
		show(cli, answer);
	else
		output_note(cli->out,
			    "scrub begun; vdiskctl pool scrub %s --status shows how far it is",
			    cli->argv[0]);
	rc = number(answer, "finds") ? VDISKCTL_DAMAGED : CLI_OK;
	json_decref(answer);
	return rc;
}
