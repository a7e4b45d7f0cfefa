/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Text tables and JSON from one description; see output.h. */
#include "common/daemon/output.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

#include "common/base/units.h"

#define CELL_MAX     512
#define COLUMN_MAX   32
#define COLUMN_SPACE 2

struct output {
	FILE *f;
	bool json;
	int failed; /* -errno: something could not be printed */
};

struct output *output_new(FILE *f, bool json)
{
	struct output *o = calloc(1, sizeof(*o));

	if (o) {
		o->f = f;
		o->json = json;
	}
	return o;
}

void output_free(struct output *o)
{
	free(o);
}

bool output_is_json(const struct output *o)
{
	return o->json;
}

void output_json(struct output *o, json_t *value)
{
	if (!o->json)
		return;
	json_dumpf(value, o->f, JSON_INDENT(2) | JSON_ENCODE_ANY);
	putc('\n', o->f);
}

/* ---- cells ---- */

/* "a.b" goes inward. */
static json_t *find_member(json_t *object, const char *key)
{
	while (object && *key) {
		size_t len = strcspn(key, ".");
		char part[64];

		if (len >= sizeof(part))
			return NULL;
		memcpy(part, key, len);
		part[len] = '\0';
		object = json_object_get(object, part);
		key += len + (key[len] == '.');
	}
	return object;
}

static void format_plain(json_t *j, char *buf, size_t size)
{
	size_t used = 0;
	size_t i;
	json_t *item;

	switch (json_typeof(j)) {
	case JSON_STRING:
		snprintf(buf, size, "%s", json_string_length(j) ? json_string_value(j) : "-");
		break;
	case JSON_INTEGER:
		snprintf(buf, size, "%lld", (long long)json_integer_value(j));
		break;
	case JSON_REAL:
		snprintf(buf, size, "%.3g", json_real_value(j));
		break;
	case JSON_TRUE:
	case JSON_FALSE:
		snprintf(buf, size, "%s", json_is_true(j) ? "yes" : "no");
		break;
	case JSON_ARRAY:
		if (!json_array_size(j))
			snprintf(buf, size, "-");
		json_array_foreach(j, i, item)
		{
			if (used + 2 >= size)
				break;
			if (i)
				buf[used++] = ',';
			format_plain(item, buf + used, size - used);
			used += strlen(buf + used);
		}
		break;
	case JSON_OBJECT:
	case JSON_NULL:
		snprintf(buf, size, "-");
		break;
	}
}

static void format_time(json_t *j, char *buf, size_t size)
{
	time_t t = (time_t)json_number_value(j);
	struct tm tm;

	if (!t || !localtime_r(&t, &tm) || !strftime(buf, size, "%Y-%m-%d %H:%M:%S", &tm))
		snprintf(buf, size, "-");
}

/* No control character of a foreign name may reach the terminal. */
static void clean(char *buf)
{
	for (; *buf; buf++)
		if ((unsigned char)*buf < 0x20 || *buf == 0x7f)
			*buf = '?';
}

/* Three digits: "0.8 us", "118 us", "1.25 ms", "12.5 s". */
static void format_nanoseconds(uint64_t ns, char *buf, size_t size)
{
	static const char *const units[] = { "us", "ms", "s" };
	double n = (double)ns / 1000;
	size_t unit = 0;

	for (; n >= 999.5 && unit < 2; unit++)
		n /= 1000;
	snprintf(buf, size, "%.*f %s", n < 9.995 ? 2 : n < 99.95 ? 1 : 0, n, units[unit]);
}

static void format_cell(json_t *object, const struct output_column *col, char *buf, size_t size)
{
	json_t *j = find_member(object, col->key);
	bool number = json_is_integer(j) && json_integer_value(j) >= 0;
	uint64_t n = number ? (uint64_t)json_integer_value(j) : 0;

	if (!j) {
		snprintf(buf, size, "-");
		return;
	}
	switch (col->format) {
	case OUTPUT_SIZE:
		if (number) {
			size_format_human(n, buf);
			return;
		}
		break;
	case OUTPUT_NANOSECONDS:
		if (number) {
			format_nanoseconds(n, buf, size);
			return;
		}
		break;
	case OUTPUT_DURATION:
		if (number) {
			duration_format_human(n, buf);
			return;
		}
		break;
	case OUTPUT_TIME:
		if (json_is_number(j)) {
			format_time(j, buf, size);
			return;
		}
		break;
	case OUTPUT_PERCENT:
		if (json_is_number(j)) {
			snprintf(buf, size, "%.0f %%", json_number_value(j));
			return;
		}
		break;
	case OUTPUT_TEXT:
	case OUTPUT_NUMBER:
		break;
	}
	format_plain(j, buf, size);
	clean(buf);
}

