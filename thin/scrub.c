/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The scrub: see scrub.h.  Here: beginning and end, the pieces that are read, and what has its
 *place outside of the trees.
 *
 *	collect (what is at the cursor) -> read -> all match: the cursor moves on
 *	   ^                                        else: once more; what fails twice is a find
 *	   '------------------------------------------'
 */
#include "thin/scrub.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "thin/memory.h"
#include "thin/pool.h"
#include "thin/super.h"

#define BUF_BYTES ((SCRUB_BLOCKS + FMT_HEIGHT_MAX) * (uint64_t)FMT_BLOCK)

static const char *const copy_names[] = { "A1", "A2", "B1", "B2" };

/* ---- finds ---- */

static const char *sentence(const struct thin_scrub_find *f)
{
	return f->res == -EUCLEAN ? "checksum differs" : strerror(-f->res);
}

static void tell(struct scrub *s, const struct thin_scrub_find *f)
{
	if (s->stat.finds > SCRUB_TOLD)
		return;
	if (f->kind == THIN_SCRUB_DATA || f->kind == THIN_SCRUB_MAP)
		pool_event(s->pool, THIN_EVENT_DAMAGE,
			   "scrub: \"%s\" at offset %" PRIu64 ", %" PRIu64 " bytes: %s%s", f->path,
			   f->offset, f->len_bytes, f->kind == THIN_SCRUB_MAP ? "map: " : "",
			   sentence(f));
	else
		pool_event(s->pool, THIN_EVENT_DAMAGE, "scrub: %s: %s%s", f->path, sentence(f),
			   f->rewritten ? "; it is written anew" : "");
}

/* A volume's part may be read twice when what it is built on changes. */
static bool known(const struct scrub *s, const struct scrub_found *found)
{
	for (uint32_t i = 0; i < s->found_count; i++) {
		const struct thin_scrub_find *f = &s->found[i].find;

		if (f->kind == found->find.kind && f->kind != THIN_SCRUB_POOL &&
		    s->found[i].volume == found->volume && found->find.offset >= f->offset &&
		    found->find.offset < f->offset + f->len_bytes)
			return true;
	}
	return false;
}

void scrub_find(struct scrub *s, const struct scrub_found *found)
{
	const struct thin_scrub_find *f = &found->find;
	struct scrub_found *last = s->found_count ? &s->found[s->found_count - 1] : NULL;

	if (known(s, found))
		return;
	s->pool->stat.checksum_errors++;
	s->stat.damaged_bytes += f->len_bytes;
	s->stat.rewritten += f->rewritten;
	s->stat.read_errors += f->res != -EUCLEAN;
	/* neighbours are one find */
	if (last && f->kind == THIN_SCRUB_DATA && last->find.kind == f->kind &&
	    last->volume == found->volume && last->find.res == f->res &&
	    last->find.offset + last->find.len_bytes == f->offset) {
		last->find.len_bytes += f->len_bytes;
		return;
	}
	s->stat.finds++;
	tell(s, f);
	if (s->found_count < THIN_SCRUB_FINDS_MAX)
		s->found[s->found_count++] = *found;
}

/* ---- what the pool has in memory as well ---- */

static void take(struct scrub *s, uint64_t place, struct pblk at)
{
	s->block[s->count++] = (struct scrub_block){ .place = place, .at = at };
	s->next = place + 1;
}

static enum scrub_step collect_super(struct scrub *s)
{
	for (uint64_t i = s->cursor; i < 4; i++)
		take(s, i, super_pblk((unsigned)i / 2, i % 2, s->pool->size_blocks));
	return s->count ? SCRUB_READ : SCRUB_END;
}

static enum scrub_step collect_log(struct scrub *s)
{
	const struct journal *j = &s->pool->journal;

	if (s->cursor < j->start)
		s->cursor = j->start;
	for (uint64_t seq = s->cursor; seq <= j->compl &&s->count < s->limit; seq++)
		take(s, seq, journal_page_pblk(j->pages, seq));
	return s->count ? SCRUB_READ : SCRUB_END;
}

static enum scrub_step collect_bitmaps(struct scrub *s)
{
	const struct space *sp = &s->pool->space;

	for (; s->cursor < sp->zone_count && !sp->zone[s->cursor].generation; s->cursor++)
		; /* never written */
	for (uint64_t z = s->cursor; z < sp->zone_count && s->count < SCRUB_BLOCKS_BUSY; z++)
		if (sp->zone[z].generation)
			take(s, z, space_bitmap_pblk(sp, z, sp->zone[z].copy));
	return s->count ? SCRUB_READ : SCRUB_END;
}

