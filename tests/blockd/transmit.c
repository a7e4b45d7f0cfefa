/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The transmission phase, bytes in and bytes out, on the engine in memory: what servers get wrong
 * (doc/proto.md), what hostile clients send, and that nothing grows without a bound.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "blockd/nbd/contexts.h"
#include "blockd/nbd/transmit.h"
#include "blockd/nbd/wire.h"
#include "common/base/cursor.h"
#include "tests/lib/fake_thin.h"

#define MIB	 (1ull << 20)
#define VOL_SIZE (64 * MIB)
#define BUFS	 (24 * MIB)

#define OUT_SIZE (160 * MIB)

static uint8_t *shared_out;
static struct bufpool *shared_bufs;

/* For a test that looks at the peak. */
static void new_bufs(void)
{
	bufpool_free(shared_bufs);
	shared_bufs = NULL;
}

struct rig {
	struct thin_pool *pool;
	struct thin_vol *vol;
	struct bufpool *bufs;
	struct io_counters counters;
	struct transmit *t;
	uint8_t *out; /* what the client has received */
	size_t out_len, out_at, out_size;
	bool no_read; /* the client does not read */
	unsigned wakes;
};

static void rig_wake(void *user)
{
	((struct rig *)user)->wakes++;
}

static struct rig *begin_with(bool structured, bool read_only, unsigned contexts)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	struct transmit_params params = {
		.read_only = read_only,
		.structured = structured,
		.contexts = contexts,
		.volume_counters = &rig->counters,
		.wake = rig_wake,
		.user = rig,
	};

	/* Both are kept from test to test: their first touch is what would take the time. */
	shared_out = shared_out ? shared_out : malloc(OUT_SIZE);
	if (!shared_bufs)
		assert_int_equal(bufpool_new(BUFS, &shared_bufs, NULL), 0);
	rig->out_size = OUT_SIZE;
	rig->out = shared_out;
	rig->bufs = shared_bufs;
	rig->pool = fake_thin_new(7);
	fake_thin_add(rig->pool, "demo", VOL_SIZE);
	assert_int_equal(thin_vol_open(rig->pool, "demo", &rig->vol), 0);
	params.pool = rig->pool;
	params.vol = rig->vol;
	params.bufs = rig->bufs;
	rig->t = transmit_new(&params);
	assert_non_null(rig->t);
	return rig;
}

static struct rig *begin(bool structured)
{
	return begin_with(structured, false, CONTEXTS_ALL);
}

static void end(struct rig *rig)
{
	transmit_abort(rig->t, "");
	fake_thin_hold(rig->pool, false);
	fake_thin_settle(rig->pool);
	transmit_free(rig->t);
	assert_int_equal(bufpool_used_bytes(rig->bufs), 0);
	thin_vol_close(rig->vol);
	fake_thin_free(rig->pool);
	free(rig);
}

static void send_out(struct rig *rig)
{
	struct iovec iov[16];
	int count, i;

	while (!rig->no_read && (count = transmit_tx_iov(rig->t, iov, 16))) {
		size_t len = 0;

		for (i = 0; i < count; i++) {
			assert_true(rig->out_len + iov[i].iov_len <= rig->out_size);
			memcpy(rig->out + rig->out_len, iov[i].iov_base, iov[i].iov_len);
			rig->out_len += iov[i].iov_len;
			len += iov[i].iov_len;
		}
		transmit_sent(rig->t, len);
	}
}

/* Let everything happen that can without further input. */
static void settle(struct rig *rig)
{
	int idle = 0;

	while (idle < 2) {
		uint64_t before = fake_thin_seen(rig->pool)->answered;

		thin_pool_run(rig->pool, 0);
		send_out(rig);
		idle = transmit_retry(rig->t) || fake_thin_seen(rig->pool)->answered != before
			       ? 0
			       : idle + 1;
	}
}

/* Bytes of the client, `portion` at most in one receive; returns how many were taken. */
static size_t feed_by(struct rig *rig, const void *data, size_t len, size_t portion)
{
	const uint8_t *at = data;
	size_t done = 0;

	while (done < len) {
		struct iovec iov[2];
		int count = transmit_rx_iov(rig->t, iov), i;
		size_t got = 0, limit = portion < len - done ? portion : len - done;

		if (!count) {
			uint64_t before = fake_thin_seen(rig->pool)->answered;

			settle(rig);
			count = transmit_rx_iov(rig->t, iov);
			if (!count && fake_thin_seen(rig->pool)->answered == before)
				break;
		}
		for (i = 0; i < count && got < limit; i++) {
			size_t part = iov[i].iov_len < limit - got ? iov[i].iov_len : limit - got;

			memcpy(iov[i].iov_base, at + done + got, part);
			got += part;
		}
		if (count)
			transmit_received(rig->t, got);
		done += got;
	}
	return done;
}

static void feed(struct rig *rig, const void *data, size_t len)
{
	assert_int_equal(feed_by(rig, data, len, SIZE_MAX), len);
	settle(rig);
}

static struct nbd_request header(unsigned cmd, unsigned flags, uint64_t cookie, uint64_t offset,
				 uint32_t len)
{
	struct nbd_request r = {
		.magic = be32_put(NBD_REQUEST_MAGIC),
		.flags = be16_put((uint16_t)flags),
		.type = be16_put((uint16_t)cmd),
		.offset = be64_put(offset),
		.len = be32_put(len),
	};

	memcpy(r.cookie, &cookie, 8);
	return r;
}

static void request(struct rig *rig, unsigned cmd, unsigned flags, uint64_t cookie, uint64_t offset,
		    uint32_t len)
{
	struct nbd_request r = header(cmd, flags, cookie, offset, len);

	feed(rig, &r, sizeof(r));
}

