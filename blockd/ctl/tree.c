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

/* A row without its branches: "db@mon  1.5 GiB, 20 MiB alone". */
static char *describe(json_t *node)
{
	const char *kind = text_of(node, "kind");
	bool hidden = strcmp(kind, "deleted") == 0, volume = strcmp(kind, "volume") == 0;
	bool held = hidden && member(node, "children") > 1;
	char size[UNITS_TEXT_MAX], more[UNITS_TEXT_MAX], *text;
	char pins[1024], heirs[1024];
	uint64_t alone = (uint64_t)member(node, volume || held ? "own_bytes"
						: hidden       ? "reclaiming_bytes"
							       : "exclusive_bytes");

	pins_text(node, pins, sizeof(pins));
	heirs_text(held ? node : NULL, heirs, sizeof(heirs));
	size_format_human((uint64_t)member(node, "used_bytes"), size);
	size_format_human(alone, more);
	if (asprintf(&text, "%s%s%s  %s, %s %s%s%s%s%s", hidden ? "(deleted " : "",
		     text_of(node, "name"), hidden ? ")" : "", size, more,
		     volume   ? "of its own"
		     : held   ? "held"
		     : hidden ? "being reclaimed"
			      : "alone",
		     json_is_false(json_object_get(node, "exclusive_exact")) ? " (being counted)"
									     : "",
		     heirs, pins[0] ? "; open: " : "", pins) < 0)
		return NULL;
	return text;
}

/* What is drawn, in order of pool, parent, id: so children lie side by side. */
struct leaf {
	char *text;
	uint32_t pool; /* its number in the list, which has one behind the other */
	json_int_t id, parent;
};

struct forest {
	struct leaf *leaves;
	size_t count, capacity;
	uint32_t pool;
	char pool_name[256];
	bool failed; /* no memory */
};

static bool forest_grow(struct forest *f)
{
	size_t capacity = f->capacity ? 2 * f->capacity : 1024;
	struct leaf *leaves;

	if (f->count < f->capacity)
		return true;
	leaves = reallocarray(f->leaves, capacity, sizeof(*leaves));
	if (!leaves)
		return false;
	f->leaves = leaves;
	f->capacity = capacity;
	return true;
}

static void forest_add(json_t *rows, void *ctx)
{
	struct forest *f = ctx;
	json_t *node;
	size_t i;

	json_array_foreach(rows, i, node)
	{
		char *text = forest_grow(f) ? describe(node) : NULL;

		if (!text) {
			f->failed = true;
			return;
		}
		if (strcmp(f->pool_name, text_of(node, "pool"))) {
			snprintf(f->pool_name, sizeof(f->pool_name), "%s", text_of(node, "pool"));
			f->pool++;
		}
		f->leaves[f->count++] =
			(struct leaf){ text, f->pool, member(node, "id"), member(node, "parent") };
	}
}

/* Nodes still to be drawn at one depth, and how far they are indented. */
struct level {
	const struct leaf *next, *end;
	size_t indent;
};

static void draw_node(struct cli *cli, const struct leaf *leaf, const char *indent,
		      const char *branch)
{
	output_raw(cli->out, indent);
	output_raw(cli->out, branch);
	output_raw(cli->out, leaf->text);
	output_raw(cli->out, "\n");
}

