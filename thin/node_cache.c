/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The cache of map nodes; states and rules in node_cache.h.  Thread: the pool's. */
#include "thin/node_cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "thin/memory.h"
#include "thin/pool.h"

#define BAD_RETRY_MS 1000u /* a node that could not be read is tried again after this */

/* A smaller cache is a test's, or one of a host where huge pages would waste too much of it. */
#define PREFAULT_FROM (16u << 20)

int node_cache_init(struct thin_pool *pool, uint64_t bytes)
{
	struct node_cache *nc = &pool->nodes;
	/* a node also costs entries in the rings of held blocks */
	uint64_t count = bytes / (sizeof(struct fmt_node) + sizeof(struct node) +
				  4 * sizeof(struct space_held));
	uint32_t buckets = 64;

	memset(nc, 0, sizeof(*nc));
	if (count < NODE_CACHE_SLOTS_MIN)
		count = NODE_CACHE_SLOTS_MIN;
	nc->count = count > UINT32_MAX / 4 ? UINT32_MAX / 4 : (uint32_t)count;
	while (buckets < nc->count)
		buckets *= 2;
	nc->pages_bytes = (uint64_t)nc->count * sizeof(struct fmt_node);
	nc->node_bytes = (uint64_t)nc->count * sizeof(struct node);
	nc->pages = memory_map(nc->pages_bytes);
	nc->node = memory_map(nc->node_bytes);
	nc->bucket = calloc(buckets, sizeof(*nc->bucket));
	nc->bucket_mask = buckets - 1;
	if (!nc->pages || !nc->node || !nc->bucket) {
		node_cache_fini(nc);
		return -ENOMEM;
	}
	if (nc->pages_bytes >= PREFAULT_FROM) {
		memory_huge(nc->node, nc->node_bytes);
		memory_huge(nc->pages, nc->pages_bytes);
		prefault_start(&nc->prefault, nc->pages, nc->pages_bytes, &pool->asked);
	}
	nc->unused_count = nc->count;
	return 0;
}

void node_cache_fini(struct node_cache *nc)
{
	prefault_stop(&nc->prefault);
	memory_unmap(nc->pages, nc->pages_bytes);
	memory_unmap(nc->node, nc->node_bytes);
	free(nc->bucket);
	memset(nc, 0, sizeof(*nc));
}

/* ---- the table of those that have a block ---- */

static uint32_t *bucket_of(struct node_cache *nc, struct pblk at)
{
	return &nc->bucket[(uint32_t)(at.n * 0x9e3779b97f4a7c15ull >> 32) & nc->bucket_mask];
}

static struct node *table_find(struct node_cache *nc, struct pblk at)
{
	for (uint32_t i = *bucket_of(nc, at); i; i = nc->node[i - 1].hash_next)
		if (nc->node[i - 1].at.n == at.n)
			return &nc->node[i - 1];
	return NULL;
}

static void table_insert(struct node_cache *nc, struct node *n)
{
	uint32_t *bucket = bucket_of(nc, n->at);

	assert(!table_find(nc, n->at));
	n->hash_next = *bucket;
	*bucket = n->index + 1;
}

static void table_remove(struct node_cache *nc, struct node *n)
{
	uint32_t *link = bucket_of(nc, n->at);

	while (*link != n->index + 1)
		link = &nc->node[*link - 1].hash_next;
	*link = n->hash_next;
	n->hash_next = 0;
}

/* ---- slots ---- */

static void slot_release(struct node_cache *nc, struct node *n)
{
	n->state = NODE_UNUSED;
	n->dead = n->sticky = n->used = false;
	n->hash_next = nc->unused;
	nc->unused = n->index + 1;
	nc->unused_count++;
}

static bool evictable(const struct node *n)
{
	return (n->state == NODE_CLEAN || n->state == NODE_BAD) && !n->sticky && !n->pins &&
	       STAILQ_EMPTY(&n->waiters);
}

static void slot_make(struct thin_pool *pool)
{
	struct node_cache *nc = &pool->nodes;
	struct node *n = &nc->node[nc->fresh];

	n->pool = pool;
	n->index = nc->fresh;
	n->page = &nc->pages[nc->fresh];
	STAILQ_INIT(&n->waiters);
	nc->unused = ++nc->fresh;
}

static struct node *slot_take(struct thin_pool *pool)
{
	struct node_cache *nc = &pool->nodes;
	struct node *n;

