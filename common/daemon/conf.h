/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Config files: a schema table for each daemon, a checked tree with file:line on every node.
 *
 *	# a comment
 *	control = "/run/blockd/control.sock"          key = value
 *	listen "local" { address = "unix:/x"  mode = 0660 }
 *	vlan 10 { address = { "10.0.0.1/24", "fd00::1/64" }  nat = true }
 *	include "conf.d/x.conf"                       or a glob; at the top level only
 *
 * Statements need no separator, a value starts on the line of its "=".  A value is a bare word
 * (anything without space, quote, { } = , #) or a "string" (\" and \\ are its only escapes, no
 * control characters, valid UTF-8) or a list { a, b }; one value will do where a list is
 * expected.  A title is a bare word or a string.  Included files are relative to the file that
 * includes them, a glob is read in the order of names and may match nothing.
 *
 * The schema drives everything: what is accepted, what is printed, defaults, and the nearest
 * known word.  Reading never stops at a semantic error: all of them are collected, each as
 * "FILE:LINE: where: found ..., expected ...; did you mean ...?".  A syntax error ends its file.
 *
 * Use:
 *	struct conf *c = conf_new(&blockd_schema);
 *	conf_read_file(c, path);		may be called for several files
 *	conf_finish(c);				required keys, defaults
 *	... the daemon's own checks over the tree, conf_error(c, &sec->pos, ...) for each ...
 *	if (conf_error_count(c)) { conf_print_errors(c, stderr); exit(1); }
 *
 * Limits: CONF_*_MAX below; each is an error with its line when hit.  Cost: linear; 50,000 lines
 * take well under 0.2 s.  A conf belongs to one thread; everything it returns lives until
 * conf_free().
 */
#ifndef COMMON_DAEMON_CONF_H
#define COMMON_DAEMON_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/addr.h"
#include "common/base/err.h"

#define CONF_FILE_BYTES_MAX    (64u << 20)
#define CONF_FILE_COUNT_MAX    4096u /* with all includes */
#define CONF_INCLUDE_DEPTH_MAX 8u
#define CONF_SECTION_DEPTH_MAX 16u
#define CONF_TOKEN_BYTES_MAX   4096u /* a word, a string, a title */
#define CONF_LIST_COUNT_MAX    65536u
#define CONF_ERROR_COUNT_MAX   1000u /* later ones are only counted */

/* ---- schema: static const tables ---- */

enum conf_type {
	CONF_STRING,	/* any text; max: most bytes, 0 means CONF_TOKEN_BYTES_MAX */
	CONF_PATH,	/* an absolute path */
	CONF_WORD,	/* one of words[]; value.number is its index */
	CONF_BOOL,	/* true yes on, false no off; value.flag */
	CONF_INT,	/* decimal, min..max (max 0: no limit); value.number */
	CONF_MODE,	/* octal file mode 0..0777; value.number */
	CONF_SIZE,	/* "10G", min..max bytes (max 0: no limit); value.number */
	CONF_DURATION,	/* "5s", min..max milliseconds (max 0: no limit); value.number */
	CONF_ADDRESS,	/* value.addr */
	CONF_NETWORK,	/* "10.0.0.0/8", host bits zero; value.prefix */
	CONF_IFADDR,	/* "10.0.0.1/24", host bits kept, length demanded; value.prefix */
	CONF_ADDRRANGE, /* "10.0.0.1-10.0.0.9", or one address, or a network; value.addr_range */
	CONF_MAC,	/* a unicast MAC; value.mac */
	CONF_PORTS,	/* "22" or "8000-8010", 1..65535; value.range */
	CONF_ENDPOINT,	/* "10.0.0.1:22", "[fd00::1]:80-90"; value.endpoint */
	CONF_RANGES,	/* "10,20,100-200" within min..max, ascending, disjoint; value.ranges */
};

enum conf_flag {
	CONF_LIST = 1 << 0,	/* a list of values of the type */
	CONF_REQUIRED = 1 << 1, /* missing is an error */
};

struct conf_value;

struct conf_key {
	const char *name; /* NULL ends a table */
	enum conf_type type;
	unsigned flags;
	const char *preset; /* the default, as text in a file ("64M", "{ a, b }"); NULL: none */
	uint64_t min, max;
	const char *const *words; /* CONF_WORD: NULL-terminated */
	/* Further demand on one value: 0, or negative with "expected ..." in `err`; may be NULL. */
	int (*check)(const struct conf_value *value, struct err *err);
	const char *help; /* one line for people: man page, completion */
};

