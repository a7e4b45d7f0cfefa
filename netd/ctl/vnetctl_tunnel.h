/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The verbs of tunnels that are more than objects of the configuration. */
#ifndef NETD_CTL_VNETCTL_TUNNEL_H
#define NETD_CTL_VNETCTL_TUNNEL_H

#include <jansson.h>

#include "common/daemon/cli.h"

/* One question to netd; 0 and *ret, or the exit status after its error was shown (vnetctl.c). */
int vnetctl_ask(struct cli *cli, const char *verb, json_t *args, json_t **ret);

int vnetctl_tunnel_status(struct cli *cli);
int vnetctl_tunnel_genkey(struct cli *cli);
int vnetctl_tunnel_pubkey(struct cli *cli);
int vnetctl_tunnel_rotate(struct cli *cli);

#endif
