/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing.
 *
 *	request -> range -> [merge of partial blocks] -> admission -> batch (thin/batch.h) -> device
 *	        -> publish: log record + map entry + old block freed -> answer
 *
 * The data cache: when a block of a small request is published and the one that it replaces is
 * cached, its bytes take over that slot; so they do with a slot that is unused.  Nothing is evicted
 * for what was only written (who wrote it has it), and large requests are streams that pass by:
 * what they replace is dropped, and they are not worth a copy.
 *
 * Why this is safe: nothing is recorded or published before its data is written, or staged where
 * the process's death does not reach it (thin/stage.h); the old block stays untouched until the
 * flush that covers the record; a crash in between leaves either the old content or, if the
 * record's page and the data both arrived, the new one.
 */
#include <errno.h>
#include <string.h>

#include "thin/io.h"
#include "thin/memory.h"
#include "thin/pool.h"

#define CACHED_WRITE_MAX (64u << 10) /* a request of more bytes passes the cache by */
#define EXPECTED	 16u	     /* blocks whose places in the cache are fetched together */

/* ---- admission of some blocks of one leaf ---- */

/* When space is short, overwrites of the volume's own and provisioned blocks may go on where new
 * data may not (what a snapshot has too is not given back): whether all of [v, v + count) are such.
 * 1, 0, -EAGAIN or damage. */
static int all_owned(struct req_state *rs, struct vblk v, uint64_t count)
{
	struct volume *vol = rs->req->vol->volume;
	uint32_t bound = lineage_bound(vol, v);
	struct node *leaf;
	struct vblk next;
	int r = map_leaf(rs->pool, &vol->tree, v, &rs->task, &leaf, &next);

	if (r)
		return r == -ENOENT ? 0 : r;
	for (uint64_t i = 0; i < count; i++) {
		struct ent e = ent_get(&leaf->page->entry[(v.n + i) % FMT_NODE_ENTRIES]);

		if (e.where & FMT_ENT_RESERVED)
			continue;
		if (!(e.where & FMT_ENT_MAPPED) || e.birth <= bound)
			return 0;
	}
	return 1;
}

static uint64_t path_nodes(const struct volume *vol)
{
	unsigned height = 1;

	while (map_capacity(height) * FMT_BLOCK < vol->size_bytes)
		height++;
	return height + 1;
}

static int admit(struct req_state *rs, struct vblk v, uint64_t count)
{
	struct thin_pool *pool = rs->pool;
	uint64_t nodes = path_nodes(rs->req->vol->volume);
	uint64_t margin = pool_promised(pool) + pool->block_margin;
	int owned = rs->req->vol->volume->reserve_full, r;

	if (!owned && !pool_space_for(pool, count + margin, nodes))
		owned = all_owned(rs, v, count);
	if (owned < 0)
		return owned;
	r = io_admit(rs, count, nodes, count, !owned);
	if (r)
		return r;
	pool->admitted_nodes += nodes;
	pool->io.open->admitted_nodes += nodes;
	pool->journal.admitted_records += count;
	map_prefetch(pool, &rs->req->vol->volume->tree, v);
	return 0;
}

/* ---- partial blocks ---- */

static void merge_release(struct req_state *rs)
{
	struct io *io = &rs->pool->io;

	rs->merge->next_free = io->merge_free;
	io->merge_free = rs->merge;
	rs->merge = NULL;
	pool_wake_stalled(rs->pool);
}

static void merge_read_done(struct dev_io *dio)
{
	struct io_merge *m = dio->user;
	struct req_state *rs = m->rs;

	space_read_end(&rs->pool->space, &m->read);
	m->res = dio->res;
	if (!m->res && pool_crc(m->buf, FMT_BLOCK) != m->crc) {
		m->res = -EIO;
		rs->req->bad_offset = m->vblk * FMT_BLOCK;
		pool_damage(rs->pool, "volume \"%s\": offset %llu: checksum differs",
			    rs->req->vol->volume->name, (unsigned long long)rs->req->bad_offset);
	}
	m->ready = true;
	pool_wake_task(rs->pool, &rs->task);
}

/* From the cache, or start reading it. */
static void merge_read(struct io_merge *m, struct ent e)
{
	struct thin_pool *pool = m->rs->pool;
	uint32_t slot = data_cache_find(&pool->data, ent_key(e));

	m->ready = slot && data_cache_state(&pool->data, slot) != DATA_FILLING;
	if (m->ready) {
		memcpy(m->buf, data_cache_page(&pool->data, slot), FMT_BLOCK);
		return;
	}
	m->crc = e.crc;
	m->iov = (struct iovec){ m->buf, FMT_BLOCK };
	m->io = (struct dev_io){ .op = DEV_READ,
				 .offset = ent_pblk(e).n * FMT_BLOCK,
				 .len = FMT_BLOCK,
				 .iov = &m->iov,
				 .iov_count = 1,
				 .done = merge_read_done,
				 .user = m };
	space_read_begin(&pool->space, &m->read);
	pool_submit_io(pool, &m->io);
}

