/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The journal of changes: what was appended is there again, what was cut short was never there,
 * damage is told; and whether files are still those that were read.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "netd/conf.h"
#include "netd/journal.h"
#include "netd/stamps.h"
#include "netd/state.h"

static char dir[] = "/tmp/netd-journal-XXXXXX", path[64];
static char A[STATE_HASH_LEN + 1], B[STATE_HASH_LEN + 1];

static int setup(void **p)
{
	(void)p;
	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/changes.journal", dir);
	state_hash("a", 1, A);
	state_hash("b", 1, B);
	return 0;
}

static int teardown(void **p)
{
	char cmd[128];

	(void)p;
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	return system(cmd);
}

static struct journal *reopen(struct journal *j, const char *base, size_t *ret_foreign)
{
	struct journal *fresh = NULL;
	struct err err = { 0 };
	size_t foreign = 0;

	journal_close(j);
	if (journal_open(dir, base, &fresh, &foreign, &err) < 0)
		fail_msg("%s", err.text);
	if (ret_foreign)
		*ret_foreign = foreign;
	else
		assert_int_equal(foreign, 0);
	return fresh;
}

static void append(struct journal *j, const char *base, const char *text)
{
	struct err err = { 0 };

	if (journal_append(j, base, text, &err) < 0)
		fail_msg("%s", err.text);
}

static void patch(size_t at, const void *bytes, size_t len)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	assert_int_equal(pwrite(fd, bytes, len, (off_t)at), len);
	close(fd);
}

static size_t content(char *buf)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t used = JOURNAL_BYTES;

	assert_int_equal(read(fd, buf, JOURNAL_BYTES), JOURNAL_BYTES);
	close(fd);
	while (used && !buf[used - 1])
		used--;
	return used;
}

static void lines_are_there_again(void **p)
{
	struct journal *j = reopen(NULL, A, NULL);
	struct err err = { 0 };
	char text[32];

	(void)p;
	assert_int_equal(journal_count(j), 0);
	for (unsigned i = 0; i < 200; i++) {
		snprintf(text, sizeof(text), "{\"line\": %u}", i);
		append(j, A, text);
		if (i % 50 == 0)
			j = reopen(j, A, NULL);
	}
	j = reopen(j, A, NULL);
	assert_int_equal(journal_count(j), 200);
	assert_string_equal(journal_line(j, 199), "{\"line\": 199}");
	assert_null(journal_line(j, 200));
	assert_int_equal(journal_reset(j, &err), 0);
	assert_int_equal(journal_count(j), 0);
	append(j, B, "after");
	j = reopen(j, B, NULL);
	assert_string_equal(journal_line(j, 0), "after");
	journal_close(j);
}

static void another_base_is_left_out(void **p)
{
	struct journal *j = reopen(NULL, A, NULL);
	size_t foreign;

	(void)p;
	append(j, A, "one");
	append(j, A, "two");
	j = reopen(j, B, &foreign);
	assert_int_equal(foreign, 2);
	assert_int_equal(journal_count(j), 0);
	j = reopen(j, A, NULL); /* and gone */
	assert_int_equal(journal_count(j), 0);
	journal_close(j);
}

/* Each prefix of the last line that a loss of power may leave, with zeros or garbage behind. */
static void cut_line_was_never_there(void **p)
{
	char *before = malloc(JOURNAL_BYTES), *after = malloc(JOURNAL_BYTES);
	struct journal *j = reopen(NULL, A, NULL);
	size_t start, end;

	(void)p;
	append(j, A, "first");
	start = content(before);
	append(j, A, "second");
	end = content(after);
	for (size_t cut = start; cut < end; cut++)
		for (int garbage = 0; garbage < 2; garbage++) {
			patch(0, before, JOURNAL_BYTES);
			patch(start, after + start, cut - start);
			if (garbage) /* the front sector is the one that did not make it */
				patch(cut + 1, after + cut + 1, end - cut - 1);
			j = reopen(j, A, NULL);
			assert_int_equal(journal_count(j), 1);
			append(j, A, "x");
			j = reopen(j, A, NULL);
			assert_int_equal(journal_count(j), 2);
			assert_string_equal(journal_line(j, 1), "x");
		}
	journal_close(j);
	free(before);
	free(after);
}

