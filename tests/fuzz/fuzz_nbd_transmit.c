/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The transmission phase in hostile hands, on the engine in memory.  The input is a script: what
 * was negotiated, then requests of all shapes among raw bytes, in portions, while the engine
 * answers late or with errors, memory runs short, the client does not read, or someone stops the
 * server.
 *
 * The answers must be well-formed and belong to a request that waits for one, each request is
 * answered once, at the end by all means, and all buffers must come back.
 */
#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/nbd/contexts.h"
#include "blockd/nbd/transmit.h"
#include "blockd/nbd/wire.h"
#include "common/base/cursor.h"
#include "tests/fuzz/script.h"
#include "tests/lib/fake_thin.h"

#define VOL_SIZE     (34u << 20)
#define OUT_MAX	     (64u << 20)
#define PAYLOAD_MAX  (80u << 20) /* bytes sent by one script */
#define REQUESTS_MAX 2048u
#define GRABBED_MAX  32u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* A request that was sent whole; its cookie is the index. */
struct asked {
	bool open;
	uint16_t cmd;
	uint32_t len;
};

struct run {
	struct thin_pool *pool;
	struct thin_vol *bases[CONTEXTS_BITMAP_MAX];
	struct transmit *t;
	struct bufpool *bufs;
	size_t portion;
	bool structured, no_read, held;
	bool raw; /* bytes that nobody understands were sent: answers cannot be foreseen */
	uint64_t sent_bytes;
	struct asked asked[REQUESTS_MAX];
	uint32_t asked_count;
	uint8_t *out;
	size_t out_len, out_at;
	struct bufpool_account account[GRABBED_MAX];
	void *grabbed[GRABBED_MAX];
	uint32_t grabbed_len[GRABBED_MAX];
};

static void no_wake(void *user)
{
}

/* ---- answers ---- */

static struct asked *asked_for(struct run *run, uint64_t cookie)
{
	if (cookie >= run->asked_count || !run->asked[cookie].open)
		abort(); /* answers what was not asked, or twice */
	return &run->asked[cookie];
}

static uint64_t take_cookie(struct cursor *c)
{
	uint64_t cookie = 0;

	cursor_copy(c, &cookie, sizeof(cookie));
	return cookie;
}

static bool take_simple(struct run *run, struct cursor *c)
{
	uint32_t error = cursor_be32(c);
	uint64_t cookie = take_cookie(c);
	struct asked *asked;

	if (!cursor_ok(c))
		return false;
	asked = asked_for(run, cookie);
	if (run->structured &&
	    (error || asked->cmd == NBD_CMD_READ || asked->cmd == NBD_CMD_BLOCK_STATUS))
		abort();
	if (asked->cmd == NBD_CMD_READ && !error && !cursor_skip(c, asked->len))
		return false;
	asked->open = false;
	return true;
}

static bool take_chunk(struct run *run, struct cursor *c)
{
	uint16_t flags = cursor_be16(c), type = cursor_be16(c);
	uint64_t cookie = take_cookie(c);
	struct cursor payload = cursor_sub(c, cursor_be32(c));
	struct asked *asked;

	if (!cursor_ok(c))
		return false;
	asked = asked_for(run, cookie);
	if (type == NBD_REPLY_TYPE_NONE && (cursor_left(&payload) || !flags))
		abort();
	if (type == NBD_REPLY_TYPE_OFFSET_DATA &&
	    (cursor_left(&payload) < 9 || asked->cmd != NBD_CMD_READ))
		abort();
	if (type == NBD_REPLY_TYPE_OFFSET_HOLE &&
	    (cursor_left(&payload) != 12 || asked->cmd != NBD_CMD_READ))
		abort();
	if (type == NBD_REPLY_TYPE_BLOCK_STATUS &&
	    (cursor_left(&payload) < 12 || cursor_left(&payload) % 8 != 4 ||
	     asked->cmd != NBD_CMD_BLOCK_STATUS))
		abort();
	if (flags & NBD_REPLY_FLAG_DONE)
		asked->open = false;
	return true;
}

