// SPDX-License-Identifier: GPL-2.0-or-later
/* Sizes that suit the host; see defaults.h.  Stateless. */
#include "blockd/defaults.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "thin/thin.h"

#define MIB	       (1ull << 20)
#define CACHE_MIN      (16 * MIB)
#define BUFFERS_MIN    (34 * MIB)
#define BUFFERS_MAX    (128 * MIB)
#define DATA_CACHE_MIN (16 * MIB) /* less is not worth having */
#define JOURNAL_MAX    (256 * MIB)

static uint64_t within(uint64_t value, uint64_t least, uint64_t most)
{
	value = value < most ? value : most;
	value = value > least ? value : least;
	return value / MIB * MIB;
}

void defaults_derive(uint64_t memory_bytes, size_t pool_count, uint64_t pool_bytes,
		     struct defaults *ret_defaults)
{
	uint64_t share = memory_bytes / 4 / pool_count, taken;
	struct defaults d;

	d.cache_bytes = within(pool_bytes / 64, CACHE_MIN, share / 4);
	d.buffer_bytes = within(share / 16, BUFFERS_MIN, BUFFERS_MAX);
	taken = d.cache_bytes + d.buffer_bytes + d.buffer_bytes / 2;
	d.data_cache_bytes = within(share > taken ? share - taken : 0, 0, share / 2);
	if (d.data_cache_bytes > pool_bytes)
		d.data_cache_bytes = within(pool_bytes, 0, pool_bytes);
	if (d.data_cache_bytes < DATA_CACHE_MIN)
		d.data_cache_bytes = 0;
	d.journal_bytes = within(pool_bytes / 64, THIN_JOURNAL_MIN, JOURNAL_MAX);
	if (d.journal_bytes > pool_bytes / 2)
		d.journal_bytes = THIN_JOURNAL_MIN;
	*ret_defaults = d;
}

/* ---- the host ---- */

/* The number that a file begins with; `none` when there is no such file or no number ("max"). */
static uint64_t read_number(const char *path, uint64_t none)
{
	FILE *f = fopen(path, "re");
	uint64_t number = none;

	if (!f)
		return none;
	if (fscanf(f, "%" SCNu64, &number) != 1)
		number = none;
	fclose(f);
	return number;
}

static uint64_t host_memory(const char *root)
{
	char path[PATH_MAX], line[256];
	uint64_t kib, bytes = UINT64_MAX;
	FILE *f;

	snprintf(path, sizeof(path), "%s/proc/meminfo", root);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemTotal: %" SCNu64 " kB", &kib) == 1)
			bytes = kib * 1024;
	if (f)
		fclose(f);
	return bytes;
}

/* The least limit of one group and all above it; `group` is cut on the way. */
static uint64_t group_memory(const char *mount, char *group, const char *const *files)
{
	uint64_t least = UINT64_MAX;

	for (;;) {
		char *slash = strrchr(group, '/');

		for (size_t i = 0; files[i]; i++) {
			char path[PATH_MAX];
			uint64_t limit;

			if ((size_t)snprintf(path, sizeof(path), "%s%s/%s", mount, group,
					     files[i]) >= sizeof(path))
				continue;
			limit = read_number(path, UINT64_MAX);
			if (limit < least)
				least = limit;
		}
		if (!slash)
			return least;
		*slash = '\0';
	}
}

/* A line of /proc/self/cgroup: "0::/system.slice/blockd.service", "6:memory:/x". */
static uint64_t line_memory(const char *root, char *line)
{
	static const char *const v2[] = { "memory.max", "memory.high", NULL };
	static const char *const v1[] = { "memory.limit_in_bytes", NULL };
	char *controllers = strchr(line, ':'), *group;
	char mount[PATH_MAX];

	line[strcspn(line, "\n")] = '\0';
	group = controllers ? strchr(controllers + 1, ':') : NULL;
	if (!group)
		return UINT64_MAX;
	*group++ = '\0';
	if (controllers[1] && strcmp(controllers + 1, "memory") != 0)
		return UINT64_MAX;
	snprintf(mount, sizeof(mount), "%s/sys/fs/cgroup%s", root, controllers[1] ? "/memory" : "");
	return group_memory(mount, group, controllers[1] ? v1 : v2);
}

uint64_t defaults_memory(const char *root)
{
	uint64_t least = host_memory(root);
	char path[PATH_MAX], line[PATH_MAX];
	FILE *f;

	snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		uint64_t limit = line_memory(root, line);

		if (limit < least)
			least = limit;
	}
	if (f)
		fclose(f);
	if (least == UINT64_MAX) /* no /proc: as on a small host */
		least = 1024 * MIB;
	return least > DEFAULTS_MEMORY_MIN ? least / MIB * MIB : DEFAULTS_MEMORY_MIN;
}

uint64_t defaults_file_bytes(const char *path)
{
	char size[128];
	struct stat st;

	if (stat(path, &st) < 0)
		return 0;
	if (!S_ISBLK(st.st_mode))
		return S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
	snprintf(size, sizeof(size), "/sys/dev/block/%u:%u/size", major(st.st_rdev),
		 minor(st.st_rdev));
	return read_number(size, 0) * 512;
}
