/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Addresses to listen on, listening sockets, and the set-up of accepted ones. */
#ifndef BLOCKD_LISTEN_H
#define BLOCKD_LISTEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/base/err.h"

#define LISTEN_FDS_MAX 8u /* of one address: a host name may have many */

struct listen_address {
	bool is_unix;
	char path[104]; /* unix */
	char host[256]; /* tcp: without brackets; "" for every address */
	char port[6];
};

/* Text as in server.h's struct server_listen.  -EINVAL with found and expected. */
int listen_address_parse(const char *text, struct listen_address *ret_address, struct err *err);

struct listen_owner {
	mode_t mode;
	uid_t uid;
	gid_t gid;
};

/*
 * Open non-blocking listening sockets for an address: one, or for TCP one for each address of the
 * host.  Blocking (a host name is resolved).  A unix socket's file that nobody listens on is
 * replaced.
 */
int listen_open(const struct listen_address *address, const struct listen_owner *owner,
		int ret_fds[LISTEN_FDS_MAX], size_t *ret_count, struct err *err);

/* Owner and mode for the file of a unix socket of ours, unless another has taken its place. */
int listen_change_owner(const struct listen_address *address, const struct listen_owner *owner,
			dev_t dev, ino_t ino, struct err *err);

/* Remove the file of a unix socket of ours, unless another has taken its place. */
void listen_remove_file(const struct listen_address *address, dev_t dev, ino_t ino);

/* Options of an accepted socket: no delay, keepalive, death of an unreachable peer within a
 * minute. */
void listen_setup_accepted(int fd);
/* "tcp:10.0.0.7:40112", "unix:pid=812,uid=64055" */
void listen_peer_text(int fd, char *buf, size_t size);

#endif
