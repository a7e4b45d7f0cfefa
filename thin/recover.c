/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Recovery: the steps are in recover.h.  Blocking. */
#include "thin/recover.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cleanup.h"
#include "thin/grow.h"
#include "thin/log_reader.h"
#include "thin/ops.h"
#include "thin/pool.h"
#include "thin/replay_ahead.h"
#include "thin/salvage.h"
#include "thin/super.h"
#include "thin/walk.h"

#define CACHE_DOUBLINGS 6 /* how often the node cache is doubled for a log it cannot hold */

struct recovery {
	struct thin_pool *pool;
	struct super_found found;
	struct log_reader log;
	struct replay_ahead *ahead;
	uint64_t end; /* sequence behind the last page of the chain */
	uint32_t end_pred;
	uint64_t mark;	     /* pages up to this one were durable */
	uint32_t generation; /* the largest seen */
	uint64_t shadow_pages, staged_blocks;
	uint8_t *blocks; /* FMT_LOG_SLOTS blocks, to check data */
	bool readable[FMT_LOG_SLOTS];
	/* the operation being put together */
	uint8_t op[FMT_OP_MAX];
	uint64_t op_id;
	uint32_t op_have;
	uint16_t op_next;
	bool op_whole; /* it has been put together */
	struct err *err; /* the caller's, or our own */
	struct err own;
};

/* ---- superblock, catalog, bitmaps ---- */

static void take_super(struct thin_pool *pool, const struct super_found *found)
{
	const struct fmt_super *sb = &found->sb;

	memcpy(pool->id, sb->pool_id, sizeof(pool->id));
	pool->slot = found->slot;
	pool->size_blocks = le64_get(sb->size_blocks);
	pool->created_s = le64_get(sb->created_s);
	pool->feature_incompat = le64_get(sb->feature_incompat);
	pool->feature_ro = le64_get(sb->feature_ro);
	pool->feature_compat = le64_get(sb->feature_compat);
	pool->checkpoint = le64_get(sb->checkpoint);
	pool->generation = (uint32_t)le64_get(sb->generation) + 1;
	pool->metadata_blocks = le64_get(sb->metadata_blocks);
	pool->catalog.next_id = le64_get(sb->next_id);
	pool->catalog.slot_count = le64_get(sb->catalog_slots);
	pool->catalog.tree.root = sb->catalog_root;
	pool->catalog.tree.height = le32_get(sb->catalog_height);
	if (pool->feature_ro & ~FMT_FEATURE_RO) {
		pool->read_only = true;
		pool_event(pool, THIN_EVENT_NOTE,
			   "the pool uses features this program can only read (0x%" PRIx64
			   "): read-only",
			   pool->feature_ro & ~FMT_FEATURE_RO);
	}
	if (found->good_copies < 4)
		pool_event(pool, THIN_EVENT_DAMAGE,
			   "superblock copy %s is damaged; going on from an intact one",
			   found->bad);
}

static bool load_bitmap(struct thin_pool *pool, uint64_t zone, struct fmt_bitmap *page)
{
	struct space_zone *z = &pool->space.zone[zone];

	if (z->generation == 0)
		return true; /* never written: all free */
	if (pool_read_block(pool, space_bitmap_pblk(&pool->space, zone, z->copy), page) ||
	    pool_crc(page, FMT_BLOCK) != z->crc)
		return false;
	space_decode_bitmap(&pool->space, zone, page);
	return true;
}

static int mark_in_damaged(void *user, const struct walk_item *item)
{
	struct thin_pool *pool = user;
	struct space *sp = &pool->space;

	if (item->what == WALK_RESERVED)
		return 0;
	if (sp->zone[space_index(sp, ent_pblk(item->e)) / sp->zone_blocks].damaged)
		space_mark(sp, ent_pblk(item->e));
	return 0;
}

static int node_damaged(void *user, const struct walk_item *item, int res)
{
	(void)user;
	(void)item;
	return res; /* what lies below it is unknown: no bitmap can be made */
}