static uint8_t pattern(uint64_t i)
{
	return (uint8_t)(i * 131 + (i >> 9) * 7 + 3);
}

static void assert_pattern(const uint8_t *bytes, uint64_t offset, uint64_t len)
{
	uint64_t i;

	for (i = 0; i < len && bytes[i] == pattern(offset + i); i++)
		;
	assert_int_equal(i, len);
}

static void write_pattern(struct rig *rig, unsigned flags, uint64_t cookie, uint64_t offset,
			  uint32_t len)
{
	struct nbd_request r = header(NBD_CMD_WRITE, flags, cookie, offset, len);
	uint8_t *message = malloc(sizeof(r) + len);
	uint32_t i;

	memcpy(message, &r, sizeof(r));
	for (i = 0; i < len; i++)
		message[sizeof(r) + i] = pattern(offset + i);
	feed(rig, message, sizeof(r) + len);
	free(message);
}

static struct cursor received(const struct rig *rig)
{
	return cursor_over(rig->out + rig->out_at, rig->out_len - rig->out_at);
}

static void took(struct rig *rig, const struct cursor *c)
{
	assert_true(cursor_ok(c));
	rig->out_at = (size_t)(c->at - rig->out);
}

static uint64_t cookie_of(struct cursor *c)
{
	uint64_t cookie;

	cursor_copy(c, &cookie, 8);
	return cookie;
}

static void expect_nothing(const struct rig *rig)
{
	assert_int_equal(rig->out_at, rig->out_len);
}

static void expect_simple(struct rig *rig, uint64_t cookie, uint32_t error)
{
	struct cursor c = received(rig);

	assert_int_equal(cursor_be32(&c), NBD_SIMPLE_REPLY_MAGIC);
	assert_int_equal(cursor_be32(&c), error);
	assert_int_equal(cookie_of(&c), cookie);
	took(rig, &c);
}

struct got_chunk {
	uint16_t flags, type;
	uint64_t cookie;
	struct cursor payload;
};

static struct got_chunk next_chunk(struct rig *rig)
{
	struct cursor c = received(rig);
	struct got_chunk got;

	assert_int_equal(cursor_be32(&c), NBD_STRUCTURED_REPLY_MAGIC);
	got.flags = cursor_be16(&c);
	got.type = cursor_be16(&c);
	got.cookie = cookie_of(&c);
	got.payload = cursor_sub(&c, cursor_be32(&c));
	took(rig, &c);
	return got;
}

/* One chunk ends the reply: an error, or none (error 0). */
static void expect_end(struct rig *rig, uint64_t cookie, uint32_t error)
{
	struct got_chunk got = next_chunk(rig);

	assert_int_equal(got.cookie, cookie);
	assert_int_equal(got.flags, NBD_REPLY_FLAG_DONE);
	if (!error) {
		assert_int_equal(got.type, NBD_REPLY_TYPE_NONE);
		assert_int_equal(cursor_left(&got.payload), 0);
		return;
	}
	assert_true(got.type == NBD_REPLY_TYPE_ERROR || got.type == NBD_REPLY_TYPE_ERROR_OFFSET);
	assert_int_equal(cursor_be32(&got.payload), error);
}

/* The result of a request without payload, in either kind of reply. */
static void expect_result(struct rig *rig, bool structured, uint64_t cookie, uint32_t error)
{
	if (structured)
		expect_end(rig, cookie, error);
	else
		expect_simple(rig, cookie, error);
	expect_nothing(rig);
}

/* A READ's data in any number of chunks, each byte once. */
static void expect_read_structured(struct rig *rig, uint64_t cookie, uint64_t offset, uint32_t len,
				   unsigned chunk_max)
{
	uint8_t *seen = calloc(1, len);
	unsigned chunks = 0;
	uint32_t i, total = 0, twice = 0;
	struct got_chunk got;

	do {
		uint64_t at;

		got = next_chunk(rig);
		assert_int_equal(got.cookie, cookie);
		assert_int_equal(got.type, NBD_REPLY_TYPE_OFFSET_DATA);
		assert_true(cursor_left(&got.payload) >= 9);
		at = cursor_be64(&got.payload);
		assert_true(at >= offset && at - offset <= len &&
			    cursor_left(&got.payload) <= len - (at - offset));
		assert_pattern(got.payload.at, at, cursor_left(&got.payload));
		for (i = 0; i < cursor_left(&got.payload); i++)
			twice += seen[at - offset + i]++;
		total += i;
		chunks++;
	} while (!(got.flags & NBD_REPLY_FLAG_DONE));
	assert_int_equal(total, len);
	assert_int_equal(twice, 0); /* no overlap */
	assert_true(chunks <= chunk_max);
	free(seen);
}

static void expect_read_simple(struct rig *rig, uint64_t cookie, uint64_t offset, uint32_t len)
{
	expect_simple(rig, cookie, 0);
	assert_true(rig->out_len - rig->out_at >= len);
	assert_pattern(rig->out + rig->out_at, offset, len);
	rig->out_at += len;
}

static void fill_pattern(struct rig *rig)
{
	uint8_t *bytes = fake_thin_bytes(rig->pool, "demo");
	uint64_t i;

	for (i = 0; i < VOL_SIZE; i++)
		bytes[i] = pattern(i);
}

static void assert_volume(struct rig *rig, uint64_t offset, uint64_t len)
{
	assert_pattern(fake_thin_bytes(rig->pool, "demo") + offset, offset, len);
}

/* ---- data ---- */

