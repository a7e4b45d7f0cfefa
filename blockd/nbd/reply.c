/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The transmission phase: the engine's answers, bytes out.  The other parts: transmit.c, issue.c.
 *
 * Every answer leaves in the piece whose completion made it: the piece gets a header, keeps its
 * buffer if there is data to send, and joins the send queue.  So answering needs no memory.
 *
 *	READ, structured	each piece a chunk, or several where it has large holes, as it
 *				completes, in any order; the one that completes last carries DONE.
 *				A failed piece is an ERROR_OFFSET chunk without content, so chunks
 *				never overlap.
 *	READ, simple		header and data in the one piece; in pieces only when ALONE
 *	all others		one message when the last piece has completed, without payload
 *				but for BLOCK_STATUS; a simple one if all went well, which the
 *				protocol allows beside structured ones and costs libnbd a call less
 *
 * No chunk's header is queued before its data is there, so a chunk never needs padding, and DONE
 * is never sent while an error is still possible.
 */
#include "blockd/nbd/transmit_priv.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* Only the protocol's errors go out. */
enum nbd_error reply_error_of(const struct request *q, int res)
{
	bool change =
		q->cmd == NBD_CMD_WRITE || q->cmd == NBD_CMD_TRIM || q->cmd == NBD_CMD_WRITE_ZEROES;

	switch (-res) {
	case 0:
		return NBD_OK;
	case EPERM:
	case EACCES:
	case EROFS: /* a FLUSH must not look refused: what it should have saved is lost */
		return change ? NBD_EPERM : NBD_EIO;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return change ? NBD_ENOSPC : NBD_EIO;
	case EINVAL:
		return NBD_EINVAL;
	case ENOTSUP: /* nowhere but in answer to FAST_ZERO */
		return q->flags & NBD_CMD_FLAG_FAST_ZERO ? NBD_ENOTSUP : NBD_EIO;
	case ESHUTDOWN:
		return NBD_ESHUTDOWN;
	default:
		return NBD_EIO;
	}
}

static void note_error(struct transmit *t, struct request *q, enum nbd_error error)
{
	if (error && !q->error)
		TRANSMIT_COUNT(t, errors, 1);
	if (!q->error)
		q->error = error;
}

/* ---- latency ---- */

static enum io_kind kind_of(const struct request *q)
{
	switch (q->cmd) {
	case NBD_CMD_READ:
		return IO_READ;
	case NBD_CMD_WRITE:
		return IO_WRITE;
	case NBD_CMD_FLUSH:
		return IO_FLUSH;
	default:
		return IO_OTHER;
	}
}

/* The whole answer is in the send queue.  Each answer there has its request's slot, so there is
 * room, unless the owner never asks for the times. */
static void note_end(struct transmit *t, const struct request *q)
{
	if (t->untimed_count < TRANSMIT_REQUEST_MAX)
		t->untimed[t->untimed_count++] = (struct untimed){ q->start_ns, kind_of(q) };
}

bool transmit_is_untimed(const struct transmit *t)
{
	return t->untimed_count > 0;
}

void transmit_time(struct transmit *t, uint64_t now_ns)
{
	uint32_t i;

	for (i = 0; t->volume_latency && i < t->untimed_count; i++)
		histogram_add(&t->volume_latency->kinds[t->untimed[i].kind],
			      now_ns - t->untimed[i].start_ns);
	t->untimed_count = 0;
}

/* ---- messages ---- */

void reply_queue(struct transmit *t, struct piece *piece, size_t header_len)
{
	assert(header_len <= HEADER_MAX);
	piece->header_len = (uint32_t)header_len;
	t->tx_bytes += header_len + piece->data_len;
	piece->next = NULL;
	*t->tx_last = piece;
	t->tx_last = &piece->next;
}

struct nbd_chunk reply_chunk(const struct request *q, bool done, enum nbd_reply_type type,
			     size_t len)
{
	struct nbd_chunk c = {
		.magic = be32_put(NBD_STRUCTURED_REPLY_MAGIC),
		.flags = be16_put(done ? NBD_REPLY_FLAG_DONE : 0),
		.type = be16_put((uint16_t)type),
		.len = be32_put((uint32_t)len),
	};

	memcpy(c.cookie, q->cookie, sizeof(c.cookie));
	return c;
}

