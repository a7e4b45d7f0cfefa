// SPDX-License-Identifier: GPL-2.0-or-later
/* Recovery loads the leaves that its log changes with few large reads, not one after the other;
 * when such a read fails, those leaves are loaded alone. */
#include "tests/thin/life.h"

#define LEAVES	   1000u
#define LEAF_BYTES (256 * BLK)

/* Counts what passes through to the disk below. */
struct counted {
	struct thin_dev dev;
	struct thin_dev *below;
	unsigned reads;
};

static void count_submit(struct thin_dev *dev, struct dev_io *io)
{
	struct counted *c = (struct counted *)dev;

	c->reads += io->op == DEV_READ;
	c->below->ops->submit(c->below, io);
}

static void count_kick(struct thin_dev *dev)
{
	struct counted *c = (struct counted *)dev;

	c->below->ops->kick(c->below);
}

static int count_poll(struct thin_dev *dev)
{
	struct counted *c = (struct counted *)dev;

	return c->below->ops->poll(c->below);
}

static void count_wait(struct thin_dev *dev)
{
	struct counted *c = (struct counted *)dev;

	c->below->ops->wait(c->below);
}

static int count_event_fd(struct thin_dev *dev)
{
	(void)dev;
	return -1;
}

static const struct thin_dev_ops count_ops = {
	.submit = count_submit,
	.kick = count_kick,
	.poll = count_poll,
	.wait = count_wait,
	.event_fd = count_event_fd,
};

static uint64_t block_of(unsigned leaf)
{
	return leaf * 256ull + leaf % 200;
}

/* A pool whose log changes each leaf, all of which an earlier checkpoint has written. */
static void make_log(struct rig *r)
{
	struct thin_vol *vol;

	rig_new(r, 16384, 512, true);
	vol = rig_vol(r, "v", LEAVES * LEAF_BYTES);
	for (unsigned i = 0; i < LEAVES; i++)
		assert_int_equal(rig_write(r, vol, block_of(i), 1, i + 1), 0);
	thin_vol_close(vol);
	rig_reopen(r);
	vol = rig_vol(r, "v", 0);
	for (unsigned i = 0; i < LEAVES; i++) /* in no order */
		assert_int_equal(rig_write(r, vol, block_of(i * 7 % LEAVES), 1, i + 2), 0);
	assert_int_equal(rig_flush(r), 0);
	/* the next page says that all before was durable: recovery need not look at the data */
	assert_int_equal(rig_write(r, vol, block_of(0), 1, 2), 0);
	assert_int_equal(rig_flush(r), 0);
	thin_vol_close(vol);
	rig_cut(r, false);
}

static void check_content(struct rig *r)
{
	struct thin_vol *vol = rig_vol(r, "v", 0);

	for (unsigned i = 0; i < LEAVES; i++)
		assert_true(rig_reads(r, vol, block_of(i * 7 % LEAVES), 1, i + 2));
	thin_vol_close(vol);
}

static void test_few_reads(void **state)
{
	struct rig r = { .open.node_cache_bytes = 48 * MIB };
	struct counted c = { .dev.ops = &count_ops };

	(void)state;
	make_log(&r);
	c.below = r.dev;
	c.dev.size_bytes = r.dev->size_bytes;
	r.dev = &c.dev;
	rig_open_pool(&r);
	assert_int_equal(rig_stat(&r).replayed_records, LEAVES + 1);
	/* 16 for the leaves, some for the superblock, the catalog, the bitmaps and the log */
	assert_in_range(c.reads, 16, LEAVES / 2);
	check_content(&r);
	assert_int_equal(thin_pool_close(r.pool), 0);
	r.dev = c.below;
	rig_verify_closed(&r);
	rig_free(&r);
}

static void test_read_fails(void **state)
{
	struct rig r = { .open.node_cache_bytes = 48 * MIB };
	unsigned nth, opened = 0, failed = 1;
	uint64_t bytes;
	struct dev_sim *whole;

	(void)state;
	make_log(&r);
	whole = r.sim;
	bytes = r.dev->size_bytes;
	for (nth = 0; failed; nth++) {
		struct err err = { 0 };

		r.sim = dev_sim_new_image(dev_sim_view(whole), bytes, nth);
		r.dev = dev_sim_port(r.sim);
		dev_sim_fail(r.sim, DEV_READ, nth, -EIO);
		if (rig_try_open(&r, &err) == 0) {
			failed = dev_sim_failed(r.sim, DEV_READ);
			opened += failed;
			if (failed)
				check_content(&r);
			assert_int_equal(thin_pool_close(r.pool), 0);
		} else {
			assert_int_equal(dev_sim_failed(r.sim, DEV_READ), 1);
			assert_true(err.text[0]);
		}
		dev_sim_free(r.sim);
	}
	/* what is read only once: the catalog's nodes and records */
	assert_in_range(nth - opened, 1, 8);
	dev_sim_free(whole);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_few_reads),
		cmocka_unit_test(test_read_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
