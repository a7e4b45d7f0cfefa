/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fetching what a replay needs: see replay_ahead.h. */
#include "thin/replay_ahead.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "thin/memory.h"
#include "thin/pool.h"

#define LEAVES_MAX   65536u /* collected before they are loaded */
#define SEEN_BITS    24u    /* of a hash; 65,536 leaves set 0.4 % of that many bits */
#define GROUP_BLOCKS 64u    /* of one read */
#define GROUPS	     16u    /* reads in flight */
#define GAP_MAX	     8u	    /* blocks that are read in vain rather than reading twice */

struct leaf_wanted {
	uint64_t volume_id, index; /* the leaf over block index * FMT_NODE_ENTRIES */
};

struct node_wanted {
	struct ent e;
	unsigned level;
};

struct group {
	struct replay_ahead *ra;
	struct dev_io io;
	struct iovec iov[GROUP_BLOCKS];
	struct node *node[GROUP_BLOCKS];
	uint32_t node_count;
	bool busy;
};

struct replay_ahead {
	_Alignas(FMT_BLOCK) uint8_t gap[FMT_BLOCK]; /* where blocks go that nobody wants */
	struct thin_pool *pool;
	struct leaf_wanted leaf[LEAVES_MAX];
	uint8_t seen[(1u << SEEN_BITS) / 8];
	struct node_wanted node[LEAVES_MAX];
	uint32_t leaf_count, node_count, busy_count;
	struct group group[GROUPS];
};

int replay_ahead_new(struct thin_pool *pool, struct replay_ahead **ret_ra)
{
	struct replay_ahead *ra = memory_map(sizeof(*ra));

	if (!ra)
		return -ENOMEM;
	ra->pool = pool;
	for (unsigned i = 0; i < GROUPS; i++)
		ra->group[i].ra = ra;
	*ret_ra = ra;
	return 0;
}

void replay_ahead_free(struct replay_ahead *ra)
{
	memory_unmap(ra, sizeof(*ra));
}

/* ---- leaves ---- */

/* Whether a leaf of the same hash was wanted before.  For one in hundreds it was another one, and
 * it is loaded alone. */
static bool seen_before(struct replay_ahead *ra, const struct leaf_wanted *leaf)
{
	uint64_t hash = (leaf->index + leaf->volume_id * 0x10001) * 0x9e3779b97f4a7c15ull;
	uint64_t n = hash >> (64 - SEEN_BITS);
	uint8_t bit = (uint8_t)(1u << n % 8);
	bool seen = ra->seen[n / 8] & bit;

	ra->seen[n / 8] |= bit;
	return seen;
}

void replay_ahead_want(struct replay_ahead *ra, uint64_t volume_id, struct vblk v)
{
	struct leaf_wanted leaf = { volume_id, v.n / FMT_NODE_ENTRIES };

	if (seen_before(ra, &leaf))
		return;
	ra->leaf[ra->leaf_count++] = leaf;
	if (ra->leaf_count == LEAVES_MAX)
		replay_ahead_load(ra);
}

static int compare_leaves(const void *a, const void *b)
{
	const struct leaf_wanted *x = a, *y = b;

	if (x->volume_id != y->volume_id)
		return x->volume_id < y->volume_id ? -1 : 1;
	return x->index < y->index ? -1 : x->index > y->index;
}

/* The uppermost node on the way to the leaf that is not in memory; false: they all are. */
static bool missing_node(struct thin_pool *pool, const struct tree *tree, struct vblk v,
			 struct node_wanted *ret_node)
{
	struct ent e = ent_get(&tree->root);

	if (v.n >= map_capacity(tree->height))
		return false;
	for (unsigned level = tree->height; level-- > 0;) {
		struct node *n;

		if (!(e.where & FMT_ENT_MAPPED))
			return false;
		n = node_peek(pool, e);
		if (!n) {
			*ret_node = (struct node_wanted){ e, level };
			return true;
		}
		e = ent_get(&n->page->entry[map_index(v, level)]);
	}
	return false;
}

/* What the leaves lack now; the same node for neighbours only once. */
static void collect_nodes(struct replay_ahead *ra)
{
	struct volume *vol = NULL;

	ra->node_count = 0;
	for (uint32_t i = 0; i < ra->leaf_count; i++) {
		const struct leaf_wanted *l = &ra->leaf[i];
		struct node_wanted n;

		if (!vol || vol->id != l->volume_id)
			vol = volume_by_id(&ra->pool->catalog, l->volume_id);
		if (!vol || l->index > UINT64_MAX / FMT_NODE_ENTRIES ||
		    !missing_node(ra->pool, &vol->tree,
				  (struct vblk){ l->index * FMT_NODE_ENTRIES }, &n))
			continue;
		if (!ra->node_count || !ent_same(ra->node[ra->node_count - 1].e, n.e))
			ra->node[ra->node_count++] = n;
	}
}

/* ---- nodes ---- */

static int compare_nodes(const void *a, const void *b)
{
	const struct node_wanted *x = a, *y = b;

	return x->e.where < y->e.where ? -1 : x->e.where > y->e.where;
}

