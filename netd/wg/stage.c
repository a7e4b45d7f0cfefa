/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packets that wait; see stage.h.
 *
 *	buckets[hash(peer)] -> queue of peer A -> queue of peer B
 *				first .. last, through slots[].next
 *	free_slot -> slot -> slot ...
 *
 * A queue exists while it has packets, so there are never more queues than slots: queue i uses the
 * same index range, and each has its free list.
 */
#include "netd/wg/stage.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define BUCKETS 256
#define NONE	UINT32_MAX

struct slot {
	uint32_t next, len;
};

struct queue {
	uint64_t peer;
	uint32_t next, first, last, count;
};

struct stage {
	size_t packet_max;
	uint8_t *memory;
	uint32_t buckets[BUCKETS], free_slot, free_queue;
	struct slot slots[STAGE_MAX];
	struct queue queues[STAGE_MAX];
};

int stage_new(size_t packet_max, struct stage **ret)
{
	struct stage *s = calloc(1, sizeof(*s));
	void *memory = mmap(NULL, packet_max * STAGE_MAX, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (!s || memory == MAP_FAILED) {
		free(s);
		return -ENOMEM;
	}
	s->packet_max = packet_max;
	s->memory = memory;
	memset(s->buckets, 0xff, sizeof(s->buckets));
	for (uint32_t i = 0; i < STAGE_MAX; i++)
		s->slots[i].next = s->queues[i].next = i + 1 < STAGE_MAX ? i + 1 : NONE;
	*ret = s;
	return 0;
}

void stage_free(struct stage *s)
{
	if (!s)
		return;
	munmap(s->memory, s->packet_max * STAGE_MAX);
	free(s);
}

static uint32_t *find_link(const struct stage *s, uint64_t peer)
{
	uint32_t *link = (uint32_t *)&s->buckets[peer % BUCKETS];

	while (*link != NONE && s->queues[*link].peer != peer)
		link = (uint32_t *)&s->queues[*link].next;
	return link;
}

static struct queue *find_queue(const struct stage *s, uint64_t peer)
{
	uint32_t i = *find_link(s, peer);

	return i == NONE ? NULL : (struct queue *)&s->queues[i];
}

static struct queue *make_queue(struct stage *s, uint64_t peer)
{
	uint32_t *link = &s->buckets[peer % BUCKETS], i = s->free_queue;
	struct queue *q = &s->queues[i];

	assert(i != NONE);
	s->free_queue = q->next;
	*q = (struct queue){ .peer = peer, .next = *link, .first = NONE, .last = NONE };
	*link = i;
	return q;
}

static void remove_queue(struct stage *s, uint64_t peer)
{
	uint32_t *link = find_link(s, peer), i = *link;

	*link = s->queues[i].next;
	s->queues[i].next = s->free_queue;
	s->free_queue = i;
}

uint8_t *stage_take(struct stage *s, uint64_t peer, size_t *ret_len)
{
	struct queue *q = find_queue(s, peer);
	uint32_t i;

	if (!q)
		return NULL;
	i = q->first;
	q->first = s->slots[i].next;
	*ret_len = s->slots[i].len;
	s->slots[i].next = s->free_slot;
	s->free_slot = i;
	if (!--q->count)
		remove_queue(s, peer);
	return s->memory + i * s->packet_max;
}

unsigned stage_put(struct stage *s, uint64_t peer, const uint8_t *packet, size_t len)
{
	struct queue *q = find_queue(s, peer);
	unsigned dropped = 0;
	size_t old;
	uint32_t i;

	if (len > s->packet_max)
		return 1;
	if (q && q->count == STAGE_PEER_MAX) {
		(void)stage_take(s, peer, &old);
		dropped = 1;
	}
	if (s->free_slot == NONE)
		return 1;
	i = s->free_slot;
	s->free_slot = s->slots[i].next;
	if (!q)
		q = make_queue(s, peer);
	s->slots[i] = (struct slot){ .next = NONE, .len = (uint32_t)len };
	memcpy(s->memory + i * s->packet_max, packet, len);
	if (q->count++)
		s->slots[q->last].next = i;
	else
		q->first = i;
	q->last = i;
	return dropped;
}

size_t stage_count(const struct stage *s, uint64_t peer)
{
	const struct queue *q = find_queue(s, peer);

	return q ? q->count : 0;
}

size_t stage_drop(struct stage *s, uint64_t peer)
{
	size_t n = 0, len;

	while (stage_take(s, peer, &len))
		n++;
	return n;
}
