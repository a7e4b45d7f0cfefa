/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading the catalog when a pool is opened.
 *
 * Records are read a leaf at a time: all of its up to 256 records at once, adjacent ones by one
 * device read, and those of the next leaf while the last one's are taken apart.  Checkpoints write
 * records in runs, so a catalog of many volumes is read in large pieces; wherever they lie, the
 * device has hundreds of reads to work on.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cleanup.h"
#include "thin/catalog.h"
#include "thin/lineage.h"
#include "thin/pool.h"
#include "thin/reclaim.h"
#include "thin/salvage.h"

#define LEAVES_AHEAD 8u /* leaves of the catalog loaded ahead */

/* ---- records ---- */

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

static int decode_lock(const struct fmt_rec_volume *rec, struct thin_lock **ret_lock)
{
	struct thin_lock lock = {
		.epoch = le64_get(rec->lock_epoch),
		.state = le32_get(rec->lock_state),
		.policy = le32_get(rec->lock_policy),
		.wait_ms = le32_get(rec->lock_wait_ms),
		.grace_ms = le32_get(rec->lock_grace_ms),
		.since_s = le64_get(rec->lock_since_s),
		.until_s = le64_get(rec->lock_until_s),
	};

	if (!lock.epoch && !lock.state && !lock.policy)
		return 0;
	memcpy(lock.owner, rec->lock_owner, THIN_LOCK_TEXT_MAX);
	memcpy(lock.heir, rec->lock_heir, THIN_LOCK_TEXT_MAX);
	*ret_lock = malloc(sizeof(lock));
	if (!*ret_lock)
		return -ENOMEM;
	**ret_lock = lock;
	return 0;
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
	if (!v || decode_lock(rec, &v->lock)) {
		free(v);
		return -ENOMEM;
	}
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

/* ---- a leaf's records ---- */

struct record_batch {
	struct thin_pool *pool;
	uint64_t first; /* slot */
	uint32_t count, pending;
	struct ent e[FMT_NODE_ENTRIES];
	uint8_t *blocks;
	struct dev_io io[FMT_NODE_ENTRIES]; /* at the place of its first block */
	struct iovec iov[FMT_NODE_ENTRIES];
	bool failed[FMT_NODE_ENTRIES]; /* to be read again, alone */
};

static void batch_read(struct dev_io *io)
{
	struct record_batch *b = io->user;
	uint64_t at = (uint64_t)(io - b->io);

	for (uint64_t i = at; io->res && i < at + io->len / FMT_BLOCK; i++)
		b->failed[i] = true;
	b->pending--;
}

static void batch_submit(struct record_batch *b, uint32_t at, uint32_t count)
{
	struct dev_io *io = &b->io[at];

	b->iov[at] = (struct iovec){ b->blocks + (uint64_t)at * FMT_BLOCK, count * FMT_BLOCK };
	*io = (struct dev_io){ .op = DEV_READ,
			       .offset = ent_pblk(b->e[at]).n * FMT_BLOCK,
			       .len = count * FMT_BLOCK,
			       .iov = &b->iov[at],
			       .iov_count = 1,
			       .done = batch_read,
			       .user = b };
	b->pending++;
	pool_submit_io(b->pool, io);
}

static bool readable(const struct record_batch *b, uint32_t i)
{
	return b->e[i].where && ent_from_disk_valid(b->pool, b->e[i], 1);
}

static void batch_start(struct record_batch *b, const struct node *leaf, uint64_t first,
			uint64_t end)
{
	b->first = first;
	b->count = (uint32_t)(end - first);
	memset(b->failed, 0, sizeof(b->failed));
	for (uint32_t i = 0; i < b->count; i++)
		b->e[i] = ent_get(&leaf->page->entry[(first + i) % FMT_NODE_ENTRIES]);
	for (uint32_t i = 0, n; i < b->count; i += n) {
		for (n = 1; readable(b, i) && i + n < b->count && readable(b, i + n) &&
			    ent_pblk(b->e[i + n]).n == ent_pblk(b->e[i]).n + n;
		     n++)
			;
		if (readable(b, i))
			batch_submit(b, i, n);
	}
	b->pool->dev->ops->kick(b->pool->dev);
}

static int batch_record(struct record_batch *b, uint32_t i, struct err *err)
{
	struct thin_pool *pool = b->pool;
	uint64_t slot = b->first + i;
	void *block = b->blocks + (uint64_t)i * FMT_BLOCK;
	int r = 0;

	if (!readable(b, i))
		return err_set(err, -EUCLEAN, "catalog: entry %" PRIu64 " is out of range", slot);
	if (b->failed[i])
		r = pool_read_block(pool, ent_pblk(b->e[i]), block);
	if (r)
		return err_sys(err, r, "catalog: record %" PRIu64, slot);
	if (pool_crc(block, FMT_BLOCK) != b->e[i].crc)
		return err_set(err, -EUCLEAN, "catalog: record %" PRIu64 ": checksum differs",
			       slot);
	return decode_record(pool, slot, block, err);
}

static int record_lost(struct record_batch *b, uint32_t i, int r, struct err *err)
{
	bool is_read = readable(b, i) && (!b->failed[i] || r == -EUCLEAN);

	b->pool->catalog.slot[b->first + i].kind = FMT_REC_FREE;
	return salvage_record(b->pool, ent_pblk(b->e[i]),
			      is_read ? b->blocks + (uint64_t)i * FMT_BLOCK : NULL, r, err);
}

static void batch_wait(struct record_batch *b)
{
	while (b->pending)
		b->pool->dev->ops->wait(b->pool->dev);
}

/* Wait for what was started, and take it. */
static int batch_finish(struct record_batch *b, struct err *err)
{
	int r = 0;

	batch_wait(b);
	for (uint32_t i = 0; i < b->count && !r; i++)
		if (b->e[i].where && (r = batch_record(b, i, err)))
			r = record_lost(b, i, r, err);
	b->count = 0;
	return r;
}

static int batches_new(struct thin_pool *pool, struct record_batch **ret_batch)
{
	struct record_batch *b = calloc(2, sizeof(*b));
	void *blocks;

	if (!b || posix_memalign(&blocks, FMT_BLOCK, 2ull * FMT_NODE_ENTRIES * FMT_BLOCK)) {
		free(b);
		return -ENOMEM;
	}
	b[0].pool = b[1].pool = pool;
	b[0].blocks = blocks;
	b[1].blocks = b[0].blocks + FMT_NODE_ENTRIES * FMT_BLOCK;
	*ret_batch = b;
	return 0;
}

static void batches_free(struct record_batch *b)
{
	batch_wait(&b[0]);
	batch_wait(&b[1]);
	free(b[0].blocks);
	free(b);
}

/* ---- all of it ---- */

static int load_records(struct thin_pool *pool, struct record_batch *b, struct err *err)
{
	struct catalog *c = &pool->catalog;
	unsigned turn = 0;
	struct vblk next;

	for (struct vblk v = { 0 }; v.n < c->slot_count; v = next) {
		struct node *leaf;
		int r;

		next.n = (v.n | (FMT_NODE_ENTRIES - 1)) + 1;
		r = map_leaf(pool, &c->tree, v, NULL, &leaf, &next);
		if (r == -ENOENT)
			continue;
		if (r) {
			r = err_sys(err, r, "catalog: node over record %" PRIu64, v.n);
			next.n = (v.n | (FMT_NODE_ENTRIES - 1)) + 1;
			if ((r = salvage_node(pool, v.n, r, err)))
				return r;
			continue;
		}
		batch_start(&b[turn], leaf, v.n, next.n < c->slot_count ? next.n : c->slot_count);
		for (uint64_t i = 1;
		     i <= LEAVES_AHEAD && v.n + i * FMT_NODE_ENTRIES < c->slot_count; i++)
			map_prefetch(pool, &c->tree, (struct vblk){ v.n + i * FMT_NODE_ENTRIES });
		turn = !turn;
		r = batch_finish(&b[turn], err);
		if (r)
			return r;
	}
	return batch_finish(&b[!turn], err);
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
	struct record_batch *b;
	int r;

	if (catalog_reserve_slots(c, 1) || zone_slots_alloc(pool) || batches_new(pool, &b))
		return err_set(err, -ENOMEM, "catalog: out of memory");
	if (!ent_from_disk_valid(pool, ent_get(&c->tree.root), 1) ||
	    (le64_get(c->tree.root.where) && !c->tree.height))
		r = err_set(err, -EUCLEAN, "catalog: its root makes no sense");
	else
		r = load_records(pool, b, err);
	batches_free(b);
	if (r)
		return r;
	for (uint64_t s = c->slot_count; s-- > 0;)
		if (c->slot[s].kind == FMT_REC_FREE)
			catalog_list_free(c, s);
	if (pool->salvage && salvage_volumes(pool))
		return err_set(err, -ENOMEM, "catalog: out of memory");
	for (uint64_t i = 0; i < c->zone_slot_count && !pool->salvage; i++)
		if (c->zone_slot[i] == UINT64_MAX)
			return err_set(err, -EUCLEAN,
				       "catalog: zones record %" PRIu64 " is missing", i);
	return lineage_load(pool, err);
}