static int load_bitmaps(struct thin_pool *pool, struct err *err)
{
	const struct walk_ops ops = { mark_in_damaged, node_damaged, pool };
	CLEANUP_FREE struct fmt_bitmap *page = NULL;
	uint64_t damaged = 0;
	int r;

	if (posix_memalign((void **)&page, FMT_BLOCK, sizeof(*page)))
		return err_set(err, -ENOMEM, "out of memory");
	for (uint64_t z = 0; z < pool->space.zone_count; z++) {
		pool->space.zone[z].damaged = !load_bitmap(pool, z, page);
		damaged += pool->space.zone[z].damaged;
	}
	if (!damaged || pool->salvage) /* nothing is allocated */
		return 0;
	pool_damage(pool, "%" PRIu64 " bitmap pages are damaged; rebuilding them from the trees",
		    damaged);
	r = walk_all(pool, &ops);
	if (r)
		return err_sys(err, r, "rebuilding damaged bitmaps");
	for (uint64_t z = 0; z < pool->space.zone_count; z++)
		pool->space.zone[z].dirty |= pool->space.zone[z].damaged;
	return 0;
}

/* ---- pass 1 ---- */

static void see_generation(struct recovery *rc, uint32_t generation)
{
	if (generation > rc->generation)
		rc->generation = generation;
}

typedef int slot_fn(struct recovery *rc, const struct fmt_log_head *page, const void *slot,
		    uint32_t slots_left);

/* Call `fn` for each record of a page: block records, and heads of operations' fragments. */
static int each_record(struct recovery *rc, const struct fmt_log_head *page, slot_fn *fn)
{
	const uint8_t *slot = (const uint8_t *)(page + 1);
	uint32_t left = le32_get(page->slots);

	while (left) {
		const struct fmt_log_block *b = (const struct fmt_log_block *)slot;
		const struct fmt_log_op *op = (const struct fmt_log_op *)slot;
		uint32_t used = 1;
		int r;

		if (le64_get(b->key) >> 56 == FMT_SLOT_OP)
			used += (le16_get(op->here) + FMT_LOG_SLOT - 1) / FMT_LOG_SLOT;
		if (used > left)
			return -EUCLEAN;
		r = fn(rc, page, slot, left);
		if (r)
			return r;
		slot += used * FMT_LOG_SLOT;
		left -= used;
	}
	return 0;
}

static int see_record(struct recovery *rc, const struct fmt_log_head *page, const void *slot,
		      uint32_t left)
{
	const struct fmt_log_block *b = slot;
	const struct fmt_log_op *op = slot;

	(void)page;
	(void)left;
	if (le64_get(b->key) >> 56 == FMT_SLOT_OP) {
		see_generation(rc, le32_get(op->generation));
		return 0;
	}
	see_generation(rc, le32_get(b->birth));
	replay_ahead_want(rc->ahead, le64_get(b->volume),
			  (struct vblk){ le64_get(b->key) & FMT_PBLK_MASK });
	return 0;
}

static int write_back(struct recovery *rc, const struct fmt_log_head *page)
{
	struct thin_pool *pool = rc->pool;
	struct iovec iov = { (void *)(uintptr_t)page, FMT_BLOCK };
	struct dev_io io = { .op = DEV_WRITE,
			     .fua = true,
			     .offset = journal_page_pblk(pool->log_pages, rc->log.next - 1).n *
				       FMT_BLOCK,
			     .len = FMT_BLOCK,
			     .iov = &iov,
			     .iov_count = 1 };

	rc->shadow_pages++;
	return pool->read_only ? 0 : pool_do_io(pool, &io);
}

static int check_gap(struct recovery *rc)
{
	uint64_t mark;
	int r = log_reader_scan_marks(&rc->log, &mark);

	if (r)
		return err_sys(rc->err, r, "reading the log");
	if (mark < rc->end)
		return 0;
	if (rc->pool->accept_damage) {
		pool_damage(rc->pool, "log pages %" PRIu64 " to %" PRIu64 " are lost", rc->end,
			    mark);
		return 0;
	}
	return err_set(rc->err, -EUCLEAN,
		       "log page %" PRIu64 " is damaged, and pages up to %" PRIu64
		       " had been made durable: what they say would be lost; nothing was changed",
		       rc->end, mark);
}