/* Whole answers of what has come; the beginning of one stays. */
static void take_answers(struct run *run)
{
	while (!run->raw && run->out_at < run->out_len) {
		struct cursor c = cursor_over(run->out + run->out_at, run->out_len - run->out_at);
		uint32_t magic = cursor_be32(&c);

		if (!cursor_ok(&c))
			return;
		if (magic != NBD_SIMPLE_REPLY_MAGIC &&
		    (!run->structured || magic != NBD_STRUCTURED_REPLY_MAGIC))
			abort();
		if (!(magic == NBD_SIMPLE_REPLY_MAGIC ? take_simple : take_chunk)(run, &c))
			return;
		run->out_at = (size_t)(c.at - run->out);
	}
	if (run->out_at == run->out_len)
		run->out_at = run->out_len = 0;
}

static bool drain_some(struct run *run)
{
	size_t portion = run->portion < 4096 ? run->portion * 499 : run->portion, sent = 0;
	struct iovec iov[8];
	int count = transmit_tx_iov(run->t, iov, 8), i;

	for (i = 0; i < count && sent < portion; i++) {
		size_t part = iov[i].iov_len;

		if (part > portion - sent)
			part = portion - sent;
		if (run->raw)
			run->out_at = run->out_len = 0;
		if (run->out_len + part > OUT_MAX)
			abort(); /* nobody has asked for so much at once */
		memcpy(run->out + run->out_len, iov[i].iov_base, part);
		run->out_len += part;
		sent += part;
	}
	if (sent) {
		if (transmit_is_untimed(run->t))
			transmit_time(run->t, 0);
		transmit_sent(run->t, sent);
		take_answers(run);
	}
	return sent;
}

static void settle(struct run *run)
{
	int quiet = 0;

	while (quiet < 2) {
		uint64_t before = fake_thin_seen(run->pool)->answered;

		thin_pool_run(run->pool, 0);
		while (!run->no_read && drain_some(run))
			;
		quiet = transmit_retry(run->t) || fake_thin_seen(run->pool)->answered != before
				? 0
				: quiet + 1;
	}
}

static void give_back(struct run *run)
{
	unsigned i;

	for (i = 0; i < GRABBED_MAX; i++)
		if (run->grabbed[i])
			bufpool_put(run->bufs, &run->account[i], run->grabbed[i],
				    run->grabbed_len[i]);
	memset(run->grabbed, 0, sizeof(run->grabbed));
}

/* Whatever holds the server back ends. */
static void relieve(struct run *run)
{
	give_back(run);
	run->no_read = run->held = false;
	fake_thin_hold(run->pool, false);
	settle(run);
}

/* ---- the client ---- */

/* `len` bytes, of `data` or (NULL) of any kind; how many were taken. */
static size_t feed(struct run *run, const uint8_t *data, size_t len)
{
	size_t done = 0;

	while (done < len && transmit_state(run->t) == TRANSMIT_RUNNING) {
		struct iovec iov[2];
		int count = transmit_rx_iov(run->t, iov), i;
		size_t got = 0;

		if (!count) {
			relieve(run);
			count = transmit_rx_iov(run->t, iov);
			if (!count && transmit_state(run->t) == TRANSMIT_RUNNING)
				abort(); /* nothing is in its way any more */
		}
		for (i = 0; i < count && done + got < len && got < run->portion; i++) {
			size_t part = iov[i].iov_len < len - done - got ? iov[i].iov_len
									: len - done - got;

			if (part > run->portion - got)
				part = run->portion - got;
			if (data)
				memcpy(iov[i].iov_base, data + done + got, part);
			else
				memset(iov[i].iov_base, (int)(done & 0xff), part);
			got += part;
		}
		transmit_set_now(run->t, done);
		transmit_received(run->t, got);
		done += got;
		if (run->portion % 2)
			settle(run);
	}
	run->sent_bytes += done;
	return done;
}

static uint32_t pick_len(struct script *s)
{
	static const uint32_t lens[] = { 0,
					 1,
					 512,
					 4096,
					 4097,
					 65536,
					 65537,
					 1 << 20,
					 (1 << 20) + 1,
					 3 << 20,
					 4 << 20,
					 32 << 20,
					 (32 << 20) + 1,
					 64 << 20,
					 (64 << 20) + 1,
					 UINT32_MAX };
	unsigned which = script_byte(s);

	return which < 128 ? lens[which % 16] : script_u16(s) * (which & 7);
}

static uint64_t pick_offset(struct script *s)
{
	static const uint64_t offsets[] = { 0,		4096,	      VOL_SIZE - 1,
					    VOL_SIZE,	VOL_SIZE + 1, UINT64_MAX,
					    1ull << 63, 100 };
	unsigned which = script_byte(s);

	return which < 64 ? offsets[which % 8] : (uint64_t)script_u16(s) * (which & 127);
}

