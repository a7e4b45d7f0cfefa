/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Handshake messages that wait for their turn, in the order of coming: a calculation takes as long
 * as a hundred packets, so packets go first.  When BACKLOG_MAX wait, new ones are dropped: their
 * senders try again.  Memory is taken at start and touched when used.  One thread.
 */
#ifndef NETD_WG_BACKLOG_H
#define NETD_WG_BACKLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vpn/vpn.h"

#define BACKLOG_MAX 2048 /* a power of two; half of it makes the device feel load (vpn_receive())  \
			  */

struct backlog;

struct backlog_message {
	struct vpn_endpoint from;
	uint32_t len;
	uint8_t data[VPN_MESSAGE_MAX];
};

int backlog_new(struct backlog **ret) __attribute__((warn_unused_result, nonnull));
void backlog_free(struct backlog *b);
/* Copies the message, of at most VPN_MESSAGE_MAX bytes.  False: there is no room. */
bool backlog_put(struct backlog *b, const struct vpn_endpoint *from, const uint8_t *msg, size_t len)
	__attribute__((warn_unused_result, nonnull));
/* The oldest, good until the next backlog_put(); NULL: none. */
const struct backlog_message *backlog_take(struct backlog *b) __attribute__((nonnull));
size_t backlog_count(const struct backlog *b) __attribute__((nonnull));

#endif
