/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading ahead for sequential streams, one a handle.
 *
 *	      read so far        window
 *	----------------------|============|----------
 *	                   `next`        `ahead`
 *
 * A stream is proven by the third read in a row that goes on where the one before it ended, give or
 * take READAHEAD_SLACK blocks, since clients with many requests in flight mix up their order.  From
 * then on, whenever less than half of the window is left ahead of it, blocks are brought into the
 * data cache up to a window ahead, in large device reads, and the window doubles, up to
 * READAHEAD_MAX blocks and a sixteenth of the cache.  One read elsewhere ends it.
 *
 * Nobody waits for it and it waits for nobody: the map is loaded ahead of the data, and where it is
 * not there yet, the next read of the stream tries again.  Blocks that it brings are found by those
 * who ask while they are on their way (they wait), and are checked like everything read; a bad one
 *is as if it had never been: whoever asks reads it again and hears of it.  Without a data cache
 *there is none.
 *
 * Thread: the pool's.
 */
#ifndef THIN_READAHEAD_H
#define THIN_READAHEAD_H

#include <stdint.h>

#include "thin/map.h"

#define READAHEAD_PROOF 3u
#define READAHEAD_SLACK 16u
#define READAHEAD_MIN	16u  /* blocks; also at least what the stream reads at once, twice */
#define READAHEAD_MAX	512u /* blocks */

struct readahead {
	uint64_t next, ahead; /* blocks of the volume */
	uint32_t streak;      /* reads in a row */
	uint32_t window;      /* blocks */
};

/* Blocks [first, last) were asked for by this handle. */
void readahead_note(struct thin_pool *pool, struct readahead *ra, struct tree *tree,
		    struct vblk first, struct vblk last);

#endif
