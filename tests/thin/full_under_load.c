// SPDX-License-Identifier: GPL-2.0-or-later
/* A full pool with clients that go on: new data is refused, overwrites go on, deletions and trims
 * come through, reserved blocks never see ENOSPC, and nothing is leaked. */
#include "tests/lib/rng.h"
#include "tests/thin/life.h"

enum { CLIENTS = 12, VOL_BLOCKS = 512 };

static struct rig r;
static struct thin_vol *vol;
static uint64_t filled; /* blocks of "v" that have data */

static void fill(uint64_t blocks, uint64_t pages)
{
	memset(&r, 0, sizeof(r));
	r.open.node_cache_bytes = 1;
	r.open.buffer_bytes = 1;
	r.open.commit_bytes = 64 * BLK;
	rig_new(&r, blocks, pages, true);
	vol = rig_vol(&r, "v", 64 * MIB);
	for (unsigned i = 0; i < 6; i++) {
		char name[8];
		struct thin_vol *other;

		snprintf(name, sizeof(name), "o%u", i);
		other = rig_vol(&r, name, MIB);
		assert_int_equal(rig_write(&r, other, 0, 24, 50 + i), 0);
		thin_vol_close(other);
	}
	for (filled = 0; filled < blocks; filled++) {
		int res = rig_write(&r, vol, filled, 1, (unsigned)filled + 1);

		if (res == -ENOSPC)
			break;
		assert_int_equal(res, 0);
	}
	assert_true(filled > blocks / 4);
	assert_true(r.events[THIN_EVENT_FULL] > 0);
}

struct load {
	struct rig_req q[CLIENTS];
	void *buf[CLIENTS];
	struct rng rng;
	unsigned answers;
};

static void load_start(struct load *l)
{
	memset(l, 0, sizeof(*l));
	l->rng.state = rng_mix(5);
	for (unsigned i = 0; i < CLIENTS; i++) {
		l->buf[i] = rig_buf(BLK, 1000 + i);
		l->q[i].answered = true;
	}
}

/* Overwrites all the time. */
static void load_turn(struct load *l)
{
	for (unsigned i = 0; i < CLIENTS; i++) {
		struct rig_req *q = &l->q[i];

		if (!q->answered)
			continue;
		assert_int_equal(q->res, 0);
		l->answers++;
		q->req = (struct thin_req){ .op = THIN_WRITE,
					    .vol = vol,
					    .offset = rng_below(&l->rng, filled) * BLK,
					    .len = BLK,
					    .buf = l->buf[i] };
		rig_submit(&r, q);
	}
	rig_turn(&r);
}

static void load_end(struct load *l)
{
	for (unsigned i = 0; i < CLIENTS; i++) {
		if (!l->q[i].answered)
			assert_int_equal(rig_wait(&r, &l->q[i]), 0);
		free(l->buf[i]);
	}
}

static int under_load(struct load *l, struct thin_req req)
{
	struct rig_req q = { .req = req };

	rig_submit(&r, &q);
	for (unsigned i = 0; !q.answered; i++) {
		assert_true(i < RIG_TURNS);
		load_turn(l);
	}
	return q.res;
}

static void test_load(void **state)
{
	void *buf = rig_buf(BLK, 1);

	(void)state;
	for (uint64_t blocks = 300; blocks < 340; blocks += 5) {
		struct load l;

		fill(blocks, 16);
		load_start(&l);
		for (unsigned i = 0; l.answers < 200; i++) {
			assert_true(i < RIG_TURNS);
			load_turn(&l);
		}
		assert_int_equal(under_load(&l, (struct thin_req){ .op = THIN_WRITE,
								   .vol = vol,
								   .offset = filled * BLK,
								   .len = BLK,
								   .buf = buf }),
				 -ENOSPC);
		for (unsigned i = 0; i < 6; i++) {
			char name[8];

			snprintf(name, sizeof(name), "o%u", i);
			assert_int_equal(under_load(&l, (struct thin_req){ .op = THIN_VOL_DELETE,
									   .name = name }),
					 0);
		}
		/* what the deletions brought back can be used */
		assert_int_equal(under_load(&l, (struct thin_req){ .op = THIN_WRITE,
								   .vol = vol,
								   .offset = filled * BLK,
								   .len = BLK,
								   .buf = buf }),
				 0);
		load_end(&l);
		thin_vol_close(vol);
		rig_settle(&r);
		rig_end(&r);
	}
	free(buf);
}

/* Power cut on a full pool in the middle of the load: it opens, and is still full. */
static void test_cut(void **state)
{
	(void)state;
	for (uint64_t blocks = 300; blocks < 340; blocks += 3) {
		struct load l;

		fill(blocks, 16);
		assert_int_equal(rig_flush(&r), 0);
		load_start(&l);
		for (unsigned i = 0; i < blocks; i++)
			load_turn(&l);
		thin_vol_close(vol);
		rig_cut(&r, blocks % 2);
		for (unsigned i = 0; i < CLIENTS; i++)
			free(l.buf[i]);
		rig_open_pool(&r);
		for (unsigned i = 0; i < 6; i++) {
			char name[8];

			snprintf(name, sizeof(name), "o%u", i);
			assert_int_equal(rig_control(&r, THIN_VOL_DELETE, name, 0), 0);
		}
		assert_int_equal(rig_control(&r, THIN_VOL_DELETE, "v", 0), 0);
		rig_settle(&r);
		assert_int_equal(rig_stat(&r).data_blocks + rig_stat(&r).reclaim_blocks, 0);
		rig_end(&r);
	}
}

/* A shrink gives space back: it works on a full pool. */
static void test_shrink(void **state)
{
	(void)state;
	fill(4096, 16);
	assert_int_equal(rig_control(&r, THIN_VOL_RESIZE, "v", MIB / 8), 0);
	rig_settle(&r);
	assert_int_equal(rig_control(&r, THIN_VOL_RESIZE, "v", 64 * MIB), 0);
	assert_int_equal(rig_write(&r, vol, 100, 32, 7), 0);
	thin_vol_close(vol);
	rig_end(&r);
}

static void test_reserved(void **state)
{
	struct load l;
	struct thin_vol *kept;

	(void)state;
	memset(&r, 0, sizeof(r));
	fill(4096, 16);
	assert_int_equal(rig_range(&r, vol, THIN_TRIM, 0, 128, 0), 0);
	rig_settle(&r);
	kept = rig_vol(&r, "kept", 4 * MIB);
	assert_int_equal(rig_range(&r, kept, THIN_ZERO, 0, 60, THIN_NO_HOLE), 0);
	while (rig_write(&r, vol, 5000 + filled, 1, 3) == 0) /* full again */
		filled++;
	filled = 16; /* the load's blocks */
	load_start(&l);
	for (unsigned i = 0; i < 60; i++) {
		void *buf = rig_buf(BLK, i + 1);
		struct thin_req req = {
			.op = THIN_WRITE, .vol = kept, .offset = i * BLK, .len = BLK, .buf = buf
		};

		/* the load overwrites nothing here: its blocks are holes and may be refused */
		assert_int_equal(rig_do(&r, req), 0);
		free(buf);
	}
	load_end(&l);
	for (unsigned i = 0; i < 60; i++)
		assert_true(rig_reads(&r, kept, i, 1, i + 1));
	thin_vol_close(kept);
	thin_vol_close(vol);
	rig_end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_load),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_shrink),
		cmocka_unit_test(test_reserved),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
