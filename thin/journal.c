/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The intent log; rules and pictures in journal.h.  Thread: the pool's. */
#include "thin/journal.h"

#include <errno.h>
#include <string.h>

#include "thin/memory.h"
#include "thin/pool.h"
#include "thin/thin.h"

static_assert((JOURNAL_SLOTS + 1) * FMT_BLOCK <= THIN_SHADOW_BYTES, "shadow area");

static uint8_t *buffer_of(const struct journal *j, uint64_t seq)
{
	return j->buffers + seq % JOURNAL_SLOTS * FMT_BLOCK;
}

static struct fmt_log_head *head_of(const struct journal *j, uint64_t seq)
{
	return (struct fmt_log_head *)buffer_of(j, seq);
}

static struct journal_page *page_of(struct journal *j, uint64_t seq)
{
	return &j->page[seq % JOURNAL_SLOTS];
}

static uint32_t slots_used(const struct journal *j)
{
	return le32_get(head_of(j, j->seq)->slots);
}

int journal_init(struct thin_pool *pool, uint64_t pages, void *shadow)
{
	struct journal *j = &pool->journal;

	j->pages = pages;
	STAILQ_INIT(&j->waiters);
	if (!shadow) {
		j->own_buffers = memory_map(THIN_SHADOW_BYTES);
		if (!j->own_buffers)
			return -ENOMEM;
	}
	j->shadow = shadow;
	j->buffers = (uint8_t *)(shadow ? shadow : j->own_buffers) + FMT_BLOCK;
	for (unsigned i = 0; i < JOURNAL_SLOTS; i++)
		j->page[i].pool = pool;
	return 0;
}

void journal_fini(struct thin_pool *pool)
{
	memory_unmap(pool->journal.own_buffers, THIN_SHADOW_BYTES);
}

/*
 * Make the buffer of page `seq` the open one.  The shadow's open_seq is set last: until then a
 * successor takes the old open page, which by now is sealed and valid in itself.
 */
static void open_page(struct thin_pool *pool)
{
	struct journal *j = &pool->journal;
	struct fmt_log_head *h = head_of(j, j->seq);

	assert(!page_of(j, j->seq)->busy);
	memset(h, 0, FMT_BLOCK);
	h->magic = le32_put(FMT_LOG_MAGIC);
	memcpy(h->pool_id, pool->id, sizeof(h->pool_id));
	h->nonce = le64_put(j->nonce);
	h->seq = le64_put(j->seq);
	h->pred = le32_put(j->pred);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	if (j->shadow)
		__atomic_store_n(&j->shadow->open_seq, j->seq, __ATOMIC_RELEASE);
}

void journal_restart(struct thin_pool *pool, uint64_t nonce, uint64_t seq, uint32_t pred)
{
	struct journal *j = &pool->journal;

	j->nonce = nonce;
	j->start = j->seq = seq;
	j->pred = pred;
	j->compl = j->flushed = seq - 1;
	j->records_unflushed = false;
	j->bytes_unflushed = 0;
	stage_restart(pool, nonce);
	if (j->shadow) {
		struct fmt_shadow *s = j->shadow;

		memset(s->magic, 0, sizeof(s->magic));
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		memcpy(s->pool_id, pool->id, sizeof(s->pool_id));
		s->nonce = nonce;
		open_page(pool);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		memcpy(s->magic, FMT_SHADOW_MAGIC, sizeof(s->magic));
	} else {
		open_page(pool);
	}
}

/* ---- room ---- */

static uint64_t free_pages(const struct journal *j)
{
	return j->pages - (j->seq - j->start);
}

uint64_t journal_room_records(const struct thin_pool *pool)
{
	const struct journal *j = &pool->journal;
	uint64_t pages = free_pages(j), records;

	if (pages <= JOURNAL_RESERVE_PAGES)
		return 0;
	records = (pages - JOURNAL_RESERVE_PAGES) * FMT_LOG_SLOTS;
	return records > j->admitted_records ? records - j->admitted_records : 0;
}

