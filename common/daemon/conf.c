/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tree of a config: memory, errors, lookup.  See conf.h for the contract.
 *
 * Sections hang in their parent's list in the order of the files, and in one of those with the same
 * name, so that a few among many of another kind are found at once.  All of them are also in one
 * hash table over (parent, type, title), which finds twins while 50,000 are read.  Entries are an
 * array by the key's index in the schema.  All memory is one arena that dies with the conf;
 * a removed section just leaves the list and the table.
 */
#include "common/daemon/conf_private.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/units.h"

#define CHUNK_BYTES 65536u

/* ---- memory ---- */

void *conf_alloc(struct conf *c, size_t size)
{
	struct conf_chunk *chunk = c->chunks;
	size_t need = (size + sizeof(max_align_t) - 1) & ~(sizeof(max_align_t) - 1);
	void *p;

	if (!need)
		need = sizeof(max_align_t);
	if (!chunk || chunk->size - chunk->used < need) {
		size_t room = need > CHUNK_BYTES ? need : CHUNK_BYTES;

		chunk = calloc(1, sizeof(*chunk) + room);
		if (!chunk) {
			c->no_memory = true;
			return NULL;
		}
		chunk->size = room;
		chunk->next = c->chunks;
		c->chunks = chunk;
	}
	p = (char *)chunk->data + chunk->used;
	chunk->used += need;
	return p;
}

char *conf_strndup(struct conf *c, const char *text, size_t len)
{
	char *p = conf_alloc(c, len + 1);

	if (p)
		memcpy(p, text, len);
	return p;
}

const char *conf_file_name(struct conf *c, const char *name)
{
	char *copy;

	for (size_t i = 0; i < c->file_count; i++)
		if (!strcmp(c->files[i], name))
			return c->files[i];
	if (c->file_count == c->file_capacity) {
		size_t capacity = c->file_capacity ? c->file_capacity * 2 : 8;
		const char **files = reallocarray(c->files, capacity, sizeof(*files));

		if (!files) {
			c->no_memory = true;
			return NULL;
		}
		c->files = files;
		c->file_capacity = capacity;
	}
	copy = conf_strndup(c, name, strlen(name));
	if (copy)
		c->files[c->file_count++] = copy;
	return copy;
}

struct conf *conf_new(const struct conf_section_type *root)
{
	struct conf *c = calloc(1, sizeof(*c));

	assert(root->title == CONF_TITLE_NONE);
	if (!c)
		return NULL;
	c->root_type = root;
	c->root = conf_section_new(c, NULL, root, "", 0, (struct conf_pos){ .file = "" });
	if (!c->root) {
		conf_free(c);
		return NULL;
	}
	return c;
}

void conf_free(struct conf *c)
{
	if (!c)
		return;
	for (struct conf_chunk *next, *chunk = c->chunks; chunk; chunk = next) {
		next = chunk->next;
		free(chunk);
	}
	free(c->files);
	free(c->problems);
	free(c->buckets);
	free(c);
}

/* ---- errors ---- */

static void add_problem(struct conf *c, const struct conf_pos *pos, const char *text)
{
	struct conf_problem *problem;

	c->problem_total++;
	if (c->problem_count == CONF_ERROR_COUNT_MAX)
		return;
	if (c->problem_count == c->problem_capacity) {
		size_t capacity = c->problem_capacity ? c->problem_capacity * 2 : 16;
		struct conf_problem *problems =
			reallocarray(c->problems, capacity, sizeof(*problems));

		if (!problems) {
			c->no_memory = true;
			return;
		}
		c->problems = problems;
		c->problem_capacity = capacity;
	}
	problem = &c->problems[c->problem_count];
	*problem = (struct conf_problem){ .file = SIZE_MAX, .sequence = c->problem_count };
	problem->text = conf_strndup(c, text, strlen(text));
	if (!problem->text)
		return;
	for (size_t i = 0; pos && pos->file && i < c->file_count; i++)
		if (!strcmp(c->files[i], pos->file))
			problem->file = i;
	problem->line = pos ? pos->line : 0;
	c->problem_count++;
	c->problems_sorted = false;
}

/* "FILE:LINE: " as far as they are known, then the text. */
static void add_problem_at(struct conf *c, const struct conf_pos *pos, const char *text)
{
	char full[2048];

	if (pos && pos->file && *pos->file && pos->line)
		snprintf(full, sizeof(full), "%s:%u: %s", pos->file, pos->line, text);
	else if (pos && pos->file && *pos->file)
		snprintf(full, sizeof(full), "%s: %s", pos->file, text);
	else
		snprintf(full, sizeof(full), "%s", text);
	add_problem(c, pos, full);
}

