/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Superblocks: see super.h. */
#include "thin/super.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cleanup.h"

void super_encode(const struct thin_pool *pool, struct fmt_super *sb)
{
	memset(sb, 0, sizeof(*sb));
	memcpy(sb->magic, FMT_SB_MAGIC, sizeof(sb->magic));
	sb->version = le32_put(FMT_VERSION);
	sb->feature_incompat = le64_put(pool->feature_incompat);
	sb->feature_ro = le64_put(pool->feature_ro);
	sb->feature_compat = le64_put(pool->feature_compat);
	memcpy(sb->pool_id, pool->id, sizeof(sb->pool_id));
	sb->size_blocks = le64_put(pool->size_blocks);
	sb->log_pages = le64_put(pool->log_pages);
	sb->zone_blocks = le32_put(pool->space.zone_blocks);
	sb->zone_end = le64_put(pool->zone_end);
	sb->next_id = le64_put(pool->catalog.next_id);
	sb->catalog_slots = le64_put(pool->catalog.slot_count);
	sb->catalog_root = pool->catalog.tree.root;
	sb->catalog_height = le32_put(pool->catalog.tree.height);
	sb->metadata_copies = le32_put(1);
	sb->created_s = le64_put(pool->created_s);
	sb->metadata_blocks = le64_put(pool->metadata_blocks);
	sb->checkpoint = le64_put(pool->checkpoint);
}

void super_seal(struct fmt_super *sb)
{
	sb->crc = le32_put(0);
	sb->crc = le32_put(pool_crc(sb, sizeof(*sb)));
}

/* ---- choosing ---- */

static void io_done(struct dev_io *io)
{
	*(bool *)io->user = true;
}

static int do_copy(struct thin_dev *dev, enum dev_op op, struct pblk at, struct fmt_super *sb)
{
	struct iovec iov = { sb, FMT_BLOCK };
	bool done = false;
	struct dev_io io = { .op = op,
			     .fua = op == DEV_WRITE,
			     .offset = at.n * FMT_BLOCK,
			     .len = FMT_BLOCK,
			     .iov = &iov,
			     .iov_count = 1,
			     .done = io_done,
			     .user = &done };

	if (at.n >= dev->size_bytes / FMT_BLOCK)
		return -EUCLEAN;
	dev->ops->submit(dev, &io);
	while (!done)
		dev->ops->wait(dev);
	return io.res;
}

bool super_copy_valid(const struct fmt_super *found)
{
	struct fmt_super sb = *found;
	uint32_t crc = le32_get(sb.crc);

	sb.crc = le32_put(0);
	return memcmp(sb.magic, FMT_SB_MAGIC, sizeof(sb.magic)) == 0 &&
	       pool_crc(&sb, sizeof(sb)) == crc;
}

/* No pool that was ever used counts so far; one that claims it would wrap around. */
#define COUNTER_MAX ((uint64_t)1 << 62)

static bool counters_valid(const struct fmt_super *sb)
{
	return le64_get(sb->generation) < UINT32_MAX - 1 && /* births have 32 bits */
	       le64_get(sb->checkpoint) < COUNTER_MAX && le64_get(sb->log_seq) < COUNTER_MAX &&
	       le64_get(sb->next_id) < COUNTER_MAX;
}

/* Numbers that later arithmetic relies on. */
static bool geometry_valid(const struct fmt_super *sb)
{
	uint64_t size = le64_get(sb->size_blocks), log = le64_get(sb->log_pages);
	uint64_t end = le64_get(sb->zone_end);
	uint32_t zone = le32_get(sb->zone_blocks);

	return size <= THIN_POOL_MAX / FMT_BLOCK && log >= 8 &&
	       log <= THIN_JOURNAL_MAX / FMT_BLOCK && zone >= 64 && zone <= FMT_ZONE_BLOCKS &&
	       zone % 64 == 0 && size >= 4 && end <= size - 2 && FMT_LOG_FIRST + log < end &&
	       space_zone_count(end, log, zone) > 0 && le64_get(sb->log_seq) > 0 &&
	       le64_get(sb->generation) < UINT32_MAX - 8 &&
	       le32_get(sb->catalog_height) <= FMT_HEIGHT_MAX &&
	       le64_get(sb->catalog_slots) <= size && le32_get(sb->metadata_copies) == 1;
}

static int check_version(const struct fmt_super *sb, struct err *err)
{
	uint64_t unknown = le64_get(sb->feature_incompat) & ~FMT_FEATURE_INCOMPAT;

	if (le32_get(sb->version) > FMT_VERSION)
		return err_set(err, -ENOTSUP,
			       "the pool has format version %u, this program knows up to %u; "
			       "use a newer blockd",
			       le32_get(sb->version), FMT_VERSION);
	if (unknown)
		return err_set(err, -ENOTSUP,
			       "the pool uses features this program does not know (0x%" PRIx64
			       "); use a newer blockd",
			       unknown);
	if (!geometry_valid(sb) || !counters_valid(sb))
		return err_set(err, -EUCLEAN, "superblock: its numbers make no sense");
	return 0;
}

