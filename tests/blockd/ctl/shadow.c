// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The shadow area keeps its content from one process to the next, gives up what was written before
 * a reboot, belongs to one pool whatever it is called, and goes when it is told to.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blockd/shadow.h"
#include "thin/thin.h"

static char folder[] = "/tmp/shadow-test-XXXXXX";
static char run_dir[64], pool_a[64], pool_b[64];

static void touch(const char *path)
{
	int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);

	assert_true(fd >= 0);
	close(fd);
}

static int make_folder(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	snprintf(run_dir, sizeof(run_dir), "%s/run", folder);
	snprintf(pool_a, sizeof(pool_a), "%s/a", folder);
	snprintf(pool_b, sizeof(pool_b), "%s/b", folder);
	touch(pool_a);
	touch(pool_b);
	return 0;
}

static int remove_folder(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	return system(command);
}

static struct shadow *must_open(const char *pool)
{
	struct shadow *shadow;
	struct err err = { 0 };

	if (shadow_open(run_dir, pool, &shadow, &err) < 0)
		fail_msg("%s", err.text);
	return shadow;
}

/* The one shadow file there is. */
static int shadow_file(char *ret_path, size_t size)
{
	char pattern[96];
	glob_t found;
	int count = 0;

	snprintf(pattern, sizeof(pattern), "%s/*.shadow", run_dir);
	if (glob(pattern, 0, NULL, &found) == 0) {
		count = (int)found.gl_pathc;
		snprintf(ret_path, size, "%s", found.gl_pathv[0]);
	}
	globfree(&found);
	return count;
}

static void survives_the_process(void **state)
{
	struct shadow *shadow = must_open(pool_a);
	char *area = shadow_area(shadow), path[256];

	(void)state;
	assert_int_equal((uintptr_t)area % 4096, 0);
	for (size_t i = 0; i < THIN_SHADOW_BYTES; i += 512)
		assert_int_equal(area[i], 0);
	area[0] = 'x';
	area[THIN_SHADOW_BYTES - 1] = 'y';
	shadow_close(shadow, false);
	shadow = must_open(pool_a);
	area = shadow_area(shadow);
	assert_int_equal(area[0], 'x');
	assert_int_equal(area[THIN_SHADOW_BYTES - 1], 'y');
	shadow_close(shadow, true);
	assert_int_equal(shadow_file(path, sizeof(path)), 0);
	shadow = must_open(pool_a);
	assert_int_equal(((char *)shadow_area(shadow))[0], 0);
	shadow_close(shadow, true);
}

static void another_boot_is_not_trusted(void **state)
{
	struct shadow *shadow = must_open(pool_a);
	char path[256];
	int fd;

	(void)state;
	memset(shadow_area(shadow), 'x', THIN_SHADOW_BYTES);
	shadow_close(shadow, false);
	assert_int_equal(shadow_file(path, sizeof(path)), 1);
	fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "0", 1, THIN_SHADOW_BYTES + 3), 1);
	assert_int_equal(pwrite(fd, "0", 1, THIN_SHADOW_BYTES + 4), 1);
	close(fd);
	shadow = must_open(pool_a);
	for (size_t i = 0; i < THIN_SHADOW_BYTES; i++)
		if (((char *)shadow_area(shadow))[i])
			fail_msg("byte %zu of another boot survived", i);
	shadow_close(shadow, true);
}

static void belongs_to_one_pool(void **state)
{
	struct shadow *shadow = must_open(pool_a);
	char renamed[80];

	(void)state;
	memset(shadow_area(shadow), 'x', 100);
	shadow_close(shadow, false);
	shadow = must_open(pool_b);
	assert_int_equal(((char *)shadow_area(shadow))[0], 0);
	shadow_close(shadow, true);
	snprintf(renamed, sizeof(renamed), "%s/renamed", folder);
	assert_int_equal(rename(pool_a, renamed), 0);
	shadow = must_open(renamed);
	assert_int_equal(((char *)shadow_area(shadow))[0], 'x');
	shadow_close(shadow, true);
	assert_int_equal(rename(renamed, pool_a), 0);
}

static void refuses_what_is_no_file(void **state)
{
	struct shadow *shadow = must_open(pool_a);
	struct err err = { 0 };
	char path[256];

	(void)state;
	shadow_close(shadow, false);
	assert_int_equal(shadow_file(path, sizeof(path)), 1);
	unlink(path);
	assert_int_equal(symlink(pool_b, path), 0);
	assert_int_equal(shadow_open(run_dir, pool_a, &shadow, &err), -ELOOP);
	assert_non_null(strstr(err.text, path));
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_true(shadow_open(run_dir, pool_a, &shadow, NULL) < 0);
	unlink(path);
	assert_int_equal(shadow_open(run_dir, "/nosuch", &shadow, NULL), -ENOENT);
	assert_int_equal(shadow_open("/nosuch/run", pool_a, &shadow, NULL), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(survives_the_process),
		cmocka_unit_test(another_boot_is_not_trusted),
		cmocka_unit_test(belongs_to_one_pool),
		cmocka_unit_test(refuses_what_is_no_file),
	};

	return cmocka_run_group_tests_name("shadow", tests, make_folder, remove_folder);
}
