/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Statements of a config file, checked against the schema as they are read.
 *
 *	body:	    { statement }
 *	statement:  WORD "=" value
 *		    WORD [ title ] "{" body "}"
 *		    "include" title				(at the top of a file)
 *	value:	    text | "{" [ text { "," text } [","] ] "}"
 *	title, text: WORD | STRING
 *
 * A semantic error is recorded and reading goes on: the statement's value is dropped, or its
 * section is read into a node that never joins the tree, so that errors inside are found too.
 * Inside an unknown section (`sec` is NULL) only syntax is checked.  A syntax error ends the file.
 */
#include "common/daemon/conf_private.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/cleanup.h"
#include "common/base/nearest.h"

struct parser {
	struct conf *conf;
	const char *file; /* the conf's own copy */
	unsigned include_depth;
	struct conf_lexer lex;
};

static int read_file(struct conf *c, const char *path, unsigned include_depth,
		     const struct conf_pos *from);

static struct conf_pos here(const struct parser *p)
{
	return (struct conf_pos){ .file = p->file, .line = p->lex.token_line };
}

/* A syntax error: what was found is the current token.  `expected` says the rest. */
static int fail_syntax(struct parser *p, const char *expected)
{
	struct conf_pos pos = here(p);
	char found[80];

	p->conf->cut_short = true;
	if (p->lex.token == CONF_TOKEN_BAD)
		conf_error(p->conf, &pos, "syntax: %s", p->lex.problem);
	else
		conf_error(p->conf, &pos, "syntax: found %s, expected %s",
			   conf_lexer_found(&p->lex, found, sizeof(found)), expected);
	return -EINVAL;
}

static bool is_text(enum conf_token t)
{
	return t == CONF_TOKEN_WORD || t == CONF_TOKEN_STRING;
}

/* ---- values ---- */

struct texts {
	struct conf_value *items;
	size_t count, capacity;
	bool braced;
};

static void texts_release(struct texts *t)
{
	free(t->items);
}

static int texts_add(struct parser *p, struct texts *t)
{
	if (t->count == CONF_LIST_COUNT_MAX)
		return fail_syntax(p, "at most 65536 values in a list");
	if (t->count == t->capacity) {
		size_t capacity = t->capacity ? t->capacity * 2 : 8;
		struct conf_value *items = reallocarray(t->items, capacity, sizeof(*items));

		if (!items) {
			p->conf->no_memory = true;
			return -ENOMEM;
		}
		t->items = items;
		t->capacity = capacity;
	}
	t->items[t->count] = (struct conf_value){ .pos = here(p) };
	t->items[t->count].text = conf_strndup(p->conf, p->lex.text, p->lex.len);
	return t->items[t->count++].text ? 0 : -ENOMEM;
}

/* Behind "{". */
static int parse_list(struct parser *p, struct texts *t)
{
	int r;

	t->braced = true;
	for (;;) {
		enum conf_token tok = conf_lexer_next(&p->lex);

		if (tok == CONF_TOKEN_CLOSE)
			return 0;
		if (!is_text(tok))
			return fail_syntax(p, "a value or \"}\"");
		r = texts_add(p, t);
		if (r)
			return r;
		tok = conf_lexer_next(&p->lex);
		if (tok == CONF_TOKEN_CLOSE)
			return 0;
		if (tok != CONF_TOKEN_COMMA)
			return fail_syntax(p, "\",\" or \"}\"");
	}
}

/* Behind "=". */
static int parse_value(struct parser *p, struct texts *t, const char *key)
{
	struct conf_pos equals = here(p);
	enum conf_token tok = conf_lexer_next(&p->lex);

	if (tok != CONF_TOKEN_BAD && p->lex.token_line != equals.line) {
		p->conf->cut_short = true;
		conf_error(p->conf, &equals,
			   "syntax: found end of line, expected a value for \"%.64s\"", key);
		return -EINVAL;
	}
	if (tok == CONF_TOKEN_OPEN)
		return parse_list(p, t);
	if (!is_text(tok))
		return fail_syntax(p, "a value");
	return texts_add(p, t);
}

