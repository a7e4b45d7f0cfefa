/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changes that are in force and acknowledged, but not yet in vnetctl's own file: one line each,
 * appended and synced, so that a change costs one small write however big the configuration is.
 *
 * The lines belong to one configuration, their base, and say how it became what is in force.
 * Sooner or later they are folded into the files (netd/change.c) and the journal starts empty.
 *
 * One thread, blocking file I/O.
 */
#ifndef NETD_JOURNAL_H
#define NETD_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/err.h"

#define JOURNAL_BYTES (256u << 10) /* about 1,000 changes */

struct journal;

/*
 * Open or make DIR/changes.journal and read the lines that follow `base` (a configuration's hash).
 * Lines of another base are left out and gone with the next reset; *ret_foreign says how many.  A
 * last line that was cut short was never acknowledged and is forgotten; damage before it is
 * -EUCLEAN.
 */
int journal_open(const char *dir, const char *base, struct journal **ret, size_t *ret_foreign,
		 struct err *err) __attribute__((nonnull(1, 2, 3, 4), warn_unused_result));
void journal_close(struct journal *j);

size_t journal_count(const struct journal *j) __attribute__((nonnull));
/* Line `index` as it was appended; NULL behind the last. */
const char *journal_line(const struct journal *j, size_t index) __attribute__((nonnull));

/* Is there room for a line of `len` bytes? */
bool journal_fits(const struct journal *j, size_t len) __attribute__((nonnull));
/*
 * Durable on return.  The text has no newline; all lines until a reset have the same base.  A
 * failure leaves no line behind; if even that cannot be told, nothing fits any more.
 */
int journal_append(struct journal *j, const char *base, const char *text, struct err *err)
	__attribute__((nonnull(1, 2, 3), warn_unused_result));
/* Empty from now on, durably. */
int journal_reset(struct journal *j, struct err *err)
	__attribute__((nonnull(1), warn_unused_result));

#endif
