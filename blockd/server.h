/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control thread's half of the NBD server: listeners, handshakes, the list of clients.
 *
 * One object, used on one thread (the control thread).  It has one descriptor to watch
 * (server_fd(), an epoll instance: readable when there is work) and one deadline; the owner's
 * loop calls server_dispatch() when either is due.  From there the `done` of reactor tasks are
 * called as well.
 *
 *	server_new -> reactor_start(home = server_home()) ... reactor_wait -> server_add_pool
 *	-> server_listen ... -> loop: server_dispatch
 *	-> server_stop -> loop until server_stopped -> reactor_stop_free ... -> server_free
 *
 * The library ignores SIGPIPE by sending with MSG_NOSIGNAL; the signal's disposition is main's.
 */
#ifndef BLOCKD_SERVER_H
#define BLOCKD_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "blockd/reactor.h"
#include "common/base/err.h"

#define SERVER_CONNECTIONS_DEFAULT  100u
#define SERVER_HANDSHAKE_TIMEOUT_MS 10000u
#define SERVER_PORT_DEFAULT	    10809u

struct server;

struct server_params {
	uint32_t connection_max;       /* all listeners together; 0: SERVER_CONNECTIONS_DEFAULT */
	uint32_t handshake_timeout_ms; /* 0: SERVER_HANDSHAKE_TIMEOUT_MS */
	/* Something an administrator should hear (a connection opened or closed, a refusal); a
	 * sentence without a full stop.  The caller logs it.  May be NULL. */
	void (*event)(void *user, bool warning, const char *text);
	void *event_user;
	/* The text for people that LIST and INFO show of a volume; leaves `buf` alone if there is
	 * none.  May be NULL. */
	void (*describe)(void *user, const char *pool, const char *volume, char *buf, size_t size);
	void *describe_user;
};

int server_new(const struct server_params *params, struct server **ret_server, struct err *err)
	__attribute__((warn_unused_result));
/* After server_stopped() and after every reactor has ended.  Removes the sockets' files.  NULL is
 * fine. */
void server_free(struct server *server);

struct mailbox *server_home(struct server *server);
int server_fd(const struct server *server);
/* Monotonic milliseconds when server_dispatch() wants to be called at the latest; UINT64_MAX:
 * never. */
uint64_t server_deadline_ms(const struct server *server);
/* Do all that is ready; does not wait for clients.  May block for one turn of a reactor. */
void server_dispatch(struct server *server, uint64_t now_ms);

/* ---- pools ---- */

/* Volumes of this reactor's pool can be opened from now on.  The order of adding is the order of
 * LIST.  -EEXIST: a pool of that name is there. -ENOSPC: too many. */
int server_add_pool(struct server *server, struct reactor *reactor, struct err *err)
	__attribute__((warn_unused_result));
/* No new connections to it from now on; call before reactor_stop_free(). */
void server_remove_pool(struct server *server, struct reactor *reactor);
/* The order of LIST: `count` pools, all of those that were added. */
void server_order_pools(struct server *server, struct reactor *const *reactors, size_t count);
/* NULL: no such pool. */
struct reactor *server_find_pool(const struct server *server, const char *name);

/*
 * No new connection to a volume while something is done to it that needs it closed: a client that
 * asks is refused with a word about it (ERR_POLICY), and may ask again later.  The bar is the
 * caller's, with the name it points to, until server_unbar().
 */
struct server_bar {
	const struct reactor *reactor;
	const char *volume;
	bool snapshots;		 /* of the volume are barred too */
	struct server_bar *next; /* private */
};
void server_bar(struct server *server, struct server_bar *bar);
/* Those that wait for the write lock of a volume (NULL: of any of the pool) are refused. */
void server_refuse_waiting(struct server *server, const struct reactor *reactor,
			   const char *volume);
void server_unbar(struct server *server, struct server_bar *bar);

/* ---- listeners ---- */

struct server_listen {
	const char *name; /* of the config block; copied, shortened to 63 bytes */
	/*
	 * "unix:/absolute/path", "tcp:HOST:PORT", "tcp:HOST" (port 10809); HOST is an IPv4
	 * address, an IPv6 address in brackets, a host name, or "*" for every address of both
	 * families.
	 */
	const char *address;
	int fd;		    /* a listening socket inherited from systemd (then no address), or -1 */
	mode_t mode;	    /* of a unix socket's file; 0: 0660 */
	uid_t uid;	    /* its owner; (uid_t)-1: as made */
	gid_t gid;	    /* its group; (gid_t)-1: as made */
	const char *preset; /* the export that the empty name means here, NULL: none; copied */
};

/* Is it a well-formed address?  Opens nothing, resolves nothing.  -EINVAL with what was found and
 * what was expected. */
int server_check_address(const char *address, struct err *err);
/* True if an address is a TCP one that others than this host can reach (not loopback). */
bool server_address_is_public(const char *address);

/*
 * Listen.  A file at a unix address is replaced only if it is a socket on which nobody listens
 * (-EADDRINUSE, -EEXIST else).  A relative path, one too long for a socket: -EINVAL.
 */
int server_listen(struct server *server, const struct server_listen *params, uint32_t *ret_id,
		  struct err *err) __attribute__((warn_unused_result));
/* Close the sockets that one server_listen() made, and remove their files.  Clients that came
 * through them stay. */
void server_unlisten(struct server *server, uint32_t id);
/* Another name, mode, owner, group and preset for open sockets; the address stays.  New clients
 * see it.  -errno when the file of a unix socket cannot be changed. */
int server_listen_change(struct server *server, uint32_t id, const struct server_listen *params,
			 struct err *err) __attribute__((warn_unused_result));

/* ---- limits ---- */

/* As in server_params.  Clients that are there stay, also above the new cap. */
void server_set_limits(struct server *server, uint32_t connection_max,
		       uint32_t handshake_timeout_ms);

/* ---- stop ---- */

/* Close the listeners, drop clients in their handshake, drain the reactors within `drain_ms`. */
void server_stop(struct server *server, uint32_t drain_ms);
/* True when no connection is left. */
bool server_stopped(const struct server *server);

/* ---- to look at ---- */

struct server_stat {
	uint32_t connections, handshakes; /* now: all of them; those still in their handshake */
	uint32_t connection_max;
	uint64_t accepted;
	uint64_t handshake_timeouts;  /* dropped for not finishing in time */
	uint64_t handshake_errors;    /* dropped for breaking the protocol or giving up */
	uint64_t handshake_evictions; /* dropped at the cap in favour of a newer client */
	uint64_t accept_pauses;	      /* times the cap stopped accepting */
	uint64_t refusals;	      /* exports asked for and not granted */
};
void server_get_stat(const struct server *server, struct server_stat *ret_stat);

#endif
