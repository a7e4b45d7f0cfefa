/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Snapshots of what a reactor owns, for the control thread: taken by a call on the reactor's
 * thread between two turns, so they are consistent in themselves.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/nbd/contexts.h"
#include "blockd/reactor_priv.h"

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

	thin_vol_stat(s->adopt.vol, &stat);
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
static void forget_deleted(struct reactor *r, const struct list *list)
{
	const struct reactor_vol_info *infos = (const struct reactor_vol_info *)list->items;
	struct reactor_vol *vol, *next;

	for (vol = LIST_FIRST(&r->vols); vol; vol = next) {
		size_t i = 0;

		next = LIST_NEXT(vol, link);
		while (i < list->count && infos[i].stat.id != vol->id)
			i++;
		if (i < list->count || vol->connections)
			continue;
		LIST_REMOVE(vol, link);
		free(vol);
	}
}

static int list_vols(struct reactor *r, void *arg)
{
	struct list *list = arg;
	struct thin_vol_stat stat;
	char after[THIN_NAME_MAX + 1] = "";
	struct reactor_vol *vol;

	while (!thin_vol_next(r->pool, after, &stat)) {
		struct reactor_vol_info *info = list_add(list);

		if (!info)
			return -ENOMEM;
		info->stat = stat;
		LIST_FOREACH (vol, &r->vols, link)
			if (vol->id == stat.id) {
				info->connections = vol->connections;
				info->io = vol->io;
			}
		memcpy(after, stat.name, sizeof(after));
	}
	forget_deleted(r, list);
	return 0;
}

static int list_latencies(struct reactor *r, void *arg)
{
	struct list *list = arg;
	struct thin_vol_stat stat;
	char after[THIN_NAME_MAX + 1] = "";
	struct reactor_vol *vol;

	while (!LIST_EMPTY(&r->vols) && !thin_vol_next(r->pool, after, &stat)) {
		memcpy(after, stat.name, sizeof(after));
		LIST_FOREACH (vol, &r->vols, link) {
			struct reactor_latency_info *info;

			if (vol->id != stat.id)
				continue;
			info = list_add(list);
			if (!info)
				return -ENOMEM;
			memcpy(info->volume, stat.name, sizeof(info->volume));
			info->id = vol->id;
			info->io = vol->io;
			info->latency = vol->latency;
		}
	}
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

int reactor_list_vols(struct reactor *r, struct reactor_vol_info **ret_list, size_t *ret_count)
{
	return take(r, list_vols, sizeof(**ret_list), (void **)ret_list, ret_count);
}

int reactor_list_latencies(struct reactor *r, struct reactor_latency_info **ret_list,
			   size_t *ret_count)
{
	return take(r, list_latencies, sizeof(**ret_list), (void **)ret_list, ret_count);
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
