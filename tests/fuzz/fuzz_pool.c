/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pools from hostile hands: superblocks, log pages, catalog records, bitmaps and map nodes with any
 * content, behind right checksums.  No pool may crash the engine, hang it, or lead it outside the
 * device (the simulated disk aborts on that).
 *
 * The input is a list of edits to a small pool that holds all kinds of structures, with a log that
 * was not replayed:
 *
 *	block  offset  length  bytes        (1, 2, 1, up to 8 bytes; block is an index of those in
 *use)
 *
 * Behind each edit the checksums that cover the block are made right again: of a page that carries
 * its own, and in every entry that points to the block, up to the superblocks.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/lib/dev_sim.h"
#include "thin/format.h"
#include "thin/pool.h"
#include "thin/thin.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define BLOCK_COUNT  256u
#define EDIT_MAX     16u
#define FIX_DEPTH    8u
#define TURNS_MAX    20000u /* of the loop, for one request: more is a hang */
#define VOLUME_COUNT 3u

static uint8_t base[BLOCK_COUNT][FMT_BLOCK]; /* the good pool */
static uint8_t disk[BLOCK_COUNT][FMT_BLOCK]; /* the one in work */
static unsigned used[BLOCK_COUNT], used_count;
static uint64_t clock_ms = 1;

/* ---- driving the engine ---- */

static void on_done(struct thin_req *req, int res)
{
	*(int *)req->user = res;
}

/* One request to its end. */
static int run_request(struct thin_dev *dev, struct thin_pool *pool, struct thin_req *req)
{
	int res = 1;

	req->done = on_done;
	req->user = &res;
	thin_submit(pool, req);
	for (unsigned turn = 0; res == 1; turn++) {
		if (turn == TURNS_MAX)
			abort();
		thin_pool_run(pool, clock_ms++);
		dev->ops->kick(dev);
		dev->ops->poll(dev);
	}
	return res;
}

static int control(struct thin_dev *dev, struct thin_pool *pool, enum thin_op op, const char *name,
		   uint64_t size_bytes)
{
	struct thin_req req = { .op = op, .name = name, .size_bytes = size_bytes };

	return run_request(dev, pool, &req);
}

static int io(struct thin_dev *dev, struct thin_pool *pool, enum thin_op op, struct thin_vol *vol,
	      uint64_t offset, uint64_t size)
{
	static uint8_t buf[16 * FMT_BLOCK] __attribute__((aligned(4096)));
	struct thin_extent extents[8];
	struct thin_req req = { .op = op,
				.vol = vol,
				.offset = offset,
				.len = size,
				.buf = buf,
				.extents = extents,
				.extent_max = 8 };

	return run_request(dev, pool, &req);
}

static const struct thin_open open_params = {
	.node_cache_bytes = 512u << 10,
	.buffer_bytes = 256u << 10,
	.seed = 1,
	.now_ms = 1,
};

/* ---- the good pool ---- */

static void must(int r)
{
	if (r)
		abort();
}

static void build_base(void)
{
	static const char *const names[VOLUME_COUNT] = { "one", "two", "three" };
	struct thin_create create = {
		.journal_bytes = 16 * FMT_BLOCK, .seed = 7, .time_s = 1, .tiny = true
	};
	struct dev_sim *sim = dev_sim_new(BLOCK_COUNT * FMT_BLOCK, 1);
	struct thin_dev *dev = dev_sim_port(sim);
	struct thin_pool *pool;
	struct thin_vol *vol;

	must(thin_pool_create(dev, &create, NULL));
	must(thin_pool_open(dev, &open_params, &pool, NULL));
	for (unsigned i = 0; i < VOLUME_COUNT; i++) {
		must(control(dev, pool, THIN_VOL_CREATE, names[i], 64ULL << (20 + 10 * i)));
		must(thin_vol_open(pool, names[i], &vol));
		must(io(dev, pool, THIN_WRITE, vol, 0, 8 * FMT_BLOCK));
		must(io(dev, pool, THIN_WRITE, vol, 32ULL << 20, FMT_BLOCK));
		thin_vol_close(vol);
		if (i == 1)
			must(control(dev, pool, THIN_CHECKPOINT, NULL, 0));
	}
	/* What follows stays in the log: blocks, operations of each kind. */
	must(thin_vol_open(pool, "one", &vol));
	must(io(dev, pool, THIN_WRITE, vol, 16 * FMT_BLOCK, 4 * FMT_BLOCK));
	must(io(dev, pool, THIN_TRIM, vol, 0, 2 * FMT_BLOCK));
	must(io(dev, pool, THIN_ZERO, vol, 2 * FMT_BLOCK, FMT_BLOCK));
	thin_vol_close(vol);
	must(control(dev, pool, THIN_VOL_RESIZE, "one", 128u << 20));
	must(control(dev, pool, THIN_VOL_DELETE, "two", 0));
	must(thin_vol_open(pool, "three", &vol));
	must(io(dev, pool, THIN_FLUSH, vol, 0, 0));
	thin_vol_close(vol);
	thin_pool_abandon(pool);
	for (unsigned b = 0; b < BLOCK_COUNT; b++) {
		memcpy(base[b], sim_page_data(sim_image_get(dev_sim_durable(sim), b)), FMT_BLOCK);
		if (sim_image_get(dev_sim_durable(sim), b))
			used[used_count++] = b;
	}
	dev_sim_free(sim);
}

/* ---- edits ---- */

static void fix_block(unsigned block, unsigned depth);

