// SPDX-License-Identifier: GPL-2.0-or-later
/* Reads with a data cache: no I/O where none is needed, and never anything but what was written. */
#include <isa-l/crc.h>

#include "tests/lib/rng.h"
#include "tests/thin/life.h"
#include "thin/pool.h"

#define LEAF 256u /* blocks */

static void new_rig(struct rig *r, uint64_t cache_bytes)
{
	memset(r, 0, sizeof(*r));
	r->open.data_cache_bytes = cache_bytes;
	rig_new(r, 8192, 256, true);
}

/* Closed and opened: nothing is cached. */
static struct thin_vol *cold(struct rig *r, struct thin_vol *vol)
{
	thin_vol_close(vol);
	rig_reopen(r);
	return rig_vol(r, "v", 0);
}

static uint64_t read_bytes(struct rig *r)
{
	return rig_stat(r).data_read_bytes;
}

/* ---- lending ---- */

struct lent {
	struct rig_req q; /* first */
	struct iovec iov[2 * LEAF];
	char *buf;
};

static int lend(struct rig *r, struct lent *l, struct thin_vol *vol, uint64_t block, uint64_t count)
{
	l->buf = rig_buf(count * BLK, 0xbad);
	l->q.req = (struct thin_req){ .op = THIN_READ,
				      .flags = THIN_LEND,
				      .vol = vol,
				      .offset = block * BLK,
				      .len = count * BLK,
				      .buf = l->buf,
				      .iov = l->iov,
				      .iov_max = 2 * LEAF };
	rig_submit(r, &l->q);
	return rig_wait(r, &l->q);
}

/* What was read, wherever it lies. */
static void lent_copy(struct lent *l, char *to)
{
	uint64_t done = 0;

	if (!l->q.req.iov_count)
		memcpy(to, l->buf, l->q.req.len);
	for (uint32_t i = 0; i < l->q.req.iov_count; i++) {
		memcpy(to + done, l->iov[i].iov_base, l->iov[i].iov_len);
		done += l->iov[i].iov_len;
	}
	if (l->q.req.iov_count)
		assert_int_equal(done, l->q.req.len);
}

static void give_back(struct rig *r, struct lent *l)
{
	thin_read_return(r->pool, &l->q.req);
	free(l->buf);
}

/* ---- tests ---- */

/* The second read is answered in the turn that takes it up; with the cache off it reads again. */
static void test_hits_need_no_device(void **state)
{
	(void)state;
	for (unsigned on = 0; on < 2; on++) {
		struct rig_req q = { 0 };
		struct thin_vol *vol;
		struct rig r;
		uint64_t before;

		new_rig(&r, on ? 8 * MIB : 0);
		vol = rig_vol(&r, "v", 64 * MIB);
		assert_int_equal(rig_write(&r, vol, 0, 64, 1), 0);
		vol = cold(&r, vol);
		assert_true(rig_reads(&r, vol, 0, 64, 1));
		before = read_bytes(&r);
		assert_int_equal(before, 64 * BLK);
		q.req = (struct thin_req){ .op = THIN_READ,
					   .vol = vol,
					   .offset = 3 * BLK,
					   .len = 50 * BLK,
					   .buf = rig_buf(50 * BLK, 0) };
		rig_submit(&r, &q);
		thin_pool_run(r.pool, r.now_ms);
		assert_int_equal(q.answered, on);
		assert_int_equal(rig_wait(&r, &q), 0);
		assert_int_equal(read_bytes(&r) - before, on ? 0 : 50 * BLK);
		assert_int_equal(rig_stat(&r).cache_hits, on ? 50 : 0);
		assert_int_equal(rig_stat(&r).cache_misses, on ? 64 : 64 + 50);
		assert_int_equal(rig_stat(&r).data_cached_bytes, on ? 64 * BLK : 0);
		/* just written is as good as read */
		before = read_bytes(&r);
		assert_int_equal(rig_write(&r, vol, 100, 3, 9), 0);
		assert_int_equal(rig_write(&r, vol, 5, 3, 10), 0);
		assert_true(rig_reads(&r, vol, 100, 3, 9));
		assert_true(rig_reads(&r, vol, 5, 3, 10));
		assert_int_equal(read_bytes(&r) - before, on ? 0 : 6 * BLK);
		free(q.req.buf);
		thin_vol_close(vol);
		rig_end(&r);
	}
}

