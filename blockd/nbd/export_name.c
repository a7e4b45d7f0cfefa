/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Export names; see export_name.h.  Pure functions over foreign bytes, any thread. */
#include "blockd/nbd/export_name.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define OPTIONS_MAX 512 /* bytes behind an empty name */

static int name_part(const char *from, size_t len, char *to, struct err *err)
{
	if (!len || len > THIN_NAME_MAX || memchr(from, 0, len))
		return err_set(err, -ENOENT, "no such export: not a volume's name");
	memcpy(to, from, len);
	to[len] = '\0';
	return 0;
}

/* "volume" or "volume@snapshot", which is never written. */
static int volume_part(const char *from, size_t len, struct export_name *name, struct err *err)
{
	char snapshot[THIN_NAME_MAX + 1];
	const char *at = memchr(from, '@', len);
	int rc;

	if (!at)
		return name_part(from, len, name->volume, err);
	rc = name_part(from, (size_t)(at - from), name->volume, err);
	if (!rc)
		rc = name_part(at + 1, len - (size_t)(at + 1 - from), snapshot, err);
	if (rc)
		return rc;
	strcat(name->volume, "@");
	strcat(name->volume, snapshot);
	name->read_only = true;
	return 0;
}

/*
 * Options of the grammar that ask for the write lock.  A client that names them counts on being
 * fenced, so they are refused, not ignored; and by policy, as the name is well-formed.  Returns the
 * option as we write it (what a client sent has no place in a log), NULL for another.
 */
static const char *lock_option(const char *at, size_t len)
{
	static const char *const options[] = { "holder=", "standby", "single" };
	size_t i;

	for (i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		size_t known = strlen(options[i]);

		if (len >= known && !memcmp(at, options[i], known) &&
		    (len == known || options[i][known - 1] == '='))
			return options[i];
	}
	return NULL;
}

static int name_options(const char *at, const char *end, struct export_name *name, struct err *err)
{
	while (at < end) {
		const char *stop = memchr(at, ';', (size_t)(end - at));
		size_t len = (size_t)((stop ? stop : end) - at);
		const char *lock;

		lock = lock_option(at, len);
		if (lock)
			return err_set(err, -EACCES,
				       "this version has no write locks: leave \";%s\" away", lock);
		if (len != 2 || memcmp(at, "ro", 2))
			return err_set(err, -ENOENT,
				       "no such export: unknown option behind ';' (known: ro)");
		name->read_only = true;
		at += len + 1;
	}
	return 0;
}

int export_name_parse(const char *name, size_t len, struct export_name *ret_name, struct err *err)
{
	const char *end = name + len, *options, *slash;
	struct export_name parsed = { 0 };
	int rc;

	if (!len)
		return err_set(err, -ENOENT, "no such export: there is no default export");
	options = memchr(name, ';', len);
	if (options) {
		if (options + 1 == end)
			return err_set(err, -ENOENT, "no such export: nothing behind ';'");
		rc = name_options(options + 1, end, &parsed, err);
		if (rc)
			return rc;
		end = options;
	}
	slash = memchr(name, '/', (size_t)(end - name));
	if (slash) {
		rc = name_part(name, (size_t)(slash - name), parsed.pool, err);
		if (rc)
			return rc;
		name = slash + 1;
	}
	rc = volume_part(name, (size_t)(end - name), &parsed, err);
	if (rc)
		return rc;
	*ret_name = parsed;
	return 0;
}

int export_name_resolve(const char *name, size_t len, const char *preset,
			struct export_name *ret_name, struct err *err)
{
	char full[EXPORT_NAME_MAX + OPTIONS_MAX + 1];

	if (!preset || (len && name[0] != ';') || len > OPTIONS_MAX || memchr(name, 0, len))
		return export_name_parse(name, len, ret_name, err);
	return export_name_parse(full,
				 (size_t)snprintf(full, sizeof(full), "%.*s%.*s", EXPORT_NAME_MAX,
						  preset, (int)len, name),
				 ret_name, err);
}
