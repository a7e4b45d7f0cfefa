// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vdiskctl: the table of verbs, and those that are one question to blockd.
 *
 * The daemon answers in JSON, which --json shows as it is; the columns below pick what people see.
 */
#include <errno.h>
#include <string.h>

#include "blockd/conf.h"
#include "blockd/ctl/vdiskctl.h"
#include "common/daemon/ctl.h"

#define COMPLETE_TIMEOUT_MS 1000
#define ASK_TIMEOUT_MS	    600000 /* removing or growing may wait for a checkpoint of a busy pool */

int vdiskctl_fail(struct cli *cli, int code, const struct err *err)
{
	if (output_is_json(cli->out)) {
		json_t *error = json_pack("{s:s}", "error", err->text);
		output_json(cli->out, error);
		json_decref(error);
	}
	(void)cli_fail(cli, err);
	return code;
}

int vdiskctl_no_memory(struct cli *cli)
{
	struct err err = { 0 };

	(void)err_set(&err, -ENOMEM, "out of memory");
	return vdiskctl_fail(cli, CLI_FAILED, &err);
}

/* One request and its reply on a connection of its own. */
static int ask_once(struct ctl_client *client, const char *verb, json_t *args,
		    const struct vdiskctl_list *list, unsigned timeout_ms, json_t **ret,
		    struct err *err)
{
	(void)list;
	return ctl_client_call(client, verb, args, timeout_ms, NULL, NULL, ret, err);
}

/* All pages of a list, each forgotten before the next one comes. */
static int ask_pages(struct ctl_client *client, const char *verb, json_t *args,
		     const struct vdiskctl_list *list, unsigned timeout_ms, json_t **ret,
		     struct err *err)
{
	json_t *page, *more;
	int rc;

	(void)ret;
	do {
		page = more = NULL;
		rc = ctl_client_call(client, verb, json_incref(args), timeout_ms, NULL, NULL, &page,
				     err);
		if (rc == 0) {
			list->rows(json_object_get(page, list->name), list->ctx);
			more = json_object_get(page, "more");
		}
		if (more)
			(void)json_object_set(args, "after", more);
		json_decref(page);
	} while (rc == 0 && more);
	json_decref(args);
	return rc;
}

typedef int ask_fn(struct ctl_client *client, const char *verb, json_t *args,
		   const struct vdiskctl_list *list, unsigned timeout_ms, json_t **ret,
		   struct err *err);

static int ask(struct cli *cli, ask_fn *fn, const char *verb, json_t *args,
	       const struct vdiskctl_list *list, json_t **ret)
{
	struct ctl_client *client;
	struct err err = { 0 };
	int rc = ctl_client_open(cli->socket, &client, &err);
	bool lost;

	if (rc < 0) {
		json_decref(args);
		(void)err_context(&err, "blockd cannot be reached");
		return vdiskctl_fail(cli, VDISKCTL_UNREACHABLE, &err);
	}
	rc = fn(client, verb, args, list, ASK_TIMEOUT_MS, ret, &err);
	lost = ctl_client_is_lost(client);
	ctl_client_close(client);
	if (lost)
		(void)err_context(&err, "blockd has gone without an answer");
	return rc < 0 ? vdiskctl_fail(cli, lost ? VDISKCTL_UNREACHABLE : CLI_FAILED, &err) : 0;
}

int vdiskctl_ask(struct cli *cli, const char *verb, json_t *args, json_t **ret)
{
	return ask(cli, ask_once, verb, args, NULL, ret);
}

int vdiskctl_ask_list(struct cli *cli, const char *verb, const struct vdiskctl_list *list)
{
	const char *pool = cli_option(cli, "pool");

	return ask(cli, ask_pages, verb, pool ? json_pack("{s:s}", "pool", pool) : json_object(),
		   list, NULL);
}

static json_t *ask_quietly(struct cli *cli, ask_fn *fn, const char *verb, json_t *args,
			   const struct vdiskctl_list *list, unsigned timeout_ms)
{
	struct ctl_client *client;
	json_t *answer = NULL;

	if (ctl_client_open(cli->socket, &client, NULL) < 0) {
		json_decref(args);
		return NULL;
	}
	if (fn(client, verb, args, list, timeout_ms, &answer, NULL) < 0)
		answer = NULL;
	ctl_client_close(client);
	return answer;
}

json_t *vdiskctl_ask_quietly(struct cli *cli, const char *verb, json_t *args, unsigned timeout_ms)
{
	return ask_quietly(cli, ask_once, verb, args, NULL, timeout_ms);
}