/* Who asks while the block is on its way waits for it. */
static void test_one_read_for_two(void **state)
{
	struct rig_req q[8] = { 0 };
	struct thin_vol *vol;
	struct rig r;

	(void)state;
	new_rig(&r, 8 * MIB);
	vol = rig_vol(&r, "v", 64 * MIB);
	assert_int_equal(rig_write(&r, vol, 0, LEAF, 1), 0);
	vol = cold(&r, vol);
	for (unsigned i = 0; i < 8; i++) {
		q[i].req = (struct thin_req){ .op = THIN_READ,
					      .vol = vol,
					      .offset = i * 16 * BLK,
					      .len = 128 * BLK,
					      .buf = rig_buf(128 * BLK, 0) };
		rig_submit(&r, &q[i]);
	}
	for (unsigned i = 0; i < 8; i++) {
		char *want = rig_buf(LEAF * BLK, 1);

		assert_int_equal(rig_wait(&r, &q[i]), 0);
		assert_memory_equal(q[i].req.buf, want + i * 16 * BLK, 128 * BLK);
		free(want);
		free(q[i].req.buf);
	}
	assert_int_equal(read_bytes(&r), 240 * BLK);
	thin_vol_close(vol);
	rig_end(&r);
}

/* Holes, provisioned zeroes, cached and missing blocks in any mixture, across leaves, lent or not.
 */
static void test_mixtures(void **state)
{
	enum { BLOCKS = 1200 };
	uint8_t *is = malloc(BLOCKS); /* 0: zeroes; else the pattern */
	struct rng rng = { 5 };
	struct thin_vol *vol;
	struct lent l;
	struct rig r;
	char *got = malloc(2 * LEAF * BLK);

	(void)state;
	memset(is, 0, BLOCKS);
	new_rig(&r, 4 * MIB);
	vol = rig_vol(&r, "v", 64 * MIB);
	for (unsigned i = 0; i < 600; i++) {
		uint64_t at = rng_below(&rng, BLOCKS), n = 1 + rng_below(&rng, 20);
		unsigned what = (unsigned)rng_below(&rng, 8);

		n = n < BLOCKS - at ? n : BLOCKS - at;
		if (what == 0) {
			rig_range(&r, vol, THIN_ZERO, at, n, THIN_NO_HOLE);
		} else if (what == 1) {
			rig_range(&r, vol, THIN_TRIM, at, n, 0);
		} else {
			for (uint64_t b = at; b < at + n; b++)
				assert_int_equal(rig_write(&r, vol, b, 1, what), 0);
		}
		memset(is + at, what < 2 ? 0 : (int)what, n);
	}
	vol = cold(&r, vol);
	for (unsigned i = 0; i < 400; i++) {
		uint64_t n = 1 + rng_below(&rng, rng_percent(&rng, 30) ? 2 * LEAF : 12);
		uint64_t at = rng_below(&rng, BLOCKS - n);

		if (i % 2) {
			assert_int_equal(rig_read(&r, vol, at, n, got), 0);
		} else {
			assert_int_equal(lend(&r, &l, vol, at, n), 0);
			/* of one leaf, with enough to spare: it is lent */
			if (at / LEAF == (at + n - 1) / LEAF)
				assert_true(l.q.req.iov_count);
			lent_copy(&l, got);
			give_back(&r, &l);
		}
		for (uint64_t b = 0; b < n; b++) {
			char *want = rig_buf(BLK, is[at + b]);

			if (!is[at + b])
				memset(want, 0, BLK);
			assert_memory_equal(got + b * BLK, want, BLK);
			free(want);
		}
	}
	assert_int_equal(r.pool->data.pinned, 0);
	free(got);
	free(is);
	thin_vol_close(vol);
	rig_end(&r);
}