static int pass_1(struct recovery *rc)
{
	const struct fmt_log_head *page;
	int r;

	rc->mark = rc->log.first - 1;
	while ((r = log_reader_next(&rc->log, &page)) == 0 && page) {
		if (le64_get(page->flushed) > rc->mark)
			rc->mark = le64_get(page->flushed);
		if (each_record(rc, page, see_record))
			return err_set(rc->err, -EUCLEAN, "log page %" PRIu64 " makes no sense",
				       rc->log.next - 1);
		if (rc->log.from_shadow && (r = write_back(rc, page)))
			break;
	}
	if (r)
		return err_sys(rc->err, r, "reading the log");
	rc->end = rc->log.next;
	rc->end_pred = rc->log.pred;
	if (rc->generation >= UINT32_MAX - 4)
		return err_set(rc->err, -EUCLEAN, "the generation counter is exhausted");
	return check_gap(rc);
}

/* ---- pass 2 ---- */

static int replay_block(struct recovery *rc, uint64_t seq, const struct fmt_log_block *b)
{
	struct thin_pool *pool = rc->pool;
	struct volume *vol = volume_by_id(&pool->catalog, le64_get(b->volume));
	bool hole = le64_get(b->key) >> 56 == FMT_SLOT_HOLE;
	struct vblk v = { le64_get(b->key) & FMT_PBLK_MASK };
	struct ent e = { le64_get(b->where), le32_get(b->birth), le32_get(b->crc) };
	struct fmt_entry *slot;
	struct node *leaf;
	int r;

	if (!vol || v.n >= map_capacity(FMT_HEIGHT_MAX) ||
	    (!hole && ((e.where & FMT_ENT_MAPPED) == 0 || !ent_from_disk_valid(pool, e, 1))))
		return -EUCLEAN;
	if (e.birth > pool->generation)
		pool->generation = e.birth;
	r = map_dirty_leaf(pool, &vol->tree, v, NULL, &leaf);
	if (r)
		return r;
	slot = &leaf->page->entry[v.n % FMT_NODE_ENTRIES];
	map_clear_entry(pool, vol, v, slot, seq);
	if (hole)
		return 0;
	if (space_is_allocated(&pool->space, ent_pblk(e)))
		return -EUCLEAN;
	space_publish(&pool->space, ent_pblk(e));
	*slot = ent_put(e);
	volume_count(pool, vol, 1, 1, 0);
	return 0;
}

static int replay_op(struct recovery *rc, uint64_t seq, const struct fmt_log_op *head)
{
	const uint8_t *payload = (const uint8_t *)(head + 1);
	uint32_t here = le16_get(head->here), total = le16_get(head->total);

	rc->op_whole = false;
	if (le16_get(head->fragment) == 0) {
		rc->op_id = le64_get(head->op_id);
		rc->op_have = 0;
		rc->op_next = 0;
	}
	if (le64_get(head->op_id) != rc->op_id || le16_get(head->fragment) != rc->op_next ||
	    rc->op_have + here > total || total < sizeof(struct fmt_op) || total > sizeof(rc->op))
		return -EUCLEAN;
	memcpy(rc->op + rc->op_have, payload, here);
	rc->op_have += here;
	rc->op_next++;
	if (rc->op_next < le16_get(head->fragments))
		return 0;
	if (rc->op_have != total)
		return -EUCLEAN;
	rc->op_whole = true;
	if (le32_get(head->generation) > rc->pool->generation)
		rc->pool->generation = le32_get(head->generation);
	return ops_apply(rc->pool, (const struct fmt_op *)rc->op, total, seq);
}

/* ---- data of records that may not have arrived ---- */

struct data_check {
	struct dev_io io;
	struct iovec iov;
	uint32_t *pending;
};

static void data_read(struct dev_io *io)
{
	struct data_check *c = io->user;

	--*c->pending;
}