int vdiskctl_ask_record(struct cli *cli, const char *verb, json_t *args,
			const struct output_column *columns)
{
	json_t *answer;
	int rc = vdiskctl_ask(cli, verb, args, &answer);

	if (rc)
		return rc;
	output_record(cli->out, answer, columns);
	json_decref(answer);
	return CLI_OK;
}

/* Ask, and show the member `list` as a table; with --json the answer as it is. */
static int ask_table(struct cli *cli, const char *verb, json_t *args, const char *list,
		     const struct output_column *columns, const char *empty)
{
	json_t *answer;
	int rc = vdiskctl_ask(cli, verb, args, &answer);

	if (rc)
		return rc;
	if (output_is_json(cli->out))
		output_json(cli->out, answer);
	else
		output_table(cli->out, json_object_get(answer, list), columns, empty);
	json_decref(answer);
	return CLI_OK;
}

static void set_text(json_t *args, const char *key, const char *value)
{
	if (value)
		(void)json_object_set_new(args, key, json_string(value));
}

static void set_flag(struct cli *cli, json_t *args, const char *key)
{
	if (cli_flag(cli, key))
		(void)json_object_set_new(args, key, json_true());
}

/* ---- volumes ---- */

static const struct output_column volume_done[] = {
	{ "pool", "pool", OUTPUT_TEXT },
	{ "name", "name", OUTPUT_TEXT },
	{ "size_bytes", "size", OUTPUT_SIZE },
	{ 0 },
};

static int verb_create(struct cli *cli)
{
	const char *size_text = cli_option(cli, "size");
	const char *reserve = cli_option(cli, "reserve");
	json_t *args;
	uint64_t size;
	int rc;

	if (!size_text)
		return cli_usage_error(cli, "create needs --size SIZE");
	if (reserve && strcmp(reserve, "none") && strcmp(reserve, "full"))
		return cli_usage_error(cli, "--reserve takes none or full");
	rc = cli_parse_size(cli, "--size", size_text, &size);
	if (rc)
		return rc;
	args = json_pack("{s:s, s:I, s:b}", "volume", cli->argv[0], "size", (json_int_t)size,
			 "reserve_full", reserve && strcmp(reserve, "full") == 0);
	set_text(args, "pool", cli_option(cli, "pool"));
	return vdiskctl_ask_record(cli, "volume-create", args, volume_done);
}

static void add_rows(json_t *rows, void *ctx)
{
	output_list_add(ctx, rows);
}

static int verb_ls(struct cli *cli)
{
	static const struct output_column columns[] = {
		{ "pool", "POOL", OUTPUT_TEXT },
		{ "name", "NAME", OUTPUT_TEXT },
		{ "size_bytes", "SIZE", OUTPUT_SIZE },
		{ "used_bytes", "USED", OUTPUT_SIZE },
		{ "connections", "CLIENTS", OUTPUT_NUMBER },
		{ 0 },
	};
	struct output_list *out;
	int rc;

	if (cli_flag(cli, "snapshots"))
		return vdiskctl_ls_snapshots(cli);
	out = output_list_new(cli->out, columns, "volumes", "no volumes");
	if (!out)
		return vdiskctl_no_memory(cli);
	rc = vdiskctl_ask_list(cli, "volume-list",
			       &(struct vdiskctl_list){ "volumes", add_rows, out });
	output_list_end(out, rc == 0);
	return rc;
}

static int verb_info(struct cli *cli)
{
	static const struct output_column columns[] = {
		{ "name", "name", OUTPUT_TEXT },
		{ "description", "description", OUTPUT_TEXT },
		{ "pool", "pool", OUTPUT_TEXT },
		{ "size_bytes", "size", OUTPUT_SIZE },
		{ "used_bytes", "used", OUTPUT_SIZE },
		{ "reserved_bytes", "reserved", OUTPUT_SIZE },
		{ "reserve_full", "fully reserved", OUTPUT_TEXT },
		{ "created_s", "created", OUTPUT_TIME },
		{ "declared", "declared", OUTPUT_TEXT },
		{ "uris", "URIs", OUTPUT_TEXT },
		{ "connections", "clients", OUTPUT_NUMBER },
		{ "io.reads", "reads", OUTPUT_NUMBER },
		{ "io.read_bytes", "read", OUTPUT_SIZE },
		{ "io.writes", "writes", OUTPUT_NUMBER },
		{ "io.written_bytes", "written", OUTPUT_SIZE },
		{ "io.flushes", "flushes", OUTPUT_NUMBER },
		{ "io.errors", "errors", OUTPUT_NUMBER },
		{ 0 },
	};
	return vdiskctl_ask_record(cli, "volume-info", json_pack("{s:s}", "volume", cli->argv[0]),
				   columns);
}