static struct nbd_request make_request(struct run *run, struct script *s, uint32_t *ret_payload)
{
	unsigned cmd = script_byte(s), flags = script_byte(s);
	uint64_t offset = pick_offset(s), cookie = run->asked_count;
	uint32_t len = pick_len(s);
	struct nbd_request r;

	cmd = cmd < 240 ? cmd % 10 : cmd << 8;
	if (cmd == NBD_CMD_FLUSH && !(flags & 0x80))
		offset = len = 0;
	r = (struct nbd_request){
		.magic = be32_put(NBD_REQUEST_MAGIC),
		.flags = be16_put((uint16_t)(flags & 0x40 ? flags << 4 : flags & 0x1f)),
		.type = be16_put((uint16_t)cmd),
		.offset = be64_put(offset),
		.len = be32_put(len),
	};
	memcpy(r.cookie, &cookie, sizeof(r.cookie));
	run->asked[run->asked_count] = (struct asked){ .cmd = (uint16_t)cmd, .len = len };
	*ret_payload = cmd == NBD_CMD_WRITE ? len : 0;
	return r;
}

static void send_payload(struct run *run, struct asked *asked, uint32_t len)
{
	/* all of a large one byte by byte would only take time: the client goes away in it */
	uint32_t limit = run->portion < 4096 ? 50000 : UINT32_MAX;

	if (len && feed(run, NULL, len < limit ? len : limit) < len) {
		asked->open = false;
		transmit_eof(run->t);
	}
}

static void send_request(struct run *run, struct script *s)
{
	struct asked *asked = &run->asked[run->asked_count];
	struct nbd_request r;
	uint32_t payload;

	if (run->asked_count == REQUESTS_MAX || run->sent_bytes > PAYLOAD_MAX ||
	    transmit_state(run->t) != TRANSMIT_RUNNING)
		return;
	r = make_request(run, s, &payload);
	/* an answer may come while the rest is on its way; DISC has none */
	asked->open = be16_get(r.type) != NBD_CMD_DISC;
	run->asked_count++;
	if (feed(run, (const uint8_t *)&r, sizeof(r)) == sizeof(r))
		send_payload(run, asked, payload);
}

static void send_raw(struct run *run, struct script *s)
{
	size_t len;
	const uint8_t *bytes = script_bytes(s, script_byte(s), &len);

	run->raw = run->raw || len;
	feed(run, bytes, len);
}

/* ---- what else happens ---- */

/* Other clients take memory, or give it back. */
static void grab(struct run *run, struct script *s)
{
	unsigned i = script_below(s, GRABBED_MAX);

	if (run->grabbed[i]) {
		bufpool_put(run->bufs, &run->account[i], run->grabbed[i], run->grabbed_len[i]);
		run->grabbed[i] = NULL;
		return;
	}
	run->grabbed_len[i] = 1u << (12 + script_below(s, 9));
	run->grabbed[i] = bufpool_get(run->bufs, &run->account[i], run->grabbed_len[i]);
}

static void fail(struct run *run, struct script *s)
{
	static const int errors[] = {
		EIO, ENOSPC, EROFS, EINVAL, ENOTSUP, ESHUTDOWN, ENOMEM, EPERM
	};
	enum thin_op op = (enum thin_op)script_below(s, THIN_CACHE + 1);

	fake_thin_fail(run->pool, op, -errors[script_below(s, 8)], 1 + script_below(s, 4));
}

static void mark(struct run *run, struct script *s)
{
	uint64_t offset = script_u16(s) % (VOL_SIZE / 4096) * 4096ull;
	uint64_t len = (1 + script_byte(s)) * 4096ull;

	if (len > VOL_SIZE - offset)
		len = VOL_SIZE - offset;
	fake_thin_mark(run->pool, "v", offset, len, script_byte(s) & 1);
}

static void step(struct run *run, struct script *s)
{
	switch (script_below(s, 16)) {
	default:
		send_request(run, s);
		break;
	case 7:
		send_raw(run, s);
		break;
	case 8:
		run->held = !run->held;
		fake_thin_hold(run->pool, run->held);
		break;
	case 9:
		fail(run, s);
		break;
	case 10:
		run->no_read = !run->no_read;
		break;
	case 11:
		grab(run, s);
		break;
	case 12:
		mark(run, s);
		break;
	case 13:
		thin_pool_run(run->pool, 0);
		drain_some(run);
		transmit_retry(run->t);
		break;
	case 14:
		settle(run);
		break;
	case 15:
		if (script_below(s, 8) == 1)
			transmit_stop(run->t);
		else if (script_below(s, 8) == 1)
			transmit_abort(run->t, "enough");
		break;
	}
}

