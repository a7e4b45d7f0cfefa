// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One request of the file device from its check to its last byte.
 *
 * A transfer may come back short (a signal, the end of the file, a full file system, a size
 * limit, the kernel's own maximum) and may have more pieces than one call takes.  Its progress
 * lies in dev_private: bytes transferred, first piece not finished, calls without progress.  A
 * piece that is half transferred is shortened in place, which the port's contract allows.
 *
 * With O_DIRECT the rest must begin at a block, so progress is rounded down and part of a block
 * is transferred twice, which is harmless: until done() the content of the range is undefined.
 *
 * Stateless, any thread.
 */
#include <errno.h>
#include <limits.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "thin/dev_file_priv.h"

#define DEV_ALIGN     4096u
#define DEV_STALL_MAX 16u /* calls without progress before a transfer is given up */

enum dev_slot { SLOT_BYTES, SLOT_PIECE, SLOT_STALLS };

static bool dev_io_is_transfer(const struct dev_io *io)
{
	return io->op == DEV_READ || io->op == DEV_WRITE;
}

static int dev_io_check(const struct dev_file *d, const struct dev_io *io)
{
	uint64_t sum = 0;

	if (d->dev.read_only && io->op != DEV_READ)
		return -EROFS;
	if (io->op == DEV_FLUSH)
		return 0;
	if (io->offset % DEV_ALIGN || io->len % DEV_ALIGN || !io->len)
		return -EINVAL;
	if (io->offset > d->dev.size_bytes || io->len > d->dev.size_bytes - io->offset)
		return -EINVAL;
	if (!dev_io_is_transfer(io))
		return 0;
	for (int i = 0; i < io->iov_count; i++) {
		if ((uintptr_t)io->iov[i].iov_base % DEV_ALIGN || io->iov[i].iov_len % DEV_ALIGN)
			return -EINVAL;
		if (__builtin_add_overflow(sum, io->iov[i].iov_len, &sum))
			return -EINVAL;
	}
	return sum == io->len ? 0 : -EINVAL;
}

bool dev_io_begin(const struct dev_file *d, struct dev_io *io)
{
	io->dev_private[SLOT_BYTES] = 0;
	io->dev_private[SLOT_PIECE] = 0;
	io->dev_private[SLOT_STALLS] = 0;
	io->res = dev_io_check(d, io);
	return io->res == 0;
}

void dev_io_piece(const struct dev_io *io, struct dev_piece *ret_piece)
{
	int first = (int)io->dev_private[SLOT_PIECE];
	int left = io->iov_count - first;

	ret_piece->iov = io->iov + first;
	ret_piece->iov_count = left > IOV_MAX ? IOV_MAX : left;
	ret_piece->offset = io->offset + io->dev_private[SLOT_BYTES];
}

static void dev_io_advance(struct dev_io *io, uint64_t bytes)
{
	io->dev_private[SLOT_BYTES] += bytes;
	while (bytes) {
		struct iovec *v = &io->iov[io->dev_private[SLOT_PIECE]];

		if (bytes < v->iov_len) {
			v->iov_base = (char *)v->iov_base + bytes;
			v->iov_len -= bytes;
			return;
		}
		bytes -= v->iov_len;
		io->dev_private[SLOT_PIECE]++;
	}
}

static bool dev_io_finish(struct dev_io *io, int res)
{
	io->res = res;
	return true;
}

/* A call that made no progress is worth another try, but not for ever. */
static bool dev_io_stalled(struct dev_io *io, int res)
{
	if (++io->dev_private[SLOT_STALLS] > DEV_STALL_MAX)
		return dev_io_finish(io, res);
	return false;
}

/* The device has no zeroing discard: BLKDISCARD leaves the content undefined, which is all that a
 * PUNCH promises.  It blocks; punches are rare, large and made when idle. */
static bool dev_io_discard(struct dev_file *d, struct dev_io *io)
{
	uint64_t range[2] = { io->offset, io->len };

	d->discard_ioctl = true;
	return dev_io_finish(io, ioctl(d->fd, BLKDISCARD, range) < 0 ? -errno : 0);
}

static bool dev_io_failed(struct dev_file *d, struct dev_io *io, int res)
{
	if (res == -EINTR || res == -EAGAIN)
		return dev_io_stalled(io, -EIO);
	if (io->op == DEV_PUNCH && d->is_block && res == -EOPNOTSUPP)
		return dev_io_discard(d, io);
	if (res == -EDQUOT || res == -EFBIG)
		res = -ENOSPC;
	return dev_io_finish(io, res);
}

bool dev_io_step(struct dev_file *d, struct dev_io *io, int res)
{
	uint64_t left = io->len - io->dev_private[SLOT_BYTES];
	uint64_t bytes;

	if (res < 0)
		return dev_io_failed(d, io, res);
	if (!dev_io_is_transfer(io))
		return dev_io_finish(io, 0);
	bytes = (uint64_t)res;
	if (bytes == left)
		return dev_io_finish(io, 0);
	if (bytes > left)
		return dev_io_finish(io, -EIO);
	if (!bytes && io->op == DEV_READ)
		return dev_io_finish(io, -EIO); /* the file has become shorter */
	if (d->direct)
		bytes -= bytes % DEV_ALIGN;
	if (!bytes)
		return dev_io_stalled(io, io->op == DEV_WRITE ? -ENOSPC : -EIO);
	dev_io_advance(io, bytes);
	return false;
}