/* Say that `name` is not known in this section: the nearest word, or all that are. */
static void report_unknown(struct parser *p, const struct conf_section *sec,
			   const struct conf_pos *pos, const char *name, bool is_key)
{
	const struct conf_section_type *type = sec->type;
	char known[400] = "", where[160];
	struct nearest near;
	size_t used = 0;

	nearest_start(&near, name);
	for (const struct conf_key *k = type->keys; is_key && k && k->name; k++) {
		nearest_feed(&near, k->name);
		if (used < sizeof(known))
			used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s",
						 used ? ", " : "", k->name);
	}
	for (const struct conf_section_type *s = type->sections; !is_key && s && s->name; s++) {
		nearest_feed(&near, s->name);
		if (used < sizeof(known))
			used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s",
						 used ? ", " : "", s->name);
	}
	conf_section_label(sec, where, sizeof(where));
	conf_error(p->conf, pos, "%s%sfound unknown %s \"%.64s\", expected %s%s%s%s", where,
		   *where ? ": " : "", is_key ? "key" : "section", name,
		   near.best ? "a known one; did you mean \""
		   : used    ? "one of "
			     : "none here",
		   near.best ? near.best : "", near.best ? "\"?" : "", near.best ? "" : known);
}

/* Convert the texts and hang the entry into the section; errors are recorded. */
static int store_entry(struct parser *p, struct conf_section *sec, const char *name,
		       struct conf_pos pos, struct texts *t)
{
	int index = conf_key_index(sec->type, name);
	const struct conf_key *key;
	struct conf_entry *e;

	if (index < 0) {
		const struct conf_section_type *other = conf_section_type_find(sec->type, name);

		if (other)
			conf_error(p->conf, &pos,
				   "found \"%s =\", expected a section: %s%s { ... }", name, name,
				   other->title == CONF_TITLE_NONE  ? ""
				   : other->title == CONF_TITLE_INT ? " NUMBER"
								    : " \"TITLE\"");
		else
			report_unknown(p, sec, &pos, name, true);
		return 0;
	}
	key = &sec->type->keys[index];
	if (sec->entries[index]) {
		const struct conf_pos *first = &sec->entries[index]->pos;

		conf_error(p->conf, &pos,
			   "found \"%s\" a second time, expected it once (first at %s:%u)", name,
			   first->file, first->line);
		return 0;
	}
	e = conf_alloc(p->conf, sizeof(*e));
	if (!e || !(e->values = conf_alloc(p->conf, t->count * sizeof(*e->values))))
		return -ENOMEM;
	e->key = key;
	e->pos = pos;
	sec->entries[index] = e;
	if (t->braced && !(key->flags & CONF_LIST)) {
		conf_error_at(p->conf, sec, name, "found a list, expected one value");
		return 0;
	}
	for (size_t i = 0; i < t->count; i++) {
		struct conf_value *v = &e->values[e->count];
		struct err err = { 0 };

		*v = t->items[i];
		if (!conf_value_parse(p->conf, key, v, &err)) {
			e->count++;
		} else {
			char where[160];

			conf_section_label(sec, where, sizeof(where));
			conf_error(p->conf, &v->pos, "%s%s%s: %s", where, *where ? ": " : "", name,
				   err.text);
		}
	}
	return p->conf->no_memory ? -ENOMEM : 0;
}

/* ---- sections ---- */

/*
 * The node for a section that starts at `pos`; *ret is NULL when its body can only be skipped.
 * Not yet linked when it must not join the tree.
 */
