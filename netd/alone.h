/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One netd for each network namespace.  What carries our mark is ours, so a second one, with a
 * config file and sockets of its own, would take away what the first one made.
 *
 * An abstract unix socket is the lock: its name belongs to the network namespace, and it goes with
 * the process however that ends.
 */
#ifndef NETD_ALONE_H
#define NETD_ALONE_H

#include "common/base/err.h"

/*
 * Take the lock: *ret_fd holds it until it is closed.  -EBUSY with the pid of the netd that has it.
 * The name can be taken by anybody: a holder that is not ours (another user, who is not root) locks
 * nobody out, *ret_fd is -1 then.
 */
int alone_lock(int *ret_fd, struct err *err) __attribute__((nonnull(1), warn_unused_result));

#endif
