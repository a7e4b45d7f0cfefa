/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading.
 *
 * A read goes leaf by leaf.  Of a leaf's blocks
 *
 *	holes		are zeroes at once
 *	cached ones	are copied at once, or lent (THIN_LEND); if that is all, no I/O is needed
 *	on their way	into the cache for somebody else: waited for
 *	all others	are read: runs of adjacent blocks are one device read each, into slots of
 *			the cache, or into the caller's buffer where there is no cache or no slot
 *
 * and every block that comes from the device is checked against the crc of the entry that named it.
 * From looking up to its completion a device read counts as a read in flight, so that a block freed
 * meanwhile is not reused under it.  Slots are pinned until the part of the request that waits for
 * them is over, so that it gets what its entries named, whatever becomes of the blocks meanwhile.
 */
#include <errno.h>
#include <string.h>

#include "thin/io.h"
#include "thin/pool.h"

#define FOUND_HOLE UINT32_MAX
#define FOUND_MISS 0u

/* What there is of the blocks of one leaf. */
struct found {
	uint32_t slot[IO_PART_BLOCKS]; /* of the cache, or one of the above */
	uint32_t hits, filling, misses, runs;
};

/* ---- the end of a part ---- */

static void add_iov(struct thin_req *req, void *at)
{
	struct iovec *last = req->iov_count ? &req->iov[req->iov_count - 1] : NULL;

	if (last && (uint8_t *)last->iov_base + last->iov_len == at)
		last->iov_len += FMT_BLOCK;
	else
		req->iov[req->iov_count++] = (struct iovec){ at, FMT_BLOCK };
}

static void damaged(struct req_state *rs, uint64_t vblk)
{
	rs->req->bad_offset = vblk * FMT_BLOCK;
	pool_damage(rs->pool, "volume \"%s\": offset %llu: checksum differs",
		    rs->req->vol->volume->name, (unsigned long long)rs->req->bad_offset);
}

/* Hand over what came by way of the cache. */
static void deliver(struct io_part *part)
{
	struct req_state *rs = part->rs;
	struct data_cache *dc = &rs->pool->data;
	bool lend = rs->lends && !part->res;

	for (uint32_t i = 0; i < part->count; i++) {
		uint8_t *buf = part->buf + (uint64_t)i * FMT_BLOCK;
		uint32_t slot = part->slot[i];

		if (lend)
			add_iov(rs->req, slot ? data_cache_page(dc, slot) : buf);
		if (!slot || lend)
			continue;
		if (!part->res)
			memcpy(buf, data_cache_page(dc, slot), FMT_BLOCK);
		data_cache_unpin(dc, slot);
	}
}

static void part_over(struct io_part *part)
{
	struct thin_pool *pool = part->rs->pool;

	for (uint32_t i = 0; i < part->count && !part->failed; i++)
		if (part->slot[i] && data_cache_state(&pool->data, part->slot[i]) == DATA_BAD) {
			part->res = -EIO;
			damaged(part->rs, part->vblk + i);
		}
	deliver(part);
	io_part_over(part->rs, part->res);
	io_part_free(pool, part);
	pool_wake_stalled(pool);
}

static void part_step(struct io_part *part)
{
	if (--part->pending == 0)
		part_over(part);
}

/* ---- device reads ---- */

static void check_direct(struct io_part *part, const struct io_dev_read *dr)
{
	const uint8_t *data = part->buf + (uint64_t)dr->first * FMT_BLOCK;

	for (uint32_t i = dr->first; i < dr->first + dr->count; i++, data += FMT_BLOCK)
		if (pool_crc(data, FMT_BLOCK) != part->crc[i]) {
			part->res = -EIO;
			damaged(part->rs, part->vblk + i);
		}
}

static void read_over(struct io_dev_read *dr)
{
	struct thin_pool *pool = dr->pool;

	space_read_end(&pool->space, &dr->read);
	pool->stat.data_read_bytes += dr->io.len;
	io_dev_read_free(pool, dr);
}

static void direct_done(struct dev_io *io)
{
	struct io_dev_read *dr = io->user;
	struct io_part *part = dr->part;

	if (io->res) {
		part->res = io->res;
		part->failed = true;
	} else {
		check_direct(part, dr);
	}
	read_over(dr);
	part_step(part);
}

