// SPDX-License-Identifier: GPL-2.0-or-later
/* The data cache by itself: what it finds, what it keeps, what it lets go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/rng.h"
#include "thin/data_cache.h"

/* A cache of exactly `slots` slots. */
static void cache_of(struct data_cache *dc, uint32_t slots)
{
	uint64_t bytes = (uint64_t)slots * 4096;

	do {
		bytes += 16;
		assert_int_equal(data_cache_init(dc, bytes, NULL), 0);
		if (dc->count < slots)
			data_cache_fini(dc);
	} while (!dc->count);
	assert_int_equal(dc->count, slots);
}

static struct data_key key_of(uint64_t pblk)
{
	return (struct data_key){ pblk, 7, (uint32_t)pblk * 3 };
}

static void stamp(struct data_cache *dc, uint32_t slot, uint64_t pblk)
{
	memcpy(data_cache_page(dc, slot), &pblk, sizeof(pblk));
}

static bool stamped(struct data_cache *dc, uint32_t slot, uint64_t pblk)
{
	return memcmp(data_cache_page(dc, slot), &pblk, sizeof(pblk)) == 0;
}

/* As a read does: found and counted, or brought in.  True: it was there. */
static bool ask(struct data_cache *dc, uint64_t pblk)
{
	uint32_t slot = data_cache_find(dc, key_of(pblk));

	if (slot) {
		assert_true(stamped(dc, slot, pblk));
		data_cache_hit(dc, slot);
		return true;
	}
	slot = data_cache_take(dc);
	assert_int_not_equal(slot, 0);
	data_cache_announce(dc, slot, key_of(pblk), 0);
	stamp(dc, slot, pblk);
	data_cache_filled(dc, slot);
	return false;
}

static void test_only_the_same_block(void **state)
{
	struct data_cache dc;
	struct data_key other;
	uint32_t slot;

	(void)state;
	cache_of(&dc, 64);
	ask(&dc, 1000);
	slot = data_cache_find(&dc, key_of(1000));
	assert_int_not_equal(slot, 0);
	assert_int_equal(data_cache_slot_at(&dc, data_cache_page(&dc, slot) + 4095), slot);
	other = key_of(1000);
	other.birth++;
	assert_int_equal(data_cache_find(&dc, other), 0);
	other = key_of(1000);
	other.crc ^= 1;
	assert_int_equal(data_cache_find(&dc, other), 0);
	assert_int_equal(data_cache_find(&dc, key_of(1001)), 0);
	data_cache_drop(&dc, 1001);
	assert_int_equal(data_cache_find(&dc, key_of(1000)), slot);
	data_cache_drop(&dc, 1000);
	assert_int_equal(data_cache_find(&dc, key_of(1000)), 0);
	assert_int_equal(data_cache_used(&dc), 0);
	data_cache_fini(&dc);
}

static void test_off(void **state)
{
	struct data_cache dc;

	(void)state;
	assert_int_equal(data_cache_init(&dc, 0, NULL), 0);
	assert_false(data_cache_on(&dc));
	assert_int_equal(data_cache_find(&dc, key_of(1)), 0);
	assert_int_equal(data_cache_take(&dc), 0);
	assert_int_equal(data_cache_slot_at(&dc, &dc), 0);
	data_cache_drop(&dc, 1);
	data_cache_fini(&dc);
}

static void test_stays_within_its_size(void **state)
{
	(void)state;
	for (uint64_t mib = 1; mib < 3000; mib = mib * 3 + 1) {
		struct data_cache dc;

		assert_int_equal(data_cache_init(&dc, mib << 20, NULL), 0);
		assert_true(dc.bytes <= mib << 20);
		assert_true(dc.bytes > (mib << 20) / 100 * 96);
		data_cache_fini(&dc);
	}
}

/* Whoever has pinned a slot keeps its bytes, and a quarter can always be evicted. */
static void test_pins(void **state)
{
	struct data_cache dc;
	uint32_t held[64], count = 0, slot;

	(void)state;
	cache_of(&dc, 64);
	for (uint64_t i = 0; i < 64; i++)
		ask(&dc, i);
	for (uint64_t i = 0; i < 32; i++) {
		assert_true(data_cache_may_pin(&dc, 1));
		data_cache_pin(&dc, data_cache_find(&dc, key_of(i)));
	}
	assert_false(data_cache_may_pin(&dc, 1));
	for (uint64_t i = 100; i < 1000; i++)
		ask(&dc, i);
	for (uint64_t i = 0; i < 32; i++) {
		slot = data_cache_find(&dc, key_of(i));
		assert_true(slot && stamped(&dc, slot, i));
	}
	while ((slot = data_cache_take(&dc)))
		held[count++] = slot;
	assert_int_equal(count, 16);
	while (count)
		data_cache_unpin(&dc, held[--count]);
	for (uint64_t i = 0; i < 32; i++)
		data_cache_unpin(&dc, data_cache_find(&dc, key_of(i)));
	assert_int_equal(dc.pinned, 0);
	for (uint64_t i = 1000; i < 2000; i++)
		ask(&dc, i);
	for (uint64_t i = 0; i < 32; i++)
		assert_int_equal(data_cache_find(&dc, key_of(i)), 0);
	data_cache_fini(&dc);
}