static bool log_page_matches(const struct scrub *s, const struct scrub_block *b, const void *page)
{
	const struct journal *j = &s->pool->journal;
	const struct fmt_log_head *head = page;

	return b->place < j->start || (!journal_page_check(page, s->pool->id, j->nonce) &&
				       le64_get(head->seq) == b->place);
}

static bool matches(struct scrub *s, uint32_t i)
{
	const struct scrub_block *b = &s->block[i];
	const void *page = s->buf + (uint64_t)i * FMT_BLOCK;

	switch (s->phase) {
	case SCRUB_SUPER:
		return super_copy_valid(page);
	case SCRUB_LOG:
		return log_page_matches(s, b, page);
	case SCRUB_BITMAPS:
		return pool_crc(page, FMT_BLOCK) == s->pool->space.zone[b->place].crc;
	case SCRUB_CATALOG:
	case SCRUB_TREES:
		return scrub_entry_matches(s, i);
	case SCRUB_PHASES:
		break;
	}
	return true;
}

static void damaged(struct scrub *s, uint32_t i)
{
	const struct scrub_block *b = &s->block[i];
	struct scrub_found f = { .at = b->at };
	struct thin_scrub_find *find = &f.find;
	size_t size = sizeof(find->path);

	if (s->phase == SCRUB_CATALOG || s->phase == SCRUB_TREES) {
		scrub_entry_damaged(s, i);
		return;
	}
	find->kind = THIN_SCRUB_POOL;
	find->res = b->res;
	find->len_bytes = FMT_BLOCK;
	find->pool_offset = b->at.n * FMT_BLOCK;
	find->rewritten = !s->pool->read_only;
	if (s->phase == SCRUB_SUPER)
		snprintf(find->path, size, "superblock copy %s", copy_names[b->place]);
	else if (s->phase == SCRUB_LOG)
		snprintf(find->path, size, "log page %" PRIu64, b->place);
	else
		snprintf(find->path, size, "bitmap page of zone %" PRIu64, b->place);
	if (s->phase == SCRUB_BITMAPS && find->rewritten)
		s->pool->space.zone[b->place].dirty = true;
	if (find->rewritten) /* both slots; a log is not needed behind the first */
		s->checkpoints = s->phase == SCRUB_SUPER ? 2 : s->checkpoints ? s->checkpoints : 1;
	scrub_find(s, &f);
}

/* ---- a piece ---- */

void scrub_add(struct scrub *s, uint64_t place, struct ent e)
{
	s->block[s->count++] = (struct scrub_block){
		.place = place, .at = ent_pblk(e), .birth = e.birth, .crc = e.crc
	};
}

static void piece_read(struct dev_io *io)
{
	struct scrub *s = io->user;
	uint64_t first = (uint64_t)(io - s->io);

	for (uint64_t i = first; i < first + io->len / FMT_BLOCK; i++)
		s->block[i].res = io->res;
	s->pending--;
}

static void submit(struct scrub *s, uint32_t at, uint32_t count)
{
	s->iov[at] = (struct iovec){ s->buf + (uint64_t)at * FMT_BLOCK, count * FMT_BLOCK };
	s->io[at] = (struct dev_io){ .op = DEV_READ,
				     .offset = s->block[at].at.n * FMT_BLOCK,
				     .len = count * FMT_BLOCK,
				     .iov = &s->iov[at],
				     .iov_count = 1,
				     .done = piece_read,
				     .user = s };
	s->pending++;
	pool_submit_io(s->pool, &s->io[at]);
}

static void read_piece(struct scrub *s)
{
	uint32_t n;

	s->busy = true;
	s->begun = s->pool->ck.begun;
	s->piece_ms = s->pool->now_ms;
	space_read_begin(&s->pool->space, &s->read);
	for (uint32_t i = 0; i < s->count; i += n) {
		for (n = 1; i + n < s->count && s->block[i + n].at.n == s->block[i].at.n + n; n++)
			;
		submit(s, i, n);
	}
}

static bool suspected(const struct scrub *s, const struct scrub_block *b)
{
	for (uint32_t i = 0; i < s->suspect_count; i++)
		if (s->suspect[i].place == b->place && s->suspect[i].at.n == b->at.n &&
		    s->suspect[i].crc == b->crc)
			return true;
	return false;
}

