/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The transmission phase: bytes in, requests parsed.  issue.c gives them to the engine, reply.c
 * answers.
 *
 *	                 +------------------- header ok, no payload --> ISSUE --+
 *	                 |                                                      |
 *	  HEADER --------+-- large simple READ --> ALONE (others first) --------+--> HEADER
 *	    |            |                                                      |
 *	    |            +-- WRITE --> PAYLOAD (piece by piece) ----------------+
 *	    |            +-- refused WRITE --> DRAIN --> error reply -----------+
 *	    |            +-- refused otherwise --> error reply -----------------+
 *	    +-- a standby's change --> LOCK --> as if the header had just come
 *	    +-- DISC, end of file, stop --> OVER
 *
 * There is one current request: the parser goes on to the next header only when all of the current
 * one has been given to the engine.  So whatever is missing (a buffer, a slot) stops the parser,
 * a stopped parser stops receiving, and no request waits half-begun behind another.
 *
 * Payloads are cut into pieces of up to 1 MiB that end at block boundaries; each piece is one
 * engine request with its own buffer, so the memory of a request does not grow with its length.
 * - A WRITE's pieces are submitted as they fill.  Until it is answered nothing is promised of it,
 *   so a connection lost in mid-payload may leave a part of it written, as on any disk.
 *   FUA is carried by the engine request when there is one piece; with several, by one flush
 *   after the last.
 * - A structured READ's pieces are chunks, in any order.
 * - A simple reply is one run of bytes with its error in front.  A READ that fits a piece is
 *   answered after its end is known; a larger one has the connection for itself (ALONE), goes
 *   piece by piece in order, and an error after the header has left breaks the connection.
 *   The same way is taken when memory is too short for it whole.
 *
 * Receiving: small requests come many at once into `rx` and payloads are copied from there into
 * aligned buffers.  What is missing of a payload is received in place; after a large WRITE only a
 * header's length is asked for behind it, so that the next large payload lands in place as well.
 *
 * A turn gives the engine at most TURN_BYTES of READs (and one piece more), then the parser yields
 * until the next: what one client has queued is not the delay of the others.
 *
 * Validation order (the first that applies is the answer): command, flags, read-only, the write
 * lock, range, size.  The lock is compared here and once more where a change goes to the engine
 * (issue_submit()), since a payload, a buffer or a slot may have been long in coming.  A standby's
 * change waits in LOCK, and with it all that the client has sent behind it.
 */
#include "blockd/nbd/transmit_priv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- slots ---- */

static struct request *request_take(struct transmit *t)
{
	struct request *q = t->free_requests;

	t->free_requests = q->next;
	memset(q, 0, sizeof(*q));
	q->refs = 1;
	q->start_ns = t->now_ns;
	t->open_requests++;
	return q;
}

static void request_unref(struct transmit *t, struct request *q)
{
	assert(q->refs > 0);
	if (--q->refs)
		return;
	assert(t->open_requests > 0 && !q->open_pieces);
	t->open_requests--;
	q->next = t->free_requests;
	t->free_requests = q;
}

static struct piece *piece_take(struct transmit *t, struct request *q)
{
	struct piece *piece = t->free_pieces;

	t->free_pieces = piece->next;
	piece->t = t;
	piece->request = q;
	q->refs++;
	piece->buf = NULL;
	piece->many = NULL;
	piece->lent = NULL;
	piece->req.iov_count = 0;
	piece->filled = piece->header_len = piece->data_len = 0;
	return piece;
}

struct piece *transmit_piece_take(struct transmit *t)
{
	struct piece *piece = piece_take(t, t->current);

	piece->offset = t->current->offset;
	piece->len = t->current->len;
	return piece;
}

struct piece *transmit_piece_beside(struct transmit *t, const struct piece *piece)
{
	return piece_take(t, piece->request);
}

