/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See transmit_rig.h. */
#include "tests/blockd/transmit_rig.h"

#define OUT_SIZE (160 * MIB)

static uint8_t *shared_out;
static struct bufpool *shared_bufs;

/* For a test that looks at the peak. */
void new_bufs(void)
{
	bufpool_free(shared_bufs);
	shared_bufs = NULL;
}

static void rig_wake(void *user)
{
	((struct rig *)user)->wakes++;
}

/* The bits behind the contexts that every export has are bitmaps: each gets its snapshot. */
static void open_bases(struct rig *rig, const char *name, struct transmit_params *params)
{
	char snap[16], path[64];

	for (unsigned i = 0; i < CONTEXTS_BITMAP_MAX; i++) {
		if (!(params->contexts >> CONTEXT_COUNT >> i & 1))
			continue;
		snprintf(snap, sizeof(snap), "snap%u", i);
		snprintf(path, sizeof(path), "%s@%s", name, snap);
		fake_thin_snapshot(rig->pool, name, snap);
		assert_int_equal(thin_vol_open(rig->pool, path, &rig->bases[i]), 0);
		params->bases[i] = rig->bases[i];
	}
}

static struct rig *begin_on(const char *name, uint64_t size, struct transmit_params params)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	/* Both are kept from test to test: their first touch is what would take the time. */
	shared_out = shared_out ? shared_out : malloc(OUT_SIZE);
	if (!shared_bufs)
		assert_int_equal(bufpool_new(BUFS, &shared_bufs, NULL), 0);
	rig->out_size = OUT_SIZE;
	rig->out = shared_out;
	rig->bufs = shared_bufs;
	rig->pool = fake_thin_new(7);
	fake_thin_add(rig->pool, name, size);
	assert_int_equal(thin_vol_open(rig->pool, name, &rig->vol), 0);
	params.pool = rig->pool;
	params.vol = rig->vol;
	open_bases(rig, name, &params);
	params.bufs = rig->bufs;
	params.volume_counters = &rig->counters;
	params.wake = rig_wake;
	params.user = rig;
	rig->t = transmit_new(&params);
	assert_non_null(rig->t);
	return rig;
}

struct rig *begin_with(bool structured, bool read_only, unsigned contexts)
{
	return begin_on("demo", VOL_SIZE,
			(struct transmit_params){ .read_only = read_only,
						  .structured = structured,
						  .contexts = contexts });
}

struct rig *begin_big(uint64_t size, unsigned contexts)
{
	return begin_on("big", size,
			(struct transmit_params){ .structured = true, .contexts = contexts });
}

struct rig *begin_compared(unsigned contexts, unsigned count)
{
	return begin_with(true, false, contexts | CONTEXTS_BITMAPS(count));
}

struct rig *begin(bool structured)
{
	return begin_with(structured, false, CONTEXTS_ALL);
}

void end(struct rig *rig)
{
	transmit_abort(rig->t, "");
	fake_thin_hold(rig->pool, false);
	fake_thin_settle(rig->pool);
	transmit_free(rig->t);
	assert_int_equal(bufpool_used_bytes(rig->bufs), 0);
	for (unsigned i = 0; i < CONTEXTS_BITMAP_MAX; i++)
		thin_vol_close(rig->bases[i]);
	thin_vol_close(rig->vol);
	fake_thin_free(rig->pool);
	free(rig);
}

void send_out(struct rig *rig)
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
void settle(struct rig *rig)
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
size_t feed_by(struct rig *rig, const void *data, size_t len, size_t portion)
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

void feed(struct rig *rig, const void *data, size_t len)
{
	assert_int_equal(feed_by(rig, data, len, SIZE_MAX), len);
	settle(rig);
}

struct nbd_request header(unsigned cmd, unsigned flags, uint64_t cookie, uint64_t offset,
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

void request(struct rig *rig, unsigned cmd, unsigned flags, uint64_t cookie, uint64_t offset,
	     uint32_t len)
{
	struct nbd_request r = header(cmd, flags, cookie, offset, len);

	feed(rig, &r, sizeof(r));
}

uint8_t pattern(uint64_t i)
{
	return (uint8_t)(i * 131 + (i >> 9) * 7 + 3);
}

void assert_pattern(const uint8_t *bytes, uint64_t offset, uint64_t len)
{
	uint64_t i;

	for (i = 0; i < len && bytes[i] == pattern(offset + i); i++)
		;
	assert_int_equal(i, len);
}

void write_pattern(struct rig *rig, unsigned flags, uint64_t cookie, uint64_t offset, uint32_t len)
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

struct cursor received(const struct rig *rig)
{
	return cursor_over(rig->out + rig->out_at, rig->out_len - rig->out_at);
}

void took(struct rig *rig, const struct cursor *c)
{
	assert_true(cursor_ok(c));
	rig->out_at = (size_t)(c->at - rig->out);
}

uint64_t cookie_of(struct cursor *c)
{
	uint64_t cookie;

	cursor_copy(c, &cookie, 8);
	return cookie;
}

void expect_nothing(const struct rig *rig)
{
	assert_int_equal(rig->out_at, rig->out_len);
}

void expect_simple(struct rig *rig, uint64_t cookie, uint32_t error)
{
	struct cursor c = received(rig);

	assert_int_equal(cursor_be32(&c), NBD_SIMPLE_REPLY_MAGIC);
	assert_int_equal(cursor_be32(&c), error);
	assert_int_equal(cookie_of(&c), cookie);
	took(rig, &c);
}

struct got_chunk next_chunk(struct rig *rig)
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

/* The end of a request that has no data in its answer: an error chunk, or a simple reply. */
void expect_end(struct rig *rig, uint64_t cookie, uint32_t error)
{
	struct got_chunk got;

	if (!error) {
		expect_simple(rig, cookie, 0);
		return;
	}
	got = next_chunk(rig);
	assert_int_equal(got.cookie, cookie);
	assert_int_equal(got.flags, NBD_REPLY_FLAG_DONE);
	assert_true(got.type == NBD_REPLY_TYPE_ERROR || got.type == NBD_REPLY_TYPE_ERROR_OFFSET);
	assert_int_equal(cursor_be32(&got.payload), error);
}

/* The result of a request without payload, in either kind of reply. */
void expect_result(struct rig *rig, bool structured, uint64_t cookie, uint32_t error)
{
	if (structured)
		expect_end(rig, cookie, error);
	else
		expect_simple(rig, cookie, error);
	expect_nothing(rig);
}

/* A READ's data in any number of chunks, each byte once. */
void expect_read_structured(struct rig *rig, uint64_t cookie, uint64_t offset, uint32_t len,
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

void expect_read_simple(struct rig *rig, uint64_t cookie, uint64_t offset, uint32_t len)
{
	expect_simple(rig, cookie, 0);
	assert_true(rig->out_len - rig->out_at >= len);
	assert_pattern(rig->out + rig->out_at, offset, len);
	rig->out_at += len;
}

void fill_pattern(struct rig *rig)
{
	uint8_t *bytes = fake_thin_bytes(rig->pool, "demo");
	uint64_t i;

	for (i = 0; i < VOL_SIZE; i++)
		bytes[i] = pattern(i);
	fake_thin_mark(rig->pool, "demo", 0, VOL_SIZE, false);
}

void assert_volume(struct rig *rig, uint64_t offset, uint64_t len)
{
	assert_pattern(fake_thin_bytes(rig->pool, "demo") + offset, offset, len);
}

int rig_free_shared(void **state)
{
	new_bufs();
	free(shared_out);
	return 0;
}
