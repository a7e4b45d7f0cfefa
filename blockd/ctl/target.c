// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Finding what a verb is about.
 *
 * "db1" is looked for in every pool and must be in one only; "main/db1" names its pool.  A name
 * that is not there is answered with the nearest that is.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/ctl/target.h"
#include "common/base/cleanup.h"
#include "common/base/nearest.h"

#define URI_TEXT_MAX 1024

int target_find_pool(const struct blockd *daemon, const char *name, struct blockd_pool **ret_pool,
		     struct err *err)
{
	struct nearest near;

	if (!name && daemon->pool_count > 1)
		return err_set(err, -EINVAL, "there are %zu pools, which one? (--pool POOL)",
			       daemon->pool_count);
	*ret_pool = name ? pools_find(daemon, name) : daemon->pools[0];
	if (*ret_pool)
		return 0;
	nearest_start(&near, name);
	for (size_t i = 0; i < daemon->pool_count; i++)
		nearest_feed(&near, daemon->pools[i]->conf->name);
	if (near.best)
		return err_set(err, -ENOENT, "no pool '%s'; did you mean '%s'?", name, near.best);
	return err_set(err, -ENOENT, "no pool '%s'", name);
}

/* "POOL/NAME" or "NAME" into its halves; `ret_pool` is "" without one. */
static int split(const char *volume, char *ret_pool, char *ret_name, struct err *err)
{
	const char *slash = strchr(volume, '/');
	size_t pool_len = slash ? (size_t)(slash - volume) : 0;
	const char *name = slash ? slash + 1 : volume;

	if (thin_name_check(name, NULL) < 0 || pool_len > THIN_NAME_MAX || (slash && !pool_len))
		return err_set(
			err, -EINVAL,
			"'%.140s' is no volume's name: expected 1 to %u letters, digits, '.', "
			"'_' or '-', not beginning with '.' or '-'",
			volume, THIN_NAME_MAX);
	memcpy(ret_pool, volume, pool_len);
	ret_pool[pool_len] = '\0';
	snprintf(ret_name, THIN_NAME_MAX + 1, "%s", name);
	return 0;
}

/* "[POOL/]NAME@SNAPSHOT" into the pool and "NAME@SNAPSHOT". */
static int split_path(const char *path, char *ret_pool, char ret_path[THIN_PATH_MAX + 1],
		      struct err *err)
{
	const char *at = strchr(path, '@');
	char volume[2 * THIN_NAME_MAX + 2], name[THIN_NAME_MAX + 1];
	int rc;

	if (!at) {
		rc = split(path, ret_pool, name, err);
		snprintf(ret_path, THIN_PATH_MAX + 1, "%s", name);
		return rc;
	}
	if ((size_t)(at - path) >= sizeof(volume) || thin_name_check(at + 1, NULL) < 0)
		return err_set(err, -EINVAL, "'%.280s' is no snapshot's name: expected VOL@SNAP",
			       path);
	memcpy(volume, path, (size_t)(at - path));
	volume[at - path] = '\0';
	rc = split(volume, ret_pool, name, err);
	if (rc == 0)
		snprintf(ret_path, THIN_PATH_MAX + 1, "%s@%s", name, at + 1);
	return rc;
}

int target_resolve(const struct blockd *daemon, const char *volume, const char *pool,
		   struct target *ret_target, struct err *err)
{
	struct target target = { 0 };
	char in_name[THIN_NAME_MAX + 1];
	int rc = split(volume, in_name, target.name, err);

	if (rc < 0)
		return rc;
	if (in_name[0] && pool && strcmp(in_name, pool) != 0)
		return err_set(err, -EINVAL, "'%s' names pool '%s', --pool names '%s'", volume,
			       in_name, pool);
	rc = target_find_pool(daemon, in_name[0] ? in_name : pool, &target.pool, err);
	if (rc < 0)
		return rc;
	rc = pools_find_volume(target.pool, target.name, &target.stat);
	if (rc < 0 && rc != -ENOENT)
		return err_sys(err, rc, "%s", target.pool->subject);
	target.exists = rc == 0;
	*ret_target = target;
	return 0;
}

static int volume_unknown(const struct blockd *daemon, const char *volume, const char *name,
			  struct err *err)
{
	char best[THIN_NAME_MAX + 1] = "";
	size_t best_distance = SIZE_MAX;

	for (size_t i = 0; i < daemon->pool_count; i++) {
		CLEANUP_FREE struct reactor_vol_info *list = NULL;
		struct nearest near;
		size_t count;

		if (reactor_list_vols(daemon->pools[i]->reactor, NULL, 0, &list, &count) < 0)
			continue;
		nearest_start(&near, name);
		for (size_t j = 0; j < count; j++)
			nearest_feed(&near, list[j].stat.name);
		if (near.best && near.best_distance < best_distance) {
			snprintf(best, sizeof(best), "%s", near.best);
			best_distance = near.best_distance;
		}
	}
	if (best[0])
		return err_set(err, -ENOENT, "no volume '%s'; did you mean '%s'?", volume, best);
	return err_set(err, -ENOENT, "no volume '%s'", volume);
}