void transmit_release_buf(struct transmit *t, struct piece *piece)
{
	thin_read_return(t->pool, &piece->req);
	if (piece->many)
		bufpool_put(t->bufs, &t->account, piece->many, piece->many_len);
	if (piece->buf)
		bufpool_put(t->bufs, &t->account, piece->buf, piece->buf_len);
	piece->many = NULL;
	piece->buf = NULL;
}

void transmit_release_piece(struct transmit *t, struct piece *piece)
{
	transmit_release_buf(t, piece);
	request_unref(t, piece->request);
	piece->request = NULL;
	piece->next = t->free_pieces;
	t->free_pieces = piece;
}

/* ---- state ---- */

void transmit_break(struct transmit *t, const char *reason)
{
	if (t->state == TRANSMIT_BROKEN)
		return;
	t->state = TRANSMIT_BROKEN;
	t->reason = reason;
	t->phase = RX_OVER;
	t->wants_memory = t->yielded = false;
	if (t->filling)
		transmit_release_piece(t, t->filling);
	t->filling = NULL;
	if (t->current)
		request_unref(t, t->current);
	t->current = NULL;
	while (t->tx_first) {
		struct piece *piece = t->tx_first;

		t->tx_first = piece->next;
		transmit_release_piece(t, piece);
	}
	t->tx_last = &t->tx_first;
	t->tx_sent = t->tx_bytes = 0;
}

void transmit_current_done(struct transmit *t)
{
	request_unref(t, t->current);
	t->current = NULL;
	t->phase = RX_HEADER;
}

/* Nothing can go on without further bytes. */
static bool needs_bytes(const struct transmit *t)
{
	switch (t->phase) {
	case RX_HEADER:
		return t->rx_end - t->rx_at < sizeof(struct nbd_request);
	case RX_PAYLOAD:
		return t->filling && t->rx_at == t->rx_end;
	case RX_DRAIN:
		return t->rx_at == t->rx_end;
	case RX_LOCK:
	case RX_ISSUE:
	case RX_ALONE:
	case RX_OVER:
		return false;
	}
	return false;
}

static void end_input(struct transmit *t)
{
	switch (t->phase) {
	case RX_HEADER:
		t->phase = RX_OVER;
		break;
	case RX_PAYLOAD: /* will never be whole */
	case RX_DRAIN:
		if (t->filling)
			transmit_release_piece(t, t->filling);
		t->filling = NULL;
		transmit_current_done(t);
		t->phase = RX_OVER;
		break;
	case RX_LOCK:
	case RX_ISSUE: /* goes on to its end */
	case RX_ALONE:
	case RX_OVER:
		break;
	}
}

/* No further bytes are taken; requests that are whole in `rx` still are. */
static void begin_drain(struct transmit *t)
{
	if (t->state == TRANSMIT_RUNNING)
		t->state = TRANSMIT_DRAINING;
	if (needs_bytes(t))
		end_input(t);
}

void transmit_settle(struct transmit *t)
{
	if (t->state == TRANSMIT_DRAINING && t->phase == RX_OVER && !t->open_requests)
		t->state = TRANSMIT_DONE;
}

/* ---- receiving ---- */

static void count_request(struct transmit *t, const struct request *q, bool admitted)
{
	uint64_t bytes = admitted ? q->len : 0;

	switch (q->cmd) {
	case NBD_CMD_READ:
		TRANSMIT_COUNT(t, reads, 1);
		TRANSMIT_COUNT(t, read_bytes, bytes);
		break;
	case NBD_CMD_WRITE:
		TRANSMIT_COUNT(t, writes, 1);
		TRANSMIT_COUNT(t, written_bytes, bytes);
		break;
	case NBD_CMD_TRIM:
		TRANSMIT_COUNT(t, trims, 1);
		TRANSMIT_COUNT(t, trimmed_bytes, bytes);
		break;
	case NBD_CMD_WRITE_ZEROES:
		TRANSMIT_COUNT(t, zeroes, 1);
		TRANSMIT_COUNT(t, zeroed_bytes, bytes);
		break;
	case NBD_CMD_FLUSH:
		TRANSMIT_COUNT(t, flushes, 1);
		break;
	default:
		TRANSMIT_COUNT(t, others, 1);
	}
}

