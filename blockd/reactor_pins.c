/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who has what open: why a volume or a snapshot cannot be deleted, renamed or rolled back.
 *
 * A connection pins its export and every snapshot that it is compared with (dirty bitmaps); a hold
 * is the same for anything else that has handles open on the reactor's thread, as long as they are.
 * The engine refuses for any of them; here is who it is.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/reactor_priv.h"

/* The handle is of volume `id`, or with `snapshots` of one of its snapshots. */
static bool is_of(const struct thin_vol *vol, uint64_t id, bool snapshots)
{
	struct thin_vol_stat stat;

	if (!vol)
		return false;
	thin_vol_stat(vol, &stat);
	return stat.id == id || (snapshots && stat.of == id);
}

bool session_pins(const struct session *s, uint64_t id, bool snapshots)
{
	const struct reactor_handles *handles = &s->adopt.handles;

	for (size_t i = 0; i < CONTEXTS_BITMAP_MAX; i++)
		if (is_of(handles->bases[i], id, snapshots))
			return true;
	return is_of(handles->vol, id, snapshots);
}

void reactor_hold(struct reactor *r, struct reactor_hold *hold)
{
	LIST_INSERT_HEAD(&r->holds, hold, link);
}

void reactor_unhold(struct reactor_hold *hold)
{
	LIST_REMOVE(hold, link);
}

/* ---- listing ---- */

struct pins {
	struct reactor_pin *list;
	size_t count, max;
};

/* `vol` is pinned by `by`, which compares it with `with` (NULL: nothing). */
static void add_pin(struct pins *pins, const struct thin_vol *vol, const char *by,
		    const struct thin_vol *with)
{
	struct reactor_pin *pin = &pins->list[pins->count];
	struct thin_vol_stat stat;

	if (!vol || pins->count == pins->max)
		return;
	pins->count++;
	thin_vol_stat(vol, &stat);
	pin->id = stat.id;
	pin->of = stat.of;
	memcpy(pin->path, stat.path, sizeof(pin->path));
	snprintf(pin->by, sizeof(pin->by), "%s", by);
	if (!with)
		return;
	thin_vol_stat(with, &stat);
	memcpy(pin->with, stat.path, sizeof(pin->with));
}

static void pins_of_session(struct pins *pins, const struct session *s)
{
	const struct reactor_handles *handles = &s->adopt.handles;

	add_pin(pins, handles->vol, s->adopt.peer, NULL);
	for (size_t i = 0; i < CONTEXTS_BITMAP_MAX; i++)
		add_pin(pins, handles->bases[i], s->adopt.peer, handles->vol);
}

static size_t pin_count(const struct reactor *r)
{
	const struct reactor_hold *hold;
	size_t count = (1 + CONTEXTS_BITMAP_MAX) * (size_t)r->session_count;

	LIST_FOREACH (hold, &r->holds, link)
		count += 2;
	return count;
}

static int list_pins(struct reactor *r, void *arg)
{
	struct pins *pins = arg;
	const struct reactor_hold *hold;
	const struct session *s;

	pins->max = pin_count(r);
	pins->list = calloc(pins->max + 1, sizeof(*pins->list));
	if (!pins->list)
		return -ENOMEM;
	TAILQ_FOREACH (s, &r->sessions, link)
		pins_of_session(pins, s);
	LIST_FOREACH (hold, &r->holds, link) {
		add_pin(pins, hold->vol, hold->by, hold->base);
		add_pin(pins, hold->base, hold->by, hold->vol);
	}
	return 0;
}

static int compare_pins(const void *a, const void *b)
{
	const struct reactor_pin *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

int reactor_list_pins(struct reactor *r, struct reactor_pin **ret_list, size_t *ret_count)
{
	struct pins pins = { 0 };
	int rc = reactor_call(r, list_pins, &pins);

	if (rc)
		return rc;
	qsort(pins.list, pins.count, sizeof(*pins.list), compare_pins);
	*ret_list = pins.list;
	*ret_count = pins.count;
	return 0;
}