static void reads_and_writes_of_all_shapes(void **state)
{
	static const struct {
		uint64_t offset;
		uint32_t len;
	} shapes[] = {
		{ 0, 1 },
		{ 0, 4096 },
		{ 1, 1 },
		{ 511, 4097 },
		{ 4095, 2 },
		{ VOL_SIZE - 1, 1 },
		{ 8191, 65536 },
		{ 4096, MIB },
		{ 4096, MIB + 1 },
		{ 3 * MIB - 1, MIB },
		{ 100, 5 * MIB + 77 },
		{ 0, 32 * MIB },
		{ 31, (uint32_t)(32 * MIB) },
	};
	int structured;
	size_t i;

	for (structured = 0; structured < 2; structured++)
		for (i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
			struct rig *rig = begin(structured);

			write_pattern(rig, 0, 1, shapes[i].offset, shapes[i].len);
			expect_result(rig, structured, 1, 0);
			assert_volume(rig, shapes[i].offset, shapes[i].len);
			request(rig, NBD_CMD_READ, 0, 2, shapes[i].offset, shapes[i].len);
			if (structured)
				expect_read_structured(rig, 2, shapes[i].offset, shapes[i].len,
						       UINT32_MAX);
			else
				expect_read_simple(rig, 2, shapes[i].offset, shapes[i].len);
			expect_nothing(rig);
			end(rig);
		}
}

/* Requests of all kinds, cut anywhere. */
static void bytes_may_come_in_any_portions(void **state)
{
	static const size_t portions[] = { 1, 2, 3, 27, 28, 29, 4095, 4123, 4124, 70000, 200000 };
	uint8_t *all = malloc(600000);
	size_t len = 0, i, p;
	uint64_t offset = 12345;

	for (i = 0; i < 60; i++) {
		uint32_t part = i % 7 == 6 ? 70001 : i % 3 ? 4096 : 37;
		struct nbd_request r = header(NBD_CMD_WRITE, 0, i, offset, part);
		uint32_t k;

		if (len + sizeof(r) + part > 600000)
			break;
		memcpy(all + len, &r, sizeof(r));
		for (k = 0; k < part; k++)
			all[len + sizeof(r) + k] = pattern(offset + k);
		len += sizeof(r) + part;
		offset += part;
	}
	for (p = 0; p < sizeof(portions) / sizeof(portions[0]); p++) {
		struct rig *rig = begin(false);
		size_t k;

		assert_int_equal(feed_by(rig, all, len, portions[p]), len);
		settle(rig);
		for (k = 0; k < i; k++) {
			struct cursor c = received(rig);

			assert_int_equal(cursor_be32(&c), NBD_SIMPLE_REPLY_MAGIC);
			assert_int_equal(cursor_be32(&c), 0);
			cookie_of(&c);
			took(rig, &c);
		}
		expect_nothing(rig);
		assert_volume(rig, 12345, offset - 12345);
		end(rig);
	}
	free(all);
}

static void every_request_of_a_batch_is_answered_once(void **state)
{
	enum { COUNT = 500 };
	struct rig *rig = begin(true);
	struct nbd_request batch[COUNT];
	uint8_t seen[COUNT] = { 0 };
	size_t i;

	fill_pattern(rig);
	for (i = 0; i < COUNT; i++)
		batch[i] = header(NBD_CMD_READ, 0, i, i * 4096, 4096);
	feed(rig, batch, sizeof(batch));
	for (i = 0; i < COUNT; i++) {
		struct got_chunk got = next_chunk(rig);

		assert_true(got.cookie < COUNT);
		assert_int_equal(seen[got.cookie]++, 0);
		assert_int_equal(cursor_be64(&got.payload), got.cookie * 4096);
		assert_int_equal(got.payload.at[0], pattern(got.cookie * 4096));
	}
	expect_nothing(rig);
	assert_int_equal(transmit_counters(rig->t)->reads, COUNT);
	assert_int_equal(rig->counters.read_bytes, COUNT * 4096);
	end(rig);
}

/* ---- what servers get wrong ---- */

static void read_is_structured_even_for_an_early_einval(void **state)
{
	struct rig *rig = begin(true);

	request(rig, NBD_CMD_READ, NBD_CMD_FLAG_NO_HOLE, 5, 0, 512);
	expect_end(rig, 5, NBD_EINVAL);
	request(rig, NBD_CMD_READ, 0, 6, VOL_SIZE, 1);
	expect_end(rig, 6, NBD_EINVAL);
	expect_nothing(rig);
	end(rig);
}

static void fua_is_accepted_on_every_command(void **state)
{
	unsigned cmd;
	int structured;

	for (structured = 0; structured < 2; structured++)
		for (cmd = 0; cmd <= NBD_CMD_BLOCK_STATUS; cmd++) {
			struct rig *rig = begin(structured);
			uint32_t len = cmd == NBD_CMD_FLUSH ? 0 : 4096;

			if (cmd == NBD_CMD_DISC || (cmd == NBD_CMD_BLOCK_STATUS && !structured)) {
				end(rig);
				continue;
			}
			if (cmd == NBD_CMD_WRITE)
				write_pattern(rig, NBD_CMD_FLAG_FUA, 9, 0, len);
			else
				request(rig, cmd, NBD_CMD_FLAG_FUA, 9, 0, len);
			if (structured) {
				struct got_chunk got = next_chunk(rig);

				assert_true(got.type < 0x8000);
			} else {
				expect_simple(rig, 9, 0);
			}
			assert_int_equal(fake_thin_seen(rig->pool)->fua,
					 cmd == NBD_CMD_WRITE || cmd == NBD_CMD_TRIM ||
						 cmd == NBD_CMD_WRITE_ZEROES);
			end(rig);
		}
}

