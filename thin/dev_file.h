/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The device port on a file or a block device, by io_uring or plain calls. */
#ifndef THIN_DEV_FILE_H
#define THIN_DEV_FILE_H

#include "thin/dev.h"

struct dev_file_open {
	bool create;	     /* make the file (it must not exist) with `size_bytes` */
	uint64_t size_bytes; /* with create */
	bool read_only;
	bool no_lock;  /* do not take the lock that keeps a second blockd out */
	bool buffered; /* do not try O_DIRECT */
	bool plain;    /* do not try io_uring */
};

/*
 * Open `path`.  Takes a lock on it, exclusive or, for a file and `read_only`, shared among readers
 * (-EBUSY: another process has it open, the text says so and names it where that is known).
 * O_DIRECT where the file system has it; io_uring on disks, plain calls on tmpfs and where io_uring
 * is not permitted.  Blocking.
 *
 * Errors of the host's space (ENOSPC, EDQUOT, EFBIG) arrive as -ENOSPC.  The process must ignore
 * SIGXFSZ, or a write beyond RLIMIT_FSIZE kills it.  close() waits for what is in flight and
 * reports none of it.
 */
int dev_file_open(const char *path, const struct dev_file_open *params, struct thin_dev **ret_dev,
		  struct err *err) __attribute__((warn_unused_result));

/* How `dev` does its I/O, for a line in the log: "io_uring, direct", "plain, buffered" ... */
const char *dev_file_mode(const struct thin_dev *dev);

#endif
