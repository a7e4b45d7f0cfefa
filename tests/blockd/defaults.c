/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sizes derived from the host: within their bounds and their sum; a cgroup's limit counts. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "blockd/defaults.h"
#include "thin/thin.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

static uint64_t sum(const struct defaults *d)
{
	return d->cache_bytes + d->data_cache_bytes + d->buffer_bytes + d->buffer_bytes / 2;
}

static void check_bounds(uint64_t memory, size_t count, uint64_t pool)
{
	uint64_t share = memory / 4 / count, least = 67 * MIB;
	struct defaults d;

	defaults_derive(memory, count, pool, &d);
	assert_true(sum(&d) <= (share > least ? share : least));
	assert_true(d.cache_bytes >= THIN_NODE_CACHE_MIN);
	assert_true(d.buffer_bytes >= 34 * MIB && d.buffer_bytes <= 128 * MIB);
	assert_true(d.data_cache_bytes <= pool);
	assert_true(d.journal_bytes >= THIN_JOURNAL_MIN && d.journal_bytes <= 256 * MIB);
	if (pool >= THIN_POOL_MIN)
		assert_true(d.journal_bytes <= pool / 2);
	assert_int_equal(
		(d.cache_bytes | d.data_cache_bytes | d.buffer_bytes | d.journal_bytes) % MIB, 0);
}

static void test_bounds(void **state)
{
	for (uint64_t memory = DEFAULTS_MEMORY_MIN; memory <= 4096 * GIB; memory += memory / 7)
		for (size_t count = 1; count <= 64; count += 3)
			for (uint64_t pool = 0; pool <= THIN_POOL_MAX;
			     pool = pool ? pool * 3 : THIN_POOL_MIN)
				check_bounds(memory, count, pool);
}

/* The table of blockd.conf(5). */
static void test_table(void **state)
{
	static const struct {
		uint64_t memory, pools, cache, buffers, data_cache, all;
	} rows[] = {
		{ 1, 1, 64, 34, 128, 243 },	  { 4, 1, 256, 64, 512, 864 },
		{ 16, 1, 1024, 128, 2048, 3264 }, { 16, 4, 256, 64, 512, 3456 },
		{ 64, 1, 1024, 128, 8192, 9408 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct defaults d;

		defaults_derive(rows[i].memory * GIB, rows[i].pools, 64 * GIB, &d);
		assert_int_equal(d.cache_bytes / MIB, rows[i].cache);
		assert_int_equal(d.buffer_bytes / MIB, rows[i].buffers);
		assert_int_equal(d.data_cache_bytes / MIB, rows[i].data_cache);
		assert_int_equal(sum(&d) * rows[i].pools / MIB, rows[i].all);
		assert_int_equal(d.journal_bytes / MIB, 256);
	}
}

/* ---- a host of files ---- */

static char root[] = "/tmp/defaults-XXXXXX";

static void put(const char *path, const char *text)
{
	char full[512];
	FILE *f;

	snprintf(full, sizeof(full), "%s%s", root, path);
	for (char *slash = strchr(full + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(full, 0755);
		*slash = '/';
	}
	f = fopen(full, "w");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static void test_memory(void **state)
{
	char command[64];

	assert_non_null(mkdtemp(root));
	assert_int_equal(defaults_memory(root), GIB); /* nothing is known */
	put("/proc/meminfo", "MemTotal:       16777216 kB\nMemFree: 1 kB\n");
	assert_int_equal(defaults_memory(root), 16 * GIB);
	/* version 2: the least of the group and those above it, high as well as max */
	put("/proc/self/cgroup", "0::/system.slice/blockd.service\n");
	put("/sys/fs/cgroup/system.slice/blockd.service/memory.max", "max\n");
	assert_int_equal(defaults_memory(root), 16 * GIB);
	put("/sys/fs/cgroup/system.slice/memory.max", "8589934592\n");
	assert_int_equal(defaults_memory(root), 8 * GIB);
	put("/sys/fs/cgroup/system.slice/blockd.service/memory.high", "4294967296\n");
	assert_int_equal(defaults_memory(root), 4 * GIB);
	put("/sys/fs/cgroup/memory.max", "2147483648\n"); /* a container's root */
	assert_int_equal(defaults_memory(root), 2 * GIB);
	/* version 1, beside other controllers and lines that are none */
	put("/proc/self/cgroup", "7:cpuset:/x\nnonsense\n6:memory:/pod/one\n0::/\n");
	put("/sys/fs/cgroup/memory.max", "max\n");
	put("/sys/fs/cgroup/memory/pod/one/memory.limit_in_bytes", "9223372036854771712\n");
	assert_int_equal(defaults_memory(root), 16 * GIB);
	put("/sys/fs/cgroup/memory/pod/memory.limit_in_bytes", "1073741824\n");
	assert_int_equal(defaults_memory(root), GIB);
	put("/sys/fs/cgroup/memory/pod/memory.limit_in_bytes", "4096\n");
	assert_int_equal(defaults_memory(root), DEFAULTS_MEMORY_MIN);
	snprintf(command, sizeof(command), "rm -r %s", root);
	assert_int_equal(system(command), 0);
}

static void test_file(void **state)
{
	char path[] = "/tmp/defaults-file-XXXXXX";
	int fd = mkstemp(path);

	assert_int_equal(ftruncate(fd, 5 << 20), 0);
	assert_int_equal(defaults_file_bytes(path), 5 << 20);
	assert_int_equal(defaults_file_bytes("/nosuch"), 0);
	assert_int_equal(defaults_file_bytes("/tmp"), 0);
	close(fd);
	unlink(path);
	assert_true(defaults_memory("") >= DEFAULTS_MEMORY_MIN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
