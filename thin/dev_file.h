/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The device port on a file or a block device, by io_uring or plain calls. */
#ifndef THIN_DEV_FILE_H
#define THIN_DEV_FILE_H

#include "thin/dev.h"

struct dev_file_open {
	bool create;	     /* make the file (it must not exist) with `size_bytes` */
	uint64_t size_bytes; /* with create */
	bool read_only;
	bool no_lock;	     /* do not take the lock that keeps a second blockd out */
	bool buffered;	     /* do not try O_DIRECT */
};

/*
 * Open `path`.  Takes an exclusive lock on it (-EBUSY: another process has it open, the text says
 * so).  O_DIRECT where the file system has it; io_uring on disks, plain calls on tmpfs and where
 * io_uring is not permitted.  Blocking.
 */
int dev_file_open(const char *path, const struct dev_file_open *params, struct thin_dev **ret_dev,
		  struct err *err) __attribute__((warn_unused_result));

#endif