static void test_dropped_while_filling(void **state)
{
	struct data_cache dc;
	uint32_t slot, other;

	(void)state;
	cache_of(&dc, 64);
	slot = data_cache_take(&dc);
	data_cache_announce(&dc, slot, key_of(5), 77);
	assert_int_equal(data_cache_find(&dc, key_of(5)), slot);
	assert_int_equal(dc.slot[slot].fill, 77);
	data_cache_pin(&dc, slot); /* one who waits */
	data_cache_drop(&dc, 5);
	assert_int_equal(data_cache_find(&dc, key_of(5)), 0);
	/* the place is written anew and read again meanwhile */
	ask(&dc, 5);
	other = data_cache_find(&dc, key_of(5));
	assert_true(other && other != slot);
	data_cache_filled(&dc, slot);
	assert_int_equal(data_cache_state(&dc, slot), DATA_HELD);
	assert_int_equal(data_cache_find(&dc, key_of(5)), other);
	data_cache_unpin(&dc, slot);
	assert_int_equal(data_cache_state(&dc, slot), DATA_UNUSED);
	/* ... and one that turns out bad */
	slot = data_cache_take(&dc);
	data_cache_announce(&dc, slot, key_of(6), 0);
	data_cache_pin(&dc, slot);
	data_cache_spoilt(&dc, slot);
	assert_int_equal(data_cache_find(&dc, key_of(6)), 0);
	assert_int_equal(data_cache_state(&dc, slot), DATA_BAD);
	data_cache_unpin(&dc, slot);
	assert_int_equal(data_cache_state(&dc, slot), DATA_UNUSED);
	data_cache_fini(&dc);
}

static void test_overwritten(void **state)
{
	struct data_cache dc;
	uint32_t slot;

	(void)state;
	cache_of(&dc, 64);
	ask(&dc, 5);
	slot = data_cache_find(&dc, key_of(5));
	assert_int_equal(data_cache_rename(&dc, 5, key_of(9)), slot);
	assert_int_equal(data_cache_find(&dc, key_of(5)), 0);
	assert_int_equal(data_cache_find(&dc, key_of(9)), slot);
	data_cache_pin(&dc, slot); /* lent: its bytes must stay */
	assert_int_equal(data_cache_rename(&dc, 9, key_of(10)), 0);
	data_cache_unpin(&dc, slot);
	stamp(&dc, slot, 9);
	for (uint64_t i = 100; i < 163; i++)
		assert_int_not_equal(data_cache_add(&dc, key_of(i)), 0);
	assert_int_equal(data_cache_add(&dc, key_of(200)), 0); /* nothing is evicted for it */
	assert_int_equal(data_cache_find(&dc, key_of(9)), slot);
	data_cache_fini(&dc);
}

/* Every look-up against a model, while blocks come, go, are renamed and pinned. */
static void test_random(void **state)
{
	enum { BLOCKS = 400, SLOTS = 97, ROUNDS = 400000 };
	struct data_cache dc;
	struct rng rng = { 11 };
	uint32_t version[BLOCKS] = { 0 }, pinned[SLOTS + 1] = { 0 };
	uint64_t stamps[SLOTS + 1] = { 0 };

	(void)state;
	cache_of(&dc, SLOTS);
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t b = rng_below(&rng, rng_below(&rng, 2) ? BLOCKS : BLOCKS / 8);
		struct data_key key = { b, version[b], (uint32_t)b };
		uint32_t slot = data_cache_find(&dc, key);
		uint64_t content = b << 32 | version[b];

		if (slot)
			assert_true(stamped(&dc, slot, content));
		switch (rng_below(&rng, 5)) {
		case 0: /* freed, to be written anew some time */
			data_cache_drop(&dc, b);
			version[b]++;
			break;
		case 1: /* pinned, or let go */
			slot = 1 + (uint32_t)rng_below(&rng, SLOTS);
			if (pinned[slot]) {
				assert_true(stamped(&dc, slot, stamps[slot]));
				data_cache_unpin(&dc, slot);
				pinned[slot]--;
			} else if (data_cache_state(&dc, slot) >= DATA_SMALL &&
				   data_cache_may_pin(&dc, 1)) {
				memcpy(&stamps[slot], data_cache_page(&dc, slot), 8);
				data_cache_pin(&dc, slot);
				pinned[slot]++;
			}
			break;
		default:
			if (slot) {
				data_cache_hit(&dc, slot);
				break;
			}
			slot = data_cache_take(&dc);
			if (!slot)
				break;
			assert_false(pinned[slot]);
			data_cache_announce(&dc, slot, key, 0);
			stamp(&dc, slot, content);
			data_cache_filled(&dc, slot);
			assert_int_equal(data_cache_find(&dc, key), slot);
		}
	}
	for (uint32_t slot = 1; slot <= SLOTS; slot++)
		while (pinned[slot]--)
			data_cache_unpin(&dc, slot);
	for (uint64_t b = 0; b < BLOCKS; b++)
		data_cache_drop(&dc, b);
	assert_int_equal(data_cache_used(&dc), 0);
	assert_int_equal(dc.pinned, 0);
	for (uint32_t i = 0; i < 1u << dc.table_bits; i++)
		assert_int_equal(dc.table[i], 0);
	data_cache_fini(&dc);
}