void conf_error(struct conf *c, const struct conf_pos *pos, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (c->root_type->hide)
		c->root_type->hide(text);
	add_problem_at(c, pos, text);
}

void conf_error_at(struct conf *c, const struct conf_section *s, const char *key, const char *fmt,
		   ...)
{
	char text[1024], where[200];
	va_list ap;
	size_t used;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	conf_section_label(s, where, sizeof(where));
	used = strlen(where);
	if (key)
		snprintf(where + used, sizeof(where) - used, "%s%s", used ? ": " : "", key);
	conf_error(c, key ? conf_pos_of(s, key) : &s->pos, "%s%s%s", where, *where ? ": " : "",
		   text);
}

size_t conf_error_count(const struct conf *c)
{
	return c->problem_total;
}

void conf_errors_clear(struct conf *c)
{
	c->problem_count = c->problem_total = 0;
}

const char *conf_file(const struct conf *c, size_t index)
{
	return index < c->file_count ? c->files[index] : NULL;
}

bool conf_has_globs(const struct conf *c)
{
	return c->has_globs;
}

static int compare_problems(const void *va, const void *vb)
{
	const struct conf_problem *a = va, *b = vb;

	if (a->file != b->file)
		return a->file < b->file ? -1 : 1;
	if (a->line != b->line)
		return a->line < b->line ? -1 : 1;
	return a->sequence < b->sequence ? -1 : a->sequence > b->sequence;
}

const char *conf_error_text(struct conf *c, size_t index)
{
	if (!c->problems_sorted && c->problem_count)
		qsort(c->problems, c->problem_count, sizeof(*c->problems), compare_problems);
	c->problems_sorted = true;
	return index < c->problem_count ? c->problems[index].text : NULL;
}

void conf_print_errors(struct conf *c, FILE *f)
{
	const char *text;

	for (size_t i = 0; (text = conf_error_text(c, i)); i++)
		fprintf(f, "%s\n", text);
	if (c->problem_total > c->problem_count)
		fprintf(f, "and %zu more errors\n", c->problem_total - c->problem_count);
}

/* ---- schema ---- */

size_t conf_key_count(const struct conf_section_type *type)
{
	size_t n = 0;

	while (type->keys && type->keys[n].name)
		n++;
	return n;
}

int conf_key_index(const struct conf_section_type *type, const char *name)
{
	for (int i = 0; type->keys && type->keys[i].name; i++)
		if (!strcmp(type->keys[i].name, name))
			return i;
	return -1;
}

const struct conf_section_type *conf_section_type_find(const struct conf_section_type *parent,
						       const char *name)
{
	for (const struct conf_section_type *t = parent->sections; t && t->name; t++)
		if (!strcmp(t->name, name))
			return t;
	return NULL;
}

int conf_title_parse(struct conf *c, const struct conf_section_type *type, const char *text,
		     const char **ret_title, uint64_t *ret_number, struct err *err)
{
	size_t max = type->title_max ? type->title_max : 255;
	char canonical[24];

	if (type->title == CONF_TITLE_NONE) {
		if (text && *text)
			return err_set(err, -EINVAL, "found the title \"%.64s\", expected none",
				       text);
		*ret_title = "";
		return 0;
	}
	if (!text || !*text)
		return err_set(err, -EINVAL, "found no title, expected %s",
			       type->title == CONF_TITLE_INT ? "a number" : "one in quotes");
	if (type->title == CONF_TITLE_INT) {
		int r = number_parse(text, type->title_min,
				     type->title_max ? type->title_max : UINT64_MAX, NULL,
				     ret_number, err);
		if (r)
			return r;
		snprintf(canonical, sizeof(canonical), "%llu", (unsigned long long)*ret_number);
		text = canonical;
	} else if (strlen(text) > max) {
		return err_set(err, -EINVAL,
			       "found the title \"%.64s\" (%zu bytes), expected at most %zu bytes",
			       text, strlen(text), max);
	}
	if (type->title_check) {
		int r = type->title_check(text, err);

		if (r)
			return r;
	}
	*ret_title = conf_strndup(c, text, strlen(text));
	return *ret_title ? 0 : err_set(err, -ENOMEM, "out of memory");
}

/* ---- sections ---- */

struct conf_alike {
	struct conf_section *first, *last;
};

static size_t type_count(const struct conf_section_type *type)
{
	size_t n = 0;

	while (type->sections && type->sections[n].name)
		n++;
	return n;
}

static struct conf_alike *alike_of(const struct conf_section *parent,
				   const struct conf_section_type *type)
{
	return &parent->alike[type - parent->type->sections];
}

