/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wg(8)'s connections: "get=1\n\n" and "set=1\n...\n\n" in, text and "errno=-N\n\n" out, several
 * requests a connection.  At most CLIENTS_MAX at once (the socket's backlog holds the others) of
 * at most CLIENT_TEXT_MAX; none can make the data path wait.
 */
#ifndef NETD_WG_CLIENTS_H
#define NETD_WG_CLIENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "netd/wg/text.h"

#define CLIENTS_MAX	16
#define CLIENT_TEXT_MAX (16u << 20)
#define CLIENT_IDLE_MS	30000 /* without a byte either way: closed */

struct clients;

struct clients_ops {
	/* Append all of the device. */
	void (*get)(void *ctx, struct wg_text *to);
	/*
	 * Apply a text: 0 or -errno, or CLIENTS_LATER: clients_answer() says it, and until then no
	 * other request is taken.
	 */
	int (*set)(void *ctx, char *text);
	/* Watch this descriptor (epoll): for reading, writing. */
	void (*watch)(void *ctx, int fd, bool add, bool read, bool write);
	void *ctx;
};
#define CLIENTS_LATER 1

int clients_new(const struct clients_ops *ops, int listen_fd, struct clients **ret)
	__attribute__((warn_unused_result, nonnull));
void clients_free(struct clients *c);
/* `fd` (the listening one or a client's) is ready.  False: it is none of ours. */
bool clients_ready(struct clients *c, int fd, uint64_t now_ns) __attribute__((nonnull));
void clients_answer(struct clients *c, int error, uint64_t now_ns) __attribute__((nonnull));
/* Close the idle; to be called about once a second while there are any. */
void clients_sweep(struct clients *c, uint64_t now_ns) __attribute__((nonnull));
bool clients_any(const struct clients *c) __attribute__((nonnull));

#endif