static void queue_simple(struct transmit *t, struct piece *piece, enum nbd_error error)
{
	struct nbd_simple_reply reply = {
		.magic = be32_put(NBD_SIMPLE_REPLY_MAGIC),
		.error = be32_put(error),
	};

	memcpy(reply.cookie, piece->request->cookie, sizeof(reply.cookie));
	memcpy(piece->header, &reply, sizeof(reply));
	reply_queue(t, piece, sizeof(reply));
}

static void queue_end(struct transmit *t, struct piece *piece, enum nbd_error error)
{
	struct nbd_chunk_error reply;

	if (!error) {
		reply.chunk = reply_chunk(piece->request, true, NBD_REPLY_TYPE_NONE, 0);
		memcpy(piece->header, &reply.chunk, sizeof(reply.chunk));
		reply_queue(t, piece, sizeof(reply.chunk));
		return;
	}
	reply.chunk = reply_chunk(piece->request, true, NBD_REPLY_TYPE_ERROR,
				  sizeof(reply) - sizeof(reply.chunk));
	reply.error = be32_put(error);
	reply.message_len = be16_put(0);
	memcpy(piece->header, &reply, sizeof(reply));
	reply_queue(t, piece, sizeof(reply));
}

/* The end of a request in one message without payload. */
static void queue_result(struct transmit *t, struct piece *piece, enum nbd_error error)
{
	unsigned cmd = piece->request->cmd;

	transmit_release_buf(t, piece);
	piece->data_len = 0;
	if (t->structured && (error || cmd == NBD_CMD_READ || cmd == NBD_CMD_BLOCK_STATUS))
		queue_end(t, piece, error);
	else
		queue_simple(t, piece, error);
}

void reply_now(struct transmit *t, struct piece *piece, enum nbd_error error)
{
	struct request *q = piece->request;

	q->error = NBD_OK; /* counted here */
	note_error(t, q, error);
	q->issued = q->len;
	queue_result(t, piece, error);
	note_end(t, q);
}

static void queue_error_offset(struct transmit *t, struct piece *piece, bool done,
			       enum nbd_error error)
{
	uint64_t bad = piece->req.bad_offset;
	struct nbd_chunk_error_offset reply = {
		.chunk = reply_chunk(piece->request, done, NBD_REPLY_TYPE_ERROR_OFFSET,
				     sizeof(reply) - sizeof(reply.chunk)),
		.error = be32_put(error),
		.message_len = be16_put(0),
	};

	if (bad < piece->offset || bad - piece->offset >= piece->len)
		bad = piece->offset;
	reply.offset = be64_put(bad);
	transmit_release_buf(t, piece);
	piece->data_len = 0;
	memcpy(piece->header, &reply, sizeof(reply));
	reply_queue(t, piece, sizeof(reply));
}

/* ---- chunks of a READ ---- */

/* `part` carries `len` bytes of what was read for `piece`, from byte `at` of its whole blocks on.
 */
static void attach(struct piece *part, const struct piece *piece, size_t at, uint32_t len)
{
	part->data = piece->buf + at;
	part->data_len = len;
	part->lent = piece->req.iov_count ? &piece->req : NULL;
	part->lent_at = at;
}

static void attach_data(struct piece *piece)
{
	attach(piece, piece, piece->offset % THIN_BLOCK_SIZE, piece->len);
}

static bool is_hole(const struct piece *piece, uint32_t block)
{
	return piece->holes[block / 64] >> block % 64 & 1;
}

static bool any_hole(const struct piece *piece)
{
	uint64_t any = 0;
	size_t i;

	for (i = 0; i < sizeof(piece->holes) / sizeof(piece->holes[0]); i++)
		any |= piece->holes[i];
	return any;
}

/* The end of the run of holes, or of blocks with data, that begins at `block`. */
static uint32_t run_end(const struct piece *piece, uint32_t block, uint32_t end)
{
	bool hole = is_hole(piece, block);

	while (block < end && is_hole(piece, block) == hole)
		block++;
	return block;
}

/*
 * The end of the chunk that begins at `block`, and whether it is a hole.  With `all` it takes the
 * rest; otherwise a hole between data is worth a chunk from HOLE_MIN on.  Holes that go as data are
 * zeroed here, as the engine has left them alone.
 */
