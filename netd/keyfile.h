/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * WireGuard keys as people see them (44 characters of base64) and the files that keep them.
 *
 * A key file holds one key in base64 and white space.  It must belong to root or to whoever runs
 * this, and nobody else may read it: a file that others can read is refused, since a key that was
 * readable once is no secret any more.  Errors name the file, never its content; and where a key
 * stands in place of the name, they say only that.
 */
#ifndef NETD_KEYFILE_H
#define NETD_KEYFILE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"

#define KEY_LEN	     32
#define KEY_TEXT_MAX 45 /* base64 with NUL */
#define KEY_HEX_MAX  65 /* hex with NUL */

/* -EINVAL with "expected ..." in `err`; a key of zeroes is none.  The text is not quoted. */
int key_parse(const char *text, uint8_t ret_key[KEY_LEN], struct err *err)
	__attribute__((nonnull(1, 2), warn_unused_result));
/* Into a buffer of the size above; they return it. */
char *key_format(const uint8_t key[KEY_LEN], char ret_text[KEY_TEXT_MAX]) __attribute__((nonnull));
char *key_format_hex(const uint8_t key[KEY_LEN], char ret_text[KEY_HEX_MAX])
	__attribute__((nonnull));
int key_parse_hex(const char *text, uint8_t ret_key[KEY_LEN])
	__attribute__((nonnull, warn_unused_result));

/* Whatever in an error's text looks like a key becomes "(a key)": people put them in wrong places.
 */
void key_hide(char *text) __attribute__((nonnull));

/* The caller cleans the key.  -EPERM: others can read it; -EINVAL; -ENOENT and so on. */
int keyfile_read(const char *path, uint8_t ret_key[KEY_LEN], struct err *err)
	__attribute__((nonnull(1, 2), warn_unused_result));
/* Replace the file, durably; mode 0600. */
int keyfile_write(const char *path, const uint8_t key[KEY_LEN], struct err *err)
	__attribute__((nonnull(1, 2), warn_unused_result));

#endif
