/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The tool's verbs about snapshots: taking, cloning, going back, drawing the tree, comparing. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/ctl/vdiskctl.h"
#include "common/base/units.h"

#define NAMES_MAX 8192u
#define DEPTH_MAX 64u /* levels drawn; deeper ones are drawn at this one */

static const struct output_column done_columns[] = {
	{ "pool", "pool", OUTPUT_TEXT },
	{ "name", "name", OUTPUT_TEXT },
	{ "size_bytes", "size", OUTPUT_SIZE },
	{ 0 },
};

int vdiskctl_snapshot(struct cli *cli)
{
	char names[NAMES_MAX] = "";
	json_t *answer;
	int rc;

	for (int i = 0; i < cli->argc; i++) {
		if (strpbrk(cli->argv[i], " \t") ||
		    strlen(names) + strlen(cli->argv[i]) + 2 > NAMES_MAX)
			return cli_usage_error(cli, "'%.200s': expected VOL@SNAP", cli->argv[i]);
		strcat(strcat(names, names[0] ? " " : ""), cli->argv[i]);
	}
	rc = vdiskctl_ask(cli, "snapshot", json_pack("{s:s}", "snapshots", names), &answer);
	if (rc)
		return rc;
	output_json(cli->out, answer);
	for (int i = 0; i < cli->argc; i++)
		output_note(cli->out, "%s taken", cli->argv[i]);
	json_decref(answer);
	return CLI_OK;
}

int vdiskctl_clone(struct cli *cli)
{
	const char *reserve = cli_option(cli, "reserve");

	if (reserve && strcmp(reserve, "none") && strcmp(reserve, "full"))
		return cli_usage_error(cli, "--reserve takes none or full");
	return vdiskctl_ask_record(cli, "clone",
				   json_pack("{s:s, s:s, s:b}", "snapshot", cli->argv[0], "name",
					     cli->argv[1], "reserve_full",
					     reserve && strcmp(reserve, "full") == 0),
				   done_columns);
}

int vdiskctl_rollback(struct cli *cli)
{
	return vdiskctl_ask_record(
		cli, "rollback",
		json_pack("{s:s, s:b}", "snapshot", cli->argv[0], "force", cli_flag(cli, "force")),
		done_columns);
}

/* ---- the tree ---- */

static json_int_t member(json_t *node, const char *key)
{
	return json_integer_value(json_object_get(node, key));
}

static const char *text_of(json_t *node, const char *key)
{
	const char *text = json_string_value(json_object_get(node, key));

	return text ? text : "";
}

/* "unix:pid=812,uid=0 (compares db with it)", or several. */
static void pins_text(json_t *node, char *buf, size_t size)
{
	size_t used = 0, i;
	json_t *pin;

	buf[0] = '\0';
	json_array_foreach(json_object_get(node, "pins"), i, pin)
	{
		const char *with = text_of(pin, "with");

		if (used + 1 >= size)
			return;
		used += (size_t)snprintf(buf + used, size - used, "%s%s%s%s%s", i ? ", " : "",
					 text_of(pin, "by"), with[0] ? " (compares " : "", with,
					 with[0] ? " with it)" : "");
	}
}

/* " for db, test", of a deleted one; with several heirs it stays until one is left. */
static void heirs_text(json_t *node, char *buf, size_t size)
{
	size_t used = 0, i;
	json_t *heir;

	buf[0] = '\0';
	json_array_foreach(json_object_get(node, "held_for"), i, heir)
	{
		if (used + 1 >= size)
			return;
		used += (size_t)snprintf(buf + used, size - used, "%s%s", i ? ", " : " for ",
					 json_string_value(heir));
	}
}

static void draw_node(struct cli *cli, json_t *node, const char *indent, bool root, bool last)
{
	const char *kind = text_of(node, "kind");
	bool hidden = strcmp(kind, "deleted") == 0, volume = strcmp(kind, "volume") == 0;
	bool held = hidden && member(node, "children") > 1;
	char line[4096], size[UNITS_TEXT_MAX], more[UNITS_TEXT_MAX];
	char pins[1024], heirs[1024];
	uint64_t alone = (uint64_t)member(node, volume || held ? "own_bytes"
						: hidden       ? "reclaiming_bytes"
							       : "exclusive_bytes");

	pins_text(node, pins, sizeof(pins));
	heirs_text(held ? node : NULL, heirs, sizeof(heirs));
	size_format_human((uint64_t)member(node, "used_bytes"), size);
	size_format_human(alone, more);
	snprintf(line, sizeof(line), "%s%s%s%s%s  %s, %s %s%s%s%s%s\n", indent,
		 root	? ""
		 : last ? "`-- "
			: "|-- ",
		 hidden ? "(deleted " : "", text_of(node, "name"), hidden ? ")" : "", size, more,
		 volume	  ? "of its own"
		 : held	  ? "held"
		 : hidden ? "being reclaimed"
			  : "alone",
		 json_is_false(json_object_get(node, "exclusive_exact")) ? " (being counted)" : "",
		 heirs, pins[0] ? "; open: " : "", pins);
	output_raw(cli->out, line);
}

