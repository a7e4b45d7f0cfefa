/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Superblocks: slots A and B, each in two copies.  Slot s lies in block s and in block
 * size_blocks - 2 + s.  A checkpoint writes the slot that the last one did not, one copy after the
 * other, so that a crash spoils at most one copy of one slot; recovery repairs that before it
 * writes anything else, or the next crash might spoil the other.  The copy at the end comes first:
 * when the pool has grown, a slot has none there yet, and its first copy is all it has.
 */
#ifndef THIN_SUPER_H
#define THIN_SUPER_H

#include "thin/pool.h"

struct super_found {
	struct fmt_super sb; /* the newest valid one */
	unsigned slot;
	unsigned good_copies;	    /* of the four */
	char bad[160];		    /* which copies could not be used, for a message; "" */
	bool same_size;		    /* both slots say the same size of the pool */
	struct fmt_super intact[2]; /* the newer good copy of each slot */
	bool stale[2][2];	    /* [slot][copy]: bad, or older than that */
};

static inline struct pblk super_pblk(unsigned slot, unsigned copy, uint64_t size_blocks)
{
	return (struct pblk){ copy ? size_blocks - 2 + slot : slot };
}

/* Magic and checksum. */
bool super_copy_valid(const struct fmt_super *found);
/* Fill `sb` from the pool; the checkpoint's own fields are the caller's. */
void super_encode(const struct thin_pool *pool, struct fmt_super *sb);
void super_seal(struct fmt_super *sb);

/*
 * Read all copies and choose.  Blocking.  -EUCLEAN: no pool, or both copies of a slot are bad, or
 * the device is shorter than the pool; -ENOTSUP: made by a newer version.
 */
int super_find(struct thin_dev *dev, struct super_found *ret_found, struct err *err);
/* Make both copies of each slot equal again: a bad one, and one that a crash kept from following
 * the other (it may still tell the size before a grow).  Blocking; 0 or -errno. */
int super_repair(struct thin_dev *dev, struct super_found *found);

#endif