static void fill_done(struct dev_io *io)
{
	struct io_dev_read *dr = io->user;
	struct thin_pool *pool = dr->pool;
	struct data_cache *dc = &pool->data;
	struct io_wait *w = dr->waiters;

	for (uint32_t i = 0; i < dr->count; i++) {
		uint32_t slot = dr->slot[i];

		if (!io->res &&
		    pool_crc(data_cache_page(dc, slot), FMT_BLOCK) == dc->slot[slot].key.crc)
			data_cache_filled(dc, slot);
		else
			data_cache_spoilt(dc, slot);
	}
	read_over(dr);
	while (w) {
		struct io_wait *next = w->next;

		if (io->res) {
			w->part->res = io->res;
			w->part->failed = true;
		}
		part_step(w->part);
		io_wait_free(pool, w);
		w = next;
	}
	pool_wake_stalled(pool);
}

static void start(struct io_dev_read *dr, struct pblk at, int iov_count,
		  void (*done)(struct dev_io *io))
{
	struct thin_pool *pool = dr->pool;

	dr->io = (struct dev_io){ .op = DEV_READ,
				  .offset = at.n * FMT_BLOCK,
				  .len = (uint64_t)dr->count * FMT_BLOCK,
				  .iov = dr->iov,
				  .iov_count = iov_count,
				  .done = done,
				  .user = dr };
	space_read_begin(&pool->space, &dr->read);
	pool_submit_io(pool, &dr->io);
}

static void start_direct(struct io_part *part, uint32_t first, uint32_t count, struct pblk at)
{
	struct io_dev_read *dr = io_dev_read_take(part->rs->pool);

	dr->part = part;
	dr->first = first;
	dr->count = count;
	dr->iov[0] = (struct iovec){ part->buf + (uint64_t)first * FMT_BLOCK,
				     (uint64_t)count * FMT_BLOCK };
	part->pending++;
	start(dr, at, 1, direct_done);
}

/* The part gives `i`th block's slot a pin and waits for its read, if it does not yet. */
static void wait_for(struct io_part *part, uint32_t i, uint32_t slot)
{
	struct thin_pool *pool = part->rs->pool;
	struct io_dev_read *dr = &pool->io.dev_read[pool->data.slot[slot].fill];
	struct io_wait *w;

	data_cache_pin(&pool->data, slot);
	part->slot[i] = slot;
	if (dr->waiters && dr->waiters->part == part)
		return;
	w = io_wait_take(pool);
	w->part = part;
	w->next = dr->waiters;
	dr->waiters = w;
	part->pending++;
}

uint32_t read_fill(struct thin_pool *pool, const struct fmt_entry *e, uint32_t count,
		   struct io_dev_read **ret_dr)
{
	struct data_cache *dc = &pool->data;
	struct io_dev_read *dr = io_dev_read_take(pool);
	int pieces = 0;

	dr->part = NULL;
	dr->waiters = NULL;
	dr->count = 0;
	for (uint32_t i = 0; i < count && i < IO_FILL_BLOCKS; i++) {
		struct ent ent = ent_get(&e[i]);
		uint32_t slot = data_cache_take(dc);
		struct iovec *last = pieces ? &dr->iov[pieces - 1] : NULL;
		uint8_t *page;

		if (!slot)
			break;
		data_cache_announce(dc, slot, ent_key(ent), (uint32_t)(dr - pool->io.dev_read));
		page = data_cache_page(dc, slot);
		if (last && (uint8_t *)last->iov_base + last->iov_len == page)
			last->iov_len += FMT_BLOCK;
		else
			dr->iov[pieces++] = (struct iovec){ page, FMT_BLOCK };
		dr->slot[dr->count++] = slot;
	}
	if (!dr->count) {
		io_dev_read_free(pool, dr);
		return 0;
	}
	start(dr, ent_pblk(ent_get(e)), pieces, fill_done);
	*ret_dr = dr;
	return dr->count;
}

/* Read blocks `first` to `first + count` of the part, which are adjacent, into slots while there
 * are any. */
static void start_run(struct io_part *part, const struct fmt_entry *e, uint32_t first,
		      uint32_t count)
{
	struct thin_pool *pool = part->rs->pool;
	struct io_dev_read *dr;

	while (count && !part->direct) {
		uint32_t n = read_fill(pool, e, count, &dr);

		for (uint32_t i = 0; i < n; i++)
			wait_for(part, first + i, dr->slot[i]);
		part->direct = n == 0;
		first += n;
		count -= n;
		e += n;
	}
	for (uint32_t i = 0; i < count; i++)
		part->crc[first + i] = ent_get(&e[i]).crc;
	if (count)
		start_direct(part, first, count, ent_pblk(ent_get(e)));
}

