/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The transmission phase, bytes in and bytes out: holes in a structured READ. */
#include "tests/blockd/transmit_rig.h"
#include "tests/lib/rng.h"

struct read_seen {
	unsigned data, holes; /* chunks */
	uint64_t hole_bytes;
};

/* Take a READ's chunks; each byte of the range once, and as it is in the volume. */
static struct read_seen expect_read(struct rig *rig, uint64_t cookie, uint64_t offset, uint32_t len)
{
	const uint8_t *volume = fake_thin_bytes(rig->pool, "demo");
	static const uint8_t zeroes[MIB];
	static uint8_t got_bytes[VOL_SIZE];
	struct read_seen seen = { 0 };
	uint64_t total = 0, twice = 0;
	struct got_chunk got;

	memset(got_bytes, 0, len);
	do {
		uint64_t at, part;

		got = next_chunk(rig);
		assert_int_equal(got.cookie, cookie);
		at = cursor_be64(&got.payload);
		assert_true(at >= offset && at < offset + len);
		if (got.type == NBD_REPLY_TYPE_OFFSET_HOLE) {
			part = cursor_be32(&got.payload);
			assert_true(cursor_done(&got.payload));
			assert_true(part > 0 && part <= offset + len - at && part <= MIB);
			assert_memory_equal(volume + at, zeroes, part);
			seen.holes++;
			seen.hole_bytes += part;
		} else {
			assert_int_equal(got.type, NBD_REPLY_TYPE_OFFSET_DATA);
			part = cursor_left(&got.payload);
			assert_true(part > 0 && part <= offset + len - at);
			assert_memory_equal(volume + at, got.payload.at, part);
			seen.data++;
		}
		for (uint64_t i = at; i < at + part; i++)
			twice += got_bytes[i - offset]++;
		total += part;
	} while (!(got.flags & NBD_REPLY_FLAG_DONE));
	assert_int_equal(total, len);
	assert_int_equal(twice, 0); /* no overlap */
	return seen;
}

static struct read_seen read_range(struct rig *rig, uint64_t offset, uint32_t len)
{
	struct read_seen seen;

	request(rig, NBD_CMD_READ, 0, 5, offset, len);
	seen = expect_read(rig, 5, offset, len);
	expect_nothing(rig);
	return seen;
}

static void put(struct rig *rig, uint64_t offset, uint32_t len)
{
	write_pattern(rig, 0, 1, offset, len);
	expect_end(rig, 1, 0);
}

/* What buffers held before must not show through holes. */
static void dirty_buffers(struct rig *rig)
{
	put(rig, 48 * MIB, 8 * MIB);
	read_range(rig, 48 * MIB, 8 * MIB);
}

static void a_hole_is_a_chunk_without_data(void **state)
{
	struct rig *rig = begin(true);
	struct read_seen seen = read_range(rig, 4096, 4096);

	assert_int_equal(seen.data, 0);
	assert_int_equal(seen.holes, 1);
	seen = read_range(rig, 4097, 1); /* however small it is */
	assert_int_equal(seen.holes, 1);
	rig->no_read = true; /* and it holds no memory until it is sent */
	request(rig, NBD_CMD_READ, 0, 5, 0, MIB);
	assert_int_equal(bufpool_used_bytes(rig->bufs), 0);
	rig->no_read = false;
	settle(rig);
	seen = expect_read(rig, 5, 0, MIB);
	assert_int_equal(seen.holes, 1);
	request(rig, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE, 2, 0, 65536);
	expect_end(rig, 2, 0);
	seen = read_range(rig, 0, 65536); /* provisioned zeroes are none of base:allocation's */
	assert_int_equal(seen.holes, 1);
	end(rig);
}

static void small_holes_go_as_data(void **state)
{
	struct rig *rig = begin(true);
	struct read_seen seen;
	uint64_t at;

	dirty_buffers(rig);
	for (at = 0; at < MIB; at += 8192)
		put(rig, at, 4096);
	seen = read_range(rig, 0, MIB);
	assert_int_equal(seen.data, 1);
	assert_int_equal(seen.holes, 0);
	seen = read_range(rig, 4096, 8192); /* also at the edges */
	assert_int_equal(seen.data, 1);
	end(rig);
}

