/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is on the disk.  FORMAT.md describes every byte; this header is its C form.
 *
 *   block 0   1   2 .. 2+L-1   | zone 0                      | zone 1 ...      | n-2  n-1
 *         A1  B1  log ring     | bitmap0 bitmap1 data ...    | ...             | A2   B2
 *
 * Everything is little-endian, decoded where it is used; blocks are 4096 bytes.  Block numbers of
 * the pool (pblk) count from its beginning, block numbers of a volume (vblk) from the volume's.
 */
#ifndef THIN_FORMAT_H
#define THIN_FORMAT_H

#include <assert.h>
#include <stdint.h>

#include "common/base/bytes.h"

#define FMT_BLOCK     4096u
#define FMT_VERSION   1u
#define FMT_SB_MAGIC  "ASHLARTP"
#define FMT_LOG_MAGIC 0x474f4c41u /* "ALOG" */
#define FMT_REC_MAGIC 0x54414341u /* "ACAT" */
#define FMT_BM_MAGIC  0x504d4241u /* "ABMP" */

#define FMT_LOG_FIRST	 2u	/* first block of the log ring */
#define FMT_ZONE_BLOCKS	 32256u /* data blocks of a zone: the bits of 4032 bytes */
#define FMT_ZONE_BITMAPS 2u
#define FMT_NODE_ENTRIES 256u
#define FMT_NODE_BITS	 8u
#define FMT_HEIGHT_MAX	 5u /* 256^5 blocks = 4 EiB > THIN_VOLUME_MAX */
#define FMT_PBLK_BITS	 40u

/* Features this code knows.  Unknown incompat: refuse; unknown ro: read-only; compat: ignore. */
#define FMT_FEATURE_LINEAGE  ((uint64_t)1) /* snapshots and clones */
#define FMT_FEATURE_INCOMPAT FMT_FEATURE_LINEAGE
#define FMT_FEATURE_LOCK     ((uint64_t)1) /* ro: write locks in volume records and the log */
#define FMT_FEATURE_RO	     FMT_FEATURE_LOCK

/* A map entry.  `where`: bits 0-39 pblk, bits 40-63 flags; all zero: a hole. */
struct fmt_entry {
	le64_t where;
	le32_t birth;
	le32_t crc;
};
static_assert(sizeof(struct fmt_entry) == 16, "entry");

#define FMT_PBLK_MASK	   (((uint64_t)1 << FMT_PBLK_BITS) - 1)
#define FMT_ENT_MAPPED	   (1ull << 40) /* has a block */
#define FMT_ENT_RESERVED   (1ull << 41) /* no block, reads zero, space promised */
#define FMT_ENT_COMPRESSED (1ull << 42) /* kept for later */
#define FMT_ENT_ENCRYPTED  (1ull << 43) /* kept for later */
#define FMT_ENT_MEM	   (1ull << 63) /* never on disk: bits 0-31 index a node in memory */

struct fmt_node {
	struct fmt_entry entry[FMT_NODE_ENTRIES];
};
static_assert(sizeof(struct fmt_node) == FMT_BLOCK, "node");

struct fmt_super {
	uint8_t magic[8];
	le32_t version;
	le32_t crc; /* crc32c of the block with this field zero */
	le64_t feature_incompat;
	le64_t feature_ro;
	le64_t feature_compat;
	uint8_t pool_id[16];
	le64_t generation;    /* of the checkpoint that wrote it */
	le64_t checkpoint;    /* its number, from 1 */
	le64_t nonce;	      /* of this opening; log pages carry it */
	le64_t size_blocks;   /* of the pool */
	le64_t log_pages;     /* length of the ring */
	le64_t log_seq;	      /* first page to accept */
	le32_t log_pred;      /* crc of the page before it */
	le32_t zone_blocks;   /* data blocks of a zone */
	le64_t zone_end;      /* zones lie between the ring and this block */
	le64_t next_id;	      /* ids given out are smaller */
	le64_t catalog_slots; /* slots in use are smaller */
	struct fmt_entry catalog_root;
	le32_t catalog_height;
	le32_t metadata_copies; /* 1; 2 is kept for later */
	le64_t created_s;
	le64_t host_id;		/* owner of a shared device; 0 */
	le64_t metadata_blocks; /* nodes and catalog blocks allocated at the cut */
	uint8_t label[64];
	uint8_t reserved[FMT_BLOCK - 248];
};
static_assert(sizeof(struct fmt_super) == FMT_BLOCK, "superblock");

/* ---- log ---- */

