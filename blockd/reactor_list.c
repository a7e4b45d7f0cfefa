/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Snapshots of what a reactor owns, for the control thread: taken by calls on the reactor's thread
 * between two turns.  A call lists SLICE volumes at most, so that clients do not wait for long
 * lists; a slice is consistent in itself, and what is there all the time is listed once.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/nbd/contexts.h"
#include "blockd/reactor_priv.h"

#define SLICE	    256u
#define HEIRS_LOOKS 2048u /* nodes looked at in a call: who is built on whom */

/* A growing array; `item` is its next element. */
struct list {
	char *items;
	size_t item_size, count, capacity;
};

static void *list_add(struct list *list)
{
	if (list->count == list->capacity) {
		size_t capacity = list->capacity ? list->capacity * 2 : 16;
		void *items = reallocarray(list->items, capacity, list->item_size);

		if (!items)
			return NULL;
		list->items = items;
		list->capacity = capacity;
	}
	return memset(list->items + list->count++ * list->item_size, 0, list->item_size);
}

static void conn_info(const struct session *s, struct reactor_conn_info *info)
{
	struct thin_vol_stat stat;

	thin_vol_stat(s->adopt.handles.vol, &stat);
	info->id = s->adopt.id;
	memcpy(info->peer, s->adopt.peer, sizeof(info->peer));
	memcpy(info->listener, s->adopt.listener, sizeof(info->listener));
	memcpy(info->volume, stat.path, sizeof(info->volume));
	info->read_only = s->adopt.read_only;
	info->structured = s->adopt.structured;
	info->status = s->adopt.contexts & (1u << CONTEXT_ALLOCATION);
	info->since_s = s->since_s;
	info->in_flight = transmit_open_requests(s->transmit);
	info->buffer_bytes = transmit_held_bytes(s->transmit);
	info->received_bytes = s->received_bytes;
	info->sent_bytes = s->sent_bytes;
	info->io = *transmit_counters(s->transmit);
}

static int list_conns(struct reactor *r, void *arg)
{
	struct list *list = arg;
	struct session *s;

	TAILQ_FOREACH (s, &r->sessions, link) {
		struct reactor_conn_info *info = list_add(list);

		if (!info)
			return -ENOMEM;
		conn_info(s, info);
	}
	return 0;
}

/* Counters of volumes that are gone go too. */
static void forget_deleted(struct reactor *r)
{
	struct thin_vol_stat stat;
	struct reactor_vol *vol, *next;

	RB_FOREACH_SAFE(vol, reactor_vols, &r->vols, next)
	{
		if (vol->connections || (!thin_lineage_next(r->pool, vol->id - 1, &stat) &&
					 stat.id == vol->id && stat.state != THIN_VOL_HIDDEN))
			continue;
		if (vol->lock && !reactor_lock_forget(vol->lock))
			continue;
		RB_REMOVE(reactor_vols, &r->vols, vol);
		free(vol);
	}
}

/* A slice of a list in order of names. */
struct slice {
	struct list list;
	char after[THIN_NAME_MAX + 1]; /* where it goes on */
	size_t max;
	bool end;
};

static bool slice_next(struct slice *slice, struct reactor *r, struct thin_vol_stat *ret_stat)
{
	if (slice->list.count >= slice->max)
		return false;
	slice->end = thin_vol_next(r->pool, slice->after, ret_stat) != 0;
	if (!slice->end)
		memcpy(slice->after, ret_stat->name, sizeof(slice->after));
	return !slice->end;
}

static void vol_info(struct reactor *r, const struct thin_vol_stat *stat,
		     struct reactor_vol_info *info)
{
	const struct reactor_vol *vol = reactor_vol_find(r, stat->id);

	info->stat = *stat;
	if (!vol)
		return;
	info->connections = vol->connections;
	info->io = vol->io;
}

static int list_vols(struct reactor *r, void *arg)
{
	struct slice *slice = arg;
	struct thin_vol_stat stat;
	unsigned count = 0;

	if (!slice->after[0])
		forget_deleted(r);
	while (count++ < SLICE && slice_next(slice, r, &stat)) {
		struct reactor_vol_info *info = list_add(&slice->list);

		if (!info)
			return -ENOMEM;
		vol_info(r, &stat, info);
	}
	return 0;
}

static int list_latencies(struct reactor *r, void *arg)
{
	struct slice *slice = arg;
	struct thin_vol_stat stat;
	unsigned count = 0;

	slice->end = RB_EMPTY(&r->vols);
	while (!slice->end && count++ < SLICE && slice_next(slice, r, &stat)) {
		const struct reactor_vol *vol = reactor_vol_find(r, stat.id);
		struct reactor_latency_info *info;

		if (!vol)
			continue;
		info = list_add(&slice->list);
		if (!info)
			return -ENOMEM;
		memcpy(info->volume, stat.name, sizeof(info->volume));
		info->id = vol->id;
		info->io = vol->io;
		info->latency = vol->latency;
	}
	return 0;
}

/* Slices until there are no more, or `max`. */
static int take_slices(struct reactor *r, int (*fn)(struct reactor *, void *), size_t item_size,
		       const char *after, size_t max, void **ret_items, size_t *ret_count)
{
	struct slice slice = { .list = { .item_size = item_size }, .max = max ? max : SIZE_MAX };
	int rc = 0;

	snprintf(slice.after, sizeof(slice.after), "%s", after ? after : "");
	while (!rc && !slice.end && slice.list.count < slice.max)
		rc = reactor_call(r, fn, &slice);
	if (rc) {
		free(slice.list.items);
		return rc;
	}
	*ret_items = slice.list.items;
	*ret_count = slice.list.count;
	return 0;
}

