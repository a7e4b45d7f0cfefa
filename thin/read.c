/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading, block status, and loading the map ahead.
 *
 * A read goes leaf by leaf.  Holes are zeroed at once; runs of adjacent blocks become one device
 * read each, straight into the caller's buffer; every block is checked against the crc of the entry
 * that named it.  From looking up to the last completion the part counts as a read in flight, so
 * that a block freed meanwhile is not reused under it.
 */
#include <errno.h>
#include <string.h>

#include "thin/io.h"
#include "thin/pool.h"

#define STATUS_LEAVES_MAX 1024u /* leaves described by one status request: 1 GiB */
#define CACHE_LEAVES_MAX  64u

static void part_over(struct io_part *part)
{
	struct thin_pool *pool = part->rs->pool;

	space_read_end(&pool->space, &part->read);
	io_part_over(part->rs, part->res);
	part->next_free = pool->io.part_free;
	pool->io.part_free = part;
	pool_wake_stalled(pool);
}

static void check_blocks(struct io_part *part, const struct io_dev_read *dr)
{
	struct req_state *rs = part->rs;
	const uint8_t *data = dr->iov.iov_base;

	for (uint32_t i = 0; i < dr->count; i++) {
		uint64_t offset = (part->vblk + dr->first + i) * FMT_BLOCK;

		if (pool_crc(data + (uint64_t)i * FMT_BLOCK, FMT_BLOCK) == part->crc[dr->first + i])
			continue;
		part->res = -EIO;
		rs->req->bad_offset = offset;
		pool_damage(rs->pool, "volume \"%s\": offset %llu: checksum differs",
			    rs->req->vol->volume->name, (unsigned long long)offset);
	}
}

static void read_done(struct dev_io *io)
{
	struct io_dev_read *dr = io->user;
	struct io_part *part = dr->part;
	struct thin_pool *pool = part->rs->pool;

	if (io->res)
		part->res = io->res;
	else
		check_blocks(part, dr);
	pool->stat.data_read_bytes += io->len;
	dr->next_free = pool->io.dev_read_free;
	pool->io.dev_read_free = dr;
	pool->io.dev_read_free_count++;
	if (--part->pending == 0)
		part_over(part);
}

/* Length of the run of adjacent blocks, or of holes, that begins at entry `i`. */
static uint32_t run_length(const struct node *leaf, unsigned i, uint32_t max, bool *ret_mapped,
			   struct pblk *ret_at)
{
	struct ent e = ent_get(&leaf->page->entry[i]);
	bool mapped = e.where & FMT_ENT_MAPPED;
	uint32_t n = 1;

	*ret_mapped = mapped;
	if (mapped)
		*ret_at = ent_pblk(e);
	for (; n < max; n++) {
		struct ent next = ent_get(&leaf->page->entry[i + n]);

		if (mapped != !!(next.where & FMT_ENT_MAPPED) ||
		    (mapped && ent_pblk(next).n != ret_at->n + n))
			break;
	}
	return n;
}

static uint32_t count_runs(const struct node *leaf, unsigned first, uint32_t count)
{
	uint32_t runs = 0, n;
	struct pblk at;
	bool mapped;

	for (uint32_t i = 0; i < count; i += n) {
		n = run_length(leaf, first + i, count - i, &mapped, &at);
		runs += mapped;
	}
	return runs;
}

static void start_run(struct io_part *part, uint32_t first, uint32_t count, struct pblk at,
		      uint8_t *buf)
{
	struct thin_pool *pool = part->rs->pool;
	struct io_dev_read *dr = pool->io.dev_read_free;

	pool->io.dev_read_free = dr->next_free;
	pool->io.dev_read_free_count--;
	dr->part = part;
	dr->first = first;
	dr->count = count;
	dr->iov = (struct iovec){ buf, (uint64_t)count * FMT_BLOCK };
	dr->io = (struct dev_io){ .op = DEV_READ,
				  .offset = at.n * FMT_BLOCK,
				  .len = dr->iov.iov_len,
				  .iov = &dr->iov,
				  .iov_count = 1,
				  .done = read_done,
				  .user = dr };
	part->pending++;
	pool_submit_io(pool, &dr->io);
}

/* Read `count` blocks that `leaf` covers, from rs->pos on.  False: no resources, stalled. */
static bool read_leaf(struct req_state *rs, const struct node *leaf, uint32_t count)
{
	struct thin_pool *pool = rs->pool;
	uint64_t v = rs->pos / FMT_BLOCK;
	uint8_t *buf = (uint8_t *)rs->req->buf + (rs->pos - rs->req->offset);
	unsigned first = (unsigned)(v % FMT_NODE_ENTRIES);
	uint32_t runs = count_runs(leaf, first, count), n;
	struct io_part *part = pool->io.part_free;

	if (runs && (!part || pool->io.dev_read_free_count < runs)) {
		pool_stall(pool, &rs->task);
		return false;
	}
	if (!runs) {
		memset(buf, 0, (uint64_t)count * FMT_BLOCK);
		return true;
	}
	pool->io.part_free = part->next_free;
	part->rs = rs;
	part->vblk = v;
	part->res = 0;
	part->pending = 0;
	rs->pending++;
	space_read_begin(&pool->space, &part->read);
	for (uint32_t i = 0; i < count; i += n) {
		bool mapped;
		struct pblk at;

		n = run_length(leaf, first + i, count - i, &mapped, &at);
		for (uint32_t k = i; mapped && k < i + n; k++)
			part->crc[k] = ent_get(&leaf->page->entry[first + k]).crc;
		if (mapped)
			start_run(part, i, n, at, buf + (uint64_t)i * FMT_BLOCK);
		else
			memset(buf + (uint64_t)i * FMT_BLOCK, 0, (uint64_t)n * FMT_BLOCK);
	}
	return true;
}