/* What was asked for may have been written over since, by a checkpoint. */
static bool outdated(const struct scrub *s)
{
	return (s->phase == SCRUB_SUPER || s->phase == SCRUB_BITMAPS) &&
	       s->pool->ck.begun != s->begun;
}

static void look_at_piece(struct scrub *s)
{
	uint32_t bad = 0, fresh = 0;

	for (uint32_t i = 0; i < s->count; i++) {
		struct scrub_block *b = &s->block[i];

		if (!b->res && !matches(s, i))
			b->res = -EUCLEAN;
		bad += b->res != 0;
		fresh += b->res != 0 && !suspected(s, b);
	}
	s->suspect_count = 0;
	for (uint32_t i = 0; i < s->count && bad; i++)
		if (s->block[i].res && fresh)
			s->suspect[s->suspect_count++] = s->block[i];
		else if (s->block[i].res)
			damaged(s, i);
	s->stat.read_again += fresh;
	if (fresh)
		return; /* once more, from the same cursor */
	s->stat.checked_bytes += (uint64_t)s->count * FMT_BLOCK;
	s->cursor = s->next;
}

static void piece_over(struct scrub *s)
{
	struct thin_pool *pool = s->pool;
	uint64_t took = pool->now_ms - s->piece_ms;

	s->busy = false;
	space_read_end(&pool->space, &s->read);
	if (pool->now_ms < pool->last_active_ms + SCRUB_BUSY_MS || pool->io.requests)
		s->next_ms = pool->now_ms + SCRUB_PAUSE_MS + 4 * took;
	if (s->state == THIN_SCRUB_RUNNING && !outdated(s))
		look_at_piece(s);
}

/* ---- the run ---- */

static enum scrub_step collect(struct scrub *s)
{
	if (s->pool->failed && s->phase < SCRUB_TREES)
		return SCRUB_END; /* a checkpoint may have got stuck half way */
	switch (s->phase) {
	case SCRUB_SUPER:
		return collect_super(s);
	case SCRUB_LOG:
		return collect_log(s);
	case SCRUB_BITMAPS:
		return collect_bitmaps(s);
	case SCRUB_CATALOG:
		return scrub_catalog(s);
	case SCRUB_TREES:
		return scrub_trees(s);
	case SCRUB_PHASES:
		break;
	}
	return SCRUB_END;
}

static void over(struct scrub *s, enum thin_scrub_state state)
{
	s->state = state;
	s->stat.took_ms = s->pool->now_ms - s->started_ms;
	if (state == THIN_SCRUB_DONE)
		pool_event(s->pool, THIN_EVENT_NOTE,
			   "scrub: %" PRIu64 " MiB checked in %" PRIu64 " s: %" PRIu64 " finds",
			   s->stat.checked_bytes >> 20, s->stat.took_ms / 1000, s->stat.finds);
	pool_wake_stalled(s->pool);
}

static void next_phase(struct scrub *s)
{
	if (s->phase == SCRUB_CATALOG)
		scrub_rewrite_records(s);
	s->phase++;
	s->cursor = s->volume = 0;
	s->suspect_count = 0;
	s->any = false;
	for (unsigned i = 0; i < FMT_HEIGHT_MAX; i++)
		s->path[i].valid = false;
	if (s->phase == SCRUB_PHASES)
		over(s, THIN_SCRUB_DONE);
}

/* Checkpoints write what damaged copies held. */
static void write_anew(struct scrub *s)
{
	struct thin_pool *pool = s->pool;

	if (!s->checkpoints || pool->ck.active || pool->ck.wanted || pool->read_only)
		return;
	if (s->state == THIN_SCRUB_RUNNING && s->phase < SCRUB_TREES)
		return; /* it would move what is being read */
	s->checkpoints--;
	pool_want_checkpoint(pool);
}

/* While a checkpoint is being written, what it writes is not there yet. */
static bool held_back(const struct scrub *s)
{
	return s->phase < SCRUB_TREES && !s->pool->failed &&
	       (s->pool->ck.active || s->pool->grow.active);
}

static void step(struct scrub *s)
{
	const struct thin_pool *pool = s->pool;
	enum scrub_step r = SCRUB_MOVED;

	s->limit = pool->io.requests || pool->now_ms < pool->last_active_ms + SCRUB_BUSY_MS
			   ? SCRUB_BLOCKS_BUSY
			   : SCRUB_BLOCKS;
	for (unsigned i = 0; i < SCRUB_LOOKS && r == SCRUB_MOVED; i++) {
		s->count = 0;
		s->is_node = false;
		r = collect(s);
	}
	if (r == SCRUB_READ)
		read_piece(s);
	else if (r == SCRUB_END)
		next_phase(s);
}

