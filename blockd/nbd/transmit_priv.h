/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What transmit.c (bytes in), issue.c (to the engine), reply.c (bytes out) and status.c share. */
#ifndef BLOCKD_NBD_TRANSMIT_PRIV_H
#define BLOCKD_NBD_TRANSMIT_PRIV_H

#include "blockd/nbd/transmit.h"
#include "blockd/nbd/wire.h"

#define PIECE_MAX   (TRANSMIT_REQUEST_MAX + 32) /* a few large requests have many at once */
#define PIECE_BYTES BUFPOOL_BUF_MAX		/* of a payload, at most */
#define PIECE_SPLIT BUFPOOL_ALWAYS		/* when memory is short; can always be had */
#define LENT_FEW    16u				/* blocks of a small READ */
#define HEADER_MAX  sizeof(struct nbd_chunk_error_offset)
#define HOLE_MIN    (32u << 10)	  /* a smaller hole between data is sent as zeroes */
#define RX_SIZE	    (34u * 4096u) /* a batch of 32 WRITEs of 4 KiB, in one go */
#define LARGE_WRITE (32u << 10)	  /* from here on payloads are received in place */
#define TURN_BYTES  (256u << 10)  /* of READs given to the engine at a time, and one piece more */
#define DRAIN_MAX   (2ull * NBD_PAYLOAD_MAX)

/* A request of the client, from its header to its last byte of answer. */
struct request {
	uint8_t cookie[8];
	uint16_t cmd, flags;
	uint64_t offset;
	uint32_t len;
	uint32_t issued;      /* bytes given to pieces; all of them when == len */
	uint32_t open_pieces; /* in the engine */
	uint32_t refs;	      /* pieces that point here, + 1 while it is the parser's current one */
	enum nbd_error error; /* the first */
	bool header_sent;     /* simple READ in pieces */
	bool flushing;	      /* FUA of a WRITE in pieces: the closing flush is under way */
	uint64_t start_ns;    /* when all of it had come */
	struct request *next; /* free list */
};

/* An answer in the send queue, not yet timed. */
struct untimed {
	uint64_t start_ns;
	enum io_kind kind;
};

/*
 * One engine request with its buffer, and afterwards one message to send: every answer leaves in
 * the piece that completed it.
 */
struct piece {
	struct transmit *t;
	struct request *request;
	struct thin_req req;
	uint8_t *buf; /* of buf_len as asked from the bufpool, NULL for none */
	uint32_t buf_len;
	struct iovec few[LENT_FEW]; /* READ: room for what the engine lends, ... */
	struct iovec *many;	    /* ... or from the bufpool, of many_len, NULL for none */
	uint32_t many_len;
	bool admitted;	 /* a change, counted in the lock */
	uint64_t offset; /* the part of the request that is this piece's */
	uint32_t len;
	uint64_t holes[BUFPOOL_BUF_MAX / THIN_BLOCK_SIZE / 64]; /* structured READ, see thin_req */
	uint32_t filled;					/* WRITE: bytes received */
	unsigned contexts_left; /* BLOCK_STATUS: not yet described */

	/* while queued for sending */
	uint8_t header[HEADER_MAX];
	uint32_t header_len;
	const uint8_t *data;
	uint32_t data_len;
	/* instead of `data`: from byte `lent_at` of what the engine has lent to this request */
	const struct thin_req *lent;
	size_t lent_at;
	struct piece *next; /* send queue, free list */
};

enum rx_phase {
	RX_HEADER,  /* between requests */
	RX_LOCK,    /* `current` is a standby's change */
	RX_ISSUE,   /* `current` is a READ that has not all its pieces yet */
	RX_ALONE,   /* `current` is a large simple READ: waits for all others, then goes in order */
	RX_PAYLOAD, /* `current` is a WRITE whose payload is coming, into `filling` */
	RX_DRAIN,   /* drain_left bytes of a refused payload to drop */
	RX_OVER,
};

