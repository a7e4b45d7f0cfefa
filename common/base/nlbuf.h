/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A growing run of netlink messages: what a library builds and a socket's owner sends.
 *
 * A message is started with the room it needs at most, filled with libmnl's mnl_attr_put*(), and
 * ended.  Sequence numbers are the sender's business.  One thread; grows by realloc, so a header
 * pointer is good until the next start.
 */
#ifndef COMMON_BASE_NLBUF_H
#define COMMON_BASE_NLBUF_H

#include <stddef.h>
#include <stdint.h>

struct nlmsghdr;

struct nlbuf {
	uint8_t *data;
	size_t len_bytes, capacity;
	size_t message_count;
};

/*
 * A zeroed header with type and flags, followed by `extra` zeroed bytes (the family's header) and
 * room for `room` bytes of attributes.  NULL without memory.
 */
struct nlmsghdr *nlbuf_start(struct nlbuf *b, uint16_t type, uint16_t flags, size_t extra,
			     size_t room) __attribute__((nonnull));
/* The message's nlmsg_len is final. */
void nlbuf_end(struct nlbuf *b, struct nlmsghdr *nlh) __attribute__((nonnull));
/* Empty, memory kept. */
void nlbuf_reset(struct nlbuf *b) __attribute__((nonnull));
void nlbuf_clear(struct nlbuf *b) __attribute__((nonnull));

#endif
