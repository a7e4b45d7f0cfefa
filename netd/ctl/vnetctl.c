/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vnetctl: the table of verbs.  Most are one question to netd, whose JSON answer --json shows as it
 * is; check reads a file without netd, and doctor can do without it.
 *
 * Exit codes: 0, 1 (failed, refused, or for diff: not in sync), 2 (usage, and for diff: an error),
 * 3 (netd cannot be reached, or has gone without an answer).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/daemon/cli.h"
#include "common/daemon/ctl.h"
#include "netd/conf.h"
#include "netd/ctl/check.h"
#include "netd/ctl/rows.h"
#include "netd/ctl/vnetctl_tunnel.h"
#include "netd/doctor.h"

#define ASK_TIMEOUT_MS 600000 /* the kernel deletes thousands of bridges one by one */
#define EXIT_UNREACHED 3
#define DEFAULT_SOCKET "/run/netd/control.sock"

static int fail(struct cli *cli, int code, const struct err *err)
{
	if (output_is_json(cli->out)) {
		json_t *o = json_pack("{s:s}", "error", err->text);

		output_json(cli->out, o);
		json_decref(o);
	}
	cli_fail(cli, err);
	return code;
}

int vnetctl_ask(struct cli *cli, const char *verb, json_t *args, json_t **ret)
{
	struct ctl_client *client;
	struct err err = { 0 };
	int r = ctl_client_open(cli->socket, &client, &err);
	bool lost;

	if (r < 0) {
		json_decref(args);
		err_context(&err, "netd cannot be reached");
		return fail(cli, EXIT_UNREACHED, &err);
	}
	r = ctl_client_call(client, verb, args, ASK_TIMEOUT_MS, NULL, NULL, ret, &err);
	lost = ctl_client_is_lost(client);
	ctl_client_close(client);
	if (lost)
		err_context(&err, "netd has gone without an answer");
	return r < 0 ? fail(cli, lost ? EXIT_UNREACHED : CLI_FAILED, &err) : 0;
}

/* The errors of a configuration, if the answer holds some: on stderr, one a line. */
static bool shows_errors(struct cli *cli, json_t *answer)
{
	json_t *errors = json_object_get(answer, "errors"), *one;
	size_t i;

	if (!errors)
		return false;
	if (output_is_json(cli->out))
		output_json(cli->out, answer);
	json_array_foreach(errors, i, one) fprintf(stderr, "%s\n", json_string_value(one));
	return true;
}

/* --- applying ------------------------------------------------------------------------------- */

static int run_diff(struct cli *cli)
{
	json_t *answer, *ops, *one;
	size_t i;
	int r = vnetctl_ask(cli, "diff", NULL, &answer);

	if (r)
		return r == CLI_FAILED ? CLI_USAGE : r;
	if (shows_errors(cli, answer)) {
		json_decref(answer);
		return CLI_USAGE;
	}
	ops = json_object_get(answer, "operations");
	output_json(cli->out, answer);
	json_array_foreach(ops, i, one) output_note(cli->out, "%s", json_string_value(one));
	r = json_array_size(ops) ? CLI_FAILED : CLI_OK;
	json_decref(answer);
	return r;
}

static int run_apply(struct cli *cli)
{
	const char *confirm = cli_option(cli, "confirm");
	json_t *args = json_object(), *answer;
	unsigned long seconds = 0;
	char *end;
	int r;

	if (confirm) {
		uint64_t ms = 0;

		seconds = strtoul(confirm, &end, 10);
		if (*confirm && !*end && seconds)
			ms = (uint64_t)seconds * 1000;
		else if (cli_parse_duration(cli, "--confirm", confirm, &ms)) {
			json_decref(args);
			return CLI_USAGE;
		}
		seconds = (unsigned long)(ms / 1000);
		json_object_set_new(args, "confirm_ms", json_integer((json_int_t)ms));
	}
	r = vnetctl_ask(cli, "apply", args, &answer);
	if (r)
		return r;
	r = shows_errors(cli, answer) ? CLI_FAILED : CLI_OK;
	if (r == CLI_OK) {
		json_int_t n = json_integer_value(json_object_get(answer, "count"));

		output_json(cli->out, answer);
		output_note(cli->out, "%lld operation%s", (long long)n, n == 1 ? "" : "s");
		if (seconds)
			output_note(cli->out,
				    "on trial: \"vnetctl confirm\" within %lu seconds, or it is "
				    "rolled back",
				    seconds);
	}
	json_decref(answer);
	return r;
}

