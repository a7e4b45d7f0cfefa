/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a tool prints: one description of columns, shown as a text table for people or as JSON for
 * programs.
 *
 * The data is JSON as the daemon sent it.  With --json it is printed whole and unchanged; as text
 * the columns say which members to show and how.  Text columns are as wide as their longest value;
 * a missing or null member is "-".  One thread.
 */
#ifndef COMMON_DAEMON_OUTPUT_H
#define COMMON_DAEMON_OUTPUT_H

#include <stdbool.h>
#include <stdio.h>

#include <jansson.h>

enum output_format {
	OUTPUT_TEXT,	    /* strings as they are, numbers, true/false as yes/no, arrays "a,b" */
	OUTPUT_SIZE,	    /* bytes as "1.5 GiB", right-aligned */
	OUTPUT_NUMBER,	    /* right-aligned */
	OUTPUT_DURATION,    /* milliseconds as "2h 5m", right-aligned */
	OUTPUT_NANOSECONDS, /* a time under a minute as "118 us", right-aligned */
	OUTPUT_TIME,	    /* seconds since 1970 as local "2026-01-31 13:45:00" */
	OUTPUT_PERCENT,	    /* a number 0..100 as "42 %", right-aligned */
};

struct output_column {
	const char *key;    /* member of the row's object, "a.b" goes inward; NULL ends the table */
	const char *header; /* "NAME" */
	enum output_format format;
};

struct output;

struct output *output_new(FILE *f, bool json); /* NULL: no memory */
void output_free(struct output *o);
bool output_is_json(const struct output *o);

/* A list: `rows` is an array of objects.  An empty one prints `empty` (NULL: nothing) as text. */
void output_table(struct output *o, json_t *rows, const struct output_column *columns,
		  const char *empty);
/*
 * A list that comes in pieces and may be of any length.  With --json its rows are printed as they
 * come, as the array `member` of an object (NULL: as nothing but an array); as text what the
 * columns show is kept until the end, and none of the rows.  NULL: no memory.
 */
struct output_list;
struct output_list *output_list_new(struct output *o, const struct output_column *columns,
				    const char *member, const char *empty);
void output_list_add(struct output_list *list, json_t *rows);
/* Print what is left, and free it.  Not `whole`: there will be no more rows because of an error,
 * and what has been printed stays in pieces, which no program takes for all of it. */
void output_list_end(struct output_list *list, bool whole);
/* One object, a line a column: "size:  10 GiB". */
void output_record(struct output *o, json_t *object, const struct output_column *columns);
/* A sentence for people (newline added); nothing with --json. */
void output_note(struct output *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Text that is what was asked for in any mode (OpenMetrics, a config): printed as it is. */
void output_raw(struct output *o, const char *text);
/* Any JSON, printed with --json only. */
void output_json(struct output *o, json_t *value);

/* A progress bar on stderr if that is a terminal; `unit_bytes`: counts are sizes. */
void output_progress(const char *what, unsigned long long done, unsigned long long total,
		     bool unit_bytes);
void output_progress_end(void);

/* Flush; 0 or -errno (a full disk, a closed pipe). */
int output_finish(struct output *o);

#endif
