/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What netd-wg gives up before it reads the first packet. */
#ifndef NETD_WG_SANDBOX_H
#define NETD_WG_SANDBOX_H

#include <stdbool.h>

#include "common/base/err.h"

/*
 * Memory locked (*ret_locked: as far as RLIMIT_MEMLOCK allows) and not dumped, no core file, no
 * capability, no new privileges, and a system call filter under which everything that is not needed
 * to carry packets kills the process.  For the start, before threads.  0 or -errno: then exit.
 */
int sandbox_enter(bool *ret_locked, struct err *err)
	__attribute__((warn_unused_result, nonnull(1)));

#endif
