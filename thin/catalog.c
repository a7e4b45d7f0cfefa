/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The catalog: see catalog.h. */
#include "thin/catalog.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cleanup.h"
#include "thin/lineage.h"
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
	uint64_t s = c->free_hint;

	while (s < c->slot_count && c->slot[s].kind != FMT_REC_FREE)
		s++;
	if (s == c->slot_count) {
		int r = slots_grow(c, s + 1);

		if (r)
			return r;
		c->slot_count++;
	}
	c->free_hint = s + 1;
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

void catalog_free_slot(struct catalog *c, uint64_t slot)
{
	c->slot[slot].kind = FMT_REC_FREE;
	c->slot[slot].volume = NULL;
	if (slot < c->free_hint)
		c->free_hint = slot;
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
}

static void volume_insert(struct catalog *c, struct volume *vol)
{
	if (vol->state != VOLUME_HIDDEN)
		RB_INSERT(volume_names, &c->names, vol);
	RB_INSERT(volume_ids, &c->ids, vol);
	c->slot[vol->slot].volume = vol;
	count_volume(c, vol, 1);
}

static struct volume *volume_alloc(void)
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
	catalog_free_slot(c, vol->slot);
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

void volume_touch(struct thin_pool *pool, struct volume *vol)
{
	catalog_touch(&pool->catalog, vol->slot);
}

/* ---- records ---- */

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

static bool volume_record_valid(struct thin_pool *pool, const struct fmt_rec_volume *rec,
				const char *name)
{
	struct catalog *c = &pool->catalog;
	uint32_t state = le32_get(rec->state);
	uint64_t blocks = pool->space.block_count, id = le64_get(rec->id);

	return state >= VOLUME_LIVE && state <= VOLUME_HIDDEN && id && id < c->next_id &&
	       !volume_by_id(c, id) && le32_get(rec->height) <= FMT_HEIGHT_MAX &&
	       (state == VOLUME_HIDDEN ||
		(!thin_name_check(name, NULL) && !volume_by_name(c, le64_get(rec->of), name))) &&
	       (state == VOLUME_HIDDEN || (le64_get(rec->of) != 0) == (state == VOLUME_SNAPSHOT)) &&
	       le64_get(rec->size_bytes) <= THIN_VOLUME_MAX &&
	       le64_get(rec->size_bytes) % FMT_BLOCK == 0 &&
	       le64_get(rec->generation) <= pool->generation &&
	       (le64_get(rec->generation) != 0) == (state != VOLUME_LIVE) &&
	       le64_get(rec->mapped_blocks) <= blocks && le64_get(rec->own_blocks) <= blocks &&
	       le64_get(rec->cursor) % FMT_NODE_ENTRIES == 0 &&
	       ent_from_disk_valid(pool, ent_get(&rec->root), 1) &&
	       (le64_get(rec->root.where) == 0 || le32_get(rec->height) > 0);
}

/* The parent is set when all are there: lineage_load(). */
static int decode_volume(struct thin_pool *pool, uint64_t slot, const struct fmt_rec_volume *rec,
			 struct err *err)
{
	uint32_t flags = le32_get(rec->flags);
	char name[THIN_NAME_MAX + 1];
	struct volume *v;

	memcpy(name, rec->name, sizeof(name));
	name[THIN_NAME_MAX] = 0;
	if (!volume_record_valid(pool, rec, name))
		return err_set(err, -EUCLEAN, "catalog: record %" PRIu64 " makes no sense", slot);
	v = volume_alloc();
	if (!v)
		return -ENOMEM;
	memcpy(v->name, name, sizeof(name));
	v->slot = slot;
	v->id = le64_get(rec->id);
	v->of = le64_get(rec->of);
	v->parent_id = le64_get(rec->parent);
	v->generation = (uint32_t)le64_get(rec->generation);
	v->state = le32_get(rec->state);
	v->size_bytes = le64_get(rec->size_bytes);
	v->created_s = le64_get(rec->created_s);
	v->mapped_blocks = le64_get(rec->mapped_blocks);
	v->reserved_blocks = le64_get(rec->reserved_blocks);
	v->own_blocks = flags & FMT_VOLUME_OWN ? le64_get(rec->own_blocks) : v->mapped_blocks;
	v->tree.root = rec->root;
	v->tree.height = le32_get(rec->height);
	v->reserve_full = flags & FMT_VOLUME_RESERVE_FULL;
	v->splicing = flags & FMT_VOLUME_SPLICING;
	v->exclusive_known = flags & FMT_VOLUME_EXCLUSIVE;
	v->cursor = le64_get(rec->cursor);
	v->freed_blocks = le64_get(rec->freed_blocks);
	v->exclusive_blocks = le64_get(rec->exclusive_blocks);
	v->reclaiming_blocks = le64_get(rec->reclaiming_blocks);
	if (v->state == VOLUME_LIVE)
		pool->reserved_blocks += v->reserved_blocks;
	pool->promised_blocks += volume_promise(v);
	pool->reclaim_blocks += v->reclaiming_blocks;
	volume_insert(&pool->catalog, v);
	return 0;
}

