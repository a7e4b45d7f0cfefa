/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The checkpoint: states in checkpoint.h.
 *
 * The cut, in order:
 *   1. seal the log; everything appended before belongs to this checkpoint
 *   2. place the DIRTY nodes of volumes and of trees under reclaim, children first
 *   3. catalog: every changed record and every DIRTY catalog node takes a block.  Taking blocks
 *      changes zones, which changes zones records, which take blocks: repeated until nothing new
 *      turns up (a zone turns up once)
 *   4. fix the images of the changed bitmap pages; their crc goes into the zones records
 *   5. fill the records, then the catalog's nodes bottom-up, then the superblock
 * Nothing waits in between.  Steps 3 to 5 write into the arena, which is given back afterwards.
 */
#include "thin/checkpoint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "thin/memory.h"
#include "thin/pool.h"
#include "thin/super.h"

#define HOST_FULL_RETRY_MS 1000u
#define ARENA_KEEP_BLOCKS  1024u /* of the arena kept in memory between checkpoints */

/* ---- memory ---- */

int checkpoint_init(struct thin_pool *pool)
{
	struct checkpoint *ck = &pool->ck;

	for (unsigned i = 0; i < CHECKPOINT_IOS; i++)
		ck->io[i].pool = pool;
	ck->super = memory_map(FMT_BLOCK);
	return ck->super ? 0 : -ENOMEM;
}

void checkpoint_fini(struct thin_pool *pool)
{
	struct checkpoint *ck = &pool->ck;

	memory_unmap(ck->super, FMT_BLOCK);
	memory_unmap(ck->arena, ck->arena_blocks * FMT_BLOCK);
	memory_unmap(ck->write, ck->write_capacity * sizeof(*ck->write));
}

/* Address space for the largest cut there can be; pages come when they are touched. */
static int arena_ensure(struct thin_pool *pool)
{
	struct checkpoint *ck = &pool->ck;
	uint64_t records = pool->catalog.slot_capacity + RECLAIM_RECORDS_MAX;
	uint64_t blocks = pool->space.zone_count + records;
	uint64_t writes = blocks + pool->nodes.count;

	if (ck->arena_blocks < blocks) {
		memory_unmap(ck->arena, ck->arena_blocks * FMT_BLOCK);
		ck->arena = memory_map(blocks * FMT_BLOCK);
		ck->arena_blocks = ck->arena ? blocks : 0;
	}
	if (ck->write_capacity < writes) {
		memory_unmap(ck->write, ck->write_capacity * sizeof(*ck->write));
		ck->write = memory_map(writes * sizeof(*ck->write));
		ck->write_capacity = ck->write ? writes : 0;
	}
	return ck->arena && ck->write ? 0 : -ENOMEM;
}

static void arena_reset(struct checkpoint *ck)
{
	if (ck->arena_used > ARENA_KEEP_BLOCKS)
		madvise(ck->arena, ck->arena_used * FMT_BLOCK, MADV_DONTNEED);
	ck->arena_used = 0;
}

static void *arena_block(struct checkpoint *ck)
{
	assert(ck->arena_used < ck->arena_blocks);
	return ck->arena + ck->arena_used++ * FMT_BLOCK;
}

/* ---- the cut ---- */

/* One block for metadata.  The reserve of admission guarantees that there is one. */
static struct pblk take_block(struct thin_pool *pool)
{
	struct checkpoint *ck = &pool->ck;
	struct pblk at;

	if (ck->run_left == 0)
		ck->run_left =
			space_take_run(&pool->space, CHECKPOINT_IO_BLOCKS, true, &ck->run_next);
	assert(ck->run_left > 0);
	at = ck->run_next;
	ck->run_next.n++;
	ck->run_left--;
	space_publish(&pool->space, at);
	pool->metadata_blocks++;
	return at;
}

static void give_back_run(struct thin_pool *pool)
{
	struct checkpoint *ck = &pool->ck;

	for (; ck->run_left; ck->run_left--, ck->run_next.n++)
		space_free_unpublished(&pool->space, ck->run_next);
}

static void add_write(struct checkpoint *ck, struct pblk at, void *data, struct node *n)
{
	assert(ck->write_count < ck->write_capacity);
	ck->write[ck->write_count++] = (struct checkpoint_write){ at, data, n };
}

static bool is_mem(const struct fmt_entry *e)
{
	return le64_get(e->where) & FMT_ENT_MEM;
}

static struct node *mem_node(struct thin_pool *pool, const struct fmt_entry *e)
{
	return &pool->nodes.node[(uint32_t)le64_get(e->where)];
}

