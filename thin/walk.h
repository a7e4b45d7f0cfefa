/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Walking everything a pool refers to, each block once: catalog nodes and records, of each node of
 * the lineage what is its own, the trees under reclaim from their cursors on.  Blocking, by way of
 * the node cache; for opening and verification, while nothing else runs.
 */
#ifndef THIN_WALK_H
#define THIN_WALK_H

#include "thin/map.h"

enum walk_what {
	WALK_NODE,
	WALK_RECORD,   /* of the catalog */
	WALK_DATA,     /* mapped block */
	WALK_RESERVED, /* entry without a block: `at` means nothing */
};

struct walk_item {
	enum walk_what what;
	struct volume *volume; /* NULL: catalog or reclaim */
	struct vblk v;	       /* first block it covers */
	struct ent e;
	uint32_t born_by; /* birth of the node that names it, of a root the pool's generation */
};

struct walk_ops {
	/* A block that is referred to.  DIRTY nodes have none and are not told. */
	int (*visit)(void *user, const struct walk_item *item);
	/* A node that cannot be used; 0: go on beside it. */
	int (*damaged)(void *user, const struct walk_item *item, int res);
	void *user;
};

/* 0, or what a callback returned. */
int walk_all(struct thin_pool *pool, const struct walk_ops *ops);

#endif
