/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The transmission phase: BLOCK_STATUS, from the request to its answer.
 *
 * One engine request describes the range for all contexts that every export has, then one more for
 * each bitmap, one after the other: what differs from its snapshot.  The answer has a chunk for
 *each context, in one message, built in the buffer behind the engine's extents, which each request
 * writes anew:
 *
 *	| thin_extent x max | header descriptors | header descriptors | ...
 *	                      first context        second context
 *
 * The buffer is made for the range (a block each is the worst case) and bounded: more extents than
 * fit are left to the client's next request, as the protocol allows.  With one context and the
 * largest buffer these are some 21,000, with the one that can always be had some 2,700.
 */
#include "blockd/nbd/transmit_priv.h"

#include <assert.h>
#include <string.h>

#include "blockd/nbd/contexts.h"

#define STATUS_BYTES (512u << 10)
#define STATUS_BYTES_ONE                                                                           \
	4096u /* REQ_ONE: what differs in one context may be one run in another                    \
	       */

/* Bytes of the buffer for one extent, descriptors included; and for the headers. */
static uint32_t extent_cost(const struct transmit *t)
{
	return (uint32_t)(sizeof(struct thin_extent) + (unsigned)__builtin_popcount(t->contexts) *
							       sizeof(struct nbd_status_desc));
}

static uint32_t headers_cost(const struct transmit *t)
{
	return (uint32_t)((unsigned)__builtin_popcount(t->contexts) *
			  sizeof(struct nbd_chunk_status));
}

/* What the buffer should have. */
static uint32_t buffer_bytes(const struct transmit *t, const struct request *q)
{
	uint64_t blocks = (uint64_t)q->len / THIN_BLOCK_SIZE + 2;
	uint64_t bytes = blocks * extent_cost(t) + headers_cost(t);
	uint64_t limit = q->flags & NBD_CMD_FLAG_REQ_ONE ? STATUS_BYTES_ONE : STATUS_BYTES;

	bytes = (bytes + THIN_BLOCK_SIZE - 1) / THIN_BLOCK_SIZE * THIN_BLOCK_SIZE;
	return (uint32_t)(bytes < limit ? bytes : limit);
}

/* Those of `left` that the next engine request describes: all of STATUS, or one bitmap. */
static unsigned described_by(unsigned left)
{
	return left & CONTEXTS_ALL ? left & CONTEXTS_ALL : left & -left;
}

static void submit(struct transmit *t, struct piece *piece)
{
	issue_submit(t, piece, piece->contexts_left & CONTEXTS_ALL ? THIN_STATUS : THIN_DIFF, 0);
}

bool status_issue(struct transmit *t)
{
	struct request *q = t->current;
	uint32_t len = buffer_bytes(t, q);
	struct piece *piece;
	uint8_t *buf;

	if (!t->free_pieces)
		return false;
	buf = bufpool_get(t->bufs, &t->account, len);
	if (!buf && len > BUFPOOL_ALWAYS) {
		len = BUFPOOL_ALWAYS;
		buf = bufpool_get(t->bufs, &t->account, len);
	}
	t->wants_memory = !buf;
	if (!buf)
		return false;
	piece = transmit_piece_take(t);
	piece->buf = buf;
	piece->buf_len = len;
	piece->contexts_left = t->contexts;
	q->issued = q->len;
	submit(t, piece);
	return true;
}

static uint32_t extent_max(const struct transmit *t, const struct piece *piece)
{
	return (piece->buf_len - headers_cost(t)) / extent_cost(t);
}

void status_request(const struct transmit *t, struct piece *piece)
{
	piece->req.extents = (struct thin_extent *)piece->buf;
	piece->req.extent_max = extent_max(t, piece);
	if (piece->req.op == THIN_DIFF)
		piece->req.base =
			t->bases[(unsigned)__builtin_ctz(piece->contexts_left) - CONTEXT_COUNT];
}

/* One context's chunk at `to`; its length, 0 if there is nothing to say. */
static size_t put_chunk(const struct piece *piece, unsigned context, bool last, uint8_t *to)
{
	const struct request *q = piece->request;
	struct nbd_chunk_status head;
	size_t count = contexts_describe(context, piece->req.extents, piece->req.extent_count,
					 q->offset, q->len, q->flags & NBD_CMD_FLAG_REQ_ONE,
					 (struct nbd_status_desc *)(to + sizeof(head)));

	if (!count)
		return 0;
	head.chunk = reply_chunk(q, last, NBD_REPLY_TYPE_BLOCK_STATUS,
				 sizeof(head.context_id) + count * sizeof(struct nbd_status_desc));
	head.context_id = be32_put(context_id(context));
	memcpy(to, &head, sizeof(head));
	return sizeof(head) + count * sizeof(struct nbd_status_desc);
}

bool status_answer(struct transmit *t, struct piece *piece)
{
	unsigned now = described_by(piece->contexts_left);
	uint8_t *begin = piece->buf + extent_max(t, piece) * sizeof(struct thin_extent);

	piece->data = begin;
	piece->contexts_left &= ~now;
	for (; now; now &= now - 1) {
		bool last = !piece->contexts_left && !(now & (now - 1));
		uint8_t *to = begin + piece->data_len;
		size_t len = put_chunk(piece, (unsigned)__builtin_ctz(now), last, to);

		if (!len)
			return false;
		piece->data_len += (uint32_t)len;
	}
	assert(begin + piece->data_len <= piece->buf + piece->buf_len);
	if (piece->contexts_left)
		submit(t, piece);
	else
		reply_queue(t, piece, 0);
	return true;
}