static void fua_of_a_write_in_pieces_is_one_flush_behind_them(void **state)
{
	struct rig *rig = begin(true);

	write_pattern(rig, NBD_CMD_FLAG_FUA, 1, 512, 3 * MIB);
	expect_end(rig, 1, 0);
	assert_int_equal(fake_thin_seen(rig->pool)->flushes, 1);
	assert_int_equal(fake_thin_seen(rig->pool)->last.op, THIN_FLUSH);
	fake_thin_fail(rig->pool, THIN_FLUSH, -EROFS, 1);
	write_pattern(rig, NBD_CMD_FLAG_FUA, 2, 512, 3 * MIB);
	expect_end(rig, 2, NBD_EPERM);
	expect_nothing(rig);
	end(rig);
}

static void past_the_end(void **state)
{
	static const struct {
		uint64_t offset;
		uint32_t len;
	} ranges[] = {
		{ VOL_SIZE, 1 },	  { VOL_SIZE - 1, 2 },	      { VOL_SIZE + 4096, 4096 },
		{ UINT64_MAX, 1 },	  { UINT64_MAX, UINT32_MAX }, { UINT64_MAX - 4095, 4096 },
		{ 1ull << 63, 1u << 31 }, { 0, UINT32_MAX },
	};
	static const struct {
		unsigned cmd;
		uint32_t error;
	} cmds[] = {
		{ NBD_CMD_READ, NBD_EINVAL },  { NBD_CMD_TRIM, NBD_EINVAL },
		{ NBD_CMD_CACHE, NBD_EINVAL }, { NBD_CMD_BLOCK_STATUS, NBD_EINVAL },
		{ NBD_CMD_WRITE, NBD_ENOSPC }, { NBD_CMD_WRITE_ZEROES, NBD_ENOSPC },
	};
	struct rig *rig = begin(true);
	size_t i, k;

	for (i = 0; i < sizeof(cmds) / sizeof(cmds[0]); i++)
		for (k = 0; k < sizeof(ranges) / sizeof(ranges[0]); k++) {
			if (cmds[i].cmd == NBD_CMD_WRITE && ranges[k].len > 4096)
				continue;
			if (cmds[i].cmd == NBD_CMD_WRITE)
				write_pattern(rig, 0, k, ranges[k].offset, ranges[k].len);
			else
				request(rig, cmds[i].cmd, 0, k, ranges[k].offset, ranges[k].len);
			expect_end(rig, k, cmds[i].error);
			expect_nothing(rig);
		}
	assert_int_equal(fake_thin_seen(rig->pool)->submitted, 0);
	assert_int_equal(rig->counters.errors, rig->counters.reads + rig->counters.writes +
						       rig->counters.trims + rig->counters.zeroes +
						       rig->counters.others);
	assert_int_equal(rig->counters.read_bytes + rig->counters.written_bytes, 0);
	end(rig);
}

static void read_only_refuses_changes(void **state)
{
	struct rig *rig = begin_with(true, true, CONTEXTS_ALL);

	fill_pattern(rig);
	write_pattern(rig, 0, 1, VOL_SIZE, 512); /* before the bounds check */
	expect_end(rig, 1, NBD_EPERM);
	request(rig, NBD_CMD_TRIM, 0, 2, 0, 4096);
	expect_end(rig, 2, NBD_EPERM);
	request(rig, NBD_CMD_WRITE_ZEROES, 0, 3, 0, 4096);
	expect_end(rig, 3, NBD_EPERM);
	request(rig, NBD_CMD_FLUSH, 0, 4, 0, 0);
	expect_end(rig, 4, 0);
	request(rig, NBD_CMD_READ, 0, 5, 0, 4096);
	expect_read_structured(rig, 5, 0, 4096, 1);
	expect_nothing(rig);
	assert_volume(rig, 0, 8192);
	end(rig);
}

static void unknown_commands_and_flags_keep_in_step(void **state)
{
	static const unsigned cmds[] = { 8, 9, 100, 0x7fff, 0xffff };
	unsigned cmd, bit;
	struct rig *rig = begin(true);
	size_t i;

	for (i = 0; i < sizeof(cmds) / sizeof(cmds[0]); i++) {
		request(rig, cmds[i], 0, i, 0, 4096);
		expect_end(rig, i, NBD_EINVAL);
	}
	for (cmd = 0; cmd <= NBD_CMD_BLOCK_STATUS; cmd++)
		for (bit = 1; bit < 16; bit++) {
			bool known =
				(cmd == NBD_CMD_READ && 1u << bit == NBD_CMD_FLAG_DF) ||
				(cmd == NBD_CMD_WRITE_ZEROES &&
				 1u << bit & (NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO)) ||
				(cmd == NBD_CMD_BLOCK_STATUS && 1u << bit == NBD_CMD_FLAG_REQ_ONE);

			if (known || cmd == NBD_CMD_DISC)
				continue;
			if (cmd == NBD_CMD_WRITE) /* its payload must be skipped */
				write_pattern(rig, 1u << bit, bit, 0, 5000);
			else
				request(rig, cmd, 1u << bit, bit, 0,
					cmd == NBD_CMD_FLUSH ? 0 : 4096);
			expect_end(rig, bit, NBD_EINVAL);
			expect_nothing(rig);
		}
	assert_int_equal(fake_thin_seen(rig->pool)->submitted, 0);
	end(rig);
	rig = begin(false); /* DF only with structured replies */
	request(rig, NBD_CMD_READ, NBD_CMD_FLAG_DF, 1, 0, 4096);
	expect_simple(rig, 1, NBD_EINVAL);
	expect_nothing(rig);
	end(rig);
}

static void df_is_one_chunk_or_eoverflow(void **state)
{
	struct rig *rig = begin(true);

	fill_pattern(rig);
	request(rig, NBD_CMD_READ, NBD_CMD_FLAG_DF, 1, 4095, 65536);
	expect_read_structured(rig, 1, 4095, 65536, 1);
	request(rig, NBD_CMD_READ, NBD_CMD_FLAG_DF, 2, 0, MIB);
	expect_read_structured(rig, 2, 0, MIB, 1);
	request(rig, NBD_CMD_READ, NBD_CMD_FLAG_DF, 3, 0, MIB + 1);
	expect_end(rig, 3, NBD_EOVERFLOW);
	request(rig, NBD_CMD_READ, 0, 4, 0, 33 * MIB);
	expect_end(rig, 4, NBD_EOVERFLOW);
	expect_nothing(rig);
	end(rig);
}