/* Give the node behind a MEM entry, and those below it, their blocks, and the entry its value. */
static void place(struct thin_pool *pool, struct fmt_entry *slot)
{
	struct node *n = mem_node(pool, slot);
	struct pblk at = n->at;

	if (n->state != NODE_DIRTY) { /* another tree that shares it came first */
		*slot = ent_put((struct ent){ FMT_ENT_MAPPED | at.n, n->birth, n->crc });
		return;
	}
	for (unsigned i = 0; n->level > 0 && i < FMT_NODE_ENTRIES; i++)
		if (is_mem(&n->page->entry[i]))
			place(pool, &n->page->entry[i]);
	if (at.n == 0) /* those of the catalog have theirs already */
		at = take_block(pool);
	n->crc = pool_crc(n->page, FMT_BLOCK);
	node_place(pool, n, at);
	*slot = ent_put((struct ent){ FMT_ENT_MAPPED | at.n, n->birth, n->crc });
	add_write(&pool->ck, at, n->page, n);
}

static void place_volumes(struct thin_pool *pool)
{
	struct catalog *c = &pool->catalog;
	struct reclaim_item *it;

	for (uint64_t i = 0; i < c->dirty_count; i++) {
		struct cat_slot *s = &c->slot[c->dirty[i]];

		if (s->kind == FMT_REC_VOLUME && is_mem(&s->volume->tree.root))
			place(pool, &s->volume->tree.root);
	}
	STAILQ_FOREACH (it, &pool->reclaim.work, link)
		if (is_mem(&it->tree.root)) {
			place(pool, &it->tree.root);
			pool->reclaim.changed = true;
		}
}

/* The catalog's entry of a slot, its path made DIRTY; never waits: the catalog is in memory. */
static struct fmt_entry *catalog_entry(struct thin_pool *pool, uint64_t slot)
{
	struct node *leaf = NULL;
	int r = map_dirty_leaf(pool, &pool->catalog.tree, (struct vblk){ slot }, NULL, &leaf);

	assert(r == 0);
	return &leaf->page->entry[slot % FMT_NODE_ENTRIES];
}

static void place_record(struct thin_pool *pool, uint64_t slot)
{
	struct cat_slot *s = &pool->catalog.slot[slot];
	struct fmt_entry *e = catalog_entry(pool, slot);
	struct ent old = ent_get(e);

	if (old.where)
		pool_free_metadata(pool, ent_pblk(old));
	*e = (struct fmt_entry){ 0 };
	if (s->kind != FMT_REC_FREE)
		*e = ent_put(
			(struct ent){ FMT_ENT_MAPPED | take_block(pool).n, pool->generation, 0 });
	s->placed = true;
}

/* Blocks for DIRTY catalog nodes that have none yet; their content is not final. */
static bool assign_catalog_nodes(struct thin_pool *pool, struct fmt_entry *slot)
{
	struct node *n;
	bool any = false;

	if (!is_mem(slot))
		return false;
	n = mem_node(pool, slot);
	for (unsigned i = 0; n->level > 0 && i < FMT_NODE_ENTRIES; i++)
		any |= assign_catalog_nodes(pool, &n->page->entry[i]);
	if (n->at.n)
		return any;
	n->at = take_block(pool);
	return true;
}

static bool touch_zone_records(struct thin_pool *pool)
{
	struct catalog *c = &pool->catalog;
	bool any = false;

	for (uint64_t z = 0; z < pool->space.zone_count; z++) {
		uint64_t slot = c->zone_slot[z / FMT_ZONES_PER_REC];

		if (!pool->space.zone[z].dirty || c->slot[slot].dirty)
			continue;
		catalog_touch(c, slot);
		any = true;
	}
	return any;
}

static void place_catalog(struct thin_pool *pool)
{
	struct catalog *c = &pool->catalog;
	bool again = true;

	reclaim_cut(pool);
	while (again) {
		again = touch_zone_records(pool);
		for (uint64_t i = 0; i < c->dirty_count; i++) {
			if (c->slot[c->dirty[i]].placed)
				continue;
			place_record(pool, c->dirty[i]);
			again = true;
		}
		again |= assign_catalog_nodes(pool, &c->tree.root);
	}
	/* after this only ALLOC bits of a given-back run could change, and it has none */
	give_back_run(pool);
}

static void fix_bitmaps(struct thin_pool *pool)
{
	struct space *sp = &pool->space;

	for (uint64_t z = 0; z < sp->zone_count; z++) {
		struct space_zone *zone = &sp->zone[z];
		struct fmt_bitmap *page;

		if (!zone->dirty)
			continue;
		page = arena_block(&pool->ck);
		space_encode_bitmap(sp, z, pool->id, pool->generation, page);
		zone->copy = !zone->copy;
		zone->crc = pool_crc(page, FMT_BLOCK);
		zone->generation = pool->generation;
		zone->dirty = false;
		add_write(&pool->ck, space_bitmap_pblk(sp, z, zone->copy), page, NULL);
	}
}