struct conf_section *conf_section_new(struct conf *c, struct conf_section *parent,
				      const struct conf_section_type *type, const char *title,
				      uint64_t number, struct conf_pos pos)
{
	struct conf_section *s = conf_alloc(c, sizeof(*s));

	if (!s)
		return NULL;
	s->entries = conf_alloc(c, (conf_key_count(type) + 1) * sizeof(*s->entries));
	s->alike = conf_alloc(c, (type_count(type) + 1) * sizeof(*s->alike));
	if (!s->entries || !s->alike)
		return NULL;
	s->type = type;
	s->title = title;
	s->number = number;
	s->pos = pos;
	s->parent = parent;
	return s;
}

/* FNV-1a over the title, started from where the section is. */
static size_t section_hash(const struct conf_section *parent, const struct conf_section_type *type,
			   const char *title)
{
	uint64_t h = 0xcbf29ce484222325u;

	h = (h ^ (uintptr_t)parent) * 0x100000001b3u;
	h = (h ^ (uintptr_t)type) * 0x100000001b3u;
	for (; *title; title++)
		h = (h ^ (unsigned char)*title) * 0x100000001b3u;
	return (size_t)(h ^ h >> 32);
}

static bool grow_buckets(struct conf *c)
{
	size_t count = c->bucket_count ? c->bucket_count * 2 : 64;
	struct conf_section **buckets;

	if (c->section_count < c->bucket_count)
		return true;
	buckets = calloc(count, sizeof(struct conf_section *));
	if (!buckets) {
		c->no_memory = true;
		return false;
	}
	for (size_t i = 0; i < c->bucket_count; i++) {
		struct conf_section *next;

		for (struct conf_section *s = c->buckets[i]; s; s = next) {
			size_t b = section_hash(s->parent, s->type, s->title) & (count - 1);

			next = s->hash_next;
			s->hash_next = buckets[b];
			buckets[b] = s;
		}
	}
	free(c->buckets);
	c->buckets = buckets;
	c->bucket_count = count;
	return true;
}

/* Into the table and both lists, behind `before`; NULL: in front. */
static void link_behind(struct conf *c, struct conf_section *s, struct conf_section *before)
{
	size_t b = section_hash(s->parent, s->type, s->title) & (c->bucket_count - 1);
	struct conf_alike *alike = alike_of(s->parent, s->type);
	struct conf_section *same = before;

	s->hash_next = c->buckets[b];
	c->buckets[b] = s;
	c->section_count++;
	s->prev = before;
	s->next = before ? before->next : s->parent->first;
	*(before ? &before->next : &s->parent->first) = s;
	*(s->next ? &s->next->prev : &s->parent->last) = s;
	if (s->next)
		while (same && same->type != s->type)
			same = same->prev;
	else
		same = alike->last;
	s->prev_alike = same;
	s->next_alike = same ? same->next_alike : alike->first;
	*(same ? &same->next_alike : &alike->first) = s;
	*(s->next_alike ? &s->next_alike->prev_alike : &alike->last) = s;
}

bool conf_section_link(struct conf *c, struct conf_section *s)
{
	if (!grow_buckets(c))
		return false;
	link_behind(c, s, s->parent->last);
	return true;
}

void conf_section_remove(struct conf *c, struct conf_section *s)
{
	struct conf_alike *alike = alike_of(s->parent, s->type);
	struct conf_section **at;

	while (s->first)
		conf_section_remove(c, s->first);
	at = &c->buckets[section_hash(s->parent, s->type, s->title) & (c->bucket_count - 1)];
	while (*at != s)
		at = &(*at)->hash_next;
	*at = s->hash_next;
	c->section_count--;
	*(s->prev ? &s->prev->next : &s->parent->first) = s->next;
	*(s->next ? &s->next->prev : &s->parent->last) = s->prev;
	*(s->prev_alike ? &s->prev_alike->next_alike : &alike->first) = s->next_alike;
	*(s->next_alike ? &s->next_alike->prev_alike : &alike->last) = s->prev_alike;
	s->next = s->prev = s->next_alike = s->prev_alike = s->hash_next = NULL;
}

struct conf_section *conf_section_before(const struct conf_section *s)
{
	return s->prev;
}

void conf_section_put_back(struct conf *c, struct conf_section *s, struct conf_section *before)
{
	link_behind(c, s, before);
}

struct conf_section *conf_root(struct conf *c)
{
	return c->root;
}

struct conf_section *conf_section_first(const struct conf_section *parent, const char *name)
{
	const struct conf_section_type *type =
		name ? conf_section_type_find(parent->type, name) : NULL;

	if (!name)
		return parent->first;
	return type ? alike_of(parent, type)->first : NULL;
}