static void read_errors(void **state)
{
	struct rig *rig = begin(true);
	bool failed = false;
	uint64_t bytes = 0;
	struct got_chunk got;

	fill_pattern(rig);
	fake_thin_fail(rig->pool, THIN_READ, -EIO, 1);
	request(rig, NBD_CMD_READ, 0, 1, 100, 200);
	got = next_chunk(rig);
	assert_int_equal(got.type, NBD_REPLY_TYPE_ERROR_OFFSET);
	assert_int_equal(got.flags, NBD_REPLY_FLAG_DONE);
	assert_int_equal(cursor_be32(&got.payload), NBD_EIO);
	assert_int_equal(cursor_be16(&got.payload), 0);
	assert_int_equal(cursor_be64(&got.payload), 100); /* within the request */
	assert_true(cursor_done(&got.payload));

	/* One piece of many: an error chunk, no overlap, the rest served, DONE at the end only. */
	fake_thin_fail(rig->pool, THIN_READ, -EUCLEAN, 1);
	request(rig, NBD_CMD_READ, 0, 2, 0, 4 * MIB);
	do {
		got = next_chunk(rig);
		if (got.type == NBD_REPLY_TYPE_ERROR_OFFSET) {
			assert_false(failed);
			failed = true;
		} else {
			assert_int_equal(got.type, NBD_REPLY_TYPE_OFFSET_DATA);
			bytes += cursor_left(&got.payload) - 8;
		}
	} while (!(got.flags & NBD_REPLY_FLAG_DONE));
	assert_true(failed);
	assert_int_equal(bytes, 3 * MIB);
	expect_nothing(rig);
	assert_int_equal(rig->counters.errors, 2);
	end(rig);
}

static void simple_read_error_has_no_data(void **state)
{
	struct rig *rig = begin(false);

	fill_pattern(rig);
	fake_thin_fail(rig->pool, THIN_READ, -EIO, 1);
	request(rig, NBD_CMD_READ, 0, 1, 0, 4096);
	expect_simple(rig, 1, NBD_EIO);
	fake_thin_fail(rig->pool, THIN_READ, -EIO, 1); /* the first piece of several */
	request(rig, NBD_CMD_READ, 0, 2, 0, 4 * MIB);
	expect_simple(rig, 2, NBD_EIO);
	expect_nothing(rig);
	request(rig, NBD_CMD_READ, 0, 3, 0, 4 * MIB);
	expect_read_simple(rig, 3, 0, 4 * MIB);
	expect_nothing(rig);
	end(rig);
}

static void simple_read_failing_after_its_header_disconnects(void **state)
{
	struct rig *rig = begin(false);
	struct nbd_request r = header(NBD_CMD_READ, 0, 1, 0, 4 * MIB);
	int i;

	feed_by(rig, &r, sizeof(r), SIZE_MAX);
	for (i = 0; i < 100 && !rig->out_len; i++) {
		thin_pool_run(rig->pool, 0);
		send_out(rig);
	}
	assert_true(rig->out_len > 0);
	fake_thin_fail(rig->pool, THIN_READ, -EIO, 1);
	settle(rig);
	assert_int_equal(transmit_state(rig->t), TRANSMIT_BROKEN);
	end(rig);
}

/* A large simple READ among small ones: its bytes stay in one run. */
static void large_simple_reads_are_not_interleaved(void **state)
{
	struct nbd_request batch[9];
	struct rig *rig = begin(false);
	size_t i;

	fill_pattern(rig);
	for (i = 0; i < 9; i++)
		batch[i] = header(NBD_CMD_READ, 0, i, i * MIB + 7, i == 4 ? 3 * MIB : 512);
	feed(rig, batch, sizeof(batch));
	for (i = 0; i < 9; i++) {
		struct cursor c = received(rig);
		uint64_t cookie;

		cursor_skip(&c, 8);
		cookie = cookie_of(&c);
		assert_true(cookie < 9);
		if (i == 4)
			assert_int_equal(cookie, 4);
		expect_read_simple(rig, cookie, cookie * MIB + 7, cookie == 4 ? 3 * MIB : 512);
	}
	expect_nothing(rig);
	end(rig);
}

static void only_errors_of_the_protocol(void **state)
{
	static const struct {
		enum thin_op op;
		int res;
		unsigned cmd, flags;
		uint32_t error;
	} cases[] = {
		{ THIN_WRITE, -ENOSPC, NBD_CMD_WRITE, 0, NBD_ENOSPC },
		{ THIN_WRITE, -EDQUOT, NBD_CMD_WRITE, 0, NBD_ENOSPC },
		{ THIN_WRITE, -EFBIG, NBD_CMD_WRITE, 0, NBD_ENOSPC },
		{ THIN_WRITE, -EROFS, NBD_CMD_WRITE, 0, NBD_EPERM },
		{ THIN_WRITE, -ENOMEM, NBD_CMD_WRITE, 0, NBD_EIO },
		{ THIN_WRITE, -EUCLEAN, NBD_CMD_WRITE, 0, NBD_EIO },
		{ THIN_WRITE, -ENOTSUP, NBD_CMD_WRITE, 0, NBD_EIO },
		{ THIN_WRITE, -ESHUTDOWN, NBD_CMD_WRITE, 0, NBD_ESHUTDOWN },
		{ THIN_FLUSH, -EROFS, NBD_CMD_FLUSH, 0, NBD_EIO },
		{ THIN_FLUSH, -ENOSPC, NBD_CMD_FLUSH, 0, NBD_EIO },
		{ THIN_TRIM, -ENOENT, NBD_CMD_TRIM, 0, NBD_EIO },
		{ THIN_ZERO, -ENOTSUP, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FAST_ZERO, NBD_ENOTSUP },
		{ THIN_ZERO, -ENOTSUP, NBD_CMD_WRITE_ZEROES, 0, NBD_EIO },
		{ THIN_READ, -ENOSPC, NBD_CMD_READ, 0, NBD_EIO },
		{ THIN_STATUS, -EIO, NBD_CMD_BLOCK_STATUS, 0, NBD_EIO },
	};
	struct rig *rig = begin(true);
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fake_thin_fail(rig->pool, cases[i].op, cases[i].res, 1);
		if (cases[i].cmd == NBD_CMD_WRITE)
			write_pattern(rig, 0, i, 0, 4096);
		else
			request(rig, cases[i].cmd, cases[i].flags, i, 0,
				cases[i].cmd == NBD_CMD_FLUSH ? 0 : 4096);
		expect_end(rig, i, cases[i].error);
		expect_nothing(rig);
	}
	end(rig);
}

