/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading the log back: the chain of pages from the superblock's first page on, taken from the
 * ring, or, where the ring lacks a page that a dead process left in the shadow area, from there.
 * Blocking; used by recovery and verification only.
 */
#ifndef THIN_LOG_READER_H
#define THIN_LOG_READER_H

#include "thin/pool.h"

struct log_reader {
	struct thin_pool *pool;
	const uint8_t *shadow; /* THIN_SHADOW_BYTES or NULL */
	uint64_t nonce, first;
	uint32_t first_pred;
	uint8_t *chunk;			   /* a piece of the ring */
	uint64_t chunk_first, chunk_count; /* ring positions in it */
	uint8_t *page;			   /* the page handed out */
	uint64_t next;			   /* sequence */
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