/* Columns on a terminal: UTF-8 continuation bytes take none. */
static size_t text_width(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += (*text & 0xc0) != 0x80;
	return n;
}

static bool is_right_aligned(enum output_format format)
{
	return format == OUTPUT_SIZE || format == OUTPUT_NUMBER || format == OUTPUT_DURATION ||
	       format == OUTPUT_NANOSECONDS || format == OUTPUT_PERCENT;
}

/* One cell of a row: padded, but nothing behind the last column. */
static void put_cell(FILE *f, const char *text, size_t width, bool right, bool last)
{
	size_t pad = width - text_width(text);

	if (right)
		fprintf(f, "%*s%s", (int)pad, "", text);
	else
		fprintf(f, "%s%*s", text, last ? 0 : (int)pad, "");
	if (!last)
		fprintf(f, "%*s", COLUMN_SPACE, "");
}

/* ---- lists ---- */

struct output_list {
	struct output *o;
	const struct output_column *columns;
	const char *member, *empty;
	size_t column_count, row_count;
	size_t width[COLUMN_MAX];
	char *cells; /* one after the other, each with its NUL */
	size_t used, size;
};

struct output_list *output_list_new(struct output *o, const struct output_column *columns,
				    const char *member, const char *empty)
{
	struct output_list *list = calloc(1, sizeof(*list));

	if (!list)
		return NULL;
	*list = (struct output_list){
		.o = o, .columns = columns, .member = member, .empty = empty
	};
	for (; columns && columns[list->column_count].key && list->column_count < COLUMN_MAX;
	     list->column_count++)
		list->width[list->column_count] = text_width(columns[list->column_count].header);
	return list;
}

/* Room for one more cell; false: there is none. */
static bool list_room(struct output_list *list)
{
	size_t size = list->size ? 2 * list->size : 16 * CELL_MAX;
	char *cells;

	if (list->size - list->used >= CELL_MAX)
		return true;
	cells = realloc(list->cells, size);
	if (!cells) {
		list->o->failed = -ENOMEM;
		return false;
	}
	list->cells = cells;
	list->size = size;
	return true;
}

static bool add_text(struct output_list *list, json_t *row)
{
	size_t before = list->used;

	for (size_t c = 0; c < list->column_count; c++) {
		char *cell;
		size_t width;

		if (!list_room(list)) {
			list->used = before;
			return false;
		}
		cell = list->cells + list->used;
		format_cell(row, &list->columns[c], cell, CELL_MAX);
		width = text_width(cell);
		if (width > list->width[c])
			list->width[c] = width;
		list->used += strlen(cell) + 1;
	}
	return true;
}

/* What stands around the rows of a list in JSON, as json_dumpf() would print all of it. */
static size_t json_head(const struct output_list *list, char *buf, size_t size)
{
	int n = list->member ? snprintf(buf, size, "{\n  \"%s\": [", list->member)
			     : snprintf(buf, size, "[");

	return (size_t)n;
}

static const char *json_tail(const struct output_list *list)
{
	return list->member ? "\n  ]\n}" : "\n]";
}

static void add_json(struct output_list *list, json_t *rows)
{
	char head[64];
	size_t head_len = json_head(list, head, sizeof(head)), len;
	json_t *all = list->member ? json_pack("{s:O}", list->member, rows) : json_incref(rows);
	char *text = json_dumps(all, JSON_INDENT(2));

	json_decref(all);
	if (!text) {
		list->o->failed = -ENOMEM;
		return;
	}
	len = strlen(text) - head_len - strlen(json_tail(list));
	fputs(list->row_count ? "," : head, list->o->f);
	fwrite(text + head_len, 1, len, list->o->f);
	free(text);
}