static void group_read(struct dev_io *io)
{
	struct group *g = io->user;

	for (uint32_t i = 0; i < g->node_count; i++) {
		if (io->res)
			node_load_abandon(g->ra->pool, g->node[i]); /* perhaps only one is bad */
		else
			node_load_end(g->ra->pool, g->node[i], 0);
	}
	g->busy = false;
	g->ra->busy_count--;
}

static struct group *free_group(struct replay_ahead *ra)
{
	while (ra->busy_count == GROUPS)
		ra->pool->dev->ops->wait(ra->pool->dev);
	for (unsigned i = 0; i < GROUPS; i++)
		if (!ra->group[i].busy)
			return &ra->group[i];
	assert(!"a group is free");
	return NULL;
}

static void submit_group(struct group *g, uint64_t start, uint32_t blocks)
{
	g->busy = true;
	g->ra->busy_count++;
	g->io = (struct dev_io){ .op = DEV_READ,
				 .offset = start * FMT_BLOCK,
				 .len = (uint64_t)blocks * FMT_BLOCK,
				 .iov = g->iov,
				 .iov_count = (int)blocks,
				 .done = group_read,
				 .user = g };
	pool_submit_io(g->ra->pool, &g->io);
}

/* Read nodes from the `first`th on at once, as far as they lie close.  Returns the one that comes
 * next, or `first` when the cache has no room. */
static uint32_t load_group(struct replay_ahead *ra, uint32_t first)
{
	struct group *g = free_group(ra);
	uint64_t start = 0;
	uint32_t i, blocks = 0;

	g->node_count = 0;
	for (i = first; i < ra->node_count; i++) {
		const struct node_wanted *w = &ra->node[i];
		uint64_t at = w->e.where & FMT_PBLK_MASK;
		struct node *n;

		/* damage, which is for those to tell who need it; or shared by two volumes */
		if (!node_can_load(ra->pool, w->e))
			continue;
		if (blocks && (at - start >= GROUP_BLOCKS || at - start - blocks > GAP_MAX))
			break;
		n = node_load_begin(ra->pool, w->e, w->level);
		if (!n)
			break;
		start = blocks ? start : at;
		while (blocks < at - start)
			g->iov[blocks++] = (struct iovec){ ra->gap, FMT_BLOCK };
		g->iov[blocks++] = (struct iovec){ n->page, FMT_BLOCK };
		g->node[g->node_count++] = n;
	}
	if (g->node_count)
		submit_group(g, start, blocks);
	return g->node_count || i == ra->node_count ? i : first;
}

/* False: the cache had no room for all of them. */
static bool load_nodes(struct replay_ahead *ra)
{
	uint32_t next = 0, before = UINT32_MAX;

	qsort(ra->node, ra->node_count, sizeof(ra->node[0]), compare_nodes);
	while (next < ra->node_count && next != before) {
		before = next;
		next = load_group(ra, next);
	}
	while (ra->busy_count)
		ra->pool->dev->ops->wait(ra->pool->dev);
	return next == ra->node_count;
}

void replay_ahead_load(struct replay_ahead *ra)
{
	bool room = true;

	qsort(ra->leaf, ra->leaf_count, sizeof(ra->leaf[0]), compare_leaves);
	for (unsigned level = 0; level < FMT_HEIGHT_MAX && room; level++) {
		collect_nodes(ra);
		if (!ra->node_count)
			break;
		room = load_nodes(ra);
	}
	ra->leaf_count = 0;
}

/* ---- a log page ---- */

static void touch_entry(struct thin_pool *pool, const struct tree *tree, struct vblk v)
{
	struct ent e = ent_get(&tree->root);

	if (v.n >= map_capacity(tree->height))
		return;
	for (unsigned level = tree->height; level-- > 0;) {
		struct node *n = e.where & FMT_ENT_MAPPED ? node_peek(pool, e) : NULL;
		struct fmt_entry *next;

		if (!n)
			return;
		/* its page without looking at the node itself, which need not be there yet */
		next = &pool->nodes.pages[n - pool->nodes.node].entry[map_index(v, level)];
		if (level) {
			e = ent_get(next);
		} else {
			__builtin_prefetch(&n->at, 1);
			__builtin_prefetch(&n->state, 1);
			__builtin_prefetch(next, 1);
		}
	}
}

void replay_ahead_touch(struct thin_pool *pool, const struct fmt_log_head *page)
{
	const struct fmt_log_block *b = (const struct fmt_log_block *)(page + 1);
	struct volume *vol = NULL;

	/* slots of an operation's payload may look like a record: touching too much harms nobody */
	for (uint32_t i = 0; i < le32_get(page->slots); i++) {
		uint64_t key = le64_get(b[i].key);

		if (key >> 56 != FMT_SLOT_BLOCK && key >> 56 != FMT_SLOT_HOLE)
			continue;
		if (!vol || vol->id != le64_get(b[i].volume))
			vol = volume_by_id(&pool->catalog, le64_get(b[i].volume));
		if (vol)
			touch_entry(pool, &vol->tree, (struct vblk){ key & FMT_PBLK_MASK });
	}
}