static void finish(struct run *run)
{
	uint32_t i;

	relieve(run);
	transmit_eof(run->t);
	settle(run);
	if (transmit_state(run->t) != TRANSMIT_DONE && transmit_state(run->t) != TRANSMIT_BROKEN)
		abort();
	for (i = 0; transmit_state(run->t) == TRANSMIT_DONE && !run->raw && i < run->asked_count;
	     i++)
		if (run->asked[i].open)
			abort(); /* never answered */
	transmit_abort(run->t, "");
	fake_thin_settle(run->pool);
	if (transmit_in_flight(run->t) || transmit_open_requests(run->t) ||
	    transmit_held_bytes(run->t) || transmit_wants_memory(run->t) ||
	    transmit_client_holds_memory(run->t) || !transmit_reason(run->t))
		abort();
	transmit_free(run->t);
	if (bufpool_used_bytes(run->bufs))
		abort();
}

/* So many bitmaps besides: each is compared with a snapshot of its own, taken while all is empty.
 */
static unsigned add_bases(struct run *run, unsigned count)
{
	static const char *const snaps[] = { "0", "1", "2", "3", "4", "5", "6", "7" };
	char path[8];

	static_assert(sizeof(snaps) / sizeof(snaps[0]) == CONTEXTS_BITMAP_MAX, "a name for each");
	for (unsigned i = 0; i < count; i++) {
		fake_thin_snapshot(run->pool, "v", snaps[i]);
		snprintf(path, sizeof(path), "v@%s", snaps[i]);
		if (thin_vol_open(run->pool, path, &run->bases[i]))
			abort();
	}
	return CONTEXTS_BITMAPS(count);
}

static void begin(struct run *run, struct script *s, struct thin_vol *vol,
		  struct io_counters *counters, struct io_latency *latency)
{
	static const size_t portions[] = { SIZE_MAX, 1, 7, 28, 29, 4096, 4124, 100000 };
	unsigned what = script_byte(s);
	struct transmit_params params = {
		.pool = run->pool,
		.vol = vol,
		.bufs = run->bufs,
		.structured = !(what & 1),
		.read_only = what & 2,
		.contexts = what & 4 ? 0 : CONTEXTS_ALL & (1 + what / 32),
		.volume_counters = counters,
		.volume_latency = what & 8 ? latency : NULL,
		.wake = no_wake,
	};
	struct nbd_request early;
	uint32_t payload;

	if (params.contexts == CONTEXTS_ALL)
		params.contexts |= add_bases(run, CONTEXTS_BITMAP_MAX);
	else if (!(what & 4) && !params.contexts)
		params.contexts = add_bases(run, 1);
	memcpy(params.bases, run->bases, sizeof(params.bases));
	run->structured = params.structured;
	run->portion = portions[script_below(s, 8)];
	run->t = transmit_new(&params);
	if (!(what & 16))
		return;
	early = make_request(run, s, &payload); /* it came with the handshake */
	run->asked[0].open = be16_get(early.type) != NBD_CMD_DISC;
	run->asked_count = 1;
	transmit_inject(run->t, &early, sizeof(early));
	send_payload(run, &run->asked[0], payload);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct bufpool *bufs;
	static struct run run;
	static uint8_t *out;
	static struct io_latency latency;
	struct script s = { data, len };
	struct io_counters counters = { 0 };
	struct thin_vol *vol;

	if (!bufs && bufpool_new(BUFPOOL_SIZE_MIN, &bufs, NULL))
		abort();
	out = out ? out : malloc(OUT_MAX);
	memset(&run, 0, sizeof(run));
	run.pool = fake_thin_new(1 + script_byte(&s));
	run.bufs = bufs;
	run.out = out;
	fake_thin_add(run.pool, "v", VOL_SIZE);
	if (thin_vol_open(run.pool, "v", &vol))
		abort();
	begin(&run, &s, vol, &counters, &latency);
	while (s.left)
		step(&run, &s);
	finish(&run);
	for (unsigned i = 0; i < CONTEXTS_BITMAP_MAX; i++)
		thin_vol_close(run.bases[i]);
	thin_vol_close(vol);
	fake_thin_free(run.pool);
	return 0;
}