/* What was lent stays as it is while its block is overwritten, trimmed, evicted and read anew. */
static void test_lent_stays(void **state)
{
	char *got = malloc(8 * BLK), *want = rig_buf(8 * BLK, 1);
	struct thin_vol *vol;
	struct rig r;
	struct lent l;

	(void)state;
	new_rig(&r, 1 * MIB);
	vol = rig_vol(&r, "v", 64 * MIB);
	assert_int_equal(rig_write(&r, vol, 0, 8, 1), 0);
	assert_int_equal(lend(&r, &l, vol, 0, 8), 0);
	assert_true(l.q.req.iov_count > 0);
	assert_int_equal(rig_write(&r, vol, 0, 4, 2), 0);
	assert_int_equal(rig_range(&r, vol, THIN_TRIM, 4, 4, 0), 0);
	assert_int_equal(rig_flush(&r), 0);
	for (unsigned i = 0; i < 40; i++) {
		assert_int_equal(rig_write(&r, vol, 1000 + i * 16, 16, i + 5), 0);
		assert_true(rig_reads(&r, vol, 1000 + i * 16, 16, i + 5));
	}
	assert_true(rig_reads(&r, vol, 0, 4, 2));
	assert_true(rig_reads(&r, vol, 4, 4, 0));
	lent_copy(&l, got);
	assert_memory_equal(got, want, 8 * BLK);
	give_back(&r, &l);
	assert_int_equal(r.pool->data.pinned, 0);
	free(got);
	free(want);
	thin_vol_close(vol);
	rig_end(&r);
}

/* Another block of the same checksum. */
static void forge(uint8_t *block, uint32_t seed, const uint8_t *model)
{
	uint32_t a = crc32_iscsi((unsigned char *)model, BLK - 4, ~0u), b, tail;

	memcpy(&tail, model + BLK - 4, 4);
	for (unsigned i = 0; i < BLK - 4; i += 4) {
		uint32_t word = seed * 2654435761u + i;

		memcpy(block + i, &word, 4);
	}
	b = crc32_iscsi(block, BLK - 4, ~0u);
	tail ^= a ^ b;
	memcpy(block + BLK - 4, &tail, 4);
	assert_int_equal(pool_crc(block, BLK), pool_crc(model, BLK));
}

/*
 * Blocks are freed and written again within one generation, all with one checksum: key, birth and
 * crc say that they are the same, and they are not.  Some of the writes are too large for the
 * cache.
 */
static void test_same_place_birth_and_crc(void **state)
{
	enum { ROUNDS = 80, SPAN = 20 };
	uint8_t *model = rig_buf(BLK, 3), *buf = rig_buf(SPAN * BLK, 0), *in = rig_buf(BLK, 0);
	uint32_t seeds[SPAN], seed = 0;
	struct rng rng = { 9 };
	struct thin_vol *vol;
	uint64_t generation, written = 0;
	struct rig r;

	(void)state;
	memset(&r, 0, sizeof(r));
	r.open.data_cache_bytes = 4 * MIB;
	r.open.commit_bytes = 64 * BLK;
	rig_new(&r, 512, 200, true);
	vol = rig_vol(&r, "v", MIB);
	generation = rig_stat(&r).generation;
	for (unsigned round = 0; round < ROUNDS; round++) {
		unsigned count = round % 2 ? SPAN : 1 + (unsigned)rng_below(&rng, 16);
		struct thin_req w = {
			.op = THIN_WRITE, .vol = vol, .buf = buf, .len = count * BLK
		};

		for (unsigned i = 0; i < count; i++)
			forge(buf + i * BLK, seeds[i] = ++seed, model);
		if (!round)
			for (unsigned i = count; i < SPAN; i++)
				seeds[i] = 0;
		assert_int_equal(rig_do(&r, w), 0);
		assert_int_equal(rig_flush(&r), 0);
		written += count;
		for (unsigned i = 0; i < SPAN && seeds[i]; i++) {
			forge(buf, seeds[i], model);
			assert_int_equal(rig_read(&r, vol, i, 1, in), 0);
			assert_memory_equal(in, buf, BLK);
		}
	}
	assert_int_equal(rig_stat(&r).generation, generation);
	assert_true(written > 2 * rig_stat(&r).block_count);
	free(model);
	free(buf);
	free(in);
	thin_vol_close(vol);
	rig_end(&r);
}