struct copies {
	struct fmt_super sb[2][2]; /* [slot][copy] */
	bool good[2][2];
};

static void read_all(struct thin_dev *dev, struct copies *c, uint64_t size_blocks, unsigned copy)
{
	for (unsigned slot = 0; slot < 2; slot++) {
		struct pblk at = super_pblk(slot, copy, size_blocks);

		if (copy && size_blocks < 4)
			continue;
		c->good[slot][copy] = do_copy(dev, DEV_READ, at, &c->sb[slot][copy]) == 0 &&
				      super_copy_valid(&c->sb[slot][copy]);
	}
}

static const struct fmt_super *newest(const struct copies *c, unsigned *ret_slot)
{
	const struct fmt_super *best = NULL;

	for (unsigned slot = 0; slot < 2; slot++)
		for (unsigned copy = 0; copy < 2; copy++) {
			const struct fmt_super *sb = &c->sb[slot][copy];

			if (!c->good[slot][copy] ||
			    (best && le64_get(sb->checkpoint) <= le64_get(best->checkpoint)))
				continue;
			best = sb;
			*ret_slot = slot;
		}
	return best;
}

/* The newer good copy of each slot, and which copies are not like it. */
static void compare_copies(const struct copies *c, struct super_found *found)
{
	for (unsigned s = 0; s < 2; s++) {
		const struct fmt_super *sb = c->sb[s];
		bool second =
			c->good[s][1] &&
			(!c->good[s][0] || le64_get(sb[1].checkpoint) > le64_get(sb[0].checkpoint));

		found->intact[s] = sb[second];
		for (unsigned k = 0; k < 2; k++)
			found->stale[s][k] = !c->good[s][k] ||
					     memcmp(&sb[k], &found->intact[s], sizeof(sb[k])) != 0;
	}
}

int super_find(struct thin_dev *dev, struct super_found *ret_found, struct err *err)
{
	CLEANUP_FREE struct copies *c = NULL;
	const struct fmt_super *best;
	unsigned slot = 0;
	int r;

	if (posix_memalign((void **)&c, FMT_BLOCK, sizeof(*c)))
		return err_set(err, -ENOMEM, "out of memory");
	memset(c, 0, sizeof(*c));
	read_all(dev, c, 0, 0);
	best = newest(c, &slot);
	/* the copies at the end: where the front says, or at the end of the device */
	read_all(dev, c, best ? le64_get(best->size_blocks) : dev->size_bytes / FMT_BLOCK, 1);
	best = newest(c, &slot);
	if (!best)
		return err_set(err, -EUCLEAN,
			       "not a pool: no valid superblock at its beginning or its end");
	r = check_version(best, err);
	if (r)
		return r;
	if (le64_get(best->size_blocks) > dev->size_bytes / FMT_BLOCK)
		return err_set(err, -EUCLEAN,
			       "truncated: the pool has %" PRIu64 " bytes, the device only %" PRIu64
			       "; nothing was changed",
			       le64_get(best->size_blocks) * FMT_BLOCK, dev->size_bytes);
	memset(ret_found, 0, sizeof(*ret_found));
	for (unsigned s = 0; s < 2; s++) {
		if (!c->good[s][0] && !c->good[s][1])
			return err_set(
				err, -EUCLEAN,
				"both copies of superblock %c are damaged; nothing was changed",
				"AB"[s]);
		for (unsigned k = 0; k < 2; k++) {
			size_t used = strlen(ret_found->bad);

			ret_found->good_copies += c->good[s][k];
			if (!c->good[s][k])
				snprintf(ret_found->bad + used, sizeof(ret_found->bad) - used,
					 "%s%c%u", used ? ", " : "", "AB"[s], k + 1);
		}
	}
	ret_found->sb = *best;
	ret_found->slot = slot;
	compare_copies(c, ret_found);
	ret_found->same_size = le64_get(ret_found->intact[0].size_blocks) ==
			       le64_get(ret_found->intact[1].size_blocks);
	return 0;
}

int super_repair(struct thin_dev *dev, struct super_found *found)
{
	CLEANUP_FREE struct fmt_super *sb = NULL;
	uint64_t size_blocks = le64_get(found->sb.size_blocks);
	int r = 0;

	if (posix_memalign((void **)&sb, FMT_BLOCK, sizeof(*sb)))
		return -ENOMEM;
	for (unsigned slot = 0; slot < 2; slot++)
		for (unsigned copy = 0; copy < 2 && !r; copy++) {
			*sb = found->intact[slot];
			if (found->stale[slot][copy])
				r = do_copy(dev, DEV_WRITE, super_pblk(slot, copy, size_blocks),
					    sb);
		}
	return r;
}
