// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The listen sections: from the configuration to sockets of the server.
 *
 * A section opens its address itself, or takes the sockets that systemd passes under a name
 * (LISTEN_FDS, LISTEN_FDNAMES: the FileDescriptorName= of a socket unit; several sockets may have
 * one name).  What is passed and what is asked for must agree, and that is settled before anything
 * else is done: a socket that nobody takes would have clients wait for ever.
 *
 * Inherited descriptors are kept open for as long as the process lives, because systemd keeps its
 * own copy anyway: the server gets duplicates, and a reload can take a section out and in again.
 *
 * A reload keeps every socket whose address (or name) is still wanted, whatever its section is
 * called now.  New ones are opened while the old ones are still there; only where that fails
 * because the address is taken ("tcp:127.0.0.1:10809" becomes "tcp:*:10809") the old ones close
 * first, and open again if the new one cannot be had.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "blockd/reload.h"
#include "common/daemon/log.h"
#include "common/daemon/loop.h"

#define CONTROL_NAME "control" /* the control socket may be passed as well, see main.c */

/* ---- inherited sockets ---- */

static int socket_option(int fd, int option)
{
	int value = -1;
	socklen_t len = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, option, &value, &len) ? -errno : value;
}

static bool is_loopback(const struct sockaddr_storage *ss)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)ss;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)ss;

	if (ss->ss_family == AF_INET)
		return ntohl(in->sin_addr.s_addr) >> 24 == 127;
	return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr) ||
	       (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr) && in6->sin6_addr.s6_addr[12] == 127);
}

static bool is_any(const struct sockaddr_storage *ss)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)ss;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)ss;

	return ss->ss_family == AF_INET ? in->sin_addr.s_addr == htonl(INADDR_ANY)
					: IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr);
}

/* As a configuration would say it: "unix:/run/x", "tcp:127.0.0.1:10809", "tcp:*:10809". */
static void address_text(const struct sockaddr_storage *ss, socklen_t len, char *buf, size_t size)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)ss;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)ss;
	const struct sockaddr_un *un = (const struct sockaddr_un *)ss;
	bool v6 = ss->ss_family == AF_INET6;
	char host[INET6_ADDRSTRLEN] = "*";

	if (ss->ss_family == AF_UNIX) {
		size_t path_len = len - offsetof(struct sockaddr_un, sun_path);

		snprintf(buf, size, "unix:%s%.*s", un->sun_path[0] ? "" : "@",
			 (int)(un->sun_path[0] ? path_len : path_len - 1),
			 un->sun_path + !un->sun_path[0]);
		return;
	}
	if (!is_any(ss))
		inet_ntop(ss->ss_family,
			  v6 ? (const void *)&in6->sin6_addr : (const void *)&in->sin_addr, host,
			  sizeof(host));
	snprintf(buf, size, v6 && host[0] != '*' ? "tcp:[%s]:%u" : "tcp:%s:%u", host,
		 ntohs(v6 ? in6->sin6_port : in->sin_port));
}

/* Is it a socket to accept NBD clients from?  Fills its address. */
static int inherited_check(struct blockd_inherited *in, struct err *err)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);

	if (socket_option(in->fd, SO_TYPE) != SOCK_STREAM ||
	    getsockname(in->fd, (struct sockaddr *)&ss, &len) ||
	    (ss.ss_family != AF_UNIX && ss.ss_family != AF_INET && ss.ss_family != AF_INET6))
		return err_set(err, -EPROTOTYPE,
			       "systemd passed something under the name \"%s\" that is no unix or "
			       "TCP stream socket (ListenStream=)",
			       in->name);
	if (socket_option(in->fd, SO_ACCEPTCONN) != 1)
		return err_set(err, -ENOTCONN,
			       "systemd passed a connection under the name \"%s\", expected a "
			       "listening socket (Accept=no)",
			       in->name);
	address_text(&ss, len, in->address, sizeof(in->address));
	in->is_public = ss.ss_family != AF_UNIX && !is_loopback(&ss);
	return 0;
}

static const struct blockd_conf_listen *listen_of_name(const struct blockd_conf *conf,
						       const char *name)
{
	for (size_t i = 0; i < conf->listen_count; i++)
		if (conf->listens[i].activation && !strcmp(conf->listens[i].activation, name))
			return &conf->listens[i];
	return NULL;
}

