// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The simulated disk of the crash tests keeps the rules it claims: if it were kinder than a disk
 * may be, the crash tests would prove nothing.
 */
#include "tests/thin/dev_rig.h"

#include "tests/lib/dev_sim.h"

#define SIZE (1u << 20)

static char *a, *b, *c;

static bool image_is(const struct sim_image *image, uint64_t block, const char *data)
{
	return memcmp(sim_page_data(sim_image_get(image, block)), data, BLK) == 0;
}

static bool cut_is(struct dev_sim *sim, uint8_t part, uint64_t block, const char *data)
{
	uint8_t parts[64];
	struct sim_image image;
	bool r;

	memset(parts, part, sizeof(parts));
	dev_sim_cut(sim, parts, 1, &image);
	r = image_is(&image, block, data);
	sim_image_free(&image);
	return r;
}

static void test_durable(void **state)
{
	struct dev_sim *sim = dev_sim_new(SIZE, 1);
	struct thin_dev *dev = dev_sim_port(sim);
	struct rig_io w = { 0 }, f = { 0 };

	assert_int_equal(rig_run(dev, DEV_WRITE, 0, a, BLK), 0);
	assert_int_equal(dev_sim_pending(sim), 1);
	assert_false(cut_is(sim, SIM_NONE, 0, a));
	assert_true(cut_is(sim, SIM_ALL, 0, a));

	/* a write that completes after the flush was submitted is not covered by it */
	dev_sim_set_delay(sim, 0);
	rig_start(dev, &f, DEV_FLUSH, 0, NULL, 0);
	rig_start(dev, &w, DEV_WRITE, BLK, b, BLK);
	while (!w.answered || !f.answered)
		dev->ops->wait(dev);
	assert_true(cut_is(sim, SIM_NONE, 0, a));
	assert_false(cut_is(sim, SIM_NONE, 1, b));
	assert_int_equal(rig_run(dev, DEV_FLUSH, 0, NULL, 0), 0);
	assert_true(cut_is(sim, SIM_NONE, 1, b));
	assert_int_equal(dev_sim_pending(sim), 0);

	/* FUA, and what it replaces does not come back */
	assert_int_equal(rig_run(dev, DEV_WRITE, 0, b, BLK), 0);
	w.io.fua = true;
	rig_start(dev, &w, DEV_WRITE, 0, c, BLK);
	while (!w.answered)
		dev->ops->wait(dev);
	assert_true(cut_is(sim, SIM_NONE, 0, c));
	assert_true(cut_is(sim, SIM_ALL, 0, c));
	dev_sim_free(sim);
}

/* Nothing happens before kick(), reads see what has completed, any order is possible. */
static void test_order(void **state)
{
	struct dev_sim *sim = dev_sim_new(SIZE, 2);
	struct thin_dev *dev = dev_sim_port(sim);
	char *in = rig_buf(BLK, 0);
	bool first_last = false, first_first = false;

	for (int turn = 0; turn < 100; turn++) {
		struct rig_io w[2] = { 0 };

		rig_start(dev, &w[0], DEV_WRITE, 0, turn % 2 ? a : b, BLK);
		rig_start(dev, &w[1], DEV_WRITE, BLK, c, BLK);
		for (int i = 0; i < 100; i++)
			assert_int_equal(dev->ops->poll(dev), 0);
		dev->ops->kick(dev);
		while (!w[0].answered || !w[1].answered) {
			dev->ops->poll(dev);
			first_first |= w[0].answered && !w[1].answered;
			first_last |= !w[0].answered && w[1].answered;
		}
		assert_int_equal(rig_run(dev, DEV_READ, 0, in, BLK), 0);
		assert_memory_equal(in, turn % 2 ? a : b, BLK);
	}
	assert_true(first_first && first_last);
	free(in);
	dev_sim_free(sim);
}

static void test_kill(void **state)
{
	struct dev_sim *sim = dev_sim_new(SIZE, 3), *after;
	struct thin_dev *dev = dev_sim_port(sim);
	struct rig_io w = { 0 };
	uint8_t parts[2] = { SIM_NONE, SIM_NONE };

	assert_int_equal(rig_run(dev, DEV_WRITE, 0, a, BLK), 0);
	rig_start(dev, &w, DEV_WRITE, BLK, b, BLK);
	after = dev_sim_kill(sim, parts, 1);
	assert_true(image_is(dev_sim_view(after), 0, a)); /* completed: survives the process */
	assert_false(image_is(dev_sim_durable(after), 0, a));
	assert_false(image_is(dev_sim_view(after), 1, b));
	assert_int_equal(dev_sim_in_flight(after), 0);
	dev_sim_free(after);

	parts[1] = SIM_ALL;
	after = dev_sim_kill(sim, parts, 1);
	assert_true(image_is(dev_sim_view(after), 1, b));
	assert_true(cut_is(after, SIM_ALL, 1, b));
	assert_false(cut_is(after, SIM_NONE, 1, b));
	assert_int_equal(rig_run(dev_sim_port(after), DEV_FLUSH, 0, NULL, 0), 0);
	assert_true(cut_is(after, SIM_NONE, 0, a));
	assert_true(cut_is(after, SIM_NONE, 1, b));
	dev_sim_free(after);
	dev_sim_free(sim);
}