static void fill_records(struct thin_pool *pool)
{
	struct catalog *c = &pool->catalog;

	for (uint64_t i = 0; i < c->dirty_count; i++) {
		struct cat_slot *s = &c->slot[c->dirty[i]];
		struct fmt_entry *e = catalog_entry(pool, c->dirty[i]);
		struct ent ent = ent_get(e);
		void *block;

		s->dirty = s->placed = false;
		if (s->kind == FMT_REC_FREE)
			continue;
		block = arena_block(&pool->ck);
		catalog_encode(pool, c->dirty[i], block);
		ent.crc = pool_crc(block, FMT_BLOCK);
		*e = ent_put(ent);
		add_write(&pool->ck, ent_pblk(ent), block, NULL);
	}
	c->dirty_count = 0;
	if (is_mem(&c->tree.root))
		place(pool, &c->tree.root);
}

static void fill_super(struct thin_pool *pool)
{
	struct checkpoint *ck = &pool->ck;
	struct journal *j = &pool->journal;
	struct fmt_super *sb = ck->super;

	super_encode(pool, sb);
	sb->generation = le64_put(pool->generation);
	sb->nonce = le64_put(j->nonce);
	sb->log_seq = le64_put(ck->cut_seq + 1);
	sb->log_pred = le32_put(ck->cut_pred);
	super_seal(sb);
}

static void cut(struct thin_pool *pool)
{
	struct checkpoint *ck = &pool->ck;

	ck->cut_seq = journal_seal(pool);
	ck->cut_pred = pool->journal.pred;
	ck->cut_staged = pool->stage.numbered;
	ck->write_count = ck->write_next = ck->write_done = 0;
	place_volumes(pool);
	place_catalog(pool);
	fix_bitmaps(pool);
	fill_records(pool);
	pool->checkpoint++; /* what the cut itself replaced is free when this one is durable */
	fill_super(pool);
	pool->nodes.made_count = 0;
	pool->generation++;
	pool->stat.checkpoint_bytes += (ck->write_count + 2) * FMT_BLOCK;
}

/* ---- writing ---- */

static void write_done(struct dev_io *dio)
{
	struct checkpoint_io *io = dio->user;
	struct thin_pool *pool = io->pool;
	struct checkpoint *ck = &pool->ck;

	if (dio->res == -ENOSPC && pool->opened && !pool->closing) {
		pool->ck.again_ms = pool->now_ms + HOST_FULL_RETRY_MS;
		pool_host_full(pool);
		io->again = true;
		pool->ck.again_count++;
		return;
	}
	io->busy = false;
	ck->write_done += io->count;
	if (dio->res) {
		pool_fail(pool, dio->res, "checkpoint");
		return;
	}
	if (io->retried) /* others may have fitted all the time */
		pool->host_full = false;
	for (uint64_t i = io->first; i < io->first + io->count; i++)
		if (ck->write[i].node)
			node_written(pool, ck->write[i].node);
	pool_wake_stalled(pool);
}

static void submit(struct thin_pool *pool, struct checkpoint_io *io)
{
	const struct checkpoint_write *w = &pool->ck.write[io->first];

	for (uint64_t i = 0; i < io->count; i++)
		io->iov[i] = (struct iovec){ w[i].data, FMT_BLOCK };
	io->busy = true;
	pool->ck.again_count -= io->again;
	io->retried = io->again;
	io->again = false;
	io->io = (struct dev_io){ .op = DEV_WRITE,
				  .offset = w[0].at.n * FMT_BLOCK,
				  .len = io->count * FMT_BLOCK,
				  .iov = io->iov,
				  .iov_count = (int)io->count,
				  .done = write_done,
				  .user = io };
	pool_submit_io(pool, &io->io);
}

/* The next run of adjacent blocks. */
static void submit_next(struct thin_pool *pool, struct checkpoint_io *io)
{
	struct checkpoint *ck = &pool->ck;
	const struct checkpoint_write *w = &ck->write[ck->write_next];

	io->first = ck->write_next;
	for (io->count = 0; ck->write_next < ck->write_count && io->count < CHECKPOINT_IO_BLOCKS &&
			    w[io->count].at.n == w[0].at.n + io->count;
	     io->count++)
		ck->write_next++;
	submit(pool, io);
}