enum conf_title {
	CONF_TITLE_NONE,   /* section { } , at most once */
	CONF_TITLE_STRING, /* section "title" { } , each title once */
	CONF_TITLE_INT,	   /* section 10 { } , each number once, title_min..title_max */
};

struct conf_section_type {
	const char *name; /* NULL ends a table; "" for the root */
	enum conf_title title;
	uint64_t title_min, title_max; /* INT: the numbers; STRING: most bytes (0: 255) */
	int (*title_check)(const char *title, struct err *err); /* as conf_key.check; may be NULL */
	const struct conf_key *keys;
	const struct conf_section_type *sections; /* those that may be inside; may be NULL */
	bool required; /* TITLE_NONE: made with its defaults if missing */
	const char *help;
	void (*hide)(char *text); /* of the root: takes out of errors what is secret; may be NULL */
};

/* ---- tree ---- */

struct conf_pos {
	const char *file; /* as given to conf_read_*(), or the path included */
	unsigned line;	  /* from 1; 0: a default, no line */
};

struct conf_range {
	uint64_t first, last;
};

struct conf_value {
	const char *text; /* as written, without quotes */
	struct conf_pos pos;
	union {
		uint64_t number;
		bool flag;
		struct addr addr;
		struct prefix prefix;
		struct addr_range addr_range;
		struct mac mac;
		struct conf_range range;
		struct {
			struct addr addr;
			struct conf_range ports;
		} endpoint;
		struct {
			const struct conf_range *items;
			size_t count;
		} ranges;
	};
};

struct conf_entry {
	const struct conf_key *key;
	struct conf_pos pos; /* of the key */
	bool is_preset;	     /* filled in by conf_finish() */
	size_t count;	     /* values; 1 unless CONF_LIST */
	struct conf_value *values;
};

struct conf_alike;

struct conf_section {
	const struct conf_section_type *type;
	const char *title; /* "" when it has none; a number without leading zeros */
	uint64_t number;   /* CONF_TITLE_INT */
	struct conf_pos pos;
	void *user; /* the daemon's own */
	/* below: for conf*.c; use the functions */
	struct conf_section *parent, *first, *last, *next, *prev;
	struct conf_section *next_alike, *prev_alike; /* of the same name in the same section */
	struct conf_alike *alike;		      /* those inside, by index in type->sections */
	struct conf_section *hash_next;
	struct conf_entry **entries; /* by index in type->keys; NULL: not set */
};

struct conf;

/* NULL when out of memory.  `root` (named "", TITLE_NONE) must outlive the conf. */
struct conf *conf_new(const struct conf_section_type *root);
void conf_free(struct conf *c);

/*
 * Read a file with its includes, or text under a name.  0; -EINVAL when there are errors now
 * (also counted by conf_error_count(), also earlier ones); -ENOMEM.  A file that cannot be read is
 * an error of the conf.  What was understood is in the tree all the same.
 */
int conf_read_file(struct conf *c, const char *path);
int conf_read_text(struct conf *c, const char *name, const char *text, size_t len);

/*
 * Check for required keys and fill in defaults, also for keys whose value was wrong (so that the
 * daemon's own checks can go on to find more).  Returns as above.  May be called again.
 */
int conf_finish(struct conf *c);

/* The names of the files read, of the folders in which an include looked for a pattern, and of what
 * conf_section_put() named; NULL behind the last. */
const char *conf_file(const struct conf *c, size_t index);
/* Did an include look in folders that have a pattern themselves?  Those are not named. */
bool conf_has_globs(const struct conf *c);

/* ---- errors ---- */