	if (!nc->unused && nc->fresh < nc->count)
		slot_make(pool);
	for (uint64_t i = 0; !nc->unused && i < 2ull * nc->count; i++) {
		n = &nc->node[nc->hand];
		nc->hand = nc->hand + 1 < nc->count ? nc->hand + 1 : 0;
		if (!evictable(n))
			continue;
		if (n->used) {
			n->used = false;
			continue;
		}
		table_remove(nc, n);
		slot_release(nc, n);
	}
	if (!nc->unused)
		return NULL;
	n = &nc->node[nc->unused - 1];
	nc->unused = n->hash_next;
	nc->unused_count--;
	n->hash_next = 0;
	n->used = true;
	assert(STAILQ_EMPTY(&n->waiters) && !n->pins);
	return n;
}

/* ---- loading ---- */

bool ent_from_disk_valid(const struct thin_pool *pool, struct ent e, unsigned level)
{
	uint64_t flags = e.where & ~FMT_PBLK_MASK;

	if (flags == FMT_ENT_MAPPED)
		return space_valid(&pool->space, ent_pblk(e));
	return e.where == 0 || (e.where == FMT_ENT_RESERVED && level == 0);
}

bool node_page_valid(const struct thin_pool *pool, const struct fmt_node *page, unsigned level)
{
	for (unsigned i = 0; i < FMT_NODE_ENTRIES; i++)
		if (!ent_from_disk_valid(pool, ent_get(&page->entry[i]), level))
			return false;
	return true;
}

void node_load_end(struct thin_pool *pool, struct node *n, int res)
{
	assert(n->state == NODE_LOADING);
	pool->nodes.loading_count--;
	space_read_end(&pool->space, &n->read);
	if (res == 0 &&
	    (pool_crc(n->page, FMT_BLOCK) != n->crc || !node_page_valid(pool, n->page, n->level)))
		res = -EUCLEAN;
	pool_wake_list(pool, &n->waiters);
	if (n->dead) {
		slot_release(&pool->nodes, n);
		return;
	}
	n->state = res ? NODE_BAD : NODE_CLEAN;
	n->bad_res = res;
	n->bad_until_ms = pool->now_ms + BAD_RETRY_MS;
	if (res)
		pool_damage(pool, "map node in block %llu: %s", (unsigned long long)n->at.n,
			    res == -EUCLEAN ? "checksum differs" : strerror(-res));
	pool_wake_stalled(pool);
}

static void load_done(struct dev_io *io)
{
	struct node *n = io->user;

	node_load_end(n->pool, n, io->res);
}

bool node_can_load(struct thin_pool *pool, struct ent e)
{
	return !(e.where & FMT_ENT_MEM) && space_valid(&pool->space, ent_pblk(e)) &&
	       !table_find(&pool->nodes, ent_pblk(e));
}

/* Behind a check that it is not there yet. */
static struct node *load_begin(struct thin_pool *pool, struct ent e, unsigned level)
{
	struct node *n = slot_take(pool);

	if (!n)
		return NULL;
	n->state = NODE_LOADING;
	n->at = ent_pblk(e);
	n->birth = e.birth;
	n->crc = e.crc;
	n->level = (uint8_t)level;
	n->sticky = false;
	table_insert(&pool->nodes, n);
	pool->nodes.loading_count++;
	space_read_begin(&pool->space, &n->read);
	return n;
}

struct node *node_load_begin(struct thin_pool *pool, struct ent e, unsigned level)
{
	return pool_nodes_available(pool, pool->admitted_nodes + 1) ? load_begin(pool, e, level)
								    : NULL;
}

void node_load_abandon(struct thin_pool *pool, struct node *n)
{
	assert(n->state == NODE_LOADING && STAILQ_EMPTY(&n->waiters) && !n->dead);
	pool->nodes.loading_count--;
	space_read_end(&pool->space, &n->read);
	table_remove(&pool->nodes, n);
	slot_release(&pool->nodes, n);
}

static struct node *load_start(struct thin_pool *pool, struct ent e, unsigned level)
{
	struct node *n = load_begin(pool, e, level);

	if (!n)
		return NULL;
	n->iov = (struct iovec){ n->page, FMT_BLOCK };
	n->io = (struct dev_io){ .op = DEV_READ,
				 .offset = n->at.n * FMT_BLOCK,
				 .len = FMT_BLOCK,
				 .iov = &n->iov,
				 .iov_count = 1,
				 .done = load_done,
				 .user = n };
	pool_submit_io(pool, &n->io);
	return n;
}