/* Have the old content of block `v` in rs->merge: 0, -EAGAIN, or an error. */
static int merge_begin(struct req_state *rs, struct vblk v)
{
	struct thin_pool *pool = rs->pool;
	struct io_merge *m = pool->io.merge_free;
	struct ent e = { 0 };
	struct node *leaf;
	struct vblk next;
	int r;

	if (rs->merge)
		return rs->merge->ready ? rs->merge->res : -EAGAIN;
	r = map_leaf(pool, &rs->req->vol->volume->tree, v, &rs->task, &leaf, &next);
	if (r && r != -ENOENT)
		return r;
	if (r == 0)
		e = ent_get(&leaf->page->entry[v.n % FMT_NODE_ENTRIES]);
	if (!m) {
		pool_stall(pool, &rs->task);
		return -EAGAIN;
	}
	pool->io.merge_free = m->next_free;
	m->rs = rs;
	m->vblk = v.n;
	m->res = 0;
	m->ready = !(e.where & FMT_ENT_MAPPED);
	rs->merge = m;
	if (m->ready)
		memset(m->buf, 0, FMT_BLOCK);
	else
		merge_read(m, e);
	return m->ready ? 0 : -EAGAIN;
}

static int write_partial(struct req_state *rs, const uint8_t *data, uint64_t len)
{
	struct thin_pool *pool = rs->pool;
	struct vblk v = { rs->pos / FMT_BLOCK };
	uint64_t at = rs->pos % FMT_BLOCK;
	struct batch *b;
	int r;

	if (len > FMT_BLOCK - at)
		len = FMT_BLOCK - at;
	r = merge_begin(rs, v);
	if (r == -EAGAIN)
		return r;
	b = r ? NULL : batch_open(pool, rs->req->len);
	if (!r && !b) {
		pool_stall(pool, &rs->task);
		return -EAGAIN;
	}
	if (!r)
		r = admit(rs, v, 1);
	if (r == -EAGAIN)
		return r;
	if (!r) {
		if (data)
			memcpy(rs->merge->buf + at, data, len);
		else
			memset(rs->merge->buf + at, 0, len);
		batch_append(b, rs, v.n, rs->merge->buf, false);
		rs->pos += len;
	}
	if (rs->merge)
		merge_release(rs);
	return r;
}

/* ---- whole blocks ---- */

static int write_whole(struct req_state *rs, const uint8_t *data, uint64_t len)
{
	struct vblk v = { rs->pos / FMT_BLOCK };
	uint64_t count = len / FMT_BLOCK, leaf_end = (v.n | (FMT_NODE_ENTRIES - 1)) + 1;
	struct batch *b = batch_open(rs->pool, rs->req->len);
	int r;

	if (!b) {
		pool_stall(rs->pool, &rs->task);
		return -EAGAIN;
	}
	if (count > leaf_end - v.n)
		count = leaf_end - v.n;
	if (count > b->room - b->count)
		count = b->room - b->count;
	/* short of space, in small steps: what one of them replaces is room for the next */
	while (count > 1 && !pool_space_for(rs->pool, count, path_nodes(rs->req->vol->volume)))
		count /= 2;
	r = admit(rs, v, count);
	if (r)
		return r;
	for (uint64_t i = 0; i < count; i++)
		batch_append(b, rs, v.n + i, data ? data + i * FMT_BLOCK : NULL, true);
	rs->pos += count * FMT_BLOCK;
	return 0;
}

int write_some(struct req_state *rs, const uint8_t *data)
{
	const struct thin_req *req = rs->req;
	uint64_t len = req->offset + req->len - rs->pos;
	int r;

	if (rs->pos % FMT_BLOCK || len < FMT_BLOCK)
		r = write_partial(rs, data, len);
	else
		r = write_whole(rs, data, len);
	return r == -EUCLEAN ? -EIO : r;
}

void write_step(struct thin_pool *pool, struct task *task)
{
	struct req_state *rs = TASK_OF(task, struct req_state, task);
	const struct thin_req *req = rs->req;
	int r = io_begin(rs);

	if (r == -EAGAIN || (!r && !range_take(rs)))
		return;
	while (!r && rs->pos < req->offset + req->len)
		r = write_some(rs, (const uint8_t *)req->buf + (rs->pos - req->offset));
	if (r == -EAGAIN)
		return;
	if (r && !rs->res)
		rs->res = r;
	io_issued(rs);
}

/* ---- publishing ---- */

/* The page that is to get the bytes of what replaces `old`; NULL: none. */
static uint8_t *cache_written(struct thin_pool *pool, struct ent old, struct ent e)
{
	uint32_t slot = 0;

	if (!data_cache_on(&pool->data))
		return NULL;
	if (old.where & FMT_ENT_MAPPED)
		slot = data_cache_rename(&pool->data, ent_pblk(old).n, ent_key(e));
	if (!slot)
		slot = data_cache_add(&pool->data, ent_key(e));
	return slot ? data_cache_page(&pool->data, slot) : NULL;
}