bool journal_room_op(const struct thin_pool *pool)
{
	const struct journal *j = &pool->journal;
	uint64_t admitted = j->admitted_records / FMT_LOG_SLOTS + 1;

	return free_pages(j) > admitted + JOURNAL_RESERVE_PAGES - 2 &&
	       !j->page[(j->seq + 1) % JOURNAL_SLOTS].busy &&
	       !j->page[(j->seq + 2) % JOURNAL_SLOTS].busy;
}

bool journal_can_append(const struct thin_pool *pool)
{
	const struct journal *j = &pool->journal;

	return !j->page[(j->seq + 1) % JOURNAL_SLOTS].busy && free_pages(j) > 1;
}

/* ---- appending ---- */

static void page_written(struct dev_io *io)
{
	struct journal_page *p = io->user;
	struct journal *j = &p->pool->journal;

	p->busy = false;
	if (io->res) {
		pool_fail(p->pool, io->res, "log page");
		return;
	}
	while (j->compl +1 < j->seq && !page_of(j, j->compl +1)->busy)
		j->compl ++;
	pool_wake_stalled(p->pool);
}

static void seal_open_page(struct thin_pool *pool)
{
	struct journal *j = &pool->journal;
	struct journal_page *p = page_of(j, j->seq);
	struct fmt_log_head *h = head_of(j, j->seq);
	uint64_t seq = j->seq;

	assert(free_pages(j) > 0);
	h->flushed = le64_put(j->flushed);
	h->crc = le32_put(0);
	j->pred = pool_crc(h, FMT_BLOCK);
	h->crc = le32_put(j->pred);
	p->busy = true;
	p->seq = seq;
	p->iov = (struct iovec){ h, FMT_BLOCK };
	p->io = (struct dev_io){ .op = DEV_WRITE,
				 .offset = journal_page_pblk(j->pages, seq).n * FMT_BLOCK,
				 .len = FMT_BLOCK,
				 .iov = &p->iov,
				 .iov_count = 1,
				 .done = page_written,
				 .user = p };
	j->seq++;
	open_page(pool);
	pool->stat.log_bytes += FMT_BLOCK;
	pool_submit_io(pool, &p->io);
}

/* `count` slots at the end of the open page, filled by the caller before slots_commit(). */
static void *slots_reserve(struct journal *j, uint32_t count)
{
	uint32_t used = slots_used(j);

	assert(used + count <= FMT_LOG_SLOTS);
	return buffer_of(j, j->seq) + sizeof(struct fmt_log_head) + used * FMT_LOG_SLOT;
}

/* The count is stored behind the content: a successor that finds it finds the content. */
static void slots_commit(struct thin_pool *pool, uint32_t count)
{
	struct journal *j = &pool->journal;
	struct fmt_log_head *h = head_of(j, j->seq);

	__atomic_thread_fence(__ATOMIC_RELEASE);
	h->slots = le32_put(le32_get(h->slots) + count);
	j->slots_since += count;
	if (j->eager) /* in vain */
		j->flush_habit = 0;
	j->eager = false;
	if (!j->records_unflushed) {
		j->records_unflushed = true;
		j->first_record_ms = pool->now_ms;
	}
}

uint64_t journal_block(struct thin_pool *pool, unsigned type, uint64_t volume, struct vblk v,
		       struct ent e)
{
	struct journal *j = &pool->journal;
	struct fmt_log_block *b = slots_reserve(j, 1);
	uint64_t seq = j->seq;

	*b = (struct fmt_log_block){ .volume = le64_put(volume),
				     .key = le64_put((uint64_t)type << 56 | v.n),
				     .where = le64_put(e.where),
				     .birth = le32_put(e.birth),
				     .crc = le32_put(e.crc) };
	slots_commit(pool, 1);
	if (slots_used(j) == FMT_LOG_SLOTS)
		seal_open_page(pool);
	return seq;
}