/* Read all blocks that the page's records name, at once. */
static void read_page_data(struct recovery *rc, const struct fmt_log_head *page)
{
	struct thin_pool *pool = rc->pool;
	struct data_check check[FMT_LOG_SLOTS];
	const struct fmt_log_block *b = (const struct fmt_log_block *)(page + 1);
	uint32_t slots = le32_get(page->slots), pending = 0;

	memset(check, 0, sizeof(check));
	for (uint32_t i = 0; i < slots; i++) {
		struct pblk at = { le64_get(b[i].where) & FMT_PBLK_MASK };

		/* slots of an operation's payload may look like a record; reading too much harms
		 * nobody */
		if (le64_get(b[i].key) >> 56 != FMT_SLOT_BLOCK || !space_valid(&pool->space, at))
			continue;
		check[i].pending = &pending;
		check[i].iov = (struct iovec){ rc->blocks + (uint64_t)i * FMT_BLOCK, FMT_BLOCK };
		check[i].io = (struct dev_io){ .op = DEV_READ,
					       .offset = at.n * FMT_BLOCK,
					       .len = FMT_BLOCK,
					       .iov = &check[i].iov,
					       .iov_count = 1,
					       .done = data_read,
					       .user = &check[i] };
		pending++;
		pool_submit_io(pool, &check[i].io);
	}
	while (pending)
		pool->dev->ops->wait(pool->dev);
	/* what cannot be read did not arrive, as far as anybody was told */
	for (uint32_t i = 0; i < slots; i++)
		rc->readable[i] = check[i].pending && check[i].io.res == 0;
}

static bool data_arrived(const struct recovery *rc, const struct fmt_log_head *page,
			 const struct fmt_log_block *b)
{
	uint64_t i = (uint64_t)(b - (const struct fmt_log_block *)(page + 1));

	return rc->readable[i] &&
	       pool_crc(rc->blocks + i * FMT_BLOCK, FMT_BLOCK) == le32_get(b->crc);
}

/* A block of a volume that is left out is of no use; an operation may be of use to others. */
static bool salvage_wants(struct recovery *rc, uint64_t type, const struct fmt_log_block *b)
{
	const struct volume *vol = volume_by_id(&rc->pool->catalog, le64_get(b->volume));

	return type == FMT_SLOT_OP || (vol && !vol->left_out);
}

/* Under a map node that cannot be read nothing is served, so nothing wrong. */
static bool is_unreadable(struct recovery *rc, const struct fmt_log_block *b)
{
	struct volume *vol = volume_by_id(&rc->pool->catalog, le64_get(b->volume));
	struct vblk v = { le64_get(b->key) & FMT_PBLK_MASK }, next;
	struct node *leaf;
	int r = vol ? map_leaf(rc->pool, &vol->tree, v, NULL, &leaf, &next) : 0;

	return r && r != -ENOENT;
}

static void salvage_failed(struct recovery *rc, uint64_t type, const struct fmt_log_block *b)
{
	const struct fmt_op *op = (const struct fmt_op *)rc->op;

	if (type != FMT_SLOT_OP)
		salvage_passed(rc->pool, le64_get(b->volume), !is_unreadable(rc, b));
	else if (le32_get(op->kind) == FMT_OP_SNAPSHOT)
		salvage_passed(rc->pool, 0, false);
	else
		salvage_passed(rc->pool, le64_get(op->volume), true);
}

static int replay_record(struct recovery *rc, const struct fmt_log_head *page, const void *slot,
			 uint32_t left)
{
	uint64_t seq = le64_get(page->seq);
	const struct fmt_log_block *b = slot;
	uint64_t type = le64_get(b->key) >> 56;
	int r;

	(void)left;
	rc->pool->stat.replayed_records++;
	if (rc->pool->salvage && !salvage_wants(rc, type, slot)) {
		salvage_passed(rc->pool, 0, false);
		return 0;
	}
	if (type == FMT_SLOT_OP) {
		r = replay_op(rc, seq, slot);
	} else if (type == FMT_SLOT_BLOCK && seq > rc->mark && !data_arrived(rc, page, b)) {
		rc->pool->stat.skipped_records++;
		return 0;
	} else if (type == FMT_SLOT_BLOCK || type == FMT_SLOT_HOLE) {
		r = replay_block(rc, seq, b);
	} else {
		r = -EUCLEAN;
	}
	if (r == 0 || r == -ENOBUFS || r == -ENOMEM)
		return r;
	if (rc->pool->salvage && (type != FMT_SLOT_OP || rc->op_whole)) {
		salvage_failed(rc, type, slot);
		return 0;
	}
	if (rc->pool->accept_damage) {
		pool_damage(rc->pool, "a record of log page %" PRIu64 " cannot be applied", seq);
		return 0;
	}
	return err_set(rc->err, r, "log page %" PRIu64 ": a record cannot be applied: %s", seq,
		       r == -EUCLEAN ? "it does not fit the pool" : strerror(-r));
}