int listeners_inherit(struct blockd *daemon, struct err *err)
{
	const char *name;

	for (unsigned i = 0; (name = loop_listen_fd_name(i)); i++) {
		struct blockd_inherited *in = &daemon->inherited[daemon->inherited_count];
		int rc;

		if (!strcmp(name, CONTROL_NAME))
			continue;
		if (!listen_of_name(daemon->conf, name))
			return err_set(err, -EINVAL,
				       "systemd passed a socket named \"%s\", which no listen "
				       "section takes: expected socket_activation = \"%s\" in one",
				       name, name);
		if (daemon->inherited_count == BLOCKD_INHERITED_MAX)
			return err_set(err, -E2BIG, "systemd passed more than %u sockets",
				       BLOCKD_INHERITED_MAX);
		snprintf(in->name, sizeof(in->name), "%s", name);
		in->fd = loop_take_listen_fd(name);
		rc = inherited_check(in, err);
		if (rc < 0)
			return rc;
		daemon->inherited_count++;
	}
	return 0;
}

const char *listeners_address(const struct blockd *daemon, const struct blockd_conf_listen *listen,
			      size_t index)
{
	if (listen->address)
		return index == 0 ? listen->address : NULL;
	for (size_t i = 0; i < daemon->inherited_count; i++)
		if (!strcmp(daemon->inherited[i].name, listen->activation) && index-- == 0)
			return daemon->inherited[i].address;
	return NULL;
}

/* ---- opening ---- */

static struct server_listen listen_params(const struct blockd_conf_listen *conf)
{
	return (struct server_listen){ .name = conf->name,
				       .address = conf->address,
				       .fd = -1,
				       .mode = conf->mode,
				       .uid = conf->uid,
				       .gid = conf->gid,
				       .preset = conf->preset };
}

static int open_inherited(struct blockd *daemon, struct blockd_listener *l,
			  const struct blockd_inherited *in, struct err *err)
{
	struct server_listen params = listen_params(l->conf);
	int rc;

	if (in->is_public && !l->conf->insecure)
		return err_set(err, -EPERM,
			       "systemd passed plain TCP beyond loopback (%s), expected a loopback "
			       "address, or insecure = true for a network you trust",
			       in->address);
	if (l->id_count == LISTENER_IDS_MAX)
		return err_set(err, -E2BIG, "systemd passed more than %u sockets of this name",
			       LISTENER_IDS_MAX);
	params.fd = fcntl(in->fd, F_DUPFD_CLOEXEC, 3);
	if (params.fd < 0)
		return err_sys(err, -errno, "inherited socket");
	rc = server_listen(daemon->server, &params, &l->ids[l->id_count], err);
	if (rc < 0)
		close(params.fd);
	else
		l->id_count++;
	return rc;
}

static int open_listener(struct blockd *daemon, struct blockd_listener *l, struct err *err)
{
	struct server_listen params = listen_params(l->conf);
	int rc = 0;

	if (l->conf->address) {
		rc = server_listen(daemon->server, &params, &l->ids[0], err);
		l->id_count = rc == 0;
		return rc;
	}
	for (size_t i = 0; i < daemon->inherited_count && rc == 0; i++)
		if (!strcmp(daemon->inherited[i].name, l->conf->activation))
			rc = open_inherited(daemon, l, &daemon->inherited[i], err);
	if (rc == 0 && l->id_count == 0)
		rc = err_set(err, -ENOENT,
			     "systemd passed no socket named \"%s\": expected one from a socket "
			     "unit with FileDescriptorName=%s (systemctl start blockd.socket)",
			     l->conf->activation, l->conf->activation);
	return rc;
}

int listeners_open(struct blockd *daemon, const struct blockd_conf_listen *conf,
		   struct blockd_listener *ret_listener, struct err *err)
{
	struct blockd_listener l = { .conf = conf };
	int rc = open_listener(daemon, &l, err);

	if (rc == 0) {
		*ret_listener = l;
		return 0;
	}
	listeners_close(daemon, &l);
	(void)err_context(err, "%s:%u: listen %s", conf->section->pos.file, conf->section->pos.line,
			  conf->name);
	return rc;
}

void listeners_close(struct blockd *daemon, struct blockd_listener *l)
{
	while (l->id_count > 0)
		server_unlisten(daemon->server, l->ids[--l->id_count]);
}

int listeners_start(struct blockd *daemon, struct err *err)
{
	for (size_t i = 0; i < daemon->conf->listen_count; i++) {
		int rc = listeners_open(daemon, &daemon->conf->listens[i],
					&daemon->listeners[daemon->listener_count], err);

		if (rc < 0)
			return rc;
		daemon->listener_count++;
	}
	return 0;
}

/* ---- change ---- */