struct transmit {
	struct thin_pool *pool;
	struct thin_vol *vol;
	struct bufpool *bufs;
	struct bufpool_account account;
	bool read_only, structured;
	bool goodbye; /* a DISC has come */
	unsigned contexts;
	struct thin_vol *bases[CONTEXTS_BITMAP_MAX];
	struct lock_conn *lock;
	struct io_counters counters, *volume_counters;
	void (*wake)(void *user);
	void *user;

	enum transmit_state state;
	const char *reason;

	/* receive */
	enum rx_phase phase;
	bool wants_memory;
	bool yielded;	     /* RX_ISSUE goes on in the next turn */
	uint32_t turn_bytes; /* of READs that may still be issued in this one */
	bool expect_large;   /* the last request was a large WRITE: the next may be one too */
	struct request *current;
	struct piece *filling;
	uint64_t drain_left;
	uint8_t *rx;
	size_t rx_at, rx_end;

	/* latency */
	struct io_latency *volume_latency;
	uint64_t now_ns; /* of the last receive */
	struct untimed untimed[TRANSMIT_REQUEST_MAX];
	uint32_t untimed_count;

	/* send */
	struct piece *tx_first, **tx_last;
	size_t tx_sent;	 /* bytes of tx_first already sent */
	size_t tx_bytes; /* of all of them, not yet sent */

	uint32_t in_flight, open_requests;
	struct request *free_requests;
	struct piece *free_pieces;
	struct request requests[TRANSMIT_REQUEST_MAX];
	struct piece pieces[PIECE_MAX];
};

#define TRANSMIT_COUNT(t, member, n)                                                               \
	do {                                                                                       \
		(t)->counters.member += (n);                                                       \
		(t)->volume_counters->member += (n);                                               \
	} while (0)

static inline uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* ---- transmit.c ---- */

void transmit_break(struct transmit *t, const char *reason);
/* Drained and all sent: DONE. */
void transmit_settle(struct transmit *t);
/* Give a piece's buffer, then the piece, then its request back. */
void transmit_release_buf(struct transmit *t, struct piece *piece);
void transmit_release_piece(struct transmit *t, struct piece *piece);
/* A piece of the current request; the caller has seen that there is one. */
struct piece *transmit_piece_take(struct transmit *t);
/* One more for the request of `piece`, without a buffer. */
struct piece *transmit_piece_beside(struct transmit *t, const struct piece *piece);
/* The parser is done with the current request. */
void transmit_current_done(struct transmit *t);

/* ---- issue.c ---- */

void issue_submit(struct transmit *t, struct piece *piece, enum thin_op op, uint32_t flags);
/*
 * The next piece of the current request's payload, with its buffer; NULL when one of both is
 * missing.  `split`: it may be smaller than it could be when memory is short.
 */
struct piece *issue_piece(struct transmit *t, bool split);
/* RX_ISSUE and RX_ALONE: true when the parser can go on. */
bool issue_current(struct transmit *t);
bool issue_alone(struct transmit *t);

/* ---- validate.c ---- */

bool validate_is_change(unsigned cmd);
/* Before the lock is asked, and behind that. */
enum nbd_error validate_command(const struct transmit *t, const struct request *q);
enum nbd_error validate_range(const struct transmit *t, const struct request *q);

/* ---- reply.c ---- */

/* The engine's answer to a piece. */
void reply_piece_done(struct thin_req *req, int res);
/* Answer a request without the engine.  `piece` is its only one. */
void reply_now(struct transmit *t, struct piece *piece, enum nbd_error error);
enum nbd_error reply_error_of(const struct request *request, int res);
/* Send the first `header_len` bytes of the piece's header, then its data. */
void reply_queue(struct transmit *t, struct piece *piece, size_t header_len);
struct nbd_chunk reply_chunk(const struct request *q, bool done, enum nbd_reply_type type,
			     size_t len);

/* ---- status.c: as in issue.c, and what is special about the engine request ---- */

bool status_issue(struct transmit *t);
void status_request(const struct transmit *t, struct piece *piece);
/* Go on with what the engine has described, or send all; false if that is nothing. */
bool status_answer(struct transmit *t, struct piece *piece);

#endif