static int compare_ids(const void *a, const void *b)
{
	const struct leaf *x = a, *y = b;

	if (x->pool != y->pool)
		return x->pool < y->pool ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

static int compare_parents(const void *a, const void *b)
{
	const struct leaf *x = a, *y = b;

	if (x->pool != y->pool)
		return x->pool < y->pool ? -1 : 1;
	if (x->parent != y->parent)
		return x->parent < y->parent ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

/* The first of those built on `parent` of the pool, or where they would be. */
static const struct leaf *first_child(const struct forest *f, uint32_t pool, json_int_t parent)
{
	struct leaf key = { .pool = pool, .parent = parent, .id = -1 };
	size_t low = 0, count = f->count;

	while (low < count) {
		size_t middle = low + (count - low) / 2;

		if (compare_parents(&f->leaves[middle], &key) < 0)
			low = middle + 1;
		else
			count = middle;
	}
	return f->leaves + low;
}

static struct level children_of(const struct forest *f, const struct leaf *leaf)
{
	return (struct level){ first_child(f, leaf->pool, leaf->id),
			       first_child(f, leaf->pool, leaf->id + 1), 0 };
}

/* Depth first, without recursion: a chain of snapshots may be as long as it likes. */
static void draw_below(struct cli *cli, const struct forest *f, const struct leaf *root,
		       struct level *levels)
{
	char indent[4 * DEPTH_MAX + 1] = "";
	size_t depth = 1;

	draw_node(cli, root, indent, "");
	levels[0] = children_of(f, root);
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
		draw_node(cli, leaf, indent, last ? "`-- " : "|-- ");
		levels[depth] = children_of(f, leaf);
		levels[depth].indent = at->indent;
		if (at->indent + 4 < sizeof(indent)) {
			memcpy(indent + at->indent, last ? "    " : "|   ", 5);
			levels[depth].indent += 4;
		}
		depth++;
	}
}

/* Parents that are not there (they went while the list came) are none. */
static void settle_parents(struct forest *f)
{
	if (!f->count)
		return;
	qsort(f->leaves, f->count, sizeof(*f->leaves), compare_ids);
	for (size_t i = 0; i < f->count; i++) {
		struct leaf key = { .pool = f->leaves[i].pool, .id = f->leaves[i].parent };

		if (key.id && !bsearch(&key, f->leaves, f->count, sizeof(*f->leaves), compare_ids))
			f->leaves[i].parent = 0;
	}
	qsort(f->leaves, f->count, sizeof(*f->leaves), compare_parents);
}

static int draw(struct cli *cli, struct forest *f)
{
	struct level *levels = f->failed ? NULL : calloc(f->count + 1, sizeof(*levels));

	if (!levels)
		return vdiskctl_no_memory(cli);
	settle_parents(f);
	for (size_t i = 0; i < f->count; i++)
		if (f->leaves[i].parent == 0)
			draw_below(cli, f, &f->leaves[i], levels);
	if (!f->count)
		output_note(cli->out, "no volumes");
	free(levels);
	return CLI_OK;
}

static int draw_tree(struct cli *cli)
{
	struct forest f = { 0 };
	int rc = vdiskctl_ask_list(cli, "lineage",
				   &(struct vdiskctl_list){ "nodes", forest_add, &f });

	if (rc == 0)
		rc = draw(cli, &f);
	for (size_t i = 0; i < f.count; i++)
		free(f.leaves[i].text);
	free(f.leaves);
	return rc;
}

static void add_nodes(json_t *rows, void *ctx)
{
	output_list_add(ctx, rows);
}

int vdiskctl_tree(struct cli *cli)
{
	struct output_list *out;
	int rc;

	if (!output_is_json(cli->out))
		return draw_tree(cli);
	out = output_list_new(cli->out, NULL, "nodes", NULL);
	if (!out)
		return vdiskctl_no_memory(cli);
	rc = vdiskctl_ask_list(cli, "lineage", &(struct vdiskctl_list){ "nodes", add_nodes, out });
	output_list_end(out, rc == 0);
	return rc;
}

/* Of the lineage the snapshots alone; as text with who has them open in one cell. */
struct snapshots {
	struct output_list *out;
	bool json;
};

static void add_snapshots(json_t *rows, void *ctx)
{
	const struct snapshots *s = ctx;
	json_t *found = json_array(), *node;
	char pins[1024];
	size_t i;

	json_array_foreach(rows, i, node)
	{
		if (strcmp(text_of(node, "kind"), "snapshot"))
			continue;
		if (!s->json) {
			pins_text(node, pins, sizeof(pins));
			(void)json_object_set_new(node, "open", json_string(pins));
		}
		(void)json_array_append(found, node);
	}
	output_list_add(s->out, found);
	json_decref(found);
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
	struct snapshots s = { output_list_new(cli->out, columns, NULL, "no snapshots"),
			       output_is_json(cli->out) };
	int rc;

	if (!s.out)
		return vdiskctl_no_memory(cli);
	rc = vdiskctl_ask_list(cli, "lineage",
			       &(struct vdiskctl_list){ "nodes", add_snapshots, &s });
	output_list_end(s.out, rc == 0);
	return rc;
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
