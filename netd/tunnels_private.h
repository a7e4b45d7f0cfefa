/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of tunnels share. */
#ifndef NETD_TUNNELS_PRIVATE_H
#define NETD_TUNNELS_PRIVATE_H

#include "netd/tunnels.h"
#include "netd/wg/host.h"

/* What is known of a peer beyond its configuration. */
struct known {
	uint8_t key[KEY_LEN];
	char name[IFNAMSIZ];
	char *text;		  /* of its endpoint; NULL: none */
	union endpoint_addr addr; /* family 0: not known yet */
	bool told;		  /* netd-wg has it */
	uint64_t asked_ms, wait_ms;
	char why[96];
	uint8_t old_key[KEY_LEN]; /* zero, or the key that it takes over from */
	uint64_t retire_ms;	  /* when that is let go; 0: not known yet */
};

struct one {
	struct tunnels *set;
	char name[IFNAMSIZ];
	const struct tunnel_want *want; /* NULL: it is to go */
	struct wg_host *host;
	bool fresh; /* prepared, not yet in force */
	uint16_t port, old_port;
	uint32_t mark, old_mark;
	uint16_t mtu;
	sd_event_source *source;
	struct loop_timer *restart;
	uint64_t restart_ms, started_ms;
	struct known *known;
	size_t known_count;
	uint64_t crash_count, unresolved_count;
	bool rotates; /* an old key is there still */
	struct one *next;
};

struct tunnels {
	struct loop *loop;
	struct nl *nl;
	char *run, *uapi;
	struct resolver *resolver;
	struct loop_timer *look;
	struct one *first;
	const struct tunnel_want *want; /* all, also those that could not be prepared */
	size_t want_count;
	bool swept; /* what an earlier netd left was looked for */
};

/* tunnels.c */
struct one *tunnels_find(struct tunnels *t, const char *name);
struct known *tunnels_known(struct one *o, const uint8_t key[KEY_LEN]);
/* What peer `name` of `w` had before `key`; NULL: it is new, or it had that one. */
const uint8_t *tunnels_former_key(const struct one *o, const struct tunnel_want *w,
				  const char *name, const uint8_t key[KEY_LEN]);
int tunnels_view(struct one *o, struct tunnel_view *ret, struct err *err);
/* Keys, peers, endpoints that netd-wg was not told yet: as differences. */
int tunnels_sync_peers(struct one *o, const struct tunnel_want *w, struct err *err);
int tunnels_set_mtu(struct one *o, const struct tunnel_want *w, struct err *err);
/* A call may have found netd-wg dead: then nobody would hear of it any more. */
void tunnels_notice_death(struct one *o);

/* tunnel_names.c */
void tunnels_look_later(struct tunnels *t);
void tunnels_find_endpoint(struct one *o, struct known *k);
void tunnels_on_answer(void *ctx, const char *text, const union endpoint_addr *addrs, size_t count,
		       const char *why);
void tunnels_ask_stale(struct one *o, const struct tunnel_view *view);
void tunnels_retire(struct one *o, const struct tunnel_view *view);

#endif