static int decode_zones(struct thin_pool *pool, uint64_t slot, const struct fmt_rec_zones *rec,
			struct err *err)
{
	struct catalog *c = &pool->catalog;
	struct space *sp = &pool->space;
	uint64_t first = le64_get(rec->first_zone), index = first / FMT_ZONES_PER_REC;
	uint32_t count = le32_get(rec->count);

	if (first % FMT_ZONES_PER_REC || count > FMT_ZONES_PER_REC || first >= sp->zone_count ||
	    count > sp->zone_count - first || index >= c->zone_slot_count ||
	    c->zone_slot[index] != UINT64_MAX)
		return err_set(err, -EUCLEAN, "catalog: zones record %" PRIu64 " is out of range",
			       slot);
	for (uint32_t i = 0; i < count; i++) {
		struct space_zone *z = &sp->zone[first + i];

		z->crc = le32_get(rec->zone[i].crc);
		z->generation = le32_get(rec->zone[i].generation);
		z->copy = (uint8_t)(le32_get(rec->zone[i].copy) & 1);
	}
	c->slot[slot].index = index;
	c->zone_slot[index] = slot;
	return 0;
}

static int decode_record(struct thin_pool *pool, uint64_t slot, const void *block, struct err *err)
{
	struct catalog *c = &pool->catalog;
	const struct fmt_rec_head *head = block;
	uint32_t kind = le32_get(head->kind);

	if (le32_get(head->magic) != FMT_REC_MAGIC || le64_get(head->slot) != slot)
		return err_set(err, -EUCLEAN, "catalog: block of record %" PRIu64 " is foreign",
			       slot);
	c->slot[slot].kind = kind;
	switch (kind) {
	case FMT_REC_VOLUME:
		return decode_volume(pool, slot, block, err);
	case FMT_REC_ZONES:
		return decode_zones(pool, slot, block, err);
	case FMT_REC_WORK:
		return reclaim_decode(pool, slot, block, err);
	default:
		return err_set(err, -EUCLEAN, "catalog: record %" PRIu64 " has unknown kind %u",
			       slot, kind);
	}
}

static int load_record(struct thin_pool *pool, uint64_t slot, struct ent e, void *block,
		       struct err *err)
{
	int r;

	if (!ent_from_disk_valid(pool, e, 1))
		return err_set(err, -EUCLEAN, "catalog: entry %" PRIu64 " is out of range", slot);
	r = pool_read_block(pool, ent_pblk(e), block);
	if (r)
		return err_sys(err, r, "catalog: record %" PRIu64, slot);
	if (pool_crc(block, FMT_BLOCK) != e.crc)
		return err_set(err, -EUCLEAN, "catalog: record %" PRIu64 ": checksum differs",
			       slot);
	return decode_record(pool, slot, block, err);
}

static int zone_slots_alloc(struct thin_pool *pool)
{
	struct catalog *c = &pool->catalog;

	c->zone_slot_count = (pool->space.zone_count + FMT_ZONES_PER_REC - 1) / FMT_ZONES_PER_REC;
	c->zone_slot = malloc(c->zone_slot_count * sizeof(*c->zone_slot));
	if (!c->zone_slot)
		return -ENOMEM;
	for (uint64_t i = 0; i < c->zone_slot_count; i++)
		c->zone_slot[i] = UINT64_MAX;
	return 0;
}

int catalog_load(struct thin_pool *pool, struct err *err)
{
	struct catalog *c = &pool->catalog;
	CLEANUP_FREE void *block = NULL;
	struct vblk next;
	int r;

	if (posix_memalign(&block, FMT_BLOCK, FMT_BLOCK) ||
	    slots_grow(c, c->slot_count + 1 + RECLAIM_RECORDS_MAX) || zone_slots_alloc(pool))
		return err_set(err, -ENOMEM, "catalog: out of memory");
	if (!ent_from_disk_valid(pool, ent_get(&c->tree.root), 1) ||
	    (le64_get(c->tree.root.where) && !c->tree.height))
		return err_set(err, -EUCLEAN, "catalog: its root makes no sense");
	for (struct vblk v = { 0 }; v.n < c->slot_count; v = next) {
		struct node *leaf;

		next.n = (v.n | (FMT_NODE_ENTRIES - 1)) + 1;
		r = map_leaf(pool, &c->tree, v, NULL, &leaf, &next);
		if (r == -ENOENT)
			continue;
		if (r)
			return err_sys(err, r, "catalog: node over record %" PRIu64, v.n);
		leaf->pins++;
		for (uint64_t s = v.n; s < next.n && s < c->slot_count && !r; s++) {
			struct ent e = ent_get(&leaf->page->entry[s % FMT_NODE_ENTRIES]);

			if (e.where)
				r = load_record(pool, s, e, block, err);
		}
		leaf->pins--;
		if (r)
			return r;
	}
	for (uint64_t i = 0; i < c->zone_slot_count; i++)
		if (c->zone_slot[i] == UINT64_MAX)
			return err_set(err, -EUCLEAN,
				       "catalog: zones record %" PRIu64 " is missing", i);
	return lineage_load(pool, err);
}