/* ---- against plain FIFO ---- */

struct fifo {
	uint64_t *ring;
	bool *in;
	uint32_t size, next;
};

static bool fifo_ask(struct fifo *f, uint64_t block)
{
	if (f->in[block])
		return true;
	if (f->ring[f->next] != UINT64_MAX)
		f->in[f->ring[f->next]] = false;
	f->ring[f->next] = block;
	f->in[block] = true;
	f->next = (f->next + 1) % f->size;
	return false;
}

/* A block, the smaller the more often: about one in x, as disks are used. */
static uint64_t skewed(struct rng *rng, uint64_t blocks)
{
	uint64_t below = 1 + rng_below(rng, blocks);

	below = 1 + rng_below(rng, below);
	return rng_below(rng, below);
}

static void test_scans(void **state)
{
	enum { SLOTS = 1000, HOT = 20000, ALL = 400000, ASKED = 400000 };
	struct fifo f = { malloc(SLOTS * 8), calloc(ALL, 1), SLOTS, 0 };
	unsigned hits = 0, fifo_hits = 0, asked = 0;
	uint64_t scan = HOT;
	struct data_cache dc;
	struct rng rng = { 3 };

	(void)state;
	memset(f.ring, 0xff, SLOTS * 8);
	cache_of(&dc, SLOTS);
	for (unsigned i = 0; i < ASKED; i++) {
		bool scanning = i % 4000 >= 2000; /* a backup runs half of the time */
		uint64_t block = skewed(&rng, HOT);

		if (scanning) {
			ask(&dc, scan);
			fifo_ask(&f, scan);
			scan = scan + 1 < ALL ? scan + 1 : HOT;
			if (i % 4)
				continue;
		}
		hits += ask(&dc, block);
		fifo_hits += fifo_ask(&f, block);
		asked++;
	}
	print_message("scans: %u %% hits, plain FIFO %u %%\n", hits * 100 / asked,
		      fifo_hits * 100 / asked);
	assert_true(hits > fifo_hits + asked / 10);
	/* what was in use before a scan of ten times the cache is there behind it */
	hits = 0;
	for (uint64_t i = 0; i < SLOTS / 2; i++)
		for (unsigned times = 0; times < 3; times++)
			ask(&dc, i);
	for (uint64_t i = 0; i < 10 * SLOTS; i++)
		ask(&dc, 10 * ALL + i);
	for (uint64_t i = 0; i < SLOTS / 2; i++)
		hits += data_cache_find(&dc, key_of(i)) != 0;
	assert_true(hits > SLOTS / 2 * 9 / 10);
	free(f.ring);
	free(f.in);
	data_cache_fini(&dc);
}

/* What comes back soon after it went is not a scan. */
static void test_ghosts(void **state)
{
	struct data_cache dc;
	unsigned hits = 0;

	(void)state;
	cache_of(&dc, 1000);
	for (uint64_t i = 0; i < 2000; i++) /* full, then the first thousand are gone */
		ask(&dc, i);
	for (uint64_t i = 500; i < 1000; i++)
		assert_false(ask(&dc, i));
	for (uint64_t i = 5000; i < 15000; i++)
		ask(&dc, i);
	for (uint64_t i = 500; i < 1000; i++)
		hits += ask(&dc, i);
	assert_true(hits > 450);
	data_cache_fini(&dc);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_only_the_same_block),
		cmocka_unit_test(test_off),
		cmocka_unit_test(test_stays_within_its_size),
		cmocka_unit_test(test_pins),
		cmocka_unit_test(test_dropped_while_filling),
		cmocka_unit_test(test_overwritten),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_scans),
		cmocka_unit_test(test_ghosts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