static void enter(struct thin_pool *pool, enum checkpoint_state state)
{
	pool->ck.state = state;
	pool->ck.active = state != CHECKPOINT_IDLE;
}

static void super_done(struct dev_io *io);

static void submit_super(struct thin_pool *pool, unsigned copy)
{
	struct checkpoint *ck = &pool->ck;
	unsigned slot = !pool->slot;

	ck->super_iov = (struct iovec){ ck->super, FMT_BLOCK };
	ck->super_io = (struct dev_io){
		.op = DEV_WRITE,
		.fua = true,
		.offset = super_pblk(slot, copy, pool->size_blocks).n * FMT_BLOCK,
		.len = FMT_BLOCK,
		.iov = &ck->super_iov,
		.iov_count = 1,
		.done = super_done,
		.user = pool,
	};
	enter(pool, copy ? CHECKPOINT_SUPER_1 : CHECKPOINT_SUPER_2);
	pool_submit_io(pool, &ck->super_io);
}

static void finish(struct thin_pool *pool)
{
	struct checkpoint *ck = &pool->ck;

	pool->slot = !pool->slot;
	enter(pool, CHECKPOINT_IDLE);
	arena_reset(ck);
	ck->completed = ck->begun;
	journal_trim(pool, ck->cut_seq + 1);
	space_checkpointed(&pool->space, pool->checkpoint, ck->cut_seq);
	reclaim_checkpointed(pool);
	pool->stat.checkpoints++;
	pool_wake_stalled(pool);
}

static void super_done(struct dev_io *io)
{
	struct thin_pool *pool = io->user;

	if (io->res)
		pool_fail(pool, io->res, "superblock");
	else if (pool->failed)
		return;
	else if (pool->ck.state == CHECKPOINT_SUPER_1)
		submit_super(pool, 0);
	else
		finish(pool);
}

static void flush_done(struct dev_io *io)
{
	struct thin_pool *pool = io->user;

	pool->ck.flush_busy = false;
	if (io->res)
		pool_fail(pool, io->res, "flush of a checkpoint");
	else if (!pool->failed) /* what another flush lost, this one has not written */
		submit_super(pool, 1);
}

void checkpoint_start(struct thin_pool *pool)
{
	struct checkpoint *ck = &pool->ck;

	assert(ck->state == CHECKPOINT_IDLE && !pool->failed);
	if (pool->generation >= UINT32_MAX - 1) { /* at 10 a second: after 13 years */
		pool_fail(pool, -EOVERFLOW, "generation counter");
		return;
	}
	if (arena_ensure(pool)) {
		pool_fail(pool, -ENOMEM, "checkpoint");
		return;
	}
	ck->wanted = false;
	ck->begun++;
	cut(pool);
	enter(pool, CHECKPOINT_WRITING);
}

static void write_again(struct thin_pool *pool)
{
	struct checkpoint *ck = &pool->ck;

	if (!ck->again_count || (pool->now_ms < ck->again_ms && !pool->closing))
		return;
	for (unsigned i = 0; i < CHECKPOINT_IOS; i++)
		if (ck->io[i].again)
			submit(pool, &ck->io[i]);
}

uint64_t checkpoint_deadline_ms(const struct thin_pool *pool)
{
	return pool->ck.again_count ? pool->ck.again_ms : UINT64_MAX;
}

bool checkpoint_flushing(const struct thin_pool *pool)
{
	return pool->ck.state > CHECKPOINT_WRITING;
}

static void run_flush(struct thin_pool *pool)
{
	struct checkpoint *ck = &pool->ck;

	if (ck->flush_busy || pool->journal.flushing)
		return;
	ck->flush_busy = true;
	ck->flush_io = (struct dev_io){ .op = DEV_FLUSH, .done = flush_done, .user = pool };
	pool->stat.flushes++;
	pool_submit_io(pool, &ck->flush_io);
}

static void run_writing(struct thin_pool *pool)
{
	struct checkpoint *ck = &pool->ck;

	write_again(pool);
	for (unsigned i = 0; i < CHECKPOINT_IOS && ck->write_next < ck->write_count; i++)
		if (!ck->io[i].busy)
			submit_next(pool, &ck->io[i]);
	if (ck->write_done < ck->write_count || pool->journal.compl < ck->cut_seq ||
	    pool->stage.written < ck->cut_staged)
		return;
	enter(pool, CHECKPOINT_FLUSHING);
}

void checkpoint_run(struct thin_pool *pool)
{
	if (pool->ck.state == CHECKPOINT_WRITING && !pool->failed)
		run_writing(pool);
	if (pool->ck.state == CHECKPOINT_FLUSHING && !pool->failed)
		run_flush(pool);
}