/* What is drawn, in order of pool, parent, id: so children lie side by side. */
struct leaf {
	json_t *json;
	const char *pool;
	json_int_t id, parent;
};

/* Nodes still to be drawn at one depth, and how far they are indented. */
struct level {
	const struct leaf *next, *end;
	size_t indent;
};

static int compare_ids(const void *a, const void *b)
{
	const struct leaf *x = a, *y = b;
	int by_pool = strcmp(x->pool, y->pool);

	return by_pool ? by_pool : x->id < y->id ? -1 : x->id > y->id;
}

static int compare_parents(const void *a, const void *b)
{
	const struct leaf *x = a, *y = b;
	int by_pool = strcmp(x->pool, y->pool);

	if (by_pool || x->parent != y->parent)
		return by_pool ? by_pool : x->parent < y->parent ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

/* The first of those built on `parent` of the pool, or where they would be. */
static const struct leaf *first_child(const struct leaf *leaves, size_t count, const char *pool,
				      json_int_t parent)
{
	struct leaf key = { .pool = pool, .parent = parent, .id = -1 };
	size_t low = 0;

	while (low < count) {
		size_t middle = low + (count - low) / 2;

		if (compare_parents(&leaves[middle], &key) < 0)
			low = middle + 1;
		else
			count = middle;
	}
	return leaves + low;
}

static struct level children_of(const struct leaf *leaves, size_t count, const char *pool,
				json_int_t parent)
{
	return (struct level){ first_child(leaves, count, pool, parent),
			       first_child(leaves, count, pool, parent + 1), 0 };
}

/* Depth first, without recursion: a chain of snapshots may be as long as it likes. */
static void draw_below(struct cli *cli, const struct leaf *leaves, size_t count,
		       const struct leaf *root, struct level *levels)
{
	char indent[4 * DEPTH_MAX + 1] = "";
	size_t depth = 1;

	draw_node(cli, root->json, indent, true, true);
	levels[0] = children_of(leaves, count, root->pool, root->id);
	while (depth) {
		struct level *at = &levels[depth - 1];
		const struct leaf *leaf = at->next;
		bool last = leaf + 1 == at->end;

		if (leaf == at->end) {
			depth--;
			continue;
		}
		at->next++;
		indent[at->indent] = '\0';
		draw_node(cli, leaf->json, indent, false, last);
		levels[depth] = children_of(leaves, count, leaf->pool, leaf->id);
		levels[depth].indent = at->indent;
		if (at->indent + 4 < sizeof(indent)) {
			memcpy(indent + at->indent, last ? "    " : "|   ", 5);
			levels[depth].indent += 4;
		}
		depth++;
	}
}

/* Parents that are not there (they went while the list came) are none. */
static void settle_parents(struct leaf *leaves, size_t count)
{
	qsort(leaves, count, sizeof(*leaves), compare_ids);
	for (size_t i = 0; i < count; i++) {
		struct leaf key = { .pool = leaves[i].pool, .id = leaves[i].parent };

		if (key.id && !bsearch(&key, leaves, count, sizeof(*leaves), compare_ids))
			leaves[i].parent = 0;
	}
	qsort(leaves, count, sizeof(*leaves), compare_parents);
}

static int draw(struct cli *cli, json_t *nodes)
{
	size_t count = json_array_size(nodes), i;
	struct leaf *leaves = calloc(count + 1, sizeof(*leaves));
	struct level *levels = calloc(count + 1, sizeof(*levels));
	json_t *node;
	struct err err = { 0 };
	int rc = CLI_OK;

	if (leaves && levels) {
		json_array_foreach(nodes, i, node) leaves[i] =
			(struct leaf){ node, text_of(node, "pool"), member(node, "id"),
				       member(node, "parent") };
		settle_parents(leaves, count);
		for (i = 0; i < count; i++)
			if (leaves[i].parent == 0)
				draw_below(cli, leaves, count, &leaves[i], levels);
	} else {
		(void)err_set(&err, -ENOMEM, "out of memory");
		rc = vdiskctl_fail(cli, CLI_FAILED, &err);
	}
	free(leaves);
	free(levels);
	return rc;
}

int vdiskctl_tree(struct cli *cli)
{
	json_t *answer, *nodes;
	int rc = vdiskctl_ask_list(cli, "lineage", "nodes", &answer);

	if (rc)
		return rc;
	nodes = json_object_get(answer, "nodes");
	output_json(cli->out, answer);
	if (!output_is_json(cli->out))
		rc = draw(cli, nodes);
	if (json_array_size(nodes) == 0)
		output_note(cli->out, "no volumes");
	json_decref(answer);
	return rc;
}

int vdiskctl_ls_snapshots(struct cli *cli)
{
	static const struct output_column columns[] = {
		{ "pool", "POOL", OUTPUT_TEXT },
		{ "name", "NAME", OUTPUT_TEXT },
		{ "size_bytes", "SIZE", OUTPUT_SIZE },
		{ "used_bytes", "USED", OUTPUT_SIZE },
		{ "own_bytes", "OWN", OUTPUT_SIZE },
		{ "exclusive_bytes", "ALONE", OUTPUT_SIZE },
		{ "created_s", "CREATED", OUTPUT_TIME },
		{ "open", "OPEN", OUTPUT_TEXT },
		{ 0 },
	};
	char pins[1024];
	json_t *answer, *rows, *node;
	size_t i;
	int rc = vdiskctl_ask_list(cli, "lineage", "nodes", &answer);

	if (rc)
		return rc;
	rows = json_array();
	json_array_foreach(json_object_get(answer, "nodes"), i,
			   node) if (strcmp(text_of(node, "kind"), "snapshot") == 0)(void)
		json_array_append(rows, node);
	if (output_is_json(cli->out)) {
		output_json(cli->out, rows);
	} else {
		json_array_foreach(rows, i, node)
		{
			pins_text(node, pins, sizeof(pins));
			(void)json_object_set_new(node, "open", json_string(pins));
		}
		output_table(cli->out, rows, columns, "no snapshots");
	}
	json_decref(rows);
	json_decref(answer);
	return CLI_OK;
}

/* ---- diff ---- */

/* How far a comparison is, and of what: another snapshot of that name is another one. */
struct place {
	json_int_t offset, size, id, base_id;
};

/* One piece of the answer into `all`; 0, or CLI_... */
static int ask_diff(struct cli *cli, const char *base, struct place *at, json_t *all)
{
	json_t *answer;
	int rc = vdiskctl_ask(cli, "diff",
			      json_pack("{s:s, s:s, s:I, s:I, s:I}", "volume", cli->argv[1], "base",
					base, "offset", at->offset, "id", at->id, "base_id",
					at->base_id),
			      &answer);

	if (rc)
		return rc;
	(void)json_array_extend(all, json_object_get(answer, "changed"));
	*at = (struct place){ member(answer, "next"), member(answer, "size_bytes"),
			      member(answer, "id"), member(answer, "base_id") };
	json_decref(answer);
	return 0;
}

int vdiskctl_diff(struct cli *cli)
{
	static const struct output_column columns[] = {
		{ "offset", "OFFSET", OUTPUT_NUMBER },
		{ "length", "LENGTH", OUTPUT_NUMBER },
		{ 0 },
	};
	json_t *all = json_array(), *row;
	struct place at = { .size = 1 };
	json_int_t bytes = 0;
	char text[UNITS_TEXT_MAX];
	size_t i;
	int rc = 0;

	while (!rc && at.offset < at.size)
		rc = ask_diff(cli, cli->argv[0], &at, all);
	json_array_foreach(all, i, row) bytes += member(row, "length");
	if (rc == 0 && output_is_json(cli->out)) {
		json_t *whole = json_pack("{s:I, s:I, s:O}", "size_bytes", at.size, "changed_bytes",
					  bytes, "changed", all);

		output_json(cli->out, whole);
		json_decref(whole);
	} else if (rc == 0) {
		output_table(cli->out, all, columns, NULL);
		output_note(cli->out, "%s differ", size_format_human((uint64_t)bytes, text));
	}
	json_decref(all);
	return rc ? rc : CLI_OK;
}