static void answer_current(struct transmit *t, enum nbd_error error)
{
	reply_now(t, transmit_piece_take(t), error);
	transmit_current_done(t);
}

static void refuse(struct transmit *t, enum nbd_error error)
{
	struct request *q = t->current;

	if (q->cmd != NBD_CMD_WRITE || !q->len) {
		answer_current(t, error);
		return;
	}
	if (q->len > DRAIN_MAX) {
		transmit_break(t, "a WRITE far beyond the maximum size");
		return;
	}
	q->error = error;
	t->drain_left = q->len;
	t->phase = RX_DRAIN;
}

/* The lock has nothing against it. */
static void begin_admitted(struct transmit *t, enum nbd_error error)
{
	struct request *q = t->current;

	if (!error)
		error = validate_range(t, q);
	count_request(t, q, !error);
	t->expect_large = q->cmd == NBD_CMD_WRITE && q->len >= LARGE_WRITE;
	if (error) {
		refuse(t, error);
	} else if (!q->len && q->cmd != NBD_CMD_FLUSH) {
		answer_current(t, NBD_OK); /* "unspecified": nothing to do, done */
	} else if (q->cmd == NBD_CMD_WRITE) {
		t->phase = RX_PAYLOAD;
	} else if (q->cmd == NBD_CMD_READ && !t->structured &&
		   q->offset % THIN_BLOCK_SIZE + q->len > PIECE_BYTES) {
		t->phase = RX_ALONE;
	} else {
		t->phase = RX_ISSUE;
	}
}

static bool lock_is_against(const struct transmit *t, const struct request *q)
{
	if (!t->lock || !validate_is_change(q->cmd))
		return false;
	t->lock->changed = true;
	return !lock_admits(t->lock);
}

static void begin_request(struct transmit *t)
{
	enum nbd_error error = validate_command(t, t->current);

	if (error || !lock_is_against(t, t->current)) {
		begin_admitted(t, error);
		return;
	}
	switch (lock_change(t->lock)) {
	case LOCK_MAY:
		begin_admitted(t, NBD_OK);
		break;
	case LOCK_MAY_NOT:
		begin_admitted(t, NBD_EPERM);
		break;
	case LOCK_PARK:
		t->phase = RX_LOCK;
		break;
	case LOCK_CUT:
		transmit_break(t, "a change by a client that no longer holds the write lock");
		break;
	}
}

static bool step_lock(struct transmit *t)
{
	if (t->lock->pending)
		return false;
	t->phase = RX_HEADER;
	begin_admitted(t, lock_admits(t->lock) ? NBD_OK : NBD_EPERM);
	return true;
}

static bool step_header(struct transmit *t)
{
	struct nbd_request raw;
	struct request *q;

	if (t->rx_end - t->rx_at < sizeof(raw) || !t->free_requests || !t->free_pieces)
		return false;
	memcpy(&raw, t->rx + t->rx_at, sizeof(raw));
	if (be32_get(raw.magic) != NBD_REQUEST_MAGIC) {
		transmit_break(t, "not a request (wrong magic)");
		return false;
	}
	t->rx_at += sizeof(raw);
	if (be16_get(raw.type) == NBD_CMD_DISC) {
		t->goodbye = true;
		begin_drain(t);
		end_input(t); /* whatever may lie behind it */
		return false;
	}
	q = t->current = request_take(t);
	memcpy(q->cookie, raw.cookie, sizeof(q->cookie));
	q->cmd = be16_get(raw.type);
	q->flags = be16_get(raw.flags);
	q->offset = be64_get(raw.offset);
	q->len = be32_get(raw.len);
	begin_request(t);
	return t->state != TRANSMIT_BROKEN;
}