/* Blocks from rs->pos to the end of the request, or up to block `limit`. */
static uint64_t blocks_to(const struct req_state *rs, uint64_t limit)
{
	uint64_t last = rs->last.n < limit ? rs->last.n : limit;

	return last - rs->pos / FMT_BLOCK;
}

void read_step(struct thin_pool *pool, struct task *task)
{
	struct req_state *rs = TASK_OF(task, struct req_state, task);
	const struct thin_req *req = rs->req;
	struct tree *tree = &req->vol->volume->tree;
	int r = io_begin(rs);

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
			memset((uint8_t *)req->buf + (rs->pos - req->offset), 0, count * FMT_BLOCK);
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
	io_issued(rs);
}

void cache_step(struct thin_pool *pool, struct task *task)
{
	struct req_state *rs = TASK_OF(task, struct req_state, task);
	int r = io_begin(rs);

	for (unsigned i = 0; !r && i < CACHE_LEAVES_MAX && rs->pos / FMT_BLOCK < rs->last.n; i++) {
		struct vblk v = { rs->pos / FMT_BLOCK }, next;
		struct node *leaf;

		next.n = (v.n | (FMT_NODE_ENTRIES - 1)) + 1;
		r = map_leaf(pool, &rs->req->vol->volume->tree, v, task, &leaf, &next);
		if (r == -EAGAIN)
			return;
		r = 0; /* advice: damage is found by those who read */
		rs->pos = next.n < rs->last.n ? next.n * FMT_BLOCK : rs->last.n * FMT_BLOCK;
	}
	if (r == -EAGAIN)
		return;
	io_finish(rs, r);
}

/* ---- status ---- */

static uint32_t entry_flags(struct ent e)
{
	if (e.where & FMT_ENT_MAPPED)
		return 0;
	if (e.where & FMT_ENT_RESERVED)
		return THIN_EXTENT_ZERO;
	return THIN_EXTENT_HOLE | THIN_EXTENT_ZERO;
}

/* False: no room for another extent. */
static bool add_extent(struct thin_req *req, uint64_t len, uint32_t flags)
{
	struct thin_extent *last = req->extents + req->extent_count - 1;

	if (req->extent_count && last->flags == flags) {
		last->len_bytes += len;
		return true;
	}
	if (req->extent_count == req->extent_max)
		return false;
	req->extents[req->extent_count++] = (struct thin_extent){ len, flags };
	return true;
}

/* Describe up to the end of the leaf; false: the extents are full. */
static bool describe_leaf(struct req_state *rs, const struct node *leaf)
{
	uint64_t end = (rs->pos / FMT_BLOCK | (FMT_NODE_ENTRIES - 1)) + 1;

	for (; rs->pos / FMT_BLOCK < end && rs->pos / FMT_BLOCK < rs->last.n;
	     rs->pos += FMT_BLOCK) {
		unsigned i = (unsigned)(rs->pos / FMT_BLOCK % FMT_NODE_ENTRIES);

		if (!add_extent(rs->req, FMT_BLOCK, entry_flags(ent_get(&leaf->page->entry[i]))))
			return false;
	}
	return true;
}

void status_step(struct thin_pool *pool, struct task *task)
{
	struct req_state *rs = TASK_OF(task, struct req_state, task);
	struct thin_req *req = rs->req;
	int r = io_begin(rs);

	if (!r && !rs->stage) {
		rs->pos = rs->first.n * FMT_BLOCK;
		req->extent_count = 0;
	}
	while (!r && rs->pos / FMT_BLOCK < rs->last.n && rs->stage < STATUS_LEAVES_MAX) {
		struct vblk v = { rs->pos / FMT_BLOCK }, next;
		struct node *leaf;

		r = map_leaf(pool, &req->vol->volume->tree, v, task, &leaf, &next);
		if (r == -EAGAIN)
			return;
		rs->stage++;
		if (r == 0 && !describe_leaf(rs, leaf))
			break;
		if (r == -ENOENT) {
			uint64_t len = blocks_to(rs, next.n) * FMT_BLOCK;

			r = 0;
			if (!add_extent(req, len, THIN_EXTENT_HOLE | THIN_EXTENT_ZERO))
				break;
			rs->pos += len;
		}
	}
	if (r == -EAGAIN)
		return;
	io_finish(rs, r == -EUCLEAN ? -EIO : r);
}