/* A verb without arguments whose answer needs no words but `done`. */
static int run_simple(struct cli *cli, const char *verb, const char *done)
{
	json_t *answer;
	int r = vnetctl_ask(cli, verb, NULL, &answer);

	if (r)
		return r;
	output_json(cli->out, answer);
	output_note(cli->out, "%s", done);
	json_decref(answer);
	return CLI_OK;
}

static int run_confirm(struct cli *cli)
{
	return run_simple(cli, "confirm", "confirmed");
}

static int run_rollback(struct cli *cli)
{
	return run_simple(cli, "rollback", "rolled back");
}

static int run_down(struct cli *cli)
{
	return run_simple(cli, "down",
			  "everything of netd is taken down; vnetctl apply brings it "
			  "back");
}

/* --- objects -------------------------------------------------------------------------------- */

static const struct output_column bridge_columns[] = {
	{ "id", "BRIDGE", OUTPUT_TEXT },
	{ "uplink", "UPLINK", OUTPUT_TEXT },
	{ "mtu", "MTU", OUTPUT_NUMBER },
	{ "origin", "ORIGIN", OUTPUT_TEXT },
	{ 0 },
};
static const struct output_column vlan_columns[] = {
	{ "id", "VLAN", OUTPUT_NUMBER },
	{ "name", "NAME", OUTPUT_TEXT },
	{ "bridge", "BRIDGE", OUTPUT_TEXT },
	{ "address", "ADDRESS", OUTPUT_TEXT },
	{ "nat", "NAT", OUTPUT_TEXT },
	{ "dhcp", "DHCP", OUTPUT_TEXT },
	{ "host", "HOST", OUTPUT_TEXT },
	{ "interface", "INTERFACE", OUTPUT_TEXT },
	{ "state", "STATE", OUTPUT_TEXT },
	{ "origin", "ORIGIN", OUTPUT_TEXT },
	{ 0 },
};
static const struct output_column port_columns[] = {
	{ "id", "PORT", OUTPUT_TEXT },
	{ "bridge", "BRIDGE", OUTPUT_TEXT },
	{ "vlan", "VLAN", OUTPUT_TEXT },
	{ "trunk", "TRUNK", OUTPUT_TEXT },
	{ "native", "NATIVE", OUTPUT_TEXT },
	{ "mac", "MAC", OUTPUT_TEXT },
	{ "ip", "IP", OUTPUT_TEXT },
	{ "owner", "OWNER", OUTPUT_TEXT },
	{ "state", "STATE", OUTPUT_TEXT },
	{ "origin", "ORIGIN", OUTPUT_TEXT },
	{ 0 },
};
static const struct output_column forward_columns[] = {
	{ "id", "FORWARD", OUTPUT_TEXT },
	{ "proto", "PROTO", OUTPUT_TEXT },
	{ "listen", "LISTEN", OUTPUT_TEXT },
	{ "on", "ON", OUTPUT_TEXT },
	{ "to", "TO", OUTPUT_TEXT },
	{ "origin", "ORIGIN", OUTPUT_TEXT },
	{ 0 },
};
static const struct output_column nat_columns[] = {
	{ "id", "NAT", OUTPUT_TEXT },	     { "from", "FROM", OUTPUT_TEXT },
	{ "to", "TO", OUTPUT_TEXT },	     { "snat", "SNAT", OUTPUT_TEXT },
	{ "origin", "ORIGIN", OUTPUT_TEXT }, { 0 },
};
static const struct output_column policy_columns[] = {
	{ "id", "POLICY", OUTPUT_TEXT },
	{ "from", "FROM", OUTPUT_TEXT },
	{ "to", "TO", OUTPUT_TEXT },
	{ "origin", "ORIGIN", OUTPUT_TEXT },
	{ 0 },
};

