/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copy one end to another: sparse, with many requests in flight.  One thread, blocking. */
#ifndef BLOCKD_CTL_COPY_H
#define BLOCKD_CTL_COPY_H

#include <signal.h>
#include <stdint.h>

#include "blockd/ctl/end.h"

struct copy_stat {
	uint64_t total_bytes; /* size of the source */
	uint64_t data_bytes;  /* carried over */
	uint64_t zero_bytes;  /* holes and zeroes, not carried */
};

struct copy_params {
	/* Called at most every 100 ms and once at the end; NULL for none. */
	void (*progress)(void *user, const struct copy_stat *stat);
	void *user;
	bool zero_rest; /* what the target has beyond the source must read as zeroes too */
	/* Set by a signal handler: stop with -EINTR.  NULL for none. */
	const volatile sig_atomic_t *stop;
};

/*
 * Copy all of `source` to the beginning of `target`, flush.
 * What the source does not hold (holes, runs of zeroes) is not written where the target reads
 * as zeroes already, and is a hole there otherwise.  On failure the target holds some of it and
 * both ends have been aborted (end_abort).
 */
int copy_run(struct end *source, struct end *target, const struct copy_params *params,
	     struct copy_stat *ret_stat, struct err *err);

#endif
