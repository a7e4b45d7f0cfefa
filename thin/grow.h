/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Growing a pool: its two halves; the order is in control.c, and recovery completes it. */
#ifndef THIN_GROW_H
#define THIN_GROW_H

#include "thin/dev.h"
#include "thin/task.h"

struct grow {
	const struct task *owner; /* the request that grows */
	bool active;		  /* the new end is being written: no checkpoint meanwhile */
	bool written;
	struct dev_io io;
	struct iovec iov[2];
};

/* Write both slots' copies at the new end, durably, then set the pool's size.  0, -EAGAIN (the task
 * is stalled), -EINVAL: not larger, or beyond the device; -EIO. */
int grow_end(struct thin_pool *pool, uint64_t size_blocks, struct task *task);
/* Extend the zones to the pool's end.  -ENOMEM. */
int grow_zones(struct thin_pool *pool);

#endif
