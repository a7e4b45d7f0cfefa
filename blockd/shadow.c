// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The shadow file:
 *
 *	0 ......................... THIN_SHADOW_BYTES ........ + 4096 ..... + STAGE_BYTES
 *	| log pages                   | boot id, NULs          | stage       |
 *
 * The file is named after the device and inode of the pool: a pool renamed in the config or
 * reached by another path finds its own, a copy of a pool does not find the original's.
 *
 * Trust: the engine checks that what it finds belongs to this pool and this opening.  What it
 * cannot see is whether the memory went through a power cut.  On tmpfs it cannot have; where the
 * runtime directory lies on a disk, pages may have reached it in any mixture, so that the area
 * counts only if the boot id beside it is today's.  A new area is zeroed first and gets its boot
 * id last.
 *
 * The stage is used on tmpfs only: elsewhere the kernel would write it to the disk as well.
 *
 * Space is allocated at once: a full tmpfs is an error here and not a SIGBUS later.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "blockd/shadow.h"
#include "common/base/cleanup.h"
#include "thin/thin.h"

#define BOOT_ID_LEN  36u /* "bd7b8c2a-...", without newline */
#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id"
#define STAGE_BYTES  (16u << 20)
#define MAP_BYTES    (THIN_SHADOW_BYTES + 4096u + STAGE_BYTES)

struct shadow {
	bool on_tmpfs;
	char path[PATH_MAX];
	char *map;
};

static int read_boot_id(char *ret_id, struct err *err)
{
	CLEANUP_CLOSE int fd = open(BOOT_ID_PATH, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, ret_id, BOOT_ID_LEN);

	if (n < 0)
		return err_sys(err, -errno, BOOT_ID_PATH);
	return n == BOOT_ID_LEN ? 0 : err_set(err, -EIO, BOOT_ID_PATH " is too short");
}

static int shadow_name(struct shadow *shadow, const char *runtime, const char *pool_path,
		       struct err *err)
{
	struct stat st;
	int n;

	if (stat(pool_path, &st) < 0)
		return err_sys(err, -errno, "'%s'", pool_path);
	if (S_ISBLK(st.st_mode))
		n = snprintf(shadow->path, sizeof(shadow->path), "%s/pool-dev-%u-%u.shadow",
			     runtime, major(st.st_rdev), minor(st.st_rdev));
	else
		n = snprintf(shadow->path, sizeof(shadow->path), "%s/pool-%llx-%llu.shadow",
			     runtime, (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	if (n >= (int)sizeof(shadow->path))
		return err_set(err, -ENAMETOOLONG, "'%s': path too long", runtime);
	return 0;
}

static int shadow_map(struct shadow *shadow, struct err *err)
{
	CLEANUP_CLOSE int fd =
		open(shadow->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	struct statfs fs;
	struct stat st;
	void *map;
	int rc;

	if (fd < 0)
		return err_sys(err, -errno, "'%s'", shadow->path);
	if (fstat(fd, &st) < 0)
		return err_sys(err, -errno, "'%s'", shadow->path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, -EINVAL, "'%s' is not a file", shadow->path);
	rc = posix_fallocate(fd, 0, MAP_BYTES);
	if (rc)
		return err_sys(err, -rc, "'%s'", shadow->path);
	map = mmap(NULL, MAP_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (map == MAP_FAILED)
		return err_sys(err, -errno, "'%s'", shadow->path);
	shadow->map = map;
	shadow->on_tmpfs = fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
	return 0;
}

int shadow_open(const char *runtime, const char *pool_path, struct shadow **ret_shadow,
		struct err *err)
{
	struct shadow *shadow = calloc(1, sizeof(*shadow));
	char boot_id[BOOT_ID_LEN];
	int rc;

	if (!shadow)
		return err_set(err, -ENOMEM, "out of memory");
	rc = read_boot_id(boot_id, err);
	if (rc == 0 && mkdir(runtime, 0755) < 0 && errno != EEXIST)
		rc = err_sys(err, -errno, "'%s'", runtime);
	if (rc == 0)
		rc = shadow_name(shadow, runtime, pool_path, err);
	if (rc == 0)
		rc = shadow_map(shadow, err);
	if (rc < 0) {
		free(shadow);
		return rc;
	}
	if (memcmp(shadow->map + THIN_SHADOW_BYTES, boot_id, BOOT_ID_LEN) != 0) {
		memset(shadow->map, 0, MAP_BYTES);
		memcpy(shadow->map + THIN_SHADOW_BYTES, boot_id, BOOT_ID_LEN);
	}
	*ret_shadow = shadow;
	return 0;
}

void *shadow_area(const struct shadow *shadow)
{
	return shadow->map;
}

void *shadow_stage(const struct shadow *shadow, uint64_t *ret_bytes)
{
	*ret_bytes = shadow->on_tmpfs ? STAGE_BYTES : 0;
	return shadow->on_tmpfs ? shadow->map + THIN_SHADOW_BYTES + 4096u : NULL;
}

void shadow_close(struct shadow *shadow, bool remove)
{
	if (!shadow)
		return;
	munmap(shadow->map, MAP_BYTES);
	if (remove)
		(void)unlink(shadow->path);
	free(shadow);
}
