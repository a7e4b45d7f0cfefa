/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The handshake of one connection: fixed newstyle negotiation as a state machine without sockets,
 * threads or clock.  Bytes in, bytes out, time passed in.
 *
 *	h = handshake_new(...)
 *	loop: send handshake_pending(), tell handshake_sent()
 *	      receive into handshake_room(), tell handshake_received()
 *	until handshake_state() is no longer HANDSHAKE_TALKING.
 */
#ifndef BLOCKD_NBD_HANDSHAKE_H
#define BLOCKD_NBD_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "blockd/nbd/contexts.h"
#include "blockd/nbd/export_name.h"
#include "common/base/err.h"
#include "thin/thin.h"

#define HANDSHAKE_LIST_BATCH	  16u
#define HANDSHAKE_DESCRIPTION_MAX 255u

struct handshake;

struct handshake_export {
	uint64_t size_bytes;
	bool read_only; /* whatever was asked for, it can not be written */
	bool exclusive; /* no further connection of this client would be let in beside it */
	char name[EXPORT_NAME_MAX + 1];			 /* canonical, as LIST would show it */
	char description[HANDSHAKE_DESCRIPTION_MAX + 1]; /* "" for none */
};

struct handshake_listed {
	char name[EXPORT_NAME_MAX + 1];
	char description[HANDSHAKE_DESCRIPTION_MAX + 1];
};

/* Where a LIST stands; zeroed at its begin, otherwise the callback's. */
struct handshake_list {
	uint32_t pool_index;
	uint64_t after_id;
	char after[THIN_NAME_MAX + 1];
};

/* A snapshot that an export is compared with: "qemu:dirty-bitmap:NAME". */
struct handshake_base {
	uint64_t id;
	char name[THIN_PATH_MAX + 1]; /* as the client calls it: SNAP, or VOL@SNAP */
};

/*
 * The exports.  Errors: -ENOENT unknown, -EACCES refused by policy, -ESHUTDOWN; `err` carries the
 * text for the client.
 */
struct handshake_ops {
	/* For INFO and the meta contexts: what `open` would answer now; changes nothing. */
	int (*find)(void *user, const struct export_name *name, struct handshake_export *ret_export,
		    struct err *err);
	/* For GO and EXPORT_NAME: the connection's export from now on, and the snapshots that it is
	 * compared with, as `find_bases` had them.  Called successfully at most once.
	 * -EINPROGRESS: handshake_opened() will say; nothing is received until then. */
	int (*open)(void *user, const struct export_name *name, const struct handshake_base *bases,
		    size_t base_count, struct handshake_export *ret_export, struct err *err);
	/* The next up to HANDSHAKE_LIST_BATCH exports; 0 at the end. */
	size_t (*list)(void *user, struct handshake_list *list,
		       struct handshake_listed exports[HANDSHAKE_LIST_BATCH]);
	/* For the meta contexts, behind a `find` that had no error: the ids of those of `bases`
	 * that this export can be compared with; 0 for all others. */
	void (*find_bases)(void *user, const struct export_name *name, struct handshake_base *bases,
			   size_t count);
	/* The next up to HANDSHAKE_LIST_BATCH of all there are; 0 at the end. */
	size_t (*list_bases)(void *user, const struct export_name *name,
			     struct handshake_list *list,
			     struct handshake_base bases[HANDSHAKE_LIST_BATCH]);
	/* What the empty name means here, as a client would write it; NULL: nothing.  May be NULL
	 * itself. */
	const char *(*preset)(void *user);
};

enum handshake_state {
	HANDSHAKE_TALKING,
	HANDSHAKE_READY,   /* send what is pending, then transmission */
	HANDSHAKE_CLOSING, /* send what is pending if it can be, then close: a clean end */
	HANDSHAKE_FAILED,  /* close at once; handshake_reason() says why */
};

/* `ops` must outlive it.  NULL without memory. */
struct handshake *handshake_new(const struct handshake_ops *ops, void *user, uint64_t now_ms,
				uint32_t timeout_ms);
void handshake_free(struct handshake *h);

enum handshake_state handshake_state(const struct handshake *h);
/* A sentence for the log in HANDSHAKE_FAILED, "" else. */
const char *handshake_reason(const struct handshake *h);

/* Where to receive, and how much at most.  0: do not receive now (output must leave first, or it
 * is over). */
size_t handshake_room(struct handshake *h, void **ret_to);
void handshake_received(struct handshake *h, size_t len);
/* The peer closed: a clean end between options, otherwise a failure. */
void handshake_closed(struct handshake *h);

/* The answer to an `open` that returned -EINPROGRESS; as its return value and results. */
void handshake_opened(struct handshake *h, int rc, const struct handshake_export *export,
		      const struct err *err);
/* Waits for that; its time is not counted meanwhile. */
bool handshake_is_opening(const struct handshake *h);

/* What is to be sent. */
size_t handshake_pending(struct handshake *h, const void **ret_from);
void handshake_sent(struct handshake *h, size_t len);

/* Fails the handshake once its time is over. */
void handshake_tick(struct handshake *h, uint64_t now_ms);
uint64_t handshake_deadline_ms(const struct handshake *h);

/* In HANDSHAKE_READY: what was negotiated. */
struct handshake_result {
	struct export_name name;
	bool read_only, structured;
	unsigned contexts; /* mask of enum context; a bit behind them for each base, in order */
	const void *in;	   /* bytes of the transmission phase already received */
	size_t in_len;
};
void handshake_get_result(const struct handshake *h, struct handshake_result *ret_result);

#endif