struct fmt_log_head {
	le32_t magic;
	le32_t crc; /* crc32c of the page with this field zero */
	uint8_t pool_id[16];
	le64_t nonce;
	le64_t seq;
	le64_t flushed; /* every page up to this one was durable when this one was sealed */
	le32_t pred;	/* crc of the page before */
	le32_t slots;	/* of 32 bytes in use */
	uint8_t reserved[8];
};
static_assert(sizeof(struct fmt_log_head) == 64, "log page header");

#define FMT_LOG_SLOT  32u
#define FMT_LOG_SLOTS ((FMT_BLOCK - 64) / FMT_LOG_SLOT) /* 126 */

/* `key`: bits 0-39 vblk, bits 56-63 the slot's type. */
#define FMT_SLOT_BLOCK 1u /* a block was written */
#define FMT_SLOT_HOLE  2u /* a block became a hole: `where` is 0 */
#define FMT_SLOT_OP    3u /* head of an operation's fragment */

struct fmt_log_block {
	le64_t volume;
	le64_t key;
	le64_t where; /* as in an entry */
	le32_t birth;
	le32_t crc;
};
static_assert(sizeof(struct fmt_log_block) == FMT_LOG_SLOT, "log block record");

/* Followed by ceil(here / 32) slots of payload.  Fragments of one operation are consecutive. */
struct fmt_log_op {
	le64_t op_id;
	le64_t key;
	le16_t fragment, fragments;
	le16_t here;  /* payload bytes in this page */
	le16_t total; /* payload bytes of the operation */
	le32_t generation;
	le32_t reserved;
};
static_assert(sizeof(struct fmt_log_op) == FMT_LOG_SLOT, "log operation head");

#define FMT_OP_MAX 4000u /* payload bytes of an operation: what a page of its own can take */

enum fmt_op_kind {
	FMT_OP_CREATE = 1,
	FMT_OP_RESIZE = 2,
	FMT_OP_RENAME = 3,
	FMT_OP_DELETE = 4,
	FMT_OP_UNMAP = 5,     /* trim or zero: vblk range becomes holes */
	FMT_OP_PROVISION = 6, /* vblk range becomes provisioned zeroes */
	FMT_OP_SNAPSHOT = 16,
	FMT_OP_CLONE = 17,
	FMT_OP_ROLLBACK = 18,
	FMT_OP_LOCK = 19, /* a: epoch; a fmt_op_lock behind it */
			  /* 20-31 are kept */
};

/* Payload of every operation; a name is NUL-terminated. */
struct fmt_op {
	le32_t kind;
	le32_t flags;
	le64_t volume;
	/* size_bytes and time_s; first vblk and the one behind the last; SNAPSHOT (one group, with
	 * `volume` the number of its members): first new id and time_s; CLONE: snapshot's id and
	 * time_s; ROLLBACK: snapshot's id and the id that the old tree goes on under */
	le64_t a, b;
	uint8_t name[128];
};
static_assert(sizeof(struct fmt_op) == 160, "operation payload");

/* Behind the fmt_op of a SNAPSHOT, one for each member, without padding: then `len` bytes. */
struct fmt_op_member {
	le64_t volume;
	uint8_t len; /* of the snapshot's name */
};

/* Behind the fmt_op of a LOCK: all of the lock's state, what it was is of no account. */
struct fmt_op_lock {
	le32_t state, policy;
	le32_t wait_ms, grace_ms;
	le64_t since_s, until_s;
	uint8_t owner[256], heir[256];
};
static_assert(sizeof(struct fmt_op_lock) == 544, "lock operation");

/* ---- catalog: a map of 4 KiB records, indexed by slot ---- */

enum fmt_rec_kind {
	FMT_REC_FREE = 0,
	FMT_REC_VOLUME = 1,
	FMT_REC_ZONES = 2,
	FMT_REC_WORK = 3,
};

struct fmt_rec_head {
	le32_t magic;
	le32_t kind;
	le64_t slot;
	uint8_t reserved[16];
};

#define FMT_VOLUME_RESERVE_FULL 1u /* in a volume's record and in its CREATE operation */
#define FMT_VOLUME_SPLICING	2u /* see thin/lineage.h */
#define FMT_VOLUME_EXCLUSIVE	4u /* exclusive_blocks is known */
#define FMT_VOLUME_OWN		8u /* own_blocks is there; else all are its own */

