/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Export names as clients give them: [pool/]volume[@snapshot], and behind a ';' each
 *	ro		a live reader, which needs no lock
 *	holder=ID	who the client is, where its connection or process does not say so
 *	standby		writes wait until the lock is handed over
 *	single		a new connection of this holder replaces those it had
 */
#ifndef BLOCKD_NBD_EXPORT_NAME_H
#define BLOCKD_NBD_EXPORT_NAME_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/err.h"
#include "thin/thin.h"

#define EXPORT_NAME_MAX (THIN_NAME_MAX + 1 + THIN_PATH_MAX) /* "pool/volume@snapshot" */

#define EXPORT_HOLDER_MAX 64u

struct export_name {
	char pool[THIN_NAME_MAX + 1];	/* "" if none was given */
	char volume[THIN_PATH_MAX + 1]; /* with the snapshot */
	bool read_only;			/* ;ro, or a snapshot */
	bool standby, single;
	char holder[EXPORT_HOLDER_MAX + 1]; /* "" if none was given */
};

/*
 * Take a name apart; `name` need not end with a NUL.  Checks only the shape: whether there is such
 * a pool and volume is the finder's business.  -ENOENT with a sentence for the client if it can
 * not be an export's name: empty, too long, an unknown option.
 */
int export_name_parse(const char *name, size_t len, struct export_name *ret_name, struct err *err);

/* As export_name_parse(), where an empty name (options behind it or not) stands for `preset`, NULL
 * for none. */
int export_name_resolve(const char *name, size_t len, const char *preset,
			struct export_name *ret_name, struct err *err);

#endif
