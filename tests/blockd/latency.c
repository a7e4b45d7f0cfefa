/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long requests took: each is counted once, of its kind, from the receive that completed it to
 * the send that answered it, however it is cut up or refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "blockd/nbd/transmit.h"
#include "blockd/nbd/wire.h"
#include "tests/lib/fake_thin.h"

#define MIB 1048576u
#define US  1000u

struct rig {
	struct thin_pool *pool;
	struct thin_vol *vol;
	struct bufpool *bufs;
	struct io_counters counters;
	struct io_latency latency;
	struct transmit *t;
};

static void wake(void *user)
{
}

static struct rig *begin(bool structured)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	struct transmit_params params = { .structured = structured,
					  .volume_counters = &rig->counters,
					  .volume_latency = &rig->latency,
					  .wake = wake,
					  .user = rig };

	assert_int_equal(bufpool_new(24 * MIB, &rig->bufs, NULL), 0);
	rig->pool = fake_thin_new(7);
	fake_thin_add(rig->pool, "demo", 64 * MIB);
	assert_int_equal(thin_vol_open(rig->pool, "demo", &rig->vol), 0);
	params.pool = rig->pool;
	params.vol = rig->vol;
	params.bufs = rig->bufs;
	rig->t = transmit_new(&params);
	assert_non_null(rig->t);
	return rig;
}

static void end(struct rig *rig)
{
	transmit_abort(rig->t, "");
	fake_thin_settle(rig->pool);
	transmit_free(rig->t);
	thin_vol_close(rig->vol);
	fake_thin_free(rig->pool);
	bufpool_free(rig->bufs);
	free(rig);
}

/* Bytes that come at `now_us`, as often as they are taken. */
static void feed(struct rig *rig, uint64_t now_us, const void *data, size_t len)
{
	const uint8_t *at = data;

	while (len) {
		struct iovec iov[2];
		int count = transmit_rx_iov(rig->t, iov);
		size_t got = 0;

		if (!count) {
			thin_pool_run(rig->pool, 0);
			transmit_retry(rig->t);
			continue;
		}
		for (int i = 0; i < count && len > got; i++) {
			size_t part = iov[i].iov_len < len - got ? iov[i].iov_len : len - got;

			memcpy(iov[i].iov_base, at + got, part);
			got += part;
		}
		transmit_set_now(rig->t, now_us * US);
		transmit_received(rig->t, got);
		at += got;
		len -= got;
	}
}

/* Let the engine answer all, and the answers leave at `now_us`. */
static void answer(struct rig *rig, uint64_t now_us)
{
	const struct fake_seen *seen = fake_thin_seen(rig->pool);

	for (int idle = 0; idle < 3;) {
		struct iovec iov[16];
		int count;

		thin_pool_run(rig->pool, 0);
		if (transmit_is_untimed(rig->t))
			transmit_time(rig->t, now_us * US);
		count = transmit_tx_iov(rig->t, iov, 16);
		idle = count || seen->answered < seen->submitted ? 0 : idle + 1;
		while (count--)
			transmit_sent(rig->t, iov[count].iov_len);
		transmit_retry(rig->t);
	}
}

static void ask(struct rig *rig, uint64_t now_us, unsigned cmd, unsigned flags, uint64_t offset,
		uint32_t len)
{
	struct nbd_request r = { .magic = be32_put(NBD_REQUEST_MAGIC),
				 .flags = be16_put((uint16_t)flags),
				 .type = be16_put((uint16_t)cmd),
				 .offset = be64_put(offset),
				 .len = be32_put(len) };

	feed(rig, now_us, &r, sizeof(r));
}

static void assert_counted(const struct rig *rig, enum io_kind kind, uint64_t count,
			   uint64_t sum_us)
{
	uint64_t all = 0;

	for (int i = 0; i < IO_KIND_COUNT; i++)
		all += histogram_count(&rig->latency.kinds[i]);
	assert_int_equal(histogram_count(&rig->latency.kinds[kind]), count);
	assert_int_equal(rig->latency.kinds[kind].sum_ns, sum_us * US);
	assert_int_equal(all, rig->counters.reads + rig->counters.writes + rig->counters.flushes +
				      rig->counters.trims + rig->counters.zeroes +
				      rig->counters.others);
}