/* Do two sections want the same sockets? */
static bool same_sockets(const struct blockd_conf_listen *a, const struct blockd_conf_listen *b)
{
	if (!a->address || !b->address)
		return a->activation && b->activation && !strcmp(a->activation, b->activation);
	return !strcmp(a->address, b->address);
}

static const struct blockd_listener *listener_of(const struct blockd *daemon,
						 const struct blockd_conf_listen *conf)
{
	for (size_t i = 0; i < daemon->listener_count; i++)
		if (same_sockets(daemon->listeners[i].conf, conf))
			return &daemon->listeners[i];
	return NULL;
}

static bool is_wanted(const struct blockd_conf *conf, const struct blockd_listener *l)
{
	for (size_t i = 0; i < conf->listen_count; i++)
		if (same_sockets(&conf->listens[i], l->conf))
			return true;
	return false;
}

static void close_removed(struct blockd *daemon, struct listeners_change *change)
{
	for (size_t i = 0; i < change->removed_count && !change->removed_closed; i++)
		listeners_close(daemon, &change->removed[i]);
	change->removed_closed = true;
}

/* The daemon's own copy of a listener that had been closed too early. */
static void reopen(struct blockd *daemon, const struct blockd_conf_listen *conf)
{
	struct err err = { 0 };

	for (size_t i = 0; i < daemon->listener_count; i++) {
		struct blockd_listener *l = &daemon->listeners[i];

		if (l->conf != conf)
			continue;
		l->id_count = 0;
		if (listeners_open(daemon, conf, l, &err) < 0)
			log_error("config",
				  "%s: it was closed for a change that failed, and is "
				  "not served now",
				  err.text);
	}
}

static void take_back(struct blockd *daemon, struct listeners_change *change)
{
	for (size_t i = 0; i < change->now_count; i++)
		if (change->is_new[i])
			listeners_close(daemon, &change->now[i]);
	for (size_t i = 0; i < change->removed_count && change->removed_closed; i++)
		reopen(daemon, change->removed[i].conf);
}

int listeners_change_begin(struct blockd *daemon, const struct blockd_conf *conf,
			   struct listeners_change *change, struct err *err)
{
	*change = (struct listeners_change){ 0 };
	for (size_t i = 0; i < daemon->listener_count; i++)
		if (!is_wanted(conf, &daemon->listeners[i]))
			change->removed[change->removed_count++] = daemon->listeners[i];
	for (size_t i = 0; i < conf->listen_count; i++) {
		const struct blockd_listener *old = listener_of(daemon, &conf->listens[i]);
		struct blockd_listener *now = &change->now[i];
		int rc = 0;

		if (old) {
			*now = *old;
		} else {
			change->is_new[i] = true;
			rc = listeners_open(daemon, &conf->listens[i], now, err);
		}
		if (rc == -EADDRINUSE && change->removed_count && !change->removed_closed) {
			close_removed(daemon, change);
			rc = listeners_open(daemon, &conf->listens[i], now, err);
		}
		if (rc < 0) {
			take_back(daemon, change);
			return rc;
		}
		change->now_count++;
	}
	return 0;
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

/* A listener that stays: its label, and the file of a unix socket. */
static void relabel(struct blockd *daemon, struct blockd_listener *l,
		    const struct blockd_conf_listen *conf, json_t *changed, json_t *restart)
{
	const struct blockd_conf_listen *old = l->conf;
	struct server_listen params = listen_params(conf);
	struct err err = { 0 };
	int rc = 0;

	if (same_text(old->name, conf->name) && same_text(old->preset, conf->preset) &&
	    old->mode == conf->mode && old->uid == conf->uid && old->gid == conf->gid)
		return;
	for (size_t i = 0; i < l->id_count && rc == 0; i++)
		rc = server_listen_change(daemon->server, l->ids[i], &params, &err);
	if (rc < 0)
		reload_line(restart, "listen %s: %s", conf->name, err.text);
	else
		reload_line(changed, "listen %s: changed in place", conf->name);
}

void listeners_change_finish(struct blockd *daemon, struct listeners_change *change,
			     const struct blockd_conf *conf, json_t *changed, json_t *restart)
{
	close_removed(daemon, change);
	for (size_t i = 0; i < change->removed_count; i++)
		reload_line(changed, "listen %s: closed", change->removed[i].conf->name);
	for (size_t i = 0; i < change->now_count; i++) {
		struct blockd_listener *l = &change->now[i];

		if (change->is_new[i])
			reload_line(changed, "listen %s: opened", l->conf->name);
		else
			relabel(daemon, l, &conf->listens[i], changed, restart);
		l->conf = &conf->listens[i];
		daemon->listeners[i] = *l;
	}
	daemon->listener_count = change->now_count;
}