int target_find_any(const struct blockd *daemon, const char *path, struct target *ret_target,
		    struct err *err)
{
	struct target found = { 0 };
	char pool[THIN_NAME_MAX + 1], name[THIN_PATH_MAX + 1];
	int rc = split_path(path, pool, name, err);

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < daemon->pool_count; i++) {
		struct blockd_pool *p = daemon->pools[i];
		struct thin_vol_stat stat;

		if (pool[0] && strcmp(pool, p->conf->name) != 0)
			continue;
		if (pools_find_volume(p, name, &stat) < 0)
			continue;
		if (found.exists)
			return err_set(err, -EINVAL, "'%s' is in several pools: say %s/%s or %s/%s",
				       path, found.pool->conf->name, name, p->conf->name, name);
		found.exists = true;
		found.pool = p;
		found.stat = stat;
		snprintf(found.name, sizeof(found.name), "%s", name);
	}
	if (found.exists) {
		*ret_target = found;
		return 0;
	}
	if (strchr(name, '@'))
		return err_set(err, -ENOENT, "no snapshot '%s'; vdiskctl tree shows what there is",
			       path);
	return volume_unknown(daemon, path, name, err);
}

int target_find_volume(const struct blockd *daemon, const char *volume, struct target *ret_target,
		       struct err *err)
{
	if (strchr(volume, '@'))
		return err_set(err, -EINVAL, "'%s' is a snapshot, expected a volume", volume);
	return target_find_any(daemon, volume, ret_target, err);
}

int target_find_snapshot(const struct blockd *daemon, const char *path, struct target *ret_target,
			 struct err *err)
{
	if (!strchr(path, '@'))
		return err_set(err, -EINVAL, "'%s' is a volume, expected VOL@SNAP", path);
	return target_find_any(daemon, path, ret_target, err);
}

const struct blockd_conf_volume *target_declared(const struct blockd *daemon,
						 const struct target *target)
{
	return blockd_conf_volume_find(daemon->conf, target->pool->conf->name, target->name);
}

/* ---- URIs ---- */

/* RFC 3986: what is not unreserved is %XX; '/' stays, both parts may hold it. */
static void uri_append(char *out, const char *text)
{
	size_t len = strlen(out);

	for (const unsigned char *p = (const unsigned char *)text; *p && len + 4 < URI_TEXT_MAX;
	     p++) {
		bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
			     (*p >= '0' && *p <= '9') || strchr("-._~/", *p);
		len += (size_t)snprintf(out + len, URI_TEXT_MAX - len, plain ? "%c" : "%%%02X", *p);
	}
}

static void uri_make(char *out, const char *address, const char *export)
{
	bool is_unix = strncmp(address, "unix:", 5) == 0;
	const char *host = strncmp(address, "tcp:", 4) == 0 ? address + 4 : address;

	if (is_unix) {
		snprintf(out, URI_TEXT_MAX, "nbd+unix:///");
		uri_append(out, export);
		strcat(out, "?socket=");
		uri_append(out, address + 5);
	} else {
		/* "*" is every address; loopback is one of them */
		snprintf(out, URI_TEXT_MAX, "nbd://%s%s/", host[0] == '*' ? "127.0.0.1" : "",
			 host[0] == '*' ? host + 1 : host);
		uri_append(out, export);
	}
}

static void uris_of_listener(json_t *uris, const struct blockd *daemon,
			     const struct blockd_conf_listen *listen, bool want_unix,
			     const char *export)
{
	const char *address;
	char uri[URI_TEXT_MAX];

	for (size_t i = 0; (address = listeners_address(daemon, listen, i)); i++) {
		if ((strncmp(address, "unix:", 5) == 0) != want_unix)
			continue;
		uri_make(uri, address, export);
		(void)json_array_append_new(uris, json_string(uri));
	}
}

json_t *target_uris(const struct blockd *daemon, const struct target *target)
{
	json_t *uris = json_array();
	char export[THIN_NAME_MAX + THIN_PATH_MAX + 2];
	struct target other;
	bool unique = target_find_volume(daemon, target->name, &other, NULL) == 0;

	snprintf(export, sizeof(export), "%s%s%s", unique ? "" : target->pool->conf->name,
		 unique ? "" : "/", target->name);
	for (int round = 0; uris && round < 2; round++) {
		for (size_t i = 0; i < daemon->listener_count; i++)
			uris_of_listener(uris, daemon, daemon->listeners[i].conf, round == 0,
					 export);
	}
	return uris;
}
