/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Does a file or device that is about to become a pool hold something already? */
#ifndef BLOCKD_SIGNATURE_H
#define BLOCKD_SIGNATURE_H

#include "common/base/err.h"

#define SIGNATURE_POOL "an Ashlar pool" /* what it calls one of ours */

/*
 * 0: there is nothing to lose: no such file, or a device whose first and last MiB hold zeroes only.
 * -EEXIST: there is, and `err` says what ("'/dev/sdb' holds an ext2, ext3 or ext4 file system"); a
 * file that exists counts even when it is empty, since a pool may have been cut off.  Other
 * negatives: it cannot be looked at.  Reads only; blocking.
 */
int signature_check(const char *path, struct err *err) __attribute__((warn_unused_result));

#endif