/* Make the checksum right in all that looks like an entry for this block. */
static void fix_entries(unsigned block, unsigned depth)
{
	uint32_t crc = pool_crc(disk[block], FMT_BLOCK);

	for (unsigned i = 0; i < used_count; i++) {
		bool changed = false;

		if (used[i] == block)
			continue;
		for (unsigned at = 0; at + sizeof(struct fmt_entry) <= FMT_BLOCK; at += 8) {
			struct fmt_entry *e = (struct fmt_entry *)(disk[used[i]] + at);
			uint64_t where = le64_get(e->where);

			if ((where & FMT_PBLK_MASK) != block || !(where & FMT_ENT_MAPPED) ||
			    le32_get(e->crc) == crc)
				continue;
			e->crc = le32_put(crc);
			changed = true;
		}
		if (changed)
			fix_block(used[i], depth + 1);
	}
}

/* Checksums that a block carries itself, then those that point to it. */
static void fix_block(unsigned block, unsigned depth)
{
	struct fmt_super *super = (struct fmt_super *)disk[block];
	struct fmt_log_head *log = (struct fmt_log_head *)disk[block];

	if (depth > FIX_DEPTH)
		return;
	if (!memcmp(super->magic, FMT_SB_MAGIC, 8)) {
		super->crc = le32_put(0);
		super->crc = le32_put(pool_crc(super, FMT_BLOCK));
		return;
	}
	if (le32_get(log->magic) == FMT_LOG_MAGIC) {
		struct fmt_log_head *next = (struct fmt_log_head *)disk[block + 1];
		uint32_t old = le32_get(log->crc);

		log->crc = le32_put(0);
		log->crc = le32_put(pool_crc(log, FMT_BLOCK));
		if (block + 1 < BLOCK_COUNT && le32_get(next->magic) == FMT_LOG_MAGIC &&
		    le32_get(next->pred) == old) {
			next->pred = log->crc;
			fix_block(block + 1, 0);
		}
		return;
	}
	fix_entries(block, depth);
}

static void apply(const uint8_t *data, size_t len)
{
	memcpy(disk, base, sizeof(disk));
	for (unsigned i = 0; i < EDIT_MAX && len >= 5; i++) {
		unsigned block = used[data[0] % used_count];
		size_t offset = (data[1] | data[2] << 8) % FMT_BLOCK, n = data[3] % 8 + 1;

		if (n > len - 4)
			n = len - 4;
		if (n > FMT_BLOCK - offset)
			n = FMT_BLOCK - offset;
		memcpy(disk[block] + offset, data + 4, n);
		fix_block(block, 0);
		data += 4 + n;
		len -= 4 + n;
	}
}

/* ---- use of what came out ---- */

static void use_volume(struct thin_dev *dev, struct thin_pool *pool, const char *name)
{
	struct thin_vol *vol;
	uint64_t size;

	if (thin_vol_open(pool, name, &vol))
		return;
	size = thin_vol_size_bytes(vol);
	if (size >= 8 * FMT_BLOCK) {
		io(dev, pool, THIN_READ, vol, 0, 8 * FMT_BLOCK);
		io(dev, pool, THIN_STATUS, vol, 0, size & ~(uint64_t)(FMT_BLOCK - 1));
		io(dev, pool, THIN_WRITE, vol, FMT_BLOCK, FMT_BLOCK);
		io(dev, pool, THIN_WRITE, vol, (size / FMT_BLOCK - 1) * FMT_BLOCK, FMT_BLOCK);
		io(dev, pool, THIN_TRIM, vol, 4 * FMT_BLOCK, 4 * FMT_BLOCK);
	}
	io(dev, pool, THIN_FLUSH, vol, 0, 0);
	thin_vol_close(vol);
}

static void use_pool(struct thin_dev *dev, struct thin_pool *pool)
{
	char names[8][THIN_NAME_MAX + 1], last[THIN_NAME_MAX + 1] = "";
	struct thin_vol_stat st;
	struct thin_pool_stat ps;
	unsigned count = 0;

	while (count < 8 && !thin_vol_next(pool, last, &st)) {
		strcpy(last, st.name);
		strcpy(names[count++], st.name);
	}
	for (unsigned i = 0; i < count; i++)
		use_volume(dev, pool, names[i]);
	control(dev, pool, THIN_VOL_CREATE, "new", 1u << 20);
	if (count)
		control(dev, pool, THIN_VOL_DELETE, names[0], 0);
	control(dev, pool, THIN_CHECKPOINT, NULL, 0);
	thin_pool_stat(pool, &ps);
}

static void on_problem(void *user, const char *text)
{
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct thin_verify_report report;
	struct thin_pool *pool = NULL;
	struct sim_image image;
	struct thin_dev *dev;
	struct dev_sim *sim;

	if (!used_count)
		build_base();
	apply(data, len);
	sim_image_init(&image);
	for (unsigned i = 0; i < used_count; i++) {
		struct sim_page *page = sim_page_new(disk[used[i]]);

		sim_image_set(&image, used[i], page);
		sim_page_put(page);
	}
	sim = dev_sim_new_image(&image, BLOCK_COUNT * FMT_BLOCK, 1);
	dev = dev_sim_port(sim);
	thin_verify(dev, true, on_problem, NULL, &report, NULL);
	if (!thin_pool_open(dev, &open_params, &pool, NULL)) {
		use_pool(dev, pool);
		thin_pool_close(pool);
	}
	dev_sim_free(sim);
	sim_image_free(&image);
	return 0;
}
