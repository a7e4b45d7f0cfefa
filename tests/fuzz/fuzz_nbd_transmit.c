/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests from hostile hands, on the engine in memory.  The first byte chooses what was
 * negotiated, the second the portions in which bytes come and go, the third what the engine fails.
 * The answers must be well-formed, one for each request taken up, and all buffers must come back.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/nbd/contexts.h"
#include "blockd/nbd/transmit.h"
#include "blockd/nbd/wire.h"
#include "common/base/cursor.h"
#include "tests/lib/fake_thin.h"

#define VOL_SIZE (5u << 18) /* two pieces */
#define OUT_MAX	 (64u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct run {
	struct thin_pool *pool;
	struct transmit *t;
	size_t portion;
	uint8_t *out;
	size_t out_len;
};

static void no_wake(void *user)
{
}

static void drain(struct run *run)
{
	size_t portion = run->portion < 4096 ? run->portion * 499 : run->portion;
	struct iovec iov[8];
	int count, i;

	while ((count = transmit_tx_iov(run->t, iov, 8))) {
		size_t sent = 0;

		for (i = 0; i < count && sent < portion; i++) {
			size_t part = iov[i].iov_len;

			if (part > portion - sent)
				part = portion - sent;
			if (run->out_len + part <= OUT_MAX)
				memcpy(run->out + run->out_len, iov[i].iov_base, part);
			run->out_len += part;
			sent += part;
		}
		transmit_sent(run->t, sent);
	}
}

static void settle(struct run *run)
{
	int quiet = 0;

	while (quiet < 2) {
		uint64_t before = fake_thin_seen(run->pool)->answered;

		thin_pool_run(run->pool, 0);
		drain(run);
		quiet = transmit_retry(run->t) || fake_thin_seen(run->pool)->answered != before
				? 0
				: quiet + 1;
	}
}

static void feed(struct run *run, const uint8_t *data, size_t len)
{
	while (len && transmit_state(run->t) == TRANSMIT_RUNNING) {
		struct iovec iov[2];
		int count = transmit_rx_iov(run->t, iov), i;
		size_t got = 0;

		if (!count) {
			settle(run);
			count = transmit_rx_iov(run->t, iov);
			if (!count && transmit_state(run->t) == TRANSMIT_RUNNING)
				abort(); /* nothing is in its way any more */
		}
		for (i = 0; i < count && len && got < run->portion; i++) {
			size_t part = iov[i].iov_len < len ? iov[i].iov_len : len;

			if (part > run->portion - got)
				part = run->portion - got;
			memcpy(iov[i].iov_base, data, part);
			data += part;
			len -= part;
			got += part;
		}
		if (count)
			transmit_received(run->t, got);
		if (run->portion % 2)
			settle(run);
	}
	settle(run);
}

/* Every reply a structured one, and as many ends as requests. */
static void check_structured(const struct run *run)
{
	const struct io_counters *io = transmit_counters(run->t);
	struct cursor c = cursor_over(run->out, run->out_len);
	uint64_t ends = 0;

	while (cursor_left(&c)) {
		uint16_t flags;

		if (cursor_be32(&c) != NBD_STRUCTURED_REPLY_MAGIC)
			abort();
		flags = cursor_be16(&c);
		cursor_skip(&c, 2 + 8);
		cursor_skip(&c, cursor_be32(&c));
		if (!cursor_ok(&c))
			abort();
		ends += flags & NBD_REPLY_FLAG_DONE;
	}
	if (ends > io->reads + io->writes + io->flushes + io->trims + io->zeroes + io->others)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const size_t portions[] = { SIZE_MAX, 1, 7, 28, 29, 4096, 4124, 100000 };
	static struct bufpool *bufs;
	static uint8_t *out;
	struct io_counters counters = { 0 };
	struct thin_vol *vol;
	struct transmit_params params = { .volume_counters = &counters, .wake = no_wake };
	struct run run;

	if (len < 3)
		return 0;
	if (!bufs && bufpool_new(BUFPOOL_SIZE_MIN, &bufs, NULL))
		abort();
	out = out ? out : malloc(OUT_MAX);
	run = (struct run){ .pool = fake_thin_new(data[1] + 1u), .out = out };
	fake_thin_add(run.pool, "v", VOL_SIZE);
	if (thin_vol_open(run.pool, "v", &vol))
		abort();
	params.pool = run.pool;
	params.vol = vol;
	params.bufs = bufs;
	params.structured = data[0] & 1;
	params.read_only = data[0] & 2;
	params.contexts = data[0] & 4 ? CONTEXTS_ALL : 0;
	run.portion = portions[data[1] % 8];
	if (data[2])
		fake_thin_fail(run.pool, data[2] % 7, data[2] & 0x40 ? -ENOSPC : -EIO,
			       1 + data[2] % 3);
	run.t = transmit_new(&params);
	feed(&run, data + 3, len - 3);
	transmit_eof(run.t);
	settle(&run);
	if (transmit_state(run.t) != TRANSMIT_DONE && transmit_state(run.t) != TRANSMIT_BROKEN)
		abort();
	if (params.structured && transmit_state(run.t) == TRANSMIT_DONE && run.out_len <= OUT_MAX)
		check_structured(&run);
	transmit_abort(run.t, "");
	fake_thin_settle(run.pool);
	transmit_free(run.t);
	if (bufpool_used_bytes(bufs))
		abort();
	thin_vol_close(vol);
	fake_thin_free(run.pool);
	return 0;
}