/* Add an error of the daemon's own checks: "FILE:LINE: <text>".  Thread and life as the conf. */
void conf_error(struct conf *c, const struct conf_pos *pos, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The same about a section or one of its keys: "FILE:LINE: vlan 10: dhcp: <text>"; `key` NULL:
 * about the section itself.  The line is the key's if it is set, else the section's. */
void conf_error_at(struct conf *c, const struct conf_section *s, const char *key, const char *fmt,
		   ...) __attribute__((format(printf, 4, 5)));
size_t conf_error_count(const struct conf *c);
/* In order of file and line; NULL behind the last.  Each is one line without newline. */
const char *conf_error_text(struct conf *c, size_t index);
/* All of them, one a line. */
void conf_print_errors(struct conf *c, FILE *f);

/* Forget them; the tree is the caller's who has undone what was wrong. */
void conf_errors_clear(struct conf *c);

/* ---- reading the tree ---- */

struct conf_section *conf_root(struct conf *c);
/* Sections of one name inside `parent`, in the order of the files, O(1) each; name NULL: all. */
struct conf_section *conf_section_first(const struct conf_section *parent, const char *name);
struct conf_section *conf_section_next(const struct conf_section *s, const char *name);
/* By title ("" for one that has none); NULL: none.  O(1). */
struct conf_section *conf_section_find(const struct conf *c, const struct conf_section *parent,
				       const char *name, const char *title);

/*
 * Values by key.  The key must be in the section's schema and of a fitting type (asserted).  NULL
 * or 0 values when it is not set and has no default.
 */
const struct conf_entry *conf_entry(const struct conf_section *s, const char *key);
bool conf_is_set(const struct conf_section *s, const char *key); /* written in a file */
const struct conf_value *conf_value(const struct conf_section *s, const char *key);
const char *conf_text(const struct conf_section *s, const char *key); /* NULL: not set */
uint64_t conf_number(const struct conf_section *s, const char *key);  /* 0: not set */
bool conf_flag(const struct conf_section *s, const char *key);	      /* false: not set */
/* Where the key is written, or the section when it is not: for conf_error(). */
const struct conf_pos *conf_pos_of(const struct conf_section *s, const char *key);
/* 'vlan 10', 'pool "main"', as messages name it.  Writes into buf, returns it. */
char *conf_section_label(const struct conf_section *s, char *buf, size_t size);

/* ---- changing the tree (what a tool sets and the daemon keeps in a file of its own) ---- */

/* Find or add; `pos` says where it is from (copied, its file name too). */
int conf_section_put(struct conf *c, struct conf_section *parent, const char *name,
		     const char *title, const struct conf_pos *pos, struct conf_section **ret,
		     struct err *err) __attribute__((warn_unused_result));
/* Take it out of the tree, with all inside.  Memory stays until conf_free(). */
void conf_section_remove(struct conf *c, struct conf_section *s);
/* Replace the value; `texts` are unquoted values, one unless the key is a list. */
int conf_entry_set(struct conf *c, struct conf_section *s, const char *key,
		   const char *const *texts, size_t count, struct err *err)
	__attribute__((warn_unused_result));
void conf_entry_unset(struct conf *c, struct conf_section *s, const char *key);
/* conf_finish() for one section: after it was put or changed.  Returns as conf_finish(). */
int conf_section_finish(struct conf *c, struct conf_section *s) __attribute__((warn_unused_result));

/*
 * Undoing.  A removed section goes back behind `before`, what conf_section_before() said of it then
 * (NULL: it was the first); sections inside it are not put back.  A changed one gets the entries
 * that conf_section_save() kept (NULL: no memory), once.
 */
struct conf_section *conf_section_before(const struct conf_section *s);
void conf_section_put_back(struct conf *c, struct conf_section *s, struct conf_section *before);
struct conf_entry **conf_section_save(struct conf *c, const struct conf_section *s);
void conf_section_restore(struct conf_section *s, struct conf_entry **saved);

/* ---- printing ---- */

enum conf_print {
	CONF_PRINT_SET = 0,	     /* what is written in files */
	CONF_PRINT_PRESETS = 1 << 0, /* and the defaults: what -nv prints */
	CONF_PRINT_ORIGIN = 1 << 1,  /* a comment "# FILE:LINE" over each section */
};

/* Text that parses to the same tree.  0 or -errno of the stream. */
int conf_print(const struct conf *c, FILE *f, unsigned flags);
int conf_print_section(const struct conf_section *s, FILE *f, unsigned flags);
/* Only what came from file name `file` (NULL: everything), written to `path` by a new file, fsync,
 * rename.  Mode 0600. */
int conf_save(const struct conf *c, const char *file, const char *path, struct err *err)
	__attribute__((warn_unused_result));

#endif
