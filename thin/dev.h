/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The device port: everything the engine asks of the storage under a pool.
 *
 * Asynchronous.  The engine submits a `struct dev_io` and hears of its completion through
 * `io->done`, which is called from poll() or wait() and never from within submit().  A request
 * and its buffers belong to the device from submit() until done().
 *
 * Ordering: none.  Requests may be carried out in any order; a FLUSH makes durable those writes
 * whose done() was called before the FLUSH was submitted, and no others.  A write with `fua` is
 * durable when its done() is called with 0.  Two writes in flight to the same bytes leave either.
 *
 * Short transfers are the device's business: done() gets 0 (all of it) or a negative errno.
 *
 * Thread: all calls on the pool's reactor thread.
 */
#ifndef THIN_DEV_H
#define THIN_DEV_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "common/base/err.h"

enum dev_op {
	DEV_READ,
	DEV_WRITE,
	DEV_FLUSH,
	DEV_PUNCH, /* give the range back to the host; its content is undefined afterwards */
};

struct dev_io {
	enum dev_op op;
	bool fua;	   /* DEV_WRITE only */
	uint64_t offset;   /* bytes, multiple of 4096 */
	uint64_t len;	   /* bytes, multiple of 4096, sum of the iov for READ and WRITE */
	struct iovec *iov; /* pieces aligned to 4096 in address and length; may be changed */
	int iov_count;
	int res; /* 0 or -errno, valid in done() */
	void (*done)(struct dev_io *io);
	void *user;
	/* for a layer between the submitter and the device */
	void (*then)(struct dev_io *io);
	void *layer;
	/* for the device's use between submit() and done() */
	struct dev_io *next;
	uint64_t dev_private[4];
};

struct thin_dev;

struct thin_dev_ops {
	/* Start `io`.  Never fails: errors arrive in done(). */
	void (*submit)(struct thin_dev *dev, struct dev_io *io);
	/* Hand what was submitted to the kernel (one system call for a batch). */
	void (*kick)(struct thin_dev *dev);
	/* Deliver what has completed, without blocking; returns the number delivered. */
	int (*poll)(struct thin_dev *dev);
	/* Kick, block until something has completed, deliver.  Only with requests in flight. */
	void (*wait)(struct thin_dev *dev);
	/* Readable when poll() has something to deliver; -1 where there is none (simulation). */
	int (*event_fd)(struct thin_dev *dev);
	/* Change the size (files grow sparsely; a block device only reports).  Blocking. */
	int (*resize)(struct thin_dev *dev, uint64_t size_bytes, struct err *err);
	/*
	 * The first range at or behind `offset` that has been written, so that writing there again
	 * costs the host no space (space that is only set aside does not count); at the end of the
	 * device when there is none.  Optional, a hint; takes microseconds.
	 */
	int (*next_written)(struct thin_dev *dev, uint64_t offset, uint64_t *ret_from,
			    uint64_t *ret_to);
	/* Bytes that the file system under the device could still give; optional. */
	uint64_t (*host_room)(struct thin_dev *dev);
	void (*close)(struct thin_dev *dev);
};

struct thin_dev {
	const struct thin_dev_ops *ops;
	uint64_t size_bytes;
	bool read_only;
	bool can_punch;
	bool sparse;   /* a write where nothing was written takes space, and time, from the host */
	bool blocking; /* submit() carries a request out before it returns */
	/*
	 * Set by an owner that never sleeps before poll() has returned 0 with nothing submitted
	 * since: completions that are there at once need not be announced on event_fd.
	 */
	bool polled;
	char name[256]; /* for messages: the path */
};

#endif