static bool bad_expired(struct thin_pool *pool, struct node *n)
{
	if (n->state != NODE_BAD || pool->now_ms < n->bad_until_ms || !evictable(n))
		return false;
	table_remove(&pool->nodes, n);
	slot_release(&pool->nodes, n);
	return true;
}

uint32_t node_birth(const struct thin_pool *pool, struct ent e)
{
	return e.where & FMT_ENT_MEM ? pool->nodes.node[(uint32_t)e.where].birth : e.birth;
}

struct node *node_peek(struct thin_pool *pool, struct ent e)
{
	struct node *n;

	if (e.where & FMT_ENT_MEM)
		return &pool->nodes.node[(uint32_t)e.where];
	n = table_find(&pool->nodes, ent_pblk(e));
	return n && (n->state == NODE_CLEAN || n->state == NODE_WRITING) ? n : NULL;
}

void node_prefetch(struct thin_pool *pool, struct ent e, unsigned level)
{
	if (node_can_load(pool, e) && pool_nodes_available(pool, pool->admitted_nodes + 1))
		load_start(pool, e, level);
}

int node_get(struct thin_pool *pool, struct ent e, unsigned level, struct task *task,
	     struct node **ret_node)
{
	struct node *n;

	if (e.where & FMT_ENT_MEM) {
		*ret_node = &pool->nodes.node[(uint32_t)e.where];
		assert((*ret_node)->state == NODE_DIRTY);
		return 0;
	}
	if (!(e.where & FMT_ENT_MAPPED) || !space_valid(&pool->space, ent_pblk(e)))
		return -EUCLEAN;
	n = table_find(&pool->nodes, ent_pblk(e));
	if (n && bad_expired(pool, n))
		n = NULL;
	/* loads leave the slots to the nodes that were admitted and to the catalog at a cut */
	if (!n && (!task || pool_nodes_available(pool, pool->admitted_nodes + 1)))
		n = load_start(pool, e, level);
	if (!n)
		return pool_stall_or_fail(pool, task);
	n->used = true;
	if (n->state == NODE_LOADING && task) {
		STAILQ_INSERT_TAIL(&n->waiters, task, link);
		return -EAGAIN;
	}
	while (n->state == NODE_LOADING)
		pool->dev->ops->wait(pool->dev);
	if (n->state == NODE_BAD)
		return n->bad_res;
	/* one block named by two entries that disagree */
	if (n->birth != e.birth || n->crc != e.crc || n->level != level)
		return -EUCLEAN;
	*ret_node = n;
	return 0;
}

/* ---- changing ---- */

struct node *node_new(struct thin_pool *pool, unsigned level)
{
	struct node *n = slot_take(pool);

	if (!n)
		return NULL;
	memset(n->page, 0, sizeof(*n->page));
	n->state = NODE_DIRTY;
	n->at = (struct pblk){ 0 };
	n->level = (uint8_t)level;
	n->birth = pool->generation;
	n->crc = 0;
	n->sticky = false;
	pool->nodes.dirty_count++;
	pool->nodes.made_count++;
	return n;
}

void node_drop(struct thin_pool *pool, struct node *n)
{
	struct node_cache *nc = &pool->nodes;

	switch (n->state) {
	case NODE_DIRTY:
		nc->dirty_count--;
		slot_release(nc, n);
		break;
	case NODE_CLEAN:
	case NODE_BAD:
		table_remove(nc, n);
		pool_wake_list(pool, &n->waiters);
		slot_release(nc, n);
		break;
	case NODE_LOADING:
	case NODE_WRITING:
		table_remove(nc, n);
		n->dead = true;
		break;
	case NODE_UNUSED:
		assert(!"node_drop of an unused slot");
	}
}

void node_place(struct thin_pool *pool, struct node *n, struct pblk at)
{
	struct node_cache *nc = &pool->nodes;

	struct node *stale = table_find(nc, at); /* only by way of a damaged entry */

	assert(n->state == NODE_DIRTY);
	if (stale)
		node_drop(pool, stale);
	n->state = NODE_WRITING;
	n->at = at;
	nc->dirty_count--;
	nc->writing_count++;
	table_insert(nc, n);
}

void node_written(struct thin_pool *pool, struct node *n)
{
	assert(n->state == NODE_WRITING);
	pool->nodes.writing_count--;
	if (n->dead)
		slot_release(&pool->nodes, n);
	else
		n->state = NODE_CLEAN;
}
