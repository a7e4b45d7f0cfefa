/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One end of a copy: a file, a block device or an NBD export.
 *
 * Reads, writes and zeroes are asynchronous in form: the result arrives through `done`, for a
 * file before the call returns, for NBD from end_turn() or any later call on the same end.  `done`
 * must not call back into the end.  Everything on one thread.
 */
#ifndef BLOCKD_CTL_END_H
#define BLOCKD_CTL_END_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

struct end;

typedef void end_done(void *user, int res);

struct end_extent {
	uint64_t offset, len_bytes;
	bool zero; /* reads as zeroes */
};

struct end_target {
	uint64_t size_bytes; /* a new file gets this size; everything else must be as large */
	bool overwrite;	     /* an existing file or device may lose what it holds */
	bool reads_zero;     /* the caller knows that the export reads as zeroes everywhere */
};

/* Does `place` look like an NBD URI (nbd:// nbds:// nbd+unix:// and so on)? */
bool end_is_uri(const char *place);

/* Open for reading.  -ENOENT, -EINVAL (a directory, a socket, ...), ...  Blocking. */
int end_open_source(const char *place, struct end **ret_end, struct err *err)
	__attribute__((warn_unused_result));

/*
 * Open for writing.  A regular file is made, or with `overwrite` emptied; -EEXIST without.  A
 * block device or an export needs `overwrite` unless `reads_zero`.  -ENOSPC: smaller than
 * size_bytes.  Blocking.
 */
int end_open_target(const char *place, const struct end_target *params, struct end **ret_end,
		    struct err *err) __attribute__((warn_unused_result));

/* Say goodbye and free.  No request may be outstanding.  NULL is fine. */
void end_close(struct end *end);

/* Drop the connection or descriptor and all outstanding requests, without calling their `done`;
 * only end_discard() and end_close() may follow. */
void end_abort(struct end *end);

/* Remove the file that end_open_target() made; nothing for devices, exports and files that were
 * there before. */
void end_discard(struct end *end);

uint64_t end_size_bytes(const struct end *end);

/* True when what was never written reads as zeroes, so that holes need no request at all. */
bool end_reads_zero(const struct end *end);

/* What lies at `offset` (below the size): the extent that begins there, cut at `limit_bytes`.
 * For NBD it may block for a round trip.  An end that cannot tell answers "data". */
int end_extent(struct end *end, uint64_t offset, uint64_t limit_bytes,
	       struct end_extent *ret_extent, struct err *err);

/* A negative errno means that nothing was started and `done` will not be called. */
int end_read(struct end *end, void *buf, size_t len, uint64_t offset, end_done *done, void *user,
	     struct err *err);
int end_write(struct end *end, const void *buf, size_t len, uint64_t offset, end_done *done,
	      void *user, struct err *err);
/* Make the range read as zeroes, as a hole where possible.  len up to END_ZERO_MAX. */
#define END_ZERO_MAX (1u << 30)
int end_zero(struct end *end, size_t len, uint64_t offset, end_done *done, void *user,
	     struct err *err);

/* Everything answered becomes durable; for a source nothing.  Blocking. */
int end_flush(struct end *end, struct err *err);

/* What to poll for: fd is -1 where there is nothing to wait for. */
struct pollfd end_pollfd(const struct end *end);
/* Make progress after poll() returned these events.  An error is final for the end. */
int end_turn(struct end *end, short revents, struct err *err);

#endif