bool scrub_runs(const struct thin_pool *pool)
{
	const struct scrub *s = pool->scrub;

	if (!s || s->pending || s->waiting)
		return false;
	return s->busy || (s->state == THIN_SCRUB_RUNNING && !pool->closing && !held_back(s) &&
			   pool->now_ms >= s->next_ms);
}

uint64_t scrub_deadline_ms(const struct thin_pool *pool)
{
	const struct scrub *s = pool->scrub;

	if (!s || s->state != THIN_SCRUB_RUNNING || s->busy || s->waiting || pool->closing ||
	    held_back(s))
		return UINT64_MAX;
	return s->next_ms;
}

bool scrub_active(const struct thin_pool *pool)
{
	const struct scrub *s = pool->scrub;

	return s && !pool->closing && (s->busy || s->state == THIN_SCRUB_RUNNING);
}

void scrub_run(struct thin_pool *pool)
{
	struct scrub *s = pool->scrub;

	if (s && s->state != THIN_SCRUB_NEVER)
		write_anew(s);
	if (!scrub_runs(pool))
		return;
	if (s->busy)
		piece_over(s);
	else if (s->named_count == s->found_count || scrub_name(s))
		step(s);
}

static void woken(struct thin_pool *pool, struct task *task)
{
	(void)task;
	pool->scrub->waiting = false;
}

/* ---- from outside ---- */

static struct scrub *scrub_new(struct thin_pool *pool)
{
	struct scrub *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->pool = pool;
	s->task.step = woken;
	s->buf = memory_map(BUF_BYTES);
	if (!s->buf) {
		free(s);
		return NULL;
	}
	for (unsigned i = 0; i < FMT_HEIGHT_MAX; i++)
		s->path[i].page =
			(struct fmt_node *)(s->buf + (SCRUB_BLOCKS + i) * (uint64_t)FMT_BLOCK);
	return s;
}

void scrub_free(struct scrub *s)
{
	if (!s)
		return;
	memory_unmap(s->buf, BUF_BYTES);
	free(s);
}

int thin_scrub_start(struct thin_pool *pool)
{
	struct scrub *s = pool->scrub ? pool->scrub : scrub_new(pool);

	if (!s)
		return -ENOMEM;
	pool->scrub = s;
	if (s->state == THIN_SCRUB_RUNNING || s->busy)
		return -EALREADY;
	s->state = THIN_SCRUB_RUNNING;
	s->phase = SCRUB_SUPER;
	s->run++;
	s->generation = pool->generation;
	s->cursor = s->volume = s->next_ms = 0;
	s->found_count = s->named_count = s->suspect_count = 0;
	s->naming = s->rewrite_count = 0;
	s->stat = (struct thin_scrub_stat){
		.total_bytes = (pool->space.alloc_count + 4) * FMT_BLOCK,
	};
	s->started_ms = pool->now_ms;
	pool_wake_stalled(pool);
	return 0;
}

void thin_scrub_stop(struct thin_pool *pool)
{
	if (pool->scrub && pool->scrub->state == THIN_SCRUB_RUNNING)
		over(pool->scrub, THIN_SCRUB_STOPPED);
}

void thin_scrub_stat(const struct thin_pool *pool, struct thin_scrub_stat *ret_stat)
{
	const struct scrub *s = pool->scrub;

	*ret_stat = s ? s->stat : (struct thin_scrub_stat){ 0 };
	ret_stat->state = s ? s->state : THIN_SCRUB_NEVER;
	ret_stat->running = ret_stat->state == THIN_SCRUB_RUNNING;
	if (ret_stat->state == THIN_SCRUB_RUNNING)
		ret_stat->took_ms = pool->now_ms - s->started_ms;
	/* what came since the beginning is read as well, now and then */
	if (ret_stat->total_bytes < ret_stat->checked_bytes || ret_stat->state == THIN_SCRUB_DONE)
		ret_stat->total_bytes = ret_stat->checked_bytes;
}

int thin_scrub_find(const struct thin_pool *pool, uint32_t index, struct thin_scrub_find *ret_find)
{
	if (!pool->scrub || index >= pool->scrub->found_count)
		return -ENOENT;
	*ret_find = pool->scrub->found[index].find;
	return 0;
}