/* The piece being filled is full. */
static void piece_filled(struct transmit *t)
{
	struct request *q = t->current;
	struct piece *piece = t->filling;
	bool whole = piece->len == q->len;

	t->filling = NULL;
	q->issued += piece->len;
	q->start_ns = t->now_ns;
	issue_submit(t, piece, THIN_WRITE, whole && q->flags & NBD_CMD_FLAG_FUA ? THIN_FUA : 0);
	if (q->issued == q->len)
		transmit_current_done(t);
}

static bool step_payload(struct transmit *t)
{
	struct piece *piece = t->filling;
	size_t part;

	if (!piece)
		piece = t->filling = issue_piece(t, true);
	if (!piece)
		return false;
	part = min_u32((uint32_t)(t->rx_end - t->rx_at), piece->len - piece->filled);
	memcpy(piece->buf + piece->offset % THIN_BLOCK_SIZE + piece->filled, t->rx + t->rx_at,
	       part);
	t->rx_at += part;
	piece->filled += (uint32_t)part;
	if (piece->filled < piece->len)
		return false;
	piece_filled(t);
	return true;
}

static bool step_drain(struct transmit *t)
{
	size_t there = t->rx_end - t->rx_at;
	size_t part = there < t->drain_left ? there : (size_t)t->drain_left;

	t->rx_at += part;
	t->drain_left -= part;
	if (t->drain_left)
		return false;
	answer_current(t, t->current->error);
	return true;
}

static bool step(struct transmit *t)
{
	switch (t->phase) {
	case RX_HEADER:
		return step_header(t);
	case RX_LOCK:
		return step_lock(t);
	case RX_ISSUE:
		return issue_current(t);
	case RX_ALONE:
		return issue_alone(t);
	case RX_PAYLOAD:
		return step_payload(t);
	case RX_DRAIN:
		return step_drain(t);
	case RX_OVER:
		return false;
	}
	return false;
}

static bool advance(struct transmit *t)
{
	uint32_t in_flight = t->in_flight;

	t->wants_memory = t->yielded = false;
	t->turn_bytes = TURN_BYTES;
	while (step(t))
		;
	if (t->state == TRANSMIT_DRAINING && needs_bytes(t))
		end_input(t);
	if (t->phase == RX_OVER)
		t->rx_at = t->rx_end;
	transmit_settle(t);
	return t->in_flight != in_flight;
}

/* Room in `rx` after what is there has been moved to its front. */
static size_t rx_room(struct transmit *t, size_t want)
{
	size_t there = t->rx_end - t->rx_at, room;

	if (t->rx_at && there)
		memmove(t->rx, t->rx + t->rx_at, there);
	t->rx_at = 0;
	t->rx_end = there;
	room = RX_SIZE - there;
	return room < want ? room : want;
}

int transmit_rx_iov(struct transmit *t, struct iovec iov[2])
{
	struct piece *piece = t->filling;
	size_t want = RX_SIZE, there = t->rx_end - t->rx_at;

	switch (t->phase) {
	case RX_PAYLOAD:
		if (!piece)
			return 0;
		assert(!there);
		iov[0].iov_base = piece->buf + piece->offset % THIN_BLOCK_SIZE + piece->filled;
		iov[0].iov_len = piece->len - piece->filled;
		if (t->current->issued + piece->len < t->current->len)
			return 1;
		iov[1].iov_len = rx_room(t, t->expect_large ? sizeof(struct nbd_request) : want);
		iov[1].iov_base = t->rx;
		return 2;
	case RX_HEADER:
		if (there >= sizeof(struct nbd_request))
			return 0; /* no slot for what is there already */
		if (t->expect_large)
			want = sizeof(struct nbd_request) - there;
		break;
	case RX_DRAIN:
		break;
	case RX_LOCK:
	case RX_ISSUE:
	case RX_ALONE:
	case RX_OVER:
		return 0;
	}
	iov[0].iov_len = rx_room(t, want);
	iov[0].iov_base = t->rx + t->rx_end;
	return 1;
}