static int verb_resize(struct cli *cli)
{
	json_t *args;
	uint64_t size;
	int rc = cli_parse_size(cli, "SIZE", cli->argv[1], &size);

	if (rc)
		return rc;
	args = json_pack("{s:s, s:I}", "volume", cli->argv[0], "size", (json_int_t)size);
	set_flag(cli, args, "shrink");
	set_flag(cli, args, "force");
	return vdiskctl_ask_record(cli, "volume-resize", args, volume_done);
}

static int verb_rename(struct cli *cli)
{
	json_t *args = json_pack("{s:s, s:s}", "volume", cli->argv[0], "name", cli->argv[1]);

	set_flag(cli, args, "force");
	return vdiskctl_ask_record(cli, "volume-rename", args, volume_done);
}

static int verb_rm(struct cli *cli)
{
	json_t *args = json_pack("{s:s}", "volume", cli->argv[0]), *answer;
	int rc;

	set_flag(cli, args, "force");
	set_flag(cli, args, "snapshots");
	rc = vdiskctl_ask(cli, "volume-delete", args, &answer);
	if (rc)
		return rc;
	output_json(cli->out, answer);
	output_note(cli->out, "removed %s", cli->argv[0]);
	json_decref(answer);
	return CLI_OK;
}

/* ---- pools ---- */

static int verb_pool_ls(struct cli *cli)
{
	static const struct output_column columns[] = {
		{ "name", "NAME", OUTPUT_TEXT },       { "state", "STATE", OUTPUT_TEXT },
		{ "size_bytes", "SIZE", OUTPUT_SIZE }, { "data_bytes", "DATA", OUTPUT_SIZE },
		{ "free_bytes", "FREE", OUTPUT_SIZE }, { "volumes", "VOLUMES", OUTPUT_NUMBER },
		{ "path", "PATH", OUTPUT_TEXT },       { 0 },
	};
	return ask_table(cli, "pool-list", NULL, "pools", columns, "no pools");
}

static const struct output_column pool_columns[] = {
	{ "name", "name", OUTPUT_TEXT },
	{ "state", "state", OUTPUT_TEXT },
	{ "path", "path", OUTPUT_TEXT },
	{ "id", "id", OUTPUT_TEXT },
	{ "size_bytes", "size", OUTPUT_SIZE },
	{ "data_bytes", "data", OUTPUT_SIZE },
	{ "metadata_bytes", "metadata", OUTPUT_SIZE },
	{ "reserved_bytes", "reserved", OUTPUT_SIZE },
	{ "reclaim_bytes", "being reclaimed", OUTPUT_SIZE },
	{ "reclaimed_bytes", "reclaimed so far", OUTPUT_SIZE },
	{ "reclaim_trees", "trees to reclaim", OUTPUT_NUMBER },
	{ "deleted", "deleted, still there", OUTPUT_NUMBER },
	{ "deleted_held", "of them needed", OUTPUT_NUMBER },
	{ "deleted_held_bytes", "held by these", OUTPUT_SIZE },
	{ "free_bytes", "free", OUTPUT_SIZE },
	{ "volumes", "volumes", OUTPUT_NUMBER },
	{ "connections", "clients", OUTPUT_NUMBER },
	{ "journal_bytes", "journal", OUTPUT_SIZE },
	{ "log_used_bytes", "journal in use", OUTPUT_SIZE },
	{ "node_cache_bytes", "node cache", OUTPUT_SIZE },
	{ "dirty_nodes", "dirty nodes", OUTPUT_NUMBER },
	{ "data_cache_limit_bytes", "data cache", OUTPUT_SIZE },
	{ "data_cached_bytes", "data cached", OUTPUT_SIZE },
	{ "cache_hits", "data cache hits", OUTPUT_NUMBER },
	{ "cache_misses", "data cache misses", OUTPUT_NUMBER },
	{ "buffer_used_bytes", "buffers in use", OUTPUT_SIZE },
	{ "buffer_limit_bytes", "buffers", OUTPUT_SIZE },
	{ "commits", "commits", OUTPUT_NUMBER },
	{ "checkpoints", "checkpoints", OUTPUT_NUMBER },
	{ "flushes", "flushes", OUTPUT_NUMBER },
	{ "checksum_errors", "checksum errors", OUTPUT_NUMBER },
	{ "enospc_errors", "refused for space", OUTPUT_NUMBER },
	{ "punched_bytes", "given back to host", OUTPUT_SIZE },
	{ "ahead_bytes", "written ahead", OUTPUT_SIZE },
	{ "scrub.state", "scrub", OUTPUT_TEXT },
	{ "scrub.checked_bytes", "scrubbed", OUTPUT_SIZE },
	{ "scrub.finds", "scrub finds", OUTPUT_NUMBER },
	{ 0 },
};

