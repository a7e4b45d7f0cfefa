/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A ring: `first` and `end` only grow, their low bits are places.  See backlog.h. */
#include "netd/wg/backlog.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct backlog {
	uint64_t first, end;
	struct backlog_message messages[BACKLOG_MAX];
};

static_assert((BACKLOG_MAX & (BACKLOG_MAX - 1)) == 0, "places are low bits");

int backlog_new(struct backlog **ret)
{
	struct backlog *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	*ret = b;
	return 0;
}

void backlog_free(struct backlog *b)
{
	free(b);
}

bool backlog_put(struct backlog *b, const struct vpn_endpoint *from, const uint8_t *msg, size_t len)
{
	struct backlog_message *m = &b->messages[b->end % BACKLOG_MAX];

	assert(len <= sizeof(m->data));
	if (backlog_count(b) == BACKLOG_MAX)
		return false;
	m->from = *from;
	m->len = (uint32_t)len;
	memcpy(m->data, msg, len);
	b->end++;
	return true;
}

const struct backlog_message *backlog_take(struct backlog *b)
{
	return b->first == b->end ? NULL : &b->messages[b->first++ % BACKLOG_MAX];
}

size_t backlog_count(const struct backlog *b)
{
	return (size_t)(b->end - b->first);
}