/*
 * An operation is one fragment if it fits into the open page, else two: what is left of this page
 * and the rest in the next.  It must not be found in part, so its slots are committed together;
 * with two fragments the first page is sealed behind its own and counts only with the second.
 */
uint64_t journal_op(struct thin_pool *pool, const void *payload, uint32_t len)
{
	struct journal *j = &pool->journal;
	uint32_t need = 1 + (len + FMT_LOG_SLOT - 1) / FMT_LOG_SLOT;
	uint32_t room = FMT_LOG_SLOTS - slots_used(j);
	uint32_t first = len, done = 0;
	uint16_t fragments = 1;
	uint64_t seq = 0;

	assert(len <= FMT_OP_MAX && room > 0);
	if (need > room) {
		fragments = 2;
		first = (room - 1) * FMT_LOG_SLOT;
	}
	j->op_id++;
	for (uint16_t f = 0; f < fragments; f++) {
		uint32_t here = f ? len - first : first;
		uint32_t slots = 1 + (here + FMT_LOG_SLOT - 1) / FMT_LOG_SLOT;
		struct fmt_log_op *op = slots_reserve(j, slots);

		*op = (struct fmt_log_op){ .op_id = le64_put(j->op_id),
					   .key = le64_put((uint64_t)FMT_SLOT_OP << 56),
					   .fragment = le16_put(f),
					   .fragments = le16_put(fragments),
					   .here = le16_put((uint16_t)here),
					   .total = le16_put((uint16_t)len),
					   .generation = le32_put(pool->generation) };
		memcpy(op + 1, (const uint8_t *)payload + done, here);
		done += here;
		slots_commit(pool, slots);
		seq = j->seq;
		if (slots_used(j) == FMT_LOG_SLOTS)
			seal_open_page(pool);
	}
	return seq;
}

uint64_t journal_seal(struct thin_pool *pool)
{
	if (slots_used(&pool->journal))
		seal_open_page(pool);
	return pool->journal.seq - 1;
}

/* ---- commit ---- */

bool journal_is_durable(const struct thin_pool *pool)
{
	return !pool->journal.records_unflushed && !pool->journal.committing;
}

void journal_wait(struct thin_pool *pool, struct journal_waiter *waiter)
{
	struct journal *j = &pool->journal;

	waiter->seq = slots_used(j) ? j->seq : j->seq - 1;
	STAILQ_INSERT_TAIL(&j->waiters, waiter, link);
}

static void answer(struct thin_pool *pool, uint64_t seq, int res)
{
	struct journal *j = &pool->journal;
	struct journal_waiter *w;

	/* waiters are in order of their pages */
	while ((w = STAILQ_FIRST(&j->waiters)) && w->seq <= seq) {
		STAILQ_REMOVE_HEAD(&j->waiters, link);
		w->done(pool, w, res);
	}
}

static void flush_done(struct dev_io *io)
{
	struct thin_pool *pool = io->user;
	struct journal *j = &pool->journal;

	j->committing = j->flushing = false;
	if (io->res) {
		pool_fail(pool, io->res, "flush");
		return;
	}
	if (pool->failed)
		return;
	if (j->flushed < j->target) /* a checkpoint may have been faster */
		j->flushed = j->target;
	pool->stat.commits++;
	space_flushed(&pool->space, j->flushed);
	pool_wake_stalled(pool);
}

static void flush_start(struct thin_pool *pool)
{
	struct journal *j = &pool->journal;

	j->flushing = true;
	j->flush_io = (struct dev_io){ .op = DEV_FLUSH, .done = flush_done, .user = pool };
	pool->stat.flushes++;
	pool_submit_io(pool, &j->flush_io);
}

/* A seal may use a page only if the records already admitted still fit behind it. */
static bool room_to_seal(const struct thin_pool *pool)
{
	const struct journal *j = &pool->journal;
	uint64_t admitted = (j->admitted_records + FMT_LOG_SLOTS - 1) / FMT_LOG_SLOTS;

	return journal_can_append(pool) && free_pages(j) > admitted + 2;
}

