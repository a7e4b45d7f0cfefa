/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An engine in memory; see fake_thin.h. */
#include "tests/lib/fake_thin.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define VOLS_MAX    64
#define RUNNING_MAX 65536

enum state { HOLE, PROVISIONED, DATA, SHARED };

struct fake_vol {
	uint64_t id, size_bytes;
	char name[THIN_PATH_MAX + 1];
	uint64_t of;		 /* a snapshot's volume */
	uint8_t *bytes, *states; /* sparse mappings */
	uint32_t open_count;
	struct thin_lock lock;
};

struct thin_vol {
	struct fake_vol *vol;
	uint32_t in_flight;
};

struct thin_pool {
	uint64_t random;
	struct fake_vol *vols[VOLS_MAX];
	size_t vol_count;
	uint64_t id_last;
	struct thin_req *first, **last;
	struct {
		struct thin_req *req;
		int res;
	} running[RUNNING_MAX];
	size_t running_count;
	bool hold, slow;
	void (*watch)(void *user, const struct thin_req *req);
	void *watch_user;
	struct {
		enum thin_op op;
		int res;
		unsigned count;
	} fail;
	struct fake_seen seen;
};

static uint64_t roll(struct thin_pool *pool)
{
	pool->random ^= pool->random << 13;
	pool->random ^= pool->random >> 7;
	pool->random ^= pool->random << 17;
	return pool->random;
}

