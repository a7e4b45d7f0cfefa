/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Operations: changes that are one log record whatever their size.  Applied by one function, when
 * the record is appended and again when it is replayed.
 */
#ifndef THIN_OPS_H
#define THIN_OPS_H

#include <stdbool.h>

#include "thin/format.h"

struct thin_pool;

/* Whether the log, the slots and reclaim have room for one operation now. */
bool ops_room(const struct thin_pool *pool);

/* Append `op`, of `len` bytes in all, to the log and apply it, as one step.  An error means that
 * the pool failed. */
int ops_do(struct thin_pool *pool, const struct fmt_op *op, uint32_t len);

/*
 * Apply an operation whose record is on log page `seq`.  Live: everything it needs has been probed.
 * Replay: blocking.  -EUCLEAN: it does not fit the pool's state; -ENOMEM; -ENOBUFS: node slots.
 */
int ops_apply(struct thin_pool *pool, const struct fmt_op *op, uint32_t len, uint64_t seq);

#endif
