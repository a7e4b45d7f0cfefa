/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Export names; see export_name.h.  Pure functions over foreign bytes, any thread. */
#include "blockd/nbd/export_name.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "blockd/access/lock.h"

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

static bool is_word(const char *at, size_t len, const char *word)
{
	return len == strlen(word) && !memcmp(at, word, len);
}

static int holder_option(const char *id, size_t len, struct export_name *name, struct err *err)
{
	if (!lock_holder_valid(id, len) || len > EXPORT_HOLDER_MAX)
		return err_set(
			err, -ENOENT,
			"no such export: \"holder=\" takes 1 to %u letters, digits, '.', '_', "
			"'-' or ':'",
			EXPORT_HOLDER_MAX);
	memcpy(name->holder, id, len);
	name->holder[len] = '\0';
	return 0;
}

static int name_options(const char *at, const char *end, struct export_name *name, struct err *err)
{
	while (at < end) {
		const char *stop = memchr(at, ';', (size_t)(end - at));
		size_t len = (size_t)((stop ? stop : end) - at);
		int rc = 0;

		if (is_word(at, len, "ro"))
			name->read_only = true;
		else if (is_word(at, len, "standby"))
			name->standby = true;
		else if (is_word(at, len, "single"))
			name->single = true;
		else if (len >= 7 && !memcmp(at, "holder=", 7))
			rc = holder_option(at + 7, len - 7, name, err);
		else
			rc = err_set(err, -ENOENT,
				     "no such export: unknown option behind ';' (known: ro, "
				     "holder=ID, standby, single)");
		if (rc)
			return rc;
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
