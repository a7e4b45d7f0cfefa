/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A growing run of netlink messages; see nlbuf.h.  One thread. */
#include "common/base/nlbuf.h"

#include <assert.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>

struct nlmsghdr *nlbuf_start(struct nlbuf *b, uint16_t type, uint16_t flags, size_t extra,
			     size_t room)
{
	size_t need = b->len_bytes + NLMSG_HDRLEN + NLMSG_ALIGN(extra) + NLMSG_ALIGN(room);
	struct nlmsghdr *nlh;

	if (need > b->capacity) {
		size_t capacity = b->capacity ? b->capacity : 4096;
		uint8_t *data;

		while (capacity < need)
			capacity *= 2;
		data = realloc(b->data, capacity);
		if (!data)
			return NULL;
		b->data = data;
		b->capacity = capacity;
	}
	nlh = (struct nlmsghdr *)(void *)(b->data + b->len_bytes);
	memset(nlh, 0, NLMSG_HDRLEN + NLMSG_ALIGN(extra));
	nlh->nlmsg_len = (uint32_t)(NLMSG_HDRLEN + NLMSG_ALIGN(extra));
	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = flags;
	return nlh;
}

void nlbuf_end(struct nlbuf *b, struct nlmsghdr *nlh)
{
	assert((uint8_t *)nlh == b->data + b->len_bytes);
	assert(b->len_bytes + NLMSG_ALIGN(nlh->nlmsg_len) <= b->capacity);
	b->len_bytes += NLMSG_ALIGN(nlh->nlmsg_len);
	b->message_count++;
}

void nlbuf_reset(struct nlbuf *b)
{
	b->len_bytes = 0;
	b->message_count = 0;
}

void nlbuf_clear(struct nlbuf *b)
{
	free(b->data);
	memset(b, 0, sizeof(*b));
}