static void large_holes_between_data(void **state)
{
	struct rig *rig = begin(true);
	struct read_seen seen;

	dirty_buffers(rig);
	put(rig, 65536, 4096);
	put(rig, 65536 + 4096 + 8192, 4096); /* a small hole before this one */
	put(rig, 256 << 10, 4096);
	seen = read_range(rig, 0, MIB);
	assert_int_equal(seen.data, 2);
	assert_int_equal(seen.holes, 3);
	seen = read_range(rig, 100, MIB - 200); /* its ends within blocks */
	assert_int_equal(seen.holes, 3);
	seen = read_range(rig, 65537, 4096 + 8192 + 1); /* no hole worth it */
	assert_int_equal(seen.data, 1);
	seen = read_range(rig, 0, 8 * MIB); /* in pieces, one DONE */
	assert_int_equal(seen.data, 2);
	assert_true(seen.holes >= 10);
	end(rig);
}

static void df_is_one_chunk_of_data(void **state)
{
	struct rig *rig = begin(true);
	struct read_seen seen;

	dirty_buffers(rig);
	put(rig, 0, 4096);
	request(rig, NBD_CMD_READ, NBD_CMD_FLAG_DF, 5, 0, MIB);
	seen = expect_read(rig, 5, 0, MIB);
	assert_int_equal(seen.data, 1);
	assert_int_equal(seen.holes, 0);
	end(rig);
}

static void simple_replies_have_the_zeroes(void **state)
{
	struct rig *rig = begin(false);
	size_t i;

	write_pattern(rig, 0, 1, 0, 2 * MIB);
	expect_simple(rig, 1, 0);
	request(rig, NBD_CMD_READ, 0, 2, 0, 2 * MIB);
	expect_read_simple(rig, 2, 0, 2 * MIB);
	request(rig, NBD_CMD_READ, 0, 3, 4 * MIB, 2 * MIB);
	expect_simple(rig, 3, 0);
	assert_int_equal(rig->out_len - rig->out_at, 2 * MIB);
	for (i = rig->out_at; i < rig->out_len && !rig->out[i]; i++)
		;
	assert_int_equal(i, rig->out_len);
	end(rig);
}

/* With no piece left for further chunks, the rest of the range goes as data. */
static void without_pieces_it_goes_as_data(void **state)
{
	enum { COUNT = 16 };
	struct nbd_request batch[COUNT];
	struct read_seen total = { 0 };
	struct rig *rig = begin(true);
	size_t i;

	dirty_buffers(rig);
	for (i = 0; i < 6; i++)
		put(rig, i * 40960, 4096);
	for (i = 0; i < COUNT; i++)
		batch[i] = header(NBD_CMD_READ, 0, 100 + i, 0, 256 << 10);
	rig->no_read = true;
	feed(rig, batch, sizeof(batch));
	rig->no_read = false;
	settle(rig);
	for (i = 0; i < COUNT; i++) {
		struct got_chunk first;
		size_t at = rig->out_at;
		struct read_seen seen;

		first = next_chunk(rig);
		rig->out_at = at;
		seen = expect_read(rig, first.cookie, 0, 256 << 10);
		total.data += seen.data;
		total.holes += seen.holes;
	}
	expect_nothing(rig);
	assert_true(total.holes > 0 && total.holes < COUNT * 6);
	end(rig);
}

static void any_pattern_of_holes_reads_back(void **state)
{
	struct rig *rig = begin(true);
	struct rng rng = { 11 };
	unsigned i;

	dirty_buffers(rig);
	for (i = 0; i < 60; i++)
		put(rig, rng_below(&rng, 6 * MIB), 1 + (uint32_t)rng_below(&rng, 100000));
	for (i = 0; i < 300; i++) {
		uint64_t offset = rng_below(&rng, 7 * MIB);
		uint32_t len = 1 + (uint32_t)rng_below(&rng, i % 3 ? 200000 : 3 * MIB);

		read_range(rig, offset, len);
	}
	end(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_hole_is_a_chunk_without_data),
		cmocka_unit_test(small_holes_go_as_data),
		cmocka_unit_test(large_holes_between_data),
		cmocka_unit_test(df_is_one_chunk_of_data),
		cmocka_unit_test(simple_replies_have_the_zeroes),
		cmocka_unit_test(without_pieces_it_goes_as_data),
		cmocka_unit_test(any_pattern_of_holes_reads_back),
	};

	return cmocka_run_group_tests(tests, NULL, rig_free_shared);
}
