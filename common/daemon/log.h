/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The daemons' log: one line an event on stderr, "subject: text".
 *
 * Under systemd (JOURNAL_STREAM is stderr) a line starts with its level "<6>", on a terminal or in
 * a file with the time.  A line is one write(2), cut at LOG_LINE_MAX bytes; control characters
 * become "?".  Any thread may log; nothing here allocates.  Libraries never log.
 *
 * Rate limit: what a peer or a guest can trigger goes through log_limited(): for one key at most
 * LOG_BURST lines in LOG_WINDOW_MS, then silence, then one line that says how many were left out.
 * Keys are remembered in a table of LOG_KEY_COUNT; when it is full the oldest makes room.
 */
#ifndef COMMON_DAEMON_LOG_H
#define COMMON_DAEMON_LOG_H

#include <stdbool.h>
#include <stdint.h>

#define LOG_LINE_MAX  1024
#define LOG_BURST     5
#define LOG_WINDOW_MS 10000
#define LOG_KEY_COUNT 256

/* The numbers are syslog's. */
enum log_level {
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7,
};

/* Once at start, before threads.  Lines above `level` are dropped. */
void log_open(enum log_level level);
void log_set_level(enum log_level level);
bool log_would(enum log_level level);
/* Is stderr the journal's? */
bool log_to_journal(void);

/* `subject` names what it is about ("vol db1", "port vm1"); NULL: none. */
void log_write(enum log_level level, const char *subject, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* As log_write(), limited by `key` (which should name the peer and the event). */
void log_limited(enum log_level level, const char *key, const char *subject, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#define log_error(subject, ...)	  log_write(LOG_LEVEL_ERROR, subject, __VA_ARGS__)
#define log_warning(subject, ...) log_write(LOG_LEVEL_WARNING, subject, __VA_ARGS__)
#define log_info(subject, ...)	  log_write(LOG_LEVEL_INFO, subject, __VA_ARGS__)
#define log_debug(subject, ...)                                                                    \
	do {                                                                                       \
		if (log_would(LOG_LEVEL_DEBUG))                                                    \
			log_write(LOG_LEVEL_DEBUG, subject, __VA_ARGS__);                          \
	} while (0)

/* How many lines the rate limit has left out so far. */
uint64_t log_suppressed_count(void);

/* For tests: lines go to `fd` instead of stderr, and time is `now_ms` (NULL: the clock). */
void log_set_test(int fd, bool with_level, uint64_t (*now_ms)(void));

#endif
