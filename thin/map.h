/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The map: a radix tree from vblk to entry, like a page table.  256 entries a node; a leaf covers
 * 256 blocks (1 MiB).  A tree of height h holds 256^h blocks; height 0 is the empty tree.
 *
 * Changing is redirect-on-write in memory: the path to a leaf is made DIRTY top-down, each node
 * that has a block being copied, and that block freed at the next checkpoint.  What is a snapshot's
 * as well (lineage.h) is copied even when it is DIRTY, and left to it: so a DIRTY node may be named
 * by several trees, until the cut gives it its block.
 *
 * None of these calls changes anything when it returns an error or -EAGAIN, except that
 * map_dirty_leaf() may have dirtied a part of the path, which means nothing.
 */
#ifndef THIN_MAP_H
#define THIN_MAP_H

#include "thin/node_cache.h"

struct vblk {
	uint64_t n;
};

struct volume;

struct tree {
	struct fmt_entry root;
	uint32_t height;
	bool sticky;	       /* its nodes stay in memory */
	struct volume *volume; /* whose counters and record change with it; NULL: none */
};

static inline unsigned map_index(struct vblk v, unsigned level)
{
	return (unsigned)(v.n >> FMT_NODE_BITS * level) & (FMT_NODE_ENTRIES - 1);
}

/* Blocks under one node of this level. */
static inline uint64_t map_span(unsigned level)
{
	return 1ull << FMT_NODE_BITS * (level + 1);
}

/* Blocks that a tree of this height can hold. */
static inline uint64_t map_capacity(unsigned height)
{
	return height ? map_span(height - 1) : 0;
}

/*
 * The leaf that covers `v`.  -ENOENT: there is none, and nothing is mapped before `*ret_next`.
 * -EAGAIN: `task` waits for a node.  -EUCLEAN, -EIO: damage.  `task` NULL: blocking.
 */
int map_leaf(struct thin_pool *pool, struct tree *tree, struct vblk v, struct task *task,
	     struct node **ret_leaf, struct vblk *ret_next) __attribute__((warn_unused_result));
/* The entry that names the node at `level` over `v`; empty when there is none, or when the tree is
 * lower.  0, -EAGAIN, damage. */
int map_entry(struct thin_pool *pool, struct tree *tree, struct vblk v, unsigned level,
	      struct task *task, struct ent *ret_e) __attribute__((warn_unused_result));
/* The same of the leaf, if all above it is in memory; else -EAGAIN, and nothing is loaded. */
int map_peek_entry(struct thin_pool *pool, struct tree *tree, struct vblk v, struct ent *ret_e)
	__attribute__((warn_unused_result));
/* Start loading what map_leaf() would need next; nobody waits. */
void map_prefetch(struct thin_pool *pool, struct tree *tree, struct vblk v);

/* The leaf, if all of the path is in memory; else -EAGAIN, and what is missing begins to load, with
 * nobody waiting.  -ENOENT as above. */
int map_peek(struct thin_pool *pool, struct tree *tree, struct vblk v, struct node **ret_leaf,
	     struct vblk *ret_next) __attribute__((warn_unused_result));

/* The same for changing it: DIRTY, made where there is none. -EAGAIN as above. */
int map_dirty_leaf(struct thin_pool *pool, struct tree *tree, struct vblk v, struct task *task,
		   struct node **ret_leaf) __attribute__((warn_unused_result));

/* Whether anything is mapped or provisioned in [from, to); loads what map_unmap() needs.
 * 1, 0, -EAGAIN or damage. */
int map_unmap_probe(struct thin_pool *pool, struct tree *tree, struct vblk from, struct vblk to,
		    struct task *task) __attribute__((warn_unused_result));

/*
 * Make [from, to) holes, after a probe in the same step.  Blocks of leaves that are covered in part
 * are freed by the record on log page `log_seq`; leaves and subtrees that are covered whole go to
 * reclaim, joined under one new node for each node that is covered in part.  The rule does not
 * depend on what is in memory, so that replay does the same.
 */
int map_unmap(struct thin_pool *pool, struct tree *tree, struct vblk from, struct vblk to,
	      uint64_t log_seq) __attribute__((warn_unused_result));

/* DIRTY nodes that map_unmap() makes at most: two edges and a new node each level, twice (parted at
 * a splice's cursor). */
#define MAP_UNMAP_NODES (8 * FMT_HEIGHT_MAX)

/* Free what the entry over `v` in a leaf holds (its block, by the record on `log_seq`), clear it.
 */
void map_clear_entry(struct thin_pool *pool, struct volume *vol, struct vblk v, struct fmt_entry *e,
		     uint64_t log_seq);

#endif