static void test_kinds(void **state)
{
	struct rig *rig = begin(*state != NULL);

	ask(rig, 100, NBD_CMD_READ, 0, 0, 4096);
	answer(rig, 150);
	assert_counted(rig, IO_READ, 1, 50);
	ask(rig, 200, NBD_CMD_FLUSH, 0, 0, 0);
	answer(rig, 1200);
	assert_counted(rig, IO_FLUSH, 1, 1000);
	ask(rig, 1300, NBD_CMD_TRIM, 0, 0, 65536);
	answer(rig, 1303);
	ask(rig, 1400, NBD_CMD_WRITE_ZEROES, 0, 0, 65536);
	answer(rig, 1404);
	ask(rig, 1500, 77, 0, 0, 0); /* unknown: refused */
	answer(rig, 1505);
	assert_counted(rig, IO_OTHER, 3, 3 + 4 + 5);
	ask(rig, 1600, NBD_CMD_READ, 0, 1ull << 40, 4096); /* past the end: refused */
	answer(rig, 1601);
	assert_counted(rig, IO_READ, 2, 51);
	end(rig);
}

/* From its last byte on: what a client takes to send its payload is not ours. */
static void test_write(void **state)
{
	uint8_t *payload = calloc(1, 3 * MIB);
	struct rig *rig = begin(*state != NULL);

	ask(rig, 100, NBD_CMD_WRITE, 0, 8192, 4096);
	feed(rig, 500, payload, 1000);
	feed(rig, 900, payload, 3096);
	answer(rig, 940);
	assert_counted(rig, IO_WRITE, 1, 40);
	ask(rig, 1000, NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 512, 3 * MIB);
	feed(rig, 1500, payload, 2 * MIB);
	feed(rig, 1900, payload, MIB);
	answer(rig, 2000);
	assert_counted(rig, IO_WRITE, 2, 140);
	ask(rig, 3000, NBD_CMD_WRITE, 0, 1ull << 40, 4096); /* past the end: drained, refused */
	feed(rig, 3001, payload, 4096);
	answer(rig, 3002);
	assert_int_equal(histogram_count(&rig->latency.kinds[IO_WRITE]), 3);
	end(rig);
	free(payload);
}

/* One request, many chunks or pieces: counted once, when the last is there. */
static void test_large_read(void **state)
{
	struct rig *rig = begin(*state != NULL);

	ask(rig, 100, NBD_CMD_READ, 0, 4096, 3 * MIB);
	answer(rig, 300);
	assert_counted(rig, IO_READ, 1, 200);
	end(rig);
}

/* Many of one receive: all came then; the answers of one send left then. */
static void test_batch(void **state)
{
	struct rig *rig = begin(*state != NULL);
	struct nbd_request batch[TRANSMIT_REQUEST_MAX];

	for (unsigned i = 0; i < TRANSMIT_REQUEST_MAX; i++)
		batch[i] = (struct nbd_request){ .magic = be32_put(NBD_REQUEST_MAGIC),
						 .type = be16_put(NBD_CMD_READ),
						 .offset = be64_put(i * 4096ull),
						 .len = be32_put(4096) };
	feed(rig, 100, batch, sizeof(batch));
	answer(rig, 110);
	assert_counted(rig, IO_READ, TRANSMIT_REQUEST_MAX, 10 * TRANSMIT_REQUEST_MAX);
	end(rig);
}

int main(void)
{
	static int structured;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds),
		cmocka_unit_test_prestate(test_kinds, &structured),
		cmocka_unit_test(test_write),
		cmocka_unit_test_prestate(test_write, &structured),
		cmocka_unit_test(test_large_read),
		cmocka_unit_test_prestate(test_large_read, &structured),
		cmocka_unit_test(test_batch),
		cmocka_unit_test_prestate(test_batch, &structured),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
