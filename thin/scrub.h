/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The scrub: reads back, online, everything on the disk that has a checksum, and compares.
 *
 *	superblocks, log pages,		what the pool has in memory as well: damage is reported,
 *	bitmap pages, the catalog	and written anew by the next checkpoints
 *	map nodes and data		damage is reported
 *
 * It reads past the caches: what matters is what the disk would give after a restart.  Pieces of
 * at most SCRUB_BLOCKS are in flight, one at a time, smaller ones with pauses while clients are
 * served.  What differs is read a second time, by a new look at who names it now, before it is a
 * find.
 *
 * Each tree is walked along a cursor, from its root each time, so whatever is written, trimmed or
 * given back in between.  Of a node of the lineage its own part is read, what is younger than its
 * parent, so that what many share is read once; and only what is not younger than the beginning of
 * the scrub, so that it ends.  A volume remembers down to which birth it has been read
 * (scrub_low):
 *
 *	a snapshot takes its place	it takes over how far the volume was read, and goes on
 *					at the cursor
 *	a parent is being spliced away	the child's own part begins earlier: that is read once
 *					more, unless both had been read; what only the parent
 *					has is about to be free, and not read any more
 *
 * and the volumes are gone through until none has an unread part.  A block that is freed while it
 * is being read is not reused before that (space_read), and is no find, as nobody names it any
 * more.
 *
 * Thread: the pool's.
 */
#ifndef THIN_SCRUB_H
#define THIN_SCRUB_H

#include "thin/map.h"
#include "thin/thin.h"

#define SCRUB_BLOCKS	  256u
#define SCRUB_BLOCKS_BUSY 16u  /* ... while clients are served */
#define SCRUB_BUSY_MS	  50u  /* so long after the last request */
#define SCRUB_PAUSE_MS	  2u   /* behind each piece then, and four times as long as it took */
#define SCRUB_LOOKS	  512u /* places looked at in a turn without reading anything */
#define SCRUB_TOLD	  100u /* finds that are events; others are only counted */

enum scrub_phase {
	SCRUB_SUPER,
	SCRUB_LOG,
	SCRUB_BITMAPS,
	SCRUB_CATALOG,
	SCRUB_TREES,
	SCRUB_PHASES,
};

/* A block that is being read. */
struct scrub_block {
	uint64_t place; /* by phase: copy, log page, zone, slot or vblk (of a node: its first) */
	struct pblk at;
	uint32_t birth, crc;
	int res; /* 0, -errno of the device, -EUCLEAN: does not match */
};

/* The node on the way to the cursor that was read last. */
struct scrub_node {
	bool valid;
	struct ent e;
	struct fmt_node *page;
};

struct scrub_found {
	struct thin_scrub_find find;
	uint64_t volume, vblk;
	struct pblk at;
	unsigned level; /* of a map node + 1; 0: data */
};

struct scrub {
	struct thin_pool *pool;
	enum thin_scrub_state state;
	enum scrub_phase phase;
	uint64_t run;
	uint32_t generation; /* what is younger came after the scrub began */
	uint64_t cursor;     /* the place to go on at */
	uint64_t volume;     /* TREES: id */
	uint32_t low, high;  /* births that are wanted: above low, up to high */
	bool any;	     /* in this round through the volumes one had to be read */

	struct scrub_block block[SCRUB_BLOCKS];
	struct dev_io io[SCRUB_BLOCKS]; /* at its first block */
	struct iovec iov[SCRUB_BLOCKS];
	uint8_t *buf;
	uint32_t count, limit, pending;
	uint64_t next;	/* cursor behind them */
	bool is_node;	/* the block is a node of level */
	unsigned level; /* ... this one */
	bool busy;	/* read and not looked at yet */
	struct space_read read;
	uint64_t begun; /* checkpoints, when it was asked for */
	struct scrub_block suspect[SCRUB_BLOCKS];
	uint32_t suspect_count;
	struct scrub_node path[FMT_HEIGHT_MAX];

	struct scrub_found found[THIN_SCRUB_FINDS_MAX];
	uint32_t found_count, named_count;
	uint64_t naming, naming_version; /* the volume looked at, the forest then */
	unsigned naming_looks;
	struct task task; /* waits for nodes: who else has a find */
	bool waiting;

	uint64_t rewrite[SCRUB_BLOCKS]; /* damaged records: slots */
	uint32_t rewrite_count;
	unsigned checkpoints; /* still to be taken, to write damaged copies anew */
	struct thin_scrub_stat stat;
	uint64_t started_ms, piece_ms, next_ms;
};

/* NULL is fine. */
void scrub_free(struct scrub *s);
/* From thin_pool_run(). */
void scrub_run(struct thin_pool *pool);
/* It can do something now. */
bool scrub_runs(const struct thin_pool *pool);
bool scrub_active(const struct thin_pool *pool); /* not over, not stopped */
uint64_t scrub_deadline_ms(const struct thin_pool *pool);

/* lineage.c: `fresh` has taken the place of `vol`; `vol` is about to be spliced into `child`; it
 * has been. */
void scrub_moved(struct thin_pool *pool, struct volume *vol, struct volume *fresh);
void scrub_splicing(struct thin_pool *pool, struct volume *vol, struct volume *child);
void scrub_spliced(struct thin_pool *pool, const struct volume *vol, const struct volume *child);

/* ---- between scrub.c and scrub_tree.c ---- */

enum scrub_step {
	SCRUB_MOVED, /* the cursor has, nothing to be read */
	SCRUB_READ,  /* blocks are to be read */
	SCRUB_END,   /* of the phase */
};

void scrub_add(struct scrub *s, uint64_t place, struct ent e);
enum scrub_step scrub_catalog(struct scrub *s);
enum scrub_step scrub_trees(struct scrub *s);
/* Whether block `i` is what its entry says. */
bool scrub_entry_matches(struct scrub *s, uint32_t i);
/* It is not, for the second time. */
void scrub_entry_damaged(struct scrub *s, uint32_t i);
/* The catalog has been read: what was damaged of it is written anew by the next checkpoint. */
void scrub_rewrite_records(struct scrub *s);
/* Report. */
void scrub_find(struct scrub *s, const struct scrub_found *found);
/* Look for others that have a find; false: waits. */
bool scrub_name(struct scrub *s);

#endif