/* ---- one leaf ---- */

/* Block `i` belongs to the same device read as the one in front of it. */
static bool continues(const struct thin_pool *pool, const struct found *f,
		      const struct fmt_entry *e, uint32_t i, uint32_t length)
{
	return i && f->slot[i - 1] == FOUND_MISS &&
	       ent_pblk(ent_get(&e[i])).n == ent_pblk(ent_get(&e[i - 1])).n + 1 &&
	       (length < IO_FILL_BLOCKS || !data_cache_on(&pool->data));
}

static void look_up(struct thin_pool *pool, const struct fmt_entry *e, uint32_t count,
		    struct found *f)
{
	struct data_cache *dc = &pool->data;
	uint32_t length = 0;

	f->hits = f->filling = f->misses = f->runs = 0;
	for (uint32_t i = 0; i < count; i++) {
		struct ent ent = ent_get(&e[i]);

		if (!(ent.where & FMT_ENT_MAPPED)) {
			f->slot[i] = FOUND_HOLE;
			continue;
		}
		f->slot[i] = data_cache_find(dc, ent_key(ent));
		if (f->slot[i]) {
			bool filling = data_cache_state(dc, f->slot[i]) == DATA_FILLING;

			f->filling += filling;
			f->hits += !filling;
			continue;
		}
		f->misses++;
		length = continues(pool, f, e, i, length) ? length + 1 : 1;
		f->runs += length == 1;
	}
}

static void count_found(struct thin_pool *pool, const struct found *f, uint32_t count)
{
	pool->stat.cache_hits += f->hits + f->filling;
	pool->stat.cache_misses += f->misses;
	for (uint32_t i = 0; i < count && (f->hits || f->filling); i++)
		if (f->slot[i] != FOUND_HOLE && f->slot[i] != FOUND_MISS)
			data_cache_hit(&pool->data, f->slot[i]);
}

/* `count` blocks from byte `pos` of the volume have no data. */
static void read_hole(struct thin_req *req, uint64_t pos, uint64_t count)
{
	uint64_t first = (pos - req->offset) / FMT_BLOCK;

	if (!req->holes)
		memset((uint8_t *)req->buf + first * FMT_BLOCK, 0, count * FMT_BLOCK);
	for (uint64_t i = first; req->holes && i < first + count; i++)
		req->holes[i / 64] |= 1ull << i % 64;
}

/* All is there.  Lending pins the slots until thin_read_return(). */
static void take_hits(struct req_state *rs, const struct found *f, uint32_t count, uint8_t *buf)
{
	struct data_cache *dc = &rs->pool->data;

	for (uint32_t i = 0; i < count; i++, buf += FMT_BLOCK) {
		uint32_t slot = f->slot[i];

		if (slot == FOUND_HOLE)
			read_hole(rs->req, rs->pos + (uint64_t)i * FMT_BLOCK, 1);
		else if (!rs->lends)
			memcpy(buf, data_cache_page(dc, slot), FMT_BLOCK);
		if (!rs->lends)
			continue;
		if (slot != FOUND_HOLE)
			data_cache_pin(dc, slot);
		add_iov(rs->req, slot == FOUND_HOLE ? buf : data_cache_page(dc, slot));
	}
}

static void start_part(struct io_part *part, const struct found *f, const struct fmt_entry *e)
{
	struct req_state *rs = part->rs;
	struct data_cache *dc = &rs->pool->data;
	uint32_t n;

	for (uint32_t i = 0; i < part->count; i++) {
		uint8_t *buf = part->buf + (uint64_t)i * FMT_BLOCK;
		uint32_t slot = f->slot[i];

		part->slot[i] = 0;
		if (slot == FOUND_HOLE) {
			read_hole(rs->req, (part->vblk + i) * FMT_BLOCK, 1);
		} else if (slot && data_cache_state(dc, slot) == DATA_FILLING) {
			wait_for(part, i, slot);
		} else if (slot && rs->lends) {
			data_cache_pin(dc, slot);
			part->slot[i] = slot;
		} else if (slot) {
			memcpy(buf, data_cache_page(dc, slot), FMT_BLOCK);
		}
	}
	/* only now: taking slots evicts */
	for (uint32_t i = 0; i < part->count; i += n) {
		for (n = 1; i + n < part->count && f->slot[i] == FOUND_MISS &&
			    f->slot[i + n] == FOUND_MISS && continues(rs->pool, f, e, i + n, n);
		     n++)
			;
		if (f->slot[i] == FOUND_MISS)
			start_run(part, e + i, i, n);
	}
}

