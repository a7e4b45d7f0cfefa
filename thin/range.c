/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Overlapping changes of one volume take effect one after the other: a request holds the range of
 * blocks it touches until its last block is published.  One that overlaps waits in order; nobody
 * overtakes a waiting request that it overlaps.
 */
#include "thin/io.h"
#include "thin/pool.h"

static bool overlap(const struct req_state *a, const struct req_state *b)
{
	return a->first.n < b->last.n && b->first.n < a->last.n;
}

/* Whether a range in `list`, up to but not including `end`, overlaps. */
static bool list_overlaps(const struct range_list *list, const struct req_state *end,
			  const struct req_state *rs)
{
	const struct req_state *other;

	TAILQ_FOREACH (other, list, range_link) {
		if (other == end)
			return false;
		if (overlap(other, rs))
			return true;
	}
	return false;
}

bool range_take(struct req_state *rs)
{
	struct volume *vol = rs->req->vol->volume;

	if (rs->range_held)
		return true;
	assert(!rs->range_blocked);
	if (list_overlaps(&vol->ranges, NULL, rs) || list_overlaps(&vol->range_waiting, NULL, rs)) {
		rs->range_blocked = true;
		TAILQ_INSERT_TAIL(&vol->range_waiting, rs, range_link);
		return false;
	}
	rs->range_held = true;
	TAILQ_INSERT_TAIL(&vol->ranges, rs, range_link);
	return true;
}

void range_release(struct req_state *rs)
{
	struct req_state *w, *next;
	struct volume *vol;

	if (!rs->range_held)
		return;
	vol = rs->req->vol->volume;
	rs->range_held = false;
	TAILQ_REMOVE(&vol->ranges, rs, range_link);
	for (w = TAILQ_FIRST(&vol->range_waiting); w; w = next) {
		next = TAILQ_NEXT(w, range_link);
		if (list_overlaps(&vol->ranges, NULL, w) ||
		    list_overlaps(&vol->range_waiting, w, w))
			continue;
		TAILQ_REMOVE(&vol->range_waiting, w, range_link);
		TAILQ_INSERT_TAIL(&vol->ranges, w, range_link);
		w->range_blocked = false;
		w->range_held = true;
		pool_wake_task(rs->pool, &w->task);
	}
}