static int open_section(struct parser *p, struct conf_section *parent, const char *name,
			const char *title, struct conf_pos pos, struct conf_section **ret)
{
	const struct conf_section_type *type = conf_section_type_find(parent->type, name);
	struct conf_section *twin, *s;
	const char *canonical = "";
	struct err err = { 0 };
	uint64_t number = 0;
	bool good = true;
	char where[160];

	*ret = NULL;
	if (!type) {
		if (conf_key_index(parent->type, name) >= 0)
			conf_error(p->conf, &pos, "found \"%s {\", expected \"%s = ...\"", name,
				   name);
		else
			report_unknown(p, parent, &pos, name, false);
		return 0;
	}
	if (conf_title_parse(p->conf, type, title, &canonical, &number, &err)) {
		conf_error(p->conf, &pos, "%s: %s", name, err.text);
		good = false;
	}
	s = conf_section_new(p->conf, parent, type,
			     good    ? canonical
			     : title ? title
				     : "",
			     number, pos);
	if (!s)
		return -ENOMEM;
	twin = good ? conf_section_find(p->conf, parent, name, s->title) : NULL;
	if (twin) {
		conf_error(p->conf, &pos, "found a second %s, expected it once (first at %s:%u)",
			   conf_section_label(s, where, sizeof(where)), twin->pos.file,
			   twin->pos.line);
		good = false;
	}
	if (good && !conf_section_link(p->conf, s))
		return -ENOMEM;
	*ret = s;
	return 0;
}

/* ---- includes ---- */

/* What else may match shows in the folder, if that is one. */
static int note_glob(struct conf *c, const char *pattern)
{
	const char *slash = strrchr(pattern, '/');
	size_t len = slash ? (size_t)(slash - pattern) : 0;
	CLEANUP_FREE char *folder = strndup(pattern, len);

	if (!folder)
		return -ENOMEM;
	if (!len || strpbrk(folder, "*?["))
		c->has_globs = true;
	else if (!conf_file_name(c, folder))
		return -ENOMEM;
	return 0;
}

static int include_files(struct parser *p, const struct conf_pos *pos, const char *pattern)
{
	const char *slash = strrchr(p->file, '/');
	int dir_len = *pattern == '/' || !slash ? 0 : (int)(slash - p->file + 1);
	CLEANUP_FREE char *full = NULL;
	glob_t found = { 0 };
	int r;

	if (p->include_depth == CONF_INCLUDE_DEPTH_MAX) {
		conf_error(p->conf, pos, "found an include inside %u others, expected fewer",
			   CONF_INCLUDE_DEPTH_MAX);
		return 0;
	}
	if (asprintf(&full, "%.*s%s", dir_len, p->file, pattern) < 0) {
		full = NULL;
		return -ENOMEM;
	}
	if (!strpbrk(full, "*?[")) {
		r = read_file(p->conf, full, p->include_depth + 1, pos);
		return r == -ENOMEM ? r : 0;
	}
	r = note_glob(p->conf, full);
	if (r)
		return r;
	r = glob(full, 0, NULL, &found);
	if (r && r != GLOB_NOMATCH)
		conf_error(p->conf, pos, "include \"%.256s\": cannot read the folder", pattern);
	r = 0;
	for (size_t i = 0; i < found.gl_pathc && r != -ENOMEM; i++)
		r = read_file(p->conf, found.gl_pathv[i], p->include_depth + 1, pos);
	globfree(&found);
	return r == -ENOMEM ? r : 0;
}

/* ---- statements ---- */

static int parse_body(struct parser *p, struct conf_section *sec, unsigned depth);

/* Behind the name of a section (and its title, if any), at "{". */
static int parse_section(struct parser *p, struct conf_section *parent, const char *name,
			 const char *title, struct conf_pos pos, unsigned depth)
{
	struct conf_section *s = NULL;
	struct conf_pos end;
	int r = 0;

	if (depth == CONF_SECTION_DEPTH_MAX)
		return fail_syntax(p, "sections nested less deeply");
	if (parent)
		r = open_section(p, parent, name, title, pos, &s);
	if (!r)
		r = parse_body(p, s, depth + 1);
	if (r)
		return r;
	if (p->lex.token == CONF_TOKEN_CLOSE)
		return 0;
	p->conf->cut_short = true;
	end = here(p);
	conf_error(p->conf, &end,
		   "syntax: found end of file, expected \"}\" for the %s opened in line %u", name,
		   pos.line);
	return -EINVAL;
}

