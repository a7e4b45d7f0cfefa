/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A pool: building it in memory, its turn of the loop, its small services; see pool.h. */
#include "thin/pool.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/base/cleanup.h"
#include "thin/punch.h"
#include "thin/recover.h"
#include "thin/super.h"

#define DEFAULT_NODE_CACHE   (64ull << 20)
#define DEFAULT_BUFFERS	     (32ull << 20)
#define DEFAULT_COMMIT_BYTES (64ull << 20)
#define DEFAULT_COMMIT_MS    1000u
#define IDLE_CHECKPOINT_MS   2000u /* nothing asked for this long: checkpoint what there is */
/* Kept from new data for the nodes above promised blocks: a 64th, so much at least, at most */
#define BLOCK_MARGIN_MIN 8u
#define BLOCK_MARGIN_MAX 4096u
#define NODES_MIN	 256u
#define HELD_MIN	 (64ull << 10) /* entries of the rings of held blocks */
#define WALK_LEAVES_TURN 32u	       /* at 5 us each, and as much to answer */
#define ROUNDS_PER_TURN	 16u
#define LOW_SPACE_SHARE	 16u /* low water: less than 1/16 of the blocks free */

/* ---- small services ---- */

static uint64_t splitmix(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

uint64_t pool_random(struct thin_pool *pool)
{
	return splitmix(&pool->random);
}

static uint64_t random_seed(uint64_t seed)
{
	if (!seed && getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
		seed = (uint64_t)(uintptr_t)&seed ^ 0x5bd1e995;
	return seed;
}

void pool_event(struct thin_pool *pool, enum thin_event_kind kind, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;

	if (!pool->event)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	pool->event(pool->event_user, kind, text);
}

void pool_damage(struct thin_pool *pool, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;

	pool->stat.checksum_errors++;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	pool_event(pool, THIN_EVENT_DAMAGE, "%s", text);
}

void pool_fail(struct thin_pool *pool, int res, const char *what)
{
	if (pool->failed)
		return;
	pool->failed = pool->read_only = true;
	pool_event(pool, THIN_EVENT_READ_ONLY,
		   "%s failed: %s; the pool is read-only until it is opened again", what,
		   strerror(-res));
	journal_fail(pool, -EIO);
	pool_wake_stalled(pool);
}

void pool_host_full(struct thin_pool *pool)
{
	if (!pool->host_full)
		pool_event(pool, THIN_EVENT_FULL,
			   "the file system under the pool is full: new data is refused until "
			   "there is room");
	pool->host_full = true;
	pool_wake_stalled(pool);
}

static void io_done(struct dev_io *io)
{
	struct thin_pool *pool = io->layer;

	pool->busy_io--;
	io->then(io);
}

/* Counted, so that closing can wait for the last one whatever has failed meanwhile. */
void pool_submit_io(struct thin_pool *pool, struct dev_io *io)
{
	io->then = io->done;
	io->done = io_done;
	io->layer = pool;
	pool->busy_io++;
	if (io->op != DEV_READ || !stage_delays(pool, io))
		pool->dev->ops->submit(pool->dev, io);
}

static void blocking_done(struct dev_io *io)
{
	*(bool *)io->user = true;
}

int pool_do_io(struct thin_pool *pool, struct dev_io *io)
{
	bool done = false;

	io->done = blocking_done;
	io->user = &done;
	pool_submit_io(pool, io);
	while (!done)
		pool->dev->ops->wait(pool->dev);
	return io->res;
}

int pool_read_block(struct thin_pool *pool, struct pblk at, void *block)
{
	struct iovec iov = { block, FMT_BLOCK };
	struct dev_io io = { .op = DEV_READ,
			     .offset = at.n * FMT_BLOCK,
			     .len = FMT_BLOCK,
			     .iov = &iov,
			     .iov_count = 1 };

	return pool_do_io(pool, &io);
}

void pool_free_metadata(struct thin_pool *pool, struct pblk at)
{
	space_free_at_checkpoint(&pool->space, at, pool->checkpoint + 1);
	pool->metadata_blocks--;
}

/* ---- tasks ---- */

void pool_wake_task(struct thin_pool *pool, struct task *task)
{
	STAILQ_INSERT_TAIL(&pool->runnable, task, link);
}

void pool_wake_list(struct thin_pool *pool, struct task_list *list)
{
	STAILQ_CONCAT(&pool->runnable, list);
}

void pool_stall(struct thin_pool *pool, struct task *task)
{
	STAILQ_INSERT_TAIL(&pool->stalled, task, link);
}

int pool_stall_or_fail(struct thin_pool *pool, struct task *task)
{
	if (!task)
		return -ENOBUFS;
	pool_stall(pool, task);
	return -EAGAIN;
}

bool pool_may_walk(struct thin_pool *pool, struct task *task)
{
	if (pool->walk_left) {
		pool->walk_left--;
		return true;
	}
	STAILQ_INSERT_TAIL(&pool->walkers, task, link);
	return false;
}

void pool_wake_stalled(struct thin_pool *pool)
{
	pool->wake = true;
}

static void run_tasks(struct thin_pool *pool)
{
	struct task *t;

	if (pool->wake) {
		pool->wake = false;
		pool_wake_list(pool, &pool->stalled);
	}
	while ((t = STAILQ_FIRST(&pool->runnable))) {
		STAILQ_REMOVE_HEAD(&pool->runnable, link);
		t->step(pool, t);
	}
}

/* ---- admission ---- */

bool pool_nodes_available(const struct thin_pool *pool, uint64_t count)
{
	const struct node_cache *nc = &pool->nodes;
	uint64_t held = (uint64_t)nc->dirty_count + nc->writing_count + nc->loading_count +
			pool->catalog.slot_count / FMT_NODE_ENTRIES + 2 * FMT_HEIGHT_MAX;

	return nc->count >= held + count;
}

bool pool_nodes_for(const struct thin_pool *pool, uint64_t nodes)
{
	return pool->nodes.made_count + pool->admitted_nodes + nodes <= pool->dirty_limit &&
	       pool_nodes_available(pool, pool->admitted_nodes + nodes);
}

uint64_t pool_spare_blocks(const struct thin_pool *pool)
{
	uint64_t reserve = pool->admitted_blocks + pool->nodes.dirty_count + pool->admitted_nodes +
			   catalog_cut_blocks(pool);
	uint64_t free_blocks = space_free_count(&pool->space);

	return free_blocks > reserve ? free_blocks - reserve : 0;
}

bool pool_space_for(const struct thin_pool *pool, uint64_t blocks, uint64_t nodes)
{
	return pool_spare_blocks(pool) >= blocks + nodes;
}

/* ---- building ---- */

int pool_alloc(struct thin_dev *dev, uint64_t zone_end, uint64_t log_pages, uint32_t zone_blocks,
	       const struct thin_open *params, struct thin_pool **ret_pool)
{
	uint64_t cache = params->node_cache_bytes ? params->node_cache_bytes : DEFAULT_NODE_CACHE;
	uint64_t buffers = params->buffer_bytes ? params->buffer_bytes : DEFAULT_BUFFERS;
	struct thin_pool *p = calloc(1, sizeof(*p));
	struct space_held_room held;

	if (!p)
		return -ENOMEM;
	p->dev = dev;
	p->now_ms = params->now_ms;
	p->random = random_seed(params->seed);
	p->log_pages = log_pages;
	p->zone_end = zone_end;
	p->tiny = zone_blocks != FMT_ZONE_BLOCKS;
	p->event = params->event;
	p->event_user = params->event_user;
	p->read_only = params->read_only || params->salvage;
	p->accept_damage = params->accept_damage;
	p->salvage = params->salvage;
	p->commit_bytes = params->commit_bytes ? params->commit_bytes : DEFAULT_COMMIT_BYTES;
	p->commit_ms = params->commit_ms ? params->commit_ms : DEFAULT_COMMIT_MS;
	p->checkpoint_pages = params->checkpoint_log_bytes / FMT_BLOCK;
	if (!p->checkpoint_pages || p->checkpoint_pages > log_pages / 2)
		p->checkpoint_pages = log_pages / 2;
	STAILQ_INIT(&p->runnable);
	STAILQ_INIT(&p->walkers);
	STAILQ_INIT(&p->stalled);
	catalog_init(&p->catalog);
	reclaim_init(p);
	lineage_init(p);
	/* never more nodes than blocks that could hold them: a small pool opens fast */
	if (cache > (zone_end + NODES_MIN) * (FMT_BLOCK + sizeof(struct node)))
		cache = (zone_end + NODES_MIN) * (FMT_BLOCK + sizeof(struct node));
	if (node_cache_init(p, cache))
		goto fail;
	p->dirty_limit = p->nodes.count / 3;
	held.logged = HELD_MIN + 4 * (p->commit_bytes / FMT_BLOCK);
	held.checkpointed = HELD_MIN + 2ull * p->nodes.count;
	if (space_init(&p->space, zone_end, log_pages, zone_blocks, &held) ||
	    journal_init(p, log_pages, params->shadow) || checkpoint_init(p) ||
	    io_init(p, buffers) || data_cache_init(&p->data, params->data_cache_bytes, &p->asked) ||
	    ahead_init(p, params->ahead_bytes))
		goto fail;
	stage_init(p, params->stage, params->stage_bytes);
	p->block_margin = p->space.block_count / 64 < BLOCK_MARGIN_MAX
				  ? p->space.block_count / 64 + BLOCK_MARGIN_MIN
				  : BLOCK_MARGIN_MAX;
	*ret_pool = p;
	return 0;
fail:
	pool_free(p);
	return -ENOMEM;
}

void pool_free(struct thin_pool *pool)
{
	scrub_free(pool->scrub);
	data_cache_fini(&pool->data);
	ahead_fini(pool);
	io_fini(pool);
	checkpoint_fini(pool);
	journal_fini(pool);
	space_fini(&pool->space);
	node_cache_fini(&pool->nodes);
	catalog_fini(&pool->catalog);
	free(pool);
}

/* ---- the turn ---- */

void pool_want_checkpoint(struct thin_pool *pool)
{
	pool->ck.wanted = true;
}

void pool_need_checkpoint(struct thin_pool *pool)
{
	if (!pool->ck.active)
		pool->ck.wanted = true;
}

static bool anything_to_checkpoint(const struct thin_pool *pool)
{
	return pool->nodes.dirty_count || pool->catalog.dirty_count || pool->reclaim.changed ||
	       pool->space.checkpointed.head != pool->space.checkpointed.tail ||
	       pool->journal.seq != pool->journal.start || pool->journal.records_unflushed;
}

static bool idle_for(const struct thin_pool *pool, uint64_t ms)
{
	return pool->io.requests == 0 && pool->now_ms >= pool->last_active_ms + ms;
}

static bool checkpoint_due(const struct thin_pool *pool)
{
	const struct journal *j = &pool->journal;

	if (pool->ck.wanted || j->seq - j->start >= pool->checkpoint_pages ||
	    pool->nodes.made_count > pool->dirty_limit / 2)
		return true;
	return idle_for(pool, IDLE_CHECKPOINT_MS) && !pool_gives_back(pool) &&
	       anything_to_checkpoint(pool);
}

static void maybe_checkpoint(struct thin_pool *pool)
{
	if (pool->ck.active || pool->grow.active || pool->read_only || !checkpoint_due(pool) ||
	    !journal_can_append(pool))
		return;
	checkpoint_start(pool);
}

static void watch_space(struct thin_pool *pool)
{
	uint64_t low = pool->space.block_count / LOW_SPACE_SHARE;
	uint64_t free_now = pool->space.block_count - pool->space.alloc_count;

	if (!pool->low_space && free_now < low) {
		pool->low_space = true;
		pool_event(pool, THIN_EVENT_LOW_SPACE, "low on space: %llu MiB of %llu MiB free",
			   (unsigned long long)(free_now >> 8),
			   (unsigned long long)(pool->space.block_count >> 8));
	} else if (pool->low_space && free_now > low + low / 4) {
		pool->low_space = false;
	}
}

void thin_pool_run(struct thin_pool *pool, uint64_t now_ms)
{
	pool->now_ms = now_ms;
	pool->walk_left = WALK_LEAVES_TURN;
	pool_wake_list(pool, &pool->walkers);
	pace_turn(pool);
	lineage_run(pool);
	scrub_run(pool);
	for (unsigned round = 0; round < ROUNDS_PER_TURN; round++) {
		run_tasks(pool);
		batch_turn_over(pool);
		reclaim_run(pool);
		stage_run(pool);
		journal_run(pool);
		maybe_checkpoint(pool);
		checkpoint_run(pool);
		punch_run(pool, idle_for(pool, PUNCH_IDLE_MS));
		ahead_run(pool);
		io_answer(pool);
		if (!pool->wake && STAILQ_EMPTY(&pool->runnable))
			break;
	}
	batch_turn_over(pool); /* commits and checkpoints may have begun */
	watch_space(pool);
	pool->dev->ops->kick(pool->dev);
}

static bool gives_back(const struct thin_pool *pool)
{
	return reclaim_runs(pool) || lineage_runs(pool);
}

static bool work_left(const struct thin_pool *pool)
{
	return pool->wake || !STAILQ_EMPTY(&pool->runnable) || !STAILQ_EMPTY(&pool->walkers) ||
	       (gives_back(pool) && pace_allows(pool)) || scrub_runs(pool);
}

static uint64_t lesser(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

uint64_t thin_pool_deadline_ms(const struct thin_pool *pool)
{
	uint64_t due = UINT64_MAX;

	if (work_left(pool))
		return pool->now_ms;
	due = scrub_deadline_ms(pool);
	if (pool->read_only)
		return due;
	due = lesser(due, lesser(checkpoint_deadline_ms(pool), ahead_deadline_ms(pool)));
	due = lesser(due, stage_deadline_ms(pool));
	due = lesser(due, lineage_deadline_ms(pool));
	if (gives_back(pool))
		due = lesser(due, pace_deadline_ms(pool));
	if (pool->journal.records_unflushed)
		due = lesser(due, pool->journal.first_record_ms + pool->commit_ms);
	if (pool->io.requests || pool->ck.active)
		return due; /* a completion comes */
	if (!pool_gives_back(pool) && anything_to_checkpoint(pool))
		due = lesser(due, pool->last_active_ms + IDLE_CHECKPOINT_MS);
	if (punch_wanted(pool))
		due = lesser(due, pool->last_active_ms + PUNCH_IDLE_MS);
	return due;
}

bool thin_pool_awaits_device(const struct thin_pool *pool)
{
	return pool->busy_io && (pool->io.requests || pool->journal.committing);
}

bool thin_pool_idle(const struct thin_pool *pool)
{
	if (scrub_active(pool))
		return false;
	if (pool->read_only) /* what is due stays so */
		return !work_left(pool) && pool->io.requests == 0 && pool->busy_io == 0;
	return !work_left(pool) && pool->io.requests == 0 && !pool->ck.active &&
	       !pool->punch.busy && !pool->ahead.busy && journal_is_durable(pool) &&
	       !pool_gives_back(pool) && !pool->ck.wanted &&
	       lineage_deadline_ms(pool) == UINT64_MAX;
}

/* Whether the device owes us a completion that the loop would wait for. */
static void run_blocking(struct thin_pool *pool)
{
	thin_pool_run(pool, pool->now_ms);
	if (pool->dev->ops->poll(pool->dev) == 0 && !work_left(pool))
		pool->dev->ops->wait(pool->dev);
}

int pool_run_until(struct thin_pool *pool, const bool *flag)
{
	while (*flag && !pool->failed)
		run_blocking(pool);
	return pool->failed ? -EIO : 0;
}

/* ---- creating ---- */

static int zero_log(struct thin_pool *pool)
{
	uint64_t len = pool->log_pages * FMT_BLOCK, chunk = 1 << 20;
	CLEANUP_FREE void *zeroes = NULL;

	if (posix_memalign(&zeroes, FMT_BLOCK, chunk))
		return -ENOMEM;
	memset(zeroes, 0, chunk);
	for (uint64_t at = 0; at < len; at += chunk) {
		struct iovec iov = { zeroes, len - at < chunk ? len - at : chunk };
		struct dev_io io = { .op = DEV_WRITE,
				     .offset = FMT_LOG_FIRST * FMT_BLOCK + at,
				     .len = iov.iov_len,
				     .iov = &iov,
				     .iov_count = 1 };
		int r = pool_do_io(pool, &io);

		if (r)
			return r;
	}
	return 0;
}

static uint64_t default_journal(uint64_t size_bytes)
{
	uint64_t journal = size_bytes / 64;

	if (journal < THIN_JOURNAL_MIN)
		return THIN_JOURNAL_MIN;
	return journal < (256ull << 20) ? journal : 256ull << 20;
}

static int check_sizes(const struct thin_dev *dev, const struct thin_create *params, uint64_t size,
		       uint64_t journal, struct err *err)
{
	uint64_t pool_min = params->tiny ? 128 * FMT_BLOCK : THIN_POOL_MIN;
	uint64_t journal_min = params->tiny ? 8 * FMT_BLOCK : THIN_JOURNAL_MIN;

	if (size < pool_min || size > THIN_POOL_MAX)
		return err_set(err, -EINVAL, "a pool has %llu MiB to %llu TiB, not %llu bytes",
			       (unsigned long long)(pool_min >> 20), THIN_POOL_MAX >> 40,
			       (unsigned long long)size);
	if (size > dev->size_bytes)
		return err_set(err, -EINVAL, "the pool (%llu bytes) does not fit the device (%llu)",
			       (unsigned long long)size, (unsigned long long)dev->size_bytes);
	if (journal < journal_min || journal > THIN_JOURNAL_MAX || journal > size / 2)
		return err_set(err, -EINVAL,
			       "a journal has %llu bytes to 4 GiB and at most half the pool, not "
			       "%llu bytes",
			       (unsigned long long)journal_min, (unsigned long long)journal);
	return 0;
}

/* Two checkpoints, so that both superblock slots are valid. */
static int write_empty(struct thin_pool *pool)
{
	int r = catalog_reserve_slots(&pool->catalog, 1);

	if (!r)
		r = catalog_cover_zones(&pool->catalog, pool->space.zone_count);
	if (!r)
		r = zero_log(pool);
	if (r)
		return r;
	pool->slot = 1;
	pool->generation = 1;
	journal_restart(pool, pool_random(pool), 1, 0);
	for (int i = 0; i < 2 && !r; i++) {
		checkpoint_start(pool);
		r = pool_run_until(pool, &pool->ck.active);
	}
	return r;
}

int thin_pool_create(struct thin_dev *dev, const struct thin_create *params, struct err *err)
{
	uint64_t size =
		(params->size_bytes ? params->size_bytes : dev->size_bytes) / FMT_BLOCK * FMT_BLOCK;
	uint64_t journal = (params->journal_bytes ? params->journal_bytes : default_journal(size)) /
			   FMT_BLOCK * FMT_BLOCK;
	struct thin_open open = { .seed = params->seed, .node_cache_bytes = THIN_NODE_CACHE_MIN };
	uint32_t zone = params->tiny ? 64 : FMT_ZONE_BLOCKS;
	uint64_t id[2];
	struct thin_pool *pool;
	int r = check_sizes(dev, params, size, journal, err);

	if (r)
		return r;
	r = pool_alloc(dev, size / FMT_BLOCK - 2, journal / FMT_BLOCK, zone, &open, &pool);
	if (r)
		return err_set(err, r, "out of memory");
	pool->size_blocks = size / FMT_BLOCK;
	pool->created_s = params->time_s;
	id[0] = pool_random(pool);
	id[1] = pool_random(pool);
	memcpy(pool->id, id, sizeof(pool->id));
	r = write_empty(pool);
	pool_free(pool);
	return r ? err_sys(err, r, "writing the empty pool") : 0;
}

/* ---- opening, closing, looking ---- */

int thin_pool_open(struct thin_dev *dev, const struct thin_open *params,
		   struct thin_pool **ret_pool, struct err *err)
{
	return recover_open(dev, params, ret_pool, err);
}

int thin_pool_close(struct thin_pool *pool)
{
	int r = 0;

	pool->closing = true;
	while (pool->io.requests)
		run_blocking(pool);
	if (!pool->read_only) {
		r = pool_run_until(pool, &pool->ck.active);
		while (!r && !journal_can_append(pool))
			run_blocking(pool);
		if (!r && anything_to_checkpoint(pool)) {
			checkpoint_start(pool);
			r = pool_run_until(pool, &pool->ck.active);
		}
	}
	while (pool->busy_io)
		pool->dev->ops->wait(pool->dev);
	pool_free(pool);
	return r;
}

void thin_pool_abandon(struct thin_pool *pool)
{
	pool_free(pool);
}

void thin_pool_stat(const struct thin_pool *pool, struct thin_pool_stat *ret_stat)
{
	const struct space *sp = &pool->space;

	*ret_stat = pool->stat;
	memcpy(ret_stat->id, pool->id, sizeof(ret_stat->id));
	ret_stat->size_bytes = pool->size_blocks * FMT_BLOCK;
	ret_stat->journal_bytes = pool->log_pages * FMT_BLOCK;
	ret_stat->block_count = sp->block_count;
	ret_stat->data_blocks = sp->alloc_count - pool->metadata_blocks - pool->reclaim_blocks;
	if (pool->salvage && ret_stat->data_blocks > sp->alloc_count)
		ret_stat->data_blocks = 0; /* bitmap pages may be left out */
	ret_stat->metadata_blocks = pool->metadata_blocks;
	ret_stat->reserved_blocks = pool->reserved_blocks + pool->promised_blocks;
	ret_stat->reclaim_blocks = pool->reclaim_blocks;
	ret_stat->free_blocks = sp->block_count - sp->alloc_count;
	ret_stat->generation = pool->generation;
	ret_stat->log_used_bytes = (pool->journal.seq - pool->journal.start) * FMT_BLOCK;
	ret_stat->volume_count = pool->catalog.volume_count;
	ret_stat->snapshot_count = pool->catalog.snapshot_count;
	ret_stat->deleted_count = pool->catalog.hidden_count;
	ret_stat->reclaim_trees = pool->reclaim.count;
	ret_stat->held_count = pool->lineage.held_count;
	ret_stat->held_blocks = pool->lineage.held_blocks;
	ret_stat->node_cache_bytes = pool->nodes.pages_bytes;
	ret_stat->node_dirty_count = pool->nodes.dirty_count;
	ret_stat->data_cache_bytes = pool->data.bytes;
	ret_stat->data_cached_bytes = data_cache_used(&pool->data) * FMT_BLOCK;
	thin_scrub_stat(pool, &ret_stat->scrub);
	ret_stat->read_only = pool->read_only;
	ret_stat->low_space = pool->low_space;
}