static void flags_reach_the_engine(void **state)
{
	struct rig *rig = begin(true);

	request(rig, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE, 1, 0, UINT32_MAX & 0xffff);
	assert_int_equal(fake_thin_seen(rig->pool)->last.flags, THIN_NO_HOLE);
	request(rig, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FAST_ZERO | NBD_CMD_FLAG_FUA, 2, 0, 4096);
	assert_int_equal(fake_thin_seen(rig->pool)->last.flags, THIN_FAST | THIN_FUA);
	request(rig, NBD_CMD_TRIM, NBD_CMD_FLAG_FUA, 3, 0, 4096);
	assert_int_equal(fake_thin_seen(rig->pool)->last.op, THIN_TRIM);
	assert_int_equal(fake_thin_seen(rig->pool)->last.flags, THIN_FUA);
	end(rig);
}

static void trim_and_zeroes_up_to_4_gib_just_work(void **state)
{
	struct rig *rig = begin(true);

	/* A volume large enough, sparse. */
	transmit_abort(rig->t, "");
	transmit_free(rig->t);
	thin_vol_close(rig->vol);
	fake_thin_add(rig->pool, "big", 8ull << 30);
	assert_int_equal(thin_vol_open(rig->pool, "big", &rig->vol), 0);
	{
		struct transmit_params params = { .pool = rig->pool,
						  .vol = rig->vol,
						  .bufs = rig->bufs,
						  .structured = true,
						  .volume_counters = &rig->counters,
						  .wake = rig_wake,
						  .user = rig };

		rig->t = transmit_new(&params);
	}
	fake_thin_fail(rig->pool, THIN_TRIM, 0, 1); /* without touching 4 GiB of memory */
	request(rig, NBD_CMD_TRIM, 0, 1, 1, UINT32_MAX);
	expect_end(rig, 1, 0);
	assert_int_equal(fake_thin_seen(rig->pool)->last.len, UINT32_MAX);
	fake_thin_fail(rig->pool, THIN_ZERO, 0, 1);
	request(rig, NBD_CMD_WRITE_ZEROES, 0, 2, 4096, UINT32_MAX);
	expect_end(rig, 2, 0);
	expect_nothing(rig);
	end(rig);
}

static void zero_length_requests_are_harmless(void **state)
{
	int structured;

	for (structured = 0; structured < 2; structured++) {
		struct rig *rig = begin(structured);

		request(rig, NBD_CMD_READ, 0, 1, 0, 0);
		expect_result(rig, structured, 1, 0);
		request(rig, NBD_CMD_WRITE, 0, 2, VOL_SIZE, 0);
		expect_result(rig, structured, 2, 0);
		request(rig, NBD_CMD_TRIM, 0, 3, 4096, 0);
		expect_result(rig, structured, 3, 0);
		request(rig, NBD_CMD_READ, 0, 4, VOL_SIZE + 1, 0);
		expect_result(rig, structured, 4, NBD_EINVAL);
		request(rig, NBD_CMD_BLOCK_STATUS, 0, 5, 0, 0);
		expect_result(rig, structured, 5, NBD_EINVAL);
		assert_int_equal(fake_thin_seen(rig->pool)->submitted, 0);
		end(rig);
	}
}

/* ---- BLOCK_STATUS ---- */

static void status_needs_a_context(void **state)
{
	struct rig *rig = begin_with(true, false, 0);

	request(rig, NBD_CMD_BLOCK_STATUS, 0, 1, 0, 4096);
	expect_end(rig, 1, NBD_EINVAL);
	end(rig);
	rig = begin_with(false, false, CONTEXTS_ALL);
	request(rig, NBD_CMD_BLOCK_STATUS, 0, 1, 0, 4096);
	expect_simple(rig, 1, NBD_EINVAL);
	end(rig);
}

struct desc {
	uint32_t len, flags;
};

static size_t status(struct rig *rig, unsigned flags, uint64_t offset, uint32_t len,
		     struct desc *to)
{
	struct got_chunk got;
	size_t count = 0;

	request(rig, NBD_CMD_BLOCK_STATUS, flags, 77, offset, len);
	got = next_chunk(rig);
	assert_int_equal(got.type, NBD_REPLY_TYPE_BLOCK_STATUS);
	assert_int_equal(got.flags, NBD_REPLY_FLAG_DONE);
	assert_int_equal(cursor_be32(&got.payload), context_id(CONTEXT_ALLOCATION));
	while (cursor_left(&got.payload)) {
		to[count].len = cursor_be32(&got.payload);
		to[count].flags = cursor_be32(&got.payload);
		assert_int_not_equal(to[count].len, 0);
		count++;
	}
	assert_true(count > 0);
	expect_nothing(rig);
	return count;
}