struct conf_section *conf_section_next(const struct conf_section *s, const char *name)
{
	struct conf_section *next = s->next;

	if (name && strcmp(s->type->name, name) == 0)
		return s->next_alike;
	while (next && name && strcmp(next->type->name, name) != 0)
		next = next->next;
	return next;
}

struct conf_section *conf_section_find(const struct conf *c, const struct conf_section *parent,
				       const char *name, const char *title)
{
	const struct conf_section_type *type = conf_section_type_find(parent->type, name);
	struct conf_section *s;

	assert(type);
	if (!c->bucket_count)
		return NULL;
	s = c->buckets[section_hash(parent, type, title) & (c->bucket_count - 1)];
	while (s && (s->parent != parent || s->type != type || strcmp(s->title, title) != 0))
		s = s->hash_next;
	return s;
}

char *conf_section_label(const struct conf_section *s, char *buf, size_t size)
{
	const char *quote = s->type->title == CONF_TITLE_STRING ? "\"" : "";
	size_t used = 0;

	if (s->parent && s->parent->parent) { /* inside another: "vlan 10: dns" */
		conf_section_label(s->parent, buf, size);
		used = strlen(buf);
		used += used + 2 < size ? (size_t)sprintf(buf + used, ": ") : 0;
	}
	snprintf(buf + used, size - used, "%s%s%s%s%s", s->type->name,
		 s->type->title == CONF_TITLE_NONE ? "" : " ", quote, s->title, quote);
	return buf;
}

/* ---- entries ---- */

const struct conf_entry *conf_entry(const struct conf_section *s, const char *key)
{
	int index = conf_key_index(s->type, key);

	assert(index >= 0);
	return s->entries[index];
}

bool conf_is_set(const struct conf_section *s, const char *key)
{
	const struct conf_entry *e = conf_entry(s, key);

	return e && !e->is_preset;
}

const struct conf_value *conf_value(const struct conf_section *s, const char *key)
{
	const struct conf_entry *e = conf_entry(s, key);

	return e && e->count ? &e->values[0] : NULL;
}

const char *conf_text(const struct conf_section *s, const char *key)
{
	const struct conf_value *v = conf_value(s, key);

	return v ? v->text : NULL;
}

uint64_t conf_number(const struct conf_section *s, const char *key)
{
	const struct conf_value *v = conf_value(s, key);
	enum conf_type type = s->type->keys[conf_key_index(s->type, key)].type;

	assert(type == CONF_WORD || type == CONF_INT || type == CONF_MODE || type == CONF_SIZE ||
	       type == CONF_DURATION);
	return v ? v->number : 0;
}

bool conf_flag(const struct conf_section *s, const char *key)
{
	const struct conf_value *v = conf_value(s, key);

	assert(s->type->keys[conf_key_index(s->type, key)].type == CONF_BOOL);
	return v && v->flag;
}

const struct conf_pos *conf_pos_of(const struct conf_section *s, const char *key)
{
	const struct conf_entry *e = conf_entry(s, key);

	return e && !e->is_preset ? &e->pos : &s->pos;
}

/* ---- finishing ---- */

static void finish_section(struct conf *c, struct conf_section *s)
{
	for (size_t i = 0; s->type->keys && s->type->keys[i].name; i++) {
		const struct conf_key *key = &s->type->keys[i];
		struct conf_entry *e = s->entries[i];

		if (!e && (key->flags & CONF_REQUIRED) && !c->cut_short)
			conf_error_at(c, s, NULL, "found no \"%s\", expected one", key->name);
		if (key->preset && (!e || (!e->count && !(key->flags & CONF_LIST))))
			s->entries[i] = conf_entry_preset(c, key);
	}
	for (const struct conf_section_type *t = s->type->sections; t && t->name; t++) {
		struct conf_section *made;

		if (t->required && t->title == CONF_TITLE_NONE &&
		    !conf_section_find(c, s, t->name, "")) {
			made = conf_section_new(c, s, t, "", 0,
						(struct conf_pos){ .file = s->pos.file });
			if (!made || !conf_section_link(c, made))
				return;
		}
	}
	for (struct conf_section *child = s->first; child; child = child->next)
		finish_section(c, child);
}

int conf_section_finish(struct conf *c, struct conf_section *s)
{
	finish_section(c, s);
	return c->no_memory ? -ENOMEM : c->problem_total ? -EINVAL : 0;
}

int conf_finish(struct conf *c)
{
	if (c->file_count && !*c->root->pos.file)
		c->root->pos.file = c->files[0];
	finish_section(c, c->root);
	return c->no_memory ? -ENOMEM : c->problem_total ? -EINVAL : 0;
}