/* What a failed flush should have covered, no later flush covers. */
static void test_failed_flush(void **state)
{
	char *in = rig_buf(BLK, 0);
	struct dev_sim *sim = dev_sim_new(SIZE, 4);
	struct thin_dev *dev = dev_sim_port(sim);

	assert_int_equal(rig_run(dev, DEV_WRITE, 0, a, BLK), 0);
	dev_sim_fail(sim, DEV_FLUSH, 0, -EIO);
	assert_int_equal(rig_run(dev, DEV_FLUSH, 0, NULL, 0), -EIO);
	assert_int_equal(rig_run(dev, DEV_WRITE, BLK, b, BLK), 0);
	assert_int_equal(rig_run(dev, DEV_FLUSH, 0, NULL, 0), 0);
	assert_false(cut_is(sim, SIM_NONE, 0, a));
	assert_true(cut_is(sim, SIM_NONE, 1, b));
	/* nor does it come back over what was written there since */
	assert_int_equal(rig_run(dev, DEV_WRITE, 0, c, BLK), 0);
	assert_int_equal(rig_run(dev, DEV_FLUSH, 0, NULL, 0), 0);
	assert_true(cut_is(sim, SIM_ALL, 0, c));
	dev_sim_fail(sim, DEV_READ, 1, -EIO);
	assert_int_equal(rig_run(dev, DEV_READ, 9 * BLK, in, BLK), 0);
	assert_int_equal(rig_run(dev, DEV_READ, 9 * BLK, in, BLK), -EIO);
	assert_int_equal(rig_run(dev, DEV_READ, 9 * BLK, in, BLK), 0);
	free(in);
	dev_sim_free(sim);
}

static void test_torn(void **state)
{
	struct dev_sim *sim = dev_sim_new(SIZE, 5);
	struct thin_dev *dev = dev_sim_port(sim);
	char *many = rig_buf(8 * BLK, 11);
	unsigned mixed = 0, part = 0;

	assert_int_equal(rig_run(dev, DEV_WRITE, 0, many, 8 * BLK), 0);
	for (unsigned seed = 0; seed < 50; seed++) {
		struct sim_image image;
		unsigned there = 0, sectors = 0;

		dev_sim_cut(sim, (uint8_t[]){ SIM_TORN_BLOCKS }, seed, &image);
		for (unsigned i = 0; i < 8; i++)
			there += image_is(&image, i, many + i * BLK);
		part += there > 0 && there < 8;
		sim_image_free(&image);

		dev_sim_cut(sim, (uint8_t[]){ SIM_TORN_SECTORS }, seed, &image);
		for (unsigned i = 0; i < 64; i++)
			sectors +=
				!memcmp((const char *)sim_page_data(sim_image_get(&image, i / 8)) +
						i % 8 * 512,
					many + i * 512, 512);
		assert_true(sectors >= 56);
		mixed += sectors < 64;
		sim_image_free(&image);
	}
	assert_true(mixed > 10 && part > 10);
	free(many);
	dev_sim_free(sim);
}

/* Equal disks have equal hashes, however they came about. */
static void test_hash(void **state)
{
	struct dev_sim *x = dev_sim_new(SIZE, 6), *y = dev_sim_new(SIZE, 7);
	char *zero = aligned_alloc(BLK, BLK);

	memset(zero, 0, BLK);
	rig_run(dev_sim_port(x), DEV_WRITE, 0, a, BLK);
	rig_run(dev_sim_port(x), DEV_WRITE, 9 * BLK, b, BLK);
	rig_run(dev_sim_port(y), DEV_WRITE, 9 * BLK, c, BLK);
	rig_run(dev_sim_port(y), DEV_WRITE, 5 * BLK, c, BLK);
	assert_true(dev_sim_view(x)->hash != dev_sim_view(y)->hash);
	rig_run(dev_sim_port(y), DEV_WRITE, 9 * BLK, b, BLK);
	rig_run(dev_sim_port(y), DEV_WRITE, 0, a, BLK);
	assert_true(dev_sim_view(x)->hash != dev_sim_view(y)->hash);
	rig_run(dev_sim_port(y), DEV_WRITE, 5 * BLK, zero, BLK);
	assert_true(dev_sim_view(x)->hash == dev_sim_view(y)->hash);
	rig_run(dev_sim_port(y), DEV_WRITE, 5 * BLK, a, BLK);
	rig_run(dev_sim_port(x), DEV_WRITE, 6 * BLK, a, BLK);
	assert_true(dev_sim_view(x)->hash != dev_sim_view(y)->hash);
	free(zero);
	dev_sim_free(x);
	dev_sim_free(y);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_durable), cmocka_unit_test(test_order),
		cmocka_unit_test(test_kill),	cmocka_unit_test(test_failed_flush),
		cmocka_unit_test(test_torn),	cmocka_unit_test(test_hash),
	};

	a = rig_buf(BLK, 1);
	b = rig_buf(BLK, 2);
	c = rig_buf(BLK, 3);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