static int pass_2(struct recovery *rc)
{
	struct thin_pool *pool = rc->pool;
	const struct fmt_log_head *page;
	int r;

	pool->space.replaying = true;
	replay_ahead_load(rc->ahead);
	log_reader_rewind(&rc->log);
	while (rc->log.next < rc->end && (r = log_reader_next(&rc->log, &page)) == 0 && page) {
		if (le64_get(page->seq) > rc->mark)
			read_page_data(rc, page);
		replay_ahead_touch(pool, page);
		r = each_record(rc, page, replay_record);
		if (r)
			return r;
	}
	if (rc->log.next < rc->end)
		return err_set(rc->err, -EIO, "log page %" PRIu64 " cannot be read again",
			       rc->log.next);
	/* room for the closing checkpoint's catalog, and for reading where nothing is written */
	if (!pool_nodes_available(pool, pool->nodes.count / 8))
		return -ENOBUFS;
	space_replayed(&pool->space);
	salvage_replayed(pool);
	if (rc->generation >= pool->generation)
		pool->generation = rc->generation + 1;
	pool->generation++;
	return 0;
}

/* ---- all of it ---- */

static void recovery_fini(struct recovery *rc)
{
	log_reader_fini(&rc->log);
	replay_ahead_free(rc->ahead);
	rc->ahead = NULL;
	free(rc->blocks);
	rc->blocks = NULL;
	if (rc->pool)
		pool_free(rc->pool);
	rc->pool = NULL;
}

static void recover_flushed(struct dev_io *io)
{
	*(bool *)io->user = true;
}

static int device_flush(struct thin_dev *dev, struct err *err)
{
	bool done = false;
	struct dev_io io = { .op = DEV_FLUSH, .done = recover_flushed, .user = &done };

	if (dev->read_only)
		return 0;
	dev->ops->submit(dev, &io);
	while (!done)
		dev->ops->wait(dev);
	return io.res ? err_sys(err, io.res, "flush before recovery") : 0;
}

/* What lay in the dead process's stage; durable, like all that is read later, before any block that
 * it replaces is used again. */
static int restore_staged(struct recovery *rc, const struct thin_open *params)
{
	struct dev_io flush = { .op = DEV_FLUSH };
	int r;

	rc->staged_blocks = stage_restore(rc->pool, params->stage, params->stage_bytes,
					  le64_get(rc->found.sb.nonce));
	r = rc->staged_blocks ? pool_do_io(rc->pool, &flush) : 0;
	return r ? err_sys(rc->err, r, "flush of what the dead process had staged") : 0;
}

/* Steps 2 to 4. */
static int replay(struct recovery *rc, struct thin_dev *dev, const struct thin_open *params)
{
	const struct fmt_super *sb = &rc->found.sb;
	struct thin_open p = *params;
	int r;

	if (params->read_only || params->salvage || le64_get(sb->feature_ro) & ~FMT_FEATURE_RO)
		p.shadow = p.stage = NULL; /* read, but not written */
	r = pool_alloc(dev, le64_get(sb->zone_end), le64_get(sb->log_pages),
		       le32_get(sb->zone_blocks), &p, &rc->pool);
	if (r)
		return err_set(rc->err, r, "out of memory");
	take_super(rc->pool, &rc->found);
	r = catalog_load(rc->pool, rc->err);
	if (!r)
		r = load_bitmaps(rc->pool, rc->err);
	if (r)
		return r;
	/* both slots have moved to the new end: blocks of the new zones may have been used */
	if (rc->found.same_size && grow_zones(rc->pool))
		return err_set(rc->err, -ENOMEM, "out of memory");
	rc->generation = rc->pool->generation;
	if (log_reader_init(&rc->log, rc->pool, sb, params->shadow) ||
	    replay_ahead_new(rc->pool, &rc->ahead) ||
	    posix_memalign((void **)&rc->blocks, FMT_BLOCK, FMT_LOG_SLOTS * FMT_BLOCK))
		return err_set(rc->err, -ENOMEM, "out of memory");
	r = restore_staged(rc, params);
	if (!r)
		r = pass_1(rc);
	return r ? r : pass_2(rc);
}

