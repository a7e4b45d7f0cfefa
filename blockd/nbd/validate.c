/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * May this request be carried out?  The answer of the first rule that it breaks, in this order:
 * command, flags, read-only, the write lock (access/lock.h), range, size.  Nothing else of the
 * server decides this.
 */
#include "blockd/nbd/transmit_priv.h"

static bool range_ok(const struct transmit *t, const struct request *q)
{
	uint64_t size = thin_vol_size_bytes(t->vol);

	return q->offset <= size && q->len <= size - q->offset;
}

bool validate_is_change(unsigned cmd)
{
	return cmd == NBD_CMD_WRITE || cmd == NBD_CMD_TRIM || cmd == NBD_CMD_WRITE_ZEROES;
}

/* The flags that mean something with a command; FUA is accepted with each ("MUST accept"). */
static unsigned flags_allowed(const struct transmit *t, unsigned cmd)
{
	switch (cmd) {
	case NBD_CMD_READ:
		return NBD_CMD_FLAG_FUA | (t->structured ? NBD_CMD_FLAG_DF : 0);
	case NBD_CMD_WRITE_ZEROES:
		return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO;
	case NBD_CMD_BLOCK_STATUS:
		return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE;
	default:
		return NBD_CMD_FLAG_FUA;
	}
}

static enum nbd_error check_size(const struct transmit *t, const struct request *q)
{
	if (q->cmd == NBD_CMD_WRITE && q->len > NBD_PAYLOAD_MAX)
		return NBD_EINVAL;
	if (q->cmd == NBD_CMD_READ && q->len > NBD_PAYLOAD_MAX)
		return t->structured ? NBD_EOVERFLOW : NBD_EINVAL;
	if (q->cmd == NBD_CMD_READ && q->flags & NBD_CMD_FLAG_DF &&
	    q->offset % THIN_BLOCK_SIZE + q->len > PIECE_BYTES)
		return NBD_EOVERFLOW;
	return NBD_OK;
}

enum nbd_error validate_command(const struct transmit *t, const struct request *q)
{
	if (q->cmd > NBD_CMD_BLOCK_STATUS)
		return NBD_EINVAL;
	if (q->flags & ~flags_allowed(t, q->cmd))
		return NBD_EINVAL;
	if (t->read_only && validate_is_change(q->cmd))
		return NBD_EPERM;
	return NBD_OK;
}

enum nbd_error validate_range(const struct transmit *t, const struct request *q)
{
	if (q->cmd == NBD_CMD_FLUSH)
		return q->offset || q->len ? NBD_EINVAL : NBD_OK;
	if (q->cmd == NBD_CMD_BLOCK_STATUS && (!t->contexts || !q->len))
		return NBD_EINVAL;
	if (!range_ok(t, q))
		return q->cmd == NBD_CMD_WRITE || q->cmd == NBD_CMD_WRITE_ZEROES ? NBD_ENOSPC
										 : NBD_EINVAL;
	return check_size(t, q);
}
