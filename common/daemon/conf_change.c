/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changing a tree that was read: what a tool sets, and what has to be undone.
 *
 * Entries are never changed, only replaced, and the arena keeps what was: so undoing is putting the
 * old pointers back.
 */
#include "common/daemon/conf_private.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

int conf_section_put(struct conf *c, struct conf_section *parent, const char *name,
		     const char *title, const struct conf_pos *pos, struct conf_section **ret,
		     struct err *err)
{
	const struct conf_section_type *type = conf_section_type_find(parent->type, name);
	const char *canonical = "";
	struct conf_section *s;
	struct conf_pos copy;
	uint64_t number = 0;
	int r;

	assert(type);
	r = title ? conf_text_check(title, err) : 0;
	if (!r)
		r = conf_title_parse(c, type, title, &canonical, &number, err);
	if (r)
		return r;
	s = conf_section_find(c, parent, name, canonical);
	if (!s) {
		copy.file = conf_file_name(c, pos && pos->file ? pos->file : "");
		copy.line = pos ? pos->line : 0;
		s = copy.file ? conf_section_new(c, parent, type, canonical, number, copy) : NULL;
		if (!s || !conf_section_link(c, s))
			return err_set(err, -ENOMEM, "out of memory");
	}
	*ret = s;
	return 0;
}

int conf_entry_set(struct conf *c, struct conf_section *s, const char *key,
		   const char *const *texts, size_t count, struct err *err)
{
	int index = conf_key_index(s->type, key);
	const struct conf_key *k;
	struct conf_entry *e;

	assert(index >= 0);
	k = &s->type->keys[index];
	if (!(k->flags & CONF_LIST) && count != 1)
		return err_set(err, -EINVAL, "%s: found a list, expected one value", key);
	e = conf_alloc(c, sizeof(*e));
	if (!e || !(e->values = conf_alloc(c, count * sizeof(*e->values))))
		return err_set(err, -ENOMEM, "out of memory");
	e->key = k;
	e->pos = s->pos;
	for (; e->count < count; e->count++) {
		struct conf_value *v = &e->values[e->count];
		int r;

		v->pos = s->pos;
		v->text = conf_strndup(c, texts[e->count], strlen(texts[e->count]));
		if (!v->text)
			return err_set(err, -ENOMEM, "out of memory");
		r = conf_text_check(v->text, err);
		if (!r)
			r = conf_value_parse(c, k, v, err);
		if (r) {
			if (err && c->root_type->hide)
				c->root_type->hide(err->text);
			err_context(err, "%s", key);
			return r;
		}
	}
	s->entries[index] = e;
	return 0;
}

void conf_entry_unset(struct conf *c, struct conf_section *s, const char *key)
{
	int index = conf_key_index(s->type, key);

	assert(index >= 0);
	s->entries[index] = NULL;
}

struct conf_entry **conf_section_save(struct conf *c, const struct conf_section *s)
{
	size_t size = (conf_key_count(s->type) + 1) * sizeof(*s->entries);
	struct conf_entry **saved = conf_alloc(c, size);

	return saved ? memcpy(saved, s->entries, size) : NULL;
}

void conf_section_restore(struct conf_section *s, struct conf_entry **saved)
{
	s->entries = saved;
}
