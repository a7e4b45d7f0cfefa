/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Looking at, and forging, what a closed pool has on its simulated disk.  For pools whose catalog
 * is one node and, where a leaf is forged, for volumes of one leaf.
 */
#ifndef TESTS_THIN_ONDISK_H
#define TESTS_THIN_ONDISK_H

#include <isa-l/crc.h>

#include "tests/thin/life.h"
#include "thin/format.h"

static inline uint32_t ondisk_crc(const void *block)
{
	return ~crc32_iscsi((unsigned char *)(uintptr_t)block, BLK, 0xffffffffu);
}

static inline void ondisk_get(struct rig *r, uint64_t block, void *data)
{
	memcpy(data, sim_page_data(sim_image_get(dev_sim_view(r->sim), block)), BLK);
}

static inline void ondisk_put(struct rig *r, uint64_t block, const void *data)
{
	_Alignas(4096) uint8_t copy[BLK];

	memcpy(copy, data, BLK);
	assert_int_equal(rig_run(r->dev, DEV_WRITE, block * BLK, copy, BLK), 0);
	assert_int_equal(rig_run(r->dev, DEV_FLUSH, 0, NULL, 0), 0);
}

static inline uint64_t ondisk_pblk(struct fmt_entry e)
{
	return le64_get(e.where) & FMT_PBLK_MASK;
}

static inline uint64_t ondisk_super_at(const struct rig *r, unsigned slot, unsigned copy)
{
	return copy ? r->dev->size_bytes / BLK - 2 + slot : slot;
}

/* The newest superblock; returns its slot. */
static inline unsigned ondisk_super(struct rig *r, struct fmt_super *sb)
{
	struct fmt_super other;

	ondisk_get(r, 0, sb);
	ondisk_get(r, 1, &other);
	if (le64_get(other.checkpoint) < le64_get(sb->checkpoint))
		return 0;
	*sb = other;
	return 1;
}

/* Change a superblock in all its copies, checksum included. */
static inline void ondisk_forge_super(struct rig *r, void (*change)(struct fmt_super *sb))
{
	for (unsigned slot = 0; slot < 2; slot++) {
		struct fmt_super sb;

		ondisk_get(r, ondisk_super_at(r, slot, 0), &sb);
		change(&sb);
		sb.crc = le32_put(0);
		sb.crc = le32_put(ondisk_crc(&sb));
		ondisk_put(r, ondisk_super_at(r, slot, 0), &sb);
		ondisk_put(r, ondisk_super_at(r, slot, 1), &sb);
	}
}

struct ondisk_record {
	uint64_t leaf_at, at;
	unsigned index;
	struct fmt_node leaf;
	union {
		struct fmt_rec_head head;
		struct fmt_rec_volume volume;
		struct fmt_rec_zones zones;
		struct fmt_rec_work work;
	} u;
};

/* The first record of a kind (and, for volumes, a name). */
static inline void ondisk_find(struct rig *r, enum fmt_rec_kind kind, const char *name,
			       struct ondisk_record *ret)
{
	struct fmt_super sb;

	ondisk_super(r, &sb);
	assert_int_equal(le32_get(sb.catalog_height), 1);
	ret->leaf_at = ondisk_pblk(sb.catalog_root);
	ondisk_get(r, ret->leaf_at, &ret->leaf);
	for (ret->index = 0; ret->index < FMT_NODE_ENTRIES; ret->index++) {
		struct fmt_entry e = ret->leaf.entry[ret->index];

		if (!le64_get(e.where))
			continue;
		ret->at = ondisk_pblk(e);
		ondisk_get(r, ret->at, &ret->u);
		if (le32_get(ret->u.head.kind) == kind &&
		    (!name || !strcmp((char *)ret->u.volume.name, name)))
			return;
	}
	fail_msg("no record of kind %d", kind);
}

static struct fmt_entry ondisk_new_root;

static inline void ondisk_set_root(struct fmt_super *sb)
{
	sb->catalog_root = ondisk_new_root;
}

/* Put a changed record back with every checksum above it right. */
static inline void ondisk_reseal(struct rig *r, struct ondisk_record *rec)
{
	struct fmt_super sb;

	ondisk_put(r, rec->at, &rec->u);
	rec->leaf.entry[rec->index].crc = le32_put(ondisk_crc(&rec->u));
	ondisk_put(r, rec->leaf_at, &rec->leaf);
	ondisk_super(r, &sb);
	ondisk_new_root = sb.catalog_root;
	ondisk_new_root.crc = le32_put(ondisk_crc(&rec->leaf));
	ondisk_forge_super(r, ondisk_set_root);
}

#endif