/* Read `count` blocks that `leaf` covers, from rs->pos on.  False: no resources, stalled. */
static bool read_leaf(struct req_state *rs, const struct node *leaf, uint32_t count)
{
	struct thin_pool *pool = rs->pool;
	uint64_t v = rs->pos / FMT_BLOCK;
	uint8_t *buf = (uint8_t *)rs->req->buf + (rs->pos - rs->req->offset);
	const struct fmt_entry *e = &leaf->page->entry[v % FMT_NODE_ENTRIES];
	struct io_part *part;
	struct found f;

	look_up(pool, e, count, &f);
	rs->lends = rs->lends && data_cache_may_pin(&pool->data, count);
	if (!f.misses && !f.filling) {
		count_found(pool, &f, count);
		take_hits(rs, &f, count, buf);
		return true;
	}
	/* one more read where the slots run out in the middle of a run */
	part = io_part_take(pool, f.runs + 1, f.runs + f.filling);
	if (!part) {
		pool_stall(pool, &rs->task);
		return false;
	}
	count_found(pool, &f, count);
	part->rs = rs;
	part->vblk = v;
	part->count = count;
	part->buf = buf;
	part->pending = 1; /* this function */
	rs->pending++;
	start_part(part, &f, e);
	part_step(part);
	return true;
}

/* Blocks from rs->pos to the end of the request, or up to block `limit`. */
static uint64_t blocks_to(const struct req_state *rs, uint64_t limit)
{
	uint64_t last = rs->last.n < limit ? rs->last.n : limit;

	return last - rs->pos / FMT_BLOCK;
}

/* Only what lies under one leaf is lent: so the pieces are found in their order. */
static bool may_lend(const struct req_state *rs)
{
	const struct thin_req *req = rs->req;

	return req->flags & THIN_LEND && data_cache_on(&rs->pool->data) && req->len &&
	       req->iov_max >= req->len / FMT_BLOCK &&
	       rs->first.n / FMT_NODE_ENTRIES == (rs->last.n - 1) / FMT_NODE_ENTRIES;
}

void thin_read_return(struct thin_pool *pool, struct thin_req *req)
{
	for (uint32_t i = 0; i < req->iov_count; i++) {
		const uint8_t *at = req->iov[i].iov_base;

		for (size_t done = 0; done < req->iov[i].iov_len; done += FMT_BLOCK) {
			uint32_t slot = data_cache_slot_at(&pool->data, at + done);

			if (slot)
				data_cache_unpin(&pool->data, slot);
		}
	}
	req->iov_count = 0;
}

void read_step(struct thin_pool *pool, struct task *task)
{
	struct req_state *rs = TASK_OF(task, struct req_state, task);
	struct thin_req *req = rs->req;
	struct tree *tree = &req->vol->volume->tree;
	int r = io_begin(rs);

	if (rs->pos == req->offset) {
		req->iov_count = 0;
		rs->lends = may_lend(rs);
	}
	while (!r && rs->pos < req->offset + req->len) {
		struct vblk v = { rs->pos / FMT_BLOCK }, next;
		struct node *leaf;
		uint64_t count;

		r = map_leaf(pool, tree, v, task, &leaf, &next);
		if (r == 0) {
			count = blocks_to(rs, (v.n | (FMT_NODE_ENTRIES - 1)) + 1);
			if (!read_leaf(rs, leaf, (uint32_t)count))
				return;
		} else if (r == -ENOENT) {
			count = blocks_to(rs, next.n);
			read_hole(rs->req, rs->pos, count);
			r = 0;
		} else {
			break;
		}
		rs->pos += count * FMT_BLOCK;
	}
	if (r == -EAGAIN)
		return;
	if (r == -EUCLEAN) { /* a damaged map node: from here on */
		rs->req->bad_offset = rs->pos;
		r = -EIO;
	}
	if (r && !rs->res)
		rs->res = r;
	if (!r && data_cache_on(&pool->data))
		readahead_note(pool, &req->vol->readahead, tree, rs->first, rs->last);
	io_issued(rs);
}