static void status_describes_the_range(void **state)
{
	struct rig *rig = begin(true);
	struct desc d[2048];
	size_t count, i;
	uint64_t total = 0;

	write_pattern(rig, 0, 1, 4096, 8192);
	expect_end(rig, 1, 0);
	request(rig, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE, 2, 16384, 4096);
	expect_end(rig, 2, 0);
	count = status(rig, 0, 0, VOL_SIZE, d);
	assert_int_equal(count, 5);
	assert_int_equal(d[0].len, 4096);
	assert_int_equal(d[0].flags, NBD_STATE_HOLE | NBD_STATE_ZERO);
	assert_int_equal(d[1].len, 8192);
	assert_int_equal(d[1].flags, 0);
	assert_int_equal(d[2].len, 4096);
	assert_int_equal(d[3].len, 4096);
	assert_int_equal(d[3].flags, NBD_STATE_ZERO);
	/* Unaligned: cut to the request at both ends. */
	count = status(rig, 0, 4100, 8192, d);
	assert_int_equal(count, 2);
	assert_int_equal(d[0].len, 8188);
	assert_int_equal(d[1].len, 4);
	/* One, and within the request. */
	count = status(rig, NBD_CMD_FLAG_REQ_ONE, 4100, 100, d);
	assert_int_equal(count, 1);
	assert_int_equal(d[0].len, 100);
	count = status(rig, NBD_CMD_FLAG_REQ_ONE, 0, VOL_SIZE, d);
	assert_int_equal(count, 1);
	assert_int_equal(d[0].len, 4096);
	/* More extents than the reply holds: the beginning of the range, N-1 shorter than it. */
	for (i = 0; i < 3000; i++) {
		write_pattern(rig, 0, i, i * 8192, 4096);
		expect_end(rig, i, 0);
	}
	count = status(rig, 0, 0, VOL_SIZE, d);
	assert_in_range(count, 100, 2000);
	for (i = 0; i < count; i++) {
		assert_int_equal(d[i].flags, i % 2 ? NBD_STATE_HOLE | NBD_STATE_ZERO : 0);
		total += d[i].len;
	}
	assert_true(total <= VOL_SIZE);
	end(rig);
}

/* ---- hostile ---- */

static void oversize_write_is_drained(void **state)
{
	static const uint32_t lens[] = { 32 * MIB + 1, 64 * MIB };
	struct rig *rig;
	uint8_t *junk = malloc(64 * MIB);
	size_t i;

	new_bufs();
	rig = begin(true);
	memset(junk, 0x25, 64 * MIB);
	for (i = 0; i < 2; i++) {
		struct nbd_request r = header(NBD_CMD_WRITE, 0, i, 0, lens[i]);

		feed(rig, &r, sizeof(r));
		feed(rig, junk, lens[i]);
		expect_end(rig, i, NBD_EINVAL);
		assert_int_equal(bufpool_peak_bytes(rig->bufs), 0); /* never buffered */
	}
	assert_int_equal(fake_thin_seen(rig->pool)->submitted, 0);
	request(rig, NBD_CMD_FLUSH, 0, 3, 0, 0);
	expect_end(rig, 3, 0);
	free(junk);
	end(rig);
}

static void absurd_write_disconnects(void **state)
{
	struct nbd_request r = header(NBD_CMD_WRITE, 0, 1, 0, 64 * MIB + 1);
	struct rig *rig = begin(true);

	feed_by(rig, &r, sizeof(r), SIZE_MAX);
	assert_int_equal(transmit_state(rig->t), TRANSMIT_BROKEN);
	end(rig);
}

static void garbage_disconnects(void **state)
{
	struct rig *rig = begin(true);
	uint8_t junk[28];

	memset(junk, 'x', sizeof(junk));
	feed_by(rig, junk, sizeof(junk), SIZE_MAX);
	assert_int_equal(transmit_state(rig->t), TRANSMIT_BROKEN);
	assert_true(transmit_reason(rig->t)[0]);
	end(rig);
}

static void half_requests_leave_nothing_behind(void **state)
{
	static const size_t cuts[] = { 0, 1, 27, 28, 29, 28 + 4096, 28 + 2 * MIB - 1 };
	size_t i;

	for (i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
		struct nbd_request r = header(NBD_CMD_WRITE, 0, 1, 0, 2 * MIB);
		uint8_t *message = calloc(1, sizeof(r) + 2 * MIB);
		struct rig *rig = begin(true);

		memcpy(message, &r, sizeof(r));
		feed(rig, message, cuts[i]);
		transmit_eof(rig->t);
		settle(rig);
		assert_int_equal(transmit_state(rig->t), TRANSMIT_DONE);
		expect_nothing(rig);
		assert_int_equal(transmit_held_bytes(rig->t), 0);
		end(rig); /* checks that all buffers are back */
		free(message);
	}
}

static void a_client_that_does_not_read_is_held_back(void **state)
{
	enum { COUNT = 400 }; /* of 256 KiB: 100 MiB asked for, 24 MiB there are */
	struct rig *rig;
	struct nbd_request batch[COUNT];
	struct iovec iov[2];
	size_t i;

	new_bufs();
	rig = begin(true);
	fill_pattern(rig);
	rig->no_read = true;
	for (i = 0; i < COUNT; i++)
		batch[i] = header(NBD_CMD_READ, 0, i, i % 16 * MIB, 256 << 10);
	feed(rig, batch, sizeof(batch));
	assert_int_equal(transmit_rx_iov(rig->t, iov), 0);
	assert_true(transmit_wants_memory(rig->t));
	assert_true(transmit_client_holds_memory(rig->t));
	/* A fifth of all, as bufpool.h says. */
	assert_in_range(bufpool_used_bytes(rig->bufs), 1, BUFS / 5);
	/* It reads again: everything comes. */
	rig->no_read = false;
	settle(rig);
	assert_int_equal(transmit_open_requests(rig->t), 0);
	assert_true(rig->out_len > COUNT * (256ull << 10));
	assert_true(bufpool_peak_bytes(rig->bufs) <= BUFS / 5);
	end(rig);
}

