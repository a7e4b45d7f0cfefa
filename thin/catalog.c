/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The catalog: see catalog.h.  Reading it is catalog_load.c. */
#include "thin/catalog.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "thin/pool.h"
#include "thin/reclaim.h"

static int name_compare(struct volume *a, struct volume *b)
{
	if (a->of != b->of)
		return a->of < b->of ? -1 : 1;
	return strcmp(a->name, b->name);
}

static int id_compare(struct volume *a, struct volume *b)
{
	return a->id < b->id ? -1 : a->id > b->id;
}

RB_GENERATE_INTERNAL(volume_names, volume, by_name, name_compare, static __attribute__((unused)))
RB_GENERATE_INTERNAL(volume_ids, volume, by_id, id_compare, static __attribute__((unused)))

void catalog_init(struct catalog *c)
{
	memset(c, 0, sizeof(*c));
	RB_INIT(&c->names);
	RB_INIT(&c->ids);
	c->tree.sticky = true;
	c->next_id = 1;
}

void catalog_fini(struct catalog *c)
{
	struct volume *v;

	while ((v = RB_ROOT(&c->ids))) {
		RB_REMOVE(volume_ids, &c->ids, v);
		free(v->lock);
		free(v);
	}
	free(c->slot);
	free(c->dirty);
	free(c->zone_slot);
}

/* ---- slots ---- */

static int slots_grow(struct catalog *c, uint64_t need)
{
	uint64_t capacity = c->slot_capacity ? c->slot_capacity : 64;
	struct cat_slot *slot;
	uint64_t *dirty;

	while (capacity < need)
		capacity *= 2;
	if (capacity == c->slot_capacity)
		return 0;
	dirty = reallocarray(c->dirty, capacity, sizeof(*dirty));
	if (!dirty)
		return -ENOMEM;
	c->dirty = dirty;
	slot = reallocarray(c->slot, capacity, sizeof(*slot));
	if (!slot)
		return -ENOMEM;
	memset(slot + c->slot_capacity, 0, (capacity - c->slot_capacity) * sizeof(*slot));
	c->slot = slot;
	c->slot_capacity = capacity;
	return 0;
}

int catalog_reserve_slots(struct catalog *c, uint64_t count)
{
	return slots_grow(c, c->slot_count + count + RECLAIM_RECORDS_MAX);
}

int catalog_take_slot(struct catalog *c, enum fmt_rec_kind kind, uint64_t *ret_slot)
{
	uint64_t s = c->slot_count;

	if (c->free_slot) {
		s = c->free_slot - 1;
		c->free_slot = c->slot[s].index;
	} else {
		int r = slots_grow(c, s + 1);

		if (r)
			return r;
		c->slot_count++;
	}
	c->slot[s].kind = kind;
	catalog_touch(c, s);
	*ret_slot = s;
	return 0;
}

void catalog_touch(struct catalog *c, uint64_t slot)
{
	if (c->slot[slot].dirty)
		return;
	c->slot[slot].dirty = true;
	assert(c->dirty_count < c->slot_capacity);
	c->dirty[c->dirty_count++] = slot;
}

void catalog_list_free(struct catalog *c, uint64_t slot)
{
	c->slot[slot].kind = FMT_REC_FREE;
	c->slot[slot].volume = NULL;
	c->slot[slot].index = c->free_slot;
	c->free_slot = slot + 1;
}

void catalog_free_slot(struct catalog *c, uint64_t slot)
{
	catalog_list_free(c, slot);
	catalog_touch(c, slot);
}

int catalog_cover_zones(struct catalog *c, uint64_t zone_count)
{
	uint64_t need = (zone_count + FMT_ZONES_PER_REC - 1) / FMT_ZONES_PER_REC;
	uint64_t *zone_slot;

	zone_slot = reallocarray(c->zone_slot, need, sizeof(*zone_slot));
	if (!zone_slot)
		return -ENOMEM;
	c->zone_slot = zone_slot;
	while (c->zone_slot_count < need) {
		uint64_t slot;
		int r = catalog_take_slot(c, FMT_REC_ZONES, &slot);

		if (r)
			return r;
		c->slot[slot].index = c->zone_slot_count;
		c->zone_slot[c->zone_slot_count++] = slot;
	}
	return 0;
}

uint64_t catalog_cut_blocks(const struct thin_pool *pool)
{
	const struct catalog *c = &pool->catalog;
	/* every dirty record, every zones record, work records, and the leaves above them */
	uint64_t records = c->dirty_count + c->zone_slot_count + reclaim_records(pool);

	return 2 * records + c->tree.height + 4;
}

/* ---- volumes ---- */

struct volume *volume_by_name(struct catalog *c, uint64_t of, const char *name)
{
	struct volume key = { .of = of };

	if (strlen(name) > THIN_NAME_MAX)
		return NULL;
	strcpy(key.name, name);
	return RB_FIND(volume_names, &c->names, &key);
}

