/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control protocol between a daemon and its tools, over a unix stream socket.
 *
 * Both sides send JSON objects, one a line:
 *
 *	-> {"verb": "resize", "args": {"volume": "db1", "size": 1073741824}}
 *	<- {"progress": {"done": 5, "total": 10}}		any number of these
 *	<- {"result": {...}}					or
 *	<- {"error": {"code": "ENOSPC", "text": "pool main: 3 blocks left"}}
 *
 * A connection may carry several requests, one after the other: the next is read when the last is
 * answered and the answer is read.  The reply may come later and from elsewhere (async); the
 *connection may break before it, which the handler can ask or be told.
 *
 * Bounds: CTL_*_MAX; when all places are taken, a newcomer gets that of the client that has idled
 * longest, or waits in the backlog.  A request line must be complete CTL_REQUEST_TIMEOUT_MS after
 *its first byte; a client that does not read its reply for CTL_WRITE_TIMEOUT_MS is dropped. Invalid
 *JSON gets an error reply and the end of the connection; nested more than jansson's limit is
 *invalid. Everything is on the loop's thread.
 */
#ifndef COMMON_DAEMON_CTL_H
#define COMMON_DAEMON_CTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <jansson.h>

#include "common/base/err.h"
#include "common/daemon/loop.h"

#define CTL_REQUEST_BYTES_MAX (1u << 20)
#define CTL_REPLY_BYTES_MAX   (64u << 20) /* waiting to be read by one client */

#ifndef CTL_CLIENT_COUNT_MAX /* tests build the server with smaller ones */
#define CTL_CLIENT_COUNT_MAX   64u
#define CTL_REQUEST_TIMEOUT_MS 10000u
#define CTL_WRITE_TIMEOUT_MS   30000u
#endif

/* ---- server ---- */

struct ctl_server;
struct ctl_request;

struct ctl_verb {
	const char *name; /* NULL ends the table */
	/* Answers the request now or later, with exactly one ctl_reply() or ctl_fail(). */
	void (*run)(struct ctl_request *req, void *ctx);
};

/*
 * Serve `verbs` on `listen_fd` (from loop_listen_unix(); taken over, closed at the end).  An
 * unknown verb is answered with the nearest known.
 */
int ctl_server_new(struct loop *l, int listen_fd, const struct ctl_verb *verbs, void *ctx,
		   struct ctl_server **ret, struct err *err) __attribute__((warn_unused_result));
/* Drops all connections.  Requests that are not answered stay valid until they are. */
void ctl_server_free(struct ctl_server *s);

const char *ctl_request_verb(const struct ctl_request *req);
json_t *ctl_request_args(const struct ctl_request *req); /* an object, borrowed */
void ctl_request_peer(const struct ctl_request *req, pid_t *ret_pid, uid_t *ret_uid,
		      gid_t *ret_gid); /* SO_PEERCRED; each may be NULL */
/* Has the client gone?  An answer is then dropped silently. */
bool ctl_request_gone(const struct ctl_request *req);
/* Called once when the client goes before the answer; at once if it has gone. */
void ctl_request_on_gone(struct ctl_request *req, void (*fn)(struct ctl_request *req, void *ctx),
			 void *ctx);

/*
 * Arguments by name, with exact errors for the client.  0, or -EINVAL after the request was
 * answered with ctl_fail() (the handler just returns).  Optional ones leave *ret alone when
 * missing.  Texts are borrowed from the request.
 */
int ctl_arg_text(struct ctl_request *req, const char *name, bool required, const char **ret)
	__attribute__((warn_unused_result));
int ctl_arg_u64(struct ctl_request *req, const char *name, bool required, uint64_t *ret)
	__attribute__((warn_unused_result));
int ctl_arg_flag(struct ctl_request *req, const char *name, bool *ret)
	__attribute__((warn_unused_result));

/* Answer and free the request.  `result` is taken over; NULL means {}. */
void ctl_reply(struct ctl_request *req, json_t *result);
void ctl_fail(struct ctl_request *req, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void ctl_fail_err(struct ctl_request *req, const struct err *err);
/* In between; `progress` is taken over.  Dropped when the client reads too slowly: false. */
bool ctl_progress(struct ctl_request *req, json_t *progress);

/* ---- client: blocking, for the tools ---- */

struct ctl_client;

int ctl_client_open(const char *path, struct ctl_client **ret, struct err *err)
	__attribute__((warn_unused_result));
void ctl_client_close(struct ctl_client *c);

/*
 * One request and its reply.  `args` is taken over (NULL: none).  `on_progress` may be NULL.
 * `timeout_ms` bounds each wait for a byte, 0: none.  0 and *ret (the caller's reference), or
 * -errno: the daemon's error with its text, -EPROTO for nonsense, -ECONNRESET, -ETIMEDOUT.
 */
int ctl_client_call(struct ctl_client *c, const char *verb, json_t *args, unsigned timeout_ms,
		    void (*on_progress)(json_t *progress, void *ctx), void *ctx, json_t **ret,
		    struct err *err) __attribute__((warn_unused_result));

/* Did the last call fail because no whole answer came (the daemon died, or hangs), and not by an
 * answer that says no? */
bool ctl_client_is_lost(const struct ctl_client *c);

#endif
