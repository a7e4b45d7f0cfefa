/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether the files of a configuration are still those that were read, told by their stat alone.
 *
 * One thread; a stat of each file.
 */
#ifndef NETD_STAMPS_H
#define NETD_STAMPS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/daemon/conf.h"

struct stamp;

struct stamps {
	struct stamp *v;
	size_t count;
	bool valid; /* false: cannot be told */
};

/* CLOCK_REALTIME in nanoseconds, which files' times are compared with. */
uint64_t stamps_now_ns(void);

/*
 * Of the files that `c` was read from, of `own_path` and of the folder `path`.d.  `before_ns` is
 * the time before the first of them was read: what was written later, or just before, may have
 * been read as it was or as it is, and makes the stamps invalid.
 */
void stamps_take(struct stamps *s, const struct conf *c, const char *path, const char *own_path,
		 uint64_t before_ns) __attribute__((nonnull));
/* One of them has been written by the caller, who knows what is in it. */
void stamps_renew(struct stamps *s, const char *path) __attribute__((nonnull));
bool stamps_same(const struct stamps *s) __attribute__((nonnull));
void stamps_clear(struct stamps *s) __attribute__((nonnull));

#endif
