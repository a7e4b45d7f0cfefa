/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The log: form, levels, hostile text, the rate limit, whole lines from several threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/daemon/log.h"

static int fd = -1;
static uint64_t now_ms = 1000000;

static uint64_t test_clock(void)
{
	return now_ms;
}

static int start(void **state)
{
	fd = memfd_create("log", 0);
	/* A memfd has no lock on its position; a journal, pipe or file opened for append needs
	 * none. */
	fcntl(fd, F_SETFL, O_APPEND);
	log_set_level(LOG_LEVEL_INFO);
	log_set_test(fd, true, test_clock);
	return fd < 0;
}

static int stop(void **state)
{
	close(fd);
	return 0;
}

/* What was logged since the last call. */
static const char *logged(void)
{
	static char text[1 << 20];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	assert_int_equal(ftruncate(fd, 0), 0);
	lseek(fd, 0, SEEK_SET);
	return text;
}

static void test_form(void **state)
{
	errno = 7;
	log_info("vol db1", "made, %d bytes", 5);
	log_warning(NULL, "no subject");
	log_error("x", "y");
	log_debug("x", "not at this level");
	assert_int_equal(errno, 7);
	assert_string_equal(logged(), "<6>vol db1: made, 5 bytes\n<4>no subject\n<3>x: y\n");
	log_set_level(LOG_LEVEL_DEBUG);
	log_debug("x", "now");
	assert_string_equal(logged(), "<7>x: now\n");
	log_set_test(fd, false, NULL);
	log_warning("x", "with time");
	assert_string_equal(logged() + 13, "warning: x: with time\n");
}

static void test_hostile_text(void **state)
{
	char text[3000];

	log_info("peer \x1b[31m", "name \"a\nb\r\x7f%s\"", "%n");
	assert_string_equal(logged(), "<6>peer ?[31m: name \"a?b??%n\"\n");
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	log_info(text, "%s", text);
	assert_int_equal(strlen(logged()), LOG_LINE_MAX);
	log_info(NULL, "%s", text);
	assert_int_equal(strlen(logged()), LOG_LINE_MAX);
}

static unsigned count_lines(const char *text)
{
	unsigned n = 0;

	for (; *text; text++)
		n += *text == '\n';
	return n;
}

static void test_rate_limit(void **state)
{
	uint64_t before = log_suppressed_count();

	for (int i = 0; i < 100; i++)
		log_limited(LOG_LEVEL_WARNING, "peer1", "peer 1", "bad message %d", i);
	assert_int_equal(count_lines(logged()), LOG_BURST);
	log_limited(LOG_LEVEL_WARNING, "peer2", "peer 2", "another key has its own");
	assert_int_equal(count_lines(logged()), 1);
	now_ms += LOG_WINDOW_MS - 1;
	log_limited(LOG_LEVEL_WARNING, "peer1", "peer 1", "still quiet");
	assert_string_equal(logged(), "");
	now_ms += 1;
	log_limited(LOG_LEVEL_WARNING, "peer1", "peer 1", "again");
	assert_string_equal(logged(), "<4>peer 1: 96 more lines like the next were left out\n"
				      "<4>peer 1: again\n");
	assert_int_equal(log_suppressed_count() - before, 96);
	/* More keys than places: each still gets its line. */
	for (int i = 0; i < 3 * LOG_KEY_COUNT; i++) {
		char key[16];

		snprintf(key, sizeof(key), "k%d", i);
		now_ms++;
		log_limited(LOG_LEVEL_WARNING, key, NULL, "x");
	}
	assert_int_equal(count_lines(logged()), 3 * LOG_KEY_COUNT);
}

static void *log_many(void *arg)
{
	for (int i = 0; i < 500; i++) {
		log_info("thread", "a line of a certain length %s", (char *)arg);
		log_limited(LOG_LEVEL_INFO, "thread", "thread", "limited %s", (char *)arg);
	}
	return NULL;
}

static void test_threads(void **state)
{
	static char names[4][2] = { "a", "b", "c", "d" };
	const char *text;
	pthread_t t[4];
	unsigned whole = 0;
	FILE *f;
	char line[256];

	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, log_many, names[i]), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	text = logged();
	f = fmemopen((char *)text, strlen(text), "r");
	while (fgets(line, sizeof(line), f))
		whole += strlen(line) == strlen("<6>thread: a line of a certain length x\n") &&
			 !strncmp(line, "<6>thread: a line of a certain length ", 38);
	fclose(f);
	assert_int_equal(whole, 2000);
	assert_int_equal(count_lines(text), 2000 + LOG_BURST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_form, start, stop),
		cmocka_unit_test_setup_teardown(test_hostile_text, start, stop),
		cmocka_unit_test_setup_teardown(test_rate_limit, start, stop),
		cmocka_unit_test_setup_teardown(test_threads, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