static int parse_statement(struct parser *p, struct conf_section *sec, unsigned depth)
{
	__attribute__((cleanup(texts_release))) struct texts values = { 0 };
	struct conf_pos pos = here(p);
	const char *name = conf_strndup(p->conf, p->lex.text, p->lex.len), *title = NULL;
	enum conf_token tok = conf_lexer_next(&p->lex);
	int r;

	if (!name)
		return -ENOMEM;
	if (tok == CONF_TOKEN_EQUALS) {
		r = parse_value(p, &values, name);
		return r || !sec ? r : store_entry(p, sec, name, pos, &values);
	}
	if (is_text(tok)) {
		title = conf_strndup(p->conf, p->lex.text, p->lex.len);
		if (!title)
			return -ENOMEM;
		if (depth == 0 && !strcmp(name, "include"))
			return include_files(p, &pos, title);
		if (conf_lexer_next(&p->lex) != CONF_TOKEN_OPEN)
			return fail_syntax(p, "\"{\"");
		return parse_section(p, sec, name, title, pos, depth);
	}
	if (tok != CONF_TOKEN_OPEN)
		return fail_syntax(p, "\"=\" or \"{\"");
	return parse_section(p, sec, name, title, pos, depth);
}

/* Up to "}" or the end of the file, which is then the current token. */
static int parse_body(struct parser *p, struct conf_section *sec, unsigned depth)
{
	for (;;) {
		enum conf_token tok = conf_lexer_next(&p->lex);
		int r;

		if (tok == CONF_TOKEN_END || (tok == CONF_TOKEN_CLOSE && depth))
			return 0;
		if (tok == CONF_TOKEN_COMMA)
			return fail_syntax(p, "the next key; a list is { a, b } or in quotes");
		if (tok != CONF_TOKEN_WORD)
			return fail_syntax(p, "the name of a key or section");
		r = parse_statement(p, sec, depth);
		if (r)
			return r;
	}
}

static int parse_text(struct conf *c, const char *file, const char *text, size_t len,
		      unsigned include_depth)
{
	CLEANUP_FREE struct parser *p = malloc(sizeof(*p));
	int r;

	if (!p) {
		c->no_memory = true;
		return -ENOMEM;
	}
	p->conf = c;
	p->file = file;
	p->include_depth = include_depth;
	conf_lexer_start(&p->lex, text, len);
	r = parse_body(p, c->root, 0);
	return c->no_memory ? -ENOMEM : r;
}

/* ---- files ---- */

/* The whole file (a pipe will do) into malloc'ed memory.  0 or -errno. */
static int slurp(const char *path, char **ret, size_t *ret_len)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	CLEANUP_FREE char *buf = NULL;
	size_t len = 0, size = 0;
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	for (;;) {
		ssize_t n;

		if (len == size) {
			char *bigger;

			size = size ? size * 2 : 65536;
			bigger = realloc(buf, size);
			if (!bigger)
				return -ENOMEM;
			buf = bigger;
		}
		n = read(fd, buf + len, size - len);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			break;
		if (n > 0)
			len += (size_t)n;
		if (len > CONF_FILE_BYTES_MAX)
			return -EFBIG;
	}
	*ret = buf;
	buf = NULL;
	*ret_len = len;
	return 0;
}

static int read_file(struct conf *c, const char *path, unsigned include_depth,
		     const struct conf_pos *from)
{
	const char *name = conf_file_name(c, path);
	struct conf_pos pos = { .file = name };
	CLEANUP_FREE char *text = NULL;
	size_t len = 0;
	int r;

	if (!name)
		return -ENOMEM;
	if (++c->read_count > CONF_FILE_COUNT_MAX)
		r = -EMFILE;
	else
		r = slurp(path, &text, &len);
	if (r == -ENOMEM)
		return r;
	if (r) {
		conf_error(c, from ? from : &pos, "%s%scannot be read: %s", from ? path : "",
			   from ? " " : "", strerror(-r));
		return -EINVAL;
	}
	return parse_text(c, name, text, len, include_depth);
}

static int outcome(const struct conf *c)
{
	return c->no_memory ? -ENOMEM : c->problem_total ? -EINVAL : 0;
}

int conf_read_file(struct conf *c, const char *path)
{
	read_file(c, path, 0, NULL);
	return outcome(c);
}

int conf_read_text(struct conf *c, const char *name, const char *text, size_t len)
{
	const char *file = conf_file_name(c, name);

	if (file)
		parse_text(c, file, text, len, 0);
	return outcome(c);
}