/* A write that the device refuses leaves what was there. */
static void test_failed_write(void **state)
{
	struct thin_vol *vol;
	struct rig r;

	(void)state;
	new_rig(&r, 8 * MIB);
	vol = rig_vol(&r, "v", MIB);
	assert_int_equal(rig_write(&r, vol, 0, 4, 1), 0);
	assert_true(rig_reads(&r, vol, 0, 4, 1));
	dev_sim_fail(r.sim, DEV_WRITE, 0, -EIO);
	assert_int_equal(rig_write(&r, vol, 0, 4, 2), -EIO);
	assert_true(rig_reads(&r, vol, 0, 4, 1));
	assert_true(rig_reads(&r, vol, 4, 4, 0));
	assert_int_equal(rig_write(&r, vol, 0, 4, 3), 0);
	assert_true(rig_reads(&r, vol, 0, 4, 3));
	thin_vol_close(vol);
	rig_end(&r);
}

/* Damage on disk is found by the read that has to go there, each time, and costs that block. */
static void test_damage(void **state)
{
	char *buf = rig_buf(16 * BLK, 0);
	struct thin_vol *vol;
	struct rig r;
	uint64_t at;
	struct lent l;

	(void)state;
	new_rig(&r, 8 * MIB);
	vol = rig_vol(&r, "v", MIB);
	assert_int_equal(rig_write(&r, vol, 0, 16, 1), 0);
	vol = cold(&r, vol);
	assert_true(rig_reads(&r, vol, 5, 1, 1 + (unsigned)(5 * BLK / 4 * 2654435761u)));
	at = r.pool->data.slot[1].key.pblk;
	dev_sim_corrupt(r.sim, at, 17);
	/* it is cached: nobody is hurt */
	assert_true(rig_reads(&r, vol, 0, 16, 1));
	vol = cold(&r, vol);
	for (unsigned i = 0; i < 3; i++) {
		struct rig_req q = {
			.req = { .op = THIN_READ, .vol = vol, .len = 16 * BLK, .buf = buf }
		};

		rig_submit(&r, &q);
		assert_int_equal(rig_wait(&r, &q), -EIO);
		assert_int_equal(q.req.bad_offset, 5 * BLK);
		assert_int_equal(rig_stat(&r).checksum_errors, 2 * i + 1);
		assert_int_equal(lend(&r, &l, vol, 0, 16), -EIO);
		assert_int_equal(l.q.req.iov_count, 0);
		free(l.buf);
		assert_true(rig_reads(&r, vol, 0, 5, 1));
	}
	/* a device error, and afterwards all is well */
	vol = cold(&r, vol);
	dev_sim_fail(r.sim, DEV_READ, 1, -EIO); /* behind the map's */
	assert_int_equal(rig_read(&r, vol, 0, 5, buf), -EIO);
	assert_true(rig_reads(&r, vol, 0, 5, 1));
	assert_int_equal(r.pool->data.pinned, 0);
	assert_int_equal(rig_write(&r, vol, 5, 1, 4), 0);
	assert_true(rig_reads(&r, vol, 5, 1, 4));
	free(buf);
	thin_vol_close(vol);
	rig_end(&r);
}

/* ---- everything at once ---- */

enum { CLIENTS = 12, REGION = 40, TURNS = 30000 };

struct client {
	struct lent l; /* first */
	bool busy;
	char *data;
	uint32_t version;
};

/* Each client has a region of its own, which it checks; the cache is small, and all fight for it.
 */