static uint8_t *sparse(uint64_t size)
{
	uint8_t *p = mmap(NULL, size + 4096, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert(p != MAP_FAILED);
	return p;
}

struct thin_pool *fake_thin_new(uint64_t seed)
{
	struct thin_pool *pool = calloc(1, sizeof(*pool));

	assert(pool);
	pool->random = seed * 0x9e3779b97f4a7c15ull + 1;
	pool->last = &pool->first;
	return pool;
}

static void vol_free(struct fake_vol *vol)
{
	assert(!vol->open_count);
	munmap(vol->bytes, vol->size_bytes + 4096);
	munmap(vol->states, vol->size_bytes / THIN_BLOCK_SIZE + 4096);
	free(vol);
}

void fake_thin_free(struct thin_pool *pool)
{
	assert(!pool->first && !pool->running_count);
	while (pool->vol_count)
		vol_free(pool->vols[--pool->vol_count]);
	free(pool);
}

static int dev_poll(struct thin_dev *dev)
{
	return 0;
}

struct thin_dev *fake_thin_dev(void)
{
	static const struct thin_dev_ops ops = { .poll = dev_poll };
	static struct thin_dev dev = { .ops = &ops, .name = "fake" };

	return &dev;
}

static int find(const struct thin_pool *pool, const char *name)
{
	size_t i;

	for (i = 0; i < pool->vol_count; i++)
		if (!strcmp(pool->vols[i]->name, name))
			return (int)i;
	return -1;
}

void fake_thin_add(struct thin_pool *pool, const char *name, uint64_t size_bytes)
{
	struct fake_vol *vol = calloc(1, sizeof(*vol));

	assert(vol && pool->vol_count < VOLS_MAX && find(pool, name) < 0);
	vol->id = ++pool->id_last;
	vol->size_bytes = size_bytes;
	snprintf(vol->name, sizeof(vol->name), "%s", name);
	vol->bytes = sparse(size_bytes);
	vol->states = sparse(size_bytes / THIN_BLOCK_SIZE);
	pool->vols[pool->vol_count++] = vol;
}

uint8_t *fake_thin_bytes(struct thin_pool *pool, const char *name)
{
	assert(find(pool, name) >= 0);
	return pool->vols[find(pool, name)]->bytes;
}

static void set_states(struct fake_vol *vol, uint64_t offset, uint64_t len, enum state state)
{
	if (len)
		memset(vol->states + offset / THIN_BLOCK_SIZE, state,
		       (offset + len - 1) / THIN_BLOCK_SIZE - offset / THIN_BLOCK_SIZE + 1);
}

void fake_thin_mark(struct thin_pool *pool, const char *name, uint64_t offset, uint64_t len,
		    bool shared)
{
	assert(find(pool, name) >= 0);
	set_states(pool->vols[find(pool, name)], offset, len, shared ? SHARED : DATA);
}

void fake_thin_snapshot(struct thin_pool *pool, const char *name, const char *snap)
{
	char path[THIN_PATH_MAX + 1];
	struct fake_vol *vol, *copy;

	assert(find(pool, name) >= 0);
	vol = pool->vols[find(pool, name)];
	snprintf(path, sizeof(path), "%s@%s", name, snap);
	fake_thin_add(pool, path, vol->size_bytes);
	copy = pool->vols[pool->vol_count - 1];
	copy->of = vol->id;
	for (uint64_t i = 0; i < vol->size_bytes / THIN_BLOCK_SIZE; i++) {
		copy->states[i] = vol->states[i];
		if (vol->states[i] >= DATA)
			memcpy(copy->bytes + i * THIN_BLOCK_SIZE, vol->bytes + i * THIN_BLOCK_SIZE,
			       THIN_BLOCK_SIZE);
	}
}

const struct fake_seen *fake_thin_seen(const struct thin_pool *pool)
{
	return &pool->seen;
}

void fake_thin_fail(struct thin_pool *pool, enum thin_op op, int res, unsigned count)
{
	pool->fail.op = op;
	pool->fail.res = res;
	pool->fail.count = count;
}

void fake_thin_hold(struct thin_pool *pool, bool hold)
{
	pool->hold = hold;
}

void fake_thin_slow(struct thin_pool *pool, bool slow)
{
	pool->slow = slow;
}

void fake_thin_watch(struct thin_pool *pool, void (*watch)(void *user, const struct thin_req *req),
		     void *user)
{
	pool->watch = watch;
	pool->watch_user = user;
}

/* ---- volumes ---- */

static void fill_stat(const struct fake_vol *vol, struct thin_vol_stat *stat)
{
	const char *at = strchr(vol->name, '@');

	*stat = (struct thin_vol_stat){ .id = vol->id, .size_bytes = vol->size_bytes };
	snprintf(stat->name, sizeof(stat->name), "%.*s", (int)THIN_NAME_MAX,
		 at ? at + 1 : vol->name);
	stat->open_count = vol->open_count;
	snprintf(stat->path, sizeof(stat->path), "%s", vol->name);
	stat->of = vol->of;
	stat->state = vol->of ? THIN_VOL_SNAPSHOT : THIN_VOL_LIVE;
}

/* The next in order of names, a volume or a snapshot of `of`. */
static int next_of(const struct thin_pool *pool, uint64_t of, const char *after,
		   struct thin_vol_stat *ret_stat)
{
	struct thin_vol_stat stat;
	int rc = -ENOENT;

	for (size_t i = 0; i < pool->vol_count; i++) {
		fill_stat(pool->vols[i], &stat);
		if (stat.of != of || (after && strcmp(stat.name, after) <= 0) ||
		    (!rc && strcmp(stat.name, ret_stat->name) > 0))
			continue;
		*ret_stat = stat;
		rc = 0;
	}
	return rc;
}

int thin_vol_next(const struct thin_pool *pool, const char *after, struct thin_vol_stat *ret_stat)
{
	return next_of(pool, 0, after, ret_stat);
}

int thin_snapshot_next(const struct thin_pool *pool, uint64_t of, const char *after,
		       struct thin_vol_stat *ret_stat)
{
	return next_of(pool, of, after, ret_stat);
}

int thin_ancestor_next(const struct thin_pool *pool, uint64_t id, uint64_t of,
		       struct thin_vol_stat *ret_stat)
{
	return -ENOENT;
}

bool thin_lineage_related(const struct thin_pool *pool, uint64_t a, uint64_t b)
{
	return a == b;
}

int thin_lineage_next(const struct thin_pool *pool, uint64_t after, struct thin_vol_stat *ret_stat)
{
	const struct fake_vol *best = NULL;

	for (size_t i = 0; i < pool->vol_count; i++)
		if (pool->vols[i]->id > after && (!best || pool->vols[i]->id < best->id))
			best = pool->vols[i];
	if (!best)
		return -ENOENT;
	fill_stat(best, ret_stat);
	return 0;
}

int thin_vol_find(const struct thin_pool *pool, const char *name, struct thin_vol_stat *ret_stat)
{
	int i = find(pool, name);

	if (i < 0)
		return -ENOENT;
	fill_stat(pool->vols[i], ret_stat);
	return 0;
}

static struct fake_vol *by_id(const struct thin_pool *pool, uint64_t id)
{
	for (size_t i = 0; i < pool->vol_count; i++)
		if (pool->vols[i]->id == id)
			return pool->vols[i];
	return NULL;
}

int thin_lock_get(const struct thin_pool *pool, uint64_t id, struct thin_lock *ret_lock)
{
	const struct fake_vol *vol = by_id(pool, id);

	if (!vol)
		return -ENOENT;
	*ret_lock = vol->lock;
	return 0;
}

static int do_lock(struct thin_pool *pool, const struct thin_req *req)
{
	struct fake_vol *vol = by_id(pool, req->id);

	if (!vol)
		return -ENOENT;
	if (req->lock->epoch < vol->lock.epoch)
		return -ESTALE;
	vol->lock = *req->lock;
	return 0;
}

int thin_vol_open(struct thin_pool *pool, const char *name, struct thin_vol **ret_vol)
{
	int i = find(pool, name);
	struct thin_vol *vol;

	if (i < 0)
		return -ENOENT;
	vol = calloc(1, sizeof(*vol));
	assert(vol);
	vol->vol = pool->vols[i];
	vol->vol->open_count++;
	*ret_vol = vol;
	return 0;
}

void thin_vol_close(struct thin_vol *vol)
{
	if (!vol)
		return;
	assert(!vol->in_flight);
	vol->vol->open_count--;
	free(vol);
}

uint64_t thin_vol_size_bytes(const struct thin_vol *vol)
{
	return vol->vol->size_bytes;
}

void thin_vol_stat(const struct thin_vol *vol, struct thin_vol_stat *ret_stat)
{
	fill_stat(vol->vol, ret_stat);
}

uint32_t thin_heirs(const struct thin_pool *pool, uint64_t id, uint64_t *ids, uint32_t max,
		    uint32_t *looks)
{
	return 0;
}

void thin_pool_stat(const struct thin_pool *pool, struct thin_pool_stat *ret_stat)
{
	*ret_stat = (struct thin_pool_stat){ .volume_count = pool->vol_count };
}

/* ---- requests ---- */

static bool has_range(enum thin_op op)
{
	return op == THIN_READ || op == THIN_WRITE || op == THIN_ZERO || op == THIN_TRIM ||
	       op == THIN_STATUS || op == THIN_CACHE || op == THIN_DIFF;
}

/* The queue's link, in the part of the request that is the engine's. */
static struct thin_req **link_of(struct thin_req *req)
{
	return (struct thin_req **)&req->priv[0];
}

void thin_submit(struct thin_pool *pool, struct thin_req *req)
{
	if (has_range(req->op)) {
		uint64_t size = req->vol->vol->size_bytes;

		assert(req->offset <= size && req->len <= size - req->offset);
	}
	if (req->op == THIN_READ)
		assert(!(req->offset % THIN_BLOCK_SIZE) && !(req->len % THIN_BLOCK_SIZE) &&
		       !((uintptr_t)req->buf % THIN_BLOCK_SIZE));
	if (req->vol)
		req->vol->in_flight++;
	if (req->op == THIN_DIFF)
		req->base->in_flight++;
	pool->seen.submitted++;
	pool->seen.fua += !!(req->flags & THIN_FUA);
	pool->seen.flushes += req->op == THIN_FLUSH;
	pool->seen.last = *req;
	*link_of(req) = NULL;
	*pool->last = req;
	pool->last = link_of(req);
}

static void do_hole(struct fake_vol *vol, uint64_t offset, uint64_t len, enum state state)
{
	uint64_t from = (offset + THIN_BLOCK_SIZE - 1) / THIN_BLOCK_SIZE;
	uint64_t to = (offset + len) / THIN_BLOCK_SIZE, i;

	for (i = from; i < to; i++) {
		memset(vol->bytes + i * THIN_BLOCK_SIZE, 0, THIN_BLOCK_SIZE);
		vol->states[i] = state;
	}
}

static void do_read(struct fake_vol *vol, struct thin_req *req)
{
	uint64_t first = req->offset / THIN_BLOCK_SIZE, i;

	for (i = 0; i < req->len / THIN_BLOCK_SIZE; i++)
		if (req->holes && vol->states[first + i] < DATA)
			req->holes[i / 64] |= 1ull << i % 64;
		else
			memcpy((uint8_t *)req->buf + i * THIN_BLOCK_SIZE,
			       vol->bytes + (first + i) * THIN_BLOCK_SIZE, THIN_BLOCK_SIZE);
}

static void do_status(struct fake_vol *vol, struct thin_req *req)
{
	static const uint32_t flags[] = {
		[HOLE] = THIN_EXTENT_HOLE | THIN_EXTENT_ZERO,
		[PROVISIONED] = THIN_EXTENT_ZERO,
		[DATA] = 0,
		[SHARED] = 0,
	};
	uint64_t i = req->offset / THIN_BLOCK_SIZE;
	uint64_t end = (req->offset + req->len + THIN_BLOCK_SIZE - 1) / THIN_BLOCK_SIZE;
	struct thin_extent *e = NULL;

	req->extent_count = 0;
	for (; i < end; i++) {
		uint32_t depth = vol->states[i] == HOLE ? 0 : vol->states[i] == SHARED ? 2 : 1;

		if (!e || e->flags != flags[vol->states[i]] || e->depth != depth) {
			if (req->extent_count == req->extent_max)
				return;
			e = &req->extents[req->extent_count++];
			*e = (struct thin_extent){ .flags = flags[vol->states[i]], .depth = depth };
		}
		e->len_bytes += THIN_BLOCK_SIZE;
	}
}

static bool differs(const struct fake_vol *a, const struct fake_vol *b, uint64_t block)
{
	bool in_a = a->states[block] >= DATA;
	bool in_b = block < b->size_bytes / THIN_BLOCK_SIZE && b->states[block] >= DATA;

	return in_a != in_b ||
	       (in_a && memcmp(a->bytes + block * THIN_BLOCK_SIZE,
			       b->bytes + block * THIN_BLOCK_SIZE, THIN_BLOCK_SIZE));
}

static void do_diff(const struct fake_vol *vol, const struct fake_vol *base, struct thin_req *req)
{
	uint64_t i = req->offset / THIN_BLOCK_SIZE;
	uint64_t end = (req->offset + req->len + THIN_BLOCK_SIZE - 1) / THIN_BLOCK_SIZE;
	struct thin_extent *e = NULL;

	req->extent_count = 0;
	for (; i < end; i++) {
		uint32_t flags = differs(vol, base, i) ? THIN_EXTENT_CHANGED : 0;

		if (!e || e->flags != flags) {
			if (req->extent_count == req->extent_max)
				return;
			e = &req->extents[req->extent_count++];
			*e = (struct thin_extent){ .flags = flags };
		}
		e->len_bytes += THIN_BLOCK_SIZE;
	}
}

static int do_create(struct thin_pool *pool, const struct thin_req *req)
{
	if (find(pool, req->name) >= 0)
		return -EEXIST;
	fake_thin_add(pool, req->name, req->size_bytes);
	return 0;
}

static int do_delete(struct thin_pool *pool, const struct thin_req *req)
{
	int i = find(pool, req->name);

	if (i < 0)
		return -ENOENT;
	if (pool->vols[i]->open_count)
		return -EBUSY;
	vol_free(pool->vols[i]);
	pool->vols[i] = pool->vols[--pool->vol_count];
	return 0;
}

static int carry_out(struct thin_pool *pool, struct thin_req *req)
{
	struct fake_vol *vol = req->vol ? req->vol->vol : NULL;

	if (pool->fail.count && pool->fail.op == req->op) {
		pool->fail.count--;
		return pool->fail.res;
	}
	if (pool->watch)
		pool->watch(pool->watch_user, req);
	switch (req->op) {
	case THIN_LOCK:
		return do_lock(pool, req);
	case THIN_READ:
		do_read(vol, req);
		return 0;
	case THIN_WRITE:
		memcpy(vol->bytes + req->offset, req->buf, req->len);
		set_states(vol, req->offset, req->len, DATA);
		return 0;
	case THIN_ZERO:
		memset(vol->bytes + req->offset, 0, req->len);
		do_hole(vol, req->offset, req->len, req->flags & THIN_NO_HOLE ? PROVISIONED : HOLE);
		return 0;
	case THIN_TRIM:
		do_hole(vol, req->offset, req->len, HOLE);
		return 0;
	case THIN_STATUS:
		do_status(vol, req);
		return 0;
	case THIN_DIFF:
		do_diff(vol, req->base->vol, req);
		return 0;
	case THIN_FLUSH:
	case THIN_CACHE:
	case THIN_CHECKPOINT:
		return 0;
	case THIN_VOL_CREATE:
		return do_create(pool, req);
	case THIN_VOL_DELETE:
		return do_delete(pool, req);
	case THIN_VOL_RESIZE:
	case THIN_VOL_RENAME:
	case THIN_POOL_GROW:
	case THIN_SNAPSHOT:
	case THIN_CLONE:
	case THIN_ROLLBACK:
		return -ENOTSUP;
	}
	return -EINVAL;
}

static void answer_one(struct thin_pool *pool, size_t i)
{
	struct thin_req *req = pool->running[i].req;
	int res = pool->running[i].res;

	pool->running[i] = pool->running[--pool->running_count];
	pool->seen.answered++;
	if (req->vol)
		req->vol->in_flight--;
	if (req->op == THIN_DIFF)
		req->base->in_flight--;
	req->done(req, res);
}

/* It never lends. */
void thin_read_return(struct thin_pool *pool, struct thin_req *req)
{
	(void)pool;
	assert(!req->iov_count);
}

/* The first; when slow, any. */
static struct thin_req *take_one(struct thin_pool *pool)
{
	struct thin_req **at = &pool->first, *req;

	while (pool->slow && *link_of(*at) && roll(pool) % 2)
		at = link_of(*at);
	req = *at;
	*at = *link_of(req);
	if (!*at)
		pool->last = at;
	return req;
}

void fake_thin_forget(struct thin_pool *pool)
{
	pool->hold = false;
	while (pool->first || pool->running_count) {
		if (pool->first) {
			pool->running[pool->running_count].req = take_one(pool);
			pool->running[pool->running_count++].res = -EIO;
		} else {
			answer_one(pool, 0);
		}
	}
}

void thin_pool_run(struct thin_pool *pool, uint64_t now_ms)
{
	size_t answers;

	if (pool->hold)
		return;
	while (pool->first && pool->running_count < RUNNING_MAX &&
	       (!pool->slow || roll(pool) % 3)) {
		struct thin_req *req = take_one(pool);

		pool->running[pool->running_count].req = req;
		pool->running[pool->running_count++].res = carry_out(pool, req);
	}
	if (pool->slow && roll(pool) % 2)
		return;
	answers = pool->running_count ? 1 + roll(pool) % pool->running_count : 0;
	while (answers-- && pool->running_count)
		answer_one(pool, roll(pool) % pool->running_count);
}

bool thin_pool_awaits_device(const struct thin_pool *pool)
{
	(void)pool;
	return false;
}

uint64_t thin_pool_deadline_ms(const struct thin_pool *pool)
{
	return !pool->hold && (pool->first || pool->running_count) ? 0 : UINT64_MAX;
}

bool thin_pool_idle(const struct thin_pool *pool)
{
	return !pool->first && !pool->running_count;
}

void fake_thin_settle(struct thin_pool *pool)
{
	assert(!pool->hold);
	while (!thin_pool_idle(pool))
		thin_pool_run(pool, 0);
}