struct volume *volume_by_path(struct catalog *c, const char *path)
{
	const char *at = strchr(path, '@');
	char name[THIN_NAME_MAX + 1];
	struct volume *vol;

	if (!at)
		return volume_by_name(c, 0, path);
	if (at - path > (ptrdiff_t)THIN_NAME_MAX)
		return NULL;
	memcpy(name, path, (size_t)(at - path));
	name[at - path] = 0;
	vol = volume_by_name(c, 0, name);
	return vol ? volume_by_name(c, vol->id, at + 1) : NULL;
}

struct volume *volume_by_id(struct catalog *c, uint64_t id)
{
	struct volume key = { .id = id };

	return RB_FIND(volume_ids, &c->ids, &key);
}

struct volume *volume_after(const struct catalog *c, uint64_t of, const char *name)
{
	struct volume_names *names = (struct volume_names *)&c->names;
	struct volume key = { .of = of }, *v;

	snprintf(key.name, sizeof(key.name), "%s", name ? name : "");
	v = RB_NFIND(volume_names, names, &key);
	if (v && v->of == of && strcmp(v->name, key.name) == 0)
		v = RB_NEXT(volume_names, names, v);
	return v && v->of == of ? v : NULL;
}

struct volume *volume_after_id(const struct catalog *c, uint64_t id)
{
	struct volume key = { .id = id + 1 };

	return RB_NFIND(volume_ids, (struct volume_ids *)&c->ids, &key);
}

static void count_volume(struct catalog *c, const struct volume *vol, int by)
{
	if (vol->state == VOLUME_LIVE)
		c->volume_count += (uint64_t)(int64_t)by;
	else if (vol->state == VOLUME_SNAPSHOT)
		c->snapshot_count += (uint64_t)(int64_t)by;
	else
		c->hidden_count += (uint64_t)(int64_t)by;
}

void volume_insert(struct catalog *c, struct volume *vol)
{
	if (vol->state != VOLUME_HIDDEN)
		RB_INSERT(volume_names, &c->names, vol);
	RB_INSERT(volume_ids, &c->ids, vol);
	c->slot[vol->slot].volume = vol;
	count_volume(c, vol, 1);
}

struct volume *volume_alloc(void)
{
	struct volume *v = calloc(1, sizeof(*v));

	if (!v)
		return NULL;
	v->tree.volume = v;
	TAILQ_INIT(&v->ranges);
	TAILQ_INIT(&v->range_waiting);
	TAILQ_INIT(&v->children);
	STAILQ_INIT(&v->barrier_waiting);
	return v;
}

int volume_add(struct catalog *c, enum volume_state state, uint64_t id, uint64_t of,
	       const char *name, struct volume **ret_vol)
{
	struct volume *v = volume_alloc();
	int r;

	if (!v)
		return -ENOMEM;
	r = catalog_take_slot(c, FMT_REC_VOLUME, &v->slot);
	if (r) {
		free(v);
		return r;
	}
	v->state = state;
	v->id = id;
	v->of = of;
	if (id >= c->next_id)
		c->next_id = id + 1;
	snprintf(v->name, sizeof(v->name), "%s", name);
	volume_insert(c, v);
	*ret_vol = v;
	return 0;
}

void volume_remove(struct catalog *c, struct volume *vol)
{
	assert(TAILQ_EMPTY(&vol->ranges) && TAILQ_EMPTY(&vol->range_waiting));
	assert(!vol->child_count && !vol->parent && vol->state == VOLUME_HIDDEN);
	RB_REMOVE(volume_ids, &c->ids, vol);
	count_volume(c, vol, -1);
	catalog_free_slot(c, vol->slot);
	free(vol->lock);
	free(vol);
}

void volume_hide(struct thin_pool *pool, struct volume *vol)
{
	struct catalog *c = &pool->catalog;

	RB_REMOVE(volume_names, &c->names, vol);
	count_volume(c, vol, -1);
	if (vol->state == VOLUME_LIVE) {
		pool->reserved_blocks -= vol->reserved_blocks;
		pool->promised_blocks -= volume_promise(vol);
	}
	vol->state = VOLUME_HIDDEN;
	count_volume(c, vol, 1);
	vol->generation = vol->generation ? vol->generation : pool->generation;
	volume_touch(pool, vol);
}

void volume_rename(struct catalog *c, struct volume *vol, const char *name)
{
	RB_REMOVE(volume_names, &c->names, vol);
	snprintf(vol->name, sizeof(vol->name), "%s", name);
	RB_INSERT(volume_names, &c->names, vol);
	catalog_touch(c, vol->slot);
}

uint64_t volume_promise(const struct volume *vol)
{
	uint64_t blocks = vol->size_bytes / FMT_BLOCK;
	uint64_t have = vol->own_blocks + vol->reserved_blocks;

	return vol->state == VOLUME_LIVE && vol->reserve_full && blocks > have ? blocks - have : 0;
}

