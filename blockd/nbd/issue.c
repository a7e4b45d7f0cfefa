/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The transmission phase: from the current request to the engine, piece by piece.  The parser that
 * calls is transmit.c, whose opening comment has the whole picture; answers are reply.c.
 *
 * Each function does what it can and says whether the request has been given to the engine whole;
 * if not, a buffer, a slot or an answer is missing, and it is called again.
 */
#include "blockd/nbd/transmit_priv.h"

#include <errno.h>
#include <string.h>

/*
 * The engine may lend its cached blocks instead of copying them.  The buffer is taken all the same:
 * for what is not cached, and because what a slow client holds, in whichever memory, counts for its
 * share.
 */
static void borrow(struct transmit *t, struct piece *piece)
{
	uint32_t blocks = piece->buf_len / THIN_BLOCK_SIZE;

	piece->req.iov = piece->few;
	piece->req.iov_max = LENT_FEW;
	if (blocks > LENT_FEW) {
		piece->many_len = blocks * (uint32_t)sizeof(struct iovec);
		piece->many = bufpool_get(t->bufs, &t->account, piece->many_len);
		piece->req.iov = piece->many;
		piece->req.iov_max = piece->many ? blocks : 0;
	}
	if (piece->req.iov_max)
		piece->req.flags |= THIN_LEND;
}

static bool is_change(enum thin_op op)
{
	return op == THIN_WRITE || op == THIN_ZERO || op == THIN_TRIM;
}

/* The last look at the write lock: behind it the change is under way and will be waited for. */
static bool admit(struct transmit *t, struct piece *piece)
{
	if (lock_admits(t->lock)) {
		t->lock->admitted++;
		return true;
	}
	piece->admitted = false;
	lock_change(t->lock); /* for the log: it is an ex-owner's */
	reply_piece_done(&piece->req, -EPERM);
	return false;
}

void issue_submit(struct transmit *t, struct piece *piece, enum thin_op op, uint32_t flags)
{
	size_t skew = piece->offset % THIN_BLOCK_SIZE;

	piece->req = (struct thin_req){
		.op = op,
		.flags = flags,
		.vol = t->vol,
		.offset = piece->offset,
		.len = piece->len,
		.done = reply_piece_done,
		.user = piece,
	};
	if (op == THIN_READ) { /* whole blocks; the answer is cut out of them */
		piece->req.buf = piece->buf;
		piece->req.offset -= skew;
		piece->req.len = piece->buf_len;
		borrow(t, piece);
		if (t->structured && !(piece->request->flags & NBD_CMD_FLAG_DF)) {
			memset(piece->holes, 0, sizeof(piece->holes));
			piece->req.holes = piece->holes;
		}
	} else if (op == THIN_WRITE) {
		piece->req.buf = piece->buf + skew;
	} else if (op == THIN_STATUS || op == THIN_DIFF) {
		status_request(t, piece);
	} else if (op == THIN_FLUSH) {
		piece->req.offset = piece->req.len = 0;
	}
	piece->request->open_pieces++;
	t->in_flight++;
	piece->admitted = t->lock && is_change(op);
	if (piece->admitted && !admit(t, piece))
		return;
	thin_submit(t->pool, &piece->req);
}

struct piece *issue_piece(struct transmit *t, bool split)
{
	struct request *q = t->current;
	uint64_t offset = q->offset + q->issued;
	uint32_t skew = (uint32_t)(offset % THIN_BLOCK_SIZE), left = q->len - q->issued;
	uint32_t len = min_u32(left, PIECE_BYTES - skew), buf_len;
	struct piece *piece;
	uint8_t *buf;

	if (!t->free_pieces)
		return NULL;
	buf_len = (skew + len + THIN_BLOCK_SIZE - 1) / THIN_BLOCK_SIZE * THIN_BLOCK_SIZE;
	buf = bufpool_get(t->bufs, &t->account, buf_len);
	if (!buf && split && len > PIECE_SPLIT - skew) {
		len = PIECE_SPLIT - skew;
		buf_len = PIECE_SPLIT;
		buf = bufpool_get(t->bufs, &t->account, buf_len);
	}
	t->wants_memory = !buf;
	if (!buf)
		return NULL;
	piece = transmit_piece_take(t);
	piece->buf = buf;
	piece->buf_len = buf_len;
	piece->offset = offset;
	piece->len = len;
	return piece;
}

static bool issue_read(struct transmit *t)
{
	struct request *q = t->current;
	bool split = t->structured && !(q->flags & NBD_CMD_FLAG_DF);

	while (q->issued < q->len) {
		struct piece *piece;

		t->yielded = !t->turn_bytes;
		if (t->yielded)
			return false;
		piece = issue_piece(t, split);
		if (!piece)
			return false;
		t->turn_bytes -= min_u32(t->turn_bytes, piece->len);
		q->issued += piece->len;
		issue_submit(t, piece, THIN_READ, 0);
	}
	return true;
}

/* Commands without a payload in either direction. */
static bool issue_plain(struct transmit *t)
{
	struct request *q = t->current;
	uint32_t flags = q->flags & NBD_CMD_FLAG_FUA ? THIN_FUA : 0;
	struct piece *piece;
	enum thin_op op;

	if (!t->free_pieces)
		return false;
	if (q->cmd == NBD_CMD_WRITE_ZEROES) {
		op = THIN_ZERO;
		flags |= q->flags & NBD_CMD_FLAG_NO_HOLE ? THIN_NO_HOLE : 0;
		flags |= q->flags & NBD_CMD_FLAG_FAST_ZERO ? THIN_FAST : 0;
	} else if (q->cmd == NBD_CMD_TRIM) {
		op = THIN_TRIM;
	} else {
		op = q->cmd == NBD_CMD_FLUSH ? THIN_FLUSH : THIN_CACHE;
		flags = 0;
	}
	piece = transmit_piece_take(t);
	q->issued = q->len;
	issue_submit(t, piece, op, flags);
	return true;
}

bool issue_current(struct transmit *t)
{
	bool issued;

	if (t->current->cmd == NBD_CMD_READ)
		issued = issue_read(t);
	else if (t->current->cmd == NBD_CMD_BLOCK_STATUS)
		issued = status_issue(t);
	else
		issued = issue_plain(t);
	if (issued) {
		transmit_current_done(t);
	} else if (t->wants_memory && !t->structured &&
		   t->current->offset % THIN_BLOCK_SIZE + t->current->len > PIECE_SPLIT) {
		t->phase = RX_ALONE; /* in smaller pieces, which only so can be */
		return true;
	}
	return issued;
}

bool issue_alone(struct transmit *t)
{
	struct request *q = t->current;
	struct piece *piece;

	if (t->in_flight)
		return false;
	if (q->issued == q->len) {
		transmit_current_done(t);
		return true;
	}
	piece = issue_piece(t, true);
	if (!piece)
		return false;
	q->issued += piece->len;
	issue_submit(t, piece, THIN_READ, 0);
	return false;
}