struct fmt_rec_volume {
	struct fmt_rec_head head;
	le64_t id;
	le64_t parent;	   /* lineage; 0: none */
	le64_t generation; /* of a snapshot or what was one; 0: a volume */
	le64_t size_bytes;
	le64_t created_s;
	le64_t mapped_blocks;
	le64_t reserved_blocks;
	struct fmt_entry root;
	le32_t height;
	le32_t state; /* 1 volume, 2 snapshot, 3 hidden */
	le32_t flags; /* FMT_VOLUME_... */
	le32_t pad;
	uint8_t name[128];
	/* the write lock; the engine keeps it, and sees that the epoch only grows */
	le64_t lock_epoch;
	le32_t lock_state, lock_policy;
	uint8_t lock_owner[256];
	/* lineage */
	le64_t of; /* id of a snapshot's volume */
	le64_t own_blocks;
	le64_t cursor, freed_blocks; /* of a splice */
	le64_t exclusive_blocks;
	le64_t reclaiming_blocks;
	/* the lock again */
	le64_t lock_since_s, lock_until_s;
	le32_t lock_wait_ms, lock_grace_ms;
	uint8_t lock_heir[256];
	uint8_t reserved[FMT_BLOCK - 848];
};
static_assert(sizeof(struct fmt_rec_volume) == FMT_BLOCK, "volume record");

/* Which copy of a zone's bitmap is valid, and what it must be. */
struct fmt_zone {
	le32_t crc;
	le32_t generation;
	le32_t copy; /* 0 or 1 */
	le32_t free_blocks;
};

#define FMT_ZONES_PER_REC 253u
struct fmt_rec_zones {
	struct fmt_rec_head head;
	le64_t first_zone;
	le32_t count;
	le32_t pad;
	struct fmt_zone zone[FMT_ZONES_PER_REC];
};
static_assert(sizeof(struct fmt_rec_zones) == FMT_BLOCK, "zones record");

/* A tree being given back: everything in it at or behind `cursor`. */
struct fmt_work {
	struct fmt_entry root;
	le32_t height;
	le32_t bound;  /* free what is younger than this generation; 0: everything */
	le64_t cursor; /* first vblk not yet given back, within the tree */
	le64_t owner;  /* id of the lineage node whose counters still hold it; 0: none */
	le64_t left;   /* without an owner: data blocks still to be freed, at most */
	le64_t mapped, reserved_zeroes; /* passed, but not yet counted off the owner's line */
};
static_assert(sizeof(struct fmt_work) == 64, "work item");

#define FMT_WORK_PER_REC 63u
struct fmt_rec_work {
	struct fmt_rec_head head;
	le32_t count;
	uint8_t pad[28];
	struct fmt_work item[FMT_WORK_PER_REC];
};
static_assert(sizeof(struct fmt_rec_work) == FMT_BLOCK, "work record");

/* ---- bitmap page: a header, then one bit a block, 1 = allocated ---- */

struct fmt_bitmap {
	le32_t magic;
	le32_t pad;
	le64_t zone;
	le64_t generation;
	uint8_t pool_id[16];
	uint8_t reserved[24];
	le64_t bits[(FMT_BLOCK - 64) / 8];
};
static_assert(sizeof(struct fmt_bitmap) == FMT_BLOCK, "bitmap page");

/* ---- shadow area (memory that survives the process): page 0, then page slots ---- */

struct fmt_shadow {
	uint8_t magic[8]; /* "ASHSHADW" */
	uint8_t pool_id[16];
	uint64_t nonce;
	uint64_t open_seq; /* the page not yet sealed */
};
#define FMT_SHADOW_MAGIC "ASHSHADW"

/* ---- stage (memory of the same kind): a table, from the next page on a block for each slot ---- */

struct fmt_stage_slot {
	uint64_t where; /* FMT_STAGE_TAKEN | block number: not yet written there; 0: nothing */
	uint32_t crc;
	uint32_t pad;
};

struct fmt_stage {
	uint8_t magic[8]; /* "ASHSTAGE" */
	uint8_t pool_id[16];
	uint64_t nonce;
	uint32_t slots;
	uint8_t pad[28];
	struct fmt_stage_slot slot[];
};
#define FMT_STAGE_MAGIC "ASHSTAGE"
#define FMT_STAGE_TAKEN (1ull << 63)

static inline uint64_t fmt_stage_table(uint64_t slots)
{
	uint64_t bytes = sizeof(struct fmt_stage) + slots * sizeof(struct fmt_stage_slot);

	return (bytes + FMT_BLOCK - 1) / FMT_BLOCK * FMT_BLOCK;
}

#endif
