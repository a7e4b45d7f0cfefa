/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the host of a netd-wg remembers of its peers, to give it back after a crash: endpoint and
 * handshake timestamps, no secrets.  Fed with texts of netd-wg (STATE, the answer to GET), of which
 * only the lines named here are taken.  At most MEMORY_PEERS_MAX peers.  One thread.
 */
#ifndef NETD_WG_MEMORY_H
#define NETD_WG_MEMORY_H

#include <stddef.h>

#include "netd/wg/text.h"

#define MEMORY_PEERS_MAX 65536

struct wg_memory;

int wg_memory_new(struct wg_memory **ret) __attribute__((warn_unused_result, nonnull));
void wg_memory_free(struct wg_memory *m);
/* Lines that are not understood are passed over; the text is not changed. */
void wg_memory_learn(struct wg_memory *m, const char *text) __attribute__((nonnull));
size_t wg_memory_count(const struct wg_memory *m) __attribute__((nonnull));
/*
 * The text that gives all back: peers that are gone are passed over (update_only), an endpoint is
 * set and a handshake started only for those that had a session.
 */
void wg_memory_recall(const struct wg_memory *m, struct wg_text *to) __attribute__((nonnull));

#endif