void transmit_set_now(struct transmit *t, uint64_t now_ns)
{
	t->now_ns = now_ns;
}

void transmit_received(struct transmit *t, size_t len)
{
	if (t->phase == RX_PAYLOAD && t->filling) {
		struct piece *piece = t->filling;
		uint32_t part = piece->len - piece->filled;

		if (part > len)
			part = (uint32_t)len;
		piece->filled += part;
		len -= part;
	}
	assert(len <= RX_SIZE - t->rx_end);
	t->rx_end += len;
	advance(t);
}

void transmit_inject(struct transmit *t, const void *data, size_t len)
{
	assert(t->phase == RX_HEADER && !t->rx_end && len <= 32u << 10);
	memcpy(t->rx, data, len);
	t->rx_end = len;
	advance(t);
}

void transmit_eof(struct transmit *t)
{
	begin_drain(t);
	transmit_settle(t);
}

void transmit_stop(struct transmit *t)
{
	begin_drain(t);
	transmit_settle(t);
}

bool transmit_retry(struct transmit *t)
{
	return t->state != TRANSMIT_BROKEN && advance(t);
}

void transmit_abort(struct transmit *t, const char *reason)
{
	transmit_break(t, reason);
}

/* ---- life ---- */

struct transmit *transmit_new(const struct transmit_params *params)
{
	struct transmit *t = calloc(1, sizeof(*t));
	size_t i;

	if (!t)
		return NULL;
	t->rx = malloc(RX_SIZE);
	if (!t->rx) {
		free(t);
		return NULL;
	}
	t->pool = params->pool;
	t->vol = params->vol;
	t->bufs = params->bufs;
	t->read_only = params->read_only;
	t->structured = params->structured;
	t->contexts = params->structured ? params->contexts : 0;
	memcpy(t->bases, params->bases, sizeof(t->bases));
	t->lock = params->lock;
	t->volume_counters = params->volume_counters;
	t->volume_latency = params->volume_latency;
	t->wake = params->wake;
	t->user = params->user;
	t->reason = "";
	t->tx_last = &t->tx_first;
	for (i = TRANSMIT_REQUEST_MAX; i-- > 0;) {
		t->requests[i].next = t->free_requests;
		t->free_requests = &t->requests[i];
	}
	for (i = PIECE_MAX; i-- > 0;) {
		t->pieces[i].next = t->free_pieces;
		t->free_pieces = &t->pieces[i];
	}
	return t;
}

void transmit_set_volume(struct transmit *t, struct io_counters *counters,
			 struct io_latency *latency)
{
	t->volume_counters = counters;
	t->volume_latency = latency;
}

void transmit_free(struct transmit *t)
{
	if (!t)
		return;
	transmit_break(t, "");
	assert(!t->in_flight && !t->open_requests && !t->account.held_bytes);
	free(t->rx);
	free(t);
}

enum transmit_state transmit_state(const struct transmit *t)
{
	return t->state;
}

const char *transmit_reason(const struct transmit *t)
{
	return t->reason;
}

uint32_t transmit_in_flight(const struct transmit *t)
{
	return t->in_flight;
}

uint32_t transmit_open_requests(const struct transmit *t)
{
	return t->open_requests;
}

uint64_t transmit_held_bytes(const struct transmit *t)
{
	return t->account.held_bytes;
}

size_t transmit_tx_bytes(const struct transmit *t)
{
	return t->tx_bytes;
}

bool transmit_has_yielded(const struct transmit *t)
{
	return t->yielded;
}

bool transmit_wants_memory(const struct transmit *t)
{
	return t->wants_memory;
}

bool transmit_wants_lock(const struct transmit *t)
{
	return t->phase == RX_LOCK;
}

bool transmit_has_said_goodbye(const struct transmit *t)
{
	return t->goodbye;
}

bool transmit_client_holds_memory(const struct transmit *t)
{
	return t->tx_first || t->filling;
}

const struct io_counters *transmit_counters(const struct transmit *t)
{
	return &t->counters;
}
