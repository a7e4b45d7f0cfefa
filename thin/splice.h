/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The walk of a node of the lineage in step with its only child; see lineage.h. */
#ifndef THIN_SPLICE_H
#define THIN_SPLICE_H

#include "thin/lineage.h"

/* Free the next part of pool->lineage.splice that its child does not share, or count that of
 * pool->lineage.count.  1: that was the last; 0; -EAGAIN: lineage.task waits. */
int splice_step(struct thin_pool *pool);
int splice_count_step(struct thin_pool *pool);

#endif