static const struct output_column tunnel_columns[] = {
	{ "id", "TUNNEL", OUTPUT_TEXT },
	{ "address", "ADDRESS", OUTPUT_TEXT },
	{ "listen_port", "PORT", OUTPUT_NUMBER },
	{ "vlans", "VLANS", OUTPUT_TEXT },
	{ "engine", "ENGINE", OUTPUT_TEXT },
	{ "origin", "ORIGIN", OUTPUT_TEXT },
	{ 0 },
};
static const struct output_column peer_columns[] = {
	{ "id", "PEER", OUTPUT_TEXT },
	{ "tunnel", "TUNNEL", OUTPUT_TEXT },
	{ "endpoint", "ENDPOINT", OUTPUT_TEXT },
	{ "address", "ADDRESS", OUTPUT_TEXT },
	{ "allowed", "ALLOWED", OUTPUT_TEXT },
	{ "keepalive", "KEEPALIVE", OUTPUT_TEXT },
	{ "public_key", "PUBLIC KEY", OUTPUT_TEXT },
	{ "origin", "ORIGIN", OUTPUT_TEXT },
	{ 0 },
};

static const struct output_column *columns_of(const char *kind)
{
	static const struct {
		const char *kind;
		const struct output_column *columns;
	} all[] = {
		{ "bridge", bridge_columns }, { "vlan", vlan_columns },
		{ "port", port_columns },     { "forward", forward_columns },
		{ "nat", nat_columns },	      { "policy", policy_columns },
		{ "tunnel", tunnel_columns }, { "peer", peer_columns },
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		if (strcmp(all[i].kind, kind) == 0)
			return all[i].columns;
	return NULL;
}

/* "port" of the verb "port ls" */
static void kind_of(const struct cli *cli, char *buf, size_t size)
{
	snprintf(buf, size, "%.*s", (int)strcspn(cli->verb->name, " "), cli->verb->name);
}

static int run_ls(struct cli *cli)
{
	char kind[32], empty[64];
	json_t *answer, *rows, *row;
	size_t i;
	int r;

	kind_of(cli, kind, sizeof(kind));
	r = vnetctl_ask(cli, "ls", json_pack("{s:s}", "kind", kind), &answer);
	if (r)
		return r;
	rows = json_object_get(answer, "rows");
	snprintf(empty, sizeof(empty), "there is no %s", kind);
	output_table(cli->out, rows, columns_of(kind), empty);
	if (strcmp(kind, "port") == 0 && cli_flag(cli, "verbose"))
		json_array_foreach(rows, i, row) if (json_object_get(row, "netdev")) output_note(
			cli->out, "%s %s", json_string_value(json_object_get(row, "netdev")),
			json_string_value(json_object_get(row, "device")));
	json_decref(answer);
	return CLI_OK;
}

/* KEY=VALUE arguments from argv[from] on; NULL after a usage error. */
static json_t *settings_of(struct cli *cli, int from)
{
	json_t *keys = json_object();

	for (int i = from; i < cli->argc; i++) {
		const char *eq = strchr(cli->argv[i], '=');
		char key[64];

		if (!eq || eq == cli->argv[i] || eq - cli->argv[i] >= (int)sizeof(key)) {
			cli_usage_error(cli, "found \"%s\", expected KEY=VALUE", cli->argv[i]);
			json_decref(keys);
			return NULL;
		}
		snprintf(key, sizeof(key), "%.*s", (int)(eq - cli->argv[i]), cli->argv[i]);
		json_object_set_new(keys, key, json_string(eq + 1));
	}
	return keys;
}

static int run_change(struct cli *cli)
{
	const char *action = strchr(cli->verb->name, ' ') + 1;
	json_t *keys = settings_of(cli, 1), *answer;
	char kind[32];
	int r;

	if (!keys)
		return CLI_USAGE;
	kind_of(cli, kind, sizeof(kind));
	r = vnetctl_ask(cli, "change",
			json_pack("{s:s, s:s, s:s, s:o}", "action", action, "kind", kind, "name",
				  cli->argv[0], "keys", keys),
			&answer);
	if (r)
		return r;
	r = shows_errors(cli, answer) ? CLI_FAILED : CLI_OK;
	if (r == CLI_OK)
		output_json(cli->out, answer);
	json_decref(answer);
	return r;
}

/* --- looking -------------------------------------------------------------------------------- */

static const struct output_column status_columns[] = {
	{ "state", "state", OUTPUT_TEXT },
	{ "config", "config", OUTPUT_TEXT },
	{ "backend", "backend", OUTPUT_TEXT },
	{ "in_sync", "in sync", OUTPUT_TEXT },
	{ "count.bridge", "bridges", OUTPUT_NUMBER },
	{ "count.vlan", "VLANs", OUTPUT_NUMBER },
	{ "count.port", "ports", OUTPUT_NUMBER },
	{ "count.forward", "forwards", OUTPUT_NUMBER },
	{ "count.nat", "nat blocks", OUTPUT_NUMBER },
	{ "count.policy", "policies", OUTPUT_NUMBER },
	{ "count.tunnel", "tunnels", OUTPUT_NUMBER },
	{ "count.peer", "peers", OUTPUT_NUMBER },
	{ "peers_up", "peers up", OUTPUT_NUMBER },
	{ "drift_count", "drifts repaired", OUTPUT_NUMBER },
	{ 0 },
};
static const struct output_column pending_columns[] = {
	{ "pending.who", "on trial by", OUTPUT_TEXT },
	{ "pending.since", "since", OUTPUT_TIME },
	{ "pending.left_ms", "rolled back in", OUTPUT_DURATION },
	{ 0 },
};
static const struct output_column rejected_columns[] = {
	{ "rejected.who", "rolled back", OUTPUT_TEXT },
	{ "rejected.at", "at", OUTPUT_TIME },
	{ 0 },
};
static const struct output_column error_columns[] = {
	{ "last_error", "last error", OUTPUT_TEXT },
	{ 0 },
};

static int run_status(struct cli *cli)
{
	json_t *o;
	int r = vnetctl_ask(cli, "status", NULL, &o);

	if (r)
		return r;
	output_record(cli->out, o, status_columns);
	if (!output_is_json(cli->out)) {
		if (json_is_object(json_object_get(o, "pending")))
			output_record(cli->out, o, pending_columns);
		if (json_object_get(o, "rejected"))
			output_record(cli->out, o, rejected_columns);
		if (json_object_get(o, "last_error"))
			output_record(cli->out, o, error_columns);
	}
	json_decref(o);
	return CLI_OK;
}

static int ask_record(struct cli *cli, const char *verb, const struct output_column *columns)
{
	json_t *o;
	int r = vnetctl_ask(cli, verb, NULL, &o);

	if (r)
		return r;
	output_record(cli->out, o, columns);
	json_decref(o);
	return CLI_OK;
}

static int run_drift(struct cli *cli)
{
	static const struct output_column columns[] = {
		{ "drift_count", "drifts found", OUTPUT_NUMBER },
		{ "repaired_count", "operations repaired", OUTPUT_NUMBER },
		{ "failed_count", "repairs failed", OUTPUT_NUMBER },
		{ "check_count", "times looked", OUTPUT_NUMBER },
		{ "resync_count", "notifications lost", OUTPUT_NUMBER },
		{ "last_at", "last at", OUTPUT_TIME },
		{ "last", "last", OUTPUT_TEXT },
		{ "last_repair_us", "last repair took us", OUTPUT_NUMBER },
		{ 0 },
	};

	return ask_record(cli, "drift", columns);
}

static int run_capabilities(struct cli *cli)
{
	static const struct output_column columns[] = {
		{ "backend", "backend", OUTPUT_TEXT },
		{ "bridge_vlan_filtering", "bridge VLAN filtering", OUTPUT_TEXT },
		{ "8021q", "8021q", OUTPUT_TEXT },
		{ "port_isolation", "port isolation", OUTPUT_TEXT },
		{ "neigh_suppress", "neighbour suppression", OUTPUT_TEXT },
		{ "address_protocol", "address protocol", OUTPUT_TEXT },
		{ "tun", "tun", OUTPUT_TEXT },
		{ "nftables", "nftables", OUTPUT_TEXT },
		{ "nftables_bridge", "nftables of bridges", OUTPUT_TEXT },
		{ "table_owner", "nftables owner", OUTPUT_TEXT },
		{ "table_persist", "nftables persist", OUTPUT_TEXT },
		{ "conntrack", "conntrack", OUTPUT_TEXT },
		{ 0 },
	};

	return ask_record(cli, "capabilities", columns);
}

static int ask_text(struct cli *cli, const char *verb)
{
	json_t *o;
	int r = vnetctl_ask(cli, verb, NULL, &o);

	if (r)
		return r;
	if (output_is_json(cli->out))
		output_json(cli->out, o);
	else
		output_raw(cli->out, json_string_value(json_object_get(o, "text")));
	json_decref(o);
	return CLI_OK;
}

static int run_metrics(struct cli *cli)
{
	return ask_text(cli, "metrics");
}

static int run_nat(struct cli *cli)
{
	if (!cli_flag(cli, "nft"))
		return cli_usage_error(cli, "expected --nft, or one of nat add, set, rm, ls");
	return ask_text(cli, "nft");
}

/* Without netd the doctor sees the host, but not which interfaces are ours. */
static json_t *examine_here(struct err *err)
{
	struct doctor_facts facts = { 0 };
	json_t *findings = json_array();

	if (doctor_gather(NULL, &facts, err) == 0) {
		doctor_judge(&facts, rows_add_finding, findings);
	} else {
		json_decref(findings);
		findings = NULL;
	}
	doctor_facts_clear(&facts);
	return findings ? json_pack("{s:o}", "findings", findings) : NULL;
}

static int run_doctor(struct cli *cli)
{
	struct ctl_client *client;
	json_t *answer = NULL, *one;
	struct err err = { 0 };
	bool reached = ctl_client_open(cli->socket, &client, NULL) == 0;
	int r = 0, code = CLI_OK;
	size_t i;

	if (reached) {
		r = ctl_client_call(client, "doctor", NULL, ASK_TIMEOUT_MS, NULL, NULL, &answer,
				    &err);
		ctl_client_close(client);
	} else {
		fprintf(stderr, "netd does not run: looking without its config\n");
		answer = examine_here(&err);
		r = answer ? 0 : -EIO;
	}
	if (r < 0)
		return fail(cli, CLI_USAGE, &err);
	output_json(cli->out, answer);
	json_array_foreach(json_object_get(answer, "findings"), i, one)
	{
		const char *severity = json_string_value(json_object_get(one, "severity"));

		if (strcmp(severity, "problem") == 0)
			code = CLI_FAILED;
		output_note(cli->out, "%s: %s %s\n  fix: %s", severity,
			    json_string_value(json_object_get(one, "subject")),
			    json_string_value(json_object_get(one, "what")),
			    json_string_value(json_object_get(one, "fix")));
	}
	if (!json_array_size(json_object_get(answer, "findings")))
		output_note(cli->out, "nothing found that would drop packets of guests");
	json_decref(answer);
	return code;
}

static int run_check(struct cli *cli)
{
	return check_run(cli, cli->argc ? cli->argv[0] : NETD_CONF_FILE);
}

/* --- the table ------------------------------------------------------------------------------ */

static const struct cli_option apply_options[] = {
	{ "confirm", 0, "SECONDS", false, "roll back unless vnetctl confirm follows in time" },
	{ 0 },
};
static const struct cli_option nat_options[] = {
	{ "nft", 0, NULL, false, "print the tables as nft text" },
	{ 0 },
};
static const struct cli_option verbose_options[] = {
	{ "verbose", 'v', NULL, false, "with the qemu options of each port" },
	{ 0 },
};

#define OBJECT(kind, id, ls_options)                                                               \
	{ kind " add", id " [KEY=VALUE...]", NULL, run_change, "add a " kind },                    \
		{ kind " set", id " [KEY=VALUE...]", NULL, run_change, "change it; KEY= unsets" }, \
		{ kind " rm", id, NULL, run_change, "remove it" },                                 \
	{                                                                                          \
		kind " ls", NULL, ls_options, run_ls, "list them"                                  \
	}

static const struct cli_verb verbs[] = {
	{ "check", "[FILE]", NULL, run_check, "read a config and report all its errors" },
	{ "diff", NULL, NULL, run_diff, "what apply would do; 0: nothing, 1: something, 2: error" },
	{ "apply", NULL, apply_options, run_apply, "make the host what the config says" },
	{ "confirm", NULL, NULL, run_confirm, "keep what is on trial" },
	{ "rollback", NULL, NULL, run_rollback, "back to the configuration before" },
	{ "status", NULL, NULL, run_status, "what runs" },
	{ "drift", NULL, NULL, run_drift, "what others changed and netd repaired" },
	{ "capabilities", NULL, NULL, run_capabilities, "what this kernel can do" },
	{ "down", NULL, NULL, run_down, "take away everything of netd" },
	OBJECT("bridge", "NAME", NULL),
	OBJECT("vlan", "VID", NULL),
	OBJECT("port", "NAME", verbose_options),
	OBJECT("forward", "NAME", NULL),
	{ "nat", NULL, nat_options, run_nat, "the tables as nft text" },
	OBJECT("nat", "NAME", NULL),
	OBJECT("policy", "NAME", NULL),
	OBJECT("tunnel", "NAME", NULL),
	{ "tunnel status", "[NAME]", NULL, vnetctl_tunnel_status,
	  "its peers: handshakes, endpoints, what was sent and lost" },
	{ "tunnel genkey", NULL, NULL, vnetctl_tunnel_genkey, "print a new private key" },
	{ "tunnel pubkey", "[NAME|FILE]", NULL, vnetctl_tunnel_pubkey,
	  "the public key of a tunnel, of a key file, or of standard input" },
	{ "tunnel rotate", "NAME", NULL, vnetctl_tunnel_rotate,
	  "a new key for this host; prints its public key" },
	OBJECT("peer", "NAME", NULL),
	{ "metrics", NULL, NULL, run_metrics, "counters in OpenMetrics text" },
	{ "doctor", NULL, NULL, run_doctor, "what else on this host drops packets of guests" },
	{ 0 },
};

/* Completion: KEY= of the kind's schema, names that netd knows. */
static void complete(struct cli *cli, const char *argument, FILE *f)
{
	char kind[32];
	json_t *answer = NULL, *row, *id;
	struct ctl_client *client;
	size_t i;

	kind_of(cli, kind, sizeof(kind));
	for (const struct conf_section_type *t = netd_conf_schema.sections; t->name; t++)
		if (strcmp(argument, "KEY=VALUE") == 0 && strcmp(t->name, kind) == 0)
			for (const struct conf_key *k = t->keys; k->name; k++)
				fprintf(f, "%s=\n", k->name);
	if ((strcmp(argument, "NAME") != 0 && strcmp(argument, "VID") != 0) ||
	    ctl_client_open(cli->socket, &client, NULL) < 0)
		return;
	if (ctl_client_call(client, "ls", json_pack("{s:s}", "kind", kind), 1000, NULL, NULL,
			    &answer, NULL) == 0)
		json_array_foreach(json_object_get(answer, "rows"), i, row)
		{
			id = json_object_get(row, "id");
			if (json_is_integer(id))
				fprintf(f, "%lld\n", (long long)json_integer_value(id));
			else
				fprintf(f, "%s\n", json_string_value(id));
		}
	json_decref(answer);
	ctl_client_close(client);
}

int main(int argc, char **argv)
{
	static const struct cli_tool tool = {
		.name = "vnetctl",
		.summary = "control netd: VLANs, ports, NAT and forwards of a VM host",
		.socket = DEFAULT_SOCKET,
		.verbs = verbs,
		.complete = complete,
	};

	return cli_main(&tool, argc, argv);
}
