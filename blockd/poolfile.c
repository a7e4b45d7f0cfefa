// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The file or block device under a pool.
 *
 * Making one: a regular file is written as PATH.new and renamed when the pool in it is complete;
 * a crash before leaves PATH.new, which the next attempt removes.  A device is written in place.
 * Whatever holds something is refused unless forced (signature.h), and what another process has
 * open is refused in any case: the device port's lock says so.
 *
 * Opening: device (which takes the lock), then the shadow, then the pool, so that no two processes
 * ever map one shadow.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blockd/poolfile.h"
#include "blockd/signature.h"
#include "common/base/cleanup.h"
#include "common/daemon/loop.h"
#include "thin/dev_file.h"

/* ---- making ---- */

static int format(const char *path, const struct dev_file_open *how,
		  const struct poolfile_create *params, struct err *err)
{
	struct thin_create create = { .size_bytes = params->size_bytes,
				      .journal_bytes = params->journal_bytes };
	struct thin_dev *dev;
	int rc = dev_file_open(path, how, &dev, err);

	if (rc < 0)
		return rc;
	rc = thin_pool_create(dev, &create, err);
	if (rc < 0)
		(void)err_context(err, "%s", path);
	dev->ops->close(dev);
	return rc;
}

static int sync_parent(const char *path, struct err *err)
{
	CLEANUP_FREE char *copy = strdup(path);
	CLEANUP_CLOSE int fd = -1;

	if (!copy)
		return err_set(err, -ENOMEM, "out of memory");
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		return err_sys(err, -errno, "%s: sync of its directory", path);
	return 0;
}

static int create_file(const char *path, const struct poolfile_create *params, struct err *err)
{
	struct dev_file_open how = { .create = true, .size_bytes = params->size_bytes };
	struct dev_file_open keep = { 0 };
	struct thin_dev *old = NULL;
	char temp[PATH_MAX];
	struct stat st;
	int rc;

	if (params->size_bytes == 0)
		return err_set(err, -EINVAL, "%s: a new pool file needs a size", path);
	if (snprintf(temp, sizeof(temp), "%s.new", path) >= (int)sizeof(temp))
		return err_set(err, -ENAMETOOLONG, "%s: path too long", path);
	/* what is replaced (forced) must not be in use, and stays locked until it is replaced */
	if (stat(path, &st) == 0 && st.st_size > 0) {
		rc = dev_file_open(path, &keep, &old, err);
		if (rc < 0)
			return rc;
	}
	if (unlink(temp) < 0 && errno != ENOENT) {
		rc = err_sys(err, -errno, "%s", temp);
		goto out;
	}
	rc = format(temp, &how, params, err);
	if (rc == 0 && rename(temp, path) < 0)
		rc = err_sys(err, -errno, "%s: rename", temp);
	if (rc < 0)
		(void)unlink(temp);
	else
		rc = sync_parent(path, err);
out:
	if (old)
		old->ops->close(old);
	return rc;
}

int poolfile_create(const char *path, const struct poolfile_create *params, struct err *err)
{
	/* a symbolic link stays one: what it leads to is replaced */
	CLEANUP_FREE char *real = realpath(path, NULL);
	struct dev_file_open in_place = { 0 };
	struct stat st;
	bool is_device = false;
	int rc;

	if (real) {
		path = real;
		if (stat(path, &st) < 0)
			return err_sys(err, -errno, "'%s'", path);
		is_device = S_ISBLK(st.st_mode);
		if (!is_device && !S_ISREG(st.st_mode))
			return err_set(err, -EINVAL, "'%s' is neither a file nor a block device",
				       path);
	}
	if (!params->force) {
		rc = signature_check(path, err);
		if (rc < 0)
			return rc;
	}
	return is_device ? format(path, &in_place, params, err) : create_file(path, params, err);
}

/* ---- opening ---- */

int poolfile_open(const struct poolfile_open *params, struct poolfile *ret_file, struct err *err)
{
	struct dev_file_open how = { .read_only = params->salvage };
	struct thin_open open = {
		.node_cache_bytes = params->cache_bytes,
		.data_cache_bytes = params->data_cache_bytes,
		.buffer_bytes = params->buffer_bytes,
		.ahead_bytes = params->ahead_bytes,
		.salvage = params->salvage,
		.event = params->event,
		.event_user = params->event_user,
		.now_ms = loop_now_ms(),
	};
	struct poolfile file = { 0 };
	int rc = dev_file_open(params->path, &how, &file.dev, err);

	if (rc < 0)
		return rc;
	rc = shadow_open(params->runtime, params->path, &file.shadow, err);
	if (rc < 0) {
		(void)err_context(err, "shadow");
		goto fail_dev;
	}
	open.shadow = shadow_area(file.shadow);
	open.stage = shadow_stage(file.shadow, &open.stage_bytes);
	rc = thin_pool_open(file.dev, &open, &file.pool, err);
	if (rc < 0) {
		(void)err_context(err, "%s", params->path);
		goto fail_shadow;
	}
	*ret_file = file;
	return 0;
fail_shadow:
	shadow_close(file.shadow, false);
fail_dev:
	file.dev->ops->close(file.dev);
	return rc;
}

int poolfile_close(struct poolfile *file)
{
	struct thin_pool_stat stat;
	int rc;

	thin_pool_stat(file->pool, &stat);
	rc = thin_pool_close(file->pool);
	file->dev->ops->close(file->dev);
	/* what a pool that is or became read-only has there is not on the disk */
	shadow_close(file->shadow, rc == 0 && !stat.read_only);
	*file = (struct poolfile){ 0 };
	return rc;
}
