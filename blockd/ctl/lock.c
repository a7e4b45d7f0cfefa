// SPDX-License-Identifier: GPL-2.0-or-later
/* vdiskctl lock show|handover|break|allow, vdiskctl set: one question to blockd each. */
#include <string.h>

#include "blockd/ctl/vdiskctl.h"
#include "common/base/units.h"

static const struct output_column lock_columns[] = {
	{ "volume", "volume", OUTPUT_TEXT },
	{ "state", "state", OUTPUT_TEXT },
	{ "holder", "holder", OUTPUT_TEXT },
	{ "since_s", "since", OUTPUT_TIME },
	{ "epoch", "epoch", OUTPUT_NUMBER },
	{ "connected", "connected", OUTPUT_TEXT },
	{ "connections", "connections", OUTPUT_NUMBER },
	{ "grace_left_ms", "grace left, ms", OUTPUT_NUMBER },
	{ "target", "to be handed to", OUTPUT_TEXT },
	{ "target_left_ms", "it has to come in, ms", OUTPUT_NUMBER },
	{ "fenced", "fenced", OUTPUT_TEXT },
	{ "standbys", "standbys", OUTPUT_NUMBER },
	{ "waiting", "waiting", OUTPUT_NUMBER },
	{ "settings.second_writer", "second_writer", OUTPUT_TEXT },
	{ "settings.on_disconnect", "on_disconnect", OUTPUT_TEXT },
	{ "settings.grace", "grace", OUTPUT_TEXT },
	{ "settings.fence", "fence", OUTPUT_TEXT },
	{ 0 },
};

int vdiskctl_lock_show(struct cli *cli)
{
	static const struct output_column columns[] = {
		{ "pool", "POOL", OUTPUT_TEXT },
		{ "volume", "VOLUME", OUTPUT_TEXT },
		{ "state", "STATE", OUTPUT_TEXT },
		{ "epoch", "EPOCH", OUTPUT_NUMBER },
		{ "holder", "HOLDER", OUTPUT_TEXT },
		{ "since_s", "SINCE", OUTPUT_TIME },
		{ "target", "TARGET", OUTPUT_TEXT },
		{ "fenced", "FENCED", OUTPUT_TEXT },
		{ 0 },
	};
	json_t *answer;
	int rc;

	if (cli->argc)
		return vdiskctl_ask_record(
			cli, "lock-show", json_pack("{s:s}", "volume", cli->argv[0]), lock_columns);
	rc = vdiskctl_ask(cli, "lock-show", NULL, &answer);
	if (rc)
		return rc;
	if (output_is_json(cli->out))
		output_json(cli->out, answer);
	else
		output_table(cli->out, json_object_get(answer, "locks"), columns,
			     "no volume has been locked since blockd began");
	json_decref(answer);
	return CLI_OK;
}

/* --to and --if-epoch into the arguments; else the exit code. */
static int take_options(struct cli *cli, json_t *args)
{
	const char *to = cli_option(cli, "to"), *epoch = cli_option(cli, "if-epoch");
	char *end;

	if (to)
		(void)json_object_set_new(args, "to", json_string(to));
	if (epoch) {
		long long value = strtoll(epoch, &end, 10);

		if (*end || end == epoch || value <= 0)
			return cli_usage_error(cli,
					       "--if-epoch takes an epoch as lock show prints it");
		(void)json_object_set_new(args, "if_epoch", json_integer(value));
	}
	return 0;
}

static int ask_with_options(struct cli *cli, const char *verb, json_t *args)
{
	int rc = take_options(cli, args);

	if (rc) {
		json_decref(args);
		return rc;
	}
	return vdiskctl_ask_record(cli, verb, args, lock_columns);
}

int vdiskctl_lock_handover(struct cli *cli)
{
	const char *ttl = cli_option(cli, "ttl");
	json_t *args;
	uint64_t ms;

	if (!cli_option(cli, "to") == !cli_flag(cli, "cancel"))
		return cli_usage_error(cli, "lock handover needs --to ID, or --cancel");
	args = json_pack("{s:s, s:b}", "volume", cli->argv[0], "cancel", cli_flag(cli, "cancel"));
	if (ttl) {
		/* a bare number is seconds */
		char text[64];

		snprintf(text, sizeof(text), "%.32s%s", ttl,
			 ttl[strspn(ttl, "0123456789")] ? "" : "s");
		if (duration_parse(text, &ms, NULL) < 0) {
			json_decref(args);
			return cli_usage_error(cli, "--ttl takes a time, for instance 300 or 5m");
		}
		(void)json_object_set_new(args, "ttl_ms", json_integer((json_int_t)ms));
	}
	return ask_with_options(cli, "lock-handover", args);
}

int vdiskctl_lock_break(struct cli *cli)
{
	return ask_with_options(cli, "lock-break", json_pack("{s:s}", "volume", cli->argv[0]));
}

int vdiskctl_lock_allow(struct cli *cli)
{
	return vdiskctl_ask_record(cli, "lock-allow", json_pack("{s:s}", "volume", cli->argv[0]),
				   lock_columns);
}

int vdiskctl_set(struct cli *cli)
{
	const char *setting = cli->argv[1], *equals = strchr(setting, '=');

	if (!equals || equals == setting || !equals[1])
		return cli_usage_error(cli, "set takes VOL KEY=VALUE");
	return vdiskctl_ask_record(cli, "volume-set",
				   json_pack("{s:s, s:s%, s:s}", "volume", cli->argv[0], "key",
					     setting, (size_t)(equals - setting), "value",
					     equals + 1),
				   lock_columns);
}