static int verb_pool_status(struct cli *cli)
{
	json_t *args = json_object(), *answer, *pool;
	size_t i;
	int rc;

	set_text(args, "pool", cli->argc > 0 ? cli->argv[0] : NULL);
	rc = vdiskctl_ask(cli, "pool-status", args, &answer);
	if (rc)
		return rc;
	output_json(cli->out, answer);
	if (!output_is_json(cli->out)) {
		json_array_foreach(json_object_get(answer, "pools"), i, pool)
		{
			if (i > 0)
				output_note(cli->out, "%s", "");
			output_record(cli->out, pool, pool_columns);
		}
	}
	json_decref(answer);
	return CLI_OK;
}

static int verb_pool_grow(struct cli *cli)
{
	static const struct output_column columns[] = {
		{ "pool", "pool", OUTPUT_TEXT },
		{ "size_bytes", "size", OUTPUT_SIZE },
		{ 0 },
	};
	uint64_t size;
	int rc = cli_parse_size(cli, "SIZE", cli->argv[1], &size);

	if (rc)
		return rc;
	return vdiskctl_ask_record(
		cli, "pool-grow",
		json_pack("{s:s, s:I}", "pool", cli->argv[0], "size", (json_int_t)size), columns);
}

/* ---- looking ---- */

static int verb_clients(struct cli *cli)
{
	static const struct output_column columns[] = {
		{ "volume", "VOLUME", OUTPUT_TEXT },
		{ "peer", "PEER", OUTPUT_TEXT },
		{ "mode", "MODE", OUTPUT_TEXT },
		{ "since_s", "SINCE", OUTPUT_TIME },
		{ "reads", "READS", OUTPUT_NUMBER },
		{ "read_bytes", "READ", OUTPUT_SIZE },
		{ "writes", "WRITES", OUTPUT_NUMBER },
		{ "written_bytes", "WRITTEN", OUTPUT_SIZE },
		{ "in_flight", "IN FLIGHT", OUTPUT_NUMBER },
		{ 0 },
	};
	json_t *args = json_object();

	set_text(args, "volume", cli->argc > 0 ? cli->argv[0] : NULL);
	return ask_table(cli, "clients", args, "clients", columns, "no clients");
}

static int verb_metrics(struct cli *cli)
{
	json_t *answer;
	int rc = vdiskctl_ask(cli, "metrics", NULL, &answer);

	if (rc)
		return rc;
	if (output_is_json(cli->out))
		output_json(cli->out, answer);
	else
		output_raw(cli->out, json_string_value(json_object_get(answer, "text")));
	json_decref(answer);
	return CLI_OK;
}

/* ---- reload ---- */

static void print_lines(struct cli *cli, json_t *lines, const char *before)
{
	json_t *line;
	size_t i;

	json_array_foreach(lines, i, line)
		output_note(cli->out, "%s%s", before, json_string_value(line));
}

static int reload_refused(struct cli *cli, json_t *answer, json_t *errors)
{
	json_t *line;
	size_t i;

	(void)json_object_set(answer, "error", json_array_get(errors, 0));
	output_json(cli->out, answer);
	json_array_foreach(errors, i, line)
		fprintf(stderr, "vdiskctl: %s\n", json_string_value(line));
	fprintf(stderr, "vdiskctl: not reloaded, nothing has changed\n");
	return CLI_FAILED;
}

static int verb_reload(struct cli *cli)
{
	json_t *answer, *errors;
	int rc = vdiskctl_ask(cli, "reload", NULL, &answer);

	if (rc)
		return rc;
	errors = json_object_get(answer, "errors");
	if (errors) {
		rc = reload_refused(cli, answer, errors);
	} else {
		output_json(cli->out, answer);
		if (!json_array_size(json_object_get(answer, "changed")))
			output_note(cli->out, "nothing has changed");
		print_lines(cli, json_object_get(answer, "changed"), "");
		print_lines(cli, json_object_get(answer, "restart"), "needs a restart: ");
	}
	json_decref(answer);
	return rc;
}

