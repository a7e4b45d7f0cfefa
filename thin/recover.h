/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Recovery: from what a crash left to an open pool.
 *
 *   1. one device flush: after the death of a mere process, what is read may still be volatile
 *   2. newest superblock, catalog, bitmaps
 *   3. pass 1 over the log: where the chain ends, the last durable mark, the largest generation;
 *      pages that only the shadow area has are written into the ring and flushed
 *   4. pass 2: every record in order, in memory, allocating nothing.  Behind the mark a record
 *      counts only if the block it names has its crc; one that has not is skipped, never the rest
 *   5. free is what is neither allocated now nor waits for the checkpoint; a new nonce; the closing
 *      checkpoint.  Nothing is answered before its superblock is durable
 *
 * A crash in any step leaves superblock and log as they were: it starts again.
 */
#ifndef THIN_RECOVER_H
#define THIN_RECOVER_H

#include "thin/thin.h"

int recover_open(struct thin_dev *dev, const struct thin_open *params, struct thin_pool **ret_pool,
		 struct err *err);
/* Steps 2 to 4 without writing anything: for verification and read-only pools. */
int recover_in_memory(struct thin_dev *dev, const struct thin_open *params,
		      struct thin_pool **ret_pool, struct err *err);

#endif
