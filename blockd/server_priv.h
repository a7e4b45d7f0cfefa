/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What server.c (sockets) and server_exports.c (what is served) share.  Control thread. */
#ifndef BLOCKD_SERVER_PRIV_H
#define BLOCKD_SERVER_PRIV_H

#include <sys/queue.h>

#include "blockd/listen.h"
#include "blockd/nbd/handshake.h"
#include "blockd/server.h"

#define SERVER_POOLS_MAX 64u

struct watched {
	enum { WATCHED_HOME, WATCHED_LISTENER, WATCHED_CLIENT } kind;
};

struct listener {
	struct watched watched; /* first */
	LIST_ENTRY(listener) link;
	int fd;
	uint32_t id; /* of the server_listen() it is from: a host name may have several addresses */
	char name[64];
	char preset[EXPORT_NAME_MAX + 1]; /* what the empty name means, "" for nothing */
	struct listen_address address;
	bool owns_file;
	dev_t dev;
	ino_t ino;
};

struct client {
	struct watched watched; /* first */
	TAILQ_ENTRY(client) link;
	struct server *server;
	uint64_t id, since_ms;
	int fd; /* -1: the reactor's, or closed */
	uint32_t events;
	bool dead;
	char peer[128], listener[64];
	char preset[EXPORT_NAME_MAX + 1]; /* its listener's */
	struct reactor_lock *lock;	  /* asked for, or granted and not yet handed over */
	struct handshake_export opening;  /* what GO will be answered once it is granted */
	char volume[THIN_PATH_MAX + 1];
	struct handshake *handshake; /* NULL: it is over */
	/* GO has been granted */
	char export[EXPORT_NAME_MAX + 1];
	struct reactor *reactor; /* NULL: none, or it has been handed over */
	struct reactor_handles handles;
};

struct server {
	struct server_params params;
	int epoll_fd;
	struct mailbox *home;
	struct watched home_watched;
	LIST_HEAD(, listener) listeners;
	TAILQ_HEAD(, client) clients, dead; /* in the order of their coming */
	uint32_t client_count, handshake_count;
	uint64_t id_last;
	uint64_t boot; /* makes connections' tokens unique for ever */
	uint32_t listen_id_last;
	bool accepting, stopping, reap;
	uint64_t accept_at_ms; /* while not accepting: try again */
	struct reactor *pools[SERVER_POOLS_MAX];
	struct reactor_task drains[SERVER_POOLS_MAX];
	size_t pool_count, drain_count;
	struct server_bar *bars;
	struct server_stat stat; /* counters only */
};

/* server.c: go on with its handshake after a wait. */
void server_client_resume(struct client *client);

/* server_exports.c: the handshake's view of the pools; `user` is a struct client. */
extern const struct handshake_ops server_handshake_ops;

#endif