/* ---- completion ---- */

static void print_names(json_t *rows, const char *kind, FILE *f)
{
	json_t *row;
	size_t i;

	json_array_foreach(rows, i, row)
	{
		const char *is = json_string_value(json_object_get(row, "kind"));

		if (!kind || (is && !strcmp(is, kind)))
			fprintf(f, "%s\n", json_string_value(json_object_get(row, "name")));
	}
}

static void print_rows(json_t *rows, void *ctx)
{
	print_names(rows, NULL, ctx);
}

/* The first page of snapshots is enough to choose from. */
static void complete(struct cli *cli, const char *argument, FILE *f)
{
	json_t *answer;

	if (strstr(argument, "POOL")) {
		answer = vdiskctl_ask_quietly(cli, "pool-list", NULL, COMPLETE_TIMEOUT_MS);
		print_names(json_object_get(answer, "pools"), NULL, f);
		json_decref(answer);
	} else if (strstr(argument, "VOL") && strcmp(argument, "VOL@SNAP")) {
		(void)ask_quietly(cli, ask_pages, "volume-list", json_object(),
				  &(struct vdiskctl_list){ "volumes", print_rows, f },
				  COMPLETE_TIMEOUT_MS);
	}
	if (strcmp(argument, "VOL@SNAP") && strcmp(argument, "VOL|VOL@SNAP"))
		return;
	answer = vdiskctl_ask_quietly(cli, "lineage", NULL, COMPLETE_TIMEOUT_MS);
	print_names(json_object_get(answer, "nodes"), "snapshot", f);
	json_decref(answer);
}

/* ---- tables ---- */

#define OPTION_POOL                                                                                \
	{                                                                                          \
		"pool", 0, "POOL", false, "the pool, where there are several"                      \
	}
#define OPTION_FORCE(text)                                                                         \
	{                                                                                          \
		"force", 0, NULL, false, text                                                      \
	}

static const struct cli_option create_options[] = {
	{ "size", 0, "SIZE", false, "its size, for instance 10G" },
	OPTION_POOL,
	{ "reserve", 0, "none|full", false, "full: keep space for every block of it" },
	{ 0 },
};
static const struct cli_option tree_options[] = {
	{ "pool", 0, "POOL", false, "only this pool" },
	{ 0 },
};
static const struct cli_option ls_options[] = {
	{ "pool", 0, "POOL", false, "only this pool" },
	{ "snapshots", 0, NULL, false, "list the snapshots, with the space of each" },
	{ 0 },
};
static const struct cli_option resize_options[] = {
	{ "shrink", 0, NULL, false, "it may become smaller: what is beyond is lost" },
	OPTION_FORCE("close its connections first"),
	{ 0 },
};
static const struct cli_option force_options[] = {
	OPTION_FORCE("close its connections first"),
	{ 0 },
};
static const struct cli_option pool_create_options[] = {
	{ "size", 0, "SIZE", false, "its size; a block device has one of its own" },
	{ "journal", 0, "SIZE", false, "size of the intent log" },
	OPTION_FORCE("write over what is there"),
	{ 0 },
};
static const struct cli_option verify_options[] = {
	{ "data", 0, NULL, false, "check the checksum of every block too" },
	{ 0 },
};
static const struct cli_option import_options[] = {
	OPTION_POOL,
	{ "size", 0, "SIZE", false, "make the volume larger than the source" },
	OPTION_FORCE("close the volume's connections and write over it"),
	{ "raw", 0, NULL, false, "take the bytes as they are, whatever image they look like" },
	{ 0 },
};
static const struct cli_option export_options[] = {
	OPTION_FORCE("write over a file, device or export that exists"),
	{ 0 },
};

static const struct cli_option rm_options[] = {
	OPTION_FORCE("close the volume's connections first"),
	{ "snapshots", 0, NULL, false, "remove its snapshots too" },
	{ 0 },
};

static const struct cli_option clone_options[] = {
	{ "reserve", 0, "none|full", false, "keep space for every block of it" },
	{ 0 },
};

static const struct cli_option scrub_options[] = {
	{ "status", 0, NULL, false, "how far the last one is, and what it has found" },
	{ "stop", 0, NULL, false, "end it" },
	{ "wait", 0, NULL, false, "wait for its end" },
	{ 0 },
};