static void storm(uint64_t cache_bytes, unsigned delay)
{
	struct client *c = calloc(CLIENTS, sizeof(*c));
	uint32_t is[CLIENTS][REGION] = { 0 };
	struct rng rng = { cache_bytes + delay };
	char *got = malloc(REGION * BLK);
	struct thin_vol *vol;
	struct rig r;

	new_rig(&r, cache_bytes);
	dev_sim_set_delay(r.sim, delay);
	vol = rig_vol(&r, "v", 16 * MIB);
	for (unsigned i = 0; i < CLIENTS; i++) {
		c[i].data = rig_buf(REGION * BLK, 0);
		c[i].l.buf = rig_buf(REGION * BLK, 0);
	}
	for (unsigned turn = 0; turn < TURNS; turn++) {
		struct client *k = &c[rng_below(&rng, CLIENTS)];
		unsigned me = (unsigned)(k - c), what = (unsigned)rng_below(&rng, 10);
		struct thin_req *q = &k->l.q.req;

		rig_turn(&r);
		if (k->busy && !k->l.q.answered)
			continue;
		if (k->busy && q->op == THIN_READ) {
			uint64_t first = q->offset / BLK - me * REGION;

			assert_int_equal(k->l.q.res, 0);
			lent_copy(&k->l, got);
			thin_read_return(r.pool, q);
			for (uint64_t b = 0; b < q->len / BLK; b++) {
				uint32_t version;

				memcpy(&version, got + b * BLK, 4);
				assert_int_equal(version, is[me][first + b]);
				memcpy(&version, got + b * BLK + BLK - 4, 4);
				assert_int_equal(version, is[me][first + b]);
			}
		} else if (k->busy) {
			assert_int_equal(k->l.q.res, 0);
		}
		{
			uint64_t at = rng_below(&rng, REGION), n = 1 + rng_below(&rng, REGION - at);
			enum thin_op op = what < 6    ? THIN_READ
					  : what < 8  ? THIN_WRITE
					  : what == 8 ? THIN_TRIM
						      : THIN_FLUSH;

			*q = (struct thin_req){ .op = op,
						.vol = vol,
						.offset = (me * REGION + at) * BLK,
						.len = n * BLK,
						.buf = op == THIN_READ ? k->l.buf : k->data,
						.flags = what % 2 ? THIN_LEND : 0,
						.iov = k->l.iov,
						.iov_max = 2 * LEAF };
			k->version++;
			for (uint64_t b = 0; b < n && op == THIN_WRITE; b++) {
				memset(k->data + b * BLK, (int)k->version, BLK);
				memcpy(k->data + b * BLK, &k->version, 4);
				memcpy(k->data + b * BLK + BLK - 4, &k->version, 4);
				is[me][at + b] = k->version;
			}
			for (uint64_t b = 0; b < n && op == THIN_TRIM; b++)
				is[me][at + b] = 0;
			if (op != THIN_READ)
				q->flags = 0;
			k->busy = true;
			rig_submit(&r, &k->l.q);
		}
	}
	for (unsigned i = 0; i < CLIENTS; i++) {
		if (c[i].busy)
			rig_wait(&r, &c[i].l.q);
		if (c[i].busy && c[i].l.q.req.op == THIN_READ)
			thin_read_return(r.pool, &c[i].l.q.req);
		free(c[i].data);
		free(c[i].l.buf);
	}
	assert_int_equal(r.pool->data.pinned, 0);
	free(got);
	free(c);
	thin_vol_close(vol);
	rig_end(&r);
}

static void test_storm(void **state)
{
	(void)state;
	storm(0, 3);
	storm(1, 3); /* the smallest there is */
	storm(80 * BLK, 9);
	storm(400 * BLK, 0);
	storm(16 * MIB, 30);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hits_need_no_device),
		cmocka_unit_test(test_one_read_for_two),
		cmocka_unit_test(test_mixtures),
		cmocka_unit_test(test_lent_stays),
		cmocka_unit_test(test_same_place_birth_and_crc),
		cmocka_unit_test(test_failed_write),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_storm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