static uint32_t chunk_end(struct piece *piece, uint32_t block, uint32_t end, bool all,
			  bool *ret_hole)
{
	uint32_t at = block, next;

	for (; at < end; at = next) {
		bool hole = is_hole(piece, at), worth;

		next = run_end(piece, at, end);
		worth = (at == 0 && next == end) ||
			(next - at >= HOLE_MIN / THIN_BLOCK_SIZE && (!all || next == end));
		*ret_hole = hole && worth && at == block;
		if (*ret_hole)
			return next;
		if (hole && worth && !all)
			return at;
		if (hole)
			memset(piece->buf + (size_t)at * THIN_BLOCK_SIZE, 0,
			       (size_t)(next - at) * THIN_BLOCK_SIZE);
	}
	return end;
}

static void queue_data(struct transmit *t, struct piece *piece, bool done)
{
	struct nbd_chunk_data head = {
		.chunk = reply_chunk(piece->request, done, NBD_REPLY_TYPE_OFFSET_DATA,
				     sizeof(be64_t) + piece->data_len),
		.offset = be64_put(piece->offset),
	};

	memcpy(piece->header, &head, sizeof(head));
	reply_queue(t, piece, sizeof(head));
}

static void queue_hole(struct transmit *t, struct piece *piece, bool done)
{
	struct nbd_chunk_hole head = {
		.chunk = reply_chunk(piece->request, done, NBD_REPLY_TYPE_OFFSET_HOLE,
				     sizeof(head) - sizeof(head.chunk)),
		.offset = be64_put(piece->offset),
		.len = be32_put(piece->len),
	};

	piece->data_len = 0;
	memcpy(piece->header, &head, sizeof(head));
	reply_queue(t, piece, sizeof(head));
}

/*
 * Data and holes, each a chunk in a piece of its own.  `piece` itself is the last: it has the
 * buffer, which must outlive the others.
 */
static void queue_content(struct transmit *t, struct piece *piece, bool done)
{
	uint32_t skew = (uint32_t)(piece->offset % THIN_BLOCK_SIZE);
	uint32_t end = (skew + piece->len + THIN_BLOCK_SIZE - 1) / THIN_BLOCK_SIZE, block = 0;
	uint64_t first = piece->offset - skew, last = piece->offset + piece->len;

	while (block < end) {
		bool hole, rest = !t->free_pieces;
		uint32_t next = chunk_end(piece, block, end, rest, &hole);
		struct piece *part = next < end ? transmit_piece_beside(t, piece) : piece;
		uint64_t from = first + (uint64_t)block * THIN_BLOCK_SIZE;
		uint64_t to = first + (uint64_t)next * THIN_BLOCK_SIZE;

		part->offset = from > piece->offset ? from : piece->offset;
		part->len = (uint32_t)((to < last ? to : last) - part->offset);
		attach(part, piece, part->offset - first, part->len);
		if (hole && !block && part == piece)
			transmit_release_buf(t, piece); /* nothing but a hole */
		if (hole)
			queue_hole(t, part, done && part == piece);
		else
			queue_data(t, part, done && part == piece);
		block = next;
	}
}

/* ---- completions ---- */

static void read_done_structured(struct transmit *t, struct piece *piece, enum nbd_error error)
{
	struct request *q = piece->request;
	bool done = q->issued == q->len && !q->open_pieces;

	if (error) {
		queue_error_offset(t, piece, done, error);
	} else if (piece->req.holes && any_hole(piece)) {
		queue_content(t, piece, done);
	} else {
		attach_data(piece);
		queue_data(t, piece, done);
	}
}

static void read_done_simple(struct transmit *t, struct piece *piece, enum nbd_error error)
{
	struct request *q = piece->request;

	if (error && q->header_sent) {
		transmit_release_piece(t, piece);
		transmit_break(t, "a READ failed after its reply had begun");
		return;
	}
	if (error) {
		q->issued = q->len; /* nothing more of it */
		queue_result(t, piece, error);
		return;
	}
	attach_data(piece);
	if (q->header_sent) {
		reply_queue(t, piece, 0);
	} else {
		queue_simple(t, piece, NBD_OK);
		q->header_sent = true;
	}
}

