/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the control requests share; see control.c and snapshot.c. */
#ifndef THIN_CONTROL_H
#define THIN_CONTROL_H

#include "thin/io.h"

/* A copy of a name that is one; -EINVAL. */
int control_name(const char *name, char out[THIN_NAME_MAX + 1]);
/* Try again behind a checkpoint: -EAGAIN. */
int control_stall(struct req_state *rs);
/* Room for `count` more records of the catalog: 0, -ENOSPC, -ENOMEM. */
int control_records(struct req_state *rs, uint64_t count);
/* Log and apply an operation of `len` bytes that makes at most `nodes` DIRTY nodes (0: it needs
 * records of the catalog) and a promise of `blocks`. */
int control_op(struct req_state *rs, const struct fmt_op *op, uint32_t len, uint64_t nodes,
	       uint64_t blocks);
/* A shrink of the volume comes first: the task waits. */
bool control_held_back(struct req_state *rs, struct volume *vol);

int control_snapshot(struct req_state *rs);
int control_clone(struct req_state *rs);
int control_rollback(struct req_state *rs);

#endif