static int take(struct reactor *r, int (*fn)(struct reactor *, void *), size_t item_size,
		void **ret_items, size_t *ret_count)
{
	struct list list = { .item_size = item_size };
	int rc = reactor_call(r, fn, &list);

	if (rc) {
		free(list.items);
		return rc;
	}
	*ret_items = list.items;
	*ret_count = list.count;
	return 0;
}

int reactor_list_conns(struct reactor *r, struct reactor_conn_info **ret_list, size_t *ret_count)
{
	return take(r, list_conns, sizeof(**ret_list), (void **)ret_list, ret_count);
}

int reactor_list_vols(struct reactor *r, const char *after, size_t max,
		      struct reactor_vol_info **ret_list, size_t *ret_count)
{
	return take_slices(r, list_vols, sizeof(**ret_list), after, max, (void **)ret_list,
			   ret_count);
}

int reactor_list_latencies(struct reactor *r, struct reactor_latency_info **ret_list,
			   size_t *ret_count)
{
	return take_slices(r, list_latencies, sizeof(**ret_list), NULL, 0, (void **)ret_list,
			   ret_count);
}

struct one {
	const char *path;
	struct reactor_vol_info *info;
};

static int find_one(struct reactor *r, void *arg)
{
	struct one *one = arg;
	struct thin_vol_stat stat;
	int rc = thin_vol_find(r->pool, one->path, &stat);

	if (!rc)
		vol_info(r, &stat, one->info);
	return rc;
}

int reactor_vol_info(struct reactor *r, const char *path, struct reactor_vol_info *ret_info)
{
	memset(ret_info, 0, sizeof(*ret_info));
	return reactor_call(r, find_one, &(struct one){ path, ret_info });
}

struct lineage_slice {
	struct thin_vol_stat *stats;
	uint64_t after;
	size_t max, count;
};

static int list_lineage(struct reactor *r, void *arg)
{
	struct lineage_slice *s = arg;
	size_t end = s->count + SLICE < s->max ? s->count + SLICE : s->max;

	for (; s->count < end; s->count++) {
		if (thin_lineage_next(r->pool, s->after, &s->stats[s->count]))
			return 1;
		s->after = s->stats[s->count].id;
	}
	return s->count == s->max;
}

int reactor_list_lineage(struct reactor *r, uint64_t after, size_t max,
			 struct thin_vol_stat **ret_list, size_t *ret_count)
{
	struct lineage_slice s = { calloc(max, sizeof(*s.stats)), after, max, 0 };

	if (!s.stats)
		return -ENOMEM;
	while (!reactor_call(r, list_lineage, &s))
		;
	*ret_list = s.stats;
	*ret_count = s.count;
	return 0;
}

struct heirs_slice {
	struct list list;
	const uint64_t *ids;
	size_t id_count;
};

static int list_heirs(struct reactor *r, void *arg)
{
	struct heirs_slice *s = arg;
	uint64_t heirs[REACTOR_HEIRS_MAX];
	struct thin_vol_stat stat;
	uint32_t looks = 0;

	for (; looks < HEIRS_LOOKS && s->id_count; s->ids++, s->id_count--) {
		uint32_t count = thin_heirs(r->pool, *s->ids, heirs, REACTOR_HEIRS_MAX, &looks);

		for (uint32_t i = 0; i < count; i++) {
			struct reactor_heir *heir = list_add(&s->list);

			if (!heir)
				return -ENOMEM;
			if (thin_lineage_next(r->pool, heirs[i] - 1, &stat) == 0)
				memcpy(heir->path, stat.path, sizeof(heir->path));
			heir->of = *s->ids;
		}
	}
	return 0;
}

int reactor_list_heirs(struct reactor *r, const uint64_t *ids, size_t id_count,
		       struct reactor_heir **ret_list, size_t *ret_count)
{
	struct heirs_slice s = { { .item_size = sizeof(**ret_list) }, ids, id_count };
	int rc = 0;

	while (!rc && s.id_count)
		rc = reactor_call(r, list_heirs, &s);
	if (rc) {
		free(s.list.items);
		return rc;
	}
	*ret_list = (struct reactor_heir *)s.list.items;
	*ret_count = s.list.count;
	return 0;
}

static int get_stat(struct reactor *r, void *arg)
{
	struct reactor_stat *stat = arg;
	struct session *s;

	*stat = r->stat;
	thin_pool_stat(r->pool, &stat->pool);
	stat->connections = r->session_count;
	stat->buffer_limit_bytes = bufpool_size_bytes(r->bufs);
	stat->buffer_used_bytes = bufpool_used_bytes(r->bufs);
	stat->buffer_peak_bytes = bufpool_peak_bytes(r->bufs);
	TAILQ_FOREACH (s, &r->sessions, link) {
		stat->recvs += s->recvs;
		stat->sends += s->sends;
	}
	return 0;
}

void reactor_get_stat(struct reactor *r, struct reactor_stat *ret_stat)
{
	reactor_call(r, get_stat, ret_stat);
}
