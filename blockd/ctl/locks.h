/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The write lock as other verbs meet it. */
#ifndef BLOCKD_CTL_LOCKS_H
#define BLOCKD_CTL_LOCKS_H

#include <stdbool.h>
#include <stddef.h>

#include "blockd/reactor.h"

/* False: a snapshot, or nobody has the lock and nobody is to get it.  Else who, as a phrase.
 * Blocks for a turn of the reactor. */
bool locks_describe(struct reactor *reactor, const char *volume, char *text, size_t size);

#endif
