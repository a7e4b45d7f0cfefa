/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading the log back: the chain of pages from the superblock's first page on, taken from the
 * ring, or, where the ring lacks a page that a dead process left in the shadow area, from there.
 * Blocking; used by recovery and verification only.
 */
#ifndef THIN_LOG_READER_H
#define THIN_LOG_READER_H

#include "thin/pool.h"

#define LOG_CHUNK_PAGES 256u
#define LOG_CHUNKS	4u /* in memory: the one being looked at and what is read ahead */

/* A piece of the ring; piece `index` is only ever in slot index % LOG_CHUNKS. */
struct log_chunk {
	uint64_t index;
	uint8_t *data;
	struct dev_io io;
	struct iovec iov;
	bool known; /* it has, or gets, piece `index` */
	bool busy;
};

struct log_reader {
	struct thin_pool *pool;
	const uint8_t *shadow; /* THIN_SHADOW_BYTES or NULL */
	uint64_t nonce, first;
	uint32_t first_pred;
	struct log_chunk chunk[LOG_CHUNKS];
	uint8_t *page; /* the page handed out */
	uint64_t next; /* sequence */
	uint32_t pred;
	bool from_shadow; /* the page handed out is not (whole) in the ring */
};

int log_reader_init(struct log_reader *lr, struct thin_pool *pool, const struct fmt_super *sb,
		    const void *shadow);
void log_reader_fini(struct log_reader *lr);
/* Begin again at the first page. */
void log_reader_rewind(struct log_reader *lr);
/* The next page of the chain, valid until the next call; NULL: the chain ends (0) or I/O (-errno).
 * lr->next - 1 is its sequence. */
int log_reader_next(struct log_reader *lr, const struct fmt_log_head **ret_page);
/* Behind the end of the chain: the highest flushed mark of any page of this nonce.  A mark at or
 * behind lr->next means that durable pages are lost. */
int log_reader_scan_marks(struct log_reader *lr, uint64_t *ret_mark);

#endif
