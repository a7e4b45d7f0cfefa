/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of receiver indices; its one idea is told in index.h. */
#include "vpn/index.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define INDEX_SIZE_MIN 16

int index_reserve(struct index_table *t, uint32_t count)
{
	uint32_t size = t->size ? t->size : INDEX_SIZE_MIN;
	struct index_entry *slots;

	while (size / 2 < count)
		size *= 2;
	if (size == t->size)
		return 0;
	slots = calloc(size, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	for (uint32_t i = 0; i < t->size; i++)
		if (t->slots[i].peer)
			slots[t->slots[i].index & (size - 1)] = t->slots[i];
	free(t->slots);
	t->slots = slots;
	t->size = size;
	return 0;
}

struct index_entry *index_take(struct index_table *t, uint32_t candidate, struct peer *peer)
{
	struct index_entry *e;

	assert(t->used < t->size / 2); /* reserved when the peer was added */
	e = &t->slots[candidate & (t->size - 1)];
	if (e->peer)
		return NULL;
	*e = (struct index_entry){ .index = candidate, .peer = peer };
	t->used++;
	return e;
}

struct index_entry *index_find(const struct index_table *t, uint32_t index)
{
	struct index_entry *e = t->size ? &t->slots[index & (t->size - 1)] : NULL;

	return e && e->peer && e->index == index ? e : NULL;
}

void index_drop(struct index_table *t, uint32_t index)
{
	struct index_entry *e = index_find(t, index);

	if (!e)
		return;
	*e = (struct index_entry){ 0 };
	t->used--;
}

void index_clear(struct index_table *t)
{
	free(t->slots);
	*t = (struct index_table){ 0 };
}
