/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vnetctl check: a config file against the schema and this host, without netd and without root. */
#ifndef NETD_CTL_CHECK_H
#define NETD_CTL_CHECK_H

#include "common/daemon/cli.h"

/* The exit code: 0 good, 1 with all errors on stderr. */
int check_run(struct cli *cli, const char *path) __attribute__((nonnull));

#endif