static void publish_entry(struct thin_pool *pool, struct batch_block *bb, struct node *leaf,
			  struct ent e, unsigned type)
{
	struct volume *vol = bb->rs->req->vol->volume;
	struct fmt_entry *slot = &leaf->page->entry[bb->vblk % FMT_NODE_ENTRIES];
	uint64_t seq = journal_block(pool, type, vol->id, (struct vblk){ bb->vblk }, e);
	uint8_t *cached = NULL;

	if (e.where & FMT_ENT_MAPPED && bb->rs->req->len <= CACHED_WRITE_MAX)
		cached = cache_written(pool, ent_get(slot), e);
	map_clear_entry(pool, vol, (struct vblk){ bb->vblk }, slot, seq);
	if (!(e.where & FMT_ENT_MAPPED))
		return;
	space_publish(&pool->space, bb->at);
	*slot = ent_put(e);
	if (cached)
		memory_copy_away(cached, bb->data, FMT_BLOCK);
	volume_count(pool, vol, 1, 1, 0);
	pool->journal.bytes_unflushed += FMT_BLOCK;
}

static int publish_data(struct thin_pool *pool, struct batch *b, struct batch_block *bb)
{
	struct node *leaf;
	int r = map_dirty_leaf(pool, &bb->rs->req->vol->volume->tree, (struct vblk){ bb->vblk },
			       &b->task, &leaf);

	if (r)
		return r;
	publish_entry(pool, bb, leaf,
		      (struct ent){ FMT_ENT_MAPPED | bb->at.n, pool->generation, bb->crc },
		      FMT_SLOT_BLOCK);
	return 0;
}

/* Only a block that is mapped needs a record to become a hole. */
static int publish_hole(struct thin_pool *pool, struct batch *b, struct batch_block *bb)
{
	struct tree *tree = &bb->rs->req->vol->volume->tree;
	struct vblk v = { bb->vblk }, next;
	struct node *leaf;
	int r = map_leaf(pool, tree, v, &b->task, &leaf, &next);

	if (r == -ENOENT)
		return 0;
	if (r)
		return r;
	if (!(ent_get(&leaf->page->entry[v.n % FMT_NODE_ENTRIES]).where & FMT_ENT_MAPPED))
		return 0;
	r = map_dirty_leaf(pool, tree, v, &b->task, &leaf);
	if (r)
		return r;
	publish_entry(pool, bb, leaf, (struct ent){ 0, pool->generation, 0 }, FMT_SLOT_HOLE);
	return 0;
}

static int publish_block(struct thin_pool *pool, struct batch *b, struct batch_block *bb)
{
	int r;

	if (b->res || pool->failed) {
		r = b->res ? b->res : -EIO;
	} else if (!journal_can_append(pool)) {
		pool_stall(pool, &b->task);
		return -EAGAIN;
	} else {
		r = bb->hole ? publish_hole(pool, b, bb) : publish_data(pool, b, bb);
	}
	if (r == -EAGAIN)
		return r;
	if (r && !bb->hole && b->staged && !b->written)
		bb->dropped = true; /* its place is being written to */
	else if (r && !bb->hole)
		space_free_unpublished(&pool->space, bb->at);
	io_part_over(bb->rs, r == -EUCLEAN ? -EIO : r);
	return 0;
}

/* What the map has there now, by what is in memory; 0: nothing, or not known. */
static uint64_t replaced_by(struct thin_pool *pool, const struct batch_block *bb)
{
	struct tree *tree = &bb->rs->req->vol->volume->tree;
	const struct node *leaf;
	struct ent e;

	if (map_peek_entry(pool, tree, (struct vblk){ bb->vblk }, &e) || !e.where)
		return 0;
	leaf = node_peek(pool, e);
	if (!leaf)
		return 0;
	e = ent_get(&leaf->page->entry[bb->vblk % FMT_NODE_ENTRIES]);
	/* of a damaged map it may be no leaf: publishing finds that out */
	return (e.where & (FMT_ENT_MAPPED | FMT_ENT_MEM)) == FMT_ENT_MAPPED ? ent_pblk(e).n : 0;
}

/* Publishing the next blocks looks in the cache for those that they replace. */
static void expect_replaced(struct thin_pool *pool, const struct batch *b)
{
	uint64_t pblk[EXPECTED];
	uint32_t count = 0;

	if (!data_cache_on(&pool->data))
		return;
	for (uint32_t i = b->published; i < b->placed && count < EXPECTED; i++)
		pblk[count++] = replaced_by(pool, &b->block[i]);
	data_cache_expect(&pool->data, pblk, count);
}

/* False: the task waits, and goes on from there. */
static bool publish_blocks(struct thin_pool *pool, struct batch *b)
{
	bool all = true;

	for (uint32_t done = 0; all && b->published < b->placed; b->published += all) {
		if (done++ % EXPECTED == 0)
			expect_replaced(pool, b);
		all = !publish_block(pool, b, &b->block[b->published]);
	}
	memory_copied();
	return all;
}

void publish_step(struct thin_pool *pool, struct task *task)
{
	struct batch *b = TASK_OF(task, struct batch, task);

	if (!publish_blocks(pool, b))
		return;
	batch_published(pool, b);
}
