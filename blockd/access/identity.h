/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who a connection is, as far as the write lock is concerned: "SCOPE/TOKEN".
 *
 * Scope: the unix uid, or the source address.  Token: what the client said (`holder=ID`); else on a
 * unix socket its process, "pid=PID.START" with the start time, so that a number that is used again
 * is another owner; else the connection itself, which nobody can come back as.  A process in
 * another pid namespace has no number here (0): it counts as a connection.
 *
 * The process is the one that connected.  A socket that was passed on (libvirt) carries the pid of
 * who made it: there the holder is to be named.
 */
#ifndef BLOCKD_ACCESS_IDENTITY_H
#define BLOCKD_ACCESS_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The owner text of the peer of `fd`.  `holder`: "" if it named none; `conn_id` and `boot` make
 * up a connection's token.  *ret_pidfd: of its process where that is the token, to be closed by the
 * caller; else -1.
 */
void identity_of(int fd, const char *holder, uint64_t conn_id, uint64_t boot, char *ret_owner,
		 size_t size, int *ret_pidfd);
/* The process of a "pid=" owner, if it is still there: its pidfd, else -1. */
int identity_find(const char *owner);
/* Has not ended (-1: has). */
bool identity_is_alive(int pidfd);

#endif
