/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the config parser share.
 *
 *	conf_lex.c    bytes -> tokens, each with its line
 *	conf_parse.c  tokens -> statements, checked against the schema as they come; includes
 *	conf_value.c  one text -> one typed value
 *	conf.c	      the tree: memory, errors, lookup
 *	conf_change.c changes of the tree, undone if need be
 *	conf_print.c  the tree -> text
 */
#ifndef COMMON_DAEMON_CONF_PRIVATE_H
#define COMMON_DAEMON_CONF_PRIVATE_H

#include "common/daemon/conf.h"

/* ---- memory: everything of a conf lives in one arena ---- */

struct conf_chunk {
	struct conf_chunk *next;
	size_t used, size;
	max_align_t data[];
};

struct conf_problem {
	size_t file; /* index in conf.files, SIZE_MAX: none */
	unsigned line;
	size_t sequence;
	const char *text;
};

struct conf {
	const struct conf_section_type *root_type;
	struct conf_section *root;
	struct conf_chunk *chunks;
	const char **files; /* names, in the order of reading */
	size_t file_count, file_capacity;
	size_t read_count; /* files read, the same one again counts again */
	struct conf_problem *problems;
	size_t problem_count, problem_capacity, problem_total;
	bool problems_sorted;
	struct conf_section **buckets; /* every section but the root, by parent, type and title */
	size_t bucket_count, section_count;
	bool cut_short; /* a syntax error hid the rest of a file: nothing is missing for sure */
	bool has_globs; /* an include had a pattern of folders */
	bool no_memory; /* sticky */
};

/* Zeroed memory, NULL (and conf.no_memory) when there is none. */
void *conf_alloc(struct conf *c, size_t size);
char *conf_strndup(struct conf *c, const char *text, size_t len);
/* The conf's own copy of a file name; the same pointer for the same name read again. */
const char *conf_file_name(struct conf *c, const char *name);

/* ---- tree, conf.c ---- */

struct conf_section *conf_section_new(struct conf *c, struct conf_section *parent,
				      const struct conf_section_type *type, const char *title,
				      uint64_t number, struct conf_pos pos);
/* Put a new section behind its parent's last and into the index.  False: no memory. */
bool conf_section_link(struct conf *c, struct conf_section *s);
const struct conf_section_type *conf_section_type_find(const struct conf_section_type *parent,
						       const char *name);
size_t conf_key_count(const struct conf_section_type *type);
/* Index of a key in the schema, -1: unknown. */
int conf_key_index(const struct conf_section_type *type, const char *name);
/* Check a title against its type; `ret_title` gets its canonical text (in the arena). */
int conf_title_parse(struct conf *c, const struct conf_section_type *type, const char *text,
		     const char **ret_title, uint64_t *ret_number, struct err *err);

/* ---- values, conf_value.c ---- */

/* Parse value->text as `key` demands and run its check. 0 or -errno with "found ..., expected". */
int conf_value_parse(struct conf *c, const struct conf_key *key, struct conf_value *value,
		     struct err *err);
/* Is its text printed without quotes? */
bool conf_type_is_bare(enum conf_type type);
/* The values of a key's default. */
struct conf_entry *conf_entry_preset(struct conf *c, const struct conf_key *key);

/* ---- tokens, conf_lex.c ---- */

enum conf_token {
	CONF_TOKEN_END,
	CONF_TOKEN_WORD,
	CONF_TOKEN_STRING,
	CONF_TOKEN_OPEN,
	CONF_TOKEN_CLOSE,
	CONF_TOKEN_EQUALS,
	CONF_TOKEN_COMMA,
	CONF_TOKEN_BAD, /* problem says why */
};

struct conf_lexer {
	const char *at, *end;
	unsigned line; /* of `at` */
	/* the token last read */
	enum conf_token token;
	unsigned token_line;
	size_t len;
	char text[CONF_TOKEN_BYTES_MAX + 1];
	const char *problem; /* BAD: "found ..., expected ..." */
};

/* Could the text stand in a file: valid UTF-8, no control characters, not too long? */
int conf_text_check(const char *text, struct err *err);

void conf_lexer_start(struct conf_lexer *lex, const char *text, size_t len);
/* Read the next token into the lexer and return its kind. */
enum conf_token conf_lexer_next(struct conf_lexer *lex);
/* The token as messages name it: '"abc"', 'end of file'.  Into buf, returned. */
const char *conf_lexer_found(const struct conf_lexer *lex, char *buf, size_t size);

#endif