static void damage_is_told(void **p)
{
	struct journal *j = reopen(NULL, A, NULL);
	struct err err = { 0 };
	size_t foreign, used;
	char *text = malloc(JOURNAL_BYTES);

	(void)p;
	append(j, A, "first");
	used = content(text);
	append(j, A, "second");
	journal_close(j);
	for (size_t at = 0; at < used; at++) {
		char other = (char)(text[at] ^ 1);

		patch(at, &other, 1);
		assert_int_equal(journal_open(dir, A, &j, &foreign, &err), -EUCLEAN);
		assert_non_null(strstr(err.text, path));
		patch(at, &text[at], 1);
	}
	j = reopen(NULL, A, NULL);
	assert_int_equal(journal_count(j), 2);
	journal_close(j);
	assert_int_equal(truncate(path, 100), 0);
	assert_int_equal(journal_open(dir, A, &j, &foreign, &err), -EUCLEAN);
	free(text);
}

static void full_is_refused(void **p)
{
	struct journal *j = reopen(NULL, A, NULL);
	struct err err = { 0 };
	char text[1000];
	size_t count = 0;

	(void)p;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	for (; journal_fits(j, strlen(text)); count++)
		append(j, A, text);
	assert_in_range(count, 200, JOURNAL_BYTES / 1000);
	assert_int_equal(journal_append(j, A, text, &err), -ENOSPC);
	j = reopen(j, A, NULL);
	assert_int_equal(journal_count(j), count);
	journal_close(j);
}

/* ---- stamps ---- */

static char conf_path[64], own_path[64];

static void write_text(const char *name, const char *text)
{
	FILE *f = fopen(name, "we");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

/* Longer than the kernel's clock of files stands still. */
static void a_moment_passes(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 30000000 }, NULL);
}

static bool taken(struct stamps *s)
{
	struct conf *c = conf_new(&netd_conf_schema);
	uint64_t before = stamps_now_ns();

	netd_conf_read(c, conf_path);
	stamps_take(s, c, conf_path, own_path, before);
	conf_free(c);
	return stamps_same(s);
}

static void stamps_tell_changes(void **p)
{
	struct stamps s = { 0 };
	char cmd[256], more[96];

	(void)p;
	snprintf(conf_path, sizeof(conf_path), "%s/netd.conf", dir);
	snprintf(own_path, sizeof(own_path), "%s/vnetctl.conf", dir);
	snprintf(more, sizeof(more), "%s.d/a.conf", conf_path);
	snprintf(cmd, sizeof(cmd), "mkdir %s.d %s/inc", conf_path, dir);
	assert_int_equal(system(cmd), 0);
	write_text(conf_path, "include \"inc/*.conf\"\n");
	assert_false(taken(&s)); /* written too short a time ago to be sure */
	a_moment_passes();
	assert_true(taken(&s));
	write_text(conf_path, "include \"inc/*.conf\"\n");
	assert_false(stamps_same(&s));
	a_moment_passes();
	assert_true(taken(&s));
	write_text(more, "vlan 10 {\n}\n");
	assert_false(stamps_same(&s)); /* a new drop-in */
	a_moment_passes();
	assert_true(taken(&s));
	write_text(own_path, "vlan 11 {\n}\n");
	assert_false(stamps_same(&s));
	assert_true(taken(&s)); /* our own file may be young */
	snprintf(cmd, sizeof(cmd), "touch %s/inc/x.conf", dir);
	assert_int_equal(system(cmd), 0);
	assert_false(stamps_same(&s)); /* an include that was not there */
	a_moment_passes();
	assert_true(taken(&s));
	unlink(more);
	assert_false(stamps_same(&s));
	write_text(conf_path, "include \"*/x.conf\"\n");
	a_moment_passes();
	assert_false(taken(&s)); /* which folders it looked into is not known */
	stamps_clear(&s);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(lines_are_there_again), T(another_base_is_left_out), T(cut_line_was_never_there),
		T(damage_is_told),	  T(full_is_refused),	       T(stamps_tell_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