static void status_done(struct transmit *t, struct piece *piece, enum nbd_error error)
{
	if (!error && status_answer(t, piece))
		return;
	note_error(t, piece->request, NBD_EIO);
	queue_result(t, piece, error ? error : NBD_EIO);
}

/* WRITE in one or many pieces, and all that has no payload. */
static void change_done(struct transmit *t, struct piece *piece)
{
	struct request *q = piece->request;

	transmit_release_buf(t, piece);
	if (q->issued < q->len || q->open_pieces) {
		transmit_release_piece(t, piece);
		return;
	}
	if (q->cmd == NBD_CMD_WRITE && q->flags & NBD_CMD_FLAG_FUA && piece->len < q->len &&
	    !q->error && !q->flushing) {
		q->flushing = true;
		issue_submit(t, piece, THIN_FLUSH, 0);
		return;
	}
	queue_result(t, piece, q->error);
}

/* An ex-owner's last one: its successor may have been waiting for it. */
static void change_over(struct transmit *t, struct piece *piece)
{
	piece->admitted = false;
	assert(t->lock->admitted > 0);
	if (!--t->lock->admitted && !lock_admits(t->lock))
		lock_drained(t->lock->lock);
}

void reply_piece_done(struct thin_req *req, int res)
{
	struct piece *piece = req->user;
	struct transmit *t = piece->t;
	struct request *q = piece->request;
	enum nbd_error error = reply_error_of(q, res);

	assert(t->in_flight > 0 && q->open_pieces > 0);
	t->in_flight--;
	q->open_pieces--;
	if (piece->admitted)
		change_over(t, piece);
	if (t->state == TRANSMIT_BROKEN) {
		transmit_release_piece(t, piece);
		t->wake(t->user);
		return;
	}
	note_error(t, q, error);
	if (q->cmd == NBD_CMD_READ && t->structured)
		read_done_structured(t, piece, error);
	else if (q->cmd == NBD_CMD_READ)
		read_done_simple(t, piece, error);
	else if (q->cmd == NBD_CMD_BLOCK_STATUS)
		status_done(t, piece, error);
	else
		change_done(t, piece);
	if (q->issued == q->len && !q->open_pieces && t->state != TRANSMIT_BROKEN)
		note_end(t, q);
	t->wake(t->user);
}

/* ---- sending ---- */

/* The data of a message behind its first `skip` bytes; returns the number of pieces. */
static int add_data(const struct piece *piece, size_t skip, struct iovec *iov, int iov_max)
{
	size_t left = piece->data_len - skip, at = piece->lent_at + skip;
	int count = 0;

	if (!piece->lent) {
		iov[0] = (struct iovec){ (void *)(piece->data + skip), left };
		return 1;
	}
	for (uint32_t i = 0; left && count < iov_max; i++) {
		const struct iovec *from = &piece->lent->iov[i];
		size_t len = from->iov_len;

		if (at >= len) {
			at -= len;
			continue;
		}
		len = len - at < left ? len - at : left;
		iov[count++] = (struct iovec){ (uint8_t *)from->iov_base + at, len };
		left -= len;
		at = 0;
	}
	return count;
}

int transmit_tx_iov(struct transmit *t, struct iovec *iov, int iov_max)
{
	size_t skip = t->tx_sent;
	struct piece *piece;
	int count = 0;

	for (piece = t->tx_first; piece && count + 2 <= iov_max; piece = piece->next) {
		if (skip < piece->header_len) {
			iov[count].iov_base = piece->header + skip;
			iov[count++].iov_len = piece->header_len - skip;
			skip = 0;
		} else {
			skip -= piece->header_len;
		}
		if (piece->data_len > skip)
			count += add_data(piece, skip, iov + count, iov_max - count);
		skip = 0;
	}
	return count;
}

void transmit_sent(struct transmit *t, size_t len)
{
	assert(len <= t->tx_bytes);
	t->tx_bytes -= len;
	len += t->tx_sent;
	while (t->tx_first) {
		struct piece *piece = t->tx_first;
		size_t whole = (size_t)piece->header_len + piece->data_len;

		if (len < whole)
			break;
		len -= whole;
		t->tx_first = piece->next;
		if (!t->tx_first)
			t->tx_last = &t->tx_first;
		transmit_release_piece(t, piece);
	}
	t->tx_sent = len;
	assert(t->tx_first || !len);
	transmit_settle(t);
}
