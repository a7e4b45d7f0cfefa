/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dropping privileges with libcap-ng.  For the start of a program, before threads.
 */
#ifndef COMMON_DAEMON_PRIV_H
#define COMMON_DAEMON_PRIV_H

#include <stdbool.h>

#include "common/base/err.h"

/*
 * Keep only these capabilities (CAP_*, ended by -1) in the effective and permitted sets, empty the
 * inheritable and ambient ones, drop the others from the bounding set where allowed, and set
 * no_new_privs.  With `user` also become that user and its group, supplementary groups gone; NULL
 * stays.  Those not held now are left out silently: use priv_has().  0 or -errno; after a failure
 * the process is to exit.
 */
int priv_drop(const int *keep, const char *user, struct err *err)
	__attribute__((warn_unused_result));
bool priv_has(int capability);

#endif