void output_list_add(struct output_list *list, json_t *rows)
{
	json_t *row;
	size_t i;

	if (!json_array_size(rows))
		return;
	if (list->o->json) {
		add_json(list, rows);
		list->row_count += json_array_size(rows);
		return;
	}
	json_array_foreach(rows, i, row) list->row_count += add_text(list, row);
}

static void print_text(const struct output_list *list)
{
	const char *cell = list->cells;
	FILE *f = list->o->f;

	for (size_t c = 0; c < list->column_count; c++)
		put_cell(f, list->columns[c].header, list->width[c],
			 is_right_aligned(list->columns[c].format), c + 1 == list->column_count);
	putc('\n', f);
	for (size_t i = 0; i < list->row_count; i++) {
		for (size_t c = 0; c < list->column_count; c++, cell += strlen(cell) + 1)
			put_cell(f, cell, list->width[c], is_right_aligned(list->columns[c].format),
				 c + 1 == list->column_count);
		putc('\n', f);
	}
}

static void print_end(const struct output_list *list)
{
	FILE *f = list->o->f;

	if (list->o->json && list->row_count)
		fprintf(f, "%s\n", json_tail(list));
	else if (list->o->json && list->member)
		fprintf(f, "{\n  \"%s\": []\n}\n", list->member);
	else if (list->o->json)
		fputs("[]\n", f);
	else if (list->row_count)
		print_text(list);
	else if (list->empty)
		fprintf(f, "%s\n", list->empty);
}

void output_list_end(struct output_list *list, bool whole)
{
	if (!list)
		return;
	if (whole)
		print_end(list);
	free(list->cells);
	free(list);
}

void output_table(struct output *o, json_t *rows, const struct output_column *columns,
		  const char *empty)
{
	struct output_list *list;

	if (o->json) {
		output_json(o, rows);
		return;
	}
	list = output_list_new(o, columns, NULL, empty);
	if (!list) {
		o->failed = -ENOMEM;
		return;
	}
	output_list_add(list, rows);
	output_list_end(list, true);
}

void output_record(struct output *o, json_t *object, const struct output_column *columns)
{
	size_t width = 0;
	char cell[CELL_MAX];

	if (o->json) {
		output_json(o, object);
		return;
	}
	for (const struct output_column *c = columns; c->key; c++)
		if (text_width(c->header) > width)
			width = text_width(c->header);
	for (const struct output_column *c = columns; c->key; c++) {
		format_cell(object, c, cell, sizeof(cell));
		fprintf(o->f, "%s:%*s %s\n", c->header, (int)(width - text_width(c->header)), "",
			cell);
	}
}

void output_note(struct output *o, const char *fmt, ...)
{
	va_list ap;

	if (o->json)
		return;
	va_start(ap, fmt);
	vfprintf(o->f, fmt, ap);
	va_end(ap);
	putc('\n', o->f);
}

void output_raw(struct output *o, const char *text)
{
	fputs(text, o->f);
}

/* ---- progress ---- */

static bool progress_shown;

void output_progress(const char *what, unsigned long long done, unsigned long long total,
		     bool unit_bytes)
{
	char bar[31], done_text[UNITS_TEXT_MAX], total_text[UNITS_TEXT_MAX];
	double part = total ? (double)done / (double)total : 1;
	int full = part >= 1 ? 30 : part <= 0 ? 0 : (int)(part * 30);

	if (!isatty(STDERR_FILENO))
		return;
	memset(bar, '.', 30);
	memset(bar, '#', (size_t)full);
	bar[30] = '\0';
	if (unit_bytes) {
		size_format_human(done, done_text);
		size_format_human(total, total_text);
	} else {
		snprintf(done_text, sizeof(done_text), "%llu", done);
		snprintf(total_text, sizeof(total_text), "%llu", total);
	}
	fprintf(stderr, "\r%s [%s] %3.0f %%  %s of %s\033[K", what, bar, part * 100, done_text,
		total_text);
	fflush(stderr);
	progress_shown = true;
}

void output_progress_end(void)
{
	if (progress_shown)
		fputc('\n', stderr);
	progress_shown = false;
}

int output_finish(struct output *o)
{
	errno = 0;
	if (fflush(o->f) || ferror(o->f))
		return errno ? -errno : -EIO;
	return o->failed;
}