static void a_flood_of_small_requests_is_bounded(void **state)
{
	enum { COUNT = 50000 };
	struct rig *rig = begin(true);
	struct nbd_request *batch = malloc(COUNT * sizeof(*batch));
	size_t i;

	fake_thin_hold(rig->pool, true); /* the engine does not answer */
	for (i = 0; i < COUNT; i++)
		batch[i] = header(i % 2 ? NBD_CMD_FLUSH : 99, 0, i, 0, 0);
	rig->no_read = true;
	assert_true(feed_by(rig, batch, COUNT * sizeof(*batch), SIZE_MAX) < COUNT * sizeof(*batch));
	assert_int_equal(transmit_open_requests(rig->t), TRANSMIT_REQUEST_MAX);
	free(batch);
	end(rig);
}

/* ---- endings ---- */

static void disc_finishes_what_is_outstanding(void **state)
{
	struct nbd_request batch[12];
	struct rig *rig = begin(true);
	size_t i;

	fill_pattern(rig);
	fake_thin_hold(rig->pool, true);
	for (i = 0; i < 10; i++)
		batch[i] = header(NBD_CMD_READ, 0, i, i * 4096, 4096);
	batch[10] = header(NBD_CMD_DISC, 0, 10, 0, 0);
	batch[11] = header(NBD_CMD_READ, 0, 11, 0, 4096); /* after DISC: nothing */
	feed(rig, batch, sizeof(batch));
	assert_int_equal(transmit_state(rig->t), TRANSMIT_DRAINING);
	fake_thin_hold(rig->pool, false);
	settle(rig);
	for (i = 0; i < 10; i++)
		assert_true(next_chunk(rig).cookie < 10);
	expect_nothing(rig);
	assert_int_equal(transmit_state(rig->t), TRANSMIT_DONE);
	end(rig);
}

static void stop_answers_what_was_taken(void **state)
{
	struct nbd_request r = header(NBD_CMD_READ, 0, 1, 0, 8 * MIB);
	struct rig *rig = begin(true);

	fill_pattern(rig);
	fake_thin_hold(rig->pool, true);
	feed(rig, &r, sizeof(r));
	transmit_stop(rig->t); /* in the midst of issuing its pieces */
	assert_int_equal(transmit_state(rig->t), TRANSMIT_DRAINING);
	fake_thin_hold(rig->pool, false);
	settle(rig);
	expect_read_structured(rig, 1, 0, 8 * MIB, UINT32_MAX);
	assert_int_equal(transmit_state(rig->t), TRANSMIT_DONE);
	end(rig);
}

static void abort_waits_for_the_engine_only(void **state)
{
	struct rig *rig = begin(true);

	fake_thin_hold(rig->pool, true);
	write_pattern(rig, 0, 1, 0, 4096);
	assert_int_equal(transmit_in_flight(rig->t), 1);
	transmit_abort(rig->t, "test");
	assert_int_equal(transmit_in_flight(rig->t), 1);
	fake_thin_hold(rig->pool, false);
	rig->wakes = 0;
	fake_thin_settle(rig->pool);
	assert_int_equal(transmit_in_flight(rig->t), 0);
	assert_true(rig->wakes > 0);
	expect_nothing(rig);
	end(rig);
}

static int clean_up(void **state)
{
	new_bufs();
	free(shared_out);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_and_writes_of_all_shapes),
		cmocka_unit_test(bytes_may_come_in_any_portions),
		cmocka_unit_test(every_request_of_a_batch_is_answered_once),
		cmocka_unit_test(read_is_structured_even_for_an_early_einval),
		cmocka_unit_test(fua_is_accepted_on_every_command),
		cmocka_unit_test(fua_of_a_write_in_pieces_is_one_flush_behind_them),
		cmocka_unit_test(past_the_end),
		cmocka_unit_test(read_only_refuses_changes),
		cmocka_unit_test(unknown_commands_and_flags_keep_in_step),
		cmocka_unit_test(df_is_one_chunk_or_eoverflow),
		cmocka_unit_test(read_errors),
		cmocka_unit_test(simple_read_error_has_no_data),
		cmocka_unit_test(simple_read_failing_after_its_header_disconnects),
		cmocka_unit_test(large_simple_reads_are_not_interleaved),
		cmocka_unit_test(only_errors_of_the_protocol),
		cmocka_unit_test(flags_reach_the_engine),
		cmocka_unit_test(trim_and_zeroes_up_to_4_gib_just_work),
		cmocka_unit_test(zero_length_requests_are_harmless),
		cmocka_unit_test(status_needs_a_context),
		cmocka_unit_test(status_describes_the_range),
		cmocka_unit_test(oversize_write_is_drained),
		cmocka_unit_test(absurd_write_disconnects),
		cmocka_unit_test(garbage_disconnects),
		cmocka_unit_test(half_requests_leave_nothing_behind),
		cmocka_unit_test(a_client_that_does_not_read_is_held_back),
		cmocka_unit_test(a_flood_of_small_requests_is_bounded),
		cmocka_unit_test(disc_finishes_what_is_outstanding),
		cmocka_unit_test(stop_answers_what_was_taken),
		cmocka_unit_test(abort_waits_for_the_engine_only),
	};

	return cmocka_run_group_tests(tests, NULL, clean_up);
}
