/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Salvage: a pool whose catalog is damaged is opened for reading, without what is lost.
 *
 *	record of a volume or	it is left out, and so is what the log says of it.  Another's map
 *	snapshot		needs nothing of it: a root vouches for all below
 *	volume that has		stands in for itself, so that its snapshots have a path; by the name
 *	snapshots		that its record still says, or as "damaged-ID"
 *	its children		have no parent: what they share is not told, what they hold is
 *	zones, trees under	not needed to read; the figures of free space are wrong
 *	reclaim
 *
 * What stands in cannot be opened, and neither can a volume of which an operation in the log does
 * not work any more (a rollback to a snapshot that is lost): neither is ever served with other
 * content than its own.  Nothing is written: with part of the lineage unknown, nobody could say
 * which blocks may be freed.
 */
#ifndef THIN_SALVAGE_H
#define THIN_SALVAGE_H

#include "thin/format.h"
#include "thin/space.h"
#include "thin/thin.h"

#define SALVAGE_NAMES 64u

struct err;
struct thin_pool;

struct salvaged {
	uint64_t lost, passed; /* records of the catalog, of the log */
	uint32_t name_count;   /* of volumes whose record is damaged, as far as it can be read */
	struct {
		uint64_t id;
		char name[THIN_NAME_MAX + 1];
	} name[SALVAGE_NAMES];
};

/*
 * The record at `at` is lost, `r` and `err` say why; `block` is what could be read, or NULL.  In a
 * salvage it is told and 0 returned; else `err` goes on with what an administrator can do.
 */
int salvage_record(struct thin_pool *pool, struct pblk at, const void *block, int r,
		   struct err *err);
/* The same for a node of the catalog over the records from `slot` on. */
int salvage_node(struct thin_pool *pool, uint64_t slot, int r, struct err *err);
/* All records have been read: volumes that stand in for themselves. -ENOMEM. */
int salvage_volumes(struct thin_pool *pool);
/* A record of the log has been passed over; if `vol` is known, whether it is now left out. */
void salvage_passed(struct thin_pool *pool, uint64_t volume, bool is_wrong_now);
/* All of the log has been read: say how many. */
void salvage_replayed(struct thin_pool *pool);

#endif