static const struct cli_option handover_options[] = {
	{ "to", 0, "ID", false, "holder's ID, pid=N, uid=N, addr=ADDRESS, a whole holder, any" },
	{ "ttl", 0, "TIME", false, "it has to come within this time; 300s" },
	{ "if-epoch", 0, "N", false, "only if the lock's epoch is still N" },
	{ "cancel", 0, NULL, false, "no handover after all" },
	{ 0 },
};

static const struct cli_option break_options[] = {
	{ "to", 0, "ID", false, "reserve it for this one; see lock handover" },
	{ "if-epoch", 0, "N", false, "only if the lock's epoch is still N" },
	{ 0 },
};

static const struct cli_option stat_options[] = {
	{ "interval", 0, "TIME", false, "show what was done in each interval, as rates" },
	{ "count", 0, "N", false, "so many intervals (of 1s if not said otherwise)" },
	{ 0 },
};

static const struct cli_verb verbs[] = {
	{ "create", "VOL", create_options, verb_create, "make an empty volume" },
	{ "ls", NULL, ls_options, verb_ls, "list the volumes" },
	{ "info", "VOL", NULL, verb_info, "all about one volume" },
	{ "resize", "VOL SIZE", resize_options, verb_resize, "change a volume's size" },
	{ "rename", "VOL NAME", force_options, verb_rename, "give a volume another name" },
	{ "rm", "VOL|VOL@SNAP", rm_options, verb_rm,
	  "remove a volume with its data, or a snapshot" },
	{ "snapshot", "VOL@NAME...", NULL, vdiskctl_snapshot,
	  "take a snapshot, or several at the same moment" },
	{ "clone", "VOL@SNAP NAME", clone_options, vdiskctl_clone,
	  "make a volume that begins as the snapshot" },
	{ "rollback", "VOL@SNAP", force_options, vdiskctl_rollback,
	  "make the volume what it was then" },
	{ "tree", NULL, tree_options, vdiskctl_tree, "draw who is built on whom" },
	{ "diff", "VOL@SNAP VOL|VOL@SNAP", NULL, vdiskctl_diff,
	  "list what differs between the two" },
	{ "pool create", "FILE", pool_create_options, vdiskctl_pool_create,
	  "make an empty pool in a file or on a block device (offline)" },
	{ "pool ls", NULL, NULL, verb_pool_ls, "list the pools" },
	{ "pool status", "[POOL]", NULL, verb_pool_status, "all about the pools" },
	{ "pool grow", "POOL SIZE", NULL, verb_pool_grow, "make a pool larger" },
	{ "pool scrub", "POOL", scrub_options, vdiskctl_scrub, "read all of a pool and check it" },
	{ "lock show", "[VOL]", NULL, vdiskctl_lock_show, "who may write, and who would like to" },
	{ "lock handover", "VOL", handover_options, vdiskctl_lock_handover,
	  "let another take the write lock with its first write, for a live migration" },
	{ "lock break", "VOL", break_options, vdiskctl_lock_break,
	  "take the write lock away: who has it can write no more" },
	{ "lock allow", "VOL", NULL, vdiskctl_lock_allow, "let in again whom a break has fenced" },
	{ "set", "VOL KEY=VALUE", NULL, vdiskctl_set,
	  "change a setting of a volume that the configuration does not declare" },
	{ "clients", "[VOL]", NULL, verb_clients, "list the connections" },
	{ "stat", "[VOL]", stat_options, vdiskctl_stat, "requests and latencies of the volumes" },
	{ "metrics", NULL, NULL, verb_metrics, "print all counters as OpenMetrics" },
	{ "reload", NULL, NULL, verb_reload, "read the configuration again and apply it" },
	{ "verify", "FILE", verify_options, vdiskctl_verify, "check a pool that is not open" },
	{ "import", "SOURCE VOL", import_options, vdiskctl_import,
	  "fill a volume from a file, device or NBD URI" },
	{ "export", "VOL TARGET", export_options, vdiskctl_export,
	  "write a volume to a file, device or NBD URI" },
	{ 0 },
};

int main(int argc, char **argv)
{
	static const struct cli_tool tool = {
		.name = "vdiskctl",
		.summary = "manage the disks of blockd",
		.socket = CONF_CONTROL_DEFAULT,
		.verbs = verbs,
		.complete = complete,
	};
	return cli_main(&tool, argc, argv);
}
