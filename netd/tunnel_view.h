/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A running tunnel as netd-wg tells it (wg_host_get()), what a configuration wants of it, and the
 * text that leads from one to the other (wg_host_set()).
 *
 * Only differences are said, so no session is lost by a reload.  Pure; the secrets in a view and in
 * a text are cleaned when they are freed.
 */
#ifndef NETD_TUNNEL_VIEW_H
#define NETD_TUNNEL_VIEW_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/addr.h"
#include "netd/endpoint.h"
#include "netd/keyfile.h"

#define TUNNEL_COUNTER_MAX 32

struct tunnel_view_peer {
	uint8_t key[KEY_LEN], psk[KEY_LEN];
	char endpoint[ENDPOINT_TEXT_MAX + IFNAMSIZ]; /* "" unknown */
	uint16_t keepalive_s;
	struct prefix *allowed;
	size_t allowed_count, allowed_capacity;
	uint64_t handshake_s; /* seconds since 1970, 0: never */
	uint64_t tx_bytes, rx_bytes, tx_packets, rx_packets, rx_lost, rx_refused, handshakes;
	uint64_t heard_ms; /* ago; UINT64_MAX: never */
	bool session;
	bool replaced; /* its key is being rotated: */
	uint8_t successor[KEY_LEN];
};

struct tunnel_view {
	uint8_t private_key[KEY_LEN]; /* zero: none */
	uint16_t port, mtu;
	uint32_t mark;
	char aead[16];
	struct {
		char name[32];
		uint64_t value;
	} counters[TUNNEL_COUNTER_MAX];
	size_t counter_count;
	struct tunnel_view_peer *peers; /* sorted by key */
	size_t peer_count;
};

/* `text` is changed.  -EPROTO: not what netd-wg says, -ENOMEM. */
int tunnel_view_parse(char *text, struct tunnel_view *ret)
	__attribute__((nonnull, warn_unused_result));
void tunnel_view_clear(struct tunnel_view *v) __attribute__((nonnull));
struct tunnel_view_peer *tunnel_view_find(const struct tunnel_view *v, const uint8_t key[KEY_LEN])
	__attribute__((nonnull));

/*
 * A rotated key goes when its successor has its networks, hence was heard, and the old sessions
 * have ended since.  *at_ms is when, 0 until it is known (the caller keeps it, one for each).
 */
#define TUNNEL_RETIRE_MS 185000 /* a session lives for 180 s */
bool tunnel_view_retires(const struct tunnel_view *v, const struct tunnel_view_peer *old,
			 uint64_t now_ms, uint64_t *at_ms)
	__attribute__((nonnull, warn_unused_result));

/* --- what is wanted --------------------------------------------------------------------------- */

struct tunnel_peer_want {
	char name[IFNAMSIZ];
	uint8_t key[KEY_LEN];
	const char *psk_file; /* NULL: none */
	const char *endpoint; /* "host:port", NULL: it calls first */
	const struct prefix *allowed;
	size_t allowed_count;
	uint16_t keepalive_s;
};

struct tunnel_want {
	char name[IFNAMSIZ];
	const struct prefix *addrs;
	size_t addr_count;
	uint16_t port; /* 0: any */
	uint16_t mtu;  /* 0: computed */
	uint32_t mark;
	const char *key_file;
	const struct tunnel_peer_want *peers; /* sorted by key */
	size_t peer_count;
};

const struct tunnel_peer_want *tunnel_want_find(const struct tunnel_want *w,
						const uint8_t key[KEY_LEN])
	__attribute__((nonnull));

/* What is not in the configuration's text: one peer's, in the order of want->peers. */
struct tunnel_peer_more {
	uint8_t psk[KEY_LEN];	    /* zero: none */
	union endpoint_addr endpoint; /* family 0: leave what is there */
	uint8_t old_key[KEY_LEN];   /* the key that this one takes over from; zero: none */
};

/*
 * The text from `view` to `want`; *ret_text is NULL when there is nothing to say, else the caller
 * frees it with tunnel_text_free().  Each line of a plan for people goes through `line` (may be
 * NULL).  A peer whose key goes on under another name is the same peer; one whose key changes (see
 * old_key) is there twice until the new one has had a handshake.
 */
int tunnel_delta(const struct tunnel_want *want, const uint8_t private_key[KEY_LEN],
		 const struct tunnel_peer_more *more, const struct tunnel_view *view,
		 void (*line)(void *ctx, const char *text), void *ctx, char **ret_text)
	__attribute__((nonnull(1, 2, 4, 7), warn_unused_result));
void tunnel_text_free(char *text);

#endif