static bool commit_wanted(const struct thin_pool *pool)
{
	const struct journal *j = &pool->journal;
	const struct journal_waiter *w = STAILQ_FIRST(&j->waiters);

	if (w && w->seq > j->flushed)
		return true;
	if (!j->records_unflushed)
		return false;
	return j->bytes_unflushed >= pool->commit_bytes ||
	       pool->now_ms >= j->first_record_ms + pool->commit_ms ||
	       space_room_logged(&pool->space) < pool->space.logged.capacity / 2;
}

void journal_flush_asked(struct thin_pool *pool)
{
	struct journal *j = &pool->journal;

	if (!j->slots_since)
		return;
	if (j->admitted_records || j->slots_since != j->habit_slots ||
	    j->slots_since > JOURNAL_HABIT_SLOTS)
		j->flush_habit = 0;
	else if (j->flush_habit < JOURNAL_HABIT)
		j->flush_habit++;
	j->habit_slots = j->slots_since;
	j->slots_since = 0;
	j->eager = false;
}

/* The client's next request is going to be a FLUSH of what has just been published. */
static bool flush_expected(const struct thin_pool *pool)
{
	const struct journal *j = &pool->journal;

	return j->flush_habit >= JOURNAL_HABIT && j->slots_since == j->habit_slots &&
	       !j->admitted_records && j->records_unflushed && STAILQ_EMPTY(&j->waiters);
}

static void commit_start(struct thin_pool *pool)
{
	struct journal *j = &pool->journal;

	if (slots_used(j) && !room_to_seal(pool)) {
		pool_need_checkpoint(pool);
		return;
	}
	j->target = journal_seal(pool);
	j->target_staged = pool->stage.numbered;
	j->committing = true;
	j->records_unflushed = false;
	j->bytes_unflushed = 0;
}

void journal_run(struct thin_pool *pool)
{
	struct journal *j = &pool->journal;

	answer(pool, j->flushed, 0);
	if (!j->committing && !pool->failed && commit_wanted(pool)) {
		commit_start(pool);
	} else if (!j->committing && !pool->failed && flush_expected(pool)) {
		commit_start(pool);
		j->eager = j->committing;
	}
	if (j->committing && !j->flushing && j->flushed >= j->target)
		j->committing = false; /* a checkpoint has done it */
	if (j->committing && !j->flushing && j->compl >= j->target &&
	    pool->stage.written >= j->target_staged && !checkpoint_flushing(pool))
		flush_start(pool);
}

void journal_kick(struct thin_pool *pool)
{
	if (pool->journal.records_unflushed)
		pool->journal.first_record_ms = 0;
}

void journal_trim(struct thin_pool *pool, uint64_t start)
{
	struct journal *j = &pool->journal;

	assert(start >= j->start && start <= j->seq);
	j->start = start;
	/* pages in front of a durable cut need no flush any more */
	if (j->flushed < start - 1)
		j->flushed = start - 1;
	if (j->seq == start && !slots_used(j))
		j->records_unflushed = false;
	pool_wake_stalled(pool);
}

void journal_fail(struct thin_pool *pool, int res)
{
	answer(pool, UINT64_MAX, res);
}

int journal_page_check(const void *page, const uint8_t pool_id[16], uint64_t nonce)
{
	uint8_t copy[FMT_BLOCK];
	struct fmt_log_head *h = (struct fmt_log_head *)copy;
	uint32_t crc;

	memcpy(copy, page, sizeof(copy));
	if (le32_get(h->magic) != FMT_LOG_MAGIC || memcmp(h->pool_id, pool_id, 16) ||
	    le64_get(h->nonce) != nonce || le32_get(h->slots) > FMT_LOG_SLOTS)
		return -EUCLEAN;
	crc = le32_get(h->crc);
	h->crc = le32_put(0);
	return pool_crc(copy, sizeof(copy)) == crc ? 0 : -EUCLEAN;
}
