/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory for the payloads of a reactor's requests: aligned, touched beforehand, limited.
 *
 * Connections take from it through an account each; when it says no, the connection stops
 * parsing (and so stops reading its socket) and tries again after bufpool_freed() has moved.
 *
 * Fairness (dynamic thresholds, Choudhury and Hahne 1998): an account may hold at most a quarter
 * of what is still free besides, so that whoever comes later finds some too: one connection alone
 * gets a fifth of all.  The last quarter of the pool is given out only to accounts that hold no
 * more than BUFPOOL_ALWAYS with it, so that many who sit on what they have (a client that does not
 * read, half a payload) can slow the others down but not stop them: with 64 MiB it is enough for
 * 256 connections.
 *
 * One thread.  Nothing here allocates after bufpool_new().
 */
#ifndef BLOCKD_BUFPOOL_H
#define BLOCKD_BUFPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

#define BUFPOOL_PAGE	 4096u
#define BUFPOOL_BUF_MAX	 (1u << 20)  /* the largest buffer */
#define BUFPOOL_ALWAYS	 (64u << 10) /* what each account can count on */
#define BUFPOOL_SIZE_MIN (8ull << 20)
#define BUFPOOL_SIZE_MAX (64ull << 30)

struct bufpool;

struct bufpool_account {
	uint64_t held_bytes;
};

/* `size_bytes` is rounded up to BUFPOOL_BUF_MAX and to BUFPOOL_SIZE_MIN.  Touches all of it, which
 * takes up to 5 ms per MiB where there are no huge pages.  -ENOMEM -EINVAL. */
int bufpool_new(uint64_t size_bytes, struct bufpool **ret_pool, struct err *err)
	__attribute__((warn_unused_result));
/* All buffers must be back.  NULL is fine. */
void bufpool_free(struct bufpool *pool);

/*
 * A buffer of at least `len` bytes (1 to BUFPOOL_BUF_MAX), aligned to BUFPOOL_PAGE, with any
 * content; NULL when the account or the pool is exhausted.  O(pages / 64) at worst.
 */
void *bufpool_get(struct bufpool *pool, struct bufpool_account *account, size_t len)
	__attribute__((warn_unused_result));
/* Give back; `len` as it was asked for. */
void bufpool_put(struct bufpool *pool, struct bufpool_account *account, void *buf, size_t len);

/* Rises with each buffer given back. */
uint64_t bufpool_freed(const struct bufpool *pool);
uint64_t bufpool_size_bytes(const struct bufpool *pool);
uint64_t bufpool_used_bytes(const struct bufpool *pool);
uint64_t bufpool_peak_bytes(const struct bufpool *pool);

#endif