void volume_count(struct thin_pool *pool, struct volume *vol, int64_t mapped, int64_t own,
		  int64_t reserved)
{
	pool->promised_blocks -= volume_promise(vol);
	vol->mapped_blocks += (uint64_t)mapped;
	vol->own_blocks += (uint64_t)own;
	if (vol->held)
		pool->lineage.held_blocks += (uint64_t)own;
	vol->reserved_blocks += (uint64_t)reserved;
	pool->promised_blocks += volume_promise(vol);
	if (vol->state == VOLUME_LIVE)
		pool->reserved_blocks += (uint64_t)reserved;
}

void volume_set_size(struct thin_pool *pool, struct volume *vol, uint64_t size_bytes,
		     bool reserve_full)
{
	pool->promised_blocks -= volume_promise(vol);
	vol->size_bytes = size_bytes;
	vol->reserve_full = reserve_full;
	pool->promised_blocks += volume_promise(vol);
	volume_touch(pool, vol);
}

int volume_set_lock(struct thin_pool *pool, struct volume *vol, const struct thin_lock *lock)
{
	struct thin_lock *mine = vol->lock ? vol->lock : malloc(sizeof(*mine));

	if (!mine)
		return -ENOMEM;
	*mine = *lock;
	vol->lock = mine;
	volume_touch(pool, vol);
	return 0;
}

void volume_touch(struct thin_pool *pool, struct volume *vol)
{
	catalog_touch(&pool->catalog, vol->slot);
}

/* ---- records ---- */

static void encode_lock(const struct thin_lock *lock, struct fmt_rec_volume *rec)
{
	rec->lock_epoch = le64_put(lock->epoch);
	rec->lock_state = le32_put(lock->state);
	rec->lock_policy = le32_put(lock->policy);
	memcpy(rec->lock_owner, lock->owner, sizeof(lock->owner));
	rec->lock_since_s = le64_put(lock->since_s);
	rec->lock_until_s = le64_put(lock->until_s);
	rec->lock_wait_ms = le32_put(lock->wait_ms);
	rec->lock_grace_ms = le32_put(lock->grace_ms);
	memcpy(rec->lock_heir, lock->heir, sizeof(lock->heir));
}

static void encode_volume(const struct volume *v, struct fmt_rec_volume *rec)
{
	rec->id = le64_put(v->id);
	rec->parent = le64_put(v->parent ? v->parent->id : 0);
	rec->generation = le64_put(v->generation);
	rec->size_bytes = le64_put(v->size_bytes);
	rec->created_s = le64_put(v->created_s);
	rec->mapped_blocks = le64_put(v->mapped_blocks);
	rec->reserved_blocks = le64_put(v->reserved_blocks);
	rec->root = v->tree.root;
	rec->height = le32_put(v->tree.height);
	rec->state = le32_put(v->state);
	rec->flags = le32_put((v->reserve_full ? FMT_VOLUME_RESERVE_FULL : 0) |
			      (v->splicing ? FMT_VOLUME_SPLICING : 0) |
			      (v->exclusive_known ? FMT_VOLUME_EXCLUSIVE : 0) | FMT_VOLUME_OWN);
	memcpy(rec->name, v->name, sizeof(v->name));
	rec->of = le64_put(v->of);
	rec->own_blocks = le64_put(v->own_blocks);
	rec->cursor = le64_put(v->splicing ? v->cursor : 0);
	rec->freed_blocks = le64_put(v->freed_blocks);
	rec->exclusive_blocks = le64_put(v->exclusive_blocks);
	rec->reclaiming_blocks = le64_put(v->reclaiming_blocks);
	if (v->lock)
		encode_lock(v->lock, rec);
}

static void encode_zones(const struct space *sp, uint64_t index, struct fmt_rec_zones *rec)
{
	uint64_t first = index * FMT_ZONES_PER_REC;
	uint32_t count = 0;

	for (; count < FMT_ZONES_PER_REC && first + count < sp->zone_count; count++) {
		const struct space_zone *z = &sp->zone[first + count];

		rec->zone[count] = (struct fmt_zone){
			.crc = le32_put(z->crc),
			.generation = le32_put(z->generation),
			.copy = le32_put(z->copy),
			.free_blocks = le32_put(z->blocks - z->alloc_count),
		};
	}
	rec->first_zone = le64_put(first);
	rec->count = le32_put(count);
}

void catalog_encode(struct thin_pool *pool, uint64_t slot, void *block)
{
	const struct cat_slot *s = &pool->catalog.slot[slot];
	struct fmt_rec_head *head = block;

	memset(block, 0, FMT_BLOCK);
	head->magic = le32_put(FMT_REC_MAGIC);
	head->kind = le32_put(s->kind);
	head->slot = le64_put(slot);
	switch (s->kind) {
	case FMT_REC_VOLUME:
		encode_volume(s->volume, block);
		break;
	case FMT_REC_ZONES:
		encode_zones(&pool->space, s->index, block);
		break;
	case FMT_REC_WORK:
		reclaim_encode(pool, s->index, block);
		break;
	case FMT_REC_FREE:
		assert(!"a free slot has no record");
	}
}
