/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Objects of a configuration with what the kernel says of them, as JSON rows for `ls`. */
#ifndef NETD_CTL_ROWS_H
#define NETD_CTL_ROWS_H

#include <jansson.h>

#include "netd/conf.h"
#include "netd/doctor.h"
#include "vlan/vlan.h"

/* All objects of a kind (one of the schema's sections), in the order of the config. */
json_t *rows_of(struct conf *c, const char *kind, const struct vlan_state *links)
	__attribute__((nonnull));

/* A doctor_line_fn: appends the finding to the JSON array `ctx`. */
void rows_add_finding(void *ctx, const struct doctor_finding *f);

#endif