static int recover(struct recovery *rc, struct thin_dev *dev, const struct thin_open *params)
{
	struct thin_open p = *params;
	int r = super_find(dev, &rc->found, rc->err);

	for (int i = 0; !r && i <= CACHE_DOUBLINGS; i++) {
		r = replay(rc, dev, &p);
		if (r != -ENOBUFS)
			break;
		p.node_cache_bytes = 2 * rc->pool->nodes.pages_bytes;
		recovery_fini(rc);
		r = i == CACHE_DOUBLINGS
			    ? err_set(rc->err, -ENOMEM, "the log needs a larger node cache")
			    : 0;
	}
	return r;
}

int recover_in_memory(struct thin_dev *dev, const struct thin_open *params,
		      struct thin_pool **ret_pool, struct err *err)
{
	struct thin_open p = *params;
	struct recovery *rc = calloc(1, sizeof(*rc));
	int r;

	if (!rc)
		return err_set(err, -ENOMEM, "out of memory");
	rc->err = err ? err : &rc->own;
	p.read_only = true;
	r = recover(rc, dev, &p);
	if (!r) {
		*ret_pool = rc->pool;
		rc->pool = NULL;
		journal_restart(*ret_pool, 0, rc->end, rc->end_pred);
	}
	recovery_fini(rc);
	free(rc);
	return r;
}

/* Step 5. */
static int close_recovery(struct recovery *rc)
{
	struct thin_pool *pool = rc->pool;
	int r;

	journal_restart(pool, pool_random(pool), rc->end, rc->end_pred);
	pool->ck.wanted = false;
	for (int i = 0; i < 3; i++) {
		checkpoint_start(pool);
		r = pool_run_until(pool, &pool->ck.active);
		if (r)
			return err_set(rc->err, r, "the checkpoint after recovery failed");
		/* a growth that was cut short: both slots carry the new size after the second */
		if (pool->zone_end + 2 == pool->size_blocks)
			break;
		if (i == 1 && (r = grow_zones(pool)))
			return err_set(rc->err, r, "out of memory");
	}
	return 0;
}

static void tell(struct recovery *rc)
{
	struct thin_pool *pool = rc->pool;

	if (!pool->stat.replayed_records)
		return;
	pool_event(pool, THIN_EVENT_NOTE,
		   "recovered: %" PRIu64 " log pages, %" PRIu64 " records, %" PRIu64
		   " of them skipped; %" PRIu64 " pages and %" PRIu64
		   " blocks came from the dead process",
		   rc->end - rc->log.first, pool->stat.replayed_records, pool->stat.skipped_records,
		   rc->shadow_pages, rc->staged_blocks);
}

int recover_open(struct thin_dev *dev, const struct thin_open *params, struct thin_pool **ret_pool,
		 struct err *err)
{
	struct recovery *rc;
	int r = device_flush(dev, err);

	if (r)
		return r;
	if (params->read_only || params->salvage || dev->read_only)
		return recover_in_memory(dev, params, ret_pool, err);
	rc = calloc(1, sizeof(*rc));
	if (!rc)
		return err_set(err, -ENOMEM, "out of memory");
	rc->err = err ? err : &rc->own;
	r = recover(rc, dev, params);
	if (!r && !rc->pool->read_only && super_repair(dev, &rc->found))
		r = err_set(err, -EIO, "a damaged superblock copy cannot be repaired");
	if (!r && rc->pool->read_only) /* by a feature flag */
		journal_restart(rc->pool, 0, rc->end, rc->end_pred);
	else if (!r)
		r = close_recovery(rc);
	if (!r) {
		tell(rc);
		rc->pool->opened = true;
		*ret_pool = rc->pool;
		rc->pool = NULL;
	}
	recovery_fini(rc);
	free(rc);
	return r;
}
